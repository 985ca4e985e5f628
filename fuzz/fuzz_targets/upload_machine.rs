//! The upload machine, driven by arbitrary scripts: answers in any order, failures, lost and late answers, cancels,
//! kills and resumes. The model panics where one of the machine's promises is broken.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::upload::model;

fuzz_target!(|script: &[u8]| {
    model::run(script);
});

//! Heads of requests to the gateway's OSS dialect: nothing panics, and nobody guesses a signature.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|head: &[u8]| sealift_gateway::fuzzing::oss_request(head));

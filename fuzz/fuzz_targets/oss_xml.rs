//! Bodies in XML of requests to the gateway's OSS dialect: nothing panics, and no list is longer than allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| sealift_gateway::fuzzing::oss_xml(body));

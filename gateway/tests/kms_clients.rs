//! Alibaba's own clients for KMS on the gateway's endpoint: keys made, described, changed, material imported, data encrypted.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod support;

use sealift::KeyState;
use support::Running;

#[test]
fn the_sdk_of_the_rpc_protocol_does_everything() {
    let gateway = Running::start();
    gateway.python("kms_rpc.py", &[]);
    // The endpoint's key store is the gateway's own.
    let keys = gateway.kms.list_keys().unwrap();
    assert!(keys.iter().any(|key| key.state == KeyState::PendingDeletion && key.description == "to be deleted"));
}

#[test]
fn the_newer_sdk_with_its_newer_signature_does_byok() {
    let gateway = Running::start();
    gateway.python("kms_acs3.py", &[]);
}

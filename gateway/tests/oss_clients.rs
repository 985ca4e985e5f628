//! Alibaba's own clients for OSS on the gateway: the reference scenario, and transfers of all kinds.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod support;

use std::process::Command;
use std::sync::Arc;

use sealift::engine::ReadOptions;
use sealift::kms::local::CreateKey;
use sealift::kms::recipients::{Trusted, TrustedKeys};
use sealift::store::oss::{Credentials, OssStore, SignatureVersion};
use sealift::store::{DirStore, conformance};
use sealift::{ByteRange, Engine};
use support::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Running, installed};

#[test]
fn the_reference_scenario_word_for_word() {
    let gateway = Running::start();
    let store = gateway.path("store");
    gateway.python("reference_scenario.py", &[store.to_str().unwrap()]);

    // What lies in the store is an object of Sealift's own, and the same key service opens it.
    let engine = Engine::builder().threads(1).memory_budget(16 << 20).build().unwrap();
    let trusted = Trusted::new(vec![(gateway.kms.clone(), TrustedKeys::Any)]);
    let store = Arc::new(DirStore::open(store).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime.block_on(async {
        let key = "test-hongkong-2025/01.txt".parse().unwrap();
        let reader = engine.open(store, key, &trusted, &ReadOptions::default()).await.unwrap();
        reader.read_range(ByteRange::From(0)).await.unwrap()
    });
    assert_eq!(text.len(), 62);
}

#[test]
fn transfers_by_both_sdks_signed_urls_and_what_is_refused() {
    let gateway = Running::start();
    let cmk = gateway.kms.create_key(CreateKey::default()).unwrap().key_id;
    let directory = tempfile::tempdir().unwrap();
    gateway.python("oss_transfers.py", &[&cmk, directory.path().to_str().unwrap()]);
}

/// The script that the OSS store's own test server is shown to be OSS with.
#[test]
fn the_gateway_is_oss_to_its_clients_with_either_signature() {
    let gateway = Running::start();
    let cmk = gateway.kms.create_key(CreateKey::default()).unwrap().key_id;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/oss_clients.py");
    for (n, (name, signature)) in [("oss2", "v1"), ("oss2", "v4"), ("v2", "v1"), ("v2", "v4")].into_iter().enumerate() {
        let bucket = format!("bucket-{n}");
        make_bucket(&gateway, &bucket);
        let mut command = Command::new(installed("python"));
        command.args([script, name, signature, &gateway.url, &bucket, "local", ACCESS_KEY_ID, ACCESS_KEY_SECRET, ""]);
        command.env("CMK", &cmk);
        gateway.run(command);
    }
}

/// The library's own store for OSS, with either signature: parts, lists, ranges, conditions, aborts, and a sealed object within what the
/// gateway seals.
#[tokio::test(flavor = "multi_thread")]
async fn the_library_s_store_for_oss_conforms_on_it() {
    let gateway = Running::start();
    make_bucket(&gateway, "conformance");
    let store = |signature| {
        let credentials = Credentials::new(ACCESS_KEY_ID, ACCESS_KEY_SECRET, None);
        let builder = OssStore::builder("conformance").endpoint(&gateway.url).region("local").credentials(credentials);
        builder.signature(signature).build().unwrap()
    };
    for signature in [SignatureVersion::V1, SignatureVersion::V4] {
        conformance::check(&store(signature)).await;
        conformance::check_latest_attempts(&store(signature)).await;
    }
}

fn make_bucket(gateway: &Running, name: &str) {
    let make = "import oss2, sys; url, id, secret, name = sys.argv[1:]; \
                oss2.Bucket(oss2.Auth(id, secret), url, name).create_bucket()";
    let mut command = Command::new(installed("python"));
    command.args(["-c", make, &gateway.url, ACCESS_KEY_ID, ACCESS_KEY_SECRET, name]);
    gateway.run(command);
}

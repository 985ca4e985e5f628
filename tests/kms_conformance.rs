//! Every key service that needs no server does what every key service must.

use sealift::kms::Kms as _;
use sealift::kms::conformance::{Fixture, check};
use sealift::kms::key_file::KeyFile;
use sealift::kms::local::{CreateKey, LocalKms, RootKeySource};
use sealift::{DataKey, EncryptionContext};

#[tokio::test]
async fn local() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (kms, created) = LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File).expect("a key store");
    let key = created.expect("it is new").key_id;
    let create = || kms.create_key(CreateKey::default()).expect("another key").key_id;
    let (other, disabled) = (create(), create());
    let (_, wrapped) = kms.generate_data_key(&disabled, &EncryptionContext::default()).await.expect("it is enabled");
    kms.disable_key(&disabled).expect("it is there");
    check(&Fixture {
        disabled_key: Some(&disabled),
        wrapped_by_disabled_key: Some(&wrapped),
        alias: Some(LocalKms::DEFAULT_ALIAS),
        other_key: Some(&other),
        ..Fixture::new(&kms, &key, "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")
    })
    .await;
}

/// It has one key, without a second name or states.
#[tokio::test]
async fn key_file() {
    let kms = KeyFile::new(DataKey::random().expect("randomness"));
    check(&Fixture::new(&kms, kms.id(), "00112233445566778899aabbccddeeff")).await;
}

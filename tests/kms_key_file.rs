//! Key files: one CMK that the user brings.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use sealift::crypto::{Backend, open_message};
use sealift::kms::Kms as _;
use sealift::kms::key_file::KeyFile;
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, KmsService, Result, WrappedKey};

const KEY: [u8; 32] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

fn read(content: impl AsRef<[u8]>) -> Result<KeyFile> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cmk");
    fs::write(&path, content).unwrap();
    KeyFile::read(path)
}

fn context(purpose: &str) -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), purpose.to_owned())]).unwrap()
}

fn generate(kms: &KeyFile) -> (DataKey, WrappedKey) {
    kms.generate_data_key(kms.id(), &context("test")).now_or_never().unwrap().unwrap()
}

fn unwrap(kms: &KeyFile, wrapped: &WrappedKey) -> Result<DataKey> {
    kms.unwrap(wrapped, &context("test")).now_or_never().unwrap()
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

#[test]
fn a_key_file_is_32_bytes_or_their_base64() {
    let id = read(KEY).unwrap().id().to_owned();
    assert_eq!(id.len(), 32);
    let base64 = STANDARD.encode(KEY);
    for same in [base64.clone(), format!("{base64}\n"), format!("\r\n\t {base64} \r\n")] {
        assert_eq!(read(same).unwrap().id(), id);
    }
    // Exactly 32 bytes are the key, whatever they look like.
    assert_ne!(read([b' '; 32]).unwrap().id(), id);

    let (short, long) = (STANDARD.encode(&KEY[..31]).into_bytes(), STANDARD.encode([1; 33]).into_bytes());
    let two_lines = format!("{base64}\n{base64}\n");
    let url_safe = STANDARD.encode([0xff; 32]).replace('/', "_");
    let hex: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let wrong: [&[u8]; 11] = [
        b"",
        &KEY[..31],
        &[&KEY[..], b"\n"].concat(),
        base64.trim_end_matches('=').as_bytes(),
        &short,
        &long,
        two_lines.as_bytes(),
        url_safe.as_bytes(),
        hex.as_bytes(),
        &[0xff; 44],
        &[b' '; 100_000],
    ];
    for wrong in wrong {
        let error = failure(read(wrong));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong:?}");
        assert!(error.to_string().contains("/cmk holds neither exactly 32 bytes nor their base64"), "{error}");
    }
    assert_eq!(failure(KeyFile::read("/nowhere/cmk")).kind(), ErrorKind::NotFound);
}

#[test]
fn a_wrapped_key_is_what_the_format_says() {
    let kms = read(KEY).unwrap();
    let (data_key, wrapped) = generate(&kms);
    assert_eq!((wrapped.kms, wrapped.key.as_str(), wrapped.blob.len()), (KmsService::KeyFile, kms.id(), 104));
    let cmk = DataKey::take(&mut KEY.clone()).unwrap();
    let context = b"sealift/v1/kms-key-file\0\0\0\0\x07purpose\0\0\0\x04test";
    let opened = open_message(Backend::default(), &cmk, context, &wrapped.blob).unwrap();
    assert_eq!(opened, data_key.expose());
    assert_eq!(unwrap(&kms, &wrapped).unwrap(), data_key);

    let again = kms.wrap(kms.id(), &data_key, &self::context("test")).now_or_never().unwrap().unwrap();
    assert_eq!(unwrap(&kms, &again).unwrap(), data_key);
    assert_ne!(again.blob, wrapped.blob);
}

#[test]
fn s10_a_wrapped_key_moved_to_another_object_is_refused() {
    let kms = read(KEY).unwrap();
    let (_, wrapped) = generate(&kms);
    for other in [context("Test"), EncryptionContext::default()] {
        let error = failure(kms.unwrap(&wrapped, &other).now_or_never().unwrap());
        assert_eq!(error.kind(), ErrorKind::Authentication);
    }
}

#[test]
fn s05_any_bit_flipped_in_a_wrapped_key_is_refused() {
    let kms = read(KEY).unwrap();
    let (_, wrapped) = generate(&kms);
    for bit in 0..wrapped.blob.len() * 8 {
        let mut altered = wrapped.clone();
        altered.blob[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(failure(unwrap(&kms, &altered)).kind(), ErrorKind::Authentication);
    }
}

#[test]
fn another_key_is_unavailable() {
    let (kms, other) = (read(KEY).unwrap(), read([7; 32]).unwrap());
    let (data_key, wrapped) = generate(&other);
    let error = failure(unwrap(&kms, &wrapped));
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
    assert!(error.to_string().contains(kms.id()) && error.to_string().contains(other.id()), "{error}");
    let error = failure(kms.wrap(other.id(), &data_key, &context("test")).now_or_never().unwrap());
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable);

    let foreign = WrappedKey { kms: KmsService::Local, key: kms.id().to_owned(), ..wrapped.clone() };
    assert_eq!(failure(unwrap(&kms, &foreign)).kind(), ErrorKind::KeyUnavailable);
    let renamed = WrappedKey { key: kms.id().to_owned(), ..wrapped };
    assert_eq!(failure(unwrap(&kms, &renamed)).kind(), ErrorKind::Authentication);
}

#[test]
fn others_who_can_read_the_file_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cmk");
    fs::write(&path, KEY).unwrap();
    for (mode, others) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(KeyFile::read(&path).unwrap().is_readable_by_others(), others, "{mode:o}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let base64 = STANDARD.encode(KEY);
    let kms = read(&base64).unwrap();
    let misspelt = failure(read(format!("{base64}!")));
    for shown in [format!("{kms:?}"), kms.id().to_owned(), format!("{misspelt:?}")] {
        for secret in ["ABCDEF", "414243", "65, 66, 67", &base64[..8]] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

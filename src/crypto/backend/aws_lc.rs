//! aws-lc-rs, by its calls from a source to a destination: they save a pass over memory.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Prk};

use super::{Aead, Failed};

/// "Less safe" because its nonces are the caller's to keep apart; ours are counters that are handed out once.
pub(super) struct Key(LessSafeKey);

impl Aead for Key {
    fn new(key: &[u8; 32]) -> Result<Self, Failed> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?)))
    }

    fn seal(&self, nonce: [u8; 12], plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Failed> {
        let (ciphertext, tag) = sealed.split_at_mut_checked(plaintext.len()).ok_or(Failed)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        Ok(self.0.seal_out_of_place_scatter(nonce, Aad::empty(), plaintext, ciphertext, &[], tag)?)
    }

    fn open(&self, nonce: [u8; 12], sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Failed> {
        let (ciphertext, tag) = sealed.split_last_chunk::<16>().ok_or(Failed)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        Ok(self.0.open_separate_gather(nonce, Aad::empty(), ciphertext, tag, plaintext)?)
    }

    fn expand(prk: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Failed> {
        if prk.len() > 64 {
            return Err(Failed); // `new_less_safe` panics on keys longer than SHA-512's output
        }
        Ok(Prk::new_less_safe(HKDF_SHA512, prk).expand(info, Len(okm.len()))?.fill(okm)?)
    }
}

#[derive(Clone, Copy)]
struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl From<Unspecified> for Failed {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

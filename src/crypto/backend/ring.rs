//! ring, which works in place only: copy first.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA512, KeyType, Prk};

use super::{Aead, Failed};

/// "Less safe" because its nonces are the caller's to keep apart; ours are counters that are handed out once.
pub(super) struct Key(LessSafeKey);

impl Aead for Key {
    fn new(key: &[u8; 32]) -> Result<Self, Failed> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?)))
    }

    fn seal(&self, nonce: [u8; 12], plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Failed> {
        let (in_out, tag) = sealed.split_last_chunk_mut::<16>().ok_or(Failed)?;
        copy(plaintext, in_out)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        tag.copy_from_slice(self.0.seal_in_place_separate_tag(nonce, Aad::empty(), in_out)?.as_ref());
        Ok(())
    }

    fn open(&self, nonce: [u8; 12], sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Failed> {
        let (ciphertext, tag) = sealed.split_last_chunk::<16>().ok_or(Failed)?;
        copy(ciphertext, plaintext)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::empty(), Tag::from(*tag), plaintext, 0..)?;
        Ok(())
    }

    fn expand(prk: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Failed> {
        Ok(Prk::new_less_safe(HKDF_SHA512, prk).expand(info, Len(okm.len()))?.fill(okm)?)
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> Result<(), Failed> {
    if from.len() != to.len() {
        return Err(Failed);
    }
    to.copy_from_slice(from);
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
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

//! aes-gcm-stream, behind a wrapper for its faults.
//!
//! Its decryptor is never used: it hands out plaintext before it is authenticated, compares tags in variable time, prints
//! the tag it wanted in its error, and panics on less than a tag. Counter mode is its own inverse, so what encrypts also
//! decrypts, and the tag comes from encrypting the result again. Chunks of 16 KiB are far from where its counter wraps.
//!
//! What cannot be mended here: 3 to 4 allocations a call, freed without being wiped, and table-free but slow code.

use aes_gcm_stream::Aes256GcmStreamEncryptor;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Aead, Failed};

pub(super) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// Counter mode over `input`, and the tag that GCM gives the output.
    fn encrypt(&self, nonce: [u8; 12], input: &[u8], output: &mut [u8]) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let mut encryptor = Aes256GcmStreamEncryptor::new(*self.0, &nonce);
        let blocks = Zeroizing::new(encryptor.update(input));
        let (rest, tag) = encryptor.finalize();
        let (rest, tag) = (Zeroizing::new(rest), Zeroizing::new(tag));
        if output.len() != input.len() || blocks.len() + rest.len() != input.len() {
            return Err(Failed);
        }
        let (head, tail) = output.split_at_mut(blocks.len());
        head.copy_from_slice(&blocks);
        tail.copy_from_slice(&rest);
        Ok(tag)
    }
}

impl Aead for Key {
    fn new(key: &[u8; 32]) -> Result<Self, Failed> {
        Ok(Self(Zeroizing::new(*key)))
    }

    fn seal(&self, nonce: [u8; 12], plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Failed> {
        let (ciphertext, tag) = sealed.split_last_chunk_mut::<16>().ok_or(Failed)?;
        tag.copy_from_slice(&self.encrypt(nonce, plaintext, ciphertext)?);
        Ok(())
    }

    fn open(&self, nonce: [u8; 12], sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Failed> {
        let (ciphertext, tag) = sealed.split_last_chunk::<16>().ok_or(Failed)?;
        let mut decrypted = Zeroizing::new(vec![0; ciphertext.len()]);
        let mut sealed_again = vec![0; ciphertext.len()];
        self.encrypt(nonce, ciphertext, &mut decrypted)?;
        let expected = self.encrypt(nonce, &decrypted, &mut sealed_again)?;
        if plaintext.len() != decrypted.len() || !bool::from(expected.ct_eq(tag.as_slice())) {
            return Err(Failed);
        }
        plaintext.copy_from_slice(&decrypted);
        Ok(())
    }

    fn expand(prk: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Failed> {
        super::hkdf::expand(prk, info, okm)
    }
}

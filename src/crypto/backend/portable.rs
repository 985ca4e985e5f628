//! RustCrypto's aes-gcm: no C code.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};

use super::{Aead, Failed};

pub(super) struct Key(Aes256Gcm);

// Of all backends only RustCrypto's leaves wiping to a feature.
const _: fn() = || {
    fn wiped_on_drop<T: zeroize::ZeroizeOnDrop>() {}
    wiped_on_drop::<Aes256Gcm>();
};

impl Aead for Key {
    fn new(key: &[u8; 32]) -> Result<Self, Failed> {
        Ok(Self(Aes256Gcm::new(key.into())))
    }

    fn seal(&self, nonce: [u8; 12], plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Failed> {
        let (ciphertext, tag) = sealed.split_last_chunk_mut::<16>().ok_or(Failed)?;
        let buffers = InOutBuf::new(plaintext, ciphertext).map_err(|_| Failed)?;
        *tag = self.0.encrypt_inout_detached(&nonce.into(), &[], buffers)?.into();
        Ok(())
    }

    fn open(&self, nonce: [u8; 12], sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Failed> {
        let (ciphertext, tag) = sealed.split_last_chunk::<16>().ok_or(Failed)?;
        let buffers = InOutBuf::new(ciphertext, plaintext).map_err(|_| Failed)?;
        Ok(self.0.decrypt_inout_detached(&nonce.into(), &[], buffers, tag.into())?)
    }

    fn expand(prk: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Failed> {
        super::hkdf::expand(prk, info, okm)
    }
}

impl From<aes_gcm::Error> for Failed {
    fn from(_: aes_gcm::Error) -> Self {
        Self
    }
}

//! AES-256-GCM and nothing around it: what everything else is measured against.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use zeroize::Zeroizing;

use super::backend::{self, Aead, Backend};
use super::cobblestone::TAG;
use crate::error::{Error, ErrorKind, Result};

/// AES-256-GCM alone, under a random key that nobody is told: `sealift bench` measures it beside the rest. What it seals is of use to
/// nobody else, so this is not for data.
#[doc(hidden)]
pub struct Primitive {
    aead: Box<dyn Aead>,
    next: AtomicU64,
}

impl Primitive {
    /// # Errors
    /// [`ErrorKind::Internal`] if the operating system has no randomness to give or the backend fails.
    pub fn new(backend: Backend) -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(Error::no_randomness)?;
        let aead = backend::new_aead(backend, &key).map_err(|_| failed())?;
        Ok(Self { aead, next: AtomicU64::new(0) })
    }

    /// Seals `plain` into `sealed`, which is a tag longer. Returns the number that opens it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the lengths do not match.
    pub fn seal(&self, plain: &[u8], sealed: &mut [u8]) -> Result<u64> {
        if sealed.len() != plain.len() + TAG {
            return Err(wrong_lengths());
        }
        let n = self.next.fetch_add(1, Relaxed);
        self.aead.seal(nonce(n), plain, sealed).map_err(|_| failed())?;
        Ok(n)
    }

    /// Opens what [`seal`](Self::seal) sealed as number `n`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the lengths do not match, [`ErrorKind::Authentication`] if it is something else.
    pub fn open(&self, n: u64, sealed: &[u8], plain: &mut [u8]) -> Result<()> {
        if sealed.len() != plain.len() + TAG {
            return Err(wrong_lengths());
        }
        self.aead.open(nonce(n), sealed, plain).map_err(|_| {
            plain.fill(0);
            Error::new(ErrorKind::Authentication, "it did not authenticate")
        })
    }
}

fn nonce(n: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&n.to_be_bytes());
    nonce
}

fn failed() -> Error {
    Error::new(ErrorKind::Internal, "the primitive failed")
}

fn wrong_lengths() -> Error {
    Error::new(ErrorKind::InvalidInput, "a sealed chunk is a tag longer than its plaintext")
}

impl fmt::Debug for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Primitive").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_what_it_sealed_and_nothing_else() {
        for &backend in Backend::available() {
            let primitive = Primitive::new(backend).unwrap();
            let (mut sealed, mut plain) = ([0; 21], [0; 5]);
            let n = primitive.seal(b"chunk", &mut sealed).unwrap();
            primitive.open(n, &sealed, &mut plain).unwrap();
            assert_eq!(&plain, b"chunk");
            assert_eq!(primitive.open(n + 1, &sealed, &mut plain).unwrap_err().kind(), ErrorKind::Authentication);
            assert_ne!(primitive.seal(b"chunk", &mut sealed).unwrap(), n);
            assert_eq!(primitive.seal(b"chunk", &mut sealed[1..]).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}

//! Sealing: each right to use a nonce is handed out once.

use std::fmt;
use std::sync::Arc;

use super::backend::Backend;
use super::cobblestone::{CHUNK, HEADER, MAX_CHUNKS, MessageKey, SEALED_CHUNK, STRIPE, STRIPE_CHUNKS, TAG, sealed_len};
use super::keys::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::types::Salt;

/// One sealing of one message.
///
/// It hands out the stripes in order; who gets them may seal them in any order, on any thread. A message is whole once
/// every stripe handed out was sealed in full, but for the last, which ends with [`StripeSealer::seal_last`].
/// A message of `p` plaintext bytes has `p / STRIPE + 1` stripes; if `p` is a multiple of [`STRIPE`],
/// the last stripe is an empty last chunk. Stripes dropped or half used leave a message that does not open.
///
/// The salt is drawn when a sealing begins and there is no way to choose it, so sealing the same again makes other keys.
pub struct Sealer {
    key: Arc<MessageKey>,
    header: [u8; HEADER],
    next_chunk: u64,
}

/// The right to seal the next chunks of one stripe of a message, once each.
///
/// Errors about arguments use nothing up. Should the backend itself fail, what it was given to write to is wiped, and
/// the stripe takes no more: begin the message again.
pub struct StripeSealer {
    key: Arc<MessageKey>,
    next_chunk: u64,
    end: u64,
}

impl Sealer {
    /// Begins a message under `key`, bound to `context`, with a fresh salt from the operating system's random generator.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the operating system has no randomness to give or the backend fails.
    pub fn begin(backend: Backend, key: &DataKey, context: &[u8]) -> Result<Self> {
        let mut salt = [0; Salt::LEN];
        getrandom::fill(&mut salt).map_err(Error::no_randomness)?;
        Self::with_salt(backend, key, context, salt)
    }

    /// Begins a message with a salt of the caller's choice, to reproduce test vectors. **Using a salt twice under one
    /// key gives away both plaintexts and the means to forge**, so only the crate's own tests have this.
    #[cfg(test)]
    pub(crate) fn begin_with_salt(
        backend: Backend,
        key: &DataKey,
        context: &[u8],
        salt: [u8; Salt::LEN],
    ) -> Result<Self> {
        Self::with_salt(backend, key, context, salt)
    }

    fn with_salt(backend: Backend, key: &DataKey, context: &[u8], salt: [u8; Salt::LEN]) -> Result<Self> {
        let (key, commitment) = MessageKey::derive(backend, key, &salt, context)?;
        let mut header = [0; HEADER];
        header[..Salt::LEN].copy_from_slice(&salt);
        header[Salt::LEN..].copy_from_slice(&commitment);
        Ok(Self { key: Arc::new(key), header, next_chunk: 0 })
    }

    /// The salt of this sealing, as the header has it.
    #[must_use]
    pub fn salt(&self) -> Salt {
        Salt(*self.header.first_chunk().expect("a header begins with its salt"))
    }

    /// What goes before the first chunk: salt, then commitment.
    #[must_use]
    pub fn header(&self) -> &[u8; HEADER] {
        &self.header
    }

    /// Hands out the next stripe of the message.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] once [`MAX_CHUNKS`] are handed out.
    pub fn next_stripe(&mut self) -> Result<StripeSealer> {
        let first = self.next_chunk;
        if first >= MAX_CHUNKS {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("a message has at most {MAX_CHUNKS} chunks, a part of 5 GiB"),
            ));
        }
        let end = MAX_CHUNKS.min(first + STRIPE_CHUNKS as u64);
        self.next_chunk = end;
        Ok(StripeSealer { key: Arc::clone(&self.key), next_chunk: first, end })
    }
}

impl StripeSealer {
    /// Seals the next whole chunks into `out`. May be called until the stripe's [`STRIPE_CHUNKS`] are used up.
    /// Returns the bytes written: all of `out`.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] unless `plaintext` is a multiple of [`CHUNK`] long and `out` as long as what it
    ///   seals to: [`SEALED_CHUNK`] for each.
    /// - [`ErrorKind::LimitExceeded`] if the stripe has fewer chunks left.
    /// - [`ErrorKind::Internal`] if the backend fails.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize> {
        if !plaintext.len().is_multiple_of(CHUNK) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("only a message's end is sealed in pieces other than {CHUNK} bytes, not {}", plaintext.len()),
            ));
        }
        let chunks = plaintext.len() / CHUNK;
        if chunks as u64 > self.end - self.next_chunk {
            return Err(self.too_long(plaintext.len()));
        }
        self.write(plaintext, chunks, out)
    }

    /// Seals the end of the message into `out`: any number of whole chunks that leaves room for a last chunk, which is
    /// shorter than [`CHUNK`] and may be empty. Returns the bytes written: all of `out`.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] unless `out` is as long as what `plaintext` seals to: its own length and [`TAG`]
    ///   for each of its `plaintext.len() / CHUNK + 1` chunks.
    /// - [`ErrorKind::LimitExceeded`] if the stripe has fewer chunks left.
    /// - [`ErrorKind::Internal`] if the backend fails.
    pub fn seal_last(mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize> {
        let chunks = plaintext.len() / CHUNK + 1;
        if chunks as u64 > self.end - self.next_chunk {
            return Err(self.too_long(plaintext.len()));
        }
        self.write(plaintext, chunks, out)
    }

    /// Seals `plaintext` as `chunks` chunks, of which the last may be short or empty.
    fn write(&mut self, plaintext: &[u8], chunks: usize, out: &mut [u8]) -> Result<usize> {
        let sealed = plaintext.len() + TAG * chunks;
        if out.len() != sealed {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{} bytes seal to {sealed}, not {}", plaintext.len(), out.len()),
            ));
        }
        // Chunks are cut from `out`: of an empty last one, the plaintext has no piece but the output has a tag.
        for (i, sealed) in out.chunks_mut(SEALED_CHUNK).enumerate() {
            let from = i * CHUNK;
            let chunk = self.next_chunk;
            self.next_chunk += 1;
            if let Err(error) = self.key.seal(chunk, &plaintext[from..from + sealed.len() - TAG], sealed) {
                self.next_chunk = self.end;
                out.fill(0);
                return Err(error);
            }
        }
        Ok(sealed)
    }

    fn too_long(&self, plaintext: usize) -> Error {
        let left = self.end - self.next_chunk;
        Error::new(
            ErrorKind::LimitExceeded,
            format!("{plaintext} bytes need more than the {left} chunks left in their stripe"),
        )
    }
}

/// Seals `plaintext` under `key` as one message, bound to `context`.
///
/// # Errors
/// - [`ErrorKind::LimitExceeded`] if it needs more than [`MAX_CHUNKS`] or more memory than can be addressed.
/// - [`ErrorKind::Internal`] if the operating system has no randomness to give or the backend fails.
pub fn seal_message(backend: Backend, key: &DataKey, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
    seal_with(Sealer::begin(backend, key, context)?, plaintext)
}

pub(super) fn seal_with(mut sealer: Sealer, plaintext: &[u8]) -> Result<Vec<u8>> {
    let len = sealed_len(plaintext.len() as u64)
        .filter(|_| plaintext.len() as u64 / (CHUNK as u64) < MAX_CHUNKS)
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(|| {
            Error::new(ErrorKind::LimitExceeded, format!("{} bytes are too many for one message", plaintext.len()))
        })?;
    let mut message = vec![0; len];
    let (header, mut out) = message.split_at_mut(HEADER);
    header.copy_from_slice(sealer.header());
    let (stripes, last) = plaintext.as_chunks::<STRIPE>();
    for stripe in stripes {
        let (sealed, rest) = out.split_at_mut(super::SEALED_STRIPE);
        sealer.next_stripe()?.seal(stripe, sealed)?;
        out = rest;
    }
    sealer.next_stripe()?.seal_last(last, out)?;
    Ok(message)
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("salt", &self.salt())
            .field("next_chunk", &self.next_chunk)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StripeSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeSealer").field("chunks", &(self.next_chunk..self.end)).finish_non_exhaustive()
    }
}

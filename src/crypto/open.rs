//! Opening: no byte leaves before the chunk that holds it is authenticated.

use std::fmt;

use zeroize::Zeroize as _;

use super::backend::Backend;
use super::cobblestone::{
    CHUNK, HEADER, MAX_CHUNKS, MessageKey, SEALED_CHUNK, TAG, commitments_match, not_authentic, plain_len,
};
use super::keys::DataKey;
use crate::error::{Error, ErrorKind, Result};

/// Opens chunks of one message, in any order, from many threads.
pub struct Opener {
    key: MessageKey,
}

impl Opener {
    /// Begins to open the message that starts with `header`.
    ///
    /// The header commits to key and context, and is checked in constant time before any chunk is: AES-GCM alone would
    /// let one ciphertext open under two keys.
    ///
    /// # Errors
    /// - [`ErrorKind::Authentication`] if the message was sealed under another key or context, or its header altered.
    /// - [`ErrorKind::Internal`] if the backend fails.
    pub fn begin(backend: Backend, key: &DataKey, context: &[u8], header: &[u8; HEADER]) -> Result<Self> {
        let (salt, commitment) = header.split_first_chunk().expect("a header begins with its salt");
        let commitment = commitment.first_chunk().expect("a header ends with its commitment");
        let (key, expected) = MessageKey::derive(backend, key, salt, context)?;
        if !commitments_match(&expected, commitment) {
            return Err(header_not_authentic());
        }
        Ok(Self { key })
    }

    /// Opens consecutive chunks, `sealed`, of which the first is chunk `first_chunk` of its message, counted from 0.
    /// `last` says whether the final one given is the message's last, and so shorter than the others.
    /// Writes their plaintext to `out`, which is exactly as long, and returns that length.
    ///
    /// On any error `out` is wiped: nothing is released that did not authenticate, nor anything before it.
    ///
    /// # Errors
    /// - [`ErrorKind::Authentication`] if a chunk was altered, is not this one of this message, or has a length that no
    ///   chunk has. The message says which, never why.
    /// - [`ErrorKind::InvalidInput`] if `out` is not as long as the plaintext.
    /// - [`ErrorKind::LimitExceeded`] if a chunk's number is not below [`MAX_CHUNKS`].
    pub fn open(&self, first_chunk: u64, sealed: &[u8], last: bool, out: &mut [u8]) -> Result<usize> {
        let result = self.open_into(first_chunk, sealed, last, out);
        if result.is_err() {
            out.zeroize();
        }
        result
    }

    fn open_into(&self, first_chunk: u64, sealed: &[u8], last: bool, out: &mut [u8]) -> Result<usize> {
        let full = sealed.len() / SEALED_CHUNK;
        let end = first_chunk.checked_add(full as u64 + u64::from(last)).filter(|end| *end <= MAX_CHUNKS);
        if end.is_none() {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("a message has at most {MAX_CHUNKS} chunks, a part of 5 GiB"),
            ));
        }
        let short = match (last, sealed.len() % SEALED_CHUNK) {
            (true, short @ TAG..) => short - TAG,
            (false, 0) => 0,
            _ => return Err(not_authentic(first_chunk + full as u64)),
        };
        let plain = full * CHUNK + short;
        if out.len() != plain {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{} sealed bytes open to {plain}, not {}", sealed.len(), out.len()),
            ));
        }
        for ((chunk, sealed), from) in (first_chunk..).zip(sealed.chunks(SEALED_CHUNK)).zip((0..).step_by(CHUNK)) {
            self.key.open(chunk, sealed, &mut out[from..from + sealed.len() - TAG])?;
        }
        Ok(plain)
    }
}

/// Opens one whole message, sealed under `key` and bound to `context`.
///
/// # Errors
/// - [`ErrorKind::Authentication`] if it was altered, or sealed under another key or context.
/// - [`ErrorKind::LimitExceeded`] if it has more than [`MAX_CHUNKS`] chunks.
/// - [`ErrorKind::Internal`] if the backend fails.
pub fn open_message(backend: Backend, key: &DataKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    let (header, chunks) = sealed.split_first_chunk().ok_or_else(header_not_authentic)?;
    let opener = Opener::begin(backend, key, context, header)?;
    let plain = plain_len(sealed.len() as u64)
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(|| not_authentic((chunks.len() / SEALED_CHUNK) as u64))?;
    let mut plaintext = vec![0; plain];
    opener.open(0, chunks, true, &mut plaintext)?;
    Ok(plaintext)
}

fn header_not_authentic() -> Error {
    Error::new(ErrorKind::Authentication, "the header of a sealed message did not authenticate")
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

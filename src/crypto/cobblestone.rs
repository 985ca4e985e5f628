//! What sealing and opening share: sizes, and the keys of one message.
//! <https://c2sp.org/chunked-encryption>

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::backend::{self, Aead, Backend};
use super::keys::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::types::Salt;

/// Plaintext bytes in a chunk; the last chunk of a message has fewer.
pub const CHUNK: usize = 16_384;
/// Bytes of the tag that follows each chunk.
pub const TAG: usize = 16;
/// Sealed bytes of a full chunk.
pub const SEALED_CHUNK: usize = CHUNK + TAG;
/// Bytes of the header that begins a message: salt and commitment.
pub const HEADER: usize = Salt::LEN + COMMITMENT;
/// Chunks in a stripe.
pub const STRIPE_CHUNKS: usize = 64;
/// Plaintext bytes in a full stripe: 1 MiB.
pub const STRIPE: usize = STRIPE_CHUNKS * CHUNK;
/// Sealed bytes of a full stripe.
pub const SEALED_STRIPE: usize = STRIPE_CHUNKS * SEALED_CHUNK;
/// The most chunks a message may have: what fits into a part of 5 GiB, the most that S3 and OSS take.
pub const MAX_CHUNKS: u64 = ((5 << 30) - HEADER as u64) / SEALED_CHUNK as u64 + 1;

const COMMITMENT: usize = 32;
const KEY: usize = 32;
const NONCE: usize = 12;
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// The bytes that `plain` plaintext bytes seal to, or `None` if `u64` cannot count them.
///
/// ```
/// use sealift::crypto::sealed_len;
/// assert_eq!(sealed_len(0), Some(56 + 16));
/// assert_eq!(sealed_len(16_384), Some(56 + 16_400 + 16));
/// assert_eq!(sealed_len(u64::MAX), None);
/// ```
#[must_use]
pub fn sealed_len(plain: u64) -> Option<u64> {
    let chunks = plain / CHUNK as u64 + 1;
    plain.checked_add(HEADER as u64 + TAG as u64 * chunks)
}

/// The plaintext bytes in a message of `sealed` bytes, or `None` if no message has that length.
///
/// ```
/// use sealift::crypto::plain_len;
/// assert_eq!(plain_len(56 + 16), Some(0));
/// assert_eq!(plain_len(56 + 16_400), None); // the last chunk is never full
/// assert_eq!(plain_len(56 + 16_400 + 16), Some(16_384));
/// ```
#[must_use]
pub fn plain_len(sealed: u64) -> Option<u64> {
    let chunks = sealed.checked_sub(HEADER as u64)?;
    let last = (chunks % SEALED_CHUNK as u64).checked_sub(TAG as u64)?;
    Some(chunks / SEALED_CHUNK as u64 * CHUNK as u64 + last)
}

/// The key and base nonce that HKDF makes of a data key, a salt and a context. Each message has its own.
pub(super) struct MessageKey {
    aead: Box<dyn Aead>,
    base_nonce: [u8; NONCE],
}

impl MessageKey {
    /// The message's key, and its commitment to it.
    pub(super) fn derive(
        backend: Backend,
        key: &DataKey,
        salt: &[u8; Salt::LEN],
        context: &[u8],
    ) -> Result<(Self, [u8; COMMITMENT])> {
        let unable = |_| Error::new(ErrorKind::Internal, format!("{backend} could not derive a message's key"));
        let mut okm = Zeroizing::new([0; KEY + NONCE + COMMITMENT]);
        backend::expand(backend, key.expose(), &[LABEL, salt, context], okm.as_mut_slice()).map_err(unable)?;
        let (key, rest) = okm.split_first_chunk::<KEY>().expect("76 bytes begin with 32");
        let (base_nonce, rest) = rest.split_first_chunk::<NONCE>().expect("44 bytes begin with 12");
        let commitment = *rest.first_chunk().expect("32 bytes are left");
        let aead = backend::new_aead(backend, key).map_err(unable)?;
        Ok((Self { aead, base_nonce: *base_nonce }, commitment))
    }

    pub(super) fn seal(&self, chunk: u64, plaintext: &[u8], sealed: &mut [u8]) -> Result<()> {
        self.aead
            .seal(self.nonce(chunk), plaintext, sealed)
            .map_err(|_| Error::new(ErrorKind::Internal, format!("chunk {chunk} could not be sealed")))
    }

    pub(super) fn open(&self, chunk: u64, sealed: &[u8], plaintext: &mut [u8]) -> Result<()> {
        self.aead.open(self.nonce(chunk), sealed, plaintext).map_err(|_| not_authentic(chunk))
    }

    /// The base nonce XOR the chunk's number, both as 96-bit big-endian integers.
    fn nonce(&self, chunk: u64) -> [u8; NONCE] {
        let mut nonce = self.base_nonce;
        for (byte, counter) in nonce[NONCE - 8..].iter_mut().zip(chunk.to_be_bytes()) {
            *byte ^= counter;
        }
        nonce
    }
}

pub(super) fn commitments_match(a: &[u8; COMMITMENT], b: &[u8; COMMITMENT]) -> bool {
    a.ct_eq(b).into()
}

pub(super) fn not_authentic(chunk: u64) -> Error {
    Error::new(ErrorKind::Authentication, format!("chunk {chunk} did not authenticate"))
}

//! What becomes of an object's bytes on their way to the store: they are sealed, or they stay as they are.

use std::sync::Arc;

use super::Shared;
use super::seal::sealed_chunks_len;
use crate::crypto::{self, DataKey, STRIPE, Sealer, StripeSealer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::context;
use crate::types::{ObjectId, PartNumber, Salt};

/// How an object's parts are stored.
#[derive(Clone)]
pub(crate) enum Cipher {
    /// Each as a Cobblestone-256 message under the object's data key.
    Cobblestone(Arc<DataKey>),
    /// As they are.
    None,
}

/// One storing of one part. Hands out its stripes in order.
pub(crate) enum PartCipher {
    Sealer(Box<Sealer>),
    None,
}

/// One stripe of it, to be written once.
pub(crate) enum StripeCipher {
    Sealer(StripeSealer),
    None,
}

impl Cipher {
    pub(crate) fn data_key(&self) -> Option<&DataKey> {
        match self {
            Self::Cobblestone(data_key) => Some(data_key),
            Self::None => None,
        }
    }

    /// Begins a part; where it is sealed, with a salt of its own.
    pub(crate) fn begin(&self, shared: &Shared, object_id: &ObjectId, number: PartNumber) -> Result<PartCipher> {
        let Self::Cobblestone(data_key) = self else { return Ok(PartCipher::None) };
        let sealer = Sealer::begin(shared.backend, data_key, &context::part(object_id, number));
        sealer.map(|sealer| PartCipher::Sealer(Box::new(sealer))).map_err(|e| e.with_part(number))
    }
}

impl PartCipher {
    /// What the stored part begins with.
    pub(crate) fn header(&self) -> &[u8] {
        match self {
            Self::Sealer(sealer) => sealer.header(),
            Self::None => &[],
        }
    }

    /// Tells this sealing from others. Nothing tells apart what is not sealed.
    pub(crate) fn salt(&self) -> Salt {
        match self {
            Self::Sealer(sealer) => sealer.salt(),
            Self::None => Salt([0; Salt::LEN]),
        }
    }

    /// Where in the stored part its `n`-th stripe begins.
    pub(crate) fn stripe_at(&self, n: usize) -> u64 {
        match self {
            Self::Sealer(_) => crypto::HEADER as u64 + n as u64 * crypto::SEALED_STRIPE as u64,
            Self::None => n as u64 * STRIPE as u64,
        }
    }

    pub(crate) fn next_stripe(&mut self) -> Result<StripeCipher> {
        match self {
            Self::Sealer(sealer) => sealer.next_stripe().map(StripeCipher::Sealer),
            Self::None => Ok(StripeCipher::None),
        }
    }
}

impl StripeCipher {
    /// Stored length of `plain` bytes, which are whole chunks, or the part's end.
    pub(crate) fn stored_len(&self, plain: usize, last: bool) -> usize {
        match self {
            Self::Sealer(_) => sealed_chunks_len(plain, last),
            Self::None => plain,
        }
    }

    /// Writes whole chunks to `out`, which is as long as [`stored_len`](Self::stored_len) says. Returns how long that is.
    pub(crate) fn write(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize> {
        match self {
            Self::Sealer(stripe) => stripe.seal(plain, out),
            Self::None => copy(plain, out),
        }
    }

    /// The same for the part's end.
    pub(crate) fn write_last(self, plain: &[u8], out: &mut [u8]) -> Result<usize> {
        match self {
            Self::Sealer(stripe) => stripe.seal_last(plain, out),
            Self::None => copy(plain, out),
        }
    }
}

fn copy(plain: &[u8], out: &mut [u8]) -> Result<usize> {
    if plain.len() != out.len() {
        return Err(Error::new(ErrorKind::Internal, "a stripe got another room than it needs"));
    }
    out.copy_from_slice(plain);
    Ok(plain.len())
}

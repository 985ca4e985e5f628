//! Cobblestone-256 (c2sp.org/chunked-encryption with AES-256-GCM), and the keys it takes.
//!
//! A *message* is what one [`Sealer`] makes: a header, then chunks of 16,384 plaintext bytes each, the last one shorter.
//! Every part of an object is a message, and so are its manifest and each record of a ledger. They share the object's
//! [`DataKey`]; salt and context set them apart.
//!
//! ```text
//! message = salt[24] ‖ commitment[32] ‖ chunk 0 ‖ chunk 1 ‖ … ‖ last chunk        chunk = ciphertext ‖ tag[16]
//! ```
//!
//! The unit of work is a *stripe*: 64 chunks. [`Sealer::next_stripe`] hands out the right to seal the next one, once,
//! so that many threads can seal one message. [`Opener`] opens any run of chunks, from any thread.
//!
//! ```
//! use sealift::DataKey;
//! use sealift::crypto::{Backend, open_message, seal_message};
//!
//! # fn main() -> sealift::Result<()> {
//! let key = DataKey::random()?;
//! let sealed = seal_message(Backend::default(), &key, b"example", b"plaintext")?;
//! assert_eq!(open_message(Backend::default(), &key, b"example", &sealed)?, b"plaintext");
//! assert!(open_message(Backend::default(), &key, b"another context", &sealed).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # What cannot be written
//!
//! Two seals under one key and nonce would give both plaintexts away. This compiles:
//!
//! ```
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! let mut stripe = sealer.next_stripe()?;
//! stripe.seal_last(b"", &mut [0; 16])?;
//! let salt = sealer.salt();
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! A sealing does not take a salt:
//!
//! ```compile_fail,E0061
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! sealift::crypto::Sealer::begin(Default::default(), &key, b"context", sealer.salt())?;
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! Nor is there another way to begin one, but for test vectors, under a `cfg` that no feature sets:
//!
//! ```compile_fail,E0599
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! sealift::crypto::Sealer::begin_with_salt(Default::default(), &key, b"context", [0; 24])?;
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! A salt is not made from bytes:
//!
//! ```compile_fail,E0603
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! let salt = sealift::Salt([0; 24]);
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! Two owners of a stripe could seal different bytes under its nonces:
//!
//! ```compile_fail,E0599
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! let twin = sealer.next_stripe()?.clone();
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! So could two of a sealing:
//!
//! ```compile_fail,E0599
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! let twin = sealer.clone();
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! Nothing is sealed after a message's end:
//!
//! ```compile_fail,E0382
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! let mut stripe = sealer.next_stripe()?;
//! stripe.seal_last(b"", &mut [0; 16])?;
//! stripe.seal(b"", &mut [])?;
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! Keys are not copied:
//!
//! ```compile_fail,E0599
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! let twin = key.clone();
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! Nor shown:
//!
//! ```compile_fail,E0599
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! let text = key.to_string();
//! # Ok::<(), sealift::Error>(())
//! ```
//!
//! Nor written down:
//!
//! ```compile_fail,E0277
//! # let key = sealift::DataKey::random()?;
//! # let mut sealer = sealift::crypto::Sealer::begin(Default::default(), &key, b"context")?;
//! let json = serde_json::to_string(&key);
//! # Ok::<(), sealift::Error>(())
//! ```

mod backend;
mod cobblestone;
mod crc64;
mod keys;
mod open;
mod primitive;
mod seal;

#[cfg(test)]
mod tests;

pub use backend::{Backend, Choice, CpuFeatures};
#[cfg(feature = "aws-lc-rs")]
pub(crate) use backend::{OaepPrivateKey, OaepPublicKey};
pub use cobblestone::{
    CHUNK, HEADER, MAX_CHUNKS, SEALED_CHUNK, SEALED_STRIPE, STRIPE, STRIPE_CHUNKS, TAG, plain_len, sealed_len,
};
pub use crc64::{Crc64, crc64};
pub use keys::DataKey;
pub use open::{Opener, open_message};
#[doc(hidden)]
pub use primitive::Primitive;
pub use seal::{Sealer, StripeSealer, seal_message};

pub(crate) use backend::rsa_decrypt;
#[cfg(test)]
pub(crate) use backend::stub;

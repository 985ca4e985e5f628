//! What a sealed object is made of besides ciphertext: contexts, envelope, manifest, trailer, and where every byte
//! lies.
//!
//! ```text
//! metadata:  the envelope: object id, wrapped data keys, encryption context         Envelope
//! body:      sealed part 1 ‖ sealed part 2 ‖ … ‖ trailer                            Layout, trailer
//!                                                  └ the sealed manifest            Manifest
//! ```
//!
//! Everything here is a pure function of its arguments, and what is parsed is valid once it exists: lengths and counts
//! from outside are checked before anything is computed from them or allocated for them. `FORMAT.md` at the root of the
//! repository is the specification.

#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

pub mod context;
pub mod trailer;

mod envelope;
mod json;
mod layout;
mod manifest;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "in a test, a panic is the report")]
mod test_vectors;
mod unsealed;

pub use envelope::{Envelope, check_metadata, check_own_metadata};
pub(crate) use envelope::{MAX_RECIPIENTS, own_metadata};
pub use layout::{Layout, PartLayout, Piece};
pub use manifest::{MAX_PART_PLAIN, Manifest, ManifestPart};
pub use unsealed::{unsealed_by, unsealed_metadata};

/// How much of an object's end a reader asks for first: it holds the trailer of any object of up to 1,393 parts.
pub const TAIL_READ: u64 = 65_536;

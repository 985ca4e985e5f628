//! The trailer: the sealed manifest at the end of every body, and how to find it from there.
//!
//! ```text
//! sealed manifest (90 to 444,616 bytes) ‖ its length u32 ‖ "SEALIFT1"
//! ```

use std::collections::BTreeMap;

use super::{Manifest, context};
use crate::crypto::{self, Backend, DataKey};
use crate::error::{Error, ErrorKind, Result};
use crate::types::ObjectId;

const MAGIC: [u8; 8] = *b"SEALIFT1";
/// The length and the magic.
const FOOTER: u64 = 12;
/// Lengths that a sealed manifest can have: without parts and attributes, and with as many as there may be.
const SEALED_MANIFEST: std::ops::RangeInclusive<u32> = 90..=444_616;

/// The trailer that makes `manifest` the content of the object.
///
/// Whoever stores it behind the parts it names can publish that object: seal it only when it is what the object shall
/// be.
///
/// # Errors
/// [`ErrorKind::Internal`] if the operating system has no randomness to give.
pub fn seal(backend: Backend, key: &DataKey, object_id: &ObjectId, manifest: &Manifest) -> Result<Vec<u8>> {
    let sealed = crypto::seal_message(backend, key, &context::manifest(object_id), &manifest.encode())?;
    Ok(join(sealed))
}

/// How long the trailer of an object with so many parts and these attributes is.
pub(crate) fn len_of(parts: usize, attributes: &BTreeMap<String, Vec<u8>>) -> u64 {
    let sealed = crypto::sealed_len(Manifest::encoded_len(parts, attributes));
    sealed.unwrap_or(u64::MAX).saturating_add(FOOTER)
}

/// How many bytes at the end of the body are the trailer: 102 to 444,628. `tail` is the body's end, at least its last
/// 12 bytes, and `object_len` is the whole body's length.
///
/// # Errors
/// [`ErrorKind::Malformed`] if the body does not end as a sealed object does, or is shorter than it says.
pub fn len_at_end(tail: &[u8], object_len: u64) -> Result<u64> {
    let (rest, magic) = tail.split_last_chunk::<8>().ok_or_else(no_trailer)?;
    let (_, len) = rest.split_last_chunk::<4>().ok_or_else(no_trailer)?;
    if *magic != MAGIC {
        return Err(no_trailer());
    }
    let len = u32::from_be_bytes(*len);
    let trailer_len = u64::from(len).saturating_add(FOOTER);
    if !SEALED_MANIFEST.contains(&len) || trailer_len > object_len {
        return Err(malformed(format!("its trailer cannot have {trailer_len} bytes in an object of {object_len}")));
    }
    Ok(trailer_len)
}

/// Opens a whole trailer, as long as [`len_at_end`] says, of a body of `object_len` bytes.
///
/// The manifest that comes back is this object's, and its parts and the trailer fill the body exactly.
///
/// # Errors
/// [`ErrorKind::Authentication`] if it was altered, is another object's, or the data key is not this object's;
/// [`ErrorKind::Malformed`] if it is not a trailer, breaks the manifest's rules, or the body has another length than it
/// must have; [`ErrorKind::UnsupportedFormat`] if the manifest is of another version.
pub fn open(
    backend: Backend,
    key: &DataKey,
    object_id: &ObjectId,
    trailer: &[u8],
    object_len: u64,
) -> Result<Manifest> {
    let trailer_len = len_at_end(trailer, object_len)?;
    let (sealed, _) = trailer.split_last_chunk::<{ FOOTER as usize }>().ok_or_else(no_trailer)?;
    if u64::try_from(trailer.len()) != Ok(trailer_len) {
        return Err(malformed("its trailer has another length than it says"));
    }
    let manifest = crypto::open_message(backend, key, &context::manifest(object_id), sealed)
        .map_err(|error| error.while_doing("opening the object's trailer"))?;
    let manifest = Manifest::parse(&manifest)?;
    if manifest.sealed_len().checked_add(trailer_len) != Some(object_len) {
        return Err(malformed(format!(
            "its parts and trailer have {} bytes, and it has {object_len}: it was cut, extended or put together wrongly",
            manifest.sealed_len().saturating_add(trailer_len)
        )));
    }
    Ok(manifest)
}

pub(super) fn join(mut sealed: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(sealed.len()).expect("a sealed manifest has at most 444,616 bytes");
    sealed.extend_from_slice(&len.to_be_bytes());
    sealed.extend_from_slice(&MAGIC);
    sealed
}

fn no_trailer() -> Error {
    malformed("it does not end with a trailer; it was cut, extended or replaced")
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Malformed, format!("the object's body is not valid: {why}"))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "in a test, a panic is the report")]
mod tests {
    use proptest::prelude::*;

    use super::super::manifest::tests::manifests;
    use super::*;

    const ID: ObjectId = ObjectId::from_bytes(*b"0123456789abcdef");

    fn sealed() -> (DataKey, Vec<u8>) {
        let key = DataKey::random().unwrap();
        let manifest = Manifest::new(vec![], false, [("etag".into(), b"x".to_vec())].into()).unwrap();
        let trailer = seal(Backend::default(), &key, &ID, &manifest).unwrap();
        assert_eq!(open(Backend::default(), &key, &ID, &trailer, trailer.len() as u64).unwrap(), manifest);
        (key, trailer)
    }

    fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn the_length_is_at_the_end_of_any_tail() {
        let (_, trailer) = sealed();
        let len = trailer.len() as u64;
        for from in [0, 1, trailer.len() - 12] {
            assert_eq!(len_at_end(&trailer[from..], len).unwrap(), len);
        }
        assert_eq!(len_at_end(&[b"before", &trailer[..]].concat(), len + 6).unwrap(), len);
        assert_eq!(kind(len_at_end(&trailer[trailer.len() - 11..], len)), ErrorKind::Malformed);
        assert_eq!(kind(len_at_end(&trailer, len - 1)), ErrorKind::Malformed);
        assert_eq!(kind(len_at_end(&[], 0)), ErrorKind::Malformed);
    }

    proptest! {
        #[test]
        fn the_length_is_known_before_it_is_sealed(manifest in manifests()) {
            let trailer = seal(Backend::default(), &DataKey::random().unwrap(), &ID, &manifest).unwrap();
            prop_assert_eq!(trailer.len() as u64, len_of(manifest.parts().len(), manifest.attributes()));
        }
    }

    #[test]
    fn the_longest_and_the_shortest_length_are_known_too() {
        assert_eq!(len_of(0, &BTreeMap::new()), 102);
        assert_eq!(len_of(10_000, &[("n".into(), vec![0; 4_096 - 6])].into()), 444_628);
    }

    #[test]
    fn only_lengths_that_a_sealed_manifest_can_have_are_taken() {
        let tail = |len: u32| [&len.to_be_bytes()[..], &MAGIC].concat();
        for (len, trailer_len) in [(90, 102), (444_616, 444_628)] {
            assert_eq!(len_at_end(&tail(len), u64::MAX).unwrap(), trailer_len);
        }
        for len in [0, 89, 444_617, u32::MAX] {
            assert_eq!(kind(len_at_end(&tail(len), u64::MAX)), ErrorKind::Malformed, "{len}");
        }
    }

    #[test]
    fn a_trailer_opens_only_as_a_whole_and_where_it_belongs() {
        let (key, trailer) = sealed();
        let len = trailer.len() as u64;
        let open = |trailer: &[u8], object_len| open(Backend::default(), &key, &ID, trailer, object_len);
        assert_eq!(kind(open(&trailer[1..], len)), ErrorKind::Malformed, "its first byte is missing");
        assert_eq!(kind(open(&[&[0], &trailer[..]].concat(), len + 1)), ErrorKind::Malformed, "a byte before it");
        assert_eq!(kind(open(&trailer, len + 1)), ErrorKind::Malformed, "the body is longer");
        assert_eq!(kind(open(&trailer, u64::MAX)), ErrorKind::Malformed, "the body is longer");

        let other_key = DataKey::random().unwrap();
        let result = super::open(Backend::default(), &other_key, &ID, &trailer, len);
        assert_eq!(kind(result), ErrorKind::Authentication);
        let other_id = ObjectId::from_bytes([0; 16]);
        assert_eq!(kind(super::open(Backend::default(), &key, &other_id, &trailer, len)), ErrorKind::Authentication);
    }
}

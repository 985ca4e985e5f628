//! What `CiphertextBlob` is: data of any length, sealed under a key of its own, which the CMK wraps.
//!
//! ```text
//! header  = "SLKMS1" ‖ key id[36] ‖ version u32, big-endian
//! blob    = header ‖ wrapped data key[104] ‖ Cobblestone-256 message under that data key
//!           whose context is "sealift/v1/kms-endpoint" ‖ 0x00 ‖ header
//! ```
//!
//! The data key is wrapped with an encryption context of one pair, `kms-endpoint:context` with the caller's context as JSON in it. An
//! object's data key is wrapped with pairs of another kind, so neither can stand in for the other: who may use this endpoint cannot
//! unwrap what only the gateway unwraps.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use sealift::crypto::{Backend, open_message, seal_message};
use sealift::kms::Kms as _;
use sealift::kms::local::LocalKms;
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, KmsService, Result, WrappedKey};
use zeroize::Zeroizing;

/// Who opens a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Under {
    pub(super) key_id: String,
    pub(super) version: u32,
}

/// Seals `plaintext` under the CMK `key`, an id or an alias.
pub(super) fn seal(
    kms: &LocalKms,
    key: &str,
    context: &BTreeMap<String, String>,
    plaintext: &[u8],
) -> Result<(Vec<u8>, Under)> {
    let data_key = DataKey::random()?;
    let context = wrapping_context(context)?;
    // Which version wrapped it, the key store does not say. So ask before and after, until nobody rotated in between.
    let mut before = kms.describe_key(key)?;
    let (wrapped, under) = loop {
        let wrapped = kms.wrap(&before.key_id, &data_key, &context).now_or_never().ok_or_else(waits)??;
        let after = kms.describe_key(&before.key_id)?;
        if after.primary_version == before.primary_version {
            break (wrapped, Under { key_id: after.key_id, version: after.primary_version });
        }
        before = after;
    };
    let header = header(&under);
    let message = seal_message(Backend::default(), &data_key, &message_context(&header), plaintext)?;
    Ok(([header, wrapped.blob, message].concat(), under))
}

/// Opens what [`seal`] made with the same context.
pub(super) fn open(
    kms: &LocalKms,
    context: &BTreeMap<String, String>,
    blob: &[u8],
) -> Result<(Zeroizing<Vec<u8>>, Under)> {
    let none = || Error::new(ErrorKind::Authentication, "this is no ciphertext of this service");
    let (header, rest) = blob.split_at_checked(HEADER).ok_or_else(none)?;
    let (wrapped, message) = rest.split_at_checked(WRAPPED).ok_or_else(none)?;
    let fields = header.strip_prefix(MAGIC).ok_or_else(none)?;
    let (key_id, version) = fields.split_at_checked(KEY_ID).ok_or_else(none)?;
    let key_id = std::str::from_utf8(key_id).map_err(|_| none())?.to_owned();
    let version = u32::from_be_bytes(version.try_into().map_err(|_| none())?);
    let wrapped = WrappedKey { kms: KmsService::Local, key: key_id.clone(), blob: wrapped.to_vec() };
    let data_key = kms.unwrap(&wrapped, &wrapping_context(context)?).now_or_never().ok_or_else(waits)??;
    let plaintext = open_message(Backend::default(), &data_key, &message_context(header), message)?;
    Ok((Zeroizing::new(plaintext), Under { key_id, version }))
}

fn wrapping_context(context: &BTreeMap<String, String>) -> Result<EncryptionContext> {
    let json = serde_json::to_string(context)
        .map_err(|error| Error::new(ErrorKind::Internal, "a map of strings is JSON").with_source(error))?;
    EncryptionContext::new([("kms-endpoint:context".to_owned(), json)])
}

fn header(under: &Under) -> Vec<u8> {
    [MAGIC, under.key_id.as_bytes(), &under.version.to_be_bytes()].concat()
}

fn message_context(header: &[u8]) -> Vec<u8> {
    [b"sealift/v1/kms-endpoint\0", header].concat()
}

fn waits() -> Error {
    Error::new(ErrorKind::Internal, "the local key store answers at once")
}

const MAGIC: &[u8] = b"SLKMS1";
const KEY_ID: usize = 36;
const HEADER: usize = MAGIC.len() + KEY_ID + 4;
const WRAPPED: usize = 104;

#[cfg(test)]
mod tests {
    use sealift::kms::local::RootKeySource;

    use super::*;

    #[test]
    fn a_blob_opens_with_its_context_and_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, _) = LocalKms::open_or_create(dir.path().join("kms"), RootKeySource::File).unwrap();
        let context = BTreeMap::from([("sealift:object-id".to_owned(), "any name".to_owned())]);
        for len in [0, 1, 32, 6144] {
            let plaintext = vec![7; len];
            let (blob, under) = seal(&kms, "alias/default", &context, &plaintext).unwrap();
            assert_eq!(blob.len(), HEADER + WRAPPED + 56 + len + 16);
            let (opened, by) = open(&kms, &context, &blob).unwrap();
            assert_eq!((&*opened, &by), (&plaintext, &under));
            assert_eq!(open(&kms, &BTreeMap::new(), &blob).unwrap_err().kind(), ErrorKind::Authentication);
        }
        let (blob, _) = seal(&kms, "alias/default", &context, b"x").unwrap();
        for i in 0..blob.len() {
            let mut altered = blob.clone();
            altered[i] ^= 1;
            assert!(open(&kms, &context, &altered).is_err(), "byte {i}");
            assert!(open(&kms, &context, &blob[..i]).is_err(), "cut at {i}");
        }
        kms.rotate_key("alias/default").unwrap();
        assert_eq!(open(&kms, &context, &blob).unwrap().1.version, 1);
        assert_eq!(seal(&kms, "alias/default", &context, b"x").unwrap().1.version, 2);
    }
}

//! What the key services that hold their own key material share: reading it, naming it, and wrapping data keys under
//! it.

use std::fs::File;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::crypto::{Backend, DataKey, open_message, seal_message};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{KmsService, WrappedKey};

/// Length of a data key wrapped under another 32-byte key: one Cobblestone-256 message.
pub(super) const BLOB_LEN: usize = 104;

/// Wraps `data_key` under `key`; only `context` unwraps it again.
pub(super) fn wrap(key: &DataKey, context: &[u8], data_key: &DataKey) -> Result<Vec<u8>> {
    seal_message(Backend::default(), key, context, data_key.expose())
}

/// Unwraps what [`wrap`] made.
pub(super) fn unwrap(key: &DataKey, context: &[u8], blob: &[u8]) -> Result<DataKey> {
    if blob.len() != BLOB_LEN {
        return Err(Error::new(ErrorKind::Authentication, format!("a wrapped data key is {BLOB_LEN} bytes")));
    }
    DataKey::take(&mut Zeroizing::new(open_message(Backend::default(), key, context, blob)?))
}

/// Refuses what another service wrapped.
pub(super) fn check_service(service: KmsService, wrapped: &WrappedKey) -> Result<()> {
    if wrapped.kms == service {
        return Ok(());
    }
    let message = format!("a key of the service {} is not one of the service {service}", wrapped.kms);
    Err(Error::new(ErrorKind::KeyUnavailable, message))
}

/// The one error for a wrong key, a wrong context and an altered wrapped key.
pub(super) fn does_not_open(wrapped: &WrappedKey) -> Error {
    let message = format!(
        "the wrapped data key does not open under the {} key {:?} with this encryption context",
        wrapped.kms, wrapped.key
    );
    Error::new(ErrorKind::Authentication, message)
}

/// A name for a secret key that tells nothing about it: the first 16 bytes of SHA-256(`label` ‖ 0x00 ‖ key), in hex.
pub(super) fn fingerprint(label: &str, key: &DataKey) -> String {
    // In its place: a hasher that is moved leaves a copy of what it was last given behind.
    let mut hasher = Sha256::new();
    hasher.update(label);
    hasher.update([0]);
    hasher.update(key.expose());
    let mut hex = base16ct::lower::encode_string(&hasher.finalize_reset());
    hex.truncate(32);
    hex
}

/// The key that is written as `text`: standard base64 with padding of 32 bytes, white space around it allowed.
///
/// `None` says no more than that it is not: a decoder's own message quotes what it could not decode, and this is a
/// secret.
pub(super) fn from_base64(text: &[u8]) -> Option<DataKey> {
    // The decoder wants room for three bytes out of each four.
    let mut bytes = Zeroizing::new([0; 48]);
    let len = STANDARD.decode_slice(text.trim_ascii(), bytes.as_mut_slice()).ok()?;
    DataKey::take(bytes.get_mut(..len)?).ok()
}

/// `key` as standard base64.
pub(super) fn to_base64(key: &DataKey) -> Zeroizing<String> {
    // 44 characters. A string that grows would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(64));
    STANDARD.encode_string(key.expose(), &mut text);
    text
}

/// All of a small file that holds a secret, or `None` if it has more than `max` bytes.
pub(super) fn read_secret(file: &mut File, max: usize) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Large enough from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; max + 1]);
    let mut len = 0;
    while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if len > max {
        return Ok(None);
    }
    bytes.truncate(len);
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DataKey {
        DataKey::take(&mut [byte; 32]).unwrap()
    }

    #[test]
    fn base64_of_32_bytes_is_a_key() {
        let text = to_base64(&key(7));
        assert_eq!(from_base64(text.as_bytes()), Some(key(7)));
        assert_eq!(from_base64(format!("\r\n {} \n", *text).as_bytes()), Some(key(7)));
        for bad in [
            "",
            "AAAA",
            text.trim_end_matches('='),
            &format!("{0}{0}", *text),
            &text.replace('B', "-"),
            &STANDARD.encode([7; 33]),
        ] {
            assert_eq!(from_base64(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn fingerprints_depend_on_label_and_key() {
        // By coreutils: printf 'a\0' | cat - <(head -c 32 /dev/zero | tr '\0' '\7') | sha256sum | cut -c 1-32
        assert_eq!(fingerprint("a", &key(7)), "edbfe7e9affd326a7d6a9266046b0ecf");
        assert_ne!(fingerprint("a", &key(7)), fingerprint("b", &key(7)));
        assert_ne!(fingerprint("a", &key(7)), fingerprint("a", &key(8)));
    }

    #[test]
    fn a_wrapped_key_opens_under_its_own_key_and_context_only() {
        let blob = wrap(&key(1), b"context", &key(2)).unwrap();
        assert_eq!(blob.len(), BLOB_LEN);
        assert_eq!(unwrap(&key(1), b"context", &blob).unwrap(), key(2));
        let kind = |result: Result<DataKey>| result.unwrap_err().kind();
        assert_eq!(kind(unwrap(&key(3), b"context", &blob)), ErrorKind::Authentication);
        assert_eq!(kind(unwrap(&key(1), b"another", &blob)), ErrorKind::Authentication);
        assert_eq!(kind(unwrap(&key(1), b"context", &blob[..BLOB_LEN - 1])), ErrorKind::Authentication);
        // A message of another length, though it opens, is no data key.
        let longer = seal_message(Backend::default(), &key(1), b"context", &[2; 33]).unwrap();
        assert_eq!(kind(unwrap(&key(1), b"context", &longer)), ErrorKind::Authentication);
    }
}

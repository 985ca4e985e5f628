//! What each sealed message is sealed for. A message opens only under the context it was sealed with, so a part cannot
//! stand in for another part, for a manifest, or for anything of another object.

use crate::types::{EncryptionContext, ObjectId, PartNumber};

/// Context of a part: `"sealift/v1/part" ‖ 0x00 ‖ object id ‖ part number u32`.
#[must_use]
pub fn part(object_id: &ObjectId, number: PartNumber) -> Vec<u8> {
    [b"sealift/v1/part\0", object_id.as_bytes().as_slice(), &number.get().to_be_bytes()].concat()
}

/// Context of the manifest: `"sealift/v1/manifest" ‖ 0x00 ‖ object id`.
#[must_use]
pub fn manifest(object_id: &ObjectId) -> Vec<u8> {
    [b"sealift/v1/manifest\0", object_id.as_bytes().as_slice()].concat()
}

/// Context of record number `record` (from 1) of an upload's ledger, where `hash_before` is the SHA-256 chain over all
/// before it: `"sealift/v1/ledger" ‖ 0x00 ‖ object id ‖ record number u64 ‖ hash`.
#[must_use]
pub fn ledger(object_id: &ObjectId, record: u64, hash_before: &[u8; 32]) -> Vec<u8> {
    [b"sealift/v1/ledger\0", object_id.as_bytes().as_slice(), &record.to_be_bytes(), hash_before].concat()
}

/// Context of what a gateway notes about an upload: `"sealift/v1/gateway-upload" ‖ 0x00 ‖ object id`.
#[must_use]
pub fn gateway_upload(object_id: &ObjectId) -> Vec<u8> {
    [b"sealift/v1/gateway-upload\0", object_id.as_bytes().as_slice()].concat()
}

/// Context of what a gateway notes about one sealing of a part: `"sealift/v1/gateway-part" ‖ 0x00 ‖ object id ‖ part number u32`.
#[must_use]
pub fn gateway_part(object_id: &ObjectId, number: PartNumber) -> Vec<u8> {
    [b"sealift/v1/gateway-part\0", object_id.as_bytes().as_slice(), &number.get().to_be_bytes()].concat()
}

/// Context of the list of parts that a gateway completes an upload with: `"sealift/v1/gateway-completion" ‖ 0x00 ‖ object id`.
#[must_use]
pub fn gateway_completion(object_id: &ObjectId) -> Vec<u8> {
    [b"sealift/v1/gateway-completion\0", object_id.as_bytes().as_slice()].concat()
}

/// Context of a data key that the embedded key store wraps: `"sealift/v1/kms-local" ‖ 0x00 ‖ canonical encryption
/// context`.
#[must_use]
pub fn kms_local(context: &EncryptionContext) -> Vec<u8> {
    [b"sealift/v1/kms-local\0", context.canonical().as_slice()].concat()
}

/// Context of a data key wrapped under a key file: `"sealift/v1/kms-key-file" ‖ 0x00 ‖ canonical encryption context`.
#[must_use]
pub fn kms_key_file(context: &EncryptionContext) -> Vec<u8> {
    [b"sealift/v1/kms-key-file\0", context.canonical().as_slice()].concat()
}

/// What is hashed for the OAEP label of a data key wrapped for an escrow key: `"sealift/v1/rsa-escrow" ‖ 0x00 ‖
/// canonical encryption context`.
#[must_use]
pub fn rsa_escrow(context: &EncryptionContext) -> Vec<u8> {
    [b"sealift/v1/rsa-escrow\0", context.canonical().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ObjectId = ObjectId::from_bytes(*b"0123456789abcdef");

    #[test]
    fn contexts_are_the_specification_s_bytes() {
        assert_eq!(part(&ID, PartNumber::MAX), b"sealift/v1/part\x000123456789abcdef\0\0\x27\x10");
        assert_eq!(manifest(&ID), b"sealift/v1/manifest\x000123456789abcdef");
        assert_eq!(
            ledger(&ID, 0x0102, &[b'h'; 32]),
            b"sealift/v1/ledger\x000123456789abcdef\0\0\0\0\0\0\x01\x02hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
        );
        assert_eq!(gateway_upload(&ID), b"sealift/v1/gateway-upload\x000123456789abcdef");
        assert_eq!(gateway_part(&ID, PartNumber::MAX), b"sealift/v1/gateway-part\x000123456789abcdef\0\0\x27\x10");
        assert_eq!(gateway_completion(&ID), b"sealift/v1/gateway-completion\x000123456789abcdef");
        assert_eq!(kms_local(&EncryptionContext::default()), b"sealift/v1/kms-local\0");
        let context = EncryptionContext::new([("a".into(), "bc".into())]).unwrap();
        assert_eq!(kms_local(&context), b"sealift/v1/kms-local\0\0\0\0\x01a\0\0\0\x02bc");
        assert_eq!(kms_key_file(&context), b"sealift/v1/kms-key-file\0\0\0\0\x01a\0\0\0\x02bc");
        assert_eq!(rsa_escrow(&context), b"sealift/v1/rsa-escrow\0\0\0\0\x01a\0\0\0\x02bc");
    }
}

//! The mark of an object that was stored as it is: nothing of it is sealed, and its metadata says so.

use std::collections::BTreeMap;

use crate::types::ObjectId;

/// Which upload made an unsealed object. It stands alone: no name of an envelope is beside it.
pub(super) const UNSEALED: &str = "sealift-unsealed";

/// What Sealift puts into the user metadata of an object that it stores unsealed: which upload made it, so that an upload whose
/// answer was lost finds out what became of it. It vouches for nothing.
#[must_use]
pub fn unsealed_metadata(upload: &ObjectId) -> BTreeMap<String, String> {
    BTreeMap::from([(UNSEALED.to_owned(), upload.to_string())])
}

/// The upload that made an object which is marked as unsealed. `None` for sealed objects, and for those of other programs.
#[must_use]
pub fn unsealed_by(metadata: &BTreeMap<String, String>) -> Option<ObjectId> {
    let mut ours = metadata.iter().filter(|(name, _)| super::envelope::is_reserved(name));
    match (ours.next(), ours.next()) {
        (Some((name, upload)), None) if name.eq_ignore_ascii_case(UNSEALED) => upload.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Envelope;
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_mark_says_that_it_is_not_sealed_and_says_it_alone() {
        let id = ObjectId::from_bytes([7; 16]);
        let mut metadata = unsealed_metadata(&id);
        metadata.insert("colour".into(), "red".into());
        assert_eq!(unsealed_by(&metadata), Some(id));
        assert_eq!(Envelope::from_metadata(&metadata).unwrap_err().kind(), ErrorKind::NotSealed);

        // Beside an envelope it is neither: whoever put it there shall not turn one into the other.
        metadata.insert("sealift-format".into(), "1".into());
        assert_eq!(unsealed_by(&metadata), None);
        assert_eq!(Envelope::from_metadata(&metadata).unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(unsealed_by(&BTreeMap::new()), None);
    }
}

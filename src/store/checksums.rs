//! The checksums of parts that uploads in progress have, for comparing that of the whole.
//!
//! They are CRCs, of which two make that of both parts in a row.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{CompletedPart, StoredPart};
use crate::types::{ETag, PartNumber, UploadId};

/// How many uploads are remembered at once. Beyond, the oldest by id is forgotten, and its whole is not compared.
const MAX_UPLOADS: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Checksums(Mutex<BTreeMap<UploadId, BTreeMap<PartNumber, Part>>>);

#[derive(Debug)]
struct Part {
    etag: ETag,
    len: u64,
    crc: u64,
}

impl Checksums {
    /// Takes the checksum of a part that was sent.
    pub(crate) fn remember(&self, upload: &UploadId, part: &StoredPart, crc: u64) {
        self.parts(upload, |parts| {
            parts.insert(part.number, Part { etag: part.etag.clone(), len: part.len, crc });
        });
    }

    /// Takes the checksum of a part that the store lists, unless this very part was sent from here.
    pub(crate) fn remember_listed(&self, upload: &UploadId, part: &StoredPart, crc: u64) {
        self.parts(upload, |parts| {
            if parts.get(&part.number).is_none_or(|known| known.etag != part.etag) {
                parts.insert(part.number, Part { etag: part.etag.clone(), len: part.len, crc });
            }
        });
    }

    /// The checksum of an object made of `list`, if that of each is known. `combine` takes those of two runs of bytes in a row, and the
    /// length of the second.
    pub(crate) fn of_all(
        &self,
        upload: &UploadId,
        list: &[CompletedPart],
        combine: impl Fn(u64, u64, u64) -> u64,
    ) -> Option<u64> {
        let uploads = self.uploads();
        let parts = uploads.get(upload)?;
        list.iter().try_fold(0, |crc, listed| {
            let part = parts.get(&listed.number).filter(|part| part.etag == listed.etag)?;
            Some(combine(crc, part.crc, part.len))
        })
    }

    pub(crate) fn forget(&self, upload: &UploadId) {
        self.uploads().remove(upload);
    }

    fn parts(&self, upload: &UploadId, change: impl FnOnce(&mut BTreeMap<PartNumber, Part>)) {
        let mut uploads = self.uploads();
        if !uploads.contains_key(upload) && uploads.len() >= MAX_UPLOADS {
            uploads.pop_first();
        }
        change(uploads.entry(upload.clone()).or_default());
    }

    fn uploads(&self) -> MutexGuard<'_, BTreeMap<UploadId, BTreeMap<PartNumber, Part>>> {
        // Every change is one insertion or removal, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Crc64, crc64};

    #[test]
    fn the_whole_is_known_where_all_parts_are() {
        let checksums = Checksums::default();
        let id = UploadId("id".into());
        let part = |n: u32, bytes: &[u8], tag: &str| {
            let number = PartNumber::try_from(n).unwrap();
            (StoredPart { number, etag: ETag(tag.into()), len: bytes.len() as u64 }, crc64(bytes))
        };
        let of_all = |list: &[CompletedPart]| checksums.of_all(&id, list, Crc64::combine);
        let listed = |part: &(StoredPart, u64)| CompletedPart { number: part.0.number, etag: part.0.etag.clone() };
        let (one, two, other) = (part(1, b"1234", "a"), part(3, b"56789", "b"), part(3, b"56789", "c"));
        checksums.remember(&id, &one.0, one.1);
        let list = [listed(&one), listed(&two)];
        assert_eq!(of_all(&list), None);
        checksums.remember_listed(&id, &two.0, two.1);
        assert_eq!(of_all(&list), Some(0x995d_c9bb_df19_39fa));
        // What was sent is not overruled by a listing.
        checksums.remember_listed(&id, &two.0, 1);
        assert_eq!(of_all(&list), Some(0x995d_c9bb_df19_39fa));
        checksums.remember(&id, &other.0, other.1);
        assert_eq!(of_all(&list), None);
        checksums.forget(&id);
        assert_eq!(of_all(&[]), None);
    }
}

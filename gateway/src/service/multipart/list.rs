//! Listing the uploads of a bucket and the parts of an upload.

use std::ops::Bound;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sealift::PartNumber;

use super::super::checksums::ChecksumKind;
use super::super::encryption::{CustomerKey, Encrypted};
use super::super::error::{Failure, Result};
use super::super::names::{self, BucketName, ObjectName};
use super::super::{PARALLEL, Service};
use super::parts::PartInfo;
use super::state::{UPLOAD, describe};

/// A page of an upload's parts.
#[derive(Clone, Debug)]
pub struct PartsListing {
    /// The parts, ascending by number.
    pub parts: Vec<PartInfo>,
    /// The last number, if there are more.
    pub next: Option<u32>,
    /// The checksum that the object is to have, if one was chosen.
    pub checksum: Option<ChecksumKind>,
    /// How the object is encrypted, if it is.
    pub encrypted: Option<Encrypted>,
}

/// Which uploads of a bucket are to be listed.
#[derive(Clone, Debug)]
pub struct UploadsRequest {
    /// What their objects' names begin with.
    pub prefix: String,
    /// Only what comes after this object and this id.
    pub after: (String, String),
    /// How many at most.
    pub max: usize,
}

/// A page of a bucket's uploads.
#[derive(Clone, Debug)]
pub struct UploadsListing {
    /// The uploads, ascending by object and id.
    pub uploads: Vec<ListedUpload>,
    /// Whether there are more.
    pub truncated: bool,
}

/// An upload in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedUpload {
    /// The object's name within the bucket.
    pub key: String,
    /// The upload's id.
    pub id: String,
    /// When it was begun.
    pub initiated: SystemTime,
}

impl Service {
    /// Lists the parts of an upload with numbers above `after`.
    ///
    /// # Errors
    /// [`NoSuchUpload`](super::FailureKind::NoSuchUpload), those of the CMK's state, and what the store says.
    pub async fn list_parts(
        &self,
        name: &ObjectName,
        id: &str,
        after: u32,
        max: usize,
        customer: Option<&CustomerKey>,
    ) -> Result<PartsListing> {
        let state = self.0.upload(name, id, customer).await?;
        let entries = self.0.entries(&state).await?;
        let (checksum, encrypted) = (state.record.checksum, state.encrypted.clone());
        let above = match PartNumber::try_from(after) {
            Ok(number) => Bound::Excluded(number),
            Err(_) if after == 0 => Bound::Unbounded,
            Err(_) => return Ok(PartsListing { parts: Vec::new(), next: None, checksum, encrypted }),
        };
        let mut rest = entries.range((above, Bound::Unbounded));
        let parts: Vec<_> = rest.by_ref().take(max).map(|(_, entry)| entry.info(&state)).collect();
        let next = rest.next().and_then(|_| parts.last()).map(|part| part.number);
        Ok(PartsListing { parts, next, checksum, encrypted })
    }

    /// Lists the uploads of a bucket.
    ///
    /// # Errors
    /// [`NoSuchBucket`](super::FailureKind::NoSuchBucket), and what the store says.
    pub async fn list_uploads(&self, bucket: &BucketName, request: &UploadsRequest) -> Result<UploadsListing> {
        self.0.bucket(bucket).await?;
        let prefix = names::uploads(bucket);
        let rows: Vec<_> = self.0.store.list(&prefix).try_collect().await?;
        let ids = rows.into_iter().filter_map(|row| {
            let id = row.key.as_str().strip_prefix(&prefix)?.strip_suffix(UPLOAD)?.strip_suffix('.')?.to_owned();
            Some(async move { Ok::<_, Failure>((id, self.0.read_small(&row.key).await?)) })
        });
        let found: Vec<_> = stream::iter(ids).buffered(PARALLEL).try_collect().await?;
        let mut uploads: Vec<_> = found
            .into_iter()
            .filter_map(|(id, json)| {
                let (key, created) = describe(&json?)?;
                let initiated = UNIX_EPOCH + Duration::from_millis(created.min(1 << 50));
                Some(ListedUpload { key, id, initiated })
            })
            .filter(|upload| {
                let after = (request.after.0.as_str(), request.after.1.as_str());
                upload.key.starts_with(&request.prefix) && is_after((&upload.key, &upload.id), after)
            })
            .collect();
        uploads.sort_unstable();
        let truncated = uploads.len() > request.max;
        uploads.truncate(request.max);
        Ok(UploadsListing { uploads, truncated })
    }
}

/// Without an id, a marker is behind all uploads of its object.
fn is_after(upload: (&str, &str), marker: (&str, &str)) -> bool {
    if marker.1.is_empty() { upload.0 > marker.0 || marker.0.is_empty() } else { upload > marker }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_passed() {
        assert!(is_after(("a", "1"), ("", "")));
        assert!(!is_after(("a", "1"), ("a", "")));
        assert!(!is_after(("a", "1"), ("a", "1")));
        assert!(is_after(("a", "2"), ("a", "1")) && is_after(("b", "0"), ("a", "1")));
    }
}

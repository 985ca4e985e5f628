//! Listing objects: names from the store, and of each what its plaintext is.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sealift::ErrorKind;
use sealift::store::ListedObject;

use super::error::{FailureKind, Result};
use super::facts::{Facts, made_up};
use super::names::{BucketName, ObjectName};
use super::{Inner, PARALLEL, Service};

/// Behind nearly all names that go on from another. The few that are behind it are passed over one by one.
const LAST: &str = "\u{10ffff}";

/// Which objects of a bucket are to be listed.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// What their names begin with.
    pub prefix: String,
    /// Names that go on behind the first of these after the prefix are one row together. Empty: none are.
    pub delimiter: String,
    /// Only what comes after this.
    pub after: String,
    /// How many rows at most.
    pub max: usize,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Its objects, ascending by name.
    pub objects: Vec<Listed>,
    /// What names begin with that are one row together, ascending.
    pub prefixes: Vec<String>,
    /// The last row, if there are more.
    pub next: Option<String>,
}

/// An object in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name within the bucket.
    pub key: String,
    /// Length of the plaintext in bytes.
    pub len: u64,
    /// ETag of the plaintext, in lower case and without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: SystemTime,
}

impl Service {
    /// Lists objects of a bucket. An object that cannot be opened now, because its CMK is disabled for example, is listed as the store has
    /// it.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], and what the store says.
    pub async fn list_objects(&self, bucket: &BucketName, request: &ListRequest) -> Result<Listing> {
        self.0.bucket(bucket).await?;
        let page = self.0.page(bucket, request).await?;
        let rows = page.rows.into_iter().map(|(name, row)| self.0.listed(name, row));
        let found: Vec<_> = stream::iter(rows).buffered(PARALLEL).try_collect().await?;
        // Those that were deleted meanwhile are none.
        let objects = found.into_iter().flatten().collect();
        Ok(Listing { objects, prefixes: page.prefixes, next: page.next })
    }
}

struct Page {
    rows: Vec<(ObjectName, ListedObject)>,
    prefixes: Vec<String>,
    next: Option<String>,
}

impl Inner {
    async fn page(&self, bucket: &BucketName, request: &ListRequest) -> Result<Page> {
        let ListRequest { prefix, delimiter, after, max } = request;
        let mut page = Page { rows: Vec::new(), prefixes: Vec::new(), next: None };
        let mut last = None;
        let own = bucket.prefix();
        let below = format!("{own}{prefix}");
        // Of names that were one row together, all were on the page before.
        let was_group = after
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| !rest.is_empty() && rest.ends_with(delimiter.as_str()));
        let start = match (after.is_empty(), was_group && !delimiter.is_empty()) {
            (true, _) => String::new(),
            (false, false) => format!("{own}{after}"),
            (false, true) => format!("{own}{after}{LAST}"),
        };
        let mut all = self.store.list_after(&below, &start);
        while let Some(row) = all.try_next().await? {
            let Some(key) = row.key.as_str().strip_prefix(&own) else { continue };
            let group = match key.get(prefix.len()..).and_then(|rest| rest.split_once(delimiter.as_str())) {
                Some((head, _)) if !delimiter.is_empty() => Some(format!("{prefix}{head}{delimiter}")),
                _ => None,
            };
            let shown = group.as_deref().unwrap_or(key);
            if shown <= after.as_str()
                || key <= after.as_str()
                || page.prefixes.last().is_some_and(|last| last == shown)
            {
                continue;
            }
            if page.rows.len() + page.prefixes.len() >= *max {
                page.next = last;
                break;
            }
            last = Some(shown.to_owned());
            match group {
                Some(group) => page.prefixes.push(group),
                None => {
                    // What no client could have named was put there by something else.
                    if let Ok(name) = bucket.object(key) {
                        page.rows.push((name, row));
                    }
                }
            }
        }
        Ok(page)
    }

    async fn listed(&self, name: ObjectName, row: ListedObject) -> Result<Option<Listed>> {
        let stored = match self.store.head(name.path()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            head => head?,
        };
        let facts = match self.facts(name.path(), &stored, None).await {
            Ok(facts) => facts,
            Err(failure) if failure.kind() == FailureKind::NoSuchKey => return Ok(None),
            Err(failure) => {
                tracing::debug!(%failure, object = %name, "listed as the store has it");
                Facts { len: stored.len, etag: made_up(&stored.etag), crc64: None, checksum: None }
            }
        };
        let modified = stored.modified.or(row.modified).unwrap_or(UNIX_EPOCH);
        Ok(Some(Listed { key: name.key().to_owned(), len: facts.len, etag: facts.etag, modified }))
    }
}

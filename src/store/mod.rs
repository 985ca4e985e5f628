//! Where sealed objects go: the trait every object store implements, and what passes through it.

#[cfg(any(feature = "oss", feature = "s3"))]
mod checksums;
pub mod conformance;
mod dir;
mod direct;
mod discard;
mod memory;
#[cfg(feature = "oss")]
pub mod oss;
mod percent;
#[cfg(feature = "s3")]
pub mod s3;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream};

use crate::error::{Error, ErrorKind, Result, Retry};
use crate::types::{Attempt, ByteRange, ETag, ObjectKey, PartNumber, UploadId};

pub use dir::DirStore;
pub use direct::{DirectStore, PartSink};
pub use discard::DiscardStore;
pub use memory::MemoryStore;
#[cfg(feature = "oss")]
pub use oss::OssStore;
#[doc(hidden)]
pub use percent::percent_decode;
#[cfg(feature = "s3")]
pub use s3::S3Store;

/// What a store allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The fewest bytes a part may have unless it is the last.
    pub min_part: u64,
    /// The most bytes a part may have.
    pub max_part: u64,
    /// The highest part number.
    pub max_parts: PartNumber,
    /// The most bytes of user metadata, names and values together.
    pub max_metadata: usize,
    /// Whether all parts but the last must have one length.
    pub equal_parts: bool,
}

/// An object store with multipart uploads.
///
/// Nothing becomes visible under a key before [`complete`](Self::complete) or [`put_object`](Self::put_object) succeed, and then all of
/// it does, body and metadata together; until then what was there stays whole.
/// All methods may be dropped at any time; what they had begun may or may not take effect.
///
/// # Errors
/// Adapters set [`Error::retry`] where they know. A missing object is [`ErrorKind::NotFound`], a failed `if_match` or a lost race
/// [`ErrorKind::Changed`], a failed `if_not_exists` [`ErrorKind::AlreadyExists`], a missing upload [`ErrorKind::NotFound`].
pub trait MultipartStore: Send + Sync + fmt::Debug {
    /// What this store allows.
    fn limits(&self) -> Limits;

    /// The URL of this store, under which the ledger records uploads.
    fn url(&self) -> String;

    /// The bucket, for objects that are bound to their name. Empty where there are no buckets.
    fn bucket(&self) -> &str {
        ""
    }

    /// How many bytes the store puts before the name of each item of user metadata, where they count against its limit.
    fn metadata_prefix_len(&self) -> usize {
        0
    }

    /// Where the metadata of an object lies, if that is a place of its own that a user may look at.
    fn metadata_place(&self, _key: &ObjectKey) -> Option<String> {
        None
    }

    /// Whether uploads and objects survive the process, so that resuming makes sense.
    fn is_durable(&self) -> bool;

    /// Begins a multipart upload. `properties` become the object's at Complete.
    fn initiate<'a>(&'a self, key: &'a ObjectKey, properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>>;

    /// The same for an upload that will be completed under `condition`. A store that can tell already that it will fail refuses it with
    /// [`ErrorKind::AlreadyExists`], before anything is sent. That it begins says nothing about the end.
    fn initiate_if<'a>(
        &'a self,
        key: &'a ObjectKey,
        properties: &'a Properties,
        _condition: PutCondition,
    ) -> BoxFuture<'a, Result<UploadId>> {
        self.initiate(key, properties)
    }

    /// Stores one part, replacing an earlier attempt at it.
    ///
    /// Segments of a payload that is [produced](Payload::produced) while it is sent hold the sender's memory: send or copy each and drop it
    /// before waiting for more than a few, or the next may never come.
    fn put_part<'a>(&'a self, upload: &'a Upload, part: PutPart) -> BoxFuture<'a, Result<ETag>>;

    /// This store as one that the sealing threads write to themselves, if it is one. Files and other sources that can be read at
    /// any offset are then uploaded that way, and [`put_part`](Self::put_part) takes the rest.
    fn direct(&self) -> Option<&dyn DirectStore> {
        None
    }

    /// Makes the object of the listed parts, ascending by number, and publishes it.
    ///
    /// A listed part that is missing or has another ETag is [`ErrorKind::Changed`], and nothing is published. A store that keeps earlier
    /// attempts at a part takes the one whose ETag is listed.
    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [CompletedPart],
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>>;

    /// Gives up an upload and frees its parts, those too that arrive while it does. An upload that is gone already is a success.
    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<()>>;

    /// The parts an upload has now, ascending by number.
    fn list_parts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>>;

    /// Every attempt at a part that can be completed with, ascending by number. A store that keeps one of each has those of
    /// [`list_parts`](Self::list_parts).
    fn list_attempts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        self.list_parts(upload)
    }

    /// The uploads in progress under keys that begin with `prefix`.
    fn list_uploads<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>>;

    /// The same, with when each was begun, where the store tells.
    fn list_uploads_with_times<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedUpload>>> {
        Box::pin(async move {
            let uploads = self.list_uploads(prefix).await?;
            Ok(uploads.into_iter().map(|upload| ListedUpload { upload, begun: None }).collect())
        })
    }

    /// Stores a whole object in one request.
    fn put_object<'a>(
        &'a self,
        key: &'a ObjectKey,
        payload: Payload,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>>;

    /// Reads a range of an object, or all of it, with its properties. A range that holds no byte is
    /// [`ErrorKind::RangeNotSatisfiable`]. With `if_match`, another ETag is [`ErrorKind::Changed`].
    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Option<ByteRange>,
        if_match: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>>;

    /// An object's length and properties.
    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>>;

    /// Removes an object, body and metadata. One that is gone already is [`ErrorKind::NotFound`].
    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>>;

    /// Copies an object, body and metadata together.
    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        to: &'a ObjectKey,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>>;

    /// Replaces the user metadata of the object whose ETag is `if_match`, and leaves its body and all else it has as they are. Returns its
    /// ETag from then on. Another ETag is [`ErrorKind::Changed`].
    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        metadata: &'a BTreeMap<String, String>,
        if_match: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>>;

    /// The objects whose keys begin with `prefix`, ascending by key.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        self.list_after(prefix, "")
    }

    /// The same from the first key behind `after` on, which need not be a key that there is. What comes before is not read again, so that
    /// a listing can be had in pages.
    fn list_after<'a>(&'a self, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>>;
}

/// An upload in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The key its object will have.
    pub key: ObjectKey,
    /// The store's name for it.
    pub id: UploadId,
}

/// A row of a listing of uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// The upload.
    pub upload: Upload,
    /// When it was begun, if the store tells.
    pub begun: Option<SystemTime>,
}

/// What an object has besides its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// User metadata: names in lower case, without the store's prefix. Stored in the clear.
    pub metadata: BTreeMap<String, String>,
    /// Its media type. `None` is `application/octet-stream`, and nothing more than that is known of sealed bytes.
    pub content_type: Option<String>,
    /// The store's name for how it keeps the object. `None` is the store's default. A store without such classes refuses one.
    pub storage_class: Option<String>,
    /// Tags, which the store's own rules and bills refer to. A store without tags refuses them; no store gives them back with an object.
    pub tags: BTreeMap<String, String>,
}

impl Properties {
    /// Refuses what a store without storage classes and tags cannot keep.
    pub(crate) fn refuse_classes_and_tags(&self, store: &str) -> Result<()> {
        let what = match (&self.storage_class, self.tags.is_empty()) {
            (Some(_), _) => "storage classes",
            (None, false) => "tags",
            (None, true) => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, format!("{store} has no {what}: leave them out")))
    }
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PutCondition {
    /// Nothing: what is there is replaced.
    #[default]
    None,
    /// No object has the key, at the moment of publishing.
    IfNotExists,
}

/// One part to store.
#[derive(Debug)]
pub struct PutPart {
    /// Its number.
    pub number: PartNumber,
    /// Which sending of it this is.
    pub attempt: Attempt,
    /// Where its bytes begin in the finished object, if that is known.
    pub offset: Option<u64>,
    /// Its bytes.
    pub payload: Payload,
}

/// A part the finished object is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    /// Its number.
    pub number: PartNumber,
    /// The ETag that storing it returned.
    pub etag: ETag,
}

impl CompletedPart {
    /// Refuses a list of which no object can be made.
    pub(crate) fn check_list(parts: &[Self]) -> Result<()> {
        let invalid = |message| Err(Error::new(ErrorKind::InvalidInput, message));
        if parts.is_empty() {
            return invalid("an object is made of at least one part");
        }
        if !parts.is_sorted_by(|a, b| a.number < b.number) {
            return invalid("the parts of an object are listed once each, ascending by number");
        }
        Ok(())
    }
}

/// A part as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Its number.
    pub number: PartNumber,
    /// Its ETag.
    pub etag: ETag,
    /// Its length in bytes.
    pub len: u64,
}

/// What a store knows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Length of the body in bytes.
    pub len: u64,
    /// Tag of this state of the object: every change of its body gives another.
    pub etag: ETag,
    /// When it was last written.
    pub modified: Option<SystemTime>,
    /// What was given when it was written.
    pub properties: Properties,
    /// How the store says that it encrypts the object on its side. `None` if it says nothing.
    pub encryption: Option<ServerSideEncryption>,
}

/// Encryption on the store's side, in the store's own words. That is between the store and its disks: whoever may read the object gets its
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSideEncryption {
    /// Whose keys: on OSS `AES256`, `KMS` or `SM4`, on S3 `AES256` or `aws:kms`.
    pub algorithm: String,
    /// The customer master key (CMK), where it is one of the store's key service.
    pub key_id: Option<String>,
    /// The cipher of the data, where OSS encrypts it under a CMK and not with AES-256: `SM4`.
    pub data_encryption: Option<String>,
}

/// A row of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: ObjectKey,
    /// Length of the body in bytes.
    pub len: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
}

/// The answer to a read.
pub struct GetObject {
    /// The whole object's length and properties.
    pub info: ObjectInfo,
    /// Which bytes of it follow.
    pub range: Range<u64>,
    /// Those bytes: as many as `range` has, or an error.
    pub body: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for GetObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetObject").field("info", &self.info).field("range", &self.range).finish_non_exhaustive()
    }
}

/// The bytes of a part or object: a known length, in segments that are never joined.
pub struct Payload {
    len: u64,
    segments: Segments,
}

enum Segments {
    Held(std::vec::IntoIter<Bytes>),
    Produced(BoxStream<'static, Result<Bytes>>),
}

impl Payload {
    /// Segments that are in memory.
    #[must_use]
    pub fn held(segments: Vec<Bytes>) -> Self {
        let len = segments.iter().map(|segment| segment.len() as u64).sum();
        Self { len, segments: Segments::Held(segments.into_iter()) }
    }

    /// Segments that are produced while they are sent: `len` bytes in all, then the end. More may come only when earlier ones have been
    /// dropped. Whoever takes them must treat an error, or
    /// another number of bytes, as the failure of the whole part.
    #[must_use]
    pub fn produced(len: u64, segments: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self { len, segments: Segments::Produced(Box::pin(segments)) }
    }

    /// How many bytes there are in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of the segments, where they are in memory.
    #[cfg(feature = "s3")]
    pub(crate) fn as_held(&self) -> Option<&[Bytes]> {
        match &self.segments {
            Segments::Held(segments) => Some(segments.as_slice()),
            Segments::Produced(_) => None,
        }
    }

    /// The error for a payload that ended after `sent` bytes.
    #[must_use]
    pub fn wrong_length(len: u64, sent: u64) -> Error {
        Error::new(ErrorKind::Io, format!("a payload announced with {len} bytes had {sent}")).with_retry(Retry::Yes)
    }
}

impl Stream for Payload {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.segments {
            Segments::Held(segments) => Poll::Ready(segments.next().map(Ok)),
            Segments::Produced(segments) => segments.as_mut().poll_next(cx),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.segments {
            Segments::Held(_) => "held",
            Segments::Produced(_) => "produced",
        };
        write!(f, "Payload({} bytes, {how})", self.len)
    }
}

//! Buckets and objects, encrypted on the server's side: what OSS and S3 have in common, over any store.
//!
//! An object for which neither request nor bucket asks for encryption is stored as it is, with its ETag and CRC-64 in its metadata. Any
//! other is a sealed object of Sealift's format, which `sealift get` opens too. Below the store's root:
//!
//! ```text
//! BUCKET/KEY                                       an object
//! _gateway/buckets/BUCKET.json                     a bucket: when it was made, its default encryption
//! _gateway/uploads/BUCKET/ID.upload                a multipart upload: its key, the store's own id for it, the envelope
//! _gateway/uploads/BUCKET/ID.part-00001-…          a part that was stored: salt, length, digests, the store's ETag
//! _gateway/uploads/BUCKET/ID.staged-00001-…        a sealed part that has to wait for Complete
//! _gateway/uploads/BUCKET/ID.completion            which parts it is completed with
//! _gateway/facts/ID.json                           ETag and checksums of a plaintext object that were not known when it was begun
//! ```
//!
//! There is no other state, so any number of gateways can stand in front of one store.

mod attributes;
mod buckets;
mod checksums;
mod copy;
mod encryption;
mod error;
mod facts;
mod incoming;
mod list;
mod multipart;
mod names;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::TryStreamExt as _;
use sealift::engine::{ReadOptions, Reader};
use sealift::store::{GetObject, MultipartStore};
use sealift::{Engine, Error, ErrorKind, ObjectKey};

pub use attributes::Attributes;
pub use buckets::Bucket;
pub use checksums::{Checksum, ChecksumAlgorithm, ChecksumKind, ChecksumType};
pub use copy::CopyRequest;
pub use encryption::{CustomerKey, Encrypted, Encryption, Sse};
pub use error::{Failure, FailureKind, Result};
pub use incoming::Body;
pub use list::{ListRequest, Listed, Listing};
pub use multipart::{
    CompleteRequest, ETagStyle, InitiateRequest, ListedPart, ListedUpload, PartInfo, PartRequest, PartSource,
    PartsListing, UploadInfo, UploadsListing, UploadsRequest,
};
pub use names::{BucketName, ObjectName};
pub use read::{Conditions, Object, ObjectInfo, ObjectPart};
pub use write::{PutRequest, Written};

use crate::Back;
use encryption::KeyRing;
use facts::FactsCache;
use multipart::UploadCache;

/// How much is asked of the store at once for one request.
const PARALLEL: usize = 32;
/// The most bytes a small file of the gateway's own has.
const SMALL_FILE: u64 = 4 << 20;
/// The most bytes that one request can put: with what sealing adds, they fit into the 5 GiB that stores take at once.
pub const MAX_PUT: u64 = (5 << 30) - (8 << 20);

/// What the dialects serve. Cheap to clone.
///
/// Every method may be dropped at any time: what it had begun to write then becomes visible as a whole or not at all.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    engine: Engine,
    store: Arc<dyn MultipartStore>,
    keys: KeyRing,
    facts: FactsCache,
    uploads: UploadCache,
}

impl Service {
    /// The service in front of `back`, in `region`.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the store wants all parts of an object to have one length: clients choose it.
    pub fn new(back: &Back, region: &str) -> sealift::Result<Self> {
        if back.store.limits().equal_parts {
            let message = "the store wants parts of one length, and a gateway's clients choose theirs: use another";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let keys = KeyRing {
            kms: Arc::clone(&back.keys.kms),
            default_key: back.keys.default_key.clone(),
            region: region.to_owned(),
        };
        Ok(Self(Arc::new(Inner {
            engine: back.engine.clone(),
            store: Arc::clone(&back.store),
            keys,
            facts: FactsCache::default(),
            uploads: UploadCache::default(),
        })))
    }

    /// The region it is in.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.0.keys.region
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("store", &self.0.store).finish_non_exhaustive()
    }
}

impl Inner {
    async fn open_sealed(&self, path: &ObjectKey, customer: Option<&CustomerKey>) -> Result<Reader> {
        let trusted = self.keys.trusted(customer);
        Ok(self.engine.open(Arc::clone(&self.store), path.clone(), &trusted, &ReadOptions::default()).await?)
    }
}

/// All of an object that has at most `max` bytes.
async fn collect(got: GetObject, max: u64) -> Result<Vec<u8>> {
    let too_long = || Failure::new(FailureKind::Damaged, "A file of the gateway's own is longer than it can be.");
    if got.info.len > max {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    let mut body = got.body;
    while let Some(piece) = body.try_next().await? {
        if (bytes.len() as u64).saturating_add(piece.len() as u64) > max {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn no_json(error: serde_json::Error) -> Failure {
    let cause = Error::new(ErrorKind::Internal, "a record does not become JSON").with_source(error);
    Failure::new(FailureKind::Internal, "The gateway failed.").with_cause(cause)
}

/// 16 random bytes in hexadecimal.
fn random_name() -> Result<String> {
    Ok(base16ct::lower::encode_string(sealift::ObjectId::random()?.as_bytes()))
}

//! Alibaba Cloud OSS, natively.
//!
//! Requests are built and signed here, from OSS's published interface; nothing of its SDKs is used.
//! Source: [OSS, list of operations by function](https://www.alibabacloud.com/help/en/oss/developer-reference/list-of-operations-by-function).

mod body;
mod builder;
mod calls;
mod client;
mod copy;
mod credentials;
mod encoding;
mod endpoint;
mod errors;
mod files;
mod incoming;
mod properties;
mod sign;
mod sse;
mod stat;
mod xml;

use std::collections::BTreeMap;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{BoxStream, StreamExt as _};

use super::checksums::Checksums;
use super::{
    CompletedPart, GetObject, Limits, ListedObject, ListedUpload, MultipartStore, ObjectInfo, Payload, Properties,
    PutCondition, PutPart, StoredPart, Upload,
};
use crate::error::Result;
use crate::types::{ByteRange, ETag, ObjectKey, PartNumber, UploadId};

pub use super::ServerSideEncryption;
pub use builder::Builder;
pub use client::Answer;
pub use credentials::Credentials;
pub use errors::{ErrorCode, ServiceError};
pub use sign::SignatureVersion;
pub use sse::{Sse, SseAlgorithm, SseDataEncryption};

/// What OSS allows. User metadata may have 8 KiB there; a sealed object's has less everywhere.
const LIMITS: Limits = Limits {
    min_part: 100 << 10,
    max_part: 5 << 30,
    max_parts: PartNumber::MAX,
    max_metadata: 2048,
    equal_parts: false,
};

/// A bucket of Alibaba Cloud OSS.
///
/// Every request is signed when it is sent (with OSS's time, once it refused ours), has a time limit that grows with its bytes, and is
/// sent once: trying again is the caller's, and [`Error::retry`](crate::Error::retry) says when it can help. The CRC-64 of every part, and of the
/// whole object where all its parts are known, is compared with the one OSS computed.
///
/// The methods named for OSS's calls do what those of [`MultipartStore`] do and give all that the answer tells, server-side encryption
/// included, as [`Answer`].
///
/// ```no_run
/// use sealift::store::MultipartStore;
/// use sealift::store::oss::{OssStore, Sse, SseAlgorithm};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// let store = OssStore::builder("my-bucket").region("cn-hangzhou").from_env()?.build()?;
/// let key = "backups/monday".parse()?;
/// println!("{} bytes", store.head(&key).await?.len);
/// let answer = store.set_sse(&key, &Sse::new(SseAlgorithm::Kms)).await?;
/// println!("{:?}", answer.encryption());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OssStore {
    client: client::Client,
    url: String,
    sse: Option<Sse>,
    copy_limit: u64,
    checksums: Checksums,
}

impl OssStore {
    /// Begins to describe the store of a bucket.
    #[must_use]
    pub fn builder(bucket: impl Into<String>) -> Builder {
        Builder::new(bucket.into())
    }

    /// Where the credentials were found, for people.
    #[must_use]
    pub fn credentials_source(&self) -> &str {
        self.client.credentials.source()
    }

    /// By how many seconds OSS's clock was ahead of this machine's in its last answer; negative where it was behind. `None` if none has
    /// come yet that told the time.
    #[must_use]
    pub fn clock_ahead(&self) -> Option<i64> {
        self.client.clock.ahead()
    }

    /// The server-side encryption of what this store writes.
    #[must_use]
    pub fn sse(&self) -> Option<&Sse> {
        self.sse.as_ref()
    }
}

/// [`replace_metadata`](MultipartStore::replace_metadata) is a copy of the object onto itself that keeps its encryption too. OSS's ETags are of the
/// body alone: one read before metadata was replaced still matches.
impl MultipartStore for OssStore {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    fn bucket(&self) -> &str {
        &self.client.bucket
    }

    fn metadata_prefix_len(&self) -> usize {
        properties::META.len()
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn initiate<'a>(&'a self, key: &'a ObjectKey, properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>> {
        self.initiate_if(key, properties, PutCondition::None)
    }

    /// OSS itself refuses to begin what it would refuse to publish.
    fn initiate_if<'a>(
        &'a self,
        key: &'a ObjectKey,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<UploadId>> {
        async move { Ok(self.initiate_multipart_upload(key, properties, condition).await?.value) }.boxed()
    }

    fn put_part<'a>(&'a self, upload: &'a Upload, part: PutPart) -> BoxFuture<'a, Result<ETag>> {
        async move { Ok(self.upload_part(upload, part).await?.value) }.boxed()
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [CompletedPart],
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        async move { Ok(self.complete_multipart_upload(upload, parts, condition).await?.value) }.boxed()
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<()>> {
        self.abort_multipart_upload(upload).boxed()
    }

    fn list_parts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        self.all_parts(upload).boxed()
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>> {
        async move { Ok(self.all_uploads(prefix).await?.into_iter().map(|listed| listed.upload).collect()) }.boxed()
    }

    fn list_uploads_with_times<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedUpload>>> {
        self.all_uploads(prefix).boxed()
    }

    fn put_object<'a>(
        &'a self,
        key: &'a ObjectKey,
        payload: Payload,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        async move { Ok(self.put_whole_object(key, payload, properties, condition).await?.value) }.boxed()
    }

    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Option<ByteRange>,
        if_match: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>> {
        async move { Ok(self.get_object(key, range, if_match).await?.value) }.boxed()
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>> {
        async move { Ok(self.head_object(key).await?.value) }.boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>> {
        self.delete_object(key).boxed()
    }

    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        to: &'a ObjectKey,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        async move { Ok(self.copy_object(from, to, condition).await?.value) }.boxed()
    }

    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        metadata: &'a BTreeMap<String, String>,
        if_match: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>> {
        async move { Ok(self.replace_all_metadata(key, metadata, if_match).await?.value) }.boxed()
    }

    fn list_after<'a>(&'a self, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        self.all_objects(prefix, after).boxed()
    }
}

//! Amazon S3, and what speaks its protocol.

mod body;
mod checksum;
mod config;
mod copy;
mod encoding;
mod errors;
mod objects;
mod properties;
mod uploads;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use self::config::Patience;
use self::errors::Request;
use super::checksums::Checksums;
use super::{
    CompletedPart, GetObject, Limits, ListedObject, ListedUpload, MultipartStore, ObjectInfo, Payload, Properties,
    PutCondition, PutPart, StoredPart, Upload,
};
use crate::error::{Error, Result};
use crate::types::{ByteRange, ETag, ObjectKey, PartNumber, UploadId};

pub use config::{Addressing, S3Builder, S3Checksum};

/// The longest part, and the longest object that one request stores or copies:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MAX_PART: u64 = 5 << 30;
/// The shortest part that is not the last.
const MIN_PART: u64 = 5 << 20;

/// A bucket of Amazon S3 or of a store that speaks its protocol.
///
/// # How
/// - Payloads leave as the segments they come in, never joined or copied, with their length announced. They are not hashed for the
///   signature (`UNSIGNED-PAYLOAD`): sealed bytes authenticate themselves, and TLS protects the rest.
/// - No request is repeated here, except once where it was refused because this machine's clock is off: the SDK learns the store's time
///   from every answer. Errors carry [`Error::retry`]; who has to retry, as the engine does, decides by that.
/// - A request ends after a time that grows with its length: [`S3Builder::request_timeout`], [`S3Builder::min_upload_rate`].
/// - With [a checksum](S3Builder::checksum), that of every part and object is compared, and that of an object made of parts too: it is
///   sent with Complete, so that S3 publishes nothing else, and compared with the one answered. After a resume, the listing tells those
///   of the parts that were there; if it does not, the whole is not compared.
/// - A refusal in the body of a success, which S3 may give to Complete and to copies, is an error, and so is an answer without ETag.
///
/// # What stores do differently
/// - [`IfNotExists`](PutCondition::IfNotExists) is `If-None-Match: *`. Some compatible stores ignore it; so before it completes or
///   copies, this store also looks itself. Then only a race of two writers can end with the second one's object.
/// - Deleting looks first, because S3 says yes to whoever deletes nothing: an object that goes meanwhile may be deleted "twice".
/// - In a bucket with versions, deleting leaves older versions.
/// - S3 does not give tags back with an object: [`Properties::tags`] is empty in what is read.
/// - Metadata has at most 2,048 bytes of ASCII, names in lower case, and no empty values.
/// - SeaweedFS lists directory by directory. So beyond one page of 1,000 objects or more, a listing of it is not ascending by key.
///   A listing that begins at a key leaves objects out there, so that is only asked of AWS, and where [`S3Builder::sorted_listings`] says so.
///
/// The methods need a tokio runtime.
///
/// ```no_run
/// use sealift::store::{MultipartStore, S3Store};
///
/// # async fn example() -> sealift::Result<()> {
/// let aws = S3Store::builder("my-bucket").region("eu-central-1").build().await?;
/// assert_eq!(aws.url(), "s3://my-bucket?region=eu-central-1");
///
/// let own = S3Store::builder("my-bucket").endpoint("https://s3.example.com").profile("own").build().await?;
/// let info = own.head(&"backup/disk.img".parse()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct S3Store {
    client: aws_sdk_s3::Client,
    bucket: String,
    url: String,
    /// Endpoint or region, for people.
    place: Arc<str>,
    checksum: Option<S3Checksum>,
    checksums: Arc<Checksums>,
    sorted_listings: bool,
    patience: Patience,
    /// Up to this length, an object is copied in one request.
    copy_in_one: u64,
    credentials: Option<SharedCredentialsProvider>,
    watch: watch::Watch,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("url", &self.url).finish_non_exhaustive()
    }
}

impl S3Store {
    /// Begins the description of a store: [`S3Builder::build`] ends it.
    pub fn builder(bucket: impl Into<String>) -> S3Builder {
        S3Builder::new(bucket)
    }

    /// Sends a request that can be sent again, once more if the first was refused because of this machine's clock.
    async fn send<T, E, F>(&self, request: &Request, allowed: Duration, make: impl Fn() -> F) -> Result<T>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let mut is_second = false;
        loop {
            // On the heap: the SDK's futures have several kilobytes.
            match tokio::time::timeout(allowed, Box::pin(make())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if !is_second && errors::is_clock_skew(&error) => is_second = true,
                Ok(Err(error)) => return Err(request.failed(error)),
                Err(_) => return Err(request.timed_out(allowed)),
            }
        }
    }

    fn request(&self, doing: String) -> Request {
        Request::new(doing).to(&self.place)
    }

    /// What a user would write for an object.
    fn name(&self, key: &ObjectKey) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}

impl MultipartStore for S3Store {
    fn limits(&self) -> Limits {
        Limits {
            min_part: MIN_PART,
            max_part: MAX_PART,
            max_parts: PartNumber::MAX,
            max_metadata: properties::MAX_METADATA,
            equal_parts: false,
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    fn bucket(&self) -> &str {
        &self.bucket
    }

    /// S3 does not count `x-amz-meta-`.
    fn metadata_prefix_len(&self) -> usize {
        0
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn initiate<'a>(&'a self, key: &'a ObjectKey, properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>> {
        Box::pin(uploads::initiate(self, key, properties))
    }

    /// S3 has the condition only at the end, so this looks itself.
    fn initiate_if<'a>(
        &'a self,
        key: &'a ObjectKey,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<UploadId>> {
        Box::pin(async move {
            if condition == PutCondition::IfNotExists {
                objects::check_absent(self, key).await?;
            }
            uploads::initiate(self, key, properties).await
        })
    }

    fn put_part<'a>(&'a self, upload: &'a Upload, part: PutPart) -> BoxFuture<'a, Result<ETag>> {
        let number = part.number;
        Box::pin(async move { uploads::put_part(self, upload, part).await.map_err(|error| error.with_part(number)) })
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [CompletedPart],
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(uploads::complete(self, upload, parts, condition))
    }

    /// Gives up an upload and frees its parts; repeated until the store lists none, because one that was arriving is kept.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html>
    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<()>> {
        Box::pin(uploads::abort(self, upload))
    }

    fn list_parts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        Box::pin(uploads::list_parts(self, upload))
    }

    /// SeaweedFS keeps each, and does not tell which of a second came last.
    fn list_attempts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        Box::pin(uploads::list_all(self, upload))
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>> {
        Box::pin(async move {
            let listed = uploads::list_uploads(self, prefix).await?;
            Ok(listed.into_iter().map(|listed| listed.upload).collect())
        })
    }

    fn list_uploads_with_times<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedUpload>>> {
        Box::pin(uploads::list_uploads(self, prefix))
    }

    fn put_object<'a>(
        &'a self,
        key: &'a ObjectKey,
        payload: Payload,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(objects::put(self, key, payload, properties, condition))
    }

    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Option<ByteRange>,
        if_match: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>> {
        Box::pin(objects::get(self, key, range, if_match))
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(objects::head(self, key))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>> {
        Box::pin(objects::delete(self, key))
    }

    /// Copies an object, body and metadata together, within the store. Storage class and server-side encryption are the source's too.
    /// Above 5 GiB it is a multipart copy.
    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        to: &'a ObjectKey,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(copy::copy(self, from, to, condition))
    }

    /// Replaces the user metadata of the object whose ETag is `if_match`, by a copy of it onto itself: content headers, storage class,
    /// server-side encryption and tags stay. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
    ///
    /// S3's ETags are made of the body alone. So of two that replace metadata at once the later wins, and both succeed; a body that was
    /// replaced is noticed. Above 5 GiB it is a multipart copy; if that is dropped, an upload may be left.
    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        metadata: &'a BTreeMap<String, String>,
        if_match: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(copy::replace_metadata(self, key, metadata, if_match))
    }

    fn list_after<'a>(&'a self, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        objects::list(self, prefix, after)
    }
}

/// A key that the store named.
fn listed_key(request: &Request, key: Option<&str>) -> Result<ObjectKey> {
    let key = key.ok_or_else(|| request.lacks("key"))?;
    key.parse().map_err(|error: Error| error.while_doing(format_args!("the store lists {key:?}")))
}

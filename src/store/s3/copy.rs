//! Copies within the store: in one request, or above its limit part by part.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{MetadataDirective, ServerSideEncryption};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::encoding::{etag, quoted};
use super::errors::Request;
use super::objects::check_absent;
use super::properties::{of_head, user_metadata};
use super::uploads::{abort, complete_over, sdk_number};
use super::{MAX_PART, MIN_PART, S3Store};
use crate::error::{Error, ErrorKind, Result};
use crate::store::percent::percent_encode;
use crate::store::{CompletedPart, ObjectInfo, PutCondition, Upload};
use crate::types::{ETag, ObjectKey, PartNumber, UploadId};

/// How long the pieces of a long copy are: the store moves each in one request, and several at once.
const PIECE: u64 = 512 << 20;
/// How many pieces are copied at once.
const AT_ONCE: usize = 8;

pub(super) async fn copy(store: &S3Store, from: &ObjectKey, to: &ObjectKey, condition: PutCondition) -> Result<ETag> {
    let source = Source::find(store, from).await?;
    if condition == PutCondition::IfNotExists {
        check_absent(store, to).await?;
    }
    Copy { store, source, to, condition, metadata: None }.run().await
}

pub(super) async fn replace_metadata(
    store: &S3Store,
    key: &ObjectKey,
    metadata: &BTreeMap<String, String>,
    if_match: &ETag,
) -> Result<ETag> {
    let metadata = user_metadata(metadata)?;
    let source = Source::find(store, key).await?;
    if source.info.etag != *if_match {
        return Err(Error::new(ErrorKind::Changed, format!("{} is not what it was", store.name(key))));
    }
    Copy { store, source, to: key, condition: PutCondition::None, metadata: Some(metadata) }.run().await
}

/// What is copied, and all that a copy must be told because S3 would not keep it.
struct Source {
    key: ObjectKey,
    info: ObjectInfo,
    head: HeadObjectOutput,
}

impl Source {
    async fn find(store: &S3Store, key: &ObjectKey) -> Result<Self> {
        let request = store.request(format!("look at {}", store.name(key)));
        let head = || store.client.head_object().bucket(&store.bucket).key(key.as_str()).send();
        let head = store.send(&request, store.patience.request, head).await?;
        if head.sse_customer_algorithm().is_some() {
            return Err(request.contradicted("it is encrypted with a key that only its owner has (SSE-C)"));
        }
        Ok(Self { key: key.clone(), info: of_head(&request, &head)?, head })
    }

    /// The KMS key, where that is how the store encrypts it.
    fn kms_key(&self) -> Option<String> {
        let uses_kms = |sse: &&ServerSideEncryption| sse.as_str().starts_with("aws:kms");
        self.head.server_side_encryption().filter(uses_kms)?;
        self.head.ssekms_key_id().map(str::to_owned)
    }

    fn expires(&self) -> Option<DateTime> {
        DateTime::from_str(self.head.expires_string()?, DateTimeFormat::HttpDate).ok()
    }
}

struct Copy<'a> {
    store: &'a S3Store,
    source: Source,
    to: &'a ObjectKey,
    condition: PutCondition,
    /// User metadata in place of the source's.
    metadata: Option<HashMap<String, String>>,
}

impl Copy<'_> {
    async fn run(&self) -> Result<ETag> {
        if self.source.info.len <= self.store.copy_in_one { self.in_one().await } else { self.in_parts().await }
    }

    fn is_new(&self) -> bool {
        self.condition == PutCondition::IfNotExists
    }

    /// The one object that a copy onto itself may replace: what somebody else wrote since then is not its to replace.
    fn replaces(&self) -> Option<&ETag> {
        self.metadata.as_ref().map(|_| &self.source.info.etag)
    }

    fn request(&self) -> Request {
        let (from, to) = (self.store.name(&self.source.key), self.store.name(self.to));
        let doing = match self.metadata {
            Some(_) => format!("change the metadata of {to}"),
            None => format!("copy {from} to {to}"),
        };
        self.store.request(doing).if_absent(self.is_new())
    }

    fn copy_source(&self) -> String {
        format!("{}/{}", percent_encode(&self.store.bucket, b"/"), percent_encode(self.source.key.as_str(), b"/"))
    }

    async fn in_one(&self) -> Result<ETag> {
        let (request, head) = (self.request(), &self.source.head);
        // S3 refuses a copy of an object onto itself that changes nothing, so such a one says what it has once more.
        let replaces = self.metadata.is_some() || self.source.key == *self.to;
        let copy = || {
            let mut copy = self
                .store
                .client
                .copy_object()
                .bucket(&self.store.bucket)
                .key(self.to.as_str())
                .copy_source(self.copy_source())
                .copy_source_if_match(quoted(&self.source.info.etag))
                .set_if_match(self.replaces().map(quoted))
                .set_if_none_match(self.is_new().then(|| "*".to_owned()))
                // What is not said is the bucket's default, not the source's.
                .set_storage_class(head.storage_class().cloned())
                .set_server_side_encryption(head.server_side_encryption().cloned())
                .set_ssekms_key_id(self.source.kms_key())
                .set_bucket_key_enabled(head.bucket_key_enabled())
                .set_website_redirect_location(head.website_redirect_location().map(str::to_owned));
            if replaces {
                copy = copy
                    .metadata_directive(MetadataDirective::Replace)
                    .set_metadata(self.metadata.clone().or_else(|| head.metadata().cloned()))
                    .set_content_type(head.content_type().map(str::to_owned))
                    .set_cache_control(head.cache_control().map(str::to_owned))
                    .set_content_disposition(head.content_disposition().map(str::to_owned))
                    .set_content_encoding(head.content_encoding().map(str::to_owned))
                    .set_content_language(head.content_language().map(str::to_owned))
                    .set_expires(self.source.expires());
            }
            copy.send()
        };
        let copied = self.store.send(&request, self.store.patience.publish, copy).await?;
        let tag = copied.copy_object_result().and_then(|result| result.e_tag());
        Ok(etag(tag.ok_or_else(|| request.lacks("ETag"))?))
    }

    async fn in_parts(&self) -> Result<ETag> {
        let upload = Upload { key: self.to.clone(), id: self.initiate().await? };
        let copied = async {
            let pieces = pieces(self.source.info.len, self.store.copy_in_one)?;
            let parts: Vec<_> = stream::iter(pieces)
                .map(|(number, range)| self.piece(&upload, number, range))
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            complete_over(self.store, &upload, &parts, self.condition, self.replaces()).await
        };
        match copied.await {
            Ok(etag) => Ok(etag),
            Err(error) => {
                // If that fails too, the upload is listed, and the first error is the one to tell.
                _ = abort(self.store, &upload).await;
                Err(error)
            }
        }
    }

    async fn initiate(&self) -> Result<UploadId> {
        let (request, head) = (self.request(), &self.source.head);
        let tagging = self.tagging().await?;
        let create = || {
            self.store
                .client
                .create_multipart_upload()
                .bucket(&self.store.bucket)
                .key(self.to.as_str())
                .set_metadata(self.metadata.clone().or_else(|| head.metadata().cloned()))
                .set_content_type(head.content_type().map(str::to_owned))
                .set_cache_control(head.cache_control().map(str::to_owned))
                .set_content_disposition(head.content_disposition().map(str::to_owned))
                .set_content_encoding(head.content_encoding().map(str::to_owned))
                .set_content_language(head.content_language().map(str::to_owned))
                .set_expires(self.source.expires())
                .set_website_redirect_location(head.website_redirect_location().map(str::to_owned))
                .set_storage_class(head.storage_class().cloned())
                .set_server_side_encryption(head.server_side_encryption().cloned())
                .set_ssekms_key_id(self.source.kms_key())
                .set_bucket_key_enabled(head.bucket_key_enabled())
                .set_tagging(tagging.clone())
                .send()
        };
        let created = self.store.send(&request, self.store.patience.request, create).await?;
        let id = created.upload_id().filter(|id| !id.is_empty()).ok_or_else(|| request.lacks("upload id"))?;
        Ok(UploadId(id.to_owned()))
    }

    /// The source's tags, which a multipart copy does not take along.
    async fn tagging(&self) -> Result<Option<String>> {
        if self.source.head.tag_count().unwrap_or_default() == 0 {
            return Ok(None);
        }
        let request = self.store.request(format!("read the tags of {}", self.store.name(&self.source.key)));
        let key = self.source.key.as_str();
        let get = || self.store.client.get_object_tagging().bucket(&self.store.bucket).key(key).send();
        let tags = self.store.send(&request, self.store.patience.request, get).await?;
        let tags = tags.tag_set().iter();
        let tags: Vec<_> = tags
            .map(|tag| format!("{}={}", percent_encode(tag.key(), b""), percent_encode(tag.value(), b"")))
            .collect();
        Ok((!tags.is_empty()).then(|| tags.join("&")))
    }

    async fn piece(&self, upload: &Upload, number: PartNumber, range: Range<u64>) -> Result<CompletedPart> {
        let request = self.request();
        let copy = || {
            self.store
                .client
                .upload_part_copy()
                .bucket(&self.store.bucket)
                .key(self.to.as_str())
                .upload_id(&upload.id.0)
                .part_number(sdk_number(number))
                .copy_source(self.copy_source())
                .copy_source_if_match(quoted(&self.source.info.etag))
                .copy_source_range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
                .send()
        };
        // The condition on the object to be is Complete's; here a failed one is the source's.
        let request = Request { precondition: ErrorKind::Changed, ..request };
        let copied = self.store.send(&request, self.store.patience.publish, copy).await?;
        let tag = copied.copy_part_result().and_then(|result| result.e_tag());
        Ok(CompletedPart { number, etag: etag(tag.ok_or_else(|| request.lacks("ETag"))?) })
    }
}

/// The pieces of a copy of `len` bytes, each no longer than `longest` where that leads to no more than there may be.
fn pieces(len: u64, longest: u64) -> Result<Vec<(PartNumber, Range<u64>)>> {
    let too_long = || Error::new(ErrorKind::LimitExceeded, format!("{len} bytes are more than S3 copies"));
    let piece = PIECE.min(longest).max(MIN_PART).max(len.div_ceil(u64::from(PartNumber::MAX.get())));
    if piece > MAX_PART {
        return Err(too_long());
    }
    let mut pieces = Vec::new();
    let (mut start, mut number) = (0, Some(PartNumber::MIN));
    while start < len {
        let this = number.ok_or_else(too_long)?;
        let end = start.saturating_add(piece).min(len);
        pieces.push((this, start..end));
        (start, number) = (end, this.next());
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_of_it_within_the_limits() {
        for len in [MAX_PART + 1, PIECE * 20, PIECE * 20 + 1, 48 << 40] {
            let pieces = pieces(len, MAX_PART).unwrap();
            assert!(pieces.len() <= 10_000);
            assert!(pieces.iter().all(|(_, range)| range.end - range.start <= MAX_PART));
            assert!(pieces.windows(2).all(|two| two[0].1.end == two[1].1.start && two[0].0.next() == Some(two[1].0)));
            assert_eq!((pieces[0].1.start, pieces.last().unwrap().1.end), (0, len));
        }
        assert_eq!(pieces(u64::MAX, MAX_PART).unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
}

//! Copies: of an object elsewhere, and onto itself to change what it has besides its bytes.
//!
//! What OSS does by itself, and what not: a copy has the encryption that the request or the bucket's default says, never the source's; a
//! copy onto itself has the metadata that the request says; and one that changes the encryption or storage class is limited to 1 GiB.
//! Source: [CopyObject](https://www.alibabacloud.com/help/en/oss/developer-reference/copyobject),
//! [UploadPartCopy](https://www.alibabacloud.com/help/en/oss/developer-reference/uploadpartcopy).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};

use super::calls::forbid_overwrite;
use super::client::{Answer, Call};
use super::errors::checksum_differs;
use super::properties::{META, ascii, metadata_headers, tagging};
use super::sse::Sse;
use super::{OssStore, xml};
use crate::error::{Error, ErrorKind, Result};
use crate::store::percent::percent_encode;
use crate::store::{CompletedPart, ObjectInfo, PutCondition, ServerSideEncryption, Upload};
use crate::types::{ETag, ObjectKey, PartNumber};

/// The largest object that one request copies while its encryption changes.
pub(super) const COPY_LIMIT: u64 = 1 << 30;
/// The usual length of a part that is copied.
const COPY_PART: u64 = 256 << 20;
/// How many parts are copied at once. OSS does the work.
const COPIES_IN_FLIGHT: usize = 4;

/// What belongs to an object's content, besides its bytes.
const CONTENT_HEADERS: [&str; 6] =
    ["content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires"];

/// How a copy differs from its source.
struct Changes<'a> {
    metadata: Option<&'a BTreeMap<String, String>>,
    encryption: Option<ServerSideEncryption>,
    condition: PutCondition,
}

impl OssStore {
    /// CopyObject: [`copy`](crate::store::MultipartStore::copy). The copy has this store's server-side encryption if it has any, else the
    /// source's; metadata, content headers, tags and storage class are kept.
    ///
    /// # Errors
    /// As there.
    pub async fn copy_object(&self, from: &ObjectKey, to: &ObjectKey, condition: PutCondition) -> Result<Answer<ETag>> {
        let source = self.head_object(from).await.map_err(|error| error.while_doing("cannot copy"))?;
        let encryption = self.encryption_of_copy(self.sse.as_ref(), &source)?;
        self.rewrite(from, &source, to, Changes { metadata: None, encryption, condition }).await
    }

    /// Changes the server-side encryption of an object, by a copy onto itself that keeps its bytes, metadata, content headers, tags, ACL and
    /// storage class. An object that has it already is left alone.
    ///
    /// Up to 1 GiB that is one request, and readers see the object before or after it. Above, OSS wants it copied in parts, as a
    /// multipart upload of the same key; the object has another ETag then.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no object, [`ErrorKind::Changed`] if it is replaced meanwhile, [`ErrorKind::KeyUnavailable`] if the CMK or
    /// KMS cannot be used, [`ErrorKind::PermissionDenied`] if reading, writing, or reading the ACL is not allowed, [`ErrorKind::Io`] if OSS does not
    /// confirm the encryption or the copy has another checksum.
    pub async fn set_sse(&self, key: &ObjectKey, sse: &Sse) -> Result<Answer<ETag>> {
        sse.check()?;
        let source = self.head_object(key).await?;
        if sse.key_id.is_some() == source.encryption().is_some_and(|e| e.key_id.is_some())
            && sse.is_had_by(source.encryption().as_ref())
        {
            return Ok(source.map(|info| info.etag));
        }
        let mut asked = HeaderMap::new();
        sse.add_to(&mut asked)?;
        let changes =
            Changes { metadata: None, encryption: ServerSideEncryption::of(&asked), condition: PutCondition::None };
        let answer = self.rewrite(key, &source, key, changes).await?;
        sse.confirm(answer.encryption().as_ref())
            .map_err(|error| error.while_doing(format_args!("encrypting {key}")))?;
        Ok(answer)
    }

    pub(super) async fn replace_all_metadata(
        &self,
        key: &ObjectKey,
        metadata: &BTreeMap<String, String>,
        if_match: &ETag,
    ) -> Result<Answer<ETag>> {
        let source = self.head_object(key).await?;
        if source.value.etag != *if_match {
            return Err(Error::new(ErrorKind::Changed, format!("{key} is not what it was")));
        }
        let changes =
            Changes { metadata: Some(metadata), encryption: source.encryption(), condition: PutCondition::None };
        self.rewrite(key, &source, key, changes).await
    }

    fn encryption_of_copy(
        &self,
        sse: Option<&Sse>,
        source: &Answer<ObjectInfo>,
    ) -> Result<Option<ServerSideEncryption>> {
        let Some(sse) = sse else { return Ok(source.encryption()) };
        let mut asked = HeaderMap::new();
        sse.add_to(&mut asked)?;
        Ok(ServerSideEncryption::of(&asked))
    }

    async fn rewrite(
        &self,
        from: &ObjectKey,
        source: &Answer<ObjectInfo>,
        to: &ObjectKey,
        changes: Changes<'_>,
    ) -> Result<Answer<ETag>> {
        let in_parts = changes.encryption != source.encryption() && source.value.len > self.copy_limit;
        let mut headers = HeaderMap::new();
        if from == to || in_parts || changes.metadata.is_some() {
            // OSS keeps none of these by itself.
            headers = match changes.metadata {
                Some(metadata) => metadata_headers(metadata)?,
                None => kept_metadata(&source.headers),
            };
            for name in CONTENT_HEADERS {
                if let Some(value) = source.headers.get(name) {
                    headers.insert(name, value.clone());
                }
            }
        }
        if let Some(encryption) = &changes.encryption {
            encryption.add_to(&mut headers)?;
        }
        if let Some(class) = source.headers.get("x-oss-storage-class") {
            headers.insert("x-oss-storage-class", class.clone());
        }
        let acl = if from == to { self.own_acl(from).await? } else { None };
        let answer = if in_parts {
            self.copy_in_parts(from, source, to, headers, acl, changes.condition).await?
        } else {
            if let Some(acl) = acl {
                headers.insert("x-oss-object-acl", acl);
            }
            let replaced = from == to || changes.metadata.is_some();
            let directive = HeaderValue::from_static(if replaced { "REPLACE" } else { "COPY" });
            headers.insert("x-oss-metadata-directive", directive);
            headers.insert("x-oss-tagging-directive", HeaderValue::from_static("COPY"));
            forbid_overwrite(&mut headers, changes.condition);
            self.copy_source(&mut headers, from, &source.value.etag)?;
            let mut call = Call::object(Method::PUT, to, "copying to");
            call.headers = headers;
            call.moves = source.value.len;
            self.client.xml(&call, &Bytes::new(), xml::parse_copied).await?
        };
        match (source.crc64(), answer.crc64()) {
            (Some(before), Some(after)) if before != after && self.client.checksums => {
                Err(checksum_differs(&format!("{to} is published, but it is no copy of {from}"), before, after))
            }
            _ => Ok(answer),
        }
    }

    /// The same as a multipart upload whose parts OSS copies.
    async fn copy_in_parts(
        &self,
        from: &ObjectKey,
        source: &Answer<ObjectInfo>,
        to: &ObjectKey,
        mut headers: HeaderMap,
        acl: Option<HeaderValue>,
        condition: PutCondition,
    ) -> Result<Answer<ETag>> {
        if let Some(tags) = self.tags(from, source).await? {
            headers.insert("x-oss-tagging", tags);
        }
        let encryption = ServerSideEncryption::of(&headers);
        let begun = self.initiate_with(to, headers).await?;
        let confirmed = begun.encryption();
        let upload = Upload { key: to.clone(), id: begun.value };
        let copied = async {
            if encryption.is_some()
                && encryption.as_ref().map(|e| &e.algorithm) != confirmed.as_ref().map(|e| &e.algorithm)
            {
                let message = format!("copying to {to}: OSS does not confirm the server-side encryption");
                return Err(Error::new(ErrorKind::Io, message));
            }
            let parts = self.copy_parts(from, &source.value, &upload).await?;
            let mut headers = HeaderMap::new();
            forbid_overwrite(&mut headers, condition);
            if let Some(acl) = acl {
                headers.insert("x-oss-object-acl", acl);
            }
            self.complete_with(&upload, &parts, headers).await
        };
        match copied.await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if let Err(left) = self.abort_multipart_upload(&upload).await {
                    tracing::warn!(key = %to, upload = %upload.id, error = %left, "an upload that only copied was not given up");
                }
                Err(error)
            }
        }
    }

    async fn copy_parts(&self, from: &ObjectKey, info: &ObjectInfo, upload: &Upload) -> Result<Vec<CompletedPart>> {
        let most = u64::from(PartNumber::MAX.get());
        let part_len = COPY_PART.min(self.copy_limit).max(info.len.div_ceil(most)).max(super::LIMITS.min_part);
        let count = u32::try_from(info.len.div_ceil(part_len)).unwrap_or(u32::MAX);
        stream::iter(1..=count)
            .map(|n| async move {
                let number = PartNumber::try_from(n)?;
                let start = u64::from(n - 1) * part_len;
                let end = start.saturating_add(part_len).min(info.len);
                let (text, range) = (number.to_string(), format!("bytes={start}-{}", end - 1));
                let mut call = Call::object(Method::PUT, &upload.key, "copying a part to");
                call.query = vec![("partNumber", &text), ("uploadId", &upload.id.0)];
                call.moves = end - start;
                self.copy_source(&mut call.headers, from, &info.etag)?;
                call.headers.insert("x-oss-copy-source-range", ascii(&range)?);
                let answer = self.client.xml(&call, &Bytes::new(), xml::parse_part_copied).await;
                let etag = answer.map_err(|error| error.with_part(number))?.value;
                Ok(CompletedPart { number, etag })
            })
            .buffered(COPIES_IN_FLIGHT)
            .try_collect()
            .await
    }

    /// Names the source, and the state of it that is meant.
    fn copy_source(&self, headers: &mut HeaderMap, from: &ObjectKey, etag: &ETag) -> Result<()> {
        let source = format!("/{}/{}", self.client.bucket, percent_encode(from.as_str(), b"/"));
        headers.insert("x-oss-copy-source", ascii(&source)?);
        headers.insert("x-oss-copy-source-if-match", ascii(&format!("\"{etag}\""))?);
        Ok(())
    }

    /// The object's ACL if it has one of its own.
    async fn own_acl(&self, key: &ObjectKey) -> Result<Option<HeaderValue>> {
        let acl = self.get_object_acl(key).await.map_err(|error| match error.kind() {
            // To lose a `private` would show the object to whom the bucket's ACL allows.
            ErrorKind::PermissionDenied => error.while_doing("its ACL has to be kept (oss:GetObjectAcl)"),
            _ => error,
        })?;
        if acl.grant == "default" { Ok(None) } else { ascii(&acl.grant).map(Some) }
    }

    pub(super) async fn get_object_acl(&self, key: &ObjectKey) -> Result<xml::Acl> {
        let mut call = Call::object(Method::GET, key, "reading the ACL of");
        call.query = vec![("acl", "")];
        Ok(self.client.xml(&call, &Bytes::new(), xml::parse_acl).await?.value)
    }

    /// The object's tags as a header, if it has any.
    async fn tags(&self, key: &ObjectKey, source: &Answer<ObjectInfo>) -> Result<Option<HeaderValue>> {
        if source.header("x-oss-tagging-count").is_none_or(|count| count == "0") {
            return Ok(None);
        }
        let mut call = Call::object(Method::GET, key, "reading the tags of");
        call.query = vec![("tagging", "")];
        let tags = self.client.xml(&call, &Bytes::new(), xml::parse_tags).await?.value;
        tagging(tags.iter().map(|(name, value)| (name.as_str(), value.as_str()))).map(Some)
    }
}

/// The user metadata of an answer, as it is.
fn kept_metadata(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| name.as_str().starts_with(META));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

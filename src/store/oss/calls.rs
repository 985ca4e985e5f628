//! OSS's calls, one method each: what the trait's methods do, with all that the answers tell.

use std::time::Duration;

use bytes::Bytes;
use futures::future::ready;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH, RANGE};

use super::client::{Answer, Call, service_error};
use super::errors::{ErrorCode, checksum_differs};
use super::incoming::{content_range, incoming};
use super::properties::{ascii, info, object_headers};
use super::{OssStore, xml};
use crate::crypto::Crc64;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::store::{
    CompletedPart, GetObject, ListedObject, ListedUpload, ObjectInfo, Payload, Properties, PutCondition, PutPart,
    StoredPart, Upload,
};
use crate::types::{ByteRange, ETag, ObjectKey, UploadId};

/// Beyond any object, and far enough from the largest integer that no server overflows.
const FAR: u64 = 1 << 62;
/// How often an abort is repeated while parts go on arriving, before it is left to whoever retries.
const ABORTS: u32 = 4;

/// [`MultipartStore`](crate::store::MultipartStore)'s methods under OSS's names for them, with the answers' headers.
impl OssStore {
    /// InitiateMultipartUpload: [`initiate_if`](crate::store::MultipartStore::initiate_if).
    ///
    /// # Errors
    /// As there, and [`ErrorKind::Io`] if server-side encryption was asked for and is not confirmed.
    pub async fn initiate_multipart_upload(
        &self,
        key: &ObjectKey,
        properties: &Properties,
        condition: PutCondition,
    ) -> Result<Answer<UploadId>> {
        let mut headers = object_headers(properties, self.sse.as_ref())?;
        forbid_overwrite(&mut headers, condition);
        let answer = self.initiate_with(key, headers).await?;
        if let Some(sse) = &self.sse
            && let Err(error) = sse.confirm(answer.encryption().as_ref())
        {
            let upload = Upload { key: key.clone(), id: answer.value };
            // Nothing was stored; if this fails, the upload is listed.
            let _ = self.abort_multipart_upload(&upload).await;
            return Err(error.while_doing(format_args!("beginning an upload of {key}")));
        }
        Ok(answer)
    }

    pub(super) async fn initiate_with(&self, key: &ObjectKey, headers: HeaderMap) -> Result<Answer<UploadId>> {
        let mut call = Call::object(Method::POST, key, "beginning an upload of");
        call.query = vec![("uploads", "")];
        call.headers = headers;
        self.client.xml(&call, &Bytes::new(), xml::parse_initiated).await
    }

    /// UploadPart: [`put_part`](crate::store::MultipartStore::put_part).
    ///
    /// # Errors
    /// As there. If OSS's checksum is not that of the bytes that were sent, [`ErrorKind::Io`], to be tried again.
    pub async fn upload_part(&self, upload: &Upload, part: PutPart) -> Result<Answer<ETag>> {
        let len = part.payload.len();
        if len > super::LIMITS.max_part {
            let message = format!("OSS takes parts of at most {} bytes, not {len}", super::LIMITS.max_part);
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_part(part.number));
        }
        let number = part.number.to_string();
        let mut call = Call::object(Method::PUT, &upload.key, "storing a part of");
        call.query = vec![("partNumber", &number), ("uploadId", &upload.id.0)];
        let answer = self.client.upload(&call, part.payload).await.map_err(|error| error.with_part(part.number))?;
        if let Some(crc64) = answer.value.crc64 {
            let stored = StoredPart { number: part.number, etag: answer.value.etag.clone(), len: answer.value.len };
            self.checksums.remember(&upload.id, &stored, crc64);
        }
        Ok(answer.map(|stored| stored.etag))
    }

    /// CompleteMultipartUpload: [`complete`](crate::store::MultipartStore::complete).
    ///
    /// # Errors
    /// As there. [`ErrorKind::Io`] if the checksum of the whole object is not that of its parts: then it is published all the same, and is
    /// not what was sent.
    pub async fn complete_multipart_upload(
        &self,
        upload: &Upload,
        parts: &[CompletedPart],
        condition: PutCondition,
    ) -> Result<Answer<ETag>> {
        CompletedPart::check_list(parts)?;
        let mut headers = HeaderMap::new();
        forbid_overwrite(&mut headers, condition);
        let answer = self.complete_with(upload, parts, headers).await?;
        if let Some(sse) = &self.sse {
            sse.confirm(answer.encryption().as_ref())
                .map_err(|error| error.while_doing(format_args!("{} is published, but", upload.key)))?;
        }
        Ok(answer)
    }

    pub(super) async fn complete_with(
        &self,
        upload: &Upload,
        parts: &[CompletedPart],
        headers: HeaderMap,
    ) -> Result<Answer<ETag>> {
        let expected = self.checksums.of_all(&upload.id, parts, Crc64::combine);
        let mut call = Call::object(Method::POST, &upload.key, "completing the upload of");
        call.query = vec![("uploadId", &upload.id.0)];
        call.headers = headers;
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        let answer = self.client.xml(&call, &Bytes::from(xml::completion(parts)), xml::parse_completed).await?;
        self.checksums.forget(&upload.id);
        match (expected, answer.crc64()) {
            (Some(sent), Some(stored)) if sent != stored => {
                let doing = format!("{} is published, but it is not what was sent: upload it again", upload.key);
                Err(checksum_differs(&doing, sent, stored))
            }
            _ => Ok(answer),
        }
    }

    /// AbortMultipartUpload: [`abort`](crate::store::MultipartStore::abort), repeated until OSS lists no part: one that was arriving
    /// meanwhile is kept, and paid for.
    /// <https://www.alibabacloud.com/help/en/oss/developer-reference/abortmultipartupload>
    ///
    /// # Errors
    /// As there. [`ErrorKind::Changed`], to be tried again, if parts go on arriving.
    pub async fn abort_multipart_upload(&self, upload: &Upload) -> Result<()> {
        let mut call = Call::object(Method::DELETE, &upload.key, "giving up the upload of");
        call.query = vec![("uploadId", &upload.id.0)];
        let mut pause = Duration::from_millis(100);
        for _ in 0..ABORTS {
            match self.client.empty(&call).await {
                // Also where it is gone already: a part that was arriving then may lie there.
                Err(error) if !is_no_such_upload(&error) => return Err(error),
                _ => {}
            }
            let left = self.all_parts(upload).await;
            self.checksums.forget(&upload.id);
            match left {
                Err(error) if is_no_such_upload(&error) => return Ok(()),
                Ok(parts) if parts.is_empty() => return Ok(()),
                // Those who may abort need not be allowed to list: then nobody can look.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        let message = format!("{}: parts are still arriving", call.doing);
        Err(Error::new(ErrorKind::Changed, message).with_retry(Retry::Yes))
    }

    /// ListParts, all pages: [`list_parts`](crate::store::MultipartStore::list_parts).
    pub(super) async fn all_parts(&self, upload: &Upload) -> Result<Vec<StoredPart>> {
        let mut parts = Vec::new();
        let mut marker = 0_u32;
        loop {
            let after = marker.to_string();
            let mut call = Call::object(Method::GET, &upload.key, "listing the parts of");
            call.query = vec![("max-parts", "1000"), ("uploadId", &upload.id.0)];
            if marker > 0 {
                call.query.push(("part-number-marker", &after));
            }
            let page = self.client.xml(&call, &Bytes::new(), xml::parse_parts).await?.value;
            for listed in page.items {
                if let (Some(crc64), true) = (listed.crc64, self.client.checksums) {
                    self.checksums.remember_listed(&upload.id, &listed.part, crc64);
                }
                parts.push(listed.part);
            }
            match page.next {
                None => break,
                Some(next) if next > marker => marker = next,
                Some(_) => return Err(endless(&call.doing)),
            }
        }
        if !parts.is_sorted_by(|a, b| a.number < b.number) {
            return Err(Error::new(ErrorKind::Malformed, "OSS lists parts in no order"));
        }
        Ok(parts)
    }

    /// ListMultipartUploads, all pages: [`list_uploads`](crate::store::MultipartStore::list_uploads).
    pub(super) async fn all_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>> {
        let mut uploads = Vec::new();
        let mut marker: Option<xml::UploadMarker> = None;
        loop {
            let mut call = Call::bucket(Method::GET, "listing uploads in progress");
            call.query = vec![("uploads", ""), ("encoding-type", "url"), ("max-uploads", "1000"), ("prefix", prefix)];
            if let Some((key, id)) = &marker {
                call.query.extend([("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
            }
            let page = self.client.xml(&call, &Bytes::new(), xml::parse_uploads).await?.value;
            uploads.extend(page.items.into_iter().filter(|listed| listed.upload.key.as_str().starts_with(prefix)));
            match page.next {
                None => return Ok(uploads),
                Some(next) if marker.as_ref() < Some(&next) => marker = Some(next),
                Some(_) => return Err(endless(&call.doing)),
            }
        }
    }

    /// PutObject: [`put_object`](crate::store::MultipartStore::put_object).
    ///
    /// # Errors
    /// As there. If OSS's checksum is not that of the bytes that were sent, [`ErrorKind::Io`]; the object is published then, and sending it
    /// again replaces it. The same without advice to try again if server-side encryption was asked for and is not confirmed.
    pub async fn put_whole_object(
        &self,
        key: &ObjectKey,
        payload: Payload,
        properties: &Properties,
        condition: PutCondition,
    ) -> Result<Answer<ETag>> {
        let mut call = Call::object(Method::PUT, key, "storing");
        call.headers = object_headers(properties, self.sse.as_ref())?;
        forbid_overwrite(&mut call.headers, condition);
        if payload.len() > super::LIMITS.max_part {
            let message = format!("{}: a single request stores at most {} bytes", call.doing, super::LIMITS.max_part);
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let answer = self.client.upload(&call, payload).await?;
        if let Some(sse) = &self.sse {
            sse.confirm(answer.encryption().as_ref())
                .map_err(|error| error.while_doing(format_args!("{key} is published, but")))?;
        }
        Ok(answer.map(|stored| stored.etag))
    }

    /// GetObject: [`get`](crate::store::MultipartStore::get).
    ///
    /// # Errors
    /// As there. The body of a whole object ends with [`ErrorKind::Io`] if its checksum is not the one OSS has.
    pub async fn get_object(
        &self,
        key: &ObjectKey,
        range: Option<ByteRange>,
        if_match: Option<&ETag>,
    ) -> Result<Answer<GetObject>> {
        let mut call = Call::object(Method::GET, key, "reading");
        if let Some(range) = range {
            let range = match range {
                ByteRange::Suffix(0) => {
                    return Err(Error::new(ErrorKind::RangeNotSatisfiable, "the last 0 bytes are no range"));
                }
                ByteRange::Suffix(n) => ByteRange::Suffix(n.min(FAR)),
                ByteRange::Inclusive { first, last } if last > FAR => ByteRange::From(first.min(FAR)),
                other => other,
            };
            call.headers.insert(RANGE, ascii(&format!("bytes={range}"))?);
            // Without it, OSS answers a range that holds no byte with the whole object.
            call.headers.insert("x-oss-range-behavior", HeaderValue::from_static("standard"));
        }
        if let Some(etag) = if_match {
            call.headers.insert(IF_MATCH, ascii(&format!("\"{etag}\""))?);
        }
        let response = self.client.begin(&call, &Bytes::new()).await?;
        let headers = response.headers().clone();
        let answered = match response.status().as_u16() {
            206 => content_range(&headers),
            200 => number(&headers, &CONTENT_LENGTH).map(|len| (0..len, len)),
            _ => None,
        };
        let (bytes, len) = answered.ok_or_else(|| odd(&call.doing, "does not say which bytes it has"))?;
        let expected = range.map_or(Ok(0..len), |range| range.resolve(len))?;
        if bytes != expected {
            return Err(odd(&call.doing, "has other bytes than were asked for"));
        }
        let info = info(&headers, len).map_err(|error| error.while_doing(&call.doing))?;
        let answer = Answer { value: (), headers };
        let whole = self.client.checksums && bytes.end - bytes.start == len;
        let body = incoming(response, &bytes, answer.crc64().filter(|_| whole), self.client.timeout, call.doing);
        Ok(answer.map(|()| GetObject { info, range: bytes, body }))
    }

    /// HeadObject: [`head`](crate::store::MultipartStore::head).
    ///
    /// # Errors
    /// As there.
    pub async fn head_object(&self, key: &ObjectKey) -> Result<Answer<ObjectInfo>> {
        let call = Call::object(Method::HEAD, key, "looking at");
        let answer = self.client.empty(&call).await?;
        let len = number(&answer.headers, &CONTENT_LENGTH);
        let len = len.ok_or_else(|| odd(&call.doing, "has no length"))?;
        let info = info(&answer.headers, len).map_err(|error| error.while_doing(&call.doing))?;
        Ok(answer.map(|()| info))
    }

    /// DeleteObject: [`delete`](crate::store::MultipartStore::delete). OSS does not tell whether there was anything, so this looks first.
    pub(super) async fn delete_object(&self, key: &ObjectKey) -> Result<()> {
        self.head_object(key).await.map_err(|error| error.while_doing("cannot delete"))?;
        self.client.empty(&Call::object(Method::DELETE, key, "deleting")).await.map(drop)
    }

    /// ListObjectsV2, page by page: [`list_after`](crate::store::MultipartStore::list_after).
    pub(super) fn all_objects<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
    ) -> impl Stream<Item = Result<ListedObject>> + Send + use<'a> {
        let page = async move |token: Option<String>| {
            let mut call = Call::bucket(Method::GET, "listing objects");
            call.query = vec![("list-type", "2"), ("encoding-type", "url"), ("max-keys", "1000"), ("prefix", prefix)];
            match &token {
                Some(token) => call.query.push(("continuation-token", token)),
                None if !after.is_empty() => call.query.push(("start-after", after)),
                None => {}
            }
            let page = self.client.xml(&call, &Bytes::new(), xml::parse_objects).await?.value;
            if page.next.is_some() && page.next == token {
                return Err(endless(&call.doing));
            }
            Ok::<_, Error>((page.items, page.next))
        };
        stream::try_unfold(Some(None), move |at: Option<Option<String>>| {
            let page = at.map(&page);
            async move {
                let Some(page) = page else { return Ok(None) };
                let (items, next) = page.await?;
                Ok(Some((stream::iter(items.into_iter().map(Ok)), next.map(Some))))
            }
        })
        .try_flatten()
        .try_filter(move |object| ready(object.key.as_str().starts_with(prefix) && object.key.as_str() > after))
        .boxed()
    }
}

pub(super) fn forbid_overwrite(headers: &mut HeaderMap, condition: PutCondition) {
    if condition == PutCondition::IfNotExists {
        headers.insert("x-oss-forbid-overwrite", HeaderValue::from_static("true"));
    }
}

fn is_no_such_upload(error: &Error) -> bool {
    service_error(error).is_some_and(|error| error.code() == ErrorCode::NoSuchUpload)
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn odd(doing: &str, what: &str) -> Error {
    Error::new(ErrorKind::Io, format!("{doing}: OSS's answer {what}"))
}

fn endless(doing: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("{doing}: OSS's pages go round in circles"))
}

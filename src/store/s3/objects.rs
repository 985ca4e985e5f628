//! Whole objects: put, get, head, delete, list.

use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::body::{incoming, outgoing, sent};
use super::checksum::{Stored, Sum};
use super::encoding::{etag, quoted};
use super::errors::Request;
use super::properties::{Headers, modified, of_get, of_head};
use super::{MAX_PART, S3Checksum, S3Store, listed_key};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{GetObject, ListedObject, ObjectInfo, Payload, Properties, PutCondition};
use crate::types::{ByteRange, ETag, ObjectKey};

pub(super) async fn put(
    store: &S3Store,
    key: &ObjectKey,
    payload: Payload,
    properties: &Properties,
    condition: PutCondition,
) -> Result<ETag> {
    let headers = Headers::new(properties)?;
    let len = payload.len();
    if len > MAX_PART {
        let message = format!("{len} bytes; one request stores at most {MAX_PART}");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let is_new = condition == PutCondition::IfNotExists;
    let request = store.request(format!("store {}", store.name(key))).if_absent(is_new);
    let (sum, payload) = Sum::of(store.checksum, payload);
    let (body, failure) = outgoing(payload);
    let put = store
        .client
        .put_object()
        .bucket(&store.bucket)
        .key(key.as_str())
        .content_length(content_length(len)?)
        .content_type(headers.content_type)
        .set_metadata(Some(headers.metadata))
        .set_storage_class(headers.storage_class)
        .set_tagging(headers.tagging)
        .set_if_none_match(is_new.then(|| "*".to_owned()))
        .set_checksum_crc64_nvme(sum.header(S3Checksum::Crc64Nvme))
        .set_checksum_crc32_c(sum.header(S3Checksum::Crc32c))
        .set_checksum_algorithm(sum.by_sdk())
        .body(body);
    let allowed = store.patience.sending(len);
    let sending = async {
        match sum.by_sdk() {
            Some(_) => put.send().await,
            None => put.customize().disable_payload_signing().send().await,
        }
    };
    let answer = sent(&request, allowed, &failure, sending).await?;
    let stored = Stored { crc64_nvme: answer.checksum_crc64_nvme(), crc32c: answer.checksum_crc32_c() };
    sum.compare(&request, stored)?;
    Ok(etag(answer.e_tag().ok_or_else(|| request.lacks("ETag"))?))
}

pub(super) fn content_length(len: u64) -> Result<i64> {
    i64::try_from(len).map_err(|_| Error::new(ErrorKind::LimitExceeded, format!("{len} bytes are more than S3 takes")))
}

pub(super) async fn get(
    store: &S3Store,
    key: &ObjectKey,
    range: Option<ByteRange>,
    if_match: Option<&ETag>,
) -> Result<GetObject> {
    let request = store.request(format!("read {}", store.name(key)));
    if let Some(ByteRange::Suffix(0)) = range {
        // No object has such a range, but HTTP has no way to ask for it.
        head(store, key).await?;
        return Err(no_byte(&request, "the last 0 bytes"));
    }
    let get = || {
        let get = store.client.get_object().bucket(&store.bucket).key(key.as_str());
        get.set_range(range.map(header)).set_if_match(if_match.map(quoted)).send()
    };
    let got = store.send(&request, store.patience.request, get).await?;
    let encoding = got.content_encoding().unwrap_or_default();
    // What some stores keep of the way the bytes came, though they give them back as they were.
    let is_plain =
        |coding: &str| ["", "identity", "aws-chunked"].contains(&coding.trim().to_ascii_lowercase().as_str());
    if !encoding.split(',').all(is_plain) {
        let why = format!("it has the content encoding {encoding:?}, so its bytes may be others than were stored");
        return Err(request.contradicted(why));
    }
    let (bytes, len) = answered_range(&request, range, &got)?;
    let info = of_get(&request, &got, len)?;
    if if_match.is_some_and(|etag| *etag != info.etag) {
        return Err(Error::new(ErrorKind::Changed, format!("{} is not what it was", store.name(key))));
    }
    let body = incoming(got.body, &bytes, store.patience.request, request);
    Ok(GetObject { info, range: bytes, body })
}

/// `Range` for a request. Offsets past 2⁶³ mean the end, which stores that count in signed numbers would not understand.
fn header(range: ByteRange) -> String {
    let most = i64::MAX.unsigned_abs();
    let range = match range {
        ByteRange::Inclusive { first, last } => ByteRange::Inclusive { first: first.min(most), last: last.min(most) },
        ByteRange::From(first) => ByteRange::From(first.min(most)),
        ByteRange::Suffix(n) => ByteRange::Suffix(n.min(most)),
    };
    format!("bytes={range}")
}

/// Which bytes an answer brings, and of how many: those that were asked for, or an error.
fn answered_range(request: &Request, asked: Option<ByteRange>, got: &GetObjectOutput) -> Result<(Range<u64>, u64)> {
    let body_len =
        got.content_length().and_then(|len| u64::try_from(len).ok()).ok_or_else(|| request.lacks("length"))?;
    let (bytes, len) = match got.content_range() {
        Some(text) => {
            let unreadable = || request.contradicted(format_args!("the store answers with the range {text:?}"));
            content_range(text).ok_or_else(unreadable)?
        }
        None => (0..body_len, body_len),
    };
    if bytes.end - bytes.start != body_len {
        return Err(request.contradicted("the store's answer has two lengths"));
    }
    let expected = match asked {
        Some(range) => range.resolve(len).map_err(|_| no_byte(request, &range.to_string()))?,
        None => 0..len,
    };
    if bytes != expected {
        let why = format!(
            "asked for bytes {}-{} of {len}, the store sends {}-{}",
            expected.start, expected.end, bytes.start, bytes.end
        );
        return Err(request.contradicted(why));
    }
    Ok((bytes, len))
}

fn no_byte(request: &Request, range: &str) -> Error {
    let message = format!("cannot {}: the range {range} holds no byte of the object", request.doing);
    Error::new(ErrorKind::RangeNotSatisfiable, message)
}

/// `Content-Range: bytes FIRST-LAST/LENGTH` (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, len) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, len): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, len.parse().ok()?);
    (first <= last && last < len).then(|| (first..last + 1, len))
}

pub(super) async fn head(store: &S3Store, key: &ObjectKey) -> Result<ObjectInfo> {
    let request = store.request(format!("look at {}", store.name(key)));
    let head = || store.client.head_object().bucket(&store.bucket).key(key.as_str()).send();
    let head = store.send(&request, store.patience.request, head).await?;
    of_head(&request, &head)
}

/// Refuses what is there already, for stores that ignore the condition of a request.
pub(super) async fn check_absent(store: &S3Store, key: &ObjectKey) -> Result<()> {
    match head(store, key).await {
        Ok(_) => {
            let message = format!("there is an object {} already", store.name(key));
            Err(Error::new(ErrorKind::AlreadyExists, message))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) async fn delete(store: &S3Store, key: &ObjectKey) -> Result<()> {
    head(store, key).await?;
    let request = store.request(format!("delete {}", store.name(key)));
    let delete = || store.client.delete_object().bucket(&store.bucket).key(key.as_str()).send();
    store.send(&request, store.patience.request, delete).await.map(drop)
}

pub(super) fn list<'a>(store: &'a S3Store, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
    /// Where a listing goes on.
    enum Next {
        Start,
        Token(String),
        End,
    }
    let pages = stream::try_unfold(Next::Start, move |next| async move {
        let token = match next {
            Next::Start => None,
            Next::Token(token) => Some(token),
            Next::End => return Ok(None),
        };
        let request = store.request(format!("list s3://{}/{prefix}", store.bucket));
        let list = || {
            let list = store.client.list_objects_v2().bucket(&store.bucket).prefix(prefix);
            // A token says where to go on.
            let start = store.sorted_listings && !after.is_empty() && token.is_none();
            let start = start.then(|| after.to_owned());
            list.set_start_after(start).set_continuation_token(token.clone()).send()
        };
        let page = store.send(&request, store.patience.request, list).await?;
        let next = match (page.is_truncated(), page.next_continuation_token()) {
            (Some(true), None) => return Err(request.lacks("continuation token")),
            (Some(true), Some(next)) if token.as_deref() == Some(next) => {
                return Err(request.contradicted("the store's listing does not advance"));
            }
            (Some(true), Some(next)) => Next::Token(next.to_owned()),
            _ => Next::End,
        };
        let listed = page.contents().iter().map(|object| {
            let len = object.size().and_then(|len| u64::try_from(len).ok());
            Ok(ListedObject {
                key: listed_key(&request, object.key())?,
                len: len.ok_or_else(|| request.lacks("length"))?,
                modified: object.last_modified().and_then(modified),
            })
        });
        let mut listed = listed.collect::<Result<Vec<_>>>()?;
        // S3's begin there and are sorted, others' need not be.
        listed.retain(|object| object.key.as_str() > after);
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some((stream::iter(listed.into_iter().map(Ok)), next)))
    });
    pages.try_flatten().boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(len: i64, range: Option<&str>) -> GetObjectOutput {
        GetObjectOutput::builder().content_length(len).set_content_range(range.map(str::to_owned)).build()
    }

    #[test]
    fn an_answer_brings_the_bytes_that_were_asked_for() {
        let request = Request::new("read it");
        let range = |text: &str| Some(text.parse::<ByteRange>().unwrap());
        for (asked, len, answered, expected) in [
            (None, 10, None, Some((0..10, 10))),
            (range("2-3"), 2, Some("bytes 2-3/10"), Some((2..4, 10))),
            (range("2-99"), 8, Some("bytes 2-9/10"), Some((2..10, 10))),
            (range("-4"), 4, Some("bytes 6-9/10"), Some((6..10, 10))),
            // The whole object, where that is what was asked for.
            (range("0-"), 10, None, Some((0..10, 10))),
            // Another range, another length, the whole instead of a part, nonsense.
            (range("2-3"), 2, Some("bytes 3-4/10"), None),
            (range("2-3"), 3, Some("bytes 2-3/10"), None),
            (range("2-3"), 2, Some("bytes 2-3/*"), None),
            (range("2-3"), 2, Some("bytes 3-2/10"), None),
            (range("2-3"), 2, Some("bytes 2-3/3"), None),
            (range("2-3"), 10, None, None),
            (None, 2, Some("bytes 0-1/10"), None),
            (None, -1, None, None),
            (range("0-"), 0, None, None),
        ] {
            let found = answered_range(&request, asked, &answer(len, answered)).ok();
            assert_eq!(found, expected, "{asked:?} {len} {answered:?}");
        }
    }

    #[test]
    fn offsets_stay_within_what_stores_count_in() {
        assert_eq!(header(ByteRange::Suffix(u64::MAX)), "bytes=-9223372036854775807");
        assert_eq!(header(ByteRange::Inclusive { first: 3, last: u64::MAX }), "bytes=3-9223372036854775807");
        assert_eq!(header(ByteRange::From(7)), "bytes=7-");
    }
}

//! Requests to OSS: signed when they are sent, with a clock that OSS may correct.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Method, Response};
use time::OffsetDateTime;

use super::body::{Outgoing, Sent, bounded};
use super::credentials::Credentials;
use super::encoding::{key_path, parse_http_date};
use super::endpoint::Endpoint;
use super::errors::{ErrorCode, ServiceError, checksum_differs, timed_out, transport};
use super::sign::{SignatureVersion, Signed};
use super::xml::{self, Parsed};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::store::percent::percent_encode;
use crate::store::{Payload, ServerSideEncryption};
use crate::types::{ETag, ObjectKey};

/// The most bytes of an answer in XML: a page of 1,000 keys of 1,024 bytes, each byte encoded as three, has about 4 MiB.
const MAX_ANSWER: usize = 16 << 20;
/// The most bytes of an error.
const MAX_ERROR: usize = 64 << 10;
/// The slowest connection that is worth waiting for, in bytes a second.
const SLOWEST: u64 = 64 << 10;
/// How far the clock may be off before OSS refuses a request.
const SKEW_ALLOWED: i64 = 15 * 60;

/// What sends requests about one bucket.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) endpoint: Endpoint,
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) credentials: Credentials,
    pub(super) signature: SignatureVersion,
    pub(super) clock: Clock,
    /// How long an attempt may take, besides what its bytes take.
    pub(super) timeout: Duration,
    pub(super) checksums: bool,
}

/// One request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) key: Option<&'a ObjectKey>,
    /// Names and values, not encoded.
    pub(super) query: Vec<(&'a str, &'a str)>,
    pub(super) headers: HeaderMap,
    /// What is done, for messages.
    pub(super) doing: String,
    /// How many bytes OSS moves to answer it, besides those of its body.
    pub(super) moves: u64,
}

impl<'a> Call<'a> {
    /// About an object. `doing` goes before the key in messages.
    pub(super) fn object(method: Method, key: &'a ObjectKey, doing: &str) -> Self {
        Self {
            method,
            key: Some(key),
            query: Vec::new(),
            headers: HeaderMap::new(),
            doing: format!("{doing} {key}"),
            moves: 0,
        }
    }

    /// About the bucket.
    pub(super) fn bucket(method: Method, doing: &str) -> Self {
        let headers = HeaderMap::new();
        Self { method, key: None, query: Vec::new(), headers, doing: doing.to_owned(), moves: 0 }
    }
}

/// The result of a call, and what its answer's headers tell besides.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer<T> {
    /// What the call is for.
    pub value: T,
    pub(super) headers: HeaderMap,
}

impl<T> Answer<T> {
    /// The server-side encryption it tells of: of the upload, part or object that the call was about. `None` if there is none.
    #[must_use]
    pub fn encryption(&self) -> Option<ServerSideEncryption> {
        ServerSideEncryption::of(&self.headers)
    }

    /// The CRC-64 of the part or of the whole object, as OSS computed it.
    #[must_use]
    pub fn crc64(&self) -> Option<u64> {
        self.header("x-oss-hash-crc64ecma")?.parse().ok()
    }

    /// OSS's name for the request, which its support asks for.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.header("x-oss-request-id")
    }

    /// The object's version, in buckets that have versions.
    #[must_use]
    pub fn version_id(&self) -> Option<&str> {
        self.header("x-oss-version-id")
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn map<U>(self, value: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: value(self.value), headers: self.headers }
    }
}

impl Client {
    /// Sends a request without a body, or with one that is in memory, and gives its answer as soon as it begins.
    ///
    /// If OSS finds the request's date too far off, it is sent once more with OSS's.
    pub(super) async fn begin(&self, call: &Call<'_>, body: &Bytes) -> Result<Response> {
        let attempt = || async {
            let length = body.len() as u64;
            self.attempt(call, (!body.is_empty()).then(|| Body::from(body.clone())), length).await
        };
        match attempt().await {
            Err(error) if was_skewed(&error) && error.retry() != Retry::No => attempt().await,
            answer => answer,
        }
    }

    /// The same, and all of an answer that `parse` understands.
    pub(super) async fn xml<T>(
        &self,
        call: &Call<'_>,
        body: &Bytes,
        parse: impl FnOnce(&[u8]) -> Result<Parsed<T>>,
    ) -> Result<Answer<T>> {
        let response = self.begin(call, body).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.in_time(call, 0, bounded(response, MAX_ANSWER, &call.doing)).await?;
        match parse(&body).map_err(|error| error.while_doing(&call.doing))? {
            Parsed::Answer(value) => Ok(Answer { value, headers }),
            Parsed::Error(error) => {
                Err(ServiceError::in_success(status, error).while_doing(&call.doing, retry_after(&headers)))
            }
        }
    }

    /// The same for calls whose answers have nothing in their body.
    pub(super) async fn empty(&self, call: &Call<'_>) -> Result<Answer<()>> {
        let response = self.begin(call, &Bytes::new()).await?;
        let headers = response.headers().clone();
        // Read to its end, so that the connection can be used again.
        self.in_time(call, 0, bounded(response, MAX_ERROR, &call.doing)).await?;
        Ok(Answer { value: (), headers })
    }

    /// Sends a payload, and compares its checksum with that of the answer.
    pub(super) async fn upload(&self, call: &Call<'_>, payload: Payload) -> Result<Answer<Uploaded>> {
        let len = payload.len();
        let (mut outgoing, sent) = Outgoing::new(payload, self.checksums);
        let body = if len == 0 {
            outgoing.end_of_none().await?;
            None
        } else {
            Some(Body::wrap_stream(outgoing))
        };
        let response = self.attempt(call, body, len).await;
        let response = response.map_err(|error| sent.take_error().unwrap_or(error))?;
        let headers = response.headers().clone();
        self.in_time(call, 0, bounded(response, MAX_ERROR, &call.doing)).await?;
        let answer = Answer { value: (), headers };
        let etag = answer.header("etag").map(xml::etag).transpose()?;
        let etag =
            etag.ok_or_else(|| Error::new(ErrorKind::Malformed, format!("{}: OSS's answer has no ETag", call.doing)))?;
        let crc64 = self.same_checksum(call, &sent, answer.crc64())?;
        Ok(answer.map(|()| Uploaded { etag, crc64, len }))
    }

    /// The checksum of what was sent, which has to be that of what is stored.
    fn same_checksum(&self, call: &Call<'_>, sent: &Sent, stored: Option<u64>) -> Result<Option<u64>> {
        if !self.checksums {
            return Ok(None);
        }
        match (sent.crc(), stored) {
            (None, _) => {
                let message = format!("{}: OSS answered before it had everything", call.doing);
                Err(Error::new(ErrorKind::Io, message).with_retry(Retry::Yes))
            }
            (Some(sent), Some(stored)) if sent != stored => {
                Err(checksum_differs(&call.doing, sent, stored).with_retry(Retry::Yes))
            }
            (sent, _) => Ok(sent),
        }
    }

    /// Sends a request once. A status that is no success is an error.
    async fn attempt(&self, call: &Call<'_>, body: Option<Body>, length: u64) -> Result<Response> {
        let request = self.request(call, body, length)?;
        let response = async { self.http.execute(request).await.map_err(|e| transport(&call.doing, e)) };
        let response = self.in_time(call, length, response).await?;
        self.clock.see(response.headers());
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        // What cannot be read to its end still has a status.
        let body = self.in_time(call, 0, bounded(response, MAX_ERROR, &call.doing)).await.unwrap_or_default();
        let error = ServiceError::of(status, &headers, &body);
        if error.code() == ErrorCode::RequestTimeTooSkewed {
            let corrected = self.clock.correct(&headers);
            let error = error.while_doing(&call.doing, None);
            return Err(if corrected { error.with_retry(Retry::Yes) } else { error });
        }
        Err(error.while_doing(&call.doing, retry_after(&headers)))
    }

    fn request(&self, call: &Call<'_>, body: Option<Body>, length: u64) -> Result<reqwest::Request> {
        let key = call.key.map_or("", ObjectKey::as_str);
        let path = key_path(key).ok_or_else(|| {
            let message = format!("{}: no URL can name an object `{key}`", call.doing);
            Error::new(ErrorKind::InvalidInput, message)
        })?;
        let mut headers = call.headers.clone();
        if length > 0 || matches!(call.method, Method::PUT | Method::POST) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let signed = Signed { method: call.method.as_str(), bucket: &self.bucket, key, query: &call.query };
        let now = self.clock.now();
        self.signature.sign(&signed, &mut headers, &self.credentials, &self.region, now, &[])?;
        let url = self.endpoint.url(&self.bucket, &path, &query(&call.query))?;
        let mut request = reqwest::Request::new(call.method.clone(), url);
        *request.headers_mut() = headers;
        *request.body_mut() = body;
        Ok(request)
    }

    /// `work`, or an error if it takes longer than `length` bytes may.
    async fn in_time<T>(&self, call: &Call<'_>, length: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.timeout.saturating_add(Duration::from_secs(length.saturating_add(call.moves) / SLOWEST));
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(&call.doing)))
    }
}

/// What storing a payload gave.
#[derive(Debug)]
pub(super) struct Uploaded {
    pub(super) etag: ETag,
    pub(super) crc64: Option<u64>,
    pub(super) len: u64,
}

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| {
        let name = percent_encode(name, b"");
        if value.is_empty() { name } else { format!("{name}={}", percent_encode(value, b"")) }
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn was_skewed(error: &Error) -> bool {
    service_error(error).is_some_and(|error| error.code() == ErrorCode::RequestTimeTooSkewed)
}

/// The answer of OSS that `error` came from, if it did.
pub(super) fn service_error(error: &Error) -> Option<&ServiceError> {
    std::error::Error::source(error)?.downcast_ref()
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. At most five minutes: a header must not stop an upload for a day.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // What has passed already is no pause.
        Err(_) => Duration::try_from(parse_http_date(text)? - OffsetDateTime::now_utc()).unwrap_or_default(),
    };
    Some(pause.min(Duration::from_secs(300)))
}

/// This machine's clock, and by how many seconds OSS's is ahead of it.
#[derive(Debug)]
pub(super) struct Clock {
    /// What requests are dated by.
    correction: AtomicI64,
    /// What the last answer told.
    seen: AtomicI64,
}

/// Before any answer told a time.
const UNKNOWN: i64 = i64::MIN;

impl Default for Clock {
    fn default() -> Self {
        Self { correction: AtomicI64::new(0), seen: AtomicI64::new(UNKNOWN) }
    }
}

impl Clock {
    /// By how much OSS's clock is ahead of this machine's, if that is known.
    pub(super) fn ahead(&self) -> Option<i64> {
        Some(self.seen.load(Relaxed)).filter(|ahead| *ahead != UNKNOWN)
    }

    /// Looks at the date of an answer.
    fn see(&self, headers: &HeaderMap) -> Option<i64> {
        let server = headers.get(DATE).and_then(|date| parse_http_date(date.to_str().ok()?))?;
        let ahead = (server - OffsetDateTime::now_utc()).whole_seconds();
        self.seen.store(ahead, Relaxed);
        Some(ahead)
    }

    fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        now.checked_add(time::Duration::seconds(self.correction.load(Relaxed))).unwrap_or(now)
    }

    /// Takes OSS's time from an answer that refused ours. Whether that makes a difference.
    fn correct(&self, headers: &HeaderMap) -> bool {
        let Some(ahead) = self.see(headers) else { return false };
        let before = self.correction.swap(ahead, Relaxed);
        // Another request may have corrected it since ours was signed.
        ahead.abs_diff(before) > 1 || ahead.abs() > SKEW_ALLOWED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_that_oss_asks_for_is_kept_within_reason() {
        let pause = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("86400"), Some(Duration::from_secs(300)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(pause("Sat, 06 Nov 2094 08:49:37 GMT"), Some(Duration::from_secs(300)));
        assert_eq!(pause("soon"), None);
        assert_eq!(pause("-1"), None);
    }
}

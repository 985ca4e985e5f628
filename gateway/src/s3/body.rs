//! Bodies: what comes in is checked against all that the client said of it before its last byte counts; what goes out is a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders};

use crate::service::{self, Failure, FailureKind};

/// What a client says of the bytes it sends.
#[derive(Default)]
pub(super) struct Announced {
    pub(super) len: Option<i64>,
    pub(super) md5: Option<String>,
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) trailers: Option<TrailingHeaders>,
    /// The header that says which checksum comes behind the body.
    pub(super) trailer: Option<String>,
}

impl Announced {
    /// The body for the service, and the checksums that it is checked against as far as they are known now, to be answered with.
    pub(super) fn body(self, blob: Option<StreamingBlob>) -> S3Result<(service::Body, Checksum)> {
        let len = match self.len.map(u64::try_from) {
            Some(Ok(len)) => Some(len),
            Some(Err(_)) => return Err(S3Error::new(S3ErrorCode::InvalidArgument)),
            // No body at all has a length: none.
            None => blob.is_none().then_some(0),
        };
        let md5 = match &self.md5 {
            None => None,
            Some(text) => {
                let md5: Option<[u8; 16]> = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
                Some(md5.ok_or_else(|| S3Error::new(S3ErrorCode::InvalidDigest))?)
            }
        };
        let expected = Checksum {
            checksum_crc32: self.crc32,
            checksum_crc32c: self.crc32c,
            checksum_crc64nvme: self.crc64nvme,
            checksum_sha1: self.sha1,
            checksum_sha256: self.sha256,
            ..Checksum::default()
        };
        let follows = self.trailer.as_deref().unwrap_or_default().to_ascii_lowercase();
        let wants = |given: &Option<String>, name: &str| {
            given.is_some() || follows.split(',').any(|trailer| trailer.trim() == name)
        };
        let hasher = ChecksumHasher {
            crc32: wants(&expected.checksum_crc32, CRC32).then(s3s::crypto::Crc32::new),
            crc32c: wants(&expected.checksum_crc32c, CRC32C).then(s3s::crypto::Crc32c::new),
            crc64nvme: wants(&expected.checksum_crc64nvme, CRC64NVME).then(s3s::crypto::Crc64Nvme::new),
            sha1: wants(&expected.checksum_sha1, SHA1).then(s3s::crypto::Sha1::new),
            sha256: wants(&expected.checksum_sha256, SHA256).then(s3s::crypto::Sha256::new),
        };
        let answer = expected.clone();
        let bytes = match blob {
            None => futures::stream::empty().boxed(),
            Some(blob) => {
                let check = Check { hasher: Some(hasher), expected, trailers: self.trailers };
                Checked { inner: blob.map_err(|error| broken(&error)).boxed(), check }.boxed()
            }
        };
        let body = service::Body::new(len, bytes);
        Ok((md5.into_iter().fold(body, service::Body::with_md5), answer))
    }
}

struct Check {
    hasher: Option<ChecksumHasher>,
    expected: Checksum,
    trailers: Option<TrailingHeaders>,
}

impl Check {
    /// At the end, when trailers are there too.
    fn finish(&mut self) -> Result<(), Failure> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finalize();
        let trailer = |name: &str| {
            let read =
                |headers: &http::HeaderMap| headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
            self.trailers.as_ref().and_then(|trailers| trailers.read(read)).flatten()
        };
        for (expected, found, name) in [
            (&self.expected.checksum_crc32, found.checksum_crc32, CRC32),
            (&self.expected.checksum_crc32c, found.checksum_crc32c, CRC32C),
            (&self.expected.checksum_crc64nvme, found.checksum_crc64nvme, CRC64NVME),
            (&self.expected.checksum_sha1, found.checksum_sha1, SHA1),
            (&self.expected.checksum_sha256, found.checksum_sha256, SHA256),
        ] {
            let Some(found) = found else { continue };
            let expected = expected.clone().or_else(|| trailer(name)).ok_or_else(|| {
                Failure::new(
                    FailureKind::InvalidArgument,
                    format!("The trailer {name} was announced and did not come."),
                )
            })?;
            if expected != found {
                let message = format!("The {name} you specified did not match what we received.");
                return Err(Failure::new(FailureKind::BadDigest, message));
            }
        }
        Ok(())
    }
}

struct Checked {
    inner: BoxStream<'static, Result<Bytes, Failure>>,
    check: Check,
}

impl Stream for Checked {
    type Item = Result<Bytes, Failure>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = this.inner.poll_next_unpin(cx);
        match &polled {
            Poll::Ready(Some(Ok(bytes))) => {
                if let Some(hasher) = &mut this.check.hasher {
                    hasher.update(bytes);
                }
            }
            Poll::Ready(None) => {
                if let Err(failure) = this.check.finish() {
                    return Poll::Ready(Some(Err(failure)));
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }
}

/// Why a body broke off: what the client did wrong, as far as that is known.
fn broken(error: &StdError) -> Failure {
    // The library puts errors into others of its own, which it neither names to others nor gives as their source.
    let said = format!("{error:?}");
    let is = |name: &str| said.contains(name);
    let (kind, message) = if is("TooLong") {
        (FailureKind::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size.")
    } else if is("TooSlow") {
        (FailureKind::IncompleteBody, "The request's body came too slowly.")
    } else if is("Sha256Mismatch") || is("SignatureMismatch") {
        let message = "The provided 'x-amz-content-sha256' or a chunk's signature does not match what was computed.";
        (FailureKind::Sha256Mismatch, message)
    } else {
        (FailureKind::IncompleteBody, "The request's body broke off, or is not what was announced.")
    };
    Failure::new(kind, message)
}

/// Bytes for the library to send.
pub(super) fn outgoing(bytes: BoxStream<'static, Result<Bytes, Failure>>) -> StreamingBlob {
    StreamingBlob::from(s3s::Body::http_body_unsync(StreamBody::new(bytes.map_ok(Frame::data))))
}

const CRC32: &str = "x-amz-checksum-crc32";
const CRC32C: &str = "x-amz-checksum-crc32c";
const CRC64NVME: &str = "x-amz-checksum-crc64nvme";
const SHA1: &str = "x-amz-checksum-sha1";
const SHA256: &str = "x-amz-checksum-sha256";

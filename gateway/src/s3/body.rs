//! Bodies: what comes in is checked against all that the client said of it before its last byte counts; what goes out is a stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders};

use super::checksums::{self, header};
use crate::service::{self, Checksum, ChecksumAlgorithm, ChecksumType, Failure, FailureKind};

/// What a client says of the bytes it sends.
pub(super) struct Announced {
    pub(super) len: Option<i64>,
    pub(super) md5: Option<String>,
    pub(super) checksums: [(ChecksumAlgorithm, Option<String>); 5],
    pub(super) trailers: Option<TrailingHeaders>,
    /// The header that says which checksum comes behind the body.
    pub(super) trailer: Option<String>,
}

impl Announced {
    /// The body for the service, which checks it.
    pub(super) fn body(self, blob: Option<StreamingBlob>) -> S3Result<service::Body> {
        let len = match self.len.map(u64::try_from) {
            Some(Ok(len)) => Some(len),
            Some(Err(_)) => return Err(S3Error::new(S3ErrorCode::InvalidArgument)),
            // No body at all has a length: none.
            None => blob.is_none().then_some(0),
        };
        let bytes = match blob {
            None => futures::stream::empty().boxed(),
            Some(blob) => blob.map_err(|error| broken(&error)).boxed(),
        };
        let mut body = service::Body::new(len, bytes);
        if let Some(text) = &self.md5 {
            let md5: Option<[u8; 16]> = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
            body = body.with_md5(md5.ok_or_else(|| S3Error::new(S3ErrorCode::InvalidDigest))?);
        }
        let follows = self.trailer.as_deref().unwrap_or_default().to_ascii_lowercase();
        let trailers = follows.split(',').map(str::trim);
        let behind = ChecksumAlgorithm::ALL
            .into_iter()
            .find(|algorithm| trailers.clone().any(|name| name == header(*algorithm)));
        Ok(match (checksums::one(self.checksums)?, behind) {
            (Some((algorithm, value)), behind) if behind.is_none_or(|behind| behind == algorithm) => {
                if Checksum::new(algorithm, &value).is_none_or(|sum| sum.of() == ChecksumType::Composite) {
                    let message = format!("Value for {} header is invalid.", header(algorithm));
                    return Err(checksums::invalid(message));
                }
                body.with_checksum(algorithm, || Ok(Some(value)))
            }
            (Some(_), _) => return Err(checksums::invalid("One checksum is sent, in a header or behind the body.")),
            (None, Some(algorithm)) => {
                body.with_checksum(algorithm, move || behind_body(self.trailers, algorithm).map(Some))
            }
            (None, None) => body,
        })
    }
}

/// The checksum that came behind a body.
fn behind_body(trailers: Option<TrailingHeaders>, algorithm: ChecksumAlgorithm) -> Result<String, Failure> {
    let name = header(algorithm);
    let read = |headers: &http::HeaderMap| headers.get(&name).and_then(|value| value.to_str().ok().map(str::to_owned));
    let found = trailers.and_then(|trailers| trailers.read(read)).flatten();
    found.ok_or_else(|| {
        let message = format!("The trailer {name} was announced and did not come.");
        Failure::new(FailureKind::InvalidArgument, message)
    })
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

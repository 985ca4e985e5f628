//! Answers: errors with the codes and statuses that OSS documents, and headers that several calls share.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, StatusCode, header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::xml::escape;
use crate::server::{Response, full};
use crate::service::{Encrypted, Failure, FailureKind};

pub(super) const SSE: &str = "x-oss-server-side-encryption";
pub(super) const SSE_KEY: &str = "x-oss-server-side-encryption-key-id";
pub(super) const SSE_DATA: &str = "x-oss-server-side-data-encryption";
pub(super) const SSE_CUSTOMER: &str = "x-oss-server-side-encryption-customer-algorithm";
pub(super) const CRC64: &str = "x-oss-hash-crc64ecma";

/// A request that is refused, as the client is told.
#[derive(Debug)]
pub(crate) struct Refused {
    status: u16,
    code: &'static str,
    message: Cow<'static, str>,
    ec: &'static str,
}

impl Refused {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), ec: "" }
    }

    /// A request that its sender may not make.
    pub(super) fn denied() -> Self {
        Self::new(403, "AccessDenied", "You have no right to access this.")
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &str {
        self.code
    }

    /// The answer to a request that was `id` to `host`. That to HEAD, which has no body, tells it in a header too.
    pub(super) fn into_response(self, request_id: &str, host: &str, is_head: bool) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::NOT_MODIFIED {
            return empty(status);
        }
        let ec = if self.ec.is_empty() { String::new() } else { format!("<EC>{}</EC>", self.ec) };
        let body = format!(
            "<Error><Code>{}</Code><Message>{}</Message><RequestId>{}</RequestId><HostId>{}</HostId>{ec}</Error>",
            self.code,
            escape(&self.message),
            escape(request_id),
            escape(host),
        );
        let mut response = xml(status, &body);
        set(&mut response, "x-oss-ec", self.ec);
        if is_head {
            set(&mut response, "x-oss-err", &STANDARD.encode(body));
        }
        response
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        use FailureKind as Kind;
        let (status, code, ec) = match failure.kind() {
            Kind::NoSuchBucket => (404, "NoSuchBucket", ""),
            Kind::BucketAlreadyExists => (409, "BucketAlreadyExists", ""),
            Kind::BucketNotEmpty => (409, "BucketNotEmpty", ""),
            Kind::InvalidBucketName => (400, "InvalidBucketName", ""),
            Kind::NoSuchEncryptionRule => (404, "NoSuchServerSideEncryptionRule", ""),
            Kind::NoSuchKey => (404, "NoSuchKey", ""),
            Kind::InvalidObjectName => (400, "InvalidObjectName", ""),
            Kind::AlreadyExists => (409, "FileAlreadyExists", ""),
            Kind::PreconditionFailed => (412, "PreconditionFailed", ""),
            Kind::NotModified => (304, "NotModified", ""),
            Kind::InvalidRange => (416, "InvalidRange", ""),
            Kind::Changed => (409, "OperationAborted", ""),
            Kind::InvalidArgument | Kind::InvalidRequest => (400, "InvalidArgument", ""),
            Kind::MissingLength => (411, "MissingContentLength", ""),
            Kind::BadDigest | Kind::Sha256Mismatch => (400, "InvalidDigest", ""),
            Kind::IncompleteBody => (400, "IncompleteBody", ""),
            Kind::EntityTooLarge => (400, "EntityTooLarge", ""),
            Kind::MetadataTooLarge => (400, "InvalidArgument", ""),
            Kind::NoSuchUpload => (404, "NoSuchUpload", ""),
            Kind::InvalidPart => (400, "InvalidPart", ""),
            Kind::InvalidPartOrder => (400, "InvalidPartOrder", ""),
            Kind::EntityTooSmall => (400, "EntityTooSmall", ""),
            Kind::UploadIsCompleting => (409, "OperationNotSupported", ""),
            Kind::InvalidEncryptionAlgorithm => (400, "InvalidEncryptionAlgorithmError", ""),
            Kind::InvalidKeyId | Kind::KeyOfOtherRegion => (400, "InvalidParameter", ""),
            Kind::KeyDisabled => (409, "OperationNotSupported", "0005-00000214"),
            Kind::KeyPendingDeletion => (409, "OperationNotSupported", "0005-00000215"),
            Kind::KeyPendingImport => (409, "OperationNotSupported", ""),
            Kind::KeyMissing => (403, "AccessDenied", ""),
            Kind::SlowDown => (503, "SlowDown", ""),
            Kind::Unavailable | Kind::NoSpace => (503, "ServiceUnavailable", ""),
            Kind::NotImplemented => (501, "NotImplemented", ""),
            Kind::Damaged | Kind::Internal => (500, "InternalError", ""),
        };
        if status >= 500 {
            tracing::error!(failure = ?failure, "a request failed");
        }
        Self { status, code, message: failure.message().to_owned().into(), ec }
    }
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(full(bytes::Bytes::new()));
    *response.status_mut() = status;
    response
}

/// An answer in XML; `body` is its root element.
pub(super) fn xml(status: StatusCode, body: &str) -> Response {
    let mut response = Response::new(full(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

/// Sets a header, unless its value is empty or cannot be sent.
pub(super) fn set(response: &mut Response, name: &str, value: &str) {
    if !value.is_empty() {
        set_even_empty(response, name, value);
    }
}

/// Sets a header, unless its value cannot be sent.
pub(super) fn set_even_empty(response: &mut Response, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
    {
        response.headers_mut().insert(name, value);
    }
}

/// Tells how an object is encrypted.
pub(super) fn set_encryption(response: &mut Response, encrypted: Option<&Encrypted>) {
    match encrypted {
        None => {}
        Some(Encrypted::Aes256) => set(response, SSE, "AES256"),
        Some(Encrypted::Kms { key_id }) => {
            set(response, SSE, "KMS");
            set(response, SSE_KEY, key_id);
        }
        Some(Encrypted::Customer) => set(response, SSE_CUSTOMER, "AES256"),
    }
}

pub(super) fn set_crc64(response: &mut Response, crc64: Option<u64>) {
    if let Some(crc64) = crc64 {
        set(response, CRC64, &crc64.to_string());
    }
}

/// An ETag as OSS writes it.
pub(super) fn etag(etag: &str) -> String {
    format!("\"{}\"", etag.to_uppercase())
}

/// As RFC 9110, section 5.6.7, wants it.
pub(super) fn http_date(time: SystemTime) -> String {
    // RFC 2822's form but for the zone, which has a name here. It begins with the year 1900; what is older has no date.
    OffsetDateTime::from(time).format(&Rfc2822).unwrap_or_default().replace("+0000", "GMT")
}

/// `2012-02-24T08:43:27.000Z`: whole seconds, and clients refuse other milliseconds than these.
pub(super) fn xml_date(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.000Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn dates_are_written_as_clients_read_them() {
        let time = UNIX_EPOCH + Duration::from_millis(1_132_253_398_007);
        assert_eq!(http_date(time), "Thu, 17 Nov 2005 18:49:58 GMT");
        assert_eq!(http_date(time - Duration::from_hours(24 * 10)), "Mon, 07 Nov 2005 18:49:58 GMT");
        assert_eq!(http_date(UNIX_EPOCH - Duration::from_hours(24 * 365 * 100)), "");
        assert_eq!(xml_date(time), "2005-11-17T18:49:58.000Z");
    }

    #[test]
    fn a_disabled_cmk_is_told_as_documented() {
        let refused = Refused::from(Failure::new(FailureKind::KeyDisabled, "<disabled>"));
        let response = refused.into_response("1", "h", false);
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()["x-oss-ec"], "0005-00000214");
        let refused = Refused::from(Failure::new(FailureKind::NotModified, "x"));
        assert_eq!(refused.into_response("1", "h", true).headers().get(header::CONTENT_TYPE), None);
    }
}

//! What OSS refuses, as this crate's errors.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::xml::{ErrorBody, parse_error};
use crate::error::{Error, ErrorKind, Retry};

/// What OSS answered instead of doing what was asked: the [source](StdError::source) of an [`Error`] that came from there.
///
/// Source: [OSS, error responses](https://www.alibabacloud.com/help/en/oss/developer-reference/error-responses).
///
/// ```
/// use sealift::store::oss::{ErrorCode, ServiceError};
///
/// fn is_about_the_key(error: &sealift::Error) -> bool {
///     let service = std::error::Error::source(error).and_then(|e| e.downcast_ref::<ServiceError>());
///     service.is_some_and(|e| matches!(e.code(), ErrorCode::KmsServiceNotEnabled | ErrorCode::CmkDisabled))
/// }
/// # assert!(!is_about_the_key(&sealift::Error::new(sealift::ErrorKind::Io, "")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    status: u16,
    body: ErrorBody,
}

/// Codes of OSS's errors that programs tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// Server-side encryption with an algorithm that OSS does not know.
    InvalidEncryptionAlgorithm,
    /// A data cipher that OSS does not know.
    InvalidDataEncryptionAlgorithm,
    /// A parameter that is not valid; the message says which, the id of a CMK for one.
    InvalidParameter,
    /// An argument that is not valid: a key id without KMS, encryption headers on a part, a part number.
    InvalidArgument,
    /// KMS is not enabled for the account.
    KmsServiceNotEnabled,
    /// The CMK is disabled.
    CmkDisabled,
    /// The CMK is to be deleted.
    CmkPendingDeletion,
    /// A part that Complete lists is not there, or has another ETag.
    InvalidPart,
    /// Complete does not list its parts in ascending order.
    InvalidPartOrder,
    /// The body is not what its checksum says.
    InvalidDigest,
    /// A part below 100 KiB that is not the last.
    EntityTooSmall,
    /// A part or object above 5 GiB.
    EntityTooLarge,
    /// There is no such upload.
    NoSuchUpload,
    /// There is no such object.
    NoSuchKey,
    /// There is no such bucket.
    NoSuchBucket,
    /// There is an object already, and replacing it was forbidden.
    FileAlreadyExists,
    /// The signature is not the one OSS computed.
    SignatureDoesNotMatch,
    /// The date of the request is more than 15 minutes from OSS's.
    RequestTimeTooSkewed,
    /// What the request demanded of the object does not hold.
    PreconditionFailed,
    /// The range holds no byte of the object.
    InvalidRange,
    /// Not allowed.
    AccessDenied,
    /// Any other, as OSS writes it.
    Other(String),
}

impl ServiceError {
    /// The error in an answer. A HEAD has no body: OSS says it in a header, or only by the status.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let in_header = || parse_error(&STANDARD.decode(header("x-oss-err")).ok()?);
        let mut body = parse_error(body).or_else(in_header).unwrap_or_default();
        if body.request_id.is_empty() {
            body.request_id = header("x-oss-request-id").to_owned();
        }
        if body.ec.is_empty() {
            body.ec = header("x-oss-ec").to_owned();
        }
        if body.code.is_empty() {
            body.code = match status.as_u16() {
                404 => "NoSuchKey",
                403 => "AccessDenied",
                412 => "PreconditionFailed",
                416 => "InvalidRange",
                _ => "",
            }
            .to_owned();
        }
        Self { status: status.as_u16(), body }
    }

    /// The error that an answer with the status 200 holds.
    pub(super) fn in_success(status: StatusCode, body: ErrorBody) -> Self {
        Self { status: status.as_u16(), body }
    }

    /// What it is, for programs.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        use ErrorCode as Code;
        match (self.body.ec.as_str(), self.body.code.as_str()) {
            ("0005-00000214", _) => Code::CmkDisabled,
            ("0005-00000215", _) => Code::CmkPendingDeletion,
            (_, "InvalidEncryptionAlgorithmError") => Code::InvalidEncryptionAlgorithm,
            (_, "InvalidDataEncryptionAlgorithmError") => Code::InvalidDataEncryptionAlgorithm,
            (_, "InvalidParameter") => Code::InvalidParameter,
            (_, "InvalidArgument") => Code::InvalidArgument,
            (_, "KmsServiceNotEnabled") => Code::KmsServiceNotEnabled,
            (_, "InvalidPart") => Code::InvalidPart,
            (_, "InvalidPartOrder") => Code::InvalidPartOrder,
            (_, "InvalidDigest") => Code::InvalidDigest,
            (_, "EntityTooSmall") => Code::EntityTooSmall,
            (_, "EntityTooLarge") => Code::EntityTooLarge,
            (_, "NoSuchUpload") => Code::NoSuchUpload,
            (_, "NoSuchKey") => Code::NoSuchKey,
            (_, "NoSuchBucket") => Code::NoSuchBucket,
            (_, "FileAlreadyExists") => Code::FileAlreadyExists,
            (_, "SignatureDoesNotMatch") => Code::SignatureDoesNotMatch,
            (_, "RequestTimeTooSkewed") => Code::RequestTimeTooSkewed,
            (_, "PreconditionFailed") => Code::PreconditionFailed,
            (_, "InvalidRange") => Code::InvalidRange,
            (_, "AccessDenied") => Code::AccessDenied,
            (_, other) => Code::Other(other.to_owned()),
        }
    }

    /// The status of the answer: 200 too, where OSS had to begin its answer before it knew.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// OSS's error code for its own documentation, such as `0016-00000502`; empty if it gave none.
    #[must_use]
    pub fn ec(&self) -> &str {
        &self.body.ec
    }

    /// OSS's name for the request, which its support asks for; empty if it gave none.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.body.request_id
    }

    /// Which kind of failure this is, and whether the same again can help.
    fn kind(&self) -> (ErrorKind, Retry) {
        use ErrorCode as Code;
        let kind = match self.code() {
            Code::InvalidEncryptionAlgorithm
            | Code::InvalidDataEncryptionAlgorithm
            | Code::InvalidParameter
            | Code::InvalidArgument
            | Code::InvalidPartOrder => ErrorKind::InvalidInput,
            Code::KmsServiceNotEnabled | Code::CmkDisabled | Code::CmkPendingDeletion => ErrorKind::KeyUnavailable,
            Code::InvalidPart | Code::PreconditionFailed => ErrorKind::Changed,
            Code::EntityTooSmall | Code::EntityTooLarge => ErrorKind::LimitExceeded,
            Code::NoSuchUpload | Code::NoSuchKey | Code::NoSuchBucket => ErrorKind::NotFound,
            Code::FileAlreadyExists => ErrorKind::AlreadyExists,
            Code::InvalidRange => ErrorKind::RangeNotSatisfiable,
            Code::SignatureDoesNotMatch | Code::AccessDenied | Code::RequestTimeTooSkewed => {
                ErrorKind::PermissionDenied
            }
            // Damaged on its way.
            Code::InvalidDigest => return (ErrorKind::Io, Retry::Yes),
            Code::Other(code) => return self.kind_of_other(&code),
        };
        (kind, Retry::No)
    }

    fn kind_of_other(&self, code: &str) -> (ErrorKind, Retry) {
        match (self.status, code) {
            (_, "RequestTimeout") | (408, _) => (ErrorKind::Timeout, Retry::Yes),
            (429 | 503, _) | (_, "SlowDown" | "ServiceBusy" | "ServiceUnavailable" | "QpsLimitExceeded") => {
                (ErrorKind::Throttled, Retry::Yes)
            }
            (500.., _) | (_, "InternalError") => (ErrorKind::Io, Retry::Yes),
            (404, _) => (ErrorKind::NotFound, Retry::No),
            (401 | 403, _) => (ErrorKind::PermissionDenied, Retry::No),
            (400, _) => (ErrorKind::InvalidInput, Retry::No),
            _ => (ErrorKind::Io, Retry::No),
        }
    }

    /// What a user can do about it.
    fn hint(&self) -> Option<String> {
        Some(match self.code() {
            ErrorCode::SignatureDoesNotMatch => {
                "check the access key's secret, --region, and that the bucket is in it".to_owned()
            }
            ErrorCode::Other(code) if code == "InvalidAccessKeyId" => {
                "check OSS_ACCESS_KEY_ID, and OSS_SESSION_TOKEN if it is a temporary one".to_owned()
            }
            ErrorCode::Other(code) if code == "SecurityTokenExpired" => "get a new security token".to_owned(),
            ErrorCode::KmsServiceNotEnabled => "enable KMS for the account, or encrypt with AES256".to_owned(),
            ErrorCode::CmkDisabled => "enable the CMK in KMS".to_owned(),
            ErrorCode::CmkPendingDeletion => "cancel the deletion of the CMK in KMS".to_owned(),
            ErrorCode::RequestTimeTooSkewed => "this machine's clock is off".to_owned(),
            _ if !self.body.endpoint.is_empty() => {
                format!("the bucket is at --endpoint {}", printable(&self.body.endpoint))
            }
            _ => return None,
        })
    }

    /// This while `doing` something. `retry_after` is what the answer's header of that name says.
    pub(super) fn while_doing(self, doing: &str, retry_after: Option<Duration>) -> Error {
        let (kind, mut retry) = self.kind();
        if let (Retry::Yes, Some(pause)) = (retry, retry_after) {
            retry = Retry::After(pause);
        }
        let hint = self.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        Error::new(kind, format!("{doing}: {self}{hint}")).with_retry(retry).with_source(self)
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OSS answered {}", self.status)?;
        if !self.body.code.is_empty() {
            write!(f, " {}", printable(&self.body.code))?;
        }
        if !self.body.message.is_empty() {
            write!(f, ", {}", printable(&self.body.message))?;
        }
        match (self.body.request_id.as_str(), self.body.ec.as_str()) {
            ("", "") => Ok(()),
            (id, "") => write!(f, " (request {})", printable(id)),
            (id, ec) => write!(f, " (request {}, EC {})", printable(id), printable(ec)),
        }
    }
}

impl StdError for ServiceError {}

/// Text from outside, short and on one line.
fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A failure below HTTP, while `doing` something: all of them may pass.
pub(super) fn transport(doing: &str, error: reqwest::Error) -> Error {
    let (kind, what) = if error.is_timeout() {
        (ErrorKind::Timeout, "OSS did not answer in time")
    } else if error.is_connect() {
        let url = error.url();
        let host = url.and_then(reqwest::Url::host_str).unwrap_or("OSS");
        let port = url.and_then(reqwest::Url::port).map_or_else(String::new, |port| format!(":{port}"));
        let message = format!("{doing}: cannot connect to {host}{port}; check --endpoint and the network");
        let error = error.without_url();
        return Error::new(ErrorKind::Unreachable, message).with_retry(Retry::Yes).with_source(error);
    } else if error.is_builder() {
        let message = format!("{doing}: that request cannot be sent");
        return Error::new(ErrorKind::InvalidInput, message).with_source(error.without_url());
    } else {
        (ErrorKind::Io, "the connection to OSS broke")
    };
    Error::new(kind, format!("{doing}: {what}")).with_retry(Retry::Yes).with_source(error.without_url())
}

pub(super) fn timed_out(doing: &str) -> Error {
    Error::new(ErrorKind::Timeout, format!("{doing}: OSS did not answer in time")).with_retry(Retry::Yes)
}

/// What does not hold of the server's checksum, while `doing` something.
pub(super) fn checksum_differs(doing: &str, sent: u64, stored: u64) -> Error {
    let message = format!("{doing}: the CRC-64 of what was sent is {sent}, but OSS stored something with {stored}");
    Error::new(ErrorKind::Io, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: &str, ec: &str) -> Error {
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>why &amp; how</Message>\
             <RequestId>5C3D</RequestId><HostId>b.h</HostId><EC>{ec}</EC></Error>"
        );
        let status = StatusCode::from_u16(status).unwrap();
        ServiceError::of(status, &HeaderMap::new(), xml.as_bytes()).while_doing("doing it", None)
    }

    #[test]
    fn codes_have_kinds_and_advice() {
        use ErrorKind as Kind;
        for (status, code, ec, kind, retry) in [
            (400, "InvalidEncryptionAlgorithmError", "", Kind::InvalidInput, false),
            (400, "InvalidDataEncryptionAlgorithmError", "", Kind::InvalidInput, false),
            (400, "InvalidParameter", "", Kind::InvalidInput, false),
            (400, "InvalidArgument", "", Kind::InvalidInput, false),
            (403, "KmsServiceNotEnabled", "", Kind::KeyUnavailable, false),
            (409, "OperationNotSupported", "0005-00000214", Kind::KeyUnavailable, false),
            (409, "OperationNotSupported", "0005-00000215", Kind::KeyUnavailable, false),
            (409, "Whatever", "", Kind::Io, false),
            (400, "InvalidPart", "", Kind::Changed, false),
            (400, "EntityTooSmall", "", Kind::LimitExceeded, false),
            (400, "InvalidDigest", "", Kind::Io, true),
            (404, "NoSuchUpload", "", Kind::NotFound, false),
            (404, "SomethingElse", "", Kind::NotFound, false),
            (409, "FileAlreadyExists", "", Kind::AlreadyExists, false),
            (403, "SignatureDoesNotMatch", "", Kind::PermissionDenied, false),
            (403, "AccessDenied", "", Kind::PermissionDenied, false),
            (429, "Whatever", "", Kind::Throttled, true),
            (503, "SlowDown", "", Kind::Throttled, true),
            (500, "InternalError", "", Kind::Io, true),
            (502, "BadGateway", "", Kind::Io, true),
            (200, "InternalError", "", Kind::Io, true),
            (400, "RequestTimeout", "", Kind::Timeout, true),
        ] {
            let error = error(status, code, ec);
            assert_eq!((error.kind(), error.retry() == Retry::Yes), (kind, retry), "{status} {code}: {error}");
        }
    }

    #[test]
    fn messages_name_the_request() {
        let error = error(403, "KmsServiceNotEnabled", "0005-1");
        let text = error.to_string();
        for part in ["doing it", "403", "KmsServiceNotEnabled", "why & how", "5C3D", "0005-1", "enable KMS"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let service = error.source().unwrap().downcast_ref::<ServiceError>().unwrap();
        assert_eq!((service.code(), service.request_id()), (ErrorCode::KmsServiceNotEnabled, "5C3D"));
    }

    #[test]
    fn what_is_no_xml_is_told_by_its_status() {
        for (status, code) in [(404, ErrorCode::NoSuchKey), (412, ErrorCode::PreconditionFailed)] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = ServiceError::of(status, &HeaderMap::new(), b"<html>\xff\0");
            assert_eq!(error.code(), code);
        }
        let mut headers = HeaderMap::new();
        let xml = STANDARD.encode("<Error><Code>NoSuchBucket</Code><RequestId>1</RequestId></Error>");
        headers.insert("x-oss-err", xml.parse().unwrap());
        let error = ServiceError::of(StatusCode::NOT_FOUND, &headers, b"");
        assert_eq!((error.code(), error.request_id()), (ErrorCode::NoSuchBucket, "1"));
    }
}

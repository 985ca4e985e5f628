//! What the service's failures are called in S3.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};

use crate::service::{Failure, FailureKind};

/// The error that S3 has for a failure.
pub(super) fn s3_error(failure: Failure) -> S3Error {
    use FailureKind as Kind;
    use S3ErrorCode as Code;
    let custom = |code: &'static str| Code::Custom(code.into());
    let (code, status) = match failure.kind() {
        Kind::NoSuchBucket => (Code::NoSuchBucket, None),
        Kind::BucketAlreadyExists => (Code::BucketAlreadyOwnedByYou, None),
        Kind::BucketNotEmpty => (Code::BucketNotEmpty, None),
        Kind::InvalidBucketName => (Code::InvalidBucketName, None),
        Kind::NoSuchEncryptionRule => {
            (Code::ServerSideEncryptionConfigurationNotFoundError, Some(StatusCode::NOT_FOUND))
        }
        Kind::NoSuchKey => (Code::NoSuchKey, None),
        Kind::InvalidObjectName | Kind::InvalidArgument => (Code::InvalidArgument, None),
        Kind::AlreadyExists | Kind::PreconditionFailed => (Code::PreconditionFailed, None),
        Kind::InvalidRequest => (Code::InvalidRequest, None),
        Kind::NotModified => (Code::NotModified, None),
        Kind::InvalidRange => (Code::InvalidRange, None),
        Kind::Changed => (Code::ConditionalRequestConflict, None),
        Kind::MissingLength => (Code::MissingContentLength, None),
        Kind::BadDigest => (Code::BadDigest, None),
        Kind::Sha256Mismatch => (custom("XAmzContentSHA256Mismatch"), Some(StatusCode::BAD_REQUEST)),
        Kind::IncompleteBody => (Code::IncompleteBody, None),
        Kind::EntityTooLarge => (Code::EntityTooLarge, None),
        Kind::MetadataTooLarge => (Code::MetadataTooLarge, None),
        Kind::NoSuchUpload => (Code::NoSuchUpload, None),
        Kind::InvalidPart => (Code::InvalidPart, None),
        Kind::InvalidPartOrder => (Code::InvalidPartOrder, None),
        Kind::EntityTooSmall => (Code::EntityTooSmall, None),
        Kind::UploadIsCompleting => (Code::OperationAborted, None),
        Kind::InvalidEncryptionAlgorithm => (Code::InvalidEncryptionAlgorithmError, None),
        Kind::InvalidKeyId | Kind::KeyOfOtherRegion => (custom("KMS.NotFoundException"), Some(StatusCode::BAD_REQUEST)),
        Kind::KeyDisabled => (custom("KMS.DisabledException"), Some(StatusCode::BAD_REQUEST)),
        Kind::KeyPendingDeletion | Kind::KeyPendingImport => {
            (custom("KMS.KMSInvalidStateException"), Some(StatusCode::BAD_REQUEST))
        }
        Kind::KeyMissing => (Code::AccessDenied, None),
        Kind::SlowDown => (Code::SlowDown, None),
        Kind::Unavailable | Kind::NoSpace => (Code::ServiceUnavailable, None),
        Kind::NotImplemented => (Code::NotImplemented, None),
        _ => (Code::InternalError, None),
    };
    if status.or_else(|| code.status_code()).is_some_and(|status| status.is_server_error()) {
        tracing::warn!(?failure, "a request failed");
    }
    let mut error = S3Error::with_message(code, failure.message().to_owned());
    if let Some(status) = status {
        error.set_status_code(status);
    }
    error
}

/// Something of S3 that is not here.
pub(super) fn not_implemented(what: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, what)
}

pub(super) fn invalid_argument(why: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_s3_s_codes_and_statuses() {
        for (kind, code, status) in [
            (FailureKind::NoSuchKey, "NoSuchKey", 404),
            (FailureKind::BucketAlreadyExists, "BucketAlreadyOwnedByYou", 409),
            (FailureKind::AlreadyExists, "PreconditionFailed", 412),
            (FailureKind::MissingLength, "MissingContentLength", 411),
            (FailureKind::Sha256Mismatch, "XAmzContentSHA256Mismatch", 400),
            (FailureKind::EntityTooSmall, "EntityTooSmall", 400),
            (FailureKind::KeyDisabled, "KMS.DisabledException", 400),
            (FailureKind::NoSuchEncryptionRule, "ServerSideEncryptionConfigurationNotFoundError", 404),
            (FailureKind::InvalidRange, "InvalidRange", 416),
            (FailureKind::SlowDown, "SlowDown", 503),
            (FailureKind::Damaged, "InternalError", 500),
        ] {
            let error = s3_error(Failure::new(kind, "why"));
            let found = error.status_code().or_else(|| error.code().status_code()).map(|status| status.as_u16());
            assert_eq!((error.code().as_str(), found, error.message()), (code, Some(status), Some("why")));
        }
    }
}

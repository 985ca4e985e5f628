//! What can go wrong for a client, in the words that OSS and S3 share. Each dialect gives it a code and a status of its own.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use sealift::{Error, ErrorKind, KeyState, Retry};

/// A result with a [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a request was refused, for the client that sent it, and the cause, for the operator's log.
pub struct Failure(Box<Inner>);

struct Inner {
    kind: FailureKind,
    message: Cow<'static, str>,
    cause: Option<Error>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    // Buckets.
    /// There is no such bucket.
    NoSuchBucket,
    /// There is such a bucket already.
    BucketAlreadyExists,
    /// Objects or uploads are in the bucket.
    BucketNotEmpty,
    /// No bucket can have that name.
    InvalidBucketName,
    /// The bucket has no default encryption.
    NoSuchEncryptionRule,

    // Objects.
    /// There is no such object.
    NoSuchKey,
    /// No object can have that name here.
    InvalidObjectName,
    /// There is an object already, and it was not to be replaced.
    AlreadyExists,
    /// A condition of the request does not hold.
    PreconditionFailed,
    /// The client has it already, says a condition of the request.
    NotModified,
    /// The range holds no byte of the object.
    InvalidRange,
    /// The object changed while it was read or replaced.
    Changed,

    // What is sent.
    /// A digest or another argument is not one.
    InvalidArgument,
    /// What the request says does not go together, or not with the upload it is for.
    InvalidRequest,
    /// The request does not say how long its body is.
    MissingLength,
    /// The body does not have the MD5 or the checksum that was announced, or the object not the one that its Complete names.
    BadDigest,
    /// The body does not have the SHA-256 that was signed.
    Sha256Mismatch,
    /// The body has another length than was announced, or broke off.
    IncompleteBody,
    /// Object or part are larger than they may be.
    EntityTooLarge,
    /// There is more metadata than an object may have.
    MetadataTooLarge,

    // Multipart uploads.
    /// There is no such upload.
    NoSuchUpload,
    /// A listed part is not there, or has another ETag.
    InvalidPart,
    /// The listed parts do not ascend.
    InvalidPartOrder,
    /// A part other than the last is smaller than it may be.
    EntityTooSmall,
    /// The upload is being completed: nothing but the same Complete, and Abort, is possible.
    UploadIsCompleting,

    // Encryption.
    /// No such algorithm.
    InvalidEncryptionAlgorithm,
    /// No such CMK, or none that can be used.
    InvalidKeyId,
    /// The CMK is disabled.
    KeyDisabled,
    /// The CMK is going to be deleted.
    KeyPendingDeletion,
    /// The CMK's key material is not there.
    KeyPendingImport,
    /// The CMK is one of another region.
    KeyOfOtherRegion,
    /// The object was sealed for a key that is not at hand: its CMK is gone, or the customer's key is missing or another.
    KeyMissing,

    // The gateway and what is behind it.
    /// What is stored was altered or damaged.
    Damaged,
    /// The store or the key service asks for fewer requests.
    SlowDown,
    /// The store or the key service cannot be used now.
    Unavailable,
    /// There is no room left.
    NoSpace,
    /// It cannot be done here.
    NotImplemented,
    /// A bug, or something nobody thought of.
    Internal,
}

impl Failure {
    /// A failure of this kind; `message` is for the client.
    pub fn new(kind: FailureKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), cause: None }))
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_cause(mut self, cause: Error) -> Self {
        self.0.cause = Some(cause);
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// For the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// For the operator.
    #[must_use]
    pub fn cause(&self) -> Option<&Error> {
        self.0.cause.as_ref()
    }

    /// The failure that `error` is, when the store was asked about an upload.
    pub(super) fn of_upload(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => no_such_upload(),
            ErrorKind::Changed => invalid_part(),
            _ => Self::from(error),
        }
    }

    /// The failure that `error` is, when a CMK that the client named was to wrap.
    pub(super) fn of_wrapping(error: Error, key: &str) -> Self {
        match (error.kind(), error.key_state(), error.retry()) {
            (ErrorKind::KeyUnavailable, None, Retry::No) => {
                let message = format!("The specified parameter KMS keyId is not valid: {key:?} cannot be used.");
                Self::new(FailureKind::InvalidKeyId, message).with_cause(error)
            }
            _ => Self::from(error),
        }
    }
}

pub(super) fn no_such_key() -> Failure {
    Failure::new(FailureKind::NoSuchKey, "The specified key does not exist.")
}

pub(super) fn no_such_upload() -> Failure {
    let message = "The specified upload does not exist. It may have been aborted or completed.";
    Failure::new(FailureKind::NoSuchUpload, message)
}

pub(super) fn invalid_part() -> Failure {
    let message = "One or more of the specified parts could not be found, or an ETag or a checksum is not the part's.";
    Failure::new(FailureKind::InvalidPart, message)
}

impl From<Error> for Failure {
    /// The failure that `error` is, when an object was to be read or written.
    fn from(error: Error) -> Self {
        use FailureKind as Kind;
        let (kind, message): (_, Cow<'static, str>) = match (error.kind(), error.key_state()) {
            (ErrorKind::NotFound, _) => return no_such_key().with_cause(error),
            (ErrorKind::AlreadyExists, _) => (Kind::AlreadyExists, "The object exists already.".into()),
            (ErrorKind::Changed, _) => (Kind::Changed, "The object was changed meanwhile. Try again.".into()),
            (ErrorKind::RangeNotSatisfiable, _) => {
                (Kind::InvalidRange, "The range holds no byte of the object.".into())
            }
            (ErrorKind::InvalidInput, _) => (Kind::InvalidObjectName, error.to_string().into()),
            (ErrorKind::LimitExceeded, _) => (Kind::EntityTooLarge, error.to_string().into()),
            (ErrorKind::SourceRead | ErrorKind::SourceChanged, _) => {
                (Kind::IncompleteBody, "The request's body broke off, or has another length than was announced.".into())
            }
            (ErrorKind::KeyUnavailable, Some(KeyState::Disabled)) => {
                (Kind::KeyDisabled, "The KMS key is disabled.".into())
            }
            (ErrorKind::KeyUnavailable, Some(KeyState::PendingDeletion)) => {
                (Kind::KeyPendingDeletion, "The KMS key is pending deletion.".into())
            }
            (ErrorKind::KeyUnavailable, Some(KeyState::PendingImport)) => {
                (Kind::KeyPendingImport, "The KMS key is pending import: it has no key material.".into())
            }
            (ErrorKind::KeyUnavailable, _) if error.retry() != Retry::No => {
                (Kind::Unavailable, "The key service cannot be used now. Try again.".into())
            }
            (ErrorKind::KeyUnavailable, _) => {
                (Kind::KeyMissing, "The key that the object was encrypted with cannot be used.".into())
            }
            (
                ErrorKind::Authentication
                | ErrorKind::Malformed
                | ErrorKind::NotSealed
                | ErrorKind::UnsupportedFormat
                | ErrorKind::Ledger,
                _,
            ) => (Kind::Damaged, "What is stored was altered or damaged.".into()),
            (ErrorKind::Throttled, _) => (Kind::SlowDown, "Please reduce your request rate.".into()),
            (ErrorKind::NoSpace, _) => (Kind::NoSpace, "The store has no room left.".into()),
            (ErrorKind::Io | ErrorKind::Unreachable | ErrorKind::Timeout, _) => {
                (Kind::Unavailable, "The store cannot be used now.".into())
            }
            _ => (Kind::Internal, "The gateway failed.".into()),
        };
        Self::new(kind, message).with_cause(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().map(|cause| cause as _)
    }
}

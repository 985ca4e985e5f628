//! One error type for the whole crate: what kind, what was being done, to which part, and whether trying again can help.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::types::{KeyState, PartNumber};

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
///
/// The message says what was being done and what to do next; [`Error::kind`] is for programs.
/// A failure to authenticate says where, never why.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    part: Option<PartNumber>,
    key_state: Option<KeyState>,
    retry: Retry,
    resumable: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Kinds of failure, sorted by who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    // The caller.
    /// An argument is not one this function takes.
    InvalidInput,
    /// What was asked for needs more than a limit allows: the store's, the format's or the memory budget.
    LimitExceeded,
    /// The range holds no byte of the object.
    RangeNotSatisfiable,
    /// The caller cancelled it.
    Cancelled,

    // What is stored.
    /// There is no such object, upload, file or key.
    NotFound,
    /// There is one already, and replacing it was not allowed.
    AlreadyExists,
    /// The object changed between two requests that must see the same one.
    Changed,
    /// The object has no envelope: it was not sealed by Sealift, or its metadata is gone.
    NotSealed,
    /// An envelope, manifest, trailer or file breaks the rules of its format.
    Malformed,
    /// Sealed in a version or with a cipher that this program does not know.
    UnsupportedFormat,
    /// Sealed data did not authenticate: it was altered, is not this object's, or the key is another.
    Authentication,

    // Keys.
    /// No configured key opens the object, or the key service or its store cannot be used now.
    KeyUnavailable,

    // The source.
    /// What is being uploaded changed or shrank meanwhile.
    SourceChanged,
    /// What is being uploaded could not be read.
    SourceRead,

    // The store and the machine.
    /// The store, a file or the network failed.
    Io,
    /// Nobody answers where the store should be, or nobody gives the credentials for it: no connection was made, so nothing was sent.
    Unreachable,
    /// There is no room left.
    NoSpace,
    /// Access was refused.
    PermissionDenied,
    /// The store asks for fewer requests.
    Throttled,
    /// Something took too long.
    Timeout,
    /// The upload ledger cannot be used.
    Ledger,
    /// A promise of this crate's own was broken: a bug, or an operating system without randomness.
    Internal,
}

/// Whether doing the same again can help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// No.
    #[default]
    No,
    /// Yes, after the usual pause.
    Yes,
    /// Yes, not before this pause is over.
    After(Duration),
}

impl Error {
    /// An error of `kind`; `message` says what could not be done and, where a user can act, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            part: None,
            key_state: None,
            retry: Retry::No,
            resumable: None,
            source: None,
        }))
    }

    /// An I/O failure while `doing` something, with its kind taken from the operating system's.
    pub fn io(doing: impl Into<Cow<'static, str>>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::NoSpace,
            Io::TimedOut => ErrorKind::Timeout,
            _ => ErrorKind::Io,
        };
        Self::new(kind, doing).with_source(source)
    }

    pub(crate) fn no_randomness(source: getrandom::Error) -> Self {
        Self::new(ErrorKind::Internal, "the operating system gave no random bytes").with_source(source)
    }

    /// The same about one part.
    #[must_use]
    pub fn with_part(mut self, part: PartNumber) -> Self {
        self.0.part.get_or_insert(part);
        self
    }

    /// The same, because a key is in `state`. For key services.
    #[must_use]
    pub fn with_key_state(mut self, state: KeyState) -> Self {
        self.0.key_state = Some(state);
        self
    }

    /// The same with advice on trying again.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same, its message begun with what was being done.
    #[must_use]
    pub fn while_doing(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = format!("{doing}: {}", self.0.message).into();
        self
    }

    pub(crate) fn with_resumable(mut self, upload: String) -> Self {
        self.0.resumable = Some(upload);
        self
    }

    /// Id of the upload that was kept and that `resume` goes on with, if there is one.
    #[must_use]
    pub fn resumable(&self) -> Option<&str> {
        self.0.resumable.as_deref()
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The part it is about, if it is about one.
    #[must_use]
    pub fn part(&self) -> Option<PartNumber> {
        self.0.part
    }

    /// The state of the customer master key (CMK) that forbids what was to be done, if that is why it failed.
    #[must_use]
    pub fn key_state(&self) -> Option<KeyState> {
        self.0.key_state
    }

    /// Whether trying again can help, where whoever made the error knows.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.retry
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(part) = self.0.part {
            write!(f, " (part {part})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("part", &self.0.part)
            .field("key_state", &self.0.key_state)
            .field("retry", &self.0.retry)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

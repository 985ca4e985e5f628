//! What goes into the machine and what comes out of it.

use std::fmt;

use super::retry::RetryPolicy;
use crate::error::Retry;
use crate::store::{CompletedPart, Limits};
use crate::types::{Attempt, ETag, PartNumber, Salt, UploadId};

/// More than any trailer has.
pub(super) const MAX_TRAILER: u64 = 1 << 20;

/// What a [`Machine`](super::Machine) must keep to.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the store allows.
    pub limits: Limits,
    /// Memory credits in all, one stripe of 1 MiB each.
    pub budget: u32,
    /// The most stripes of a part that is held in memory, sealed, until the store has it. A larger one is sealed while it
    /// is sent, unless there is a `spool`.
    pub held: u32,
    /// Credits that a larger part takes.
    pub window: u32,
    /// Whether larger parts are held too, outside of memory: for a source that cannot be read again. Then there are at
    /// most `max_in_flight` parts at a time while such a one is among them.
    pub spool: bool,
    /// Whether an object that is one part which is held is stored by one request, `PutObject`, without an upload and a ledger. The machine
    /// looks at the plan and the store's limits itself.
    pub one_request: bool,
    /// The most `Put`s at a time.
    pub max_in_flight: u32,
    /// Whether to begin with few `Put`s at a time, and have more only while that is faster.
    pub find_in_flight: bool,
    /// How failed operations are repeated.
    pub retry: RetryPolicy,
    /// Whether an upload that fails is kept for resume instead of aborted.
    pub keep_on_failure: bool,
}

/// One sealing of a part: what the manifest says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedPart {
    /// Its number.
    pub number: PartNumber,
    /// Bytes of plaintext.
    pub len: u64,
    /// The salt that began the sealing, and tells it from any other.
    pub salt: Salt,
    /// CRC-64/XZ of the plaintext, or zero where none is wanted.
    pub crc64: u64,
}

/// A fact the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The store began the upload.
    Initiated(UploadId),
    /// The [`Record::Initiated`] or [`Record::Manifest`] that was to be saved is durable, and all records before it.
    Saved,
    /// The source has this part's bytes ready.
    Filled {
        /// The part that was to be filled.
        part: PartNumber,
        /// Its plaintext bytes: as many as the plan says, or fewer if it is the last. Zero only for part 1 of an empty
        /// object, which then has no parts.
        len: u64,
        /// Whether the source ends here.
        last: bool,
    },
    /// The part is sealed, all of it, and its bytes are in memory, or in the spool.
    Sealed(SealedPart),
    /// The store has all bytes of an attempt.
    Stored {
        /// Number of the upload part.
        part: PartNumber,
        /// The attempt the store answered.
        attempt: Attempt,
        /// The store's tag of it.
        etag: ETag,
        /// What this attempt sealed, if its body was [`PutBody::Sealing`]; `None` for the others.
        sealed: Option<SealedPart>,
    },
    /// The source was still what it was, the manifest is sealed, and the trailer is in memory.
    TrailerSealed {
        /// Bytes of the trailer: none if, and only if, the plan is of an [unsealed](super::PartPlan::unsealed) object.
        len: u64,
    },
    /// Something that was asked for failed.
    ///
    /// `Failed` of [`Op::Save`] also tells that a [`Record::Part`] could not be appended, at any time after the first
    /// of them. Unless a durable record is being saved too, that ends the upload: the ledger has a hole.
    Failed {
        /// What failed.
        op: Op,
        /// Whether doing it again can help.
        retry: Retry,
        /// Whether the store asks for fewer requests.
        throttled: bool,
        /// Whether nobody answered where the store should be.
        unreachable: bool,
        /// 64 random bits, to spread retries. The machine has no randomness of its own.
        jitter: u64,
    },
    /// The store refused `Complete`, because it has not got these of the listed upload parts, or not with the ETag that was listed; and
    /// the source, whose length is known, can be read again.
    Missing(Vec<PartNumber>),
    /// The store published the object.
    Completed(ETag),
    /// The store has the object that [`Action::PutObject`] sent.
    ObjectStored(ETag),
    /// The store has forgotten the upload.
    Aborted,
    /// The time that [`poll_timeout`](super::Machine::poll_timeout) gave has come.
    Timeout,
    /// The upload is to stop. Before `Initiated`, and once `Complete` was sent, the store's answer is awaited first:
    /// it decides what there is to abort.
    Cancel {
        /// Keep it for resume instead of aborting it, if its record is durable already.
        keep: bool,
    },
}

/// An operation, by which a failure says what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// [`Action::Initiate`].
    Initiate,
    /// [`Action::Save`].
    Save,
    /// [`Action::Fill`].
    Fill(PartNumber),
    /// [`Action::Seal`].
    Seal(PartNumber),
    /// [`Action::Put`].
    Put {
        /// Number of the upload part.
        upload_part: PartNumber,
        /// Which attempt at it.
        attempt: Attempt,
    },
    /// [`Action::SealTrailer`].
    SealTrailer,
    /// [`Action::PutObject`].
    PutObject,
    /// [`Action::Complete`].
    Complete,
    /// [`Action::Abort`].
    Abort,
}

/// Work the machine gives. Each is answered once: by the input it names, or by [`Input::Failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin the upload at the store. Answered by [`Input::Initiated`].
    Initiate,
    /// Append a record to the ledger. [`Record::Initiated`] and [`Record::Manifest`] are put on disk, with all before
    /// them, and answered by [`Input::Saved`]; [`Record::Part`] has no answer.
    Save(Record),
    /// Get the part's bytes ready, its credits being taken. Answered by [`Input::Filled`]. One at a time, in order.
    Fill(PartNumber),
    /// Seal all of a part and hold it. Answered by [`Input::Sealed`].
    Seal(PartNumber),
    /// Store one upload part. Answered by [`Input::Stored`].
    Put {
        /// Number of the upload part.
        part: PartNumber,
        /// Which attempt at it, from 1.
        attempt: Attempt,
        /// Its bytes.
        body: PutBody,
        /// Where they begin in the finished object.
        offset: u64,
    },
    /// Check for the last time that the source has not changed, then seal the manifest of these parts, ascending, and
    /// hold the trailer, which is empty where nothing is sealed. Answered by [`Input::TrailerSealed`].
    SealTrailer {
        /// The chosen sealing of every part.
        parts: Vec<SealedPart>,
    },
    /// Store the whole object in one request: this part, if it has bytes, then the trailer. Answered by [`Input::ObjectStored`].
    PutObject {
        /// The part that is held.
        part: Option<PartNumber>,
    },
    /// Publish the object of these upload parts, ascending. Answered by [`Input::Completed`], or by [`Input::Missing`].
    Complete(Vec<CompletedPart>),
    /// Drop all work in flight, then make the store forget the upload. Answered by [`Input::Aborted`].
    Abort,
}

/// The bytes of an upload part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBody {
    /// This part as it was sealed and is held.
    Held(PartNumber),
    /// This part, sealed afresh while it is sent.
    Sealing(PartNumber),
    /// The end of the body, all of it held: the last sealed part if it was held back, then the trailer.
    Tail {
        /// The part that was held back.
        part: Option<PartNumber>,
        /// Which piece of the two.
        piece: TailPiece,
    },
}

/// A piece of the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailPiece {
    /// All of it.
    Whole,
    /// Its first so many bytes.
    First(u64),
    /// All but its first so many bytes.
    Second(u64),
}

/// What the ledger keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The upload exists. Durable before anything is sent.
    Initiated {
        /// The store's name for it.
        upload: UploadId,
    },
    /// A part is stored. Durable at the latest with the next durable record; losing it costs sending the part again.
    Part {
        /// The sealing that is stored.
        sealed: SealedPart,
        /// The store's tag of it.
        etag: ETag,
        /// The attempt that stored it.
        attempt: Attempt,
    },
    /// The parts a sealed manifest lists. Durable before any byte of that manifest is sent.
    Manifest(Vec<SealedPart>),
}

/// How an upload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object is published.
    Completed(ETag),
    /// It ended before the store had begun an upload, or the one request of [`Action::PutObject`] did not succeed.
    NotStarted(Why),
    /// It ended, and the store has forgotten it.
    Aborted(Why),
    /// It ended and can be resumed: the parts are at the store, and the ledger names them.
    Kept(Why),
    /// It ended, but the store could not be made to forget it: its parts are still there.
    AbortFailed(Why),
}

/// Why an upload ended without an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was cancelled.
    Cancelled,
    /// This failed, and not trying again was left.
    Failed(Op),
    /// The source has more bytes than [`PartPlan::capacity`](super::PartPlan::capacity).
    SourceTooLong,
}

/// The machine was told something that cannot be: an answer to what it never asked for, or one that contradicts what it
/// knows. Its state is what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiMisuse(pub(super) &'static str);

impl ApiMisuse {
    pub(super) const UNASKED: Self = Self("an answer to what was not asked for");
}

impl fmt::Display for ApiMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upload machine was told {}", self.0)
    }
}

impl std::error::Error for ApiMisuse {}

impl Input {
    /// The operation this is an answer to.
    pub(super) fn answers(&self) -> Option<Op> {
        Some(match self {
            Self::Initiated(_) => Op::Initiate,
            Self::Saved => Op::Save,
            Self::Filled { part, .. } => Op::Fill(*part),
            Self::Sealed(sealed) => Op::Seal(sealed.number),
            Self::Stored { part, attempt, .. } => Op::Put { upload_part: *part, attempt: *attempt },
            Self::TrailerSealed { .. } => Op::SealTrailer,
            Self::Completed(_) | Self::Missing(_) => Op::Complete,
            Self::ObjectStored(_) => Op::PutObject,
            Self::Aborted => Op::Abort,
            Self::Failed { op, .. } => *op,
            Self::Timeout | Self::Cancel { .. } => return None,
        })
    }
}

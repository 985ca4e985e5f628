//! Stores that the sealing threads write to, and the opening ones read from, themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures::future::BoxFuture;

use super::{Payload, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::source::ReadAt;
use crate::types::{ETag, ObjectKey, PartNumber};

/// A store on this machine, whose parts are written piece by piece by the threads that seal them.
///
/// Sealed bytes then go from the cache straight to where they stay: no part is held in memory until it is stored, and none is
/// fetched back from memory to be written. It takes that writing a piece waits for no other machine and hardly ever fails in
/// passing, because a part that fails is read and sealed again.
pub trait DirectStore: Send + Sync {
    /// Begins one attempt at a part of `len` bytes that begin at `offset` of the finished object, replacing an earlier attempt
    /// as [`put_part`](super::MultipartStore::put_part) does.
    ///
    /// # Errors
    /// Those of `put_part`.
    fn begin_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: PartNumber,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn PartSink>>>;

    /// The body of the object that has this ETag, to be read by the threads that open it: sealed bytes then go from the disk's cache
    /// straight to where they are opened. What is read through it stays one state of the object. `None` where a store cannot do that,
    /// and [`get`](super::MultipartStore::get) has to do. May block for a disk.
    ///
    /// # Errors
    /// Those of `get`.
    fn read_body(&self, _key: &ObjectKey, _if_match: &ETag) -> Result<Option<Arc<dyn ReadAt>>> {
        Ok(None)
    }
}

/// A part while it is written. Dropped before it is finished, it is not stored.
pub trait PartSink: Send + Sync {
    /// Writes `bytes` at `at`, counted from the part's first byte. Pieces come from any thread, in any order; they do not
    /// overlap. May block for a disk.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for bytes past the part's end; else what the disk says.
    fn write(&self, at: u64, bytes: &[u8]) -> Result<()>;

    /// Stores the part, whose bytes were all written.
    ///
    /// # Errors
    /// Retryable if bytes are missing; else those of [`put_part`](super::MultipartStore::put_part).
    fn finish(self: Arc<Self>) -> BoxFuture<'static, Result<ETag>>;
}

/// What every sink does about the length: nothing past the end, and nothing missing.
#[derive(Debug)]
pub(super) struct Written {
    len: u64,
    bytes: AtomicU64,
}

impl Written {
    pub(super) fn new(len: u64) -> Self {
        Self { len, bytes: AtomicU64::new(0) }
    }

    /// Counts `bytes` to be written at `at`.
    pub(super) fn add(&self, at: u64, bytes: &[u8]) -> Result<()> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.len) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{} bytes at {at} of a part of {} are past its end", bytes.len(), self.len),
            ));
        }
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    /// The part's length, if that many were written.
    pub(super) fn all(&self) -> Result<u64> {
        match self.bytes.load(Relaxed) {
            written if written == self.len => Ok(self.len),
            written => Err(Payload::wrong_length(self.len, written)),
        }
    }
}

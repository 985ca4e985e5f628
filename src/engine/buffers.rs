//! The memory of the engine: credits that are taken before bytes are made, and buffers that come back by themselves.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::slab::{PIECES, Piece};
use crate::crypto::SEALED_STRIPE;
use crate::error::{Error, ErrorKind, Result};

/// Buffers of one sealed stripe each: allocated when first needed, then kept and reused, as many as the budget has credits.
///
/// Who takes buffers holds credits for them: that is what bounds them, so taking one never waits.
pub(crate) struct Buffers {
    free: Mutex<Vec<Piece>>,
    credits: Arc<Semaphore>,
    total: u32,
}

impl Buffers {
    pub(crate) fn new(total: u32) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), credits: Arc::new(Semaphore::new(total as usize)), total })
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Buffers that there are while none is in use.
    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.free.lock().unwrap().len()
    }

    /// Waits, in order of asking, until `n` credits are free. All at once, so that whoever has some can always finish.
    pub(crate) async fn credits(&self, n: u32) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.credits)
            .acquire_many_owned(n.min(self.total))
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, "the memory budget was closed"))
    }

    /// `n` credits, if they are free now.
    pub(crate) fn free_credits(&self, n: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.credits).try_acquire_many_owned(n).ok()
    }

    /// How many credits there are for what is done ahead of need: a quarter stays free for what is needed now.
    pub(crate) fn spare(&self) -> u32 {
        self.total - self.total / 4
    }

    /// `n` credits, if a quarter of the budget is still free then: for what is done ahead of need.
    pub(crate) fn spare_credits(&self, n: u32) -> Option<OwnedSemaphorePermit> {
        let left = self.credits.available_permits().checked_sub(n as usize)?;
        if left < (self.total - self.spare()) as usize { None } else { self.free_credits(n) }
    }

    pub(crate) fn take(self: &Arc<Self>) -> Buffer {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            *free = Piece::slab();
        }
        let bytes = free.pop();
        Buffer { bytes, filled: 0, home: Arc::clone(self), permit: None }
    }
}

/// Room for one sealed stripe, or the plaintext of one. Back in the pool when dropped.
pub(crate) struct Buffer {
    /// Always there until it is dropped.
    bytes: Option<Piece>,
    filled: usize,
    home: Arc<Buffers>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    /// Keeps `permit` until the buffer is back in the pool.
    pub(crate) fn with_permit(mut self, permit: OwnedSemaphorePermit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// The whole buffer, to write into.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().unwrap_or_default()
    }

    pub(crate) fn set_filled(&mut self, filled: usize) {
        debug_assert!(filled <= SEALED_STRIPE);
        self.filled = filled.min(SEALED_STRIPE);
    }

    /// Another buffer of the same pool.
    pub(crate) fn another(&self) -> Self {
        self.home.take()
    }

    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_deref().and_then(|bytes| bytes.get(..self.filled)).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader's bytes may come back long after their credits.
        if free.len() < PIECES.max(self.home.total as usize) {
            free.extend(self.bytes.take());
        }
        drop(free);
        drop(self.permit.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_back_when_the_last_bytes_of_it_are_dropped() {
        let pool = Buffers::new(40);
        let mut buffer = pool.take();
        buffer.space()[..3].copy_from_slice(b"abc");
        buffer.set_filled(3);
        let bytes = buffer.freeze();
        let slice = bytes.slice(1..);
        drop(bytes);
        let free = pool.free.lock().unwrap().len();
        assert_eq!(&slice[..], b"bc");
        drop(slice);
        assert_eq!(pool.free.lock().unwrap().len(), free + 1);
    }

    #[tokio::test]
    async fn credits_come_back_with_what_holds_them() {
        let pool = Buffers::new(2);
        let credits = pool.credits(2).await.unwrap();
        assert_eq!(pool.credits.available_permits(), 0);
        let buffer = pool.take().with_permit(credits).freeze();
        drop(buffer);
        assert_eq!(pool.credits.available_permits(), 2);
    }
}

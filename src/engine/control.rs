//! What a caller holds while an upload or a download runs: how far it is, and the means to stop it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// How far an upload or a download is, in bytes of plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that went through the cipher in this run, a second time for parts that had to be sealed again.
    pub sealed: u64,
    /// Bytes that are safely where they should be: acknowledged by the store, or written to the target.
    pub done: u64,
    /// Bytes there are in all, where that is known.
    pub total: Option<u64>,
}

/// Called with every change, from any thread; it should return at once.
pub type ProgressCallback = Arc<dyn Fn(Progress) + Send + Sync>;

/// Counts, and tells whoever wants to know.
#[derive(Clone)]
pub(crate) struct Meter(Arc<MeterState>);

struct MeterState {
    sealed: AtomicU64,
    done: AtomicU64,
    total: Option<u64>,
    callback: Option<ProgressCallback>,
}

impl Meter {
    pub(crate) fn new(total: Option<u64>, callback: Option<ProgressCallback>) -> Self {
        Self(Arc::new(MeterState { sealed: AtomicU64::new(0), done: AtomicU64::new(0), total, callback }))
    }

    pub(crate) fn sealed(&self, bytes: u64) {
        self.0.sealed.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }

    pub(crate) fn done(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }

    /// What was done is to be done again.
    pub(crate) fn undone(&self, bytes: u64) {
        self.0.done.fetch_sub(bytes, Ordering::Relaxed);
        self.tell();
    }

    fn tell(&self) {
        if let Some(callback) = &self.0.callback {
            callback(Progress {
                sealed: self.0.sealed.load(Ordering::Relaxed),
                done: self.0.done.load(Ordering::Relaxed),
                total: self.0.total,
            });
        }
    }
}

/// Stops an upload from outside. Clones stop the same upload.
#[derive(Clone)]
pub struct Cancel(Arc<watch::Sender<Option<OnCancel>>>);

/// What becomes of a cancelled upload's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCancel {
    /// They stay, and the ledger with them, so that the upload can be resumed.
    KeepForResume,
    /// They are removed from the store.
    Abort,
}

impl Cancel {
    /// A handle that has not been used yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Asks for the end. The upload's future then ends soon, with [`Cancelled`](crate::ErrorKind::Cancelled). The first call counts.
    pub fn cancel(&self, what: OnCancel) {
        self.0.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(what);
            first
        });
    }

    /// Ends when [`cancel`](Self::cancel) is called.
    pub(crate) async fn cancelled(&self) -> OnCancel {
        let mut asked = self.0.subscribe();
        // Taken out of its lock before anything else is awaited: a future that holds one is not `Send`.
        let what = asked.wait_for(Option::is_some).await.ok().and_then(|asked| *asked);
        match what {
            Some(what) => what,
            None => std::future::pending().await,
        }
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&*self.0.borrow()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cancel_counts() {
        let cancel = Cancel::new();
        cancel.cancel(OnCancel::KeepForResume);
        cancel.clone().cancel(OnCancel::Abort);
        assert_eq!(cancel.cancelled().await, OnCancel::KeepForResume);
    }

    #[test]
    fn waiting_may_move_between_threads() {
        fn is_send(_: impl Send) {}
        // And with it every upload, which programs spawn.
        is_send(Cancel::new().cancelled());
    }
}

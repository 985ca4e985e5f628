//! Ctrl-C: the first asks for a clean end, the second does not wait for it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sealift::engine::{Cancel, OnCancel};
use sealift::{Error, ErrorKind};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Result};
use crate::output;

/// The signals that ask the program to end, from the moment this is made.
pub(crate) struct Interrupts {
    int: Signal,
    term: Signal,
}

impl Interrupts {
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|e| Error::io("listening for signals", e));
        Ok(Self { int: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }

    /// Runs `work` to its end, which the first signal asks for by `cancel`.
    pub(crate) async fn cancelling<T>(mut self, cancel: &Cancel, what: OnCancel, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = self.next() => cancel.cancel(what),
        }
        output::say("Stopping; press Ctrl-C again to stop at once.");
        self.exit_at_the_next();
        work.await
    }

    /// Runs `work`, and drops it at the first signal.
    pub(crate) async fn dropping<T>(mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = tokio::select! {
            done = work => Some(done),
            () = self.next() => None,
        };
        done.unwrap_or_else(|| {
            self.exit_at_the_next();
            Err(Error::new(ErrorKind::Cancelled, "interrupted").into())
        })
    }

    /// Something to look at now and then, which the first signal sets.
    pub(crate) fn into_flag(mut self) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&flag);
        tokio::spawn(async move {
            self.next().await;
            output::say("Stopping; press Ctrl-C again to stop at once.");
            set.store(true, Ordering::Relaxed);
            self.exit_at_the_next();
        });
        flag
    }

    /// Done at the first signal.
    #[cfg(feature = "gateway")]
    pub(crate) async fn stopping(mut self) {
        self.next().await;
        output::say("Stopping when requests in flight have ended; press Ctrl-C again to stop at once.");
        self.exit_at_the_next();
    }

    fn exit_at_the_next(mut self) {
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(Exit::Interrupted as i32);
        });
    }
}

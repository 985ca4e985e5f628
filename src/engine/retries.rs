//! Requests that are repeated outside of an upload's machine: reads, and what is looked at before and after.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::upload::RetryPolicy;

/// How often what fails is asked for again, by several requests together.
#[derive(Debug)]
pub(crate) struct Retries {
    policy: RetryPolicy,
    /// What is left of the policy's budget. What succeeds gives one back: a reader may be open for months.
    left: AtomicU32,
    /// How often the store asked for fewer requests.
    throttled: AtomicU32,
    /// Whether it has answered anything yet.
    answered: AtomicBool,
}

/// That a store cannot be reached, said once in a while and not at every attempt of every upload and read.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<Instant>>);

impl Outage {
    const PAUSE: Duration = Duration::from_secs(60);

    /// Says so, unless that was done lately.
    pub(crate) fn tell(&self, error: &Error) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= Self::PAUSE) {
            *told = Some(Instant::now());
            tracing::warn!("{error}: it is tried again for a while");
        }
    }
}

impl Retries {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        let (left, throttled) = (AtomicU32::new(policy.budget), AtomicU32::new(0));
        Self { left, throttled, answered: AtomicBool::new(false), policy }
    }

    /// How often the store asked for fewer requests so far.
    pub(crate) fn throttled(&self) -> u32 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// A request succeeded.
    pub(crate) fn succeeded(&self) {
        self.answered.store(true, Ordering::Relaxed);
        let more = |left: u32| (left < self.policy.budget).then_some(left.saturating_add(1));
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Waits until a request that failed `failures` times in a row, at last with `error`, is to be made again. Gives the error back if it
    /// is not.
    pub(crate) async fn wait(&self, shared: &Shared, failures: u32, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::Throttled {
            self.throttled.fetch_add(1, Ordering::Relaxed);
        }
        if error.kind() == ErrorKind::Unreachable {
            shared.outage.tell(&error);
            if failures >= RetryPolicy::FIRST_CONTACT && !self.answered.load(Ordering::Relaxed) {
                return Err(error);
            }
        } else {
            self.answered.store(true, Ordering::Relaxed);
        }
        let Some(pause) = self.policy.pause(failures, error.retry(), shared.jitter()?) else { return Err(error) };
        let take = |left: u32| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(error);
        }
        tracing::debug!(%error, failures, ?pause, "a request is made again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Makes a request until it succeeds or is not to be made again.
    pub(crate) async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        shared: &Shared,
        request: impl Fn() -> F,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            match request().await {
                Ok(done) => {
                    self.succeeded();
                    return Ok(done);
                }
                Err(error) => {
                    failures += 1;
                    self.wait(shared, failures, error).await?;
                }
            }
        }
    }
}

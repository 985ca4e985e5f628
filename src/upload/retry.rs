//! What is to be done, what is being done, and what waits to be tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::protocol::{ApiMisuse, Op};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::types::{Attempt, PartNumber};

/// How often, and after what pauses, failed operations are repeated.
///
/// The pause before the n-th retry is random, evenly between nothing and `base` × 2ⁿ⁻¹, at most `cap` ("full jitter",
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). Where the store says how long to wait,
/// it comes on top of that, so that what was refused together does not come back together.
///
/// A store that nobody has heard of yet is asked less often, [`FIRST_CONTACT`](Self::FIRST_CONTACT) times: where every connection is refused
/// from the start, more likely the address is wrong than the store down for a minute.
///
/// Nothing is hedged: no request is sent a second time while the first may still be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often an operation is tried in all.
    pub attempts: u32,
    /// How many retries an upload has in all. Aborting has its own.
    pub budget: u32,
    /// The longest first pause.
    pub base: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// Rides out a store that is down for a minute.
    fn default() -> Self {
        Self { attempts: 12, budget: 1_000, base: Duration::from_millis(250), cap: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// How often, at most, a store is asked that is [unreachable](ErrorKind::Unreachable) and has not answered anything before.
    pub const FIRST_CONTACT: u32 = 5;

    pub(super) fn check(&self) -> Result<()> {
        if self.attempts == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "every operation needs at least one attempt"));
        }
        Ok(())
    }

    /// When to try again what failed for the `failures`-th time, if at all.
    fn next(&self, now: Instant, failures: u32, retry: Retry, jitter: u64) -> Option<Instant> {
        now.checked_add(self.pause(failures, retry, jitter)?)
    }

    /// How long to wait before trying again what failed for the `failures`-th time, if at all. `jitter` is random.
    pub(crate) fn pause(&self, failures: u32, retry: Retry, jitter: u64) -> Option<Duration> {
        let at_least = match retry {
            Retry::No => return None,
            Retry::Yes => Duration::ZERO,
            Retry::After(pause) => pause,
        };
        if failures >= self.attempts {
            return None;
        }
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        let pause = (u128::from(longest) * u128::from(jitter)) >> 64;
        at_least.checked_add(Duration::from_nanos(pause as u64))
    }
}

/// The operations of an upload that are not answered yet. What they mean, the machine's state knows.
#[derive(Clone, Debug)]
pub(super) struct Work {
    policy: RetryPolicy,
    /// Retries that are left of the policy's budget.
    retries_left: u32,
    due: BTreeSet<Op>,
    running: BTreeSet<Op>,
    waiting: BTreeSet<(Instant, Op)>,
    /// Whether the store has answered anything yet.
    answered: bool,
    /// Failures so far of operations other than `Put`, whose attempts count themselves.
    failures: BTreeMap<Op, u32>,
    /// The latest attempt at each upload part that was begun.
    attempts: BTreeMap<PartNumber, Attempt>,
    /// Attempts at upload parts that were stored and lost again, which those that follow do not count as failures.
    before: BTreeMap<PartNumber, u32>,
}

impl Work {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self {
            retries_left: policy.budget,
            policy,
            due: BTreeSet::new(),
            running: BTreeSet::new(),
            waiting: BTreeSet::new(),
            answered: false,
            failures: BTreeMap::new(),
            attempts: BTreeMap::new(),
            before: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, op: Op) {
        self.due.insert(op);
    }

    /// The next attempt at an upload part: the first, but where what was stored was lost.
    pub(super) fn add_put(&mut self, upload_part: PartNumber) {
        let before = self.attempts.get(&upload_part).map_or(0, |attempt| attempt.0);
        if before > 0 {
            self.before.insert(upload_part, before);
        }
        self.add(Op::Put { upload_part, attempt: Attempt(before + 1) });
    }

    /// How many `Put`s run.
    pub(super) fn puts(&self) -> u32 {
        let puts = self.running.iter().filter(|op| matches!(op, Op::Put { .. })).count();
        u32::try_from(puts).unwrap_or(u32::MAX)
    }

    /// Begins the next operation that is due, with never more than `max_in_flight` `Put`s.
    pub(super) fn begin_next(&mut self, max_in_flight: u32) -> Option<Op> {
        let full = self.puts() >= max_in_flight;
        let op = *self.due.iter().find(|op| !(full && matches!(op, Op::Put { .. })))?;
        self.due.remove(&op);
        self.begin(op);
        Some(op)
    }

    pub(super) fn begin(&mut self, op: Op) {
        self.running.insert(op);
        if let Op::Put { upload_part, attempt } = op {
            self.attempts.insert(upload_part, attempt);
        }
    }

    pub(super) fn is_running(&self, op: Op) -> bool {
        self.running.contains(&op)
    }

    /// Whether an answer to `op` is awaited: not if it is late or repeated.
    pub(super) fn expects(&self, op: Op) -> Result<bool, ApiMisuse> {
        if self.is_running(op) {
            return Ok(true);
        }
        match op {
            Op::Put { upload_part, attempt }
                if attempt >= Attempt(1) && self.attempts.get(&upload_part).is_some_and(|begun| attempt <= *begun) =>
            {
                Ok(false)
            }
            _ => Err(ApiMisuse::UNASKED),
        }
    }

    /// Somebody answered to `op`, with whatever it was.
    pub(super) fn answered(&mut self, op: Op) {
        self.answered |= asks_the_store(op);
    }

    /// `op` is over.
    pub(super) fn finish(&mut self, op: Op) {
        self.running.remove(&op);
        self.failures.remove(&op);
    }

    /// `op` failed: it waits to be tried again, or `false` if it is not to be.
    pub(super) fn retry(&mut self, now: Instant, op: Op, retry: Retry, jitter: u64) -> bool {
        self.running.remove(&op);
        // What a source gave before it failed is gone. Filling again would go on behind it, and nobody would notice.
        if matches!(op, Op::Fill(_)) {
            return false;
        }
        // An upload that fails because its retries are used up must still be aborted well.
        let budgeted = op != Op::Abort;
        if budgeted && self.retries_left == 0 {
            return false;
        }
        let failures = match op {
            Op::Put { upload_part, attempt } => {
                attempt.0.saturating_sub(self.before.get(&upload_part).copied().unwrap_or(0))
            }
            _ => self.failures.get(&op).map_or(1, |failures| failures.saturating_add(1)),
        };
        if asks_the_store(op) && !self.answered && failures >= RetryPolicy::FIRST_CONTACT {
            return false;
        }
        let Some(at) = self.policy.next(now, failures, retry, jitter) else { return false };
        self.retries_left -= u32::from(budgeted);
        let again = match op {
            Op::Put { upload_part, attempt } => Op::Put { upload_part, attempt: Attempt(attempt.0 + 1) },
            _ => {
                self.failures.insert(op, failures);
                op
            }
        };
        self.waiting.insert((at, again));
        true
    }

    /// What has waited until `now` is due.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(first) = self.waiting.first().filter(|(at, _)| *at <= now).copied() {
            self.waiting.remove(&first);
            self.due.insert(first.1);
        }
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Nothing that has not begun will be. What has, may still be answered.
    pub(super) fn give_up(&mut self) {
        self.due.clear();
        self.waiting.clear();
    }
}

fn asks_the_store(op: Op) -> bool {
    matches!(op, Op::Initiate | Op::Put { .. } | Op::PutObject | Op::Complete | Op::Abort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_are_spread_evenly() {
        let policy = RetryPolicy { attempts: 100, ..RetryPolicy::default() };
        let now = Instant::now();
        let pause = |failures, jitter| policy.next(now, failures, Retry::Yes, jitter).unwrap() - now;
        for (failures, longest) in [(1, 250), (2, 500), (3, 1_000), (7, 16_000), (8, 30_000), (99, 30_000)] {
            let longest = Duration::from_millis(longest);
            assert_eq!(pause(failures, 0), Duration::ZERO);
            assert_eq!(pause(failures, 1 << 63), longest / 2);
            assert!(pause(failures, u64::MAX) <= longest && pause(failures, u64::MAX) > longest * 99 / 100);
        }
        assert_eq!(policy.next(now, 100, Retry::Yes, 0), None);
        assert_eq!(policy.next(now, 1, Retry::No, 0), None);
    }

    #[test]
    fn what_the_store_asks_for_comes_on_top() {
        let now = Instant::now();
        let after = Retry::After(Duration::from_secs(5));
        let pause = |jitter| RetryPolicy::default().next(now, 1, after, jitter).unwrap() - now;
        assert_eq!(pause(0), Duration::from_secs(5));
        assert_eq!(pause(1 << 63), Duration::from_millis(5_125));
    }

    #[test]
    fn a_part_that_was_stored_and_lost_has_all_its_attempts_again() {
        let policy = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
        let (mut work, now, part) = (Work::new(policy), Instant::now(), PartNumber::MIN);
        for round in 0..3 {
            work.add_put(part);
            let first = work.begin_next(1).unwrap();
            assert_eq!(first, Op::Put { upload_part: part, attempt: Attempt(2 * round + 1) });
            assert!(work.retry(now, first, Retry::Yes, 0));
            work.wake(now);
            let second = work.begin_next(1).unwrap();
            assert!(!work.clone().retry(now, second, Retry::Yes, 0), "there are two");
            work.finish(second);
        }
    }

    #[test]
    fn a_store_that_never_answered_is_asked_less_often() {
        let retries = |answered_before: Option<Op>| {
            let (mut work, now) = (Work::new(RetryPolicy::default()), Instant::now());
            answered_before.into_iter().for_each(|op| work.answered(op));
            (0..20).take_while(|_| work.retry(now, Op::PutObject, Retry::Yes, 0)).count() + 1
        };
        assert_eq!(retries(None), 5);
        assert_eq!(retries(Some(Op::Seal(PartNumber::MIN))), 5, "nobody was asked");
        assert_eq!(retries(Some(Op::Initiate)), 12);
    }

    #[test]
    fn no_policy_overflows() {
        let longest = RetryPolicy { attempts: u32::MAX, budget: u32::MAX, base: Duration::MAX, cap: Duration::MAX };
        let now = Instant::now();
        assert_eq!(longest.next(now, 1, Retry::Yes, 0), Some(now));
        assert!(longest.next(now, u32::MAX - 1, Retry::Yes, u64::MAX).is_none_or(|at| at > now));
        assert_eq!(longest.next(now, 1, Retry::After(Duration::MAX), 0), None);
    }
}

//! How many parts are sent at once: found out by measuring, halved when the store asks for less.

use std::time::{Duration, Instant};

/// With how many parts an upload begins whose best number is to be found out.
const FIRST: u32 = 8;
/// More at once are worth it if they make it faster by a tenth.
const GAIN: (u128, u128) = (11, 10);
/// After so many rounds it is tried whether a quarter more is worth it by now.
const PATIENCE: u32 = 16;

/// The number of `Put`s that may run, by what became of those before.
///
/// Additive increase, multiplicative decrease (<https://www.rfc-editor.org/rfc/rfc5681#section-3.1>): a store that is throttling halves
/// it, once for all that were in flight then, and every round without throttling gives one back. A round is as many answers as may be
/// in flight. Where the best number is to be found out, it grows by half as long as a round was faster than the best one by a tenth, and
/// goes back to that one's otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    limit: u32,
    most: u32,
    phase: Phase,
    /// Answers that are still to come from before the limit was halved: that the store was busy then says nothing about now.
    earlier: u32,
    /// Answers that are still to come from before the limit grew: how fast they came says nothing about now.
    warming: u32,
    /// When the round began, if a part was stored since.
    since: Option<Instant>,
    answers: u32,
    bytes: u128,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The caller said how many.
    Fixed,
    /// More while that is faster than the best.
    Growing(Option<Best>),
    /// As many as were the fastest, since so many rounds.
    Settled(u32),
    /// Back up to as many as there were before the store asked for less.
    Recovering { to: u32, found: bool },
}

#[derive(Clone, Copy, Debug)]
struct Best {
    limit: u32,
    rate: Rate,
}

/// Bytes in a time.
#[derive(Clone, Copy, Debug)]
struct Rate(u128, Duration);

impl Rate {
    fn gains_on(self, other: Self) -> bool {
        // Cross-multiplied, so that no time is a divisor.
        let (ours, theirs) = (self.0 * other.1.as_micros(), other.0 * self.1.as_micros());
        ours * GAIN.1 > theirs * GAIN.0
    }
}

impl Flow {
    /// At most `most` at once, and from the beginning unless that is to be found out.
    pub(crate) fn new(most: u32, find_out: bool) -> Self {
        let (limit, phase) = if find_out { (FIRST.min(most), Phase::Growing(None)) } else { (most, Phase::Fixed) };
        Self { limit, most, phase, earlier: 0, warming: 0, since: None, answers: 0, bytes: 0 }
    }

    /// How many may be in flight now. At least one.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// A part of `bytes` was stored.
    pub(crate) fn stored(&mut self, now: Instant, bytes: u64) {
        if self.is_of_before() {
            return;
        }
        if self.warming > 0 {
            self.warming -= 1;
            return self.begin_round(Some(now));
        }
        let Some(since) = self.since else {
            // What came before the first answer was waiting for it.
            return self.begin_round(Some(now));
        };
        self.answers += 1;
        self.bytes += u128::from(bytes);
        if self.answers >= self.limit {
            let rate = Rate(self.bytes, now.saturating_duration_since(since));
            self.end_round(rate);
            self.begin_round(Some(now));
        }
    }

    /// Storing a part failed while `running` others are in flight; whether because the store asks for fewer requests.
    pub(crate) fn failed(&mut self, throttled: bool, running: u32) {
        if self.is_of_before() || !throttled {
            return;
        }
        let (to, found) = match self.phase {
            Phase::Recovering { to, found } => (to, found),
            Phase::Fixed => (self.most, false),
            Phase::Growing(_) | Phase::Settled(_) => (self.limit, true),
        };
        self.phase = Phase::Recovering { to, found };
        self.limit = (self.limit / 2).max(1);
        self.earlier = running;
        self.begin_round(None);
    }

    /// Whether this answer was already on its way when the limit was halved.
    fn is_of_before(&mut self) -> bool {
        let is = self.earlier > 0;
        self.earlier = self.earlier.saturating_sub(1);
        is
    }

    fn begin_round(&mut self, since: Option<Instant>) {
        (self.since, self.answers, self.bytes) = (since, 0, 0);
    }

    fn end_round(&mut self, rate: Rate) {
        let here = Best { limit: self.limit, rate };
        match self.phase {
            Phase::Fixed => {}
            Phase::Growing(best) if best.is_none_or(|best| rate.gains_on(best.rate)) => {
                self.phase = if self.limit < self.most { Phase::Growing(Some(here)) } else { Phase::Settled(0) };
                self.warming = self.limit;
                self.limit = self.limit.saturating_add((self.limit / 2).max(1)).min(self.most);
            }
            Phase::Growing(best) => {
                self.limit = best.map_or(self.limit, |best| best.limit);
                self.phase = Phase::Settled(0);
            }
            Phase::Settled(rounds) if rounds < PATIENCE || self.limit == self.most => {
                self.phase = Phase::Settled(rounds.saturating_add(1));
            }
            Phase::Settled(_) => {
                self.phase = Phase::Growing(Some(here));
                self.warming = self.limit;
                self.limit = self.limit.saturating_add((self.limit / 4).max(1)).min(self.most);
            }
            Phase::Recovering { to, found } => {
                self.limit = (self.limit + 1).min(to);
                if self.limit == to {
                    self.phase = if found { Phase::Settled(0) } else { Phase::Fixed };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PART: u64 = 16 << 20;

    /// A store on which each of so many requests at once is `each` fast, and all together at most `all`, in bytes a second.
    struct Line {
        now: Instant,
        each: u64,
        all: u64,
    }

    fn line(each: u64, all: u64) -> Line {
        Line { now: Instant::now(), each, all }
    }

    impl Line {
        /// How many are in flight after `rounds`, and the most that ever were.
        fn run(&mut self, flow: &mut Flow, rounds: u32) -> (u32, u32) {
            let mut most = 0;
            for _ in 0..rounds {
                let limit = flow.limit();
                most = most.max(limit);
                let rate = (self.each * u64::from(limit)).min(self.all);
                for _ in 0..limit {
                    self.now += Duration::from_secs_f64(PART as f64 / rate as f64);
                    flow.stored(self.now, PART);
                }
            }
            (flow.limit(), most)
        }
    }

    #[test]
    fn it_grows_while_that_is_faster() {
        // 20 connections fill the line.
        let (limit, most) = line(50_000_000, 1_000_000_000).run(&mut Flow::new(64, true), 14);
        assert!((18..=27).contains(&limit) && most <= 40, "{limit} {most}");
        // As far as it may. The last few alone are not worth it.
        let (limit, most) = line(50_000_000, u64::MAX).run(&mut Flow::new(64, true), 20);
        assert!(limit >= 58 && most == 64, "{limit} {most}");
    }

    #[test]
    fn it_stays_small_where_more_is_not_faster() {
        let (mut line, mut flow) = (line(1_000_000_000, 1_000_000_000), Flow::new(64, true));
        assert_eq!(line.run(&mut flow, 10), (8, 12));
        // Now and then it tries whether that is still so.
        let (limit, most) = line.run(&mut flow, 100);
        assert!((8..=10).contains(&limit) && most == 10, "{limit} {most}");
    }

    #[test]
    fn it_notices_when_more_becomes_faster() {
        let (mut line, mut flow) = (line(100_000_000, 100_000_000), Flow::new(64, true));
        assert_eq!(line.run(&mut flow, 10).0, 8);
        line.all = 2_000_000_000;
        let (limit, _) = line.run(&mut flow, 60);
        assert!(limit >= 18, "{limit}");
    }

    #[test]
    fn what_the_caller_fixed_stays() {
        assert_eq!(line(1, 1).run(&mut Flow::new(7, false), 50), (7, 7));
    }

    #[test]
    fn throttling_halves_it_once_for_all_that_were_in_flight_and_it_comes_back_one_by_one() {
        let mut flow = Flow::new(16, false);
        for running in (0..16).rev() {
            flow.failed(true, running);
        }
        assert_eq!(flow.limit(), 8);
        flow.failed(false, 7);
        assert_eq!(flow.limit(), 8, "what fails otherwise is no reason");
        flow.failed(true, 0);
        assert_eq!(flow.limit(), 4);
        let mut line = line(50_000_000, u64::MAX);
        // The first answer begins the first round.
        for (answers, limit) in [(5, 5), (5, 6), (6, 7), (7, 8)] {
            for _ in 0..answers {
                flow.stored(line.now, PART);
            }
            assert_eq!(flow.limit(), limit);
        }
        assert_eq!(line.run(&mut flow, 30), (16, 16), "and no further than it was");
    }

    #[test]
    fn a_number_that_was_found_out_is_come_back_to() {
        let (mut line, mut flow) = (line(50_000_000, 1_000_000_000), Flow::new(64, true));
        let (before, _) = line.run(&mut flow, 14);
        flow.failed(true, 0);
        assert_eq!(flow.limit(), before / 2);
        assert_eq!(line.run(&mut flow, before / 2 + 2).0, before);
    }

    proptest! {
        #[test]
        fn it_never_stops_nor_exceeds_what_is_allowed(
            most in 1..100_u32,
            find_out: bool,
            answers in prop::collection::vec((any::<bool>(), any::<bool>(), 0..200_u64, any::<u32>()), 0..300),
        ) {
            let (mut flow, mut now) = (Flow::new(most, find_out), Instant::now());
            for (stored, throttled, ms, running) in answers {
                now += Duration::from_millis(ms);
                let before = flow.limit();
                if stored {
                    flow.stored(now, PART);
                } else {
                    flow.failed(throttled, running % most);
                    prop_assert!(flow.limit() <= before && flow.limit() >= before / 2);
                }
                prop_assert!((1..=most).contains(&flow.limit()));
            }
        }
    }
}

//! Any course of events, and every course of small uploads.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::upload::model::{run, run_fair};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// The six invariants and the commit point, which the model checks at every step.
    #[test]
    fn every_promise_holds_whatever_happens(script in prop::collection::vec(any::<u8>(), 0..800)) {
        run(&script);
    }

    #[test]
    fn s23_without_failures_every_order_completes(script in prop::collection::vec(any::<u8>(), 12..300)) {
        if let Some(outcome) = run_fair(&script) {
            prop_assert_eq!(outcome, completed());
        }
    }
}

/// What the property tests rest on: their scripts reach every end, most setups are taken, and many uploads complete.
#[test]
fn scripts_reach_every_outcome() {
    let mut random = 1_u64;
    let mut byte = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 56) as u8
    };
    let mut seen = BTreeMap::new();
    for _ in 0..2_000 {
        let len = 12 + usize::from(byte()) * 3;
        let script: Vec<u8> = (0..len).map(|_| byte()).collect();
        let outcome = match run(&script) {
            None => "refused",
            Some(Outcome::Completed(_)) => "completed",
            Some(Outcome::NotStarted(_)) => "not started",
            Some(Outcome::Aborted(_)) => "aborted",
            Some(Outcome::Kept(_)) => "kept",
            Some(Outcome::AbortFailed(_)) => "abort failed",
        };
        *seen.entry(outcome).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(seen["refused"] < 1_200 && seen["completed"] > 200, "{seen:?}");
}

/// Every order in which a small upload's work can finish, and in each state that can be reached:
/// the process is killed, or the upload cancelled, or something fails for good.
fn explore(setup: &Setup) -> usize {
    let mut seen = HashSet::new();
    let mut states = vec![Model::new(setup.clone()).unwrap()];
    while let Some(mut state) = states.pop() {
        state.begin_all();
        if !seen.insert(state.state()) {
            continue;
        }
        if state.machine.outcome().is_some() {
            assert_eq!(state.machine.outcome(), Some(&completed()));
            continue;
        }
        for records in 0..=state.appended() {
            for lands in [false, true] {
                kill_and_resume(&state, records, lands);
            }
        }
        for keep in [false, true] {
            let mut cancelled = state.clone();
            cancelled.tell(Input::Cancel { keep });
            match cancelled.finish() {
                Outcome::Kept(Why::Cancelled) if keep => kill_and_resume(&cancelled, cancelled.appended(), false),
                Outcome::Aborted(Why::Cancelled) => {}
                Outcome::NotStarted(Why::Cancelled) if setup.config.one_request => {}
                // The answer to Complete decided.
                outcome => assert!(outcome == completed() && cancelled.manifests().len() == 1, "{outcome:?}"),
            }
        }
        for n in 0..state.running().len() {
            let op = state.running()[n];
            let mut failed = state.clone();
            failed.fail_op(op, Retry::No, false);
            match failed.finish() {
                Outcome::NotStarted(why) => {
                    assert_eq!(why, Why::Failed(op));
                    assert!(op == Op::Initiate || setup.config.one_request);
                }
                Outcome::Aborted(why) => assert_eq!(why, Why::Failed(op)),
                outcome => panic!("{outcome:?}"),
            }
            let mut next = state.clone();
            next.succeed(n);
            states.push(next);
        }
    }
    seen.len()
}

/// A second process goes on where the first one died, and a third where that one does, at each of its steps.
fn kill_and_resume(killed: &Model, records: usize, lands: bool) {
    let mut second = killed.clone();
    if !second.kill(records, lands) {
        return;
    }
    loop {
        second.begin_all();
        let mut third = second.clone();
        if third.kill(third.appended(), !lands) {
            assert_eq!(third.finish(), completed());
        }
        if second.machine.outcome().is_some() {
            break;
        }
        second.succeed(0);
    }
    assert_eq!(second.machine.outcome(), Some(&completed()));
}

#[test]
fn s16_killed_at_every_step_in_every_order_it_resumes() {
    // Two whole parts and a short one: all held.
    let held = |len, min_part, equal, in_flight| {
        let mut setup = Setup::small();
        setup.len = len;
        setup.config.limits.min_part = min_part;
        setup.config.limits.equal_parts = equal;
        setup.config.max_in_flight = in_flight;
        setup
    };
    let mut cut = held(2 * MIB - 1, 1, true, 8);
    cut.trailer = MIB / 2;
    let mut streamed = held(4 * MIB, 1, false, 8);
    (streamed.part, streamed.config.held, streamed.config.window) = (2 * MIB, 1, 1);
    let mut spooled = streamed.clone();
    (spooled.config.spool, spooled.config.max_in_flight) = (true, 2);
    let mut unsealed = held(2 * MIB + 100, MIB, false, 8);
    unsealed.trailer = 0;
    let mut unsealed_and_empty = held(0, 1, false, 8);
    (unsealed_and_empty.trailer, unsealed_and_empty.known) = (0, false);
    let mut one_request = held(100, MIB, true, 8);
    one_request.config.one_request = true;
    // How many states each has, so that none is explored less by mistake.
    let setups = [
        (held(2 * MIB + 100, 1, false, 8), 104, "three parts at once"),
        (held(2 * MIB + 100, 1, false, 1), 97, "one Put at a time"),
        (held(2 * MIB + 100, MIB, false, 8), 60, "the last part is held back"),
        (held(3 * MIB, 1, true, 8), 104, "equal parts"),
        (cut, 19, "a tail cut in two"),
        (held(0, 1, false, 8), 7, "an empty object"),
        (held(1, MIB, true, 8), 9, "one byte"),
        (streamed, 18, "sealed while they are sent"),
        (spooled, 26, "held outside of memory"),
        (unsealed, 98, "nothing is sealed"),
        (unsealed_and_empty, 8, "an empty object that is not sealed"),
        (one_request, 5, "one request"),
    ];
    let expected: Vec<_> = setups.iter().map(|(_, states, what)| (*what, *states)).collect();
    let explored: Vec<_> = setups.iter().map(|(setup, _, what)| (*what, explore(setup))).collect();
    assert_eq!(explored, expected);
}

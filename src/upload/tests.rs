//! The machine against its model, and the cases that deserve a name.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::model::{Model, Setup, run, run_fair};
use super::*;
use crate::error::{ErrorKind, Retry};
use crate::types::{Attempt, ETag, PartNumber, Salt};

const MIB: u64 = 1 << 20;

fn part(n: u32) -> PartNumber {
    n.try_into().unwrap()
}

fn put(upload_part: u32, attempt: u32) -> Op {
    Op::Put { upload_part: part(upload_part), attempt: Attempt(attempt) }
}

fn model(change: impl FnOnce(&mut Setup)) -> Model {
    let mut setup = Setup::small();
    change(&mut setup);
    Model::new(setup).expect("the machine takes this setup")
}

fn completed() -> Outcome {
    Outcome::Completed(ETag("object".into()))
}

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

#[test]
fn an_object_of_one_part_that_is_held_is_one_request() {
    let ops = |change: fn(&mut Setup)| {
        let mut model = model(|setup| {
            (setup.len, setup.config.one_request) = (100, true);
            change(setup);
        });
        model.begin_all();
        let mut ops = Vec::new();
        while model.machine.outcome().is_none() {
            ops.extend(model.running());
            model.succeed(0);
            model.begin_all();
        }
        assert_eq!(model.machine.outcome(), Some(&completed()));
        ops
    };
    let one = [Op::Fill(part(1)), Op::Seal(part(1)), Op::SealTrailer, Op::PutObject];
    assert_eq!(ops(|_| {}), one);
    assert_eq!(ops(|setup| setup.trailer = 0), one);
    assert_eq!(ops(|setup| setup.len = 0), one[2..]);
    for needs_an_upload in [
        (|setup| setup.len = MIB + 1) as fn(&mut Setup),
        |setup| setup.known = false,
        |setup| (setup.len, setup.part) = (3 * MIB, 4 * MIB),
        |setup| (setup.part, setup.config.limits.max_part) = (MIB / 2, MIB),
    ] {
        assert_eq!(ops(needs_an_upload)[0], Op::Initiate);
    }
}

#[test]
fn one_request_is_repeated_with_the_same_bytes_and_leaves_nothing_to_resume() {
    let one = || {
        model(|setup| {
            (setup.len, setup.config.one_request, setup.config.keep_on_failure) = (100, true, true);
        })
    };
    let mut lost = one();
    lost.advance_to(Op::PutObject);
    lost.fail_op(Op::PutObject, Retry::Yes, true);
    lost.wait();
    assert_eq!(lost.running(), [Op::PutObject], "nothing is sealed again");
    assert_eq!(lost.finish(), completed());

    let mut refused = one();
    refused.advance_to(Op::PutObject);
    refused.fail_op(Op::PutObject, Retry::No, false);
    assert_eq!(refused.finish(), Outcome::NotStarted(Why::Failed(Op::PutObject)));

    // What is under way is awaited: its answer says whether there is an object.
    let mut cancelled = one();
    cancelled.advance_to(Op::PutObject);
    cancelled.tell(Input::Cancel { keep: true });
    assert_eq!(cancelled.finish(), completed());
    let mut cancelled = one();
    cancelled.advance_to(Op::Seal(part(1)));
    cancelled.tell(Input::Cancel { keep: true });
    assert_eq!(cancelled.finish(), Outcome::NotStarted(Why::Cancelled));
}

#[test]
fn s02_a_retry_sends_the_same_bytes_or_seals_afresh() {
    let mut held = model(|_| {});
    held.advance_to(put(1, 1));
    held.fail_op(put(1, 1), Retry::Yes, false);
    held.wait();
    assert!(matches!(held.action(put(1, 2)), Action::Put { body: PutBody::Held(n), .. } if *n == part(1)));
    assert!(!held.running().contains(&Op::Seal(part(1))));
    assert_eq!(held.finish(), completed());
    assert_eq!(held.manifests()[0][0].salt.as_bytes()[..2], [1, 1], "part 1 was sealed once");

    let mut spooled = model(|setup| {
        (setup.part, setup.len, setup.config.held) = (4 * MIB, 12 * MIB, 1);
        (setup.config.spool, setup.config.max_in_flight) = (true, 2);
    });
    spooled.advance_to(put(1, 1));
    spooled.fail_op(put(1, 1), Retry::Yes, false);
    spooled.wait();
    assert!(matches!(spooled.action(put(1, 2)), Action::Put { body: PutBody::Held(n), .. } if *n == part(1)));
    assert!(!spooled.running().contains(&Op::Fill(part(3))), "two parts in the spool are as many as may be sent");
    assert_eq!(spooled.machine.credits_in_use(), 4, "a window for each of two");
    assert_eq!(spooled.finish(), completed());
    assert_eq!(spooled.manifests()[0][0].salt.as_bytes()[..2], [1, 1], "part 1 was sealed once");

    let mut streamed = model(|setup| (setup.part, setup.len, setup.config.held) = (2 * MIB, 4 * MIB, 1));
    streamed.advance_to(put(1, 1));
    streamed.fail_op(put(1, 1), Retry::Yes, false);
    streamed.wait();
    assert!(matches!(streamed.action(put(1, 2)), Action::Put { body: PutBody::Sealing(n), .. } if *n == part(1)));
    assert_eq!(streamed.finish(), completed());
    assert_eq!(streamed.manifests()[0][0].salt.as_bytes()[..2], [1, 2], "part 1's second sealing was stored");
}

#[test]
fn a_part_is_stored_as_it_was_sealed_or_not_at_all() {
    let sealed = SealedPart { number: part(1), len: 2 * MIB, salt: Salt([7; 24]), crc64: 0 };
    let stored = |sealed| Input::Stored { part: part(1), attempt: Attempt(1), etag: ETag("x".into()), sealed };
    let now = std::time::Instant::now();

    let mut streamed = model(|setup| (setup.part, setup.len, setup.config.held) = (2 * MIB, 4 * MIB, 1));
    streamed.advance_to(put(1, 1));
    let other = [None, Some(SealedPart { number: part(2), ..sealed }), Some(SealedPart { len: MIB, ..sealed })];
    for other in other {
        assert!(streamed.machine.handle(now, stored(other)).is_err(), "{other:?}");
    }
    assert!(streamed.machine.handle(now, stored(Some(sealed))).is_ok());

    let mut held = model(|_| {});
    held.advance_to(put(1, 1));
    assert!(held.machine.handle(now, stored(Some(SealedPart { len: MIB, ..sealed }))).is_err(), "it sealed nothing");
    assert!(held.machine.handle(now, stored(None)).is_ok());
}

#[test]
fn s04_a_source_that_changed_is_never_committed() {
    for keep in [false, true] {
        let mut model = model(|setup| setup.config.keep_on_failure = keep);
        model.advance_to(Op::SealTrailer);
        model.fail_op(Op::SealTrailer, Retry::No, false);
        let why = Why::Failed(Op::SealTrailer);
        assert_eq!(model.finish(), if keep { Outcome::Kept(why) } else { Outcome::Aborted(why) });
    }
}

#[test]
fn s19_a_complete_that_failed_is_no_success() {
    let mut model = model(|_| {});
    model.advance_to(Op::Complete);
    model.fail_op(Op::Complete, Retry::No, false);
    assert_eq!(model.running(), [Op::Abort]);
    assert_eq!(model.finish(), Outcome::Aborted(Why::Failed(Op::Complete)));
}

#[test]
fn s20_a_complete_whose_answer_was_lost_is_asked_again() {
    let mut model = model(|_| {});
    model.advance_to(Op::Complete);
    model.fail_op(Op::Complete, Retry::Yes, true);
    model.wait();
    assert_eq!(model.running(), [Op::Complete]);
    assert_eq!(model.finish(), completed());
}

#[test]
fn s21_a_put_whose_answer_was_lost_leaves_manifest_and_list_of_one_attempt() {
    let mut model = model(|setup| (setup.part, setup.len, setup.config.held) = (2 * MIB, 4 * MIB, 1));
    model.advance_to(put(1, 1));
    model.fail_op(put(1, 1), Retry::Yes, true);
    // It comes late, while nothing runs, while the second attempt runs, and after that.
    let late = || Input::Stored { part: part(1), attempt: Attempt(1), etag: ETag("1/1".into()), sealed: None };
    model.tell(late());
    model.wait();
    model.tell(late());
    model.succeed_op(put(1, 2));
    model.tell(late());
    assert_eq!(model.finish(), completed());
    assert_eq!(model.manifests()[0][0].salt.as_bytes()[..2], [1, 2]);
}

/// An upload whose first part, given up on and sent again, lands once more when all is to be published.
fn with_zombie(change: impl FnOnce(&mut Setup)) -> Model {
    let mut model = model(|setup| {
        (setup.part, setup.len, setup.config.held) = (2 * MIB, 4 * MIB, 1);
        change(setup);
    });
    model.advance_to(put(1, 1));
    model.fail_op_late(put(1, 1));
    model.wait();
    model.advance_to(Op::Complete);
    model.land_zombie();
    model.succeed_op(Op::Complete);
    model
}

#[test]
fn s22_an_attempt_that_lands_after_its_successor_is_caught_and_the_part_sent_again() {
    let mut model = with_zombie(|_| {});
    assert_eq!(model.running(), [Op::Fill(part(1))], "part 1 is not what was listed, and nothing else is missing");
    model.advance_to(put(1, 3));
    assert_eq!(model.finish(), completed());
    let [before, after] = model.manifests() else { panic!("one manifest for each Complete") };
    assert_ne!(before[0].salt, after[0].salt, "it was sealed afresh");
    assert_eq!(before[1], after[1]);
}

#[test]
fn s22_of_a_stream_that_is_the_end_and_of_a_kept_upload_it_is_mended_by_resume() {
    assert_eq!(
        with_zombie(|setup| (setup.known, setup.largest, setup.config.held) = (false, 2 * MIB, 2)).finish(),
        aborted_at_complete()
    );
    let mut model = with_zombie(|setup| setup.config.keep_on_failure = true);
    assert!(model.kill(0, false));
    model.begin_all();
    assert_eq!(model.running(), [Op::Fill(part(1))]);
    assert_eq!(model.finish(), completed());
}

#[test]
fn s22_a_store_that_loses_parts_again_and_again_is_given_up() {
    let mut model = with_zombie(|_| {});
    for repair in 2..=4 {
        model.advance_to(Op::Complete);
        model.forget(part(1));
        model.succeed_op(Op::Complete);
        assert_eq!(model.running() == [Op::Abort], repair == 4, "{:?}", model.running());
    }
    assert_eq!(model.finish(), aborted_at_complete());
}

fn aborted_at_complete() -> Outcome {
    Outcome::Aborted(Why::Failed(Op::Complete))
}

#[test]
fn s24_an_abort_that_fails_is_repeated_and_a_lost_upload_reported() {
    let start = || {
        let mut model = model(|setup| setup.config.retry.budget = 0);
        model.advance_to(put(1, 1));
        model.tell(Input::Cancel { keep: false });
        model.begin_all();
        assert_eq!(model.running(), [Op::Abort]);
        model.fail_op(Op::Abort, Retry::Yes, false);
        model.wait();
        model
    };
    assert_eq!(start().finish(), Outcome::Aborted(Why::Cancelled), "its retries are its own");
    let mut lost = start();
    lost.fail_op(Op::Abort, Retry::Yes, false);
    lost.wait();
    lost.fail_op(Op::Abort, Retry::Yes, false);
    assert_eq!(lost.finish(), Outcome::AbortFailed(Why::Cancelled));
}

#[test]
fn s25_retries_are_bounded_and_spread() {
    let mut model = model(|_| {});
    model.advance_to(put(1, 1));
    // The model's jitter is one half; its policy's pauses are at most 100 ms, then 200 ms.
    for (attempt, pause) in [(1, 50), (2, 100)] {
        model.fail_op(put(1, attempt), Retry::Yes, false);
        assert_eq!(model.wait().as_millis() + 1, pause);
    }
    model.fail_op(put(1, 3), Retry::Yes, false);
    assert_eq!(model.finish(), Outcome::Aborted(Why::Failed(put(1, 3))), "three attempts");
}

#[test]
fn s25_nothing_is_tried_again_before_its_time() {
    let mut model = model(|_| {});
    model.advance_to(Op::Initiate);
    model.fail_op(Op::Initiate, Retry::Yes, false);
    model.tell(Input::Timeout);
    model.begin_all();
    assert_eq!(model.running(), []);
    model.wait();
    assert_eq!(model.running(), [Op::Initiate]);
}

#[test]
fn s25_each_of_two_saves_has_its_own_attempts() {
    let mut model = model(|_| {});
    for _ in 0..2 {
        model.advance_to(Op::Save);
        for _ in 0..2 {
            model.fail_op(Op::Save, Retry::Yes, false);
            model.wait();
        }
        model.succeed_op(Op::Save);
    }
    assert_eq!(model.finish(), completed());
}

#[test]
fn s25_a_pause_the_store_asks_for_is_kept() {
    let mut model = model(|_| {});
    model.advance_to(Op::Initiate);
    model.fail_op(Op::Initiate, Retry::After(Duration::from_secs(7)), false);
    assert!(model.wait() >= Duration::from_secs(7));
    model.fail_op(Op::Initiate, Retry::After(Duration::MAX), false);
    assert_eq!(model.finish(), Outcome::NotStarted(Why::Failed(Op::Initiate)), "for ever is not again");
}

#[test]
fn s25_an_upload_has_so_many_retries_in_all() {
    let mut model = model(|setup| setup.config.retry.budget = 2);
    model.advance_to(Op::Initiate);
    model.fail_op(Op::Initiate, Retry::Yes, false);
    model.wait();
    model.advance_to(put(1, 1));
    model.fail_op(put(1, 1), Retry::Yes, false);
    model.wait();
    model.fail_op(put(1, 2), Retry::Yes, false);
    assert_eq!(model.finish(), Outcome::Aborted(Why::Failed(put(1, 2))));
}

#[test]
fn s27_a_ledger_that_cannot_be_written_ends_the_upload() {
    let mut first = model(|setup| setup.config.keep_on_failure = true);
    first.advance_to(Op::Save);
    first.fail_op(Op::Save, Retry::No, false);
    assert_eq!(first.finish(), Outcome::Aborted(Why::Failed(Op::Save)), "nothing names it, so it is not kept");

    let mut later = model(|setup| setup.config.keep_on_failure = true);
    later.advance_to(put(1, 1));
    assert!(later.machine.handle(std::time::Instant::now(), failed(Op::Save)).is_err(), "there was no record yet");
    later.succeed_op(put(1, 1));
    later.tell(failed(Op::Save));
    assert_eq!(later.machine.outcome(), Some(&Outcome::Kept(Why::Failed(Op::Save))));
}

#[test]
fn a_store_that_nobody_answers_for_is_given_up_soon_and_one_that_answered_is_not() {
    let patient = |setup: &mut Setup| setup.config.retry = RetryPolicy { attempts: 12, ..RetryPolicy::default() };
    let asked = |model: &mut Model, op: fn(u32) -> Op| {
        let mut times = 0;
        while model.machine.outcome().is_none() {
            if times > 0 {
                model.wait();
            }
            times += 1;
            model.fail_op(op(times), Retry::Yes, false);
        }
        (times, model.machine.outcome().cloned())
    };
    let mut never = model(patient);
    never.advance_to(Op::Initiate);
    let not_started = Some(Outcome::NotStarted(Why::Failed(Op::Initiate)));
    assert_eq!(asked(&mut never, |_| Op::Initiate), (RetryPolicy::FIRST_CONTACT, not_started));

    let mut later = model(|setup| {
        patient(setup);
        setup.config.max_in_flight = 1;
        setup.config.keep_on_failure = true;
    });
    later.advance_to(put(1, 1));
    let kept = Some(Outcome::Kept(Why::Failed(put(1, 12))));
    assert_eq!(asked(&mut later, |attempt| put(1, attempt)), (12, kept));
}

fn failed(op: Op) -> Input {
    Input::Failed { op, retry: Retry::Yes, throttled: false, unreachable: false, jitter: 0 }
}

#[test]
fn s28_a_cancel_keeps_what_can_be_resumed() {
    for (op, keep, outcome) in [
        (put(2, 1), true, Outcome::Kept(Why::Cancelled)),
        (put(2, 1), false, Outcome::Aborted(Why::Cancelled)),
        (Op::Save, true, Outcome::Aborted(Why::Cancelled)),
    ] {
        let mut model = model(|_| {});
        model.advance_to(op);
        model.tell(Input::Cancel { keep });
        assert_eq!(model.finish(), outcome, "{op:?}");
    }
}

#[test]
fn s28_a_resumed_upload_can_be_kept_again() {
    let mut model = model(|_| {});
    model.advance_to(put(1, 1));
    assert!(model.kill(0, false));
    model.advance_to(put(1, 1));
    model.tell(Input::Cancel { keep: true });
    assert_eq!(model.finish(), Outcome::Kept(Why::Cancelled));
}

/// The store's answer decides whether there is an upload to abort, or an object that must not be called aborted.
#[test]
fn a_cancel_waits_for_initiate_and_complete() {
    let cancelled = |op| {
        let mut model = model(|_| {});
        model.advance_to(op);
        model.tell(Input::Cancel { keep: false });
        model.begin_all();
        assert_eq!(model.running(), [op]);
        model
    };
    assert_eq!(cancelled(Op::Initiate).finish(), Outcome::Aborted(Why::Cancelled));
    assert_eq!(cancelled(Op::Complete).finish(), completed());
    let mut failed = cancelled(Op::Initiate);
    failed.fail_op(Op::Initiate, Retry::Yes, false);
    assert_eq!(failed.finish(), Outcome::NotStarted(Why::Cancelled));
    let mut failed = cancelled(Op::Complete);
    failed.fail_op(Op::Complete, Retry::Yes, false);
    assert_eq!(failed.finish(), Outcome::Aborted(Why::Cancelled));
}

#[test]
fn a_source_longer_than_its_plan_fails_before_it_is_committed() {
    let mut model = model(|setup| {
        (setup.known, setup.uniform, setup.len) = (false, true, 3 * MIB + 1);
        setup.config.limits.max_parts = part(4);
    });
    assert_eq!(model.finish(), Outcome::Aborted(Why::SourceTooLong));
    assert_eq!(model.manifests().len(), 0);
}

/// The upload parts that a tail becomes, and whether the last sealed part is in it.
#[test]
fn tails_are_cut_as_the_store_wants() {
    let tail = |known, len, min_part, equal, trailer| {
        let mut model = model(|setup| {
            (setup.known, setup.len, setup.trailer) = (known, len, trailer);
            (setup.config.limits.min_part, setup.config.limits.equal_parts) = (min_part, equal);
        });
        model.advance_to(Op::Complete);
        let Action::Complete(parts) = model.action(Op::Complete) else { panic!("not Complete") };
        let (listed, sealed) = (parts.len(), model.manifests()[0].len());
        assert_eq!(model.finish(), completed());
        (listed, sealed)
    };
    for known in [true, false] {
        assert_eq!(tail(known, 0, 1, false, 102), (1, 0), "empty: the trailer alone");
        assert_eq!(tail(known, 1, 1, false, 102), (2, 1), "long enough for the store");
        assert_eq!(tail(known, 1, MIB, false, 102), (1, 1), "one short part: one upload part");
        assert_eq!(tail(known, 1, MIB, true, 102), (1, 1));
        assert_eq!(tail(known, 1, 1, true, 102), (1, 1), "shorter than the others would be");
        assert_eq!(tail(known, MIB, 1, true, 102), (2, 1));
        assert_eq!(tail(known, MIB - 1, 1, true, 102), (2, 1), "cut at the length the others would have");
        assert_eq!(tail(known, 2 * MIB + 1, 1, false, 102), (4, 3));
        assert_eq!(tail(known, 2 * MIB + 1, MIB, false, 102), (3, 3), "too short for the middle");
        assert_eq!(tail(known, 2 * MIB + 1, 1, true, 102), (3, 3), "shorter than the others");
        assert_eq!(tail(known, 3 * MIB - 1, 1, true, 102), (4, 3), "longer than the others with the trailer: two");
        assert_eq!(tail(known, 3 * MIB - 200, 1, true, 216), (3, 3), "with the trailer exactly as long as the others");
        assert_eq!(tail(known, 3 * MIB - 200, 1, true, 217), (4, 3), "a byte longer");
        assert_eq!(tail(known, 3 * MIB, 1, true, 102), (4, 3), "as long as the others: the trailer alone");
    }
}

#[test]
fn a_part_that_must_be_held_must_fit_into_memory() {
    let refused = |change: &dyn Fn(&mut Setup)| {
        let mut setup = Setup::small();
        change(&mut setup);
        let error = Machine::new(setup.config.clone(), setup.plan().unwrap()).unwrap_err();
        (error.kind(), error.to_string())
    };
    let (kind, message) = refused(&|setup| {
        (setup.part, setup.len, setup.config.held) = (4 * MIB, 7 * MIB, 2);
        setup.config.limits.equal_parts = true;
    });
    assert_eq!(kind, ErrorKind::LimitExceeded);
    assert!(message.contains("give about 12 MiB"), "{message}");
    let (kind, _) = refused(&|setup| {
        (setup.known, setup.largest, setup.part) = (false, 8 * MIB, 8 * MIB);
        setup.config.limits.min_part = 5 * MIB;
    });
    assert_eq!(kind, ErrorKind::LimitExceeded);
    // Room to hold it, but a part that is filled as a larger one has fewer credits when it turns out to be the last.
    let (kind, _) = refused(&|setup| {
        (setup.known, setup.largest, setup.part) = (false, 8 * MIB, 8 * MIB);
        (setup.config.limits.min_part, setup.config.held, setup.config.window) = (5 * MIB, 6, 2);
    });
    assert_eq!(kind, ErrorKind::LimitExceeded);
    let contradictions: [fn(&mut Config); 6] = [
        |config| config.held = 9,
        |config| config.window = 9,
        |config| config.held = 0,
        |config| config.window = 0,
        |config| config.max_in_flight = 0,
        |config| config.retry.attempts = 0,
    ];
    for contradiction in contradictions {
        assert_eq!(refused(&|setup| contradiction(&mut setup.config)).0, ErrorKind::InvalidInput);
    }
    // In a spool there is room.
    let mut setup = Setup::small();
    (setup.part, setup.largest, setup.len) = (4 * MIB, 4 * MIB, 6 * MIB - 1);
    (setup.config.held, setup.config.spool) = (1, true);
    setup.config.limits.equal_parts = true;
    for (known, window) in [(true, 1), (true, 3), (false, 1), (false, 3)] {
        (setup.known, setup.config.window) = (known, window);
        assert_eq!(Model::new(setup.clone()).unwrap().finish(), completed());
    }
    // A last part that is long enough need not be held.
    let mut setup = Setup::small();
    (setup.part, setup.len, setup.config.held) = (4 * MIB, 8 * MIB, 2);
    setup.config.limits.equal_parts = true;
    assert!(Machine::new(setup.config.clone(), setup.plan().unwrap()).is_ok());
}

#[test]
fn what_was_recorded_under_another_plan_is_not_resumed() {
    let setup = Setup::small();
    let plan = setup.plan().unwrap();
    let sealed = |n, len| SealedPart { number: part(n), len, salt: Salt([0; 24]), crc64: 0 };
    let all = [sealed(1, MIB), sealed(2, MIB), sealed(3, 100)];
    let resume = |stored: &[SealedPart], manifest: Option<&[SealedPart]>| {
        let stored = stored.iter().map(|part| (*part, ETag("x".into()))).collect();
        let manifest = manifest.map(<[_]>::to_vec);
        Machine::resume(setup.config.clone(), plan.clone(), Resumed { stored, manifest })
            .map(drop)
            .map_err(|e| e.kind())
    };
    assert_eq!(resume(&all, Some(&all)), Ok(()));
    assert_eq!(resume(&[], None), Ok(()));
    let wrong = Err(ErrorKind::Ledger);
    assert_eq!(resume(&[], Some(&all[..2])), wrong, "a part less");
    assert_eq!(resume(&[], Some(&[all[1], all[0], all[2]])), wrong, "not ascending");
    assert_eq!(resume(&[], Some(&[all[0], all[1], sealed(3, 99)])), wrong, "a part shorter");
    assert_eq!(resume(&[sealed(1, 100)], None), wrong);
    assert_eq!(resume(&[sealed(4, 0)], None), wrong);

    let mut tail = setup.clone();
    tail.config.limits.min_part = MIB;
    let resumed = Resumed { stored: vec![(all[2], ETag("x".into()))], manifest: None };
    let error = Machine::resume(tail.config.clone(), tail.plan().unwrap(), resumed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ledger, "a part that belongs to the tail is never recorded");

    let mut stream = setup.clone();
    stream.known = false;
    let error = Machine::resume(stream.config.clone(), stream.plan().unwrap(), Resumed::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// Of two records of one part, the later one is of what the store has.
#[test]
fn a_part_recorded_twice_counts_as_it_was_stored_last() {
    let setup = Setup::small();
    let record = |n, len, salt: u8| {
        let sealed = SealedPart { number: part(n), len, salt: Salt([salt; 24]), crc64: 0 };
        (sealed, ETag(salt.to_string()))
    };
    let [first, again] = [1, 4].map(|salt| record(1, MIB, salt));
    let stored = vec![first, record(2, MIB, 2), record(3, 100, 3), again.clone()];
    let resumed = Resumed { stored, manifest: None };
    let mut machine = Machine::resume(setup.config.clone(), setup.plan().unwrap(), resumed).unwrap();
    let Some(Action::SealTrailer { parts }) = machine.poll_action() else { panic!("nothing else is missing") };
    assert_eq!(parts.iter().map(|part| part.salt.0[0]).collect::<Vec<_>>(), [4, 2, 3]);
}

#[test]
fn s14_as_many_parts_as_there_may_be() {
    for known in [true, false] {
        let mut model = model(|setup| {
            (setup.known, setup.uniform, setup.part, setup.len) = (known, true, 1, 9_999);
        });
        assert_eq!(model.finish(), completed());
        assert_eq!(model.manifests()[0].len(), 9_999);
    }
}

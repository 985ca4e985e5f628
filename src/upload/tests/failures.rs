//! What fails, gets lost or comes late, by name.

use std::time::Duration;

use super::*;
use crate::types::Salt;

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

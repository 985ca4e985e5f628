//! Stopping, and going on with what was stopped.

use super::*;
use crate::error::ErrorKind;
use crate::types::Salt;

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

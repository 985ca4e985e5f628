//! What an object of a given length becomes, and what there is no room for.

use super::*;
use crate::error::ErrorKind;

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
fn s14_as_many_parts_as_there_may_be() {
    for known in [true, false] {
        let mut model = model(|setup| {
            (setup.known, setup.uniform, setup.part, setup.len) = (known, true, 1, 9_999);
        });
        assert_eq!(model.finish(), completed());
        assert_eq!(model.manifests()[0].len(), 9_999);
    }
}

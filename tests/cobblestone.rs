//! Sealing and opening by the public API: what it keeps together, and what it refuses.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::HashSet;
use std::thread;

use proptest::prelude::*;
use sealift::crypto::{
    Backend, CHUNK, HEADER, MAX_CHUNKS, Opener, SEALED_CHUNK, SEALED_STRIPE, STRIPE, STRIPE_CHUNKS, Sealer,
    StripeSealer, TAG, open_message, plain_len, seal_message, sealed_len,
};
use sealift::{DataKey, Error, ErrorKind, Result};

const CONTEXT: &[u8] = b"sealift/v1/part\0an object's id..\0\0\0\x01";

fn backend() -> impl Strategy<Value = Backend> {
    proptest::sample::select(Backend::available())
}

/// Lengths, mostly a few bytes off whole chunks and stripes.
fn len() -> impl Strategy<Value = usize> {
    let edge = prop_oneof![
        3 => (0..4_usize).prop_map(|n| n * CHUNK),
        1 => (62..67_usize).prop_map(|n| n * CHUNK),
        1 => (0..3_usize).prop_map(|n| n * STRIPE),
    ];
    prop_oneof![1 => 0..100_usize, 4 => (edge, 0..5_usize).prop_map(|(edge, off)| (edge + off).saturating_sub(2))]
}

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn key() -> DataKey {
    DataKey::random().unwrap()
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(kind: ErrorKind, result: Result<T>) -> Error {
    let error = result.expect_err("this is refused");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_backend_opens_what_every_backend_seals(
        len in len(),
        context in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let (key, plaintext) = (key(), plaintext(len));
        for &sealer in Backend::available() {
            let sealed = seal_message(sealer, &key, &context, &plaintext).unwrap();
            prop_assert_eq!(sealed_len(len as u64), Some(sealed.len() as u64));
            for &opener in Backend::available() {
                let opened = open_message(opener, &key, &context, &sealed).unwrap();
                prop_assert!(opened == plaintext, "{} seals, {} opens", sealer, opener);
            }
        }
    }

    #[test]
    fn an_altered_bit_is_refused(backend in backend(), len in len(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let key = key();
        let mut sealed = seal_message(backend, &key, CONTEXT, &plaintext(len)).unwrap();
        let at = at.index(sealed.len());
        sealed[at] ^= 1_u8 << bit;
        let error = assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &sealed)).to_string();
        match at.checked_sub(HEADER) {
            None => prop_assert!(error.contains("header"), "{}", error),
            Some(at) => prop_assert!(error.contains(&format!("chunk {} ", at / SEALED_CHUNK)), "{}", error),
        }
    }

    #[test]
    fn a_message_cut_or_grown_is_refused(
        backend in backend(),
        len in len(),
        cut in any::<prop::sample::Index>(),
        more in 1..20_000_usize,
    ) {
        let key = key();
        let sealed = seal_message(backend, &key, CONTEXT, &plaintext(len)).unwrap();
        let cut = cut.index(sealed.len());
        assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &sealed[..cut]));
        // Whole chunks cut off the end are what a careless reader would not notice.
        let chunks = (sealed.len() - HEADER) / SEALED_CHUNK;
        for left in 0..=chunks.min(3) {
            let cut = HEADER + (chunks - left) * SEALED_CHUNK;
            if cut < sealed.len() {
                assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &sealed[..cut]));
            }
        }
        let grown = [sealed, vec![0; more]].concat();
        assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &grown));
    }

    #[test]
    fn any_run_of_chunks_opens_alone(
        backend in backend(),
        len in len(),
        from in any::<prop::sample::Index>(),
        count in 1..70_usize,
    ) {
        let (key, plaintext) = (key(), plaintext(len));
        let sealed = seal_message(backend, &key, CONTEXT, &plaintext).unwrap();
        let (header, chunks) = sealed.split_first_chunk().unwrap();
        let opener = Opener::begin(backend, &key, CONTEXT, header).unwrap();
        let all = len / CHUNK + 1;
        let from = from.index(all);
        let to = all.min(from + count);
        let run = &chunks[from * SEALED_CHUNK..chunks.len().min(to * SEALED_CHUNK)];
        let expected = &plaintext[from * CHUNK..len.min(to * CHUNK)];
        let mut out = vec![0xaa; expected.len()];
        prop_assert_eq!(opener.open(from as u64, run, to == all, &mut out).unwrap(), expected.len());
        prop_assert!(out == expected);

        // The same elsewhere in the message, or said to be the end when it is not, or the reverse.
        for (elsewhere, last) in [(from as u64 + 1, to == all), (from as u64, to != all)] {
            out.fill(0xaa);
            assert_kind(ErrorKind::Authentication, opener.open(elsewhere, run, last, &mut out));
            prop_assert!(out.iter().all(|byte| *byte == 0), "what was opened before the failure is wiped");
        }
    }

    #[test]
    fn a_stripe_is_sealed_in_any_pieces(
        backend in backend(),
        pieces in proptest::collection::vec(0..30_usize, 0..8),
        rest in 0..40_000_usize,
    ) {
        let key = key();
        let mut sealer = Sealer::begin(backend, &key, CONTEXT).unwrap();
        let mut stripe = sealer.next_stripe().unwrap();
        let (mut sealed, mut chunks) = (sealer.header().to_vec(), 0);
        for piece in pieces {
            let part = plaintext((chunks + piece) * CHUNK).split_off(chunks * CHUNK);
            let mut out = vec![0; piece * SEALED_CHUNK];
            let result = stripe.seal(&part, &mut out);
            if chunks + piece > STRIPE_CHUNKS {
                assert_kind(ErrorKind::LimitExceeded, result);
                continue; // and nothing is used up
            }
            prop_assert_eq!(result.unwrap(), out.len());
            chunks += piece;
            sealed.extend(out);
        }
        let whole = plaintext(chunks * CHUNK + rest);
        let mut out = vec![0; rest + TAG * (rest / CHUNK + 1)];
        let result = stripe.seal_last(&whole[chunks * CHUNK..], &mut out);
        if chunks + rest / CHUNK + 1 > STRIPE_CHUNKS {
            assert_kind(ErrorKind::LimitExceeded, result);
        } else {
            result.unwrap();
            sealed.extend(out);
            prop_assert!(open_message(backend, &key, CONTEXT, &sealed).unwrap() == whole);
        }
    }

    #[test]
    fn lengths_invert(plain in any::<u64>(), sealed in any::<u64>()) {
        if let Some(sealed) = sealed_len(plain) {
            prop_assert_eq!(plain_len(sealed), Some(plain));
        }
        if let Some(plain) = plain_len(sealed) {
            prop_assert_eq!(sealed_len(plain), Some(sealed));
        }
    }
}

#[test]
fn every_bit_of_a_small_message_is_authenticated() {
    for &backend in Backend::available() {
        let key = key();
        let mut sealed = seal_message(backend, &key, CONTEXT, &plaintext(40)).unwrap();
        for bit in 0..sealed.len() * 8 {
            sealed[bit / 8] ^= 1 << (bit % 8);
            assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &sealed));
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(open_message(backend, &key, CONTEXT, &sealed).is_ok());
    }
}

#[test]
fn another_key_or_context_is_refused_at_the_header() {
    for &backend in Backend::available() {
        let key = key();
        let sealed = seal_message(backend, &key, CONTEXT, b"plaintext").unwrap();
        let header = sealed.first_chunk().unwrap();
        let other_part = b"sealift/v1/part\0an object's id..\0\0\0\x02";
        for (key, context) in [(&self::key(), CONTEXT), (&key, other_part), (&key, &CONTEXT[1..]), (&key, b"")] {
            let error = assert_kind(ErrorKind::Authentication, Opener::begin(backend, key, context, header));
            assert!(error.to_string().contains("header"), "{error}");
        }
    }
}

#[test]
fn chunks_swapped_repeated_or_of_another_message_are_refused() {
    for &backend in Backend::available() {
        let (key, plaintext) = (key(), plaintext(2 * CHUNK + 5));
        let sealed = seal_message(backend, &key, CONTEXT, &plaintext).unwrap();
        let again = seal_message(backend, &key, CONTEXT, &plaintext).unwrap();
        let (first, second) = (HEADER..HEADER + SEALED_CHUNK, HEADER + SEALED_CHUNK..HEADER + 2 * SEALED_CHUNK);
        let swapped = [&sealed[..HEADER], &sealed[second.clone()], &sealed[first.clone()], &sealed[second.end..]];
        let repeated = [&sealed[..HEADER], &sealed[first.clone()], &sealed[first.clone()], &sealed[second.end..]];
        let spliced = [&sealed[..HEADER], &again[first.clone()], &sealed[second.clone()], &sealed[second.end..]];
        for forged in [swapped, repeated, spliced] {
            assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &forged.concat()));
        }
    }
}

#[test]
fn stripes_are_sealed_and_opened_on_many_threads_in_any_order() {
    for &backend in Backend::available() {
        let (key, plaintext) = (key(), plaintext(3 * STRIPE + 70_000));
        let mut sealer = Sealer::begin(backend, &key, CONTEXT).unwrap();
        let mut work: Vec<_> = plaintext.chunks(STRIPE).map(|part| (part, sealer.next_stripe().unwrap())).collect();
        work.reverse();
        let seal = |(part, mut stripe): (&[u8], StripeSealer)| {
            let whole = part.len() == STRIPE;
            let mut out = vec![0; if whole { SEALED_STRIPE } else { part.len() + TAG * (part.len() / CHUNK + 1) }];
            if whole { stripe.seal(part, &mut out) } else { stripe.seal_last(part, &mut out) }.unwrap();
            out
        };
        let mut stripes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = work.into_iter().map(|work| scope.spawn(move || seal(work))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        stripes.reverse();
        let sealed = [sealer.header().to_vec(), stripes.concat()].concat();
        assert!(open_message(backend, &key, CONTEXT, &sealed).unwrap() == plaintext);

        let opener = Opener::begin(backend, &key, CONTEXT, sealer.header()).unwrap();
        thread::scope(|scope| {
            for ((i, stripe), plain) in stripes.iter().enumerate().zip(plaintext.chunks(STRIPE)) {
                let opener = &opener;
                scope.spawn(move || {
                    let mut out = vec![0; plain.len()];
                    opener.open((i * STRIPE_CHUNKS) as u64, stripe, i == 3, &mut out).unwrap();
                    assert!(out == plain);
                });
            }
        });

        stripes.swap(1, 2);
        let disordered = [sealer.header().to_vec(), stripes.concat()].concat();
        assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &disordered));
    }
}

#[test]
fn a_stripe_half_used_or_left_out_makes_a_message_that_does_not_open() {
    let (backend, key) = (Backend::default(), key());
    let mut sealer = Sealer::begin(backend, &key, CONTEXT).unwrap();
    let (mut chunk, mut last) = (vec![0; SEALED_CHUNK], vec![0; TAG]);
    sealer.next_stripe().unwrap().seal(&[0; CHUNK], &mut chunk).unwrap();
    sealer.next_stripe().unwrap().seal_last(b"", &mut last).unwrap();
    let gap = [sealer.header().to_vec(), chunk, last.clone()].concat();
    assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &gap));
    let beheaded = [sealer.header().to_vec(), last].concat();
    assert_kind(ErrorKind::Authentication, open_message(backend, &key, CONTEXT, &beheaded));
}

#[test]
fn wrong_lengths_are_refused_and_use_nothing_up() {
    for &backend in Backend::available() {
        let key = key();
        let mut sealer = Sealer::begin(backend, &key, CONTEXT).unwrap();
        let mut stripe = sealer.next_stripe().unwrap();
        let mut out = vec![0; SEALED_CHUNK + 1];
        for len in [1, CHUNK - 1, CHUNK + 1] {
            assert_kind(ErrorKind::InvalidInput, stripe.seal(&plaintext(len), &mut out));
        }
        for len in [0, CHUNK, SEALED_CHUNK - 1, SEALED_CHUNK + 1] {
            assert_kind(ErrorKind::InvalidInput, stripe.seal(&plaintext(CHUNK), &mut out[..len]));
        }
        let mut sealed = sealer.header().to_vec();
        stripe.seal(&plaintext(CHUNK), &mut out[..SEALED_CHUNK]).unwrap();
        sealed.extend(&out[..SEALED_CHUNK]);
        stripe.seal_last(b"", &mut out[..TAG]).unwrap();
        sealed.extend(&out[..TAG]);
        assert!(open_message(backend, &key, CONTEXT, &sealed).unwrap() == plaintext(CHUNK));
        for len in [0, TAG - 1, TAG + 1] {
            let stripe = sealer.next_stripe().unwrap();
            assert_kind(ErrorKind::InvalidInput, stripe.seal_last(b"", &mut out[..len]));
        }

        let opener = Opener::begin(backend, &key, CONTEXT, sealer.header()).unwrap();
        for len in [0, CHUNK - 1, CHUNK + 1] {
            let mut plain = vec![0xaa; len];
            assert_kind(ErrorKind::InvalidInput, opener.open(0, &sealed[HEADER..], true, &mut plain));
            assert_eq!(plain, vec![0; len]);
        }
    }
}

#[test]
fn a_message_has_no_more_chunks_than_a_part_of_5_gib() {
    let (backend, key) = (Backend::default(), key());
    let most = plain_len(5 << 30).unwrap();
    assert_eq!(most, 5_363_471_288);
    assert_eq!(MAX_CHUNKS, most / CHUNK as u64 + 1);

    let mut sealer = Sealer::begin(backend, &key, CONTEXT).unwrap();
    let stripes = most / STRIPE as u64;
    for _ in 0..stripes {
        sealer.next_stripe().unwrap();
    }
    let mut out = vec![0; 2 * SEALED_CHUNK];
    let mut last = sealer.next_stripe().unwrap();
    assert_kind(ErrorKind::LimitExceeded, last.seal(&plaintext(2 * CHUNK), &mut out));
    let short = usize::try_from(most).unwrap() % CHUNK;
    last.seal_last(&plaintext(short), &mut out[..short + TAG]).unwrap();
    assert_kind(ErrorKind::LimitExceeded, sealer.next_stripe());

    let opener = Opener::begin(backend, &key, CONTEXT, sealer.header()).unwrap();
    let mut plain = vec![0; short];
    opener.open(MAX_CHUNKS - 1, &out[..short + TAG], true, &mut plain).unwrap();
    assert!(plain == plaintext(short));
    for first in [MAX_CHUNKS, u64::MAX] {
        assert_kind(ErrorKind::LimitExceeded, opener.open(first, &out[..short + TAG], true, &mut plain));
    }
}

#[test]
fn s01_sealing_again_never_repeats_a_salt() {
    let seals = 1_000_000;
    let key = key();
    let mut salts = HashSet::with_capacity(seals);
    for _ in 0..seals {
        let sealed = seal_message(Backend::default(), &key, CONTEXT, b"the same bytes of the same part").unwrap();
        assert!(salts.insert(*sealed.first_chunk::<24>().unwrap()), "a salt came twice");
    }
    let sealer = Sealer::begin(Backend::default(), &key, CONTEXT).unwrap();
    assert_eq!(sealer.salt().as_bytes()[..], sealer.header()[..24]);
}

#[test]
fn backends_are_known_by_name() {
    assert!(Backend::available().contains(&Backend::default()));
    for backend in Backend::available() {
        assert_eq!(backend.to_string().parse::<Backend>().unwrap(), *backend);
    }
    let error = assert_kind(ErrorKind::InvalidInput, "openssl".parse::<Backend>());
    assert!(error.to_string().contains(Backend::default().name()), "{error}");
}

#[test]
fn sealing_and_opening_may_move_between_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Sealer>();
    send::<StripeSealer>();
    send::<Opener>();
    sync::<Opener>();
}

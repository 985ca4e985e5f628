//! Reading through a network: what breaks off is asked for again, and what died is gone on with.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::TryStreamExt as _;
use sealift::engine::{GetOptions, Progress, ReadOptions, Reader, UploadOptions, Written, partial_path};
use sealift::kms::recipients::{Trusted, TrustedKeys};
use sealift::source::BytesSource;
use sealift::store::{MemoryStore, MultipartStore};
use sealift::{ByteRange, Engine, ErrorKind, ObjectKey, Result};

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/counting.rs"]
mod counting;
#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/sim.rs"]
mod sim;

use counting::{Calls, Counting};
use sim::{Faults, Rng, SimStore};

const MIB: u64 = 1 << 20;

/// An object in a store that fails as it is told.
struct World {
    engine: Engine,
    kms: Arc<Counting>,
    store: Arc<SimStore>,
    plain: Vec<u8>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new(seed: u64, len: u64) -> Self {
        let plain = Rng::new(seed).bytes(len as usize);
        let engine = Engine::builder().threads(2).memory_budget(256 << 20).simulation(seed).build().unwrap();
        let store = SimStore::new(seed, MemoryStore::new().limits());
        let world = Self { engine, kms: Counting::new(), store, plain, dir: tempfile::tempdir().unwrap() };
        world.put(world.plain.clone()).await;
        world
    }

    async fn put(&self, plain: Vec<u8>) {
        self.put_in_parts(plain, 5 * MIB).await;
    }

    async fn put_in_parts(&self, plain: Vec<u8>, part: u64) {
        let options = UploadOptions { part_size: Some(part), ..UploadOptions::default() };
        let (source, recipients) = (Box::new(BytesSource::new(plain)), [self.kms.recipient()]);
        self.engine.upload(self.store.clone(), key(), source, &recipients, options).await.unwrap();
        self.kms.calls();
    }

    async fn open(&self) -> Result<Reader> {
        let trusted = Trusted::new(vec![(self.kms.clone(), TrustedKeys::Any)]);
        self.engine.open(self.store.clone(), key(), &trusted, &ReadOptions::default()).await
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn partial(&self) -> PathBuf {
        partial_path(&self.target()).unwrap()
    }

    async fn get(&self) -> Result<Written> {
        let options = GetOptions { resume: true, overwrite: true, ..GetOptions::default() };
        self.open().await?.write_to_file(&self.target(), options).await
    }

    /// Dies when so many bytes were written.
    async fn get_and_die_at(&self, bytes: u64) {
        let (reader, reached) = (self.open().await.unwrap(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&reached);
        let progress = Arc::new(move |progress: Progress| {
            let _ = told.fetch_or(progress.done >= bytes, Ordering::SeqCst);
        });
        let options = GetOptions { resume: true, overwrite: true, progress: Some(progress) };
        let target = self.target();
        let died = async {
            while !reached.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = died => {}
            done = reader.write_to_file(&target, options) => panic!("it was too fast: {done:?}"),
        }
    }

    fn assert_target_is(&self, plain: &[u8]) {
        assert!(std::fs::read(self.target()).unwrap() == plain, "the file is not the object");
        assert!(!self.partial().exists(), "a partial file is left");
    }
}

fn key() -> ObjectKey {
    "object".parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn s25_reads_that_fail_break_off_or_end_early_are_asked_for_again() {
    for seed in 0..30 {
        let world = World::new(seed, 12 * MIB + 4_321).await;
        world.store.set_faults(Faults { break_reads: 40, throttle: 10, delay_ms: 200, ..Faults::default() });
        let reader = world.open().await.unwrap();
        let whole = reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat();
        assert!(whole == world.plain);
        let range = ByteRange::Inclusive { first: 5 * MIB - 10, last: 5 * MIB + 10 };
        let (from, to) = (5 * MIB as usize - 10, 5 * MIB as usize + 11);
        assert_eq!(reader.read_range(range).await.unwrap(), world.plain[from..to]);
        assert_eq!(reader.verify(None).await.unwrap().plain_len, world.plain.len() as u64);
        world.get().await.unwrap();
        world.assert_target_is(&world.plain);
        assert_eq!(world.kms.calls(), Calls { generates: 0, wraps: 0, unwraps: 2 }, "one for each opening");
    }
}

#[tokio::test(start_paused = true)]
async fn each_part_is_one_request_however_it_is_read() {
    let world = World::new(8, 36 * MIB).await;
    world.put_in_parts(world.plain.clone(), 12 * MIB).await;
    let reader = world.open().await.unwrap();
    let mut before = world.store.reads();
    let mut since = || world.store.reads() - std::mem::replace(&mut before, world.store.reads());
    let whole = reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat();
    assert!(whole == world.plain);
    assert_eq!(since(), 3, "as a stream");
    reader.verify(None).await.unwrap();
    assert_eq!(since(), 3, "verified");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_up_to_64_kib_is_one_request_however_it_is_read() {
    let world = World::new(9, 60_000).await;
    let overhead = world.open().await.unwrap().info().len - 60_000;
    for (body, again) in [(60_000, 0), (65_536, 0), (65_537, 1)] {
        let plain = Rng::new(body).bytes((body - overhead) as usize);
        world.put(plain.clone()).await;
        let mut before = world.store.reads();
        let mut since = || world.store.reads() - std::mem::replace(&mut before, world.store.reads());
        let reader = world.open().await.unwrap();
        assert_eq!((since(), reader.info().len), (1, body), "opened");
        let range = ByteRange::Inclusive { first: 20_000, last: 40_000 };
        assert!(reader.read_range(range).await.unwrap() == plain[20_000..=40_000]);
        assert_eq!(since(), again * 2, "a range, {body}: the part's header and the chunks");
        assert!(reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat() == plain);
        assert_eq!(since(), again, "as a stream, {body}");
        assert_eq!(reader.verify(None).await.unwrap().plain_len, plain.len() as u64);
        assert_eq!(since(), again, "verified, {body}");
        world.get().await.unwrap();
        world.assert_target_is(&plain);
        assert_eq!(since(), 1 + again, "opened and written to a file, {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_read_broke_off_is_not_sent_again() {
    let world = World::new(7, 40 * MIB).await;
    let reader = world.open().await.unwrap();
    world.store.take_bytes_read();
    reader.verify(None).await.unwrap();
    let whole = world.store.take_bytes_read();
    world.store.set_faults(Faults { break_reads: 60, ..Faults::default() });
    reader.verify(None).await.unwrap();
    let with_faults = world.store.take_bytes_read();
    // A memory store sends a body in one piece, so what is cut off of that counts here.
    assert!(with_faults < 3 * whole, "{with_faults} of {whole}");
}

#[tokio::test(start_paused = true)]
async fn s25_a_store_that_stays_broken_is_one_error_after_a_bounded_time() {
    let world = World::new(1, MIB).await;
    let reader = world.open().await.unwrap();
    world.store.set_faults(Faults { throttle: 100, ..Faults::default() });
    let before = world.store.reads();
    assert_eq!(world.open().await.unwrap_err().kind(), ErrorKind::Throttled);
    assert_eq!(world.store.reads() - before, 12);
    assert_eq!(reader.read_range("0-0".parse().unwrap()).await.unwrap_err().kind(), ErrorKind::Throttled);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_authenticate_or_has_changed_is_asked_for_once() {
    let world = World::new(2, MIB).await;
    let reader = world.open().await.unwrap();
    world.store.set_faults(Faults { flip: 100, ..Faults::default() });
    let before = world.store.reads();
    assert_eq!(reader.verify(None).await.unwrap_err().kind(), ErrorKind::Authentication);
    assert_eq!(world.store.reads() - before, 1);
    world.store.set_faults(Faults::default());
    world.put(vec![1; 10]).await;
    let before = world.store.reads();
    assert_eq!(reader.verify(None).await.unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(world.store.reads() - before, 1);
}

#[tokio::test]
async fn a_download_that_died_goes_on_where_it_was() {
    let world = World::new(3, 200 * MIB).await;
    world.get_and_die_at(160 * MIB).await;
    assert!(!world.target().exists() && world.partial().exists());
    world.store.take_bytes_read();
    let written = world.get().await.unwrap();
    world.assert_target_is(&world.plain);
    assert!(written.resumed_from >= 64 * MIB, "{written:?}");
    let read = world.store.take_bytes_read();
    assert!(read <= world.plain.len() as u64 - written.resumed_from + MIB, "{read} were read");
}

#[tokio::test]
async fn a_download_whose_store_fails_for_good_keeps_all_that_was_written() {
    let world = World::new(4, 100 * MIB).await;
    let reader = world.open().await.unwrap();
    let store = Arc::clone(&world.store);
    let progress = Arc::new(move |progress: Progress| {
        if progress.done > 80 * MIB {
            store.set_faults(Faults { break_reads: 100, ..Faults::default() });
        }
    });
    tokio::time::pause();
    let options = GetOptions { resume: true, progress: Some(progress), ..GetOptions::default() };
    reader.write_to_file(&world.target(), options).await.unwrap_err();
    world.store.set_faults(Faults::default());
    let written = world.get().await.unwrap();
    assert!(written.resumed_from > 70 * MIB, "{written:?}");
    world.assert_target_is(&world.plain);
}

#[tokio::test]
async fn a_download_that_could_not_be_put_in_place_keeps_all_of_it() {
    let world = World::new(9, 70 * MIB).await;
    let target = world.target();
    let others = target.clone();
    let progress = Arc::new(move |progress: Progress| {
        if progress.done == 70 * MIB {
            std::fs::write(&others, "somebody else's").unwrap();
        }
    });
    let options = GetOptions { resume: true, progress: Some(progress), ..GetOptions::default() };
    let refused = world.open().await.unwrap().write_to_file(&target, options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&target).unwrap(), b"somebody else's");
    world.store.take_bytes_read();
    assert_eq!(world.get().await.unwrap().resumed_from, 70 * MIB);
    assert!(world.store.take_bytes_read() < MIB, "only the manifest is read again");
    world.assert_target_is(&world.plain);
}

#[tokio::test]
async fn what_another_object_left_or_somebody_altered_is_begun_anew() {
    let world = World::new(5, 150 * MIB).await;
    world.get_and_die_at(140 * MIB).await;
    let left = std::fs::read(world.partial()).unwrap();
    assert_eq!(left.len() as u64, 150 * MIB + 88, "the note lies behind the plaintext");

    // Its note says something else, or nothing.
    for at in [150 * MIB, 150 * MIB + 20, 150 * MIB + 50, 150 * MIB + 87] {
        let mut altered = left.clone();
        altered[at as usize] ^= 1;
        std::fs::write(world.partial(), altered).unwrap();
        assert_eq!(world.get().await.unwrap().resumed_from, 0, "{at}");
        world.assert_target_is(&world.plain);
    }
    std::fs::write(world.partial(), "something else").unwrap();
    assert_eq!(world.get().await.unwrap().resumed_from, 0);

    // The same bytes, sealed once more, are another object.
    std::fs::write(world.partial(), &left).unwrap();
    let other: Vec<u8> = world.plain.iter().map(|byte| byte ^ 1).collect();
    world.put(other.clone()).await;
    assert_eq!(world.get().await.unwrap().resumed_from, 0);
    world.assert_target_is(&other);
}

#[tokio::test]
async fn two_at_once_do_not_write_one_file_and_nobody_writes_through_a_link() {
    let world = World::new(6, 70 * MIB).await;
    let file = std::fs::File::create(world.partial()).unwrap();
    file.lock().unwrap();
    assert_eq!(world.get().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    drop(file);
    std::fs::remove_file(world.partial()).unwrap();

    let elsewhere = world.dir.path().join("elsewhere");
    std::fs::write(&elsewhere, "precious").unwrap();
    std::os::unix::fs::symlink(&elsewhere, world.partial()).unwrap();
    world.get().await.unwrap_err();
    std::fs::remove_file(world.partial()).unwrap();
    std::fs::hard_link(&elsewhere, world.partial()).unwrap();
    assert_eq!(world.get().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"precious");
}

#[tokio::test]
async fn short_objects_and_those_who_did_not_ask_leave_nothing() {
    for (len, resume) in [(10 * MIB, true), (100 * MIB, false)] {
        let world = World::new(8, len).await;
        let reader = world.open().await.unwrap();
        world.store.set_faults(Faults { flip: 100, ..Faults::default() });
        let options = GetOptions { resume, ..GetOptions::default() };
        reader.write_to_file(&world.target(), options).await.unwrap_err();
        assert_eq!(std::fs::read_dir(world.dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_range_takes_one_request_for_its_own_chunks() {
    let world = World::new(31, 12 * MIB + 1).await;
    let reader = world.open().await.unwrap();
    // The parts' headers are known from now on.
    reader.verify(None).await.unwrap();
    world.store.take_bytes_read();
    let mut rng = Rng::new(32);
    for round in 0..40 {
        let len = if round == 0 { 2 * MIB } else { 1 + rng.below(2 * MIB) };
        let first = rng.below(12 * MIB + 2 - len);
        let before = world.store.reads();
        let range = ByteRange::Inclusive { first, last: first + len - 1 };
        let read = reader.read_range(range).await.unwrap();
        assert_eq!(read, world.plain[first as usize..(first + len) as usize]);
        let parts = (first + len - 1) / (5 * MIB) - first / (5 * MIB) + 1;
        assert_eq!(world.store.reads() - before, parts, "{first} {len}");
        let (bytes, most) = (world.store.take_bytes_read(), len as f64 * 1.02 + parts as f64 * 2.0 * 16_400.0);
        assert!(bytes as f64 <= most, "{bytes} bytes were read for {len}");
        let streamed: Vec<_> = reader.stream(first..first + len).try_collect().await.unwrap();
        assert_eq!(streamed.concat(), read);
        world.store.take_bytes_read();
    }
}

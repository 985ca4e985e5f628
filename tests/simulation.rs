//! The engine against a store that fails, delays, reorders, lies and dies by a seed.
//!
//! `SEALIFT_SEED=n` replays one seed; `SEALIFT_SOAK=1` runs ten times as many.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::TryStreamExt as _;
use sealift::engine::{
    Cancel, OnCancel, PendingUpload, Protection, ReadOptions, ResumeOptions, UploadOptions, list_uploads,
};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{FileSource, PartSource, StreamSource};
use sealift::store::{Limits, MultipartStore};
use sealift::{DataKey, Engine, ErrorKind, ObjectKey, PartNumber, Result};

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/sim.rs"]
mod sim;

use sim::{Faults, Rng, SimStore};

const KIB: u64 = 1024;

/// Runs `check` for every seed, or for the one that `SEALIFT_SEED` names, on a clock that jumps.
fn for_seeds(count: u64, check: impl AsyncFn(u64)) {
    let seeds = match std::env::var("SEALIFT_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SEALIFT_SEED is a number");
            seed..seed + 1
        }
        Err(_) if std::env::var_os("SEALIFT_SOAK").is_some() => 0..10 * count,
        Err(_) => 0..count,
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(check(seed))));
        if let Err(panic) = outcome {
            eprintln!("seed {seed} failed; SEALIFT_SEED={seed} replays it");
            std::panic::resume_unwind(panic);
        }
    }
}

/// One upload's world: a file, a key, an engine and a store, all made from a seed.
struct World {
    rng: Rng,
    dir: tempfile::TempDir,
    plain: Vec<u8>,
    part: u64,
    protection: Protection,
    kms: Arc<KeyFile>,
    engine: Engine,
    store: Arc<SimStore>,
    key: ObjectKey,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        // Mostly small. One longer than a stripe is sealed straight into the store, if the store takes it so.
        let longer = if rng.chance(10) { 1 << 20 } else { 0 };
        let part = longer + 16 * KIB * (1 + rng.below(8));
        // Around every edge there is: chunks, parts, nothing at all.
        let len = match rng.below(8) {
            _ if longer > 0 => part * (1 + rng.below(3)) + rng.below(part),
            0 => 0,
            1 => 1 + rng.below(100),
            2 => part * rng.below(6),
            3 => part * rng.below(6) + 1,
            4 => (part * (1 + rng.below(5))) - 1,
            5 => (1 << 20) + rng.below(1 << 20),
            _ => rng.below(part * 12),
        };
        let plain = rng.bytes(len as usize);
        // In memory where there is such a place: what is put on disk thousands of times is not what is tested.
        let place = Path::new("/dev/shm");
        let dir = if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() }.unwrap();
        std::fs::write(dir.path().join("source"), &plain).unwrap();
        let limits = Limits {
            min_part: [1, 5_000, 100 * KIB, 100_000_000][rng.below(4) as usize],
            max_part: 5 << 30,
            max_parts: PartNumber::MAX,
            max_metadata: 2048,
            equal_parts: rng.chance(20),
        };
        // Parts shorter than the store's minimum are no plan at all, unless there is one part only.
        let limits = Limits { min_part: limits.min_part.min(part), ..limits };
        // A longer one may have to be held whole, until the trailer follows it or because it comes from a stream.
        let budget = if longer > 0 { 64 << 20 } else { [10 << 20, 16 << 20, 64 << 20][rng.below(3) as usize] };
        let engine = Engine::builder().threads(1).memory_budget(budget).simulation(seed).build().unwrap();
        let store = SimStore::new(seed ^ 0x5ea1, limits);
        let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
        let (protection, key) = (Protection::Sealed, "object".parse().unwrap());
        Self { rng, dir, plain, part, protection, kms, engine, store, key }
    }

    /// The same, of a seed in four without sealing: an upload survives as much without it.
    fn sealed_or_not(seed: u64) -> Self {
        let protection = if matches!(seed % 8, 3 | 6) { Protection::Unsealed } else { Protection::Sealed };
        Self { protection, ..Self::new(seed) }
    }

    fn ledgers(&self) -> std::path::PathBuf {
        self.dir.path().join("ledgers")
    }

    fn source_path(&self) -> std::path::PathBuf {
        self.dir.path().join("source")
    }

    fn file(&self) -> Box<dyn PartSource> {
        Box::new(FileSource::open(self.source_path()).unwrap())
    }

    fn options(&mut self) -> UploadOptions {
        UploadOptions {
            protection: self.protection,
            part_size: Some(self.part),
            checksums: self.rng.chance(50),
            ledger: Some(self.ledgers()),
            max_in_flight: self.rng.chance(50).then_some(1 + self.rng.below(6) as u32),
            ..UploadOptions::default()
        }
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(vec![(self.kms.clone(), TrustedKeys::Any)])
    }

    fn recipients(&self) -> Vec<Recipient> {
        if self.protection == Protection::Unsealed {
            return Vec::new();
        }
        vec![Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }]
    }

    fn dyn_store(&self) -> Arc<dyn MultipartStore> {
        self.store.clone()
    }

    /// Uploads, or goes on with what a ledger says was begun.
    async fn upload_or_resume(&mut self) -> Result<()> {
        let options = self.options();
        match list_uploads(&self.ledgers())?.first() {
            None => {
                let recipients = self.recipients();
                let upload = self.engine.upload(self.dyn_store(), self.key.clone(), self.file(), &recipients, options);
                upload.await.map(drop)
            }
            Some(entry) => {
                let pending = PendingUpload::open(&self.ledgers(), &entry.id)?;
                let options = ResumeOptions {
                    protection: self.protection,
                    max_in_flight: options.max_in_flight,
                    ..ResumeOptions::default()
                };
                let trusted = self.trusted();
                let resume = self.engine.resume(pending, self.dyn_store(), self.file(), &trusted, options);
                resume.await.map(drop)
            }
        }
    }

    async fn read_all(&self) -> Result<Vec<u8>> {
        if self.protection == Protection::Unsealed {
            let (trusted, options) = (self.trusted(), ReadOptions::default());
            let sealed = self.engine.open(self.dyn_store(), self.key.clone(), &trusted, &options);
            let refused = sealed.await.map(drop).unwrap_err();
            assert!(matches!(refused.kind(), ErrorKind::NotSealed | ErrorKind::NotFound), "{refused}");
            let reader = self.engine.open_unsealed(self.dyn_store(), self.key.clone(), &ReadOptions::default()).await?;
            return Ok(reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await?.concat());
        }
        let reader =
            self.engine.open(self.dyn_store(), self.key.clone(), &self.trusted(), &ReadOptions::default()).await?;
        let verified = reader.verify(None).await?;
        assert_eq!(verified.plain_len, self.plain.len() as u64);
        let bytes = reader.stream(0..u64::MAX).try_fold(Vec::new(), |mut all, bytes| async move {
            all.extend_from_slice(&bytes);
            Ok(all)
        });
        bytes.await
    }

    async fn assert_whole(&self) {
        assert!(self.read_all().await.unwrap() == self.plain, "the object is not its source");
    }

    fn assert_no_ledger(&self) {
        assert!(list_uploads(&self.ledgers()).unwrap().is_empty(), "a finished upload leaves no ledger");
    }
}

/// The store itself insists that no salt comes again with other bytes.
#[test]
fn s2_parts_that_fail_on_their_way_straight_into_a_store_are_sealed_anew() {
    for_seeds(20, async |seed| {
        let mut world = World::new(seed);
        world.plain = world.rng.bytes(6 << 20);
        world.part = (1 << 20) + 16 * KIB;
        std::fs::write(world.source_path(), &world.plain).unwrap();
        world.engine = Engine::builder().threads(1).memory_budget(64 << 20).simulation(seed).build().unwrap();
        // An even seed makes a direct store.
        let limits = Limits { min_part: 1, equal_parts: false, ..world.store.limits() };
        world.store = SimStore::new(seed * 2, limits);
        world.store.set_faults(Faults { fail: 20, ..Faults::default() });
        world.upload_or_resume().await.unwrap();
        world.store.set_faults(Faults::default());
        world.assert_whole().await;
        // But for the last part, which is shorter than a stripe; and hardly a seed lets all of them through at once.
        let (begun, parts) = (world.store.direct_parts(), world.plain.len() as u64 / world.part);
        assert!(begun >= parts, "{begun} of {parts}");
    });
}

#[test]
fn s23_s25_an_upload_through_faults_and_delays_is_whole_or_one_clear_error() {
    for_seeds(1_000, async |seed| {
        let mut world = World::sealed_or_not(seed);
        let fail = world.rng.below(12);
        let lose_answer = world.rng.below(4);
        let (throttle, delay_ms) = (world.rng.below(8), world.rng.below(50));
        world.store.set_faults(Faults { fail, throttle, lose_answer, delay_ms, ..Faults::default() });
        let result = world.upload_or_resume().await;
        world.store.set_faults(Faults::default());
        match result {
            Ok(()) => {
                world.assert_whole().await;
                world.assert_no_ledger();
                match world.store.completes() {
                    0 => assert!(world.store.objects_put() > 0, "there is an object, and nothing made it"),
                    n => assert_eq!((n, world.store.objects_put()), (1, 0), "Complete happens once"),
                }
            }
            Err(e) => {
                // Too many faults for the retry budget: what was kept is enough to go on.
                assert!(fail + throttle + lose_answer > 0, "nothing was wrong, and yet: {e}");
                if e.resumable().is_some() {
                    world.upload_or_resume().await.unwrap();
                    world.assert_whole().await;
                    world.assert_no_ledger();
                }
            }
        }
    });
}

#[test]
fn s22_parts_that_land_after_their_successors_are_sent_again() {
    let (tried, given_up) = (AtomicU32::new(0), AtomicU32::new(0));
    for_seeds(300, async |seed| {
        tried.fetch_add(1, Ordering::Relaxed);
        let mut world = World::sealed_or_not(seed);
        world.store.set_faults(Faults { zombie: 10 + world.rng.below(20), delay_ms: 20, ..Faults::default() });
        let result = world.upload_or_resume().await;
        world.store.set_faults(Faults::default());
        if let Err(e) = result {
            // They came back more often than they are sent again.
            assert_eq!(e.kind(), ErrorKind::Changed, "{e}");
            given_up.fetch_add(1, Ordering::Relaxed);
            world.upload_or_resume().await.unwrap();
        }
        world.assert_whole().await;
        world.assert_no_ledger();
    });
    let (tried, given_up) = (tried.into_inner(), given_up.into_inner());
    assert!(tried == 1 || given_up < tried / 10, "{given_up} of {tried}: hardly an upload needs a person for this");
}

#[test]
fn s16_an_upload_that_dies_at_any_request_is_resumed_to_the_whole_object() {
    for_seeds(1_000, async |seed| {
        let mut world = World::sealed_or_not(seed);
        for _ in 0..1 + world.rng.below(4) {
            let faults =
                Faults { die_at: Some(world.rng.below(14)), delay_ms: world.rng.below(30), ..Faults::default() };
            world.store.set_faults(faults);
            let store = world.store.clone();
            tokio::select! {
                done = world.upload_or_resume() => { done.unwrap(); break; }
                () = store.died() => {}
            }
        }
        world.store.set_faults(Faults::default());
        world.upload_or_resume().await.unwrap();
        world.assert_whole().await;
        world.assert_no_ledger();
    });
}

#[test]
fn s16_every_request_of_a_small_upload_is_survived_as_its_last() {
    for_seeds(16, async |seed| {
        for die_at in 0.. {
            let mut world = World::sealed_or_not(seed);
            world.store.set_faults(Faults { die_at: Some(die_at), ..Faults::default() });
            let store = world.store.clone();
            let died = tokio::select! {
                done = world.upload_or_resume() => { done.unwrap(); false }
                () = store.died() => true,
            };
            world.store.set_faults(Faults::default());
            if died {
                world.upload_or_resume().await.unwrap();
            }
            world.assert_whole().await;
            world.assert_no_ledger();
            if !died {
                let least = if world.store.objects_put() > 0 { 1 } else { 3 };
                assert!(die_at >= least, "an upload has at least three requests, unless it has one");
                break;
            }
        }
    });
}

#[test]
fn a_store_that_lies_is_found_out_by_whoever_reads() {
    for_seeds(1_000, async |seed| {
        let mut world = World::new(seed);
        world.store.set_faults(Faults { lie: 20, delay_ms: 20, ..Faults::default() });
        world.upload_or_resume().await.unwrap();
        world.store.set_faults(Faults { flip: world.rng.below(20), ..Faults::default() });
        match world.read_all().await {
            Ok(bytes) => assert!(bytes == world.plain, "wrong bytes were released"),
            Err(e) => assert!(
                matches!(e.kind(), ErrorKind::Authentication | ErrorKind::Malformed),
                "a lie is an authentication failure, not {e:?}"
            ),
        }
    });
}

#[test]
fn s24_a_cancelled_upload_is_gone_or_kept_as_asked() {
    for_seeds(300, async |seed| {
        let mut world = World::sealed_or_not(seed);
        world.store.set_faults(Faults { delay_ms: 40, fail: world.rng.below(5), ..Faults::default() });
        let keep = world.rng.chance(50);
        let cancel = Cancel::new();
        let options = UploadOptions { cancel: cancel.clone(), ..world.options() };
        let after = std::time::Duration::from_millis(world.rng.below(200));
        let canceller = async {
            tokio::time::sleep(after).await;
            cancel.cancel(if keep { OnCancel::KeepForResume } else { OnCancel::Abort });
            std::future::pending::<()>().await;
        };
        let recipients = world.recipients();
        let upload = world.engine.upload(world.dyn_store(), world.key.clone(), world.file(), &recipients, options);
        let result = tokio::select! {
            result = upload => result,
            () = canceller => unreachable!(),
        };
        world.store.set_faults(Faults::default());
        match result {
            Ok(_) => world.assert_whole().await,
            Err(e) if keep && e.resumable().is_some() => {
                world.upload_or_resume().await.unwrap();
                world.assert_whole().await;
            }
            Err(e) => {
                if e.resumable().is_none() && !keep && e.kind() == ErrorKind::Cancelled {
                    assert_eq!(world.store.open_uploads().await, 0, "an aborted upload leaves nothing in the store");
                }
                assert!(world.read_all().await.is_err(), "a cancelled upload published something");
            }
        }
    });
}

#[test]
fn a_stream_of_unknown_length_survives_the_same_store() {
    for_seeds(300, async |seed| {
        let mut world = World::sealed_or_not(seed);
        world.store.set_faults(Faults { fail: world.rng.below(6), delay_ms: 20, ..Faults::default() });
        let pieces: Vec<_> = {
            let size = 1 + world.rng.below(40_000) as usize;
            world
                .plain
                .chunks(size)
                .map(|piece| Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(piece)))
                .collect()
        };
        let source = Box::new(StreamSource::from_stream(futures::stream::iter(pieces)));
        let options = world.options();
        let result =
            world.engine.upload(world.dyn_store(), world.key.clone(), source, &world.recipients(), options).await;
        world.store.set_faults(Faults::default());
        match result {
            Ok(uploaded) => {
                assert_eq!(uploaded.plain_len, world.plain.len() as u64);
                world.assert_whole().await;
            }
            Err(e) => {
                assert_eq!(e.resumable(), None, "a stream cannot be read again");
                assert!(world.read_all().await.is_err());
            }
        }
    });
}

/// The store itself insists that no salt comes again with other bytes.
#[test]
fn s02_a_stream_in_parts_larger_than_memory_holds_survives_the_same_store() {
    for_seeds(100, async |seed| {
        let mut world = World::new(seed);
        world.part = (1 << 20) + 16 * KIB * world.rng.below(160);
        let len = world.part * world.rng.below(4) + [0, 1, world.part / 2, world.part - 1][world.rng.below(4) as usize];
        world.plain = world.rng.bytes(len as usize);
        world.engine = Engine::builder().threads(1).memory_budget(10 << 20).simulation(seed).build().unwrap();
        // With a last part that is held back, and one that is cut, in the spool.
        let min_part = [1, 100 * KIB, world.part][world.rng.below(3) as usize];
        let limits = Limits { min_part, equal_parts: world.rng.chance(50), ..world.store.limits() };
        world.store = SimStore::new(seed, limits);
        let fail = world.rng.below(12);
        world.store.set_faults(Faults { fail, lose_answer: fail / 2, delay_ms: 20, ..Faults::default() });
        let spool = world.dir.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let pieces: Vec<_> = world.plain.chunks(300_000).map(bytes::Bytes::copy_from_slice).collect();
        let source = StreamSource::from_stream(futures::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
        let source = if world.rng.chance(50) { source } else { source.with_len(len) };
        let options = UploadOptions { spool: Some(spool.clone()), ..world.options() };
        let (store, recipients) = (world.dyn_store(), world.recipients());
        let result = world.engine.upload(store, world.key.clone(), Box::new(source), &recipients, options).await;
        world.store.set_faults(Faults::default());
        match result {
            Ok(uploaded) => {
                assert_eq!(uploaded.plain_len, len);
                world.assert_whole().await;
            }
            Err(e) => {
                assert!(fail > 0, "nothing was wrong, and yet: {e}");
                assert!(world.read_all().await.is_err());
            }
        }
        assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
    });
}

#[test]
fn a_stream_that_fails_and_goes_on_is_an_error_and_never_a_gap() {
    for_seeds(300, async |seed| {
        let mut world = World::new(seed);
        let size = 1 + world.rng.below(40_000) as usize;
        let mut pieces: Vec<Result<bytes::Bytes>> =
            world.plain.chunks(size).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
        let at = world.rng.below(pieces.len() as u64 + 1) as usize;
        let advice = sealift::Retry::Yes;
        pieces.insert(at, Err(sealift::Error::new(ErrorKind::Throttled, "simulated: later").with_retry(advice)));
        let source = Box::new(StreamSource::from_stream(futures::stream::iter(pieces)));
        let (options, recipients) = (world.options(), world.recipients());
        let refused = world.engine.upload(world.dyn_store(), world.key.clone(), source, &recipients, options).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Throttled);
        assert!(world.read_all().await.is_err());
        world.assert_no_ledger();
        assert_eq!(world.store.open_uploads().await, 0);
    });
}

#[test]
fn s17_a_source_that_changed_between_crash_and_resume_is_refused() {
    for_seeds(50, async |seed| {
        let mut world = World::sealed_or_not(seed);
        // Several parts: an object of one is one request, of which nothing is left.
        world.plain = world.rng.bytes(2 * world.part as usize + 1);
        std::fs::write(world.source_path(), &world.plain).unwrap();
        world.store.set_faults(Faults { die_at: Some(2), ..Faults::default() });
        let store = world.store.clone();
        tokio::select! {
            _ = world.upload_or_resume() => panic!("it was to die"),
            () = store.died() => {}
        }
        world.store.set_faults(Faults::default());
        change(&world.source_path(), world.rng.below(3));
        let refused = world.upload_or_resume().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::SourceChanged);
        assert_eq!(list_uploads(&world.ledgers()).unwrap().len(), 1, "the upload is still there to be aborted");
    });
}

fn change(path: &Path, how: u64) {
    match how {
        0 => std::fs::write(path, "other bytes of another length").unwrap(),
        1 => {
            // Same bytes, another file.
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path.with_extension("new"), bytes).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }
        _ => {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
            file.set_modified(earlier).unwrap();
        }
    }
}

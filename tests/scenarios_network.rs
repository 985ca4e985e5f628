//! What uploads must survive, by scenario: answers that are lost, stores that are busy, sources that change between two runs.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
use sealift::engine::{OnCancel, PendingUpload, ReadOptions, ResumeOptions, UploadOptions, Uploaded, list_uploads};
use sealift::kms::recipients::{Trusted, TrustedKeys};
use sealift::source::{Access, FileSource, PartSource, ReadAt, SourceIdentity, StreamSource};
use sealift::store::{MemoryStore, MultipartStore, Payload, Properties, PutCondition};
use sealift::upload::RetryPolicy;
use sealift::{Engine, ErrorKind, ObjectKey, Result};

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/counting.rs"]
mod counting;
#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/sim.rs"]
mod sim;

use counting::{Calls, Counting};
use sim::{Faults, Rng, SimStore};

const MIB: u64 = 1 << 20;

/// A file of 3 MiB and some, to be uploaded in parts of 1 MiB to a store that fails as it is told.
struct World {
    dir: tempfile::TempDir,
    plain: Vec<u8>,
    engine: Engine,
    kms: Arc<Counting>,
    store: Arc<SimStore>,
}

impl World {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plain = Rng::new(seed).bytes(3 * MIB as usize + 1_234);
        std::fs::write(dir.path().join("source"), &plain).unwrap();
        let engine = Engine::builder().threads(2).memory_budget(64 << 20).simulation(seed).build().unwrap();
        let store = SimStore::new(seed, MemoryStore::new().limits());
        Self { dir, plain, engine, kms: Counting::new(), store }
    }

    fn ledgers(&self) -> PathBuf {
        self.dir.path().join("ledgers")
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn options(&self) -> UploadOptions {
        UploadOptions { part_size: Some(MIB + MIB / 4), ledger: Some(self.ledgers()), ..UploadOptions::default() }
    }

    async fn put(&self, options: UploadOptions) -> Result<Uploaded> {
        let source = Box::new(FileSource::open(self.source()).unwrap());
        self.engine.upload(self.store.clone(), key(), source, &[self.kms.recipient()], options).await
    }

    async fn resume(&self, source: Box<dyn PartSource>, options: ResumeOptions) -> Result<Uploaded> {
        let entry = list_uploads(&self.ledgers())?.remove(0);
        let pending = PendingUpload::open(&self.ledgers(), &entry.id)?;
        self.engine.resume(pending, self.store.clone(), source, &self.trusted(), options).await
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(vec![(self.kms.clone(), TrustedKeys::Any)])
    }

    async fn assert_whole(&self) {
        let store = self.store.clone();
        let reader = self.engine.open(store, key(), &self.trusted(), &ReadOptions::default()).await.unwrap();
        let read: Vec<_> = reader.stream(0..u64::MAX).try_collect().await.unwrap();
        assert!(read.concat() == self.plain, "the object is not its source");
    }
}

fn key() -> ObjectKey {
    "object".parse().unwrap()
}

/// What a store can say when it is asked again to complete what it has completed.
const DONE_ALREADY: [ErrorKind; 4] =
    [ErrorKind::NotFound, ErrorKind::AlreadyExists, ErrorKind::Changed, ErrorKind::PermissionDenied];

#[tokio::test(start_paused = true)]
async fn s20_a_complete_whose_answer_is_lost_is_recognized_by_its_object() {
    for (seed, kind) in (0..).zip(DONE_ALREADY) {
        for condition in [PutCondition::None, PutCondition::IfNotExists] {
            let world = World::new(seed);
            world.store.set_faults(Faults { lose_complete: Some(kind), ..Faults::default() });
            let uploaded = world.put(UploadOptions { condition, ..world.options() }).await.unwrap();
            assert_eq!(uploaded.plain_len, world.plain.len() as u64);
            assert_eq!(world.store.completes(), 1, "{kind:?}");
            world.store.set_faults(Faults::default());
            world.assert_whole().await;
            assert!(list_uploads(&world.ledgers()).unwrap().is_empty());
            assert_eq!(world.kms.calls(), Calls { generates: 1, wraps: 0, unwraps: 1 }, "one to seal, one to read");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s20_somebody_else_s_object_is_not_taken_for_ours() {
    let world = World::new(1);
    let (key, payload) = (key(), Payload::held(vec!["theirs".into()]));
    let put = world.store.put_object(&key, payload, &Properties::default(), PutCondition::None).await;
    put.unwrap();
    let error = world.put(UploadOptions { condition: PutCondition::IfNotExists, ..world.options() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let theirs = world.store.get(&key, None, None).await.unwrap();
    assert_eq!(theirs.body.try_collect::<Vec<_>>().await.unwrap().concat(), b"theirs");
}

#[tokio::test(start_paused = true)]
async fn s22_a_stream_whose_parts_were_overwritten_says_so_and_leaves_what_was_there() {
    let world = World::new(2);
    world.store.set_faults(Faults { zombie: 60, ..Faults::default() });
    let pieces: Vec<std::io::Result<_>> =
        world.plain.chunks(10_000).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
    let source = Box::new(StreamSource::from_stream(futures::stream::iter(pieces)));
    let recipients = [world.kms.recipient()];
    let upload = world.engine.upload(world.store.clone(), key(), source, &recipients, world.options());
    let error = upload.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    assert_eq!(world.store.head(&key()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Minutes of a store that is busy, slow and cuts connections, in which nothing else may happen.
#[tokio::test(start_paused = true)]
async fn s25_a_store_that_is_busy_for_minutes_costs_time_and_no_call_to_the_key_service() {
    for seed in 0..20 {
        let world = World::new(seed);
        world.store.set_faults(Faults { throttle: 60, fail: 20, delay_ms: 5_000, ..Faults::default() });
        let began = tokio::time::Instant::now();
        let result = world.put(UploadOptions { retry: patient(), ..world.options() }).await;
        result.unwrap();
        assert!(began.elapsed().as_secs() > 20, "{:?}", began.elapsed());
        assert_eq!(world.kms.calls(), Calls { generates: 1, wraps: 0, unwraps: 0 });
        world.store.set_faults(Faults::default());
        world.assert_whole().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s25_a_store_that_stays_busy_is_one_error_after_a_bounded_time() {
    let world = World::new(3);
    world.store.set_faults(Faults { throttle: 100, ..Faults::default() });
    let error = world.put(world.options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(world.store.requests() <= 12, "{} requests", world.store.requests());
    assert!(list_uploads(&world.ledgers()).unwrap().is_empty(), "nothing was begun");
}

fn patient() -> RetryPolicy {
    RetryPolicy { attempts: 100, ..RetryPolicy::default() }
}

/// A file, and what is done to bytes read from it, which neither its length nor its times tell.
struct Meddled {
    file: Arc<dyn ReadAt>,
    meddle: Box<Meddle>,
}

/// Gets the offset that the bytes were read at.
type Meddle = dyn Fn(u64, &mut [u8]) + Send + Sync;

impl Meddled {
    fn new(path: impl AsRef<Path>, meddle: impl Fn(u64, &mut [u8]) + Send + Sync + 'static) -> Box<Self> {
        let Access::At(file) = Box::new(FileSource::open(path).unwrap()).open() else { unreachable!() };
        Box::new(Self { file, meddle: Box::new(meddle) })
    }
}

impl std::fmt::Debug for Meddled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meddled").finish_non_exhaustive()
    }
}

impl PartSource for Meddled {
    fn len(&self) -> Option<u64> {
        Some(self.file.len())
    }

    fn open(self: Box<Self>) -> Access {
        Access::At(Arc::new(*self))
    }
}

impl ReadAt for Meddled {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at<'a>(&'a self, offset: u64, len: usize, scratch: &'a mut [u8]) -> Result<&'a [u8]> {
        let bytes = self.file.read_at(offset, len, scratch)?.to_vec();
        let scratch = &mut scratch[..len];
        scratch.copy_from_slice(&bytes);
        (self.meddle)(offset, scratch);
        Ok(scratch)
    }

    fn identity(&self) -> Option<SourceIdentity> {
        self.file.identity()
    }

    fn check_unchanged(&self) -> Result<()> {
        self.file.check_unchanged()
    }
}

#[tokio::test(start_paused = true)]
async fn s17_a_source_that_changed_without_a_trace_is_found_out_by_its_checksums() {
    for checksums in [true, false] {
        for change in [None, Some(10), Some(3 * MIB)] {
            let world = World::new(4);
            // Initiate, two parts, and the third never ends.
            world.store.set_faults(Faults { die_at: Some(3), ..Faults::default() });
            let options = UploadOptions { checksums, max_in_flight: Some(1), ..world.options() };
            tokio::select! {
                done = world.put(options) => panic!("{done:?}"),
                () = world.store.died() => {}
            }
            world.store.set_faults(Faults::default());
            let source = Meddled::new(world.source(), move |offset, bytes| {
                let at = change.and_then(|at| at.checked_sub(offset));
                if let Some(byte) = at.and_then(|at| bytes.get_mut(at as usize)) {
                    *byte ^= 1;
                }
            });
            let options = ResumeOptions { verify_source: true, ..ResumeOptions::default() };
            let resumed = world.resume(source, options).await;
            match (checksums, change) {
                (true, None) => {
                    resumed.unwrap();
                    world.assert_whole().await;
                }
                // What was not uploaded yet is as it is.
                (true, Some(MIB..)) => drop(resumed.unwrap()),
                (true, Some(_)) => {
                    let error = resumed.unwrap_err();
                    assert_eq!(
                        (error.kind(), error.part().map(|part| part.get())),
                        (ErrorKind::SourceChanged, Some(1))
                    );
                    assert_eq!(world.store.completes(), 0);
                    assert_eq!(list_uploads(&world.ledgers()).unwrap().len(), 1, "it can still be aborted");
                }
                (false, _) => {
                    let error = resumed.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert!(error.to_string().contains("no checksums"), "{error}");
                }
            }
        }
    }
}

/// `uploads reap` of the program does what this does by ledger: see `cli/tests/program/reap.rs`.
#[tokio::test]
async fn s24_a_drop_cancel_or_panic_leaves_the_upload_id_in_the_ledger_and_it_is_aborted_until_nothing_is_left() {
    for how in ["drop", "cancel", "panic"] {
        let world = World::new(6);
        // Initiate and two parts are done; the third never ends.
        let stuck = Faults { die_at: Some(3), ..Faults::default() };
        let options = UploadOptions { max_in_flight: Some(1), ..world.options() };
        match how {
            "drop" => {
                world.store.set_faults(stuck);
                tokio::select! {
                    done = world.put(options) => panic!("{done:?}"),
                    () = world.store.died() => {}
                }
            }
            "cancel" => {
                world.store.set_faults(stuck);
                let cancel = options.cancel.clone();
                let cancels = async {
                    world.store.died().await;
                    cancel.cancel(OnCancel::KeepForResume);
                };
                let (done, ()) = tokio::join!(world.put(options), cancels);
                assert_eq!(done.unwrap_err().kind(), ErrorKind::Cancelled);
            }
            _ => {
                let source = Meddled::new(world.source(), |offset, _| {
                    assert!(offset < 2 * (MIB + MIB / 4), "a source that panics");
                });
                let recipients = [world.kms.recipient()];
                let upload = world.engine.upload(world.store.clone(), key(), source, &recipients, options);
                let ended = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(upload)).await;
                assert!(!matches!(ended, Ok(Ok(_))), "it did not panic");
            }
        }
        world.store.set_faults(Faults::default());
        let begun = world.store.list_uploads("").await.unwrap();
        let entry = list_uploads(&world.ledgers()).unwrap().remove(0);
        assert_eq!(begun.iter().map(|upload| Some(upload.id.clone())).collect::<Vec<_>>(), [entry.upload], "{how}");
        assert!(entry.modified.is_some());

        // Requests fail meanwhile, and answers are lost.
        world.store.set_faults(Faults { fail: 40, lose_answer: 40, ..Faults::default() });
        let pending = PendingUpload::open(&world.ledgers(), &entry.id).unwrap();
        world.engine.abort(pending, world.store.as_ref()).await.unwrap();
        assert_eq!(world.store.open_uploads().await, 0, "{how}");
        assert!(list_uploads(&world.ledgers()).unwrap().is_empty(), "{how}");
    }
}

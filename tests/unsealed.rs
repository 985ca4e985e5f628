//! Objects that are stored as they are, and objects that are stored by one request.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;

use futures::TryStreamExt as _;
use sealift::engine::{
    GetOptions, PendingUpload, Protection, ReadOptions, ResumeOptions, UploadOptions, Uploaded, list_uploads,
};
use sealift::format::unsealed_by;
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{BytesSource, FileSource, PartSource, StreamSource};
use sealift::store::{DirStore, Limits, MemoryStore, MultipartStore, Payload, Properties, PutCondition};
use sealift::{DataKey, EncryptionContext, Engine, ErrorKind, ObjectKey, PartNumber, Result};

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/sim.rs"]
mod sim;

use sim::{Faults, Rng, SimStore};

struct World {
    engine: Engine,
    kms: Arc<KeyFile>,
    store: Arc<dyn MultipartStore>,
    dir: tempfile::TempDir,
}

const PART: u64 = 100_000;

fn limits() -> Limits {
    Limits { min_part: 1, max_part: 5 << 30, max_parts: PartNumber::MAX, max_metadata: 2048, equal_parts: false }
}

fn key() -> ObjectKey {
    "object".parse().unwrap()
}

impl World {
    fn on(store: Arc<dyn MultipartStore>) -> Self {
        let engine = Engine::builder().threads(2).memory_budget(64 << 20).build().unwrap();
        let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
        Self { engine, kms, store, dir: tempfile::tempdir().unwrap() }
    }

    fn recipients(&self) -> Vec<Recipient> {
        vec![Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }]
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(vec![(self.kms.clone(), TrustedKeys::Any)])
    }

    fn file(&self, plain: &[u8]) -> Box<dyn PartSource> {
        let path = self.dir.path().join("source");
        if !std::fs::read(&path).is_ok_and(|there| there == plain) {
            std::fs::write(&path, plain).unwrap();
        }
        Box::new(FileSource::open(path).unwrap())
    }

    fn unsealed(&self) -> UploadOptions {
        UploadOptions {
            protection: Protection::Unsealed,
            part_size: Some(PART),
            ledger: Some(self.dir.path().join("ledgers")),
            ..UploadOptions::default()
        }
    }

    async fn put(&self, source: Box<dyn PartSource>, options: UploadOptions) -> Result<Uploaded> {
        let recipients = if options.protection == Protection::Sealed { self.recipients() } else { Vec::new() };
        self.engine.upload(self.store.clone(), key(), source, &recipients, options).await
    }

    async fn resume(&self, plain: &[u8]) -> Result<Uploaded> {
        let ledgers = self.dir.path().join("ledgers");
        let entry = list_uploads(&ledgers).unwrap().pop().unwrap();
        let pending = PendingUpload::open(&ledgers, &entry.id)?;
        assert!(pending.is_unsealed());
        // Nobody's keys: there is nothing to open.
        let nobody = Trusted::new(Vec::new());
        let options = ResumeOptions { protection: Protection::Unsealed, ..ResumeOptions::default() };
        self.engine.resume(pending, self.store.clone(), self.file(plain), &nobody, options).await
    }

    async fn read(&self) -> Result<Vec<u8>> {
        let reader = self.engine.open_unsealed(self.store.clone(), key(), &ReadOptions::default()).await?;
        Ok(reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await?.concat())
    }

    async fn open_sealed(&self) -> ErrorKind {
        let opened = self.engine.open(self.store.clone(), key(), &self.trusted(), &ReadOptions::default()).await;
        opened.map(drop).unwrap_err().kind()
    }
}

fn bytes(plain: &[u8]) -> Box<dyn PartSource> {
    Box::new(BytesSource::new(plain.to_vec()))
}

#[tokio::test]
async fn what_is_stored_is_what_was_read_whatever_the_store_and_source() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn MultipartStore>; 3] = [
        Arc::new(MemoryStore::new()),
        Arc::new(DirStore::open(dir.path()).unwrap()),
        Arc::new(MemoryStore::with_limits(Limits { equal_parts: true, ..limits() })),
    ];
    for store in stores {
        let world = World::on(store);
        for len in [0, 1, 23, PART - 1, PART, PART + 1, 5 * PART, (3 << 20) + 7] {
            let plain = Rng::new(len).bytes(len as usize);
            let stream = StreamSource::from_reader(std::io::Cursor::new(plain.clone()));
            for source in [world.file(&plain), bytes(&plain), Box::new(stream) as Box<dyn PartSource>] {
                let uploaded = world.put(source, world.unsealed()).await.unwrap();
                assert_eq!(
                    (uploaded.protection, uploaded.plain_len, uploaded.sealed_len),
                    (Protection::Unsealed, len, len)
                );
                assert!(uploaded.data_keys.is_empty());
                let stored = world.store.get(&key(), None, None).await.unwrap();
                assert_eq!(unsealed_by(&stored.info.properties.metadata), Some(uploaded.object_id));
                assert!(stored.body.try_collect::<Vec<_>>().await.unwrap().concat() == plain, "{len}");
                assert!(world.read().await.unwrap() == plain, "{len}");
                assert_eq!(
                    world.open_sealed().await,
                    ErrorKind::NotSealed,
                    "never raw bytes unless they are asked for"
                );
            }
        }
        assert!(list_uploads(&world.dir.path().join("ledgers")).unwrap().is_empty());
    }
}

/// A part that is more than a quarter of the budget is read while it is sent.
#[tokio::test]
async fn parts_larger_than_memory_holds_are_sent_as_they_are_read() {
    let world = World::on(Arc::new(MemoryStore::new()));
    let plain = Rng::new(1).bytes(40 << 20);
    let options = UploadOptions { part_size: Some(20 << 20), ..world.unsealed() };
    let uploaded = world.put(world.file(&plain), options).await.unwrap();
    assert_eq!((uploaded.parts, uploaded.sealed_len), (2, 40 << 20));
    assert!(world.read().await.unwrap() == plain);
}

#[tokio::test]
async fn what_only_a_sealed_object_has_is_refused() {
    let world = World::on(Arc::new(MemoryStore::new()));
    let context = EncryptionContext::new([("a".into(), "b".into())]).unwrap();
    for (options, what) in [
        (UploadOptions { context, ..world.unsealed() }, "an encryption context"),
        (UploadOptions { bind: true, ..world.unsealed() }, "a binding"),
        (UploadOptions { spool: Some(world.dir.path().into()), ..world.unsealed() }, "a spool"),
    ] {
        let refused = world.put(bytes(b"plain"), options).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.to_string().contains(what), "{refused}");
    }
    let recipients = world.recipients();
    let put = world.engine.upload(world.store.clone(), key(), bytes(b"plain"), &recipients, world.unsealed());
    assert!(put.await.unwrap_err().to_string().contains("recipients"), "whoever names one believes that it is sealed");
    assert_eq!(world.store.head(&key()).await.unwrap_err().kind(), ErrorKind::NotFound, "nothing was sent");
    world.put(bytes(b"plain"), world.unsealed()).await.unwrap();
    let bound = ReadOptions { bound: true, ..ReadOptions::default() };
    let demanded = world.engine.open_unsealed(world.store.clone(), key(), &bound).await;
    assert_eq!(demanded.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn s09_sealed_bytes_are_not_read_as_they_are_stored() {
    let world = World::on(Arc::new(MemoryStore::new()));
    world.put(bytes(b"secret"), UploadOptions::default()).await.unwrap();
    let refused = world.read().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("is sealed"), "{refused}");

    // Its envelope was lost.
    let body = world.store.get(&key(), None, None).await.unwrap().body.try_collect::<Vec<_>>().await.unwrap();
    let put = |properties| {
        let (store, body) = (world.store.clone(), body.clone());
        async move { store.put_object(&key(), Payload::held(body), &properties, PutCondition::None).await.unwrap() }
    };
    put(Properties::default()).await;
    assert!(world.read().await.unwrap_err().to_string().contains("without its envelope"));
    // What was uploaded as it is on purpose is whatever it is, a copy of a sealed object too.
    world.put(bytes(&body.concat()), world.unsealed()).await.unwrap();
    assert_eq!(world.read().await.unwrap(), body.concat());
}

#[tokio::test]
async fn s15_an_object_that_is_replaced_while_it_is_read_is_refused() {
    let world = World::on(Arc::new(MemoryStore::new()));
    let old = Rng::new(15).bytes(70_000);
    world.put(bytes(&old), world.unsealed()).await.unwrap();
    let reader = world.engine.open_unsealed(world.store.clone(), key(), &ReadOptions::default()).await.unwrap();
    let target = world.dir.path().join("target");
    reader.write_to_file(&target, GetOptions::default()).await.unwrap();
    assert!(std::fs::read(&target).unwrap() == old);
    let again = reader.write_to_file(&target, GetOptions::default()).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    world.put(bytes(b"new"), world.unsealed()).await.unwrap();
    let read = reader.stream(0..3).try_collect::<Vec<_>>().await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Changed);
}

#[tokio::test]
async fn s15_a_small_object_that_is_replaced_while_it_is_read_is_wholly_the_old_one() {
    let world = World::on(Arc::new(MemoryStore::new()));
    world.put(bytes(b"old"), world.unsealed()).await.unwrap();
    let reader = world.engine.open_unsealed(world.store.clone(), key(), &ReadOptions::default()).await.unwrap();
    world.put(bytes(b"new"), world.unsealed()).await.unwrap();
    assert_eq!(reader.stream(0..9).try_collect::<Vec<_>>().await.unwrap().concat(), b"old");
    assert_eq!(reader.stream(1..2).try_collect::<Vec<_>>().await.unwrap().concat(), b"l");
}

/// Every part is stored when Complete's answer is lost, whatever the store says when it is asked again.
#[tokio::test(start_paused = true)]
async fn s20_a_complete_whose_answer_was_lost_is_known_by_the_uploads_id() {
    for kind in [ErrorKind::NotFound, ErrorKind::AlreadyExists, ErrorKind::Changed] {
        for foreign in [false, true] {
            let store = SimStore::new(1, limits());
            let world = World::on(store.clone());
            let plain = Rng::new(2).bytes(3 * PART as usize);
            store.set_faults(Faults { die_at: Some(4), ..Faults::NONE });
            tokio::select! {
                _ = world.put(world.file(&plain), world.unsealed()) => panic!("it was to die at Complete"),
                () = store.died() => {}
            }
            store.set_faults(Faults { lose_complete: Some(kind), ..Faults::NONE });
            if foreign {
                // Another upload took effect, and this one is gone: its parts were aborted.
                for upload in store.list_uploads("").await.unwrap() {
                    store.abort(&upload).await.unwrap();
                }
                store.delete_object(&key()).await;
                let other = UploadOptions { ledger: None, ..world.unsealed() };
                store.set_faults(Faults::NONE);
                world.put(bytes(&plain), other).await.unwrap();
                assert_eq!(world.resume(&plain).await.unwrap_err().kind(), ErrorKind::NotFound);
            } else {
                world.resume(&plain).await.unwrap();
                assert!(world.read().await.unwrap() == plain);
                assert!(list_uploads(&world.dir.path().join("ledgers")).unwrap().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn s18_a_ledger_in_the_clear_is_cut_where_it_is_torn_and_refused_where_it_is_damaged() {
    for (what, resumes) in [("torn", true), ("damaged", false)] {
        let store = SimStore::new(1, limits());
        let world = World::on(store.clone());
        let plain = Rng::new(3).bytes(6 * PART as usize);
        store.set_faults(Faults { die_at: Some(5), ..Faults::NONE });
        let options = UploadOptions { max_in_flight: Some(1), ..world.unsealed() };
        tokio::select! {
            _ = world.put(world.file(&plain), options) => panic!("it was to die"),
            () = store.died() => {}
        }
        store.set_faults(Faults::NONE);
        let ledgers = world.dir.path().join("ledgers");
        let pending = PendingUpload::open(&ledgers, &list_uploads(&ledgers).unwrap()[0].id).unwrap();
        let (options, trusted) = (ResumeOptions::default(), world.trusted());
        let sealed = world.engine.resume(pending, world.store.clone(), world.file(&plain), &trusted, options);
        let refused = sealed.await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "whoever believes that it is sealed sends no plaintext");
        let path = ledgers.join(format!("{}.ledger", list_uploads(&ledgers).unwrap()[0].id));
        let mut ledger = std::fs::read(&path).unwrap();
        let records = ledger.windows(7).filter(|bytes| bytes == b"\"Part\":").count();
        assert!(records >= 2, "{records} records in the clear");
        match what {
            "torn" => ledger.truncate(ledger.len() - 5),
            _ => {
                let len = ledger.len();
                // In the last record's content, in front of its hash.
                ledger[len - 40] ^= 1;
            }
        }
        std::fs::write(&path, &ledger).unwrap();
        match world.resume(&plain).await {
            Ok(_) => assert!(resumes && world.read().await.unwrap() == plain, "{what}"),
            Err(e) => assert_eq!((resumes, e.kind()), (false, ErrorKind::Ledger), "{what}: {e}"),
        }
    }
}

/// The first of the simulated store's requests is number 0.
#[tokio::test(start_paused = true)]
async fn an_object_of_one_part_is_one_request() {
    for protection in [Protection::Sealed, Protection::Unsealed] {
        for len in [0, 1, 4096, PART] {
            let store = SimStore::new(1, limits());
            let world = World::on(store.clone());
            let plain = Rng::new(len).bytes(len as usize);
            let options = UploadOptions { protection, ..world.unsealed() };
            world.put(world.file(&plain), options).await.unwrap();
            assert_eq!((store.requests(), store.objects_put(), store.completes()), (1, 1, 0), "{protection:?} {len}");
            assert!(!world.dir.path().join("ledgers").exists(), "what is atomic needs no ledger");
        }
        // One byte more is another part.
        let store = SimStore::new(1, limits());
        let world = World::on(store.clone());
        world
            .put(world.file(&vec![7; PART as usize + 1]), UploadOptions { protection, ..world.unsealed() })
            .await
            .unwrap();
        assert_eq!((store.objects_put(), store.completes()), (0, 1));
    }
}

/// Half of the simulated deaths come after the request had its effect; here the answer alone is lost.
#[tokio::test(start_paused = true)]
async fn one_request_whose_answer_was_lost_is_known_by_its_object() {
    let options = |world: &World, protection| UploadOptions {
        protection,
        condition: PutCondition::IfNotExists,
        ..world.unsealed()
    };
    for protection in [Protection::Sealed, Protection::Unsealed] {
        let store = SimStore::new(1, limits());
        let world = World::on(store.clone());
        store.set_faults(Faults { lose_answer: 100, ..Faults::NONE });
        let uploaded = world.put(bytes(b"ours"), options(&world, protection)).await.unwrap();
        assert_eq!((store.objects_put(), store.requests()), (1, 1), "it is not sent again");
        assert_eq!(uploaded.etag, store.head(&key()).await.unwrap().etag);
        // What is there is another upload's, even if it says the same.
        store.set_faults(Faults::NONE);
        let other = world.put(bytes(b"ours"), options(&world, protection)).await.unwrap_err();
        assert_eq!((other.kind(), store.objects_put()), (ErrorKind::AlreadyExists, 1));
        assert_eq!(other.resumable(), None);
    }
}

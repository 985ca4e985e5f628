//! One call to the key service for each recipient of an upload and for each opened object, and none for retries.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sealift::engine::{PendingUpload, ReadOptions, ResumeOptions, UploadOptions, list_uploads};
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{BytesSource, FileSource};
use sealift::store::{MemoryStore, MultipartStore as _};
use sealift::{ByteRange, Engine, ObjectKey};
use tokio::io::AsyncReadExt as _;

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/counting.rs"]
mod counting;
#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/sim.rs"]
mod sim;

use counting::{Calls, Counting};
use sim::{Faults, Rng, SimStore};

const NONE: Calls = Calls { generates: 0, wraps: 0, unwraps: 0 };
const ONE_GENERATE: Calls = Calls { generates: 1, ..NONE };
const ONE_WRAP: Calls = Calls { wraps: 1, ..NONE };
const ONE_UNWRAP: Calls = Calls { unwraps: 1, ..NONE };

fn key() -> ObjectKey {
    "object".parse().unwrap()
}

fn engine(seed: u64) -> Engine {
    Engine::builder().threads(1).memory_budget(16 << 20).simulation(seed).build().unwrap()
}

/// Half of all requests fail or lose their answer.
const FAULTS: Faults = Faults { fail: 30, lose_answer: 20, delay_ms: 50, ..Faults::NONE };

async fn upload(store: &Arc<SimStore>, plain: &[u8], recipients: &[Recipient]) {
    let source = Box::new(BytesSource::new(Bytes::copy_from_slice(plain)));
    let options = UploadOptions { part_size: Some(20_000), ..UploadOptions::default() };
    engine(1).upload(store.clone(), key(), source, recipients, options).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn s25_an_upload_is_one_generate_however_often_requests_fail() {
    let mut requests = 0;
    for seed in 0..10 {
        let kms = Counting::new();
        let store = SimStore::new(seed, MemoryStore::new().limits());
        store.set_faults(FAULTS);
        upload(&store, &Rng::new(seed).bytes(500_000), &[kms.recipient()]).await;
        assert_eq!(kms.calls(), ONE_GENERATE);
        requests += store.requests();
    }
    assert!(requests > 10 * 30, "there were no retries to speak of: {requests} requests");
}

#[tokio::test(start_paused = true)]
async fn each_further_recipient_is_one_wrap() {
    let (one, two, three) = (Counting::new(), Counting::new(), Counting::new());
    let store = SimStore::new(7, MemoryStore::new().limits());
    store.set_faults(FAULTS);
    upload(&store, &[7; 300_000], &[one.recipient(), two.recipient(), three.recipient()]).await;
    assert_eq!([one.calls(), two.calls(), three.calls()], [ONE_GENERATE, ONE_WRAP, ONE_WRAP]);
}

#[tokio::test(start_paused = true)]
async fn an_opened_object_is_one_unwrap_whatever_is_read_of_it() {
    let (kms, other) = (Counting::new(), Counting::new());
    let plain = Rng::new(3).bytes(200_000);
    let store = SimStore::new(3, MemoryStore::new().limits());
    upload(&store, &plain, &[other.recipient(), kms.recipient()]).await;
    kms.calls();
    other.calls();

    let trusted = Trusted::new(vec![kms.trust()]);
    let reader = engine(2).open(store.clone(), key(), &trusted, &ReadOptions::default()).await.unwrap();
    assert_eq!(kms.calls(), ONE_UNWRAP);
    for first in (0..200_000).step_by(17_000) {
        let range = ByteRange::Inclusive { first, last: first + 30_000 };
        let expected = range.resolve(200_000).unwrap();
        let read = reader.read_range(range).await.unwrap();
        assert!(read == plain[expected.start as usize..expected.end as usize]);
    }
    let streamed = reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat();
    assert!(streamed == plain);
    reader.verify(None).await.unwrap();
    let mut read = Vec::new();
    reader.clone().cursor().read_to_end(&mut read).await.unwrap();
    assert!(read == plain);
    assert_eq!((kms.calls(), other.calls()), (NONE, NONE), "one unwrap for as long as it is open");
}

#[tokio::test(start_paused = true)]
async fn s16_a_resumed_upload_is_one_unwrap() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ledgers) = (dir.path().join("source"), dir.path().join("uploads"));
    let plain = Rng::new(4).bytes(400_000);
    std::fs::write(&path, &plain).unwrap();
    let kms = Counting::new();
    let store = SimStore::new(4, MemoryStore::new().limits());
    store.set_faults(Faults { die_at: Some(8), ..Faults::default() });
    let options = UploadOptions { part_size: Some(20_000), ledger: Some(ledgers.clone()), ..UploadOptions::default() };
    let source = Box::new(FileSource::open(&path).unwrap());
    {
        let engine = engine(4);
        let recipients = [kms.recipient()];
        tokio::select! {
            _ = engine.upload(store.clone(), key(), source, &recipients, options) => panic!("it was to die"),
            () = store.died() => {}
        }
    }
    assert_eq!(kms.calls(), ONE_GENERATE);

    store.set_faults(FAULTS);
    let entry = list_uploads(&ledgers).unwrap().pop().unwrap();
    let pending = PendingUpload::open(&ledgers, &entry.id).unwrap();
    let trusted = Trusted::new(vec![kms.trust()]);
    let source = Box::new(FileSource::open(&path).unwrap());
    engine(5).resume(pending, store.clone(), source, &trusted, ResumeOptions::default()).await.unwrap();
    assert_eq!(kms.calls(), ONE_UNWRAP);
    assert_eq!(store.head(&key()).await.unwrap().properties.metadata["sealift-format"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_trusts_several_keys_calls_none_that_is_not_needed() {
    let (one, two, stranger) = (Counting::new(), Counting::new(), Counting::new());
    let store = SimStore::new(5, MemoryStore::new().limits());
    upload(&store, b"plain", &[one.recipient(), two.recipient()]).await;
    one.calls();
    two.calls();
    let only = |kms: &Arc<Counting>| (kms.clone() as _, TrustedKeys::Only(vec![kms.id().to_owned()]));
    let trusted = Trusted::new(vec![only(&stranger), only(&two), only(&one)]);
    engine(5).open(store, key(), &trusted, &ReadOptions::default()).await.unwrap();
    assert_eq!([one.calls(), two.calls(), stranger.calls()], [ONE_UNWRAP, NONE, NONE]);
}

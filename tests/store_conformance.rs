//! Every backend does what every backend must.

use std::sync::Arc;

use sealift::store::{
    DirStore, Limits, MemoryStore, MultipartStore, Payload, Properties, PutPart, Upload, conformance,
};
use sealift::{Attempt, ErrorKind, PartNumber};

async fn several_at_once(store: Arc<dyn MultipartStore>) {
    let checks = (0..3).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { conformance::check(&*store).await })
    });
    for check in checks.collect::<Vec<_>>() {
        check.await.expect("the store conforms");
    }
}

/// What not every store can do, and stores of our own do.
async fn strictly(store: &dyn MultipartStore) {
    conformance::check_latest_attempts(store).await;
    conformance::check_empty_metadata(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    several_at_once(Arc::new(MemoryStore::new())).await;
    strictly(&MemoryStore::new()).await;
}

#[tokio::test]
async fn memory_with_s3s_minimum_and_equal_parts() {
    for equal_parts in [false, true] {
        let limits = Limits { min_part: 100_000, equal_parts, ..MemoryStore::new().limits() };
        conformance::check(&MemoryStore::with_limits(limits)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dir() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // A root that is not there yet, with a name that a URL must escape.
    let store = DirStore::open(dir.path().join("a root/of 100%")).expect("a store");
    assert!(store.url().ends_with("/a%20root/of%20100%25"), "{}", store.url());
    strictly(&store).await;
    several_at_once(Arc::new(store)).await;
}

#[tokio::test]
async fn memory_refuses_what_is_over_its_limits() {
    let limits = Limits { max_part: 10, max_parts: PartNumber::MIN, max_metadata: 5, ..MemoryStore::new().limits() };
    let store = MemoryStore::with_limits(limits);
    let key = "key".parse().expect("a key");
    let metadata = |value: &str| [("nm".to_owned(), value.to_owned())].into();
    let properties = |value: &str| Properties { metadata: metadata(value), ..Properties::default() };
    let refused = store.initiate(&key, &properties("four")).await.expect_err("metadata is too long");
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    let id = store.initiate(&key, &properties("3 b")).await.expect("just short enough");
    let upload = Upload { key, id };
    for (number, len, fits) in [(1, 10, true), (1, 11, false), (2, 10, false)] {
        let number = PartNumber::try_from(number).expect("a part number");
        let payload = Payload::held(vec![vec![0; len].into()]);
        let put = store.put_part(&upload, PutPart { number, attempt: Attempt(1), offset: None, payload }).await;
        assert_eq!(
            put.map(drop).map_err(|error| error.kind()),
            if fits { Ok(()) } else { Err(ErrorKind::LimitExceeded) }
        );
    }
}

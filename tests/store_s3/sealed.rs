//! Sealed objects, through the engine.

use super::*;

pub(super) struct World {
    engine: Engine,
    kms: Arc<KeyFile>,
}

impl World {
    pub(super) fn new() -> Self {
        let engine = Engine::builder().threads(2).memory_budget(64 << 20).build().unwrap();
        Self { engine, kms: Arc::new(KeyFile::new(DataKey::random().unwrap())) }
    }

    pub(super) fn trusted(&self) -> Trusted {
        Trusted::new(vec![(self.kms.clone(), TrustedKeys::Only(vec![self.kms.id().to_owned()]))])
    }

    pub(super) async fn put(
        &self,
        store: &S3Store,
        source: Box<dyn PartSource>,
        options: UploadOptions,
    ) -> Result<Uploaded> {
        let recipients = [Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }];
        let options = UploadOptions { part_size: Some(5 * MIB), retry: hasty(), ..options };
        self.engine.upload(Arc::new(store.clone()), key("sealed"), source, &recipients, options).await
    }

    pub(super) async fn put_bytes(&self, store: &S3Store, bytes: &[u8], options: UploadOptions) -> Result<Uploaded> {
        self.put(store, Box::new(BytesSource::new(Bytes::copy_from_slice(bytes))), options).await
    }

    pub(super) async fn open(&self, store: &S3Store) -> Result<Reader> {
        self.engine.open(Arc::new(store.clone()), key("sealed"), &self.trusted(), &ReadOptions::default()).await
    }

    pub(super) async fn read(&self, store: &S3Store) -> Vec<u8> {
        let reader = self.open(store).await.unwrap();
        reader.stream(0..reader.len()).try_collect::<Vec<_>>().await.unwrap().concat()
    }
}

/// The usual retries, without the pauses.
fn hasty() -> RetryPolicy {
    RetryPolicy { base: Duration::from_millis(1), cap: Duration::from_millis(5), ..RetryPolicy::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_on_seaweedfs() {
    let server = seaweedfs();
    sealed_on(&server).await;
    let plain = noise(32 * MIB);
    for window in [&plain[..64], &plain[plain.len() - 64..]] {
        assert!(!contains(server.dir(), window), "the server has the plaintext");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_on_moto() {
    sealed_on(&moto()).await;
}

/// Put, read, read a range; and once more, interrupted in the middle and resumed.
async fn sealed_on(server: &Server) {
    let (world, store, plain) = (World::new(), store(&server.url()).await, noise(32 * MIB));
    let options = UploadOptions { content_type: Some("video/x-test".to_owned()), ..UploadOptions::default() };
    let uploaded = world.put_bytes(&store, &plain, options).await.unwrap();
    assert_eq!((uploaded.plain_len, uploaded.parts), (32 * MIB, 7));
    assert!(world.read(&store).await == plain, "what was put is not what comes back");
    let reader = world.open(&store).await.unwrap();
    assert_eq!(reader.info().etag, uploaded.etag);
    assert_eq!(reader.info().properties.content_type.as_deref(), Some("video/x-test"));
    for range in ["0-0", "5242879-5242880", "16383-16384", "-1", "12345678-23456789"] {
        let range: ByteRange = range.parse().unwrap();
        let expected = range.resolve(plain.len() as u64).unwrap();
        let expected = &plain[expected.start as usize..expected.end as usize];
        assert!(reader.read_range(range).await.unwrap() == expected, "{range}");
    }
    let raw = read(&store, "sealed").await;
    assert!(!has(&raw, &plain[..64]) && !has(&raw, &plain[plain.len() - 64..]), "the plaintext is in the object");

    let dir = tempfile::tempdir().unwrap();
    let (file, ledgers) = (dir.path().join("source"), dir.path().join("ledgers"));
    std::fs::write(&file, &plain).unwrap();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let progress = move |progress: Progress| {
        if progress.done > 8 * MIB {
            stop.cancel(OnCancel::KeepForResume);
        }
    };
    let options = UploadOptions {
        ledger: Some(ledgers.clone()),
        max_in_flight: Some(2),
        progress: Some(Arc::new(progress)),
        cancel,
        ..UploadOptions::default()
    };
    let stopped = world.put(&store, Box::new(FileSource::open(&file).unwrap()), options).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Cancelled, "{stopped:?}");
    let entry = list_uploads(&ledgers).unwrap().remove(0);
    let upload = store.list_uploads("").await.unwrap().remove(0);
    let parts = store.list_parts(&upload).await.unwrap().len();
    assert!((1..7).contains(&parts), "{parts} parts");
    let pending = PendingUpload::open(&ledgers, &entry.id).unwrap();
    assert_eq!(pending.store_url(), store.url());
    let source = Box::new(FileSource::open(&file).unwrap());
    let (shared, trusted) = (Arc::new(store.clone()), world.trusted());
    let resumed = world.engine.resume(pending, shared, source, &trusted, ResumeOptions::default());
    assert_eq!(resumed.await.unwrap().plain_len, 32 * MIB);
    assert!(world.read(&store).await == plain, "what was resumed is not what comes back");
    assert_eq!(store.list_uploads("").await.unwrap(), []);
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Whether any file below a directory holds this.
fn contains(dir: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contains(&path, needle)
        } else {
            std::fs::read(&path).is_ok_and(|bytes| has(&bytes, needle))
        }
    })
}

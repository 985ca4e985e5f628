//! Sealed objects, through the engine.

use super::*;

struct Sealed {
    engine: Engine,
    kms: Arc<KeyFile>,
}

impl Sealed {
    fn new() -> Self {
        let engine = Engine::builder().threads(1).memory_budget(16 << 20).build().unwrap();
        Self { engine, kms: Arc::new(KeyFile::new(DataKey::random().unwrap())) }
    }

    fn recipients(&self) -> Vec<Recipient> {
        vec![Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }]
    }

    fn options() -> UploadOptions {
        let retry =
            RetryPolicy { attempts: 4, budget: 50, base: Duration::from_millis(1), cap: Duration::from_millis(5) };
        UploadOptions { part_size: Some(1 << 20), retry, ..UploadOptions::default() }
    }

    async fn assert_opens(&self, store: &Arc<dyn MultipartStore>, name: &str, plain: &Bytes) {
        let trusted = Trusted::new(vec![(self.kms.clone(), TrustedKeys::Only(vec![self.kms.id().to_owned()]))]);
        let reader = self.engine.open(store.clone(), key(name), &trusted, &ReadOptions::default()).await.unwrap();
        let all = reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat();
        assert!(all == *plain, "{name}");
        for (first, last) in [(0, 0), (1_048_570, 2_100_000), (plain.len() as u64 - 5, u64::MAX)] {
            let range = ByteRange::Inclusive { first, last };
            let expected = range.resolve(plain.len() as u64).unwrap();
            let read = reader.read_range(range).await.unwrap();
            assert!(read == plain[expected.start as usize..expected.end as usize], "{range}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_uploads_survive_what_goes_wrong_and_read_back() {
    let server = OssServer::start();
    let sse = Sse::new(SseAlgorithm::Kms);
    let store: Arc<dyn MultipartStore> = Arc::new(builder(&server).sse(Some(sse)).build().unwrap());
    let (sealed, plain) = (Sealed::new(), noise(5_300_000));
    server.state.ahead.store(7_200, SeqCst);
    for (name, call, what) in [
        ("well", "HeadObject", What::Headers(&[])),
        ("slow", "UploadPart", What::Refuse(503, "SlowDown", &[])),
        ("reset", "UploadPart", What::Drop),
        ("part-lost", "UploadPart", What::LoseAnswer),
        ("part-damaged", "UploadPart", What::Headers(&[("x-oss-hash-crc64ecma", "1")])),
        ("complete-200", "CompleteMultipartUpload", What::ErrorInSuccess("InternalError")),
        // The second Complete finds no upload: the object that is there is looked at.
        ("complete-lost", "CompleteMultipartUpload", What::LoseAnswer),
        ("initiate-lost", "InitiateMultipartUpload", What::LoseAnswer),
    ] {
        server.fail_next(call, what);
        let (source, recipients) = (Box::new(BytesSource::new(plain.clone())), sealed.recipients());
        let uploaded = sealed.engine.upload(store.clone(), key(name), source, &recipients, Sealed::options());
        uploaded.await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        sealed.assert_opens(&store, name, &plain).await;
        let object = server.object(name);
        assert_eq!((object.kind, object.sse[0].1.as_str()), ("Multipart", "KMS"));
        assert!(!object.body.windows(64).any(|window| window == &plain[1000..1064]), "the server sees no plaintext");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_upload_is_resumed() {
    let server = OssServer::start();
    let dir = tempfile::tempdir().unwrap();
    let (path, ledger) = (dir.path().join("source"), dir.path().join("ledger"));
    let (sealed, plain) = (Sealed::new(), noise(5_300_000));
    std::fs::write(&path, &plain).unwrap();
    let first: Arc<dyn MultipartStore> = Arc::new(store(&server));
    for _ in 0..4 {
        server.fail_next("CompleteMultipartUpload", What::Refuse(503, "ServiceUnavailable", &[]));
    }
    let options = UploadOptions { ledger: Some(ledger.clone()), ..Sealed::options() };
    let source = Box::new(FileSource::open(&path).unwrap());
    let failed =
        sealed.engine.upload(first.clone(), key("a"), source, &sealed.recipients(), options).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Throttled, "{failed:?}");
    assert_eq!(first.list_uploads("").await.unwrap().len(), 1);
    server.take_requests();

    // Another process.
    let second: Arc<dyn MultipartStore> = Arc::new(store(&server));
    let id = failed.resumable().unwrap();
    let pending = PendingUpload::open(&ledger, id).unwrap();
    let trusted = Trusted::new(vec![(sealed.kms.clone(), TrustedKeys::Only(vec![sealed.kms.id().to_owned()]))]);
    let source = Box::new(FileSource::open(&path).unwrap());
    sealed.engine.resume(pending, second.clone(), source, &trusted, ResumeOptions::default()).await.unwrap();
    sealed.assert_opens(&second, "a", &plain).await;
    let resent = server.take_requests().iter().filter(|r| oss_server::operation(r) == "UploadPart").count();
    assert!(resent <= 2, "{resent} parts were sent again");
    assert!(list_uploads(&ledger).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_may_not_replace_is_refused_before_a_byte_is_sent() {
    let server = OssServer::start();
    let store = Arc::new(store(&server));
    put(&store, "a", &noise(5)).await;
    server.take_requests();
    let sealed = Sealed::new();
    let options = UploadOptions { condition: PutCondition::IfNotExists, ..Sealed::options() };
    let source = || Box::new(BytesSource::new(noise(3_000_000)));
    let recipients = sealed.recipients();
    let refused = sealed.engine.upload(store.clone(), key("a"), source(), &recipients, options.clone()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let calls: Vec<_> = server.take_requests().iter().map(oss_server::operation).collect();
    assert_eq!(calls, ["InitiateMultipartUpload"]);
    // And Complete forbids it too: the object may have come meanwhile.
    sealed.engine.upload(store.clone(), key("b"), source(), &recipients, options.clone()).await.unwrap();
    let forbids = |request: &oss_server::Request| request.headers.contains_key("x-oss-forbid-overwrite");
    let forbidding: Vec<_> =
        server.take_requests().into_iter().filter(forbids).map(|request| oss_server::operation(&request)).collect();
    assert_eq!(forbidding, ["InitiateMultipartUpload", "CompleteMultipartUpload"]);
}

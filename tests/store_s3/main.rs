//! The S3 store against two real servers, and against one whose connection fails.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sealift::engine::{
    Cancel, OnCancel, PendingUpload, Progress, ReadOptions, Reader, ResumeOptions, UploadOptions, Uploaded,
    list_uploads,
};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{BytesSource, FileSource, PartSource};
use sealift::store::s3::S3Checksum;
use sealift::store::{
    CompletedPart, MultipartStore, Payload, Properties, PutCondition, PutPart, S3Store, Upload, conformance,
};
use sealift::upload::RetryPolicy;
use sealift::{Attempt, ByteRange, DataKey, ETag, Engine, Error, ErrorKind, ObjectKey, PartNumber, Result};

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/s3_server.rs"]
mod s3_server;
#[path = "support/server.rs"]
mod server;

use proxy::{Fault, Proxy};
use s3_server::{ACCESS_KEY, SECRET_KEY, seaweedfs};
use server::Server;

const BUCKET: &str = "sealift-tests";
const MIB: u64 = 1 << 20;

fn builder(endpoint: &str) -> sealift::store::s3::S3Builder {
    S3Store::builder(BUCKET).endpoint(endpoint).region("us-east-1").credentials(ACCESS_KEY, SECRET_KEY, None)
}

async fn store(endpoint: &str) -> S3Store {
    builder(endpoint).build().await.unwrap()
}

fn moto() -> Server {
    let server = s3_server::moto();
    s3_server::make_bucket(&server, BUCKET);
    server
}

fn key(name: &str) -> ObjectKey {
    name.parse().unwrap()
}

fn number(n: u32) -> PartNumber {
    PartNumber::try_from(n).unwrap()
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.map(drop).expect_err("it must fail").kind()
}

/// Bytes that do not repeat: xorshift64.
fn noise(len: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len as usize).collect()
}

async fn put_part(store: &S3Store, upload: &Upload, n: u32, payload: Payload) -> Result<ETag> {
    let part = PutPart { number: number(n), attempt: Attempt(1), offset: None, payload };
    store.put_part(upload, part).await
}

async fn read(store: &S3Store, name: &str) -> Vec<u8> {
    let got = store.get(&key(name), None, None).await.unwrap();
    got.body.try_collect::<Vec<_>>().await.unwrap().concat()
}

fn held(bytes: &[u8]) -> Payload {
    Payload::held(bytes.chunks(100_001).map(Bytes::copy_from_slice).collect())
}

fn produced(bytes: &[u8]) -> Payload {
    let segments: Vec<_> = bytes.chunks(100_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Payload::produced(bytes.len() as u64, futures::stream::iter(segments))
}

// What every store does.

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_conforms() {
    let server = seaweedfs();
    conformance::check(&store(&server.url()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_conforms() {
    let server = moto();
    let store = store(&server.url()).await;
    conformance::check(&store).await;
    conformance::check_latest_attempts(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_of_our_own_are_taken_and_kept() {
    let (weed, moto) = (seaweedfs(), moto());
    // SeaweedFS knows no CRC-64/NVME of a whole object.
    for (server, checksum) in [(&weed, S3Checksum::Crc32c), (&moto, S3Checksum::Crc32c), (&moto, S3Checksum::Crc64Nvme)]
    {
        let store = builder(&server.url()).checksum(checksum).build().await.unwrap();
        let body = noise(300_000);
        for (name, payload) in [("held", held(&body)), ("produced", produced(&body))] {
            let properties = Properties::default();
            store.put_object(&key(name), payload, &properties, PutCondition::None).await.unwrap();
            assert!(read(&store, name).await == body, "{name} {checksum:?}");
        }
        let upload = begin(&store, "parts").await;
        let one = put_part(&store, &upload, 1, held(&body)).await.unwrap();
        let part = CompletedPart { number: number(1), etag: one };
        store.complete(&upload, &[part], PutCondition::None).await.unwrap();
        assert!(read(&store, "parts").await == body, "{checksum:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_of_something_else_is_an_error_and_without_one_nothing_is_hashed() {
    let server = moto();
    let stored = Fault::Answer(
        "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nx-amz-checksum-crc32c: AAAAAA==\r\nContent-Length: 0\r\n\r\n".to_owned(),
    );
    let proxy = Proxy::before(server.port, first(2, |request| request.starts_with("PUT "), stored));
    let checking = builder(&proxy.url()).checksum(S3Checksum::Crc32c).build().await.unwrap();
    let upload = begin(&checking, "parts").await;
    let error = put_part(&checking, &upload, 1, held(b"part")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, sealift::Retry::Yes), "{error:?}");
    assert!(error.to_string().contains("checksum"), "{error}");
    let put = checking.put_object(&key("k"), held(b"object"), &Properties::default(), PutCondition::None).await;
    assert_eq!(kind(put), ErrorKind::Io);
    put_part(&checking, &upload, 1, held(b"part")).await.unwrap();

    let plain = store(&proxy.url()).await;
    let upload = begin(&plain, "other parts").await;
    let before = proxy.seen().len();
    for payload in [held(b"part"), produced(b"part")] {
        put_part(&plain, &upload, 1, payload).await.unwrap();
    }
    let hashes = proxy.header("x-amz-content-sha256").split_off(before);
    assert!(hashes.iter().all(|hash| hash == "UNSIGNED-PAYLOAD"), "{hashes:?}");
    for name in ["x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm", "x-amz-trailer", "expect"] {
        assert!(proxy.header(name).split_off(before).iter().all(String::is_empty), "{name}");
    }
}

async fn begin(store: &S3Store, name: &str) -> Upload {
    Upload { key: key(name), id: store.initiate(&key(name), &Properties::default()).await.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_metadata_leaves_all_else_as_it_was() {
    for server in [seaweedfs(), moto()] {
        let store = store(&server.url()).await;
        let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let properties = Properties {
            metadata: pairs(&[("sealift-data-keys", "old"), ("host", "web1")]),
            content_type: Some("text/plain".to_owned()),
            storage_class: Some("STANDARD_IA".to_owned()),
            tags: pairs(&[("team", "a b+c=d")]),
        };
        let (name, body) = (key("an object/with ü + &"), noise(100_000));
        let etag = store.put_object(&name, held(&body), &properties, PutCondition::None).await.unwrap();
        let new = pairs(&[("sealift-data-keys", "new")]);
        let other = ETag("d41d8cd98f00b204e9800998ecf8427e".to_owned());
        assert_eq!(kind(store.replace_metadata(&name, &new, &other).await), ErrorKind::Changed);
        assert_eq!(kind(store.replace_metadata(&key("none"), &new, &etag).await), ErrorKind::NotFound);
        let etag = store.replace_metadata(&name, &new, &etag).await.unwrap();
        let info = store.head(&name).await.unwrap();
        assert_eq!(info.etag, etag);
        assert_eq!(info.properties, Properties { metadata: new, tags: BTreeMap::new(), ..properties });
        assert!(read(&store, name.as_str()).await == body);
    }
}

/// What Amazon's own client says of how the store encrypts an object.
async fn encryption(client: &aws_sdk_s3::Client, name: &ObjectKey) -> (Option<String>, Option<String>) {
    let head = client.head_object().bucket(BUCKET).key(name.as_str()).send().await.unwrap();
    let algorithm = head.server_side_encryption().map(|sse| sse.as_str().to_owned());
    (algorithm, head.ssekms_key_id().map(str::to_owned))
}

/// A client of Amazon's, for what our own store has no words for.
fn sdk(endpoint: &str) -> aws_sdk_s3::Client {
    use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    let config = Builder::new().behavior_version(BehaviorVersion::latest()).credentials_provider(credentials);
    let config = config.region(Region::new("us-east-1")).endpoint_url(endpoint).force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_metadata_keeps_the_store_s_own_encryption() {
    use aws_sdk_s3::types::ServerSideEncryption::{Aes256, AwsKms};
    let (weed, moto) = (seaweedfs(), moto());
    // SeaweedFS has keys of its own only, moto keys of AWS KMS too, by name.
    for (server, algorithm, key_id) in [(&weed, Aes256, None), (&moto, Aes256, None), (&moto, AwsKms, Some("a-key"))] {
        let (client, body) = (sdk(&server.url()), noise(6 * MIB + 1));
        for (name, copied_in_one) in [("one request", u64::MAX), ("parts", 5 * MIB)] {
            let (store, name) = (builder(&server.url()).multipart_copy_above(copied_in_one), key(name));
            let store = store.build().await.unwrap();
            let put = client.put_object().bucket(BUCKET).key(name.as_str()).body(body.clone().into());
            let put = put.server_side_encryption(algorithm.clone()).set_ssekms_key_id(key_id.map(str::to_owned));
            put.metadata("host", "web1").send().await.unwrap();
            let before = encryption(&client, &name).await;
            assert_eq!(before.0.as_deref(), Some(algorithm.as_str()));
            assert!(key_id.is_none_or(|id| before.1.as_deref().is_some_and(|found| found.ends_with(id))), "{before:?}");

            let told = store.head(&name).await.unwrap().encryption.unwrap();
            assert_eq!((Some(told.algorithm), told.key_id), before);

            let etag = store.head(&name).await.unwrap().etag;
            let new: BTreeMap<_, _> = [("host".to_owned(), "web2".to_owned())].into();
            store.replace_metadata(&name, &new, &etag).await.unwrap();
            assert_eq!(store.head(&name).await.unwrap().properties.metadata, new);
            assert_eq!(encryption(&client, &name).await, before, "{name}");
            assert!(read(&store, name.as_str()).await == body, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_objects_are_copied_in_parts_with_all_they_have() {
    for server in [seaweedfs(), moto()] {
        let proxy = Proxy::before(server.port, |_| Fault::None);
        let store = builder(&proxy.url()).multipart_copy_above(6 * MIB).build().await.unwrap();
        let metadata: BTreeMap<_, _> = [("host".to_owned(), "web1".to_owned())].into();
        let properties = Properties {
            metadata: metadata.clone(),
            content_type: Some("text/plain".to_owned()),
            tags: [("team".to_owned(), "a b".to_owned())].into(),
            ..Properties::default()
        };
        let (from, to, body) = (key("long/a ü"), key("copies/b"), noise(16 * MIB + 7));
        store.put_object(&from, held(&body), &properties, PutCondition::None).await.unwrap();
        let etag = store.copy(&from, &to, PutCondition::IfNotExists).await.unwrap();
        let kept = Properties { tags: BTreeMap::new(), ..properties };
        let info = store.head(&to).await.unwrap();
        assert_eq!((info.etag, info.properties), (etag.clone(), kept.clone()));
        assert!(read(&store, "copies/b").await == body);
        let pieces = proxy.seen().iter().filter(|line| is_part(line)).count();
        assert_eq!(pieces, 3, "{:?}", proxy.seen());
        assert_eq!(proxy.header("x-amz-tagging").last().map(String::len), Some(0));
        assert!(proxy.header("x-amz-tagging").iter().any(|tags| tags == "team=a%20b"));
        assert_eq!(kind(store.copy(&from, &to, PutCondition::IfNotExists).await), ErrorKind::AlreadyExists);

        let new: BTreeMap<_, _> = [("host".to_owned(), "web2".to_owned())].into();
        let etag = store.replace_metadata(&to, &new, &etag).await.unwrap();
        let info = store.head(&to).await.unwrap();
        assert_eq!((info.etag, info.properties), (etag, Properties { metadata: new, ..kept }));
        assert!(read(&store, "copies/b").await == body);
        assert_eq!(store.list_uploads("").await.unwrap(), []);
    }
}

/// Whoever writes an object while its metadata is being replaced has the last word, at whatever step that is.
#[tokio::test(flavor = "multi_thread")]
async fn replacing_metadata_gives_way_to_whoever_overwrites_the_object_meanwhile() {
    let (weed, moto) = (seaweedfs(), moto());
    let is_copy: fn(&str) -> bool = |line| line.contains("Copy");
    let is_complete: fn(&str) -> bool = |line| line.starts_with("POST") && line.contains("uploadId=");
    for (server, copied_in_one, step) in [
        (&weed, u64::MAX, is_copy),
        (&moto, u64::MAX, is_copy),
        (&weed, 5 * MIB, is_copy),
        (&moto, 5 * MIB, is_copy),
        // SeaweedFS does not look at what Complete replaces.
        (&moto, 5 * MIB, is_complete),
    ] {
        let (other, name) = (Arc::new(store(&server.url()).await), key("contended"));
        let body = noise(6 * MIB);
        let etag = other.put_object(&name, held(&body), &Properties::default(), PutCondition::None).await.unwrap();
        let (writer, runtime, mut done) = (Arc::clone(&other), tokio::runtime::Handle::current(), false);
        let proxy = Proxy::before(server.port, move |line| {
            if step(line) && !std::mem::replace(&mut done, true) {
                let properties = Properties { content_type: Some("text/new".to_owned()), ..Properties::default() };
                let name = key("contended");
                let put = writer.put_object(&name, held(b"theirs"), &properties, PutCondition::None);
                runtime.block_on(put).unwrap();
            }
            Fault::None
        });
        let store = builder(&proxy.url()).multipart_copy_above(copied_in_one).build().await.unwrap();
        let new: BTreeMap<_, _> = [("host".to_owned(), "web2".to_owned())].into();
        let replaced = store.replace_metadata(&name, &new, &etag).await;
        let seen = proxy.seen();
        assert!(seen.iter().any(|line| step(line)), "{seen:?}");
        assert_eq!(kind(replaced), ErrorKind::Changed, "{seen:?}");
        assert!(read(&other, "contended").await == b"theirs", "{seen:?}");
        let properties = other.head(&name).await.unwrap().properties;
        assert_eq!((properties.content_type.as_deref(), properties.metadata.len()), (Some("text/new"), 0), "{seen:?}");
        assert_eq!(other.list_uploads("").await.unwrap(), [], "{seen:?}");
        // An ordinary copy replaces whatever is there.
        other.copy(&name, &key("copied"), PutCondition::None).await.unwrap();
        store.copy(&name, &key("copied"), PutCondition::None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_have_more_than_one_page() {
    let server = moto();
    let store = store(&server.url()).await;
    let upload = begin(&store, "parts").await;
    for n in 1..=1003 {
        put_part(&store, &upload, n, held(&n.to_be_bytes())).await.unwrap();
        let name = key(&format!("objects/{n:04}"));
        store.put_object(&name, held(b""), &Properties::default(), PutCondition::None).await.unwrap();
    }
    let parts = store.list_parts(&upload).await.unwrap();
    assert!(parts.iter().map(|part| part.number.get()).eq(1..=1003));
    let objects: Vec<_> = store.list("objects/").try_collect().await.unwrap();
    let keys = objects.iter().map(|object| object.key.as_str().to_owned());
    assert!(keys.eq((1..=1003).map(|n| format!("objects/{n:04}"))));
}

// Sealed, through the engine.

struct World {
    engine: Engine,
    kms: Arc<KeyFile>,
}

impl World {
    fn new() -> Self {
        let engine = Engine::builder().threads(2).memory_budget(64 << 20).build().unwrap();
        Self { engine, kms: Arc::new(KeyFile::new(DataKey::random().unwrap())) }
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(vec![(self.kms.clone(), TrustedKeys::Only(vec![self.kms.id().to_owned()]))])
    }

    async fn put(&self, store: &S3Store, source: Box<dyn PartSource>, options: UploadOptions) -> Result<Uploaded> {
        let recipients = [Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }];
        let options = UploadOptions { part_size: Some(5 * MIB), retry: hasty(), ..options };
        self.engine.upload(Arc::new(store.clone()), key("sealed"), source, &recipients, options).await
    }

    async fn put_bytes(&self, store: &S3Store, bytes: &[u8], options: UploadOptions) -> Result<Uploaded> {
        self.put(store, Box::new(BytesSource::new(Bytes::copy_from_slice(bytes))), options).await
    }

    async fn open(&self, store: &S3Store) -> Result<Reader> {
        self.engine.open(Arc::new(store.clone()), key("sealed"), &self.trusted(), &ReadOptions::default()).await
    }

    async fn read(&self, store: &S3Store) -> Vec<u8> {
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

// Connections and answers that fail.

fn error_xml(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>Try again.</Message></Error>"
    )
}

fn is_complete(request: &str) -> bool {
    request.starts_with("POST ") && request.contains("uploadId=")
}

fn is_part(request: &str) -> bool {
    request.starts_with("PUT ") && request.contains("uploadId=")
}

/// Fails the first `n` requests that `which` picks.
fn first(n: usize, which: fn(&str) -> bool, fault: Fault) -> impl FnMut(&str) -> Fault + Send + 'static {
    let left = AtomicUsize::new(n);
    move |request| {
        let hit =
            which(request) && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        if hit { fault.clone() } else { Fault::None }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_complete_answers_200_with_an_error_body() {
    let server = seaweedfs();
    let refusal = Fault::xml("200 OK", "", &error_xml("InternalError"));
    // Asked directly: no success, and worth another try.
    let proxy = Proxy::before(server.port, first(usize::MAX, is_complete, refusal.clone()));
    let refusing = store(&proxy.url()).await;
    let upload = begin(&refusing, "direct").await;
    let etag = put_part(&refusing, &upload, 1, held(b"part")).await.unwrap();
    let parts = [CompletedPart { number: number(1), etag }];
    let error = refusing.complete(&upload, &parts, PutCondition::None).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, sealift::Retry::Yes), "{error:?}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("InternalError"), "{error:?}");
    assert_eq!(kind(refusing.head(&key("direct")).await), ErrorKind::NotFound);
    // Neither is a success that says nothing.
    let proxy = Proxy::before(server.port, first(1, is_complete, Fault::xml("200 OK", "", "")));
    let silent = store(&proxy.url()).await;
    let error = silent.complete(&upload, &parts, PutCondition::None).await.unwrap_err();
    assert_eq!(error.retry(), sealift::Retry::Yes, "{error:?}");
    refusing.abort(&upload).await.unwrap();

    // Through the engine: refused for ever, the upload fails; refused once, it succeeds.
    let (world, plain) = (World::new(), noise(6 * MIB));
    let failed = world.put_bytes(&refusing, &plain, UploadOptions::default()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io, "{failed:?}");
    assert_eq!(kind(refusing.head(&key("sealed")).await), ErrorKind::NotFound);
    let proxy = Proxy::before(server.port, first(1, is_complete, refusal));
    let store = store(&proxy.url()).await;
    world.put_bytes(&store, &plain, UploadOptions::default()).await.unwrap();
    assert_eq!(proxy.seen().iter().filter(|request| is_complete(request)).count(), 2);
    assert!(world.read(&store).await == plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_a_copy_that_failed_under_the_status_200_is_an_error() {
    let server = moto();
    let refusal = || Fault::xml("200 OK", "", &error_xml("InternalError"));
    for (in_one, call) in [(u64::MAX, "x-id=CopyObject"), (5 * MIB, "x-id=UploadPartCopy")] {
        let left = AtomicUsize::new(1);
        let proxy = Proxy::before(server.port, move |request| {
            let hit = request.contains(call) && left.swap(0, Ordering::Relaxed) == 1;
            if hit { refusal() } else { Fault::None }
        });
        let store = builder(&proxy.url()).multipart_copy_above(in_one).build().await.unwrap();
        let (from, to, body) = (key("from"), key("to"), noise(11 * MIB));
        store.put_object(&from, held(&body), &Properties::default(), PutCondition::None).await.unwrap();
        let error = store.copy(&from, &to, PutCondition::None).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, sealift::Retry::Yes), "{call}: {error:?}");
        assert_eq!(kind(store.head(&to).await), ErrorKind::NotFound, "{call}");
        assert_eq!(store.list_uploads("").await.unwrap(), [], "{call}");
        store.copy(&from, &to, PutCondition::None).await.unwrap();
        assert!(read(&store, "to").await == body);
        store.delete(&to).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_may_not_replace_is_refused_before_a_byte_is_sent() {
    let server = moto();
    let proxy = Proxy::before(server.port, |_| Fault::None);
    let (world, store, plain) = (World::new(), store(&proxy.url()).await, noise(6 * MIB));
    world.put_bytes(&store, &plain, UploadOptions::default()).await.unwrap();
    let before = proxy.seen().len();
    // Of more than one part: a smaller object is one request, which has the condition itself.
    let part_size = Some(5 * MIB);
    let options = UploadOptions { condition: PutCondition::IfNotExists, part_size, ..UploadOptions::default() };
    assert_eq!(kind(world.put_bytes(&store, &plain, options).await), ErrorKind::AlreadyExists);
    let requests = proxy.seen().split_off(before);
    assert!(matches!(requests.as_slice(), [head] if head.starts_with("HEAD ")), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s20_completes_answer_is_lost() {
    for server in [seaweedfs(), moto()] {
        for condition in [PutCondition::IfNotExists, PutCondition::None] {
            let proxy = Proxy::before(server.port, first(1, is_complete, Fault::LoseAnswer));
            let (world, store, plain) = (World::new(), store(&proxy.url()).await, noise(6 * MIB));
            let options = UploadOptions { condition, ..UploadOptions::default() };
            let uploaded = world.put_bytes(&store, &plain, options.clone()).await.unwrap();
            assert_eq!(uploaded.etag, store.head(&key("sealed")).await.unwrap().etag);
            assert!(world.read(&store).await == plain);
            assert_eq!(store.list_uploads("").await.unwrap(), []);
            if condition == PutCondition::IfNotExists {
                // A foreign object is no success.
                assert_eq!(kind(world.put_bytes(&store, &plain, options).await), ErrorKind::AlreadyExists);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s25_slow_down_resets_and_cut_bodies_are_ridden_out() {
    let server = seaweedfs();
    let slow = Fault::xml("503 Slow Down", "Retry-After: 0\r\n", &error_xml("SlowDown"));
    for fault in [slow, Fault::CutBody(100_000), Fault::LoseAnswer, Fault::CutAnswer(10)] {
        let proxy = Proxy::before(server.port, first(3, is_part, fault.clone()));
        let (world, store, plain) = (World::new(), store(&proxy.url()).await, noise(16 * MIB));
        world.put_bytes(&store, &plain, UploadOptions::default()).await.unwrap();
        assert!(world.read(&store).await == plain, "{fault:?}");
        let parts = proxy.seen().iter().filter(|request| is_part(request)).count();
        assert_eq!(
            (parts, proxy.count("POST ")),
            (4 + 3, 2),
            "{fault:?}: each failed part is sent once more, nothing else is"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_they_mean() {
    let server = moto();
    let cases = [
        ("503 Slow Down", "Retry-After: 7\r\n", "SlowDown", ErrorKind::Throttled, "fewer requests"),
        ("403 Forbidden", "", "AccessDenied", ErrorKind::PermissionDenied, "s3:GetObject"),
        ("400 Bad Request", "", "ExpiredToken", ErrorKind::PermissionDenied, "log in again"),
        (
            "301 Moved",
            "x-amz-bucket-region: eu-west-1\r\n",
            "PermanentRedirect",
            ErrorKind::InvalidInput,
            "--region eu-west-1",
        ),
        ("500 Internal", "", "InternalError", ErrorKind::Io, "internal error"),
        ("502 Bad Gateway", "", "", ErrorKind::Io, "the store failed"),
    ];
    for (status, headers, code, expected, says) in cases {
        let body = if code.is_empty() { "<html>sorry".to_owned() } else { error_xml(code) };
        let proxy = Proxy::before(server.port, first(usize::MAX, |_| true, Fault::xml(status, headers, &body)));
        let store = store(&proxy.url()).await;
        let error = store.get(&key("k"), None, None).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error:?}").contains(SECRET_KEY));
        if code == "SlowDown" {
            assert_eq!(error.retry(), sealift::Retry::After(Duration::from_secs(7)));
        }
        // Nothing is repeated here: whoever retries decides.
        assert_eq!(proxy.seen().len(), 1, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_corrected_from_the_stores_date() {
    let server = moto();
    let (name, nothing) = (key("k"), Properties::default());
    let skewed =
        Fault::xml("403 Forbidden", "Date: Fri, 01 Jan 2027 00:00:00 GMT\r\n", &error_xml("RequestTimeTooSkewed"));
    let proxy = Proxy::before(server.port, first(1, |_| true, skewed.clone()));
    let refused = store(&proxy.url()).await;
    // A payload is spent: whoever sent it is told to send it again.
    let put = || refused.put_object(&name, held(b"1"), &nothing, PutCondition::None);
    let error = put().await.unwrap_err();
    assert_eq!(error.retry(), sealift::Retry::Yes, "{error:?}");
    assert!(error.to_string().contains("clock"), "{error}");
    put().await.unwrap();
    let signed = proxy.header("x-amz-date");
    assert!(!is_new_year(&signed[0]) && is_new_year(&signed[1]), "{signed:?}");

    // What has no payload is sent again at once.
    let proxy = Proxy::before(server.port, first(1, |_| true, skewed));
    assert_eq!(store(&proxy.url()).await.head(&name).await.unwrap().len, 1);
    let signed = proxy.header("x-amz-date");
    assert!(signed.len() == 2 && is_new_year(&signed[1]), "{signed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_upload_and_its_reading_are_signed_with_the_time_of_a_server_whose_clock_is_off() {
    for ahead in [3_600, -86_400] {
        let server = s3_server::moto_with_clock(ahead);
        s3_server::make_bucket(&server, BUCKET);
        let proxy = Proxy::before(server.port, |_| Fault::None);
        let (world, store, plain) = (World::new(), store(&proxy.url()).await, noise(11 * MIB));
        world.put_bytes(&store, &plain, UploadOptions::default()).await.unwrap();
        assert!(world.read(&store).await == plain);
        // One was refused, from which the rest have the time.
        assert_eq!(proxy.count("?uploads"), 2, "{:?}", proxy.seen());
        assert_eq!(proxy.seen().iter().filter(|request| is_part(request)).count(), 3);
    }
}

/// Whether a request was signed at the turn of the year: how far its clock is off is known to the second.
fn is_new_year(date: &str) -> bool {
    date.starts_with("20261231T2359") || date.starts_with("20270101T00")
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_contradict_the_request_are_refused() {
    let server = moto();
    let plain = store(&server.url()).await;
    plain.put_object(&key("k"), held(&[7; 1000]), &Properties::default(), PutCondition::None).await.unwrap();
    let range = ByteRange::Inclusive { first: 10, last: 19 };
    let etag = "ETag: \"x\"\r\n";
    for (status, headers) in [
        // The whole object, another range, no ETag, an encoding.
        ("200 OK", etag.to_owned()),
        ("206 Partial Content", format!("{etag}Content-Range: bytes 11-20/1000\r\n")),
        ("206 Partial Content", "Content-Range: bytes 10-19/1000\r\n".to_owned()),
        ("206 Partial Content", format!("{etag}Content-Range: bytes 10-19/1000\r\nContent-Encoding: gzip\r\n")),
    ] {
        let body = "0123456789".repeat(if status == "200 OK" { 100 } else { 1 });
        let proxy = Proxy::before(server.port, first(1, |_| true, Fault::xml(status, &headers, &body)));
        let error = store(&proxy.url()).await.get(&key("k"), Some(range), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{status} {headers}: {error:?}");
    }
    // A body that ends in the middle.
    let proxy = Proxy::before(server.port, first(1, |_| true, Fault::CutAnswer(900)));
    let got = store(&proxy.url()).await.get(&key("k"), None, None).await.unwrap();
    let error: Error = got.body.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.retry(), sealift::Retry::Yes, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_listed_with_when_they_were_begun() {
    for server in [seaweedfs(), moto()] {
        let store = store(&server.url()).await;
        let upload = begin(&store, "begun").await;
        let listed = store.list_uploads_with_times("beg").await.unwrap().remove(0);
        assert_eq!(listed.upload, upload);
        // moto says 2010 of each.
        assert!(listed.begun.is_some_and(|begun| begun < std::time::SystemTime::now() + Duration::from_secs(60)));
        store.abort(&upload).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_abort_is_repeated_until_no_part_is_left() {
    let server = moto();
    // The first answer to an abort is a lie: the upload and its part are still there.
    let is_abort: fn(&str) -> bool = |request| request.starts_with("DELETE ");
    let lie = Fault::Answer("HTTP/1.1 204 No Content\r\n\r\n".to_owned());
    let proxy = Proxy::before(server.port, first(1, is_abort, lie));
    let store = store(&proxy.url()).await;
    let upload = begin(&store, "aborted").await;
    put_part(&store, &upload, 1, held(b"part")).await.unwrap();
    store.abort(&upload).await.unwrap();
    assert_eq!(proxy.count("DELETE "), 2);
    assert_eq!(kind(store.list_parts(&upload).await), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_silent_or_absent_is_an_error_worth_a_retry() {
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let patient = builder(&url).request_timeout(Duration::from_millis(300)).build().await.unwrap();
    let error = patient.head(&key("k")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, sealift::Retry::Yes), "{error:?}");
    drop(silent);
    let error = patient.head(&key("k")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, sealift::Retry::Yes), "{error:?}");
}

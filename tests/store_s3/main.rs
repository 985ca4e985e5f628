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
use sealift::store::s3::{S3Builder, S3Checksum};
use sealift::store::{
    CompletedPart, MultipartStore, Payload, Properties, PutCondition, PutPart, S3Store, Upload, conformance,
};
use sealift::upload::RetryPolicy;
use sealift::{Attempt, ByteRange, DataKey, ETag, Engine, Error, ErrorKind, ObjectKey, PartNumber, Result};

#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/s3_server.rs"]
mod s3_server;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/stub.rs"]
mod stub;

mod checksums;
mod faults;
mod sealed;

use proxy::{Fault, Proxy};
use s3_server::{ACCESS_KEY, SECRET_KEY, seaweedfs};
use server::Server;

const BUCKET: &str = "sealift-tests";
const MIB: u64 = 1 << 20;

fn builder(endpoint: &str) -> S3Builder {
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
    let later: Vec<_> = store.list_after("objects/", "objects/0001").try_collect().await.unwrap();
    assert!(later == objects[1..], "also with more than one page");
    let store = builder(&server.url()).sorted_listings(true).build().await.unwrap();
    let later: Vec<_> = store.list_after("objects/", "objects/0001").try_collect().await.unwrap();
    assert!(later == objects[1..], "also if the store begins there");
}

/// SeaweedFS would leave out what is in a directory `a` for who asks for what comes after `a.b`.
#[tokio::test]
async fn only_a_store_that_sorts_is_asked_to_begin_at_a_key() {
    let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let server = stub::Stub::start([stub::Reply::Answer(200, Vec::new(), empty.to_owned())]);
    for sorted in [None, Some(true)] {
        let builder = builder(&server.url());
        let builder = sorted.into_iter().fold(builder, S3Builder::sorted_listings);
        let store = builder.build().await.unwrap();
        assert_eq!(store.list_after("a", "a.b").try_collect::<Vec<_>>().await.unwrap(), []);
        let request = server.requests().pop().unwrap();
        assert_eq!(request.line.contains("start-after=a.b"), sorted.is_some(), "{}", request.line);
    }
}

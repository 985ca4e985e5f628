//! The OSS store against a server in memory that is as strict as OSS's documentation: `support/oss_server`.

#![cfg(feature = "oss")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sealift::engine::{PendingUpload, ReadOptions, ResumeOptions, UploadOptions, list_uploads};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{BytesSource, FileSource};
use sealift::store::oss::{
    Credentials, ErrorCode, OssStore, ServiceError, SignatureVersion, Sse, SseAlgorithm, SseDataEncryption,
};
use sealift::store::{CompletedPart, MultipartStore, Payload, Properties, PutCondition, PutPart, Upload, conformance};
use sealift::upload::RetryPolicy;
use sealift::{Attempt, ByteRange, DataKey, ETag, Engine, Error, ErrorKind, ObjectKey, PartNumber, Retry};

#[allow(dead_code, reason = "each test file uses some of it")]
#[path = "../support/oss_server/mod.rs"]
mod oss_server;

mod encryption;
mod sealed;

use oss_server::{Account, BUCKET, OssServer, REGION, What, lock};

const PART: u64 = 100 << 10;

fn builder(server: &OssServer) -> sealift::store::oss::Builder {
    let account = &server.state.account;
    OssStore::builder(BUCKET).endpoint(server.endpoint()).region(REGION).credentials(Credentials::new(
        &account.id,
        &account.secret,
        account.token.as_deref(),
    ))
}

fn store(server: &OssServer) -> OssStore {
    builder(server).build().unwrap()
}

fn key(name: &str) -> ObjectKey {
    name.parse().unwrap()
}

fn noise(len: u64) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn held(bytes: &Bytes) -> Payload {
    Payload::held(vec![bytes.clone()])
}

fn part(n: u32, bytes: &Bytes) -> PutPart {
    let number = PartNumber::try_from(n).unwrap();
    PutPart { number, attempt: Attempt(1), offset: None, payload: held(bytes) }
}

fn named(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn put(store: &OssStore, name: &str, bytes: &Bytes) -> ETag {
    store.put_object(&key(name), held(bytes), &Properties::default(), PutCondition::None).await.unwrap()
}

async fn read(store: &OssStore, name: &str) -> Result<Vec<u8>, Error> {
    let got = store.get(&key(name), None, None).await?;
    Ok(got.body.try_collect::<Vec<_>>().await?.concat())
}

async fn begin(store: &OssStore, name: &str) -> Upload {
    Upload { key: key(name), id: store.initiate(&key(name), &Properties::default()).await.unwrap() }
}

async fn upload_parts(store: &OssStore, upload: &Upload, parts: &[Bytes]) -> Vec<CompletedPart> {
    let mut list = Vec::new();
    for (n, bytes) in (1..).zip(parts) {
        let etag = store.put_part(upload, part(n, bytes)).await.unwrap();
        list.push(CompletedPart { number: PartNumber::try_from(n).unwrap(), etag });
    }
    list
}

fn code(error: &Error) -> Option<ErrorCode> {
    Some(std::error::Error::source(error)?.downcast_ref::<ServiceError>()?.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_either_signature_a_token_or_pages_of_two() {
    let server = OssServer::start();
    conformance::check(&store(&server)).await;
    conformance::check_latest_attempts(&store(&server)).await;
    conformance::check(&builder(&server).signature(SignatureVersion::V1).build().unwrap()).await;
    server.state.page.store(2, SeqCst);
    conformance::check(&builder(&server).checksums(false).build().unwrap()).await;

    let temporary = Account { id: "STS.id".into(), secret: "x".into(), token: Some("tok/en+==".into()) };
    let server = OssServer::with_account(temporary);
    conformance::check(&store(&server)).await;
    server.state.page.store(2, SeqCst);
    let sse = Sse { key_id: Some("a-cmk".into()), ..Sse::new(SseAlgorithm::Kms) };
    conformance::check(&builder(&server).signature(SignatureVersion::V1).sse(Some(sse)).build().unwrap()).await;
}

#[tokio::test]
async fn odd_keys_are_kept() {
    let server = OssServer::start();
    for signature in [SignatureVersion::V4, SignatureVersion::V1] {
        let store = builder(&server).signature(signature).build().unwrap();
        for name in ["a b+c%20d", "ü/漢字", "a/../b", "./x", "q?x=1&y#z", "a//b", "tab\there", "~!@$^*()_,;:'\"[]{}|<>"]
        {
            let bytes = noise(10);
            put(&store, name, &bytes).await;
            assert_eq!(read(&store, name).await.unwrap(), bytes, "{name}");
            store.copy(&key(name), &key("copy"), PutCondition::None).await.unwrap();
            let listed: Vec<_> = store.list(name).try_collect().await.unwrap();
            assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), [name]);
            let upload = begin(&store, name).await;
            let parts = upload_parts(&store, &upload, &[noise(9)]).await;
            store.complete(&upload, &parts, PutCondition::None).await.unwrap();
            assert_eq!(server.object(name).body.len(), 9);
            store.delete(&key(name)).await.unwrap();
        }
        let refused = store.head(&key("..")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn wrong_credentials_and_unknown_buckets_are_told_and_not_tried_again() {
    let server = OssServer::start();
    let with = |id: &str, secret: &str, token| {
        builder(&server).credentials(Credentials::new(id, secret, token)).build().unwrap()
    };
    for (store, says) in [
        (with("the-id", "wrong", None), "--region"),
        (with("another", "the secret", None), "OSS_ACCESS_KEY_ID"),
        (with("the-id", "the secret", Some("token")), "403"),
    ] {
        let error = store.head(&key("a")).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::PermissionDenied, Retry::No), "{error}");
        assert!(error.to_string().contains(says) && error.to_string().contains("request 0000"), "{error}");
        assert!(!format!("{error:?}{store:?}").contains("the secret"));
    }
    let account = &server.state.account;
    let store = OssStore::builder("another-bucket").endpoint(server.endpoint()).region(REGION);
    let store = store.credentials(Credentials::new(&account.id, &account.secret, None)).build().unwrap();
    let error = store.head(&key("a")).await.unwrap_err();
    assert_eq!((error.kind(), code(&error)), (ErrorKind::NotFound, Some(ErrorCode::NoSuchBucket)));
    let wrong_region = builder(&server).region("cn-beijing").build().unwrap().head(&key("a")).await.unwrap_err();
    assert_eq!(wrong_region.retry(), Retry::No);
}

#[tokio::test]
async fn a_clock_that_is_off_is_corrected_by_the_servers() {
    for ahead in [3_600, -86_400] {
        let server = OssServer::start();
        server.state.ahead.store(ahead, SeqCst);
        for signature in [SignatureVersion::V4, SignatureVersion::V1] {
            // A request that can be sent again is, at once.
            let new = || builder(&server).signature(signature).build().unwrap();
            assert_eq!(new().head(&key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
            // A payload is the caller's to send again.
            let store = new();
            let put = || async {
                store.put_object(&key("b"), held(&noise(5)), &Properties::default(), PutCondition::None).await
            };
            let error = put().await.unwrap_err();
            assert_eq!((code(&error), error.retry()), (Some(ErrorCode::RequestTimeTooSkewed), Retry::Yes), "{error}");
            put().await.unwrap();
            assert_eq!(server.take_requests().len(), 4);
        }
    }
    // A date that does not help is not followed for ever.
    let server = OssServer::start();
    let store = store(&server);
    server.fail_next("HeadObject", What::Refuse(403, "RequestTimeTooSkewed", &[]));
    let error = store.head(&key("a")).await.unwrap_err();
    assert_eq!((code(&error), error.retry()), (Some(ErrorCode::RequestTimeTooSkewed), Retry::No));
    assert!(error.to_string().contains("clock"), "{error}");
}

#[tokio::test]
async fn a_checksum_that_differs_is_an_error() {
    let server = OssServer::start();
    let store = store(&server);
    let wrong = || What::Headers(&[("x-oss-hash-crc64ecma", "1")]);

    let upload = begin(&store, "a").await;
    server.fail_next("UploadPart", wrong());
    let error = store.put_part(&upload, part(1, &noise(PART))).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Yes), "{error}");
    assert_eq!(error.part(), Some(PartNumber::MIN));
    let list = upload_parts(&store, &upload, &[noise(PART), noise(5)]).await;
    server.fail_next("CompleteMultipartUpload", wrong());
    let error = store.complete(&upload, &list, PutCondition::None).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::No), "{error}");
    assert!(error.to_string().contains("is published, but it is not what was sent"), "{error}");

    server.fail_next("PutObject", wrong());
    let error = store.put_object(&key("b"), held(&noise(5)), &Properties::default(), PutCondition::None).await;
    assert_eq!(error.map_err(|e| (e.kind(), e.retry())), Err((ErrorKind::Io, Retry::Yes)));
    server.fail_next("GetObject", wrong());
    assert_eq!(read(&store, "b").await.unwrap_err().kind(), ErrorKind::Io);

    // Who does not want it compared pays and hears nothing.
    let careless = builder(&server).checksums(false).build().unwrap();
    for call in ["PutObject", "GetObject"] {
        server.fail_next(call, wrong());
    }
    put(&careless, "b", &noise(5)).await;
    read(&careless, "b").await.unwrap();
    assert!(server.all_failed());
}

#[tokio::test]
async fn the_whole_is_compared_after_a_resume_too() {
    let server = OssServer::start();
    server.state.page.store(1, SeqCst);
    let upload = begin(&store(&server), "a").await;
    let list = upload_parts(&store(&server), &upload, &[noise(PART), noise(PART), noise(7)]).await;
    // Another process: it knows the parts' checksums from the listing alone.
    let resumed = store(&server);
    assert_eq!(resumed.list_parts(&upload).await.unwrap().len(), 3);
    server.fail_next("CompleteMultipartUpload", What::Headers(&[("x-oss-hash-crc64ecma", "1")]));
    let error = resumed.complete(&upload, &list, PutCondition::None).await.unwrap_err();
    assert!(error.to_string().contains("CRC-64"), "{error}");
}

#[tokio::test]
async fn an_error_under_the_status_200_is_an_error() {
    let server = OssServer::start();
    let store = store(&server);
    let upload = begin(&store, "a").await;
    let list = upload_parts(&store, &upload, &[noise(PART), noise(7)]).await;
    for (error_code, kind, retry) in [
        ("InternalError", ErrorKind::Io, Retry::Yes),
        ("ServiceUnavailable", ErrorKind::Throttled, Retry::Yes),
        ("NoSuchUpload", ErrorKind::NotFound, Retry::No),
        ("SomethingNew", ErrorKind::Io, Retry::No),
    ] {
        server.fail_next("CompleteMultipartUpload", What::ErrorInSuccess(error_code));
        let error = store.complete(&upload, &list, PutCondition::None).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (kind, retry), "{error}");
        assert!(error.to_string().contains(error_code), "{error}");
    }
    store.complete(&upload, &list, PutCondition::None).await.unwrap();
    server.fail_next("CopyObject", What::ErrorInSuccess("InternalError"));
    let error = store.copy(&key("a"), &key("b"), PutCondition::None).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Yes);
    assert_eq!(store.head(&key("b")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn s19_a_copied_part_that_failed_under_the_status_200_is_an_error() {
    let server = OssServer::start();
    server.state.copy_limit.store(150 << 10, SeqCst);
    let store = builder(&server).copy_limit(150 << 10).build().unwrap();
    put(&store, "a", &noise(400_000)).await;
    server.fail_next("UploadPartCopy", What::ErrorInSuccess("InternalError"));
    let error = store.set_sse(&key("a"), &Sse::new(SseAlgorithm::Sm4)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Yes), "{error}");
    assert!(server.object("a").sse.is_empty() && store.list_uploads("").await.unwrap().is_empty());
}

#[tokio::test]
async fn s24_abort_is_repeated_until_no_part_is_left() {
    let server = OssServer::start();
    let store = store(&server);
    let aborts = |requests: Vec<oss_server::Request>| {
        requests.iter().filter(|request| oss_server::operation(request) == "AbortMultipartUpload").count()
    };
    // OSS says yes, and a part that was arriving is there all the same.
    let upload = begin(&store, "a").await;
    upload_parts(&store, &upload, &[noise(9)]).await;
    for _ in 0..2 {
        server.fail_next("AbortMultipartUpload", What::ErrorInSuccess("none"));
    }
    store.abort(&upload).await.unwrap();
    assert_eq!(aborts(server.take_requests()), 3);
    assert_eq!(store.list_parts(&upload).await.unwrap_err().kind(), ErrorKind::NotFound);
    // Who may not list is believed.
    let upload = begin(&store, "a").await;
    server.fail_next("ListParts", What::Refuse(403, "AccessDenied", &[]));
    store.abort(&upload).await.unwrap();
    // Parts that never end are an error, to be tried again.
    let upload = begin(&store, "a").await;
    upload_parts(&store, &upload, &[noise(9)]).await;
    for _ in 0..4 {
        server.fail_next("AbortMultipartUpload", What::ErrorInSuccess("none"));
    }
    let error = store.abort(&upload).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Changed, Retry::Yes), "{error}");
}

#[tokio::test]
async fn refusals_have_kinds_and_advice() {
    let server = OssServer::start();
    let store = store(&server);
    put(&store, "a", &noise(1000)).await;
    for (what, kind, retry) in [
        (What::Refuse(503, "SlowDown", &[]), ErrorKind::Throttled, Retry::Yes),
        (
            What::Refuse(503, "SlowDown", &[("Retry-After", "7")]),
            ErrorKind::Throttled,
            Retry::After(Duration::from_secs(7)),
        ),
        (What::Refuse(429, "QpsLimitExceeded", &[]), ErrorKind::Throttled, Retry::Yes),
        (What::Refuse(500, "InternalError", &[]), ErrorKind::Io, Retry::Yes),
        (What::Refuse(502, "", &[]), ErrorKind::Io, Retry::Yes),
        (What::Refuse(403, "AccessDenied", &[]), ErrorKind::PermissionDenied, Retry::No),
        (What::Refuse(409, "Conflict", &[]), ErrorKind::Io, Retry::No),
        (What::Refuse(302, "", &[("Location", "http://127.0.0.1:1/")]), ErrorKind::Io, Retry::No),
        (What::Drop, ErrorKind::Io, Retry::Yes),
    ] {
        let told = format!("{what:?}");
        server.fail_next("GetObject", what);
        let error = store.get(&key("a"), None, None).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (kind, retry), "{told}: {error}");
    }
    server.fail_next("GetObject", What::Truncate);
    let error = read(&store, "a").await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Yes), "{error}");
    // Nobody there.
    let nobody = builder(&server).endpoint("http://127.0.0.1:1").build().unwrap();
    let error = nobody.head(&key("a")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unreachable, Retry::Yes), "{error}");
    assert!(error.to_string().contains("cannot connect to 127.0.0.1:1"), "{error}");
    // Somebody who takes connections and never answers. A part has as much longer as its bytes may take.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let patient = builder(&server).endpoint(silent).timeout(Duration::from_millis(200)).build().unwrap();
    let error = patient.head(&key("a")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Retry::Yes), "{error}");
}

#[tokio::test]
async fn answers_of_any_bytes_are_errors() {
    let server = OssServer::start();
    let store = store(&server);
    let upload = begin(&store, "a").await;
    for body in [&b""[..], b"<", b"<html>", b"\xff\xfe\x00", b"<Error></Error>", b"<ListPartsResult><Part>"] {
        for call in ["InitiateMultipartUpload", "ListParts", "ListMultipartUploads", "ListObjectsV2"] {
            server.fail_next(call, What::Body(body.to_vec()));
        }
        assert_eq!(store.initiate(&key("b"), &Properties::default()).await.unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(store.list_parts(&upload).await.unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(store.list_uploads("").await.unwrap_err().kind(), ErrorKind::Malformed);
        let listed = store.list("").try_collect::<Vec<_>>().await;
        assert_eq!(listed.unwrap_err().kind(), ErrorKind::Malformed);
    }
    server.fail_next("ListParts", What::Body(vec![b' '; 17 << 20]));
    let error = store.list_parts(&upload).await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    // A page that leads nowhere is not asked for again and again.
    for (call, body) in [
        (
            "ListParts",
            "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>0</NextPartNumberMarker></ListPartsResult>",
        ),
        (
            "ListMultipartUploads",
            "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>",
        ),
    ] {
        server.fail_next(call, What::Body(body.into()));
    }
    assert_eq!(store.list_parts(&upload).await.unwrap_err().kind(), ErrorKind::Malformed);
    assert_eq!(store.list_uploads("").await.unwrap_err().kind(), ErrorKind::Malformed);
    put(&store, "a", &noise(100)).await;
    server.fail_next("GetObject", What::Headers(&[("Content-Range", "bytes 0-9/100")]));
    let range = ByteRange::Inclusive { first: 10, last: 19 };
    assert_eq!(store.get(&key("a"), Some(range), None).await.unwrap_err().kind(), ErrorKind::Io);
    server.fail_next("HeadObject", What::Headers(&[("ETag", "")]));
    assert_eq!(store.head(&key("a")).await.unwrap_err().kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn metadata_that_oss_would_not_keep_is_refused() {
    let server = OssServer::start();
    let store = store(&server);
    let long = "x".repeat(2048);
    for (name, value, kind) in [
        ("under_score", "x", ErrorKind::InvalidInput),
        ("Upper", "x", ErrorKind::InvalidInput),
        ("", "x", ErrorKind::InvalidInput),
        ("a", " x", ErrorKind::InvalidInput),
        ("a", "ü", ErrorKind::InvalidInput),
        ("a", "x\r\nx-oss-object-acl: public-read", ErrorKind::InvalidInput),
        ("client-side-encryption-key", "x", ErrorKind::InvalidInput),
        ("a", &long, ErrorKind::LimitExceeded),
    ] {
        let properties = Properties { metadata: named(&[(name, value)]), ..Properties::default() };
        let error = store.initiate(&key("a"), &properties).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name:?}: {error}");
    }
    assert!(server.take_requests().is_empty());
}

#[tokio::test]
async fn stat_is_ossutils() {
    let server = OssServer::start();
    let sse = Sse { key_id: Some("a-cmk".into()), ..Sse::new(SseAlgorithm::Kms) };
    let store = builder(&server).sse(Some(sse)).build().unwrap();
    let etag = put(&store, "a", &noise(5)).await;
    let stat = store.stat(&key("a")).await.unwrap();
    let names: Vec<_> = stat.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "ACL",
            "Accept-Ranges",
            "Content-Length",
            "Content-Md5",
            "Content-Type",
            "Etag",
            "Last-Modified",
            "Owner",
            "X-Oss-Hash-Crc64ecma",
            "X-Oss-Object-Type",
            "X-Oss-Server-Side-Encryption",
            "X-Oss-Server-Side-Encryption-Key-Id",
            "X-Oss-Storage-Class",
        ]
    );
    assert_eq!(
        (stat["Etag"].as_str(), stat["ACL"].as_str(), stat["Content-Length"].as_str()),
        (&*etag.0, "default", "5")
    );
    server.fail_next("GetObjectACL", What::Refuse(403, "AccessDenied", &[]));
    let stat = store.stat(&key("a")).await.unwrap();
    assert!(!stat.contains_key("ACL") && !stat.contains_key("Owner"));
    assert_eq!(store.stat(&key("b")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn uploads_are_listed_with_when_they_were_begun() {
    let server = OssServer::start();
    let store = store(&server);
    let upload = begin(&store, "begun").await;
    let listed = store.list_uploads_with_times("").await.unwrap().remove(0);
    assert_eq!(listed.upload, upload);
    let age = std::time::SystemTime::now().duration_since(listed.begun.unwrap()).unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
}

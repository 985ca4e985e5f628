//! Checksums that S3 compares: of parts, and of the objects made of them.

use super::*;
use sealift::Retry;

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
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Yes), "{error:?}");
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

/// As S3 writes it.
fn written(checksum: S3Checksum, bytes: &[u8]) -> String {
    use base64::Engine as _;
    use crc_fast::{CrcAlgorithm, checksum as sum};
    let encoded = base64::engine::general_purpose::STANDARD;
    match checksum {
        S3Checksum::Crc64Nvme => encoded.encode(sum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes()),
        _ => encoded.encode((sum(CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_be_bytes()),
    }
}

fn names(checksum: S3Checksum) -> (&'static str, &'static str) {
    match checksum {
        S3Checksum::Crc64Nvme => ("x-amz-checksum-crc64nvme", "ChecksumCRC64NVME"),
        _ => ("x-amz-checksum-crc32c", "ChecksumCRC32C"),
    }
}

/// Complete's success, with `more` in it.
fn completed(more: &str) -> Fault {
    Fault::xml(
        "200 OK",
        "",
        &format!("<CompleteMultipartUploadResult><ETag>\"x-2\"</ETag>{more}</CompleteMultipartUploadResult>"),
    )
}

/// A long part that is held, and a short one that is made while it is sent.
async fn two_parts(store: &S3Store, body: &[u8]) -> (Upload, Vec<CompletedPart>) {
    let upload = begin(store, "whole").await;
    let (one, two) = body.split_at(5 << 20);
    let mut parts = Vec::new();
    for (n, payload) in [(1, held(one)), (2, produced(two))] {
        let etag = put_part(store, &upload, n, payload).await.unwrap();
        parts.push(CompletedPart { number: number(n), etag });
    }
    (upload, parts)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_is_compared_with_what_was_sent() {
    let (weed, moto) = (seaweedfs(), moto());
    for (server, checksum) in [(&weed, S3Checksum::Crc32c), (&moto, S3Checksum::Crc32c), (&moto, S3Checksum::Crc64Nvme)]
    {
        let ((header, tag), body) = (names(checksum), noise(6 * MIB + 7));
        let whole = written(checksum, &body);
        let other = written(checksum, b"something else");
        let bad_digest = "<Error><Code>BadDigest</Code></Error>";
        let cases = [
            // What the server itself makes of it.
            (Fault::None, None),
            (completed(&format!("<{tag}>{whole}</{tag}><ChecksumType>FULL_OBJECT</ChecksumType>")), None),
            (completed(""), None),
            // Made of the parts' checksums, so that it says nothing of the whole.
            (completed(&format!("<{tag}>{other}-2</{tag}><ChecksumType>COMPOSITE</ChecksumType>")), None),
            (completed(&format!("<{tag}>{other}</{tag}>")), Some("is published, but it is not what was sent")),
            (Fault::xml("400 Bad Request", "", bad_digest), Some("what arrived at the store is not what was sent")),
        ];
        for (answer, says) in cases {
            let proxy = Proxy::before(server.port, first(1, is_complete, answer.clone()));
            let store = builder(&proxy.url()).checksum(checksum).build().await.unwrap();
            let (upload, parts) = two_parts(&store, &body).await;
            let done = store.complete(&upload, &parts, PutCondition::None).await;
            assert_eq!(proxy.header(header).last(), Some(&whole), "{answer:?}");
            assert_eq!(proxy.header("x-amz-checksum-type").last().map(String::as_str), Some("FULL_OBJECT"));
            match (done, says) {
                (Ok(_), None) => {}
                (Err(error), Some(says)) => {
                    // Doing it again would not make it another.
                    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::No), "{error:?}");
                    assert!(error.to_string().contains(says), "{error}");
                }
                (done, _) => panic!("{checksum:?} {answer:?}: {done:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_is_compared_after_a_resume_where_the_store_lists_the_parts_checksums() {
    let (server, checksum) = (moto(), S3Checksum::Crc64Nvme);
    let ((header, tag), body) = (names(checksum), noise(6 * MIB + 7));
    let (one, two) = body.split_at(5 << 20);
    let is_listing: fn(&str) -> bool = |line| line.starts_with("GET ") && line.contains("uploadId=");
    for tells in [true, false] {
        let store = builder(&server.url()).checksum(checksum).build().await.unwrap();
        let (upload, parts) = two_parts(&store, &body).await;
        let listed: String = [one, two]
            .iter()
            .zip(&parts)
            .map(|(bytes, part)| {
                let (n, etag, len, sum) = (part.number, &part.etag, bytes.len(), written(checksum, bytes));
                let sum = if tells { format!("<{tag}>{sum}</{tag}>") } else { String::new() };
                format!("<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag><Size>{len}</Size>{sum}</Part>")
            })
            .collect();
        let listing = Fault::xml("200 OK", "", &format!("<ListPartsResult>{listed}</ListPartsResult>"));
        let proxy = Proxy::before(server.port, first(1, is_listing, listing));
        // Another process: what it knows of the parts, the listing told.
        let resumed = builder(&proxy.url()).checksum(checksum).build().await.unwrap();
        assert_eq!(resumed.list_parts(&upload).await.unwrap().len(), 2);
        resumed.complete(&upload, &parts, PutCondition::None).await.unwrap();
        let expected = if tells { written(checksum, &body) } else { String::new() };
        assert_eq!(proxy.header(header).last(), Some(&expected));
        assert!(read(&resumed, "whole").await == body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_whole_is_something_else_fails() {
    let server = moto();
    let (_, tag) = names(S3Checksum::Crc64Nvme);
    let other = completed(&format!("<{tag}>{}</{tag}>", written(S3Checksum::Crc64Nvme, b"something else")));
    let proxy = Proxy::before(server.port, first(usize::MAX, is_complete, other));
    let store = builder(&proxy.url()).checksum(S3Checksum::Crc64Nvme).build().await.unwrap();
    let error = sealed::World::new().put_bytes(&store, &noise(6 * MIB), UploadOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    assert!(error.to_string().contains("upload it again"), "{error}");
    assert_eq!(proxy.seen().iter().filter(|line| is_complete(line)).count(), 1, "it is not tried again");
}

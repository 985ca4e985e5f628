//! Whole objects: written, read, copied, listed, deleted.

use md5::{Digest as _, Md5};
use sealift::KeyState;
use sealift::engine::ReadOptions;
use sealift::kms::recipients::{Trusted, TrustedKeys};

use super::*;

const TEXT: &[u8] = b"What is to be encrypted on the server's side: 62 bytes of it.\n";

fn md5(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Md5::digest(bytes))
}

#[tokio::test]
async fn plaintext_is_stored_as_it_is_and_sealed_objects_are_sealed() {
    let world = World::new().await;
    let cmk = world.cmk();
    // Empty, small, whole stripes, and long enough that a plaintext object's facts have a place of their own.
    for (n, len) in [0, 1, TEXT.len(), 1 << 20, (1 << 20) + 1, (3 << 20) + 5].into_iter().enumerate() {
        let plain = bytes(len, n as u64);
        for (sse, expected) in [
            (None, None),
            (aes256(), Some(Encrypted::Aes256)),
            (kms(&cmk), Some(Encrypted::Kms { key_id: cmk.clone() })),
        ] {
            let key = format!("a/{n}");
            let written = world.put(&key, &plain, sse).await.unwrap();
            assert_eq!((&written.etag, &written.encrypted), (&md5(&plain), &expected));
            assert_eq!(written.crc64, Some(sealift::crypto::crc64(&plain)));
            // A gateway that remembers nothing.
            let info = world.another().head_object(&object(&key), None).await.unwrap();
            assert_eq!((info.len, &info.etag, &info.encrypted), (len as u64, &md5(&plain), &expected));
            assert_eq!(info.crc64, written.crc64);
            assert_eq!(world.read(&key).await.unwrap(), plain);
            let (stored, properties) = world.stored(&key).await;
            assert_eq!(stored == plain, expected.is_none());
            if expected.is_some() {
                assert!(len < 8 || !stored.windows(8).any(|window| window == &plain[..8]), "plaintext is in the store");
                let metadata = format!("{:?}", properties.metadata);
                assert!(!metadata.contains(&md5(&plain)), "{metadata}");
            }
        }
    }
}

#[tokio::test]
async fn a_checksum_that_was_chosen_is_kept_with_the_object_and_its_copies() {
    let world = World::new().await;
    let of = |algorithm, bytes: &[u8]| {
        let mut hasher = checksums::Hasher::new(algorithm);
        hasher.update(bytes);
        Some(hasher.finish())
    };
    // As one request, with its facts in a place of their own, and in parts.
    for (len, is_known) in [(0, true), (62, true), (2 << 20, true), (62, false), ((8 << 20) + 5, false)] {
        for (sse, algorithm) in [None, aes256()].into_iter().zip([ChecksumAlgorithm::Sha256, ChecksumAlgorithm::Crc32])
        {
            let plain = bytes(len, 7);
            let sent = match is_known {
                true => body(&plain),
                false => Body::new(None, stream::iter([Ok(Bytes::from(plain.clone()))])),
            };
            let request = PutRequest { sse: sse.clone(), ..PutRequest::default() };
            let sent = sent.with_checksum(algorithm, || Ok(None));
            let written = world.service.put_object(&object("a"), sent, request).await.unwrap();
            let expected = of(algorithm, &plain);
            assert_eq!(written.checksum, expected);
            assert_eq!(world.another().head_object(&object("a"), None).await.unwrap().checksum, expected);
            let (_, properties) = world.stored("a").await;
            let value = expected.as_ref().unwrap().value();
            assert!(sse.is_none() || !format!("{properties:?}").contains(value), "it is of the plaintext");

            // Onto itself and elsewhere, with it or with another that is asked for.
            for (to, wanted, sse) in [
                ("a", None, sse.clone()),
                ("b", None, aes256()),
                ("a", Some(algorithm), sse.clone()),
                ("b", Some(ChecksumAlgorithm::Sha1), None),
                ("a", Some(ChecksumAlgorithm::Sha1), sse),
            ] {
                let request = CopyRequest {
                    source: object("a"),
                    source_key: None,
                    conditions: Conditions::default(),
                    attributes: None,
                    checksum: wanted,
                    sse,
                    if_not_exists: false,
                };
                let expected = of(wanted.unwrap_or(algorithm), &plain);
                assert_eq!(world.service.copy_object(&object(to), request).await.unwrap().0.checksum, expected);
                assert_eq!(world.another().head_object(&object(to), None).await.unwrap().checksum, expected);
                assert_eq!(world.read(to).await.unwrap(), plain);
            }
        }
    }
}

#[tokio::test]
async fn what_the_gateway_seals_sealift_opens() {
    let world = World::new().await;
    let plain = bytes((2 << 20) + 7, 1);
    world.put("a", &plain, aes256()).await.unwrap();
    let trusted = Trusted::new(vec![(world.kms.clone(), TrustedKeys::Any)]);
    let path = object("a").path().clone();
    let reader = world.engine.open(world.store.clone(), path, &trusted, &ReadOptions::default()).await.unwrap();
    assert_eq!(reader.read_range("0-".parse().unwrap()).await.unwrap(), plain);
    reader.verify(None).await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_leaves_what_was_there() {
    let world = World::new().await;
    for sse in [None, aes256()] {
        world.put("a", b"before", sse.clone()).await.unwrap();
        for len in [5, 3 << 20] {
            let put = async |body: Body| {
                let request = PutRequest { sse: sse.clone(), ..PutRequest::default() };
                world.service.put_object(&object("a"), body, request).await
            };
            let plain = bytes(len, 2);
            assert_eq!(kind(put(body(&plain).with_md5([7; 16])).await), FailureKind::BadDigest);
            assert_eq!(kind(put(body(&plain).with_sha256([7; 32])).await), FailureKind::Sha256Mismatch);
            let pieces = stream::iter([Ok(Bytes::from(plain.clone()))]);
            assert_eq!(kind(put(Body::new(Some(len as u64 + 1), pieces)).await), FailureKind::IncompleteBody);
            let broken = Failure::new(FailureKind::IncompleteBody, "gone");
            let pieces = stream::iter([Ok(Bytes::from(plain.clone())), Err(broken)]);
            assert_eq!(kind(put(Body::new(Some(len as u64 + 9), pieces)).await), FailureKind::IncompleteBody);
            assert_eq!(world.read("a").await.unwrap(), b"before");
        }
    }
    assert!(world.keys("_gateway/facts/").await.is_empty());
}

#[tokio::test]
async fn copies_onto_itself_change_the_encryption_and_nothing_else() {
    let world = World::new().await;
    let (first, second) = (world.cmk(), world.cmk());
    let name = object("01.txt");
    let mut attributes = Attributes::default();
    attributes.set_header("content-type", "text/plain");
    attributes.user.insert("color".into(), "blue".into());
    let request = PutRequest { attributes: attributes.clone(), ..PutRequest::default() };
    world.service.put_object(&name, body(TEXT), request).await.unwrap();
    assert_eq!(world.stored("01.txt").await.0, TEXT);

    let copy = async |sse: Option<Sse>| {
        let request = CopyRequest {
            source: name.clone(),
            source_key: None,
            conditions: Conditions::default(),
            attributes: None,
            checksum: None,
            sse,
            if_not_exists: false,
        };
        let (written, _) = world.service.copy_object(&name, request).await.unwrap();
        assert_eq!((written.etag, written.crc64), (md5(TEXT), Some(sealift::crypto::crc64(TEXT))));
        let info = world.another().head_object(&name, None).await.unwrap();
        assert_eq!((info.len, &info.etag, info.crc64), (62, &md5(TEXT), written.crc64));
        assert_eq!(info.encrypted, written.encrypted);
        assert_eq!(info.attributes, attributes);
        assert_eq!(world.read("01.txt").await.unwrap(), TEXT);
        (written.encrypted, world.stored("01.txt").await.0)
    };
    let of = |id: &String| Some(Encrypted::Kms { key_id: id.clone() });
    let (encrypted, sealed) = copy(kms(&first)).await;
    assert_eq!(encrypted, of(&first));
    assert!(!sealed.windows(8).any(|window| TEXT.windows(8).any(|plain| plain == window)));
    // Another CMK: the data stays as it was sealed.
    let (encrypted, rewrapped) = copy(kms(&second)).await;
    assert_eq!((encrypted, &rewrapped), (of(&second), &sealed));
    let (encrypted, rewrapped) = copy(aes256()).await;
    assert_eq!((encrypted, &rewrapped), (Some(Encrypted::Aes256), &sealed));
    // Encryption is not inherited.
    assert_eq!(copy(None).await, (None, TEXT.to_vec()));
    assert_eq!(copy(None).await, (None, TEXT.to_vec()));
}

#[tokio::test]
async fn cmks_that_cannot_be_used_are_told_as_what_they_are() {
    let world = World::new().await;
    let cmk = world.cmk();
    world.put("a", TEXT, kms(&cmk)).await.unwrap();
    let pending = sealift::kms::local::KeyOrigin::External;
    let pending = world.kms.create_key(CreateKey { origin: pending, ..CreateKey::default() }).unwrap();
    assert_eq!(pending.state, KeyState::PendingImport);
    assert_eq!(kind(world.put("b", TEXT, kms(&pending.key_id)).await), FailureKind::KeyPendingImport);
    assert_eq!(kind(world.put("b", TEXT, kms("none")).await), FailureKind::InvalidKeyId);
    assert_eq!(kind(world.put("b", TEXT, kms("acs:kms:mars:1:key/x")).await), FailureKind::KeyOfOtherRegion);

    world.kms.disable_key(&cmk).unwrap();
    assert_eq!(kind(world.put("b", TEXT, kms(&cmk)).await), FailureKind::KeyDisabled);
    assert_eq!(kind(world.read("a").await), FailureKind::KeyDisabled);
    assert_eq!(kind(world.another().head_object(&object("a"), None).await), FailureKind::KeyDisabled);
    // It is listed all the same.
    let all = ListRequest { prefix: String::new(), delimiter: String::new(), after: String::new(), max: 10 };
    let listing = world.another().list_objects(&bucket(), &all).await.unwrap();
    assert_eq!(listing.objects.len(), 1);
    world.kms.schedule_key_deletion(&cmk, 7).unwrap();
    assert_eq!(kind(world.read("a").await), FailureKind::KeyPendingDeletion);
    world.kms.cancel_key_deletion(&cmk).unwrap();
    world.kms.enable_key(&cmk).unwrap();
    assert_eq!(world.read("a").await.unwrap(), TEXT);
}

#[tokio::test]
async fn the_bucket_s_default_counts_where_requests_say_nothing() {
    let world = World::new().await;
    let cmk = world.cmk();
    let encryption = |key_id: &str| Some(Encryption::Kms { key_id: Some(key_id.to_owned()) });
    world.service.set_encryption(&bucket(), encryption(&cmk)).await.unwrap();
    assert_eq!(world.another().bucket(&bucket()).await.unwrap().encryption, encryption(&cmk));
    let written = world.put("a", TEXT, None).await.unwrap();
    assert_eq!(written.encrypted, Some(Encrypted::Kms { key_id: cmk.clone() }));
    assert_eq!(world.put("a", TEXT, aes256()).await.unwrap().encrypted, Some(Encrypted::Aes256));
    let refused = world.service.set_encryption(&bucket(), encryption("acs:kms:mars:1:key/x")).await;
    assert_eq!(kind(refused), FailureKind::KeyOfOtherRegion);
    world.service.set_encryption(&bucket(), None).await.unwrap();
    assert_eq!(world.put("a", TEXT, None).await.unwrap().encrypted, None);
}

#[tokio::test]
async fn a_customer_s_key_is_needed_and_kept_by_nobody() {
    let world = World::new().await;
    let key = |byte: u8| CustomerKey::take(&mut [byte; 32]).unwrap();
    let written = world.put("a", TEXT, Some(Sse::Customer(key(1)))).await.unwrap();
    assert_eq!(written.encrypted, Some(Encrypted::Customer));
    let opened = world.service.open_object(&object("a"), Some(&key(1))).await.unwrap();
    assert_eq!(read(&opened, 5..9).await.unwrap(), &TEXT[5..9]);
    let head = async |key| world.service.head_object(&object("a"), key).await;
    assert_eq!(kind(head(None).await), FailureKind::InvalidArgument);
    assert_eq!(kind(world.service.open_object(&object("a"), Some(&key(2))).await), FailureKind::KeyMissing);
    world.put("b", TEXT, None).await.unwrap();
    assert_eq!(kind(world.service.head_object(&object("b"), Some(&key(1))).await), FailureKind::InvalidArgument);
}

#[tokio::test]
async fn what_was_altered_in_the_store_is_never_served() {
    let world = World::new().await;
    world.put("a", TEXT, aes256()).await.unwrap();
    let path = object("a").path().clone();
    let (stored, properties) = world.stored("a").await;
    let replace = async |bytes: Vec<u8>, properties: &Properties| {
        let payload = sealift::store::Payload::held(vec![bytes.into()]);
        world.store.put_object(&path, payload, properties, sealift::store::PutCondition::None).await.unwrap();
    };
    let mut altered = stored.clone();
    altered[60] ^= 1;
    replace(altered, &properties).await;
    assert_eq!(kind(world.read("a").await), FailureKind::Damaged);
    // Without its envelope it must not pass for plaintext.
    replace(stored.clone(), &Properties::default()).await;
    assert_eq!(kind(world.read("a").await), FailureKind::Damaged);
    let mut cut = properties.clone();
    cut.metadata.remove("sealift-object-id");
    replace(stored.clone(), &cut).await;
    assert_eq!(kind(world.read("a").await), FailureKind::Damaged);
    replace(stored, &properties).await;
    assert_eq!(world.read("a").await.unwrap(), TEXT);
}

#[tokio::test]
async fn objects_are_listed_in_pages_and_in_groups() {
    let world = World::new().await;
    for (n, key) in ["a", "dir/1", "dir/2", "dir/sub/3", "e", "f"].into_iter().enumerate() {
        let sse = if n % 2 == 0 { aes256() } else { None };
        world.put(key, &TEXT[..n + 1], sse).await.unwrap();
    }
    let list = async |prefix: &str, delimiter: &str, max| {
        let (mut after, mut rows) = (String::new(), Vec::new());
        loop {
            let request =
                ListRequest { prefix: prefix.to_owned(), delimiter: delimiter.to_owned(), after: after.clone(), max };
            let page = world.service.list_objects(&bucket(), &request).await.unwrap();
            assert!(page.objects.len() + page.prefixes.len() <= max);
            rows.extend(page.objects.into_iter().map(|row| format!("{}:{}", row.key, row.len)));
            rows.extend(page.prefixes);
            match page.next {
                Some(next) => after = next,
                None => break rows,
            }
        }
    };
    for max in [1, 2, 3, 100] {
        let mut rows = list("", "", max).await;
        rows.sort();
        assert_eq!(rows, ["a:1", "dir/1:2", "dir/2:3", "dir/sub/3:4", "e:5", "f:6"]);
        let mut rows = list("", "/", max).await;
        rows.sort();
        assert_eq!(rows, ["a:1", "dir/", "e:5", "f:6"]);
        let mut rows = list("dir/", "/", max).await;
        rows.sort();
        assert_eq!(rows, ["dir/1:2", "dir/2:3", "dir/sub/"]);
    }
    assert!(list("none", "", 5).await.is_empty());
}

#[tokio::test]
async fn a_page_does_not_read_again_what_was_before_it() {
    let store = Arc::new(faults::FaultyStore::new(limits(1)));
    let world = World::over(store.clone()).await;
    for key in ["a", "b/1", "b/2", "b/3", "b/4", "c", "d/1", "d/2", "d/3", "e"] {
        world.put(key, TEXT, None).await.unwrap();
    }
    // Those of the page, those that are in one row with others, and the one that shows that there are more.
    for (delimiter, after, read) in [("", "", 3), ("", "b/4", 3), ("/", "b/", 5), ("/", "d/", 1), ("/", "e", 0)] {
        let before = store.listed();
        let after = after.to_owned();
        let request = ListRequest { prefix: String::new(), delimiter: delimiter.to_owned(), after, max: 2 };
        world.service.list_objects(&bucket(), &request).await.unwrap();
        assert_eq!(store.listed() - before, read, "{request:?}");
    }
    // A prefix, and the beginning of a name, are no rows.
    for (prefix, after, first) in [("b/", "b/", Some("b/1")), ("", "b", Some("b/")), ("b/", "b/4", None)] {
        let (prefix, delimiter, after) = (prefix.to_owned(), "/".to_owned(), after.to_owned());
        let request = ListRequest { prefix, delimiter, after, max: 1 };
        let page = world.service.list_objects(&bucket(), &request).await.unwrap();
        let found = page.objects.first().map(|row| row.key.clone()).or(page.prefixes.first().cloned());
        assert_eq!(found.as_deref(), first, "{request:?}");
    }
}

#[tokio::test]
async fn buckets_are_made_listed_and_removed_when_they_are_empty() {
    let world = World::new().await;
    let other = BucketName::new("another").unwrap();
    assert_eq!(kind(world.service.create_bucket(&bucket()).await), FailureKind::BucketAlreadyExists);
    world.another().create_bucket(&other).await.unwrap();
    let names: Vec<_> = world.service.list_buckets().await.unwrap().into_iter().map(|b| b.name.to_string()).collect();
    assert_eq!(names, ["another", BUCKET]);
    world.put("a", TEXT, None).await.unwrap();
    assert_eq!(kind(world.service.delete_bucket(&bucket()).await), FailureKind::BucketNotEmpty);
    world.service.delete_object(&object("a")).await.unwrap();
    world.service.delete_object(&object("a")).await.unwrap();
    world.service.delete_bucket(&bucket()).await.unwrap();
    assert_eq!(kind(world.put("a", TEXT, None).await), FailureKind::NoSuchBucket);
    assert_eq!(kind(world.read("a").await), FailureKind::NoSuchBucket);
    assert_eq!(kind(world.service.delete_bucket(&bucket()).await), FailureKind::NoSuchBucket);
}

#[tokio::test]
async fn what_is_noted_beside_a_plaintext_object_goes_with_it() {
    let world = World::new().await;
    let large = bytes(2 << 20, 3);
    for _ in 0..2 {
        world.put("a", &large, None).await.unwrap();
        assert_eq!(world.keys("_gateway/facts/").await.len(), 1);
    }
    world.put("a", TEXT, None).await.unwrap();
    assert!(world.keys("_gateway/facts/").await.is_empty());
    world.put("a", &large, None).await.unwrap();
    let deleted = world.service.delete_objects(&bucket(), &["a".into(), "none".into(), String::new()]).await.unwrap();
    assert_eq!(deleted.iter().map(|one| one.is_ok()).collect::<Vec<_>>(), [true, true, false]);
    assert!(world.keys("_gateway/facts/").await.is_empty());
    let request = PutRequest { if_not_exists: true, ..PutRequest::default() };
    world.service.put_object(&object("a"), body(TEXT), request.clone()).await.unwrap();
    assert_eq!(kind(world.service.put_object(&object("a"), body(TEXT), request).await), FailureKind::AlreadyExists);
}

#[tokio::test]
async fn bodies_of_unknown_length_are_written_at_once_or_in_parts() {
    let world = World::new().await;
    for sse in [None, aes256()] {
        for len in [0, 5, 8 << 20, (20 << 20) + 3] {
            let plain = bytes(len, 9);
            let unknown = |plain: &[u8]| {
                let pieces: Vec<_> = plain.chunks(100_003).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                Body::new(None, stream::iter(pieces))
            };
            let request = PutRequest { sse: sse.clone(), ..PutRequest::default() };
            let bad = unknown(&plain).with_md5([7; 16]);
            let refused = world.service.put_object(&object("a"), bad, request.clone()).await;
            assert_eq!(kind(refused), FailureKind::BadDigest);
            assert_eq!(kind(world.read("a").await), FailureKind::NoSuchKey);
            let written = world.service.put_object(&object("a"), unknown(&plain), request).await.unwrap();
            assert_eq!((&written.etag, written.crc64), (&md5(&plain), Some(sealift::crypto::crc64(&plain))));
            let info = world.another().head_object(&object("a"), None).await.unwrap();
            assert_eq!((info.len, info.etag, info.crc64), (len as u64, written.etag, written.crc64));
            assert_eq!(world.read("a").await.unwrap(), plain);
            world.service.delete_object(&object("a")).await.unwrap();
            assert!(world.keys("_gateway/uploads/").await.is_empty());
            assert!(world.keys("_gateway/facts/").await.is_empty());
        }
    }
}

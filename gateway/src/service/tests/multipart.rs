//! Multipart uploads: in any order, by any gateway, with parts that cannot stand in the middle, and nothing changed after the commit.

use futures::StreamExt as _;

use super::faults::FaultyStore;
use super::*;

const PART: usize = 100 << 10;

async fn begin(world: &World, sse: Option<Sse>) -> String {
    let request = InitiateRequest { sse, ..InitiateRequest::default() };
    world.service.initiate(&object("a"), request).await.unwrap().id
}

async fn upload(service: &Service, id: &str, number: u32, bytes: &[u8]) -> Result<PartInfo> {
    let request = PartRequest { number, customer: None };
    service.upload_part(&object("a"), id, request, body(bytes)).await
}

async fn complete(service: &Service, id: &str, parts: &[PartInfo]) -> Result<Written> {
    service.complete(&object("a"), id, request_of(parts)).await
}

fn request_of(parts: &[PartInfo]) -> CompleteRequest {
    let listed = parts.iter().map(|part| {
        let checksum = part.checksum.as_ref().map(|checksum| (checksum.algorithm(), checksum.value().to_owned()));
        ListedPart { number: part.number, etag: format!("\"{}\"", part.etag.to_uppercase()), checksum }
    });
    CompleteRequest {
        parts: Some(listed.collect()),
        min_part: PART as u64,
        etag_style: ETagStyle::Oss,
        if_not_exists: false,
        len: None,
        checksum: None,
        checksum_type: None,
        customer: None,
    }
}

#[tokio::test]
async fn parts_in_any_order_by_any_gateway_become_the_object() {
    for sse in [None, aes256()] {
        let world = World::new().await;
        let id = begin(&world, sse.clone()).await;
        assert_eq!(id.starts_with('E'), sse.is_some());
        let parts: Vec<_> =
            [PART, PART + 1, 3 << 20, 7].iter().enumerate().map(|(n, len)| bytes(*len, n as u64)).collect();
        let numbers = [2, 3, 500, 10_000];
        let mut stored = Vec::new();
        for n in [3, 0, 2, 1, 0] {
            // A gateway that knows nothing, each time; part 2 twice.
            let part = upload(&world.another(), &id, numbers[n], &parts[n]).await.unwrap();
            assert_eq!((part.len, part.crc64), (parts[n].len() as u64, sealift::crypto::crc64(&parts[n])));
            stored.retain(|other: &PartInfo| other.number != part.number);
            stored.push(part);
        }
        stored.sort_by_key(|part| part.number);
        let listed = world.another().list_parts(&object("a"), &id, 2, 2, None).await.unwrap();
        assert_eq!(listed.parts.iter().map(|part| part.number).collect::<Vec<_>>(), [3, 500]);
        assert_eq!(listed.next, Some(500));
        for (key, bytes) in stored_everywhere(&world).await {
            for part in &parts {
                let found = sse.is_some() && bytes.windows(7).any(|window| window == &part[..7]);
                assert!(!found, "plaintext lies in {key}");
            }
        }
        let uploads = UploadsRequest { prefix: String::new(), after: Default::default(), max: 10 };
        let uploads = world.service.list_uploads(&bucket(), &uploads).await.unwrap().uploads;
        assert_eq!(uploads.iter().map(|u| (u.key.as_str(), u.id.as_str())).collect::<Vec<_>>(), [("a", id.as_str())]);
        assert_eq!(kind(world.service.delete_bucket(&bucket()).await), FailureKind::BucketNotEmpty);

        let written = complete(&world.another(), &id, &stored).await.unwrap();
        let whole = parts.concat();
        assert!(written.etag.ends_with("-4") && written.crc64 == Some(sealift::crypto::crc64(&whole)));
        assert_eq!(world.read("a").await.unwrap(), whole);
        let info = world.another().head_object(&object("a"), None).await.unwrap();
        assert_eq!((info.len, &info.etag, info.crc64), (whole.len() as u64, &written.etag, written.crc64));
        let opened = world.service.open_object(&object("a"), None).await.unwrap();
        let edge = PART as u64;
        assert_eq!(read(&opened, edge - 3..edge + 3).await.unwrap(), &whole[PART - 3..PART + 3]);
        assert!(world.keys("_gateway/uploads/").await.is_empty());
        assert_eq!(kind(upload(&world.service, &id, 1, b"late").await), FailureKind::NoSuchUpload);
    }
}

async fn stored_everywhere(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for key in world.keys("").await {
        let got = world.store.get(&key.parse().unwrap(), None, None).await.unwrap();
        all.push((key, got.body.try_collect::<Vec<Bytes>>().await.unwrap().concat()));
    }
    all
}

#[tokio::test]
async fn parts_too_small_for_the_store_wait_for_the_end() {
    let world = World::over(Arc::new(MemoryStore::with_limits(limits(1 << 20)))).await;
    let id = begin(&world, aes256()).await;
    let (large, small) = (bytes(2 << 20, 1), bytes(PART, 2));
    let first = upload(&world.service, &id, 1, &large).await.unwrap();
    let second = upload(&world.service, &id, 2, &small).await.unwrap();
    let third = upload(&world.service, &id, 3, &small).await.unwrap();
    assert_eq!(world.keys("_gateway/uploads/").await.iter().filter(|key| key.contains(".staged-")).count(), 2);
    let all = [first.clone(), second.clone(), third];
    assert_eq!(kind(complete(&world.service, &id, &all).await), FailureKind::EntityTooSmall);
    // Nothing was committed to: another list is fine.
    complete(&world.another(), &id, &[first, second]).await.unwrap();
    assert_eq!(world.read("a").await.unwrap(), [&large[..], &small].concat());
    assert!(world.keys("_gateway/uploads/").await.is_empty());
}

#[tokio::test]
async fn a_list_that_is_wrong_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let id = begin(&world, aes256()).await;
    let first = upload(&world.service, &id, 1, &bytes(PART, 1)).await.unwrap();
    let tiny = upload(&world.service, &id, 2, b"tiny").await.unwrap();
    let last = upload(&world.service, &id, 3, b"last").await.unwrap();
    let wrong = PartInfo { etag: tiny.etag.clone(), ..first.clone() };
    let missing = PartInfo { number: 4, ..last.clone() };
    for (list, expected) in [
        (vec![tiny.clone(), last.clone()], FailureKind::EntityTooSmall),
        (vec![last.clone(), first.clone()], FailureKind::InvalidPartOrder),
        (vec![first.clone(), first.clone()], FailureKind::InvalidPartOrder),
        (vec![wrong], FailureKind::InvalidPart),
        (vec![first.clone(), missing], FailureKind::InvalidPart),
        (vec![], FailureKind::InvalidArgument),
    ] {
        assert_eq!(kind(complete(&world.service, &id, &list).await), expected);
    }
    for number in [0, 10_001] {
        assert_eq!(kind(upload(&world.service, &id, number, b"x").await), FailureKind::InvalidArgument);
    }
    assert_eq!(kind(world.read("a").await), FailureKind::NoSuchKey);
    complete(&world.service, &id, &[first, last]).await.unwrap();
    assert_eq!(world.read("a").await.unwrap(), [&bytes(PART, 1)[..], b"last"].concat());
}

#[tokio::test]
async fn from_the_commit_on_only_the_same_complete_or_abort_is_possible() {
    for sse in [None, aes256()] {
        let store = Arc::new(FaultyStore::new(limits(1)));
        let world = World::over(store.clone()).await;
        let id = begin(&world, sse).await;
        let one = upload(&world.service, &id, 1, &bytes(PART, 1)).await.unwrap();
        let two = upload(&world.service, &id, 2, b"two").await.unwrap();
        // The list is recorded, and then the store fails.
        store.fail_next("complete");
        assert_eq!(kind(complete(&world.service, &id, &[one.clone(), two.clone()]).await), FailureKind::Unavailable);
        assert_eq!(kind(world.read("a").await), FailureKind::NoSuchKey);
        let gateway = world.another();
        assert_eq!(kind(upload(&gateway, &id, 3, b"three").await), FailureKind::UploadIsCompleting);
        assert_eq!(kind(complete(&gateway, &id, std::slice::from_ref(&one)).await), FailureKind::UploadIsCompleting);
        // It is done, and the answer is lost.
        store.lose_next("complete");
        assert_eq!(kind(complete(&gateway, &id, &[one.clone(), two.clone()]).await), FailureKind::Unavailable);
        let written = complete(&gateway, &id, &[one, two]).await.unwrap();
        assert!(written.etag.ends_with("-2"));
        assert_eq!(world.read("a").await.unwrap(), [&bytes(PART, 1)[..], b"two"].concat());
        assert!(world.keys("_gateway/uploads/").await.is_empty());

        let id = begin(&world, aes256()).await;
        let one = upload(&world.service, &id, 1, b"1").await.unwrap();
        store.fail_next("complete");
        assert_eq!(kind(complete(&world.service, &id, &[one]).await), FailureKind::Unavailable);
        world.another().abort(&object("a"), &id).await.unwrap();
        assert!(world.keys("_gateway/uploads/").await.is_empty());
        assert_eq!(kind(world.service.abort(&object("a"), &id).await), FailureKind::NoSuchUpload);
    }
}

#[tokio::test]
async fn empty_parts_and_objects_of_nothing_else() {
    for sse in [None, aes256()] {
        let world = World::new().await;
        let id = begin(&world, sse.clone()).await;
        let empty = upload(&world.service, &id, 1, b"").await.unwrap();
        complete(&world.service, &id, &[empty]).await.unwrap();
        assert_eq!(world.read("a").await.unwrap(), b"");
        let id = begin(&world, sse).await;
        let one = upload(&world.service, &id, 1, &bytes(PART, 1)).await.unwrap();
        let empty = upload(&world.service, &id, 2, b"").await.unwrap();
        let written = complete(&world.service, &id, &[one, empty]).await.unwrap();
        assert!(written.etag.ends_with("-2"));
        assert_eq!(world.read("a").await.unwrap(), bytes(PART, 1));
    }
}

#[tokio::test]
async fn parts_are_copied_from_objects() {
    let world = World::new().await;
    let source = bytes(300_000, 5);
    let put = PutRequest { sse: aes256(), ..PutRequest::default() };
    world.service.put_object(&object("source"), body(&source), put).await.unwrap();
    let id = begin(&world, aes256()).await;
    let from = |range: Option<&str>| PartSource {
        object: object("source"),
        range: range.map(|range| range.parse().unwrap()),
        key: None,
        conditions: Conditions::default(),
    };
    let part = |number| PartRequest { number, customer: None };
    let copy = async |number, range| world.service.upload_part_copy(&object("a"), &id, part(number), from(range)).await;
    let one = copy(1, None).await.unwrap().0;
    let two = copy(2, Some("5-14")).await.unwrap().0;
    assert_eq!(kind(copy(3, Some("300000-")).await), FailureKind::InvalidRange);
    let beyond = format!("5-{}", source.len());
    assert_eq!(kind(copy(3, Some(&beyond)).await), FailureKind::InvalidRange, "not all of it is there");
    complete(&world.service, &id, &[one, two]).await.unwrap();
    assert_eq!(world.read("a").await.unwrap(), [&source[..], &source[5..15]].concat());
}

#[tokio::test]
async fn state_that_was_altered_in_the_store_is_refused() {
    let world = World::new().await;
    let id = begin(&world, aes256()).await;
    let one = upload(&world.service, &id, 1, b"one").await.unwrap();
    for key in world.keys("_gateway/uploads/").await {
        let path: ObjectKey = key.parse().unwrap();
        let got = world.store.get(&path, None, None).await.unwrap();
        let good = got.body.try_collect::<Vec<Bytes>>().await.unwrap().concat();
        let put = async |bytes: Vec<u8>| {
            let payload = sealift::store::Payload::held(vec![bytes.into()]);
            let none = sealift::store::PutCondition::None;
            world.store.put_object(&path, payload, &Properties::default(), none).await.unwrap();
        };
        let mut bad = good.clone();
        let at = if key.ends_with(".upload") { good.len() - 10 } else { 80 };
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        put(bad).await;
        assert_eq!(
            kind(complete(&world.another(), &id, std::slice::from_ref(&one)).await),
            FailureKind::Damaged,
            "{key}"
        );
        put(good).await;
    }
    // Nor can an encrypted upload be turned into one of plaintext, or another's state be put in its place.
    let other = begin(&world, aes256()).await;
    let path = |id: &str| names::of_upload(&bucket(), id, "upload").unwrap();
    world.store.copy(&path(&other), &path(&id), sealift::store::PutCondition::None).await.unwrap();
    assert_eq!(kind(upload(&world.another(), &id, 2, b"two").await), FailureKind::Damaged);
}

/// Any order of parts, repeated and replaced, on a store that fails and loses answers; then Complete until it is answered. What was
/// acknowledged last is what is read, and until then there is nothing.
#[tokio::test]
async fn whatever_the_store_does_the_object_is_what_was_acknowledged() {
    let rounds = if std::env::var_os("SEALIFT_SOAK").is_some() { 3000 } else { 60 };
    for seed in 0..rounds {
        let store = Arc::new(FaultyStore::new(limits(if seed % 3 == 0 { 50_000 } else { 1 })));
        let world = World::over(store.clone()).await;
        let id = begin(&world, if seed % 4 == 1 { None } else { aes256() }).await;
        let mut random = bytes(4096, seed).into_iter();
        let mut next = || random.next().expect("enough");
        store.fail_at_random(seed);
        let mut acknowledged = std::collections::BTreeMap::new();
        for step in 0..12 {
            let number = 1 + u32::from(next() % 5);
            let content = bytes(if next() % 4 == 0 { 30_000 } else { PART }, seed * 100 + step);
            let gateway = if next() % 2 == 0 { world.another() } else { world.service.clone() };
            match upload(&gateway, &id, number, &content).await {
                Ok(part) => {
                    acknowledged.insert(number, Some((part, content)));
                }
                // It may be stored or not: the client does not know, and does not list it.
                Err(_) => {
                    acknowledged.insert(number, None);
                }
            }
        }
        store.quiet();
        // What failed is sent again, as a client does.
        for (number, part) in &mut acknowledged {
            if part.is_none() {
                let content = bytes(PART, seed * 100 + 50 + u64::from(*number));
                *part = Some((upload(&world.service, &id, *number, &content).await.unwrap(), content));
            }
        }
        let acknowledged: Vec<_> = acknowledged.into_values().flatten().collect();
        let list: Vec<_> = acknowledged.iter().map(|(part, _)| part.clone()).collect();
        let expected: Vec<u8> = acknowledged.iter().flat_map(|(_, content)| content.clone()).collect();
        assert_eq!(kind(world.read("a").await), FailureKind::NoSuchKey, "seed {seed}");
        store.fail_at_random(seed + 1_000_000);
        let mut done = None;
        for attempt in 0..40 {
            if attempt == 30 {
                store.quiet();
            }
            match complete(&world.another(), &id, &list).await {
                Ok(written) => {
                    done = Some(written);
                    break;
                }
                Err(failure) if failure.kind() == FailureKind::EntityTooSmall => {
                    assert!(list.iter().rev().skip(1).any(|part| part.len < PART as u64), "seed {seed}");
                    break;
                }
                Err(_) => {}
            }
        }
        store.quiet();
        let too_small = list.iter().rev().skip(1).any(|part| part.len < PART as u64);
        // Even where an earlier one was done, and forgotten behind an answer that was lost.
        assert!(done.is_some() || too_small, "seed {seed}: Complete is never answered");
        match world.read("a").await {
            Ok(read) => assert!(read == expected && !too_small, "seed {seed}"),
            Err(failure) => {
                assert!(
                    failure.kind() == FailureKind::NoSuchKey && too_small && done.is_none(),
                    "seed {seed}: {failure:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_complete_that_is_done_and_forgotten_is_answered_again() {
    for sse in [None, aes256()] {
        let world = World::new().await;
        let id = begin(&world, sse.clone()).await;
        let one = upload(&world.service, &id, 1, &bytes(PART, 1)).await.unwrap();
        let parts = [one, upload(&world.service, &id, 2, b"the end").await.unwrap()];
        let done = complete(&world.service, &id, &parts).await.unwrap();
        assert!(world.keys("_gateway/uploads/").await.is_empty());
        let again = complete(&world.another(), &id, &parts).await.unwrap();
        assert_eq!((&again.etag, again.crc64, &again.encrypted), (&done.etag, done.crc64, &done.encrypted));
        assert_eq!(kind(complete(&world.another(), &id, &parts[..1]).await), FailureKind::NoSuchUpload);
        let another = begin(&world, sse).await;
        world.service.abort(&object("a"), &another).await.unwrap();
        assert_eq!(kind(complete(&world.another(), &another, &parts).await), FailureKind::NoSuchUpload);
        // By a gateway that still has the upload at hand.
        let (other, had) = (begin(&world, aes256()).await, world.another());
        let part = upload(&had, &other, 1, b"part").await.unwrap();
        let done = complete(&world.service, &other, std::slice::from_ref(&part)).await.unwrap();
        assert_eq!(complete(&had, &other, &[part]).await.unwrap().etag, done.etag);
        // What another wrote since is not what this upload made.
        world.put("a", b"another", None).await.unwrap();
        assert_eq!(kind(complete(&world.another(), &id, &parts).await), FailureKind::NoSuchUpload);
    }
}

#[tokio::test]
async fn checksums_are_compared_at_complete_and_kept_as_secret_as_the_object() {
    let algorithm = ChecksumAlgorithm::Crc32c;
    for (sse, of) in [None, aes256()]
        .into_iter()
        .flat_map(|sse| [ChecksumType::Composite, ChecksumType::FullObject].map(move |of| (sse.clone(), of)))
    {
        let world = World::new().await;
        let kind_ = ChecksumKind::new(algorithm, Some(of)).unwrap();
        let request = InitiateRequest { sse: sse.clone(), checksum: Some(kind_), ..InitiateRequest::default() };
        let id = world.service.initiate(&object("a"), request).await.unwrap().id;
        let plain = [bytes(PART, 1), b"the end".to_vec()];
        let part = |number: u32| PartRequest { number, customer: None };
        let other = body(&plain[0]).with_checksum(ChecksumAlgorithm::Sha1, || Ok(None));
        let refused = world.service.upload_part(&object("a"), &id, part(1), other).await;
        assert_eq!(kind(refused), FailureKind::InvalidRequest);
        // One is sent, the other is not.
        let sent = checksum(algorithm, &plain[0]);
        let expected = sent.value().to_owned();
        let with = body(&plain[0]).with_checksum(algorithm, || Ok(Some(expected)));
        let one = world.service.upload_part(&object("a"), &id, part(1), with).await.unwrap();
        let two = upload(&world.another(), &id, 2, &plain[1]).await.unwrap();
        assert_eq!(one.checksum, Some(sent));
        assert_eq!(two.checksum, Some(checksum(algorithm, &plain[1])));
        let listed = world.another().list_parts(&object("a"), &id, 0, 5, None).await.unwrap();
        assert_eq!(listed.checksum, Some(kind_));
        assert!(listed.parts.iter().map(|part| &part.checksum).eq([&one.checksum, &two.checksum]));

        let whole = match of {
            ChecksumType::FullObject => checksum(algorithm, &plain.concat()),
            ChecksumType::Composite => {
                kind_.of_parts([&one, &two].map(|part| (part.checksum.as_ref(), part.len))).unwrap()
            }
        };
        let parts = [one.clone(), two.clone()];
        let good = CompleteRequest {
            len: Some(PART as u64 + 7),
            checksum: Some((algorithm, whole.value().to_owned())),
            checksum_type: Some(of),
            ..request_of(&parts)
        };
        let other_of = match of {
            ChecksumType::FullObject => ChecksumType::Composite,
            ChecksumType::Composite => ChecksumType::FullObject,
        };
        let swapped = PartInfo { checksum: two.checksum.clone(), ..one.clone() };
        for (bad, expected) in [
            (CompleteRequest { len: Some(7), ..good.clone() }, FailureKind::InvalidRequest),
            (CompleteRequest { checksum_type: Some(other_of), ..good.clone() }, FailureKind::InvalidRequest),
            (
                CompleteRequest { checksum: Some((ChecksumAlgorithm::Crc32, "x".into())), ..good.clone() },
                FailureKind::InvalidRequest,
            ),
            (CompleteRequest { checksum: Some((algorithm, "bad".into())), ..good.clone() }, FailureKind::BadDigest),
            (
                CompleteRequest { parts: request_of(&[swapped, two.clone()]).parts, ..good.clone() },
                FailureKind::InvalidPart,
            ),
        ] {
            assert_eq!(kind(world.service.complete(&object("a"), &id, bad).await), expected);
        }
        let secrets =
            [&one.checksum, &two.checksum, &Some(whole.clone())].map(|sum| sum.as_ref().unwrap().value().to_owned());
        let is_in_the_clear = async || {
            let all = stored_everywhere(&world).await;
            let bodies = all.iter().any(|(_, bytes)| secrets.iter().any(|secret| contains(bytes, secret)));
            let (_, properties) = match world.keys("test-").await.is_empty() {
                true => return bodies,
                false => world.stored("a").await,
            };
            bodies || secrets.iter().any(|secret| format!("{properties:?}").contains(secret))
        };
        assert_eq!(is_in_the_clear().await, sse.is_none());
        let written = world.another().complete(&object("a"), &id, good.clone()).await.unwrap();
        assert_eq!(written.checksum.as_ref(), Some(&whole));
        assert_eq!(is_in_the_clear().await, sse.is_none());
        let again = world.another().complete(&object("a"), &id, good.clone()).await.unwrap();
        assert_eq!(again.checksum.as_ref(), Some(&whole));
        let bad = CompleteRequest { checksum: Some((algorithm, "bad".into())), ..good };
        assert_eq!(kind(world.service.complete(&object("a"), &id, bad).await), FailureKind::BadDigest);
        let info = world.another().head_object(&object("a"), None).await.unwrap();
        assert_eq!(info.checksum.as_ref(), Some(&whole));
    }
}

fn checksum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
    let mut hasher = checksums::Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_parts_of_an_object_are_known_while_it_is_what_was_uploaded() {
    for sse in [None, aes256()] {
        let world = World::new().await;
        let id = begin(&world, sse.clone()).await;
        let mut parts = Vec::new();
        for (number, len) in [(1, PART), (2, PART), (9, PART + 5), (10, 7)] {
            parts.push(upload(&world.service, &id, number, &bytes(len, number.into())).await.unwrap());
        }
        complete(&world.service, &id, &parts).await.unwrap();
        let opened = world.another().open_object(&object("a"), None).await.unwrap();
        let found: Vec<_> = opened.parts().unwrap().into_iter().map(|part| (part.number, part.range)).collect();
        let at = PART as u64;
        assert_eq!(found, [(1, 0..at), (2, at..2 * at), (9, 2 * at..3 * at + 5), (10, 3 * at + 5..3 * at + 12)]);
        // A copy has the ETag of four parts, and is one.
        let request = CopyRequest {
            source: object("a"),
            source_key: None,
            conditions: Conditions::default(),
            attributes: None,
            checksum: None,
            sse: sse.clone(),
            if_not_exists: false,
        };
        world.service.copy_object(&object("b"), request).await.unwrap();
        assert_eq!(world.another().open_object(&object("b"), None).await.unwrap().parts(), None);
        world.put("c", &bytes(2 << 20, 1), sse).await.unwrap();
        let one = ObjectPart { number: 1, range: 0..2 << 20 };
        assert_eq!(world.another().open_object(&object("c"), None).await.unwrap().parts(), Some(vec![one]));
    }
}

/// An upload that was begun without says nothing of the object, and compares what was sent with its parts all the same.
#[tokio::test]
async fn checksums_of_parts_are_compared_where_the_upload_has_none() {
    let world = World::new().await;
    let id = begin(&world, aes256()).await;
    let with = body(b"one").with_checksum(ChecksumAlgorithm::Sha256, || Ok(None));
    let request = PartRequest { number: 1, customer: None };
    let one = world.service.upload_part(&object("a"), &id, request, with).await.unwrap();
    let wrong = PartInfo { checksum: Some(checksum(ChecksumAlgorithm::Sha256, b"two")), ..one.clone() };
    assert_eq!(kind(complete(&world.service, &id, &[wrong]).await), FailureKind::InvalidPart);
    assert_eq!(complete(&world.service, &id, &[one]).await.unwrap().checksum, None);
}

#[tokio::test]
async fn every_part_comes_with_the_key_that_the_upload_was_begun_with() {
    let world = World::new().await;
    let key = |byte: u8| CustomerKey::take(&mut [byte; 32]).unwrap();
    let id = begin(&world, Some(Sse::Customer(key(1)))).await;
    let part = async |service: &Service, customer| {
        service.upload_part(&object("a"), &id, PartRequest { number: 1, customer }, body(b"part")).await
    };
    // Also where the upload's data key is at hand.
    part(&world.service, Some(key(1))).await.unwrap();
    for service in [world.service.clone(), world.another()] {
        for wrong in [None, Some(key(2))] {
            assert_eq!(kind(part(&service, wrong).await), FailureKind::InvalidArgument);
        }
    }
    let managed = begin(&world, aes256()).await;
    let request = PartRequest { number: 1, customer: Some(key(1)) };
    let sent = world.service.upload_part(&object("a"), &managed, request, body(b"x")).await;
    assert_eq!(kind(sent), FailureKind::InvalidArgument);
}

/// A body is on its way through: no more of it is in memory than the stripes that are being sealed.
#[tokio::test]
async fn a_part_is_never_in_memory_as_a_whole() {
    const LEN: usize = 24 << 20;
    for sse in [None, aes256()] {
        let store = Arc::new(FaultyStore::new(limits(1)));
        let world = World::over(store.clone()).await;
        let id = begin(&world, sse.clone()).await;
        for is_part in [true, false] {
            let (taken, before) = (store.taken(), store.taken().load(std::sync::atomic::Ordering::SeqCst));
            let pieces = bytes(LEN, 1).chunks(64 << 10).map(Bytes::copy_from_slice).collect::<Vec<_>>();
            let sent = stream::iter(pieces.into_iter().enumerate()).map(move |(n, piece)| {
                let passed = taken.load(std::sync::atomic::Ordering::SeqCst) - before;
                assert!((n * (64 << 10)).saturating_sub(passed) <= 4 << 20, "{n}: {passed}");
                Ok(piece)
            });
            let sent = Body::new(Some(LEN as u64), sent);
            if is_part {
                let request = PartRequest { number: 1, customer: None };
                world.service.upload_part(&object("a"), &id, request, sent).await.unwrap();
            } else {
                let request = PutRequest { sse: sse.clone(), ..PutRequest::default() };
                world.service.put_object(&object("b"), sent, request).await.unwrap();
            }
        }
    }
}

/// In a directory, where attempts at a part could wait for each other.
#[tokio::test]
async fn a_part_that_does_not_come_holds_off_nobody() {
    for sse in [None, aes256()] {
        let dir = tempfile::tempdir().unwrap();
        let world = World::over(Arc::new(sealift::store::DirStore::open(dir.path()).unwrap())).await;
        let id = begin(&world, sse).await;
        let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
        let stalled = stream::once(async move {
            begun.send(()).await.unwrap();
            Ok(Bytes::from_static(b"1"))
        });
        let stalled = Body::new(Some(PART as u64), stalled.chain(stream::pending()));
        let (service, its) = (world.service.clone(), id.clone());
        let first = tokio::spawn(async move {
            service.upload_part(&object("a"), &its, PartRequest { number: 1, customer: None }, stalled).await
        });
        has_begun.recv().await.unwrap();
        let in_time = std::time::Duration::from_secs(30);
        let content = bytes(PART, 1);
        let again = tokio::time::timeout(in_time, upload(&world.service, &id, 1, &content));
        let parts = [again.await.expect("it does not wait for the first").unwrap()];
        let completed = tokio::time::timeout(in_time, complete(&world.service, &id, &parts));
        completed.await.expect("nor does Complete").unwrap();
        assert_eq!(world.read("a").await.unwrap(), content);
        first.abort();
    }
}

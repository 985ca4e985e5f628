//! Scenarios 5 to 11: a store that alters what it holds.

use super::*;

#[tokio::test]
async fn s05_any_single_bit_flipped_in_the_body_is_refused() {
    let world = World::new();
    let plain = noise(700);
    world.put("object", &plain, 300).await;
    let good = world.stored("object").await;
    for bit in 0..good.body.len() * 8 {
        let mut body = good.body.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        world.replace_body("object", body).await;
        let refused = world.read("object").await.unwrap_err();
        assert!(REFUSED.contains(&refused.kind()), "bit {bit}: {refused:?}");
    }
    // A larger object, where the bits are too many to try them all: some in every chunk.
    let plain = noise(200_000);
    world.put("object", &plain, 90_000).await;
    let good = world.stored("object").await;
    let mut rng = Rng::new(5);
    for at in (0..good.body.len()).step_by(997) {
        let mut body = good.body.clone();
        body[at] ^= 1 << rng.below(8);
        world.replace_body("object", body).await;
        assert!(world.read("object").await.is_err(), "byte {at}");
        // Ranges release what is whole, and nothing of a chunk that is not.
        let Ok(reader) = world.open("object").await else { continue };
        let mut refused = 0;
        for first in (0..200_000).step_by(16_000) {
            match reader.read_range(ByteRange::Inclusive { first, last: first + 15_999 }).await {
                Ok(read) => assert!(plain[first as usize..].starts_with(&read), "byte {at}"),
                Err(e) => refused += u32::from(REFUSED.contains(&e.kind())),
            }
        }
        assert!(refused > 0, "byte {at}");
    }
}

#[tokio::test]
async fn s05_any_single_bit_flipped_in_the_envelope_is_refused_or_changes_nothing() {
    let world = World::new();
    let plain = noise(100);
    let context = EncryptionContext::new([("project".into(), "höhe \"7\"".into())]).unwrap();
    let source = Box::new(BytesSource::new(Bytes::copy_from_slice(&plain)));
    world.put_with("object", source, UploadOptions { context, ..UploadOptions::default() }).await.unwrap();
    let good = world.stored("object").await;
    let mut tried = 0;
    for (name, value) in &good.metadata {
        for (is_name, text) in [(true, name), (false, value)] {
            for bit in 0..text.len() * 8 {
                let mut bytes = text.clone().into_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                // A store's metadata is text; what is not cannot be served.
                let Ok(flipped) = String::from_utf8(bytes) else { continue };
                let mut object = good.clone();
                let value = object.metadata.remove(name).unwrap();
                match is_name {
                    true => object.metadata.insert(flipped, value),
                    false => object.metadata.insert(name.clone(), flipped),
                };
                world.replace("object", &object).await;
                if let Ok(bytes) = world.read("object").await {
                    assert!(bytes == plain, "{name}: a flipped bit changed what is read");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000);
}

#[tokio::test]
async fn s06_parts_swapped_repeated_dropped_bytes_appended_and_foreign_trailers_are_refused() {
    let world = World::new();
    let plain = noise(250_000);
    world.put("object", &plain, 50_000).await;
    world.put("other", &plain, 50_000).await;
    let good = world.stored("object").await;
    let other = world.stored("other").await;
    let parts: Vec<_> = world.layout("object").await.parts().iter().map(|part| part.sealed.clone()).collect();
    assert_eq!(parts.len(), 5);
    let part = |n: usize| &good.body[parts[n].start as usize..parts[n].end as usize];
    let end = parts[4].end as usize;
    let trailer = &good.body[end..];
    let join = |pieces: &[&[u8]]| pieces.concat();

    let cases = [
        ("two parts swapped", join(&[part(1), part(0), part(2), part(3), part(4), trailer])),
        ("a part repeated", join(&[part(0), part(0), part(2), part(3), part(4), trailer])),
        ("a part twice", join(&[part(0), part(0), part(1), part(2), part(3), part(4), trailer])),
        ("the last part dropped", join(&[part(0), part(1), part(2), part(3), trailer])),
        ("the last three dropped", join(&[part(0), part(1), trailer])),
        ("cut off", good.body[..good.body.len() - 1].to_vec()),
        ("cut off before the trailer", good.body[..end].to_vec()),
        ("bytes after the trailer", join(&[&good.body, b"x"])),
        ("a whole trailer after the trailer", join(&[&good.body, trailer])),
        ("another upload's trailer", join(&[&good.body[..end], &other.body[end..]])),
        ("another upload's part", join(&[&other.body[..parts[0].end as usize], &good.body[parts[0].end as usize..]])),
        ("nothing", Vec::new()),
    ];
    for (name, body) in cases {
        world.replace("object", &Stored { body, metadata: good.metadata.clone() }).await;
        println!("{name}"); // shown only if the next line fails
        // From the end of the first part into the second: each case has altered one of them, or the whole.
        world.assert_refused("object", ByteRange::Inclusive { first: 49_990, last: 50_010 }, REFUSED).await;
    }
}

#[tokio::test]
async fn s07_another_sealing_of_the_same_part_of_the_same_upload_is_refused() {
    let world = World::new();
    let plain = noise(100_000);
    let uploaded = world.put("object", &plain, 40_000).await;
    let data_key = world.data_key("object").await;
    let mut good = world.stored("object").await;
    // Validly sealed, with the object's own key, for the very same part, and with the very same bytes.
    let context = sealift::format::context::part(&uploaded.object_id, 2.try_into().unwrap());
    let backend = world.engine.backend();
    let another = sealift::crypto::seal_message(backend, &data_key, &context, &plain[40_000..80_000]).unwrap();
    let range = world.layout("object").await.parts()[1].sealed.clone();
    good.body[range.start as usize..range.end as usize].copy_from_slice(&another);
    world.replace("object", &good).await;
    world.assert_refused("object", ByteRange::Inclusive { first: 50_000, last: 50_010 }, REFUSED).await;
    let untouched = world.open("object").await.unwrap().read_range("0-39999".parse().unwrap()).await.unwrap();
    assert_eq!(untouched, plain[..40_000]);
}

#[tokio::test]
async fn s08_falsified_part_lengths_are_refused() {
    // Parts are really 20,000/9,000/5,000; a trailer that claims 19,000/10,000/5,000 of the same total needs the data key, and even
    // then no part opens as claimed.
    let world = World::new();
    let plain = noise(34_000);
    let uploaded = world.put("object", &plain, 20_000).await;
    let (backend, data_key) = (world.engine.backend(), world.data_key("object").await);
    let number = |n: u32| n.try_into().unwrap();
    let mut object = world.stored("object").await;
    let mut body = Vec::new();
    let mut parts = Vec::new();
    for (n, (range, claimed)) in
        [(0..20_000, 19_000), (20_000..29_000, 10_000), (29_000..34_000, 5_000)].into_iter().enumerate()
    {
        let context = sealift::format::context::part(&uploaded.object_id, number(n as u32 + 1));
        let sealed = sealift::crypto::seal_message(backend, &data_key, &context, &plain[range]).unwrap();
        let salt = Manifest::parse(&manifest_with_salt(&sealed)).unwrap().parts()[0].salt;
        parts.push(sealift::format::ManifestPart { number: number(n as u32 + 1), len: claimed, crc64: 0, salt });
        body.extend_from_slice(&sealed);
    }
    let manifest = Manifest::new(parts, false, BTreeMap::new()).unwrap();
    body.extend_from_slice(&trailer::seal(backend, &data_key, &uploaded.object_id, &manifest).unwrap());
    object.body = body;
    world.replace("object", &object).await;
    // Every byte from the first false border on.
    world.assert_refused("object", "18990-19010".parse().unwrap(), REFUSED).await;
}

/// A manifest of one part, by hand: the only way to a `Salt` is to read one.
fn manifest_with_salt(sealed: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 1];
    bytes.extend_from_slice(&1u64.to_be_bytes());
    bytes.extend_from_slice(&1u32.to_be_bytes());
    bytes.extend_from_slice(&1u64.to_be_bytes());
    bytes.extend_from_slice(&0u64.to_be_bytes());
    bytes.extend_from_slice(&sealed[..24]);
    bytes.extend_from_slice(&0u16.to_be_bytes());
    bytes
}

#[tokio::test]
async fn s09_a_stripped_or_altered_envelope_is_never_raw_bytes() {
    let world = World::new();
    world.put("object", b"secret", 100).await;
    let good = world.stored("object").await;
    let alter = |name: &str, value: Option<&str>| {
        let mut object = good.clone();
        match value {
            Some(value) => object.metadata.insert(name.into(), value.into()),
            None => object.metadata.remove(name),
        };
        object
    };
    let mut stripped = good.clone();
    stripped.metadata.clear();
    for (object, kind) in [
        (stripped, ErrorKind::NotSealed),
        (alter("sealift-format", Some("2")), ErrorKind::UnsupportedFormat),
        (alter("sealift-cipher", Some("NULL")), ErrorKind::UnsupportedFormat),
        (alter("sealift-cipher", None), ErrorKind::Malformed),
        (alter("sealift-data-keys", None), ErrorKind::Malformed),
        (alter("sealift-surprise", Some("1")), ErrorKind::Malformed),
    ] {
        world.replace("object", &object).await;
        world.assert_refused("object", ByteRange::From(0), &[kind]).await;
    }
}

#[tokio::test]
async fn s10_an_envelope_or_wrapped_key_moved_to_another_object_is_refused() {
    let world = World::new();
    world.put("a", b"one", 100).await;
    world.put("b", b"two", 100).await;
    let (a, b) = (world.stored("a").await, world.stored("b").await);
    world.replace("a", &Stored { body: a.body.clone(), metadata: b.metadata.clone() }).await;
    world.assert_refused("a", ByteRange::From(0), REFUSED).await;
    let mut metadata = a.metadata.clone();
    metadata.insert("sealift-data-keys".into(), b.metadata["sealift-data-keys"].clone());
    world.replace("a", &Stored { body: a.body, metadata }).await;
    world.assert_refused("a", ByteRange::From(0), REFUSED).await;
}

#[tokio::test]
async fn s10_a_bound_object_is_not_served_under_another_name_and_binding_can_be_demanded() {
    let world = World::new();
    let source = || Box::new(BytesSource::new(Bytes::from_static(b"for this name only")));
    let bound = UploadOptions { bind: true, ..UploadOptions::default() };
    world.put_with("a", source(), bound).await.unwrap();
    world.put_with("free", source(), UploadOptions::default()).await.unwrap();
    assert!(world.read("a").await.is_ok());
    world.replace("b", &world.stored("a").await).await;
    world.assert_refused("b", ByteRange::From(0), REFUSED).await;
    let demand = ReadOptions { bound: true, ..ReadOptions::default() };
    assert!(world.open_with("a", &demand).await.is_ok());
    assert_eq!(world.open_with("free", &demand).await.unwrap_err().kind(), ErrorKind::Authentication);
    let context = EncryptionContext::new([("project".into(), "x".into())]).unwrap();
    let demand = ReadOptions { context: context.clone(), ..ReadOptions::default() };
    assert_eq!(world.open_with("a", &demand).await.unwrap_err().kind(), ErrorKind::Authentication);
    world.put_with("c", source(), UploadOptions { context, ..UploadOptions::default() }).await.unwrap();
    assert!(world.open_with("c", &demand).await.is_ok());
}

#[tokio::test]
async fn s11b_an_object_forged_under_a_key_of_the_stores_own_is_refused() {
    let world = World::new();
    world.put("object", b"the truth", 100).await;
    // The store's own service of the same kind, with a key of its own, seals a whole object of its own.
    let forger = World { kms: Arc::new(KeyFile::new(DataKey::random().unwrap())), ..World::on(world.store.clone()) };
    forger.put("object", b"a forgery", 100).await;
    assert_eq!(forger.read("object").await.unwrap(), b"a forgery");
    assert_eq!(world.open("object").await.unwrap_err().kind(), ErrorKind::KeyUnavailable);
    // Not even if it claims the trusted key's id.
    let mut forged = world.stored("object").await;
    let keys = forged.metadata.get_mut("sealift-data-keys").unwrap();
    *keys = keys.replace(forger.kms.id(), world.kms.id());
    world.replace("object", &forged).await;
    assert_eq!(world.open("object").await.unwrap_err().kind(), ErrorKind::Authentication);
}

#[tokio::test]
async fn s11c_what_a_store_publishes_of_an_upload_that_died_is_refused_or_that_uploads_own_content() {
    let store = SimStore::new(11, MemoryStore::new().limits());
    let world = World::on(store.clone());
    let (mut refused, mut opened) = (0, 0);
    // Initiate, five parts, the trailer, Complete.
    for die_at in 1..8 {
        store.set_faults(Faults { die_at: Some(die_at), ..Faults::default() });
        let source = Box::new(BytesSource::new(noise(50_000)));
        let options = UploadOptions { part_size: Some(10_000), max_in_flight: Some(1), ..UploadOptions::default() };
        tokio::select! {
            _ = world.put_with("object", source, options) => panic!("it was to die"),
            () = store.died() => {}
        }
        store.set_faults(Faults::default());
        let upload = store.list_uploads("").await.unwrap().pop().unwrap();
        let listed = store.list_parts(&upload).await.unwrap();
        let parts: Vec<_> =
            listed.iter().map(|part| CompletedPart { number: part.number, etag: part.etag.clone() }).collect();
        if parts.is_empty() {
            store.abort(&upload).await.unwrap();
            continue;
        }
        store.complete(&upload, &parts, PutCondition::None).await.unwrap();
        match world.read("object").await {
            Ok(read) => {
                assert!(read == noise(50_000), "{die_at}");
                opened += 1;
            }
            // Not all parts were stored, so there was no trailer to publish.
            Err(_) => {
                world.assert_refused("object", ByteRange::From(0), REFUSED).await;
                refused += 1;
            }
        }
    }
    assert!(refused >= 4 && opened >= 1, "{refused} were refused, {opened} opened");
}

#[tokio::test]
async fn a_tail_from_a_store_that_answers_with_too_much_is_refused() {
    // Completing an upload of a foreign tool with our key's name must not be taken for ours either.
    let world = World::new();
    let upload =
        Upload { key: world.key.clone(), id: world.store.initiate(&world.key, &Properties::default()).await.unwrap() };
    let put = PutPart {
        number: 1.try_into().unwrap(),
        attempt: Attempt(1),
        offset: Some(0),
        payload: Payload::held(vec![Bytes::from_static(b"plain text of somebody else, longer than a trailer")]),
    };
    let etag = world.store.put_part(&upload, put).await.unwrap();
    let list = [CompletedPart { number: 1.try_into().unwrap(), etag }];
    world.store.complete(&upload, &list, PutCondition::None).await.unwrap();
    world.assert_refused("object", ByteRange::From(0), &[ErrorKind::NotSealed]).await;
}

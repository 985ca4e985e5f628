//! What the engine must survive, by scenario: sealing, tampering, reading. The uploading ones are in `simulation.rs`.

#![allow(clippy::unwrap_used)] // helpers of tests: a panic is a failure

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sealift::engine::{
    GetOptions, PendingUpload, ReadOptions, Reader, ResumeOptions, UploadOptions, Uploaded, list_uploads,
};
use sealift::format::{Envelope, Layout, Manifest, trailer};
use sealift::kms::Kms;
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{BytesSource, FileSource, MapSource, PartSource, StreamSource};
use sealift::store::{
    CompletedPart, DirStore, Limits, MemoryStore, MultipartStore, Payload, Properties, PutCondition, PutPart, Upload,
};
use sealift::{Attempt, ByteRange, DataKey, EncryptionContext, Engine, ErrorKind, ObjectKey, Result};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

#[allow(dead_code, unreachable_pub)]
#[path = "support/sim.rs"]
mod sim;

use sim::{Faults, Rng, SimStore};

#[cfg(feature = "aws-lc-rs")]
#[allow(dead_code, unreachable_pub)]
#[path = "support/keys.rs"]
mod keys;

struct World {
    engine: Engine,
    kms: Arc<KeyFile>,
    store: Arc<dyn MultipartStore>,
    key: ObjectKey,
}

/// An object as its store holds it.
#[derive(Clone)]
struct Stored {
    body: Vec<u8>,
    metadata: BTreeMap<String, String>,
}

impl World {
    fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()))
    }

    fn on(store: Arc<dyn MultipartStore>) -> Self {
        let engine = Engine::builder().threads(2).memory_budget(64 << 20).build().unwrap();
        let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
        Self { engine, kms, store, key: "object".parse().unwrap() }
    }

    fn recipients(&self) -> Vec<Recipient> {
        vec![Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }]
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(vec![(self.kms.clone(), TrustedKeys::Only(vec![self.kms.id().to_owned()]))])
    }

    async fn put(&self, key: &str, plain: &[u8], part_size: u64) -> Uploaded {
        let options = UploadOptions { part_size: Some(part_size), ..UploadOptions::default() };
        self.put_with(key, Box::new(BytesSource::new(Bytes::copy_from_slice(plain))), options).await.unwrap()
    }

    async fn put_with(&self, key: &str, source: Box<dyn PartSource>, options: UploadOptions) -> Result<Uploaded> {
        let recipients = self.recipients();
        self.engine.upload(self.store.clone(), key.parse().unwrap(), source, &recipients, options).await
    }

    async fn open(&self, key: &str) -> Result<Reader> {
        self.open_with(key, &ReadOptions::default()).await
    }

    async fn open_with(&self, key: &str, options: &ReadOptions) -> Result<Reader> {
        self.engine.open(self.store.clone(), key.parse().unwrap(), &self.trusted(), options).await
    }

    async fn read(&self, key: &str) -> Result<Vec<u8>> {
        read_all(&self.open(key).await?).await
    }

    async fn stored(&self, key: &str) -> Stored {
        let got = self.store.get(&key.parse().unwrap(), None, None).await.unwrap();
        let metadata = got.info.properties.metadata.clone();
        let body = got.body.try_collect::<Vec<_>>().await.unwrap().concat();
        Stored { body, metadata }
    }

    /// What a malicious store does.
    async fn replace(&self, key: &str, object: &Stored) {
        let payload = Payload::held(vec![object.body.clone().into()]);
        let properties = Properties { metadata: object.metadata.clone(), ..Properties::default() };
        self.store.put_object(&key.parse().unwrap(), payload, &properties, PutCondition::None).await.unwrap();
    }

    async fn replace_body(&self, key: &str, body: Vec<u8>) {
        let metadata = self.stored(key).await.metadata;
        self.replace(key, &Stored { body, metadata }).await;
    }

    async fn layout(&self, key: &str) -> Layout {
        Layout::new(self.open(key).await.unwrap().manifest())
    }

    async fn data_key(&self, key: &str) -> DataKey {
        DataKey::take(&mut self.open(key).await.unwrap().data_key().expose().clone()).unwrap()
    }

    /// Neither a full read nor a range read that needs what was altered releases anything.
    async fn assert_refused(&self, key: &str, range: ByteRange, kinds: &[ErrorKind]) {
        let full = self.read(key).await.map(|_| "a full read").unwrap_err();
        assert!(kinds.contains(&full.kind()), "{full:?}");
        let ranged = match self.open(key).await {
            Ok(reader) => reader.read_range(range).await.map(|_| "a range read").unwrap_err(),
            Err(e) => e,
        };
        assert!(kinds.contains(&ranged.kind()), "{ranged:?}");
    }
}

async fn read_all(reader: &Reader) -> Result<Vec<u8>> {
    Ok(reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await?.concat())
}

fn noise(len: usize) -> Vec<u8> {
    Rng::new(len as u64).bytes(len)
}

const REFUSED: &[ErrorKind] = &[ErrorKind::Authentication, ErrorKind::Malformed];

#[tokio::test]
async fn s03_overwriting_a_key_repeats_no_data_key_object_id_or_salt() {
    let world = World::new();
    let (mut ids, mut keys, mut salts) = (HashSet::new(), HashSet::new(), HashSet::new());
    for _ in 0..20 {
        let uploaded = world.put("object", b"the same bytes every time", 10).await;
        assert!(ids.insert(uploaded.object_id));
        assert!(keys.insert(*world.data_key("object").await.expose()));
        for part in world.open("object").await.unwrap().manifest().parts() {
            assert!(salts.insert(part.salt));
        }
    }
    assert_eq!(salts.len(), 60);
}

#[tokio::test]
#[allow(unsafe_code)]
async fn s04_a_source_that_changes_or_shrinks_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source");
    let len = 3_000_000;
    type Change = fn(&std::path::Path);
    let changes: [Change; 3] = [
        |path| std::fs::File::options().write(true).open(path).unwrap().set_len(1_000_000).unwrap(),
        |path| std::fs::File::options().append(true).open(path).unwrap().set_len(3_000_001).unwrap(),
        |path| {
            use std::os::unix::fs::FileExt as _;
            std::fs::File::options().write(true).open(path).unwrap().write_all_at(b"x", 17).unwrap();
        },
    ];
    for change in changes {
        for map in [false, true] {
            std::fs::write(&path, noise(len)).unwrap();
            let source: Box<dyn PartSource> = match map {
                // SAFETY: this test changes the file only by ways that leave its pages mapped, and accepts either content.
                true => Box::new(unsafe { MapSource::open(&path) }.unwrap()),
                false => Box::new(FileSource::open(&path).unwrap()),
            };
            // Reading from a map that lost its pages is a signal, which the program has a handler for, and its tests.
            if map && std::ptr::fn_addr_eq(change, changes[0]) {
                continue;
            }
            std::thread::sleep(std::time::Duration::from_millis(20)); // more than the granularity of timestamps
            change(&path);
            let world = World::new();
            let options = UploadOptions { part_size: Some(500_000), ..UploadOptions::default() };
            let refused = world.put_with("object", source, options).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::SourceChanged);
            assert_eq!(world.open("object").await.unwrap_err().kind(), ErrorKind::NotFound);
            assert!(world.store.list_uploads("").await.unwrap().is_empty());
        }
    }
}

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
async fn s11c_an_upload_that_failed_before_its_manifest_leaves_nothing_to_publish() {
    // Whatever the store was given of an upload that was aborted before all parts were stored, there is no trailer among it.
    let store = SimStore::new(11, MemoryStore::new().limits());
    let world = World::on(store.clone());
    for die_at in 1..5 {
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
        assert!(listed.len() < 6);
        let parts: Vec<_> =
            listed.iter().map(|part| CompletedPart { number: part.number, etag: part.etag.clone() }).collect();
        if !parts.is_empty() {
            store.complete(&upload, &parts, PutCondition::None).await.unwrap();
            world.assert_refused("object", ByteRange::From(0), REFUSED).await;
        } else {
            store.abort(&upload).await.unwrap();
        }
    }
}

#[tokio::test]
async fn s13_every_range_around_every_edge_equals_the_slice() {
    let world = World::new();
    let part = 40_000u64;
    let plain = noise(130_000);
    world.put("object", &plain, part).await;
    let reader = world.open("object").await.unwrap();
    let len = plain.len() as u64;
    let mut edges = HashSet::new();
    for at in (0..=len).step_by(part as usize) {
        for chunk in (0..=part).step_by(16_384) {
            edges.extend([at + chunk, (at + chunk).saturating_sub(1), at + chunk + 1]);
        }
    }
    edges.extend([len - 1, len, len + 1, u64::MAX]);
    let mut edges: Vec<_> = edges.into_iter().collect();
    edges.sort_unstable();
    for &first in &edges {
        for &last in &edges {
            if last < first {
                continue;
            }
            let got = reader.read_range(ByteRange::Inclusive { first, last }).await;
            match first < len {
                true => assert!(got.unwrap() == plain[first as usize..(last.saturating_add(1)).min(len) as usize]),
                false => assert_eq!(got.unwrap_err().kind(), ErrorKind::RangeNotSatisfiable),
            }
        }
        let from = reader.read_range(ByteRange::From(first)).await;
        assert_eq!(from.is_ok(), first < len);
        let suffix = reader.read_range(ByteRange::Suffix(first)).await;
        match first {
            0 => assert_eq!(suffix.unwrap_err().kind(), ErrorKind::RangeNotSatisfiable),
            n => assert!(suffix.unwrap() == plain[len.saturating_sub(n) as usize..]),
        }
    }
}

#[tokio::test]
async fn s13_the_cursor_reads_and_seeks_as_a_file_does() {
    let world = World::new();
    let plain = noise(3_000_000);
    world.put("object", &plain, 1_100_000).await;
    let mut cursor = world.open("object").await.unwrap().cursor();
    let mut model = std::io::Cursor::new(&plain);
    let mut rng = Rng::new(13);
    for _ in 0..60 {
        use std::io::{Read, Seek, SeekFrom};
        let to = match rng.below(4) {
            0 => Some(SeekFrom::Start(rng.below(3_100_000))),
            1 => Some(SeekFrom::End(-(rng.below(3_000_000) as i64))),
            2 => Some(SeekFrom::Current(rng.below(5_000) as i64)),
            _ => None,
        };
        if let Some(to) = to {
            assert_eq!(cursor.seek(to).await.unwrap(), Seek::seek(&mut model, to).unwrap());
        }
        let n = rng.below(400_000);
        let (mut got, mut expected) = (Vec::new(), Vec::new());
        (&mut cursor).take(n).read_to_end(&mut got).await.unwrap();
        Read::read_to_end(&mut Read::take(&mut model, n), &mut expected).unwrap();
        assert!(got == expected);
    }
    assert!(cursor.seek(std::io::SeekFrom::Current(-i64::MAX)).await.is_err());
}

#[tokio::test]
async fn readers_that_nobody_polls_stop_nobody_else() {
    let world = World::new();
    let world = World { engine: Engine::builder().threads(2).memory_budget(40 << 20).build().unwrap(), ..world };
    let plain = noise(20_000_000);
    world.put("object", &plain, 4 << 20).await;
    let reader = world.open("object").await.unwrap();
    let mut paused = Vec::new();
    for n in 0..8 {
        let mut cursor = reader.cursor();
        // Into the middle of a part, whose header none has fetched yet.
        let at = n * 1_000_000 + 77_777;
        cursor.seek(std::io::SeekFrom::Start(at)).await.unwrap();
        let mut byte = [0];
        cursor.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte[0], plain[at as usize]);
        paused.push(cursor);
    }
    let all = async {
        assert!(read_all(&reader).await.unwrap() == plain);
        world.put("another", &plain, 4 << 20).await;
        for mut cursor in paused {
            let mut rest = vec![0; 3_000_000];
            let at = cursor.seek(std::io::SeekFrom::Current(0)).await.unwrap() as usize;
            cursor.read_exact(&mut rest).await.unwrap();
            assert!(rest == plain[at..at + rest.len()]);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), all).await.expect("somebody waits for ever");
}

#[tokio::test]
async fn an_announced_length_is_held_to() {
    let world = World::new();
    for (announced, real) in [(0, 5), (5, 0), (100_000, 99_999), (100_000, 100_001), (40_000, 50_000)] {
        let source = StreamSource::from_reader(std::io::Cursor::new(noise(real))).with_len(announced);
        let options = UploadOptions { part_size: Some(40_000), ..UploadOptions::default() };
        let refused = world.put_with("object", Box::new(source), options).await;
        assert!(refused.is_err(), "{announced} announced, {real} there");
        assert_eq!(world.open("object").await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    for len in [0, 1, 40_000, 80_000, 100_000] {
        let source = StreamSource::from_reader(std::io::Cursor::new(noise(len))).with_len(len as u64);
        let options = UploadOptions { part_size: Some(40_000), ..UploadOptions::default() };
        world.put_with("object", Box::new(source), options).await.unwrap();
        assert!(world.read("object").await.unwrap() == noise(len));
    }
}

#[tokio::test]
async fn an_interrupted_stream_upload_is_found_and_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let store = SimStore::new(24, MemoryStore::new().limits());
    let world = World::on(store.clone());
    store.set_faults(Faults { die_at: Some(3), ..Faults::default() });
    let options = UploadOptions {
        part_size: Some(10_000),
        max_in_flight: Some(1),
        ledger: Some(dir.path().to_owned()),
        ..UploadOptions::default()
    };
    let source = Box::new(StreamSource::from_reader(std::io::Cursor::new(noise(90_000))));
    tokio::select! {
        _ = world.put_with("object", source, options) => panic!("it was to die"),
        () = store.died() => {}
    }
    store.set_faults(Faults::default());
    let entry = list_uploads(dir.path()).unwrap().pop().unwrap();
    assert_eq!(entry.source, None);
    let pending = || PendingUpload::open(dir.path(), &entry.id).unwrap();
    let file = Box::new(BytesSource::new(noise(90_000)));
    let resume = world.engine.resume(pending(), store.clone(), file, &world.trusted(), ResumeOptions::default()).await;
    assert_eq!(resume.unwrap_err().kind(), ErrorKind::InvalidInput);
    world.engine.abort(pending(), store.as_ref()).await.unwrap();
    assert_eq!(store.open_uploads().await, 0);
    assert!(list_uploads(dir.path()).unwrap().is_empty());
}

#[tokio::test]
async fn s14_edge_lengths_round_trip_on_memory_and_directory() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn MultipartStore>; 2] =
        [Arc::new(MemoryStore::new()), Arc::new(DirStore::open(dir.path().join("store")).unwrap())];
    for store in stores {
        let world = World::on(store);
        for len in
            [0, 1, 16_383, 16_384, 16_385, 65_536, 131_072, 1_048_575, 1_048_576, 1_048_577, 2_097_152, 2_500_000]
        {
            let plain = noise(len);
            for part_size in [65_536, 1_048_576, 1_000_000] {
                let uploaded = world.put("object", &plain, part_size).await;
                assert_eq!(uploaded.plain_len, len as u64);
                assert_eq!(uploaded.sealed_len, world.store.head(&world.key).await.unwrap().len);
                assert_eq!(u64::from(uploaded.parts), (len as u64).div_ceil(part_size));
                assert!(world.read("object").await.unwrap() == plain, "{len} in parts of {part_size}");
                let target = dir.path().join("target");
                let options = GetOptions { overwrite: true, ..GetOptions::default() };
                world.open("object").await.unwrap().write_to_file(&target, options).await.unwrap();
                assert!(std::fs::read(&target).unwrap() == plain);
            }
            let pieces = plain.chunks(10_007).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)));
            let source = Box::new(StreamSource::from_stream(futures::stream::iter(pieces.collect::<Vec<_>>())));
            let options = UploadOptions { checksums: true, part_size: Some(65_536), ..UploadOptions::default() };
            world.put_with("object", source, options).await.unwrap();
            assert!(world.read("object").await.unwrap() == plain, "{len} from a stream");
            let verified = world.open("object").await.unwrap().verify(None).await.unwrap();
            assert!(verified.checksums && verified.plain_len == len as u64);
        }
    }
}

#[tokio::test]
async fn s14_ten_thousand_parts_round_trip() {
    let world = World::new();
    let plain = noise(9_999 * 100 - 50);
    let uploaded = world.put("object", &plain, 100).await;
    assert_eq!(uploaded.parts, 9_999);
    // Its manifest does not fit the first request's 64 KiB.
    assert!(world.read("object").await.unwrap() == plain);
    let refused = world.put_with(
        "object",
        Box::new(BytesSource::new(plain.clone())),
        UploadOptions { part_size: Some(100), uniform_parts: true, ..UploadOptions::default() },
    );
    refused.await.unwrap();
    assert!(world.read("object").await.unwrap() == plain);
}

#[tokio::test]
async fn s14_parts_larger_than_the_budget_holds_are_sealed_while_they_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source");
    let plain = noise(30_000_000);
    std::fs::write(&path, &plain).unwrap();
    for store in [
        Arc::new(MemoryStore::new()) as Arc<dyn MultipartStore>,
        Arc::new(DirStore::open(dir.path().join("store")).unwrap()),
    ] {
        let world =
            World { engine: Engine::builder().threads(2).memory_budget(12 << 20).build().unwrap(), ..World::on(store) };
        let options = UploadOptions { part_size: Some(12_000_000), checksums: true, ..UploadOptions::default() };
        let uploaded =
            world.put_with("object", Box::new(FileSource::open(&path).unwrap()), options.clone()).await.unwrap();
        assert_eq!(uploaded.parts, 3);
        assert!(world.read("object").await.unwrap() == plain);
        assert!(world.open("object").await.unwrap().verify(None).await.unwrap().checksums);
        // What can be read only once would have to be held: refused before anything is sent, with the budget it needs.
        let source = Box::new(StreamSource::from_reader(tokio::io::empty()));
        let refused = world.put_with("stream", source, options).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
        assert!(world.store.list_uploads("").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn s14_parts_of_a_stream_larger_than_the_budget_holds_wait_in_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let equal = Limits { equal_parts: true, ..MemoryStore::new().limits() };
    let long = Limits { min_part: 5_000_000, ..MemoryStore::new().limits() };
    for store in [
        Arc::new(MemoryStore::new()) as Arc<dyn MultipartStore>,
        Arc::new(MemoryStore::with_limits(equal)),
        Arc::new(MemoryStore::with_limits(long)),
        Arc::new(DirStore::open(dir.path().join("store")).unwrap()),
    ] {
        let world =
            World { engine: Engine::builder().threads(2).memory_budget(12 << 20).build().unwrap(), ..World::on(store) };
        let options = UploadOptions {
            part_size: Some(6_000_000),
            checksums: true,
            spool: Some(spool.clone()),
            ..UploadOptions::default()
        };
        // Nothing is begun where it could not go on.
        let source = || Box::new(StreamSource::from_reader(tokio::io::empty()));
        assert_eq!(world.put_with("no", source(), options.clone()).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(world.store.list_uploads("").await.unwrap().is_empty());
        std::fs::create_dir(&spool).unwrap();
        // The last part is whole, followed by the trailer, cut with it, or short; and there is none.
        for len in [18_000_000, 17_999_990, 16_000_000, 12_000_001, 0] {
            for announced in [false, true] {
                let plain = noise(len);
                let source = StreamSource::from_reader(std::io::Cursor::new(plain.clone()));
                let source = if announced { source.with_len(len as u64) } else { source };
                let uploaded = world.put_with("object", Box::new(source), options.clone()).await.unwrap();
                assert_eq!(uploaded.plain_len, len as u64);
                assert!(world.read("object").await.unwrap() == plain);
                assert!(world.open("object").await.unwrap().verify(None).await.unwrap().checksums);
            }
        }
        std::fs::remove_dir(&spool).unwrap();
    }
}

#[tokio::test]
async fn s15_an_object_overwritten_while_it_is_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for store in [
        Arc::new(MemoryStore::new()) as Arc<dyn MultipartStore>,
        Arc::new(DirStore::open(dir.path().join("store")).unwrap()),
    ] {
        let world = World::on(store);
        world.put("object", &noise(200_000), 50_000).await;
        let reader = world.open("object").await.unwrap();
        assert!(reader.read_range("0-10".parse().unwrap()).await.is_ok());
        world.put("object", &noise(200_001), 50_000).await;
        assert_eq!(reader.read_range("60000-60010".parse().unwrap()).await.unwrap_err().kind(), ErrorKind::Changed);
        assert_eq!(read_all(&reader).await.unwrap_err().kind(), ErrorKind::Changed);
        assert!(world.read("object").await.unwrap() == noise(200_001));
    }
}

/// Interrupts an upload and returns the bytes of its ledger's file.
async fn interrupted(world: &World, store: &SimStore, dir: &std::path::Path) -> std::path::PathBuf {
    let source = dir.join("source");
    std::fs::write(&source, noise(100_000)).unwrap();
    store.set_faults(Faults { die_at: Some(5), ..Faults::default() });
    let options = UploadOptions {
        part_size: Some(10_000),
        max_in_flight: Some(1),
        ledger: Some(dir.join("ledgers")),
        ..UploadOptions::default()
    };
    tokio::select! {
        _ = world.put_with("object", Box::new(FileSource::open(&source).unwrap()), options) => panic!("it was to die"),
        () = store.died() => {}
    }
    store.set_faults(Faults::default());
    let id = &list_uploads(&dir.join("ledgers")).unwrap()[0].id;
    dir.join("ledgers").join(format!("{id}.ledger"))
}

#[tokio::test]
async fn s18_the_ledger_holds_no_key_and_is_refused_or_cut_where_it_was_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = SimStore::new(18, MemoryStore::new().limits());
    let world = World::on(store.clone());
    let path = interrupted(&world, &store, dir.path()).await;
    let good = std::fs::read(&path).unwrap();
    let ledgers = dir.path().join("ledgers");
    let resume = async || -> Result<Uploaded> {
        let id = path.file_stem().unwrap().to_str().unwrap();
        let pending = PendingUpload::open(&ledgers, id)?;
        let source = Box::new(FileSource::open(dir.path().join("source")).unwrap());
        let trusted = world.trusted();
        world.engine.resume(pending, world.store.clone(), source, &trusted, ResumeOptions::default()).await
    };

    // The data key is in there only as the key service wrapped it.
    let header: serde_json::Value = {
        let len = u32::from_be_bytes(*good.first_chunk().unwrap()) as usize;
        serde_json::from_slice(&good[4..4 + len]).unwrap()
    };
    let metadata: BTreeMap<String, String> = serde_json::from_value(header["envelope"].clone()).unwrap();
    let envelope = Envelope::from_metadata(&metadata).unwrap();
    let kms_context = Envelope::kms_context(envelope.object_id(), envelope.context(), None);
    let data_key = world.kms.unwrap(&envelope.data_keys()[0], &kms_context).await.unwrap();
    let raw = data_key.expose();
    assert!(!good.windows(8).any(|window| raw.windows(8).any(|key| key == window)));

    // Every bit: refused, or taken for a record that was cut off. Never another object.
    let mut outcomes = HashSet::new();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        match resume().await {
            Ok(_) => {
                assert!(world.read("object").await.unwrap() == noise(100_000));
                outcomes.insert("resumed");
                // Done, and the upload with it: begin again.
                store.delete_object(&world.key).await;
                std::fs::remove_dir_all(&ledgers).unwrap();
                break;
            }
            Err(e) => {
                outcomes.insert("refused");
                assert_ne!(e.kind(), ErrorKind::Internal, "{e:?}");
            }
        }
    }
    assert!(outcomes.contains("refused"));

    // Torn at every length within its last record: resumed from the last whole one.
    for cut in [1, 2, 10, 60] {
        let _ = std::fs::remove_dir_all(&ledgers);
        let path = interrupted(&world, &store, dir.path()).await;
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let pending = PendingUpload::open(&ledgers, &id[..12]).unwrap();
        let source = Box::new(FileSource::open(pending.source_path().unwrap()).unwrap());
        let trusted = world.trusted();
        world.engine.resume(pending, world.store.clone(), source, &trusted, ResumeOptions::default()).await.unwrap();
        assert!(world.read("object").await.unwrap() == noise(100_000));
        store.delete_object(&world.key).await;
    }
}

#[tokio::test]
async fn s18_a_running_uploads_ledger_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let store = SimStore::new(18, MemoryStore::new().limits());
    let world = World::on(store.clone());
    let path = interrupted(&world, &store, dir.path()).await;
    let id = path.file_stem().unwrap().to_str().unwrap();
    let _running = PendingUpload::open(&dir.path().join("ledgers"), id).unwrap();
    let refused = PendingUpload::open(&dir.path().join("ledgers"), id).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Ledger);
}

#[tokio::test]
async fn s26_without_its_key_an_upload_is_refused_before_the_first_byte_is_sent() {
    let store = SimStore::new(26, MemoryStore::new().limits());
    let world = World::on(store.clone());
    let recipients = [Recipient { kms: world.kms.clone(), key: "no such key".into() }];
    let source = Box::new(BytesSource::new(Bytes::from_static(b"x")));
    let refused = world
        .engine
        .upload(world.store.clone(), world.key.clone(), source, &recipients, UploadOptions::default())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyUnavailable);
    assert_eq!(store.requests(), 0);
}

#[tokio::test]
async fn s26_a_second_recipient_opens_what_the_first_cannot() {
    let world = World::new();
    let second = Arc::new(KeyFile::new(DataKey::random().unwrap()));
    let recipients = [world.recipients().remove(0), Recipient { kms: second.clone(), key: second.id().to_owned() }];
    let source = Box::new(BytesSource::new(Bytes::from_static(b"for two")));
    let options = UploadOptions::default();
    world.engine.upload(world.store.clone(), world.key.clone(), source, &recipients, options).await.unwrap();
    let trusted = Trusted::new(vec![(second.clone(), TrustedKeys::Any)]);
    let reader =
        world.engine.open(world.store.clone(), world.key.clone(), &trusted, &ReadOptions::default()).await.unwrap();
    assert_eq!(read_all(&reader).await.unwrap(), b"for two");
    assert_eq!(reader.opened_with().unwrap().key, second.id());
}

/// The CMK is disabled, about to be deleted, pending import, or its material has expired.
#[cfg(feature = "aws-lc-rs")]
#[tokio::test]
async fn s26_whatever_state_stops_a_key_nothing_is_sent_and_a_second_recipient_still_opens() {
    use keys::{DAY, World as KeyStore, external, import, material};
    use sealift::KeyState;
    use sealift::kms::local::CreateKey;

    type Change = fn(&KeyStore, &str);
    let again: Change = |keys, key| drop(import(&keys.kms, key, &material(1), None).unwrap());
    let cases: [(KeyState, bool, Change, Change); 4] = [
        (
            KeyState::Disabled,
            false,
            |keys, key| drop(keys.kms.disable_key(key).unwrap()),
            |keys, key| drop(keys.kms.enable_key(key).unwrap()),
        ),
        (
            KeyState::PendingDeletion,
            false,
            |keys, key| drop(keys.kms.schedule_key_deletion(key, 7).unwrap()),
            |keys, key| drop(keys.kms.cancel_key_deletion(key).unwrap()),
        ),
        (KeyState::PendingImport, true, |keys, key| drop(keys.kms.delete_key_material(key).unwrap()), again),
        (KeyState::PendingImport, true, |keys, _| keys.clock.advance(DAY), again),
    ];
    for (state, imported, stop, resume) in cases {
        let keys = KeyStore::new();
        let key = if imported {
            let key = keys.kms.create_key(external()).unwrap().key_id;
            import(&keys.kms, &key, &material(1), Some(keys.clock.after(DAY))).unwrap();
            key
        } else {
            keys.kms.create_key(CreateKey::default()).unwrap().key_id
        };
        let local: Arc<dyn Kms> = Arc::new(keys.clock.open(&keys.dir));
        let store = SimStore::new(26, MemoryStore::new().limits());
        let world = World::on(store.clone());
        let first = Recipient { kms: local.clone(), key: key.clone() };
        let second = world.recipients().remove(0);
        let upload = async |recipients: &[Recipient]| {
            let source = Box::new(BytesSource::new(Bytes::from_static(b"for two")));
            let options = UploadOptions::default();
            world.engine.upload(world.store.clone(), world.key.clone(), source, recipients, options).await
        };
        upload(&[first.clone(), second.clone()]).await.unwrap();

        stop(&keys, &key);
        let sent = store.requests();
        for recipients in [vec![first.clone()], vec![second.clone(), first.clone()]] {
            let refused = upload(&recipients).await.unwrap_err();
            assert_eq!((refused.kind(), refused.key_state()), (ErrorKind::KeyUnavailable, Some(state)));
            assert!(refused.to_string().contains(&key), "{refused}");
        }
        assert_eq!(store.requests(), sent, "{state}: refused before anything is sent");

        let only_first = Trusted::new(vec![(local, TrustedKeys::Only(vec![key.clone()]))]);
        let options = ReadOptions::default();
        let open = async || world.engine.open(world.store.clone(), world.key.clone(), &only_first, &options).await;
        let refused = open().await.map(drop).unwrap_err();
        assert_eq!((refused.kind(), refused.key_state()), (ErrorKind::KeyUnavailable, Some(state)));
        assert!(refused.to_string().contains(state.name()), "{refused}");
        assert_eq!(world.read("object").await.unwrap(), b"for two", "{state}: by the second recipient");

        resume(&keys, &key);
        assert_eq!(read_all(&open().await.unwrap()).await.unwrap(), b"for two");
    }
}

#[tokio::test]
async fn get_leaves_what_was_there_when_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    std::fs::write(&target, "precious").unwrap();
    let world = World::new();
    world.put("object", &noise(100_000), 30_000).await;
    let reader = world.open("object").await.unwrap();
    let refused = reader.write_to_file(&target, GetOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    let mut object = world.stored("object").await;
    object.body[70_000] ^= 1;
    world.replace("object", &object).await;
    let options = GetOptions { overwrite: true, ..GetOptions::default() };
    let refused = world.open("object").await.unwrap().write_to_file(&target, options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Authentication);
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half done is left behind");
}

#[tokio::test]
async fn if_not_exists_has_one_winner() {
    let world = World::new();
    let put = |bytes: &'static [u8]| {
        let options = UploadOptions { condition: PutCondition::IfNotExists, ..UploadOptions::default() };
        world.put_with("object", Box::new(BytesSource::new(Bytes::from_static(bytes))), options)
    };
    put(b"first").await.unwrap();
    assert_eq!(put(b"second").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(world.read("object").await.unwrap(), b"first");
    assert!(world.store.list_uploads("").await.unwrap().is_empty());
}

#[tokio::test]
async fn one_call_to_the_key_service_for_each_upload_and_each_open() {
    let world = World::new();
    let counted = Arc::new(Counted { inner: world.kms.clone(), calls: Default::default() });
    let recipients = [Recipient { kms: counted.clone(), key: world.kms.id().to_owned() }];
    let source = Box::new(BytesSource::new(noise(500_000)));
    let options = UploadOptions { part_size: Some(50_000), ..UploadOptions::default() };
    world.engine.upload(world.store.clone(), world.key.clone(), source, &recipients, options).await.unwrap();
    assert_eq!(counted.calls.swap(0, std::sync::atomic::Ordering::Relaxed), 1);
    let trusted = Trusted::new(vec![(counted.clone(), TrustedKeys::Any)]);
    let reader =
        world.engine.open(world.store.clone(), world.key.clone(), &trusted, &ReadOptions::default()).await.unwrap();
    assert_eq!(read_all(&reader).await.unwrap().len(), 500_000);
    assert_eq!(counted.calls.load(std::sync::atomic::Ordering::Relaxed), 1);
}

struct Counted {
    inner: Arc<KeyFile>,
    calls: std::sync::atomic::AtomicU32,
}

impl Counted {
    fn count(&self) {
        self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Kms for Counted {
    fn service(&self) -> sealift::KmsService {
        self.inner.service()
    }

    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> futures::future::BoxFuture<'a, Result<(DataKey, sealift::WrappedKey)>> {
        self.count();
        self.inner.generate_data_key(key, context)
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> futures::future::BoxFuture<'a, Result<sealift::WrappedKey>> {
        self.count();
        self.inner.wrap(key, data_key, context)
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a sealift::WrappedKey,
        context: &'a EncryptionContext,
    ) -> futures::future::BoxFuture<'a, Result<DataKey>> {
        self.count();
        self.inner.unwrap(wrapped, context)
    }
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

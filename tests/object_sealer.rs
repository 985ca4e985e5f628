//! Parts of one object sealed one by one, as a gateway does: in any order, again, by another process, and not when they are not what was
//! announced.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sealift::crypto::{STRIPE, crc64, sealed_len};
use sealift::engine::{Note, ObjectSealer, PartRecord, ReadOptions};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::store::{MemoryStore, MultipartStore as _, Payload, Properties, PutCondition};
use sealift::{DataKey, Engine, Error, ErrorKind, ObjectKey, PartNumber, Result};

struct World {
    engine: Engine,
    recipients: [Recipient; 1],
    trusted: Trusted,
}

fn world() -> World {
    let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
    World {
        engine: Engine::builder().threads(2).memory_budget(16 << 20).build().unwrap(),
        recipients: [Recipient { kms: kms.clone(), key: kms.id().to_owned() }],
        trusted: Trusted::new(vec![(kms, TrustedKeys::Any)]),
    }
}

impl World {
    async fn begin(&self) -> ObjectSealer {
        self.engine.begin_object(&self.recipients, Default::default(), None).await.unwrap()
    }

    /// The plaintext of an object of this body.
    async fn open(&self, object: &ObjectSealer, body: Vec<Bytes>) -> Result<Vec<u8>> {
        let (store, key) = (Arc::new(MemoryStore::new()), "a".parse::<ObjectKey>().unwrap());
        let properties = Properties { metadata: object.envelope().to_metadata(), ..Properties::default() };
        store.put_object(&key, Payload::held(body), &properties, PutCondition::None).await?;
        let reader = self.engine.open(store, key, &self.trusted, &ReadOptions::default()).await?;
        reader.verify(None).await?;
        Ok(reader.stream(0..reader.len()).try_collect::<Vec<_>>().await?.concat())
    }
}

fn number(number: u32) -> PartNumber {
    number.try_into().unwrap()
}

fn pieces(bytes: &[u8]) -> impl stream::Stream<Item = Result<Bytes>> + Send + 'static {
    let pieces: Vec<_> = bytes.chunks(70_001).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

async fn seal(object: &ObjectSealer, n: u32, plain: &[u8]) -> (Bytes, PartRecord) {
    let (payload, sealing) = object.seal_part(number(n), plain.len() as u64, pieces(plain)).unwrap();
    assert_eq!(sealing.record().unwrap_err().kind(), ErrorKind::Internal, "nothing was taken yet");
    let announced = payload.len();
    let sealed = payload.try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!((announced, Some(announced)), (sealed.len() as u64, sealed_len(plain.len() as u64)));
    let record = sealing.record().unwrap();
    assert_eq!((record.number(), record.len(), record.crc64()), (number(n), plain.len() as u64, crc64(plain)));
    assert_eq!(&sealed[..24], record.salt().as_bytes());
    (sealed.into(), record)
}

#[tokio::test]
async fn parts_in_any_order_and_again_become_one_object() {
    let world = world();
    let object = world.begin().await;
    let plain = |n: u32, len: usize| vec![n as u8; len];
    let parts: BTreeMap<u32, Vec<u8>> =
        [(1, 5), (2, STRIPE), (7, 2 * STRIPE + 1), (8, 0), (10_000, 16_384)].map(|(n, len)| (n, plain(n, len))).into();
    let mut sealed = BTreeMap::new();
    let mut salts = BTreeSet::new();
    for n in [7, 1, 10_000, 2, 8, 1, 7] {
        let (bytes, record) = seal(&object, n, &parts[&n]).await;
        assert!(salts.insert(record.salt()), "a salt was used twice");
        sealed.insert(n, (bytes, record));
    }
    let records: Vec<_> = sealed.values().map(|(_, record)| *record).collect();
    let attributes = BTreeMap::from([("etag".to_owned(), b"0123".to_vec())]);
    let trailer = object.seal_trailer(&records, attributes.clone()).unwrap();
    assert_eq!(trailer.len() as u64, ObjectSealer::trailer_len(4, &attributes), "the empty part is left out");
    let not_empty = sealed.values().filter(|(_, record)| !record.is_empty());
    let body = not_empty.map(|(bytes, _)| bytes.clone()).chain([trailer]).collect();
    assert_eq!(world.open(&object, body).await.unwrap(), parts.values().flatten().copied().collect::<Vec<_>>());

    let backwards: Vec<_> = records.iter().rev().copied().collect();
    assert_eq!(object.seal_trailer(&backwards, BTreeMap::new()).unwrap_err().kind(), ErrorKind::InvalidInput);
    let empty = object.seal_trailer(&[], BTreeMap::new()).unwrap();
    assert_eq!(empty.len() as u64, ObjectSealer::trailer_len(0, &BTreeMap::new()));
    assert!(world.open(&object, vec![empty]).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_process_goes_on_with_what_was_noted() {
    let world = world();
    let object = world.begin().await;
    let (bytes, record) = seal(&object, 3, b"three").await;
    let noted = object.seal_record(&record, b"etag").unwrap();
    let upload = object.seal_note(Note::Upload, b"upload").unwrap();

    let envelope = object.envelope().clone();
    let again = world.engine.restore_object(envelope, ("", "a"), &world.trusted).await.unwrap();
    assert_eq!(again.open_note(Note::Upload, &upload).unwrap(), b"upload");
    assert_eq!(again.open_record(number(3), &noted).unwrap(), (record, b"etag".to_vec()));
    let (more, second) = seal(&again, 4, b"four").await;
    let trailer = again.seal_trailer(&[record, second], BTreeMap::new()).unwrap();
    assert_eq!(world.open(&again, vec![bytes, more, trailer]).await.unwrap(), b"threefour");

    // A note is what it was sealed as, of the object it was sealed for, and nothing else.
    let kind = |opened: Result<Vec<u8>>| opened.unwrap_err().kind();
    assert_eq!(again.open_record(number(4), &noted).unwrap_err().kind(), ErrorKind::Authentication);
    assert_eq!(kind(again.open_note(Note::Completion, &upload)), ErrorKind::Authentication);
    assert_eq!(kind(world.begin().await.open_note(Note::Upload, &upload)), ErrorKind::Authentication);
    let short = again.seal_note(Note::Part(number(3)), b"no record").unwrap();
    assert_eq!(again.open_record(number(3), &short).unwrap_err().kind(), ErrorKind::Malformed);
    let other = Trusted::new(vec![(Arc::new(KeyFile::new(DataKey::random().unwrap())), TrustedKeys::Any)]);
    let refused = world.engine.restore_object(object.envelope().clone(), ("", "a"), &other).await;
    assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Authentication | ErrorKind::KeyUnavailable));
}

#[tokio::test]
async fn a_part_that_is_not_what_was_announced_does_not_end() {
    let world = world();
    let object = world.begin().await;
    let outcome = async |len: u64, pieces: Vec<Result<Bytes>>| {
        let (payload, sealing) = object.seal_part(number(1), len, stream::iter(pieces)).unwrap();
        let sent: Vec<Result<Bytes>> = payload.collect().await;
        assert!(sealing.record().is_err());
        let last = sent.last().unwrap().as_ref().unwrap_err().kind();
        let sent: u64 = sent.iter().flatten().map(|bytes| bytes.len() as u64).sum();
        assert!(sent < sealed_len(len).unwrap(), "all of it was sent");
        last
    };
    let piece = |len: usize| Ok(Bytes::from(vec![1; len]));
    let failed = || Err(Error::new(ErrorKind::Cancelled, "its digest is another"));
    for len in [0, 10, STRIPE, STRIPE + 10] {
        let announced = len as u64;
        assert_eq!(outcome(announced + 1, vec![piece(len)]).await, ErrorKind::SourceRead, "too short: {len}");
        assert_eq!(outcome(announced, vec![piece(len), piece(1)]).await, ErrorKind::SourceRead, "too long: {len}");
        assert_eq!(outcome(announced, vec![piece(len), failed()]).await, ErrorKind::Cancelled, "refused: {len}");
    }
    let too_long = object.seal_part(number(1), u64::MAX, stream::empty());
    assert_eq!(too_long.unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[tokio::test]
async fn more_parts_at_once_than_the_budget_has_room_for_all_end() {
    let world = world();
    let object = world.begin().await;
    // More parts at once than the budget has stripes, none of which is taken to its end before all have begun.
    let mut payloads: Vec<_> =
        (1..=40).map(|n| object.seal_part(number(n), 3 << 20, pieces(&vec![n as u8; 3 << 20])).unwrap().0).collect();
    for _ in 0..5 {
        for payload in &mut payloads {
            payload.next().await.map(Result::unwrap);
        }
    }
    for mut payload in payloads {
        assert!(payload.next().await.is_none());
    }
}

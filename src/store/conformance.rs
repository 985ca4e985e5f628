//! What every store must do, as one function that each adapter's tests call.

mod metadata;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{
    CompletedPart, ListedObject, MultipartStore, ObjectInfo, Payload, Properties, PutCondition, PutPart, Upload,
};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{Attempt, ByteRange, ETag, ObjectId, ObjectKey, PartNumber};

/// Checks everything [`MultipartStore`] promises against `store`, for the tests of whoever writes an adapter.
///
/// Keys lie under a fresh random prefix and are removed in the end, so the store may hold other objects and several checks may run at
/// once. Parts are as long as the store's minimum asks for; a store with a minimum of 5 MiB moves about 100 MiB.
///
/// # Panics
/// With a description, where the store does not do what it must. What was written is then left behind.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = sealift::store::MemoryStore::new();
/// sealift::store::conformance::check(&store).await;
/// # }
/// ```
pub async fn check(store: &dyn MultipartStore) {
    let t = Test::new(store);
    t.objects().await;
    t.properties().await;
    t.ranges().await;
    t.conditions().await;
    t.failing_payloads().await;
    t.copies().await;
    t.replaced_metadata().await;
    t.metadata_replaced_twice_at_once().await;
    t.a_read_goes_on_or_fails_while_metadata_is_replaced().await;
    t.listings().await;
    for places in [Offsets::Known, Offsets::Unknown] {
        t.uploads(places).await;
        t.many_parts_in_any_order(places).await;
        t.parts_stored_again(places).await;
        t.refused_completes(places).await;
        t.aborts(places).await;
        t.uploads_side_by_side(places).await;
    }
    t.mixed_offsets().await;
    t.direct_parts().await;
    t.missing_uploads().await;
    t.a_read_sees_one_state().await;
    t.remove_all().await;
}

/// Checks besides that of several attempts at a part `store` has the latest only: to list another is [`ErrorKind::Changed`]. [`check`] also
/// passes stores that keep each, as SeaweedFS does.
///
/// # Panics
/// As [`check`].
pub async fn check_latest_attempts(store: &dyn MultipartStore) {
    let t = Test::new(store);
    for places in [Offsets::Known, Offsets::Unknown] {
        assert!(!t.parts_stored_again(places).await, "an attempt that was replaced was published");
    }
    t.remove_all().await;
}

/// Checks besides that `store` keeps metadata whose value is empty. [`check`] also passes stores that refuse it, as S3's does, because not all
/// that speak its protocol keep it.
///
/// # Panics
/// As [`check`].
pub async fn check_empty_metadata(store: &dyn MultipartStore) {
    let t = Test::new(store);
    let (key, body, empty) = (t.key("empty-metadata"), bytes(1, 100), metadata(&[("empty", ""), ("other", "value")]));
    t.put(&key, &body, &empty).await;
    t.holds(&key, &body, &empty).await;
    t.remove_all().await;
}

struct Test<'a> {
    store: &'a dyn MultipartStore,
    prefix: String,
    /// Length of a part that need not be the last.
    part_len: u64,
}

/// Whether parts say where their bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offsets {
    Known,
    Unknown,
}

/// Bytes that differ from those of any other seed, and begin with bytes of their own as sealed ones do.
fn bytes(seed: u8, len: u64) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(131) ^ (i >> 8)) as u8 ^ seed).collect()
}

/// The same in segments of odd lengths.
fn held(bytes: &Bytes) -> Payload {
    let (mut rest, mut segments) = (bytes.clone(), Vec::new());
    for n in [0, 1, 30, 1000].into_iter().chain(std::iter::repeat(70_001)) {
        if rest.is_empty() {
            break;
        }
        segments.push(rest.split_to(rest.len().min(n)));
    }
    Payload::held(segments)
}

/// The same, not in memory before it is asked for.
fn produced(bytes: &Bytes) -> Payload {
    let len = bytes.len() as u64;
    let segments: Vec<Bytes> = bytes.chunks(50_000).map(Bytes::copy_from_slice).collect();
    Payload::produced(
        len,
        stream::iter(segments).then(|segment| async {
            tokio::task::yield_now().await;
            Ok(segment)
        }),
    )
}

fn number(n: u32) -> PartNumber {
    PartNumber::try_from(n).expect("a part number")
}

fn metadata(pairs: &[(&str, &str)]) -> Properties {
    let metadata = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Properties { metadata, ..Properties::default() }
}

#[track_caller]
fn ok<T>(result: Result<T>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

#[track_caller]
fn refused<T>(result: Result<T>, kind: ErrorKind, what: &str) {
    match result {
        Ok(_) => panic!("{what}: succeeded, expected {kind:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error:?}"),
    }
}

impl<'a> Test<'a> {
    fn new(store: &'a dyn MultipartStore) -> Self {
        let id = ObjectId::random().expect("the operating system has randomness");
        Self { store, prefix: format!("sealift-conformance/{id}/"), part_len: store.limits().min_part.max(100) }
    }
}

impl Test<'_> {
    fn key(&self, name: &str) -> ObjectKey {
        format!("{}{name}", self.prefix).parse().expect("a key")
    }

    async fn put(&self, key: &ObjectKey, body: &Bytes, properties: &Properties) -> ETag {
        ok(self.store.put_object(key, held(body), properties, PutCondition::None).await, "put_object")
    }

    async fn read(&self, key: &ObjectKey, range: Option<ByteRange>) -> Result<Bytes> {
        let got = self.store.get(key, range, None).await?;
        let range = got.range.clone();
        let body = got.body.try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        });
        let body = body.await?;
        assert_eq!(body.len() as u64, range.end - range.start, "a body has as many bytes as its range");
        Ok(body.into())
    }

    async fn holds(&self, key: &ObjectKey, body: &Bytes, properties: &Properties) -> ObjectInfo {
        let info = ok(self.store.head(key).await, "head");
        assert_eq!(info.len, body.len() as u64, "length of {key}");
        assert_eq!(info.properties, *properties, "properties of {key}");
        assert!(ok(self.read(key, None).await, "get") == *body, "the bytes of {key} are not those that were put");
        info
    }

    async fn missing(&self, key: &ObjectKey) {
        refused(self.store.head(key).await, ErrorKind::NotFound, "head of no object");
        refused(self.store.get(key, None, None).await, ErrorKind::NotFound, "get of no object");
        refused(self.store.delete(key).await, ErrorKind::NotFound, "delete of no object");
    }

    async fn initiate(&self, key: &ObjectKey, properties: &Properties) -> Upload {
        Upload { key: key.clone(), id: ok(self.store.initiate(key, properties).await, "initiate") }
    }

    async fn put_part(&self, upload: &Upload, n: u32, offset: Option<u64>, payload: Payload) -> Result<ETag> {
        let part = PutPart { number: number(n), attempt: Attempt(1), offset, payload };
        self.store.put_part(upload, part).await
    }

    /// Stores parts one after the other in the given order of indices.
    async fn put_parts(
        &self,
        upload: &Upload,
        places: Offsets,
        parts: &[(u32, Bytes)],
        order: &[usize],
    ) -> Vec<CompletedPart> {
        let mut list = Vec::new();
        for &i in order {
            let (n, bytes) = &parts[i];
            let offset = parts[..i].iter().map(|(_, bytes)| bytes.len() as u64).sum();
            let offset = (places == Offsets::Known).then_some(offset);
            let payload = if i % 2 == 0 { held(bytes) } else { produced(bytes) };
            let etag = ok(self.put_part(upload, *n, offset, payload).await, "put_part");
            list.push(CompletedPart { number: number(*n), etag });
        }
        list.sort_by_key(|part| part.number);
        list
    }

    async fn complete(&self, upload: &Upload, list: &[CompletedPart]) -> Result<ETag> {
        self.store.complete(upload, list, PutCondition::None).await
    }

    async fn listed(&self, upload: &Upload) -> Vec<(u32, ETag, u64)> {
        let parts = ok(self.store.list_parts(upload).await, "list_parts");
        parts.into_iter().map(|part| (part.number.get(), part.etag, part.len)).collect()
    }

    async fn objects(&self) {
        let key = self.key("objects");
        self.missing(&key).await;
        let mut tags = Vec::new();
        for (seed, len) in [(1, 1000), (2, 1000), (3, 0), (4, 1), (5, 3_000_000), (6, 23)] {
            let (body, properties) = (bytes(seed, len), metadata(&[("seed", &seed.to_string())]));
            let payload = if seed % 2 == 0 { held(&body) } else { produced(&body) };
            let put = self.store.put_object(&key, payload, &properties, PutCondition::None).await;
            let etag = ok(put, "put_object");
            assert_eq!(
                self.holds(&key, &body, &properties).await.etag,
                etag,
                "head has the ETag that put_object returned"
            );
            assert!(!tags.contains(&etag), "another body has another ETag");
            tags.push(etag);
        }
        ok(self.store.delete(&key).await, "delete");
        self.missing(&key).await;
    }

    async fn properties(&self) {
        let key = self.key("properties");
        let body = bytes(1, 100);
        for properties in [
            metadata(&[]),
            metadata(&[("a", "b")]),
            metadata(&[("sealift-format", "1"), ("sealift-data-keys", r#"[{"kms":"local","key":"k","blob":"Zm9v"}]"#)]),
            metadata(&[("long", &"x".repeat(1500))]),
            Properties { content_type: Some("text/x-sealed; charset=utf-8".to_owned()), ..metadata(&[("a", "b")]) },
            metadata(&[]),
        ] {
            // Replaced as a whole: none of the last object's remain.
            self.put(&key, &body, &properties).await;
            self.holds(&key, &body, &properties).await;
            let got = ok(self.store.get(&key, Some(ByteRange::Suffix(1)), None).await, "get");
            assert_eq!(
                (got.info.properties, got.info.len),
                (properties, 100),
                "a range's answer tells of the whole object"
            );
        }
        // Not every store can keep a name without a value; then it says so.
        let empty = metadata(&[("empty", ""), ("other", "value")]);
        match self.store.put_object(&key, held(&body), &empty, PutCondition::None).await {
            Ok(_) => drop(self.holds(&key, &body, &empty).await),
            refusal => refused(refusal, ErrorKind::InvalidInput, "metadata without a value"),
        }
    }

    async fn ranges(&self) {
        let key = self.key("ranges");
        let len = 2_500_000;
        let body = bytes(7, len);
        let etag = self.put(&key, &body, &metadata(&[])).await;
        for range in [
            ByteRange::Inclusive { first: 0, last: 0 },
            ByteRange::Inclusive { first: 5, last: 1_048_580 },
            ByteRange::Inclusive { first: 1_048_576, last: 2_097_151 },
            ByteRange::Inclusive { first: len - 1, last: len - 1 },
            ByteRange::Inclusive { first: len - 2, last: len + 1000 },
            ByteRange::Inclusive { first: 3, last: u64::MAX },
            ByteRange::From(0),
            ByteRange::From(len - 1),
            ByteRange::Suffix(1),
            ByteRange::Suffix(65_536),
            ByteRange::Suffix(len),
            ByteRange::Suffix(u64::MAX),
        ] {
            let expected = ok(range.resolve(len), "a range that holds bytes");
            let got = ok(self.store.get(&key, Some(range), Some(&etag)).await, "get of a range");
            assert_eq!((got.range, got.info.len), (expected.clone(), len), "{range}");
            let expected = body.slice(expected.start as usize..expected.end as usize);
            assert!(ok(self.read(&key, Some(range)).await, "get of a range") == expected, "bytes of {range}");
        }
        for range in [ByteRange::From(len), ByteRange::Inclusive { first: len, last: len }, ByteRange::Suffix(0)] {
            refused(
                self.store.get(&key, Some(range), None).await,
                ErrorKind::RangeNotSatisfiable,
                "a range without bytes",
            );
        }
        self.put(&key, &bytes(8, 0), &metadata(&[])).await;
        assert!(ok(self.read(&key, None).await, "get of an empty object").is_empty());
        refused(
            self.store.get(&key, Some(ByteRange::Suffix(10)), None).await,
            ErrorKind::RangeNotSatisfiable,
            "a range of an empty object",
        );
    }

    async fn conditions(&self) {
        let key = self.key("conditions");
        let (first, second) = (bytes(1, 500), bytes(2, 500));
        let properties = metadata(&[("which", "first")]);
        let new = PutCondition::IfNotExists;
        let etag = ok(self.store.put_object(&key, held(&first), &properties, new).await, "put of a new object");
        let again = self.store.put_object(&key, held(&second), &metadata(&[("which", "second")]), new).await;
        refused(again, ErrorKind::AlreadyExists, "put_object if there is none");
        assert_eq!(self.holds(&key, &first, &properties).await.etag, etag, "a refused put changes nothing");

        let upload = self.initiate(&key, &metadata(&[("which", "third")])).await;
        let list = self.put_parts(&upload, Offsets::Known, &[(1, second.clone())], &[0]).await;
        let completed = self.store.complete(&upload, &list, new).await;
        refused(completed, ErrorKind::AlreadyExists, "complete if there is none");
        self.holds(&key, &first, &properties).await;
        ok(self.store.abort(&upload).await, "abort after a refused complete");

        refused(self.store.copy(&key, &key, new).await, ErrorKind::AlreadyExists, "copy if there is none");
        ok(self.store.get(&key, None, Some(&etag)).await, "get if it matches");
        let newer = self.put(&key, &second, &metadata(&[])).await;
        assert_ne!(newer, etag, "another body has another ETag");
        refused(
            self.store.get(&key, None, Some(&etag)).await,
            ErrorKind::Changed,
            "get if it matches, and it does not",
        );

        let other = self.key("conditions-of-an-upload");
        let upload = self.initiate(&other, &properties).await;
        let list = self.put_parts(&upload, Offsets::Known, &[(1, first.clone())], &[0]).await;
        ok(self.store.complete(&upload, &list, new).await, "complete if there is none, and there is none");
        self.holds(&other, &first, &properties).await;
    }

    /// Payloads that fail, end early or do not end: the part or object is not stored, and what was there stays.
    async fn failing_payloads(&self) {
        let failing = |kind| {
            let piece = |n| Ok(bytes(9, n));
            match kind {
                0 => Payload::produced(
                    300,
                    stream::iter([piece(100), Err(Error::new(ErrorKind::SourceChanged, "changed"))]),
                ),
                1 => Payload::produced(300, stream::iter([piece(100), piece(199)])),
                2 => Payload::produced(300, stream::iter([piece(100), piece(201)])),
                _ => Payload::produced(300, stream::empty()),
            }
        };
        let key = self.key("failing");
        let (body, properties) = (bytes(1, 300), metadata(&[("which", "first")]));
        let etag = self.put(&key, &body, &properties).await;
        for kind in 0..4 {
            let put = self.store.put_object(&key, failing(kind), &metadata(&[]), PutCondition::None).await;
            let expected = if kind == 0 { ErrorKind::SourceChanged } else { ErrorKind::Io };
            refused(put, expected, "put_object of a payload that fails");
            assert_eq!(self.holds(&key, &body, &properties).await.etag, etag);
        }
        for kind in 0..4 {
            for offset in [Some(0), None] {
                let upload = self.initiate(&key, &metadata(&[])).await;
                let expected = if kind == 0 { ErrorKind::SourceChanged } else { ErrorKind::Io };
                let put = self.put_part(&upload, 1, offset, failing(kind)).await;
                refused(put, expected, "put_part of a payload that fails");
                assert_eq!(self.listed(&upload).await, [], "a part that failed is not stored");
                let etag = ok(self.put_part(&upload, 1, offset, held(&body)).await, "put_part after one that failed");
                assert_eq!(self.listed(&upload).await, [(1, etag, 300)]);
                ok(self.store.abort(&upload).await, "abort");
            }
        }
        assert_eq!(self.holds(&key, &body, &properties).await.etag, etag);
        let uploads = ok(self.store.list_uploads(&self.prefix).await, "list_uploads");
        assert_eq!(uploads, [], "objects that failed leave no upload");
    }

    async fn copies(&self) {
        let (from, to) = (self.key("copy/from"), self.key("copied/to/there"));
        refused(self.store.copy(&from, &to, PutCondition::None).await, ErrorKind::NotFound, "copy of no object");
        let body = bytes(3, 200_000);
        let properties = Properties { content_type: Some("text/plain".to_owned()), ..metadata(&[("a", "b")]) };
        self.put(&from, &body, &properties).await;
        ok(self.store.copy(&from, &to, PutCondition::IfNotExists).await, "copy");
        self.holds(&to, &body, &properties).await;
        self.holds(&from, &body, &properties).await;

        // The copy is an object of its own.
        ok(self.store.delete(&from).await, "delete");
        self.holds(&to, &body, &properties).await;
        ok(self.store.copy(&to, &to, PutCondition::None).await, "copy onto itself");
        self.holds(&to, &body, &properties).await;
        self.put(&from, &bytes(4, 10), &metadata(&[])).await;
        let etag = ok(self.store.copy(&from, &to, PutCondition::None).await, "copy onto another");
        assert_eq!(
            self.holds(&to, &bytes(4, 10), &metadata(&[])).await.etag,
            etag,
            "head has the ETag that copy returned"
        );
    }

    async fn listings(&self) {
        // `-` and `.` sort before `/`, `0` after it.
        let mut names = ["l/a/b", "l/a-", "l/a.b", "l/a0", "l/a/b.c", "l/a/c/d", "l/A", "l/ü", "l/z"];
        for (i, name) in names.iter().enumerate() {
            self.put(&self.key(name), &bytes(1, i as u64), &metadata(&[])).await;
        }
        names.sort_unstable();
        for prefix in ["l/", "l/a", "l/a/", "l/a/b", "l/a/c/", "l/z", "l/zz", "l/ü", "no", "l/a/c/d/"] {
            let listed: Vec<_> = ok(self.store.list(self.key(prefix).as_str()).try_collect().await, "list");
            let keys: Vec<_> = listed.iter().map(|object| object.key.clone()).collect();
            let expected: Vec<_> =
                names.iter().filter(|name| name.starts_with(prefix)).map(|name| self.key(name)).collect();
            assert_eq!(keys, expected, "list of {prefix:?}");
            for object in listed {
                assert_eq!(object.len, ok(self.store.head(&object.key).await, "head").len, "{}", object.key);
            }
        }
    }

    async fn uploads(&self, places: Offsets) {
        let key = self.key(&format!("uploads/{places:?}"));
        let properties = Properties { content_type: Some("text/plain".to_owned()), ..metadata(&[("a", "upload")]) };
        let n = self.part_len;
        let parts = [(1, bytes(1, n)), (2, bytes(2, n)), (3, bytes(3, 7))];
        let upload = self.initiate(&key, &properties).await;
        assert_eq!(self.listed(&upload).await, [], "a new upload has no parts");
        let listed = ok(self.store.list_uploads(key.as_str()).await, "list_uploads");
        assert_eq!(listed, std::slice::from_ref(&upload));
        let list = self.put_parts(&upload, places, &parts, &[0, 1, 2]).await;
        let expected: Vec<_> =
            list.iter().zip(&parts).map(|(part, (n, bytes))| (*n, part.etag.clone(), bytes.len() as u64)).collect();
        assert_eq!(self.listed(&upload).await, expected);
        self.missing(&key).await;
        let etag = ok(self.complete(&upload, &list).await, "complete");
        let body = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(self.holds(&key, &body, &properties).await.etag, etag, "head has the ETag that complete returned");
        assert_eq!(ok(self.store.list_uploads(key.as_str()).await, "list_uploads"), [], "a completed upload is gone");
        refused(self.store.list_parts(&upload).await, ErrorKind::NotFound, "list_parts of a completed upload");

        // An upload of one part, below every minimum; it replaces the object only when it is completed.
        let replacement = bytes(4, 1);
        let upload = self.initiate(&key, &metadata(&[])).await;
        let list = self.put_parts(&upload, places, &[(10_000, replacement.clone())], &[0]).await;
        self.holds(&key, &body, &properties).await;
        let newer = ok(self.complete(&upload, &list).await, "complete");
        assert_ne!(newer, etag, "another body has another ETag");
        self.holds(&key, &replacement, &metadata(&[])).await;
    }

    async fn many_parts_in_any_order(&self, places: Offsets) {
        let key = self.key(&format!("any-order/{places:?}"));
        // Numbers have gaps.
        let mut parts: Vec<_> = (1..=5).map(|i| (i * i, bytes(i as u8, self.part_len))).collect();
        parts.push((9_999, bytes(9, self.part_len)));
        let upload = self.initiate(&key, &metadata(&[])).await;
        let list = self.put_parts(&upload, places, &parts, &[4, 0, 5, 2, 1, 3]).await;
        ok(self.complete(&upload, &list).await, "complete of parts with gaps");
        let body = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        self.holds(&key, &body, &metadata(&[])).await;
    }

    /// Says whether the store keeps every attempt.
    async fn parts_stored_again(&self, places: Offsets) -> bool {
        let key = self.key(&format!("again/{places:?}"));
        let n = self.part_len;
        let upload = self.initiate(&key, &metadata(&[])).await;
        let offset = |at| (places == Offsets::Known).then_some(at);
        let first = ok(self.put_part(&upload, 1, offset(0), held(&bytes(1, n))).await, "put_part");
        let tail = ok(self.put_part(&upload, 2, offset(n), held(&bytes(2, 9))).await, "put_part");
        let second = ok(self.put_part(&upload, 1, offset(0), produced(&bytes(3, n))).await, "put_part again");
        assert_ne!(first, second, "other bytes have another ETag");
        let list = |one: &ETag| {
            vec![
                CompletedPart { number: number(1), etag: one.clone() },
                CompletedPart { number: number(2), etag: tail.clone() },
            ]
        };
        match self.complete(&upload, &list(&first)).await {
            // A store that keeps every attempt: what is listed is what there is.
            Ok(_) => {
                self.holds(&key, &[bytes(1, n), bytes(2, 9)].concat().into(), &metadata(&[])).await;
                return true;
            }
            refusal => refused(refusal, ErrorKind::Changed, "complete with a part that was replaced"),
        }
        self.missing(&key).await;
        assert_eq!(self.listed(&upload).await, [(1, second.clone(), n), (2, tail.clone(), 9)]);
        ok(self.complete(&upload, &list(&second)).await, "complete after one that was refused");
        self.holds(&key, &[bytes(3, n), bytes(2, 9)].concat().into(), &metadata(&[])).await;
        false
    }

    async fn refused_completes(&self, places: Offsets) {
        let key = self.key(&format!("refused/{places:?}"));
        let (body, properties) = (bytes(8, 8), metadata(&[("old", "one")]));
        self.put(&key, &body, &properties).await;
        let parts = [(1, bytes(1, self.part_len)), (2, bytes(2, self.part_len)), (3, bytes(3, 5))];
        let upload = self.initiate(&key, &metadata(&[])).await;
        let list = self.put_parts(&upload, places, &parts, &[0, 1, 2]).await;

        refused(self.complete(&upload, &[]).await, ErrorKind::InvalidInput, "complete without parts");
        let reversed: Vec<_> = list.iter().rev().cloned().collect();
        refused(
            self.complete(&upload, &reversed).await,
            ErrorKind::InvalidInput,
            "complete with parts in another order",
        );
        let twice = [&list[..1], &list[..]].concat();
        refused(self.complete(&upload, &twice).await, ErrorKind::InvalidInput, "complete with a part twice");
        let missing = CompletedPart { number: number(4), etag: list[2].etag.clone() };
        let more = [&list[..], &[missing]].concat();
        refused(self.complete(&upload, &more).await, ErrorKind::Changed, "complete with a part that is not there");
        let mut swapped = list.clone();
        swapped[0].etag = list[1].etag.clone();
        refused(self.complete(&upload, &swapped).await, ErrorKind::Changed, "complete with another part's ETag");

        let limits = self.store.limits();
        if limits.min_part > 1 {
            let short = self.initiate(&self.key("short"), &metadata(&[])).await;
            let parts = [(1, bytes(1, limits.min_part - 1)), (2, bytes(2, 10))];
            let list = self.put_parts(&short, places, &parts, &[0, 1]).await;
            refused(
                self.complete(&short, &list).await,
                ErrorKind::LimitExceeded,
                "complete with a part below the minimum",
            );
            ok(self.store.abort(&short).await, "abort");
        }
        if limits.equal_parts {
            let unequal = self.initiate(&self.key("unequal"), &metadata(&[])).await;
            let parts = [(1, bytes(1, self.part_len)), (2, bytes(2, self.part_len + 1)), (3, bytes(3, 10))];
            let list = self.put_parts(&unequal, places, &parts, &[0, 1, 2]).await;
            refused(self.complete(&unequal, &list).await, ErrorKind::LimitExceeded, "complete with unequal parts");
            ok(self.store.abort(&unequal).await, "abort");
        }

        self.holds(&key, &body, &properties).await;
        assert_eq!(self.listed(&upload).await.len(), 3, "a refused complete takes no part away");
        // Not all parts need be listed; the first ones here, so that the offsets still fit.
        ok(self.complete(&upload, &list[..2]).await, "complete with some of the parts");
        self.holds(&key, &[&parts[0].1[..], &parts[1].1[..]].concat().into(), &metadata(&[])).await;
    }

    async fn aborts(&self, places: Offsets) {
        let key = self.key(&format!("aborts/{places:?}"));
        let (body, properties) = (bytes(8, 8), metadata(&[("old", "one")]));
        self.put(&key, &body, &properties).await;
        let upload = self.initiate(&key, &metadata(&[])).await;
        let list = self.put_parts(&upload, places, &[(1, bytes(1, 10))], &[0]).await;
        for _ in 0..2 {
            ok(self.store.abort(&upload).await, "abort, and again");
            assert_eq!(ok(self.store.list_uploads(key.as_str()).await, "list_uploads"), []);
            refused(self.store.list_parts(&upload).await, ErrorKind::NotFound, "list_parts of an aborted upload");
            refused(self.complete(&upload, &list).await, ErrorKind::NotFound, "complete of an aborted upload");
            let offset = (places == Offsets::Known).then_some(0);
            let put = self.put_part(&upload, 2, offset, held(&bytes(2, 10))).await;
            refused(put, ErrorKind::NotFound, "put_part to an aborted upload");
        }
        self.holds(&key, &body, &properties).await;
    }

    async fn uploads_side_by_side(&self, places: Offsets) {
        let keys = ["side/b", "side/a", "side/a", "sidestep"].map(|name| self.key(name));
        let mut uploads = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let upload = self.initiate(key, &metadata(&[("which", &i.to_string())])).await;
            uploads.push((upload, bytes(i as u8, 300)));
        }
        for (prefix, expected) in
            [("side/", &[1, 2, 0][..]), ("side", &[1, 2, 0, 3]), ("side/b", &[0]), ("sides", &[3]), ("nothing", &[])]
        {
            let mut listed = ok(self.store.list_uploads(self.key(prefix).as_str()).await, "list_uploads");
            let mut expected: Vec<_> = expected.iter().map(|&i: &usize| uploads[i].0.clone()).collect();
            let order = |a: &Upload, b: &Upload| (&a.key, &a.id).cmp(&(&b.key, &b.id));
            listed.sort_by(order);
            expected.sort_by(order);
            assert_eq!(listed, expected, "list_uploads of {prefix:?}");
        }
        for i in [2, 0, 1, 3] {
            let (upload, body) = &uploads[i];
            let list = self.put_parts(upload, places, &[(1, body.clone())], &[0]).await;
            ok(self.complete(upload, &list).await, "complete");
            self.holds(&upload.key, body, &metadata(&[("which", &i.to_string())])).await;
        }
    }

    /// Some parts know where they go and others do not.
    async fn mixed_offsets(&self) {
        let key = self.key("mixed");
        let n = self.part_len;
        let parts: Vec<_> = (1..=4).map(|i| bytes(i, n)).collect();
        let upload = self.initiate(&key, &metadata(&[])).await;
        let mut list = Vec::new();
        for (i, offset) in [(0, None), (1, Some(n)), (2, None), (3, Some(3 * n))] {
            let etag = ok(self.put_part(&upload, i + 1, offset, held(&parts[i as usize])).await, "put_part");
            list.push(CompletedPart { number: number(i + 1), etag });
        }
        // Stored again the other way round.
        for (i, offset) in [(0, Some(0)), (1, None)] {
            let etag = ok(self.put_part(&upload, i + 1, offset, held(&bytes(9 + i as u8, n))).await, "put_part");
            list[i as usize].etag = etag;
        }
        ok(self.complete(&upload, &list).await, "complete");
        let body = [&bytes(9, n)[..], &bytes(10, n)[..], &parts[2][..], &parts[3][..]].concat();
        self.holds(&key, &body.into(), &metadata(&[])).await;
    }

    /// Where the store is one: parts written by whoever has a piece.
    async fn direct_parts(&self) {
        let Some(direct) = self.store.direct() else { return };
        let key = self.key("direct");
        let (n, properties) = (self.part_len, metadata(&[("a", "b")]));
        let upload = self.initiate(&key, &properties).await;
        let begin = |part, at, len| direct.begin_part(&upload, number(part), at, len);

        let body = bytes(1, n);
        let sink = ok(begin(1, 0, n).await, "begin_part");
        let pieces: Vec<_> = body.chunks(33).enumerate().map(|(i, piece)| (i as u64 * 33, piece)).collect();
        for (at, piece) in pieces.iter().rev() {
            ok(sink.write(*at, piece), "write");
        }
        assert!(self.listed(&upload).await.is_empty(), "a part is not stored before it is finished");
        refused(sink.write(n, b"x"), ErrorKind::InvalidInput, "write past the end");
        refused(sink.write(u64::MAX, b"x"), ErrorKind::InvalidInput, "write past all ends");
        let one = ok(sink.finish().await, "finish");

        let incomplete = ok(begin(2, n, 9).await, "begin_part");
        ok(incomplete.write(0, b"12345678"), "write");
        assert!(incomplete.finish().await.is_err(), "a part that lacks a byte is not stored");
        drop(ok(begin(2, n, 9).await, "begin_part"));
        assert_eq!(self.listed(&upload).await, [(1, one.clone(), n)]);

        let again = ok(begin(2, n, 9).await, "begin_part again");
        ok(again.write(0, &bytes(2, 9)), "write");
        let two = ok(again.finish().await, "finish");
        let list = [(1, one), (2, two)].map(|(part, etag)| CompletedPart { number: number(part), etag });
        ok(self.complete(&upload, &list).await, "complete");
        self.holds(&key, &[bytes(1, n), bytes(2, 9)].concat().into(), &properties).await;
        let gone = begin(1, 0, n).await;
        refused(gone.map(drop), ErrorKind::NotFound, "begin_part of an upload that is complete");
    }

    async fn missing_uploads(&self) {
        let key = self.key("missing");
        let other = self.initiate(&self.key("missing-other"), &metadata(&[])).await;
        let ids = [other.id.clone(), crate::UploadId("no such upload".into()), crate::UploadId("../../..".into())];
        for id in ids {
            let upload = Upload { key: key.clone(), id };
            let part = CompletedPart { number: number(1), etag: ETag("none".into()) };
            refused(self.store.list_parts(&upload).await, ErrorKind::NotFound, "list_parts of no upload");
            refused(self.complete(&upload, &[part]).await, ErrorKind::NotFound, "complete of no upload");
            let put = self.put_part(&upload, 1, Some(0), held(&bytes(1, 10))).await;
            refused(put, ErrorKind::NotFound, "put_part to no upload");
            ok(self.store.abort(&upload).await, "abort of no upload");
        }
        assert_eq!(self.listed(&other).await, [], "another key's upload is untouched");
        ok(self.store.abort(&other).await, "abort");
    }

    async fn a_read_sees_one_state(&self) {
        let key = self.key("one-state");
        let old = bytes(1, 3_000_000);
        self.put(&key, &old, &metadata(&[("which", "old")])).await;
        let mut got = ok(self.store.get(&key, None, None).await, "get");
        let mut read = ok(got.body.next().await.expect("a first piece"), "first piece").to_vec();
        self.put(&key, &bytes(2, 3_000_000), &metadata(&[("which", "new")])).await;
        // The old object's bytes to the end, or an error: never some of each.
        while let Some(piece) = got.body.next().await {
            match piece {
                Ok(piece) => read.extend_from_slice(&piece),
                Err(_) => return,
            }
        }
        assert!(old == read, "a body that is replaced while it is read");
    }

    async fn remove_all(&self) {
        let objects: Vec<_> = ok(self.store.list(&self.prefix).try_collect().await, "list");
        assert!(!objects.is_empty(), "what was put is listed");
        for ListedObject { key, .. } in objects {
            ok(self.store.delete(&key).await, "delete");
            self.missing(&key).await;
        }
        let left: Vec<_> = ok(self.store.list(&self.prefix).try_collect().await, "list");
        assert_eq!(left, [], "deleted objects are not listed");
        assert_eq!(ok(self.store.list_uploads(&self.prefix).await, "list_uploads"), []);
    }
}

//! What every store must do, as one function that each adapter's tests call.

mod metadata;
mod objects;
mod uploads;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{
    CompletedPart, ListedObject, MultipartStore, ObjectInfo, Payload, Properties, PutCondition, PutPart, Upload,
};
use crate::error::{ErrorKind, Result};
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

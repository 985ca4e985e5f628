//! A store in memory that fails: before it has done what it was asked, or after, when only the answer is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use sealift::store::{
    CompletedPart, GetObject, Limits, ListedObject, MemoryStore, MultipartStore, ObjectInfo, Payload, Properties,
    PutCondition, PutPart, StoredPart, Upload,
};
use sealift::{ByteRange, ETag, Error, ErrorKind, ObjectKey, Result, UploadId};

#[derive(Debug)]
pub(super) struct FaultyStore {
    inner: MemoryStore,
    plan: Mutex<Plan>,
    listed: AtomicUsize,
    taken: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Plan {
    next: Option<(&'static str, Fault)>,
    random: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Before,
    After,
}

impl FaultyStore {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            inner: MemoryStore::with_limits(limits),
            plan: Mutex::default(),
            listed: AtomicUsize::new(0),
            taken: Arc::default(),
        }
    }

    /// How many bytes of bodies were taken so far.
    pub(super) fn taken(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.taken)
    }

    fn counted(&self, payload: Payload) -> Payload {
        let taken = self.taken();
        let count = move |bytes: &bytes::Bytes| _ = taken.fetch_add(bytes.len(), Ordering::SeqCst);
        Payload::produced(payload.len(), payload.inspect_ok(count))
    }

    /// How many rows were taken of listings.
    pub(super) fn listed(&self) -> usize {
        self.listed.load(Ordering::SeqCst)
    }

    /// The next call of this name does nothing and fails.
    pub(super) fn fail_next(&self, call: &'static str) {
        self.plan().next = Some((call, Fault::Before));
    }

    /// The next call of this name is done, and fails.
    pub(super) fn lose_next(&self, call: &'static str) {
        self.plan().next = Some((call, Fault::After));
    }

    /// One call in eight fails, in one way or the other.
    pub(super) fn fail_at_random(&self, seed: u64) {
        self.plan().random = Some(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    }

    pub(super) fn quiet(&self) {
        *self.plan() = Plan::default();
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, call: &str) -> Fault {
        let mut plan = self.plan();
        if let Some((name, fault)) = plan.next
            && name == call
        {
            plan.next = None;
            return fault;
        }
        let Some(state) = &mut plan.random else { return Fault::None };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        match *state >> 8 & 15 {
            0 => Fault::Before,
            1 => Fault::After,
            _ => Fault::None,
        }
    }

    fn run<'a, T: Send + 'a>(&'a self, name: &'static str, call: BoxFuture<'a, Result<T>>) -> BoxFuture<'a, Result<T>> {
        let fault = self.fault(name);
        let broken = move || Error::new(ErrorKind::Io, format!("{name} failed on purpose"));
        Box::pin(async move {
            if fault == Fault::Before {
                return Err(broken());
            }
            let done = call.await;
            if fault == Fault::After { Err(broken()) } else { done }
        })
    }
}

impl MultipartStore for FaultyStore {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    fn initiate<'a>(&'a self, key: &'a ObjectKey, properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>> {
        self.run("initiate", self.inner.initiate(key, properties))
    }

    fn put_part<'a>(&'a self, upload: &'a Upload, part: PutPart) -> BoxFuture<'a, Result<ETag>> {
        let part = PutPart { payload: self.counted(part.payload), ..part };
        self.run("put_part", self.inner.put_part(upload, part))
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [CompletedPart],
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        self.run("complete", self.inner.complete(upload, parts, condition))
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<()>> {
        self.run("abort", self.inner.abort(upload))
    }

    fn list_parts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        self.run("list_parts", self.inner.list_parts(upload))
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>> {
        self.run("list_uploads", self.inner.list_uploads(prefix))
    }

    fn put_object<'a>(
        &'a self,
        key: &'a ObjectKey,
        payload: Payload,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        let payload = self.counted(payload);
        self.run("put_object", self.inner.put_object(key, payload, properties, condition))
    }

    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Option<ByteRange>,
        if_match: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>> {
        self.run("get", self.inner.get(key, range, if_match))
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.run("head", self.inner.head(key))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>> {
        self.run("delete", self.inner.delete(key))
    }

    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        to: &'a ObjectKey,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        self.run("copy", self.inner.copy(from, to, condition))
    }

    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        metadata: &'a BTreeMap<String, String>,
        if_match: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>> {
        self.run("replace_metadata", self.inner.replace_metadata(key, metadata, if_match))
    }

    fn list_after<'a>(&'a self, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        let listed = self.inner.list_after(prefix, after);
        listed.inspect(|_| _ = self.listed.fetch_add(1, Ordering::SeqCst)).boxed()
    }
}

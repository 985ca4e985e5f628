//! A simulated object store that fails, delays, reorders, lies and dies, as a seed tells it to.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sealift::store::{
    CompletedPart, DirectStore, GetObject, Limits, ListedObject, MemoryStore, MultipartStore, ObjectInfo, PartSink,
    Payload, Properties, PutCondition, PutPart, StoredPart, Upload,
};
use sealift::{Attempt, ByteRange, ETag, Error, ErrorKind, ObjectKey, PartNumber, Result, Retry, UploadId};
use tokio::sync::watch;
#[path = "rng.rs"]
mod rng;

pub use rng::Rng;

/// How a store misbehaves: percentages of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The request fails and has no effect.
    pub fail: u64,
    /// The request has its effect and its answer is lost.
    pub lose_answer: u64,
    /// The store says that a part was stored, and stored something else.
    pub lie: u64,
    /// A read's answer has a bit flipped.
    pub flip: u64,
    /// Requests take up to so many milliseconds, so that they finish in any order.
    pub delay_ms: u64,
    /// The store asks for fewer requests, and the request has no effect.
    pub throttle: u64,
    /// A part's request times out, and the part lands when its upload is about to be completed.
    pub zombie: u64,
    /// A read fails, or its answer breaks off somewhere, or ends early.
    pub break_reads: u64,
    /// Complete has its effect, and this is the answer to it and to every later one.
    pub lose_complete: Option<ErrorKind>,
    /// The client dies at this request, counted from 0.
    pub die_at: Option<u64>,
}

impl Faults {
    pub const NONE: Self = Self {
        fail: 0,
        lose_answer: 0,
        lie: 0,
        flip: 0,
        delay_ms: 0,
        throttle: 0,
        zombie: 0,
        break_reads: 0,
        lose_complete: None,
        die_at: None,
    };
}

/// See the module. Wraps a [`MemoryStore`], which stays when the client dies.
#[derive(Debug)]
pub struct SimStore {
    inner: MemoryStore,
    /// To be kept by parts that are being written. Half of the seeds make a store that is written to directly.
    me: Weak<Self>,
    is_direct: bool,
    rng: Mutex<Rng>,
    faults: Mutex<Faults>,
    requests: AtomicU64,
    died: watch::Sender<bool>,
    /// Every sealing that was ever sent, by its salt and in order: the same salt must mean the same bytes.
    sent: Mutex<Sent>,
    completes: AtomicU64,
    objects_put: AtomicU64,
    direct_parts: AtomicU64,
    zombies: Mutex<Vec<(Upload, PutPart)>>,
    reads: AtomicU64,
    bytes_read: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Sent {
    by_salt: HashMap<[u8; 24], usize>,
    all: Vec<Bytes>,
}

impl SimStore {
    pub fn new(seed: u64, limits: Limits) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            inner: MemoryStore::with_limits(limits),
            me: me.clone(),
            is_direct: seed.is_multiple_of(2),
            rng: Mutex::new(Rng::new(seed)),
            faults: Mutex::default(),
            requests: AtomicU64::new(0),
            died: watch::Sender::new(false),
            sent: Mutex::default(),
            completes: AtomicU64::new(0),
            objects_put: AtomicU64::new(0),
            direct_parts: AtomicU64::new(0),
            zombies: Mutex::default(),
            reads: AtomicU64::new(0),
            bytes_read: Arc::default(),
        })
    }

    /// What is wrong from now on; the client lives again.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
        self.requests.store(0, Ordering::Relaxed);
        self.died.send_replace(false);
    }

    /// Ends when the client is to die.
    pub async fn died(&self) {
        let mut died = self.died.subscribe();
        let _ = died.wait_for(|died| *died).await;
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How often a Complete took effect.
    pub fn completes(&self) -> u64 {
        self.completes.load(Ordering::Relaxed)
    }

    /// How often a whole object was put by one request.
    pub fn objects_put(&self) -> u64 {
        self.objects_put.load(Ordering::Relaxed)
    }

    /// How often a part was begun to be written directly.
    pub fn direct_parts(&self) -> u64 {
        self.direct_parts.load(Ordering::Relaxed)
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many bytes reads were given since this was asked last.
    pub fn take_bytes_read(&self) -> u64 {
        self.bytes_read.swap(0, Ordering::Relaxed)
    }

    pub async fn open_uploads(&self) -> usize {
        self.inner.list_uploads("").await.unwrap().len()
    }

    pub async fn delete_object(&self, key: &ObjectKey) {
        let _ = self.inner.delete(key).await;
    }

    fn chance(&self, percent: u64) -> bool {
        self.rng.lock().unwrap().chance(percent)
    }

    async fn delay(&self) {
        let max = self.faults.lock().unwrap().delay_ms;
        if max > 0 {
            let ms = self.rng.lock().unwrap().below(max);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Does `request` as the faults have it.
    async fn with_faults<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let n = self.requests.fetch_add(1, Ordering::Relaxed);
        let faults = *self.faults.lock().unwrap();
        self.delay().await;
        if faults.die_at == Some(n) {
            // Half of the deaths come after the request had its effect.
            if self.chance(50) {
                let _ = request.await;
            }
            self.died.send_replace(true);
            return std::future::pending().await;
        }
        if self.chance(faults.throttle) {
            return Err(Error::new(ErrorKind::Throttled, "simulated: fewer, please").with_retry(Retry::Yes));
        }
        if self.chance(faults.fail) {
            return Err(transient("simulated: the request failed"));
        }
        let done = request.await?;
        if self.chance(faults.lose_answer) {
            return Err(transient("simulated: the answer was lost"));
        }
        self.delay().await;
        Ok(done)
    }

    /// Remembers what was sealed, and insists that no salt ever comes again with other bytes.
    fn record(&self, bytes: &Bytes) {
        let Some(salt) = bytes.first_chunk::<24>() else { return };
        let Sent { by_salt, all } = &mut *self.sent.lock().unwrap();
        match by_salt.get(salt) {
            Some(&at) => {
                // A tail may be sent again with another trailer behind the same part.
                let common = all[at].len().min(bytes.len());
                assert!(all[at][..common] == bytes[..common], "two different sealings under one salt");
                all[at] = bytes.clone();
            }
            None => {
                by_salt.insert(*salt, all.len());
                all.push(bytes.clone());
            }
        }
    }
}

/// A part that is gathered piece by piece, and then put as any other.
struct Gathered {
    store: Arc<SimStore>,
    upload: Upload,
    number: PartNumber,
    offset: u64,
    bytes: Mutex<Vec<u8>>,
}

impl DirectStore for SimStore {
    fn begin_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: PartNumber,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn PartSink>>> {
        self.direct_parts.fetch_add(1, Ordering::Relaxed);
        let fail = self.faults.lock().unwrap().fail;
        let failed = self.chance(fail);
        let store = self.me.upgrade().unwrap();
        Box::pin(async move {
            if failed {
                return Err(transient("simulated: the part could not be begun"));
            }
            let bytes = Mutex::new(vec![0; len as usize]);
            Ok(Arc::new(Gathered { store, upload: upload.clone(), number, offset, bytes }) as Arc<dyn PartSink>)
        })
    }
}

impl PartSink for Gathered {
    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let fail = self.store.faults.lock().unwrap().fail;
        if self.store.chance(fail / 4) {
            return Err(transient("simulated: a piece could not be written"));
        }
        let at = at as usize;
        self.bytes.lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Arc<Self>) -> BoxFuture<'static, Result<ETag>> {
        Box::pin(async move {
            let payload = Payload::held(vec![std::mem::take(&mut *self.bytes.lock().unwrap()).into()]);
            let part = PutPart { number: self.number, attempt: Attempt(1), offset: Some(self.offset), payload };
            self.store.put_part(&self.upload, part).await
        })
    }
}

impl MultipartStore for SimStore {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn url(&self) -> String {
        "sim:".into()
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn initiate<'a>(&'a self, key: &'a ObjectKey, properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>> {
        Box::pin(self.with_faults(self.inner.initiate(key, properties)))
    }

    fn put_part<'a>(&'a self, upload: &'a Upload, mut part: PutPart) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(self.with_faults(async move {
            let mut bytes = Vec::new();
            while let Some(segment) = part.payload.next().await {
                bytes.extend_from_slice(&segment?);
            }
            let whole = Bytes::from(bytes.clone());
            self.record(&whole);
            let lie = self.faults.lock().unwrap().lie;
            if self.chance(lie) {
                // Another sealing of the same length if there was one, else one bit.
                let earlier =
                    self.sent.lock().unwrap().all.iter().find(|e| e.len() == bytes.len() && **e != bytes).cloned();
                match earlier.filter(|_| self.chance(50)) {
                    Some(earlier) => bytes = earlier.to_vec(),
                    None => {
                        let at = self.rng.lock().unwrap().below(bytes.len() as u64) as usize;
                        bytes[at] ^= 1;
                    }
                }
            }
            part.payload = Payload::held(vec![bytes.into()]);
            let zombie = self.faults.lock().unwrap().zombie;
            if self.chance(zombie) {
                self.zombies.lock().unwrap().push((upload.clone(), part));
                return Err(transient("simulated: the part is still on its way"));
            }
            self.inner.put_part(upload, part).await
        }))
    }

    fn direct(&self) -> Option<&dyn DirectStore> {
        self.is_direct.then_some(self)
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [CompletedPart],
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        assert!(parts.is_sorted_by(|a, b| a.number < b.number), "Complete lists each part once, ascending");
        Box::pin(self.with_faults(async move {
            let landing = std::mem::take(&mut *self.zombies.lock().unwrap());
            for (upload, part) in landing {
                let _ = self.inner.put_part(&upload, part).await;
            }
            let lost = self.faults.lock().unwrap().lose_complete;
            if let Some(kind) = lost.filter(|_| self.completes() > 0) {
                return Err(Error::new(kind, "simulated: what there is to say when it is done"));
            }
            let etag = self.inner.complete(upload, parts, condition).await?;
            self.completes.fetch_add(1, Ordering::Relaxed);
            match lost {
                Some(_) => Err(transient("simulated: the answer was lost")),
                None => Ok(etag),
            }
        }))
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.with_faults(self.inner.abort(upload)))
    }

    fn list_parts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        Box::pin(self.with_faults(self.inner.list_parts(upload)))
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>> {
        self.inner.list_uploads(prefix)
    }

    fn put_object<'a>(
        &'a self,
        key: &'a ObjectKey,
        mut payload: Payload,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(self.with_faults(async move {
            let mut bytes = Vec::new();
            while let Some(segment) = payload.next().await {
                bytes.extend_from_slice(&segment?);
            }
            self.record(&Bytes::from(bytes.clone()));
            let lie = self.faults.lock().unwrap().lie;
            if self.chance(lie) && !bytes.is_empty() {
                let at = self.rng.lock().unwrap().below(bytes.len() as u64) as usize;
                bytes[at] ^= 1;
            }
            let payload = Payload::held(vec![bytes.into()]);
            let etag = self.inner.put_object(key, payload, properties, condition).await?;
            self.objects_put.fetch_add(1, Ordering::Relaxed);
            Ok(etag)
        }))
    }

    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Option<ByteRange>,
        if_match: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>> {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let Faults { break_reads, throttle, .. } = *self.faults.lock().unwrap();
            self.delay().await;
            if self.chance(throttle) {
                return Err(Error::new(ErrorKind::Throttled, "simulated: fewer, please").with_retry(Retry::Yes));
            }
            let breaks = self.chance(break_reads);
            if breaks && self.chance(30) {
                return Err(transient("simulated: the read failed"));
            }
            let mut got = self.inner.get(key, range, if_match).await?;
            let count = Arc::clone(&self.bytes_read);
            got.body = Box::pin(got.body.inspect_ok(move |bytes| {
                let _ = count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }));
            if breaks {
                let len = got.range.end - got.range.start;
                let at = self.rng.lock().unwrap().below(len);
                let silent = self.chance(50);
                got.body = broken_off(got.body, at, silent);
            }
            let flip = self.faults.lock().unwrap().flip;
            if self.chance(flip) {
                let mut bytes = Vec::new();
                while let Some(segment) = got.body.next().await {
                    bytes.extend_from_slice(&segment?);
                }
                let at = self.rng.lock().unwrap().below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << (at % 8);
                got.body = Box::pin(stream::iter([Ok(Bytes::from(bytes))]));
            }
            Ok(got)
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.inner.head(key)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>> {
        self.inner.delete(key)
    }

    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        to: &'a ObjectKey,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        self.inner.copy(from, to, condition)
    }

    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        metadata: &'a BTreeMap<String, String>,
        if_match: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(self.with_faults(self.inner.replace_metadata(key, metadata, if_match)))
    }

    fn list_after<'a>(&'a self, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        self.inner.list_after(prefix, after)
    }
}

/// The first `at` bytes of a body, then an error, or only silence.
fn broken_off(body: BoxStream<'static, Result<Bytes>>, at: u64, silent: bool) -> BoxStream<'static, Result<Bytes>> {
    let end = (!silent).then(|| Err(transient("simulated: the connection broke off")));
    let first = body.scan(at, |left, piece| {
        let cut = piece.map(|bytes| bytes.slice(..bytes.len().min(*left as usize)));
        *left -= cut.as_ref().map_or(0, |bytes| bytes.len() as u64);
        std::future::ready(Some(cut).filter(|cut| cut.as_ref().map_or(true, |bytes| !bytes.is_empty())))
    });
    Box::pin(first.chain(stream::iter(end)))
}

fn transient(what: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, what).with_retry(Retry::Yes)
}

//! The largest objects there can be, through all of an upload but the cipher: driver, machine, plan, ledger, manifest. Their bytes are
//! nowhere, and are not copied; all that is done for them is.
//!
//! Nothing here asserts how long something took. Times are printed: `cargo test --release --lib scale -- --nocapture`, and all of
//! 48.8 TiB with `SEALIFT_SOAK=1`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};

use super::{Engine, PendingUpload, ResumeOptions, UploadOptions};
use crate::crypto::{Backend, CHUNK, DataKey, STRIPE, sealed_len, stub};
use crate::engine::{ReadOptions, Uploaded, list_uploads};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::kms::key_file::KeyFile;
use crate::kms::recipients::{Recipient, Trusted, TrustedKeys};
use crate::source::{Access, PartSource, ReadAt, SourceIdentity};
use crate::store::{
    CompletedPart, DirectStore, DiscardStore, GetObject, Limits, ListedObject, MultipartStore, ObjectInfo, PartSink,
    Properties, PutCondition, PutPart, StoredPart, Upload,
};
use crate::types::{ByteRange, ETag, ObjectKey, PartNumber, UploadId};
use crate::upload::PartPlan;

const TIB: u64 = 1 << 40;

/// As many bytes as one likes, all alike.
#[derive(Debug)]
struct Virtual {
    len: u64,
    block: Vec<u8>,
}

impl Virtual {
    fn new(len: u64) -> Box<Self> {
        let mut block = vec![0; STRIPE];
        for chunk in block.chunks_mut(CHUNK) {
            chunk[..stub::VIRTUAL.len()].copy_from_slice(&stub::VIRTUAL);
        }
        Box::new(Self { len, block })
    }
}

impl PartSource for Virtual {
    fn len(&self) -> Option<u64> {
        Some(self.len)
    }

    fn open(self: Box<Self>) -> Access {
        Access::At(Arc::new(*self))
    }
}

impl ReadAt for Virtual {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at<'a>(&'a self, offset: u64, len: usize, _: &'a mut [u8]) -> Result<&'a [u8]> {
        assert!(offset + len as u64 <= self.len);
        Ok(&self.block[..len])
    }

    fn identity(&self) -> Option<SourceIdentity> {
        let path = Path::new("/virtual").to_owned();
        Some(SourceIdentity { path, len: self.len, modified_ns: 0, changed_ns: 0, device: 0, inode: 0 })
    }

    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }
}

/// Counts bytes, keeps what it has to know of parts, and the end of the body, where the trailer is.
#[derive(Debug, Default)]
struct Counting {
    this: std::sync::Weak<Self>,
    bytes: AtomicU64,
    parts: Mutex<BTreeMap<PartNumber, (ETag, u64)>>,
    /// Time at which every thousandth part was stored.
    times: Mutex<Vec<(u32, Instant)>>,
    tail: Mutex<Vec<u8>>,
    properties: Mutex<Properties>,
    refuses_complete: AtomicBool,
    discard: DiscardStore,
}

impl Counting {
    fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self { this: this.clone(), ..Self::default() })
    }

    fn stored(&self, number: PartNumber, len: u64) -> ETag {
        let etag = ETag(format!("{number}-{len}"));
        let mut parts = self.parts.lock().unwrap();
        parts.insert(number, (etag.clone(), len));
        if parts.len().is_multiple_of(1000) {
            self.times.lock().unwrap().push((parts.len() as u32, Instant::now()));
        }
        etag
    }

    fn body_len(&self) -> u64 {
        self.parts.lock().unwrap().values().map(|(_, len)| len).sum()
    }
}

struct Sink {
    store: Arc<Counting>,
    number: PartNumber,
    len: u64,
    written: AtomicU64,
}

impl PartSink for Sink {
    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        assert!(at + bytes.len() as u64 <= self.len);
        self.written.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    fn finish(self: Arc<Self>) -> BoxFuture<'static, Result<ETag>> {
        assert_eq!(self.written.load(Relaxed), self.len);
        self.store.bytes.fetch_add(self.len, Relaxed);
        future::ready(Ok(self.store.stored(self.number, self.len))).boxed()
    }
}

impl DirectStore for Counting {
    fn begin_part<'a>(
        &'a self,
        _: &'a Upload,
        number: PartNumber,
        _: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn PartSink>>> {
        let store = self.this.upgrade().unwrap();
        let sink: Arc<dyn PartSink> = Arc::new(Sink { store, number, len, written: AtomicU64::new(0) });
        future::ready(Ok(sink)).boxed()
    }
}

impl MultipartStore for Counting {
    fn limits(&self) -> Limits {
        self.discard.limits()
    }

    fn url(&self) -> String {
        "file:///virtual".to_owned()
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn direct(&self) -> Option<&dyn DirectStore> {
        Some(self)
    }

    fn initiate<'a>(&'a self, key: &'a ObjectKey, properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>> {
        *self.properties.lock().unwrap() = properties.clone();
        self.discard.initiate(key, properties)
    }

    fn put_part<'a>(&'a self, _: &'a Upload, part: PutPart) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let bytes: Vec<Bytes> = part.payload.try_collect().await?;
            let bytes = bytes.concat();
            self.bytes.fetch_add(bytes.len() as u64, Relaxed);
            let etag = self.stored(part.number, bytes.len() as u64);
            *self.tail.lock().unwrap() = bytes;
            Ok(etag)
        })
    }

    fn complete<'a>(
        &'a self,
        _: &'a Upload,
        parts: &'a [CompletedPart],
        _: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        assert_eq!(parts.len(), self.parts.lock().unwrap().len());
        let refused = self.refuses_complete.load(Relaxed);
        let refusal = || Error::new(ErrorKind::PermissionDenied, "not today").with_retry(Retry::No);
        future::ready(if refused { Err(refusal()) } else { Ok(ETag("whole".to_owned())) }).boxed()
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<()>> {
        self.discard.abort(upload)
    }

    fn list_parts<'a>(&'a self, _: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        let parts = self.parts.lock().unwrap();
        let listed = parts.iter().map(|(&number, (etag, len))| StoredPart { number, etag: etag.clone(), len: *len });
        future::ready(Ok(listed.collect())).boxed()
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>> {
        self.discard.list_uploads(prefix)
    }

    fn put_object<'a>(
        &'a self,
        _: &'a ObjectKey,
        _: crate::store::Payload,
        _: &'a Properties,
        _: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        unreachable!("what is uploaded here has many parts")
    }

    /// Only the end of the object, which is all that opening it asks for.
    fn get<'a>(
        &'a self,
        _: &'a ObjectKey,
        range: Option<ByteRange>,
        _: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>> {
        let len = self.body_len();
        let range = range.unwrap().resolve(len).unwrap();
        let tail = self.tail.lock().unwrap();
        let from = tail.len() - (len - range.start) as usize;
        let bytes = Bytes::copy_from_slice(&tail[from..from + (range.end - range.start) as usize]);
        let properties = self.properties.lock().unwrap().clone();
        let info = ObjectInfo { len, etag: ETag("whole".to_owned()), modified: None, properties, encryption: None };
        future::ready(Ok(GetObject { info, range, body: stream::iter([Ok(bytes)]).boxed() })).boxed()
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.discard.head(key)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>> {
        self.discard.delete(key)
    }

    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        to: &'a ObjectKey,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        self.discard.copy(from, to, condition)
    }

    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        metadata: &'a BTreeMap<String, String>,
        etag: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>> {
        self.discard.replace_metadata(key, metadata, etag)
    }

    fn list_after<'a>(&'a self, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        self.discard.list_after(prefix, after)
    }
}

/// What an upload took.
struct Took {
    uploaded: Uploaded,
    /// The most bytes that were allocated at once, and all allocations there were.
    peak: u64,
    allocations: u64,
    bytes: u64,
}

/// Uploads `parts` parts of `part` bytes, all on this thread.
fn upload(parts: u64, part: u64) -> (Took, Arc<Counting>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (kms, engine) = world();
    let (store, ledgers) = (Counting::new(), tempfile::tempdir().unwrap());
    let mut uploaded = None;
    let begun = Instant::now();
    let info = allocation_counter::measure(|| {
        let options = UploadOptions {
            part_size: Some(part),
            ledger: Some(ledgers.path().to_owned()),
            ..UploadOptions::default()
        };
        let recipients = [Recipient { kms: kms.clone(), key: kms.id().to_owned() }];
        let key = "object".parse().unwrap();
        let upload = engine.upload(store.clone(), key, Virtual::new(parts * part), &recipients, options);
        uploaded = Some(runtime.block_on(upload).unwrap());
    });
    let mut last = begun;
    for (count, time) in store.times.lock().unwrap().iter() {
        println!("  {count:6} parts of {part} bytes: {:?} each", (*time - last) / 1000);
        last = *time;
    }
    let uploaded = uploaded.unwrap();
    let took = Took { uploaded, peak: info.bytes_max, allocations: info.count_total, bytes: store.bytes.load(Relaxed) };
    println!(
        "{parts} parts of {part} bytes, {:.2} TiB: {:?}, {} allocations, {} bytes at once",
        (parts * part) as f64 / TIB as f64,
        begun.elapsed(),
        took.allocations,
        took.peak
    );
    (took, store)
}

fn world() -> (Arc<KeyFile>, Engine) {
    let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
    let engine = Engine::builder().threads(1).backend(Backend::Stub).simulation(1).build().unwrap();
    (kms, engine)
}

/// The most plaintext that one part can have.
fn largest_part() -> u64 {
    PartPlan::unknown(None, false, &DiscardStore::new().limits(), u64::MAX).unwrap().longest()
}

#[test]
fn work_and_memory_do_not_grow_with_what_went_before() {
    let part = 16 << 20;
    let (few, _) = upload(1_000, part);
    let (many, store) = upload(9_999, part);
    assert_eq!(many.uploaded.parts, 9_999);
    assert_eq!((many.uploaded.plain_len, many.uploaded.sealed_len), (9_999 * part, store.body_len()));
    assert_eq!(many.bytes, store.body_len());
    // As many allocations for the last part as for the first: what grows in any way but by doubling now and then would show.
    let per_part = |took: &Took, parts: u64| took.allocations as f64 / parts as f64;
    let (early, late) = (per_part(&few, 1_000), per_part(&many, 9_999));
    assert!(late < early * 1.05, "{early} allocations for each part of few, {late} of many");
    // What is kept of a part is its length, salt, ETag, and place in the manifest.
    let growth = (many.peak.saturating_sub(few.peak)) as f64 / 8_999.0;
    assert!(growth < 1_000.0, "{growth} bytes are kept of each part");
}

#[test]
fn memory_does_not_grow_with_the_length_of_parts() {
    let (short, _) = upload(100, 16 << 20);
    let (long, _) = upload(100, 1 << 30);
    assert!(long.peak < short.peak + (256 << 10), "{} and {} bytes at once", short.peak, long.peak);
}

#[test]
fn nothing_is_allocated_for_a_chunk() {
    let (parts, short, long) = (100, 16 << 20, 64 << 20);
    let [few, many] = [short, long].map(|part| upload(parts, part).0.allocations);
    // A stripe of 64 chunks takes a few: its job, and its answer's place.
    let stripes = parts * (long - short) / STRIPE as u64;
    let each = many.saturating_sub(few) as f64 / stripes as f64;
    assert!(each < 8.0, "{each} allocations for each stripe of 64 chunks");
}

/// Fails at the very end, so that a ledger of 9,999 parts is read again, and nothing of them is sent again.
#[test]
fn the_longest_object_is_uploaded_resumed_and_opened() {
    let parts = 9_999;
    let soak = std::env::var_os("SEALIFT_SOAK").is_some();
    let part = if soak { largest_part() } else { 32 << 20 };
    let len = parts * part;
    assert!(!soak || (48 * TIB..49 * TIB).contains(&len));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (kms, engine) = world();
    let (store, ledgers) = (Counting::new(), tempfile::tempdir().unwrap());
    store.refuses_complete.store(true, Relaxed);
    let options =
        UploadOptions { part_size: Some(part), ledger: Some(ledgers.path().to_owned()), ..UploadOptions::default() };
    let recipients = [Recipient { kms: kms.clone(), key: kms.id().to_owned() }];
    let key: ObjectKey = "object".parse().unwrap();
    let begun = Instant::now();
    let upload = engine.upload(store.clone(), key.clone(), Virtual::new(len), &recipients, options);
    let failed = runtime.block_on(upload).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    println!("{:.2} TiB sealed in {:?}", len as f64 / TIB as f64, begun.elapsed());

    let sent = store.bytes.load(Relaxed);
    store.refuses_complete.store(false, Relaxed);
    let entry = list_uploads(ledgers.path()).unwrap().pop().unwrap();
    let pending = PendingUpload::open(ledgers.path(), &entry.id).unwrap();
    let trusted = Trusted::new(vec![(kms.clone(), TrustedKeys::Any)]);
    let begun = Instant::now();
    let resume = engine.resume(pending, store.clone(), Virtual::new(len), &trusted, ResumeOptions::default());
    let uploaded = runtime.block_on(resume).unwrap();
    println!("resumed in {:?}", begun.elapsed());
    assert_eq!((uploaded.parts, uploaded.plain_len), (9_999, len));
    // At most the tail was sent again: what has the manifest in it.
    let again = store.bytes.load(Relaxed) - sent;
    assert!(again < 4 << 20, "{again} bytes were sent again");

    let begun = Instant::now();
    let reader = runtime.block_on(engine.open(store.clone(), key, &trusted, &ReadOptions::default())).unwrap();
    println!("opened in {:?}", begun.elapsed());
    assert_eq!(reader.len(), len);
    assert_eq!(reader.manifest().parts().len(), 9_999);
    assert!(reader.manifest().parts().iter().all(|found| found.len == part));
    let body: u64 = reader.manifest().parts().iter().map(|part| sealed_len(part.len).unwrap()).sum();
    assert!(reader.info().len > body && reader.info().len < body + (2 << 20));
}

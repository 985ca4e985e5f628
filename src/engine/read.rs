//! Reading objects: nothing is released before the chunk that holds it is authenticated.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::{self, BoxStream, FuturesOrdered, Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use super::buffers::Buffer;
use super::control::{Meter, ProgressCallback};
use super::workers::{BLOCK, Gather, Scratch};
use super::{Engine, Shared};
use crate::crypto::{Backend, CHUNK, Crc64, DataKey, HEADER, Opener, SEALED_CHUNK, SEALED_STRIPE, STRIPE_CHUNKS};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::format::{Envelope, Layout, Manifest, Piece, TAIL_READ, context, trailer};
use crate::kms::recipients::Trusted;
use crate::store::{GetObject, MultipartStore, ObjectInfo};
use crate::types::{ByteRange, EncryptionContext, ObjectKey, WrappedKey};

/// How many spans of an object are fetched at once.
const SPANS: usize = 8;
/// Stripes that one request fetches, if the memory budget allows: a whole part of the default size.
const SPAN_STRIPES: u32 = 16;

/// What a reader demands of an object besides that it opens.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Pairs that the object's encryption context must have.
    pub context: EncryptionContext,
    /// That the object is bound to the bucket and key it is read from.
    pub bound: bool,
}

/// How an object is written to a file.
#[derive(Clone, Default)]
pub struct GetOptions {
    /// Whether a file that is there may be replaced.
    pub overwrite: bool,
    /// Told how far it is.
    pub progress: Option<ProgressCallback>,
}

impl fmt::Debug for GetOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetOptions").field("overwrite", &self.overwrite).finish_non_exhaustive()
    }
}

/// A sealed object, open for reading. Cheap to clone; every read may run beside others.
///
/// All reads are of the object as it was when it was opened: if it is replaced meanwhile, they fail with
/// [`Changed`](ErrorKind::Changed).
#[derive(Clone)]
pub struct Reader(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    store: Arc<dyn MultipartStore>,
    key: ObjectKey,
    info: ObjectInfo,
    envelope: Envelope,
    data_key: DataKey,
    recipient: usize,
    manifest: Manifest,
    layout: Layout,
    /// For each part, its key, once its header was checked.
    openers: Vec<OnceLock<Arc<Opener>>>,
}

/// What [`Reader::verify`] found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Parts of which every chunk opened.
    pub parts: usize,
    /// Bytes of plaintext they hold.
    pub plain_len: u64,
    /// Whether the parts had checksums to compare with as well.
    pub checksums: bool,
}

impl Engine {
    /// Opens an object: one request to the store, a second if it has more than 1,393 parts, and one call to the key service.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`NotSealed`](ErrorKind::NotSealed),
    /// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat), [`Malformed`](ErrorKind::Malformed),
    /// [`KeyUnavailable`](ErrorKind::KeyUnavailable) if none of `trusted` is among the object's recipients or can be used now,
    /// [`Authentication`](ErrorKind::Authentication) if the object was altered or is not what the reader demands.
    pub async fn open(
        &self,
        store: Arc<dyn MultipartStore>,
        key: ObjectKey,
        trusted: &Trusted,
        options: &ReadOptions,
    ) -> Result<Reader> {
        let found = fetch_tail(store.as_ref(), &key).await?;
        options.check(&key, &found.envelope)?;
        let data_keys = found.envelope.data_keys();
        let Unlocked { data_key, recipient, manifest } =
            found.unlock(self.backend(), store.as_ref(), &key, trusted, data_keys).await?;
        let layout = Layout::new(&manifest);
        let openers = layout.parts().iter().map(|_| OnceLock::new()).collect();
        let Tail { info, envelope, .. } = found;
        let shared = Arc::clone(self.shared());
        Ok(Reader(Arc::new(Inner {
            shared,
            store,
            key,
            info,
            envelope,
            data_key,
            recipient,
            manifest,
            layout,
            openers,
        })))
    }
}

/// An object's end, and what its metadata says.
pub(crate) struct Tail {
    pub(crate) info: ObjectInfo,
    pub(crate) envelope: Envelope,
    bytes: Vec<u8>,
}

/// A data key that opens the object, who unwrapped it, and what it opened.
pub(crate) struct Unlocked {
    pub(crate) data_key: DataKey,
    /// Index into the data keys that were to be tried.
    pub(crate) recipient: usize,
    pub(crate) manifest: Manifest,
}

impl ReadOptions {
    pub(crate) fn check(&self, key: &ObjectKey, envelope: &Envelope) -> Result<()> {
        if self.bound && !envelope.is_bound() {
            return Err(Error::new(
                ErrorKind::Authentication,
                format!("{key} is not bound to its name, as was demanded"),
            ));
        }
        if self.context.pairs().any(|(name, value)| envelope.context().get(name) != Some(value)) {
            return Err(Error::new(
                ErrorKind::Authentication,
                format!("{key} was not sealed with the encryption context that was demanded"),
            ));
        }
        Ok(())
    }
}

/// The envelope of the object that `info` describes.
pub(crate) fn envelope_of(store: &dyn MultipartStore, key: &ObjectKey, info: &ObjectInfo) -> Result<Envelope> {
    Envelope::from_metadata(&info.properties.metadata).map_err(|e| {
        if e.kind() != ErrorKind::NotSealed {
            return e.while_doing(key);
        }
        let place = store.metadata_place(key).map_or_else(String::new, |place| format!(" (looked for {place})"));
        let why = "has no envelope: it was not sealed by Sealift, or its metadata was lost";
        Error::new(ErrorKind::NotSealed, format!("{key} {why}{place}"))
    })
}

/// Fetches the last bytes of an object with its metadata.
pub(crate) async fn fetch_tail(store: &dyn MultipartStore, key: &ObjectKey) -> Result<Tail> {
    let got = match store.get(key, Some(ByteRange::Suffix(TAIL_READ)), None).await {
        // An empty body has no last bytes. A sealed object is never empty.
        Err(e) if e.kind() == ErrorKind::RangeNotSatisfiable => {
            envelope_of(store, key, &store.head(key).await?)?;
            return Err(Error::new(ErrorKind::Malformed, format!("{key} has an envelope, and no body")));
        }
        got => got?,
    };
    let envelope = envelope_of(store, key, &got.info)?;
    let end = got.info.len;
    if got.range != (end.saturating_sub(TAIL_READ)..end) {
        return Err(unexpected_range(key));
    }
    let GetObject { info, range, body } = got;
    // At most what was asked for: the range was compared.
    let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(|_| wrong_length())?];
    let mut body = Body::new(body);
    body.read(&mut bytes).await?;
    body.end().await?;
    Ok(Tail { info, envelope, bytes })
}

impl Tail {
    /// The encryption context that the object's data keys are wrapped with.
    pub(crate) fn kms_context(&self, store: &dyn MultipartStore, key: &ObjectKey) -> EncryptionContext {
        let bound_to = self.envelope.is_bound().then(|| (store.bucket(), key.as_str()));
        Envelope::kms_context(self.envelope.object_id(), self.envelope.context(), bound_to)
    }

    /// Unwraps the object's data key by the first of `data_keys` that is trusted and whose data key opens the trailer.
    pub(crate) async fn unlock(
        &self,
        backend: Backend,
        store: &dyn MultipartStore,
        key: &ObjectKey,
        trusted: &Trusted,
        data_keys: &[WrappedKey],
    ) -> Result<Unlocked> {
        let trailer = self.trailer(store, key).await?;
        let mut manifest = None;
        let unwrapped = trusted
            .unwrap(data_keys, &self.kms_context(store, key), |data_key| {
                let opened = trailer::open(backend, data_key, self.envelope.object_id(), &trailer, self.info.len);
                // A trailer that opens, and is wrong inside, is this object's: no other key will make it right.
                let is_the_key = !matches!(&opened, Err(e) if e.kind() == ErrorKind::Authentication);
                manifest = Some(opened);
                is_the_key
            })
            .await;
        let named = |e: Error| e.while_doing(format_args!("opening {key}"));
        let (data_key, recipient) = unwrapped.map_err(|e| match (e.kind(), self.envelope.is_bound()) {
            (ErrorKind::Authentication, true) => {
                named(e.while_doing("it is bound to the name it was put under, and does not open under another"))
            }
            _ => named(e),
        })?;
        let missing = || Err(Error::new(ErrorKind::Internal, "a data key was taken unchecked"));
        let manifest = manifest.unwrap_or_else(missing).map_err(named)?;
        Ok(Unlocked { data_key, recipient, manifest })
    }

    /// Whether the body that `other` was read from is this one, as far as its length and end tell.
    pub(crate) fn ends_like(&self, other: &Self) -> bool {
        self.info.len == other.info.len && self.bytes == other.bytes
    }

    /// The whole trailer, fetched if it is longer than the tail.
    pub(crate) async fn trailer(&self, store: &dyn MultipartStore, key: &ObjectKey) -> Result<Vec<u8>> {
        let named = |e: Error| e.while_doing(key);
        let len = trailer::len_at_end(&self.bytes, self.info.len).map_err(named)?;
        if let Some(start) = (self.bytes.len() as u64).checked_sub(len) {
            return Ok(self.bytes.get(start as usize..).unwrap_or_default().to_vec());
        }
        let mut trailer = vec![0; usize::try_from(len).map_err(|_| wrong_length())?];
        let mut body = fetch(store, key, &self.info, self.info.len - len..self.info.len).await?;
        body.read(&mut trailer).await?;
        body.end().await?;
        Ok(trailer)
    }
}

/// Asks for `range` of the very object that `info` describes.
async fn fetch(store: &dyn MultipartStore, key: &ObjectKey, info: &ObjectInfo, range: Range<u64>) -> Result<Body> {
    let asked = ByteRange::Inclusive { first: range.start, last: range.end.saturating_sub(1) };
    let got = store.get(key, Some(asked), Some(&info.etag)).await?;
    if got.range != range || got.info.len != info.len {
        return Err(unexpected_range(key));
    }
    Ok(Body::new(got.body))
}

fn unexpected_range(key: &ObjectKey) -> Error {
    Error::new(ErrorKind::Io, format!("the store answered with another range of {key} than it was asked for"))
}

fn wrong_length() -> Error {
    Error::new(ErrorKind::Io, "the store sent another number of bytes than it announced").with_retry(Retry::Yes)
}

impl Reader {
    /// Length in bytes of plaintext.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.layout.plain_len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the store knows of it.
    #[must_use]
    pub fn info(&self) -> &ObjectInfo {
        &self.0.info
    }

    /// Its envelope.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.0.envelope
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// The wrapped data key that opened it.
    #[must_use]
    pub fn opened_with(&self) -> Option<&WrappedKey> {
        self.0.envelope.data_keys().get(self.0.recipient)
    }

    /// Its data key, to be handed over on purpose: to escrow, or to another program that reads the format.
    #[must_use]
    pub fn data_key(&self) -> &DataKey {
        &self.0.data_key
    }

    /// The plaintext of `range`, all of it in memory.
    ///
    /// # Errors
    /// [`RangeNotSatisfiable`](ErrorKind::RangeNotSatisfiable) if it holds no byte, [`Authentication`](ErrorKind::Authentication) if
    /// a byte of the chunks concerned was altered, [`Changed`](ErrorKind::Changed) if the object was replaced, and what the store says.
    pub async fn read_range(&self, range: ByteRange) -> Result<Vec<u8>> {
        let range = range.resolve(self.len())?;
        let too_long = || Error::new(ErrorKind::LimitExceeded, "the range does not fit in memory: stream it");
        let mut out = Vec::new();
        let len = usize::try_from(range.end - range.start).map_err(|_| too_long())?;
        out.try_reserve_exact(len).map_err(|e| too_long().with_source(e))?;
        let mut stream = std::pin::pin!(self.stream(range));
        while let Some(bytes) = stream.try_next().await? {
            out.extend_from_slice(&bytes);
        }
        Ok(out)
    }

    /// The plaintext of `range`, in order, as it is authenticated, some spans ahead of whoever takes it. What of it lies past the end is
    /// left out. Ends with its first error. Bytes that were handed out are the caller's memory, and no longer in the budget.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        self.0
            .opened(range, 2, Inner::open_to_memory)
            .map_ok(|opened| stream::iter(opened.stripes.into_iter().map(Ok)).chain(drop_at_end(opened.credits)))
            .try_flatten()
    }

    /// Writes the object to `path`. The file appears there when it is whole, authenticated and on disk; until then what was there stays.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if there is a file and it may not be replaced; otherwise as
    /// [`read_range`](Self::read_range).
    pub async fn write_to_file(&self, path: &Path, options: GetOptions) -> Result<()> {
        let doing = |what: &str| format!("{what} {}", path.display());
        let exists = || Error::new(ErrorKind::AlreadyExists, format!("{} exists already", path.display()));
        if !options.overwrite && std::fs::symlink_metadata(path).is_ok() {
            return Err(exists());
        }
        if path.is_dir() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{} is a directory: name a file", path.display())));
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temp = tempfile::Builder::new()
            .prefix(".sealift-partial-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(dir)
            .map_err(|e| Error::io(doing("writing"), e))?;
        let (file, temp) = temp.into_parts();
        let file = Arc::new(file);
        let target = Arc::clone(&file);
        let meter = Meter::new(Some(self.len()), options.progress);
        let write = move |stripe: Stripe, sealed: Buffer, scratch: &mut Scratch| {
            stripe.open_blocks(sealed.as_ref(), scratch, |at, plain| {
                target.write_all_at(plain, at).map_err(|e| Error::io("writing the file", e))?;
                meter.sealed(plain.len() as u64);
                meter.done(plain.len() as u64);
                Ok(())
            })
        };
        self.0.opened(0..self.len(), 1, write).try_for_each(|_| std::future::ready(Ok(()))).await?;
        let workers = &self.0.shared.workers;
        let failed = doing("putting on disk");
        workers.blocking(move || file.sync_all().map_err(|e| Error::io(failed, e))).await?;
        // Here and not on a worker, so that the file is gone whenever this future is dropped before.
        let done = if options.overwrite { temp.persist(path) } else { temp.persist_noclobber(path) };
        done.map_err(|e| Error::io(doing("putting in place"), e.error))?;
        let (dir, failed) = (dir.to_owned(), doing("putting on disk"));
        workers
            .blocking(move || File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io(failed, e)))
            .await
    }

    /// Opens everything and keeps nothing: every chunk is authenticated, and every part compared with its checksum if it has one.
    ///
    /// # Errors
    /// As [`read_range`](Self::read_range).
    pub async fn verify(&self, progress: Option<ProgressCallback>) -> Result<Verified> {
        let inner = &self.0;
        let checksums = inner.manifest.checksums();
        let meter = Meter::new(Some(self.len()), progress);
        let check = move |stripe: Stripe, sealed: Buffer, scratch: &mut Scratch| {
            let (mut crc, mut len) = (Crc64::new(), 0);
            stripe.open_blocks(sealed.as_ref(), scratch, |_, plain| {
                if checksums {
                    crc.update(plain);
                }
                len += plain.len() as u64;
                meter.sealed(plain.len() as u64);
                meter.done(plain.len() as u64);
                Ok(())
            })?;
            Ok((crc.value(), len))
        };
        let mut spans = std::pin::pin!(inner.opened(0..self.len(), 1, check));
        let mut found = BTreeMap::new();
        while let Some(Opened { part, stripes, .. }) = spans.try_next().await? {
            let crc = found.entry(part).or_insert(0);
            for (stripe, len) in stripes.into_iter().filter(|_| checksums) {
                *crc = Crc64::combine(*crc, stripe, len);
            }
        }
        if checksums {
            for (part, crc) in inner.manifest.parts().iter().zip(found.into_values()) {
                if part.crc64 != crc {
                    let error =
                        Error::new(ErrorKind::Authentication, "a part opens, but not to what was recorded of it");
                    return Err(error.with_part(part.number));
                }
            }
        }
        Ok(Verified { parts: inner.manifest.parts().len(), plain_len: self.len(), checksums })
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("key", &self.0.key).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Ends a stream by giving `credits` back, when what was before them has been taken.
fn drop_at_end(credits: OwnedSemaphorePermit) -> impl Stream<Item = Result<Bytes>> {
    stream::once(async move { drop(credits) }).filter_map(|()| async { None })
}

/// A span whose stripes are open, and the credits for what they hold.
struct Opened<T> {
    part: usize,
    stripes: Vec<T>,
    credits: OwnedSemaphorePermit,
}

/// Chunks of one part that one request fetches.
struct Span {
    part: usize,
    chunks: Range<u64>,
    sealed: Range<u64>,
    last: bool,
    skip: usize,
    take: u64,
    /// Offset in the object's plaintext of the first byte taken.
    at: u64,
}

/// At most 64 chunks of a span, opened by one worker.
struct Stripe {
    opener: Arc<Opener>,
    first_chunk: u64,
    last: bool,
    /// Plaintext bytes to drop at the front, and to take after those.
    skip: usize,
    take: usize,
    /// Offset in the object's plaintext of the first byte taken.
    at: u64,
    name: Arc<str>,
}

impl Span {
    /// The beginning of a piece: at most `max` chunks, and one more if that is the part's last. `at` is the offset of the piece's first
    /// plaintext byte that is wanted.
    fn first_of(piece: Piece, at: u64, max: u64) -> Self {
        let Piece { part, chunks, sealed, last, skip, take } = piece;
        let count = chunks.end - chunks.start;
        if count <= max || (last && count == max + 1) {
            return Self { part, chunks, sealed, last, skip, take, at };
        }
        let end = sealed.start + max * SEALED_CHUNK as u64;
        let take = take.min(max * CHUNK as u64 - skip as u64);
        Self { part, chunks: chunks.start..chunks.start + max, sealed: sealed.start..end, last: false, skip, take, at }
    }

    fn stripes(&self) -> u32 {
        u32::try_from((self.chunks.end - self.chunks.start).div_ceil(STRIPE_CHUNKS as u64)).unwrap_or(u32::MAX)
    }
}

impl Stripe {
    /// Opens block by block into `scratch` and hands over what is wanted, with its offset, while it is in cache.
    fn open_blocks(
        &self,
        sealed: &[u8],
        scratch: &mut Scratch,
        mut take: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let blocks = sealed.chunks(BLOCK / CHUNK * SEALED_CHUNK);
        let count = blocks.len();
        let (mut skip, mut left, mut at) = (self.skip, self.take, self.at);
        for (n, block) in blocks.enumerate() {
            let last = self.last && n + 1 == count;
            let chunk = self.first_chunk + (n * (BLOCK / CHUNK)) as u64;
            let len = self.open(chunk, block, last, scratch)?;
            let from = skip.min(len);
            let to = len.min(from + left);
            if from < to {
                take(at, scratch.get(from..to).unwrap_or_default())?;
            }
            skip -= from;
            left -= to - from;
            at += (to - from) as u64;
        }
        Ok(())
    }

    fn open(&self, chunk: u64, sealed: &[u8], last: bool, out: &mut [u8]) -> Result<usize> {
        let chunks = sealed.len().div_ceil(SEALED_CHUNK);
        let len = sealed.len().saturating_sub(chunks * (SEALED_CHUNK - CHUNK));
        let out = out.get_mut(..len).ok_or_else(|| Error::new(ErrorKind::Internal, "a block outgrew its buffer"))?;
        self.opener.open(chunk, sealed, last, out).map_err(|e| e.while_doing(&self.name))
    }
}

impl Inner {
    /// Opens `range` span by span, in order. A stripe takes `cost` credits.
    ///
    /// Spans ahead of the one that is awaited are fetched only while half of the budget is free, and where it is short, that one is a
    /// single stripe: readers that nobody polls keep others from being fast, not from going on.
    fn opened<T, F>(
        self: &Arc<Self>,
        range: Range<u64>,
        cost: u32,
        open: F,
    ) -> impl Stream<Item = Result<Opened<T>>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Fn(Stripe, Buffer, &mut Scratch) -> Result<T> + Clone + Send + Sync + 'static,
    {
        let end = range.end.min(self.layout.plain_len());
        let (inner, in_flight) = (Arc::clone(self), FuturesOrdered::new());
        let most = (self.shared.held_stripes() / (2 * cost)).clamp(1, SPAN_STRIPES / cost);
        stream::try_unfold((range.start, in_flight), move |(mut at, mut in_flight)| {
            let (inner, open) = (Arc::clone(&inner), open.clone());
            async move {
                let buffers = &inner.shared.buffers;
                while in_flight.len() < SPANS {
                    let Some(mut span) = inner.next_span(at..end, most) else { break };
                    let credits = match buffers.spare_credits(cost * span.stripes()) {
                        Some(credits) => credits,
                        None if !in_flight.is_empty() => break,
                        None => match buffers.free_credits(cost * span.stripes()) {
                            Some(credits) => credits,
                            None => {
                                let Some(short) = inner.next_span(at..end, 1) else { break };
                                span = short;
                                buffers.credits(cost * span.stripes()).await?
                            }
                        },
                    };
                    at += span.take;
                    let (inner, open) = (Arc::clone(&inner), open.clone());
                    in_flight.push_back(async move {
                        let stripes = inner.open_span(&span, open).await?;
                        Ok(Opened { part: span.part, stripes, credits })
                    });
                }
                let next = in_flight.try_next().await?;
                Ok(next.map(|opened| (opened, (at, in_flight))))
            }
        })
    }

    /// The first chunks of `range`, as many as are in one part and in `stripes` stripes; one more if the part ends with it, since
    /// that one may be empty.
    fn next_span(&self, range: Range<u64>, stripes: u32) -> Option<Span> {
        let at = range.start;
        let piece = self.layout.pieces(range).next()?;
        Some(Span::first_of(piece, at, u64::from(stripes) * STRIPE_CHUNKS as u64))
    }

    /// Fetches a span stripe by stripe; each is handed to a worker as soon as it is there. The answers are in order.
    async fn open_span<T: Send + 'static>(
        self: &Arc<Self>,
        span: &Span,
        open: impl Fn(Stripe, Buffer, &mut Scratch) -> Result<T> + Clone + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        let store = self.store.as_ref();
        let part = self.layout.parts().get(span.part).ok_or_else(|| Error::new(ErrorKind::Internal, "no such part"))?;
        let cell = self.openers.get(span.part).ok_or_else(|| Error::new(ErrorKind::Internal, "no such part"))?;
        let (mut body, opener) = match cell.get() {
            Some(opener) => (fetch(store, &self.key, &self.info, span.sealed.clone()).await?, Arc::clone(opener)),
            // A span that begins with the part brings the header along.
            None if span.chunks.start == 0 => {
                let range = part.sealed.start..span.sealed.end;
                let mut body = fetch(store, &self.key, &self.info, range).await?;
                let mut header = [0; HEADER];
                body.read(&mut header).await?;
                (body, self.opener(span.part, &header)?)
            }
            None => {
                let header = async {
                    let range = part.sealed.start..part.sealed.start + HEADER as u64;
                    let mut body = fetch(store, &self.key, &self.info, range).await?;
                    let mut header = [0; HEADER];
                    body.read(&mut header).await?;
                    Ok(header)
                };
                let body = fetch(store, &self.key, &self.info, span.sealed.clone());
                let (body, header) = futures::future::try_join(body, header).await?;
                (body, self.opener(span.part, &header)?)
            }
        };
        let name: Arc<str> = format!("{} (part {})", self.key, part.number).into();
        let (mut chunk, mut left, mut skip, mut take, mut at) =
            (span.chunks.start, span.sealed.end - span.sealed.start, span.skip, span.take, span.at);
        let mut opening = Gather::new();
        while left > 0 {
            let len = left.min(SEALED_STRIPE as u64) as usize;
            let mut sealed = self.shared.buffers.take();
            body.read(sealed.space().get_mut(..len).unwrap_or_default()).await?;
            sealed.set_filled(len);
            left -= len as u64;
            let chunks = len.div_ceil(SEALED_CHUNK);
            let plain = (len - chunks * (SEALED_CHUNK - CHUNK)).saturating_sub(skip) as u64;
            let stripe = Stripe {
                opener: Arc::clone(&opener),
                first_chunk: chunk,
                last: span.last && left == 0,
                skip,
                take: plain.min(take) as usize,
                at,
                name: Arc::clone(&name),
            };
            chunk += chunks as u64;
            at += plain.min(take);
            take -= plain.min(take);
            skip = 0;
            let open = open.clone();
            opening.run(&self.shared.workers, move |scratch| open(stripe, sealed, scratch))?;
        }
        body.end().await?;
        opening.all().await
    }

    /// Opens a stripe into a buffer of its own.
    fn open_to_memory(stripe: Stripe, sealed: Buffer, _: &mut Scratch) -> Result<Bytes> {
        let mut plain = sealed.another();
        let len = stripe.open(stripe.first_chunk, sealed.as_ref(), stripe.last, plain.space())?;
        plain.set_filled(len);
        let from = stripe.skip.min(len);
        Ok(plain.freeze().slice(from..len.min(from + stripe.take)))
    }

    /// The key of a part, once its header is found to be that of the sealing that the manifest names.
    fn opener(&self, index: usize, header: &[u8; HEADER]) -> Result<Arc<Opener>> {
        let missing = || Error::new(ErrorKind::Internal, "no such part");
        let part = self.layout.parts().get(index).ok_or_else(missing)?;
        let cell = self.openers.get(index).ok_or_else(missing)?;
        let named = |e: Error| e.while_doing(&self.key).with_part(part.number);
        if !header.starts_with(part.salt.as_bytes()) {
            let message = "this is not the sealing of the part that the object was made of";
            return Err(named(Error::new(ErrorKind::Authentication, message)));
        }
        let context = context::part(self.envelope.object_id(), part.number);
        let opener = Opener::begin(self.shared.backend, &self.data_key, &context, header).map_err(named)?;
        Ok(Arc::clone(cell.get_or_init(|| Arc::new(opener))))
    }
}

/// A body read in pieces of the reader's own size.
struct Body {
    stream: BoxStream<'static, Result<Bytes>>,
    rest: Bytes,
}

impl Body {
    fn new(stream: BoxStream<'static, Result<Bytes>>) -> Self {
        Self { stream, rest: Bytes::new() }
    }

    /// Fills `out`.
    async fn read(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            if self.rest.is_empty() {
                self.rest = self.stream.try_next().await?.ok_or_else(wrong_length)?;
                continue;
            }
            let n = out.len().min(self.rest.len());
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&self.rest.split_to(n));
            out = later;
        }
        Ok(())
    }

    /// Makes sure that nothing follows.
    async fn end(mut self) -> Result<()> {
        while self.rest.is_empty() {
            match self.stream.try_next().await? {
                Some(bytes) => self.rest = bytes,
                None => return Ok(()),
            }
        }
        Err(wrong_length())
    }
}

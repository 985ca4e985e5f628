//! Reading objects that were stored as they are. Only whoever asks for it gets bytes that nothing authenticates.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::ahead::{Fetchable, flow, in_order};
use super::fetch::{Fetch, Origin};
use super::file::{GetOptions, Target, Written};
use super::tail::{fetch_end, whole_body};
use super::{ReadOptions, drop_at_end};
use crate::crypto::STRIPE;
use crate::engine::retries::Retries;
use crate::engine::seal::room_of;
use crate::engine::{Engine, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Envelope, trailer, unsealed_by};
use crate::store::{MultipartStore, ObjectInfo};
use crate::types::ObjectKey;

/// An object that is not sealed, open for reading: nobody vouches for what is read. Cheap to clone.
///
/// All reads are of the object as it was when it was opened: if it is replaced meanwhile, they fail with
/// [`Changed`](ErrorKind::Changed). One of up to 64 KiB comes with the request that opens it, and is kept and read as by
/// [`Reader`](super::Reader).
#[derive(Clone)]
pub struct UnsealedReader(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    store: Arc<dyn MultipartStore>,
    key: ObjectKey,
    info: ObjectInfo,
    /// All of the body, if opening it brought that: then it is read from here.
    whole: Option<Bytes>,
    retries: Arc<Retries>,
    max_in_flight: Option<u32>,
}

/// Bytes that one request fetches.
struct Span(Range<u64>);

impl Fetchable for Span {
    fn take(&self) -> u64 {
        self.0.end - self.0.start
    }

    fn stripes(&self) -> u32 {
        u32::try_from(self.take().div_ceil(STRIPE as u64)).unwrap_or(u32::MAX)
    }
}

/// A span that was fetched.
struct Fetched {
    at: u64,
    pieces: Vec<Bytes>,
}

impl Engine {
    /// Opens an object that is not sealed: whatever program stored it. One request to the store.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is sealed (which [`open`](Self::open) opens), or ends like a sealed object whose
    /// envelope was lost, or if `options` demand what only a sealed object has; [`NotFound`](ErrorKind::NotFound).
    pub async fn open_unsealed(
        &self,
        store: Arc<dyn MultipartStore>,
        key: ObjectKey,
        options: &ReadOptions,
    ) -> Result<UnsealedReader> {
        if options.bound || !options.context.is_empty() {
            let message = "an object that is not sealed has no encryption context, and is not bound to its name";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let retries = Arc::new(Retries::new(options.retry.clone()));
        let (info, end) = retries.run(self.shared(), || fetch_end(store.as_ref(), &key)).await?;
        let metadata = &info.properties.metadata;
        let is_sealed = !matches!(Envelope::from_metadata(metadata), Err(e) if e.kind() == ErrorKind::NotSealed);
        // What carries our mark may well be a copy of a sealed body.
        let looks_sealed = unsealed_by(metadata).is_none() && trailer::len_at_end(&end, info.len).is_ok();
        if is_sealed || looks_sealed {
            let how = if is_sealed { "is sealed" } else { "is a sealed object without its envelope" };
            return Err(Error::new(ErrorKind::InvalidInput, format!("{key} {how}: it is not read as it is stored")));
        }
        let (shared, max_in_flight) = (Arc::clone(self.shared()), options.max_in_flight);
        let whole = whole_body(&info, end);
        Ok(UnsealedReader(Arc::new(Inner { shared, store, key, info, whole, retries, max_in_flight })))
    }
}

impl UnsealedReader {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.info.len
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

    /// The bytes of `range`, in order, some spans ahead of whoever takes them. What of it lies past the end is left out. Ends with its
    /// first error.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        self.fetched(range, |fetched| async { Ok(fetched) })
            .map_ok(|(fetched, credits)| stream::iter(fetched.pieces.into_iter().map(Ok)).chain(drop_at_end(credits)))
            .try_flatten()
    }

    /// Writes the object to `path`. The file appears there when it is whole and on disk; until then what was there stays.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if there is a file and it may not be replaced, or another process is writing it;
    /// [`Changed`](ErrorKind::Changed) if the object was replaced, and what the store says.
    pub async fn write_to_file(&self, path: &Path, options: GetOptions) -> Result<Written> {
        let target = Target { shared: &self.0.shared, path, len: self.len(), object: self.fingerprint() };
        let write = |file: Arc<std::fs::File>, from, meter: super::Meter| {
            let (shared, path) = (Arc::clone(&self.0.shared), Arc::<Path>::from(path));
            self.fetched(from..self.len(), move |Fetched { at, pieces }| {
                let (file, shared, meter, path) =
                    (Arc::clone(&file), Arc::clone(&shared), meter.clone(), Arc::clone(&path));
                async move {
                    let write = move || {
                        let mut end = at;
                        for bytes in pieces {
                            use std::os::unix::fs::FileExt as _;
                            file.write_all_at(&bytes, end)
                                .map_err(|e| Error::io(format!("writing {}", path.display()), e))?;
                            end += bytes.len() as u64;
                        }
                        meter.sealed(end - at);
                        meter.done(end - at);
                        Ok(end)
                    };
                    shared.workers.blocking(write).await
                }
            })
        };
        target.write(options, |file, from, meter| write(file, from, meter).map_ok(|(end, _)| end)).await
    }

    /// Fetches `range` span by span. What is done with each is done before it counts as fetched, beside the others.
    fn fetched<T, W, F>(
        &self,
        range: Range<u64>,
        with: W,
    ) -> impl Stream<Item = Result<(T, Option<OwnedSemaphorePermit>)>> + Send + use<T, W, F>
    where
        T: Send + 'static,
        W: Fn(Fetched) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        let inner = Arc::clone(&self.0);
        let end = range.end.min(self.len());
        let next = |range: Range<u64>, stripes: u32| {
            let end = range.end.min(range.start.saturating_add(u64::from(stripes) * STRIPE as u64));
            (range.start < end).then_some(Span(range.start..end))
        };
        let flow = flow(self.0.store.as_ref(), self.0.max_in_flight);
        let (shared, retries) = (Arc::clone(&self.0.shared), Arc::clone(&self.0.retries));
        in_order(shared, retries, flow, range.start..end, 0, next, move |Span(range), credits| {
            let (inner, with) = (Arc::clone(&inner), with.clone());
            async move {
                let at = range.start;
                Ok((with(Fetched { at, pieces: inner.fetch(range).await? }).await?, credits))
            }
        })
    }

    /// Tells one state of the object from any other, as its store does.
    fn fingerprint(&self) -> [u8; 32] {
        let Inner { info, .. } = &*self.0;
        Sha256::new_with_prefix(b"sealift unsealed")
            .chain_update(info.len.to_be_bytes())
            .chain_update(info.etag.0.as_bytes())
            .finalize()
            .into()
    }
}

impl Inner {
    async fn fetch(&self, range: Range<u64>) -> Result<Vec<Bytes>> {
        let Self { shared, store, key, info, whole, retries, .. } = self;
        let origin = Origin { shared, store: store.as_ref(), key, retries };
        let mut left = range.end - range.start;
        let mut body = Fetch { origin, info, whole: whole.as_ref() }.range(range).await?;
        let mut pieces = Vec::new();
        while left > 0 {
            let len = left.min(STRIPE as u64) as usize;
            let mut buffer = shared.buffers.take();
            body.read(room_of(buffer.space(), len)?).await?;
            buffer.set_filled(len);
            pieces.push(buffer.freeze());
            left -= len as u64;
        }
        body.end().await?;
        Ok(pieces)
    }
}

impl fmt::Debug for UnsealedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsealedReader").field("key", &self.0.key).field("len", &self.len()).finish_non_exhaustive()
    }
}

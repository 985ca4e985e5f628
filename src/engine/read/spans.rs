//! Spans of an object: fetched several at a time, opened by the workers stripe by stripe, and handed over in order.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::Stream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use super::Inner;
use super::ahead::{Fetchable, flow, in_order};
use super::fetch::{Body, Fetch};
use crate::crypto::{CHUNK, HEADER, Opener, SEALED_CHUNK, SEALED_STRIPE, STRIPE_CHUNKS};
use crate::engine::buffers::{Buffer, Buffers};
use crate::engine::workers::{Gather, Scratch};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Piece, context};
use crate::source::ReadAt;

/// A span whose stripes are open.
pub(super) struct Opened<T> {
    pub(super) part: usize,
    pub(super) stripes: Vec<T>,
    /// Offset in the object's plaintext of the first byte behind it.
    pub(super) end: u64,
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
pub(super) struct Stripe {
    opener: Arc<Opener>,
    first_chunk: u64,
    last: bool,
    /// Plaintext bytes to drop at the front, and to take after those.
    skip: usize,
    take: usize,
    /// Offset in the object's plaintext of the first byte taken.
    pub(super) at: u64,
    name: Arc<str>,
}

/// A stripe's sealed bytes.
pub(super) enum Sealed {
    /// Fetched.
    Held(Buffer),
    /// In a store on this machine, to be read by whoever opens them.
    At { body: Arc<dyn ReadAt>, offset: u64, len: usize, buffers: Arc<Buffers> },
}

impl Sealed {
    /// Lent, or read into `room`.
    fn bytes<'a>(&'a self, room: &'a mut [u8]) -> Result<&'a [u8]> {
        match self {
            Self::Held(buffer) => Ok(buffer.as_ref()),
            Self::At { body, offset, len, .. } => body.read_at(*offset, *len, room),
        }
    }

    fn another_buffer(&self) -> Buffer {
        match self {
            Self::Held(buffer) => buffer.another(),
            Self::At { buffers, .. } => buffers.take(),
        }
    }
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

    /// Its stripes, each with where its sealed bytes are.
    fn cut(&self, opener: Arc<Opener>, name: Arc<str>) -> impl Iterator<Item = (Range<u64>, Stripe)> + use<> {
        let (mut chunk, mut skip, mut take, mut at) = (self.chunks.start, self.skip, self.take, self.at);
        let (end, is_last) = (self.sealed.end, self.last);
        (self.sealed.start..end).step_by(SEALED_STRIPE).map(move |start| {
            let sealed = start..end.min(start + SEALED_STRIPE as u64);
            let len = (sealed.end - sealed.start) as usize;
            let chunks = len.div_ceil(SEALED_CHUNK);
            let plain = (len - chunks * (SEALED_CHUNK - CHUNK)).saturating_sub(skip) as u64;
            let taken = plain.min(take);
            let (opener, name, last) = (Arc::clone(&opener), Arc::clone(&name), is_last && sealed.end == end);
            let stripe = Stripe { opener, first_chunk: chunk, last, skip, take: taken as usize, at, name };
            chunk += chunks as u64;
            at += taken;
            take -= taken;
            skip = 0;
            (sealed, stripe)
        })
    }
}

impl Fetchable for Span {
    fn take(&self) -> u64 {
        self.take
    }

    fn stripes(&self) -> u32 {
        u32::try_from((self.chunks.end - self.chunks.start).div_ceil(STRIPE_CHUNKS as u64)).unwrap_or(u32::MAX)
    }
}

impl Stripe {
    /// Opens into `scratch` and returns what of it is wanted. Its first byte is at [`at`](Self::at).
    pub(super) fn open_in<'a>(&self, sealed: &Sealed, scratch: &'a mut Scratch) -> Result<&'a [u8]> {
        let Scratch { plain, sealed: room } = scratch;
        let len = self.open(sealed, room, plain)?;
        Ok(plain.get(self.wanted(len)).unwrap_or_default())
    }

    /// Which of its `len` plaintext bytes are.
    fn wanted(&self, len: usize) -> Range<usize> {
        let from = self.skip.min(len);
        from..len.min(from + self.take)
    }

    /// Opens into the beginning of `out`, and returns how many bytes that were. What has to be read, is read into `room`.
    fn open(&self, sealed: &Sealed, room: &mut [u8], out: &mut [u8]) -> Result<usize> {
        let sealed = sealed.bytes(room)?;
        let chunks = sealed.len().div_ceil(SEALED_CHUNK);
        let len = sealed.len().saturating_sub(chunks * (SEALED_CHUNK - CHUNK));
        let out = out.get_mut(..len).ok_or_else(|| Error::new(ErrorKind::Internal, "a stripe outgrew its buffer"))?;
        self.opener.open(self.first_chunk, sealed, self.last, out).map_err(|e| e.while_doing(&self.name))
    }
}

impl Inner {
    /// Opens `range` span by span, in order. Up to `twice` stripes of a span are there sealed and opened at once, while they are opened; any
    /// other takes one buffer.
    pub(super) fn opened<T, F>(
        self: &Arc<Self>,
        range: Range<u64>,
        twice: u32,
        open: F,
    ) -> impl Stream<Item = Result<(Opened<T>, Option<OwnedSemaphorePermit>)>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Fn(Stripe, Sealed, &mut Scratch) -> Result<T> + Clone + Send + Sync + 'static,
    {
        let end = range.end.min(self.layout.plain_len());
        let flow = flow(self.store.as_ref(), self.max_in_flight);
        let (shared, retries) = (Arc::clone(&self.shared), Arc::clone(&self.retries));
        let (cutting, opening) = (Arc::clone(self), Arc::clone(self));
        let next = move |range, stripes| cutting.next_span(range, stripes);
        // Found out once, by the first span: `None` in it means that the store has to be asked for each.
        let body: Arc<OnceCell<Option<Arc<dyn ReadAt>>>> = Arc::default();
        in_order(shared, retries, flow, range.start..end, twice, next, move |span: Span, mut credits| {
            let (inner, open, body) = (Arc::clone(&opening), open.clone(), Arc::clone(&body));
            async move {
                let body = body.get_or_try_init(|| inner.body()).await?.clone();
                let stripes = inner.open_span(&span, body, open).await?;
                drop(credits.split(twice.min(span.stripes()) as usize));
                Ok((Opened { part: span.part, stripes, end: span.at + span.take }, credits))
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

    /// The object's body, if it is not here yet and the store lets the workers read it themselves.
    async fn body(self: &Arc<Self>) -> Result<Option<Arc<dyn ReadAt>>> {
        if !self.is_direct() {
            return Ok(None);
        }
        let open = || {
            let inner = Arc::clone(self);
            self.shared.workers.blocking(move || inner.direct_body())
        };
        self.retries.run(&self.shared, open).await
    }

    /// Whether the object is read from a store on this machine, not from memory.
    pub(super) fn is_direct(&self) -> bool {
        self.whole.is_none() && self.store.direct().is_some()
    }

    /// The object's body in a store on this machine. May block for a disk.
    pub(super) fn direct_body(&self) -> Result<Option<Arc<dyn ReadAt>>> {
        self.store.direct().map_or(Ok(None), |store| store.read_body(&self.key, &self.info.etag))
    }

    /// Fetches a span stripe by stripe, or leaves that to the workers if they can read `body`; each is handed to a worker as soon as it
    /// is there. The answers are in order.
    async fn open_span<T: Send + 'static>(
        self: &Arc<Self>,
        span: &Span,
        body: Option<Arc<dyn ReadAt>>,
        open: impl Fn(Stripe, Sealed, &mut Scratch) -> Result<T> + Clone + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        let (mut fetched, opener) = match &body {
            Some(body) => {
                let (inner, part, body) = (Arc::clone(self), span.part, Arc::clone(body));
                let opener = match self.known_opener(part) {
                    Some(opener) => opener,
                    None => self.shared.workers.run(move |_| inner.opener_at(part, body.as_ref())).await?,
                };
                (None, opener)
            }
            None => {
                let (fetched, opener) = self.begin(span.part, span.chunks.start, &span.sealed).await?;
                (Some(fetched), opener)
            }
        };
        let part = self.layout.parts().get(span.part).ok_or_else(|| Error::new(ErrorKind::Internal, "no such part"))?;
        let name: Arc<str> = format!("{} (part {})", self.key, part.number).into();
        let mut opening = Gather::new();
        for (range, stripe) in span.cut(opener, name) {
            let len = (range.end - range.start) as usize;
            let sealed = match (&mut fetched, &body) {
                (Some(fetched), _) => {
                    let mut buffer = self.shared.buffers.take();
                    fetched.read(buffer.space().get_mut(..len).unwrap_or_default()).await?;
                    buffer.set_filled(len);
                    Sealed::Held(buffer)
                }
                (None, Some(body)) => {
                    let buffers = Arc::clone(&self.shared.buffers);
                    Sealed::At { body: Arc::clone(body), offset: range.start, len, buffers }
                }
                (None, None) => return Err(Error::new(ErrorKind::Internal, "a span comes from nowhere")),
            };
            let open = open.clone();
            opening.run(&self.shared.workers, move |scratch| open(stripe, sealed, scratch))?;
        }
        if let Some(fetched) = fetched {
            fetched.end().await?;
        }
        opening.all().await
    }

    /// The key of a part whose header was checked.
    fn known_opener(&self, index: usize) -> Option<Arc<Opener>> {
        self.openers.get(index)?.get().cloned()
    }

    /// The key of a part whose header can be read from `body`, which may block for a disk.
    pub(super) fn opener_at(&self, index: usize, body: &dyn ReadAt) -> Result<Arc<Opener>> {
        let missing = || Error::new(ErrorKind::Internal, "no such part");
        if let Some(opener) = self.known_opener(index) {
            return Ok(opener);
        }
        let start = self.layout.parts().get(index).ok_or_else(missing)?.sealed.start;
        let mut header = [0; HEADER];
        let read = body.read_at(start, HEADER, &mut header)?.first_chunk().copied();
        let wrong = || Error::new(ErrorKind::Internal, "a body gave another number of bytes than was asked for");
        self.opener(index, &read.ok_or_else(wrong)?)
    }

    /// Asks for `sealed`, which are bytes of a part from its chunk `first_chunk` on, and for the part's header if that is not known yet.
    pub(super) async fn begin(
        &self,
        index: usize,
        first_chunk: u64,
        sealed: &Range<u64>,
    ) -> Result<(Body<'_>, Arc<Opener>)> {
        let fetch = Fetch { origin: self.origin(), info: &self.info, whole: self.whole.as_ref() };
        let missing = || Error::new(ErrorKind::Internal, "no such part");
        let part = self.layout.parts().get(index).ok_or_else(missing)?;
        if let Some(opener) = self.known_opener(index) {
            return Ok((fetch.range(sealed.clone()).await?, opener));
        }
        let mut header = [0; HEADER];
        // A span that begins with the part brings the header along.
        if first_chunk == 0 {
            let mut body = fetch.range(part.sealed.start..sealed.end).await?;
            body.read(&mut header).await?;
            return Ok((body, self.opener(index, &header)?));
        }
        let read_header = async {
            let mut body = fetch.range(part.sealed.start..part.sealed.start + HEADER as u64).await?;
            body.read(&mut header).await?;
            Ok(())
        };
        let (body, ()) = futures::future::try_join(fetch.range(sealed.clone()), read_header).await?;
        Ok((body, self.opener(index, &header)?))
    }

    /// Opens a stripe into a buffer of its own.
    pub(super) fn open_to_memory(stripe: Stripe, sealed: Sealed, scratch: &mut Scratch) -> Result<Bytes> {
        let mut plain = sealed.another_buffer();
        let len = stripe.open(&sealed, &mut scratch.sealed, plain.space())?;
        plain.set_filled(len);
        Ok(plain.freeze().slice(stripe.wanted(len)))
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

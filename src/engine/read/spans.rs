//! Spans of an object: fetched several at a time, opened by the workers stripe by stripe, and handed over in order.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, FuturesOrdered, Stream, TryStreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Inner;
use super::fetch::Fetch;
use crate::crypto::{CHUNK, HEADER, Opener, SEALED_CHUNK, SEALED_STRIPE, STRIPE_CHUNKS};
use crate::engine::buffers::Buffer;
use crate::engine::workers::{BLOCK, Gather, Scratch};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Piece, context};

/// Stripes that one request fetches, if the memory budget allows: a whole part of the default size.
const SPAN_STRIPES: u32 = 16;

/// A span whose stripes are open, and the credits for what they hold.
pub(super) struct Opened<T> {
    pub(super) part: usize,
    pub(super) stripes: Vec<T>,
    pub(super) credits: OwnedSemaphorePermit,
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
    pub(super) fn open_blocks(
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
            let len = self.open(chunk, block, last, &mut scratch.plain)?;
            let from = skip.min(len);
            let to = len.min(from + left);
            if from < to {
                take(at, scratch.plain.get(from..to).unwrap_or_default())?;
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
    /// Opens `range` span by span, in order. Up to `twice` stripes of a span are there sealed and opened at once, while they are opened; any
    /// other takes one buffer.
    ///
    /// How many are fetched at once is found out on the way, unless the store is on this machine or the caller has said it.
    /// Spans ahead of the one that is awaited are fetched only while half of the budget is free, and where it is short, that one is a
    /// single stripe: readers that nobody polls keep others from being fast, not from going on.
    pub(super) fn opened<T, F>(
        self: &Arc<Self>,
        range: Range<u64>,
        twice: u32,
        open: F,
    ) -> impl Stream<Item = Result<Opened<T>>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Fn(Stripe, Buffer, &mut Scratch) -> Result<T> + Clone + Send + Sync + 'static,
    {
        let end = range.end.min(self.layout.plain_len());
        let (inner, in_flight) = (Arc::clone(self), FuturesOrdered::new());
        let (flow, throttled) = (self.flow(), self.retries.throttled());
        let most = (self.shared.held_stripes() / 2).saturating_sub(twice).clamp(1, SPAN_STRIPES);
        let cost = move |span: &Span| span.stripes() + twice.min(span.stripes());
        stream::try_unfold((range.start, in_flight, flow, throttled), move |state| {
            let (mut at, mut in_flight, mut flow, mut throttled) = state;
            let (inner, open) = (Arc::clone(&inner), open.clone());
            async move {
                let buffers = &inner.shared.buffers;
                while in_flight.len() < flow.limit() as usize {
                    let Some(mut span) = inner.next_span(at..end, most) else { break };
                    let credits = match buffers.spare_credits(cost(&span)) {
                        Some(credits) => credits,
                        None if !in_flight.is_empty() => break,
                        None => match buffers.free_credits(cost(&span)) {
                            Some(credits) => credits,
                            None => {
                                let Some(short) = inner.next_span(at..end, 1) else { break };
                                span = short;
                                buffers.credits(cost(&span)).await?
                            }
                        },
                    };
                    at += span.take;
                    let (inner, open) = (Arc::clone(&inner), open.clone());
                    in_flight.push_back(async move {
                        let mut credits = credits;
                        let stripes = inner.open_span(&span, open).await?;
                        drop(credits.split(twice.min(span.stripes()) as usize));
                        Ok((span.take, Opened { part: span.part, stripes, credits, end: span.at + span.take }))
                    });
                }
                let Some((len, opened)) = in_flight.try_next().await? else { return Ok(None) };
                let throttled_by_now = inner.retries.throttled();
                if std::mem::replace(&mut throttled, throttled_by_now) == throttled_by_now {
                    flow.stored(Instant::now().into_std(), len);
                } else {
                    flow.failed(true, u32::try_from(in_flight.len()).unwrap_or(u32::MAX));
                }
                Ok(Some((opened, (at, in_flight, flow, throttled))))
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
        let fetch = Fetch { origin: self.origin(), info: &self.info };
        let part = self.layout.parts().get(span.part).ok_or_else(|| Error::new(ErrorKind::Internal, "no such part"))?;
        let cell = self.openers.get(span.part).ok_or_else(|| Error::new(ErrorKind::Internal, "no such part"))?;
        let (mut body, opener) = match cell.get() {
            Some(opener) => (fetch.range(span.sealed.clone()).await?, Arc::clone(opener)),
            // A span that begins with the part brings the header along.
            None if span.chunks.start == 0 => {
                let range = part.sealed.start..span.sealed.end;
                let mut body = fetch.range(range).await?;
                let mut header = [0; HEADER];
                body.read(&mut header).await?;
                (body, self.opener(span.part, &header)?)
            }
            None => {
                let header = async {
                    let range = part.sealed.start..part.sealed.start + HEADER as u64;
                    let mut body = fetch.range(range).await?;
                    let mut header = [0; HEADER];
                    body.read(&mut header).await?;
                    Ok(header)
                };
                let body = fetch.range(span.sealed.clone());
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
    pub(super) fn open_to_memory(stripe: Stripe, sealed: Buffer, _: &mut Scratch) -> Result<Bytes> {
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

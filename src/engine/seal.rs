//! From plaintext to stored stripes: the one place where a part's bytes are made. They are sealed, unless nothing is to be.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Shared;
use super::cipher::{Cipher, PartCipher, StripeCipher};
use super::control::Meter;
use super::held::{HeldBytes, HeldPart};
use super::spool::window_closed;
use super::workers::{Gather, Scratch};
use crate::crypto::{self, Crc64, STRIPE};
use crate::error::{Error, ErrorKind, Result};
use crate::source::ReadAt;
use crate::store::PartSink;
use crate::types::{ObjectId, PartNumber};
use crate::upload::SealedPart;

/// What sealing one object's parts needs, the same for all of them.
pub(crate) struct PartSealer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cipher: Cipher,
    pub(crate) object_id: ObjectId,
    pub(crate) checksums: bool,
    pub(crate) meter: Meter,
}

/// Parts up to so many bytes that are in memory are sealed where they are awaited: that takes 2 µs, waking a worker many times that.
pub(crate) const SMALL: usize = crypto::CHUNK;

/// Stripes of a part that is sealed straight into a store which are handed to the workers together; twice as many are with them at once.
const DIRECT_STRIPES: usize = 32;

/// A sealed stripe: its bytes, and its plaintext's checksum and length.
pub(crate) type Stripe = (Bytes, u64, u64);

/// A part whose stripes are on their way through the workers.
pub(crate) struct SealingPart {
    number: PartNumber,
    cipher: PartCipher,
    checksums: bool,
    stripes: Gather<Stripe>,
}

impl SealedPart {
    /// Takes the next stripe in.
    pub(crate) fn add(&mut self, checksums: bool, crc64: u64, len: u64) {
        if checksums {
            self.crc64 = Crc64::combine(self.crc64, crc64, len);
        }
        self.len += len;
    }

    /// The same for several, of which only checksum and length are left.
    async fn add_all(&mut self, checksums: bool, stripes: Gather<(u64, u64)>) -> Result<()> {
        for (crc64, len) in stripes.all().await.map_err(|e| e.with_part(self.number))? {
            self.add(checksums, crc64, len);
        }
        Ok(())
    }
}

impl PartSealer {
    /// Begins one sealing of part `number`, with a salt of its own.
    pub(crate) fn begin(&self, number: PartNumber) -> Result<SealingPart> {
        let cipher = self.cipher.begin(&self.shared, &self.object_id, number)?;
        Ok(SealingPart { number, cipher, checksums: self.checksums, stripes: Gather::new() })
    }

    /// Seals all of a part from a source that can be read at any offset. The caller holds a credit for each stripe of it; the empty
    /// last chunk of a part of whole stripes takes none, and no buffer.
    pub(crate) async fn seal_at(
        &self,
        source: &Arc<dyn ReadAt>,
        number: PartNumber,
        offset: u64,
        len: u64,
    ) -> Result<HeldPart> {
        let mut part = self.begin(number)?;
        let is_small = len <= SMALL as u64 && source.is_in_memory(offset, len as usize);
        for stripe in stripes(offset, len) {
            let job = self.stripe_at(source, part.cipher.next_stripe()?, stripe, None);
            if is_small {
                part.stripes.add(job(&mut Scratch::small(SMALL)));
            } else {
                part.stripes.run(&self.shared.workers, job)?;
            }
        }
        part.finish().await
    }

    /// Seals all of a part straight into `sink`, each stripe by the worker that read it. Nothing of it is held.
    pub(crate) async fn seal_into(
        &self,
        source: &Arc<dyn ReadAt>,
        number: PartNumber,
        offset: u64,
        len: u64,
        sink: &Arc<dyn PartSink>,
    ) -> Result<SealedPart> {
        let mut cipher = self.begin(number)?.cipher;
        let header = Bytes::copy_from_slice(cipher.header());
        let mut sealed = SealedPart { number, len: 0, salt: cipher.salt(), crc64: 0 };
        let mut stripes = stripes(offset, len).enumerate().peekable();
        // So many at a time that waiting for the last of them costs nothing, and others' work need not wait for all of a part.
        let mut earlier = Gather::new();
        while stripes.peek().is_some() {
            let mut gather = Gather::new();
            for (n, stripe) in stripes.by_ref().take(DIRECT_STRIPES) {
                let at = cipher.stripe_at(n);
                let (cipher, source, sink) = (cipher.next_stripe()?, Arc::clone(source), Arc::clone(sink));
                let (checksums, meter) = (self.checksums, self.meter.clone());
                let header = (n == 0).then(|| header.clone());
                gather.run(&self.shared.workers, move |scratch| {
                    if let Some(header) = header {
                        sink.write(0, &header)?;
                    }
                    let room = room_of(&mut scratch.sealed, cipher.stored_len(stripe.len, stripe.last))?;
                    let crc = seal_stripe(source.as_ref(), cipher, &stripe, checksums, &mut scratch.plain, room)?;
                    sink.write(at, room)?;
                    meter.sealed(stripe.len as u64);
                    Ok((crc, stripe.len as u64))
                })?;
            }
            sealed.add_all(self.checksums, std::mem::replace(&mut earlier, gather)).await?;
        }
        sealed.add_all(self.checksums, earlier).await?;
        Ok(sealed)
    }

    /// Hands the next stripe of a part that is read in order to the workers. `plain` goes back to `pool` when it is sealed.
    pub(crate) fn push(&self, part: &mut SealingPart, plain: Vec<u8>, last: bool, pool: &Arc<PlainPool>) -> Result<()> {
        let is_small = last && plain.len() <= SMALL;
        let job = self.stripe_of(part.cipher.next_stripe()?, plain, last, pool, None);
        if is_small {
            part.stripes.add(job(&mut Scratch::small(0)));
            return Ok(());
        }
        part.stripes.run(&self.shared.workers, job)
    }

    /// The same for whoever takes each stripe as it comes. Its buffer keeps `permit`.
    pub(crate) fn seal_next(
        &self,
        part: &mut SealingPart,
        plain: Vec<u8>,
        last: bool,
        pool: &Arc<PlainPool>,
        permit: OwnedSemaphorePermit,
    ) -> Result<impl Future<Output = Result<Stripe>> + Send + use<>> {
        let job = self.stripe_of(part.cipher.next_stripe()?, plain, last, pool, Some(permit));
        Ok(self.shared.workers.run(job))
    }

    fn stripe_of(
        &self,
        mut cipher: StripeCipher,
        plain: Vec<u8>,
        last: bool,
        pool: &Arc<PlainPool>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> impl FnOnce(&mut Scratch) -> Result<Stripe> + Send + use<> {
        let (checksums, meter, pool) = (self.checksums, self.meter.clone(), Arc::clone(pool));
        let buffers = Arc::clone(&self.shared.buffers);
        move |_| {
            if plain.is_empty() {
                pool.put_back(plain);
                return empty_end(cipher);
            }
            let mut buffer = buffers.take();
            if let Some(permit) = permit {
                buffer = buffer.with_permit(permit);
            }
            let crc = if checksums { crypto::crc64(&plain) } else { 0 };
            let len = plain.len() as u64;
            let room = cipher.stored_len(plain.len(), last);
            let sealed = room_of(buffer.space(), room).and_then(|out| match last {
                true => cipher.write_last(&plain, out),
                false => cipher.write(&plain, out),
            });
            pool.put_back(plain);
            buffer.set_filled(sealed?);
            meter.sealed(len);
            Ok((buffer.freeze(), crc, len))
        }
    }

    /// Seals a part while it is sent: its segments in order, at most `window` stripes ahead of whoever takes them.
    /// What was sealed is sent to `sealed` with the last segment.
    pub(crate) fn seal_streaming(
        self: &Arc<Self>,
        source: &Arc<dyn ReadAt>,
        number: PartNumber,
        offset: u64,
        len: u64,
        window: u32,
        sealed: oneshot::Sender<SealedPart>,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let mut cipher = self.begin(number)?.cipher;
        let header = Bytes::copy_from_slice(cipher.header());
        let mut part = SealedPart { number, len: 0, salt: cipher.salt(), crc64: 0 };
        let checksums = self.checksums;
        let mut sealed = Some(sealed);
        let window = (window as usize).max(1);
        // Taken for a buffer before it is filled, given back when whoever was handed its bytes drops them.
        let room = Arc::new(Semaphore::new(window));
        let ahead = self.shared.workers.threads().min(window) + 1;
        let (this, source) = (Arc::clone(self), Arc::clone(source));
        let body = stream::iter(stripes(offset, len))
            // One after another, so that stripes are begun, and given room, in their order.
            .then(move |stripe| {
                let next = cipher.next_stripe();
                let permit = Arc::clone(&room).acquire_owned();
                let (this, source) = (Arc::clone(&this), Arc::clone(&source));
                async move {
                    let permit = permit.await.map_err(|_| window_closed())?;
                    Ok(this.shared.workers.run(this.stripe_at(&source, next?, stripe, Some(permit))))
                }
            })
            .map(|sealing: Result<_>| async move { sealing?.await })
            .buffered(ahead)
            .map(move |stripe| {
                let (bytes, crc, plain) = stripe.map_err(|e| e.with_part(number))?;
                part.add(checksums, crc, plain);
                let is_last = plain < STRIPE as u64;
                if let Some(sealed) = is_last.then(|| sealed.take()).flatten() {
                    let _ = sealed.send(part);
                }
                Ok(bytes)
            });
        // Without a cipher there is no header, and no tag behind whole stripes.
        let is_there = |bytes: &Result<Bytes>| std::future::ready(!matches!(bytes, Ok(bytes) if bytes.is_empty()));
        Ok(stream::iter([Ok(header)]).chain(body).filter(is_there))
    }

    fn stripe_at(
        &self,
        source: &Arc<dyn ReadAt>,
        cipher: StripeCipher,
        stripe: StripeSpan,
        permit: Option<OwnedSemaphorePermit>,
    ) -> impl FnOnce(&mut Scratch) -> Result<Stripe> + Send + use<> {
        let (source, checksums, meter) = (Arc::clone(source), self.checksums, self.meter.clone());
        let buffers = Arc::clone(&self.shared.buffers);
        move |scratch| {
            if stripe.len == 0 {
                return empty_end(cipher);
            }
            let mut buffer = buffers.take();
            if let Some(permit) = permit {
                buffer = buffer.with_permit(permit);
            }
            let len = cipher.stored_len(stripe.len, stripe.last);
            let room = room_of(buffer.space(), len)?;
            let crc = seal_stripe(source.as_ref(), cipher, &stripe, checksums, &mut scratch.plain, room)?;
            buffer.set_filled(len);
            meter.sealed(stripe.len as u64);
            Ok((buffer.freeze(), crc, stripe.len as u64))
        }
    }
}

impl SealingPart {
    /// What its sealed bytes begin with.
    pub(crate) fn header(&self) -> Bytes {
        Bytes::copy_from_slice(self.cipher.header())
    }

    /// What the manifest says of it as long as it has no stripes.
    pub(crate) fn without_stripes(&self) -> SealedPart {
        SealedPart { number: self.number, len: 0, salt: self.cipher.salt(), crc64: 0 }
    }

    /// Waits for the workers.
    pub(crate) async fn finish(self) -> Result<HeldPart> {
        let (number, header, mut sealed) = (self.number, self.header(), self.without_stripes());
        let stripes = self.stripes.all().await.map_err(|e| e.with_part(number))?;
        let mut segments = Vec::with_capacity(stripes.len() + 2); // and room for the trailer
        segments.push(header);
        for (bytes, crc, len) in stripes {
            sealed.add(self.checksums, crc, len);
            segments.push(bytes);
        }
        // Without a cipher there is no header, and no tag behind whole stripes.
        segments.retain(|bytes| !bytes.is_empty());
        Ok(HeldPart { bytes: HeldBytes::Memory(segments), sealed })
    }
}

/// Which plaintext a stripe seals.
#[derive(Clone, Copy)]
struct StripeSpan {
    offset: u64,
    len: usize,
    last: bool,
}

/// The stripes of a part: whole ones, then one that is shorter, possibly empty, as the last chunk is.
fn stripes(offset: u64, len: u64) -> impl Iterator<Item = StripeSpan> {
    let stripe = STRIPE as u64;
    let whole = len / stripe;
    (0..=whole).map(move |n| {
        let last = n == whole;
        let len = if last { len % stripe } else { stripe };
        StripeSpan { offset: offset + n * stripe, len: len as usize, last }
    })
}

/// Reads, checksums and seals a stripe into `out`, which is as long as that takes. Returns the plaintext's checksum, 0 if not wanted.
fn seal_stripe(
    source: &dyn ReadAt,
    mut cipher: StripeCipher,
    stripe: &StripeSpan,
    checksums: bool,
    scratch: &mut [u8],
    mut out: &mut [u8],
) -> Result<u64> {
    let plain = source.read_at(stripe.offset, stripe.len, scratch)?;
    let mut crc = Crc64::new();
    // A checksum is fastest over what is in the first cache, so it takes turns with sealing chunk by chunk.
    let step = if checksums { crypto::CHUNK } else { STRIPE };
    let whole = if stripe.last { plain.len() / crypto::CHUNK * crypto::CHUNK } else { plain.len() };
    let (whole, rest) = plain.split_at(whole);
    for piece in whole.chunks(step) {
        if checksums {
            crc.update(piece);
        }
        let (room, later) = out.split_at_mut_checked(cipher.stored_len(piece.len(), false)).ok_or_else(outgrown)?;
        cipher.write(piece, room)?;
        out = later;
    }
    if stripe.last {
        if checksums {
            crc.update(rest);
        }
        cipher.write_last(rest, out)?;
    }
    source.release(stripe.offset, stripe.len);
    Ok(if checksums { crc.value() } else { 0 })
}

/// Sealed length of `plain` bytes of consecutive chunks; with the message's last chunk, one more that may be empty.
pub(super) fn sealed_chunks_len(plain: usize, last: bool) -> usize {
    plain + crypto::TAG * (plain / crypto::CHUNK + usize::from(last))
}

/// What follows whole stripes at a part's end: of a sealed one, an empty chunk's tag.
fn empty_end(cipher: StripeCipher) -> Result<Stripe> {
    let mut end = vec![0; cipher.stored_len(0, true)];
    cipher.write_last(&[], &mut end)?;
    Ok((end.into(), 0, 0))
}

pub(super) fn room_of(out: &mut [u8], len: usize) -> Result<&mut [u8]> {
    out.get_mut(..len).ok_or_else(outgrown)
}

fn outgrown() -> Error {
    Error::new(ErrorKind::Internal, "a stripe outgrew its buffer")
}

/// Buffers for plaintext read from a stream: a fixed few, so that reading waits while the workers are behind.
pub(crate) struct PlainPool {
    room: Arc<Semaphore>,
    free: std::sync::Mutex<Vec<Vec<u8>>>,
}

impl PlainPool {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { room: Arc::new(Semaphore::new(count)), free: std::sync::Mutex::default() })
    }

    /// An empty vector with room for a stripe.
    pub(crate) async fn take(&self) -> Vec<u8> {
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        let free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Vec::with_capacity(STRIPE))
    }

    fn put_back(&self, mut plain: Vec<u8>) {
        plain.clear();
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(plain);
        self.room.add_permits(1);
    }
}

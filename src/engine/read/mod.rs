//! Reading objects: nothing is released before the chunk that holds it is authenticated.

mod ahead;
mod fetch;
mod file;
mod partial;
mod short;
mod spans;
mod tail;
mod unsealed;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use super::control::{Meter, ProgressCallback};
use super::retries::Retries;
use super::workers::Scratch;
use super::{Engine, Shared};
use crate::crypto::{Crc64, DataKey, Opener, crc64};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Envelope, Layout, Manifest};
use crate::kms::recipients::Trusted;
use crate::store::{MultipartStore, ObjectInfo};
use crate::types::{ByteRange, EncryptionContext, ObjectKey, WrappedKey};
use crate::upload::RetryPolicy;

pub(crate) use fetch::Origin;
pub use file::{GetOptions, Written};
pub use partial::partial_path;
use spans::{Opened, Sealed, Stripe};
use tail::whole_body;
pub(crate) use tail::{Tail, Unlocked, envelope_of, fetch_tail};
pub use unsealed::UnsealedReader;

/// What a reader demands of an object besides that it opens.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Pairs that the object's encryption context must have.
    pub context: EncryptionContext,
    /// That the object is bound to the bucket and key it is read from.
    pub bound: bool,
    /// How failed requests are repeated. What was cut off is asked for from there on. The budget is for all
    /// reads by one [`Reader`], and each that succeeds gives one retry back.
    pub retry: RetryPolicy,
    /// How many ranges are fetched at once, as far as the memory budget allows. By default it is found out on the way.
    pub max_in_flight: Option<u32>,
}

/// A sealed object, open for reading. Cheap to clone; every read may run beside others.
///
/// All reads are of the object as it was when it was opened: if it is replaced meanwhile, they fail with
/// [`Changed`](ErrorKind::Changed). A sealed body of up to 64 KiB comes with the request that opens it, is kept as long as the reader,
/// outside of the memory budget, and is read from there: the store is not asked again, and what is read is the old object.
#[derive(Clone)]
pub struct Reader(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    store: Arc<dyn MultipartStore>,
    key: ObjectKey,
    info: ObjectInfo,
    /// All of the body, if it is so short that opening it brought that: then it is read from here.
    whole: Option<Bytes>,
    envelope: Envelope,
    data_key: DataKey,
    recipient: usize,
    manifest: Manifest,
    layout: Layout,
    retries: Arc<Retries>,
    max_in_flight: Option<u32>,
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
        let retries = Arc::new(Retries::new(options.retry.clone()));
        let origin = Origin { shared: self.shared(), store: store.as_ref(), key: &key, retries: &retries };
        let found = fetch_tail(origin).await?;
        options.check(&key, &found.envelope)?;
        let data_keys = found.envelope.data_keys();
        let Unlocked { data_key, recipient, manifest } = found.unlock(origin, trusted, data_keys).await?;
        let layout = Layout::new(&manifest);
        let openers = layout.parts().iter().map(|_| OnceLock::new()).collect();
        let Tail { info, envelope, bytes } = found;
        let whole = whole_body(&info, bytes);
        let shared = Arc::clone(self.shared());
        Ok(Reader(Arc::new(Inner {
            shared,
            store,
            key,
            info,
            whole,
            envelope,
            data_key,
            recipient,
            manifest,
            layout,
            retries,
            max_in_flight: options.max_in_flight,
            openers,
        })))
    }
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

impl Inner {
    fn origin(&self) -> Origin<'_> {
        Origin { shared: &self.shared, store: self.store.as_ref(), key: &self.key, retries: &self.retries }
    }
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
        if let Some(pieces) = self.0.short_pieces(&range) {
            return self.0.read_short(range, &pieces).await;
        }
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
        let range = range.start..range.end.min(self.len());
        if let Some(pieces) = self.0.short_pieces(&range) {
            let inner = Arc::clone(&self.0);
            return stream::once(async move { Ok(inner.read_short(range, &pieces).await?.into()) }).left_stream();
        }
        let twice = u32::try_from(self.0.shared.workers.threads()).unwrap_or(u32::MAX);
        self.0
            .opened(range, twice, Inner::open_to_memory)
            .map_ok(|(opened, credits)| stream::iter(opened.stripes.into_iter().map(Ok)).chain(drop_at_end(credits)))
            .try_flatten()
            .right_stream()
    }

    /// Opens everything and keeps nothing: every chunk is authenticated, and every part compared with its checksum if it has one. Of an
    /// object of up to 64 KiB, sealed, it is what came when it was opened: to see what the store has by now, open it again.
    ///
    /// # Errors
    /// As [`read_range`](Self::read_range).
    pub async fn verify(&self, progress: Option<ProgressCallback>) -> Result<Verified> {
        let inner = &self.0;
        let checksums = inner.manifest.checksums();
        let meter = Meter::new(Some(self.len()), progress);
        let check = move |stripe: Stripe, sealed: Sealed, scratch: &mut Scratch| {
            let plain = stripe.open_in(&sealed, scratch)?;
            let crc = if checksums { crc64(plain) } else { 0 };
            meter.sealed(plain.len() as u64);
            meter.done(plain.len() as u64);
            Ok((crc, plain.len() as u64))
        };
        let mut spans = std::pin::pin!(inner.opened(0..self.len(), 0, check));
        let mut found = BTreeMap::new();
        while let Some((Opened { part, stripes, .. }, _)) = spans.try_next().await? {
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
fn drop_at_end(credits: Option<OwnedSemaphorePermit>) -> impl Stream<Item = Result<Bytes>> {
    stream::once(async move { drop(credits) }).filter_map(|()| async { None })
}

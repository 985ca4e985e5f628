//! One object, sealed part by part by a caller that gets the parts in an order of its own: a gateway, whose clients send them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use super::seal::{room_of, sealed_chunks_len};
use super::{Engine, Shared};
use crate::crypto::{self, Crc64, DataKey, STRIPE, Sealer, StripeSealer};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::format::{Envelope, MAX_PART_PLAIN, Manifest, ManifestPart, context, trailer};
use crate::kms::recipients::{Recipient, Trusted, new_data_key};
use crate::store::Payload;
use crate::types::{EncryptionContext, ObjectId, PartNumber, Salt};

/// Stripes up to this length get memory of their own: for small objects, a buffer of a whole stripe is too much.
const SMALL: usize = 128 << 10;

/// Seals the parts of one object, each on its own: in any order, several at once, the same one again; and at the end the trailer that makes
/// some of them an object.
///
/// Every sealing draws a salt of its own, so no two share a key and nonce, whatever is sealed how often. Where the parts are put, and when,
/// is the caller's matter; FORMAT.md says what the body must be in the end: the sealed parts, ascending, then the trailer.
///
/// ```
/// use std::sync::Arc;
///
/// use futures::{TryStreamExt, stream};
/// use sealift::engine::ReadOptions;
/// use sealift::kms::key_file::KeyFile;
/// use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
/// use sealift::store::{MemoryStore, MultipartStore, Payload, Properties, PutCondition};
/// use sealift::{DataKey, Engine, PartNumber};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// let kms = Arc::new(KeyFile::new(DataKey::random()?));
/// let recipients = [Recipient { kms: kms.clone(), key: kms.id().to_owned() }];
/// let engine = Engine::builder().threads(1).build()?;
/// let object = engine.begin_object(&recipients, Default::default(), None).await?;
///
/// let plaintext = stream::iter([Ok("hello ".into()), Ok("world".into())]);
/// let (payload, sealing) = object.seal_part(PartNumber::MIN, 11, plaintext)?;
/// let mut body: Vec<_> = payload.try_collect().await?;
/// body.push(object.seal_trailer(&[sealing.record()?], Default::default())?);
///
/// let (store, key) = (Arc::new(MemoryStore::new()), "greeting".parse::<sealift::ObjectKey>()?);
/// let properties = Properties { metadata: object.envelope().to_metadata(), ..Properties::default() };
/// store.put_object(&key, Payload::held(body), &properties, PutCondition::None).await?;
///
/// let trusted = Trusted::new(vec![(kms, TrustedKeys::Any)]);
/// let reader = engine.open(store, key, &trusted, &ReadOptions::default()).await?;
/// assert_eq!(reader.read_range("6-".parse()?).await?, b"world");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ObjectSealer {
    shared: Arc<Shared>,
    data_key: Arc<DataKey>,
    envelope: Envelope,
}

/// What the manifest will say of one sealing of a part, if it is chosen. It cannot be made up, only [recorded](ObjectSealer::seal_record)
/// and read back:
///
/// ```compile_fail,E0451
/// # let part: sealift::format::ManifestPart = todo!();
/// let record = sealift::engine::PartRecord { part };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRecord {
    part: ManifestPart,
}

/// A part that is being sealed while its payload is taken.
#[derive(Debug)]
pub struct Sealing(Arc<OnceLock<PartRecord>>);

/// What a gateway notes down beside the parts of an upload, sealed under the object's data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// What the upload is for.
    Upload,
    /// One sealing of a part.
    Part(PartNumber),
    /// Which parts were chosen, before the trailer was sealed.
    Completion,
}

impl Engine {
    /// Begins an object: draws its id and data key, and has the data key wrapped for each of `recipients`. With `bound_to`, a bucket and
    /// key, it opens only under that name.
    ///
    /// # Errors
    /// As [`new_data_key`].
    pub async fn begin_object(
        &self,
        recipients: &[Recipient],
        context: EncryptionContext,
        bound_to: Option<(&str, &str)>,
    ) -> Result<ObjectSealer> {
        let object_id = ObjectId::random()?;
        let kms_context = Envelope::kms_context(&object_id, &context, bound_to);
        let (data_key, data_keys) = new_data_key(recipients, &kms_context).await?;
        let envelope = Envelope::new(object_id, data_keys, context, bound_to.is_some())?;
        Ok(ObjectSealer { shared: Arc::clone(self.shared()), data_key: Arc::new(data_key), envelope })
    }

    /// Goes on with an object that was begun elsewhere: has the data key in its envelope unwrapped, by one call to a key service.
    /// `name`, the bucket and key, counts if the envelope is bound. That the data key is the one it was begun with shows when
    /// something that it sealed opens.
    ///
    /// # Errors
    /// As [`Trusted::unwrap`].
    pub async fn restore_object(
        &self,
        envelope: Envelope,
        name: (&str, &str),
        trusted: &Trusted,
    ) -> Result<ObjectSealer> {
        let bound_to = envelope.is_bound().then_some(name);
        let kms_context = Envelope::kms_context(envelope.object_id(), envelope.context(), bound_to);
        let (data_key, _) = trusted.unwrap(envelope.data_keys(), &kms_context, |_| true).await?;
        Ok(ObjectSealer { shared: Arc::clone(self.shared()), data_key: Arc::new(data_key), envelope })
    }
}

impl ObjectSealer {
    /// The object's envelope, for its metadata.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// One sealing of part `number`, whose plaintext comes as a stream of `len` bytes in all: the sealed part, as it is taken, and what will
    /// be known of it once it has been taken to its end. Two stripes of it are in memory, the sealed one within the engine's
    /// memory budget.
    ///
    /// The stream is asked for its end before the last of the part is sealed: an error there, as any other, or another number of bytes,
    /// is the payload's error, and leaves a part that does not open.
    ///
    /// # Errors
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) if `len` is more than a part may have, [`Internal`](ErrorKind::Internal) without randomness.
    pub fn seal_part(
        &self,
        number: PartNumber,
        len: u64,
        plaintext: impl Stream<Item = Result<Bytes>> + Send + 'static,
    ) -> Result<(Payload, Sealing)> {
        let sealed_len = crypto::sealed_len(len).filter(|_| len <= MAX_PART_PLAIN).ok_or_else(|| {
            let message = format!("a part has at most {MAX_PART_PLAIN} bytes, and this one would have {len}");
            Error::new(ErrorKind::LimitExceeded, message).with_part(number)
        })?;
        let context = context::part(self.envelope.object_id(), number);
        let sealer = Sealer::begin(self.shared.backend, &self.data_key, &context)?;
        let header = Bytes::copy_from_slice(sealer.header());
        let mut part = ManifestPart { number, len: 0, crc64: 0, salt: sealer.salt() };

        let record = Arc::new(OnceLock::new());
        let sealing = Sealing(Arc::clone(&record));
        let shared = Arc::clone(&self.shared);
        let cut = Cut { plaintext: Box::pin(plaintext), rest: Bytes::new(), left: len, sealer };
        let stripes = stream::try_unfold(Some(cut), move |cut| {
            let shared = Arc::clone(&shared);
            async move {
                let Some(mut cut) = cut else { return Ok(None) };
                let (plain, last) = cut.next().await?;
                let stripe = cut.sealer.next_stripe()?;
                let permit = match plain.len() > SMALL {
                    true => Some(shared.buffers.credits(1).await?),
                    false => None,
                };
                let sealed = shared.workers.run(job(&shared, stripe, plain, last, permit));
                Ok(Some((sealed, (!last).then_some(cut))))
            }
        })
        // One at a time: whoever waits for its turn, or for its store, holds no credit that another waits for.
        .then(|sealed: Result<_>| async move { sealed?.await })
        .map(move |stripe| {
            let (bytes, crc64, plain) = stripe.map_err(|e: Error| e.with_part(number))?;
            part.crc64 = Crc64::combine(part.crc64, crc64, plain);
            part.len = part.len.saturating_add(plain);
            if plain < STRIPE as u64 {
                let _ = record.set(PartRecord { part });
            }
            Ok(bytes)
        });
        Ok((Payload::produced(sealed_len, stream::iter([Ok(header)]).chain(stripes)), sealing))
    }

    /// How long the trailer of an object with so many parts and these attributes is. Parts without bytes do not count.
    #[must_use]
    pub fn trailer_len(parts: usize, attributes: &BTreeMap<String, Vec<u8>>) -> u64 {
        trailer::len_of(parts, attributes)
    }

    /// The trailer that makes these sealings, ascending by number, the object. Those of parts without bytes are left out.
    ///
    /// **Whoever has a trailer and the parts it names can publish that object.** Seal it when all of them are stored and recorded and
    /// nothing can be refused any more; and a second one only for the same parts and lengths, for example because the first was lost.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the numbers do not ascend or the attributes take more than 4,096 bytes,
    /// [`Internal`](ErrorKind::Internal) without randomness.
    pub fn seal_trailer(&self, parts: &[PartRecord], attributes: BTreeMap<String, Vec<u8>>) -> Result<Bytes> {
        let parts = parts.iter().map(|record| record.part).filter(|part| part.len > 0).collect();
        let manifest = Manifest::new(parts, true, attributes)?;
        Ok(trailer::seal(self.shared.backend, &self.data_key, self.envelope.object_id(), &manifest)?.into())
    }

    /// Seals a note of the caller's under the object's data key.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) without randomness.
    pub fn seal_note(&self, note: Note, text: &[u8]) -> Result<Vec<u8>> {
        crypto::seal_message(self.shared.backend, &self.data_key, &self.context_of(note), text)
    }

    /// Opens what [`seal_note`](Self::seal_note) sealed.
    ///
    /// # Errors
    /// [`Authentication`](ErrorKind::Authentication) if it was altered, is another note or another object's.
    pub fn open_note(&self, note: Note, sealed: &[u8]) -> Result<Vec<u8>> {
        crypto::open_message(self.shared.backend, &self.data_key, &self.context_of(note), sealed)
            .map_err(|e| e.while_doing("opening a note on an upload"))
    }

    /// Seals a record of a part together with a note of the caller's, as that part's [`Note::Part`].
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) without randomness.
    pub fn seal_record(&self, record: &PartRecord, note: &[u8]) -> Result<Vec<u8>> {
        self.seal_note(Note::Part(record.part.number), &[record.part.to_row().as_slice(), note].concat())
    }

    /// Opens what [`seal_record`](Self::seal_record) sealed of part `number`.
    ///
    /// # Errors
    /// [`Authentication`](ErrorKind::Authentication) if it was altered, is another part's or another object's,
    /// [`Malformed`](ErrorKind::Malformed) if it is no record.
    pub fn open_record(&self, number: PartNumber, sealed: &[u8]) -> Result<(PartRecord, Vec<u8>)> {
        let text = self.open_note(Note::Part(number), sealed)?;
        let malformed = || Error::new(ErrorKind::Malformed, "a record of a part is too short, or another part's");
        let (row, note) = text.split_first_chunk::<{ ManifestPart::ROW }>().ok_or_else(malformed)?;
        let part = ManifestPart::from_row(row)?;
        if part.number != number || part.len > MAX_PART_PLAIN {
            return Err(malformed());
        }
        Ok((PartRecord { part }, note.to_vec()))
    }

    fn context_of(&self, note: Note) -> Vec<u8> {
        let id = self.envelope.object_id();
        match note {
            Note::Upload => context::gateway_upload(id),
            Note::Part(number) => context::gateway_part(id, number),
            Note::Completion => context::gateway_completion(id),
        }
    }
}

impl PartRecord {
    /// The part's number.
    #[must_use]
    pub fn number(&self) -> PartNumber {
        self.part.number
    }

    /// Its length in plaintext bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.part.len
    }

    /// Whether it has no bytes. Such a part belongs to no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.part.len == 0
    }

    /// CRC-64/XZ of its plaintext.
    #[must_use]
    pub fn crc64(&self) -> u64 {
        self.part.crc64
    }

    /// The salt that its sealed bytes begin with, which no other sealing has.
    #[must_use]
    pub fn salt(&self) -> Salt {
        self.part.salt
    }
}

impl Sealing {
    /// What was sealed, after the payload was taken to its end.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if it was not.
    pub fn record(&self) -> Result<PartRecord> {
        let unfinished = || Error::new(ErrorKind::Internal, "a part was not sealed to its end");
        self.0.get().copied().ok_or_else(unfinished)
    }
}

impl fmt::Debug for ObjectSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSealer").field("object_id", self.envelope.object_id()).finish_non_exhaustive()
    }
}

/// The plaintext of a part, stripe by stripe.
struct Cut<S> {
    plaintext: std::pin::Pin<Box<S>>,
    rest: Bytes,
    left: u64,
    sealer: Sealer,
}

impl<S: Stream<Item = Result<Bytes>>> Cut<S> {
    /// The next stripe, and whether it is the last.
    async fn next(&mut self) -> Result<(Vec<u8>, bool)> {
        // At most a stripe, which is an `usize`.
        let want = self.left.min(STRIPE as u64) as usize;
        let mut plain = Vec::with_capacity(want);
        while plain.len() < want {
            if self.rest.is_empty() {
                self.rest = self.plaintext.next().await.ok_or_else(wrong_length)??;
            }
            plain.extend_from_slice(&self.rest.split_to(self.rest.len().min(want - plain.len())));
        }
        self.left -= want as u64;
        let last = want < STRIPE;
        if last {
            while self.rest.is_empty() {
                match self.plaintext.next().await {
                    Some(more) => self.rest = more?,
                    None => return Ok((plain, true)),
                }
            }
            return Err(wrong_length());
        }
        Ok((plain, false))
    }
}

fn wrong_length() -> Error {
    Error::new(ErrorKind::SourceRead, "a part has another number of bytes than was announced").with_retry(Retry::No)
}

/// What a worker does with a stripe. The result is its sealed bytes, and its plaintext's checksum and length.
fn job(
    shared: &Arc<Shared>,
    stripe: StripeSealer,
    plain: Vec<u8>,
    last: bool,
    permit: Option<OwnedSemaphorePermit>,
) -> impl FnOnce(&mut super::workers::Scratch) -> Result<(Bytes, u64, u64)> + Send + use<> {
    let buffers = Arc::clone(&shared.buffers);
    move |_| {
        let len = sealed_chunks_len(plain.len(), last);
        let seal = |mut stripe: StripeSealer, out: &mut [u8]| match last {
            true => stripe.seal_last(&plain, out),
            false => stripe.seal(&plain, out),
        };
        let sealed = match permit {
            Some(permit) => {
                let mut buffer = buffers.take().with_permit(permit);
                let filled = seal(stripe, room_of(buffer.space(), len)?)?;
                buffer.set_filled(filled);
                buffer.freeze()
            }
            None => {
                let mut out = vec![0; len];
                seal(stripe, &mut out)?;
                out.into()
            }
        };
        Ok((sealed, crypto::crc64(&plain), plain.len() as u64))
    }
}

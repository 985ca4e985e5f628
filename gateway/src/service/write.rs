//! Writing whole objects, sealed or as they are, and deleting them. Nothing is visible before the last byte was checked.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use sealift::engine::ObjectSealer;
use sealift::store::{ObjectInfo as Stored, Payload, Properties, PutCondition};
use sealift::{ErrorKind, PartNumber};

use super::attributes::{Attributes, Own, check_size};
use super::checksums::Checksum;
use super::encryption::{Encrypted, Encryption, Sse};
use super::error::{Failure, FailureKind, Result};
use super::facts::Facts;
use super::incoming::{Body, Digests, Seen};
use super::multipart::State;
use super::names::{BucketName, ObjectName};
use super::{Inner, MAX_PUT, Service};

/// A plaintext object of up to this length is held until its ETag is known. That of a longer one is kept in a place of its own.
const HELD: u64 = 1 << 20;
/// Of a body of unknown length, so much is held until it is written as a part: more than the least that stores take in the middle.
const GATHERED: u64 = 8 << 20;
/// How many objects are deleted at once for one request.
const DELETIONS: usize = 8;

/// How an object is to be written.
#[derive(Clone, Debug, Default)]
pub struct PutRequest {
    /// What it has besides its bytes.
    pub attributes: Attributes,
    /// How it is encrypted. `None` is the bucket's default.
    pub sse: Option<Sse>,
    /// Whether an object that is there stays, and this fails.
    pub if_not_exists: bool,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The plaintext's ETag, in lower case and without quotes.
    pub etag: String,
    /// The plaintext's CRC-64/XZ.
    pub crc64: Option<u64>,
    /// The checksum that its writer chose, if one was chosen.
    pub checksum: Option<Checksum>,
    /// How the object is encrypted, if it is.
    pub encrypted: Option<Encrypted>,
}

impl Written {
    pub(super) fn of(facts: Facts, encrypted: Option<Encrypted>) -> Self {
        let Facts { etag, crc64, checksum, .. } = facts;
        Self { etag, crc64, checksum, encrypted }
    }
}

/// The same, settled: the bucket was asked.
pub(super) struct Write {
    pub(super) attributes: Attributes,
    pub(super) sse: Option<Sse>,
    pub(super) condition: PutCondition,
    pub(super) given: Given,
}

/// What an object is to have whatever its bytes say.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// Its ETag. `None` is its MD5.
    pub(super) etag: Option<String>,
    /// Its checksum. `None` is that of the body, if one is computed.
    pub(super) checksum: Option<Checksum>,
}

impl Given {
    fn facts(self, digests: &Digests) -> Facts {
        let facts = Facts::of_digests(digests);
        Facts { etag: self.etag.unwrap_or(facts.etag), checksum: self.checksum.or(facts.checksum), ..facts }
    }
}

impl Service {
    /// Writes an object. What was there is replaced, at the end and as a whole.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], [`FailureKind::EntityTooLarge`], those of a CMK's id and state,
    /// [`FailureKind::AlreadyExists`] if so asked; what is wrong with the body, found at its end; and what the store says.
    pub async fn put_object(&self, name: &ObjectName, body: Body, request: PutRequest) -> Result<Written> {
        let sse = self.0.encryption_of(name.bucket(), request.sse).await?;
        let condition = condition(request.if_not_exists);
        let write = Write { attributes: request.attributes, sse, condition, given: Given::default() };
        self.0.write(name, body, write).await
    }

    /// Removes an object. That there is none is a success.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], and what the store says.
    pub async fn delete_object(&self, name: &ObjectName) -> Result<()> {
        self.0.bucket(name.bucket()).await?;
        self.0.delete(name).await
    }

    /// Removes many objects, and says of each what became of it, in their order.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], and what the store says to that.
    pub async fn delete_objects(&self, bucket: &BucketName, keys: &[String]) -> Result<Vec<Result<()>>> {
        self.0.bucket(bucket).await?;
        let deleted = keys.iter().cloned().map(|key| async move { self.0.delete(&bucket.object(&key)?).await });
        Ok(stream::iter(deleted).buffered(DELETIONS).collect().await)
    }
}

pub(super) fn condition(if_not_exists: bool) -> PutCondition {
    if if_not_exists { PutCondition::IfNotExists } else { PutCondition::None }
}

impl Inner {
    /// What is asked for, or else the bucket's default.
    pub(super) async fn encryption_of(&self, bucket: &BucketName, asked: Option<Sse>) -> Result<Option<Sse>> {
        let bucket = self.bucket(bucket).await?;
        Ok(asked.or(bucket.encryption.map(Sse::Managed)))
    }

    pub(super) async fn write(&self, name: &ObjectName, body: Body, write: Write) -> Result<Written> {
        match body.announced_len() {
            Some(len) => self.write_known(name, len, body, write).await,
            None => self.write_streamed(name, body, write).await,
        }
    }

    async fn write_known(&self, name: &ObjectName, len: u64, body: Body, write: Write) -> Result<Written> {
        if len > MAX_PUT {
            return Err(too_large());
        }
        let replaced = self.properties_at(name).await?;
        let written = match write.sse.clone() {
            Some(sse) => self.write_sealed(name, len, body, write, &sse).await,
            None => self.write_plain(name, len, body, write).await,
        }?;
        self.forget_facts(replaced.as_ref()).await;
        Ok(written)
    }

    /// Writes a body of unknown length: at once if it is short, or else in parts, as a multipart upload of the gateway's own.
    async fn write_streamed(&self, name: &ObjectName, body: Body, mut write: Write) -> Result<Written> {
        let (bytes, seen) = body.checked();
        let mut bytes = bytes.boxed();
        let (pieces, len) = gather(&mut bytes).await.map_err(|error| seen.explain(error))?;
        if len < GATHERED {
            write.given.checksum = write.given.checksum.or(seen.digests()?.checksum);
            let body = Body::new(Some(len), stream::iter(pieces.into_iter().map(Ok)));
            return self.write_known(name, len, body, write).await;
        }
        let state = self.begin_upload(name, &write.attributes, write.sse.as_ref(), None).await?;
        let written = self.write_parts(&state, (pieces, len), bytes, &seen, &write).await;
        if written.is_err() {
            // What is left if this fails too is listed as an upload, and an abort removes it.
            let _ = self.store.abort(&state.upload()).await;
            let _ = self.remove_state(name.bucket(), &state.id).await;
        }
        written
    }

    async fn write_parts(
        &self,
        state: &State,
        first: (Vec<Bytes>, u64),
        mut bytes: BoxStream<'static, sealift::Result<Bytes>>,
        seen: &Seen,
        write: &Write,
    ) -> Result<Written> {
        let (mut pieces, mut len) = first;
        let (mut number, mut total) = (PartNumber::MIN, 0_u64);
        while len > 0 {
            total = total.saturating_add(len);
            if total > MAX_PUT {
                return Err(too_large());
            }
            let part = Body::new(Some(len), stream::iter(pieces.into_iter().map(Ok)));
            self.put_part(state, number, part).await?;
            number = number.next().ok_or_else(too_large)?;
            (pieces, len) = gather(&mut bytes).await.map_err(|error| seen.explain(error))?;
        }
        let facts = write.given.clone().facts(&seen.digests()?);
        self.complete_whole(state, facts, write.condition).await
    }

    async fn write_sealed(&self, name: &ObjectName, len: u64, body: Body, write: Write, sse: &Sse) -> Result<Written> {
        let sealer = self.begin_object(sse).await?;
        let properties = sealed_properties(&write.attributes, &sealer, sse);
        check_size(self.store.as_ref(), &properties)?;
        // Their length is needed before they are known. An MD5 has as many digits as any other, and so has a checksum.
        let placeholder = Digests { len, md5: [0; 16], crc64: 0, checksum: body.checksum().map(Checksum::placeholder) };
        let placeholder = write.given.clone().facts(&placeholder).attributes();
        let (bytes, seen) = body.checked();
        let (part, sealing) = sealer.seal_part(PartNumber::MIN, len, bytes)?;

        let parts = usize::from(len > 0);
        let trailer_len = ObjectSealer::trailer_len(parts, &placeholder);
        let (trailer_sealer, trailer_seen, given) = (sealer.clone(), Arc::clone(&seen), write.given.clone());
        let trailer = stream::once(async move {
            let facts = given.facts(&trailer_seen.digests()?);
            trailer_sealer.seal_trailer(&[sealing.record()?], facts.attributes())
        });
        let payload = match len {
            // An empty object is its trailer alone; the empty part is taken, so that its end is checked, and dropped.
            0 => {
                let trailer = part.map_ok(|_| Bytes::new()).chain(trailer);
                let trailer = trailer.try_filter(|bytes| std::future::ready(!bytes.is_empty()));
                Payload::produced(trailer_len, trailer)
            }
            _ => Payload::produced(part.len().saturating_add(trailer_len), part.chain(trailer)),
        };
        let put = self.store.put_object(name.path(), payload, &properties, write.condition).await;
        let stored = put.map_err(|error| seen.explain(error))?;
        let facts = write.given.facts(&seen.digests()?);
        self.facts.put(name.path(), &stored, &facts);
        Ok(Written::of(facts, Some(Encrypted::of(sealer.envelope(), Encrypted::note(sse)))))
    }

    async fn write_plain(&self, name: &ObjectName, len: u64, body: Body, write: Write) -> Result<Written> {
        let mut properties = write.attributes.to_properties();
        let (bytes, seen) = body.checked();
        if len <= HELD {
            let bytes: Vec<Bytes> = bytes.try_collect().await.map_err(|error| seen.explain(error))?;
            let facts = write.given.facts(&seen.digests()?);
            facts.note(&mut properties);
            check_size(self.store.as_ref(), &properties)?;
            self.store.put_object(name.path(), Payload::held(bytes), &properties, write.condition).await?;
            return Ok(Written::of(facts, None));
        }

        let id = super::random_name()?;
        Own::Facts.set(&mut properties, &id);
        check_size(self.store.as_ref(), &properties)?;
        // The last bytes are held back until the facts are stored: once there is an object, they are there too.
        let (facts_seen, given, facts_path) = (Arc::clone(&seen), write.given.clone(), super::names::facts(&id)?);
        let store = Arc::clone(&self.store);
        let keep = stream::once(async move {
            let facts = given.facts(&facts_seen.digests()?);
            let json = serde_json::to_vec(&facts)
                .map_err(|e| sealift::Error::new(ErrorKind::Internal, "facts do not become JSON").with_source(e))?;
            let payload = Payload::held(vec![json.into()]);
            store.put_object(&facts_path, payload, &Properties::default(), PutCondition::None).await?;
            Ok(Bytes::new())
        });
        let payload = Payload::produced(len, hold_back(bytes.chain(keep)));
        let put = self.store.put_object(name.path(), payload, &properties, write.condition).await;
        if let Err(error) = put {
            self.forget_facts(Some(&properties)).await;
            return Err(seen.explain(error));
        }
        Ok(Written::of(write.given.facts(&seen.digests()?), None))
    }

    /// Begins an object that is encrypted so.
    pub(super) async fn begin_object(&self, sse: &Sse) -> Result<ObjectSealer> {
        let recipient = self.keys.recipient(sse)?;
        let named = match sse {
            Sse::Managed(Encryption::Kms { key_id: Some(id) }) => Some(id.clone()),
            _ => None,
        };
        let begun = self.engine.begin_object(&[recipient], Default::default(), None).await;
        begun.map_err(|error| match named {
            Some(key) => Failure::of_wrapping(error, &key),
            None => error.into(),
        })
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        let properties = self.properties_at(name).await?;
        match self.store.delete(name.path()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            deleted => deleted?,
        }
        self.forget_facts(properties.as_ref()).await;
        Ok(())
    }

    /// The properties of the object that is there, if one is.
    pub(super) async fn properties_at(&self, name: &ObjectName) -> Result<Option<Properties>> {
        Ok(self.stored_at(name).await?.map(|stored| stored.properties))
    }

    /// What the store has there, if it has something.
    pub(super) async fn stored_at(&self, name: &ObjectName) -> Result<Option<Stored>> {
        match self.store.head(name.path()).await {
            Ok(stored) => Ok(Some(stored)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The next bytes of a stream: as many as a part is made of, or what is left.
async fn gather(bytes: &mut BoxStream<'static, sealift::Result<Bytes>>) -> sealift::Result<(Vec<Bytes>, u64)> {
    let (mut pieces, mut len) = (Vec::new(), 0_u64);
    while len < GATHERED {
        let Some(piece) = bytes.try_next().await? else { break };
        len = len.saturating_add(piece.len() as u64);
        pieces.push(piece);
    }
    Ok((pieces, len))
}

fn too_large() -> Failure {
    let message = format!("Your proposed upload exceeds the maximum allowed size of {MAX_PUT} bytes.");
    Failure::new(FailureKind::EntityTooLarge, message)
}

/// The metadata of a sealed object.
pub(super) fn sealed_properties(attributes: &Attributes, sealer: &ObjectSealer, sse: &Sse) -> Properties {
    let mut properties = attributes.to_properties();
    properties.metadata.extend(sealer.envelope().to_metadata());
    if let Some(note) = Encrypted::note(sse) {
        Own::Sse.set(&mut properties, note);
    }
    properties
}

/// The same bytes, each piece only once there is a next one, which may be empty.
fn hold_back(
    bytes: impl stream::Stream<Item = sealift::Result<Bytes>> + Send,
) -> impl stream::Stream<Item = sealift::Result<Bytes>> + Send {
    stream::unfold((Box::pin(bytes), None::<Bytes>), |(mut bytes, mut held)| async move {
        loop {
            match bytes.next().await {
                Some(Ok(next)) => {
                    if let Some(now) = held.replace(next) {
                        return Some((Ok(now), (bytes, held)));
                    }
                }
                Some(Err(error)) => return Some((Err(error), (bytes, None))),
                None => {
                    let last = held.take()?;
                    return Some((Ok(last), (bytes, None)));
                }
            }
        }
    })
    .try_filter(|piece| std::future::ready(!piece.is_empty()))
}

//! Copying objects: onto others by writing them anew, onto themselves by as little as it takes.

use std::collections::BTreeMap;

use sealift::KmsService;
use sealift::format::{Envelope, check_own_metadata};

use super::attributes::{Attributes, Own, check_size};
use super::checksums::ChecksumAlgorithm;
use super::encryption::{CustomerKey, Encrypted, Sse};
use super::error::{Failure, FailureKind, Result};
use super::facts::Facts;
use super::incoming::Body;
use super::names::ObjectName;
use super::read::{Conditions, Object, ObjectInfo};
use super::write::{Given, Write, Written, condition};
use super::{Inner, Service};

/// What is to be copied, and how.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// The object to copy.
    pub source: ObjectName,
    /// The key that the source was encrypted under, if that is a customer's.
    pub source_key: Option<CustomerKey>,
    /// What must be true of the source.
    pub conditions: Conditions,
    /// What the copy has besides its bytes. `None` is what the source has.
    pub attributes: Option<Attributes>,
    /// The algorithm of the checksum that the copy is to have. `None` is the source's checksum, if it has one.
    pub checksum: Option<ChecksumAlgorithm>,
    /// How the copy is encrypted. `None` is its bucket's default; the source's encryption does not count.
    pub sse: Option<Sse>,
    /// Whether an object that is there stays, and this fails.
    pub if_not_exists: bool,
}

/// How often an object is copied onto itself, if another does that at the same time.
const TURNS: u32 = 5;

impl Service {
    /// Copies an object. ETag and CRC-64 stay what they are.
    ///
    /// Onto itself, it changes encryption and attributes: an object that stays sealed is given to its new CMK without its data being
    /// written, and one that stays plaintext keeps its data too.
    ///
    /// # Errors
    /// As those of reading the source, and of [writing](Self::put_object) the copy. Onto itself, [`Changed`](FailureKind::Changed) if
    /// others go on writing it meanwhile.
    pub async fn copy_object(&self, to: &ObjectName, request: CopyRequest) -> Result<(Written, ObjectInfo)> {
        let CopyRequest { source, source_key, conditions, attributes, checksum, sse, if_not_exists } = request;
        let sse = self.0.encryption_of(to.bucket(), sse).await?;
        let mut turns = TURNS;
        let (object, attributes) = loop {
            turns -= 1;
            let object = self.0.open(&source, source_key.as_ref()).await?;
            conditions.check(object.info())?;
            let attributes = attributes.clone().unwrap_or_else(|| object.info().attributes.clone());
            // For another checksum, all bytes are read.
            if source != *to || if_not_exists || to_compute(checksum, object.info()).is_some() {
                break (object, attributes);
            }
            let written = match (&object.sealed, &sse) {
                (None, None) => self.0.replace_attributes(&object, to, &attributes).await.map(Some),
                (Some(_), Some(sse)) => self.0.rewrap(&object, to, &attributes, sse).await,
                _ => Ok(None),
            };
            match written {
                Ok(Some(written)) => return Ok((written, object.info().clone())),
                Ok(None) => break (object, attributes),
                // Another did the same at the same time. The ETag that clients see is still what it was, and so are their conditions.
                Err(error) if error.kind() == FailureKind::Changed && turns > 0 => {}
                Err(error) => return Err(error),
            }
        };
        let info = object.info().clone();
        let body = Body::new(Some(info.len), object.read(0..info.len));
        let (body, checksum) = match to_compute(checksum, &info) {
            Some(algorithm) => (body.with_checksum(algorithm, || Ok(None)), None),
            None => (body, info.checksum.clone()),
        };
        let given = Given { etag: Some(info.etag.clone()), checksum };
        let write = Write { attributes, sse, condition: condition(if_not_exists), given };
        Ok((self.0.write(to, body, write).await?, info))
    }
}

/// The algorithm that is asked for, if the object has no checksum of it.
fn to_compute(asked: Option<ChecksumAlgorithm>, info: &ObjectInfo) -> Option<ChecksumAlgorithm> {
    asked.filter(|asked| info.checksum.as_ref().is_none_or(|has| has.algorithm() != *asked))
}

impl Inner {
    async fn replace_attributes(&self, object: &Object, name: &ObjectName, attributes: &Attributes) -> Result<Written> {
        let mut properties = attributes.to_properties();
        let info = object.info();
        match Own::Facts.of(&object.stored.properties) {
            Some(id) => Own::Facts.set(&mut properties, id),
            None => Facts::of_info(info).note(&mut properties),
        }
        check_size(self.store.as_ref(), &properties)?;
        self.store.replace_metadata(name.path(), &properties.metadata, &object.stored.etag).await?;
        Ok(Written::of(Facts::of_info(info), None))
    }

    /// Gives a sealed object to the CMK that `sse` names, and replaces its attributes with the same write. `None` if it has no
    /// data key that could stay: then it has to be written anew.
    async fn rewrap(
        &self,
        object: &Object,
        name: &ObjectName,
        attributes: &Attributes,
        sse: &Sse,
    ) -> Result<Option<Written>> {
        let Some(reader) = &object.sealed else { return Ok(None) };
        let before = reader.envelope();
        let is_customers = |envelope: &Envelope| envelope.data_keys().iter().any(|key| key.kms == KmsService::KeyFile);
        // Whoever had a customer's key has the data key, and who takes a new one expects them not to.
        if is_customers(before) || matches!(sse, Sse::Customer(_)) {
            return Ok(None);
        }
        let recipient = self.keys.recipient(sse)?;
        let bound_to = before.is_bound().then(|| (self.store.bucket(), name.path().as_str()));
        let context = Envelope::kms_context(before.object_id(), before.context(), bound_to);
        let wrapped = recipient
            .kms
            .wrap(&recipient.key, reader.data_key(), &context)
            .await
            .map_err(|error| Failure::of_wrapping(error, &recipient.key))?;
        let same = before.data_keys().len() == 1
            && before.data_keys().iter().all(|old| (old.kms, &old.key) == (wrapped.kms, &wrapped.key));
        let data_keys = if same { before.data_keys().to_vec() } else { vec![wrapped] };
        let envelope = Envelope::new(*before.object_id(), data_keys, before.context().clone(), before.is_bound())?;
        let mut properties = attributes.to_properties();
        check_own_metadata(&properties.metadata)?;
        properties.metadata.extend(envelope.to_metadata());
        if let Some(note) = Encrypted::note(sse) {
            Own::Sse.set(&mut properties, note);
        }
        check_size(self.store.as_ref(), &properties)?;
        let metadata: &BTreeMap<_, _> = &properties.metadata;
        let stored = self.store.replace_metadata(name.path(), metadata, &object.stored.etag).await?;
        let facts = Facts::of_info(object.info());
        self.facts.put(name.path(), &stored, &facts);
        Ok(Some(Written::of(facts, Some(Encrypted::of(&envelope, Encrypted::note(sse))))))
    }
}

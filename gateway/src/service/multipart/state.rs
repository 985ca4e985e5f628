//! What an upload is, as its record in the store says it: authenticated under the upload's data key, if it has one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sealift::engine::{Note, ObjectSealer};
use sealift::format::Envelope;
use sealift::store::{Properties, Upload};
use sealift::{Error, ErrorKind, ObjectId, UploadId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::super::attributes::Own;
use super::super::checksums::ChecksumKind;
use super::super::encryption::{CustomerKey, Encrypted};
use super::super::error::{Failure, FailureKind, Result, no_such_upload};
use super::super::names::{self, BucketName, ObjectName};
use super::super::{Inner, PARALLEL, no_json, random_name};

/// Name of the record of an upload.
pub(super) const UPLOAD: &str = "upload";
/// For how long the data key of an upload stays at hand, so that each of its parts need not ask the key service.
const AT_HAND: Duration = Duration::from_secs(60);
/// Of how many uploads.
const REMEMBERED: usize = 1024;

/// What an upload is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Record {
    pub(super) version: u32,
    /// The object's name within its bucket.
    pub(super) key: String,
    /// Milliseconds since 1970.
    pub(super) created: u64,
    /// The store's own id for it.
    pub(super) store_upload: UploadId,
    /// The metadata that the object is to have, its envelope included.
    pub(super) metadata: BTreeMap<String, String>,
    /// The checksum that the object is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<ChecksumKind>,
}

/// The record as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// [`Record`] as JSON.
    record: String,
    /// Its SHA-256, sealed, if the object is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<String>,
}

/// An upload that can be gone on with.
#[derive(Debug)]
pub(in super::super) struct State {
    pub(super) name: ObjectName,
    pub(in super::super) id: String,
    pub(super) record: Record,
    pub(super) sealer: Option<ObjectSealer>,
    pub(super) encrypted: Option<Encrypted>,
}

/// A fresh id of an upload. That of an encrypted one is its object's, with a letter in front, so that nobody who can write to the store
/// can make another object of it, or have its parts stored as plaintext.
pub(super) fn new_id(sealer: Option<&ObjectSealer>) -> Result<String> {
    match sealer {
        Some(sealer) => Ok(format!("E{}", base16ct::upper::encode_string(sealer.envelope().object_id().as_bytes()))),
        None => Ok(format!("P{}", random_name()?.to_uppercase())),
    }
}

/// The object that an id of an encrypted upload names. `None` if it is one of a plaintext upload.
pub(super) fn object_of(id: &str) -> Result<Option<ObjectId>> {
    let (kind, digits) = id.split_at_checked(1).ok_or_else(no_such_upload)?;
    let mut bytes = [0; 16];
    if base16ct::upper::decode(digits, &mut bytes).map_or(0, <[u8]>::len) != bytes.len() {
        return Err(no_such_upload());
    }
    match kind {
        "E" => Ok(Some(ObjectId::from_bytes(bytes))),
        "P" => Ok(None),
        _ => Err(no_such_upload()),
    }
}

impl State {
    pub(super) fn new(name: ObjectName, id: String, record: Record, sealer: Option<ObjectSealer>) -> Self {
        let encrypted = sealer.as_ref().map(|sealer| {
            let properties = Properties { metadata: record.metadata.clone(), ..Properties::default() };
            Encrypted::of(sealer.envelope(), Own::Sse.of(&properties))
        });
        Self { name, id, record, sealer, encrypted }
    }

    pub(in super::super) fn upload(&self) -> Upload {
        Upload { key: self.name.path().clone(), id: self.record.store_upload.clone() }
    }

    /// A part of an upload with a customer's key comes with the same key, although that may be at hand.
    pub(super) fn check_customer(&self, customer: Option<&CustomerKey>) -> Result<()> {
        let needed = self.encrypted == Some(Encrypted::Customer);
        let sealed_for = self.sealer.as_ref().and_then(|sealer| sealer.envelope().data_keys().first());
        let is_same = match customer {
            None => !needed,
            Some(customer) => needed && sealed_for.is_some_and(|key| key.key == customer.id()),
        };
        if is_same { Ok(()) } else { Err(other_key()) }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let record = serde_json::to_string(&self.record).map_err(no_json)?;
        let seal = match &self.sealer {
            Some(sealer) => Some(STANDARD.encode(sealer.seal_note(Note::Upload, &Sha256::digest(&record))?)),
            None => None,
        };
        serde_json::to_vec(&Stored { record, seal }).map_err(no_json)
    }
}

impl Inner {
    /// An upload, with its data key.
    pub(super) async fn upload(
        &self,
        name: &ObjectName,
        id: &str,
        customer: Option<&CustomerKey>,
    ) -> Result<Arc<State>> {
        let object_id = object_of(id)?;
        if let Some(state) = self.uploads.get(name, id) {
            return Ok(state);
        }
        let (stored, record) = self.record(name, id).await?;
        let sealer = match object_id {
            None => None,
            Some(object_id) => {
                let envelope = Envelope::from_metadata(&record.metadata)?;
                let altered = || altered(id);
                if *envelope.object_id() != object_id {
                    return Err(altered());
                }
                let bound_to = (self.store.bucket(), name.path().as_str());
                let is_customers = Encrypted::of(&envelope, None) == Encrypted::Customer;
                let restored = self.engine.restore_object(envelope, bound_to, &self.keys.trusted(customer)).await;
                let sealer = restored.map_err(|error| match Failure::from(error) {
                    failure if is_customers && failure.kind() == FailureKind::KeyMissing => other_key(),
                    failure => failure,
                })?;
                let seal = stored.seal.ok_or_else(altered)?;
                let seal = STANDARD.decode(seal).map_err(|_| altered())?;
                if sealer.open_note(Note::Upload, &seal)? != Sha256::digest(&stored.record).as_slice() {
                    return Err(altered());
                }
                Some(sealer)
            }
        };
        Ok(self.uploads.put(State::new(name.clone(), id.to_owned(), record, sealer)))
    }

    /// The store's upload behind one of a client's, as its record says without proof: enough to give it up.
    pub(super) async fn upload_in_store(&self, name: &ObjectName, id: &str) -> Result<Upload> {
        object_of(id)?;
        let (_, record) = self.record(name, id).await?;
        Ok(Upload { key: name.path().clone(), id: record.store_upload })
    }

    async fn record(&self, name: &ObjectName, id: &str) -> Result<(Stored, Record)> {
        let path = names::of_upload(name.bucket(), id, UPLOAD)?;
        let Some(json) = self.read_small(&path).await? else {
            // If there is no bucket either, that is what to tell.
            self.bucket(name.bucket()).await?;
            return Err(no_such_upload());
        };
        let (stored, record) = decode(&json).ok_or_else(|| altered(id))?;
        // An upload of another object of the bucket.
        if record.key != name.key() {
            return Err(no_such_upload());
        }
        Ok((stored, record))
    }

    /// Removes all that is kept of an upload. The record comes last: until then it can be aborted again.
    pub(in crate::service) async fn remove_state(&self, bucket: &BucketName, id: &str) -> Result<()> {
        self.uploads.remove(bucket, id);
        let prefix = format!("{}{id}.", names::uploads(bucket));
        let rows: Vec<_> = self.store.list(&prefix).try_collect().await?;
        let record = names::of_upload(bucket, id, UPLOAD)?;
        let delete = |path: sealift::ObjectKey| async move {
            match self.store.delete(&path).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                deleted => deleted.map_err(Failure::from),
            }
        };
        let parts = rows.into_iter().map(|row| row.key).filter(|path| *path != record).map(delete);
        stream::iter(parts).buffer_unordered(PARALLEL).try_collect::<Vec<_>>().await?;
        delete(record.clone()).await
    }
}

fn other_key() -> Failure {
    let message =
        "The provided encryption parameters did not match the ones used originally: send the upload's key along.";
    Failure::new(FailureKind::InvalidArgument, message)
}

fn decode(json: &[u8]) -> Option<(Stored, Record)> {
    let stored: Stored = serde_json::from_slice(json).ok()?;
    let record: Record = serde_json::from_str(&stored.record).ok()?;
    (record.version == 1).then_some((stored, record))
}

/// What a listing of uploads tells of one, without proof.
pub(super) fn describe(json: &[u8]) -> Option<(String, u64)> {
    decode(json).map(|(_, record)| (record.key, record.created))
}

pub(super) fn altered(id: &str) -> Failure {
    let cause = Error::new(ErrorKind::Authentication, format!("the state of the upload {id} was altered or damaged"));
    Failure::new(FailureKind::Damaged, "What is stored of the upload was altered or damaged.").with_cause(cause)
}

/// Uploads whose data keys are at hand.
#[derive(Debug, Default)]
pub(in super::super) struct UploadCache(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    states: HashMap<(BucketName, String), (Arc<State>, Instant)>,
    order: VecDeque<(BucketName, String)>,
}

impl UploadCache {
    fn get(&self, name: &ObjectName, id: &str) -> Option<Arc<State>> {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.bucket().clone(), id.to_owned());
        let (state, since) = remembered.states.get(&key)?;
        if since.elapsed() > AT_HAND {
            remembered.states.remove(&key);
            return None;
        }
        // A customer's key is asked for with each request: it proves that the client still has it.
        (state.name == *name && state.encrypted != Some(Encrypted::Customer)).then(|| Arc::clone(state))
    }

    pub(super) fn put(&self, state: State) -> Arc<State> {
        let state = Arc::new(state);
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (state.name.bucket().clone(), state.id.clone());
        if remembered.states.insert(key.clone(), (Arc::clone(&state), Instant::now())).is_none() {
            remembered.order.push_back(key);
        }
        while remembered.order.len() > REMEMBERED {
            if let Some(oldest) = remembered.order.pop_front() {
                remembered.states.remove(&oldest);
            }
        }
        state
    }

    fn remove(&self, bucket: &BucketName, id: &str) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.states.remove(&(bucket.clone(), id.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_none_name_no_upload() {
        for bad in ["", "E", "E12", "../upload", &format!("X{}", "0".repeat(32)), &format!("E{}", "g".repeat(32)), "é"]
        {
            assert_eq!(object_of(bad).unwrap_err().kind(), FailureKind::NoSuchUpload, "{bad}");
        }
        for digits in ["0f".repeat(16), "+F".repeat(16), "0F".repeat(15), "0F".repeat(17), "0F".repeat(15) + "0"] {
            assert!(object_of(&format!("E{digits}")).is_err(), "{digits}");
        }
        let id = format!("E{}", "0F".repeat(16));
        assert_eq!(object_of(&id).unwrap(), Some(ObjectId::from_bytes([15; 16])));
        assert_eq!(object_of(&new_id(None).unwrap()).unwrap(), None);
    }
}

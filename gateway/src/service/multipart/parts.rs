//! Parts: each sealed while it comes in, stored under its client's number, and recorded when it is stored.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sealift::crypto::sealed_len;
use sealift::engine::PartRecord;
use sealift::store::{Payload, Properties, PutCondition, PutPart};
use sealift::{ByteRange, ETag, ErrorKind, ObjectKey, PartNumber};
use serde::{Deserialize, Serialize};

use super::super::checksums::{Checksum, ChecksumKind};
use super::super::encryption::{CustomerKey, Encrypted};
use super::super::error::{Failure, FailureKind, Result};
use super::super::incoming::Body;
use super::super::names::{self, ObjectName};
use super::super::read::{Conditions, ObjectInfo};
use super::super::{Inner, MAX_PUT, PARALLEL, SMALL_FILE, Service, collect, millis, no_json, random_name};
use super::state::{State, altered};
use super::{ATTEMPT, number};

const PART: &str = "part-";
pub(super) const COMPLETION: &str = "completion";

/// Which part is sent.
#[derive(Clone, Debug, Default)]
pub struct PartRequest {
    /// Its number, 1 to 10,000.
    pub number: u32,
    /// The key that the upload was begun with, if that is a customer's.
    pub customer: Option<CustomerKey>,
}

/// Where a part's bytes are copied from.
#[derive(Clone, Debug)]
pub struct PartSource {
    /// The object.
    pub object: ObjectName,
    /// Which bytes of it, all of which it has. `None` is all.
    pub range: Option<ByteRange>,
    /// The key it was encrypted under, if that is a customer's.
    pub key: Option<CustomerKey>,
    /// What must be true of it.
    pub conditions: Conditions,
}

/// A part that is stored.
#[derive(Clone, Debug)]
pub struct PartInfo {
    /// Its number.
    pub number: u32,
    /// Length of its plaintext in bytes.
    pub len: u64,
    /// MD5 of its plaintext: its ETag, in lower case and without quotes.
    pub etag: String,
    /// CRC-64/XZ of its plaintext.
    pub crc64: u64,
    /// Its checksum, if the upload's are to have one or the client sent one.
    pub checksum: Option<Checksum>,
    /// When it was stored.
    pub modified: SystemTime,
    /// How the object is encrypted, if it is.
    pub encrypted: Option<Encrypted>,
}

/// What is noted of a part that is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PartNote {
    pub(super) len: u64,
    pub(super) md5: String,
    pub(super) crc64: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<Checksum>,
    /// Milliseconds since 1970.
    pub(super) modified: u64,
    pub(super) at: Place,
}

/// Where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    /// It is a part of the store's upload, with this ETag.
    Part(ETag),
    /// It waits, sealed, under this name.
    Staged(String),
    /// It has none.
    Nothing,
}

/// A part that the object can be made of.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) number: PartNumber,
    pub(super) note: PartNote,
    /// Its sealing, if the object is sealed.
    pub(super) record: Option<PartRecord>,
}

impl Service {
    /// Stores a part. One that was stored under its number before is replaced.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchUpload`], [`FailureKind::UploadIsCompleting`], [`FailureKind::MissingLength`],
    /// [`FailureKind::EntityTooLarge`], [`FailureKind::InvalidRequest`] if it comes with a checksum of another algorithm than the upload's,
    /// those of the CMK's state; what is wrong with the body, found at its end; and what the store says.
    pub async fn upload_part(&self, name: &ObjectName, id: &str, request: PartRequest, body: Body) -> Result<PartInfo> {
        let number = number(request.number)?;
        let state = self.0.upload(name, id, request.customer.as_ref()).await?;
        state.check_customer(request.customer.as_ref())?;
        self.0.put_part(&state, number, body).await
    }

    /// Stores a part whose bytes are an object's, and says of what state of it.
    ///
    /// # Errors
    /// Those of [`upload_part`](Self::upload_part), and those of reading the object.
    pub async fn upload_part_copy(
        &self,
        name: &ObjectName,
        id: &str,
        request: PartRequest,
        source: PartSource,
    ) -> Result<(PartInfo, ObjectInfo)> {
        let number = number(request.number)?;
        let state = self.0.upload(name, id, request.customer.as_ref()).await?;
        state.check_customer(request.customer.as_ref())?;
        let object = self.0.open(&source.object, source.key.as_ref()).await?;
        source.conditions.check(object.info())?;
        let len = object.info().len;
        let range = match source.range {
            Some(ByteRange::Inclusive { last, .. }) if last >= len => {
                let message = format!("The range goes beyond the end of the object, which has {len} bytes.");
                return Err(Failure::new(FailureKind::InvalidRange, message));
            }
            Some(range) => range.resolve(len)?,
            None => 0..len,
        };
        let body = Body::new(Some(range.end.saturating_sub(range.start)), object.read(range));
        Ok((self.0.put_part(&state, number, body).await?, object.info().clone()))
    }
}

impl Inner {
    pub(in super::super) async fn put_part(&self, state: &State, number: PartNumber, body: Body) -> Result<PartInfo> {
        if self.read_completion(state).await?.is_some() {
            return Err(is_completing());
        }
        let missing = "You must provide the Content-Length HTTP header.";
        let len = body.announced_len().ok_or_else(|| Failure::new(FailureKind::MissingLength, missing))?;
        if len > MAX_PUT {
            let message = format!("A part has at most {MAX_PUT} bytes.");
            return Err(Failure::new(FailureKind::EntityTooLarge, message));
        }
        let (bytes, seen) = with_checksum(state, body)?.checked();
        let (payload, sealing) = match &state.sealer {
            Some(sealer) => {
                let (payload, sealing) = sealer.seal_part(number, len, bytes)?;
                (payload, Some(sealing))
            }
            None => (Payload::produced(len, bytes), None),
        };
        let stored = match self.place_of(state, number, len)? {
            Place::Nothing => payload.try_for_each(|_| std::future::ready(Ok(()))).await.map(|()| Place::Nothing),
            Place::Staged(name) => {
                let path = names::of_upload(state.name.bucket(), &state.id, &name)?;
                let put = self.store.put_object(&path, payload, &Properties::default(), PutCondition::None).await;
                put.map(|_| Place::Staged(name))
            }
            Place::Part(_) => {
                let part = PutPart { number, attempt: ATTEMPT, offset: None, payload };
                self.store.put_part(&state.upload(), part).await.map(Place::Part)
            }
        };
        let at = stored.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::of_upload(error),
            _ => seen.explain(error),
        })?;
        let digests = seen.digests()?;
        let modified = millis(SystemTime::now());
        let md5 = base16ct::lower::encode_string(&digests.md5);
        let (crc64, checksum) = (digests.crc64, digests.checksum);
        let note = PartNote { len, md5, crc64, checksum, modified, at };
        let record = sealing.map(|sealing| sealing.record()).transpose()?;
        let entry = Entry { number, note, record };
        let path = names::of_upload(state.name.bucket(), &state.id, &record_name(number)?)?;
        self.write_small(&path, entry.encode(state)?, PutCondition::None).await?;
        Ok(entry.info(state))
    }

    /// Where a part is to be put: whether it can stand before others in the store's upload, and leaves a number for the trailer.
    fn place_of(&self, state: &State, number: PartNumber, len: u64) -> Result<Place> {
        let limits = self.store.limits();
        if len == 0 {
            return Ok(Place::Nothing);
        }
        let too_small = sealed_len(len).is_none_or(|sealed| sealed < limits.min_part);
        if state.sealer.is_some() && (too_small || number >= limits.max_parts) {
            return Ok(Place::Staged(format!("staged-{number:05}-{}", random_name()?)));
        }
        Ok(Place::Part(ETag(String::new())))
    }

    /// The parts that an upload has now: of several sealings of one, the one that the store has, or the last of those that it has.
    pub(super) async fn entries(&self, state: &State) -> Result<BTreeMap<PartNumber, Entry>> {
        let listed = self.store.list_attempts(&state.upload()).await.map_err(Failure::of_upload)?;
        let in_store: HashSet<_> = listed.into_iter().map(|part| (part.number, part.etag)).collect();
        let prefix = names::of_upload(state.name.bucket(), &state.id, PART)?;
        let rows: Vec<_> = self.store.list(prefix.as_str()).try_collect().await?;
        let found = rows.into_iter().filter_map(|row| {
            let number = number_of(row.key.as_str().strip_prefix(prefix.as_str())?)?;
            Some(async move { self.entry(state, number, &row.key).await })
        });
        let found: Vec<Option<Entry>> = stream::iter(found).buffered(PARALLEL).try_collect().await?;
        let mut entries = BTreeMap::<PartNumber, Entry>::new();
        for entry in found.into_iter().flatten() {
            let is_there = match &entry.note.at {
                Place::Part(etag) => in_store.contains(&(entry.number, etag.clone())),
                Place::Staged(_) | Place::Nothing => true,
            };
            let is_newer = entries.get(&entry.number).is_none_or(|other| other.note.modified <= entry.note.modified);
            if is_there && is_newer {
                entries.insert(entry.number, entry);
            }
        }
        Ok(entries)
    }

    async fn entry(&self, state: &State, number: PartNumber, path: &ObjectKey) -> Result<Option<Entry>> {
        // One that is gone was removed by an abort meanwhile.
        let Some(bytes) = self.read_small(path).await? else { return Ok(None) };
        let altered = || altered(&state.id);
        let (record, note) = match &state.sealer {
            Some(sealer) => {
                let (record, note) = sealer.open_record(number, &bytes)?;
                (Some(record), note)
            }
            None => (None, bytes),
        };
        let note: PartNote = serde_json::from_slice(&note).map_err(|_| altered())?;
        if record.is_some_and(|record| record.len() != note.len || record.crc64() != note.crc64) {
            return Err(altered());
        }
        Ok(Some(Entry { number, note, record }))
    }

    /// What is recorded of the Complete that was begun, if one was.
    pub(super) async fn read_completion(&self, state: &State) -> Result<Option<Vec<u8>>> {
        let path = names::of_upload(state.name.bucket(), &state.id, COMPLETION)?;
        match self.store.get(&path, None, None).await {
            Ok(got) => Ok(Some(collect(got, SMALL_FILE).await?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Entry {
    fn encode(&self, state: &State) -> Result<Vec<u8>> {
        let note = serde_json::to_vec(&self.note).map_err(no_json)?;
        match (&state.sealer, &self.record) {
            (Some(sealer), Some(record)) => Ok(sealer.seal_record(record, &note)?),
            _ => Ok(note),
        }
    }

    pub(super) fn info(&self, state: &State) -> PartInfo {
        PartInfo {
            number: self.number.get(),
            len: self.note.len,
            etag: self.note.md5.clone(),
            crc64: self.note.crc64,
            checksum: self.note.checksum.clone(),
            modified: UNIX_EPOCH + Duration::from_millis(self.note.modified.min(1 << 50)),
            encrypted: state.encrypted.clone(),
        }
    }
}

/// A part's checksum is computed by the upload's algorithm. Another one would not be compared at Complete.
fn with_checksum(state: &State, body: Body) -> Result<Body> {
    match (state.record.checksum.map(ChecksumKind::algorithm), body.checksum()) {
        (Some(upload), Some(part)) if upload != part => {
            let message =
                format!("The upload was begun with the checksum algorithm {upload}, and the part came with {part}.");
            Err(Failure::new(FailureKind::InvalidRequest, message))
        }
        (Some(upload), None) => Ok(body.with_checksum(upload, || Ok(None))),
        _ => Ok(body),
    }
}

pub(super) fn is_completing() -> Failure {
    let message = "The upload is being completed with a list of parts: only the same Complete, or Abort, is possible.";
    Failure::new(FailureKind::UploadIsCompleting, message)
}

/// Every sealing of a part has a record of its own: two that are stored at the same time do not know which the store keeps.
fn record_name(number: PartNumber) -> Result<String> {
    Ok(format!("{PART}{:05}-{}", number.get(), random_name()?))
}

/// The part that the end of such a name names.
fn number_of(name: &str) -> Option<PartNumber> {
    let (number, _) = name.split_once('-')?;
    PartNumber::try_from(number.parse::<u32>().ok()?).ok()
}

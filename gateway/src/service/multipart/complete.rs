//! Complete: the client's list is checked, recorded, and only then sealed into the manifest that makes the parts an object.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use md5::{Digest as _, Md5};
use sealift::crypto::Crc64;
use sealift::engine::{Note, ObjectSealer};
use sealift::store::{CompletedPart, Payload, Properties, PutCondition, PutPart};
use sealift::{ETag, ErrorKind, PartNumber};
use serde::{Deserialize, Serialize};

use super::super::attributes::Own;
use super::super::checksums::{Checksum, ChecksumAlgorithm, ChecksumKind, ChecksumType};
use super::super::encryption::{CustomerKey, Encrypted};
use super::super::error::{Failure, FailureKind, Result, invalid_part};
use super::super::facts::{Facts, Kept};
use super::super::names::{self, ObjectName};
use super::super::read::envelope;
use super::super::write::{Written, condition};
use super::super::{Inner, Service, no_json};
use super::ATTEMPT;
use super::parts::{COMPLETION, Entry, Place, is_completing};
use super::state::{State, altered, object_of};

/// Which parts the object is to be made of.
#[derive(Clone, Debug)]
pub struct CompleteRequest {
    /// Ascending by number. `None`: all that are stored.
    pub parts: Option<Vec<ListedPart>>,
    /// The fewest bytes that a part other than the last has.
    pub min_part: u64,
    /// How the object's ETag is computed.
    pub etag_style: ETagStyle,
    /// Whether an object that is there stays, and this fails.
    pub if_not_exists: bool,
    /// How many bytes the object must have.
    pub len: Option<u64>,
    /// The checksum that the object must have, as S3 writes it.
    pub checksum: Option<(ChecksumAlgorithm, String)>,
    /// What its checksum must be of.
    pub checksum_type: Option<ChecksumType>,
    /// The key that the upload was begun with, if that is a customer's.
    pub customer: Option<CustomerKey>,
}

/// A part as the client lists it.
#[derive(Clone, Debug)]
pub struct ListedPart {
    /// Its number.
    pub number: u32,
    /// The ETag that it must have.
    pub etag: String,
    /// The checksum that it must have, as S3 writes it.
    pub checksum: Option<(ChecksumAlgorithm, String)>,
}

/// How the ETag of an object is made of those of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ETagStyle {
    /// MD5 of the parts' ETags in upper-case hexadecimal, as OSS does.
    Oss,
    /// MD5 of the parts' MD5s, as S3 does.
    S3,
}

/// What a Complete was begun with.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Completion {
    /// Number, length and ETag of each part.
    parts: Vec<(u32, u64, String)>,
    etag: String,
    crc64: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<Checksum>,
}

impl Service {
    /// Makes the object of the listed parts. From the moment that the list was found good, the upload can only be completed with the
    /// same, or aborted; repeating a Complete whose answer was lost succeeds as long as the object is there.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchUpload`], [`FailureKind::InvalidPart`], [`FailureKind::InvalidPartOrder`], [`FailureKind::EntityTooSmall`],
    /// [`FailureKind::UploadIsCompleting`], [`FailureKind::AlreadyExists`] if so asked, [`FailureKind::BadDigest`] and
    /// [`FailureKind::InvalidRequest`] if the object would be another than the request says, those of the CMK's state, and what the store says.
    pub async fn complete(&self, name: &ObjectName, id: &str, request: CompleteRequest) -> Result<Written> {
        let inner = &self.0;
        let state = match inner.upload(name, id, request.customer.as_ref()).await {
            Err(failure) if failure.kind() == FailureKind::NoSuchUpload => {
                return inner.completed_before(name, id, &request).await?.ok_or(failure);
            }
            state => state?,
        };
        let begun = inner.completion(&state).await?;
        let entries = match inner.entries(&state).await {
            // The store has forgotten the upload: because it is complete, perhaps.
            Err(failure) if failure.kind() == FailureKind::NoSuchUpload => {
                return match begun {
                    Some(done) => inner.already_published(&state, &request, done).await,
                    // Another gateway did it, and removed what was kept of it.
                    None => inner.completed_before(name, id, &request).await?.ok_or(failure),
                };
            }
            entries => entries?,
        };
        let chosen = match &request.parts {
            Some(listed) => choose(listed, |number| entries.get(&number).cloned())?,
            None => entries.into_values().collect(),
        };
        let whole = check_sizes(&chosen, request.min_part.max(inner.least_in_the_middle(&state)))?;
        let completion = Completion::of(&chosen, request.etag_style, state.record.checksum);
        request.check(&completion.facts())?;
        if begun.as_ref().is_some_and(|begun| *begun != completion) {
            return Err(is_completing());
        }
        let condition = condition(request.if_not_exists);
        let replaced = inner.properties_at(name).await?;
        if condition == PutCondition::IfNotExists && replaced.is_some() {
            return Err(Failure::new(FailureKind::AlreadyExists, "The object exists already."));
        }
        if begun.is_none() {
            inner.record_completion(&state, &completion).await?;
        }
        match inner.publish(&state, &whole, &completion, condition).await {
            Ok(stored) => inner.facts.put(name.path(), &stored, &completion.facts()),
            Err(failure) if failure.kind() == FailureKind::NoSuchUpload => {
                return inner.already_published(&state, &request, completion).await;
            }
            Err(failure) => return Err(failure),
        }
        inner.forget_replaced(&state, replaced).await;
        inner.finish(&state, completion).await
    }
}

impl Inner {
    /// The fewest bytes that a plaintext part other than the last must have for the store. Sealed ones that are too small are staged.
    fn least_in_the_middle(&self, state: &State) -> u64 {
        if state.sealer.is_none() { self.store.limits().min_part } else { 0 }
    }

    /// Makes the object of parts that a body of unknown length was cut into, with the ETag and the checksum of the whole.
    pub(in super::super) async fn complete_whole(
        &self,
        state: &State,
        facts: Facts,
        condition: PutCondition,
    ) -> Result<Written> {
        let parts: Vec<_> = self.entries(state).await?.into_values().collect();
        let Facts { etag, checksum, .. } = facts;
        let completion = Completion { etag, checksum, ..Completion::of(&parts, ETagStyle::S3, None) };
        let replaced = self.properties_at(&state.name).await?;
        self.record_completion(state, &completion).await?;
        self.publish(state, &parts, &completion, condition).await?;
        self.forget_replaced(state, replaced).await;
        self.finish(state, completion).await
    }

    async fn publish(
        &self,
        state: &State,
        parts: &[Entry],
        completion: &Completion,
        condition: PutCondition,
    ) -> Result<ETag> {
        match &state.sealer {
            Some(sealer) => self.publish_sealed(state, sealer, parts, completion, condition).await,
            None => self.publish_plain(state, parts, completion, condition).await,
        }
    }

    /// Removes what was noted beside an object that is not there any more.
    async fn forget_replaced(&self, state: &State, replaced: Option<Properties>) {
        let is_own = |properties: &&Properties| Own::Facts.of(properties) == Some(state.id.as_str());
        self.forget_facts(replaced.as_ref().filter(|properties| !is_own(properties))).await;
    }

    /// Puts the trailer behind the parts, and publishes them.
    async fn publish_sealed(
        &self,
        state: &State,
        sealer: &ObjectSealer,
        parts: &[Entry],
        completion: &Completion,
        condition: PutCondition,
    ) -> Result<ETag> {
        let (last, before) = match parts.split_last() {
            Some((last, before)) => (Some(last), before),
            None => (None, parts),
        };
        let mut list = Vec::with_capacity(parts.len() + 1);
        for part in before {
            match &part.note.at {
                Place::Part(etag) => list.push(CompletedPart { number: part.number, etag: etag.clone() }),
                // Too small for the store, or the highest number there is and not the last.
                Place::Staged(_) | Place::Nothing => return Err(too_small()),
            }
        }
        let records: Vec<_> = parts.iter().filter_map(|part| part.record).collect();
        let trailer = sealer.seal_trailer(&records, completion.facts().attributes())?;
        let (number, payload) = match last {
            None => (PartNumber::MIN, Payload::held(vec![trailer])),
            Some(Entry { number, note, .. }) => match &note.at {
                Place::Staged(name) => (*number, self.staged(state, name, trailer).await?),
                Place::Part(etag) => {
                    list.push(CompletedPart { number: *number, etag: etag.clone() });
                    let next = number.next().ok_or_else(|| altered(&state.id))?;
                    (next, Payload::held(vec![trailer]))
                }
                Place::Nothing => return Err(altered(&state.id)),
            },
        };
        let part = PutPart { number, attempt: ATTEMPT, offset: None, payload };
        let etag = self.store.put_part(&state.upload(), part).await.map_err(Failure::of_upload)?;
        list.push(CompletedPart { number, etag });
        self.store.complete(&state.upload(), &list, condition).await.map_err(Failure::of_upload)
    }

    /// A sealed part that waited, followed by the trailer.
    async fn staged(&self, state: &State, name: &str, trailer: Bytes) -> Result<Payload> {
        let path = names::of_upload(state.name.bucket(), &state.id, name)?;
        let got = self.store.get(&path, None, None).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => invalid_part(),
            _ => error.into(),
        })?;
        let len = got.info.len.saturating_add(trailer.len() as u64);
        Ok(Payload::produced(len, got.body.chain(stream::iter([Ok(trailer)]))))
    }

    async fn publish_plain(
        &self,
        state: &State,
        parts: &[Entry],
        completion: &Completion,
        condition: PutCondition,
    ) -> Result<ETag> {
        let cut = completion.parts.iter().map(|(number, len, _)| (*number, *len));
        self.keep_facts(&state.id, &Kept::new(completion.facts(), cut)).await?;
        let upload = state.upload();
        let mut list = Vec::with_capacity(parts.len());
        for part in parts {
            let Place::Part(etag) = &part.note.at else { return Err(altered(&state.id)) };
            list.push(CompletedPart { number: part.number, etag: etag.clone() });
        }
        if list.is_empty() {
            // Stores want at least one part, which may be empty if it is the last.
            let payload = Payload::held(Vec::new());
            let part = PutPart { number: PartNumber::MIN, attempt: ATTEMPT, offset: None, payload };
            let etag: ETag = self.store.put_part(&upload, part).await.map_err(Failure::of_upload)?;
            list.push(CompletedPart { number: PartNumber::MIN, etag });
        }
        self.store.complete(&upload, &list, condition).await.map_err(Failure::of_upload)
    }

    /// Answers a Complete that was done before and whose answer was lost.
    async fn already_published(&self, state: &State, request: &CompleteRequest, done: Completion) -> Result<Written> {
        if let Some(listed) = &request.parts {
            let same = listed.len() == done.parts.len()
                && listed
                    .iter()
                    .zip(&done.parts)
                    .all(|(part, (done, _, md5))| part.number == *done && bare(&part.etag).eq_ignore_ascii_case(md5));
            if !same {
                return Err(is_completing());
            }
        }
        let gone = super::super::error::no_such_upload;
        let stored = self.store.head(state.name.path()).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => gone(),
            _ => error.into(),
        })?;
        let is_this = match &state.sealer {
            Some(sealer) => envelope(&stored)?.is_some_and(|found| found.object_id() == sealer.envelope().object_id()),
            None => Own::Facts.of(&stored.properties) == Some(state.id.as_str()),
        };
        if !is_this {
            return Err(gone());
        }
        request.check(&done.facts())?;
        self.finish(state, done).await
    }

    /// Answers a Complete whose upload is forgotten, if the object that is there is what it made, of the listed parts.
    async fn completed_before(
        &self,
        name: &ObjectName,
        id: &str,
        request: &CompleteRequest,
    ) -> Result<Option<Written>> {
        let Some(stored) = self.stored_at(name).await? else { return Ok(None) };
        let envelope = envelope(&stored)?;
        let is_its = match (object_of(id)?, &envelope) {
            (Some(object_id), Some(envelope)) => *envelope.object_id() == object_id,
            (None, None) => Own::Facts.of(&stored.properties) == Some(id),
            _ => false,
        };
        if !is_its {
            return Ok(None);
        }
        let facts = self.facts(name.path(), &stored, request.customer.as_ref()).await?;
        let listed = request.parts.as_ref().map(|listed| {
            let etags = listed.iter().map(|part| bare(&part.etag));
            etag_of(etags, request.etag_style)
        });
        if listed.is_some_and(|etag| etag != facts.etag) {
            return Ok(None);
        }
        request.check(&facts)?;
        let encrypted = envelope.map(|envelope| Encrypted::of(&envelope, Own::Sse.of(&stored.properties)));
        Ok(Some(Written::of(facts, encrypted)))
    }

    /// Forgets an upload whose object is there.
    async fn finish(&self, state: &State, completion: Completion) -> Result<Written> {
        if let Err(failure) = self.remove_state(state.name.bucket(), &state.id).await {
            // The object is published. What is left is listed as an upload, and an abort removes it.
            tracing::warn!(%failure, upload = state.id, "what was kept of an upload that is complete could not be removed");
        }
        Ok(Written::of(completion.facts(), state.encrypted.clone()))
    }

    async fn completion(&self, state: &State) -> Result<Option<Completion>> {
        let Some(bytes) = self.read_completion(state).await? else { return Ok(None) };
        let json = match &state.sealer {
            Some(sealer) => sealer.open_note(Note::Completion, &bytes)?,
            None => bytes,
        };
        Ok(Some(serde_json::from_slice(&json).map_err(|_| altered(&state.id))?))
    }

    async fn record_completion(&self, state: &State, completion: &Completion) -> Result<()> {
        let json = serde_json::to_vec(completion).map_err(no_json)?;
        let bytes = match &state.sealer {
            Some(sealer) => sealer.seal_note(Note::Completion, &json)?,
            None => json,
        };
        let path = names::of_upload(state.name.bucket(), &state.id, COMPLETION)?;
        // Of two that complete it at the same time, one comes first.
        self.write_small(&path, bytes, PutCondition::IfNotExists).await.map_err(|failure| match failure.kind() {
            FailureKind::AlreadyExists => is_completing(),
            _ => failure,
        })
    }
}

impl CompleteRequest {
    /// Refuses an object that is not what the request says of it.
    fn check(&self, facts: &Facts) -> Result<()> {
        let refused = |message: String| Err(Failure::new(FailureKind::InvalidRequest, message));
        if self.len.is_some_and(|len| len != facts.len) {
            return refused(format!(
                "The parts have {} bytes together, and not as many as the request says.",
                facts.len
            ));
        }
        let has = facts.checksum.as_ref();
        if self.checksum_type.is_some_and(|of| has.is_none_or(|has| has.of() != of)) {
            return refused("The upload was not begun with this checksum type.".to_owned());
        }
        match (&self.checksum, has) {
            (None, _) => Ok(()),
            (Some((algorithm, value)), Some(has)) if *algorithm == has.algorithm() => match value == has.value() {
                true => Ok(()),
                false => {
                    let message = format!("The {algorithm} you specified did not match the calculated checksum.");
                    Err(Failure::new(FailureKind::BadDigest, message))
                }
            },
            (Some((algorithm, _)), _) => {
                refused(format!("The upload was not begun with the checksum algorithm {algorithm}."))
            }
        }
    }
}

impl Completion {
    fn of(parts: &[Entry], style: ETagStyle, checksum: Option<ChecksumKind>) -> Self {
        let crc64 = parts.iter().fold(0, |crc, part| Crc64::combine(crc, part.note.crc64, part.note.len));
        Self {
            parts: parts.iter().map(|part| (part.number.get(), part.note.len, part.note.md5.clone())).collect(),
            etag: etag_of(parts.iter().map(|part| part.note.md5.as_str()), style),
            crc64,
            checksum: checksum
                .and_then(|kind| kind.of_parts(parts.iter().map(|part| (part.note.checksum.as_ref(), part.note.len)))),
        }
    }

    fn facts(&self) -> Facts {
        let len = self.parts.iter().fold(0_u64, |sum, (_, len, _)| sum.saturating_add(*len));
        Facts { len, etag: self.etag.clone(), crc64: Some(self.crc64), checksum: self.checksum.clone() }
    }
}

/// The ETag of an object whose parts have these.
fn etag_of<'a>(parts: impl ExactSizeIterator<Item = &'a str>, style: ETagStyle) -> String {
    let count = parts.len();
    let mut md5 = Md5::new();
    for part in parts {
        match style {
            ETagStyle::Oss => md5.update(part.to_uppercase()),
            // Digits that are none are of nobody's MD5, and stand for no bytes.
            ETagStyle::S3 => md5.update(base16ct::mixed::decode_vec(part).unwrap_or_default()),
        }
    }
    format!("{}-{count}", base16ct::lower::encode_string(&md5.finalize()))
}

/// The listed parts, each with the ETag and the checksum it is listed with.
fn choose(listed: &[ListedPart], entry: impl Fn(PartNumber) -> Option<Entry>) -> Result<Vec<Entry>> {
    if listed.is_empty() {
        return Err(Failure::new(FailureKind::InvalidArgument, "You must specify at least one part."));
    }
    if !listed.is_sorted_by(|a, b| a.number < b.number) {
        let message = "The list of parts was not in ascending order.";
        return Err(Failure::new(FailureKind::InvalidPartOrder, message));
    }
    let one = |part: &ListedPart| {
        let entry = entry(super::number(part.number)?).ok_or_else(invalid_part)?;
        let has = entry.note.checksum.as_ref().map(|checksum| (checksum.algorithm(), checksum.value()));
        let is_its = part.checksum.as_ref().is_none_or(|(algorithm, value)| has == Some((*algorithm, value)));
        match is_its && bare(&part.etag).eq_ignore_ascii_case(&entry.note.md5) {
            true => Ok(entry),
            false => Err(invalid_part()),
        }
    };
    listed.iter().map(one).collect()
}

/// The parts that have bytes, if all but the last have enough, and can stand before others in the store.
fn check_sizes(chosen: &[Entry], min_part: u64) -> Result<Vec<Entry>> {
    let (_, before) = chosen
        .split_last()
        .ok_or_else(|| Failure::new(FailureKind::InvalidArgument, "You must specify at least one part."))?;
    if before.iter().any(|part| part.note.len < min_part) {
        return Err(too_small());
    }
    let whole: Vec<_> = chosen.iter().filter(|part| part.note.len > 0).cloned().collect();
    let is_staged = |part: &Entry| matches!(part.note.at, Place::Staged(_));
    if whole.split_last().is_some_and(|(_, before)| before.iter().any(is_staged)) {
        return Err(too_small());
    }
    Ok(whole)
}

fn too_small() -> Failure {
    let message =
        "Your proposed upload is smaller than the minimum allowed size: a part other than the last is too small.";
    Failure::new(FailureKind::EntityTooSmall, message)
}

/// An ETag without the quotes that it may be written with.
fn bare(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By Python's hashlib, of the parts `a` and `b`.
    #[test]
    fn etags_of_multipart_objects_are_those_of_s3_and_oss() {
        let parts = ["0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f"];
        for (style, etag) in [
            (ETagStyle::S3, "96e024ba2074fe77e8e965ba43a704be-2"),
            (ETagStyle::Oss, "6a57590691a4345f35997dc1b3c6ffd6-2"),
        ] {
            assert_eq!(etag_of(parts.into_iter(), style), etag);
        }
    }
}

//! Reading objects: what they are, and any range of their plaintext.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use sealift::engine::Reader;
use sealift::format::Envelope;
use sealift::store::{MultipartStore, ObjectInfo as Stored};
use sealift::{ByteRange, ErrorKind};

use super::attributes::{Attributes, Own};
use super::checksums::Checksum;
use super::encryption::{CustomerKey, Encrypted};
use super::error::{Failure, FailureKind, Result};
use super::facts::Facts;
use super::names::ObjectName;
use super::{Inner, Service};

/// How a sealed body ends.
const MAGIC: &[u8; 8] = b"SEALIFT1";

/// What an object is to its reader.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Length of the plaintext in bytes.
    pub len: u64,
    /// ETag of the plaintext, in lower case and without quotes. With a hyphen, it is no MD5.
    pub etag: String,
    /// CRC-64/XZ of the plaintext, if it is known.
    pub crc64: Option<u64>,
    /// The checksum that its writer chose, if one was chosen.
    pub checksum: Option<Checksum>,
    /// When it was written.
    pub modified: SystemTime,
    /// What its writer gave it besides.
    pub attributes: Attributes,
    /// How it is encrypted, if it is.
    pub encrypted: Option<Encrypted>,
}

/// An object that was opened. What is read of it is one state of it.
pub struct Object {
    info: ObjectInfo,
    pub(super) stored: Stored,
    name: ObjectName,
    store: Arc<dyn MultipartStore>,
    /// Number and length of each part that a client made it of, as far as they are kept.
    parts: Vec<(u32, u64)>,
    pub(super) sealed: Option<Reader>,
}

/// A part that an object was uploaded in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPart {
    /// Its number.
    pub number: u32,
    /// Which bytes of the object it is.
    pub range: Range<u64>,
}

/// What must be true of an object for a request to be answered (RFC 9110, section 13).
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// One of these ETags, or `*`.
    pub if_match: Option<String>,
    /// None of these ETags.
    pub if_none_match: Option<String>,
    /// That it was written after this.
    pub if_modified_since: Option<SystemTime>,
    /// That it was not written after this.
    pub if_unmodified_since: Option<SystemTime>,
}

impl ObjectInfo {
    /// Whether it was written by a multipart upload.
    #[must_use]
    pub fn is_multipart(&self) -> bool {
        self.etag.contains('-')
    }
}

impl Conditions {
    /// Checks them all.
    ///
    /// # Errors
    /// [`FailureKind::PreconditionFailed`] or [`FailureKind::NotModified`] if they do not hold.
    pub fn check(&self, info: &ObjectInfo) -> Result<()> {
        // Headers name whole seconds.
        let modified = UNIX_EPOCH + Duration::from_secs(super::millis(info.modified) / 1000);
        let lists = |list: &str| {
            list.split(',')
                .map(|etag| etag.trim().trim_start_matches("W/").trim_matches('"'))
                .any(|etag| etag == "*" || etag.eq_ignore_ascii_case(&info.etag))
        };
        let failed = || {
            let message = "At least one of the pre-conditions you specified did not hold.";
            Err(Failure::new(FailureKind::PreconditionFailed, message))
        };
        match (&self.if_match, self.if_unmodified_since) {
            (Some(list), _) if !lists(list) => return failed(),
            (None, Some(then)) if modified > then => return failed(),
            _ => {}
        }
        let not_modified = || Err(Failure::new(FailureKind::NotModified, "The object was not modified."));
        match (&self.if_none_match, self.if_modified_since) {
            (Some(list), _) if lists(list) => not_modified(),
            (None, Some(then)) if modified <= then => not_modified(),
            _ => Ok(()),
        }
    }
}

impl Service {
    /// What an object is.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], [`FailureKind::NoSuchKey`], those of its CMK's state, and what the store says.
    pub async fn head_object(&self, name: &ObjectName, customer: Option<&CustomerKey>) -> Result<ObjectInfo> {
        let stored = self.0.head(name).await?;
        let envelope = envelope(&stored)?;
        check_customer(envelope.as_ref(), customer)?;
        let facts = self.0.facts(name.path(), &stored, customer).await?;
        Ok(info(&stored, envelope.as_ref(), facts))
    }

    /// Opens an object for reading.
    ///
    /// # Errors
    /// As [`head_object`](Self::head_object).
    pub async fn open_object(&self, name: &ObjectName, customer: Option<&CustomerKey>) -> Result<Object> {
        self.0.open(name, customer).await
    }
}

impl Inner {
    pub(super) async fn head(&self, name: &ObjectName) -> Result<Stored> {
        match self.store.head(name.path()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // If there is no bucket either, that is what to tell.
                self.bucket(name.bucket()).await?;
                Err(error.into())
            }
            head => Ok(head?),
        }
    }

    pub(super) async fn open(&self, name: &ObjectName, customer: Option<&CustomerKey>) -> Result<Object> {
        let stored = self.head(name).await?;
        let found = envelope(&stored)?;
        check_customer(found.as_ref(), customer)?;
        let store = Arc::clone(&self.store);
        if found.is_some() {
            let reader = self.open_sealed(name.path(), customer).await?;
            let stored = reader.info().clone();
            let facts = Facts::of_manifest(reader.manifest(), &stored.etag);
            self.facts.put(name.path(), &stored.etag, &facts);
            let info = info(&stored, Some(reader.envelope()), facts);
            let parts = reader.manifest().parts().iter().map(|part| (part.number.get(), part.len)).collect();
            return Ok(Object { info, stored, name: name.clone(), store, parts, sealed: Some(reader) });
        }
        let kept = self.plain_facts(&stored).await?;
        let (parts, info) = (kept.parts(), info(&stored, None, kept.facts));
        let object = Object { info, stored, name: name.clone(), store, parts, sealed: None };
        if Own::ETag.of(&object.stored.properties).is_none() && Own::Facts.of(&object.stored.properties).is_none() {
            object.refuse_sealed_body().await?;
        }
        Ok(object)
    }
}

impl Object {
    /// What it is.
    #[must_use]
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// The parts that it was uploaded in, ascending by number. One that was uploaded by one request is its only part. `None` if they are not
    /// known: it is a copy, which is cut in another way, or a part of it was empty.
    #[must_use]
    pub fn parts(&self) -> Option<Vec<ObjectPart>> {
        let Some((_, count)) = self.info.etag.rsplit_once('-') else {
            return Some(vec![ObjectPart { number: 1, range: 0..self.info.len }]);
        };
        let mut end = 0_u64;
        let mut part = |(number, len): &(u32, u64)| {
            let start = end;
            end = end.saturating_add(*len);
            ObjectPart { number: *number, range: start..end }
        };
        let parts: Vec<_> = self.parts.iter().map(&mut part).collect();
        (count == parts.len().to_string() && end == self.info.len).then_some(parts)
    }

    /// Its plaintext in `range`, which must lie within it. Of a sealed object, nothing comes before it is authenticated.
    #[must_use]
    pub fn read(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        if range.is_empty() {
            return stream::empty().boxed();
        }
        if let Some(reader) = &self.sealed {
            return reader.stream(range).map_err(Failure::from).boxed();
        }
        let (store, path, etag) = (Arc::clone(&self.store), self.name.path().clone(), self.stored.etag.clone());
        let asked = ByteRange::Inclusive { first: range.start, last: range.end.saturating_sub(1) };
        stream::once(async move {
            let got = store.get(&path, Some(asked), Some(&etag)).await?;
            match got.range == range {
                true => Ok(got.body.map_err(Failure::from)),
                false => Err(Failure::new(FailureKind::Unavailable, "The store answered with another range.")),
            }
        })
        .try_flatten()
        .boxed()
    }

    /// A sealed body without its envelope must not pass for a plaintext object, as which it can be only if its metadata was taken away.
    async fn refuse_sealed_body(&self) -> Result<()> {
        let Some(start) = self.stored.len.checked_sub(MAGIC.len() as u64) else { return Ok(()) };
        let end: Vec<Bytes> = self.read(start..self.stored.len).try_collect().await?;
        if end.concat() == MAGIC {
            let message = "The object was encrypted, and its metadata, with its wrapped data key, is gone.";
            return Err(Failure::new(FailureKind::Damaged, message));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object").field("name", &self.name).field("info", &self.info).finish_non_exhaustive()
    }
}

/// The envelope of an object, if it is sealed. One that is damaged is an error, never a plaintext object.
pub(super) fn envelope(stored: &Stored) -> Result<Option<Envelope>> {
    match Envelope::from_metadata(&stored.properties.metadata) {
        Ok(envelope) => Ok(Some(envelope)),
        Err(error) if error.kind() == ErrorKind::NotSealed => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn info(stored: &Stored, envelope: Option<&Envelope>, facts: Facts) -> ObjectInfo {
    let Facts { len, etag, crc64, checksum } = facts;
    ObjectInfo {
        len,
        etag,
        crc64,
        checksum,
        modified: stored.modified.unwrap_or(UNIX_EPOCH),
        attributes: Attributes::of(&stored.properties),
        encrypted: envelope.map(|envelope| Encrypted::of(envelope, Own::Sse.of(&stored.properties))),
    }
}

/// A customer's key goes with the objects that were encrypted under one, and with no other.
fn check_customer(envelope: Option<&Envelope>, customer: Option<&CustomerKey>) -> Result<()> {
    let needed = envelope.is_some_and(|envelope| Encrypted::of(envelope, None) == Encrypted::Customer);
    let message = match (needed, customer) {
        (true, None) => "The object was encrypted under a customer's key: send that key along.",
        (false, Some(_)) => "The object was not encrypted under a customer's key: send none along.",
        _ => return Ok(()),
    };
    Err(Failure::new(FailureKind::InvalidArgument, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_those_of_http() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let info = ObjectInfo {
            len: 0,
            etag: "abc".into(),
            crc64: None,
            checksum: None,
            modified: at(100) + Duration::from_millis(500),
            attributes: Attributes::default(),
            encrypted: None,
        };
        let kind = |conditions: Conditions| conditions.check(&info).err().map(|failure| failure.kind());
        let etags = |text: &str| Some(text.to_owned());
        let failed = Some(FailureKind::PreconditionFailed);
        let same = Some(FailureKind::NotModified);
        let none = Conditions::default;
        for (conditions, expected) in [
            (none(), None),
            (Conditions { if_match: etags("\"ABC\""), ..none() }, None),
            (Conditions { if_match: etags("\"x\", W/\"abc\""), ..none() }, None),
            (Conditions { if_match: etags("*"), ..none() }, None),
            (Conditions { if_match: etags("\"x\""), ..none() }, failed),
            (Conditions { if_none_match: etags("abc"), ..none() }, same),
            (Conditions { if_none_match: etags("x"), ..none() }, None),
            (Conditions { if_modified_since: Some(at(100)), ..none() }, same),
            (Conditions { if_modified_since: Some(at(99)), ..none() }, None),
            (Conditions { if_unmodified_since: Some(at(100)), ..none() }, None),
            (Conditions { if_unmodified_since: Some(at(99)), ..none() }, failed),
            // An ETag outranks a date.
            (Conditions { if_match: etags("abc"), if_unmodified_since: Some(at(1)), ..none() }, None),
            (Conditions { if_none_match: etags("x"), if_modified_since: Some(at(200)), ..none() }, None),
        ] {
            assert_eq!(kind(conditions.clone()), expected, "{conditions:?}");
        }
    }
}

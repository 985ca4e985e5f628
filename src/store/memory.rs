//! A store in memory that is as strict as the object stores: for tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};

use super::{
    CompletedPart, GetObject, Limits, ListedObject, MultipartStore, ObjectInfo, Payload, Properties, PutCondition,
    PutPart, StoredPart, Upload,
};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{ByteRange, ETag, ObjectKey, PartNumber, UploadId};

/// Objects in memory, gone with the value. For tests.
///
/// As strict as the object stores: parts below the minimum are refused at Complete, every stored part and object gets an ETag that
/// nothing else has, and Complete compares them. Payloads are copied, so that none of the sender's buffers is kept.
///
/// ```
/// use sealift::ObjectKey;
/// use sealift::store::{MemoryStore, MultipartStore, Payload, Properties, PutCondition};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// let store = MemoryStore::new();
/// let key: ObjectKey = "a/b".parse()?;
/// store.put_object(&key, Payload::held(vec!["body".into()]), &Properties::default(), PutCondition::None).await?;
/// assert_eq!(store.head(&key).await?.len, 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the last tag or upload id was made of; each is used once.
    counter: u64,
    objects: BTreeMap<ObjectKey, Object>,
    uploads: BTreeMap<UploadId, OpenUpload>,
}

#[derive(Clone, Debug)]
struct Object {
    segments: Vec<Bytes>,
    etag: ETag,
    modified: SystemTime,
    properties: Properties,
}

#[derive(Debug)]
struct OpenUpload {
    key: ObjectKey,
    properties: Properties,
    parts: BTreeMap<PartNumber, Part>,
}

#[derive(Clone, Debug)]
struct Part {
    bytes: Bytes,
    etag: ETag,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store with S3's limits, but parts of any length.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(Limits {
            min_part: 1,
            max_part: 5 << 30,
            max_parts: PartNumber::MAX,
            max_metadata: 2048,
            equal_parts: false,
        })
    }

    /// An empty store with limits of the caller's choice: a minimum part length of 5 MiB as S3 has, equal parts as R2 has.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is one assignment at its end, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_properties(&self, properties: &Properties) -> Result<()> {
        properties.refuse_classes_and_tags("memory")?;
        let size: usize = properties.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > self.limits.max_metadata {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("{size} bytes of metadata; this store takes {}", self.limits.max_metadata),
            ));
        }
        Ok(())
    }

    /// The parts of an upload as its Complete lists them.
    fn listed(&self, open: &OpenUpload, list: &[CompletedPart]) -> Result<Vec<Bytes>> {
        CompletedPart::check_list(list)?;
        let mut segments = Vec::with_capacity(list.len());
        for listed in list {
            match open.parts.get(&listed.number) {
                Some(part) if part.etag == listed.etag => segments.push(part.bytes.clone()),
                Some(_) => return Err(Error::new(ErrorKind::Changed, "it was stored again").with_part(listed.number)),
                None => return Err(Error::new(ErrorKind::Changed, "it is not stored").with_part(listed.number)),
            }
        }
        let common = segments.first().map_or(0, Bytes::len);
        let middle = list.iter().zip(&segments).rev().skip(1);
        for (listed, bytes) in middle {
            if (bytes.len() as u64) < self.limits.min_part {
                let message =
                    format!("{} bytes; all but the last part have at least {}", bytes.len(), self.limits.min_part);
                return Err(Error::new(ErrorKind::LimitExceeded, message).with_part(listed.number));
            }
            if self.limits.equal_parts && bytes.len() != common {
                let message = format!("{} bytes; all but the last part have one length, here {common}", bytes.len());
                return Err(Error::new(ErrorKind::LimitExceeded, message).with_part(listed.number));
            }
        }
        if self.limits.equal_parts && segments.last().is_some_and(|last| last.len() > common) {
            return Err(Error::new(ErrorKind::LimitExceeded, "the last part is longer than the others"));
        }
        Ok(segments)
    }
}

impl State {
    fn unique(&mut self) -> String {
        self.counter += 1;
        format!("{:016x}", self.counter)
    }

    fn upload(&mut self, upload: &Upload) -> Result<&mut OpenUpload> {
        self.uploads.get_mut(&upload.id).filter(|open| open.key == upload.key).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no upload {} of {}", upload.id, upload.key))
        })
    }

    fn object(&self, key: &ObjectKey) -> Result<&Object> {
        self.objects.get(key).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no object {key}")))
    }

    fn publish(
        &mut self,
        key: &ObjectKey,
        segments: Vec<Bytes>,
        properties: Properties,
        condition: PutCondition,
    ) -> Result<ETag> {
        if condition == PutCondition::IfNotExists && self.objects.contains_key(key) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("there is an object {key} already")));
        }
        let etag = ETag(self.unique());
        let object = Object { segments, etag: etag.clone(), modified: SystemTime::now(), properties };
        self.objects.insert(key.clone(), object);
        Ok(etag)
    }
}

impl Object {
    fn len(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len() as u64).sum()
    }

    fn info(&self) -> ObjectInfo {
        ObjectInfo {
            len: self.len(),
            etag: self.etag.clone(),
            modified: Some(self.modified),
            properties: self.properties.clone(),
            encryption: None,
        }
    }

    fn slice(&self, range: &Range<u64>) -> Vec<Bytes> {
        let mut start = 0;
        let mut pieces = Vec::new();
        for segment in &self.segments {
            let end = start + segment.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                // Offsets within a segment fit its length, a usize.
                pieces.push(segment.slice((from - start) as usize..(to - start) as usize));
            }
            start = end;
        }
        pieces
    }
}

/// The payload's bytes, copied: as many as it announced.
async fn collect(mut payload: Payload) -> Result<Bytes> {
    let len = payload.len();
    let mut bytes = BytesMut::new();
    while let Some(segment) = payload.next().await {
        bytes.extend_from_slice(&segment?);
        if bytes.len() as u64 > len {
            break;
        }
    }
    if bytes.len() as u64 != len {
        return Err(Payload::wrong_length(len, bytes.len() as u64));
    }
    Ok(bytes.freeze())
}

impl MultipartStore for MemoryStore {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn url(&self) -> String {
        "memory:".to_owned()
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn initiate<'a>(&'a self, key: &'a ObjectKey, properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>> {
        Box::pin(async move {
            self.check_properties(properties)?;
            let mut state = self.state();
            let id = UploadId(state.unique());
            let open = OpenUpload { key: key.clone(), properties: properties.clone(), parts: BTreeMap::new() };
            state.uploads.insert(id.clone(), open);
            Ok(id)
        })
    }

    fn put_part<'a>(&'a self, upload: &'a Upload, part: PutPart) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let number = part.number;
            self.state().upload(upload)?;
            let len = part.payload.len();
            if number > self.limits.max_parts || len > self.limits.max_part {
                let message = format!(
                    "this store takes parts of at most {} bytes, numbered up to {}, not {len} bytes",
                    self.limits.max_part, self.limits.max_parts
                );
                return Err(Error::new(ErrorKind::LimitExceeded, message).with_part(number));
            }
            let bytes = collect(part.payload).await.map_err(|error| error.with_part(number))?;
            let mut state = self.state();
            let etag = ETag(state.unique());
            // Looked up again: it may have been aborted or completed while the bytes came in.
            state.upload(upload)?.parts.insert(number, Part { bytes, etag: etag.clone() });
            Ok(etag)
        })
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [CompletedPart],
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let mut state = self.state();
            let open = state.upload(upload)?;
            let segments = self.listed(open, parts).map_err(|error| error.while_doing("cannot complete"))?;
            let properties = open.properties.clone();
            let etag = state.publish(&upload.key, segments, properties, condition)?;
            state.uploads.remove(&upload.id);
            Ok(etag)
        })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut state = self.state();
            if state.upload(upload).is_ok() {
                state.uploads.remove(&upload.id);
            }
            Ok(())
        })
    }

    fn list_parts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        Box::pin(async move {
            let mut state = self.state();
            let parts = state.upload(upload)?.parts.iter();
            Ok(parts
                .map(|(&number, part)| StoredPart { number, etag: part.etag.clone(), len: part.bytes.len() as u64 })
                .collect())
        })
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>> {
        Box::pin(async move {
            let state = self.state();
            let mut uploads: Vec<_> = state
                .uploads
                .iter()
                .filter(|(_, open)| open.key.as_str().starts_with(prefix))
                .map(|(id, open)| Upload { key: open.key.clone(), id: id.clone() })
                .collect();
            uploads.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
            Ok(uploads)
        })
    }

    fn put_object<'a>(
        &'a self,
        key: &'a ObjectKey,
        payload: Payload,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            self.check_properties(properties)?;
            let bytes = collect(payload).await?;
            self.state().publish(key, vec![bytes], properties.clone(), condition)
        })
    }

    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Option<ByteRange>,
        if_match: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>> {
        Box::pin(async move {
            let state = self.state();
            let object = state.object(key)?;
            if if_match.is_some_and(|etag| *etag != object.etag) {
                return Err(Error::new(ErrorKind::Changed, format!("{key} is not what it was")));
            }
            let range = match range {
                Some(range) => range.resolve(object.len())?,
                None => 0..object.len(),
            };
            let body = stream::iter(object.slice(&range).into_iter().map(Ok)).boxed();
            Ok(GetObject { info: object.info(), range, body })
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(async move { Ok(self.state().object(key)?.info()) })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut state = self.state();
            state.object(key)?;
            state.objects.remove(key);
            Ok(())
        })
    }

    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        to: &'a ObjectKey,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let mut state = self.state();
            let Object { segments, properties, .. } = state.object(from)?.clone();
            state.publish(to, segments, properties, condition)
        })
    }

    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        metadata: &'a BTreeMap<String, String>,
        if_match: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let mut state = self.state();
            let object = state.object(key)?;
            let properties = Properties { metadata: metadata.clone(), ..object.properties.clone() };
            self.check_properties(&properties)?;
            if object.etag != *if_match {
                return Err(Error::new(ErrorKind::Changed, format!("{key} is not what it was")));
            }
            let segments = object.segments.clone();
            state.publish(key, segments, properties, PutCondition::None)
        })
    }

    fn list_after<'a>(&'a self, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        let state = self.state();
        let objects: Vec<_> = state
            .objects
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix) && key.as_str() > after)
            .map(|(key, object)| {
                Ok(ListedObject { key: key.clone(), len: object.len(), modified: Some(object.modified) })
            })
            .collect();
        stream::iter(objects).boxed()
    }
}

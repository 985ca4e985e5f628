//! A store that counts and drops what it is given: for measuring.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};

use super::direct::{DirectStore, PartSink, Written};
use super::{
    CompletedPart, GetObject, Limits, ListedObject, MultipartStore, ObjectInfo, Payload, Properties, PutCondition,
    PutPart, StoredPart, Upload,
};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{ByteRange, ETag, ObjectKey, PartNumber, UploadId};

/// Takes every upload, counts its bytes and drops them: `discard:`, for measuring.
///
/// Every payload is taken to its end, so what is measured is everything but storing. Nothing can be read back: each key is
/// [`NotFound`](ErrorKind::NotFound).
///
/// ```
/// use sealift::store::{DiscardStore, MultipartStore, Payload, Properties, PutCondition};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// let store = DiscardStore::new();
/// let payload = Payload::held(vec!["some".into(), " bytes".into()]);
/// store.put_object(&"key".parse()?, payload, &Properties::default(), PutCondition::None).await?;
/// assert_eq!(store.bytes(), 10);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct DiscardStore {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    parts: AtomicU64,
    /// What the last tag or upload id was made of.
    names: AtomicU64,
}

impl DiscardStore {
    /// A store that has taken nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes it took, in parts and objects, those of payloads that failed included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Relaxed)
    }

    /// How many parts it took whole.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.counts.parts.load(Relaxed)
    }

    async fn consume(&self, mut payload: Payload) -> Result<ETag> {
        let (len, mut taken) = (payload.len(), 0);
        while let Some(segment) = payload.next().await {
            let n = segment?.len() as u64;
            self.counts.bytes.fetch_add(n, Relaxed);
            taken += n;
        }
        if taken != len {
            return Err(Payload::wrong_length(len, taken));
        }
        Ok(ETag(self.counts.unique()))
    }

    fn nothing<T: Send + 'static>(key: &ObjectKey) -> BoxFuture<'static, Result<T>> {
        let error = Error::new(ErrorKind::NotFound, format!("{key} was discarded, as everything in this store is"));
        future::ready(Err(error)).boxed()
    }
}

impl Counts {
    fn unique(&self) -> String {
        format!("discarded-{}", self.names.fetch_add(1, Relaxed))
    }
}

/// A part that is dropped piece by piece.
struct Sink {
    counts: Arc<Counts>,
    written: Written,
}

impl DirectStore for DiscardStore {
    fn begin_part<'a>(
        &'a self,
        _upload: &'a Upload,
        _number: PartNumber,
        _offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn PartSink>>> {
        let sink: Arc<dyn PartSink> = Arc::new(Sink { counts: Arc::clone(&self.counts), written: Written::new(len) });
        future::ready(Ok(sink)).boxed()
    }
}

impl PartSink for Sink {
    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.written.add(at, bytes)?;
        self.counts.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    fn finish(self: Arc<Self>) -> BoxFuture<'static, Result<ETag>> {
        let stored = self.written.all().map(|_| {
            self.counts.parts.fetch_add(1, Relaxed);
            ETag(self.counts.unique())
        });
        future::ready(stored).boxed()
    }
}

impl MultipartStore for DiscardStore {
    /// As few as possible: what is measured here should be allowed everywhere.
    fn limits(&self) -> Limits {
        Limits { min_part: 1, max_part: 5 << 30, max_parts: PartNumber::MAX, max_metadata: 2048, equal_parts: false }
    }

    fn url(&self) -> String {
        "discard:".to_owned()
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn initiate<'a>(&'a self, _key: &'a ObjectKey, _properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>> {
        future::ready(Ok(UploadId(self.counts.unique()))).boxed()
    }

    fn put_part<'a>(&'a self, _upload: &'a Upload, part: PutPart) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let etag = self.consume(part.payload).await.map_err(|error| error.with_part(part.number))?;
            self.counts.parts.fetch_add(1, Relaxed);
            Ok(etag)
        })
    }

    fn direct(&self) -> Option<&dyn DirectStore> {
        Some(self)
    }

    fn complete<'a>(
        &'a self,
        _upload: &'a Upload,
        _parts: &'a [CompletedPart],
        _condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        future::ready(Ok(ETag(self.counts.unique()))).boxed()
    }

    fn abort<'a>(&'a self, _upload: &'a Upload) -> BoxFuture<'a, Result<()>> {
        future::ready(Ok(())).boxed()
    }

    fn list_parts<'a>(&'a self, _upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        future::ready(Ok(Vec::new())).boxed()
    }

    fn list_uploads<'a>(&'a self, _prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>> {
        future::ready(Ok(Vec::new())).boxed()
    }

    fn put_object<'a>(
        &'a self,
        _key: &'a ObjectKey,
        payload: Payload,
        _properties: &'a Properties,
        _condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(self.consume(payload))
    }

    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        _range: Option<ByteRange>,
        _if_match: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>> {
        Self::nothing(key)
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>> {
        Self::nothing(key)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>> {
        Self::nothing(key)
    }

    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        _to: &'a ObjectKey,
        _condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Self::nothing(from)
    }

    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        _metadata: &'a BTreeMap<String, String>,
        _if_match: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>> {
        Self::nothing(key)
    }

    fn list_after<'a>(&'a self, _prefix: &'a str, _after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        stream::empty().boxed()
    }
}

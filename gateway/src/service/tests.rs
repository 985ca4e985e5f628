//! The service over a store in memory: what is stored, what is visible when, and that any gateway can go on.

mod faults;
mod multipart;
mod objects;

use std::sync::Arc;

use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use sealift::Engine;
use sealift::kms::Kms;
use sealift::kms::local::{CreateKey, LocalKms, RootKeySource};
use sealift::store::{Limits, MemoryStore, MultipartStore, Properties};

use super::*;
use crate::Keys;

const BUCKET: &str = "test-hongkong-2025";

/// A service, and what is behind it.
struct World {
    service: Service,
    store: Arc<dyn MultipartStore>,
    kms: Arc<LocalKms>,
    engine: Engine,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new())).await
    }

    async fn over(store: Arc<dyn MultipartStore>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (kms, _) = LocalKms::open_or_create(dir.path().join("kms"), RootKeySource::File).unwrap();
        let engine = Engine::builder().threads(1).memory_budget(16 << 20).build().unwrap();
        let kms = Arc::new(kms);
        let service = service(&store, &kms, &engine);
        service.create_bucket(&bucket()).await.unwrap();
        Self { service, store, kms, engine, _dir: dir }
    }

    /// Another gateway in front of the same store.
    fn another(&self) -> Service {
        service(&self.store, &self.kms, &self.engine)
    }

    fn cmk(&self) -> String {
        self.kms.create_key(CreateKey::default()).unwrap().key_id
    }

    async fn put(&self, key: &str, bytes: &[u8], sse: Option<Sse>) -> Result<Written> {
        let request = PutRequest { sse, ..PutRequest::default() };
        self.service.put_object(&object(key), body(bytes), request).await
    }

    async fn read(&self, key: &str) -> Result<Vec<u8>> {
        let opened = self.service.open_object(&object(key), None).await?;
        read(&opened, 0..opened.info().len).await
    }

    /// The body of an object as it lies in the store, and its metadata.
    async fn stored(&self, key: &str) -> (Vec<u8>, Properties) {
        let got = self.store.get(object(key).path(), None, None).await.unwrap();
        let properties = got.info.properties.clone();
        (got.body.try_collect::<Vec<Bytes>>().await.unwrap().concat(), properties)
    }

    /// All keys in the store with this prefix.
    async fn keys(&self, prefix: &str) -> Vec<String> {
        let rows: Vec<_> = self.store.list(prefix).try_collect().await.unwrap();
        rows.into_iter().map(|row| row.key.as_str().to_owned()).collect()
    }
}

fn service(store: &Arc<dyn MultipartStore>, kms: &Arc<LocalKms>, engine: &Engine) -> Service {
    let keys = Keys {
        kms: Arc::clone(kms) as Arc<dyn Kms>,
        default_key: LocalKms::DEFAULT_ALIAS.to_owned(),
        local: Some(Arc::clone(kms)),
    };
    let back = Back { engine: engine.clone(), store: Arc::clone(store), keys };
    Service::new(&back, "local").unwrap()
}

fn bucket() -> BucketName {
    BucketName::new(BUCKET).unwrap()
}

fn object(key: &str) -> ObjectName {
    bucket().object(key).unwrap()
}

/// A body in pieces of odd lengths.
fn body(bytes: &[u8]) -> Body {
    let pieces: Vec<_> = bytes.chunks(10_007).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Body::new(Some(bytes.len() as u64), stream::iter(pieces))
}

async fn read(object: &Object, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    Ok(object.read(range).try_collect::<Vec<_>>().await?.concat())
}

fn kms(key: &str) -> Option<Sse> {
    Some(Sse::Managed(Encryption::Kms { key_id: Some(key.to_owned()) }))
}

fn aes256() -> Option<Sse> {
    Some(Sse::Managed(Encryption::Aes256))
}

/// Bytes that differ from one place to the next.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    out.truncate(len);
    out
}

fn limits(min_part: u64) -> Limits {
    Limits { min_part, ..MemoryStore::new().limits() }
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> FailureKind {
    result.unwrap_err().kind()
}

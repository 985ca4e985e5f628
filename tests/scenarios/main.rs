//! What the engine must survive, by scenario: sealing, tampering, reading. The uploading ones are in `simulation.rs`.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sealift::engine::{
    Cancel, GetOptions, OnCancel, PendingUpload, Progress, ReadOptions, Reader, ResumeOptions, UploadOptions, Uploaded,
    list_uploads,
};
use sealift::format::{Envelope, Layout, Manifest, trailer};
use sealift::kms::Kms;
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{BytesSource, FileSource, MapSource, PartSource, StreamSource};
use sealift::store::{
    CompletedPart, DirStore, Limits, MemoryStore, MultipartStore, Payload, Properties, PutCondition, PutPart, Upload,
};
use sealift::{Attempt, ByteRange, DataKey, EncryptionContext, Engine, ErrorKind, ObjectKey, Result};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "../support/sim.rs"]
mod sim;

mod key_states;
mod reading;
mod tampering;
mod uploading;

use sim::{Faults, Rng, SimStore};

#[cfg(feature = "aws-lc-rs")]
#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "../support/keys.rs"]
mod keys;

struct World {
    engine: Engine,
    kms: Arc<KeyFile>,
    store: Arc<dyn MultipartStore>,
    key: ObjectKey,
}

/// An object as its store holds it.
#[derive(Clone)]
struct Stored {
    body: Vec<u8>,
    metadata: BTreeMap<String, String>,
}

impl World {
    fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()))
    }

    fn on(store: Arc<dyn MultipartStore>) -> Self {
        let engine = Engine::builder().threads(2).memory_budget(64 << 20).build().unwrap();
        let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
        Self { engine, kms, store, key: "object".parse().unwrap() }
    }

    fn recipients(&self) -> Vec<Recipient> {
        vec![Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }]
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(vec![(self.kms.clone(), TrustedKeys::Only(vec![self.kms.id().to_owned()]))])
    }

    async fn put(&self, key: &str, plain: &[u8], part_size: u64) -> Uploaded {
        let options = UploadOptions { part_size: Some(part_size), ..UploadOptions::default() };
        self.put_with(key, Box::new(BytesSource::new(Bytes::copy_from_slice(plain))), options).await.unwrap()
    }

    async fn put_with(&self, key: &str, source: Box<dyn PartSource>, options: UploadOptions) -> Result<Uploaded> {
        let recipients = self.recipients();
        self.engine.upload(self.store.clone(), key.parse().unwrap(), source, &recipients, options).await
    }

    async fn open(&self, key: &str) -> Result<Reader> {
        self.open_with(key, &ReadOptions::default()).await
    }

    async fn open_with(&self, key: &str, options: &ReadOptions) -> Result<Reader> {
        self.engine.open(self.store.clone(), key.parse().unwrap(), &self.trusted(), options).await
    }

    async fn read(&self, key: &str) -> Result<Vec<u8>> {
        read_all(&self.open(key).await?).await
    }

    async fn stored(&self, key: &str) -> Stored {
        let got = self.store.get(&key.parse().unwrap(), None, None).await.unwrap();
        let metadata = got.info.properties.metadata.clone();
        let body = got.body.try_collect::<Vec<_>>().await.unwrap().concat();
        Stored { body, metadata }
    }

    /// What a malicious store does.
    async fn replace(&self, key: &str, object: &Stored) {
        let payload = Payload::held(vec![object.body.clone().into()]);
        let properties = Properties { metadata: object.metadata.clone(), ..Properties::default() };
        self.store.put_object(&key.parse().unwrap(), payload, &properties, PutCondition::None).await.unwrap();
    }

    async fn replace_body(&self, key: &str, body: Vec<u8>) {
        let metadata = self.stored(key).await.metadata;
        self.replace(key, &Stored { body, metadata }).await;
    }

    async fn layout(&self, key: &str) -> Layout {
        Layout::new(self.open(key).await.unwrap().manifest())
    }

    async fn data_key(&self, key: &str) -> DataKey {
        DataKey::take(&mut self.open(key).await.unwrap().data_key().expose().clone()).unwrap()
    }

    /// Neither a full read nor a range read that needs what was altered releases anything.
    async fn assert_refused(&self, key: &str, range: ByteRange, kinds: &[ErrorKind]) {
        let full = self.read(key).await.map(|_| "a full read").unwrap_err();
        assert!(kinds.contains(&full.kind()), "{full:?}");
        let ranged = match self.open(key).await {
            Ok(reader) => reader.read_range(range).await.map(|_| "a range read").unwrap_err(),
            Err(e) => e,
        };
        assert!(kinds.contains(&ranged.kind()), "{ranged:?}");
    }
}

async fn read_all(reader: &Reader) -> Result<Vec<u8>> {
    Ok(reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await?.concat())
}

fn noise(len: usize) -> Vec<u8> {
    Rng::new(len as u64).bytes(len)
}

const REFUSED: &[ErrorKind] = &[ErrorKind::Authentication, ErrorKind::Malformed];

//! A key service that counts its calls, and can be made to do something while one is under way.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use sealift::kms::Kms;
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, TrustedKeys};
use sealift::{DataKey, EncryptionContext, KmsService, Result, WrappedKey};

type Meanwhile = Box<dyn Fn() -> BoxFuture<'static, ()> + Send>;

/// A key file, counted.
pub struct Counting {
    inner: KeyFile,
    generates: AtomicU32,
    wraps: AtomicU32,
    unwraps: AtomicU32,
    meanwhile: Mutex<Option<Meanwhile>>,
}

/// How often each operation was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub generates: u32,
    pub wraps: u32,
    pub unwraps: u32,
}

impl Counting {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: KeyFile::new(DataKey::random().unwrap()),
            generates: AtomicU32::new(0),
            wraps: AtomicU32::new(0),
            unwraps: AtomicU32::new(0),
            meanwhile: Mutex::new(None),
        })
    }

    pub fn id(&self) -> &str {
        self.inner.id()
    }

    pub fn recipient(self: &Arc<Self>) -> Recipient {
        Recipient { kms: self.clone(), key: self.id().to_owned() }
    }

    /// What a reader trusts that has this key.
    pub fn trust(self: &Arc<Self>) -> (Arc<dyn Kms>, TrustedKeys) {
        (self.clone(), TrustedKeys::Only(vec![self.id().to_owned()]))
    }

    /// Calls since the last time this was asked.
    pub fn calls(&self) -> Calls {
        let taken = |count: &AtomicU32| count.swap(0, Ordering::Relaxed);
        Calls { generates: taken(&self.generates), wraps: taken(&self.wraps), unwraps: taken(&self.unwraps) }
    }

    /// Done once, before the next wrap is answered.
    pub fn while_wrapping(&self, meanwhile: impl Fn() -> BoxFuture<'static, ()> + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(meanwhile));
    }
}

impl Kms for Counting {
    fn service(&self) -> KmsService {
        self.inner.service()
    }

    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
        self.generates.fetch_add(1, Ordering::Relaxed);
        self.inner.generate_data_key(key, context)
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        self.wraps.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(meanwhile) = meanwhile {
                meanwhile().await;
            }
            self.inner.wrap(key, data_key, context).await
        })
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        self.unwraps.fetch_add(1, Ordering::Relaxed);
        self.inner.unwrap(wrapped, context)
    }
}

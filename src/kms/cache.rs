//! Unwrapped data keys, kept for a while: for readers that open the same objects again and again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::crypto::DataKey;
use crate::error::Result;
use crate::kms::Kms;
use crate::types::{EncryptionContext, KmsService, WrappedKey};

/// A key service that remembers what it unwrapped. Nothing is cached unless a program asks for it by making one of these.
///
/// What it wins is calls: each cached unwrap is answered at once, is not paid for, and needs no service that is up. What it costs is
/// control:
/// - **Whoever could open an object goes on opening it for up to [`max_age`](CacheLimits::max_age)** after its CMK was disabled, deleted or
///   taken away from them.
/// - The key service's log shows one unwrap where there were up to [`max_uses`](CacheLimits::max_uses) more.
/// - Unwrapped data keys lie in memory for longer.
///
/// Only unwraps are cached, and only those that succeeded; each is remembered for the very service, CMK, wrapped key and encryption
/// context it was for. Wrapping and generating always go to the service. A key that is let go, for its age, its uses, or want of room, is
/// wiped. One that is past its age is never used, and is wiped by the next call; dropping the cache wipes all.
///
/// Several that ask for the same key at the same time, before it is there, each call the service.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use sealift::kms::Kms as _;
/// use sealift::kms::cache::{CacheLimits, CachedKms};
/// use sealift::kms::key_file::KeyFile;
/// use sealift::{DataKey, EncryptionContext};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// let service = Arc::new(KeyFile::new(DataKey::random()?));
/// let limits = CacheLimits { entries: 1_000, max_age: Duration::from_secs(60), max_uses: 100 };
/// let kms = CachedKms::new(service.clone(), limits);
///
/// let context = EncryptionContext::default();
/// let (data_key, wrapped) = kms.generate_data_key(service.id(), &context).await?;
/// for _ in 0..3 {
///     // One call to the service.
///     assert_eq!(kms.unwrap(&wrapped, &context).await?, data_key);
/// }
/// # Ok(())
/// # }
/// ```
pub struct CachedKms {
    service: Arc<dyn Kms>,
    limits: CacheLimits,
    cache: Mutex<Cache>,
}

/// How much a [`CachedKms`] keeps, and for how long. With a zero anywhere it keeps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// How many data keys at most. For one more, the oldest is let go.
    pub entries: usize,
    /// For how long each, from when it was unwrapped.
    pub max_age: Duration,
    /// How often each is handed out again.
    pub max_uses: u32,
}

impl CachedKms {
    /// Remembers what `service` unwraps, within `limits`.
    #[must_use]
    pub fn new(service: Arc<dyn Kms>, limits: CacheLimits) -> Self {
        Self { service, limits, cache: Mutex::default() }
    }

    /// Lets go of, and wipes, all that is kept: for example when a CMK was disabled and that shall count at once.
    pub fn clear(&self) {
        let mut cache = self.cache();
        *cache = Cache { clears: cache.clears + 1, ..Cache::default() };
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A panic can leave a key that no longer has its place in the order, or a place without a key. Neither is handed out wrongly.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kms for CachedKms {
    fn service(&self) -> KmsService {
        self.service.service()
    }

    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
        self.service.generate_data_key(key, context)
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        self.service.wrap(key, data_key, context)
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        Box::pin(async move {
            let name = name(wrapped, context);
            let clears = {
                let mut cache = self.cache();
                if let Some(data_key) = cache.take(&name, self.limits.max_age) {
                    return Ok(data_key);
                }
                cache.clears
            };
            // Its age counts from before the call: the CMK may have been disabled while it was under way.
            let asked = Instant::now();
            let data_key = self.service.unwrap(wrapped, context).await?;
            let mut cache = self.cache();
            if cache.clears == clears {
                cache.put(name, &data_key, asked, &self.limits);
            }
            Ok(data_key)
        })
    }
}

impl fmt::Debug for CachedKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedKms")
            .field("service", &self.service.service())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What an unwrap is remembered by: SHA-256 over all that the service is told.
type Name = [u8; 32];

fn name(wrapped: &WrappedKey, context: &EncryptionContext) -> Name {
    let WrappedKey { kms, key, blob } = wrapped;
    let mut hash = Sha256::new();
    // Each with its length before it, so that no two different lists are the same bytes.
    for field in [kms.name().as_bytes(), key.as_bytes(), blob, &context.canonical()] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

#[derive(Default)]
struct Cache {
    keys: HashMap<Name, Entry>,
    /// The oldest first.
    order: BTreeMap<Place, Name>,
    /// How many were ever put in.
    count: u64,
    /// How often all was let go: what was asked for before that is not to be kept either.
    clears: u64,
}

/// When it was asked for, and a number that nothing else has.
type Place = (Instant, u64);

struct Entry {
    data_key: DataKey,
    place: Place,
    uses_left: u32,
}

impl Cache {
    /// A use of the key that is remembered by `name`. The last use takes it out.
    fn take(&mut self, name: &Name, max_age: Duration) -> Option<DataKey> {
        self.expire(max_age);
        let entry = self.keys.get_mut(name)?;
        entry.uses_left = entry.uses_left.saturating_sub(1);
        if entry.uses_left > 0 {
            return Some(entry.data_key.duplicate());
        }
        self.remove(name).map(|entry| entry.data_key)
    }

    fn put(&mut self, name: Name, data_key: &DataKey, asked: Instant, limits: &CacheLimits) {
        self.expire(limits.max_age);
        // It took longer than it may be kept.
        let too_old = asked.elapsed() >= limits.max_age;
        if too_old || limits.entries == 0 || limits.max_uses == 0 {
            return;
        }
        self.remove(&name);
        while self.keys.len() >= limits.entries
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.keys.remove(&oldest);
        }
        self.count += 1;
        let place = (asked, self.count);
        self.order.insert(place, name);
        self.keys.insert(name, Entry { data_key: data_key.duplicate(), place, uses_left: limits.max_uses });
    }

    fn expire(&mut self, max_age: Duration) {
        while let Some(oldest) = self.order.first_entry()
            && oldest.key().0.elapsed() >= max_age
        {
            self.keys.remove(&oldest.remove());
        }
    }

    fn remove(&mut self, name: &Name) -> Option<Entry> {
        let entry = self.keys.remove(name)?;
        self.order.remove(&entry.place);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::{Error, ErrorKind};

    /// Opens any wrapped key to the key that its blob is the first byte of, and counts.
    #[derive(Default)]
    struct Service {
        unwraps: AtomicU32,
        others: AtomicU32,
        disabled: std::sync::atomic::AtomicBool,
        takes: Duration,
    }

    impl Service {
        fn unwraps(&self) -> u32 {
            self.unwraps.load(Ordering::Relaxed)
        }
    }

    fn data_key(byte: u8) -> DataKey {
        DataKey::take(&mut [byte; 32]).unwrap()
    }

    fn wrapped(byte: u8) -> WrappedKey {
        WrappedKey { kms: KmsService::Aws, key: "key".into(), blob: vec![byte] }
    }

    impl Kms for Service {
        fn service(&self) -> KmsService {
            KmsService::Aws
        }

        fn generate_data_key<'a>(
            &'a self,
            _: &'a str,
            _: &'a EncryptionContext,
        ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
            self.others.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok((data_key(9), wrapped(9))) })
        }

        fn wrap<'a>(
            &'a self,
            _: &'a str,
            _: &'a DataKey,
            _: &'a EncryptionContext,
        ) -> BoxFuture<'a, Result<WrappedKey>> {
            self.others.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(wrapped(9)) })
        }

        fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, _: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
            self.unwraps.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                tokio::time::sleep(self.takes).await;
                match self.disabled.load(Ordering::Relaxed) {
                    true => Err(Error::new(ErrorKind::KeyUnavailable, "disabled")),
                    false => Ok(data_key(wrapped.blob[0])),
                }
            })
        }
    }

    fn cached(entries: usize, seconds: u64, max_uses: u32) -> (Arc<Service>, CachedKms) {
        let service = Arc::new(Service::default());
        let limits = CacheLimits { entries, max_age: Duration::from_secs(seconds), max_uses };
        (service.clone(), CachedKms::new(service, limits))
    }

    async fn open(kms: &CachedKms, byte: u8) {
        let opened = kms.unwrap(&wrapped(byte), &EncryptionContext::default()).await.unwrap();
        assert_eq!(opened, data_key(byte));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unwrap_is_remembered_until_it_is_too_old_and_reading_it_does_not_renew_it() {
        let (service, kms) = cached(10, 60, 1000);
        for _ in 0..59 {
            open(&kms, 1).await;
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(service.unwraps(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        open(&kms, 1).await;
        assert_eq!(service.unwraps(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_is_let_go_by_the_next_call_whatever_that_is_for() {
        let (_, kms) = cached(10, 60, 1000);
        for byte in 1..=3 {
            open(&kms, byte).await;
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        open(&kms, 4).await;
        assert_eq!((kms.cache().keys.len(), kms.cache().order.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_disabled_cmk_keeps_opening_for_max_age_and_no_longer() {
        let (service, kms) = cached(10, 60, 1000);
        open(&kms, 1).await;
        service.disabled.store(true, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(59)).await;
        open(&kms, 1).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let refused = kms.unwrap(&wrapped(1), &EncryptionContext::default()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::KeyUnavailable);

        // The error is not remembered.
        service.disabled.store(false, Ordering::Relaxed);
        open(&kms, 1).await;
        // But what is forgotten on demand is.
        service.disabled.store(true, Ordering::Relaxed);
        kms.clear();
        kms.unwrap(&wrapped(1), &EncryptionContext::default()).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn its_age_counts_from_when_the_service_was_asked() {
        let service = Arc::new(Service { takes: Duration::from_secs(40), ..Service::default() });
        let limits = CacheLimits { entries: 10, max_age: Duration::from_secs(60), max_uses: 10 };
        let kms = CachedKms::new(service.clone(), limits);
        open(&kms, 1).await;
        tokio::time::advance(Duration::from_secs(19)).await;
        open(&kms, 1).await;
        assert_eq!(service.unwraps(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        open(&kms, 1).await;
        assert_eq!(service.unwraps(), 2);

        let slow = Arc::new(Service { takes: Duration::from_secs(60), ..Service::default() });
        let kms = CachedKms::new(slow.clone(), limits);
        open(&kms, 1).await;
        open(&kms, 1).await;
        assert_eq!(slow.unwraps(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn uses_are_counted() {
        let (service, kms) = cached(10, 60, 3);
        for calls in [1, 1, 1, 1, 2, 2, 2, 2, 3] {
            open(&kms, 1).await;
            assert_eq!(service.unwraps(), calls);
        }
        for _ in 0..3 {
            open(&kms, 1).await;
        }
        assert_eq!((kms.cache().keys.len(), kms.cache().order.len()), (0, 0), "the last use takes it out");
    }

    #[tokio::test(start_paused = true)]
    async fn for_want_of_room_the_oldest_is_let_go() {
        let (service, kms) = cached(2, 60, 10);
        for (byte, calls) in [(1, 1), (2, 2), (1, 2), (3, 3), (2, 3), (3, 3), (1, 4), (3, 4), (2, 5)] {
            open(&kms, byte).await;
            assert_eq!(service.unwraps(), calls, "{byte}");
            assert!(kms.cache().keys.len() <= 2 && kms.cache().order.len() <= 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_zero_keeps_nothing() {
        for (entries, seconds, uses) in [(0, 60, 10), (10, 0, 10), (10, 60, 0)] {
            let (service, kms) = cached(entries, seconds, uses);
            open(&kms, 1).await;
            open(&kms, 1).await;
            assert_eq!(service.unwraps(), 2);
            assert!(kms.cache().keys.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn service_key_blob_and_context_all_count() {
        let (service, kms) = cached(10, 60, 10);
        let context = |value: &str| EncryptionContext::new([("a".into(), value.into())]).unwrap();
        let same = || (wrapped(1), context("1"));
        let mut asked = vec![same()];
        asked.push((WrappedKey { key: "other".into(), ..wrapped(1) }, context("1")));
        asked.push((WrappedKey { blob: vec![1, 0], ..wrapped(1) }, context("1")));
        asked.push((WrappedKey { kms: KmsService::Aliyun, ..wrapped(1) }, context("1")));
        asked.push((wrapped(1), context("2")));
        asked.push((wrapped(1), EncryptionContext::default()));
        // The border between two fields.
        asked.push((WrappedKey { key: "ke".into(), blob: vec![1, b'y'], ..wrapped(1) }, context("1")));
        for (calls, (wrapped, context)) in (1..).zip(&asked) {
            kms.unwrap(wrapped, context).await.unwrap();
            assert_eq!(service.unwraps(), calls);
        }
        let (again, with) = same();
        kms.unwrap(&again, &with).await.unwrap();
        assert_eq!(service.unwraps(), asked.len() as u32);
    }

    #[tokio::test(start_paused = true)]
    async fn wrapping_and_generating_are_never_cached() {
        let (service, kms) = cached(10, 60, 10);
        let context = EncryptionContext::default();
        for _ in 0..3 {
            kms.generate_data_key("key", &context).await.unwrap();
            kms.wrap("key", &data_key(9), &context).await.unwrap();
        }
        assert_eq!(service.others.load(Ordering::Relaxed), 6);
        // Nor is what was generated remembered as if it had been unwrapped.
        open(&kms, 9).await;
        assert_eq!(service.unwraps(), 1);
    }

    #[test]
    fn debug_shows_no_key() {
        let (_, kms) = cached(1, 2, 3);
        let shown = format!("{kms:?}");
        assert!(shown.contains("Aws") && shown.contains("max_uses: 3") && !shown.contains("data_key"), "{shown}");
    }
}

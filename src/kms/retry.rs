//! Calls to a key service over a network: each attempt has a time limit, and what can succeed later is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::Kms;
use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::types::{EncryptionContext, KmsService, WrappedKey};
use crate::upload::RetryPolicy;

/// How long and how often a key service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallPolicy {
    /// How often one call is made in all, and the pauses between. Its `budget` is each call's own.
    pub retries: RetryPolicy,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Default for CallPolicy {
    /// Five attempts of at most 10 seconds, pauses of at most 5 seconds: a person waits for this, and no data is in memory yet that a
    /// longer patience could save.
    fn default() -> Self {
        let (base, cap) = (Duration::from_millis(200), Duration::from_secs(5));
        Self { retries: RetryPolicy { attempts: 5, budget: 4, base, cap }, timeout: Duration::from_secs(10) }
    }
}

/// A key service whose calls are repeated where that can help: its errors say so themselves, by [`Error::retry`].
///
/// The adapters for services on a network make each call once, and leave repeating it to this. A call that is refused for good
/// (no such key, no permission, a wrapped key that does not open) is never repeated.
///
/// ```
/// use std::sync::Arc;
///
/// use sealift::EncryptionContext;
/// use sealift::kms::retry::{CallPolicy, Retrying};
/// use sealift::kms::{Kms as _, key_file::KeyFile};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// # let service = KeyFile::new(sealift::DataKey::random()?);
/// # let key = service.id().to_owned();
/// let kms = Retrying::new(Arc::new(service), CallPolicy::default());
/// let (data_key, wrapped) = kms.generate_data_key(&key, &EncryptionContext::default()).await?;
/// assert_eq!(kms.unwrap(&wrapped, &EncryptionContext::default()).await?, data_key);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The last attempt's, with how many there were; [`ErrorKind::Timeout`] if that one took too long. A service that asks for more than a
/// minute of pause is not waited for: its error is returned at once.
///
/// Dropping a call's future ends it at any point. The service may still do what it was asked last; for wrapping and unwrapping that has
/// no effect.
#[derive(Clone)]
pub struct Retrying {
    kms: Arc<dyn Kms>,
    policy: CallPolicy,
}

impl Retrying {
    /// `kms`, each call under `policy`.
    #[must_use]
    pub fn new(kms: Arc<dyn Kms>, policy: CallPolicy) -> Self {
        Self { kms, policy }
    }

    async fn call<'a, T>(&'a self, attempt: impl Fn() -> BoxFuture<'a, Result<T>>) -> Result<T> {
        self.policy.call(self.kms.service(), attempt).await
    }
}

impl CallPolicy {
    /// Makes one call to `service`, `attempt`, as often as the policy allows: for what [`Kms`] has no method for.
    ///
    /// # Errors
    /// As [`Retrying`] says.
    pub async fn call<'a, T>(&self, service: KmsService, attempt: impl Fn() -> BoxFuture<'a, Result<T>>) -> Result<T> {
        let retries = &self.retries;
        let mut failures = 0;
        loop {
            let error = match tokio::time::timeout(self.timeout, attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => self.timed_out(service),
            };
            failures += 1;
            let asks_too_much = matches!(error.retry(), Retry::After(pause) if pause > LONGEST_ASKED);
            let pause = match retries.pause(failures, error.retry(), jitter()?) {
                Some(pause) if failures <= retries.budget && !asks_too_much => pause,
                _ if failures == 1 => return Err(error),
                _ => return Err(error.while_doing(format_args!("the last of {failures} attempts"))),
            };
            tracing::debug!(%service, failures, ?pause, %error, "a key service is asked again");
            tokio::time::sleep(pause).await;
        }
    }

    fn timed_out(&self, service: KmsService) -> Error {
        let limit = self.timeout;
        let message = format!("the {service} key service did not answer within {limit:?}: is its address right?");
        Error::new(ErrorKind::Timeout, message).with_retry(Retry::Yes)
    }
}

/// Whoever asks for more says that it will be down for a while, which its user should know now.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

fn jitter() -> Result<u64> {
    getrandom::u64().map_err(Error::no_randomness)
}

impl Kms for Retrying {
    fn service(&self) -> KmsService {
        self.kms.service()
    }

    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
        Box::pin(self.call(move || self.kms.generate_data_key(key, context)))
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        Box::pin(self.call(move || self.kms.wrap(key, data_key, context)))
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        Box::pin(self.call(move || self.kms.unwrap(wrapped, context)))
    }
}

impl fmt::Debug for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying").field("service", &self.kms.service()).field("policy", &self.policy).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::pending;
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// Answers with what it was given, one after the other, and notes when it was asked.
    struct Scripted {
        answers: Mutex<VecDeque<Answer>>,
        asked: Mutex<Vec<Instant>>,
    }

    #[derive(Clone)]
    enum Answer {
        Opens,
        Fails(ErrorKind, Retry),
        Hangs,
    }
    use Answer::{Fails, Hangs, Opens};

    impl Scripted {
        async fn answer(&self) -> Result<DataKey> {
            self.asked.lock().unwrap().push(Instant::now());
            let answer = self.answers.lock().unwrap().pop_front();
            match answer.expect("it was asked more often than it was to be") {
                Opens => DataKey::take(&mut [7; 32]),
                Fails(kind, retry) => Err(Error::new(kind, "scripted").with_retry(retry)),
                Hangs => pending().await,
            }
        }
    }

    impl Kms for Scripted {
        fn service(&self) -> KmsService {
            KmsService::Aws
        }

        fn generate_data_key<'a>(
            &'a self,
            _: &'a str,
            _: &'a EncryptionContext,
        ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
            Box::pin(async { Ok((self.answer().await?, wrapped())) })
        }

        fn wrap<'a>(
            &'a self,
            _: &'a str,
            _: &'a DataKey,
            _: &'a EncryptionContext,
        ) -> BoxFuture<'a, Result<WrappedKey>> {
            Box::pin(async { self.answer().await.map(|_| wrapped()) })
        }

        fn unwrap<'a>(&'a self, _: &'a WrappedKey, _: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
            Box::pin(self.answer())
        }
    }

    fn wrapped() -> WrappedKey {
        WrappedKey { kms: KmsService::Aws, key: "key".to_owned(), blob: vec![1] }
    }

    /// One unwrap with these answers: what came of it, how many were not asked for, and the pauses between the attempts.
    async fn unwrap(answers: &[Answer]) -> (Result<DataKey>, usize, Vec<Duration>) {
        let kms =
            Arc::new(Scripted { answers: Mutex::new(answers.iter().cloned().collect()), asked: Mutex::default() });
        let retrying = Retrying::new(kms.clone(), CallPolicy::default());
        let result = retrying.unwrap(&wrapped(), &EncryptionContext::default()).await;
        let asked = kms.asked.lock().unwrap();
        let pauses = asked.windows(2).map(|two| two[1] - two[0]).collect();
        (result, kms.answers.lock().unwrap().len(), pauses)
    }

    const THROTTLED: Answer = Fails(ErrorKind::Throttled, Retry::Yes);
    /// The clock of the tests goes by whole milliseconds.
    const TICK: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn throttling_is_waited_out() {
        let (result, left, pauses) = unwrap(&[THROTTLED, THROTTLED, THROTTLED, THROTTLED, Opens]).await;
        assert_eq!((result.unwrap().expose(), left), (&[7; 32], 0));
        let longest = [200, 400, 800, 1_600].map(Duration::from_millis);
        assert!(pauses.iter().zip(longest).all(|(pause, longest)| *pause <= longest + TICK), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn s26_attempts_are_bounded_and_the_last_error_is_told() {
        let (result, left, pauses) = unwrap(&[const { THROTTLED }; 9]).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.retry(), left, pauses.len()), (ErrorKind::Throttled, Retry::Yes, 4, 4));
        assert_eq!(error.to_string(), "the last of 5 attempts: scripted");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_succeed_is_asked_once() {
        for kind in [
            ErrorKind::KeyUnavailable,
            ErrorKind::Authentication,
            ErrorKind::PermissionDenied,
            ErrorKind::InvalidInput,
            ErrorKind::Throttled,
        ] {
            let (result, left, _) = unwrap(&[Fails(kind, Retry::No), Opens]).await;
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str(), left), (kind, "scripted", 1));
        }
        let (result, left, pauses) = unwrap(&[THROTTLED, Fails(ErrorKind::KeyUnavailable, Retry::No), Opens]).await;
        assert_eq!((result.unwrap_err().kind(), left, pauses.len()), (ErrorKind::KeyUnavailable, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_takes_too_long_is_given_up_and_repeated() {
        let (result, left, pauses) = unwrap(&[Hangs, Opens]).await;
        assert_eq!((result.unwrap().expose(), left), (&[7; 32], 0));
        assert!(pauses[0] >= CallPolicy::default().timeout, "{pauses:?}");
        let (result, left, _) = unwrap(&[const { Hangs }; 6]).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.retry(), left), (ErrorKind::Timeout, Retry::Yes, 1));
        assert!(error.to_string().contains("within 10s"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_the_service_asks_for_is_kept_if_it_is_bearable() {
        let after = |seconds| Fails(ErrorKind::Throttled, Retry::After(Duration::from_secs(seconds)));
        let (result, _, pauses) = unwrap(&[after(60), Opens]).await;
        assert!(result.is_ok() && pauses[0] >= Duration::from_secs(60), "{pauses:?}");
        let (result, left, _) = unwrap(&[after(61), Opens]).await;
        assert_eq!((result.unwrap_err().retry(), left), (Retry::After(Duration::from_secs(61)), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_not_the_same_for_all_who_were_refused_together() {
        let mut pauses = Vec::new();
        for _ in 0..16 {
            pauses.push(unwrap(&[THROTTLED, THROTTLED, THROTTLED, Opens]).await.2);
        }
        assert!(pauses.iter().any(|other| *other != pauses[0]), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn every_operation_is_repeated() {
        let answers = [THROTTLED, Opens, THROTTLED, Opens].into();
        let kms = Arc::new(Scripted { answers: Mutex::new(answers), asked: Mutex::default() });
        let retrying = Retrying::new(kms.clone(), CallPolicy::default());
        let context = EncryptionContext::default();
        let (data_key, _) = retrying.generate_data_key("key", &context).await.unwrap();
        retrying.wrap("key", &data_key, &context).await.unwrap();
        assert_eq!((kms.asked.lock().unwrap().len(), retrying.service()), (4, KmsService::Aws));
    }
}

//! Several CMKs for one data key: who can open, and whom a reader believes.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, future};
use sealift::kms::Kms;
use sealift::kms::key_file::KeyFile;
use sealift::kms::local::{LocalKms, RootKeySource};
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys, new_data_key};
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, KmsService, Result, Retry, WrappedKey};

fn key_file(byte: u8) -> Arc<KeyFile> {
    Arc::new(KeyFile::new(DataKey::take(&mut [byte; 32]).unwrap()))
}

fn recipient(kms: &Arc<KeyFile>) -> Recipient {
    Recipient { kms: kms.clone(), key: kms.id().to_owned() }
}

/// Another service, which counts its calls and fails with this kind of error, or else does what a key file does.
struct Aws {
    inner: Arc<KeyFile>,
    failure: Option<ErrorKind>,
    calls: AtomicUsize,
}

impl Aws {
    fn new(failure: Option<ErrorKind>) -> Arc<Self> {
        Arc::new(Self { inner: key_file(0xaa), failure, calls: AtomicUsize::new(0) })
    }

    fn called(&self) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.failure.map_or(Ok(()), |kind| {
            Err(Error::new(kind, "the CMK is disabled").with_retry(Retry::After(Duration::from_secs(3))))
        })
    }
}

impl Kms for Aws {
    fn service(&self) -> KmsService {
        KmsService::Aws
    }

    fn generate_data_key<'a>(
        &'a self,
        _: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
        async move {
            self.called()?;
            let (data_key, wrapped) = self.inner.generate_data_key(self.inner.id(), context).await?;
            Ok((data_key, WrappedKey { kms: KmsService::Aws, ..wrapped }))
        }
        .boxed()
    }

    fn wrap<'a>(
        &'a self,
        _: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        async move {
            self.called()?;
            let wrapped = self.inner.wrap(self.inner.id(), data_key, context).await?;
            Ok(WrappedKey { kms: KmsService::Aws, ..wrapped })
        }
        .boxed()
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        async move {
            self.called()?;
            let wrapped = WrappedKey { kms: KmsService::KeyFile, ..wrapped.clone() };
            self.inner.unwrap(&wrapped, context).await
        }
        .boxed()
    }
}

fn seal_for(recipients: &[Recipient]) -> Result<(DataKey, Vec<WrappedKey>)> {
    new_data_key(recipients, &EncryptionContext::default()).now_or_never().unwrap()
}

fn open(
    trusted: Vec<(Arc<dyn Kms>, TrustedKeys)>,
    data_keys: &[WrappedKey],
    accept: impl FnMut(&DataKey) -> bool + Send,
) -> Result<(DataKey, usize)> {
    Trusted::new(trusted).unwrap(data_keys, &EncryptionContext::default(), accept).now_or_never().unwrap()
}

fn only(id: &str) -> TrustedKeys {
    TrustedKeys::Only(vec![id.to_owned()])
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

#[test]
fn each_recipient_alone_opens() {
    let (a, b, aws) = (key_file(1), key_file(2), Aws::new(None));
    let cloud = Recipient { kms: aws.clone(), key: "alias/photos".to_owned() };
    let (data_key, data_keys) = seal_for(&[recipient(&a), cloud, recipient(&b)]).unwrap();
    assert_eq!(data_keys.len(), 3);
    assert_eq!(aws.calls.load(Ordering::Relaxed), 1, "one call for each recipient");

    let trusted: [(Arc<dyn Kms>, TrustedKeys); 3] =
        [(a.clone(), only(a.id())), (aws, TrustedKeys::Any), (b.clone(), only(b.id()))];
    for (index, one) in trusted.into_iter().enumerate() {
        assert_eq!(
            open(vec![one], &data_keys, |_| true).unwrap(),
            (DataKey::take(&mut data_key.expose().clone()).unwrap(), index)
        );
    }
}

#[test]
fn recipients_are_1_to_16_and_each_is_named_once() {
    assert_eq!(failure(seal_for(&[])).kind(), ErrorKind::InvalidInput);
    let sixteen: Vec<_> = (0..16).map(|i| recipient(&key_file(i))).collect();
    assert_eq!(seal_for(&sixteen).unwrap().1.len(), 16);
    let seventeen: Vec<_> = (0..17).map(|i| recipient(&key_file(i))).collect();
    assert_eq!(failure(seal_for(&seventeen)).kind(), ErrorKind::LimitExceeded);

    let home = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File).unwrap().0);
    let id = local.describe_key("alias/default").unwrap().key_id;
    let by = |name: &str| Recipient { kms: local.clone(), key: name.to_owned() };
    let error = failure(seal_for(&[by("alias/default"), recipient(&key_file(1)), by(&id)]));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(&id), "{error}");
}

#[test]
fn s26_sealing_for_a_recipient_that_fails_fails() {
    let cloud = || Recipient { kms: Aws::new(Some(ErrorKind::KeyUnavailable)), key: "x".to_owned() };
    for recipients in [[cloud(), recipient(&key_file(1))], [recipient(&key_file(1)), cloud()]] {
        let error = failure(seal_for(&recipients));
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::KeyUnavailable, "the CMK is disabled"));
    }
}

#[test]
fn s26_a_second_recipient_opens_when_the_first_cannot() {
    let (aws, a) = (Aws::new(None), key_file(1));
    let cloud = Recipient { kms: aws, key: "x".to_owned() };
    let (data_key, data_keys) = seal_for(&[cloud, recipient(&a)]).unwrap();

    for kind in [ErrorKind::KeyUnavailable, ErrorKind::Throttled, ErrorKind::Timeout, ErrorKind::Authentication] {
        let down = Aws::new(Some(kind));
        let (opened, index) =
            open(vec![(down.clone(), TrustedKeys::Any), (a.clone(), TrustedKeys::Any)], &data_keys, |_| true).unwrap();
        assert_eq!((opened, index), (DataKey::take(&mut data_key.expose().clone()).unwrap(), 1));
        assert_eq!(down.calls.load(Ordering::Relaxed), 1, "tried once");
    }

    // Without the second, the first one's failure is what there is to say.
    let error = failure(open(vec![(Aws::new(Some(ErrorKind::Throttled)), TrustedKeys::Any)], &data_keys, |_| true));
    assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::After(Duration::from_secs(3))));
    assert!(error.to_string().contains("the CMK is disabled"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn s11_a_data_key_that_is_not_the_object_s_counts_as_none() {
    let (a, b) = (key_file(1), key_file(2));
    let (wrong, mut data_keys) = seal_for(&[recipient(&a)]).unwrap();
    let (right, second) = seal_for(&[recipient(&b)]).unwrap();
    data_keys.extend(second);
    let trusted =
        || -> Vec<(Arc<dyn Kms>, TrustedKeys)> { vec![(a.clone(), TrustedKeys::Any), (b.clone(), TrustedKeys::Any)] };

    let mut seen = Vec::new();
    let opened = open(trusted(), &data_keys, |key| {
        seen.push(*key.expose());
        *key == right
    });
    assert_eq!(opened.unwrap().1, 1);
    assert_eq!(seen, [*wrong.expose(), *right.expose()]);
    assert_eq!(failure(open(trusted(), &data_keys, |_| false)).kind(), ErrorKind::Authentication);
}

#[test]
fn s11b_only_recipients_that_the_reader_configured_are_tried() {
    // A store wraps a data key of its own: under a CMK of its own, and under a service the reader did not name.
    let (mine, theirs, aws) = (key_file(1), key_file(2), Aws::new(None));
    let cloud = Recipient { kms: aws.clone(), key: "x".to_owned() };
    let (_, forged) = seal_for(&[cloud, recipient(&theirs)]).unwrap();
    aws.calls.store(0, Ordering::Relaxed);

    let id = aws.inner.id().to_owned();
    let unknown: Vec<(Arc<dyn Kms>, TrustedKeys)> = vec![
        (mine.clone(), only(mine.id())),
        // Even though this service could open it.
        (theirs.clone(), only(mine.id())),
        (aws.clone(), only("another")),
        (aws.clone(), TrustedKeys::Only(Vec::new())),
    ];
    for trusted in [unknown, Vec::new()] {
        let error = failure(open(trusted, &forged, |_| panic!("no data key is looked at")));
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
        for named in [
            format!("the aws key {id:?}"),
            format!("the key-file key {:?}", theirs.id()),
            "no key for that was given".to_owned(),
        ] {
            assert!(error.to_string().contains(&named), "{error}");
        }
    }
    assert_eq!(aws.calls.load(Ordering::Relaxed), 0, "not even asked");

    // Chosen explicitly, it is.
    assert_eq!(open(vec![(aws, TrustedKeys::Any)], &forged, |_| true).unwrap().1, 0);
}

#[test]
fn what_the_store_wrote_is_quoted() {
    let data_keys = [WrappedKey { kms: KmsService::Aws, key: "a\n\u{1b}[2Jb".to_owned(), blob: Vec::new() }];
    let message = failure(open(Vec::new(), &data_keys, |_| true)).to_string();
    assert!(message.contains(r#""a\n\u{1b}[2Jb""#), "{message}");
}

#[test]
fn every_key_file_of_a_reader_is_tried() {
    let (a, b) = (key_file(1), key_file(2));
    let (_, data_keys) = seal_for(&[recipient(&b)]).unwrap();
    let (_, index) = open(vec![(a, TrustedKeys::Any), (b.clone(), TrustedKeys::Any)], &data_keys, |_| true).unwrap();
    assert_eq!(index, 0);
    // The one that had the key was asked; the other does not count.
    let error = failure(open(vec![(b, TrustedKeys::Any), (key_file(3), TrustedKeys::Any)], &data_keys, |_| false));
    assert_eq!(error.kind(), ErrorKind::Authentication);
}

#[test]
fn the_futures_can_go_to_another_thread() {
    fn send(future: impl Future<Output = Result<()>> + Send + 'static) {
        std::thread::spawn(|| future.now_or_never().unwrap().unwrap()).join().unwrap();
    }
    let a = key_file(1);
    send(async move {
        let context = EncryptionContext::default();
        let (data_key, data_keys) = new_data_key(&[recipient(&a)], &context).await?;
        future::ready(()).await;
        let trusted = Trusted::new(vec![(a, TrustedKeys::Any)]);
        let (opened, _) = trusted.unwrap(&data_keys, &context, |key| *key == data_key).await?;
        assert_eq!(opened, data_key);
        Ok(())
    });
}

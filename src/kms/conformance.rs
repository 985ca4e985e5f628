//! What every key service must do, as one function that each adapter's tests call.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::{BoxFuture, try_join_all};

use super::Kms;
use super::retry::CallPolicy;
use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::types::{EncryptionContext, KmsService, WrappedKey};
use crate::upload::RetryPolicy;

/// A key service to check, with the keys it holds for that.
///
/// What is `None` is not checked: say so only where the service has no such thing. A service with a single key has no `other_key`,
/// one whose keys have no second name no `alias`, and one in this process or in a device no `network`.
///
/// ```
/// use sealift::kms::conformance::{Fixture, check};
/// use sealift::kms::local::{LocalKms, RootKeySource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// # let home = tempfile::tempdir().unwrap();
/// let (kms, created) = LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File)?;
/// let key = created.expect("it is new").key_id;
/// let fixture = Fixture::new(&kms, &key, "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed");
/// check(&Fixture { alias: Some(LocalKms::DEFAULT_ALIAS), ..fixture }).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Fixture<'a> {
    /// The service.
    pub kms: &'a dyn Kms,
    /// A key that may be used, as the service names it in [`WrappedKey::key`].
    pub key: &'a str,
    /// Another name of `key`, such as an alias or a short form of its id.
    pub alias: Option<&'a str>,
    /// Another key that may be used, as the service names it.
    pub other_key: Option<&'a str>,
    /// A key that the service does not have, of the same form.
    pub unknown_key: &'a str,
    /// A key in a state that forbids its use: disabled, about to be deleted, without material.
    pub disabled_key: Option<&'a str>,
    /// What `disabled_key` wrapped while it still might, with an empty encryption context.
    pub wrapped_by_disabled_key: Option<&'a WrappedKey>,
    /// What is between `kms` and its server, if that is a network.
    pub network: Option<&'a dyn Network>,
}

/// A way to a key service's server that a test disturbs.
pub trait Network: Send + Sync {
    /// The next requests are answered so, one after the other. Those that follow reach the server.
    fn disturb(&self, faults: &[Fault]);

    /// How many requests there were since this was asked last.
    fn take_requests(&self) -> usize;
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The service's own answer for too many requests.
    Throttled,
    /// The service's own answer when it cannot work for now.
    Unavailable,
    /// The connection is closed without an answer.
    Closed,
    /// There is no answer, and the connection stays open.
    Hangs,
}

impl<'a> Fixture<'a> {
    /// A service with one key, and the name of a key that it does not have.
    #[must_use]
    pub fn new(kms: &'a dyn Kms, key: &'a str, unknown_key: &'a str) -> Self {
        Self {
            kms,
            key,
            alias: None,
            other_key: None,
            unknown_key,
            disabled_key: None,
            wrapped_by_disabled_key: None,
            network: None,
        }
    }
}

/// Checks everything [`Kms`] promises, for the tests of whoever writes an adapter.
///
/// It makes a few hundred calls, some at once, and leaves nothing behind in the service.
///
/// # Panics
/// With a description, where the service does not do what it must.
pub async fn check(fixture: &Fixture<'_>) {
    wrapping(fixture).await;
    many_at_once(fixture).await;
    ids(fixture).await;
    contexts(fixture).await;
    altered(fixture).await;
    other_keys(fixture).await;
    unknown_keys(fixture).await;
    disabled_keys(fixture).await;
    if let Some(network) = fixture.network {
        bad_days(fixture, network).await;
        asked_once(fixture, network).await;
    }
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    pairs.iter().fold(EncryptionContext::default(), |context, &(name, value)| context.with(name, value))
}

/// What an object bound to its name has, and a pair of the caller's own.
fn usual() -> EncryptionContext {
    context(&[
        ("purpose", "conformance"),
        ("sealift:bucket", "bucket"),
        ("sealift:key", "a/b"),
        ("sealift:object-id", "MDEyMzQ1Njc4OWFiY2RlZg"),
    ])
}

#[track_caller]
fn ok<T>(result: Result<T>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

/// Refused for good with one of `kinds`.
#[track_caller]
fn refused<T>(result: Result<T>, kinds: &[ErrorKind], what: &str) -> Error {
    let Err(error) = result else { panic!("{what}: succeeded, expected {kinds:?}") };
    assert!(kinds.contains(&error.kind()), "{what}: expected {kinds:?}, got {error:?}");
    assert_eq!(error.retry(), Retry::No, "{what}: trying again cannot help: {error:?}");
    error
}

/// Wrapped keys that are altered can name another key or version of it, so the service may miss that one instead.
const NOT_OPENED: [ErrorKind; 2] = [ErrorKind::Authentication, ErrorKind::KeyUnavailable];

async fn generate(f: &Fixture<'_>, key: &str, context: &EncryptionContext) -> (DataKey, WrappedKey) {
    ok(f.kms.generate_data_key(key, context).await, "generate_data_key")
}

async fn opens(f: &Fixture<'_>, wrapped: &WrappedKey, context: &EncryptionContext, data_key: &DataKey, what: &str) {
    assert!(ok(f.kms.unwrap(wrapped, context).await, what) == *data_key, "{what}: it is another data key");
}

async fn wrapping(f: &Fixture<'_>) {
    let long_name = "a/".repeat(511);
    for context in [
        EncryptionContext::default(),
        usual(),
        context(&[("project", "Gro\u{df}e Tr\u{e4}ume"), ("\u{540d}\u{524d}", "\u{6587}\u{66f8} \u{1f4c4}")]),
        context(&[("quoted \"name\"", "back\\slash, 'quote', <tag> & 100%+1=2"), ("lines", "one\ntwo\ttab")]),
        context(&[("sealift:key", &long_name)]),
    ] {
        let (data_key, wrapped) = generate(f, f.key, &context).await;
        assert_eq!(wrapped.kms, f.kms.service(), "a wrapped key names the service that wrapped it");
        assert!(!wrapped.blob.is_empty(), "a wrapped key is not empty");
        assert!(!contains(&wrapped.blob, data_key.expose()), "a wrapped key does not show the data key");
        opens(f, &wrapped, &context, &data_key, "unwrap of what generate_data_key wrapped").await;
        opens(f, &wrapped, &context, &data_key, "unwrap once more").await;

        let own = ok(DataKey::random(), "randomness");
        let wrapped = ok(f.kms.wrap(f.key, &own, &context).await, "wrap");
        assert_eq!((wrapped.kms, wrapped.key.as_str()), (f.kms.service(), f.key), "what wrap says of the key");
        opens(f, &wrapped, &context, &own, "unwrap of what wrap wrapped").await;
    }
}

async fn many_at_once(f: &Fixture<'_>) {
    let context = usual();
    let generated = try_join_all((0..16).map(|_| f.kms.generate_data_key(f.key, &context))).await;
    let generated = ok(generated, "generate_data_key, many at once");
    for (i, (data_key, wrapped)) in generated.iter().enumerate() {
        let repeats = |(other, blob): &(DataKey, WrappedKey)| other == data_key || blob.blob == wrapped.blob;
        assert!(!generated[..i].iter().any(repeats), "two data keys, or what wraps them, are the same");
    }
    let opened = try_join_all(generated.iter().map(|(_, wrapped)| f.kms.unwrap(wrapped, &context))).await;
    let same = ok(opened, "unwrap, many at once").iter().zip(&generated).all(|(opened, (key, _))| opened == key);
    assert!(same, "unwraps at the same time mix up their data keys");
}

/// What goes into an envelope is the id, whatever name the key was called by.
async fn ids(f: &Fixture<'_>) {
    let (_, wrapped) = generate(f, f.key, &usual()).await;
    assert_eq!(wrapped.key, f.key, "the id of the key that generate_data_key names");
    let Some(alias) = f.alias else { return };
    let (data_key, wrapped) = generate(f, alias, &usual()).await;
    assert_eq!(wrapped.key, f.key, "called by an alias, generate_data_key names the id");
    opens(f, &wrapped, &usual(), &data_key, "unwrap of what was wrapped by an alias").await;
    let by_alias = ok(f.kms.wrap(alias, &data_key, &usual()).await, "wrap by an alias");
    assert_eq!(by_alias.key, f.key, "called by an alias, wrap names the id");
    // An alias may stand for another key tomorrow: an envelope with one is not one of ours.
    let named = WrappedKey { key: alias.to_owned(), ..wrapped };
    refused(f.kms.unwrap(&named, &usual()).await, &NOT_OPENED, "unwrap of a wrapped key that names an alias");
}

async fn contexts(f: &Fixture<'_>) {
    let pairs = [("purpose", "ab"), ("sealift:key", "c"), ("sealift:object-id", "MDEy")];
    let (data_key, wrapped) = generate(f, f.key, &context(&pairs)).await;
    let [purpose, key, id] = pairs;
    let reordered = context(&[id, purpose, key]);
    opens(f, &wrapped, &reordered, &data_key, "unwrap with the same pairs in another order").await;
    for (what, other) in [
        ("none", context(&[])),
        ("a pair less", context(&[purpose, id])),
        ("a pair more", context(&[purpose, key, id, ("z", "z")])),
        ("another value", context(&[("purpose", "ac"), key, id])),
        ("a value in capitals", context(&[("purpose", "AB"), key, id])),
        ("a value with a space", context(&[("purpose", "ab "), key, id])),
        ("a name in capitals", context(&[("Purpose", "ab"), key, id])),
        ("another name", context(&[("purposes", "ab"), key, id])),
        ("values swapped", context(&[("purpose", "c"), ("sealift:key", "ab"), id])),
        ("a letter moved from one value to the next", context(&[("purpose", "a"), ("sealift:key", "bc"), id])),
        ("a letter moved from a value to its name", context(&[("purposea", "b"), key, id])),
    ] {
        let what = format!("unwrap with another encryption context: {what}");
        refused(f.kms.unwrap(&wrapped, &other).await, &[ErrorKind::Authentication], &what);
    }
    let (_, wrapped) = generate(f, f.key, &context(&[])).await;
    let what = "unwrap with a context of what was wrapped without";
    refused(f.kms.unwrap(&wrapped, &context(&[purpose])).await, &[ErrorKind::Authentication], what);
    // Two spellings that look the same are two values.
    let (_, wrapped) = generate(f, f.key, &context(&[("name", "caf\u{e9}")])).await;
    let decomposed = context(&[("name", "cafe\u{301}")]);
    let what = "unwrap with a value in another Unicode normal form";
    refused(f.kms.unwrap(&wrapped, &decomposed).await, &[ErrorKind::Authentication], what);
}

async fn altered(f: &Fixture<'_>) {
    let context = usual();
    let (data_key, wrapped) = generate(f, f.key, &context).await;
    let len = wrapped.blob.len();
    let mut blobs = vec![("an empty wrapped key".to_owned(), Vec::new())];
    // Every bit of a small one; of a longer one each place at a stride that is odd, so that all eight bits of a byte have their turn.
    let bits = len * 8;
    for bit in (0..bits).step_by((bits / SAMPLES) | 1).chain([bits - 1]) {
        let mut blob = wrapped.blob.clone();
        blob[bit / 8] ^= 1 << (bit % 8);
        blobs.push((format!("a wrapped key with bit {bit} flipped"), blob));
    }
    for keep in [1, len / 2, len - 1] {
        blobs.push((format!("a wrapped key cut to {keep} of {len} bytes"), wrapped.blob[..keep].to_vec()));
    }
    blobs.push(("a wrapped key with a byte more".to_owned(), [&wrapped.blob[..], &[0]].concat()));
    blobs.push(("a wrapped key twice".to_owned(), [&wrapped.blob[..], &wrapped.blob[..]].concat()));
    blobs.push(("noise".to_owned(), vec![0xa5; len]));
    blobs.push(("the data key itself".to_owned(), data_key.expose().to_vec()));
    for (what, blob) in blobs {
        let altered = WrappedKey { blob, ..wrapped.clone() };
        let error = refused(f.kms.unwrap(&altered, &context).await, &NOT_OPENED, &format!("unwrap of {what}"));
        assert_tells_nothing(&error, &data_key);
    }
    opens(f, &wrapped, &context, &data_key, "unwrap of the wrapped key unaltered, after all that").await;
}

/// How many bits of a wrapped key are flipped, about.
const SAMPLES: usize = 96;

async fn other_keys(f: &Fixture<'_>) {
    let context = usual();
    let (data_key, wrapped) = generate(f, f.key, &context).await;
    for service in KmsService::ALL.into_iter().filter(|service| *service != f.kms.service()) {
        let foreign = WrappedKey { kms: service, ..wrapped.clone() };
        let what = format!("unwrap of a key of the service {service}");
        refused(f.kms.unwrap(&foreign, &context).await, &[ErrorKind::KeyUnavailable], &what);
    }
    let Some(other_key) = f.other_key else { return };
    let by_other = ok(f.kms.wrap(other_key, &data_key, &context).await, "wrap by another key");
    assert_eq!(by_other.key, other_key, "what wrap says of the other key");
    opens(f, &by_other, &context, &data_key, "unwrap of what the other key wrapped").await;
    for (name, wrapped) in [(f.key, by_other), (other_key, wrapped)] {
        let renamed = WrappedKey { key: name.to_owned(), ..wrapped };
        let what = "unwrap of what one key wrapped in the name of another";
        let error = refused(f.kms.unwrap(&renamed, &context).await, &NOT_OPENED, what);
        assert_tells_nothing(&error, &data_key);
    }
}

async fn unknown_keys(f: &Fixture<'_>) {
    let context = usual();
    let unavailable = [ErrorKind::KeyUnavailable];
    let (data_key, wrapped) = generate(f, f.key, &context).await;
    let result = f.kms.generate_data_key(f.unknown_key, &context).await;
    let error = refused(result, &unavailable, "generate_data_key under an unknown key");
    assert!(error.to_string().contains(f.unknown_key), "the message names the key: {error}");
    refused(f.kms.wrap(f.unknown_key, &data_key, &context).await, &unavailable, "wrap under an unknown key");
    let renamed = WrappedKey { key: f.unknown_key.to_owned(), ..wrapped };
    refused(f.kms.unwrap(&renamed, &context).await, &unavailable, "unwrap in the name of an unknown key");
    for malformed in ["", " ", "../x", "a b", "\u{0}", "\u{e9}", "?a=b#c"] {
        let what = format!("generate_data_key under a key called {malformed:?}");
        let kinds = [ErrorKind::KeyUnavailable, ErrorKind::InvalidInput];
        refused(f.kms.generate_data_key(malformed, &context).await, &kinds, &what);
    }
}

async fn disabled_keys(f: &Fixture<'_>) {
    let context = EncryptionContext::default();
    let unavailable = [ErrorKind::KeyUnavailable];
    if let Some(key) = f.disabled_key {
        let result = f.kms.generate_data_key(key, &context).await;
        let error = refused(result, &unavailable, "generate_data_key under a key that is disabled");
        assert!(error.to_string().contains(key), "the message names the key: {error}");
        let data_key = ok(DataKey::random(), "randomness");
        refused(f.kms.wrap(key, &data_key, &context).await, &unavailable, "wrap under a key that is disabled");
    }
    if let Some(wrapped) = f.wrapped_by_disabled_key {
        let what = "unwrap of what a key wrapped that is disabled now";
        refused(f.kms.unwrap(wrapped, &context).await, &unavailable, what);
    }
}

/// Attempts of the policy that calls are made under here, and how long one may take. The pauses are short: how they grow and spread is
/// the policy's own.
const ATTEMPTS: u32 = 4;
const PATIENCE: Duration = Duration::from_millis(400);

/// Makes a call as [`Retrying`](super::retry::Retrying) does, which is how programs make it.
async fn patiently<'a, T>(f: &Fixture<'a>, call: impl Fn() -> BoxFuture<'a, Result<T>>) -> Result<T> {
    let (base, cap) = (Duration::from_millis(1), Duration::from_millis(4));
    let retries = RetryPolicy { attempts: ATTEMPTS, budget: ATTEMPTS - 1, base, cap };
    CallPolicy { retries, timeout: PATIENCE }.call(f.kms.service(), call).await
}

/// What passes is ridden out, with one request for each attempt: an adapter repeats nothing by itself. What does not, ends.
async fn bad_days(f: &Fixture<'_>, network: &dyn Network) {
    use Fault::{Closed, Hangs, Throttled, Unavailable};
    let context = usual();
    let (data_key, wrapped) = generate(f, f.key, &context).await;
    for faults in
        [&[Throttled, Throttled, Throttled][..], &[Unavailable, Closed], &[Hangs], &[Throttled, Hangs, Unavailable]]
    {
        let expected = faults.len() + 1;
        let begin = || {
            network.take_requests();
            network.disturb(faults);
        };
        begin();
        let generated = patiently(f, || f.kms.generate_data_key(f.key, &context)).await;
        let (other, by_generate) = ok(generated, &format!("generate_data_key after {faults:?}"));
        assert_eq!(network.take_requests(), expected, "requests of generate_data_key with {faults:?}");
        begin();
        let by_wrap = ok(patiently(f, || f.kms.wrap(f.key, &other, &context)).await, &format!("wrap after {faults:?}"));
        assert_eq!(network.take_requests(), expected, "requests of wrap with {faults:?}");
        begin();
        let opened = ok(patiently(f, || f.kms.unwrap(&wrapped, &context)).await, &format!("unwrap after {faults:?}"));
        assert_eq!(network.take_requests(), expected, "requests of unwrap with {faults:?}");
        assert!(opened == data_key, "unwrap after {faults:?}: it is another data key");
        opens(f, &by_generate, &context, &other, "unwrap of what was generated on a bad day").await;
        opens(f, &by_wrap, &context, &other, "unwrap of what was wrapped on a bad day").await;
    }
    for (fault, kinds) in [
        (Throttled, &[ErrorKind::Throttled][..]),
        (Unavailable, &[ErrorKind::Io, ErrorKind::KeyUnavailable, ErrorKind::Timeout]),
        (Closed, &[ErrorKind::Io]),
        (Hangs, &[ErrorKind::Timeout]),
    ] {
        network.take_requests();
        network.disturb(&[fault; ATTEMPTS as usize]);
        let Err(error) = patiently(f, || f.kms.unwrap(&wrapped, &context)).await else {
            panic!("unwrap succeeded with nothing but {fault:?}")
        };
        assert!(kinds.contains(&error.kind()), "nothing but {fault:?}: expected {kinds:?}, got {error:?}");
        assert_ne!(error.retry(), Retry::No, "nothing but {fault:?}: it may pass: {error:?}");
        assert_eq!(network.take_requests(), ATTEMPTS as usize, "requests with nothing but {fault:?}");
        assert_tells_nothing(&error, &data_key);
    }
}

/// What the service refuses for good is one request, whoever is ready to repeat it.
async fn asked_once(f: &Fixture<'_>, network: &dyn Network) {
    let context = usual();
    let (_, wrapped) = generate(f, f.key, &context).await;
    let empty = EncryptionContext::default();
    network.take_requests();
    let refused = |result: Result<()>, what: &str| {
        let Err(error) = result else { panic!("{what}: succeeded") };
        assert_eq!(error.retry(), Retry::No, "{what}: trying again cannot help: {error:?}");
        assert_eq!(network.take_requests(), 1, "requests of {what}");
    };
    refused(patiently(f, || f.kms.unwrap(&wrapped, &empty)).await.map(drop), "an unwrap with another context");
    let unknown = patiently(f, || f.kms.generate_data_key(f.unknown_key, &context)).await;
    refused(unknown.map(drop), "generate_data_key under an unknown key");
    if let Some(key) = f.disabled_key {
        let disabled = patiently(f, || f.kms.generate_data_key(key, &context)).await;
        refused(disabled.map(drop), "generate_data_key under a key that is disabled");
    }
}

/// An error's text, causes included, does not have the data key in it.
#[track_caller]
fn assert_tells_nothing(error: &Error, data_key: &DataKey) {
    let text = format!("{error} {error:?}");
    let base64 = STANDARD.encode(data_key.expose());
    assert!(
        !text.contains(&base64) && !text.contains(&format!("{:?}", data_key.expose())),
        "an error shows the data key"
    );
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

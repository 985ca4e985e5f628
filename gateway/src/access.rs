//! Who may do what: access keys, their secrets, and their rights.
//!
//! How a request proves which access key sent it is each dialect's business. It [finds](AccessKeys::get) the key, computes what the
//! signature must be from its [secret](AccessKey::secret), compares it in [constant time](is_same), checks that the request is
//! [not too old](AccessKeys::is_timely), and asks the [`Caller`] for its rights before it does anything.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sealift::{Error, ErrorKind, Result};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Every access key that the gateway knows, and what those without one may do.
#[derive(Debug)]
pub struct AccessKeys {
    keys: BTreeMap<String, Arc<AccessKey>>,
    anonymous: Arc<Rights>,
    skew: Duration,
}

/// One access key.
pub struct AccessKey {
    id: String,
    secret: Secret,
    rights: Arc<Rights>,
}

/// The secret of an access key: wiped when it is dropped, and never printed.
pub struct Secret(Zeroizing<String>);

/// What may be done with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Read and list objects and uploads, read the bucket's settings.
    Read,
    /// Write and delete objects, upload parts.
    Write,
    /// Make and remove the bucket, change its settings.
    Admin,
}

/// What may be done with the CMKs of the KMS endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KmsRight {
    /// Nothing.
    #[default]
    None,
    /// Encrypt and decrypt, describe and list.
    Use,
    /// Everything.
    Manage,
}

/// What an access key may do.
#[derive(Debug, Default)]
pub struct Rights {
    buckets: Vec<(String, Vec<Right>)>,
    kms: KmsRight,
}

/// Who sent a request: an access key whose signature was right, or nobody in particular.
#[derive(Clone)]
pub struct Caller {
    key: Option<Arc<AccessKey>>,
    rights: Arc<Rights>,
}

impl AccessKeys {
    /// How much the clock of a client may differ from ours: 15 minutes, as OSS and S3 have it.
    pub const SKEW: Duration = Duration::from_secs(15 * 60);

    /// These keys; whoever has none may do what `anonymous` says.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if an id occurs twice.
    pub fn new(keys: impl IntoIterator<Item = AccessKey>, anonymous: Rights) -> Result<Self> {
        let mut by_id = BTreeMap::new();
        for key in keys {
            if let Some(twice) = by_id.insert(key.id.clone(), Arc::new(key)) {
                let message = format!("the access key {:?} is given twice: give each one id", twice.id);
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        Ok(Self { keys: by_id, anonymous: Arc::new(anonymous), skew: Self::SKEW })
    }

    /// The access key with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<AccessKey>> {
        self.keys.get(id).cloned()
    }

    /// The caller of a request that names no access key.
    #[must_use]
    pub fn anonymous(&self) -> Caller {
        Caller { key: None, rights: Arc::clone(&self.anonymous) }
    }

    /// Whether a request signed at `signed` is neither too old nor too new `now`.
    #[must_use]
    pub fn is_timely(&self, signed: SystemTime, now: SystemTime) -> bool {
        let apart = now.duration_since(signed).unwrap_or_else(|signed_later| signed_later.duration());
        apart <= self.skew
    }
}

impl AccessKey {
    /// The access key `id` with its secret.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the id is not 1 to 128 of the characters that ids are made of, `A-Z a-z 0-9 . _ -`, or the
    /// secret is empty.
    pub fn new(id: impl Into<String>, secret: Secret, rights: Rights) -> Result<Self> {
        let id = id.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=128).contains(&id.len()) || !id.bytes().all(allowed) {
            let message = "an access key's id is 1 to 128 of A-Z a-z 0-9 . _ -: choose another";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if secret.0.is_empty() {
            let message = format!("the access key {id:?} has an empty secret: give it one");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(Self { id, secret, rights: Arc::new(rights) })
    }

    /// Its id, which is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its secret.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).field("rights", &self.rights).finish_non_exhaustive()
    }
}

impl Secret {
    /// Takes a secret.
    #[must_use]
    pub fn new(secret: impl Into<Zeroizing<String>>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, to sign with.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Rights {
    /// Everything, with every bucket and every CMK.
    #[must_use]
    pub fn all() -> Self {
        Self { buckets: vec![("*".to_owned(), vec![Right::Read, Right::Write, Right::Admin])], kms: KmsRight::Manage }
    }

    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The same and these rights for the bucket `bucket`; a `*` at its end stands for any end.
    #[must_use]
    pub fn with_bucket(mut self, bucket: impl Into<String>, rights: impl IntoIterator<Item = Right>) -> Self {
        self.buckets.push((bucket.into(), rights.into_iter().collect()));
        self
    }

    /// The same with this right for the KMS endpoint.
    #[must_use]
    pub fn with_kms(mut self, kms: KmsRight) -> Self {
        self.kms = kms;
        self
    }

    fn allow(&self, bucket: &str, right: Right) -> bool {
        let names = |pattern: &str| match pattern.strip_suffix('*') {
            Some(beginning) => bucket.starts_with(beginning),
            None => bucket == pattern,
        };
        self.buckets.iter().any(|(pattern, rights)| names(pattern) && rights.contains(&right))
    }
}

impl Caller {
    /// The caller that proved to have `key`.
    #[must_use]
    pub fn new(key: Arc<AccessKey>) -> Self {
        let rights = Arc::clone(&key.rights);
        Self { key: Some(key), rights }
    }

    /// The id of its access key, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.key.as_deref().map(AccessKey::id)
    }

    /// Whether it may do this with the bucket.
    #[must_use]
    pub fn may(&self, bucket: &str, right: Right) -> bool {
        self.rights.allow(bucket, right)
    }

    /// Whether it may do this with the CMKs of the KMS endpoint.
    #[must_use]
    pub fn may_kms(&self, right: KmsRight) -> bool {
        self.rights.kms >= right
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Whether two signatures are the same, in a time that does not depend on where they differ.
#[must_use]
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, rights: Rights) -> AccessKey {
        AccessKey::new(id, Secret::new("s3cr3t".to_owned()), rights).unwrap()
    }

    #[test]
    fn rights_are_for_the_buckets_that_are_named() {
        let rights = Rights::none()
            .with_bucket("photos", [Right::Read])
            .with_bucket("team-*", [Right::Read, Right::Write])
            .with_kms(KmsRight::Use);
        let keys = AccessKeys::new([key("a", rights), key("root", Rights::all())], Rights::none()).unwrap();
        let caller = Caller::new(keys.get("a").unwrap());
        assert_eq!(caller.id(), Some("a"));
        for (bucket, right, may) in [
            ("photos", Right::Read, true),
            ("photos", Right::Write, false),
            ("photos2", Right::Read, false),
            ("team-a", Right::Write, true),
            ("team-", Right::Read, true),
            ("team", Right::Read, false),
            ("team-a", Right::Admin, false),
        ] {
            assert_eq!(caller.may(bucket, right), may, "{bucket} {right:?}");
            assert!(Caller::new(keys.get("root").unwrap()).may(bucket, right));
            assert!(!keys.anonymous().may(bucket, right));
        }
        assert!(caller.may_kms(KmsRight::Use) && !caller.may_kms(KmsRight::Manage));
        assert!(!keys.anonymous().may_kms(KmsRight::Use));
        assert!(keys.get("b").is_none());
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        let keys = AccessKeys::new([key("a", Rights::all())], Rights::none()).unwrap();
        let caller = Caller::new(keys.get("a").unwrap());
        for shown in [format!("{keys:?}"), format!("{caller:?}"), format!("{:?}", keys.get("a"))] {
            assert!(shown.contains("\"a\"") && !shown.contains("s3cr3t"), "{shown}");
        }
        assert_eq!(keys.get("a").unwrap().secret().expose(), "s3cr3t");
    }

    #[test]
    fn requests_are_good_for_a_quarter_of_an_hour_either_way() {
        let keys = AccessKeys::new([], Rights::none()).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let (window, more) = (AccessKeys::SKEW, Duration::from_secs(1));
        assert!(keys.is_timely(now, now) && keys.is_timely(now - window, now) && keys.is_timely(now + window, now));
        assert!(!keys.is_timely(now - window - more, now) && !keys.is_timely(now + window + more, now));
        assert!(!keys.is_timely(SystemTime::UNIX_EPOCH, now));
    }

    #[test]
    fn keys_need_a_clean_id_a_secret_and_one_id_each() {
        let refused = |id: &str, secret: &str| {
            AccessKey::new(id, Secret::new(secret.to_owned()), Rights::all()).unwrap_err().kind()
        };
        for (id, secret) in [("", "s"), ("a b", "s"), ("a/b", "s"), (&"a".repeat(129), "s"), ("a", "")] {
            assert_eq!(refused(id, secret), ErrorKind::InvalidInput, "{id:?}");
        }
        let twice = AccessKeys::new([key("a", Rights::all()), key("a", Rights::none())], Rights::none());
        assert_eq!(twice.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(is_same(b"abc", b"abc") && !is_same(b"abc", b"abd") && !is_same(b"abc", b"ab"));
    }
}

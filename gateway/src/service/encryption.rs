//! Server-side encryption: what requests and buckets ask for, whose CMK that is, and what objects say of theirs.

use std::fmt;
use std::sync::Arc;

use sealift::format::Envelope;
use sealift::kms::Kms;
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::{DataKey, KmsService};
use serde::{Deserialize, Serialize};

use super::error::{Failure, FailureKind, Result};

/// Encryption under a key that the gateway's key service holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Encryption {
    /// Under the gateway's own CMK, and nobody asks which.
    Aes256,
    /// Under the CMK that is named, or the gateway's own.
    Kms {
        /// Id or alias of the CMK.
        key_id: Option<String>,
    },
}

/// Encryption that a request asks for.
#[derive(Clone, Debug)]
pub enum Sse {
    /// Under a key of the key service.
    Managed(Encryption),
    /// Under a key that comes with each request and is not kept.
    Customer(CustomerKey),
}

/// A key that a client sends along, to write or read one object.
#[derive(Clone)]
pub struct CustomerKey(Arc<KeyFile>);

/// How an object is encrypted, as answers say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encrypted {
    /// Under the gateway's own CMK.
    Aes256,
    /// Under this CMK.
    Kms {
        /// Its id.
        key_id: String,
    },
    /// Under a key that only the client has.
    Customer,
}

/// The keys that objects are sealed for and opened with.
pub(super) struct KeyRing {
    pub(super) kms: Arc<dyn Kms>,
    pub(super) default_key: String,
    pub(super) region: String,
}

impl CustomerKey {
    /// Takes the key out of `bytes` and wipes them.
    ///
    /// # Errors
    /// [`FailureKind::InvalidArgument`] unless there are exactly 32.
    pub fn take(bytes: &mut [u8]) -> Result<Self> {
        let key = DataKey::take(bytes)
            .map_err(|_| Failure::new(FailureKind::InvalidArgument, "A customer's key has exactly 32 bytes."))?;
        Ok(Self(Arc::new(KeyFile::new(key))))
    }
}

impl CustomerKey {
    /// What tells it from others.
    pub(super) fn id(&self) -> &str {
        self.0.id()
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(..)")
    }
}

impl KeyRing {
    /// Whom an object that is encrypted so is sealed for.
    pub(super) fn recipient(&self, sse: &Sse) -> Result<Recipient> {
        let key = match sse {
            Sse::Managed(Encryption::Kms { key_id: Some(id) }) => self.local_id(id)?.to_owned(),
            Sse::Managed(Encryption::Aes256 | Encryption::Kms { key_id: None }) => self.default_key.clone(),
            Sse::Customer(CustomerKey(key)) => return Ok(Recipient { kms: key.clone(), key: key.id().to_owned() }),
        };
        Ok(Recipient { kms: Arc::clone(&self.kms), key })
    }

    /// Whom a reader believes: the key service, and the key that the client sent.
    pub(super) fn trusted(&self, customer: Option<&CustomerKey>) -> Trusted {
        let own = (Arc::clone(&self.kms), TrustedKeys::Any);
        let customers = customer.map(|CustomerKey(key)| {
            let only = TrustedKeys::Only(vec![key.id().to_owned()]);
            (Arc::clone(key) as Arc<dyn Kms>, only)
        });
        Trusted::new([own].into_iter().chain(customers).collect())
    }

    /// The id that the key service knows the CMK by. An ARN of another region is refused.
    fn local_id<'a>(&self, id: &'a str) -> Result<&'a str> {
        let invalid = || {
            let message = format!("The specified parameter KMS keyId is not valid: {id:?}.");
            Failure::new(FailureKind::InvalidKeyId, message)
        };
        if id.is_empty() || id.len() > 2048 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid());
        }
        let arn = id.strip_prefix("acs:kms:").or_else(|| id.strip_prefix("arn:aws:kms:"));
        let Some(rest) = arn else { return Ok(id) };
        let (region, rest) = rest.split_once(':').ok_or_else(invalid)?;
        if region != self.region {
            let message = format!("The CMK is one of region {region:?}, and this is {:?}.", self.region);
            return Err(Failure::new(FailureKind::KeyOfOtherRegion, message));
        }
        let (_account, key) = rest.split_once(':').ok_or_else(invalid)?;
        if matches!(self.kms.service(), KmsService::Aws) {
            return Ok(id);
        }
        // An alias has its kind as part of its name.
        Ok(key.strip_prefix("key/").unwrap_or(key))
    }
}

/// What is noted in the metadata of an object: that its owner did not ask for a CMK.
pub(super) const AES256: &str = "AES256";

impl Encrypted {
    /// How an object with this envelope is encrypted; `noted` is what was noted when it was written.
    pub(super) fn of(envelope: &Envelope, noted: Option<&str>) -> Self {
        let first = envelope.data_keys().first();
        match first {
            Some(key) if key.kms == KmsService::KeyFile => Self::Customer,
            _ if noted == Some(AES256) => Self::Aes256,
            first => Self::Kms { key_id: first.map_or_else(String::new, |key| key.key.clone()) },
        }
    }

    /// What is to be noted of an object that is encrypted so.
    pub(super) fn note(sse: &Sse) -> Option<&'static str> {
        matches!(sse, Sse::Managed(Encryption::Aes256)).then_some(AES256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmks_of_other_regions_are_refused() {
        let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
        let ring = KeyRing { kms, default_key: "default".into(), region: "cn-hongkong".into() };
        let key = |id: &str| ring.recipient(&Sse::Managed(Encryption::Kms { key_id: Some(id.into()) }));
        assert_eq!(key("1234").unwrap().key, "1234");
        assert_eq!(key("acs:kms:cn-hongkong:1:key/1234").unwrap().key, "1234");
        assert_eq!(key("acs:kms:cn-hongkong:1:alias/a").unwrap().key, "alias/a");
        for (id, kind) in [
            ("acs:kms:cn-hangzhou:1:key/1234", FailureKind::KeyOfOtherRegion),
            ("acs:kms:", FailureKind::InvalidKeyId),
            ("", FailureKind::InvalidKeyId),
            ("a b", FailureKind::InvalidKeyId),
        ] {
            assert_eq!(key(id).unwrap_err().kind(), kind, "{id}");
        }
        assert_eq!(ring.recipient(&Sse::Managed(Encryption::Aes256)).unwrap().key, "default");
    }
}

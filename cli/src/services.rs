//! Key services other than the local key store, as `--kms-key` names them.

use std::sync::Arc;

use sealift::kms::Kms;
use sealift::kms::recipients::TrustedKeys;
#[cfg(any(feature = "aws-kms", feature = "vault-kms"))]
use sealift::kms::retry::{CallPolicy, Retrying};
use sealift::{ErrorKind, KmsService};

use crate::exit::{Failure, Result};

/// A key as the user named it, `[SERVICE:]KEY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedKey<'a> {
    pub(crate) service: KmsService,
    /// The key as the service knows it, or [`ANY`].
    pub(crate) key: &'a str,
}

/// In place of a key: any that the service lets the user read with.
const ANY: &str = "any";

impl<'a> NamedKey<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let is_arn = text.starts_with("arn:aws") && text.split(':').nth(2) == Some("kms");
        let (service, key) = match text.split_once(':') {
            _ if is_arn => (KmsService::Aws, text),
            Some(("acs", rest)) if rest.starts_with("kms:") => (KmsService::Aliyun, text),
            Some(("pkcs11", _)) => (KmsService::Pkcs11, text),
            Some(("aws", key)) => (KmsService::Aws, key),
            Some(("aliyun", key)) => (KmsService::Aliyun, key),
            Some(("vault", key)) => (KmsService::Vault, key),
            Some(("rsa", file)) => (KmsService::Rsa, file),
            Some(("local", key)) => (KmsService::Local, key),
            _ => (KmsService::Local, text),
        };
        Self { service, key }
    }

    /// The service and what it calls the key, to seal for it. `connected` is a client for another key of the same service.
    pub(crate) fn connect(self, connected: Option<&Arc<dyn Kms>>) -> Result<(Arc<dyn Kms>, String)> {
        if self.key == ANY && self.service != KmsService::Rsa {
            let message = format!("`{}:any` is for reading; to seal, name one key", self.service);
            return Err(Failure::new(ErrorKind::InvalidInput, message));
        }
        match self.service {
            KmsService::Aws => Ok((aws()?, self.key.to_owned())),
            KmsService::Vault => Ok((vault()?, self.key.to_owned())),
            service => Err(not_built_in(service)),
        }
    }

    /// The service, and which of its keys an envelope may name.
    ///
    /// Envelopes come from the store, and name keys by the ids that the services gave. So the user has to name them by these as well.
    pub(crate) fn trusted(self) -> Result<(Arc<dyn Kms>, TrustedKeys)> {
        let only = |id: String| TrustedKeys::Only(vec![id]);
        match self.service {
            KmsService::Aws if self.key == ANY => Ok((aws()?, TrustedKeys::Any)),
            KmsService::Aws if self.key.starts_with("arn:") && self.key.contains(":key/") => {
                Ok((aws()?, only(self.key.to_owned())))
            }
            KmsService::Aws => {
                let message = format!("to read, name the AWS key {:?} by its ARN, arn:aws:kms:REGION:ACCOUNT:key/ID", self.key);
                Err(Failure::new(ErrorKind::InvalidInput, message)
                    .hint("`sealift stat URL` shows the keys that an object is sealed for")
                    .hint("an alias can stand for another key tomorrow; `aws:any` trusts every key that AWS lets you use"))
            }
            KmsService::Vault if self.key == ANY => Ok((vault()?, TrustedKeys::Any)),
            KmsService::Vault => {
                let mount = if self.key.contains('/') { "" } else { "transit/" };
                Ok((vault()?, only(format!("{mount}{}", self.key))))
            }
            KmsService::Rsa => {
                let message = format!("an RSA public key, {}, only seals", self.key);
                Err(Failure::new(ErrorKind::InvalidInput, message)
                    .hint("whoever has the private key opens with it where that is kept"))
            }
            service => Err(not_built_in(service)),
        }
    }

    /// Whether it can be given again to read what was sealed for it.
    pub(crate) fn reads(self) -> bool {
        match self.service {
            KmsService::Rsa => false,
            KmsService::Aws => self.key.contains(":key/"),
            _ => true,
        }
    }
}

#[cfg(feature = "aws-kms")]
fn aws() -> Result<Arc<dyn Kms>> {
    let kms = sealift::kms::aws::AwsKms::from_env();
    Ok(Arc::new(Retrying::new(Arc::new(kms), CallPolicy::default())))
}

#[cfg(not(feature = "aws-kms"))]
fn aws() -> Result<Arc<dyn Kms>> {
    Err(not_built_in(KmsService::Aws))
}

#[cfg(feature = "vault-kms")]
fn vault() -> Result<Arc<dyn Kms>> {
    let kms = sealift::kms::vault::VaultKms::from_env()?;
    Ok(Arc::new(Retrying::new(Arc::new(kms), CallPolicy::default())))
}

#[cfg(not(feature = "vault-kms"))]
fn vault() -> Result<Arc<dyn Kms>> {
    Err(not_built_in(KmsService::Vault))
}

fn not_built_in(service: KmsService) -> Failure {
    let feature = match service {
        KmsService::Pkcs11 => "pkcs11".to_owned(),
        service => format!("{service}-kms"),
    };
    Failure::new(ErrorKind::KeyUnavailable, format!("this program was built without the key service `{service}`"))
        .hint(format!("build it with that: cargo install sealift-cli --features {feature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_s_name_tells_its_service() {
        use KmsService::{Aliyun, Aws, Local, Pkcs11, Rsa, Vault};
        for (text, service, key) in [
            ("alias/default", Local, "alias/default"),
            ("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", Local, "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"),
            ("local:alias/default", Local, "alias/default"),
            ("alias/a:b", Local, "alias/a:b"),
            ("arn:aws:kms:r:1:key/x", Aws, "arn:aws:kms:r:1:key/x"),
            ("arn:aws-cn:kms:r:1:key/x", Aws, "arn:aws-cn:kms:r:1:key/x"),
            ("arn:aws:s3:::bucket", Local, "arn:aws:s3:::bucket"),
            ("aws:arn:aws:kms:r:1:key/x", Aws, "arn:aws:kms:r:1:key/x"),
            ("aws:alias/x", Aws, "alias/x"),
            ("acs:kms:r:1:key/x", Aliyun, "acs:kms:r:1:key/x"),
            ("aliyun:key-x", Aliyun, "key-x"),
            ("vault:x", Vault, "x"),
            ("vault:a/b/x", Vault, "a/b/x"),
            ("pkcs11:token=t;object=k", Pkcs11, "pkcs11:token=t;object=k"),
            ("rsa:escrow.pem", Rsa, "escrow.pem"),
        ] {
            assert_eq!(NamedKey::parse(text), NamedKey { service, key }, "{text}");
        }
    }

    #[test]
    fn what_only_seals_does_not_read() {
        for (text, reads) in [
            ("aws:alias/x", false),
            ("arn:aws:kms:r:1:key/x", true),
            ("vault:x", true),
            ("rsa:f", false),
            ("alias/x", true),
        ] {
            assert_eq!(NamedKey::parse(text).reads(), reads, "{text}");
        }
    }
}

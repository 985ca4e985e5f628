//! Key services other than the local key store, as `--kms-key` names them.

use std::sync::Arc;

use sealift::kms::Kms;
#[cfg(feature = "aliyun-kms")]
use sealift::kms::aliyun::AliyunKms;
#[cfg(feature = "aws-kms")]
use sealift::kms::aws::AwsKms;
#[cfg(feature = "pkcs11")]
use sealift::kms::pkcs11::Pkcs11Kms;
use sealift::kms::recipients::TrustedKeys;
#[cfg(any(feature = "aws-kms", feature = "aliyun-kms", feature = "vault-kms"))]
use sealift::kms::retry::{CallPolicy, Retrying};
use sealift::kms::rsa::RsaEscrow;
#[cfg(feature = "vault-kms")]
use sealift::kms::vault::VaultKms;
use sealift::{ErrorKind, KmsService};

use crate::exit::{Failure, Result};
use crate::home::unavailable;

/// What the program does with a service, or the error if it was built without.
macro_rules! built_in {
    ($feature:literal, $service:expr, $work:expr) => {{
        #[cfg(feature = $feature)]
        let result = $work;
        #[cfg(not(feature = $feature))]
        let result = Err(not_built_in($service));
        result
    }};
}

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
        if self.key == ANY && self.has_many_keys() {
            let message = format!("`{}:any` is for reading; to seal, name one key", self.service);
            return Err(Failure::new(ErrorKind::InvalidInput, message));
        }
        if let Some(kms) = connected.filter(|_| self.has_many_keys()) {
            return Ok((Arc::clone(kms), self.key.to_owned()));
        }
        match self.service {
            KmsService::Aws => {
                built_in!("aws-kms", KmsService::Aws, Ok((over_network(AwsKms::from_env()), self.named())))
            }
            KmsService::Aliyun => {
                built_in!("aliyun-kms", KmsService::Aliyun, Ok((over_network(AliyunKms::from_env()?), self.named())))
            }
            KmsService::Vault => {
                built_in!("vault-kms", KmsService::Vault, Ok((over_network(VaultKms::from_env()?), self.named())))
            }
            KmsService::Pkcs11 => built_in!("pkcs11", KmsService::Pkcs11, token_key(self.key)),
            KmsService::Rsa => {
                let escrow = RsaEscrow::read(self.key).map_err(unavailable)?;
                let id = escrow.id().to_owned();
                Ok((Arc::new(escrow), id))
            }
            _ => Err(not_built_in(self.service)),
        }
    }

    /// The service, and which of its keys an envelope may name.
    ///
    /// Envelopes come from the store, which could name a key of its own. So only keys that the user named are tried, or any if the user
    /// said that; names that are not what envelopes call a key are looked up in the service first.
    pub(crate) async fn trusted(self) -> Result<(Arc<dyn Kms>, TrustedKeys)> {
        let any = self.key == ANY;
        match self.service {
            KmsService::Aws => built_in!("aws-kms", KmsService::Aws, {
                let kms = AwsKms::from_env();
                let keys = if any { TrustedKeys::Any } else { only(kms.key_id(self.key).await?) };
                Ok((over_network(kms), keys))
            }),
            KmsService::Aliyun => built_in!("aliyun-kms", KmsService::Aliyun, {
                let kms = AliyunKms::from_env()?;
                let keys = match self.key.rsplit_once(":key/") {
                    _ if any => TrustedKeys::Any,
                    Some((_, id)) => only(id.to_owned()),
                    None if self.key.contains("alias/") => only(kms.key_id(self.key).await?),
                    None => only(self.named()),
                };
                Ok((over_network(kms), keys))
            }),
            KmsService::Vault => built_in!("vault-kms", KmsService::Vault, {
                let keys = if any { TrustedKeys::Any } else { only(VaultKms::key_id(self.key)?) };
                Ok((over_network(VaultKms::from_env()?), keys))
            }),
            KmsService::Pkcs11 => built_in!("pkcs11", KmsService::Pkcs11, {
                let (kms, id) = token_key(self.key)?;
                Ok((kms, only(id)))
            }),
            KmsService::Rsa => {
                let escrow = RsaEscrow::read_private(self.key).map_err(unavailable)?;
                let id = escrow.id().to_owned();
                Ok((Arc::new(escrow), only(id)))
            }
            _ => Err(not_built_in(self.service)),
        }
    }

    /// Whether it can be given again, as it is, to read what was sealed for it.
    pub(crate) fn reads(self) -> bool {
        self.service != KmsService::Rsa
    }

    /// Whether one client serves all keys of the service; elsewhere the name says which token or file.
    fn has_many_keys(self) -> bool {
        matches!(self.service, KmsService::Aws | KmsService::Aliyun | KmsService::Vault)
    }

    #[cfg(any(feature = "aws-kms", feature = "aliyun-kms", feature = "vault-kms"))]
    fn named(self) -> String {
        self.key.to_owned()
    }
}

fn only(id: String) -> TrustedKeys {
    TrustedKeys::Only(vec![id])
}

#[cfg(any(feature = "aws-kms", feature = "aliyun-kms", feature = "vault-kms"))]
fn over_network(kms: impl Kms + 'static) -> Arc<dyn Kms> {
    Arc::new(Retrying::new(Arc::new(kms), CallPolicy::default()))
}

/// The token that a PKCS #11 URI names, and its key.
#[cfg(feature = "pkcs11")]
fn token_key(uri: &str) -> Result<(Arc<dyn Kms>, String)> {
    let kms = Pkcs11Kms::open(uri)?;
    let key = kms.key().map(str::to_owned).ok_or_else(|| {
        Failure::new(ErrorKind::InvalidInput, "the PKCS #11 URI names a token and no key on it")
            .hint("add `;object=LABEL` or `;id=%01` before the question mark")
    })?;
    Ok((Arc::new(kms), key))
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
}

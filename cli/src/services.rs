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
            // Whatever its case, it is never taken for a local key: errors about those quote the name, and a URI may hold a PIN.
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("pkcs11") => (KmsService::Pkcs11, text),
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
        if self.is_any() && self.has_many_keys() {
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
        match self.service {
            KmsService::Aws => built_in!("aws-kms", KmsService::Aws, {
                let kms = AwsKms::from_env();
                let keys = if self.is_any() {
                    TrustedKeys::Any
                } else {
                    only(looked_up(self.service, || kms.key_id(self.key)).await?)
                };
                Ok((over_network(kms), keys))
            }),
            KmsService::Aliyun => built_in!("aliyun-kms", KmsService::Aliyun, {
                let kms = AliyunKms::from_env()?;
                let keys = match self.key.rsplit_once(":key/") {
                    _ if self.is_any() => TrustedKeys::Any,
                    Some((_, id)) => only(id.to_owned()),
                    None if self.key.contains("alias/") => {
                        only(looked_up(self.service, || kms.key_id(self.key)).await?)
                    }
                    None => only(self.named()),
                };
                Ok((over_network(kms), keys))
            }),
            KmsService::Vault => built_in!("vault-kms", KmsService::Vault, {
                let keys = if self.is_any() { TrustedKeys::Any } else { only(VaultKms::key_id(self.key)?) };
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

    /// What envelopes call the key, as far as its name tells.
    pub(crate) fn id_in_envelopes(self) -> Result<String> {
        let unclear = || {
            let message = format!("`--remove` needs a key of {} as envelopes name it", self.service);
            Err(Failure::new(ErrorKind::InvalidInput, message).hint("`sealift stat URL` shows it"))
        };
        match self.service {
            KmsService::Aws if !self.key.contains(":key/") => unclear(),
            KmsService::Aliyun if self.key.contains("alias/") => unclear(),
            KmsService::Aliyun => Ok(self.key.rsplit_once(":key/").map_or(self.key, |(_, id)| id).to_owned()),
            KmsService::Vault if self.key.contains('/') => Ok(self.key.to_owned()),
            KmsService::Vault => Ok(format!("transit/{}", self.key)),
            KmsService::Pkcs11 => match self.key.strip_prefix("pkcs11:") {
                Some(id) if !id.contains(['=', ';', '?']) => Ok(id.to_owned()),
                _ => unclear(),
            },
            KmsService::Rsa if self.key.len() == 64 && self.key.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Ok(self.key.to_ascii_lowercase())
            }
            KmsService::Rsa => Ok(RsaEscrow::read(self.key).map_err(unavailable)?.id().to_owned()),
            _ => Ok(self.key.to_owned()),
        }
    }

    /// Whether it can be given again, as it is, to read what was sealed for it.
    pub(crate) fn reads(self) -> bool {
        self.service != KmsService::Rsa
    }

    /// A PKCS #11 URI, to be shown: without the PIN that may be in it.
    pub(crate) fn without_pin(self) -> String {
        let Some((path, query)) = self.key.split_once('?') else { return self.key.to_owned() };
        let is_pin = |attribute: &&str| attribute.to_ascii_lowercase().starts_with("pin-value");
        let kept: Vec<_> = query.split('&').filter(|attribute| !is_pin(attribute)).collect();
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
    }

    fn is_any(self) -> bool {
        self.key == ANY
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

/// What a service calls a key, asked for as often as any other call is made.
#[cfg(any(feature = "aws-kms", feature = "aliyun-kms"))]
async fn looked_up<'a, F>(service: KmsService, ask: impl Fn() -> F) -> Result<String>
where
    F: Future<Output = sealift::Result<String>> + Send + 'a,
{
    let ask = &ask;
    Ok(CallPolicy::default().call(service, move || Box::pin(ask())).await?)
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
        .hint(format!("build it with that: cargo install --path cli --features {feature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_envelopes_call_a_key_or_are_refused() {
        let id = |text| NamedKey::parse(text).id_in_envelopes().ok();
        for (text, expected) in [
            ("arn:aws:kms:r:1:key/x", Some("arn:aws:kms:r:1:key/x")),
            ("aws:alias/old", None),
            ("aws:x", None),
            ("acs:kms:r:1:key/x", Some("x")),
            ("aliyun:x", Some("x")),
            ("aliyun:alias/x", None),
            ("vault:uploads", Some("transit/uploads")),
            ("vault:other/uploads", Some("other/uploads")),
            ("pkcs11:aa01", Some("aa01")),
            ("pkcs11:token=t;object=k", None),
        ] {
            assert_eq!(id(text).as_deref(), expected, "{text}");
        }
        let escrow = "ab".repeat(32);
        // Envelopes have it in lower case.
        let (lower, upper) = (format!("rsa:{escrow}"), format!("rsa:{}", escrow.to_uppercase()));
        assert_eq!((id(&lower), id(&upper)), (Some(escrow.clone()), Some(escrow)));
    }

    #[test]
    fn a_pin_is_not_given_again() {
        let again = |text| NamedKey::parse(text).without_pin();
        assert_eq!(
            again("pkcs11:token=t;object=k?module-path=/m.so&pin-value=1234"),
            "pkcs11:token=t;object=k?module-path=/m.so"
        );
        assert_eq!(again("PKCS11:object=k?pin-value=1234&module-path=/m.so"), "PKCS11:object=k?module-path=/m.so");
        assert_eq!(again("pkcs11:object=k?pin-value=1234"), "pkcs11:object=k");
        assert_eq!(again("pkcs11:object=k?pin-source=/pin"), "pkcs11:object=k?pin-source=/pin");
    }

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

//! Bring your own key: a CMK's material comes from its owner, encrypted on the way, as with the cloud services.
//!
//! [`get_parameters_for_import`](LocalKms::get_parameters_for_import) gives out an RSA public key and a token; the owner
//! encrypts 32 bytes to that key, with any tool; [`import_key_material`](LocalKms::import_key_material) takes them, with
//! the token. The first import binds the CMK to that material for good.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::LocalKms;
use super::id::Id;
use super::lifecycle::Operation;
use super::metadata::{KeyMetadata, parse_name};
use super::record::{self, KeyRecord, VersionRecord, open_key, seal_key};
use super::root_key::RootKey;
use super::token::ImportToken;
use crate::crypto::DataKey;
use crate::crypto::rsa_decrypt::{self, KeySize, Padding};
use crate::error::{Error, ErrorKind, Result};

/// How key material is encrypted to the wrapping key, as in [RFC 8017](https://www.rfc-editor.org/rfc/rfc8017).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WrappingAlgorithm {
    /// RSAES-OAEP; SHA-256 is its hash and that of MGF1; no label.
    #[default]
    RsaesOaepSha256,
    /// RSAES-OAEP; SHA-1 is its hash and that of MGF1; no label. For tools that can do no better.
    RsaesOaepSha1,
    /// RSAES-PKCS1-v1_5. For tools that can do no better.
    RsaesPkcs1V15,
}

impl WrappingAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::RsaesOaepSha256, Self::RsaesOaepSha1, Self::RsaesPkcs1V15];

    /// The name that key services use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaesOaepSha256 => "RSAES_OAEP_SHA_256",
            Self::RsaesOaepSha1 => "RSAES_OAEP_SHA_1",
            Self::RsaesPkcs1V15 => "RSAES_PKCS1_V1_5",
        }
    }

    fn padding(self) -> Padding {
        match self {
            Self::RsaesOaepSha256 => Padding::OaepSha256,
            Self::RsaesOaepSha1 => Padding::OaepSha1,
            Self::RsaesPkcs1V15 => Padding::Pkcs1V15,
        }
    }
}

impl fmt::Display for WrappingAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WrappingAlgorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        parse_name(name, "a wrapping algorithm", Self::ALL, Self::name)
    }
}

/// Which key the material is encrypted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WrappingKeySpec {
    /// RSA with 2,048 bits.
    #[default]
    Rsa2048,
    /// RSA with 3,072 bits.
    Rsa3072,
    /// RSA with 4,096 bits. Takes seconds to make.
    Rsa4096,
}

impl WrappingKeySpec {
    /// Every kind of key.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// The name that key services use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
        }
    }

    fn size(self) -> KeySize {
        match self {
            Self::Rsa2048 => KeySize::Rsa2048,
            Self::Rsa3072 => KeySize::Rsa3072,
            Self::Rsa4096 => KeySize::Rsa4096,
        }
    }
}

impl fmt::Display for WrappingKeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WrappingKeySpec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        parse_name(name, "a wrapping key's spec", Self::ALL, Self::name)
    }
}

/// What is needed to encrypt and import key material. None of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportParameters {
    /// The CMK's id.
    pub key_id: String,
    /// The RSA public key to encrypt the material to: SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// To be given back with what was encrypted. It can be used more than once, until it expires.
    pub import_token: Vec<u8>,
    /// When the token expires: 24 hours from now.
    pub valid_until: SystemTime,
}

impl LocalKms {
    /// An RSA key to encrypt the material of the CMK `key` to, an id or an alias of origin `external`, and a token for
    /// importing it. Changes nothing.
    ///
    /// With the default algorithm, material is encrypted for example by `openssl pkeyutl -encrypt -pubin -keyform DER
    /// -inkey PUBLIC_KEY -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256`.
    /// Needs the feature `aws-lc-rs`.
    ///
    /// ```no_run
    /// # use sealift::kms::local::{CreateKey, KeyOrigin, LocalKms, RootKeySource};
    /// # use sealift::kms::local::{WrappingAlgorithm, WrappingKeySpec};
    /// # fn main() -> sealift::Result<()> {
    /// # let home = tempfile::tempdir().unwrap();
    /// # let (kms, _) = LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File)?;
    /// let key = kms.create_key(CreateKey { origin: KeyOrigin::External, ..CreateKey::default() })?.key_id;
    /// let parameters =
    ///     kms.get_parameters_for_import(&key, WrappingAlgorithm::default(), WrappingKeySpec::default())?;
    /// # fn encrypt_with_any_tool(_public_key: &[u8]) -> Vec<u8> { Vec::new() }
    /// let encrypted = encrypt_with_any_tool(&parameters.public_key); // exactly 32 bytes
    /// kms.import_key_material(&key, &encrypted, &parameters.import_token, None)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if the key's origin is `local`.
    /// - [`ErrorKind::KeyUnavailable`] if there is no such key, or with [`Error::key_state`] if its deletion is scheduled.
    /// - [`ErrorKind::UnsupportedFormat`] without the feature `aws-lc-rs`.
    /// - Those of [`describe_key`](Self::describe_key).
    pub fn get_parameters_for_import(
        &self,
        key: &str,
        algorithm: WrappingAlgorithm,
        spec: WrappingKeySpec,
    ) -> Result<ImportParameters> {
        let now = self.now();
        let key = self.key(key, now)?;
        Operation::GetParametersForImport.check(&key, now)?;
        let pair = rsa_decrypt::generate(spec.size())?;
        let valid_until = now.saturating_add(TOKEN_LIFE);
        let token = ImportToken { key_id: key.key_id, algorithm, valid_until, private_key: pair.private_key };
        Ok(ImportParameters {
            key_id: key.key_id.to_string(),
            public_key: pair.public_key,
            import_token: token.seal(self.store_id, &self.root_key)?,
            valid_until: record::time(valid_until),
        })
    }

    /// Gives the CMK `key`, an id or an alias of origin `external`, the 32 bytes that `encrypted` holds, until `expires`
    /// or for good. If it was pending import, it is enabled then.
    ///
    /// The first import binds the key to its material. Later ones, after it expired or was deleted or just to set another
    /// time for it to expire, must bring the same; what was wrapped before then opens again. Of two keys with the same
    /// material, neither opens what the other wrapped. Needs the feature `aws-lc-rs`.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if the key's origin is `local`; if `import_token` is none, another store's or
    ///   another key's, or has expired; if `encrypted` is not 32 bytes encrypted with the token's key and algorithm (the
    ///   same error for every reason); if the material is not that of the first import; or if `expires` is not in the
    ///   future. The key stays as it was.
    /// - [`ErrorKind::KeyUnavailable`] if there is no such key, or with [`Error::key_state`] if its deletion is scheduled.
    /// - [`ErrorKind::UnsupportedFormat`] without the feature `aws-lc-rs`.
    /// - Otherwise those of [`enable_key`](Self::enable_key).
    pub fn import_key_material(
        &self,
        key: &str,
        encrypted: &[u8],
        import_token: &[u8],
        expires: Option<SystemTime>,
    ) -> Result<KeyMetadata> {
        self.change(key, Operation::ImportMaterial, |key, now| {
            let expires = expires.map(record::seconds);
            if expires.is_some_and(|expires| expires <= now) {
                let message = "key material cannot expire in the past: give a later time, or none";
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            let token = ImportToken::open(import_token, self.store_id, &self.root_key)?;
            token.check(key.key_id, now)?;
            let material = rsa_decrypt::decrypt(&token.private_key, token.algorithm.padding(), encrypted)?
                .ok_or_else(does_not_unwrap)?;
            key.import(&material, expires, &self.root_key, now)
        })
    }

    /// Whether `import_token` is one for the CMK `key`, an id or an alias, and good for an import now. For programs that tell their own
    /// clients apart a bad token from bad material; [`import_key_material`](Self::import_key_material) checks it again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is not; otherwise those of [`describe_key`](Self::describe_key).
    pub fn check_import_token(&self, key: &str, import_token: &[u8]) -> Result<()> {
        let now = self.now();
        let key = self.key(key, now)?;
        ImportToken::open(import_token, self.store_id, &self.root_key)?.check(key.key_id, now)
    }

    /// Deletes the key material of the CMK `key`, an id or an alias of origin `external`. Unless its deletion is
    /// scheduled, it is pending import then, and opens nothing until the same material is imported again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the key's origin is `local`; [`ErrorKind::KeyUnavailable`] if there is no such key;
    /// otherwise those of [`enable_key`](Self::enable_key).
    pub fn delete_key_material(&self, key: &str) -> Result<KeyMetadata> {
        self.change(key, Operation::DeleteMaterial, |key, _| {
            key.versions.clear();
            if let Some(imported) = &mut key.imported {
                imported.expires = None;
            }
            Ok(())
        })
    }
}

impl KeyRecord {
    /// Takes `material` as this key's, if it is the one it takes.
    fn import(&mut self, material: &DataKey, expires: Option<u64>, root_key: &RootKey, now: u64) -> Result<()> {
        let material = hash(&[b"sealift/v1/keystore-imported\0", self.key_id.as_bytes()], material)?;
        let fingerprint = hash(&[FINGERPRINT], &material)?;
        let context = [FINGERPRINT, self.store_id.as_bytes().as_slice(), self.key_id.as_bytes()].concat();
        let sealed_fingerprint = match self.imported.as_ref().and_then(|imported| imported.fingerprint.as_ref()) {
            None => seal_key(&fingerprint, root_key, &context)?,
            Some(sealed) => {
                let first = open_key(sealed, root_key, &context).ok_or_else(|| damaged(self.key_id))?;
                if first != fingerprint {
                    return Err(Error::new(
                        ErrorKind::InvalidInput,
                        format!(
                            "this is not the key material that the key {} was made with: import that again, or create \
                             another key for this",
                            self.key_id
                        ),
                    ));
                }
                sealed.clone()
            }
        };
        // Out of a state that says there is no material. In others, the owner's choice stays.
        if self.usable_versions(now).is_empty() {
            self.disabled = false;
        }
        self.versions = vec![VersionRecord::seal(self.store_id, self.key_id, 1, &material, root_key, now)?];
        self.imported = Some(record::ImportedRecord { fingerprint: Some(sealed_fingerprint), expires });
        Ok(())
    }
}

/// SHA-256 over `label` and `key`.
fn hash(label: &[&[u8]], key: &DataKey) -> Result<DataKey> {
    let mut digest = Zeroizing::new([0; 32]);
    let mut hasher = Sha256::new();
    label.iter().for_each(|part| hasher.update(part));
    hasher.update(key.expose());
    // Not `finalize_into`, which moves the hasher and leaves a copy of what it was last given behind.
    hasher.finalize_into_reset((&mut *digest).into());
    DataKey::take(digest.as_mut_slice())
}

/// The one error for everything that can be wrong with encrypted material: whoever tells two reasons apart can decrypt
/// without the key.
fn does_not_unwrap() -> Error {
    let message = "the key material could not be unwrapped: encrypt exactly 32 bytes to the public key that came with \
                   this import token, with the wrapping algorithm that was asked for";
    Error::new(ErrorKind::InvalidInput, message)
}

fn damaged(key_id: Id) -> Error {
    Error::new(ErrorKind::Malformed, format!("the record of the key {key_id} is damaged: restore it from your backup"))
}

const FINGERPRINT: &[u8] = b"sealift/v1/keystore-fingerprint\0";
/// Seconds that an import token is good for: 24 hours.
const TOKEN_LIFE: u64 = 24 * 60 * 60;

/// What a build without RSA says of it.
#[cfg(test)]
#[cfg(not(feature = "aws-lc-rs"))]
mod tests {
    use super::super::{CreateKey, KeyOrigin, RootKeySource};
    use super::*;
    use crate::types::KeyState;

    fn needs_the_feature(error: &Error) {
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
        assert!(error.to_string().contains("enable the feature aws-lc-rs"), "{error}");
    }

    #[test]
    fn without_rsa_nothing_is_imported_and_the_error_names_the_feature() {
        let home = tempfile::tempdir().unwrap();
        let (kms, _) = LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File).unwrap();
        let key = kms.create_key(CreateKey { origin: KeyOrigin::External, ..CreateKey::default() }).unwrap();
        for spec in WrappingKeySpec::ALL {
            let asked = kms.get_parameters_for_import(&key.key_id, WrappingAlgorithm::default(), spec);
            needs_the_feature(&asked.unwrap_err());
        }
        for algorithm in WrappingAlgorithm::ALL {
            // A token of another build, which has the feature and uses the same store.
            let token = ImportToken {
                key_id: key.key_id.parse().unwrap(),
                algorithm,
                valid_until: kms.now() + TOKEN_LIFE,
                private_key: Zeroizing::new(b"a private key".to_vec()),
            };
            let token = token.seal(kms.store_id, &kms.root_key).unwrap();
            kms.check_import_token(&key.key_id, &token).unwrap();
            needs_the_feature(&kms.import_key_material(&key.key_id, &[7; 256], &token, None).unwrap_err());
        }
        assert_eq!(kms.describe_key(&key.key_id).unwrap().state, KeyState::PendingImport);
    }
}

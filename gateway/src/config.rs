//! What an operator decides: a configuration file in TOML, and what a command line adds to it.
//!
//! ```toml
#![doc = include_str!("../gateway.example.toml")]
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sealift::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::access::{AccessKey, AccessKeys, KmsRight, Right, Rights, Secret};

/// What the gateway is told. Everything has a default; a gateway without access keys answers nobody but for its health.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Where the sealed objects are, as the program's command line writes it. For whoever makes the [`Back`](crate::Back).
    pub store: Option<String>,
    /// The key to seal for, as the program's command line writes it. For whoever makes the [`Back`](crate::Back).
    pub kms_key: Option<String>,
    /// Address and port to listen on; port 0 is any that is free.
    pub listen: String,
    /// The region that this gateway says it is in. CMKs of another are refused.
    pub region: String,
    /// Domains below which a bucket may be part of the host name, such as `oss.example.com` for `BUCKET.oss.example.com`.
    pub domains: Vec<String>,
    /// Certificate and key; none, and connections are not encrypted.
    pub tls: Option<Tls>,
    /// What one client may take from the others.
    pub limits: Limits,
    /// Who may do what.
    pub access_keys: Vec<AccessKeyEntry>,
    /// What those without an access key may do with which buckets.
    pub anonymous: BTreeMap<String, Vec<Right>>,
}

/// Files for TLS, in PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate, and after it those that lead to its authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// What one client may take from the others.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request's body. 5 GiB: what OSS and S3 take in one request.
    pub request_bytes: u64,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Requests that are answered at once. More are told to come back later.
    pub concurrent_requests: usize,
    /// Open connections. More have to wait until one ends.
    pub connections: usize,
    /// Seconds that a request's head, and a TLS handshake, may take.
    pub header_seconds: u64,
    /// Seconds after which a client that neither sends what it announced nor takes what it asked for is given up.
    pub stall_seconds: u64,
    /// Bytes a second that a client has to send or take on average over `stall_seconds`, not to be given up.
    pub slowest_bytes_per_second: u64,
    /// Seconds that requests in flight have to end when the gateway is told to stop.
    pub shutdown_seconds: u64,
}

/// An access key, as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKeyEntry {
    id: String,
    #[serde(default, deserialize_with = "secret")]
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    kms: KmsRight,
    #[serde(default)]
    buckets: BTreeMap<String, Vec<Right>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: None,
            kms_key: None,
            listen: Self::LISTEN.to_owned(),
            region: Self::REGION.to_owned(),
            domains: Vec::new(),
            tls: None,
            limits: Limits::default(),
            access_keys: Vec::new(),
            anonymous: BTreeMap::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 5 << 30,
            header_bytes: 32 << 10,
            concurrent_requests: 256,
            connections: 1024,
            header_seconds: 20,
            stall_seconds: 60,
            slowest_bytes_per_second: 64,
            shutdown_seconds: 60,
        }
    }
}

impl Config {
    /// Where it listens unless it is told otherwise.
    pub const LISTEN: &str = "127.0.0.1:8333";
    /// The region it is in unless it is told otherwise.
    pub const REGION: &str = "local";

    /// Reads a configuration file.
    ///
    /// # Errors
    /// As the operating system has it if the file cannot be read; [`ErrorKind::InvalidInput`] if it is not such a file, or if it holds
    /// secrets and others may read it.
    pub fn read(path: &Path) -> Result<Self> {
        let (text, readable_by_others) = read_secret(path)?;
        let config = Self::parse(&text).map_err(|error| error.while_doing(path.display()))?;
        if readable_by_others && config.access_keys.iter().any(|key| key.secret.is_some()) {
            let message = format!(
                "{0} holds secrets and others can read it: chmod 600 {0}, or keep the secrets in files (secret_file)",
                path.display()
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(config)
    }

    /// The configuration that is written as `text`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], with the line, if it is none.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            // Not the error's own text, which quotes the line: there may be a secret on it.
            let at = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
            Error::new(ErrorKind::InvalidInput, format!("line {line}: {}", error.message()))
        })
    }

    /// Adds an access key that may do everything.
    pub fn add_access_key(&mut self, id: impl Into<String>, secret: Secret) {
        let buckets = BTreeMap::from([("*".to_owned(), vec![Right::Read, Right::Write, Right::Admin])]);
        self.access_keys.push(AccessKeyEntry {
            id: id.into(),
            secret: Some(secret),
            secret_file: None,
            kms: KmsRight::Manage,
            buckets,
        });
    }

    /// Takes the access keys out of the configuration, with the secrets that are in files of their own.
    pub(crate) fn take_access_keys(&mut self) -> Result<AccessKeys> {
        let entries = std::mem::take(&mut self.access_keys);
        let keys = entries.into_iter().map(AccessKeyEntry::read).collect::<Result<Vec<_>>>()?;
        AccessKeys::new(keys, rights(std::mem::take(&mut self.anonymous), KmsRight::None))
    }
}

impl Limits {
    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_seconds.max(1))
    }

    pub(crate) fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_seconds.max(1))
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}

impl AccessKeyEntry {
    fn read(self) -> Result<AccessKey> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidInput, format!("the access key {:?} {why}", self.id));
        let secret = match (self.secret, &self.secret_file) {
            (Some(secret), None) => secret,
            (None, Some(path)) => {
                let (text, readable_by_others) = read_secret(path)?;
                if readable_by_others {
                    let message = format!("others can read the secret in {0}: chmod 600 {0}", path.display());
                    return Err(Error::new(ErrorKind::InvalidInput, message));
                }
                Secret::new(text.trim().to_owned())
            }
            (None, None) => return Err(invalid("has no secret: give it `secret` or `secret_file`")),
            (Some(_), Some(_)) => return Err(invalid("has two secrets: give it `secret` or `secret_file`, not both")),
        };
        AccessKey::new(self.id, secret, rights(self.buckets, self.kms))
    }
}

impl std::fmt::Debug for AccessKeyEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKeyEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

fn rights(buckets: BTreeMap<String, Vec<Right>>, kms: KmsRight) -> Rights {
    buckets.into_iter().fold(Rights::none(), |rights, (bucket, these)| rights.with_bucket(bucket, these)).with_kms(kms)
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Secret>, D::Error> {
    Ok(Some(Secret::new(String::deserialize(deserializer)?)))
}

/// A file of text, and whether others than its owner may read it.
fn read_secret(path: &Path) -> Result<(Zeroizing<String>, bool)> {
    let failed = |error| Error::io(format!("reading {}", path.display()), error);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // Room for all of it: a string that grows leaves copies behind.
    let room = usize::try_from(metadata.len()).unwrap_or(0).min(1 << 20);
    let mut text = Zeroizing::new(String::with_capacity(room + 64));
    file.read_to_string(&mut text).map_err(failed)?;
    Ok((text, metadata.permissions().mode() & 0o077 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Caller;

    #[test]
    fn the_example_is_a_configuration() {
        let text = include_str!("../gateway.example.toml");
        let config = Config::parse(text).unwrap();
        assert_eq!(config.listen, "0.0.0.0:8333");
        let defaults = Limits::default();
        assert_eq!(format!("{:?}", config.limits), format!("{defaults:?}"), "the example shows the defaults");
        assert_eq!(config.access_keys.len(), 2);
    }

    #[test]
    fn keys_and_rights_are_read() {
        let mut config = Config::parse(
            "anonymous = { public = ['read'] }\n[[access_keys]]\nid = 'a'\nsecret = 's'\nkms = 'use'\n\
             buckets = { 'team-*' = ['read', 'write'] }\n",
        )
        .unwrap();
        config.add_access_key("root", Secret::new("r".to_owned()));
        let keys = config.take_access_keys().unwrap();
        let a = Caller::new(keys.get("a").unwrap());
        assert!(a.may("team-x", Right::Write) && !a.may("team-x", Right::Admin) && a.may_kms(KmsRight::Use));
        assert!(keys.anonymous().may("public", Right::Read) && !keys.anonymous().may("public", Right::Write));
        assert!(Caller::new(keys.get("root").unwrap()).may_kms(KmsRight::Manage));
    }

    #[test]
    fn secrets_in_files_are_read_and_must_be_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let write = |mode| {
            std::fs::write(&path, "s3cr3t\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let text = format!("[[access_keys]]\nid = 'a'\nsecret_file = {:?}\n", path.to_str().unwrap());
        write(0o600);
        let keys = Config::parse(&text).unwrap().take_access_keys().unwrap();
        assert_eq!(keys.get("a").unwrap().secret().expose(), "s3cr3t");
        write(0o640);
        let error = Config::parse(&text).unwrap().take_access_keys().unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");

        let path = dir.path().join("config");
        std::fs::write(&path, "[[access_keys]]\nid = 'a'\nsecret = 's'\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Config::read(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Config::read(&path).unwrap().access_keys.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_without_secrets() {
        for (text, line, says) in [
            ("listen = 'a'\nlisten2 = 'b'\n", "line 2", "listen2"),
            ("\n\n[limits]\nconnections = 'x'\n", "line 4", "invalid type"),
            ("[[access_keys]]\nid = 'a'\nsecret = s3cr3t\n", "line 3", ""),
            ("[[access_keys]]\nid = 'a'\nbuckets = { b = ['fly'] }\n", "line 3", "fly"),
        ] {
            let error = Config::parse(text).unwrap_err();
            let shown = error.to_string();
            assert!(error.kind() == ErrorKind::InvalidInput && shown.contains(line) && shown.contains(says), "{shown}");
            assert!(!shown.contains("s3cr3t"), "{shown}");
        }
        for (text, says) in [
            ("[[access_keys]]\nid = 'a'\n", "no secret"),
            ("[[access_keys]]\nid = 'a'\nsecret = 's'\nsecret_file = 'f'\n", "two secrets"),
            ("[[access_keys]]\nid = 'a'\nsecret = ''\n", "empty secret"),
        ] {
            let error = Config::parse(text).unwrap().take_access_keys().unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}

//! The root key: what a key store is worth.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::kms::secret;

/// The 32-byte key that seals everything in a [`LocalKms`](super::LocalKms).
///
/// Like every secret it has no `Clone`, is wiped when dropped, and shows nothing when formatted.
pub struct RootKey(DataKey);

impl RootKey {
    /// A fresh root key from the operating system's random generator.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the operating system has no randomness to give.
    pub fn random() -> Result<Self> {
        DataKey::random().map(Self)
    }

    /// The root key written as standard base64 with padding, as in a `root.key` file. White space around it is allowed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] unless it is base64 of exactly 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::InvalidInput, "a root key is 32 bytes in base64, 44 characters");
        secret::from_base64(text.as_bytes()).map(Self).ok_or_else(invalid)
    }

    /// The root key as standard base64. Handle it as what it is.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        secret::to_base64(&self.0)
    }

    /// A name for this root key that tells nothing about it: 32 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        secret::fingerprint("sealift/v1/root-key-id", &self.0)
    }

    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(
                ErrorKind::KeyUnavailable,
                format!(
                    "the root key {} is missing, and without it no key of this store opens: restore it from your backup, \
                     or give the root key itself",
                    path.display()
                ),
            ),
            _ => Error::io(format!("reading the root key {}", path.display()), error),
        };
        let mut file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::new(
                ErrorKind::KeyUnavailable,
                format!(
                    "the root key {0} can be used by others (mode {1:03o}); run: chmod 600 {0}",
                    path.display(),
                    mode & 0o777
                ),
            ));
        }
        let text = secret::read_secret(&mut file, MAX_FILE).map_err(failed)?;
        text.and_then(|text| secret::from_base64(&text)).map(Self).ok_or_else(|| super::record::damaged(path))
    }

    pub(super) fn key(&self) -> &DataKey {
        &self.0
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// Where the root key of a [`LocalKms`](super::LocalKms) comes from.
#[derive(Debug)]
pub enum RootKeySource {
    /// The file `root.key` in the store, made with it. It must not be readable by group or others.
    File,
    /// The caller, who keeps it elsewhere: then the store's files alone open nothing.
    Given(RootKey),
}

/// More than base64 of 32 bytes with any reasonable white space.
const MAX_FILE: usize = 1024;

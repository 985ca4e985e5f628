//! The key service `key-file`: one CMK, in a file the user brings.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use futures::future::BoxFuture;

use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::context;
use crate::kms::{Kms, secret};
use crate::types::{EncryptionContext, KmsService, WrappedKey};

/// A CMK whose 32 bytes the user brings in a file: the simplest key service, with one key.
///
/// The key's id is a fingerprint of it, 32 hexadecimal digits of a SHA-256: it is stored with each object and tells
/// nothing about the key, provided that the key is random. Make one with `head -c 32 /dev/urandom`, or
/// `openssl rand -base64 32`; never take a passphrase.
///
/// ```
/// use sealift::EncryptionContext;
/// use sealift::kms::{Kms as _, key_file::KeyFile};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("cmk");
/// std::fs::write(&path, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
/// let kms = KeyFile::read(&path)?;
/// assert_eq!(kms.id(), "95600c701ca0f4c968e56a0b33e7d697");
///
/// let context = EncryptionContext::default();
/// let (data_key, wrapped) = kms.generate_data_key(kms.id(), &context).await?;
/// assert_eq!(kms.unwrap(&wrapped, &context).await?, data_key);
/// # Ok(())
/// # }
/// ```
pub struct KeyFile {
    key: DataKey,
    id: String,
    readable_by_others: bool,
}

impl KeyFile {
    /// Reads the key from the file at `path`: exactly 32 bytes are the key itself; anything else is standard base64
    /// with padding of exactly 32 bytes, white space around it allowed.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if the file holds neither.
    /// - As the operating system has it if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |error| Error::io(format!("reading the key file {}", path.display()), error);
        let mut file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        let content = secret::read_secret(&mut file, MAX_FILE).map_err(failed)?;
        let key = content.and_then(|mut content| match content.len() {
            DataKey::LEN => DataKey::take(&mut content).ok(),
            _ => secret::from_base64(&content),
        });
        let key = key.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the key file {} holds neither exactly 32 bytes nor their base64, 44 characters",
                    path.display()
                ),
            )
        })?;
        Ok(Self { readable_by_others: mode & 0o044 != 0, ..Self::new(key) })
    }

    /// A service whose one CMK is `key`.
    #[must_use]
    pub fn new(key: DataKey) -> Self {
        let id = secret::fingerprint("sealift/v1/key-file-id", &key);
        Self { key, id, readable_by_others: false }
    }

    /// The key's id, for [`generate_data_key`](Kms::generate_data_key) and [`wrap`](Kms::wrap).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the file's permissions let its group or others read it: worth a warning where that was not meant.
    #[must_use]
    pub fn is_readable_by_others(&self) -> bool {
        self.readable_by_others
    }

    fn wrap_data_key(&self, key: &str, data_key: &DataKey, context: &EncryptionContext) -> Result<WrappedKey> {
        self.check_key(key)?;
        let blob = secret::wrap(&self.key, &context::kms_key_file(context), data_key)?;
        Ok(WrappedKey { kms: KmsService::KeyFile, key: self.id.clone(), blob })
    }

    fn unwrap_data_key(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<DataKey> {
        secret::check_service(KmsService::KeyFile, wrapped)?;
        self.check_key(&wrapped.key)?;
        secret::unwrap(&self.key, &context::kms_key_file(context), &wrapped.blob).map_err(|error| match error.kind() {
            ErrorKind::Authentication => secret::does_not_open(wrapped),
            _ => error,
        })
    }

    fn check_key(&self, key: &str) -> Result<()> {
        if key == self.id {
            return Ok(());
        }
        let message = format!("the key file holds the key {}, not {key:?}: give the file of that key", self.id);
        Err(Error::new(ErrorKind::KeyUnavailable, message))
    }
}

impl Kms for KeyFile {
    fn service(&self) -> KmsService {
        KmsService::KeyFile
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        Box::pin(async move { self.wrap_data_key(key, data_key, context) })
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        Box::pin(async move { self.unwrap_data_key(wrapped, context) })
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("id", &self.id).finish_non_exhaustive()
    }
}

/// More than base64 of 32 bytes with any reasonable white space.
const MAX_FILE: usize = 1024;

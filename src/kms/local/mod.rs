//! The embedded key service: CMKs in a directory, for programs that have no key service to call.
//!
//! ```text
//! KEYSTORE/               0700
//!   root.key              0600   the root key in base64, unless the caller keeps it elsewhere
//!   store.json            0600   store id, the root key's fingerprint, which keys there are, aliases
//!   keys/<key id>.json    0600   one CMK: its versions, their material sealed under the root key
//!   lock                  0600   empty; whoever writes holds a lock on it
//!   .new                  0600   a file that is being written, or that a crash left behind; nobody reads it
//! ```
//!
//! A store appears as a whole: it is made beside its place and then renamed, so what lacks a file is a damaged store
//! and not a new one, and is never completed by inventing keys. Each later change replaces one file by renaming,
//! synced before it is relied on. A key's file is written before anything names the key, and removed, when its deletion
//! is due, after nothing does; one that nothing names is a key all the same.
//!
//! Any number of threads and processes may use a store at once. Each operation reads the files it needs, so that it
//! sees what others changed.
//!
//! # What each state of a CMK allows
//!
//! As in the cloud services, where they agree; where they do not, as in Alibaba Cloud's ("Impact of CMK status on API
//! operations"). What a state forbids is an error with that state, [`Error::key_state`].
//!
//! | | `Enabled` | `Disabled` | `PendingDeletion` | `PendingImport` |
//! | --- | --- | --- | --- | --- |
//! | wrap, unwrap | yes | no | no | no |
//! | rotate (origin local) | yes | no | no | never there |
//! | enable, disable | yes | yes | no | no |
//! | schedule deletion | yes | yes | no | yes |
//! | cancel deletion | no | no | to `Enabled`, without material to `PendingImport` | no |
//! | description, tags, an alias for it | yes | yes | no | yes |
//! | get parameters for import, import (origin external) | yes | yes | no | yes; to `Enabled` |
//! | delete material (origin external) | to `PendingImport` | to `PendingImport` | yes; stays | yes; stays |
//! | describe, list, delete an alias | yes | yes | yes | yes |
//!
//! Time alone changes two things, for every reader at once and without anybody writing: material that expires takes a key
//! to `PendingImport`, and a key whose deletion is due is unknown. The material leaves the key's file with the next write
//! to the key, the key's file and aliases are removed with the next write to the store.
//!
//! # Who can open what
//!
//! Whoever has the root key and can read the directory can open every object sealed under its keys. Whoever loses
//! either can open none: keep a backup (feature `backup`).

mod alias;
mod files;
mod id;
mod import;
mod keys;
mod lifecycle;
mod metadata;
mod record;
mod root_key;
#[cfg(feature = "backup")]
mod snapshot;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures::future::BoxFuture;

use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::context;
use crate::kms::{Kms, secret};
use crate::types::{EncryptionContext, KmsService, WrappedKey};
use files::WriteLock;
use id::Id;
pub use import::{ImportParameters, WrappingAlgorithm, WrappingKeySpec};
use lifecycle::Operation;
pub use metadata::{CreateKey, KeyMetadata, KeyOrigin};
use record::{KeyRecord, StoreRecord, Unchecked, VersionRecord};
pub use root_key::{RootKey, RootKeySource};
#[cfg(feature = "backup")]
pub(super) use snapshot::Snapshot;

/// The embedded key service `local`: CMKs in a directory, sealed under a root key.
///
/// Its methods read and write small files in place, and block while they do: wrapping and unwrapping read one or two,
/// creating syncs to disk and may wait for another process that does.
///
/// ```
/// use sealift::kms::Kms as _;
/// use sealift::kms::local::{LocalKms, RootKeySource};
/// use sealift::{DataKey, EncryptionContext};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// # let home = tempfile::tempdir().unwrap();
/// # let home = home.path();
/// let (kms, created) = LocalKms::open_or_create(home.join("kms"), RootKeySource::File)?;
/// assert!(created.is_some(), "the first use makes the store, and a first key");
///
/// let context = EncryptionContext::new([("purpose".into(), "example".into())])?;
/// let (data_key, wrapped) = kms.generate_data_key(LocalKms::DEFAULT_ALIAS, &context).await?;
/// assert_eq!(kms.unwrap(&wrapped, &context).await?, data_key);
/// assert!(kms.unwrap(&wrapped, &EncryptionContext::default()).await.is_err());
/// # Ok(())
/// # }
/// ```
pub struct LocalKms {
    dir: PathBuf,
    store_id: Id,
    root_key: RootKey,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

/// What first use made, for the program to tell its user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Created {
    /// The first CMK, which [`LocalKms::DEFAULT_ALIAS`] stands for.
    pub key_id: String,
    /// The file that holds the new root key, unless the caller gave it. To be backed up.
    pub root_key_file: Option<PathBuf>,
}

impl LocalKms {
    /// The alias that first use gives the first key.
    pub const DEFAULT_ALIAS: &str = "alias/default";

    /// Opens the key store at `dir`.
    ///
    /// # Errors
    /// - [`ErrorKind::KeyUnavailable`] if there is no store, its `store.json` or root key is missing, the root key is
    ///   another store's, or `root.key` is accessible to group or others; the message says what to do.
    /// - [`ErrorKind::Malformed`] if `store.json` or `root.key` is damaged, and [`ErrorKind::UnsupportedFormat`] if a
    ///   newer Sealift wrote it.
    /// - As the operating system has it if a file cannot be read.
    pub fn open(dir: impl Into<PathBuf>, root_key: RootKeySource) -> Result<Self> {
        let dir = dir.into();
        if files::is_absent(&dir)? {
            return Err(Error::new(
                ErrorKind::KeyUnavailable,
                format!("there is no key store at {}: sealing with the local key service makes one", dir.display()),
            ));
        }
        let record = read_store(&dir)?;
        let root_key = match root_key {
            RootKeySource::File => RootKey::read(&root_key_path(&dir))?,
            RootKeySource::Given(key) => key,
        };
        let (needed, given) = (&record.peek().root_key, root_key.fingerprint());
        if *needed != given {
            return Err(Error::new(
                ErrorKind::KeyUnavailable,
                format!(
                    "the key store {} needs the root key with fingerprint {needed:?}, not {given}: \
                     restore that one from your backup, or give it",
                    dir.display()
                ),
            ));
        }
        let store_id = record.check(&store_path(&dir), &root_key)?.store_id;
        Ok(Self { dir, store_id, root_key, clock: Box::new(SystemTime::now) })
    }

    /// Opens the key store at `dir`; if there is nothing at all, makes one first, with one CMK and an alias for it.
    ///
    /// Processes that do this at once agree on one store, and one of them learns that it made it.
    /// `dir` itself must not be a mount point; it and missing directories above it are made.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), except that `dir` may be missing or empty. A store that lacks a file is an error
    /// and stays as it is.
    pub fn open_or_create(dir: impl Into<PathBuf>, root_key: RootKeySource) -> Result<(Self, Option<Created>)> {
        let dir = dir.into();
        if !files::is_absent(&dir)? {
            return Ok((Self::open(dir, root_key)?, None));
        }
        let (root_key, generated) = match root_key {
            RootKeySource::File => (RootKey::random()?, true),
            RootKeySource::Given(key) => (key, false),
        };
        let first_key = files::install(&dir, |new| create_store(new, &root_key, generated))?;
        // What was made is now opened as any other: if it cannot be, better to know before anything is sealed with it.
        let root_key = if generated { RootKeySource::File } else { RootKeySource::Given(root_key) };
        let created = first_key.map(|key_id| Created {
            key_id: key_id.to_string(),
            root_key_file: generated.then(|| root_key_path(&dir)),
        });
        Ok((Self::open(dir, root_key)?, created))
    }

    /// The directory of the store.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same, with another clock to say when things expire. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Seconds since 1970.
    fn now(&self) -> u64 {
        record::seconds((self.clock)())
    }
}

impl Kms for LocalKms {
    fn service(&self) -> KmsService {
        KmsService::Local
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

impl LocalKms {
    fn wrap_data_key(&self, key: &str, data_key: &DataKey, context: &EncryptionContext) -> Result<WrappedKey> {
        let now = self.now();
        let key = self.key(key, now)?;
        Operation::Wrap.check(&key, now)?;
        let newest = key.usable_versions(now).last().ok_or_else(|| self.unknown(&key.key_id.to_string()))?;
        let material = self.material(&key, newest)?;
        let blob = secret::wrap(&material, &context::kms_local(context), data_key)?;
        Ok(WrappedKey { kms: KmsService::Local, key: key.key_id.to_string(), blob })
    }

    fn unwrap_data_key(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<DataKey> {
        secret::check_service(KmsService::Local, wrapped)?;
        let (now, unknown) = (self.now(), || self.unknown(&wrapped.key));
        let key = self.key_by_id(wrapped.key.parse().map_err(|_| unknown())?, now)?.ok_or_else(unknown)?;
        Operation::Unwrap.check(&key, now)?;
        let context = context::kms_local(context);
        // A wrapped key does not say under which version. The newest is the likeliest.
        for version in key.usable_versions(now).iter().rev() {
            match secret::unwrap(&self.material(&key, version)?, &context, &wrapped.blob) {
                Err(error) if error.kind() == ErrorKind::Authentication => {}
                other => return other,
            }
        }
        Err(secret::does_not_open(wrapped))
    }

    fn material(&self, key: &KeyRecord, version: &VersionRecord) -> Result<DataKey> {
        key.material(version, &self.root_key)
            .map_err(|error| record::damaged(&key_path(&self.dir, key.key_id)).with_source(error))
    }
}

impl fmt::Debug for LocalKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKms").field("dir", &self.dir).field("store_id", &self.store_id).finish_non_exhaustive()
    }
}

/// Fills the directory of a new store; returns the id of its first key.
fn create_store(dir: &Path, root_key: &RootKey, write_root_key: bool) -> Result<Id> {
    let lock = WriteLock::acquire(dir)?;
    if write_root_key {
        lock.write(&root_key_path(dir), root_key.to_base64().as_bytes())?;
    }
    files::create_dir(&keys_dir(dir))?;
    let store_id = Id::random()?;
    let key = KeyRecord::random(store_id, root_key, record::seconds(SystemTime::now()))?;
    write_key(&lock, dir, &key, root_key)?;
    let store = StoreRecord {
        store_id,
        root_key: root_key.fingerprint(),
        keys: BTreeSet::from([key.key_id]),
        aliases: BTreeMap::from([(LocalKms::DEFAULT_ALIAS.to_owned(), key.key_id)]),
    };
    write_store(&lock, dir, &store, root_key)?;
    Ok(key.key_id)
}

fn read_store(dir: &Path) -> Result<Unchecked<StoreRecord>> {
    let path = store_path(dir);
    let content = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::new(
            ErrorKind::KeyUnavailable,
            format!(
                "{} is missing, though {} is not empty: restore it from your backup",
                path.display(),
                dir.display()
            ),
        ),
        _ => Error::io(format!("reading {}", path.display()), error),
    })?;
    record::decode(&path, &content)
}

fn write_store(lock: &WriteLock, dir: &Path, store: &StoreRecord, root_key: &RootKey) -> Result<()> {
    lock.write(&store_path(dir), &record::encode(store, root_key)?)
}

fn write_key(lock: &WriteLock, dir: &Path, key: &KeyRecord, root_key: &RootKey) -> Result<()> {
    lock.write(&key_path(dir, key.key_id), &record::encode(key, root_key)?)
}

fn store_path(dir: &Path) -> PathBuf {
    dir.join("store.json")
}

fn root_key_path(dir: &Path) -> PathBuf {
    dir.join("root.key")
}

fn keys_dir(dir: &Path) -> PathBuf {
    dir.join("keys")
}

fn key_path(dir: &Path, id: Id) -> PathBuf {
    keys_dir(dir).join(format!("{id}.json"))
}

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
//! synced before it is relied on. A key's file is written before anything names the key; one that nothing names is a
//! key all the same.
//!
//! Any number of threads and processes may use a store at once. Each operation reads the files it needs, so that it
//! sees what others changed.
//!
//! Whoever has the root key and can read the directory can open every object sealed under its keys. Whoever loses
//! either can open none: keep a backup (feature `backup`).

mod files;
mod id;
mod record;
mod root_key;
#[cfg(feature = "backup")]
mod snapshot;

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

/// A CMK, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyMetadata {
    /// The CMK's id: a UUID.
    pub key_id: String,
    /// The names that stand for it, ascending.
    pub aliases: Vec<String>,
    /// When it was created, to the second.
    pub created: SystemTime,
    /// The version of its material that wraps now. Earlier ones still unwrap.
    pub primary_version: u32,
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
        Ok(Self { dir, store_id, root_key })
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

    /// Creates a CMK with random material. It is on disk when this returns.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), or as the operating system has it if a file cannot be written; what was in the
    /// store stays as it was.
    pub fn create_key(&self) -> Result<KeyMetadata> {
        let lock = WriteLock::acquire(&self.dir)?;
        let mut store = self.store()?;
        let key = KeyRecord::random(self.store_id, &self.root_key)?;
        write_key(&lock, &self.dir, &key, &self.root_key)?;
        store.keys.insert(key.key_id);
        write_store(&lock, &self.dir, &store, &self.root_key)?;
        Ok(metadata(&key, &store))
    }

    /// Gives the CMK `key`, an id or another alias, the name `alias`: `alias/` and 1 to 249 of `A-Z a-z 0-9 / _ -`.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if `alias` is not such a name, [`ErrorKind::AlreadyExists`] if it is taken.
    /// - [`ErrorKind::KeyUnavailable`] if there is no such key.
    /// - Those of [`create_key`](Self::create_key).
    pub fn create_alias(&self, alias: &str, key: &str) -> Result<()> {
        check_alias(alias)?;
        let lock = WriteLock::acquire(&self.dir)?;
        let mut store = self.store()?;
        if store.aliases.contains_key(alias) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("the alias {alias} exists already")));
        }
        let key = self.key(key)?.key_id;
        store.aliases.insert(alias.to_owned(), key);
        write_store(&lock, &self.dir, &store, &self.root_key)
    }

    /// Describes the CMK `key`, an id or an alias.
    ///
    /// # Errors
    /// [`ErrorKind::KeyUnavailable`] if there is no such key or its file is missing, [`ErrorKind::Malformed`] if a
    /// file is damaged.
    pub fn describe_key(&self, key: &str) -> Result<KeyMetadata> {
        Ok(metadata(&self.key(key)?, &self.store()?))
    }

    /// Describes every CMK, ascending by id.
    ///
    /// # Errors
    /// Those of [`describe_key`](Self::describe_key), for any of them.
    pub fn list_keys(&self) -> Result<Vec<KeyMetadata>> {
        let store = self.store()?;
        self.key_ids(&store)?.into_iter().map(|id| Ok(metadata(&self.key_by_id(id)?, &store))).collect()
    }

    /// The key that `name` stands for.
    fn key(&self, name: &str) -> Result<KeyRecord> {
        let id = if name.starts_with(ALIAS) {
            self.store()?.aliases.get(name).copied().ok_or_else(|| self.unknown(name))?
        } else {
            name.parse().map_err(|_| self.unknown(name))?
        };
        self.key_by_id(id)
    }

    fn key_by_id(&self, id: Id) -> Result<KeyRecord> {
        let path = key_path(&self.dir, id);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing(id, &path)),
            Err(error) => return Err(Error::io(format!("reading {}", path.display()), error)),
        };
        let key: KeyRecord = record::decode(&path, &content)?.check(&path, &self.root_key)?;
        // Both are in the seal, so this is a key of ours; but perhaps not the one whose name the file has.
        if key.store_id != self.store_id || key.key_id != id {
            return Err(record::damaged(&path));
        }
        Ok(key)
    }

    /// Why there is no file for the key `id`.
    fn missing(&self, id: Id, path: &Path) -> Error {
        let message = match self.store() {
            Ok(store) if store.keys.contains(&id) => {
                format!("the key file {} is missing: restore it from your backup", path.display())
            }
            Ok(_) => return self.unknown(&id.to_string()),
            Err(error) => return error,
        };
        Error::new(ErrorKind::KeyUnavailable, message)
    }

    fn unknown(&self, name: &str) -> Error {
        let message = format!("there is no key {name:?} in the key store {}", self.dir.display());
        Error::new(ErrorKind::KeyUnavailable, message)
    }

    /// Every key that the store names or has a file of.
    fn key_ids(&self, store: &StoreRecord) -> Result<BTreeSet<Id>> {
        let dir = keys_dir(&self.dir);
        let failed = |error| Error::io(format!("reading {}", dir.display()), error);
        let mut ids = store.keys.clone();
        match fs::read_dir(&dir) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(failed)?.file_name();
                    ids.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<Id>().ok()));
                }
            }
            // Every file in it is then reported missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(ids)
    }

    fn store(&self) -> Result<StoreRecord> {
        let path = store_path(&self.dir);
        let store = read_store(&self.dir)?.check(&path, &self.root_key)?;
        if store.store_id != self.store_id {
            return Err(Error::new(
                ErrorKind::KeyUnavailable,
                format!("another key store took the place of the one at {}: open it again", self.dir.display()),
            ));
        }
        Ok(store)
    }
}

impl Kms for LocalKms {
    fn service(&self) -> KmsService {
        KmsService::Local
    }

    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
        Box::pin(async move {
            let data_key = DataKey::random()?;
            let wrapped = self.wrap_data_key(key, &data_key, context)?;
            Ok((data_key, wrapped))
        })
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
        let key = self.key(key)?;
        let material = self.material(&key, key.newest())?;
        let blob = secret::wrap(&material, &context::kms_local(context), data_key)?;
        Ok(WrappedKey { kms: KmsService::Local, key: key.key_id.to_string(), blob })
    }

    fn unwrap_data_key(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<DataKey> {
        secret::check_service(KmsService::Local, wrapped)?;
        let key = self.key_by_id(wrapped.key.parse().map_err(|_| self.unknown(&wrapped.key))?)?;
        let context = context::kms_local(context);
        // A wrapped key does not say under which version. The newest is the likeliest.
        for version in key.versions.iter().rev() {
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

const ALIAS: &str = "alias/";

fn check_alias(alias: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
    match alias.strip_prefix(ALIAS) {
        Some(name) if (1..=249).contains(&name.len()) && name.bytes().all(allowed) => Ok(()),
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("an alias is {ALIAS:?} and 1 to 249 of A-Z a-z 0-9 / _ -, which {alias:?} is not"),
        )),
    }
}

fn metadata(key: &KeyRecord, store: &StoreRecord) -> KeyMetadata {
    let aliases = store.aliases.iter().filter(|(_, id)| **id == key.key_id).map(|(alias, _)| alias.clone());
    KeyMetadata {
        key_id: key.key_id.to_string(),
        aliases: aliases.collect(),
        created: record::time(key.created),
        primary_version: key.newest().version,
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
    let key = KeyRecord::random(store_id, root_key)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// No operation makes a second version yet, but the files have room for it and wrapped keys do not say which is
    /// theirs.
    #[test]
    fn the_newest_version_wraps_and_each_version_unwraps() {
        let home = tempfile::tempdir().unwrap();
        let (kms, _) = LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File).unwrap();
        let context = EncryptionContext::default();
        let data_key = DataKey::random().unwrap();
        let wrap = || kms.wrap_data_key(LocalKms::DEFAULT_ALIAS, &data_key, &context).unwrap();
        let old = wrap();

        let lock = WriteLock::acquire(kms.dir()).unwrap();
        let mut key = kms.key(LocalKms::DEFAULT_ALIAS).unwrap();
        key.versions.push(VersionRecord::random(kms.store_id, key.key_id, 2, &kms.root_key).unwrap());
        write_key(&lock, kms.dir(), &key, &kms.root_key).unwrap();
        let new = wrap();

        assert_eq!(kms.describe_key(LocalKms::DEFAULT_ALIAS).unwrap().primary_version, 2);
        assert_eq!(kms.unwrap_data_key(&old, &context).unwrap(), data_key);
        assert_eq!(kms.unwrap_data_key(&new, &context).unwrap(), data_key);

        key.versions.remove(0);
        write_key(&lock, kms.dir(), &key, &kms.root_key).unwrap();
        assert_eq!(kms.unwrap_data_key(&old, &context).unwrap_err().kind(), ErrorKind::Authentication);
        assert_eq!(kms.unwrap_data_key(&new, &context).unwrap(), data_key);
    }
}

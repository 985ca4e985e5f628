//! Finding CMKs, making them, and changing one as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::alias::ALIAS;
use super::files::WriteLock;
use super::id::Id;
use super::lifecycle::Operation;
use super::metadata::{CreateKey, KeyMetadata, KeyOrigin, check_description, check_tags};
use super::record::{self, KeyRecord, StoreRecord};
use super::{LocalKms, key_path, keys_dir, read_store, store_path, write_key, write_store};
use crate::error::{Error, ErrorKind, Result};

impl LocalKms {
    /// Creates a CMK. It is on disk when this returns.
    ///
    /// With the origin `local` it has random material and is enabled; with the origin `external` it has none, and is
    /// pending import.
    ///
    /// ```
    /// # use sealift::kms::local::{CreateKey, KeyOrigin, LocalKms, RootKeySource};
    /// # fn main() -> sealift::Result<()> {
    /// # let home = tempfile::tempdir().unwrap();
    /// # let (kms, _) = LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File)?;
    /// let key = kms.create_key(CreateKey { origin: KeyOrigin::External, ..CreateKey::default() })?;
    /// assert_eq!(key.state, sealift::KeyState::PendingImport);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] or [`ErrorKind::LimitExceeded`] if description or tags are not as [`CreateKey`] says.
    /// - Those of [`open`](Self::open), or as the operating system has it if a file cannot be written; what was in the
    ///   store stays as it was.
    pub fn create_key(&self, options: CreateKey) -> Result<KeyMetadata> {
        check_description(&options.description)?;
        check_tags(&options.tags)?;
        let (lock, mut store, now) = self.begin_write()?;
        let mut key = match options.origin {
            KeyOrigin::Local => KeyRecord::random(self.store_id, &self.root_key, now)?,
            KeyOrigin::External => KeyRecord::external(self.store_id, now)?,
        };
        key.description = options.description;
        key.tags = options.tags;
        write_key(&lock, &self.dir, &key, &self.root_key)?;
        store.keys.insert(key.key_id);
        write_store(&lock, &self.dir, &store, &self.root_key)?;
        Ok(KeyMetadata::new(&key, &store, now))
    }

    /// Describes the CMK `key`, an id or an alias.
    ///
    /// # Errors
    /// [`ErrorKind::KeyUnavailable`] if there is no such key or its file is missing, [`ErrorKind::Malformed`] if a
    /// file is damaged.
    pub fn describe_key(&self, key: &str) -> Result<KeyMetadata> {
        let now = self.now();
        Ok(KeyMetadata::new(&self.key(key, now)?, &self.store()?, now))
    }

    /// Describes every CMK, ascending by id.
    ///
    /// # Errors
    /// Those of [`describe_key`](Self::describe_key), for any of them.
    pub fn list_keys(&self) -> Result<Vec<KeyMetadata>> {
        let (store, now) = (self.store()?, self.now());
        let ids = self.key_ids(&store)?.into_iter();
        let keys = ids.filter_map(|id| self.key_by_id(id, now).transpose());
        keys.map(|key| Ok(KeyMetadata::new(&key?, &store, now))).collect()
    }

    /// Changes the key that `name` stands for, if `operation` is allowed on it now: all that `apply` does to it, or
    /// nothing if it fails. `apply` is told the time.
    pub(super) fn change(
        &self,
        name: &str,
        operation: Operation,
        apply: impl FnOnce(&mut KeyRecord, u64) -> Result<()>,
    ) -> Result<KeyMetadata> {
        let (lock, store, now) = self.begin_write()?;
        let mut key = self.key(name, now)?;
        operation.check(&key, now)?;
        // Before the change, which may set another time for new material to expire.
        key.sweep(now);
        apply(&mut key, now)?;
        write_key(&lock, &self.dir, &key, &self.root_key)?;
        Ok(KeyMetadata::new(&key, &store, now))
    }

    /// What a write begins with: the lock, the store's record, and the time. Keys whose deletion is due are gone then.
    pub(super) fn begin_write(&self) -> Result<(WriteLock, StoreRecord, u64)> {
        let lock = WriteLock::acquire(&self.dir)?;
        let (mut store, now) = (self.store()?, self.now());
        self.remove_deleted(&lock, &mut store, now)?;
        Ok((lock, store, now))
    }

    /// Removes what is left of keys whose deletion is due.
    fn remove_deleted(&self, lock: &WriteLock, store: &mut StoreRecord, now: u64) -> Result<()> {
        let mut gone = self.key_ids(store)?;
        // A file that cannot be read is not in the way of other keys. Whoever uses it learns what is wrong with it.
        gone.retain(|id| matches!(self.read_key(*id), Ok(Some(key)) if key.is_gone(now)));
        if gone.is_empty() {
            return Ok(());
        }
        // A file without an entry is found the next time, if a crash keeps it from being removed. An entry without a
        // file would be a loss.
        store.keys.retain(|id| !gone.contains(id));
        store.aliases.retain(|_, id| !gone.contains(id));
        write_store(lock, &self.dir, store, &self.root_key)?;
        gone.iter().try_for_each(|id| lock.remove(&key_path(&self.dir, *id)))
    }

    /// The key that `name`, an id or an alias, stands for at the time `now`.
    pub(super) fn key(&self, name: &str, now: u64) -> Result<KeyRecord> {
        let id = if name.starts_with(ALIAS) {
            self.store()?.aliases.get(name).copied().ok_or_else(|| self.unknown(name))?
        } else {
            name.parse().map_err(|_| self.unknown(name))?
        };
        self.key_by_id(id, now)?.ok_or_else(|| self.unknown(name))
    }

    /// `None` if there is no such key at the time `now`.
    pub(super) fn key_by_id(&self, id: Id, now: u64) -> Result<Option<KeyRecord>> {
        Ok(self.read_key(id)?.filter(|key| !key.is_gone(now)))
    }

    /// What the file of the key `id` says. `None` if there is none, and none is missing.
    pub(super) fn read_key(&self, id: Id) -> Result<Option<KeyRecord>> {
        let path = key_path(&self.dir, id);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.check_not_lost(id, &path),
            Err(error) => return Err(Error::io(format!("reading {}", path.display()), error)),
        };
        let key: KeyRecord = record::decode(&path, &content)?.check(&path, &self.root_key)?;
        // Both are in the seal, so this is a key of ours; but perhaps not the one whose name the file has.
        if key.store_id != self.store_id || key.key_id != id {
            return Err(record::damaged(&path));
        }
        Ok(Some(key))
    }

    /// There is no file for the key `id`: `None` if there should not be.
    fn check_not_lost(&self, id: Id, path: &Path) -> Result<Option<KeyRecord>> {
        if self.store()?.keys.contains(&id) {
            let message = format!("the key file {} is missing: restore it from your backup", path.display());
            return Err(Error::new(ErrorKind::KeyUnavailable, message));
        }
        Ok(None)
    }

    pub(super) fn unknown(&self, name: &str) -> Error {
        let message = format!("there is no key {name:?} in the key store {}", self.dir.display());
        Error::new(ErrorKind::KeyUnavailable, message)
    }

    /// Every key that the store names or has a file of.
    pub(super) fn key_ids(&self, store: &StoreRecord) -> Result<BTreeSet<Id>> {
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

    pub(super) fn store(&self) -> Result<StoreRecord> {
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

//! All of a store at one moment, for backups.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::{self, WriteLock};
use super::id::Id;
use super::{LocalKms, RootKey, RootKeySource, key_path, keys_dir, root_key_path, store_path, write_key};
use crate::error::{Error, ErrorKind, Result};

/// The content of a store's files, but for the root key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::kms) struct Snapshot {
    store: String,
    /// By the key's id.
    keys: BTreeMap<String, String>,
}

impl LocalKms {
    pub(in crate::kms) fn root_key(&self) -> &RootKey {
        &self.root_key
    }

    /// Refuses a directory in which there is something.
    pub(in crate::kms) fn check_absent(dir: &Path) -> Result<()> {
        if files::is_absent(dir)? { Ok(()) } else { Err(exists(dir)) }
    }

    /// The files as they are now, after everything in them was opened. What should be gone by now is removed before:
    /// it must not live on in a backup.
    pub(in crate::kms) fn snapshot(&self) -> Result<Snapshot> {
        let (lock, store, now) = self.begin_write()?;
        for id in self.key_ids(&store)? {
            if let Some(mut key) = self.read_key(id)?.filter(|key| key.has_expired(now) && !key.versions.is_empty()) {
                key.sweep(now);
                write_key(&lock, &self.dir, &key, &self.root_key)?;
            }
        }
        self.read_all()
    }

    /// The files as they are, after everything in them was opened.
    fn read_all(&self) -> Result<Snapshot> {
        let mut keys = BTreeMap::new();
        for id in self.key_ids(&self.store()?)? {
            let Some(key) = self.read_key(id)? else { continue };
            for version in &key.versions {
                self.material(&key, version)?;
            }
            keys.insert(id.to_string(), read(&key_path(&self.dir, id))?);
        }
        Ok(Snapshot { store: read(&store_path(&self.dir))?, keys })
    }

    /// Makes the store `dir` out of `snapshot`: all of it and in working order, or nothing.
    pub(in crate::kms) fn restore(dir: &Path, root_key: &RootKey, snapshot: &Snapshot) -> Result<Self> {
        let restored = files::install(dir, |new| {
            let lock = WriteLock::acquire(new)?;
            lock.write(&root_key_path(new), root_key.to_base64().as_bytes())?;
            files::create_dir(&keys_dir(new))?;
            for (id, content) in &snapshot.keys {
                // Only ids become file names.
                let id: Id = id.parse().map_err(|why| {
                    Error::new(ErrorKind::Malformed, format!("the backup has a key {id:?}, which is {why}"))
                })?;
                lock.write(&key_path(new, id), content.as_bytes())?;
            }
            lock.write(&store_path(new), snapshot.store.as_bytes())?;
            drop(lock);
            Self::open(new, RootKeySource::File)?.read_all().map_err(|error| error.while_doing("restoring a backup"))
        })?;
        match restored {
            Some(_) => Self::open(dir, RootKeySource::File),
            None => Err(exists(dir)),
        }
    }
}

fn exists(dir: &Path) -> Error {
    let message =
        format!("there is something at {} already: restore into a directory that is not there yet", dir.display());
    Error::new(ErrorKind::AlreadyExists, message)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io(format!("reading {}", path.display()), error))
}

//! Names that stand for CMKs, and can be given to another.

use std::collections::BTreeMap;

use super::lifecycle::Operation;
use super::{LocalKms, write_store};
use crate::error::{Error, ErrorKind, Result};

/// What every alias begins with, and no id.
pub(super) const ALIAS: &str = "alias/";

impl LocalKms {
    /// Gives the CMK `key`, an id or another alias, the name `alias`: `alias/` and 1 to 249 of `A-Z a-z 0-9 / _ -`.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if `alias` is not such a name, [`ErrorKind::AlreadyExists`] if it is taken.
    /// - [`ErrorKind::KeyUnavailable`] if there is no such key, or with [`Error::key_state`] if its deletion is scheduled.
    /// - Those of [`create_key`](Self::create_key).
    pub fn create_alias(&self, alias: &str, key: &str) -> Result<()> {
        check_alias(alias)?;
        self.set_alias(alias, key, false)
    }

    /// Takes the name `alias`, which exists, from its CMK and gives it to `key`, an id or an alias.
    ///
    /// What is sealed from now on under that name is sealed for `key`. What was sealed before is not affected, because it
    /// names its CMK by id.
    ///
    /// # Errors
    /// [`ErrorKind::KeyUnavailable`] if there is no such alias; otherwise those of [`create_alias`](Self::create_alias).
    pub fn update_alias(&self, alias: &str, key: &str) -> Result<()> {
        self.set_alias(alias, key, true)
    }

    fn set_alias(&self, alias: &str, key: &str, is_there: bool) -> Result<()> {
        let (lock, mut store, now) = self.begin_write()?;
        match store.aliases.contains_key(alias) {
            true if !is_there => {
                let message = format!("the alias {alias} exists already: choose another, or update it");
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            false if is_there => return Err(self.unknown(alias)),
            _ => {}
        }
        let key = self.key(key, now)?;
        Operation::Label.check(&key, now)?;
        store.aliases.insert(alias.to_owned(), key.key_id);
        write_store(&lock, &self.dir, &store, &self.root_key)
    }

    /// Takes the name `alias` from its CMK, whatever state that is in. The CMK itself stays; returns its id.
    ///
    /// # Errors
    /// [`ErrorKind::KeyUnavailable`] if there is no such alias; otherwise those of [`create_key`](Self::create_key).
    pub fn delete_alias(&self, alias: &str) -> Result<String> {
        let (lock, mut store, _) = self.begin_write()?;
        let id = store.aliases.remove(alias).ok_or_else(|| self.unknown(alias))?;
        write_store(&lock, &self.dir, &store, &self.root_key)?;
        Ok(id.to_string())
    }

    /// Every alias, with the id of the CMK that it stands for.
    ///
    /// # Errors
    /// Those of [`list_keys`](Self::list_keys).
    pub fn list_aliases(&self) -> Result<BTreeMap<String, String>> {
        let now = self.now();
        let mut aliases = BTreeMap::new();
        for (alias, id) in self.store()?.aliases {
            if self.key_by_id(id, now)?.is_some() {
                aliases.insert(alias, id.to_string());
            }
        }
        Ok(aliases)
    }
}

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

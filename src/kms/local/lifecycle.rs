//! A CMK's states, which operation each of them allows, and the operations that lead from one to another: the table in
//! the documentation of the module above.

use std::collections::BTreeMap;

use super::LocalKms;
use super::metadata::{KeyMetadata, KeyOrigin, check_description, check_tags};
use super::record::{KeyRecord, VersionRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::types::KeyState;

/// What can be done with a CMK and not in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Wrap,
    Unwrap,
    Rotate,
    Enable,
    Disable,
    ScheduleDeletion,
    CancelDeletion,
    /// Its description, its tags, an alias for it.
    Label,
    GetParametersForImport,
    ImportMaterial,
    DeleteMaterial,
}

impl Operation {
    fn allowed_in(self, state: KeyState) -> bool {
        use KeyState::{Disabled, Enabled, PendingDeletion};
        match self {
            Self::Wrap | Self::Unwrap | Self::Rotate => state == Enabled,
            Self::Enable | Self::Disable => matches!(state, Enabled | Disabled),
            Self::CancelDeletion => state == PendingDeletion,
            Self::ScheduleDeletion | Self::Label | Self::GetParametersForImport | Self::ImportMaterial => {
                state != PendingDeletion
            }
            Self::DeleteMaterial => true,
        }
    }

    /// The origin it is for, and what to do with keys of the other.
    fn needs_origin(self) -> Option<(KeyOrigin, &'static str)> {
        match self {
            Self::Rotate => Some((
                KeyOrigin::Local,
                "only keys of origin local rotate; create another key, import its material, and update the alias",
            )),
            Self::GetParametersForImport | Self::ImportMaterial | Self::DeleteMaterial => Some((
                KeyOrigin::External,
                "only keys of origin external take key material from outside; create one with that origin",
            )),
            _ => None,
        }
    }

    /// Refuses the operation on `key` where its origin or its state `now` does not allow it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for the origin; [`ErrorKind::KeyUnavailable`] with the state for the state.
    pub(super) fn check(self, key: &KeyRecord, now: u64) -> Result<()> {
        let key_id = key.key_id;
        if let Some((_, advice)) = self.needs_origin().filter(|(origin, _)| *origin != key.origin()) {
            let message = format!("the key {key_id} has the origin {}: {advice}", key.origin());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let state = key.state(now);
        if self.allowed_in(state) {
            return Ok(());
        }
        let advice = match state {
            _ if self == Self::CancelDeletion => "its deletion is not scheduled, so there is nothing to cancel",
            KeyState::Disabled => "enable it first",
            KeyState::PendingDeletion => "cancel its deletion first",
            KeyState::PendingImport if key.has_expired(now) => "its key material has expired: import it again first",
            KeyState::PendingImport => "import its key material first",
            KeyState::Enabled => "disable it first",
        };
        let message = format!("the key {key_id} is in the state {state}: {advice}");
        Err(Error::new(ErrorKind::KeyUnavailable, message).with_key_state(state))
    }
}

impl KeyRecord {
    pub(super) fn origin(&self) -> KeyOrigin {
        if self.imported.is_some() { KeyOrigin::External } else { KeyOrigin::Local }
    }

    /// The state at the time `now`, if the key is not gone.
    pub(super) fn state(&self, now: u64) -> KeyState {
        if self.deletion.is_some() {
            KeyState::PendingDeletion
        } else if self.usable_versions(now).is_empty() {
            KeyState::PendingImport
        } else if self.disabled {
            KeyState::Disabled
        } else {
            KeyState::Enabled
        }
    }

    /// Whether its deletion is due.
    pub(super) fn is_gone(&self, now: u64) -> bool {
        self.deletion.is_some_and(|deletion| deletion <= now)
    }

    /// When its material expires, or did.
    pub(super) fn expires(&self) -> Option<u64> {
        self.imported.as_ref().and_then(|imported| imported.expires)
    }

    /// Whether it is expiry that took its material.
    pub(super) fn has_expired(&self, now: u64) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    /// The versions that have not expired, the one that wraps last.
    pub(super) fn usable_versions(&self, now: u64) -> &[VersionRecord] {
        if self.has_expired(now) { &[] } else { &self.versions }
    }

    /// Removes material that has expired. For whoever writes the record.
    pub(super) fn sweep(&mut self, now: u64) {
        if self.has_expired(now) {
            self.versions.clear();
        }
    }
}

impl LocalKms {
    /// Lets the CMK `key`, an id or an alias, wrap and unwrap again. One that does already stays as it is.
    ///
    /// # Errors
    /// - [`ErrorKind::KeyUnavailable`] if there is no such key, or with [`Error::key_state`] if its deletion is scheduled
    ///   or it has no key material.
    /// - Those of [`describe_key`](Self::describe_key), or as the operating system has it if a file cannot be written;
    ///   the key stays as it was.
    pub fn enable_key(&self, key: &str) -> Result<KeyMetadata> {
        self.change(key, Operation::Enable, |key, _| {
            key.disabled = false;
            Ok(())
        })
    }

    /// Stops the CMK `key`, an id or an alias, from wrapping and unwrapping, until it is enabled again.
    ///
    /// # Errors
    /// Those of [`enable_key`](Self::enable_key).
    pub fn disable_key(&self, key: &str) -> Result<KeyMetadata> {
        self.change(key, Operation::Disable, |key, _| {
            key.disabled = true;
            Ok(())
        })
    }

    /// Deletes the CMK `key`, an id or an alias, in `days` days, 7 to 30. It does nothing from now on; then it is gone,
    /// with its aliases, and what is sealed for it alone can never be opened again.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if `days` is not 7 to 30, or this machine's clock is before the key's creation.
    /// - [`ErrorKind::KeyUnavailable`] with [`Error::key_state`] if its deletion is scheduled already.
    /// - Otherwise those of [`enable_key`](Self::enable_key).
    pub fn schedule_key_deletion(&self, key: &str, days: u16) -> Result<KeyMetadata> {
        if !(7..=30).contains(&days) {
            let message = format!("a key is deleted after 7 to 30 days, not {days}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        self.change(key, Operation::ScheduleDeletion, |key, now| {
            // A clock that is set right later would make the deletion due at once, and the days of grace would be none.
            if now.saturating_add(DAY) < key.created {
                let message =
                    format!("this machine's clock shows a time before the key {} was made: set it first", key.key_id);
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            key.deletion = Some(now.saturating_add(u64::from(days) * DAY));
            Ok(())
        })
    }

    /// Keeps the CMK `key`, an id or an alias, whose deletion is scheduled. It is enabled then, even if it was disabled
    /// before; without key material, it is pending import.
    ///
    /// # Errors
    /// [`ErrorKind::KeyUnavailable`] with [`Error::key_state`] if its deletion is not scheduled; otherwise those of
    /// [`enable_key`](Self::enable_key).
    pub fn cancel_key_deletion(&self, key: &str) -> Result<KeyMetadata> {
        self.change(key, Operation::CancelDeletion, |key, _| {
            key.deletion = None;
            key.disabled = false;
            Ok(())
        })
    }

    /// Gives the CMK `key`, an id or an alias of origin `local`, new random material that wraps from now on. What was
    /// wrapped before still unwraps.
    ///
    /// ```
    /// # use sealift::kms::local::{CreateKey, LocalKms, RootKeySource};
    /// # fn main() -> sealift::Result<()> {
    /// # let home = tempfile::tempdir().unwrap();
    /// # let (kms, _) = LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File)?;
    /// let key = kms.create_key(CreateKey::default())?;
    /// assert_eq!(kms.rotate_key(&key.key_id)?.primary_version, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if its origin is `external`: import other material into another key instead.
    /// - [`ErrorKind::KeyUnavailable`] with [`Error::key_state`] unless it is enabled.
    /// - Otherwise those of [`enable_key`](Self::enable_key).
    pub fn rotate_key(&self, key: &str) -> Result<KeyMetadata> {
        self.change(key, Operation::Rotate, |key, now| {
            let newest = key.versions.last().map_or(0, |version| version.version);
            let version = newest
                .checked_add(1)
                .ok_or_else(|| Error::new(ErrorKind::LimitExceeded, "the key has the most versions a key can have"))?;
            key.versions.push(VersionRecord::random(self.store_id, key.key_id, version, &self.root_key, now)?);
            Ok(())
        })
    }

    /// Replaces the description of the CMK `key`, an id or an alias: at most 8,192 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is longer; [`ErrorKind::KeyUnavailable`] with [`Error::key_state`] if the key's
    /// deletion is scheduled; otherwise those of [`enable_key`](Self::enable_key).
    pub fn update_description(&self, key: &str, description: &str) -> Result<KeyMetadata> {
        check_description(description)?;
        self.change(key, Operation::Label, |key, _| {
            key.description = description.to_owned();
            Ok(())
        })
    }

    /// Adds `tags` to the CMK `key`, an id or an alias, replacing those of the same name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a name has not 1 to 128 bytes, or a value more than 256;
    /// [`ErrorKind::LimitExceeded`] if there would be more than 50. Otherwise those of
    /// [`update_description`](Self::update_description).
    pub fn tag_key(&self, key: &str, tags: BTreeMap<String, String>) -> Result<KeyMetadata> {
        self.change(key, Operation::Label, |key, _| {
            key.tags.extend(tags);
            check_tags(&key.tags)
        })
    }

    /// Removes the tags with these names, as far as they are there, from the CMK `key`, an id or an alias.
    ///
    /// # Errors
    /// Those of [`update_description`](Self::update_description).
    pub fn untag_key(&self, key: &str, names: &[String]) -> Result<KeyMetadata> {
        self.change(key, Operation::Label, |key, _| {
            key.tags.retain(|name, _| !names.contains(name));
            Ok(())
        })
    }
}

const DAY: u64 = 24 * 60 * 60;

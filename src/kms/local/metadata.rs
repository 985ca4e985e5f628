//! What a CMK is asked to be, and what is told about it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::record::{self, KeyRecord, StoreRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::types::KeyState;

/// Where a CMK's key material comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyOrigin {
    /// Drawn by the key store. It can be rotated.
    #[default]
    Local,
    /// Imported by its owner ("bring your own key"). It can expire, be deleted, and be imported again.
    External,
}

impl KeyOrigin {
    /// `local` or `external`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::External => "external",
        }
    }
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyOrigin {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        parse_name(name, "an origin", [Self::Local, Self::External], Self::name)
    }
}

/// The one of `all` with this name.
pub(super) fn parse_name<T: Copy, const N: usize>(
    name: &str,
    what: &str,
    all: [T; N],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T> {
    all.into_iter().find(|one| name_of(*one) == name).ok_or_else(|| {
        let names = all.map(name_of).join(", ");
        Error::new(ErrorKind::InvalidInput, format!("{what} is one of {names}, not {name:?}"))
    })
}

/// What a new CMK is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateKey {
    /// Where its key material comes from.
    pub origin: KeyOrigin,
    /// At most 8,192 bytes that say what it is for. Not secret.
    pub description: String,
    /// At most 50 tags, names of 1 to 128 bytes and values of at most 256. Not secret.
    pub tags: BTreeMap<String, String>,
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
    /// What can be done with it now.
    pub state: KeyState,
    /// Where its key material comes from.
    pub origin: KeyOrigin,
    /// What its owner says it is for.
    pub description: String,
    /// Its owner's tags.
    pub tags: BTreeMap<String, String>,
    /// The version of its material that wraps. Earlier ones still unwrap. 0 while there is no material.
    pub primary_version: u32,
    /// How many versions of its material there are.
    pub versions: u32,
    /// When imported material expires, or did; to the second. `None` if it does not.
    pub material_expires: Option<SystemTime>,
    /// When the key is gone for good, if that is scheduled.
    pub deletion: Option<SystemTime>,
}

impl KeyMetadata {
    /// The CMK `key` at the time `now`, in seconds since 1970.
    pub(super) fn new(key: &KeyRecord, store: &StoreRecord, now: u64) -> Self {
        let aliases = store.aliases.iter().filter(|(_, id)| **id == key.key_id).map(|(alias, _)| alias.clone());
        let versions = key.usable_versions(now);
        Self {
            key_id: key.key_id.to_string(),
            aliases: aliases.collect(),
            created: record::time(key.created),
            state: key.state(now),
            origin: key.origin(),
            description: key.description.clone(),
            tags: key.tags.clone(),
            primary_version: versions.last().map_or(0, |version| version.version),
            versions: u32::try_from(versions.len()).unwrap_or(u32::MAX),
            material_expires: key.expires().map(record::time),
            deletion: key.deletion.map(record::time),
        }
    }
}

pub(super) fn check_description(description: &str) -> Result<()> {
    if description.len() <= MAX_DESCRIPTION {
        return Ok(());
    }
    let message = format!("a key's description has at most {MAX_DESCRIPTION} bytes, not {}", description.len());
    Err(Error::new(ErrorKind::InvalidInput, message))
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<()> {
    if tags.len() > MAX_TAGS {
        let message = format!("a key has at most {MAX_TAGS} tags, not {}", tags.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    match tags.iter().find(|(name, value)| !(1..=128).contains(&name.len()) || value.len() > 256) {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("a tag's name has 1 to 128 bytes and its value at most 256, unlike the tag {name:?}"),
        )),
    }
}

const MAX_DESCRIPTION: usize = 8192;
const MAX_TAGS: usize = 50;

//! What the key store's files say, and how they prove it.
//!
//! `store.json` and each `keys/<id>.json` are one JSON object:
//!
//! ```text
//! {"format":"sealift-kms-store" | "sealift-kms-key","version":1,"record":{…},"seal":"<base64>"}
//! ```
//!
//! Records are in the clear, but for key material. Two kinds of Cobblestone-256 message, both under the root key,
//! protect them:
//!
//! ```text
//! material  = message whose plaintext is the 32 bytes of one version of a CMK, with the context
//!             "sealift/v1/keystore" ‖ 0x00 ‖ store id[16] ‖ key id[16] ‖ version number u32
//! seal      = message whose plaintext is empty, with the context
//!             "sealift/v1/keystore-record" ‖ 0x00 ‖ store id[16] ‖ key id[16], zero for store.json ‖ SHA-256(text of the record)[32]
//! ```
//!
//! So neither material nor a file can stand in for another, and no damage goes unnoticed. What cannot be noticed is
//! an earlier state of a file put back in its place.
//!
//! Where the material is imported, two more values are made of it, so that the same material in two CMKs makes two
//! different keys, and the record remembers which material it was without holding it:
//!
//! ```text
//! material's 32 bytes = SHA-256("sealift/v1/keystore-imported" ‖ 0x00 ‖ key id[16] ‖ imported material[32])
//! fingerprint         = message whose plaintext is SHA-256("sealift/v1/keystore-fingerprint" ‖ 0x00 ‖ material[32]), with the context
//!                       "sealift/v1/keystore-fingerprint" ‖ 0x00 ‖ store id[16] ‖ key id[16]
//! ```
//!
//! Unknown members are refused: what a later version of Sealift adds to a record, a state of a key for example, must
//! not be overlooked, or lost in rewriting, by one that does not know it. Members that an earlier version did not know
//! are left out where they say what it took for granted, so that either reads the other's files as far as it can.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::id::Id;
use super::root_key::RootKey;
use crate::crypto::{Backend, DataKey, open_message, seal_message};
use crate::error::{Error, ErrorKind, Result};

/// What a record is about; with its store, where it belongs.
pub(super) trait Record: Serialize + for<'a> Deserialize<'a> {
    const FORMAT: &'static str;
    fn store_id(&self) -> Id;
    fn key_id(&self) -> Option<Id>;
    /// What the code relies on and its types cannot say.
    fn is_valid(&self) -> bool;
}

/// `store.json`: what there is in the store.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreRecord {
    pub(super) store_id: Id,
    /// The root key's fingerprint, so that a wrong root key can be told from a damaged file.
    pub(super) root_key: String,
    /// Every CMK, so that a lost file is noticed.
    pub(super) keys: BTreeSet<Id>,
    pub(super) aliases: BTreeMap<String, Id>,
}

impl Record for StoreRecord {
    const FORMAT: &'static str = "sealift-kms-store";

    fn store_id(&self) -> Id {
        self.store_id
    }

    fn key_id(&self) -> Option<Id> {
        None
    }

    fn is_valid(&self) -> bool {
        true
    }
}

/// `keys/<id>.json`: one CMK. Times are in seconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRecord {
    pub(super) store_id: Id,
    pub(super) key_id: Id,
    pub(super) created: u64,
    /// Ascending by number. The last one wraps; each of them unwraps. One at least, but if material is imported: then
    /// one, or none while there is no material.
    pub(super) versions: Vec<VersionRecord>,
    /// There if the origin is external.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) imported: Option<ImportedRecord>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) disabled: bool,
    /// When the key is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deletion: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) description: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VersionRecord {
    pub(super) version: u32,
    pub(super) created: u64,
    /// Base64 of the sealed material.
    pub(super) material: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportedRecord {
    /// Base64 of the sealed fingerprint of the one material that this key takes, from the first import on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint: Option<String>,
    /// When the material expires, or did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<u64>,
}

impl Record for KeyRecord {
    const FORMAT: &'static str = "sealift-kms-key";

    fn store_id(&self) -> Id {
        self.store_id
    }

    fn key_id(&self) -> Option<Id> {
        Some(self.key_id)
    }

    fn is_valid(&self) -> bool {
        match &self.imported {
            None => !self.versions.is_empty() && self.versions.is_sorted_by(|a, b| a.version < b.version),
            Some(imported) => self.versions.len() <= usize::from(imported.fingerprint.is_some()),
        }
    }
}

impl KeyRecord {
    /// A new CMK, created `now`, with one version of random material.
    pub(super) fn random(store_id: Id, root_key: &RootKey, now: u64) -> Result<Self> {
        let mut key = Self::external(store_id, now)?;
        key.imported = None;
        key.versions = vec![VersionRecord::random(store_id, key.key_id, 1, root_key, now)?];
        Ok(key)
    }

    /// A new CMK, created `now`, whose material is to be imported.
    pub(super) fn external(store_id: Id, now: u64) -> Result<Self> {
        Ok(Self {
            store_id,
            key_id: Id::random()?,
            created: now,
            versions: Vec::new(),
            imported: Some(ImportedRecord::default()),
            disabled: false,
            deletion: None,
            description: String::new(),
            tags: BTreeMap::new(),
        })
    }

    pub(super) fn material(&self, version: &VersionRecord, root_key: &RootKey) -> Result<DataKey> {
        let damaged =
            |_| Error::new(ErrorKind::Malformed, format!("the material of version {} does not open", version.version));
        let context = material_context(self.store_id, self.key_id, version.version);
        open_key(&version.material, root_key, &context).ok_or_else(|| damaged(()))
    }
}

impl VersionRecord {
    /// Version number `version` of a CMK, with random material.
    pub(super) fn random(store_id: Id, key_id: Id, version: u32, root_key: &RootKey, now: u64) -> Result<Self> {
        Self::seal(store_id, key_id, version, &DataKey::random()?, root_key, now)
    }

    /// Version number `version` of a CMK, with this material.
    pub(super) fn seal(
        store_id: Id,
        key_id: Id,
        version: u32,
        material: &DataKey,
        root_key: &RootKey,
        now: u64,
    ) -> Result<Self> {
        let context = material_context(store_id, key_id, version);
        Ok(Self { version, created: now, material: seal_key(material, root_key, &context)? })
    }
}

/// `key` sealed under the root key, in base64.
pub(super) fn seal_key(key: &DataKey, root_key: &RootKey, context: &[u8]) -> Result<String> {
    Ok(STANDARD.encode(seal_message(Backend::default(), root_key.key(), context, key.expose())?))
}

/// What [`seal_key`] made.
pub(super) fn open_key(sealed: &str, root_key: &RootKey, context: &[u8]) -> Option<DataKey> {
    let sealed = STANDARD.decode(sealed).ok()?;
    let key = open_message(Backend::default(), root_key.key(), context, &sealed).ok()?;
    DataKey::take(&mut Zeroizing::new(key)).ok()
}

/// `record` as the content of a file.
pub(super) fn encode<R: Record>(record: &R, root_key: &RootKey) -> Result<Vec<u8>> {
    let internal = |error| Error::new(ErrorKind::Internal, "a record of the key store is not JSON").with_source(error);
    let record_text = serde_json::value::to_raw_value(record).map_err(internal)?;
    let context = seal_context(record, record_text.get());
    let file = File {
        format: R::FORMAT,
        version: VERSION,
        record: &record_text,
        seal: STANDARD.encode(seal_message(Backend::default(), root_key.key(), &context, &[])?),
    };
    let mut text = serde_json::to_vec(&file).map_err(internal)?;
    text.push(b'\n');
    Ok(text)
}

/// A record whose seal has yet to be checked.
pub(super) struct Unchecked<R> {
    record: R,
    context: Vec<u8>,
    seal: Vec<u8>,
}

/// Reads the content of the file at `path`.
pub(super) fn decode<R: Record>(path: &Path, content: &[u8]) -> Result<Unchecked<R>> {
    let malformed = |error: serde_json::Error| damaged(path).with_source(error);
    let Header { format, version } = serde_json::from_slice(content).map_err(malformed)?;
    if format != R::FORMAT {
        return Err(damaged(path));
    }
    if version != VERSION {
        return Err(Error::new(
            ErrorKind::UnsupportedFormat,
            format!("{} has version {version}: a newer Sealift wrote it, and can read it", path.display()),
        ));
    }
    let file: File<'_> = serde_json::from_slice(content).map_err(malformed)?;
    let record: R = serde_json::from_str(file.record.get()).map_err(malformed)?;
    let context = seal_context(&record, file.record.get());
    let seal = STANDARD.decode(file.seal).map_err(|_| damaged(path))?;
    Ok(Unchecked { record, context, seal })
}

impl<R: Record> Unchecked<R> {
    /// What the record says, to find the root key by. Nothing else may rely on it.
    pub(super) fn peek(&self) -> &R {
        &self.record
    }

    /// The record, if it is what the holder of `root_key` wrote to `path`.
    pub(super) fn check(self, path: &Path, root_key: &RootKey) -> Result<R> {
        match open_message(Backend::default(), root_key.key(), &self.context, &self.seal) {
            Ok(empty) if empty.is_empty() && self.record.is_valid() => Ok(self.record),
            _ => Err(damaged(path)),
        }
    }
}

pub(super) fn damaged(path: &Path) -> Error {
    let message = format!("{} is damaged or was altered: restore it from your backup", path.display());
    Error::new(ErrorKind::Malformed, message)
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

pub(super) fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Header<'a> {
    format: &'a str,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    format: &'a str,
    version: u32,
    /// The text as it is in the file, because that is what the seal is about.
    #[serde(borrow)]
    record: &'a RawValue,
    seal: String,
}

fn material_context(store_id: Id, key_id: Id, version: u32) -> Vec<u8> {
    [b"sealift/v1/keystore\0", store_id.as_bytes().as_slice(), key_id.as_bytes(), &version.to_be_bytes()].concat()
}

fn seal_context(record: &impl Record, text: &str) -> Vec<u8> {
    let key_id = record.key_id().map_or([0; 16], |id| *id.as_bytes());
    let hash = Sha256::digest(text);
    [b"sealift/v1/keystore-record\0", record.store_id().as_bytes().as_slice(), &key_id, hash.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(root_key: &RootKey) -> StoreRecord {
        let (store_id, key_id) = (Id::random().unwrap(), Id::random().unwrap());
        StoreRecord {
            store_id,
            root_key: root_key.fingerprint(),
            keys: BTreeSet::from([key_id]),
            aliases: BTreeMap::from([("alias/default".to_owned(), key_id)]),
        }
    }

    fn read<R: Record>(content: &[u8], root_key: &RootKey) -> Result<R> {
        let path = Path::new("/kms/file.json");
        decode(path, content)?.check(path, root_key)
    }

    #[test]
    fn records_open_under_their_own_root_key_only() {
        let root_key = RootKey::random().unwrap();
        let content = encode(&store(&root_key), &root_key).unwrap();
        assert!(read::<StoreRecord>(&content, &root_key).is_ok());
        assert!(read::<KeyRecord>(&content, &root_key).is_err());
        let error = read::<StoreRecord>(&content, &RootKey::random().unwrap()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert_eq!(error.to_string(), "/kms/file.json is damaged or was altered: restore it from your backup");
    }

    #[test]
    fn what_a_later_version_wrote_is_told_from_damage_and_not_misread() {
        let root_key = RootKey::random().unwrap();
        let text = String::from_utf8(encode(&store(&root_key), &root_key).unwrap()).unwrap();
        let kind = |text: String| read::<StoreRecord>(text.as_bytes(), &root_key).err().unwrap().kind();
        // Whatever else the file has by then.
        let later = text.replace("\"version\":1", "\"version\":2,\"more\":[]");
        assert_eq!(kind(later), ErrorKind::UnsupportedFormat);
        assert_eq!(kind(text.replace("\"keys\":", "\"state\":\"Disabled\",\"keys\":")), ErrorKind::Malformed);
    }

    #[test]
    fn material_opens_in_its_own_place_only() {
        let root_key = RootKey::random().unwrap();
        let (store_id, other_id) = (Id::random().unwrap(), Id::random().unwrap());
        let mut key = KeyRecord::random(store_id, &root_key, 0).unwrap();
        let opens = |key: &KeyRecord| key.material(&key.versions[0], &root_key).is_ok();
        assert!(opens(&key));

        key.versions[0].version = 2;
        assert!(!opens(&key));
        key.versions[0].version = 1;
        let key_id = std::mem::replace(&mut key.key_id, other_id);
        assert!(!opens(&key));
        key.key_id = key_id;
        key.store_id = other_id;
        assert!(!opens(&key));
        key.store_id = store_id;
        assert!(opens(&key));
        assert!(key.material(&key.versions[0], &RootKey::random().unwrap()).is_err());
    }

    #[test]
    fn a_key_without_versions_or_with_disordered_ones_is_refused() {
        let root_key = RootKey::random().unwrap();
        let mut key = KeyRecord::random(Id::random().unwrap(), &root_key, 0).unwrap();
        let reads = |key: &KeyRecord| read::<KeyRecord>(&encode(key, &root_key).unwrap(), &root_key).is_ok();
        assert!(reads(&key));
        let version = |version| VersionRecord { version, created: 0, material: String::new() };
        key.versions = vec![version(1), version(2)];
        assert!(reads(&key));
        key.versions = vec![version(2), version(2)];
        assert!(!reads(&key));
        key.versions.clear();
        assert!(!reads(&key));

        // Unless it is imported; then there is one at most, and its fingerprint.
        key.imported = Some(ImportedRecord::default());
        assert!(reads(&key));
        key.versions = vec![version(1)];
        assert!(!reads(&key));
        key.imported = Some(ImportedRecord { fingerprint: Some(String::new()), expires: None });
        assert!(reads(&key));
        key.versions.push(version(2));
        assert!(!reads(&key));
    }

    #[test]
    fn a_key_of_which_nothing_new_is_said_is_written_as_before() {
        let root_key = RootKey::random().unwrap();
        let key = KeyRecord::random(Id::random().unwrap(), &root_key, 7).unwrap();
        let value = serde_json::to_value(&key).unwrap();
        let members: Vec<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(members, ["created", "key_id", "store_id", "versions"]);
    }
}

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
//! Unknown members are refused: what a later version of Sealift adds to a record, a state of a key for example, must
//! not be overlooked, or lost in rewriting, by one that does not know it.

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

/// `keys/<id>.json`: one CMK.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRecord {
    pub(super) store_id: Id,
    pub(super) key_id: Id,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// Ascending by number, never empty. The last one wraps; each of them unwraps.
    pub(super) versions: Vec<VersionRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VersionRecord {
    pub(super) version: u32,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// Base64 of the sealed material.
    pub(super) material: String,
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
        !self.versions.is_empty() && self.versions.is_sorted_by(|a, b| a.version < b.version)
    }
}

impl KeyRecord {
    /// A new CMK with one version of random material.
    pub(super) fn random(store_id: Id, root_key: &RootKey) -> Result<Self> {
        let key_id = Id::random()?;
        let first = VersionRecord::random(store_id, key_id, 1, root_key)?;
        Ok(Self { store_id, key_id, created: first.created, versions: vec![first] })
    }

    /// The version that wraps.
    pub(super) fn newest(&self) -> &VersionRecord {
        self.versions.last().expect("a record without versions is not valid, and was refused")
    }

    pub(super) fn material(&self, version: &VersionRecord, root_key: &RootKey) -> Result<DataKey> {
        let damaged =
            |_| Error::new(ErrorKind::Malformed, format!("the material of version {} does not open", version.version));
        let sealed = STANDARD.decode(&version.material).map_err(|_| damaged(()))?;
        let context = material_context(self.store_id, self.key_id, version.version);
        let material = open_message(Backend::default(), root_key.key(), &context, &sealed).map_err(|_| damaged(()))?;
        DataKey::take(&mut Zeroizing::new(material))
    }
}

impl VersionRecord {
    /// Version number `version` of a CMK, with random material.
    pub(super) fn random(store_id: Id, key_id: Id, version: u32, root_key: &RootKey) -> Result<Self> {
        let context = material_context(store_id, key_id, version);
        let sealed = seal_message(Backend::default(), root_key.key(), &context, DataKey::random()?.expose())?;
        Ok(Self { version, created: now(), material: STANDARD.encode(sealed) })
    }
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
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
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
        let mut key = KeyRecord::random(store_id, &root_key).unwrap();
        let opens = |key: &KeyRecord| key.material(key.newest(), &root_key).is_ok();
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
        assert!(key.material(key.newest(), &RootKey::random().unwrap()).is_err());
    }

    #[test]
    fn a_key_without_versions_or_with_disordered_ones_is_refused() {
        let root_key = RootKey::random().unwrap();
        let mut key = KeyRecord::random(Id::random().unwrap(), &root_key).unwrap();
        let reads = |key: &KeyRecord| read::<KeyRecord>(&encode(key, &root_key).unwrap(), &root_key).is_ok();
        assert!(reads(&key));
        let version = |version| VersionRecord { version, created: 0, material: String::new() };
        key.versions = vec![version(1), version(2)];
        assert!(reads(&key));
        key.versions = vec![version(2), version(2)];
        assert!(!reads(&key));
        key.versions.clear();
        assert!(!reads(&key));
    }
}

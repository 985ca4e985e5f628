//! What an object is to its reader: length, ETag and checksums of the plaintext, wherever they have to be looked up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use md5::{Digest as _, Md5};
use sealift::crypto::Crc64;
use sealift::format::{Envelope, Manifest};
use sealift::store::{ObjectInfo as Stored, Payload, Properties, PutCondition};
use sealift::{ETag, ErrorKind, ObjectKey, PartNumber};
use serde::{Deserialize, Serialize};

use super::Inner;
use super::attributes::Own;
use super::checksums::Checksum;
use super::encryption::CustomerKey;
use super::error::Result;
use super::incoming::Digests;
use super::names;
use super::read::ObjectInfo;

/// How many objects' facts are remembered.
const REMEMBERED: usize = 1 << 16;
/// The manifest's attribute that holds the plaintext's ETag.
const ETAG: &str = "etag";
/// The one that holds the checksum that its writer chose.
const CHECKSUM: &str = "checksum";

/// What an object's plaintext is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) len: u64,
    /// In lower case, without quotes.
    pub(super) etag: String,
    pub(super) crc64: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<Checksum>,
}

impl Facts {
    pub(super) fn of_manifest(manifest: &Manifest, stored: &ETag) -> Self {
        let attribute = |name| manifest.attributes().get(name).and_then(|value| String::from_utf8(value.clone()).ok());
        let etag = attribute(ETAG);
        let checksum = attribute(CHECKSUM).and_then(|checksum| checksum.try_into().ok());
        let crc64 = manifest
            .checksums()
            .then(|| manifest.parts().iter().fold(0, |crc, part| Crc64::combine(crc, part.crc64, part.len)));
        Self { len: manifest.plain_len(), etag: etag.unwrap_or_else(|| made_up(stored)), crc64, checksum }
    }

    pub(super) fn of_digests(digests: &Digests) -> Self {
        let checksum = digests.checksum.clone();
        Self {
            len: digests.len,
            etag: base16ct::lower::encode_string(&digests.md5),
            crc64: Some(digests.crc64),
            checksum,
        }
    }

    /// Those of an object that was looked at.
    pub(super) fn of_info(info: &ObjectInfo) -> Self {
        let ObjectInfo { len, etag, crc64, checksum, .. } = info.clone();
        Self { len, etag, crc64, checksum }
    }

    /// The attributes of a manifest that hold what its parts do not.
    pub(super) fn attributes(&self) -> BTreeMap<String, Vec<u8>> {
        let etag = (ETAG.to_owned(), self.etag.clone().into_bytes());
        let checksum = self.checksum.as_ref().map(|checksum| (CHECKSUM.to_owned(), checksum.to_string().into_bytes()));
        [etag].into_iter().chain(checksum).collect()
    }

    /// Notes them in an object's metadata.
    pub(super) fn note(&self, properties: &mut Properties) {
        Own::ETag.set(properties, &self.etag);
        Own::Size.set(properties, self.len.to_string());
        if let Some(crc64) = self.crc64 {
            Own::Crc64.set(properties, crc64.to_string());
        }
        if let Some(checksum) = &self.checksum {
            Own::Checksum.set(properties, checksum.to_string());
        }
    }

    /// What was noted in an object's metadata.
    fn noted(properties: &Properties) -> Option<Self> {
        Some(Self {
            len: Own::Size.of(properties)?.parse().ok()?,
            etag: Own::ETag.of(properties)?.to_owned(),
            crc64: Own::Crc64.of(properties).and_then(|crc64| crc64.parse().ok()),
            checksum: Own::Checksum.of(properties).and_then(|checksum| checksum.to_owned().try_into().ok()),
        })
    }
}

/// Facts in a place of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(flatten)]
    pub(super) facts: Facts,
    /// The parts that a client made the object of. As many as have the same length in a row are told of together: the number of the first,
    /// how many they are, and the length of each. For an object of one request there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<(u32, u32, u64)>,
}

impl Kept {
    /// Facts of an object of these parts: number and length of each, ascending.
    pub(super) fn new(facts: Facts, parts: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let mut runs: Vec<(u32, u32, u64)> = Vec::new();
        for (number, len) in parts {
            match runs.last_mut() {
                Some((first, count, each)) if *each == len && first.checked_add(*count) == Some(number) => *count += 1,
                _ => runs.push((number, 1, len)),
            }
        }
        Self { facts, parts: runs }
    }

    /// The parts, as they were given. A store that says there are more than there can be is not believed.
    pub(super) fn parts(&self) -> Vec<(u32, u64)> {
        let each =
            self.parts.iter().flat_map(|(first, count, len)| (0..*count).map(move |n| (first.saturating_add(n), *len)));
        each.take(PartNumber::MAX.get() as usize).collect()
    }
}

/// The ETag of an object whose plaintext's was not recorded, because something else wrote it. It ends as those of multipart uploads do,
/// so that no client takes it for an MD5.
pub(super) fn made_up(stored: &ETag) -> String {
    format!("{}-1", base16ct::lower::encode_string(&Md5::digest(stored.0.as_bytes())))
}

impl Inner {
    /// The facts of the object that the store describes as `stored`.
    pub(super) async fn facts(
        &self,
        path: &ObjectKey,
        stored: &Stored,
        customer: Option<&CustomerKey>,
    ) -> Result<Facts> {
        if Envelope::from_metadata(&stored.properties.metadata).is_err_and(|e| e.kind() == ErrorKind::NotSealed) {
            return Ok(self.plain_facts(stored).await?.facts);
        }
        if let Some(facts) = self.facts.get(path, &stored.etag) {
            return Ok(facts);
        }
        let reader = self.open_sealed(path, customer).await?;
        let facts = Facts::of_manifest(reader.manifest(), &reader.info().etag);
        self.facts.put(path, &reader.info().etag, &facts);
        Ok(facts)
    }

    /// The same of an object that is not sealed, with its parts.
    pub(super) async fn plain_facts(&self, stored: &Stored) -> Result<Kept> {
        let noted = match Own::Facts.of(&stored.properties) {
            Some(id) => match self.read_small(&names::facts(id)?).await? {
                Some(json) => serde_json::from_slice(&json).ok(),
                None => None,
            },
            None => Facts::noted(&stored.properties).map(|facts| Kept::new(facts, [])),
        };
        // Of another length, they are another body's: something else wrote this one.
        let noted = noted.filter(|kept: &Kept| kept.facts.len == stored.len);
        let made_up = || Facts { len: stored.len, etag: made_up(&stored.etag), crc64: None, checksum: None };
        Ok(noted.unwrap_or_else(|| Kept::new(made_up(), [])))
    }

    /// Keeps facts that an object's metadata refers to as `id`.
    pub(super) async fn keep_facts(&self, id: &str, facts: &Kept) -> Result<()> {
        let json = serde_json::to_vec(facts).map_err(super::no_json)?;
        self.write_small(&names::facts(id)?, json, PutCondition::None).await
    }

    /// Removes facts that the object which had `properties` referred to. What is left behind if this fails harms nobody.
    pub(super) async fn forget_facts(&self, properties: Option<&Properties>) {
        let Some(id) = properties.and_then(|properties| Own::Facts.of(properties)) else { return };
        if let Ok(path) = names::facts(id)
            && let Err(error) = self.store.delete(&path).await
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, %path, "the facts of an object that is gone could not be removed");
        }
    }

    /// A small file of the gateway's own.
    pub(super) async fn read_small(&self, path: &ObjectKey) -> Result<Option<Vec<u8>>> {
        match self.store.get(path, None, None).await {
            Ok(got) => Ok(Some(super::collect(got, super::SMALL_FILE).await?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn write_small(&self, path: &ObjectKey, bytes: Vec<u8>, condition: PutCondition) -> Result<()> {
        let payload = Payload::held(vec![bytes.into()]);
        self.store.put_object(path, payload, &Properties::default(), condition).await?;
        Ok(())
    }
}

/// Facts of sealed objects, so that HEAD and listings need not open them each time. Those of an object that changed are not found, because
/// its ETag in the store is another.
#[derive(Debug, Default)]
pub(super) struct FactsCache(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    facts: HashMap<(ObjectKey, ETag), Facts>,
    order: VecDeque<(ObjectKey, ETag)>,
}

impl FactsCache {
    pub(super) fn get(&self, path: &ObjectKey, etag: &ETag) -> Option<Facts> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.facts.get(&(path.clone(), etag.clone())).cloned()
    }

    pub(super) fn put(&self, path: &ObjectKey, etag: &ETag, facts: &Facts) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (path.clone(), etag.clone());
        if remembered.facts.insert(name.clone(), facts.clone()).is_none() {
            remembered.order.push_back(name);
        }
        while remembered.order.len() > REMEMBERED {
            if let Some(oldest) = remembered.order.pop_front() {
                remembered.facts.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checksums::ChecksumAlgorithm;
    use super::*;

    #[test]
    fn facts_are_remembered_for_one_state_of_an_object_and_not_without_bound() {
        let cache = FactsCache::default();
        let path: ObjectKey = "a/b".parse().unwrap();
        let facts = |len| Facts { len, etag: "e".into(), crc64: None, checksum: None };
        for n in 0..=REMEMBERED as u64 {
            cache.put(&path, &ETag(n.to_string()), &facts(n));
        }
        assert_eq!(cache.get(&path, &ETag("0".into())), None);
        assert_eq!(cache.get(&path, &ETag("1".into())), Some(facts(1)));
        assert_eq!(cache.get(&"a/c".parse().unwrap(), &ETag("1".into())), None);
        assert_eq!(cache.0.lock().unwrap().facts.len(), REMEMBERED);
    }

    #[test]
    fn parts_are_kept_in_runs_and_read_back() {
        let facts = Facts { len: 5, etag: "abc-1".into(), crc64: Some(u64::MAX), checksum: None };
        for (parts, runs) in [
            (vec![], 0),
            (vec![(7, 5)], 1),
            (vec![(1, 8), (2, 8), (3, 8), (4, 1)], 2),
            (vec![(1, 8), (3, 8), (4, 8), (5, 0), (6, 8)], 4),
        ] {
            let kept = Kept::new(facts.clone(), parts.clone());
            assert_eq!((kept.parts.len(), kept.parts()), (runs, parts));
            let json = serde_json::to_vec(&kept).unwrap();
            assert_eq!(serde_json::from_slice::<Kept>(&json).unwrap(), kept);
        }
        let older = r#"{"len":5,"etag":"abc-1","crc64":18446744073709551615}"#;
        assert_eq!(serde_json::from_str::<Kept>(older).unwrap(), Kept::new(facts.clone(), []));
        assert_eq!(Kept { facts, parts: vec![(u32::MAX, u32::MAX, 1)] }.parts().len(), 10_000);
    }

    #[test]
    fn facts_in_metadata_are_read_back() {
        let facts = Facts { len: 5, etag: "abc".into(), crc64: Some(u64::MAX), checksum: None };
        let with_checksum = Facts { checksum: Checksum::new(ChecksumAlgorithm::Crc32, "y/Q5Jg=="), ..facts.clone() };
        assert!(with_checksum.checksum.is_some());
        for facts in [facts, with_checksum] {
            let mut properties = Properties::default();
            facts.note(&mut properties);
            assert_eq!(Facts::noted(&properties), Some(facts));
        }
        assert_eq!(Facts::noted(&Properties::default()), None);
    }
}

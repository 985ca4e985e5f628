//! Names of buckets and objects, and where in the store behind things lie.

use std::fmt;

use sealift::ObjectKey;

use super::error::{Failure, FailureKind, Result};

/// What begins the keys of what the gateway itself keeps in the store. No bucket can have that name.
const OWN: &str = "_gateway";

/// A bucket: 3 to 63 lower-case letters, digits, hyphens and dots, the first and last of it, and around dots, a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(String);

/// An object within its bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName {
    bucket: BucketName,
    path: ObjectKey,
}

impl BucketName {
    /// The bucket that is called so.
    ///
    /// # Errors
    /// [`FailureKind::InvalidBucketName`] if none can be.
    pub fn new(name: &str) -> Result<Self> {
        let bytes = name.as_bytes();
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = |byte: Option<&u8>| byte.is_some_and(alphanumeric);
        let valid = (3..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'.'))
            && ends(bytes.first())
            && ends(bytes.last())
            && !["..", ".-", "-."].iter().any(|two| name.contains(two));
        if !valid {
            let message = format!("The specified bucket is not valid: {name:?}.");
            return Err(Failure::new(FailureKind::InvalidBucketName, message));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The object in this bucket that is called `key`.
    ///
    /// # Errors
    /// [`FailureKind::InvalidObjectName`] if none can be.
    pub fn object(&self, key: &str) -> Result<ObjectName> {
        let invalid = |why: &str| {
            Failure::new(FailureKind::InvalidObjectName, format!("The specified object name is not valid: {why}."))
        };
        if key.is_empty() {
            return Err(invalid("it is empty"));
        }
        let path = ObjectKey::try_from(format!("{}/{key}", self.0))
            .map_err(|_| invalid("with the bucket's name it has at most 1,024 bytes, and no NUL"))?;
        Ok(ObjectName { bucket: self.clone(), path })
    }

    /// What begins the keys of its objects in the store.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.0)
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ObjectName {
    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &BucketName {
        &self.bucket
    }

    /// The name within the bucket.
    #[must_use]
    pub fn key(&self) -> &str {
        self.path.as_str().get(self.bucket.0.len() + 1..).unwrap_or_default()
    }

    /// The key in the store behind.
    #[must_use]
    pub fn path(&self) -> &ObjectKey {
        &self.path
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// Where the record of a bucket lies.
pub(super) fn bucket_record(bucket: &BucketName) -> Result<ObjectKey> {
    own(&format!("buckets/{bucket}.json"))
}

pub(super) fn bucket_records() -> String {
    format!("{OWN}/buckets/")
}

/// The bucket whose record lies at `path`.
pub(super) fn bucket_of_record(path: &ObjectKey) -> Option<BucketName> {
    let name = path.as_str().strip_prefix(&bucket_records())?.strip_suffix(".json")?;
    BucketName::new(name).ok()
}

/// Where facts about a plaintext object lie that were not known when its metadata was settled.
pub(super) fn facts(id: &str) -> Result<ObjectKey> {
    own(&format!("facts/{id}.json"))
}

/// What begins the keys of the state of a bucket's uploads.
pub(super) fn uploads(bucket: &BucketName) -> String {
    format!("{OWN}/uploads/{bucket}/")
}

/// Where `what` of an upload's state lies: all of a bucket's side by side, because a directory does not go with the last file in it.
pub(super) fn of_upload(bucket: &BucketName, id: &str, what: &str) -> Result<ObjectKey> {
    own(&format!("uploads/{bucket}/{id}.{what}"))
}

fn own(path: &str) -> Result<ObjectKey> {
    let invalid = |e| Failure::new(FailureKind::Internal, "a name of the gateway's own is not valid").with_cause(e);
    ObjectKey::try_from(format!("{OWN}/{path}")).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_the_names_that_oss_and_s3_allow() {
        for good in ["test-hongkong-2025", "abc", "a.b", "123"] {
            assert_eq!(BucketName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "ab",
            "-ab",
            "ab-",
            "a_b",
            "Abc",
            "a..b",
            "a.-b",
            "a-.b",
            ".ab",
            "a/b",
            "..",
            OWN,
            &"a".repeat(64),
            "bücket",
        ] {
            assert_eq!(BucketName::new(bad).unwrap_err().kind(), FailureKind::InvalidBucketName, "{bad}");
        }
    }

    #[test]
    fn objects_lie_below_their_bucket_and_nowhere_else() {
        let bucket = BucketName::new("abc").unwrap();
        let object = bucket.object("a/../b").unwrap();
        assert_eq!((object.key(), object.path().as_str()), ("a/../b", "abc/a/../b"));
        for bad in ["", "a\0b", &"a".repeat(1021)] {
            assert_eq!(bucket.object(bad).unwrap_err().kind(), FailureKind::InvalidObjectName, "{bad}");
        }
        assert_eq!(bucket_of_record(&bucket_record(&bucket).unwrap()), Some(bucket));
    }
}

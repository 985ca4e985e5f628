//! Checksums that clients of S3 choose: compared with what arrives, kept with the object, and answered with.
//!
//! They are of the plaintext. So those of what is encrypted are kept sealed: a part's in its record, an object's in its manifest.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::error::{Failure, FailureKind, Result};

/// Algorithms of S3's, by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChecksumAlgorithm {
    /// CRC-32, of zlib and gzip.
    Crc32,
    /// CRC-32C, Castagnoli's.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// What the checksum of an object in parts is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChecksumType {
    /// All of its bytes.
    FullObject,
    /// The checksums of its parts, one behind the other.
    Composite,
}

/// The checksum that an object in parts is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksumKind {
    algorithm: ChecksumAlgorithm,
    of: ChecksumType,
}

/// A checksum of an object or a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum {
    algorithm: ChecksumAlgorithm,
    value: String,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// What S3 calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// How many bytes a checksum has.
    fn len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ChecksumKind {
    /// A checksum of this algorithm. Without a type, it is what S3 takes: that of all bytes for CRC-64/NVME, else that of the parts'.
    ///
    /// # Errors
    /// [`FailureKind::InvalidRequest`] if S3 has no such checksum: only CRCs of parts make one of the whole.
    pub fn new(algorithm: ChecksumAlgorithm, of: Option<ChecksumType>) -> Result<Self> {
        let usual = match algorithm {
            ChecksumAlgorithm::Crc64Nvme => ChecksumType::FullObject,
            _ => ChecksumType::Composite,
        };
        let of = of.unwrap_or(usual);
        let exists = match of {
            ChecksumType::FullObject => algorithm.crc().is_some(),
            ChecksumType::Composite => algorithm != ChecksumAlgorithm::Crc64Nvme,
        };
        if !exists {
            let of = if of == ChecksumType::FullObject { "FULL_OBJECT" } else { "COMPOSITE" };
            let message = format!("The {of} checksum type cannot be used with the {algorithm} checksum algorithm.");
            return Err(Failure::new(FailureKind::InvalidRequest, message));
        }
        Ok(Self { algorithm, of })
    }

    /// Its algorithm, which is that of the parts' too.
    #[must_use]
    pub fn algorithm(self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// What it is of.
    #[must_use]
    pub fn of(self) -> ChecksumType {
        self.of
    }

    /// That of an object of these parts: the checksum and the length of each. `None` if one has none.
    pub(super) fn of_parts<'a>(self, parts: impl IntoIterator<Item = (Option<&'a Checksum>, u64)>) -> Option<Checksum> {
        let mut count = 0_usize;
        let mut composite = Hasher::new(self.algorithm);
        let mut full = 0;
        for (checksum, len) in parts {
            let part = checksum.filter(|part| part.algorithm == self.algorithm)?.bytes();
            composite.update(&part);
            if self.of == ChecksumType::FullObject {
                full = crc_fast::checksum_combine(self.algorithm.crc()?, full, number(&part), len);
            }
            count += 1;
        }
        Some(match self.of {
            ChecksumType::FullObject => Checksum::of_number(self.algorithm, full),
            ChecksumType::Composite => {
                let Checksum { algorithm, value } = composite.finish();
                Checksum { algorithm, value: format!("{value}-{count}") }
            }
        })
    }
}

impl Checksum {
    /// A checksum as S3 writes it: in base64, and behind that `-` and the number of parts if it is made of theirs. `None` if that is none.
    #[must_use]
    pub fn new(algorithm: ChecksumAlgorithm, value: &str) -> Option<Self> {
        let (digits, parts) = value.split_once('-').map_or((value, None), |(digits, parts)| (digits, Some(parts)));
        let is_digest = STANDARD.decode(digits).is_ok_and(|bytes| bytes.len() == algorithm.len());
        let is_count = parts.is_none_or(|parts| parts.parse::<u32>().is_ok_and(|n| n.to_string() == parts));
        (is_digest && is_count).then(|| Self { algorithm, value: value.to_owned() })
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// As S3 writes it.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What it is of.
    #[must_use]
    pub fn of(&self) -> ChecksumType {
        if self.value.contains('-') { ChecksumType::Composite } else { ChecksumType::FullObject }
    }

    /// One that has the length of all of this algorithm's.
    pub(super) fn placeholder(algorithm: ChecksumAlgorithm) -> Self {
        Self::of_bytes(algorithm, &vec![0; algorithm.len()])
    }

    fn of_bytes(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Self {
        Self { algorithm, value: STANDARD.encode(bytes) }
    }

    fn of_number(algorithm: ChecksumAlgorithm, crc: u64) -> Self {
        let bytes = crc.to_be_bytes();
        Self::of_bytes(algorithm, bytes.get(bytes.len().saturating_sub(algorithm.len())..).unwrap_or_default())
    }

    fn bytes(&self) -> Vec<u8> {
        let digits = self.value.split('-').next().unwrap_or_default();
        STANDARD.decode(digits).unwrap_or_default()
    }
}

/// `ALGORITHM VALUE`, as it is kept.
impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.value)
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parsed = text.split_once(' ').and_then(|(name, value)| Self::new(ChecksumAlgorithm::named(name)?, value));
        parsed.ok_or("not a checksum")
    }
}

/// A checksum in the making.
pub(super) enum Hasher {
    Crc(ChecksumAlgorithm, crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    pub(super) fn new(algorithm: ChecksumAlgorithm) -> Self {
        match (algorithm.crc(), algorithm) {
            (Some(crc), _) => Self::Crc(algorithm, crc_fast::Digest::new(crc)),
            (None, ChecksumAlgorithm::Sha1) => Self::Sha1(Sha1::new()),
            (None, _) => Self::Sha256(Sha256::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, crc) => crc.update(bytes),
            Self::Sha1(sha1) => sha1.update(bytes),
            Self::Sha256(sha256) => sha256.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Checksum {
        match self {
            Self::Crc(algorithm, crc) => Checksum::of_number(algorithm, crc.finalize()),
            Self::Sha1(sha1) => Checksum::of_bytes(ChecksumAlgorithm::Sha1, &sha1.finalize()),
            Self::Sha256(sha256) => Checksum::of_bytes(ChecksumAlgorithm::Sha256, &sha256.finalize()),
        }
    }
}

/// The number that at most eight bytes write, the highest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the algorithms' own documents, over `123456789`.
    const KNOWN: [(ChecksumAlgorithm, &str); 5] = [
        (ChecksumAlgorithm::Crc32, "y/Q5Jg=="),
        (ChecksumAlgorithm::Crc32c, "4waSgw=="),
        (ChecksumAlgorithm::Crc64Nvme, "rosUhgp5mIg="),
        (ChecksumAlgorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
        (ChecksumAlgorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ];

    fn of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn checksums_are_those_of_their_documents_and_are_read_back() {
        for (algorithm, value) in KNOWN {
            let checksum = of(algorithm, b"123456789");
            assert_eq!(checksum.value(), value, "{algorithm}");
            for checksum in
                [checksum, Checksum::placeholder(algorithm), Checksum::new(algorithm, &format!("{value}-3")).unwrap()]
            {
                let json = serde_json::to_string(&checksum).unwrap();
                assert_eq!(serde_json::from_str::<Checksum>(&json).unwrap(), checksum, "{json}");
            }
            assert_eq!(Checksum::placeholder(algorithm).to_string().len(), of(algorithm, b"x").to_string().len());
            for bad in [
                "",
                "bad",
                "AAA=",
                &format!("{value}-"),
                &format!("{value}-x"),
                &format!("{value}-01"),
                &format!("-{value}"),
            ] {
                assert_eq!(Checksum::new(algorithm, bad), None, "{bad}");
            }
        }
        assert!(serde_json::from_str::<Checksum>("\"MD5 AAAA\"").is_err());
    }

    #[test]
    fn that_of_the_whole_is_made_of_those_of_the_parts() {
        let parts = [&b"1234"[..], b"", b"56789"];
        for (algorithm, value) in KNOWN {
            let sums: Vec<_> = parts.iter().map(|part| (of(algorithm, part), part.len() as u64)).collect();
            let whole = |of: Option<ChecksumType>| {
                let kind = ChecksumKind::new(algorithm, of).map_err(|failure| failure.kind())?;
                Ok(kind.of_parts(sums.iter().map(|(sum, len)| (Some(sum), *len))).unwrap().value().to_owned())
            };
            let bytes: Vec<u8> = sums.iter().flat_map(|(sum, _)| sum.bytes()).collect();
            let composite = format!("{}-3", of(algorithm, &bytes).value());
            let refused = Err(FailureKind::InvalidRequest);
            let (full, by_parts) = match algorithm {
                ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => (refused.clone(), Ok(composite)),
                ChecksumAlgorithm::Crc64Nvme => (Ok(value.to_owned()), refused),
                _ => (Ok(value.to_owned()), Ok(composite)),
            };
            assert_eq!(whole(Some(ChecksumType::FullObject)), full, "{algorithm}");
            assert_eq!(whole(Some(ChecksumType::Composite)), by_parts, "{algorithm}");
            assert_eq!(whole(None), if by_parts.is_ok() { by_parts } else { full }, "{algorithm}");
        }
        let kind = ChecksumKind::new(ChecksumAlgorithm::Crc32, None).unwrap();
        assert_eq!(kind.of_parts([(None, 5)]), None);
        assert_eq!(kind.of_parts([(Some(&of(ChecksumAlgorithm::Crc32c, b"")), 0)]), None);
    }
}

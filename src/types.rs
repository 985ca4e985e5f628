//! The words everything else is written in: small values that are valid once they exist.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, ErrorKind, Result};

/// Number of a part within its object: 1 to 10,000, as the object stores count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The first part.
    pub const MIN: Self = Self(1);
    /// The highest number a part may have.
    pub const MAX: Self = Self(10_000);

    /// The number as an integer.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// The number after this one, or `None` after the highest.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        (self < Self::MAX).then(|| Self(self.0 + 1))
    }
}

impl TryFrom<u32> for PartNumber {
    type Error = Error;

    fn try_from(n: u32) -> Result<Self> {
        match u16::try_from(n) {
            Ok(n) if (1..=10_000).contains(&n) => Ok(Self(n)),
            _ => Err(Error::new(ErrorKind::InvalidInput, format!("part numbers are 1 to 10,000, not {n}"))),
        }
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which sending of a part this is: 1 for the first. Every request that carries a part's bytes has an attempt of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u32);

/// Identity of one upload and of the object it makes: 16 random bytes, written as 22 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId([u8; 16]);

impl ObjectId {
    /// A fresh identity from the operating system's random generator.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the operating system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(Error::no_randomness)?;
        Ok(Self(id))
    }

    /// The identity with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

impl FromStr for ObjectId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let malformed = || Error::new(ErrorKind::Malformed, "an object id is 22 characters of base64url");
        let bytes = URL_SAFE_NO_PAD.decode(s).map_err(|_| malformed())?;
        Ok(Self(bytes.try_into().map_err(|_| malformed())?))
    }
}

/// The 24 fresh random bytes that begin every sealing, so that no two sealings ever share a key and nonce.
///
/// There is no way to choose one: it is drawn where a sealing begins, and read back from what was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Salt(pub(crate) [u8; 24]);

impl Salt {
    /// Length in bytes.
    pub const LEN: usize = 24;

    /// The 24 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salt({:x})", base16ct::HexDisplay(&self.0))
    }
}

/// Name of an object within a store: 1 to 1,024 bytes of UTF-8, segments separated by `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = Error;

    fn try_from(key: String) -> Result<Self> {
        if key.is_empty() || key.len() > 1024 || key.contains('\0') {
            return Err(Error::new(ErrorKind::InvalidInput, "an object's key is 1 to 1,024 bytes without NUL"));
        }
        Ok(Self(key))
    }
}

impl FromStr for ObjectKey {
    type Err = Error;

    fn from_str(key: &str) -> Result<Self> {
        key.to_owned().try_into()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A store's opaque tag of one state of an object or part. Compared, never parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ETag(pub String);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A store's name for one multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct UploadId(pub String);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A range of bytes as HTTP's `Range` header writes it (RFC 9110, section 14.1.2): first and last inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `FIRST-LAST`, both included. A `LAST` past the end means the end.
    Inclusive {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// `FIRST-`: from `FIRST` to the end.
    From(u64),
    /// `-N`: the last `N` bytes; the whole object if it is shorter.
    Suffix(u64),
}

impl ByteRange {
    /// The offsets this range has in `len` bytes: never empty, never past the end.
    ///
    /// # Errors
    /// [`ErrorKind::RangeNotSatisfiable`] if it begins at or past the end, or asks for the last 0 bytes.
    pub fn resolve(self, len: u64) -> Result<Range<u64>> {
        let range = match self {
            Self::Inclusive { first, last } => first..last.saturating_add(1).min(len),
            Self::From(first) => first..len,
            Self::Suffix(n) => len.saturating_sub(n)..len,
        };
        if range.is_empty() {
            return Err(Error::new(
                ErrorKind::RangeNotSatisfiable,
                format!("the range {self} holds no byte of an object of {len} bytes"),
            ));
        }
        Ok(range)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inclusive { first, last } => write!(f, "{first}-{last}"),
            Self::From(first) => write!(f, "{first}-"),
            Self::Suffix(n) => write!(f, "-{n}"),
        }
    }
}

impl FromStr for ByteRange {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let invalid = || {
            Error::new(ErrorKind::InvalidInput, format!("a range is FIRST-LAST, FIRST- or -SUFFIX in bytes, not {s:?}"))
        };
        let number = |digits: &str| -> Result<u64> {
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(invalid());
            }
            digits.parse().map_err(|_| invalid())
        };
        let (first, last) = s.split_once('-').ok_or_else(invalid)?;
        match (first, last) {
            ("", n) => Ok(Self::Suffix(number(n)?)),
            (first, "") => Ok(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(invalid());
                }
                Ok(Self::Inclusive { first, last })
            }
        }
    }
}

/// The key services a wrapped data key can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum KmsService {
    /// The embedded key store.
    Local,
    /// AWS KMS.
    Aws,
    /// Alibaba Cloud KMS.
    Aliyun,
    /// OpenBao's and HashiCorp Vault's transit engine.
    Vault,
    /// A PKCS#11 token.
    Pkcs11,
    /// An RSA public key that wraps but cannot unwrap here.
    Rsa,
    /// A key file of 32 bytes.
    KeyFile,
}

impl KmsService {
    /// Every service, in the order of the specification.
    pub const ALL: [Self; 7] =
        [Self::Local, Self::Aws, Self::Aliyun, Self::Vault, Self::Pkcs11, Self::Rsa, Self::KeyFile];

    /// The name an envelope uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
            Self::Aliyun => "aliyun",
            Self::Vault => "vault",
            Self::Pkcs11 => "pkcs11",
            Self::Rsa => "rsa",
            Self::KeyFile => "key-file",
        }
    }
}

impl fmt::Display for KmsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KmsService {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|service| service.name() == s)
            .ok_or_else(|| Error::new(ErrorKind::Malformed, format!("{s:?} names no key service")))
    }
}

/// What can be done with a customer master key (CMK) now, in the words of the cloud services. Only an enabled one wraps
/// and unwraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// It wraps and unwraps.
    Enabled,
    /// Switched off until it is enabled again.
    Disabled,
    /// It will be deleted, and does nothing until that is cancelled.
    PendingDeletion,
    /// Its key material is to be imported: for the first time, or again after it expired or was deleted.
    PendingImport,
}

impl KeyState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Enabled, Self::Disabled, Self::PendingDeletion, Self::PendingImport];

    /// The name that key services use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion => "PendingDeletion",
            Self::PendingImport => "PendingImport",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An object's data key as one customer master key (CMK) wrapped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The service that holds the CMK.
    pub kms: KmsService,
    /// The CMK's id as the service returned it, never an alias.
    pub key: String,
    /// The wrapped data key.
    pub blob: Vec<u8>,
}

/// Pairs that a key service authenticates with every wrap and unwrap: what opens must say what sealed said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    /// What begins the names that belong to Sealift.
    pub const RESERVED: &str = "sealift:";

    /// A context of the caller's own pairs.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a name is empty or begins with `sealift:`.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
        if let Some(name) = pairs.keys().find(|name| name.is_empty() || name.starts_with(Self::RESERVED)) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "an encryption context's names are not empty and do not begin with {:?}, as {name:?} is or does",
                    Self::RESERVED
                ),
            ));
        }
        Ok(Self(pairs))
    }

    /// The same with `name` = `value` added. For Sealift's own pairs.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// The pairs, ascending by the name's UTF-8 bytes.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Canonical bytes, for services that authenticate bytes rather than pairs: for each pair, ascending by name,
    /// length u32 ‖ name ‖ length u32 ‖ value, big-endian.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }
}

/// Whether a host, as URLs write it, is this machine: what goes there in the clear leaves it nowhere.
#[cfg(any(feature = "aliyun-kms", feature = "aws-kms", feature = "oss", feature = "vault-kms"))]
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_numbers_are_those_of_the_object_stores() {
        assert!(PartNumber::try_from(0).is_err());
        assert!(PartNumber::try_from(10_001).is_err());
        assert!(PartNumber::try_from(u32::MAX).is_err());
        assert_eq!(PartNumber::try_from(10_000).unwrap(), PartNumber::MAX);
        assert_eq!(PartNumber::MAX.next(), None);
        assert_eq!(PartNumber::MIN.next().unwrap().get(), 2);
    }

    #[test]
    fn object_ids_round_trip_and_have_one_spelling() {
        let id = ObjectId::random().unwrap();
        assert_eq!(id.to_string().len(), 22);
        assert_eq!(id.to_string().parse::<ObjectId>().unwrap(), id);
        assert!("AAAAAAAAAAAAAAAAAAAAAB".parse::<ObjectId>().is_err(), "unused bits must be zero");
        assert!("AAAAAAAAAAAAAAAAAAAAAA==".parse::<ObjectId>().is_err());
    }

    #[test]
    fn ranges_parse_and_resolve_as_in_http() {
        let resolve = |s: &str, len| s.parse::<ByteRange>().and_then(|r| r.resolve(len)).ok();
        assert_eq!(resolve("0-0", 10), Some(0..1));
        assert_eq!(resolve("2-99", 10), Some(2..10));
        assert_eq!(resolve("3-", 10), Some(3..10));
        assert_eq!(resolve("-4", 10), Some(6..10));
        assert_eq!(resolve("-99", 10), Some(0..10));
        assert_eq!(resolve("0-18446744073709551615", 10), Some(0..10));
        for bad in ["10-", "10-11", "-0", "5-4", "", "-", "a-b", "+1-2", "1-2-3", "18446744073709551616-"] {
            assert_eq!(resolve(bad, 10), None, "{bad}");
        }
        assert_eq!(resolve("0-", 0), None);
        assert_eq!(resolve("-5", 0), None);
    }

    #[test]
    fn contexts_have_one_canonical_form() {
        let context = EncryptionContext::new([("b".into(), "2".into()), ("a".into(), "é".into())]).unwrap();
        assert_eq!(context.canonical(), b"\0\0\0\x01a\0\0\0\x02\xc3\xa9\0\0\0\x01b\0\0\0\x012");
        assert!(EncryptionContext::new([("sealift:object-id".into(), "x".into())]).is_err());
    }
}

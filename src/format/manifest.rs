//! The manifest: which parts an object is made of, one sealing of each, and nothing else.

use std::collections::BTreeMap;

use crate::crypto;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PartNumber, Salt};

/// The most plaintext bytes one part may have: they seal to exactly 5 GiB, the most the object stores take as one part.
pub const MAX_PART_PLAIN: u64 = 5_363_471_288;

const VERSION_1: u8 = 1;
const FLAG_CHECKSUMS: u8 = 1;

/// The most bytes all attributes may take, their count included.
const MAX_ATTRIBUTES: usize = 4_096;

/// One part as the manifest pins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestPart {
    /// Its number, part of its context.
    pub number: PartNumber,
    /// Its length in plaintext bytes.
    pub len: u64,
    /// CRC-64/XZ of its plaintext; zero if the manifest has no checksums.
    pub crc64: u64,
    /// The salt of the one sealing of it that belongs to this object.
    pub salt: Salt,
}

impl ManifestPart {
    /// Bytes of a part's row: number u32, length u64, checksum u64, salt.
    pub(crate) const ROW: usize = 4 + 8 + 8 + Salt::LEN;

    /// The row of the manifest that says this.
    pub(crate) fn to_row(self) -> Vec<u8> {
        let row: [&[u8]; 4] = [
            &self.number.get().to_be_bytes(),
            &self.len.to_be_bytes(),
            &self.crc64.to_be_bytes(),
            self.salt.as_bytes(),
        ];
        row.concat()
    }

    /// What a row says. Its lengths are not checked.
    pub(crate) fn from_row(row: &[u8; Self::ROW]) -> Result<Self> {
        let mut row = Input(row);
        let number = PartNumber::try_from(u32::from_be_bytes(row.array()?));
        Ok(Self {
            number: number.map_err(|error| malformed(error.to_string()))?,
            len: u64::from_be_bytes(row.array()?),
            crc64: u64::from_be_bytes(row.array()?),
            salt: Salt(row.array()?),
        })
    }
}

/// The parts of an object, in order. Sealed last and read first, it binds them into one whole: none can be left out,
/// repeated, moved, or replaced by another sealing of the same part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    parts: Vec<ManifestPart>,
    checksums: bool,
    attributes: BTreeMap<String, Vec<u8>>,
    plain_len: u64,
    sealed_len: u64,
}

impl Manifest {
    /// A manifest of `parts`, ascending by number; gaps are fine. An empty object has none.
    ///
    /// `checksums` says whether the parts have them. `attributes` are small values that are encrypted with the
    /// manifest; readers ignore those they do not know.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the parts do not strictly ascend, one has no bytes
    /// or more than [`MAX_PART_PLAIN`], or a checksum where `checksums` is off; or if an attribute's name is not 1 to
    /// 255 bytes, or the attributes take more than 4,096 bytes in all (2, and 3 for each with its name and value).
    pub fn new(parts: Vec<ManifestPart>, checksums: bool, attributes: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        Self::checked(parts, checksums, attributes).map_err(|why| Error::new(ErrorKind::InvalidInput, why))
    }

    /// The parts, ascending by number.
    #[must_use]
    pub fn parts(&self) -> &[ManifestPart] {
        &self.parts
    }

    /// Whether the parts have checksums.
    #[must_use]
    pub fn checksums(&self) -> bool {
        self.checksums
    }

    /// Values that are encrypted with the manifest, by name. `etag` is the plaintext's ETag, which a gateway answers
    /// with.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.attributes
    }

    /// Length of the object in plaintext bytes.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// Length of all sealed parts in bytes: where in the body the trailer begins.
    #[must_use]
    pub fn sealed_len(&self) -> u64 {
        self.sealed_len
    }

    /// The bytes that are sealed into the trailer: 18 to 444,112.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // `checked` has bounded every count and length.
        let u8_of = |n: usize| u8::try_from(n).expect("an attribute's name has at most 255 bytes").to_be_bytes();
        let u16_of = |n: usize| u16::try_from(n).expect("all attributes have at most 4,096 bytes").to_be_bytes();
        let u32_of = |n: usize| u32::try_from(n).expect("there are at most 10,000 parts").to_be_bytes();

        let mut out = vec![VERSION_1, if self.checksums { FLAG_CHECKSUMS } else { 0 }, 0, 0];
        out.extend_from_slice(&u32_of(self.parts.len()));
        out.extend_from_slice(&self.plain_len.to_be_bytes());
        for part in &self.parts {
            out.extend_from_slice(&part.to_row());
        }
        out.extend_from_slice(&u16_of(self.attributes.len()));
        for (name, value) in &self.attributes {
            out.extend_from_slice(&u8_of(name.len()));
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&u16_of(value.len()));
            out.extend_from_slice(value);
        }
        out
    }

    /// How many bytes that is of a manifest of so many parts and these attributes.
    pub(super) fn encoded_len(parts: usize, attributes: &BTreeMap<String, Vec<u8>>) -> u64 {
        // Before the rows: version, flags and zeros; the number of parts; the object's length.
        let rows = (ManifestPart::ROW as u64).saturating_mul(parts as u64);
        rows.saturating_add(4 + 4 + 8).saturating_add(attributes_len(attributes) as u64)
    }

    /// The manifest that these bytes encode. They have one spelling: what parses encodes to the same bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if they break a rule of the format, [`ErrorKind::UnsupportedFormat`] if they are of
    /// another version.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut input = Input(bytes);
        let [version, flags, zeros @ ..] = input.array::<4>()?;
        if version != VERSION_1 {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                format!("the object's manifest has version {version}, and this program knows 1: use a newer one"),
            ));
        }
        if flags & !FLAG_CHECKSUMS != 0 || zeros != [0, 0] {
            return Err(malformed("reserved bits are set"));
        }
        let checksums = flags & FLAG_CHECKSUMS != 0;
        let count = u32::from_be_bytes(input.array()?);
        let plain_len = u64::from_be_bytes(input.array()?);

        let parts = input.parts(count)?;
        let attributes = input.attributes()?;
        if !input.0.is_empty() {
            return Err(malformed("bytes follow its end"));
        }

        let manifest = Self::checked(parts, checksums, attributes).map_err(malformed)?;
        if manifest.plain_len != plain_len {
            return Err(malformed("its parts' lengths do not add up to the object's"));
        }
        Ok(manifest)
    }

    fn checked(
        parts: Vec<ManifestPart>,
        checksums: bool,
        attributes: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, &'static str> {
        // Which also means that there are at most 10,000.
        if !parts.is_sorted_by(|a, b| a.number < b.number) {
            return Err("parts ascend by number, each once");
        }
        if !checksums && parts.iter().any(|part| part.crc64 != 0) {
            return Err("without part checksums they are zero");
        }
        let (mut plain_len, mut sealed_len) = (0_u64, 0_u64);
        for part in &parts {
            if !(1..=MAX_PART_PLAIN).contains(&part.len) {
                return Err("a part has 1 to 5,363,471,288 plaintext bytes");
            }
            let sealed = crypto::sealed_len(part.len);
            plain_len = plain_len.checked_add(part.len).ok_or(TOO_LONG)?;
            sealed_len = sealed.and_then(|sealed| sealed_len.checked_add(sealed)).ok_or(TOO_LONG)?;
        }
        if attributes.keys().any(|name| !(1..=255).contains(&name.len())) {
            return Err("an attribute's name has 1 to 255 bytes");
        }
        if attributes_len(&attributes) > MAX_ATTRIBUTES {
            return Err("the attributes have at most 4,096 bytes in all");
        }
        Ok(Self { parts, checksums, attributes, plain_len, sealed_len })
    }
}

/// Bytes that all attributes take, their count included.
fn attributes_len(attributes: &BTreeMap<String, Vec<u8>>) -> usize {
    attributes
        .iter()
        .flat_map(|(name, value)| [1, name.len(), 2, value.len()])
        .fold(2_usize, |total, len| total.saturating_add(len))
}

/// Cannot happen with at most 10,000 parts of at most 5 GiB.
const TOO_LONG: &str = "the object is longer than an object can be";

/// What is left to parse.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(*array)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn parts(&mut self, count: u32) -> Result<Vec<ManifestPart>> {
        // The rows must be there before room is made for them.
        let rows =
            usize::try_from(count).ok().and_then(|count| count.checked_mul(ManifestPart::ROW)).ok_or_else(cut_short)?;
        let (rows, _) = self.bytes(rows)?.as_chunks::<{ ManifestPart::ROW }>();
        rows.iter().map(ManifestPart::from_row).collect()
    }

    fn attributes(&mut self) -> Result<BTreeMap<String, Vec<u8>>> {
        let count = u16::from_be_bytes(self.array()?);
        let mut attributes = BTreeMap::new();
        for _ in 0..count {
            let [name_len] = self.array()?;
            let name = self.bytes(name_len.into())?;
            let name = str::from_utf8(name).map_err(|_| malformed("an attribute's name is not UTF-8"))?;
            let value_len = u16::from_be_bytes(self.array()?);
            let value = self.bytes(value_len.into())?;
            if attributes.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name) {
                return Err(malformed("attributes ascend by name, each once"));
            }
            attributes.insert(name.to_owned(), value.to_vec());
        }
        Ok(attributes)
    }
}

fn cut_short() -> Error {
    malformed("it is cut short")
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Malformed, format!("the object's manifest is not valid: {why}"))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(n: u32) -> PartNumber {
        PartNumber::try_from(n).unwrap()
    }

    fn row(n: u32, len: u64) -> ManifestPart {
        ManifestPart { number: number(n), len, crc64: 0, salt: Salt([n as u8; 24]) }
    }

    fn two_parts() -> Manifest {
        let parts = vec![
            ManifestPart { crc64: 0x1122_3344_5566_7788, ..row(1, 5) },
            ManifestPart { crc64: 0x99aa_bbcc_ddee_ff00, ..row(7, 0x0102_0304) },
        ];
        Manifest::new(parts, true, [("etag".into(), b"xyz".to_vec()), ("a".into(), vec![])].into()).unwrap()
    }

    #[test]
    fn manifests_are_the_specification_s_bytes() {
        let expected = [
            b"\x01\x01\0\0\0\0\0\x02\0\0\0\0\x01\x02\x03\x09".as_slice(),
            b"\0\0\0\x01\0\0\0\0\0\0\0\x05\x11\x22\x33\x44\x55\x66\x77\x88",
            &[1; 24],
            b"\0\0\0\x07\0\0\0\0\x01\x02\x03\x04\x99\xaa\xbb\xcc\xdd\xee\xff\0",
            &[7; 24],
            b"\0\x02\x01a\0\0\x04etag\0\x03xyz",
        ]
        .concat();
        assert_eq!(two_parts().encode(), expected);
        assert_eq!(Manifest::parse(&expected).unwrap(), two_parts());

        let empty = Manifest::new(vec![], false, BTreeMap::new()).unwrap();
        assert_eq!(empty.encode(), b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn every_manifest_cut_short_or_followed_by_a_byte_is_refused() {
        let bytes = two_parts().encode();
        for len in 0..bytes.len() {
            assert_eq!(Manifest::parse(&bytes[..len]).unwrap_err().kind(), ErrorKind::Malformed, "{len}");
        }
        assert_eq!(Manifest::parse(&[&bytes[..], &[0]].concat()).unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn every_rule_is_checked() {
        let bytes = two_parts().encode();
        let refused = |at: usize, with: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            Manifest::parse(&bytes).map(|_| ()).unwrap_err().kind()
        };
        assert_eq!(refused(0, &[2]), ErrorKind::UnsupportedFormat);
        for (at, with, why) in [
            (0, &[1_u8, 0][..], "a checksum without the flag"),
            (1, &[3], "an unknown flag"),
            (2, &[1], "a reserved byte"),
            (3, &[1], "a reserved byte"),
            (4, &[0, 0, 0x27, 0x11], "10,001 parts"),
            (4, &[0xff; 4], "2^32 - 1 parts"),
            (4, &[0, 0, 0, 1], "fewer parts than there are"),
            (15, &[8], "another total"),
            (16, &[0, 0, 0, 0], "part 0"),
            (16, &[0, 0, 0, 7], "a part twice"),
            (16, &[0, 0, 0, 8], "parts that descend"),
            (60, &[0, 0, 0x27, 0x11], "part 10,001"),
            (60, &[0, 1, 0, 7], "a part number past 16 bits"),
            (64, &[0xff; 8], "2^64 - 1 bytes"),
            (104, &[0, 3], "more attributes than there are"),
            (104, &[0, 1], "fewer attributes than there are"),
            (107, b"f", "names that descend"),
            (111, &[0xff], "a name that is not UTF-8"),
        ] {
            assert_eq!(refused(at, with), ErrorKind::Malformed, "{why}");
        }
    }

    #[test]
    fn makers_are_held_to_the_same_rules() {
        let new = |parts| Manifest::new(parts, false, BTreeMap::new()).map_err(|error| error.kind());
        assert!(new((1..=10_000).map(|n| row(n, MAX_PART_PLAIN)).collect()).is_ok());
        assert_eq!(new(vec![row(1, 0)]), Err(ErrorKind::InvalidInput));
        assert_eq!(new(vec![row(1, MAX_PART_PLAIN + 1)]), Err(ErrorKind::InvalidInput));
        assert_eq!(new(vec![row(2, 1), row(2, 1)]), Err(ErrorKind::InvalidInput));
        assert_eq!(new(vec![row(2, 1), row(1, 1)]), Err(ErrorKind::InvalidInput));
        assert_eq!(new(vec![ManifestPart { crc64: 1, ..row(1, 1) }]), Err(ErrorKind::InvalidInput));

        let attribute = |name: usize, value: usize| {
            Manifest::new(vec![], false, [("n".repeat(name), vec![0; value])].into()).map_err(|error| error.kind())
        };
        assert!(attribute(255, 4_096 - 2 - 3 - 255).is_ok());
        assert_eq!(attribute(255, 4_096 - 2 - 3 - 254), Err(ErrorKind::InvalidInput));
        assert_eq!(attribute(0, 1), Err(ErrorKind::InvalidInput));
        assert_eq!(attribute(256, 1), Err(ErrorKind::InvalidInput));
    }

    #[test]
    fn the_largest_manifest_is_as_long_as_the_specification_says() {
        let parts = (1..=10_000).map(|n| row(n, MAX_PART_PLAIN)).collect();
        let attributes = [("n".into(), vec![0; 4_096 - 6])].into();
        let manifest = Manifest::new(parts, false, attributes).unwrap();
        assert_eq!(manifest.encode().len(), 444_112);
        assert_eq!(crypto::sealed_len(444_112), Some(444_616));
        assert_eq!(manifest.sealed_len(), 10_000 * (5 << 30));
        assert_eq!(Manifest::parse(&manifest.encode()).unwrap(), manifest);
    }

    prop_compose! {
        pub(in crate::format) fn manifests()(
            rows in prop::collection::btree_map(1_u32..=10_000, (1..=MAX_PART_PLAIN, any::<u64>(), any::<[u8; 24]>()), 0..20),
            checksums: bool,
            attributes in prop::collection::btree_map("\\PC{1,20}", prop::collection::vec(any::<u8>(), 0..40), 0..8),
        ) -> Manifest {
            let parts = rows.into_iter().map(|(n, (len, crc64, salt))| ManifestPart {
                number: number(n), len, crc64: if checksums { crc64 } else { 0 }, salt: Salt(salt),
            });
            Manifest::new(parts.collect(), checksums, attributes).unwrap()
        }
    }

    proptest! {
        #[test]
        fn manifests_round_trip(manifest in manifests()) {
            prop_assert_eq!(Manifest::parse(&manifest.encode()).unwrap(), manifest);
        }

        #[test]
        fn what_parses_has_one_spelling(manifest in manifests(), at: prop::sample::Index, xor in 1_u8..) {
            let mut bytes = manifest.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= xor;
            if let Ok(other) = Manifest::parse(&bytes) {
                prop_assert_ne!(&other, &manifest);
                prop_assert_eq!(other.encode(), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            if let Ok(manifest) = Manifest::parse(&bytes) {
                prop_assert_eq!(manifest.encode(), bytes);
            }
        }
    }
}

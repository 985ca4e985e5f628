//! Names of key stores and CMKs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A random UUID (RFC 9562, version 4), which is what cloud services name their CMKs by.
///
/// It becomes a file name, so it has one spelling and parsing accepts no other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "&str", into = "String")]
pub(super) struct Id([u8; 16]);

impl Id {
    pub(super) fn random() -> Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(Error::no_randomness)?;
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        Ok(Self(id))
    }

    /// Of an id that was authenticated, and so was one before.
    pub(super) fn from_bytes(id: [u8; 16]) -> Self {
        Self(id)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NOT_AN_ID: &str = "not a version 4 UUID in lower case";
        let digits = text.replace('-', "");
        let id = u128::from_str_radix(&digits, 16).map_err(|_| NOT_AN_ID)?.to_be_bytes();
        // Radix parsing and the removal of dashes are lenient. Writing the id again is not.
        let id = Self(id);
        let random = id.0[6] >> 4 == 4 && id.0[8] >> 6 == 0b10;
        if random && id.to_string() == text { Ok(id) } else { Err(NOT_AN_ID) }
    }
}

impl TryFrom<&str> for Id {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_version_4_uuids() {
        let id = Id::random().unwrap();
        assert_ne!(id, Id::random().unwrap());
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 36);
    }

    #[test]
    fn ids_have_one_spelling() {
        const ID: &str = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed";
        assert_eq!(ID.parse::<Id>().unwrap().to_string(), ID);
        for bad in [
            "",
            "1B9D6BCD-BBFD-4B2D-9B5D-AB8DFBBD4BED",
            "1b9d6bcdbbfd4b2d9b5dab8dfbbd4bed",
            "+b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
            "1b9d6bcd-bbfd-4b2d-9b5dab8d-fbbd4bed",
            "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4be",
            "1b9d6bcd-bbfd-1b2d-9b5d-ab8dfbbd4bed",
            "1b9d6bcd-bbfd-4b2d-1b5d-ab8dfbbd4bed",
            "00000000-0000-0000-0000-000000000000",
            "../1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}

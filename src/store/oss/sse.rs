//! Server-side encryption: what a request asks for, and what an answer says.

use std::fmt;
use std::str::FromStr;

use reqwest::header::{HeaderMap, HeaderValue};

use crate::error::{Error, ErrorKind, Result};
use crate::store::ServerSideEncryption;

const ALGORITHM: &str = "x-oss-server-side-encryption";
const KEY_ID: &str = "x-oss-server-side-encryption-key-id";
const DATA_ENCRYPTION: &str = "x-oss-server-side-data-encryption";

/// The server-side encryption that Put, Copy and Initiate ask for.
///
/// OSS encrypts what it stores and decrypts it for whoever may read it. That is between OSS and its disks: who may read the object gets
/// its bytes. It can be used together with sealing, or without.
///
/// Source: [OSS, server-side encryption](https://www.alibabacloud.com/help/en/oss/user-guide/server-side-encryption-5).
///
/// ```
/// use sealift::store::oss::{Sse, SseAlgorithm};
///
/// let sse = Sse { key_id: Some("9468da86-3509-4f8d-a61e-6eab1eac****".into()), ..Sse::new(SseAlgorithm::Kms) };
/// assert!(sse.check().is_ok());
/// let no_kms = Sse { key_id: sse.key_id, ..Sse::new("AES256".parse()?) };
/// assert!(no_kms.check().is_err());
/// # Ok::<(), sealift::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sse {
    /// Whose keys encrypt.
    pub algorithm: SseAlgorithm,
    /// The CMK in Alibaba Cloud KMS, of the bucket's region; only with [`SseAlgorithm::Kms`]. Without it, the account's default CMK for OSS.
    pub key_id: Option<String>,
    /// The cipher of the object's data; only with [`SseAlgorithm::Kms`]. Without it, AES-256.
    pub data_encryption: Option<SseDataEncryption>,
}

/// Whose keys server-side encryption uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SseAlgorithm {
    /// Keys that OSS manages, AES-256.
    Aes256,
    /// A CMK in Alibaba Cloud KMS.
    Kms,
    /// Keys that OSS manages, SM4.
    Sm4,
}

/// A cipher other than AES-256 for the data of objects under a CMK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SseDataEncryption {
    /// SM4.
    Sm4,
}

impl Sse {
    /// `algorithm`, with the defaults for the rest.
    #[must_use]
    pub fn new(algorithm: SseAlgorithm) -> Self {
        Self { algorithm, key_id: None, data_encryption: None }
    }

    /// Refuses what OSS would refuse.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a key id or a data cipher without KMS, and for a key id that no header can carry.
    pub fn check(&self) -> Result<()> {
        let invalid = |message: &'static str| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.algorithm != SseAlgorithm::Kms && (self.key_id.is_some() || self.data_encryption.is_some()) {
            return invalid("a key id or a data cipher for server-side encryption goes with the algorithm KMS only");
        }
        match &self.key_id {
            Some(id) if id.is_empty() || !id.bytes().all(|b| b.is_ascii_graphic()) => {
                invalid("the id of a CMK is printable ASCII without spaces")
            }
            _ => Ok(()),
        }
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) -> Result<()> {
        self.check()?;
        self.answered().add_to(headers)
    }

    /// How an answer to a request with this says it.
    fn answered(&self) -> ServerSideEncryption {
        ServerSideEncryption {
            algorithm: self.algorithm.to_string(),
            key_id: self.key_id.clone(),
            data_encryption: self.data_encryption.map(|cipher| cipher.to_string()),
        }
    }

    /// Whether an object with `found` has what this asks for.
    pub(super) fn is_had_by(&self, found: Option<&ServerSideEncryption>) -> bool {
        found.is_some_and(|found| {
            let asked = self.answered();
            found.algorithm == asked.algorithm
                && (self.key_id.is_none() || found.key_id == asked.key_id)
                && found.data_encryption == asked.data_encryption
        })
    }

    /// Refuses the answer to a request with this that does not say it was done.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]: something between here and the disks ignored the header.
    pub(super) fn confirm(&self, found: Option<&ServerSideEncryption>) -> Result<()> {
        let found = match found {
            Some(found) if found.algorithm == self.algorithm.to_string() => return Ok(()),
            Some(found) => found.algorithm.as_str(),
            None => "none",
        };
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "server-side encryption {} was asked for, but the answer says {found}: the endpoint may be none of OSS, or a proxy drops headers",
                self.algorithm
            ),
        ))
    }
}

impl ServerSideEncryption {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned()).filter(|text| !text.is_empty());
        Some(Self { algorithm: text(ALGORITHM)?, key_id: text(KEY_ID), data_encryption: text(DATA_ENCRYPTION) })
    }

    /// Asks for the same.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) -> Result<()> {
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Error::new(ErrorKind::InvalidInput, "the id of a CMK is printable ASCII without spaces"))
        };
        headers.insert(ALGORITHM, value(&self.algorithm)?);
        if let Some(id) = &self.key_id {
            headers.insert(KEY_ID, value(id)?);
        }
        if let Some(cipher) = &self.data_encryption {
            headers.insert(DATA_ENCRYPTION, value(cipher)?);
        }
        Ok(())
    }
}

impl fmt::Display for SseAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes256 => "AES256",
            Self::Kms => "KMS",
            Self::Sm4 => "SM4",
        })
    }
}

impl FromStr for SseAlgorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_uppercase().as_str() {
            "AES256" => Ok(Self::Aes256),
            "KMS" => Ok(Self::Kms),
            "SM4" => Ok(Self::Sm4),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("server-side encryption is AES256, KMS or SM4, not {text:?}"),
            )),
        }
    }
}

impl fmt::Display for SseDataEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sm4 => f.write_str("SM4"),
        }
    }
}

impl FromStr for SseDataEncryption {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("SM4") {
            return Ok(Self::Sm4);
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the cipher of data under a CMK is SM4 or left out, not {text:?}"),
        ))
    }
}

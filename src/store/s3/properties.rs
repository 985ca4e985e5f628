//! An object's properties as S3's headers have them, and back.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ServerSideEncryption as SdkEncryption, StorageClass};

use super::encoding::etag;
use super::errors::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::store::percent::percent_encode;
use crate::store::{ObjectInfo, Properties, ServerSideEncryption};

/// User metadata may have this many bytes, names and values together.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
pub(super) const MAX_METADATA: usize = 2048;
/// What an object of no particular type has.
const NO_TYPE: &str = "application/octet-stream";

/// Properties that S3 can keep.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) metadata: HashMap<String, String>,
    pub(super) content_type: String,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) tagging: Option<String>,
}

impl Headers {
    pub(super) fn new(properties: &Properties) -> Result<Self> {
        let Properties { metadata, content_type, storage_class, tags } = properties;
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        let content_type = content_type.as_deref().unwrap_or(NO_TYPE);
        if !is_header_value(content_type) || content_type.is_empty() {
            return Err(invalid(format!("{content_type:?} is no media type")));
        }
        if storage_class.as_deref().is_some_and(|class| class.is_empty() || !is_header_value(class)) {
            return Err(invalid("a storage class is a name such as STANDARD_IA".to_owned()));
        }
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
        if tags.len() > 10 {
            return Err(Error::new(ErrorKind::LimitExceeded, format!("{} tags; an object has at most 10", tags.len())));
        }
        let tagging: Vec<_> = tags
            .iter()
            .map(|(name, value)| format!("{}={}", percent_encode(name, b""), percent_encode(value, b"")))
            .collect();
        Ok(Self {
            metadata: user_metadata(metadata)?,
            content_type: content_type.to_owned(),
            storage_class: storage_class.as_deref().map(StorageClass::from),
            tagging: (!tagging.is_empty()).then(|| tagging.join("&")),
        })
    }
}

/// User metadata as headers can carry it.
pub(super) fn user_metadata(metadata: &BTreeMap<String, String>) -> Result<HashMap<String, String>> {
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_METADATA {
        let message = format!("{size} bytes of metadata; S3 takes {MAX_METADATA}");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let mut headers = HashMap::with_capacity(metadata.len());
    for (name, value) in metadata {
        // RFC 9110, section 5.6.2: a token.
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            let message = format!("the metadata name {name:?} cannot be a header's: use letters, digits and `-`");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if value.is_empty() {
            let message = format!("the metadata {name:?} is empty, which some stores forget: give it a value");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if !is_header_value(value) {
            let message =
                format!("the metadata {name:?} cannot be a header: use ASCII, without line ends or spaces around it");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if headers.insert(name.to_ascii_lowercase(), value.clone()).is_some() {
            let message = format!("the metadata name {name:?} is there twice, in other case: S3 makes no difference");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
    }
    Ok(headers)
}

/// Whether it comes back as it went: HTTP strips spaces around a value, and S3 changes what is not ASCII.
fn is_header_value(text: &str) -> bool {
    text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && text.trim() == text
}

/// What `HeadObject` tells.
pub(super) fn of_head(request: &Request, head: &HeadObjectOutput) -> Result<ObjectInfo> {
    if head.missing_meta().is_some_and(|n| n > 0) {
        return Err(unreadable(request));
    }
    let len = head.content_length().and_then(|len| u64::try_from(len).ok());
    Ok(ObjectInfo {
        len: len.ok_or_else(|| request.lacks("length"))?,
        etag: etag(head.e_tag().ok_or_else(|| request.lacks("ETag"))?),
        modified: head.last_modified().and_then(modified),
        properties: properties(head.metadata(), head.content_type(), head.storage_class()),
        encryption: encryption(head.server_side_encryption(), head.ssekms_key_id()),
    })
}

/// What `GetObject` tells besides the length, which it tells of the body only.
pub(super) fn of_get(request: &Request, got: &GetObjectOutput, len: u64) -> Result<ObjectInfo> {
    if got.missing_meta().is_some_and(|n| n > 0) {
        return Err(unreadable(request));
    }
    Ok(ObjectInfo {
        len,
        etag: etag(got.e_tag().ok_or_else(|| request.lacks("ETag"))?),
        modified: got.last_modified().and_then(modified),
        properties: properties(got.metadata(), got.content_type(), got.storage_class()),
        encryption: encryption(got.server_side_encryption(), got.ssekms_key_id()),
    })
}

fn unreadable(request: &Request) -> Error {
    request.contradicted("the object has metadata that HTTP cannot carry")
}

fn properties(
    metadata: Option<&HashMap<String, String>>,
    content_type: Option<&str>,
    class: Option<&StorageClass>,
) -> Properties {
    let metadata = metadata.into_iter().flatten();
    Properties {
        metadata: metadata.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        // `binary/octet-stream` is what S3 says of objects that were stored without a type.
        content_type: content_type.filter(|t| ![NO_TYPE, "binary/octet-stream", ""].contains(t)).map(str::to_owned),
        // S3 leaves the standard class out; others say it.
        storage_class: class.map(StorageClass::as_str).filter(|class| *class != "STANDARD").map(str::to_owned),
        tags: BTreeMap::new(),
    }
}

fn encryption(algorithm: Option<&SdkEncryption>, key_id: Option<&str>) -> Option<ServerSideEncryption> {
    let (algorithm, key_id) = (algorithm?.as_str().to_owned(), key_id.map(str::to_owned));
    Some(ServerSideEncryption { algorithm, key_id, data_encryption: None })
}

pub(super) fn modified(date: &DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Properties {
        Properties { metadata: [(name.to_owned(), value.to_owned())].into(), ..Properties::default() }
    }

    #[test]
    fn what_headers_cannot_carry_is_refused() {
        for (name, value) in
            [("", "v"), ("a b", "v"), ("a:b", "v"), ("ü", "v"), ("n", "ü"), ("n", ""), ("n", " v"), ("n", "a\nb")]
        {
            let error = Headers::new(&one(name, value)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?} {value:?}");
        }
        let long = one("name", &"v".repeat(MAX_METADATA - 3));
        assert_eq!(Headers::new(&long).unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert!(Headers::new(&one("name", &"v".repeat(MAX_METADATA - 4))).is_ok());
        let twice = Properties {
            metadata: [("a".to_owned(), "v".to_owned()), ("A".to_owned(), "v".to_owned())].into(),
            ..Properties::default()
        };
        assert_eq!(Headers::new(&twice).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn names_are_lower_case_and_tags_are_encoded() {
        let tags = [("a b".to_owned(), "c&d=e".to_owned()), ("f".to_owned(), String::new())].into();
        let headers = Headers::new(&Properties { tags, ..one("Name", r#"[{"k":"v"}]"#) }).unwrap();
        assert_eq!(headers.metadata["name"], r#"[{"k":"v"}]"#);
        assert_eq!(headers.tagging.as_deref(), Some("a%20b=c%26d%3De&f="));
        assert_eq!(headers.content_type, NO_TYPE);
    }
}

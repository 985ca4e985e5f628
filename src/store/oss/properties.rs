//! An object's properties as OSS's headers have them, and back.

use std::collections::BTreeMap;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::sse::Sse;
use super::{encoding, xml};
use crate::error::{Error, ErrorKind, Result};
use crate::store::percent::percent_encode;
use crate::store::{ObjectInfo, Properties, ServerSideEncryption};

/// What goes before the names of user metadata.
pub(super) const META: &str = "x-oss-meta-";
/// What an object of no particular type has.
const NO_TYPE: &str = "application/octet-stream";
/// <https://www.alibabacloud.com/help/en/oss/user-guide/object-tagging-8>
const MAX_TAGS: usize = 10;

/// The headers that Put and Initiate give a new object.
pub(super) fn object_headers(properties: &Properties, sse: Option<&Sse>) -> Result<HeaderMap> {
    let Properties { metadata, content_type, storage_class, tags } = properties;
    let mut headers = metadata_headers(metadata)?;
    headers.insert(CONTENT_TYPE, ascii(content_type.as_deref().unwrap_or(NO_TYPE))?);
    if let Some(class) = storage_class {
        headers.insert("x-oss-storage-class", ascii(class)?);
    }
    if tags.len() > MAX_TAGS {
        let message = format!("{} tags; an object has at most {MAX_TAGS}", tags.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    if !tags.is_empty() {
        headers.insert("x-oss-tagging", tagging(tags.iter().map(|(name, value)| (name.as_str(), value.as_str())))?);
    }
    if let Some(sse) = sse {
        sse.add_to(&mut headers)?;
    }
    Ok(headers)
}

/// Tags as a header has them.
pub(super) fn tagging<'a>(tags: impl Iterator<Item = (&'a str, &'a str)>) -> Result<HeaderValue> {
    let tags = tags.map(|(name, value)| format!("{}={}", percent_encode(name, b""), percent_encode(value, b"")));
    ascii(&tags.collect::<Vec<_>>().join("&"))
}

/// User metadata as headers.
pub(super) fn metadata_headers(metadata: &BTreeMap<String, String>) -> Result<HeaderMap> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
    let mut headers = HeaderMap::new();
    let mut size = 0_usize;
    for (name, value) in metadata {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return invalid(format!("metadata in OSS has names of a-z, 0-9 and `-`, not {name:?}"));
        }
        if name.starts_with("client-side-encryption-") {
            return invalid(format!(
                "metadata {name:?} would say that OSS's SDKs encrypted the object: choose another name"
            ));
        }
        if value.trim() != value || !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return invalid(format!(
                "the value of the metadata {name:?} is not printable ASCII without spaces around it, as OSS wants it: encode it"
            ));
        }
        size = size.saturating_add(META.len() + name.len() + value.len());
        let header = HeaderName::try_from(format!("{META}{name}"));
        let header =
            header.map_err(|_| Error::new(ErrorKind::InvalidInput, format!("metadata {name:?} is too long a name")))?;
        headers.insert(header, ascii(value)?);
    }
    if size > super::LIMITS.max_metadata {
        let message = format!(
            "{size} bytes of metadata, names and prefixes included; the limit is {}",
            super::LIMITS.max_metadata
        );
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    Ok(headers)
}

/// What an answer's headers tell of an object of `len` bytes.
pub(super) fn info(headers: &HeaderMap, len: u64) -> Result<ObjectInfo> {
    let malformed = |what: &str| Error::new(ErrorKind::Malformed, format!("OSS's answer has {what}"));
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = xml::etag(text("etag").ok_or_else(|| malformed("no ETag"))?)?;
    let modified = text("last-modified").and_then(encoding::parse_http_date).map(Into::into);
    let other_than =
        |name, default: &str| text(name).filter(|text| !text.is_empty() && *text != default).map(str::to_owned);
    let (content_type, storage_class) =
        (other_than("content-type", NO_TYPE), other_than("x-oss-storage-class", "Standard"));
    let mut metadata = BTreeMap::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(META) {
            let value = value.to_str().map_err(|_| malformed("metadata that is not ASCII"))?;
            metadata.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(ObjectInfo {
        len,
        etag,
        modified,
        properties: Properties { metadata, content_type, storage_class, ..Properties::default() },
        encryption: ServerSideEncryption::of(headers),
    })
}

/// A header of printable ASCII without spaces around it: what comes back as it went.
pub(super) fn ascii(text: &str) -> Result<HeaderValue> {
    let fits = text.trim() == text && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    let value = HeaderValue::from_str(text).ok().filter(|_| fits);
    value.ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{text:?} is not what a header can carry")))
}

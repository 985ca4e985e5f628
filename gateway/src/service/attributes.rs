//! What an object has besides its bytes, and how the store behind keeps it: as user metadata in the clear.

use std::collections::BTreeMap;

use sealift::format::check_metadata;
use sealift::store::{MultipartStore, Properties};

use super::error::{Failure, FailureKind, Result};

/// The headers that a client gives an object and gets back with it.
const HEADERS: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
const CONTENT_TYPE: &str = "content-type";

/// What begins the names of metadata that are the gateway's.
const OWN: &str = "gateway-";
/// What begins the names of the client's metadata where they would be taken for the gateway's or for the envelope's.
const ESCAPED: &str = "gateway-meta-";
const SEALIFT: &str = "sealift-";

/// What a client gave an object besides its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    headers: BTreeMap<&'static str, String>,
    /// User metadata: names in lower case, without the dialect's prefix.
    pub user: BTreeMap<String, String>,
}

impl Attributes {
    /// The names, in lower case, of the headers that are kept.
    pub const HEADERS: [&'static str; 6] = HEADERS;

    /// Sets a header. One that is not kept is ignored.
    pub fn set_header(&mut self, name: &str, value: impl Into<String>) {
        if let Some(name) = HEADERS.iter().find(|known| **known == name) {
            self.headers.insert(name, value.into());
        }
    }

    /// The headers that were set, ascending by name.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Its media type.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE)
    }

    /// What a store keeps as `properties` beside an envelope and the gateway's own notes.
    pub(super) fn of(properties: &Properties) -> Self {
        let mut attributes = Self::default();
        if let Some(content_type) = &properties.content_type {
            attributes.set_header(CONTENT_TYPE, content_type);
        }
        for (name, value) in &properties.metadata {
            if let Some(name) = name.strip_prefix(ESCAPED) {
                attributes.user.insert(name.to_owned(), value.clone());
            } else if let Some(name) = name.strip_prefix(OWN) {
                attributes.set_header(name, value);
            } else if !name.starts_with(SEALIFT) {
                attributes.user.insert(name.clone(), value.clone());
            }
        }
        attributes
    }

    /// The metadata and the media type that keep this. The media type is in the metadata too, because only that can be replaced later.
    pub(super) fn to_properties(&self) -> Properties {
        let mut metadata = BTreeMap::new();
        for (name, value) in &self.headers {
            metadata.insert(format!("{OWN}{name}"), value.clone());
        }
        for (name, value) in &self.user {
            let reserved = name.starts_with(OWN) || name.starts_with(SEALIFT);
            let name = if reserved { format!("{ESCAPED}{name}") } else { name.clone() };
            metadata.insert(name, value.clone());
        }
        Properties { metadata, content_type: self.content_type().map(str::to_owned), ..Properties::default() }
    }
}

/// The gateway's own notes in an object's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// The plaintext's ETag.
    ETag,
    /// The plaintext's CRC-64.
    Crc64,
    /// The plaintext's length.
    Size,
    /// The checksum that its writer chose.
    Checksum,
    /// Where those four are, if they were not known yet.
    Facts,
    /// How the encryption was asked for.
    Sse,
}

impl Own {
    fn name(self) -> &'static str {
        match self {
            Self::ETag => "gateway-etag",
            Self::Crc64 => "gateway-crc64",
            Self::Size => "gateway-size",
            Self::Checksum => "gateway-checksum",
            Self::Facts => "gateway-facts",
            Self::Sse => "gateway-sse",
        }
    }

    pub(super) fn of(self, properties: &Properties) -> Option<&str> {
        properties.metadata.get(self.name()).map(String::as_str)
    }

    pub(super) fn set(self, properties: &mut Properties, value: impl Into<String>) {
        properties.metadata.insert(self.name().to_owned(), value.into());
    }
}

/// Refuses more metadata than the store takes.
pub(super) fn check_size(store: &dyn MultipartStore, properties: &Properties) -> Result<()> {
    check_metadata(&properties.metadata, store.metadata_prefix_len(), store.limits().max_metadata).map_err(|error| {
        let message = "Your metadata headers exceed the maximum allowed metadata size.";
        Failure::new(FailureKind::MetadataTooLarge, message).with_cause(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_gives_comes_back_whatever_it_is_called() {
        let mut attributes = Attributes::default();
        attributes.set_header("content-type", "text/plain");
        attributes.set_header("expires", "never");
        attributes.set_header("x-unknown", "ignored");
        for name in ["color", "gateway-etag", "gateway-meta-x", "sealift-format", "gateway-content-type"] {
            attributes.user.insert(name.into(), name.to_uppercase());
        }
        let properties = attributes.to_properties();
        assert!(properties.metadata.keys().all(|name| !name.starts_with(SEALIFT)));
        assert_eq!(Own::ETag.of(&properties), None);
        assert_eq!(Attributes::of(&properties), attributes);
        assert_eq!(attributes.headers().count(), 2);
    }
}

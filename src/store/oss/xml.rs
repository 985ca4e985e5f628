//! The answers of OSS in XML: pure functions from bytes, which may be anything.
//!
//! Nothing here recurses into what it does not know, and what is kept is no larger than what came in. An answer that begins with
//! `<Error>` is [`Parsed::Error`] whatever was expected, because OSS sends errors under the status 200 too, where it had to begin its
//! answer before it knew.

use std::time::SystemTime;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::encoding::{parse_xml_date, percent_decode};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{CompletedPart, ListedObject, StoredPart, Upload};
use crate::types::{ETag, ObjectKey, PartNumber, UploadId};

/// An answer that is what was expected, or the error that came in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<T> {
    Answer(T),
    Error(ErrorBody),
}

/// The body of an error answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ErrorBody {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) request_id: String,
    pub(super) host_id: String,
    #[serde(rename = "EC")]
    pub(super) ec: String,
    /// Where the bucket is, if not here.
    pub(super) endpoint: String,
}

/// One page of a listing, and where the next begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<T, Next> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<Next>,
}

/// A listed part, with its checksum where OSS tells it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListedPart {
    pub(super) part: StoredPart,
    pub(super) crc64: Option<u64>,
}

/// Who owns an object and what its ACL is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acl {
    pub(super) owner: String,
    pub(super) grant: String,
}

pub(super) fn parse_error(bytes: &[u8]) -> Option<ErrorBody> {
    if root(bytes)? != "Error" {
        return None;
    }
    quick_xml::de::from_reader(bytes).ok().filter(|error: &ErrorBody| !error.code.is_empty())
}

pub(super) fn parse_initiated(bytes: &[u8]) -> Result<Parsed<UploadId>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "UploadId")]
        upload_id: String,
    }
    parse(bytes, "InitiateMultipartUploadResult", |answer: Answer| {
        if answer.upload_id.is_empty() {
            return Err(malformed("an upload without an id"));
        }
        Ok(UploadId(answer.upload_id))
    })
}

pub(super) fn parse_completed(bytes: &[u8]) -> Result<Parsed<ETag>> {
    parse_tagged(bytes, "CompleteMultipartUploadResult")
}

pub(super) fn parse_copied(bytes: &[u8]) -> Result<Parsed<ETag>> {
    parse_tagged(bytes, "CopyObjectResult")
}

pub(super) fn parse_part_copied(bytes: &[u8]) -> Result<Parsed<ETag>> {
    parse_tagged(bytes, "CopyPartResult")
}

fn parse_tagged(bytes: &[u8], name: &str) -> Result<Parsed<ETag>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "ETag")]
        etag: String,
    }
    parse(bytes, name, |answer: Answer| etag(&answer.etag))
}

pub(super) fn parse_parts(bytes: &[u8]) -> Result<Parsed<Page<ListedPart, u32>>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Part {
        part_number: u32,
        #[serde(rename = "ETag")]
        etag: String,
        size: u64,
        hash_crc64ecma: Option<u64>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        is_truncated: bool,
        next_part_number_marker: Option<String>,
        #[serde(rename = "Part", default)]
        parts: Vec<Part>,
    }
    parse(bytes, "ListPartsResult", |answer: Answer| {
        let part = |part: Part| {
            let number = PartNumber::try_from(part.part_number).map_err(|_| malformed("a part number"))?;
            let stored = StoredPart { number, etag: etag(&part.etag)?, len: part.size };
            Ok(ListedPart { part: stored, crc64: part.hash_crc64ecma })
        };
        let next = next(answer.is_truncated, answer.next_part_number_marker)?
            .map(|marker| marker.parse().map_err(|_| malformed("a part number marker")))
            .transpose()?;
        Ok(Page { items: answer.parts.into_iter().map(part).collect::<Result<_>>()?, next })
    })
}

/// The next page begins after this key and upload id.
pub(super) type UploadMarker = (String, String);

pub(super) fn parse_uploads(bytes: &[u8]) -> Result<Parsed<Page<Upload, UploadMarker>>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        key: String,
        upload_id: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        encoding_type: String,
        #[serde(default)]
        is_truncated: bool,
        next_key_marker: Option<String>,
        #[serde(default)]
        next_upload_id_marker: String,
        #[serde(rename = "Upload", default)]
        uploads: Vec<Listed>,
    }
    parse(bytes, "ListMultipartUploadsResult", |answer: Answer| {
        let decode = |text: String| decoded(&answer.encoding_type, text);
        let next = next(answer.is_truncated, answer.next_key_marker)?.map(decode).transpose()?;
        let upload = |listed: Listed| Ok(Upload { key: key(decode(listed.key)?)?, id: UploadId(listed.upload_id) });
        Ok(Page {
            next: next.map(|key| (key, answer.next_upload_id_marker.clone())),
            items: answer.uploads.into_iter().map(upload).collect::<Result<_>>()?,
        })
    })
}

pub(super) fn parse_objects(bytes: &[u8]) -> Result<Parsed<Page<ListedObject, String>>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        key: String,
        size: u64,
        #[serde(default)]
        last_modified: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        encoding_type: String,
        #[serde(default)]
        is_truncated: bool,
        next_continuation_token: Option<String>,
        #[serde(rename = "Contents", default)]
        contents: Vec<Listed>,
    }
    parse(bytes, "ListBucketResult", |answer: Answer| {
        let object = |listed: Listed| {
            let modified: Option<SystemTime> = parse_xml_date(&listed.last_modified);
            Ok(ListedObject { key: key(decoded(&answer.encoding_type, listed.key)?)?, len: listed.size, modified })
        };
        // OSS encodes the token as it does keys.
        let decode = |token| decoded(&answer.encoding_type, token);
        Ok(Page {
            next: next(answer.is_truncated, answer.next_continuation_token)?.map(decode).transpose()?,
            items: answer.contents.into_iter().map(object).collect::<Result<_>>()?,
        })
    })
}

pub(super) fn parse_acl(bytes: &[u8]) -> Result<Parsed<Acl>> {
    #[derive(Deserialize)]
    struct Owner {
        #[serde(rename = "ID")]
        id: String,
    }
    #[derive(Deserialize)]
    struct Grants {
        #[serde(rename = "Grant")]
        grant: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        owner: Owner,
        access_control_list: Grants,
    }
    parse(bytes, "AccessControlPolicy", |answer: Answer| {
        Ok(Acl { owner: answer.owner.id, grant: answer.access_control_list.grant })
    })
}

/// Names and values of an object's tags.
pub(super) fn parse_tags(bytes: &[u8]) -> Result<Parsed<Vec<(String, String)>>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Tag {
        key: String,
        #[serde(default)]
        value: String,
    }
    #[derive(Deserialize, Default)]
    struct Tags {
        #[serde(rename = "Tag", default)]
        tags: Vec<Tag>,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "TagSet", default)]
        set: Tags,
    }
    parse(bytes, "Tagging", |answer: Answer| Ok(answer.set.tags.into_iter().map(|tag| (tag.key, tag.value)).collect()))
}

/// The list that Complete sends.
pub(super) fn completion(parts: &[CompletedPart]) -> String {
    let mut xml = String::with_capacity(100 + 100 * parts.len());
    xml.push_str("<CompleteMultipartUpload>");
    for part in parts {
        let etag = quick_xml::escape::escape(&part.etag.0);
        xml.push_str(&format!("<Part><PartNumber>{}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>", part.number));
    }
    xml.push_str("</CompleteMultipartUpload>");
    xml
}

/// An ETag without the quotes it is written in. OSS compares it either way.
pub(super) fn etag(text: &str) -> Result<ETag> {
    let tag = text.trim();
    let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
    if tag.is_empty() || !tag.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(malformed("an ETag"));
    }
    Ok(ETag(tag.to_owned()))
}

fn parse<A: DeserializeOwned, T>(bytes: &[u8], name: &str, read: impl FnOnce(A) -> Result<T>) -> Result<Parsed<T>> {
    match root(bytes).as_deref() {
        Some("Error") => {
            return parse_error(bytes).map(Parsed::Error).ok_or_else(|| malformed("an error without a code"));
        }
        Some(root) if root == name => {}
        _ => return Err(malformed(name)),
    }
    let answer = quick_xml::de::from_reader(bytes).map_err(|e| malformed(name).with_source(e))?;
    read(answer).map(Parsed::Answer)
}

/// The name of the outermost element.
fn root(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::from_reader(bytes);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).ok()? {
            Event::Start(start) | Event::Empty(start) => {
                return Some(start.local_name().as_ref().to_owned());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

fn next(is_truncated: bool, marker: Option<String>) -> Result<Option<String>> {
    match (is_truncated, marker.filter(|marker| !marker.is_empty())) {
        (false, _) => Ok(None),
        (true, Some(marker)) => Ok(Some(marker)),
        // To ask again from the start would never end.
        (true, None) => Err(malformed("a listing that goes on, without saying where")),
    }
}

fn decoded(encoding: &str, text: String) -> Result<String> {
    if encoding != "url" {
        return Ok(text);
    }
    percent_decode(&text).ok_or_else(|| malformed("a percent-encoded key"))
}

fn key(text: String) -> Result<ObjectKey> {
    text.try_into().map_err(|_| malformed("an object's key"))
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("OSS's answer is not as documented: {what}"))
}

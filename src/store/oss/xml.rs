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

use super::encoding::parse_xml_date;
use crate::error::{Error, ErrorKind, Result};
use crate::store::percent::percent_decode_text;
use crate::store::{CompletedPart, ListedObject, ListedUpload, StoredPart, Upload};
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

pub(super) fn parse_uploads(bytes: &[u8]) -> Result<Parsed<Page<ListedUpload, UploadMarker>>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        key: String,
        upload_id: String,
        #[serde(default)]
        initiated: String,
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
        let upload = |listed: Listed| {
            let upload = Upload { key: key(decode(listed.key)?)?, id: UploadId(listed.upload_id) };
            Ok(ListedUpload { upload, begun: parse_xml_date(&listed.initiated) })
        };
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
    percent_decode_text(&text).ok_or_else(|| malformed("a percent-encoded key"))
}

fn key(text: String) -> Result<ObjectKey> {
    text.try_into().map_err(|_| malformed("an object's key"))
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("OSS's answer is not as documented: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer<T: std::fmt::Debug>(parsed: Result<Parsed<T>>) -> T {
        match parsed.unwrap() {
            Parsed::Answer(answer) => answer,
            Parsed::Error(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn answers_are_read() {
        let xml = br#"<?xml version="1.0" encoding="UTF-8"?>
            <InitiateMultipartUploadResult xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">
              <Bucket>b</Bucket><Key>a&amp;b</Key><UploadId>0004B9894A22E5B1888A1E29F823****</UploadId>
            </InitiateMultipartUploadResult>"#;
        assert_eq!(answer(parse_initiated(xml)).0, "0004B9894A22E5B1888A1E29F823****");
        let xml = b"<CompleteMultipartUploadResult><ETag>&quot;AB-2&quot;</ETag></CompleteMultipartUploadResult>";
        assert_eq!(answer(parse_completed(xml)).0, "AB-2");
        let xml = b"<CopyObjectResult><ETag>\"AB\"</ETag><LastModified>x</LastModified></CopyObjectResult>";
        assert_eq!(answer(parse_copied(xml)).0, "AB");
        assert_eq!(answer(parse_part_copied(b"<CopyPartResult><ETag>AB</ETag></CopyPartResult>")).0, "AB");
        let xml = b"<ListPartsResult><NextPartNumberMarker>5</NextPartNumberMarker><IsTruncated>true</IsTruncated>\
            <Part><PartNumber>1</PartNumber><ETag>\"A\"</ETag><HashCrc64ecma>18446744073709551615</HashCrc64ecma><Size>9</Size></Part>\
            <Part><PartNumber>5</PartNumber><ETag>\"B\"</ETag><Size>1</Size></Part></ListPartsResult>";
        let page = answer(parse_parts(xml));
        assert_eq!(page.next, Some(5));
        let rows: Vec<_> =
            page.items.iter().map(|p| (p.part.number.get(), p.part.etag.0.as_str(), p.part.len, p.crc64)).collect();
        assert_eq!(rows, [(1, "A", 9, Some(u64::MAX)), (5, "B", 1, None)]);
        let xml = b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>l</Key><Value/></Tag></TagSet></Tagging>";
        assert_eq!(answer(parse_tags(xml)), [("k".into(), "v".into()), ("l".into(), String::new())]);
        assert_eq!(answer(parse_tags(b"<Tagging><TagSet></TagSet></Tagging>")), []);
    }

    #[test]
    fn listings_are_decoded_as_they_say_they_are_encoded() {
        let list = |encoding: &str, key: &str| {
            let xml = format!(
                "<ListBucketResult><Name>b</Name>{encoding}<IsTruncated>false</IsTruncated><Contents><Key>{key}</Key>\
                 <LastModified>2012-02-24T08:43:27.000Z</LastModified><Size>3</Size></Contents></ListBucketResult>"
            );
            parse_objects(xml.as_bytes()).map(|parsed| answer(Ok(parsed)).items[0].key.as_str().to_owned())
        };
        assert_eq!(list("<EncodingType>url</EncodingType>", "a%20b%2F%C3%BC%2B").unwrap(), "a b/ü+");
        assert_eq!(list("", "a%20b+&amp;").unwrap(), "a%20b+&");
        for bad in ["%", "%zz", "%ff", ""] {
            assert!(list("<EncodingType>url</EncodingType>", bad).is_err(), "{bad}");
        }
        let xml = b"<ListMultipartUploadsResult><EncodingType>url</EncodingType><NextKeyMarker>a%20b</NextKeyMarker>\
            <NextUploadIdMarker>9</NextUploadIdMarker><IsTruncated>true</IsTruncated>\
            <Upload><Key>a%20b</Key><UploadId>9</UploadId></Upload></ListMultipartUploadsResult>";
        let page = answer(parse_uploads(xml));
        assert_eq!((page.next, page.items[0].upload.key.as_str()), (Some(("a b".into(), "9".into())), "a b"));
    }

    #[test]
    fn errors_are_errors_in_place_of_any_answer() {
        let xml = b"\n<?xml version=\"1.0\"?><!-- c --><Error><Code>InternalError</Code><Message/><Unknown><a/></Unknown><EC>1</EC></Error>";
        let error = parse_error(xml).unwrap();
        assert_eq!((error.code.as_str(), error.ec.as_str()), ("InternalError", "1"));
        assert_eq!(parse_completed(xml).unwrap(), Parsed::Error(error));
        for bad in [&b""[..], b"<Error>", b"<Error/>", b"<Error><Code/></Error>", b"<Other><Code>a</Code></Other>"] {
            assert_eq!(parse_error(bad), None);
            assert!(parse_completed(bad).is_err());
        }
        // Entities are not expanded.
        let bomb = b"<!DOCTYPE e [<!ENTITY a \"aaaaaaaaaa\">]><Error><Code>&a;&a;</Code></Error>";
        assert_eq!(parse_error(bomb), None);
        let deep = [b"<Error>".as_slice(), &b"<a>".repeat(200_000)].concat();
        assert_eq!(parse_error(&deep), None);
    }

    #[test]
    fn the_list_that_completes_is_escaped() {
        let part = CompletedPart { number: PartNumber::MIN, etag: ETag("<&>".into()) };
        let xml = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;&lt;&amp;&gt;&quot;</ETag></Part></CompleteMultipartUpload>";
        assert_eq!(completion(&[part]), xml);
    }

    fn parse_all(bytes: &[u8]) {
        let _ = parse_error(bytes);
        let _ = parse_initiated(bytes);
        let _ = parse_completed(bytes);
        let _ = parse_copied(bytes);
        let _ = parse_part_copied(bytes);
        let _ = parse_parts(bytes);
        let _ = parse_uploads(bytes);
        let _ = parse_objects(bytes);
        let _ = parse_acl(bytes);
        let _ = parse_tags(bytes);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse_all(&bytes);
        }

        #[test]
        fn nothing_like_an_answer_panics(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "<ListPartsResult>", "</ListPartsResult>", "<Part>", "</Part>", "<PartNumber>", "</PartNumber>", "<ETag>", "</ETag>",
                    "<Size>", "</Size>", "<ListBucketResult>", "</ListBucketResult>", "<Contents>", "</Contents>", "<Key>", "</Key>",
                    "<IsTruncated>true</IsTruncated>", "<EncodingType>url</EncodingType>", "%C3", "&amp;", "&#0;", "<![CDATA[", "]]>", "99999999999999999999",
                    "1", "-1", "<Error>", "</Error>", "<Code>", "</Code>", "<?xml", "?>", "\"",
                ]),
                0..40,
            ),
        ) {
            parse_all(pieces.concat().as_bytes());
        }
    }
}

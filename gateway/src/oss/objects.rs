//! Calls about objects.

use std::ops::Range;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::answer::{Refused, empty, etag, http_date, set, set_crc64, set_encryption, set_even_empty, xml, xml_date};
use super::buckets::kind;
use super::request::{copy_source, invalid, range};
use super::{Context, Done};
use crate::access::Right;
use crate::server::{Body, BoxError, Response};
use crate::service::{
    Attributes, BucketName, Conditions, CopyRequest, Failure, FailureKind, ObjectInfo, ObjectName, PutRequest,
};

const META: &str = "x-oss-meta-";

impl Context<'_> {
    pub(super) async fn put_object(&self, body: Body) -> Done {
        self.refuse_what_is_not_kept()?;
        let request = PutRequest {
            attributes: self.attributes()?,
            sse: self.sse()?,
            if_not_exists: self.request.flag("x-oss-forbid-overwrite")?,
        };
        let written = self.service().put_object(&self.object()?, self.body(body)?, request).await?;
        let mut response = empty(StatusCode::OK);
        set(&mut response, "etag", &etag(&written.etag));
        if let Some(md5) = md5_of(&written.etag) {
            set(&mut response, "content-md5", &md5);
        }
        set_crc64(&mut response, written.crc64);
        set_encryption(&mut response, written.encrypted.as_ref());
        Ok(response)
    }

    pub(super) async fn copy_object(&self) -> Done {
        self.refuse_what_is_not_kept()?;
        let (source, to) = (self.copy_source()?, self.object()?);
        let directive = match self.request.header("x-oss-metadata-directive")? {
            None => false,
            Some(text) if text.eq_ignore_ascii_case("COPY") => false,
            Some(text) if text.eq_ignore_ascii_case("REPLACE") => true,
            Some(_) => return Err(invalid("The metadata directive is COPY or REPLACE.").into()),
        };
        // Onto itself, what the request says always replaces what the object has.
        let replaces = directive || source == to;
        let request = CopyRequest {
            source_key: self.customer_key("x-oss-copy-source-server-side-encryption-customer")?,
            conditions: self.conditions("x-oss-copy-source-")?,
            attributes: if replaces { Some(self.attributes()?) } else { None },
            checksum: None,
            sse: self.sse()?,
            if_not_exists: self.request.flag("x-oss-forbid-overwrite")?,
            source,
        };
        let (written, _) = self.service().copy_object(&to, request).await?;
        let mut response = xml(
            StatusCode::OK,
            &format!(
                "<CopyObjectResult><LastModified>{}</LastModified><ETag>{}</ETag></CopyObjectResult>",
                xml_date(SystemTime::now()),
                etag(&written.etag)
            ),
        );
        set(&mut response, "etag", &etag(&written.etag));
        set_crc64(&mut response, written.crc64);
        set_encryption(&mut response, written.encrypted.as_ref());
        Ok(response)
    }

    pub(super) async fn get_object(&self) -> Done {
        let object = self.service().open_object(&self.object()?, self.read_key()?.as_ref()).await?;
        let info = object.info();
        if let Some(not_modified) = self.unmet(info)? {
            return Ok(not_modified);
        }
        let whole = 0..info.len;
        let part = self.range(info.len)?;
        let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let wanted = part.clone().unwrap_or(whole);
        let bytes = object.read(wanted.clone()).map(|piece| match piece {
            Ok(bytes) => Ok(Frame::data(bytes)),
            Err(failure) => {
                // The head of the answer is gone: all that is left is to break off.
                tracing::error!(?failure, "an answer broke off");
                Err(BoxError::from(failure))
            }
        });
        let mut response = Response::new(StreamBody::new(bytes).boxed_unsync());
        *response.status_mut() = status;
        self.describe(&mut response, info)?;
        if let Some(Range { start, end }) = part {
            let last = end.saturating_sub(1);
            set(&mut response, "content-range", &format!("bytes {start}-{last}/{}", info.len));
            response.headers_mut().remove("content-md5");
        }
        let len = wanted.end.saturating_sub(wanted.start);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        Ok(response)
    }

    pub(super) async fn head_object(&self) -> Done {
        let info = self.service().head_object(&self.object()?, self.read_key()?.as_ref()).await?;
        if let Some(not_modified) = self.unmet(&info)? {
            return Ok(not_modified);
        }
        let mut response = empty(StatusCode::OK);
        self.describe(&mut response, &info)?;
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(info.len));
        Ok(response)
    }

    /// The answer to a client that has the object already, which says what state of it (RFC 9110, section 15.4.5).
    fn unmet(&self, info: &ObjectInfo) -> Result<Option<Response>, Refused> {
        match self.conditions("")?.check(info) {
            Err(failure) if failure.kind() == FailureKind::NotModified => {
                let mut response = empty(StatusCode::NOT_MODIFIED);
                set(&mut response, "etag", &etag(&info.etag));
                set(&mut response, "last-modified", &http_date(info.modified));
                Ok(Some(response))
            }
            checked => Ok(checked.map(|()| None)?),
        }
    }

    pub(super) async fn object_meta(&self) -> Done {
        let info = self.service().head_object(&self.object()?, self.read_key()?.as_ref()).await?;
        let mut response = empty(StatusCode::OK);
        set(&mut response, "etag", &etag(&info.etag));
        set(&mut response, "last-modified", &http_date(info.modified));
        set_crc64(&mut response, info.crc64);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(info.len));
        Ok(response)
    }

    pub(super) async fn delete_object(&self) -> Done {
        self.service().delete_object(&self.object()?).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// The headers that tell what an object is.
    fn describe(&self, response: &mut Response, info: &ObjectInfo) -> Result<(), Refused> {
        set(response, "content-type", info.attributes.content_type().unwrap_or("application/octet-stream"));
        for (name, value) in info.attributes.headers() {
            set(response, name, value);
        }
        for name in Attributes::HEADERS {
            if let Some(value) = self.request.param(&format!("response-{name}")) {
                set(response, name, value);
            }
        }
        for (name, value) in &info.attributes.user {
            set_even_empty(response, &format!("{META}{name}"), value);
        }
        set(response, "accept-ranges", "bytes");
        set(response, "etag", &etag(&info.etag));
        if let Some(md5) = md5_of(&info.etag) {
            set(response, "content-md5", &md5);
        }
        set(response, "last-modified", &http_date(info.modified));
        set(response, "x-oss-object-type", kind(&info.etag));
        set(response, "x-oss-storage-class", "Standard");
        set_crc64(response, info.crc64);
        set_encryption(response, info.encrypted.as_ref());
        if let Some(md5) = self.request.header("x-oss-server-side-encryption-customer-key-md5")? {
            set(response, "x-oss-server-side-encryption-customer-key-md5", md5);
        }
        Ok(())
    }

    /// What the request gives an object besides its bytes.
    pub(super) fn attributes(&self) -> Result<Attributes, Refused> {
        let mut attributes = Attributes::default();
        for name in Attributes::HEADERS {
            if let Some(value) = self.request.header(name)?.filter(|value| !value.is_empty()) {
                attributes.set_header(name, value);
            }
        }
        let names =
            self.request.headers.keys().filter_map(|name| Some((name.as_str(), name.as_str().strip_prefix(META)?)));
        for (header, name) in names {
            if let Some(value) = self.request.header(header)? {
                attributes.user.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(attributes)
    }

    /// Refuses what would be lost without a word.
    pub(super) fn refuse_what_is_not_kept(&self) -> Result<(), Refused> {
        let of = |name| self.request.header(name).map(|value| value.filter(|value| !value.is_empty()));
        let kept = matches!(of("x-oss-object-acl")?, None | Some("default" | "private"))
            && matches!(of("x-oss-storage-class")?, None | Some("Standard"))
            && of("x-oss-tagging")?.is_none()
            && of("x-oss-callback")?.is_none()
            && of("x-oss-website-redirect-location")?.is_none();
        if kept {
            return Ok(());
        }
        let message = "ACLs, storage classes, tags, redirections and callbacks are not available here.";
        Err(Refused::new(501, "NotImplemented", message))
    }

    /// The object that the request copies from, if the caller may read it.
    pub(super) fn copy_source(&self) -> Result<ObjectName, Refused> {
        let text = self.request.header("x-oss-copy-source")?.unwrap_or_default();
        let (bucket, key) = copy_source(text)?;
        self.allow_in(&bucket, Right::Read)?;
        Ok(BucketName::new(&bucket)?.object(&key)?)
    }

    /// The conditions in the headers with this prefix.
    pub(super) fn conditions(&self, prefix: &str) -> Result<Conditions, Refused> {
        let name = |name: &str| format!("{prefix}{name}");
        let text = |header: &str| Ok::<_, Refused>(self.request.header(&name(header))?.map(str::to_owned));
        Ok(Conditions {
            if_match: text("if-match")?,
            if_none_match: text("if-none-match")?,
            if_modified_since: self.request.date(&name("if-modified-since"))?,
            if_unmodified_since: self.request.date(&name("if-unmodified-since"))?,
        })
    }

    /// The range that the request asks for. `None` is the whole object: so OSS answers to what is no range of it, unless it is asked to
    /// behave as HTTP has it.
    fn range(&self, len: u64) -> Result<Option<Range<u64>>, Refused> {
        let Some(asked) = self.request.header("range")?.and_then(range) else { return Ok(None) };
        let standard =
            self.request.header("x-oss-range-behavior")?.is_some_and(|how| how.eq_ignore_ascii_case("standard"));
        let within = match asked {
            sealift::ByteRange::Inclusive { last, .. } => last < len,
            sealift::ByteRange::From(first) => first < len,
            sealift::ByteRange::Suffix(n) => n <= len,
        };
        match asked.resolve(len) {
            Ok(range) if standard || within => Ok(Some(range)),
            Err(_) if standard => {
                Err(Failure::new(FailureKind::InvalidRange, "The requested range cannot be satisfied.").into())
            }
            _ => Ok(None),
        }
    }
}

/// A single put's MD5 in base64, which its ETag has in hexadecimal.
fn md5_of(etag: &str) -> Option<String> {
    let md5: [u8; 16] = base16ct::mixed::decode_vec(etag).ok()?.try_into().ok()?;
    Some(STANDARD.encode(md5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_md5_in_base64_is_only_of_what_was_put_at_once() {
        let md5 = "0cc175b9c0f1b6a831c399e269772661";
        for etag in [md5, md5.to_uppercase().as_str()] {
            assert_eq!(md5_of(etag).as_deref(), Some("DMF1ucDxtqgxw5niaXcmYQ=="));
        }
        for none in ["", &md5[2..], &md5[1..], &format!("{md5}-1"), &format!("{md5}00"), &format!("+f{}", &md5[2..])] {
            assert_eq!(md5_of(none), None, "{none}");
        }
    }
}

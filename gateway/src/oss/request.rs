//! A request as OSS reads it: bucket, key, parameters and headers, from bytes that may be anything.

use std::borrow::Cow;
use std::time::SystemTime;

use http::{HeaderMap, Method, request::Parts};
use sealift::ByteRange;
use sealift::store::percent_decode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::service::{Failure, FailureKind, Result};

/// A request without its body.
#[derive(Debug)]
pub(crate) struct OssRequest {
    pub(super) method: Method,
    /// Empty for requests about all buckets.
    pub(super) bucket: String,
    /// Empty for requests about the bucket.
    pub(super) key: String,
    /// Names and values, decoded, as they came.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
}

impl OssRequest {
    /// Reads the head of a request. `domains` are those below which a bucket may be part of the host's name.
    pub(crate) fn parse(parts: &Parts, domains: &[String]) -> Result<Self> {
        let path = decode(parts.uri.path())
            .ok_or_else(|| Failure::new(FailureKind::InvalidObjectName, "The path is not percent-encoded UTF-8."))?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or(parts.uri.host()).unwrap_or_default();
        let (bucket, key) = match bucket_of_host(host, domains) {
            Some(bucket) => (bucket, path),
            None => path.split_once('/').unwrap_or((path, "")),
        };
        let query = parse_query(parts.uri.query().unwrap_or_default())
            .ok_or_else(|| invalid("The query is not percent-encoded UTF-8."))?;
        Ok(Self {
            method: parts.method.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            query,
            headers: parts.headers.clone(),
        })
    }

    /// The value of a parameter; empty if it has none.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// A parameter that is a number, in a range of them.
    pub(super) fn number(&self, name: &str, default: usize, most: usize) -> Result<usize> {
        match self.param(name) {
            None | Some("") => Ok(default),
            Some(text) => text
                .parse::<usize>()
                .ok()
                .filter(|number| *number > 0)
                .map(|number| number.min(most))
                .ok_or_else(|| invalid(format!("Argument {name} must be an integer between 1 and {most}."))),
        }
    }

    /// The value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.headers.get(name) else { return Ok(None) };
        std::str::from_utf8(value.as_bytes())
            .map(|text| Some(text.trim()))
            .map_err(|_| invalid(format!("The header {name} is not UTF-8.")))
    }

    /// A header that is `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        match self.header(name)? {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(invalid(format!("The header {name} is true or false."))),
        }
    }

    /// A header that is a date. One that is none is ignored, as HTTP has it.
    pub(super) fn date(&self, name: &str) -> Result<Option<SystemTime>> {
        Ok(self.header(name)?.and_then(http_date))
    }

    pub(super) fn content_length(&self) -> Result<Option<u64>> {
        let Some(text) = self.header("content-length")? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid("The header Content-Length is not a number."))
    }
}

/// The bytes that a `Range` header asks for. `None`: it has to be ignored, because it is not one range of bytes.
pub(super) fn range(text: &str) -> Option<ByteRange> {
    text.trim().strip_prefix("bytes=")?.trim().parse().ok()
}

/// The object that `x-oss-copy-source` names, and its version if it names one.
pub(super) fn copy_source(text: &str) -> Result<(String, String)> {
    let malformed = || invalid("The header x-oss-copy-source is /BUCKET/KEY, percent-encoded.");
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if !query.is_empty() {
        return Err(Failure::new(FailureKind::NotImplemented, "Objects have no versions here."));
    }
    let path = decode(path).ok_or_else(malformed)?;
    let (bucket, key) = path.strip_prefix('/').unwrap_or(&path).split_once('/').ok_or_else(malformed)?;
    Ok((bucket.to_owned(), key.to_owned()))
}

fn bucket_of_host<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    let host = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |h| h.0);
    domains
        .iter()
        .find_map(|domain| host.strip_suffix(domain.as_str())?.strip_suffix('.'))
        .filter(|name| !name.is_empty())
}

/// Names and values of a query, in which a `+` is a plus.
fn parse_query(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// The text that was percent-encoded, if it is UTF-8 and every `%` stands before two hexadecimal digits.
pub(super) fn decode(text: &str) -> Option<String> {
    String::from_utf8(percent_decode(text)?).ok()
}

/// `text` with all but RFC 3986's unreserved characters as `%XX`; with `keep_slash`, `/` stays too.
pub(super) fn encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' if keep_slash => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The moment that a header names in HTTP's own form (RFC 9110, section 5.6.7).
pub(super) fn http_date(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text.trim(), &Rfc2822).ok().map(SystemTime::from)
}

pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(FailureKind::InvalidArgument, message)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<OssRequest> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        OssRequest::parse(&parts, &["oss.example.com".to_owned()])
    }

    #[test]
    fn buckets_are_in_the_path_or_in_the_host() {
        let name = |uri: &str, host: &str| {
            let request = request("GET", uri, &[("host", host)]).unwrap();
            (request.bucket, request.key)
        };
        let is = |bucket: &str, key: &str| (bucket.to_owned(), key.to_owned());
        assert_eq!(name("/b/a%20b/%C3%BC+", "127.0.0.1:1"), is("b", "a b/ü+"));
        assert_eq!(name("/", "127.0.0.1"), is("", ""));
        assert_eq!(name("/b", "oss.example.com"), is("b", ""));
        assert_eq!(name("/a/b", "b.oss.example.com:8333"), is("b", "a/b"));
        assert_eq!(name("/b//a", "x"), is("b", "/a"));
        assert!(request("GET", "/b/%ff", &[]).is_err());
        for bad in ["%zz", "%", "%2", "a%é1", "%+1", "%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode("%41%2fb+%C3%BC%25").as_deref(), Some("A/b+ü%"));
        assert!(request("GET", "/b/a?x=%zz", &[]).is_err());
    }

    #[test]
    fn ranges_sources_and_dates_are_read() {
        assert_eq!(range("bytes=0-4"), Some(ByteRange::Inclusive { first: 0, last: 4 }));
        assert_eq!(range("bytes=-4"), Some(ByteRange::Suffix(4)));
        for bad in ["", "bytes", "bytes=", "bytes=1-2,4-5", "items=0-1", "bytes=4-1"] {
            assert_eq!(range(bad), None, "{bad}");
        }
        assert_eq!(copy_source("/b/a%2Fb").unwrap(), ("b".to_owned(), "a/b".to_owned()));
        assert_eq!(copy_source("b/a").unwrap(), ("b".to_owned(), "a".to_owned()));
        assert!(copy_source("/b").is_err() && copy_source("/b/a?versionId=1").is_err());
        assert!(http_date("Thu, 17 Nov 2005 18:49:58 GMT").is_some() && http_date("yesterday").is_none());
    }
}

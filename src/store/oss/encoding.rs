//! Percent-encoding and dates as OSS writes them.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// `text` with all but RFC 3986's unreserved characters as `%XX`; with `keep_slash`, `/` stays too.
pub(super) fn percent_encode(text: &str, keep_slash: bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' if keep_slash => out.push('/'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// The text that was percent-encoded, if it is UTF-8 and every `%` stands before two hexadecimal digits.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// The path of an object in a URL.
///
/// A `/` stays as it is, unless a segment is `.` or `..`, which URLs resolve: then the slashes are encoded too, and no
/// segment is left. OSS takes both.
pub(super) fn key_path(key: &str) -> Option<String> {
    if key == "." || key == ".." {
        return None;
    }
    let has_dots = key.split('/').any(|segment| segment == "." || segment == "..");
    Some(percent_encode(key, !has_dots))
}

/// The moment a `Date` or `Last-Modified` header names.
pub(super) fn parse_http_date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text.trim(), &Rfc2822).ok()
}

/// The moment that `LastModified` in an XML answer names.
pub(super) fn parse_xml_date(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text.trim(), &Rfc3339).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_and_decoded() {
        assert_eq!(percent_encode("a b/ü+~%", true), "a%20b/%C3%BC%2B~%25");
        assert_eq!(percent_encode("a/b", false), "a%2Fb");
        assert_eq!(percent_decode("a%20b%2f%C3%BC+").as_deref(), Some("a b/ü+"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_url_resolves_a_key() {
        assert_eq!(key_path("a/b").as_deref(), Some("a/b"));
        assert_eq!(key_path("a/../b").as_deref(), Some("a%2F..%2Fb"));
        assert_eq!(key_path("./a").as_deref(), Some(".%2Fa"));
        assert_eq!(key_path(".."), None);
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(parse_http_date("Thu, 17 Nov 2005 18:49:58 GMT").unwrap().unix_timestamp(), 1_132_253_398);
        assert!(parse_http_date("yesterday").is_none());
        assert!(parse_xml_date("2012-02-24T08:43:27.000Z").is_some());
        assert!(parse_xml_date("").is_none());
    }
}

//! Paths of keys and dates as OSS writes them.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use crate::store::percent::percent_encode;

/// The path of an object in a URL.
///
/// A `/` stays as it is, unless a segment is `.` or `..`, which URLs resolve: then the slashes are encoded too, and no
/// segment is left. OSS takes both.
pub(super) fn key_path(key: &str) -> Option<String> {
    if key == "." || key == ".." {
        return None;
    }
    let has_dots = key.split('/').any(|segment| segment == "." || segment == "..");
    Some(percent_encode(key, if has_dots { b"" } else { b"/" }))
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

//! Percent-encoding ([RFC 3986, section 2.1](https://www.rfc-editor.org/rfc/rfc3986#section-2.1)), and the URLs that stores write
//! into ledgers with it.

use zeroize::Zeroizing;

#[cfg(any(feature = "s3", feature = "oss"))]
use crate::error::{Error, ErrorKind, Result};

/// `bytes` with all but RFC 3986's unreserved characters, and those in `keep`, as `%XX`.
pub(crate) fn percent_encode(bytes: impl AsRef<[u8]>, keep: &[u8]) -> String {
    use std::fmt::Write as _;

    let bytes = bytes.as_ref();
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The bytes that were percent-encoded, if every `%` stands before two hexadecimal digits. For the program and the gateway too, and
/// nobody else.
pub fn percent_decode(text: &str) -> Option<Vec<u8>> {
    // A URI may hold a PIN: what is not given out is wiped, and nothing is moved, because it never gets longer than this.
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut pieces = text.as_bytes().split(|byte| *byte == b'%');
    decoded.extend_from_slice(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        let mut byte = [0];
        base16ct::mixed::decode(digits, &mut byte).ok()?;
        decoded.extend_from_slice(&byte);
        decoded.extend_from_slice(rest);
    }
    Some(std::mem::take(&mut *decoded))
}

/// The same, if it is text: UTF-8.
#[cfg(any(feature = "s3", feature = "oss"))]
pub(crate) fn percent_decode_text(text: &str) -> Option<String> {
    String::from_utf8(percent_decode(text)?).ok()
}

/// Bucket and parameters of `SCHEME://BUCKET?NAME=VALUE&…`.
#[cfg(any(feature = "s3", feature = "oss"))]
pub(crate) fn parse_bucket_url<'a>(url: &'a str, scheme: &str) -> Result<(&'a str, Vec<(&'a str, String)>)> {
    let rest = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let rest = rest.ok_or_else(|| bad_url(url, &format!("is no URL of a bucket: it begins with {scheme}://")))?;
    let (bucket, query) = rest.split_once('?').unwrap_or((rest, ""));
    let parameter = |pair: &'a str| {
        let (name, value) = pair.split_once('=').ok_or_else(|| bad_url(url, "has a parameter without a value"))?;
        Ok((name, percent_decode_text(value).ok_or_else(|| bad_url(url, "is not encoded well"))?))
    };
    let parameters = query.split('&').filter(|pair| !pair.is_empty()).map(parameter).collect::<Result<_>>()?;
    Ok((bucket.trim_end_matches('/'), parameters))
}

#[cfg(any(feature = "s3", feature = "oss"))]
pub(crate) fn bad_url(url: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{url:?} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_what_is_kept_is_encoded() {
        assert_eq!(percent_encode("a-b_c.d~e/ü +%", b""), "a-b_c.d~e%2F%C3%BC%20%2B%25");
        assert_eq!(percent_encode("a/b +", b"/"), "a/b%20%2B");
        assert_eq!(percent_encode(b"\xff\0", b"/"), "%FF%00");
    }

    #[test]
    fn encoding_goes_both_ways() {
        for text in ["", "a-b_c.d~e", "a b", "ü/?&=+%25", "http://127.0.0.1:80"] {
            assert_eq!(percent_decode(&percent_encode(text, b"")).as_deref(), Some(text.as_bytes()));
            assert_eq!(percent_decode(&percent_encode(text, b"/")).as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(percent_decode("a%20b%2f%C3%BC+").as_deref(), Some("a b/ü+".as_bytes()));
        assert_eq!(percent_decode("%ff%00").as_deref(), Some(b"\xff\0".as_slice()));
        for bad in ["%", "%2", "a%2", "%%41", "%zz", "%+1", "a%é1"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    #[cfg(any(feature = "s3", feature = "oss"))]
    #[test]
    fn text_is_utf_8() {
        assert_eq!(percent_decode_text("%C3%BC").as_deref(), Some("ü"));
        for bad in ["%ff", "%"] {
            assert_eq!(percent_decode_text(bad), None, "{bad}");
        }
    }

    #[cfg(any(feature = "s3", feature = "oss"))]
    #[test]
    fn urls_of_buckets_are_read() {
        let (bucket, parameters) = parse_bucket_url("s3://photos/?region=a&endpoint=http%3A%2F%2Fh&", "s3").unwrap();
        assert_eq!((bucket, parameters), ("photos", vec![("region", "a".into()), ("endpoint", "http://h".into())]));
        for bad in ["oss://photos", "s3:photos", "s3://photos?region", "s3://photos?region=%"] {
            assert_eq!(parse_bucket_url(bad, "s3").unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}

//! Percent-encoding (RFC 3986, section 2.1) and ETags as HTTP writes them.

use crate::types::ETag;

/// Everything but letters, digits and `-._~` as `%XX`.
pub(super) fn percent_encode(text: &str) -> String {
    encode(text, "-._~")
}

/// The same for a path: `/` stays.
pub(super) fn percent_encode_path(text: &str) -> String {
    encode(text, "-._~/")
}

fn encode(text: &str, also: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || also.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// What was encoded, or `None` if it was not encoded well.
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

/// A tag without the quotes that some answers have and others have not.
pub(super) fn etag(text: &str) -> ETag {
    ETag(text.trim().trim_matches('"').to_owned())
}

/// A tag with them, as a header wants it.
pub(super) fn quoted(etag: &ETag) -> String {
    format!("\"{}\"", etag.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_goes_both_ways() {
        for text in ["", "a-b_c.d~e", "a b", "ü/?&=+%25", "http://127.0.0.1:80"] {
            assert_eq!(percent_decode(&percent_encode(text)).as_deref(), Some(text));
            assert_eq!(percent_decode(&percent_encode_path(text)).as_deref(), Some(text));
        }
        assert_eq!(percent_encode("a/b +"), "a%2Fb%20%2B");
        assert_eq!(percent_encode_path("a/b +"), "a/b%20%2B");
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn tags_have_one_spelling() {
        assert_eq!(etag("\"abc-2\""), etag("abc-2"));
        assert_eq!(quoted(&etag("\"abc\"")), "\"abc\"");
    }
}

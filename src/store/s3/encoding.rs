//! ETags as HTTP writes them.

use crate::types::ETag;

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
    fn tags_have_one_spelling() {
        assert_eq!(etag("\"abc-2\""), etag("abc-2"));
        assert_eq!(quoted(&etag("\"abc\"")), "\"abc\"");
    }
}

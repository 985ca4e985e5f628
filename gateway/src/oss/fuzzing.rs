//! What fuzz targets call: everything that reads a request before it is known who sent it, and its XML.

use std::time::{Duration, UNIX_EPOCH};

use super::auth::authenticate;
use super::call::Call;
use super::request::{OssRequest, copy_source, range};
use super::xml::{parse_completion, parse_delete, parse_encryption};
use crate::access::{AccessKey, AccessKeys, Rights, Secret};

/// A request whose head is made of these bytes: a line with method and target, then a line for each header. No such request may be taken
/// for one of the only access key there is, because nobody guesses a signature.
pub fn request(head: &[u8]) {
    let Ok(head) = std::str::from_utf8(head) else { return };
    let mut lines = head.lines();
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or(("GET", "/"));
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        request = request.header(name, value.trim());
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let Ok(request) = OssRequest::parse(&parts, &["oss.example.com".to_owned()]) else { return };
    let key = AccessKey::new("ak", Secret::new("a secret that no input holds".to_owned()), Rights::all());
    let Ok(keys) = key.and_then(|key| AccessKeys::new([key], Rights::none())) else { return };
    if let Ok(who) = authenticate(&request, &keys, "local", UNIX_EPOCH + Duration::from_secs(1_700_000_000)) {
        assert!(who.caller.id().is_none(), "a signature was guessed");
    }
    let _ = Call::of(&request);
    for name in ["range", "x-oss-copy-source-range", "x-oss-copy-source"] {
        if let Ok(Some(text)) = request.header(name) {
            let _ = (range(text), copy_source(text));
        }
    }
}

/// A body in XML.
pub fn xml(bytes: &[u8]) {
    if let Ok(parts) = parse_completion(bytes) {
        assert!(!parts.is_empty());
    }
    if let Ok((keys, _)) = parse_delete(bytes) {
        assert!((1..=1000).contains(&keys.len()));
    }
    let _ = parse_encryption(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_head_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            query in "[ -~]{0,60}",
            lines in proptest::collection::vec("(authorization|x-oss-date|x-oss-copy-source|range|host|date):[ -~]{0,60}", 0..6),
        ) {
            super::request(&bytes);
            super::request(format!("PUT /b/k?{query}\n{}", lines.join("\n")).as_bytes());
            super::xml(&bytes);
        }
    }
}

//! The two shapes of JSON (RFC 8259) an envelope uses: an object whose values are all strings, and an array of such
//! objects.
//!
//! Written by hand, because the specification names every byte; read by serde_json, with what it would let pass
//! refused: a member twice, and an array where an object belongs.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

/// An object's members.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StringMap(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for StringMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = StringMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<StringMap, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, value)) = members.next_entry::<String, String>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member occurs twice"));
                    }
                }
                Ok(StringMap(map))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Writes an object with these members, in this order.
pub(super) fn write_object<'a>(out: &mut String, members: impl IntoIterator<Item = (&'a str, &'a str)>) {
    out.push('{');
    let mut separator = "";
    for (name, value) in members {
        out.push_str(separator);
        write_string(out, name);
        out.push(':');
        write_string(out, value);
        separator = ",";
    }
    out.push('}');
}

/// Every escape is `\uXXXX`, in UTF-16 code units as RFC 8259, section 7 has it: metadata is sent as ASCII headers.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, ' '..='~') && c != '"' && c != '\\' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Option<StringMap> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn writes_the_specification_s_spelling() {
        let mut out = String::new();
        write_object(&mut out, [("a\"b", "c\\d"), ("é\n\u{7f}", "\u{1f512}~ "), ("", "")]);
        assert_eq!(out, r#"{"a\u0022b":"c\u005cd","\u00e9\u000a\u007f":"\ud83d\udd12~ ","":""}"#);
        assert!(out.is_ascii());
    }

    #[test]
    fn refuses_what_a_lenient_reader_would_take() {
        assert_eq!(parse(r#"{"a":"1"}"#), Some(StringMap([("a".into(), "1".into())].into())));
        for bad in [
            r#"{"a":"1","a":"1"}"#,
            r#"{"a":"1","\u0061":"2"}"#,
            r#"["a","1"]"#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":["1"]}"#,
            r#"{"a":{}}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"\udc00":"1"}"#,
            r#"{"a":"1"} x"#,
            r#"{"a":"1",}"#,
            "",
            "null",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(map: BTreeMap<String, String>) {
            let mut out = String::new();
            write_object(&mut out, map.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            proptest::prop_assert!(out.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            proptest::prop_assert_eq!(parse(&out), Some(StringMap(map)));
        }
    }
}

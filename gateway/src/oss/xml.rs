//! The bodies of OSS requests in XML, which may be anything, and text in answers.

use quick_xml::de::from_reader;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::Refused;
use crate::service::Encryption;

/// What `CompleteMultipartUpload` lists: numbers and ETags.
pub(crate) fn parse_completion(bytes: &[u8]) -> Result<Vec<(u32, String)>, Refused> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Part {
        part_number: u32,
        #[serde(rename = "ETag")]
        etag: String,
    }
    #[derive(Deserialize)]
    struct CompleteMultipartUpload {
        #[serde(rename = "Part", default)]
        parts: Vec<Part>,
    }
    let list: CompleteMultipartUpload = parse(bytes)?;
    if list.parts.is_empty() {
        return Err(malformed());
    }
    Ok(list.parts.into_iter().map(|part| (part.part_number, part.etag)).collect())
}

/// What `Delete` lists: keys, and whether only failures are to be told.
pub(crate) fn parse_delete(bytes: &[u8]) -> Result<(Vec<String>, bool), Refused> {
    #[derive(Deserialize)]
    struct Object {
        #[serde(rename = "Key")]
        key: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Delete {
        #[serde(default)]
        quiet: Option<String>,
        #[serde(rename = "Object", default)]
        objects: Vec<Object>,
    }
    let delete: Delete = parse(bytes)?;
    if !(1..=1000).contains(&delete.objects.len()) {
        return Err(malformed());
    }
    let quiet = delete.quiet.is_some_and(|quiet| quiet.trim().eq_ignore_ascii_case("true"));
    Ok((delete.objects.into_iter().map(|object| object.key).collect(), quiet))
}

/// The default encryption that `ServerSideEncryptionRule` sets.
pub(crate) fn parse_encryption(bytes: &[u8]) -> Result<Encryption, Refused> {
    #[derive(Deserialize)]
    struct Default {
        #[serde(rename = "SSEAlgorithm")]
        algorithm: String,
        #[serde(rename = "KMSMasterKeyID")]
        key_id: Option<String>,
        #[serde(rename = "KMSDataEncryption")]
        data_encryption: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct ServerSideEncryptionRule {
        apply_server_side_encryption_by_default: Default,
    }
    let rule: ServerSideEncryptionRule = parse(bytes)?;
    let Default { algorithm, key_id, data_encryption } = rule.apply_server_side_encryption_by_default;
    let given =
        |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    encryption(algorithm.trim(), given(&key_id), given(&data_encryption).as_deref())
}

/// The encryption that an algorithm, a CMK's id and a data cipher name together.
pub(super) fn encryption(
    algorithm: &str,
    key_id: Option<String>,
    data_encryption: Option<&str>,
) -> Result<Encryption, Refused> {
    let is_kms = algorithm.eq_ignore_ascii_case("KMS");
    if !is_kms && (key_id.is_some() || data_encryption.is_some()) {
        let message = "A key id and a data encryption go with the algorithm KMS only.";
        return Err(Refused::new(400, "InvalidArgument", message));
    }
    match data_encryption {
        None => {}
        Some(cipher) if cipher.eq_ignore_ascii_case("AES256") => {}
        Some(cipher) if cipher.eq_ignore_ascii_case("SM4") => {
            return Err(Refused::new(
                501,
                "NotImplemented",
                "SM4 is not available here: data is encrypted with AES-256.",
            ));
        }
        Some(_) => {
            let message = "The data encryption algorithm is not valid. Supported value:SM4.";
            return Err(Refused::new(400, "InvalidDataEncryptionAlgorithmError", message));
        }
    }
    if is_kms {
        return Ok(Encryption::Kms { key_id });
    }
    if algorithm.eq_ignore_ascii_case("AES256") {
        return Ok(Encryption::Aes256);
    }
    if algorithm.eq_ignore_ascii_case("SM4") {
        return Err(Refused::new(501, "NotImplemented", "SM4 is not available here: ask for AES256 or KMS."));
    }
    let message = "The encryption algorithm is not valid. Supported value: AES256/SM4/KMS.";
    Err(Refused::new(400, "InvalidEncryptionAlgorithmError", message))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    from_reader(bytes).map_err(|_| malformed())
}

fn malformed() -> Refused {
    Refused::new(
        400,
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our schema.",
    )
}

/// Text as XML writes it. What XML cannot carry becomes the replacement character.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // Written so, or a parser makes a line feed of it.
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
        result.unwrap_err().code().to_owned()
    }

    #[test]
    fn requests_are_read() {
        let list = "<?xml version=\"1.0\"?><CompleteMultipartUpload>\n<Part><PartNumber>1</PartNumber><ETag>&quot;A&quot;</ETag></Part>\
                    <Part><ETag>B</ETag><PartNumber>10000</PartNumber></Part></CompleteMultipartUpload>";
        let expected = vec![(1, "\"A\"".to_owned()), (10_000, "B".to_owned())];
        assert_eq!(parse_completion(list.as_bytes()).unwrap(), expected);
        for bad in
            ["", "<CompleteMultipartUpload/>", "<CompleteMultipartUpload><Part><PartNumber>-1</PartNumber>", "<a", "\0"]
        {
            assert_eq!(code(parse_completion(bad.as_bytes())), "MalformedXML", "{bad}");
        }
        let delete =
            "<Delete><Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object></Delete>";
        assert_eq!(parse_delete(delete.as_bytes()).unwrap(), (vec!["a&b".to_owned(), "c".to_owned()], true));
        assert_eq!(code(parse_delete(b"<Delete></Delete>")), "MalformedXML");
    }

    #[test]
    fn encryption_rules_are_read() {
        let rule = |inner: &str| {
            let text = format!(
                "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>"
            );
            parse_encryption(text.as_bytes())
        };
        let kms = |key_id: Option<&str>| Encryption::Kms { key_id: key_id.map(str::to_owned) };
        assert_eq!(rule("<SSEAlgorithm>AES256</SSEAlgorithm>").unwrap(), Encryption::Aes256);
        assert_eq!(rule("<SSEAlgorithm>KMS</SSEAlgorithm><KMSMasterKeyID></KMSMasterKeyID>").unwrap(), kms(None));
        assert_eq!(rule("<SSEAlgorithm>KMS</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>").unwrap(), kms(Some("k")));
        for (inner, expected) in [
            ("<SSEAlgorithm>AES</SSEAlgorithm>", "InvalidEncryptionAlgorithmError"),
            ("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>", "InvalidArgument"),
            (
                "<SSEAlgorithm>KMS</SSEAlgorithm><KMSDataEncryption>DES</KMSDataEncryption>",
                "InvalidDataEncryptionAlgorithmError",
            ),
            ("<SSEAlgorithm>SM4</SSEAlgorithm>", "NotImplemented"),
            ("", "MalformedXML"),
        ] {
            assert_eq!(code(rule(inner)), expected, "{inner}");
        }
    }

    proptest! {
        #[test]
        fn keys_survive_being_written_and_read(key in "\\PC{1,40}") {
            let text = format!("<Delete><Object><Key>{}</Key></Object></Delete>", escape(&key));
            let read = parse_delete(text.as_bytes()).unwrap().0;
            // Space around text is not kept; a client that needs it asks for encoding-type=url.
            prop_assert_eq!(read[0].trim(), key.trim());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_completion(&bytes), parse_delete(&bytes), parse_encryption(&bytes));
        }
    }
}

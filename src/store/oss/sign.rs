//! Signatures of requests, versions 4 and 1.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use zeroize::Zeroizing;

use super::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::store::percent::percent_encode;

/// Which of OSS's signatures requests carry.
///
/// Source: [V4](https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4),
/// [V1](https://www.alibabacloud.com/help/en/oss/developer-reference/include-signatures-in-the-authorization-header).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureVersion {
    /// HMAC-SHA1 over an unscoped text: what old private clouds take.
    V1,
    /// HMAC-SHA256 with a key for one day, region and service.
    #[default]
    V4,
}

/// What of a request is signed, besides its headers.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) bucket: &'a str,
    /// Empty for requests about the bucket.
    pub(super) key: &'a str,
    /// Names and values, not encoded.
    pub(super) query: &'a [(&'a str, &'a str)],
}

impl SignatureVersion {
    /// Adds date, token and signature to `headers`. `additional` are further headers that version 4 is to cover, in lower case.
    pub(super) fn sign(
        self,
        request: &Signed<'_>,
        headers: &mut HeaderMap,
        credentials: &Credentials,
        region: &str,
        now: OffsetDateTime,
        additional: &[&str],
    ) -> Result<()> {
        if let Some(token) = credentials.token() {
            headers.insert("x-oss-security-token", secret_value(token)?);
        }
        let authorization = match self {
            Self::V4 => {
                headers.insert("x-oss-date", plain_value(&date_time(now))?);
                headers.insert("x-oss-content-sha256", HeaderValue::from_static(UNSIGNED_PAYLOAD));
                v4(request, headers, credentials, region, now, additional)?
            }
            Self::V1 => {
                headers.insert("date", plain_value(&http_date(now))?);
                v1(request, headers, credentials)?
            }
        };
        headers.insert("authorization", secret_value(&authorization)?);
        Ok(())
    }
}

const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

fn v4(
    request: &Signed<'_>,
    headers: &HeaderMap,
    credentials: &Credentials,
    region: &str,
    now: OffsetDateTime,
    additional: &[&str],
) -> Result<String> {
    let mut additional: Vec<&str> =
        additional.iter().copied().filter(|name| !signed_by_default(name) && headers.contains_key(*name)).collect();
    additional.sort_unstable();
    let mut query: Vec<_> =
        request.query.iter().map(|(name, value)| (percent_encode(name, b""), percent_encode(value, b""))).collect();
    query.sort_unstable();
    let query: Vec<_> = query
        .into_iter()
        .map(|(name, value)| if value.is_empty() { name } else { format!("{name}={value}") })
        .collect();
    let covered = |name: &HeaderName| signed_by_default(name.as_str()) || additional.contains(&name.as_str());
    let canonical = Zeroizing::new(format!(
        "{}\n/{}/{}\n{}\n{}\n{}\n{UNSIGNED_PAYLOAD}",
        request.method,
        request.bucket,
        percent_encode(request.key, b"/"),
        query.join("&"),
        *header_lines(headers, covered)?,
        additional.join(";"),
    ));
    let (date_time, date) = (date_time(now), date(now));
    let scope = format!("{date}/{region}/oss/aliyun_v4_request");
    let text = format!(
        "OSS4-HMAC-SHA256\n{date_time}\n{scope}\n{}",
        base16ct::lower::encode_string(&Sha256::digest(canonical.as_bytes()))
    );
    let mut key = Zeroizing::new(Vec::with_capacity(128));
    key.extend_from_slice(b"aliyun_v4");
    key.extend_from_slice(credentials.secret().as_bytes());
    let mut key = hmac_sha256(&key, date.as_bytes());
    for step in [region, "oss", "aliyun_v4_request"] {
        key = hmac_sha256(&*key, step.as_bytes());
    }
    let mut authorization = format!("OSS4-HMAC-SHA256 Credential={}/{scope}", credentials.id());
    if !additional.is_empty() {
        let _ = write!(authorization, ",AdditionalHeaders={}", additional.join(";")); // To a String: does not fail.
    }
    let _ =
        write!(authorization, ",Signature={}", base16ct::lower::encode_string(&*hmac_sha256(&*key, text.as_bytes())));
    Ok(authorization)
}

fn v1(request: &Signed<'_>, headers: &HeaderMap, credentials: &Credentials) -> Result<String> {
    let line = |name: &str| headers.get(name).map_or(Ok(""), text).map(str::to_owned);
    let mut sub_resources: Vec<_> = request.query.iter().filter(|(name, _)| SUB_RESOURCES.contains(name)).collect();
    sub_resources.sort_unstable();
    let sub_resources: Vec<_> = sub_resources
        .into_iter()
        .map(|(name, value)| if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") })
        .collect();
    let mark = if sub_resources.is_empty() { "" } else { "?" };
    let signed = Zeroizing::new(format!(
        "{}\n{}\n{}\n{}\n{}/{}/{}{mark}{}",
        request.method,
        line("content-md5")?,
        line("content-type")?,
        line("date")?,
        *header_lines(headers, |name| name.as_str().starts_with("x-oss-"))?,
        request.bucket,
        request.key,
        sub_resources.join("&"),
    ));
    let mut mac = Hmac::<Sha1>::new_from_slice(credentials.secret().as_bytes()).map_err(|_| no_mac())?;
    mac.update(signed.as_bytes());
    Ok(format!("OSS {}:{}", credentials.id(), STANDARD.encode(mac.finalize().into_bytes())))
}

/// The parameters that are part of what version 1 signs; of those that this crate sends.
const SUB_RESOURCES: [&str; 7] =
    ["acl", "continuation-token", "partNumber", "tagging", "uploadId", "uploads", "encryption"];

fn signed_by_default(name: &str) -> bool {
    name.starts_with("x-oss-") || matches!(name, "content-type" | "content-md5")
}

/// `name:value` of each header that is `covered`, ascending by name.
fn header_lines(headers: &HeaderMap, covered: impl Fn(&HeaderName) -> bool) -> Result<Zeroizing<String>> {
    let mut signed: Vec<_> = headers.iter().filter(|(name, _)| covered(name)).collect();
    signed.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    let mut lines = Zeroizing::new(String::with_capacity(4096));
    for (name, value) in signed {
        lines.push_str(name.as_str());
        lines.push(':');
        lines.push_str(text(value)?.trim());
        lines.push('\n');
    }
    Ok(lines)
}

fn text(value: &HeaderValue) -> Result<&str> {
    value.to_str().map_err(|_| Error::new(ErrorKind::InvalidInput, "headers of OSS requests are ASCII"))
}

fn plain_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "credentials for OSS are printable ASCII, without line ends"))
}

/// A header that no log shows.
fn secret_value(text: &str) -> Result<HeaderValue> {
    let mut value = plain_value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn no_mac() -> Error {
    Error::new(ErrorKind::Internal, "HMAC refused a key")
}

fn date(now: OffsetDateTime) -> String {
    format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day())
}

fn date_time(now: OffsetDateTime) -> String {
    format!("{}T{:02}{:02}{:02}Z", date(now), now.hour(), now.minute(), now.second())
}

/// As RFC 9110, section 5.6.7, wants it.
fn http_date(now: OffsetDateTime) -> String {
    // RFC 2822's form but for the zone, which has a name here.
    now.format(&Rfc2822).unwrap_or_default().replace("+0000", "GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    /// The vectors of the Go SDK's tests.
    #[test]
    fn version_4_has_the_published_signatures() {
        let query = [
            ("param1", "value1"),
            ("+param1", "value3"),
            ("|param1", "value4"),
            ("+param2", ""),
            ("|param2", ""),
            ("param2", ""),
        ];
        let request = Signed { method: "PUT", bucket: "bucket", key: "1234+-/123/1.txt", query: &query };
        let cases: [(i64, Option<&str>, &[&str], &str); 3] = [
            (1_702_743_657, None, &[], "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"),
            (1_702_784_856, Some("token"), &[], "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea"),
            (1_702_747_512, None, &["zabc", "abc"], "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f"),
        ];
        for (at, token, additional, signature) in cases {
            let credentials = Credentials::new("ak", "sk", token);
            let mut headers = headers(&[
                ("x-oss-head1", "value"),
                ("abc", "value"),
                ("ZAbc", "value"),
                ("XYZ", "value"),
                ("content-type", "text/plain"),
            ]);
            let now = OffsetDateTime::from_unix_timestamp(at).unwrap();
            SignatureVersion::V4.sign(&request, &mut headers, &credentials, "cn-hangzhou", now, additional).unwrap();
            let authorization = headers["authorization"].to_str().unwrap();
            assert!(authorization.ends_with(&format!("Signature={signature}")), "{authorization}");
            assert!(headers["authorization"].is_sensitive());
            let names = if additional.is_empty() { "" } else { ",AdditionalHeaders=abc;zabc" };
            let date = date(now);
            let expected = format!(
                "OSS4-HMAC-SHA256 Credential=ak/{date}/cn-hangzhou/oss/aliyun_v4_request{names},Signature={signature}"
            );
            assert_eq!(authorization, expected);
        }
    }

    /// The vector of OSS's documentation.
    #[test]
    fn version_1_has_the_published_signature() {
        let credentials = Credentials::new("44CF9590006BF252F707", "OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV", None);
        let mut headers = headers(&[
            ("content-md5", "ODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM="),
            ("content-type", "text/html"),
            ("x-oss-magic", "abracadabra"),
            ("x-oss-meta-author", "foo@bar.com"),
        ]);
        // Thu, 17 Nov 2005 18:49:58 GMT
        let now = OffsetDateTime::from_unix_timestamp(1_132_253_398).unwrap();
        let request = Signed { method: "PUT", bucket: "oss-example", key: "nelson", query: &[] };
        SignatureVersion::V1.sign(&request, &mut headers, &credentials, "", now, &[]).unwrap();
        assert_eq!(headers["date"], "Thu, 17 Nov 2005 18:49:58 GMT");
        assert_eq!(headers["authorization"], "OSS 44CF9590006BF252F707:26NBxoKdsyly4EDv6inkoDft/yA=");
    }
}

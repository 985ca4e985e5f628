//! Who sent a request: OSS's signatures, versions 1 and 4, in a header or in the query, checked in constant time.
//!
//! What both versions share is here.

mod v1;
mod v4;

use std::sync::Arc;
use std::time::SystemTime;

use time::{Date, Month, PrimitiveDateTime, Time};

use super::answer::Refused;
use super::request::OssRequest;
use crate::access::{AccessKey, AccessKeys, Caller, is_same};

/// Who sent a request, and what its body must hash to, if it says.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(super) caller: Caller,
    pub(super) sha256: Option<[u8; 32]>,
}

/// Finds out who sent `request`, now.
pub(crate) fn authenticate(
    request: &OssRequest,
    keys: &AccessKeys,
    region: &str,
    now: SystemTime,
) -> Result<Authenticated, Refused> {
    let authorization = text(request, "authorization")?;
    let key = match authorization {
        Some(authorization) => {
            match (authorization.strip_prefix("OSS4-HMAC-SHA256"), authorization.strip_prefix("OSS ")) {
                (Some(rest), _) => v4::header(request, rest, keys, region, now)?,
                (None, Some(rest)) => v1::header(request, rest, keys, now)?,
                (None, None) => return Err(malformed("the header Authorization is of no known kind")),
            }
        }
        None if request.has("x-oss-signature-version") => v4::query(request, keys, region, now)?,
        None if request.has("OSSAccessKeyId") => v1::query(request, keys, now)?,
        None => return Ok(Authenticated { caller: keys.anonymous(), sha256: None }),
    };
    let sha256 = text(request, "x-oss-content-sha256")?.and_then(hash);
    Ok(Authenticated { caller: Caller::new(key), sha256 })
}

/// `name:value` of each header that is signed, ascending by name. Values of headers that came several times are joined.
fn header_lines(request: &OssRequest, is_signed: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
    let mut names: Vec<_> =
        request.headers.keys().map(http::HeaderName::as_str).filter(|name| is_signed(name)).collect();
    names.sort_unstable();
    for name in names {
        out.extend_from_slice(name.as_bytes());
        for (n, value) in request.headers.get_all(name).iter().enumerate() {
            out.push(if n == 0 { b':' } else { b',' });
            out.extend_from_slice(value.as_bytes().trim_ascii());
        }
        out.push(b'\n');
    }
}

fn known(keys: &AccessKeys, id: &str) -> Result<Arc<AccessKey>, Refused> {
    keys.get(id).ok_or_else(|| {
        let message = "The OSS Access Key Id you provided does not exist in our records.";
        Refused::new(403, "InvalidAccessKeyId", message)
    })
}

fn matches(expected: &str, given: &str) -> Result<(), Refused> {
    if is_same(expected.as_bytes(), given.as_bytes()) {
        return Ok(());
    }
    let message = "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
    Err(Refused::new(403, "SignatureDoesNotMatch", message))
}

fn text<'a>(request: &'a OssRequest, name: &str) -> Result<Option<&'a str>, Refused> {
    Ok(request.header(name)?)
}

/// A SHA-256 in hexadecimal. The other value that clients send says that the payload is not signed.
fn hash(text: &str) -> Option<[u8; 32]> {
    base16ct::mixed::decode_vec(text).ok()?.try_into().ok()
}

/// `20231203T121212Z`
fn basic_time(text: &str) -> Option<SystemTime> {
    if text.len() != 16 || !text.is_ascii() || text.get(8..9)? != "T" || text.get(15..)? != "Z" {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u16>().ok())?
    };
    let small = |range| u8::try_from(number(range)?).ok();
    let date =
        Date::from_calendar_date(number(0..4)?.into(), Month::try_from(small(4..6)?).ok()?, small(6..8)?).ok()?;
    let time = Time::from_hms(small(9..11)?, small(11..13)?, small(13..15)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().into())
}

fn malformed(what: &str) -> Refused {
    Refused::new(400, "InvalidArgument", format!("The signature is malformed: {what}."))
}

fn skewed() -> Refused {
    let message = "The difference between the request time and the current time is too large.";
    Refused::new(403, "RequestTimeTooSkewed", message)
}

fn expired() -> Refused {
    Refused::new(403, "AccessDenied", "Request has expired.")
}

fn no_mac() -> Refused {
    Refused::new(500, "InternalError", "HMAC refused a key.")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::request::tests::request;
    use super::*;
    use crate::access::{Rights, Secret};

    fn keys(id: &str, secret: &str) -> AccessKeys {
        let key = AccessKey::new(id, Secret::new(secret.to_owned()), Rights::all()).unwrap();
        AccessKeys::new([key], Rights::none()).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn code(result: Result<Authenticated, Refused>) -> String {
        match result {
            Ok(authenticated) => authenticated.caller.id().unwrap_or("nobody").to_owned(),
            Err(refused) => refused.code().to_owned(),
        }
    }

    const SHORT_QUERY: &str = "param1=value1&%2Bparam1=value3&%7Cparam1=value4&%2Bparam2&%7Cparam2&param2";

    /// The vectors of the Go SDK's tests.
    #[test]
    fn version_4_takes_the_published_signatures() {
        let keys = keys("ak", "sk");
        let cases = [
            (
                1_702_743_657,
                "20231216T162057Z",
                None,
                "",
                "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
            ),
            (
                1_702_784_856,
                "20231217T034736Z",
                Some("token"),
                "",
                "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea",
            ),
            (
                1_702_747_512,
                "20231216T172512Z",
                None,
                ",AdditionalHeaders=abc;zabc",
                "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
            ),
        ];
        for (seconds, stamp, token, additional, signature) in cases {
            let date = &stamp[..8];
            let check = |signature: &str, region: &str, seconds| {
                let authorization = format!(
                    "OSS4-HMAC-SHA256 Credential=ak/{date}/cn-hangzhou/oss/aliyun_v4_request{additional},Signature={signature}"
                );
                let mut headers = vec![
                    ("authorization", authorization.as_str()),
                    ("x-oss-date", stamp),
                    ("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
                    ("x-oss-head1", "value"),
                    ("abc", "value"),
                    ("ZAbc", "value"),
                    ("XYZ", "value"),
                    ("content-type", "text/plain"),
                ];
                headers.extend(token.map(|token| ("x-oss-security-token", token)));
                let request = request("PUT", &format!("/bucket/1234%2B-/123/1.txt?{SHORT_QUERY}"), &headers).unwrap();
                code(authenticate(&request, &keys, region, at(seconds)))
            };
            assert_eq!(check(signature, "cn-hangzhou", seconds), "ak");
            assert_eq!(check(signature, "cn-hangzhou", seconds + 900), "ak");
            assert_eq!(check(signature, "cn-hangzhou", seconds + 901), "RequestTimeTooSkewed");
            assert_eq!(check(signature, "local", seconds), "InvalidArgument");
            assert_eq!(check(&signature.replacen('e', "f", 1), "cn-hangzhou", seconds), "SignatureDoesNotMatch");
            assert_eq!(check("", "cn-hangzhou", seconds), "SignatureDoesNotMatch");
        }
    }

    /// The vector of OSS's documentation.
    #[test]
    fn version_1_takes_the_published_signature() {
        let keys = keys("44CF9590006BF252F707", "OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV");
        let check = |authorization: &str, author: &str, seconds| {
            let headers = [
                ("authorization", authorization),
                ("content-md5", "ODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM="),
                ("content-type", "text/html"),
                ("date", "Thu, 17 Nov 2005 18:49:58 GMT"),
                ("x-oss-magic", "abracadabra"),
                ("x-oss-meta-author", author),
            ];
            let request = request("PUT", "/oss-example/nelson", &headers).unwrap();
            code(authenticate(&request, &keys, "local", at(seconds)))
        };
        let good = "OSS 44CF9590006BF252F707:26NBxoKdsyly4EDv6inkoDft/yA=";
        assert_eq!(check(good, "foo@bar.com", 1_132_253_398), "44CF9590006BF252F707");
        assert_eq!(check(good, "foo@bar.org", 1_132_253_398), "SignatureDoesNotMatch");
        assert_eq!(check(good, "foo@bar.com", 1_132_255_000), "RequestTimeTooSkewed");
        assert_eq!(
            check("OSS someone:26NBxoKdsyly4EDv6inkoDft/yA=", "foo@bar.com", 1_132_253_398),
            "InvalidAccessKeyId"
        );
        assert_eq!(check("OSS 44CF9590006BF252F707", "foo@bar.com", 1_132_253_398), "InvalidArgument");
        assert_eq!(check("Basic abc", "foo@bar.com", 1_132_253_398), "InvalidArgument");
    }

    #[test]
    fn nobody_is_anonymous_and_what_is_signed_in_the_query_expires() {
        let keys = keys("ak", "sk");
        let check =
            |uri: &str| code(authenticate(&request("GET", uri, &[]).unwrap(), &keys, "local", at(1_700_000_000)));
        assert_eq!(check("/b/k"), "nobody");
        assert_eq!(check("/b/k?OSSAccessKeyId=ak&Expires=1699999999&Signature=x"), "AccessDenied");
        assert_eq!(check("/b/k?OSSAccessKeyId=ak&Expires=1700000001&Signature=x"), "SignatureDoesNotMatch");
        assert_eq!(check("/b/k?OSSAccessKeyId=ak&Expires=soon&Signature=x"), "InvalidArgument");
        let v4 = |date: &str, expires: &str| {
            check(&format!(
                "/b/k?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=ak/{}/local/oss/aliyun_v4_request\
                 &x-oss-date={date}&x-oss-expires={expires}&x-oss-signature=0",
                &date[..8]
            ))
        };
        // Now is 2023-11-14T22:13:20Z.
        assert_eq!(v4("20231114T221220Z", "59"), "AccessDenied");
        assert_eq!(v4("20231114T221220Z", "61"), "SignatureDoesNotMatch");
        assert_eq!(v4("20231114T231220Z", "61"), "RequestTimeTooSkewed");
        assert_eq!(v4("20231114T221220Z", "604801"), "InvalidArgument");
        assert_eq!(v4("20231399T221220Z", "61"), "InvalidArgument");
    }

    proptest::proptest! {
        #[test]
        fn no_authorization_panics(text in "[ -~]{0,120}", query in "[a-zA-Z0-9=&%-]{0,80}") {
            let keys = keys("ak", "sk");
            for prefix in ["", "OSS ", "OSS ak:", "OSS4-HMAC-SHA256 Credential=ak/"] {
                let authorization = format!("{prefix}{text}");
                let headers = [("authorization", authorization.as_str()), ("x-oss-date", text.as_str())];
                if let Ok(request) = request("GET", &format!("/b/k?{query}"), &headers) {
                    proptest::prop_assert!(authenticate(&request, &keys, "local", at(1_700_000_000)).is_err());
                }
            }
        }
    }
}

//! Signatures of Alibaba Cloud's APIs, checked: version 1.0 of the RPC protocol (HMAC-SHA1 over method and sorted parameters), and
//! ACS3-HMAC-SHA256, which newer clients use (headers, query, and the body's hash).

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header;
use http::request::Parts;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::answer::{Refusal, Result};
use super::parameters::Parameters;
use crate::access::{AccessKey, AccessKeys, is_same};

/// The access key that signed the request.
pub(super) fn authenticate(
    head: &Parts,
    body: &[u8],
    parameters: &Parameters,
    keys: &AccessKeys,
    now: SystemTime,
) -> Result<Arc<AccessKey>> {
    if parameters.version() != Some(VERSION) {
        return Err(Refusal::new(400, "InvalidVersion", format!("The parameter Version must be {VERSION}.")));
    }
    match head.headers.get(header::AUTHORIZATION) {
        None => rpc(head, parameters, keys, now),
        Some(authorization) => {
            let authorization = authorization.to_str().unwrap_or_default();
            let fields = authorization.strip_prefix(ACS3).and_then(|rest| rest.strip_prefix(' '));
            let fields = fields.ok_or_else(|| incomplete("Authorization"))?;
            acs3(head, body, fields, keys, now)
        }
    }
}

/// Signature version 1.0.
fn rpc(head: &Parts, parameters: &Parameters, keys: &AccessKeys, now: SystemTime) -> Result<Arc<AccessKey>> {
    let given = parameters.required("Signature")?;
    for (name, value, code) in [
        ("SignatureMethod", "HMAC-SHA1", "InvalidSignatureMethod"),
        ("SignatureVersion", "1.0", "InvalidSignatureVersion"),
    ] {
        if parameters.required(name)? != value {
            return Err(Refusal::new(400, code, format!("The parameter {name} must be {value}.")));
        }
    }
    check_time(parameters.required("Timestamp")?, keys, now)?;
    let key = find(keys, parameters.required("AccessKeyId")?)?;
    let secret = Zeroizing::new(format!("{}&", key.secret().expose()));
    let expected = sign_rpc(&secret, head.method.as_str(), parameters.iter().filter(|(name, _)| *name != "Signature"));
    if is_same(expected.as_bytes(), given.as_bytes()) { Ok(key) } else { Err(mismatch()) }
}

/// `parameters` are ascending by name.
fn sign_rpc<'a>(secret: &str, method: &str, parameters: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut canonical = Zeroizing::new(String::new());
    for (name, value) in parameters {
        if !canonical.is_empty() {
            canonical.push('&');
        }
        percent_encode(name, &mut canonical);
        canonical.push('=');
        percent_encode(value, &mut canonical);
    }
    let mut to_sign = Zeroizing::new(format!("{method}&%2F&"));
    percent_encode(&canonical, &mut to_sign);
    let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    STANDARD.encode(mac.chain_update(to_sign.as_bytes()).finalize().into_bytes())
}

/// ACS3-HMAC-SHA256: `Credential=ID,SignedHeaders=a;b,Signature=HEX`.
fn acs3(head: &Parts, body: &[u8], fields: &str, keys: &AccessKeys, now: SystemTime) -> Result<Arc<AccessKey>> {
    let field = |name: &str| {
        let mut values = fields.split(',').filter_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        values.next().ok_or_else(|| incomplete("Authorization"))
    };
    let (id, signed, given) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let signed: Vec<_> = signed.split(';').collect();
    let value = |name: &str| match head.headers.get(name) {
        Some(value) => value.to_str().map(str::trim).map_err(|_| incomplete(name)),
        // HTTP/2 says it elsewhere.
        None if name == "host" => head.uri.authority().map(|host| host.as_str()).ok_or_else(|| incomplete(name)),
        None => Err(incomplete(name)),
    };
    // What a request means must be signed. The rest of the headers says only how it was sent.
    let must = head.headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-acs-"));
    for name in must.chain(["host", "x-acs-date", "x-acs-content-sha256", "x-acs-signature-nonce"]) {
        if !signed.contains(&name) {
            return Err(incomplete(name));
        }
        value(name)?;
    }
    if !signed.is_sorted() {
        return Err(incomplete("SignedHeaders"));
    }
    let hash = base16ct::lower::encode_string(&Sha256::digest(body));
    if !is_same(hash.as_bytes(), value("x-acs-content-sha256")?.as_bytes()) {
        return Err(mismatch());
    }
    check_time(value("x-acs-date")?, keys, now)?;
    let key = find(keys, id)?;

    let mut query: Vec<_> = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).collect();
    query.sort();
    let mut canonical = Zeroizing::new(format!("{}\n{}\n", head.method, head.uri.path()));
    for (i, (name, value)) in query.iter().enumerate() {
        if i > 0 {
            canonical.push('&');
        }
        percent_encode(name, &mut canonical);
        canonical.push('=');
        percent_encode(value, &mut canonical);
    }
    canonical.push('\n');
    for name in &signed {
        canonical.push_str(&format!("{name}:{}\n", value(name)?));
    }
    canonical.push_str(&format!("\n{}\n{hash}", signed.join(";")));
    let to_sign = format!("{ACS3}\n{}", base16ct::lower::encode_string(&Sha256::digest(canonical.as_bytes())));
    let mac = Hmac::<Sha256>::new_from_slice(key.secret().expose().as_bytes()).expect("HMAC takes keys of any length");
    let expected = base16ct::lower::encode_string(&mac.chain_update(to_sign).finalize().into_bytes());
    if is_same(expected.as_bytes(), given.as_bytes()) { Ok(key) } else { Err(mismatch()) }
}

fn check_time(text: &str, keys: &AccessKeys, now: SystemTime) -> Result<()> {
    // `yyyy-MM-ddTHH:mm:ssZ` and nothing else that the RFC allows.
    let is_plain = text.len() == 20 && text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z');
    let time = OffsetDateTime::parse(text, &Rfc3339).ok().filter(|_| is_plain).ok_or_else(|| {
        Refusal::new(400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
    })?;
    if keys.is_timely(time.into(), now) {
        return Ok(());
    }
    Err(Refusal::new(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."))
}

fn find(keys: &AccessKeys, id: &str) -> Result<Arc<AccessKey>> {
    keys.get(id).ok_or_else(|| Refusal::new(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."))
}

/// Clients look for what follows the colon. The service says what it signed; that may hold a plaintext, so this does not.
fn mismatch() -> Refusal {
    let message = "Specified signature is not matched with our calculation. server string to sign is:(not shown)";
    Refusal::new(400, "SignatureDoesNotMatch", message)
}

fn incomplete(name: &str) -> Refusal {
    let message = format!("The request signature does not conform to Aliyun standards: look at {name}.");
    Refusal::new(400, "IncompleteSignature", message)
}

/// [RFC 3986, section 2.1](https://www.rfc-editor.org/rfc/rfc3986#section-2.1).
fn percent_encode(text: &str, to: &mut String) {
    to.extend(percent_encoding::utf8_percent_encode(text, UNRESERVED));
}

const VERSION: &str = "2016-01-20";
const ACS3: &str = "ACS3-HMAC-SHA256";
const UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::{Rights, Secret};

    #[test]
    fn signs_alibaba_cloud_s_own_example() {
        let parameters = [
            ("AccessKeyId", "testid"),
            ("Action", "DescribeRegions"),
            ("Format", "XML"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Version", "2014-05-26"),
        ];
        assert_eq!(sign_rpc("testsecret&", "GET", parameters.into_iter()), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }

    const SIGNED_AT: u64 = 1_456_231_584; // 2016-02-23T12:46:24Z

    fn keys() -> AccessKeys {
        let key = AccessKey::new("testid", Secret::new("testsecret".to_owned()), Rights::all()).unwrap();
        AccessKeys::new([key], Rights::none()).unwrap()
    }

    fn code(result: Result<Arc<AccessKey>>) -> String {
        result.map_or_else(|refusal| refusal.code.into_owned(), |key| key.id().to_owned())
    }

    /// A request by the first protocol, changed after it was signed.
    fn asked(change: impl Fn(&mut Vec<(&'static str, String)>), at: u64) -> String {
        let mut all: Vec<(&str, String)> = [
            ("AccessKeyId", "testid"),
            ("Action", "Encrypt"),
            ("KeyId", "alias/a b"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "n"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Version", VERSION),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into();
        let signature = sign_rpc("testsecret&", "GET", all.iter().map(|(name, value)| (*name, value.as_str())));
        all.push(("Signature", signature));
        change(&mut all);
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish();
        let head = http::Request::builder().uri(format!("/?{query}")).body(()).unwrap().into_parts().0;
        let parameters = Parameters::read(&head, b"").unwrap();
        code(authenticate(&head, b"", &parameters, &keys(), SystemTime::UNIX_EPOCH + Duration::from_secs(at)))
    }

    #[test]
    fn a_signature_is_good_for_what_it_signed_and_for_a_time() {
        let set = |name: &'static str, value: &'static str| {
            move |all: &mut Vec<(&'static str, String)>| {
                all.retain(|(found, _)| *found != name);
                all.push((name, value.to_owned()));
            }
        };
        assert_eq!(asked(|_| {}, SIGNED_AT), "testid");
        assert_eq!(asked(|_| {}, SIGNED_AT + 900), "testid");
        for (change, says) in [
            (set("KeyId", "alias/b"), "SignatureDoesNotMatch"),
            (set("Signature", "AAAA"), "SignatureDoesNotMatch"),
            (set("Signature", ""), "MissingParameter"),
            (set("More", "x"), "SignatureDoesNotMatch"),
            (set("AccessKeyId", "other"), "InvalidAccessKeyId.NotFound"),
            (set("SignatureMethod", "NONE"), "InvalidSignatureMethod"),
            (set("Version", "2014-05-26"), "InvalidVersion"),
            (set("Timestamp", "2016-02-23 12:46:24Z"), "InvalidTimeStamp.Format"),
            (set("Timestamp", "2016-02-23t12:46:24Z"), "InvalidTimeStamp.Format"),
            (set("Timestamp", "2016-02-23T13:46:24Z"), "InvalidTimeStamp.Expired"),
        ] {
            assert_eq!(asked(change, SIGNED_AT), says);
        }
        assert_eq!(asked(|_| {}, SIGNED_AT + 901), "InvalidTimeStamp.Expired");
        assert_eq!(asked(|_| {}, SIGNED_AT - 901), "InvalidTimeStamp.Expired");
    }

    #[test]
    fn the_newer_signature_covers_headers_and_body() {
        let ask = |change: &dyn Fn(&mut Parts, &mut Vec<u8>)| {
            let mut body = b"KeyId=a".to_vec();
            let hash = base16ct::lower::encode_string(&Sha256::digest(&body));
            let signed = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version";
            let (date, nonce) = ("2016-02-23T12:46:24Z", "n");
            let canonical = format!(
                "POST\n/\na=b%20c\nhost:h:1\nx-acs-action:Encrypt\nx-acs-content-sha256:{hash}\nx-acs-date:{date}\n\
                 x-acs-signature-nonce:{nonce}\nx-acs-version:{VERSION}\n\n{signed}\n{hash}"
            );
            let to_sign = format!("{ACS3}\n{}", base16ct::lower::encode_string(&Sha256::digest(canonical)));
            let mac = Hmac::<Sha256>::new_from_slice(b"testsecret").unwrap().chain_update(to_sign);
            let signature = base16ct::lower::encode_string(&mac.finalize().into_bytes());
            let request = http::Request::builder().method("POST").uri("/?a=b%20c").header("host", "h:1");
            let request = request
                .header("x-acs-action", "Encrypt")
                .header("x-acs-content-sha256", &hash)
                .header("x-acs-date", date)
                .header("x-acs-signature-nonce", nonce)
                .header("x-acs-version", VERSION)
                .header("content-type", "application/x-www-form-urlencoded")
                .header(
                    "authorization",
                    format!("{ACS3} Credential=testid,SignedHeaders={signed},Signature={signature}"),
                );
            let mut head = request.body(()).unwrap().into_parts().0;
            change(&mut head, &mut body);
            let parameters = Parameters::read(&head, &body).unwrap();
            code(authenticate(
                &head,
                &body,
                &parameters,
                &keys(),
                SystemTime::UNIX_EPOCH + Duration::from_secs(SIGNED_AT),
            ))
        };
        let header = |name: &'static str, value: &'static str| {
            move |head: &mut Parts, _: &mut Vec<u8>| {
                head.headers.insert(name, value.parse().unwrap());
            }
        };
        assert_eq!(ask(&|_, _| {}), "testid");
        assert_eq!(ask(&|_, body| body.push(b'b')), "SignatureDoesNotMatch");
        assert_eq!(ask(&|head, _| head.uri = "/?a=b".parse().unwrap()), "SignatureDoesNotMatch");
        assert_eq!(ask(&header("x-acs-action", "Decrypt")), "SignatureDoesNotMatch");
        assert_eq!(ask(&header("host", "other")), "SignatureDoesNotMatch");
        assert_eq!(ask(&header("x-acs-security-token", "unsigned")), "IncompleteSignature");
        assert_eq!(ask(&header("x-acs-date", "2016-02-23T11:46:24Z")), "InvalidTimeStamp.Expired");
        assert_eq!(ask(&header("authorization", "AWS4-HMAC-SHA256 Credential=x")), "IncompleteSignature");
        assert_eq!(ask(&header("authorization", "ACS3-HMAC-SHA256 Credential=testid")), "IncompleteSignature");
    }
}

//! Signatures checked from what was received, written from the documentation and not from `src/store/oss/sign.rs`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::http::{Request, decode, encode};
use super::{Failure, fail};

/// Who may ask.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

/// Refuses what is not signed by `account` around the second `now` for `region`.
pub(super) fn check(request: &Request, account: &Account, region: &str, now: i64) -> Result<(), Failure> {
    let authorization =
        request.header("authorization").ok_or_else(|| fail(403, "AccessDenied", "anonymous access is forbidden"))?;
    if request.header("x-oss-security-token") != account.token.as_deref() {
        return Err(fail(403, "InvalidSecurityToken", "the token is not this account's"));
    }
    if let Some(rest) = authorization.strip_prefix("OSS4-HMAC-SHA256 ") {
        version_4(request, rest, account, region, now)
    } else if let Some(rest) = authorization.strip_prefix("OSS ") {
        version_1(request, rest, account, now)
    } else {
        Err(fail(400, "InvalidArgument", "authorization is of no known kind"))
    }
}

fn version_4(request: &Request, rest: &str, account: &Account, region: &str, now: i64) -> Result<(), Failure> {
    let malformed = || fail(400, "InvalidArgument", "authorization V4 is malformed");
    let (mut credential, mut additional, mut signature) = (None, "", None);
    for field in rest.split(',') {
        match field.trim().split_once('=').ok_or_else(malformed)? {
            ("Credential", value) => credential = Some(value),
            ("AdditionalHeaders", value) => additional = value,
            ("Signature", value) => signature = Some(value),
            _ => return Err(malformed()),
        }
    }
    let scope: Vec<_> = credential.ok_or_else(malformed)?.split('/').collect();
    let [id, date, scope_region, "oss", "aliyun_v4_request"] = scope[..] else { return Err(malformed()) };
    if id != account.id {
        return Err(fail(
            403,
            "InvalidAccessKeyId",
            "The OSS Access Key Id you provided does not exist in our records.",
        ));
    }
    if scope_region != region {
        return Err(fail(403, "InvalidArgument", "Invalid signing region in Authorization header."));
    }
    let stamp = request.header("x-oss-date").ok_or_else(malformed)?;
    if !stamp.starts_with(date) {
        return Err(malformed());
    }
    not_too_skewed(basic_time(stamp).ok_or_else(malformed)?, now)?;
    if request.header("x-oss-content-sha256") != Some("UNSIGNED-PAYLOAD") {
        return Err(fail(400, "InvalidArgument", "x-oss-content-sha256"));
    }

    let (bucket, key) = request.bucket_and_key();
    let mut query: Vec<(&str, &str)> = request.raw_query.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    query.sort();
    let query: Vec<String> =
        query.iter().map(|(n, v)| if v.is_empty() { n.to_string() } else { format!("{n}={v}") }).collect();
    let additional: Vec<&str> = additional.split(';').filter(|name| !name.is_empty()).collect();
    let mut headers = String::new();
    for (name, value) in &request.headers {
        let always = name.starts_with("x-oss-") || name == "content-type" || name == "content-md5";
        if always || additional.contains(&name.as_str()) {
            headers += &format!("{name}:{value}\n");
        }
    }
    let canonical = [
        request.method.as_str(),
        &encode(&format!("/{bucket}/{key}"), "/"),
        &query.join("&"),
        &headers,
        &additional.join(";"),
        "UNSIGNED-PAYLOAD",
    ]
    .join("\n");
    let scope = format!("{date}/{region}/oss/aliyun_v4_request");
    let text = format!("OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut signing = format!("aliyun_v4{}", account.secret).into_bytes();
    for step in [date, region, "oss", "aliyun_v4_request", &text] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&signing).unwrap();
        mac.update(step.as_bytes());
        signing = mac.finalize().into_bytes().to_vec();
    }
    if signature != Some(&hex(&signing)) {
        return Err(fail(403, "SignatureDoesNotMatch", &format!("canonical request: {canonical:?}")));
    }
    Ok(())
}

fn version_1(request: &Request, rest: &str, account: &Account, now: i64) -> Result<(), Failure> {
    let (id, signature) = rest.split_once(':').ok_or_else(|| fail(400, "InvalidArgument", "authorization V1"))?;
    if id != account.id {
        return Err(fail(
            403,
            "InvalidAccessKeyId",
            "The OSS Access Key Id you provided does not exist in our records.",
        ));
    }
    let of = |name| request.header(name).unwrap_or("");
    let date = request.header("x-oss-date").unwrap_or(of("date"));
    not_too_skewed(http_time(date).ok_or_else(|| fail(403, "AccessDenied", "no valid Date"))?, now)?;
    let mut text = format!("{}\n{}\n{}\n{date}\n", request.method, of("content-md5"), of("content-type"));
    for (name, value) in request.headers.iter().filter(|(name, _)| name.starts_with("x-oss-")) {
        text += &format!("{name}:{value}\n");
    }
    let (bucket, key) = request.bucket_and_key();
    text += &format!("/{bucket}/{key}");
    // All sub-resources of the calls that this server knows, and some that must not be taken for one.
    let known =
        ["acl", "uploads", "uploadId", "partNumber", "tagging", "continuation-token", "encryption", "objectMeta"];
    let mut sub: Vec<_> =
        request.raw_query.iter().map(|(n, v)| (decode(n), decode(v))).filter(|(n, _)| known.contains(&&**n)).collect();
    sub.sort();
    let sub: Vec<String> = sub.into_iter().map(|(n, v)| if v.is_empty() { n } else { format!("{n}={v}") }).collect();
    if !sub.is_empty() {
        text += &format!("?{}", sub.join("&"));
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(account.secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    if STANDARD.encode(mac.finalize().into_bytes()) != signature {
        return Err(fail(403, "SignatureDoesNotMatch", &format!("string to sign: {text:?}")));
    }
    Ok(())
}

fn not_too_skewed(then: i64, now: i64) -> Result<(), Failure> {
    if (then - now).abs() > 15 * 60 {
        let why = "The difference between the request time and the current time is too large.";
        return Err(fail(403, "RequestTimeTooSkewed", why));
    }
    Ok(())
}

/// `20231203T121212Z`
fn basic_time(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let days = days(number(0..4)?, number(4..6)?, number(6..8)?);
    Some(days * 86_400 + number(9..11)? * 3_600 + number(11..13)? * 60 + number(13..15)?)
}

/// `Thu, 17 Nov 2005 18:49:58 GMT`
fn http_time(text: &str) -> Option<i64> {
    let words: Vec<_> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let time: Vec<i64> = time.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = time[..] else { return None };
    Some(days(year.parse().ok()?, month, day.parse().ok()?) * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days since 1970 of a Gregorian date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469
}

/// The header `Date` for a second since 1970.
pub(super) fn http_date(at: i64) -> String {
    let (day, second) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let (mut year, mut month) = (1970, 1);
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    while month < 12 && days(year, month + 1, 1) <= day {
        month += 1;
    }
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][day.rem_euclid(7) as usize];
    let name = MONTHS[month as usize - 1];
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} {name} {year} {h:02}:{m:02}:{s:02} GMT", day - days(year, month, 1) + 1)
}

/// `2012-02-24T08:43:27.000Z` for a second since 1970.
pub(super) fn iso_date(at: i64) -> String {
    let text = http_date(at);
    let words: Vec<_> = text.split_whitespace().collect();
    let month = MONTHS.iter().position(|name| *name == words[2]).unwrap() + 1;
    format!("{}-{month:02}-{}T{}.000Z", words[3], words[1], words[4])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

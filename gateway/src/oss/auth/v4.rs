//! [Version 4](https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4), and how Alibaba's
//! clients compute it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::super::answer::Refused;
use super::super::request::{OssRequest, encode};
use super::{basic_time, expired, header_lines, known, malformed, matches, no_mac, skewed, text};
use crate::access::{AccessKey, AccessKeys};

/// The longest that a signature in a query is good for: a week.
const LONGEST: u64 = 7 * 86_400;

pub(super) fn header(
    request: &OssRequest,
    rest: &str,
    keys: &AccessKeys,
    region: &str,
    now: SystemTime,
) -> Result<Arc<AccessKey>, Refused> {
    let (mut credential, mut additional, mut signature) = (None, "", None);
    for field in rest.split(',') {
        match field.trim().split_once('=') {
            Some(("Credential", value)) => credential = Some(value),
            Some(("AdditionalHeaders", value)) => additional = value,
            Some(("Signature", value)) => signature = Some(value),
            _ => return Err(malformed("the header Authorization has a field that is not known")),
        }
    }
    let (Some(credential), Some(signature)) = (credential, signature) else {
        return Err(malformed("the header Authorization lacks a credential or a signature"));
    };
    let (key, scope) = scope(credential, keys, region)?;
    let stamp = match text(request, "x-oss-date")? {
        Some(stamp) => stamp,
        None => return Err(Refused::new(403, "AccessDenied", "A signed request has a header x-oss-date.")),
    };
    let signed = basic_time(stamp).filter(|_| stamp.starts_with(scope.date)).ok_or_else(|| malformed("x-oss-date"))?;
    if !keys.is_timely(signed, now) {
        return Err(skewed());
    }
    let expected = computed(request, &key, &scope, stamp, additional)?;
    matches(&expected, signature)?;
    Ok(key)
}

pub(super) fn query(
    request: &OssRequest,
    keys: &AccessKeys,
    region: &str,
    now: SystemTime,
) -> Result<Arc<AccessKey>, Refused> {
    let param = |name: &str| request.param(name).filter(|value| !value.is_empty());
    if param("x-oss-signature-version") != Some("OSS4-HMAC-SHA256") {
        return Err(malformed("x-oss-signature-version"));
    }
    let (Some(credential), Some(stamp), Some(expires), Some(signature)) =
        (param("x-oss-credential"), param("x-oss-date"), param("x-oss-expires"), param("x-oss-signature"))
    else {
        return Err(malformed("a signature in the query needs x-oss-credential, -date, -expires and -signature"));
    };
    let (key, scope) = scope(credential, keys, region)?;
    let signed = basic_time(stamp).filter(|_| stamp.starts_with(scope.date)).ok_or_else(|| malformed("x-oss-date"))?;
    let expires = expires.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds));
    let expires = signed + Duration::from_secs(expires.ok_or_else(|| malformed("x-oss-expires is 1 to 604800"))?);
    if expires < now {
        return Err(expired());
    }
    if signed > now && !keys.is_timely(signed, now) {
        return Err(skewed());
    }
    let additional = param("x-oss-additional-headers").unwrap_or_default();
    let expected = computed(request, &key, &scope, stamp, additional)?;
    matches(&expected, signature)?;
    Ok(key)
}

/// What a signature of version 4 is for, besides the request.
struct Scope<'a> {
    date: &'a str,
    region: &'a str,
}

fn scope<'a>(credential: &'a str, keys: &AccessKeys, region: &str) -> Result<(Arc<AccessKey>, Scope<'a>), Refused> {
    let mut fields = credential.split('/');
    let (Some(id), Some(date), Some(signed_for), Some("oss"), Some("aliyun_v4_request"), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(malformed("a credential is ID/DATE/REGION/oss/aliyun_v4_request"));
    };
    if date.len() != 8 {
        return Err(malformed("a credential's date has 8 digits"));
    }
    let key = known(keys, id)?;
    if signed_for != region {
        let message = format!("Invalid signing region in Authorization header: this is {region:?}.");
        return Err(Refused::new(403, "InvalidArgument", message));
    }
    Ok((key, Scope { date, region: signed_for }))
}

fn computed(
    request: &OssRequest,
    key: &AccessKey,
    scope: &Scope<'_>,
    stamp: &str,
    additional: &str,
) -> Result<String, Refused> {
    let mut query: Vec<_> = request
        .query
        .iter()
        .filter(|(name, _)| name != "x-oss-signature")
        .map(|(name, value)| (encode(name, false), encode(value, false)))
        .collect();
    query.sort_unstable();
    let query: Vec<_> = query
        .into_iter()
        .map(|(name, value)| if value.is_empty() { name } else { format!("{name}={value}") })
        .collect();
    let mut additional: Vec<_> =
        additional.split(';').map(str::trim).filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect();
    additional.sort_unstable();
    let is_signed = |name: &str| {
        name.starts_with("x-oss-")
            || matches!(name, "content-type" | "content-md5")
            || additional.iter().any(|other| other == name)
    };
    let path = match request.bucket.as_str() {
        "" => "/".to_owned(),
        bucket => format!("/{bucket}/{}", encode(&request.key, true)),
    };
    let mut canonical = format!("{}\n{path}\n{}\n", request.method, query.join("&")).into_bytes();
    header_lines(request, is_signed, &mut canonical);
    let payload = text(request, "x-oss-content-sha256")?.unwrap_or("UNSIGNED-PAYLOAD");
    canonical.extend_from_slice(format!("\n{}\n{payload}", additional.join(";")).as_bytes());

    let Scope { date, region } = *scope;
    let text = format!(
        "OSS4-HMAC-SHA256\n{stamp}\n{date}/{region}/oss/aliyun_v4_request\n{}",
        base16ct::lower::encode_string(&Sha256::digest(&canonical))
    );
    let mut signing = Zeroizing::new(format!("aliyun_v4{}", key.secret().expose()).into_bytes());
    for step in [date, region, "oss", "aliyun_v4_request"] {
        signing = Zeroizing::new(hmac_sha256(&signing, step.as_bytes())?);
    }
    Ok(base16ct::lower::encode_string(&hmac_sha256(&signing, text.as_bytes())?))
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| no_mac())?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().to_vec())
}

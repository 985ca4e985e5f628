//! [Version 1](https://www.alibabacloud.com/help/en/oss/developer-reference/include-signatures-in-the-authorization-header), and how
//! Alibaba's clients compute it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use super::super::answer::Refused;
use super::super::request::{OssRequest, http_date};
use super::{basic_time, expired, header_lines, known, malformed, matches, no_mac, skewed, text};
use crate::access::{AccessKey, AccessKeys};

pub(super) fn header(
    request: &OssRequest,
    rest: &str,
    keys: &AccessKeys,
    now: SystemTime,
) -> Result<Arc<AccessKey>, Refused> {
    let (id, signature) = rest.trim().split_once(':').ok_or_else(|| malformed("Authorization is OSS ID:SIGNATURE"))?;
    let key = known(keys, id)?;
    let date = match text(request, "x-oss-date")? {
        Some(date) => date,
        None => text(request, "date")?.unwrap_or_default(),
    };
    let no_date = || Refused::new(403, "AccessDenied", "A signed request has a valid header Date.");
    let signed = http_date(date).or_else(|| basic_time(date)).ok_or_else(no_date)?;
    if !keys.is_timely(signed, now) {
        return Err(skewed());
    }
    matches(&computed(request, &key, date)?, signature)?;
    Ok(key)
}

pub(super) fn query(request: &OssRequest, keys: &AccessKeys, now: SystemTime) -> Result<Arc<AccessKey>, Refused> {
    let (Some(id), Some(expires), Some(signature)) =
        (request.param("OSSAccessKeyId"), request.param("Expires"), request.param("Signature"))
    else {
        return Err(malformed("a signature in the query needs OSSAccessKeyId, Expires and Signature"));
    };
    let key = known(keys, id)?;
    let seconds: u64 = expires.parse().map_err(|_| malformed("Expires is a number of seconds"))?;
    if UNIX_EPOCH + Duration::from_secs(seconds.min(1 << 40)) < now {
        return Err(expired());
    }
    matches(&computed(request, &key, expires)?, signature)?;
    Ok(key)
}

fn computed(request: &OssRequest, key: &AccessKey, date: &str) -> Result<String, Refused> {
    let of = |name| text(request, name).map(Option::unwrap_or_default);
    let mut signed =
        format!("{}\n{}\n{}\n{date}\n", request.method, of("content-md5")?, of("content-type")?).into_bytes();
    header_lines(request, |name| name.starts_with("x-oss-"), &mut signed);
    let resource = match request.bucket.as_str() {
        "" => "/".to_owned(),
        bucket => format!("/{bucket}/{}", request.key),
    };
    signed.extend_from_slice(resource.as_bytes());
    let is_signed = |name: &str| SUB_RESOURCES.contains(&name) || name.starts_with("x-oss-ac-");
    let mut sub: Vec<_> = request.query.iter().filter(|(name, _)| is_signed(name)).collect();
    sub.sort_unstable();
    for (n, (name, value)) in sub.into_iter().enumerate() {
        signed.push(if n == 0 { b'?' } else { b'&' });
        signed.extend_from_slice(name.as_bytes());
        if !value.is_empty() {
            signed.push(b'=');
            signed.extend_from_slice(value.as_bytes());
        }
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(key.secret().expose().as_bytes()).map_err(|_| no_mac())?;
    mac.update(&signed);
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}

/// Parameters that are part of what version 1 signs: those that Alibaba's clients sign.
const SUB_RESOURCES: [&str; 78] = [
    "accessPoint",
    "accessPointPolicy",
    "acl",
    "append",
    "asyncFetch",
    "bucketArchiveDirectRead",
    "bucketInfo",
    "callback",
    "callback-var",
    "cname",
    "comp",
    "continuation-token",
    "cors",
    "delete",
    "encryption",
    "endTime",
    "group",
    "httpsConfig",
    "inventory",
    "inventoryId",
    "lifecycle",
    "link",
    "live",
    "location",
    "logging",
    "metaQuery",
    "objectInfo",
    "objectMeta",
    "partNumber",
    "policy",
    "position",
    "publicAccessBlock",
    "qos",
    "qosInfo",
    "qosRequester",
    "redundancyTransition",
    "referer",
    "regionList",
    "replication",
    "replicationLocation",
    "replicationProgress",
    "requestPayment",
    "requesterQosInfo",
    "resourceGroup",
    "resourcePool",
    "resourcePoolBuckets",
    "resourcePoolInfo",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "security-token",
    "sequential",
    "startTime",
    "stat",
    "status",
    "style",
    "styleName",
    "symlink",
    "tagging",
    "transferAcceleration",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "vod",
    "website",
    "worm",
    "wormExtend",
    "wormId",
    "x-oss-async-process",
    "x-oss-process",
    "x-oss-request-payer",
    "x-oss-traffic-limit",
];

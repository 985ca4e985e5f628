//! Which of OSS's calls a request is.

use http::Method;

use super::answer::Refused;
use super::request::OssRequest;
use crate::access::Right;

/// The calls that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    ListBuckets,
    PutBucket,
    DeleteBucket,
    HeadBucket,
    GetBucketInfo,
    GetBucketLocation,
    GetBucketAcl,
    GetBucketVersioning,
    GetBucketEncryption,
    PutBucketEncryption,
    DeleteBucketEncryption,
    ListObjects,
    ListObjectsV2,
    DeleteMultipleObjects,
    PutObject,
    CopyObject,
    GetObject,
    HeadObject,
    GetObjectMeta,
    DeleteObject,
    GetObjectAcl,
    GetObjectTagging,
    InitiateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
}

/// Parameters that make a request another call than the one without them. A request with one that is not served is refused: it must not be
/// taken for the call that it would be without.
const OTHER_CALLS: [&str; 34] = [
    "accessPoint",
    "append",
    "asyncFetch",
    "callback",
    "cname",
    "comp",
    "cors",
    "inventory",
    "lifecycle",
    "link",
    "live",
    "logging",
    "metaQuery",
    "objectInfo",
    "policy",
    "publicAccessBlock",
    "qos",
    "qosInfo",
    "referer",
    "regionList",
    "replication",
    "requestPayment",
    "resourceGroup",
    "restore",
    "stat",
    "style",
    "symlink",
    "transferAcceleration",
    "versionId",
    "versions",
    "vod",
    "website",
    "worm",
    "x-oss-process",
];

impl Call {
    pub(super) fn of(request: &OssRequest) -> Result<Self, Refused> {
        let has = |name| request.has(name);
        let not_served = || {
            Err(Refused::new(501, "NotImplemented", "A header or parameter asks for what this gateway does not do."))
        };
        if let Some(other) = OTHER_CALLS.iter().find(|name| has(name)) {
            return Err(Refused::new(501, "NotImplemented", format!("This gateway does not answer to {other:?}.")));
        }
        let get = request.method == Method::GET;
        if request.bucket.is_empty() {
            return if get { Ok(Self::ListBuckets) } else { not_served() };
        }
        let of_bucket = request.key.is_empty();
        let call = match (&request.method, of_bucket) {
            (&Method::GET, true) if has("bucketInfo") => Self::GetBucketInfo,
            (&Method::GET, true) if has("location") => Self::GetBucketLocation,
            (&Method::GET, true) if has("acl") => Self::GetBucketAcl,
            (&Method::GET, true) if has("versioning") => Self::GetBucketVersioning,
            (&Method::GET, true) if has("encryption") => Self::GetBucketEncryption,
            (&Method::GET, true) if has("uploads") => Self::ListMultipartUploads,
            (&Method::GET, true) if has("tagging") => return not_served(),
            (&Method::GET, true) if request.param("list-type") == Some("2") => Self::ListObjectsV2,
            (&Method::GET, true) => Self::ListObjects,
            (&Method::HEAD, true) => Self::HeadBucket,
            (&Method::PUT, true) if has("encryption") => Self::PutBucketEncryption,
            (&Method::PUT, true) if has("acl") || has("versioning") || has("tagging") => return not_served(),
            (&Method::PUT, true) => Self::PutBucket,
            (&Method::DELETE, true) if has("encryption") => Self::DeleteBucketEncryption,
            (&Method::DELETE, true) if has("tagging") => return not_served(),
            (&Method::DELETE, true) => Self::DeleteBucket,
            (&Method::POST, true) if has("delete") => Self::DeleteMultipleObjects,

            (&Method::GET, false) if has("uploadId") => Self::ListParts,
            (&Method::GET, false) if has("acl") => Self::GetObjectAcl,
            (&Method::GET, false) if has("tagging") => Self::GetObjectTagging,
            (&Method::GET, false) => Self::GetObject,
            (&Method::HEAD, false) if has("objectMeta") => Self::GetObjectMeta,
            (&Method::HEAD, false) => Self::HeadObject,
            (&Method::PUT, false) if has("acl") || has("tagging") => return not_served(),
            (&Method::PUT, false) if has("uploadId") || has("partNumber") => {
                if request.headers.contains_key("x-oss-copy-source") { Self::UploadPartCopy } else { Self::UploadPart }
            }
            (&Method::PUT, false) if request.headers.contains_key("x-oss-copy-source") => Self::CopyObject,
            (&Method::PUT, false) => Self::PutObject,
            (&Method::DELETE, false) if has("uploadId") => Self::AbortMultipartUpload,
            (&Method::DELETE, false) if has("tagging") => return not_served(),
            (&Method::DELETE, false) => Self::DeleteObject,
            (&Method::POST, false) if has("uploads") => Self::InitiateMultipartUpload,
            (&Method::POST, false) if has("uploadId") => Self::CompleteMultipartUpload,
            _ => return not_served(),
        };
        Ok(call)
    }

    /// What the caller must be allowed to do with the bucket. `None`: what is answered depends on what it may do.
    pub(super) fn right(self) -> Option<Right> {
        match self {
            Self::ListBuckets => None,
            Self::PutBucket | Self::DeleteBucket | Self::PutBucketEncryption | Self::DeleteBucketEncryption => {
                Some(Right::Admin)
            }
            Self::HeadBucket
            | Self::GetBucketInfo
            | Self::GetBucketLocation
            | Self::GetBucketAcl
            | Self::GetBucketVersioning
            | Self::GetBucketEncryption
            | Self::ListObjects
            | Self::ListObjectsV2
            | Self::GetObject
            | Self::HeadObject
            | Self::GetObjectMeta
            | Self::GetObjectAcl
            | Self::GetObjectTagging
            | Self::ListParts
            | Self::ListMultipartUploads => Some(Right::Read),
            Self::DeleteMultipleObjects
            | Self::PutObject
            | Self::CopyObject
            | Self::DeleteObject
            | Self::InitiateMultipartUpload
            | Self::UploadPart
            | Self::UploadPartCopy
            | Self::CompleteMultipartUpload
            | Self::AbortMultipartUpload => Some(Right::Write),
        }
    }

    /// Its name in OSS's documentation.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ListBuckets => "ListBuckets",
            Self::PutBucket => "PutBucket",
            Self::DeleteBucket => "DeleteBucket",
            Self::HeadBucket => "HeadBucket",
            Self::GetBucketInfo => "GetBucketInfo",
            Self::GetBucketLocation => "GetBucketLocation",
            Self::GetBucketAcl => "GetBucketAcl",
            Self::GetBucketVersioning => "GetBucketVersioning",
            Self::GetBucketEncryption => "GetBucketEncryption",
            Self::PutBucketEncryption => "PutBucketEncryption",
            Self::DeleteBucketEncryption => "DeleteBucketEncryption",
            Self::ListObjects => "ListObjects",
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::DeleteMultipleObjects => "DeleteMultipleObjects",
            Self::PutObject => "PutObject",
            Self::CopyObject => "CopyObject",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::GetObjectMeta => "GetObjectMeta",
            Self::DeleteObject => "DeleteObject",
            Self::GetObjectAcl => "GetObjectACL",
            Self::GetObjectTagging => "GetObjectTagging",
            Self::InitiateMultipartUpload => "InitiateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::UploadPartCopy => "UploadPartCopy",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListParts => "ListParts",
            Self::ListMultipartUploads => "ListMultipartUploads",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::request;
    use super::*;

    #[test]
    fn requests_are_the_calls_that_they_say() {
        let name = |method: &str, uri: &str, headers: &[(&str, &str)]| {
            Call::of(&request(method, uri, headers).unwrap()).map_or("-", Call::name)
        };
        for (method, uri, expected) in [
            ("GET", "/", "ListBuckets"),
            ("PUT", "/b", "PutBucket"),
            ("PUT", "/b/", "PutBucket"),
            ("GET", "/b?encryption", "GetBucketEncryption"),
            ("GET", "/b?list-type=2", "ListObjectsV2"),
            ("GET", "/b/?prefix=a", "ListObjects"),
            ("POST", "/b?delete", "DeleteMultipleObjects"),
            ("GET", "/b?lifecycle", "-"),
            ("GET", "/b?versions", "-"),
            ("PUT", "/b?acl", "-"),
            ("POST", "/b/k?append&position=0", "-"),
            ("GET", "/b/k?x-oss-process=image", "-"),
            ("PUT", "/b/k", "PutObject"),
            ("PUT", "/b/k?uploadId=1&partNumber=1", "UploadPart"),
            ("PUT", "/b/k?acl", "-"),
            ("POST", "/b/k?uploads", "InitiateMultipartUpload"),
            ("POST", "/b/k?uploadId=1", "CompleteMultipartUpload"),
            ("POST", "/b/k", "-"),
            ("HEAD", "/b/k?objectMeta", "GetObjectMeta"),
            ("DELETE", "/b/k?uploadId=1", "AbortMultipartUpload"),
            ("PATCH", "/b/k", "-"),
            ("DELETE", "/", "-"),
        ] {
            assert_eq!(name(method, uri, &[]), expected, "{method} {uri}");
        }
        assert_eq!(name("PUT", "/b/k", &[("x-oss-copy-source", "/b/a")]), "CopyObject");
        assert_eq!(name("PUT", "/b/k?uploadId=1&partNumber=1", &[("x-oss-copy-source", "/b/a")]), "UploadPartCopy");
    }
}

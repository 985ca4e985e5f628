//! Secrets for the library to check signatures with, and rights.

use std::sync::{Arc, PoisonError};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::Noted;
use crate::access::{AccessKeys, Caller, Right};
use crate::service::BucketName;

pub(super) struct Auth(pub(super) Arc<AccessKeys>);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        let key = self.0.get(id).ok_or_else(|| S3Error::new(S3ErrorCode::InvalidAccessKeyId))?;
        Ok(SecretKey::from(key.secret().expose()))
    }
}

pub(super) struct Access(pub(super) Arc<AccessKeys>);

#[async_trait::async_trait]
impl S3Access for Access {
    /// Once the signature is checked, and before anything else of the request is read.
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let caller = match context.credentials() {
            None => self.0.anonymous(),
            Some(credentials) => {
                let key = self.0.get(&credentials.access_key);
                Caller::new(key.ok_or_else(|| S3Error::new(S3ErrorCode::InvalidAccessKeyId))?)
            }
        };
        let (needed, operation) = (right(context.s3_op().name()), known(context.s3_op().name()));
        if let Some(noted) = context.extensions_mut().get::<Noted>() {
            let mut told = noted.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.operation = operation;
            told.access_key = caller.id().map(str::to_owned);
        }
        let allowed = match context.s3_path() {
            // The list of buckets has those that may be read.
            S3Path::Root => caller.id().is_some(),
            S3Path::Bucket { bucket } | S3Path::Object { bucket, .. } => caller.may(bucket, needed),
        };
        context.extensions_mut().insert(caller);
        if allowed { Ok(()) } else { Err(denied()) }
    }
}

/// Refuses to read a bucket that is not the one that the request is for.
pub(super) fn check_source<T>(request: &S3Request<T>, bucket: &BucketName) -> S3Result<()> {
    match request.extensions.get::<Caller>() {
        Some(caller) if caller.may(bucket.as_str(), Right::Read) => Ok(()),
        _ => Err(denied()),
    }
}

fn denied() -> S3Error {
    S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied")
}

/// What an operation needs. Whatever is not named here changes a bucket.
fn right(operation: &str) -> Right {
    const WRITE: [&str; 9] = [
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateMultipartUpload",
        "DeleteObject",
        "DeleteObjects",
        "PutObject",
        "UploadPart",
        "UploadPartCopy",
    ];
    let is_read = ["Get", "Head", "List"].iter().any(|beginning| operation.starts_with(beginning));
    match WRITE.contains(&operation) {
        true => Right::Write,
        false if is_read => Right::Read,
        false => Right::Admin,
    }
}

/// The operation's name as metrics keep it: only of those that there are, so that clients cannot make up any number of them.
fn known(operation: &str) -> &'static str {
    const NAMES: [&str; 29] = [
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateBucket",
        "CreateMultipartUpload",
        "DeleteBucket",
        "DeleteBucketEncryption",
        "DeleteObject",
        "DeleteObjects",
        "GetBucketAcl",
        "GetBucketEncryption",
        "GetBucketLocation",
        "GetBucketVersioning",
        "GetObject",
        "GetObjectAcl",
        "GetObjectAttributes",
        "GetObjectTagging",
        "HeadBucket",
        "HeadObject",
        "ListBuckets",
        "ListMultipartUploads",
        "ListObjectVersions",
        "ListObjects",
        "ListObjectsV2",
        "ListParts",
        "PutBucketEncryption",
        "PutObject",
        "UploadPart",
        "UploadPartCopy",
    ];
    NAMES.into_iter().find(|name| *name == operation).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_need_the_right_to_what_they_do() {
        for (operation, needed) in [
            ("GetObject", Right::Read),
            ("ListMultipartUploads", Right::Read),
            ("PutObject", Right::Write),
            ("DeleteObjects", Right::Write),
            ("CreateBucket", Right::Admin),
            ("PutBucketEncryption", Right::Admin),
            ("PutObjectAcl", Right::Admin),
            ("WhatIsToCome", Right::Admin),
        ] {
            assert_eq!(right(operation), needed, "{operation}");
        }
        assert_eq!((known("GetObject"), known("Nonsense")), ("GetObject", "other"));
    }
}

//! Buckets.

use s3s::dto::{
    Bucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketEncryptionInput,
    DeleteBucketEncryptionOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketAclInput, GetBucketAclOutput,
    GetBucketEncryptionInput, GetBucketEncryptionOutput, GetBucketLocationInput, GetBucketLocationOutput,
    GetBucketVersioningInput, GetBucketVersioningOutput, Grant, Grantee, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput, Owner, Permission, PutBucketEncryptionInput, PutBucketEncryptionOutput,
    ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    Type,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::error::{not_implemented, s3_error};
use super::{Operations, sse};
use crate::access::{Caller, Right};
use crate::service::{BucketName, Encryption, Failure, FailureKind};

type Answer<T> = S3Result<S3Response<T>>;

pub(super) async fn list_buckets(this: &Operations, request: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
    let caller = request.extensions.get::<Caller>();
    let prefix = request.input.prefix.unwrap_or_default();
    let most = request.input.max_buckets.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let after = request.input.continuation_token.unwrap_or_default();
    let all = this.service.list_buckets().await.map_err(s3_error)?;
    let mut shown = all.into_iter().filter(|bucket| {
        let name = bucket.name.as_str();
        name.starts_with(&prefix) && name > after.as_str() && caller.is_some_and(|caller| caller.may(name, Right::Read))
    });
    let buckets: Vec<_> = shown
        .by_ref()
        .take(most)
        .map(|bucket| Bucket {
            name: Some(bucket.name.as_str().to_owned()),
            creation_date: Some(bucket.created.into()),
            bucket_region: None,
        })
        .collect();
    let more = shown.next().and_then(|_| buckets.last()).and_then(|last| last.name.clone());
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets),
        owner: Some(owner()),
        continuation_token: more,
        ..ListBucketsOutput::default()
    }))
}

pub(super) async fn create_bucket(
    this: &Operations,
    request: S3Request<CreateBucketInput>,
) -> Answer<CreateBucketOutput> {
    let input = request.input;
    if input.object_lock_enabled_for_bucket == Some(true) {
        return Err(not_implemented("Object lock is not supported."));
    }
    if input.acl.is_some_and(|acl| acl.as_str() != "private") {
        return Err(S3Error::new(S3ErrorCode::AccessControlListNotSupported));
    }
    let name = BucketName::new(&input.bucket).map_err(s3_error)?;
    this.service.create_bucket(&name).await.map_err(s3_error)?;
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{name}")) }))
}

pub(super) async fn head_bucket(this: &Operations, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
    this.bucket(&request.input.bucket).await?;
    let bucket_region = Some(this.service.region().to_owned());
    Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
}

pub(super) async fn delete_bucket(
    this: &Operations,
    request: S3Request<DeleteBucketInput>,
) -> Answer<DeleteBucketOutput> {
    let name = BucketName::new(&request.input.bucket).map_err(s3_error)?;
    // Uploads keep no bucket in S3; in OSS they do.
    this.service.delete_bucket_with_uploads(&name).await.map_err(s3_error)?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub(super) async fn get_bucket_location(
    this: &Operations,
    request: S3Request<GetBucketLocationInput>,
) -> Answer<GetBucketLocationOutput> {
    this.bucket(&request.input.bucket).await?;
    // The oldest region is called nothing here.
    let region = Some(this.service.region()).filter(|region| *region != "us-east-1");
    let location_constraint = region.map(|region| BucketLocationConstraint::from(region.to_owned()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
}

pub(super) async fn get_bucket_versioning(
    this: &Operations,
    request: S3Request<GetBucketVersioningInput>,
) -> Answer<GetBucketVersioningOutput> {
    this.bucket(&request.input.bucket).await?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

pub(super) async fn get_bucket_acl(
    this: &Operations,
    request: S3Request<GetBucketAclInput>,
) -> Answer<GetBucketAclOutput> {
    this.bucket(&request.input.bucket).await?;
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(vec![grant()]), owner: Some(owner()) }))
}

pub(super) async fn get_bucket_encryption(
    this: &Operations,
    request: S3Request<GetBucketEncryptionInput>,
) -> Answer<GetBucketEncryptionOutput> {
    let bucket = this.bucket(&request.input.bucket).await?;
    let none = || {
        let message = "The server side encryption configuration was not found";
        s3_error(Failure::new(FailureKind::NoSuchEncryptionRule, message))
    };
    let (algorithm, kms_master_key_id) = match bucket.encryption.ok_or_else(none)? {
        Encryption::Aes256 => (ServerSideEncryption::AES256, None),
        Encryption::Kms { key_id } => (ServerSideEncryption::AWS_KMS, key_id),
    };
    let sse_algorithm = ServerSideEncryption::from_static(algorithm);
    let by_default = ServerSideEncryptionByDefault { kms_master_key_id, sse_algorithm };
    let rule = ServerSideEncryptionRule {
        apply_server_side_encryption_by_default: Some(by_default),
        ..ServerSideEncryptionRule::default()
    };
    let configuration = ServerSideEncryptionConfiguration { rules: vec![rule] };
    Ok(S3Response::new(GetBucketEncryptionOutput { server_side_encryption_configuration: Some(configuration) }))
}

pub(super) async fn put_bucket_encryption(
    this: &Operations,
    request: S3Request<PutBucketEncryptionInput>,
) -> Answer<PutBucketEncryptionOutput> {
    let name = BucketName::new(&request.input.bucket).map_err(s3_error)?;
    let rules = request.input.server_side_encryption_configuration.rules;
    let [rule] = <[_; 1]>::try_from(rules).map_err(|_| S3Error::new(S3ErrorCode::MalformedXML))?;
    let by_default = rule.apply_server_side_encryption_by_default;
    let by_default = by_default.ok_or_else(|| S3Error::new(S3ErrorCode::MalformedXML))?;
    let encryption = sse::encryption(&by_default.sse_algorithm, by_default.kms_master_key_id)?;
    this.service.set_encryption(&name, Some(encryption)).await.map_err(s3_error)?;
    Ok(S3Response::new(PutBucketEncryptionOutput::default()))
}

pub(super) async fn delete_bucket_encryption(
    this: &Operations,
    request: S3Request<DeleteBucketEncryptionInput>,
) -> Answer<DeleteBucketEncryptionOutput> {
    let name = BucketName::new(&request.input.bucket).map_err(s3_error)?;
    this.service.set_encryption(&name, None).await.map_err(s3_error)?;
    Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
}

impl Operations {
    async fn bucket(&self, name: &str) -> S3Result<crate::service::Bucket> {
        self.service.bucket(&BucketName::new(name).map_err(s3_error)?).await.map_err(s3_error)
    }
}

/// Whom everything belongs to.
pub(super) fn owner() -> Owner {
    Owner { id: Some("sealift".to_owned()), display_name: Some("sealift".to_owned()) }
}

/// What the owner may do with it.
pub(super) fn grant() -> Grant {
    let grantee = Grantee {
        id: Some("sealift".to_owned()),
        display_name: Some("sealift".to_owned()),
        email_address: None,
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    };
    Grant { grantee: Some(grantee), permission: Some(Permission::from_static(Permission::FULL_CONTROL)) }
}

//! Objects.

use std::time::SystemTime;

use http::{HeaderMap, header};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectAclInput, GetObjectAclOutput,
    GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput, GetObjectOutput, GetObjectTaggingInput,
    GetObjectTaggingOutput, HeadObjectInput, HeadObjectOutput, MetadataDirective, ObjectCannedACL, ObjectIdentifier,
    PutObjectInput, PutObjectOutput, StorageClass, Timestamp, TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use time::OffsetDateTime;

use super::Operations;
use super::access::check_source;
use super::body::{Announced, outgoing};
use super::buckets::{grant, owner};
use super::error::{invalid_argument, not_implemented, s3_error};
use super::list::VERSION;
use super::shapes::{
    announced, asked, attributes, conditions, customer, refuse_extras, source_conditions, source_customer,
};
use super::sse::{Asked, Customer, reading_key, told};
use crate::service::{
    Attributes, BucketName, Conditions, CopyRequest, Failure, FailureKind, ObjectInfo, ObjectName, PutRequest,
};

type Answer<T> = S3Result<S3Response<T>>;

pub(super) async fn put_object(this: &Operations, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    if input.if_match.is_some() || input.write_offset_bytes.is_some() {
        return Err(not_implemented("An object is written where there is none, or whatever is there."));
    }
    refuse_extras!(input);
    let name = object_name(&input.bucket, &input.key)?;
    let (sse, customer_md5) = asked!(input).sse()?;
    let attributes = attributes!(input);
    let announced = announced!(input, headers, trailing_headers);
    let (body, checksum) = announced.body(input.body)?;
    let if_not_exists = if_none_match(input.if_none_match.as_ref())?;
    let put = PutRequest { attributes, sse, if_not_exists };
    let written = this.service.put_object(&name, body, put).await.map_err(s3_error)?;
    let (server_side_encryption, ssekms_key_id, sse_customer_algorithm) = told(written.encrypted.as_ref());
    Ok(S3Response::new(PutObjectOutput {
        e_tag: Some(ETag::Strong(written.etag)),
        server_side_encryption,
        ssekms_key_id,
        sse_customer_algorithm,
        sse_customer_key_md5: customer_md5,
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
        ..PutObjectOutput::default()
    }))
}

pub(super) async fn get_object(this: &Operations, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
    let S3Request { input, headers, .. } = request;
    refuse_encryption(&headers)?;
    refuse_version(input.version_id.as_deref())?;
    let name = object_name(&input.bucket, &input.key)?;
    let (key, customer_md5) = reading_key(customer!(input))?;
    let object = this.service.open_object(&name, key.as_ref()).await.map_err(s3_error)?;
    let info = object.info();
    refuse_part_number(input.part_number, info)?;
    let conditions = conditions!(input);
    conditions.check(info).map_err(|failure| unmet(failure, info))?;
    let (range, content_range) = match input.range {
        None => (0..info.len, None),
        Some(range) => {
            let range = within(&range, info.len)?;
            let content_range = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), info.len);
            (range, Some(content_range))
        }
    };
    let length = range.end.saturating_sub(range.start);
    let head = shown(info, customer_md5);
    Ok(S3Response::new(GetObjectOutput {
        body: Some(outgoing(object.read(range))),
        content_length: Some(i64::try_from(length).unwrap_or(i64::MAX)),
        content_range,
        accept_ranges: head.accept_ranges,
        cache_control: input.response_cache_control.or(head.cache_control),
        content_disposition: input.response_content_disposition.or(head.content_disposition),
        content_encoding: input.response_content_encoding.or(head.content_encoding),
        content_language: input.response_content_language.or(head.content_language),
        content_type: input.response_content_type.or(head.content_type),
        expires: input.response_expires.or(head.expires),
        e_tag: head.e_tag,
        last_modified: head.last_modified,
        metadata: head.metadata,
        server_side_encryption: head.server_side_encryption,
        ssekms_key_id: head.ssekms_key_id,
        sse_customer_algorithm: head.sse_customer_algorithm,
        sse_customer_key_md5: head.sse_customer_key_md5,
        ..GetObjectOutput::default()
    }))
}

pub(super) async fn head_object(this: &Operations, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
    let S3Request { input, headers, .. } = request;
    refuse_encryption(&headers)?;
    refuse_version(input.version_id.as_deref())?;
    let name = object_name(&input.bucket, &input.key)?;
    let (key, customer_md5) = reading_key(customer!(input))?;
    let info = this.service.head_object(&name, key.as_ref()).await.map_err(s3_error)?;
    refuse_part_number(input.part_number, &info)?;
    let conditions = conditions!(input);
    conditions.check(&info).map_err(|failure| unmet(failure, &info))?;
    let mut head = shown(&info, customer_md5);
    let mut status = None;
    if let Some(range) = input.range {
        let range = within(&range, info.len)?;
        let length = range.end.saturating_sub(range.start);
        head.content_length = Some(i64::try_from(length).unwrap_or(i64::MAX));
        head.content_range = Some(format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), info.len));
        status = Some(http::StatusCode::PARTIAL_CONTENT);
    }
    let mut response = S3Response::new(head);
    response.status = status;
    Ok(response)
}

pub(super) async fn get_object_attributes(
    this: &Operations,
    request: S3Request<GetObjectAttributesInput>,
) -> Answer<GetObjectAttributesOutput> {
    let input = request.input;
    refuse_version(input.version_id.as_deref())?;
    let name = object_name(&input.bucket, &input.key)?;
    let (key, _) = reading_key(customer!(input))?;
    let info = this.service.head_object(&name, key.as_ref()).await.map_err(s3_error)?;
    // One header may have several of them.
    let wanted = input.object_attributes.iter().flat_map(|header| header.as_str().split(',')).map(str::trim);
    let wants = |attribute: &str| wanted.clone().any(|wanted| wanted == attribute);
    Ok(S3Response::new(GetObjectAttributesOutput {
        e_tag: wants("ETag").then(|| ETag::Strong(info.etag.clone())),
        object_size: wants("ObjectSize").then(|| i64::try_from(info.len).unwrap_or(i64::MAX)),
        storage_class: wants("StorageClass").then(|| StorageClass::from_static(StorageClass::STANDARD)),
        last_modified: Some(info.modified.into()),
        ..GetObjectAttributesOutput::default()
    }))
}

pub(super) async fn get_object_acl(
    this: &Operations,
    request: S3Request<GetObjectAclInput>,
) -> Answer<GetObjectAclOutput> {
    this.exists(&request.input.bucket, &request.input.key).await?;
    let (grants, owner) = (Some(vec![grant()]), Some(owner()));
    Ok(S3Response::new(GetObjectAclOutput { grants, owner, ..GetObjectAclOutput::default() }))
}

pub(super) async fn get_object_tagging(
    this: &Operations,
    request: S3Request<GetObjectTaggingInput>,
) -> Answer<GetObjectTaggingOutput> {
    this.exists(&request.input.bucket, &request.input.key).await?;
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: Vec::new(), version_id: None }))
}

pub(super) async fn copy_object(this: &Operations, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
    let source = source_name(&request.input.copy_source)?;
    check_source(&request, source.bucket())?;
    let input = request.input;
    refuse_extras!(input);
    let name = object_name(&input.bucket, &input.key)?;
    let (source_key, _) = reading_key(source_customer!(input))?;
    let (sse, customer_md5) = asked!(input).sse()?;
    let replaces = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => false,
        Some(MetadataDirective::REPLACE) => true,
        Some(_) => return Err(invalid_argument("Unknown metadata directive.")),
    };
    if source == name && !replaces && sse.is_none() {
        let message = "This copy request is illegal because it is trying to copy an object to itself without changing \
                       the object's metadata, storage class, website redirect location or encryption attributes.";
        return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
    }
    let attributes = attributes!(input);
    let copy = CopyRequest {
        source,
        source_key,
        conditions: source_conditions!(input),
        attributes: replaces.then_some(attributes),
        sse,
        if_not_exists: false,
    };
    let (written, _) = this.service.copy_object(&name, copy).await.map_err(|failure| match failure.kind() {
        // What is not modified cannot be had again: here, that is a condition that failed.
        FailureKind::NotModified => S3Error::new(S3ErrorCode::PreconditionFailed),
        _ => s3_error(failure),
    })?;
    let (server_side_encryption, ssekms_key_id, sse_customer_algorithm) = told(written.encrypted.as_ref());
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(CopyObjectResult {
            e_tag: Some(ETag::Strong(written.etag)),
            last_modified: Some(SystemTime::now().into()),
            ..CopyObjectResult::default()
        }),
        server_side_encryption,
        ssekms_key_id,
        sse_customer_algorithm,
        sse_customer_key_md5: customer_md5,
        ..CopyObjectOutput::default()
    }))
}

pub(super) async fn delete_object(
    this: &Operations,
    request: S3Request<DeleteObjectInput>,
) -> Answer<DeleteObjectOutput> {
    let input = request.input;
    refuse_version(input.version_id.as_deref())?;
    if input.if_match.is_some() || input.if_match_size.is_some() || input.if_match_last_modified_time.is_some() {
        return Err(not_implemented("Conditional deletions are not supported."));
    }
    let name = object_name(&input.bucket, &input.key)?;
    this.service.delete_object(&name).await.map_err(s3_error)?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn delete_objects(
    this: &Operations,
    request: S3Request<DeleteObjectsInput>,
) -> Answer<DeleteObjectsOutput> {
    let input = request.input;
    if input.delete.objects.is_empty() || input.delete.objects.len() > 1000 {
        return Err(S3Error::new(S3ErrorCode::MalformedXML));
    }
    let bucket = BucketName::new(&input.bucket).map_err(s3_error)?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    let mut keys = Vec::with_capacity(input.delete.objects.len());
    for object in input.delete.objects {
        match refuse_identifier(&object) {
            Ok(()) => keys.push(object.key),
            Err(error) => errors.push(not_deleted(object.key, &error)),
        }
    }
    let results = this.service.delete_objects(&bucket, &keys).await.map_err(s3_error)?;
    for (key, result) in keys.into_iter().zip(results) {
        match result {
            Ok(()) => deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() }),
            Err(failure) => errors.push(not_deleted(key, &s3_error(failure))),
        }
    }
    let deleted = (!input.delete.quiet.unwrap_or(false)).then_some(deleted);
    Ok(S3Response::new(DeleteObjectsOutput { deleted, errors: Some(errors), request_charged: None }))
}

fn not_deleted(key: String, error: &S3Error) -> s3s::dto::Error {
    s3s::dto::Error {
        key: Some(key),
        code: Some(error.code().as_str().to_owned()),
        message: error.message().map(str::to_owned),
        version_id: None,
    }
}

impl Operations {
    async fn exists(&self, bucket: &str, key: &str) -> S3Result<()> {
        let name = object_name(bucket, key)?;
        match self.service.head_object(&name, None).await {
            // It is there, and belongs to its key.
            Err(failure) if failure.kind() == FailureKind::InvalidArgument => Ok(()),
            found => found.map(|_| ()).map_err(s3_error),
        }
    }
}

pub(super) fn object_name(bucket: &str, key: &str) -> S3Result<ObjectName> {
    BucketName::new(bucket).and_then(|bucket| bucket.object(key)).map_err(s3_error)
}

pub(super) fn source_name(source: &CopySource) -> S3Result<ObjectName> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            refuse_version(version_id.as_deref())?;
            object_name(bucket, key)
        }
        _ => Err(not_implemented("Access points are not supported.")),
    }
}

/// What answers to GET and HEAD say of an object.
fn shown(info: &ObjectInfo, customer_md5: Option<String>) -> HeadObjectOutput {
    let header = |name| info.attributes.header(name).map(str::to_owned);
    let (server_side_encryption, ssekms_key_id, sse_customer_algorithm) = told(info.encrypted.as_ref());
    let expires = info.attributes.header("expires");
    HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(i64::try_from(info.len).unwrap_or(i64::MAX)),
        e_tag: Some(ETag::Strong(info.etag.clone())),
        last_modified: Some(info.modified.into()),
        cache_control: header("cache-control"),
        content_disposition: header("content-disposition"),
        content_encoding: header("content-encoding"),
        content_language: header("content-language"),
        content_type: header("content-type").or_else(|| Some("binary/octet-stream".to_owned())),
        expires: expires.and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, text).ok()),
        metadata: Some(info.attributes.user.clone().into_iter().collect()),
        server_side_encryption,
        ssekms_key_id,
        sse_customer_algorithm,
        sse_customer_key_md5: customer_md5,
        ..HeadObjectOutput::default()
    }
}

/// A condition does not hold. A client that has the object already is told which state of it (RFC 9110, section 15.4.5).
fn unmet(failure: Failure, info: &ObjectInfo) -> S3Error {
    let is_there = failure.kind() == FailureKind::NotModified;
    let mut error = s3_error(failure);
    if is_there {
        let etag = (header::ETAG, Some(format!("\"{}\"", info.etag)));
        let modified = (header::LAST_MODIFIED, http_date(&info.modified.into()));
        let headers = [etag, modified].into_iter();
        error.set_headers(headers.filter_map(|(name, value)| Some((name, value?.try_into().ok()?))).collect());
    }
    error
}

/// Reading takes no word on encryption, but a customer's key: an object says itself how it is encrypted.
fn refuse_encryption(headers: &HeaderMap) -> S3Result<()> {
    match headers.contains_key("x-amz-server-side-encryption") {
        true => Err(invalid_argument("x-amz-server-side-encryption is for writing, not for reading.")),
        false => Ok(()),
    }
}

pub(super) fn attributes(
    headers: [(&'static str, Option<String>); 5],
    expires: Option<Timestamp>,
    user: Option<s3s::dto::Metadata>,
) -> Attributes {
    let mut attributes = Attributes::default();
    for (name, value) in headers {
        if let Some(value) = value {
            attributes.set_header(name, value);
        }
    }
    if let Some(expires) = expires.as_ref().and_then(http_date) {
        attributes.set_header("expires", expires);
    }
    attributes.user.extend(user.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value)));
    attributes
}

fn http_date(time: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    time.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// The encoding of the object, without that of the request.
pub(super) fn without_chunked(encoding: Option<String>) -> Option<String> {
    let encoding = encoding?;
    let is_own = |one: &&str| one.eq_ignore_ascii_case("aws-chunked");
    let all: Vec<_> = encoding.split(',').map(str::trim).collect();
    if !all.iter().any(is_own) {
        return Some(encoding);
    }
    let kept: Vec<_> = all.into_iter().filter(|one| !is_own(one)).collect();
    Some(kept.join(", ")).filter(|kept| !kept.is_empty())
}

pub(super) fn trailer(headers: &HeaderMap) -> Option<String> {
    headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

pub(super) fn etags(condition: Option<&ETagCondition>) -> Option<String> {
    condition.map(|condition| condition.as_etag().map_or_else(|| "*".to_owned(), |etag| etag.value().to_owned()))
}

pub(super) fn system_time(time: Timestamp) -> SystemTime {
    OffsetDateTime::from(time).into()
}

/// Whether an object that is there is to stay.
pub(super) fn if_none_match(condition: Option<&ETagCondition>) -> S3Result<bool> {
    match condition {
        None => Ok(false),
        Some(condition) if condition.is_any() => Ok(true),
        Some(_) => Err(not_implemented("If-None-Match is * for writing.")),
    }
}

pub(super) fn refuse_acl(acl: Option<&ObjectCannedACL>) -> S3Result<()> {
    match acl.map(ObjectCannedACL::as_str) {
        None | Some(ObjectCannedACL::PRIVATE | ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL) => Ok(()),
        Some(_) => Err(S3Error::new(S3ErrorCode::AccessControlListNotSupported)),
    }
}

pub(super) fn refuse_extras(tags: bool, lock: bool, redirect: bool) -> S3Result<()> {
    match (tags, lock, redirect) {
        (true, _, _) => Err(not_implemented("Tags are not supported.")),
        (_, true, _) => Err(not_implemented("Object lock is not supported.")),
        (_, _, true) => Err(not_implemented("Redirects are not supported.")),
        _ => Ok(()),
    }
}

pub(super) fn refuse_class(class: Option<&StorageClass>) -> S3Result<()> {
    match class.map(StorageClass::as_str) {
        None | Some(StorageClass::STANDARD) => Ok(()),
        Some(_) => Err(S3Error::new(S3ErrorCode::InvalidStorageClass)),
    }
}

fn refuse_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some(VERSION) => Ok(()),
        Some(_) => Err(S3Error::new(S3ErrorCode::NoSuchVersion)),
    }
}

/// What a list of objects to delete says beside their names.
fn refuse_identifier(object: &ObjectIdentifier) -> S3Result<()> {
    refuse_version(object.version_id.as_deref())?;
    if object.e_tag.is_some() || object.size.is_some() || object.last_modified_time.is_some() {
        return Err(not_implemented("Conditional deletions are not supported."));
    }
    Ok(())
}

/// Where an object was cut, nobody knows once it is whole. One that was not cut has one part.
fn refuse_part_number(number: Option<i32>, info: &ObjectInfo) -> S3Result<()> {
    match number {
        None => Ok(()),
        Some(1) if !info.is_multipart() => Ok(()),
        Some(_) => Err(not_implemented("Reading by part number is not supported.")),
    }
}

/// What of an object of `len` bytes is asked for, at least one byte: of an empty one there is no range.
fn within(range: &s3s::dto::Range, len: u64) -> S3Result<std::ops::Range<u64>> {
    let found = range.check(len).ok().filter(|range| !range.is_empty());
    found.ok_or_else(|| S3Error::new(S3ErrorCode::InvalidRange))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_s_own_encoding_is_not_the_object_s() {
        let kept = |text: &str| without_chunked(Some(text.to_owned()));
        assert_eq!(kept("aws-chunked"), None);
        assert_eq!(kept("aws-chunked,gzip").as_deref(), Some("gzip"));
        assert_eq!(kept("gzip, AWS-chunked").as_deref(), Some("gzip"));
        assert_eq!(kept("deflate, aws-chunked,gzip").as_deref(), Some("deflate, gzip"));
        assert_eq!(kept("deflate,  gzip").as_deref(), Some("deflate,  gzip"));
        assert_eq!(without_chunked(None), None);
    }
}

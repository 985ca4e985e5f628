//! Objects.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};
use s3s::dto::{
    ChecksumMode, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectAclInput,
    GetObjectAclOutput, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, GetObjectInput,
    GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput, HeadObjectInput, HeadObjectOutput,
    MetadataDirective, ObjectCannedACL, ObjectIdentifier, ObjectPart, PutObjectInput, PutObjectOutput, StorageClass,
    Timestamp, TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use time::OffsetDateTime;

use super::access::check_source;
use super::body::{Announced, outgoing};
use super::buckets::{grant, owner};
use super::checksums::{algorithm_of, checksums, invalid, named, set_checksum, type_name};
use super::error::{invalid_argument, not_implemented, s3_error};
use super::list::{VERSION, most};
use super::shapes::{
    announced, asked, attributes, conditions, customer, refuse_extras, source_conditions, source_customer,
};
use super::sse::{Asked, Customer, reading_key, told};
use super::{Operations, Partial};
use crate::service::{
    Attributes, BucketName, Checksum, ChecksumAlgorithm, Conditions, CopyRequest, Failure, FailureKind, Object,
    ObjectInfo, ObjectName, PutRequest,
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
    let body = announced.body(input.body)?;
    let if_not_exists = if_none_match(input.if_none_match.as_ref())?;
    let put = PutRequest { attributes, sse, if_not_exists };
    let written = this.service.put_object(&name, body, put).await.map_err(s3_error)?;
    let (server_side_encryption, ssekms_key_id, sse_customer_algorithm) = told(written.encrypted.as_ref());
    let mut output = PutObjectOutput {
        e_tag: Some(ETag::Strong(written.etag)),
        server_side_encryption,
        ssekms_key_id,
        sse_customer_algorithm,
        sse_customer_key_md5: customer_md5,
        checksum_type: written.checksum.as_ref().map(|checksum| type_name(checksum.of())),
        ..PutObjectOutput::default()
    };
    set_checksum!(output, written.checksum.as_ref());
    Ok(S3Response::new(output))
}

pub(super) async fn get_object(this: &Operations, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
    let S3Request { input, headers, .. } = request;
    refuse_encryption(&headers)?;
    refuse_version(input.version_id.as_deref())?;
    let name = object_name(&input.bucket, &input.key)?;
    let (key, customer_md5) = reading_key(customer!(input))?;
    let object = this.service.open_object(&name, key.as_ref()).await.map_err(s3_error)?;
    let info = object.info();
    let conditions = conditions!(input);
    conditions.check(info).map_err(|failure| unmet(failure, info))?;
    let Chosen { range, content_range, parts_count } = match input.part_number {
        Some(number) => part(&object, number, input.range.as_ref())?,
        None => chosen(input.range.as_ref(), info.len)?,
    };
    let length = range.end.saturating_sub(range.start);
    let whole = range == (0..info.len);
    let head = shown(info, customer_md5);
    let mut output = GetObjectOutput {
        body: Some(outgoing(object.read(range))),
        content_length: Some(i64::try_from(length).unwrap_or(i64::MAX)),
        content_range,
        parts_count,
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
    };
    if let Some(checksum) = asked_for(input.checksum_mode.as_ref(), info).filter(|_| whole) {
        set_checksum!(output, Some(checksum));
        output.checksum_type = Some(type_name(checksum.of()));
    }
    Ok(S3Response::new(output))
}

pub(super) async fn head_object(this: &Operations, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
    let S3Request { input, headers, .. } = request;
    refuse_encryption(&headers)?;
    refuse_version(input.version_id.as_deref())?;
    let name = object_name(&input.bucket, &input.key)?;
    let (key, customer_md5) = reading_key(customer!(input))?;
    let (info, by_number) = match input.part_number {
        None => (this.service.head_object(&name, key.as_ref()).await.map_err(s3_error)?, None),
        // Where it was cut is known of an object that is opened.
        Some(number) => {
            let object = this.service.open_object(&name, key.as_ref()).await.map_err(s3_error)?;
            (object.info().clone(), Some(part(&object, number, input.range.as_ref())))
        }
    };
    let conditions = conditions!(input);
    conditions.check(&info).map_err(|failure| unmet(failure, &info))?;
    let chosen = by_number.unwrap_or_else(|| chosen(input.range.as_ref(), info.len));
    let Chosen { range, content_range, parts_count } = chosen?;
    let mut head = shown(&info, customer_md5);
    let length = range.end.saturating_sub(range.start);
    head.content_length = Some(i64::try_from(length).unwrap_or(i64::MAX));
    if let Some(checksum) = asked_for(input.checksum_mode.as_ref(), &info).filter(|_| range == (0..info.len)) {
        set_checksum!(head, Some(checksum));
        head.checksum_type = Some(type_name(checksum.of()));
    }
    let is_partial = content_range.is_some();
    head.content_range = content_range;
    head.parts_count = parts_count;
    let mut response = S3Response::new(head);
    if is_partial {
        response.extensions.insert(Partial);
    }
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
    // One header may have several of them.
    let wanted = input.object_attributes.iter().flat_map(|header| header.as_str().split(',')).map(str::trim);
    let wants = |attribute: &str| wanted.clone().any(|wanted| wanted == attribute);
    let (info, object_parts) = match wants("ObjectParts") {
        false => (this.service.head_object(&name, key.as_ref()).await.map_err(s3_error)?, None),
        true => {
            let object = this.service.open_object(&name, key.as_ref()).await.map_err(s3_error)?;
            (object.info().clone(), parts(&object, input.max_parts, input.part_number_marker)?)
        }
    };
    Ok(S3Response::new(GetObjectAttributesOutput {
        object_parts,
        checksum: info.checksum.as_ref().filter(|_| wants("Checksum")).map(|checksum| named(Some(checksum))),
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
        checksum: input.checksum_algorithm.as_ref().map(algorithm_of).transpose()?,
        sse,
        if_not_exists: false,
    };
    let (written, _) = this.service.copy_object(&name, copy).await.map_err(|failure| match failure.kind() {
        // What is not modified cannot be had again: here, that is a condition that failed.
        FailureKind::NotModified => S3Error::new(S3ErrorCode::PreconditionFailed),
        _ => s3_error(failure),
    })?;
    let (server_side_encryption, ssekms_key_id, sse_customer_algorithm) = told(written.encrypted.as_ref());
    let mut result = CopyObjectResult {
        e_tag: Some(ETag::Strong(written.etag)),
        last_modified: Some(SystemTime::now().into()),
        checksum_type: written.checksum.as_ref().map(|checksum| type_name(checksum.of())),
        ..CopyObjectResult::default()
    };
    set_checksum!(result, written.checksum.as_ref());
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
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

/// An object's checksum, for those who ask for it.
fn asked_for<'a>(mode: Option<&ChecksumMode>, info: &'a ObjectInfo) -> Option<&'a Checksum> {
    info.checksum.as_ref().filter(|_| mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED))
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

/// Which bytes of an object are read.
struct Chosen {
    range: std::ops::Range<u64>,
    content_range: Option<String>,
    /// In how many parts the object was uploaded, for those who ask for one of them.
    parts_count: Option<i32>,
}

impl Chosen {
    fn partial(range: std::ops::Range<u64>, len: u64) -> Self {
        let content_range = format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1));
        Self { content_range: Some(content_range).filter(|_| !range.is_empty()), range, parts_count: None }
    }
}

fn chosen(range: Option<&s3s::dto::Range>, len: u64) -> S3Result<Chosen> {
    match range {
        None => Ok(Chosen { range: 0..len, content_range: None, parts_count: None }),
        Some(range) => Ok(Chosen::partial(within(range, len)?, len)),
    }
}

/// The part that is asked for by its number.
fn part(object: &Object, number: i32, range: Option<&s3s::dto::Range>) -> S3Result<Chosen> {
    if range.is_some() {
        return Err(invalid("Cannot specify both Range header and partNumber query parameter."));
    }
    let unknown = || not_implemented("Where this object was cut into parts is not known.");
    let parts = object.parts().ok_or_else(unknown)?;
    let found = parts.iter().find(|part| i64::from(part.number) == i64::from(number));
    let found = found.ok_or_else(|| {
        let code = S3ErrorCode::Custom("InvalidPartNumber".into());
        let mut error = S3Error::with_message(code, "The requested part number is not satisfiable.");
        error.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
        error
    })?;
    let count = object.info().is_multipart().then(|| i32::try_from(parts.len()).unwrap_or(i32::MAX));
    Ok(Chosen { parts_count: count, ..Chosen::partial(found.range.clone(), object.info().len) })
}

/// A page of the parts that an object was uploaded in, if it was and they are known.
fn parts(object: &Object, max: Option<i32>, marker: Option<i32>) -> S3Result<Option<GetObjectAttributesParts>> {
    let Some(all) = object.parts().filter(|_| object.info().is_multipart()) else { return Ok(None) };
    let max = most(max)?;
    let marker = marker.unwrap_or(0);
    let number = |part: &crate::service::ObjectPart| i32::try_from(part.number).unwrap_or(i32::MAX);
    let mut rest = all.iter().filter(|part| number(part) > marker).peekable();
    let rows = rest.by_ref().take(usize::try_from(max).unwrap_or(0)).map(|part| ObjectPart {
        part_number: Some(number(part)),
        size: i64::try_from(part.range.end.saturating_sub(part.range.start)).ok(),
        ..ObjectPart::default()
    });
    let rows: Vec<_> = rows.collect();
    let is_truncated = rest.peek().is_some();
    Ok(Some(GetObjectAttributesParts {
        total_parts_count: Some(i32::try_from(all.len()).unwrap_or(i32::MAX)),
        max_parts: Some(max),
        part_number_marker: Some(marker),
        next_part_number_marker: rows.last().and_then(|row| row.part_number).filter(|_| is_truncated),
        is_truncated: Some(is_truncated),
        parts: Some(rows),
    }))
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

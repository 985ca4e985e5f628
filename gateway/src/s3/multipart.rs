//! Multipart uploads.

use std::time::Duration;

use futures::FutureExt as _;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyPartResult, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part, Range, StorageClass,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use sealift::ByteRange;

use super::Operations;
use super::access::check_source;
use super::body::Announced;
use super::buckets::owner;
use super::checksums::{algorithm_name, checksums, invalid, kind, named, one, set_checksum, type_name, type_of};
use super::error::{invalid_argument, not_implemented, s3_error};
use super::list::{Encoding, is_url, most};
use super::objects::{
    attributes, etags, if_none_match, object_name, refuse_acl, refuse_class, refuse_extras, source_name, system_time,
    trailer, without_chunked,
};
use super::shapes::{announced, asked, attributes, customer, refuse_extras, source_conditions, source_customer};
use super::sse::{Asked, Customer, reading_key, told};
use crate::service::{
    BucketName, ChecksumAlgorithm, CompleteRequest, Conditions, ETagStyle, InitiateRequest, ListedPart, PartRequest,
    PartSource, UploadsRequest,
};

type Answer<T> = S3Result<S3Response<T>>;

/// The fewest bytes of a part that is not the last.
const MIN_PART: u64 = 5 << 20;
/// A Complete that takes longer is answered while it goes on, so that nobody on the way takes the connection for dead.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn create_multipart_upload(
    this: &Operations,
    request: S3Request<CreateMultipartUploadInput>,
) -> Answer<CreateMultipartUploadOutput> {
    let input = request.input;
    refuse_extras!(input);
    let name = object_name(&input.bucket, &input.key)?;
    let (sse, customer_md5) = asked!(input).sse()?;
    let attributes = attributes!(input);
    let checksum = kind(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
    let initiate = InitiateRequest { attributes, sse, checksum, if_not_exists: false };
    let upload = this.service.initiate(&name, initiate).await.map_err(s3_error)?;
    let (server_side_encryption, ssekms_key_id, sse_customer_algorithm) = told(upload.encrypted.as_ref());
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload.id),
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: checksum.map(|checksum| type_name(checksum.of())),
        server_side_encryption,
        ssekms_key_id,
        sse_customer_algorithm,
        sse_customer_key_md5: customer_md5,
        ..CreateMultipartUploadOutput::default()
    }))
}

pub(super) async fn upload_part(this: &Operations, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    if ["x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"]
        .iter()
        .any(|name| headers.contains_key(*name))
    {
        return Err(invalid_argument("Encryption is asked for when the upload is begun, not for a part."));
    }
    let name = object_name(&input.bucket, &input.key)?;
    let (key, customer_md5) = reading_key(customer!(input))?;
    let announced = announced!(input, headers, trailing_headers);
    let body = announced.body(input.body)?;
    let part = PartRequest { number: number(input.part_number)?, customer: key };
    let part = this.service.upload_part(&name, &input.upload_id, part, body).await.map_err(s3_error)?;
    let (server_side_encryption, ssekms_key_id, sse_customer_algorithm) = told(part.encrypted.as_ref());
    let mut output = UploadPartOutput {
        e_tag: Some(ETag::Strong(part.etag)),
        server_side_encryption,
        ssekms_key_id,
        sse_customer_algorithm,
        sse_customer_key_md5: customer_md5,
        ..UploadPartOutput::default()
    };
    set_checksum!(output, part.checksum.as_ref());
    Ok(S3Response::new(output))
}

pub(super) async fn upload_part_copy(
    this: &Operations,
    request: S3Request<UploadPartCopyInput>,
) -> Answer<UploadPartCopyOutput> {
    let object = source_name(&request.input.copy_source)?;
    check_source(&request, object.bucket())?;
    let input = request.input;
    let name = object_name(&input.bucket, &input.key)?;
    let (key, customer_md5) = reading_key(customer!(input))?;
    let (source_key, _) = reading_key(source_customer!(input))?;
    let range = match input.copy_source_range.as_deref().map(Range::parse) {
        None => None,
        Some(Ok(Range::Int { first, last: Some(last) })) => Some(ByteRange::Inclusive { first, last }),
        Some(_) => return Err(invalid_argument("The range of a copied part is bytes=FIRST-LAST.")),
    };
    let source = PartSource { object, range, key: source_key, conditions: source_conditions!(input) };
    let part = PartRequest { number: number(input.part_number)?, customer: key };
    let copied = this.service.upload_part_copy(&name, &input.upload_id, part, source).await;
    let (part, _) = copied.map_err(|failure| match failure.kind() {
        crate::service::FailureKind::NotModified => S3Error::new(S3ErrorCode::PreconditionFailed),
        _ => s3_error(failure),
    })?;
    let (server_side_encryption, ssekms_key_id, sse_customer_algorithm) = told(part.encrypted.as_ref());
    let mut result = CopyPartResult {
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(part.modified.into()),
        ..CopyPartResult::default()
    };
    set_checksum!(result, part.checksum.as_ref());
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        server_side_encryption,
        ssekms_key_id,
        sse_customer_algorithm,
        sse_customer_key_md5: customer_md5,
        ..UploadPartCopyOutput::default()
    }))
}

pub(super) async fn complete_multipart_upload(
    this: &Operations,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Answer<CompleteMultipartUploadOutput> {
    let input = request.input;
    if input.if_match.is_some() {
        return Err(not_implemented("An object is written where there is none, or whatever is there."));
    }
    let name = object_name(&input.bucket, &input.key)?;
    let (customer, _) = reading_key(customer!(input))?;
    let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    if listed.is_empty() {
        return Err(S3Error::new(S3ErrorCode::MalformedXML));
    }
    let parts = listed.into_iter().map(|part| {
        let (Some(of), Some(etag)) = (part.part_number, part.e_tag) else {
            return Err(S3Error::new(S3ErrorCode::MalformedXML));
        };
        Ok(ListedPart { number: number(of)?, etag: etag.value().to_owned(), checksum: one(checksums!(part))? })
    });
    let len =
        input.mpu_object_size.map(|len| u64::try_from(len).map_err(|_| invalid("x-amz-mp-object-size is a number.")));
    let complete = CompleteRequest {
        parts: Some(parts.collect::<S3Result<_>>()?),
        min_part: MIN_PART,
        etag_style: ETagStyle::S3,
        if_not_exists: if_none_match(input.if_none_match.as_ref())?,
        len: len.transpose()?,
        checksum: one(checksums!(input))?,
        checksum_type: input.checksum_type.as_ref().map(type_of).transpose()?,
        customer,
    };
    let service = this.service.clone();
    let (bucket, key, id) = (input.bucket, input.key, input.upload_id);
    let mut work = async move {
        let written = service.complete(&name, &id, complete).await.map_err(s3_error)?;
        let (server_side_encryption, ssekms_key_id, _) = told(written.encrypted.as_ref());
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(ETag::Strong(written.etag)),
            server_side_encryption,
            ssekms_key_id,
            checksum_type: written.checksum.as_ref().map(|checksum| type_name(checksum.of())),
            ..CompleteMultipartUploadOutput::default()
        };
        set_checksum!(output, written.checksum.as_ref());
        Ok::<_, S3Error>(output)
    }
    .boxed();
    match tokio::time::timeout(PATIENCE, &mut work).await {
        Ok(done) => done.map(S3Response::new),
        Err(_) => Ok(S3Response::new(CompleteMultipartUploadOutput { future: Some(work), ..Default::default() })),
    }
}

pub(super) async fn abort_multipart_upload(
    this: &Operations,
    request: S3Request<AbortMultipartUploadInput>,
) -> Answer<AbortMultipartUploadOutput> {
    let input = request.input;
    let name = object_name(&input.bucket, &input.key)?;
    this.service.abort(&name, &input.upload_id).await.map_err(s3_error)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(super) async fn list_parts(this: &Operations, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
    let input = request.input;
    let name = object_name(&input.bucket, &input.key)?;
    let (key, _) = reading_key(customer!(input))?;
    let max = most(input.max_parts)?;
    let after = u32::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(0);
    let most = usize::try_from(max).unwrap_or(0);
    let listed = this.service.list_parts(&name, &input.upload_id, after, most, key.as_ref()).await;
    let listing = listed.map_err(s3_error)?;
    let parts = listing.parts.into_iter().map(|part| {
        let mut row = Part {
            part_number: i32::try_from(part.number).ok(),
            e_tag: Some(ETag::Strong(part.etag)),
            size: i64::try_from(part.len).ok(),
            last_modified: Some(part.modified.into()),
            ..Part::default()
        };
        set_checksum!(row, part.checksum.as_ref());
        row
    });
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: Some(max),
        part_number_marker: input.part_number_marker,
        is_truncated: Some(listing.next.is_some()),
        next_part_number_marker: listing.next.and_then(|next| i32::try_from(next).ok()),
        parts: Some(parts.collect()),
        owner: Some(owner()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        checksum_algorithm: listing.checksum.map(|checksum| algorithm_name(checksum.algorithm())),
        checksum_type: listing.checksum.map(|checksum| type_name(checksum.of())),
        ..ListPartsOutput::default()
    }))
}

pub(super) async fn list_multipart_uploads(
    this: &Operations,
    request: S3Request<ListMultipartUploadsInput>,
) -> Answer<ListMultipartUploadsOutput> {
    let input = request.input;
    if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(not_implemented("Uploads are listed without a delimiter."));
    }
    let bucket = BucketName::new(&input.bucket).map_err(s3_error)?;
    let max = most(input.max_uploads)?;
    let uploads = UploadsRequest {
        prefix: input.prefix.clone().unwrap_or_default(),
        after: (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone().unwrap_or_default()),
        max: usize::try_from(max).unwrap_or(0),
    };
    let listing = this.service.list_uploads(&bucket, &uploads).await.map_err(s3_error)?;
    let encode = Encoding(is_url(input.encoding_type.as_ref()));
    let last = listing.uploads.last().filter(|_| listing.truncated);
    let (next_key_marker, next_upload_id_marker) =
        last.map(|last| (encode.of(last.key.clone()), last.id.clone())).unzip();
    let uploads = listing.uploads.into_iter().map(|upload| MultipartUpload {
        key: Some(encode.of(upload.key)),
        upload_id: Some(upload.id),
        initiated: Some(upload.initiated.into()),
        owner: Some(owner()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..MultipartUpload::default()
    });
    Ok(S3Response::new(ListMultipartUploadsOutput {
        uploads: Some(uploads.collect()),
        is_truncated: Some(listing.truncated),
        max_uploads: Some(max),
        next_key_marker,
        next_upload_id_marker,
        bucket: Some(input.bucket),
        prefix: input.prefix.map(|prefix| encode.of(prefix)),
        key_marker: input.key_marker.map(|marker| encode.of(marker)),
        upload_id_marker: input.upload_id_marker,
        encoding_type: input.encoding_type,
        ..ListMultipartUploadsOutput::default()
    }))
}

fn number(number: i32) -> S3Result<u32> {
    u32::try_from(number).map_err(|_| invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
}

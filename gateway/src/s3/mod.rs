//! The S3 dialect, on the crate `s3s`: it reads requests and signatures (SigV4 in headers, in URLs, and of every chunk) and writes answers.
//! Here is what they mean to the [`Service`].
//!
//! Refused, rather than ignored: versions, tags, ACLs other than private, object lock, forms, signatures of version 2.

mod access;
mod body;
mod buckets;
mod checksums;
mod error;
mod list;
mod multipart;
mod objects;
mod shapes;
mod sse;

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, DeleteBucketInput,
    DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
    GetBucketAclInput, GetBucketAclOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectAclInput,
    GetObjectAclOutput, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput, GetObjectOutput,
    GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutBucketEncryptionInput, PutBucketEncryptionOutput,
    PutObjectInput, PutObjectOutput, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::host::MultiDomain;
use s3s::region::Region;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use sealift::{Error, ErrorKind, Result};

use crate::Config;
use crate::access::AccessKeys;
use crate::server::{Body, Dialect, Request, RequestId, Response, Told, full};
use crate::service::Service;
use access::{Access, Auth};

/// The S3 dialect.
pub(crate) struct S3Dialect {
    s3s: S3Service,
}

/// What is known of a request by the time its signature is checked, for the log.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Told>>);

/// An answer to HEAD that is about a part of an object. The library gives all of them one status.
#[derive(Clone, Copy)]
struct Partial;

/// The most that a list of parts, or of objects to delete, has.
const MAX_XML: usize = 8 << 20;

impl S3Dialect {
    /// Buckets may be named in the host, below one of `domains`.
    pub(crate) fn new(service: Service, keys: Arc<AccessKeys>, domains: &[String]) -> Result<Self> {
        let mut builder = S3ServiceBuilder::new(Operations { service });
        builder.set_auth(Auth(Arc::clone(&keys)));
        builder.set_access(Access(keys));
        if !domains.is_empty() {
            let invalid = |error| Error::new(ErrorKind::InvalidInput, format!("the domains are not valid: {error}"));
            builder.set_host(MultiDomain::new(domains.iter().map(String::as_str)).map_err(invalid)?);
        }
        let mut config = S3Config::default();
        config.xml_max_body_size = MAX_XML;
        config.presigned_url_max_skew_time_secs = u32::try_from(AccessKeys::SKEW.as_secs()).unwrap_or(u32::MAX);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        Ok(Self { s3s: builder.build() })
    }
}

impl Dialect for S3Dialect {
    fn answer(&self, request: Request) -> BoxFuture<'_, Response> {
        if let Some(refused) = refused(&request) {
            return Box::pin(std::future::ready(refused));
        }
        let noted = Noted::default();
        let mut request = request.map(s3s::Body::http_body_unsync);
        request.extensions_mut().insert(noted.clone());
        Box::pin(async move {
            let mut response = match self.s3s.call(request).await {
                Ok(response) => response.map(Body::new),
                Err(error) => {
                    tracing::error!("a request was not answered: {:?}", s3s::StdError::from(error));
                    status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "We encountered an internal error.")
                }
            };
            if response.extensions_mut().remove::<Partial>().is_some() {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            let told = noted.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            response.extensions_mut().insert(told);
            response
        })
    }
}

/// What the library would take, and must not.
fn refused(request: &Request) -> Option<Response> {
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let query = request.uri().query().unwrap_or_default();
    // They sign neither the payload nor all headers, and are good for ever.
    let is_old = text(header::AUTHORIZATION).is_some_and(|value| value.starts_with("AWS "))
        || form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "AWSAccessKeyId");
    if is_old {
        let message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";
        return Some(status(StatusCode::BAD_REQUEST, "InvalidRequest", message));
    }
    // They are read into memory as a whole.
    let is_form = text(header::CONTENT_TYPE).is_some_and(|value| value.starts_with("multipart/form-data"));
    if is_form && request.method() == Method::POST {
        let message = "Uploads by form are not supported. Please use PutObject.";
        return Some(status(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message));
    }
    None
}

fn status(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

/// What the library calls.
#[derive(Clone)]
struct Operations {
    service: Service,
}

impl Operations {
    /// Refuses what was signed for another region than the one that the operator named. Most tools sign for one of AWS's unless told
    /// otherwise, so without a name all are good.
    fn check_region(&self, signed: Option<&Region>) -> S3Result<()> {
        let own = self.service.region();
        let Some(signed) = signed.filter(|signed| own != Config::REGION && signed.as_str() != own) else {
            return Ok(());
        };
        let message = format!(
            "The authorization header is malformed; the region '{}' is wrong; expecting '{own}'",
            signed.as_str()
        );
        let mut error = S3Error::with_message(S3ErrorCode::AuthorizationHeaderMalformed, message);
        // From which clients of AWS learn where to ask.
        if let Ok(own) = HeaderValue::from_str(own) {
            error.set_headers(http::HeaderMap::from_iter([(HeaderName::from_static("x-amz-bucket-region"), own)]));
        }
        Err(error)
    }
}

/// An error's text says which request it is of, as its header does.
fn named(mut error: S3Error, id: Option<RequestId>) -> S3Error {
    if let Some(RequestId(id)) = id {
        error.set_request_id(id);
    }
    error
}

/// The operations, each in the file of its kind.
macro_rules! operations {
    ($($name:ident: $input:ty => $output:ty, $module:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(
                async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    let id = request.extensions.get::<RequestId>().cloned();
                    let answered = match self.check_region(request.region.as_ref()) {
                        Ok(()) => $module::$name(self, request).await,
                        Err(error) => Err(error),
                    };
                    answered.map_err(|error| named(error, id))
                }
            )*
        }
    };
}

operations! {
    list_buckets: ListBucketsInput => ListBucketsOutput, buckets;
    create_bucket: CreateBucketInput => CreateBucketOutput, buckets;
    head_bucket: HeadBucketInput => HeadBucketOutput, buckets;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput, buckets;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput, buckets;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput, buckets;
    get_bucket_acl: GetBucketAclInput => GetBucketAclOutput, buckets;
    get_bucket_encryption: GetBucketEncryptionInput => GetBucketEncryptionOutput, buckets;
    put_bucket_encryption: PutBucketEncryptionInput => PutBucketEncryptionOutput, buckets;
    delete_bucket_encryption: DeleteBucketEncryptionInput => DeleteBucketEncryptionOutput, buckets;
    list_objects: ListObjectsInput => ListObjectsOutput, list;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output, list;
    list_object_versions: ListObjectVersionsInput => ListObjectVersionsOutput, list;
    put_object: PutObjectInput => PutObjectOutput, objects;
    get_object: GetObjectInput => GetObjectOutput, objects;
    head_object: HeadObjectInput => HeadObjectOutput, objects;
    get_object_attributes: GetObjectAttributesInput => GetObjectAttributesOutput, objects;
    get_object_acl: GetObjectAclInput => GetObjectAclOutput, objects;
    get_object_tagging: GetObjectTaggingInput => GetObjectTaggingOutput, objects;
    copy_object: CopyObjectInput => CopyObjectOutput, objects;
    delete_object: DeleteObjectInput => DeleteObjectOutput, objects;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput, objects;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput, multipart;
    upload_part: UploadPartInput => UploadPartOutput, multipart;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput, multipart;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput, multipart;
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput, multipart;
    list_parts: ListPartsInput => ListPartsOutput, multipart;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput, multipart;
}

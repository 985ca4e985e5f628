//! The dialect of Alibaba Cloud OSS: signatures, XML, headers and codes, over the service that S3 shares.
//!
//! Written from the documentation of OSS's API and from what Alibaba's clients send and read.

mod answer;
mod auth;
mod buckets;
mod call;
pub(crate) mod fuzzing;
mod multipart;
mod objects;
mod request;
mod xml;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;

use crate::access::{AccessKeys, Caller, Right};
use crate::server::{Body, BodyError, Dialect, Request, RequestId, Response, Told};
use crate::service::{BucketName, CustomerKey, Encryption, Failure, FailureKind, ObjectName, Service, Sse};
use answer::Refused;
use call::Call;
use request::{OssRequest, invalid};

/// The most bytes that a request in XML has: 1,000 keys of 1,023 bytes each, escaped.
const MAX_XML: usize = 8 << 20;

type Done = Result<Response, Refused>;

/// Answers requests of OSS's clients.
#[derive(Debug)]
pub(crate) struct Oss {
    service: Service,
    keys: Arc<AccessKeys>,
    domains: Vec<String>,
}

impl Oss {
    pub(crate) fn new(service: Service, keys: Arc<AccessKeys>, domains: Vec<String>) -> Self {
        Self { service, keys, domains }
    }

    async fn handle(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let is_head = parts.method == http::Method::HEAD;
        let id = parts.extensions.get::<RequestId>().map_or_else(String::new, |RequestId(id)| id.clone());
        let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.to_owned();
        let mut told = Told::default();
        let answered = match OssRequest::parse(&parts, &self.domains) {
            Ok(request) => self.answer_to(request, body, &mut told).await,
            Err(failure) => Err(failure.into()),
        };
        let mut response = answered.unwrap_or_else(|refused| refused.into_response(&id, &host, is_head));
        answer::set(&mut response, "x-oss-request-id", &id);
        response.extensions_mut().insert(told);
        response
    }

    async fn answer_to(&self, request: OssRequest, body: Body, told: &mut Told) -> Done {
        let call = Call::of(&request);
        told.operation = call.as_ref().map_or("unknown", |call| call.name());
        let who = auth::authenticate(&request, &self.keys, self.service.region(), SystemTime::now())?;
        told.access_key = who.caller.id().map(str::to_owned);
        let call = call?;
        let context = Context { oss: self, request, caller: who.caller, sha256: who.sha256 };
        context.allow(call)?;
        match call {
            Call::ListBuckets => context.list_buckets().await,
            Call::PutBucket => context.put_bucket().await,
            Call::DeleteBucket => context.delete_bucket().await,
            Call::HeadBucket => context.head_bucket().await,
            Call::GetBucketInfo => context.bucket_info().await,
            Call::GetBucketLocation => context.bucket_location().await,
            Call::GetBucketAcl => context.bucket_acl().await,
            Call::GetBucketVersioning => context.bucket_versioning().await,
            Call::GetBucketEncryption => context.bucket_encryption().await,
            Call::PutBucketEncryption => context.put_bucket_encryption(body).await,
            Call::DeleteBucketEncryption => context.delete_bucket_encryption().await,
            Call::ListObjects => context.list_objects().await,
            Call::ListObjectsV2 => context.list_objects_v2().await,
            Call::DeleteMultipleObjects => context.delete_objects(body).await,
            Call::PutObject => context.put_object(body).await,
            Call::CopyObject => context.copy_object().await,
            Call::GetObject => context.get_object().await,
            Call::HeadObject => context.head_object().await,
            Call::GetObjectMeta => context.object_meta().await,
            Call::DeleteObject => context.delete_object().await,
            Call::GetObjectAcl => context.object_acl().await,
            Call::GetObjectTagging => context.object_tagging().await,
            Call::InitiateMultipartUpload => context.initiate().await,
            Call::UploadPart => context.upload_part(body).await,
            Call::UploadPartCopy => context.upload_part_copy().await,
            Call::CompleteMultipartUpload => context.complete(body).await,
            Call::AbortMultipartUpload => context.abort().await,
            Call::ListParts => context.list_parts().await,
            Call::ListMultipartUploads => context.list_uploads().await,
        }
    }
}

impl Dialect for Oss {
    fn answer(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(self.handle(request))
    }
}

/// A request whose sender is known.
struct Context<'a> {
    oss: &'a Oss,
    request: OssRequest,
    caller: Caller,
    sha256: Option<[u8; 32]>,
}

impl Context<'_> {
    fn service(&self) -> &Service {
        &self.oss.service
    }

    /// Refuses what the caller may not do with the request's bucket.
    fn allow(&self, call: Call) -> Result<(), Refused> {
        match call.right() {
            None => Ok(()),
            Some(right) => self.allow_in(&self.request.bucket, right),
        }
    }

    fn allow_in(&self, bucket: &str, right: Right) -> Result<(), Refused> {
        if self.caller.may(bucket, right) { Ok(()) } else { Err(Refused::denied()) }
    }

    fn bucket(&self) -> Result<BucketName, Refused> {
        Ok(BucketName::new(&self.request.bucket)?)
    }

    fn object(&self) -> Result<ObjectName, Refused> {
        Ok(self.bucket()?.object(&self.request.key)?)
    }

    /// The body of a request in XML, if it has the digests that the request announces.
    async fn xml(&self, body: Body) -> Result<Bytes, Refused> {
        let mut incoming = incoming(body);
        let mut bytes = Vec::new();
        while let Some(piece) = incoming.next().await {
            let piece = piece?;
            if bytes.len().saturating_add(piece.len()) > MAX_XML {
                return Err(Refused::new(400, "EntityTooLarge", "The request's XML is too long."));
            }
            bytes.extend_from_slice(&piece);
        }
        let bytes = Bytes::from(bytes);
        let body = self.checks(crate::service::Body::new(None, futures::stream::iter([Ok(bytes.clone())])))?;
        body.check().await?;
        Ok(bytes)
    }

    /// The body of a request that writes.
    fn body(&self, body: Body) -> Result<crate::service::Body, Refused> {
        self.checks(crate::service::Body::new(self.request.content_length()?, incoming(body)))
    }

    fn checks(&self, mut body: crate::service::Body) -> Result<crate::service::Body, Refused> {
        if let Some(text) = self.request.header("content-md5")? {
            body = body.with_md5(md5(text)?);
        }
        if let Some(sha256) = self.sha256 {
            body = body.with_sha256(sha256);
        }
        Ok(body)
    }

    /// The encryption that the request asks for.
    fn sse(&self) -> Result<Option<Sse>, Refused> {
        let of = |name| self.request.header(name).map(|text| text.filter(|text| !text.is_empty()));
        let customer = self.customer_key("x-oss-server-side-encryption-customer")?;
        let (algorithm, key_id, data) = (of(answer::SSE)?, of(answer::SSE_KEY)?, of(answer::SSE_DATA)?);
        if customer.is_some() && (algorithm.is_some() || key_id.is_some() || data.is_some()) {
            return Err(invalid("An object has one kind of server-side encryption.").into());
        }
        if let Some(key) = customer {
            return Ok(Some(Sse::Customer(key)));
        }
        if of("x-oss-server-side-encryption-context")?.is_some() {
            return Err(Refused::new(501, "NotImplemented", "An encryption context cannot be given here."));
        }
        let Some(algorithm) = algorithm else {
            if key_id.is_some() || data.is_some() {
                return Err(invalid("A KMS key id goes with x-oss-server-side-encryption: KMS only.").into());
            }
            return Ok(None);
        };
        let encryption: Encryption = xml::encryption(algorithm, key_id.map(str::to_owned), data)?;
        Ok(Some(Sse::Managed(encryption)))
    }

    /// The customer's key that the headers with this prefix carry.
    fn customer_key(&self, prefix: &str) -> Result<Option<CustomerKey>, Refused> {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        use md5::{Digest as _, Md5};

        let of = |name: &str| self.request.header(&format!("{prefix}-{name}"));
        let (algorithm, key, digest) = (of("algorithm")?, of("key")?, of("key-md5")?);
        let (algorithm, key, digest) = match (algorithm, key, digest) {
            (None, None, None) => return Ok(None),
            (Some(algorithm), Some(key), Some(digest)) => (algorithm, key, digest),
            _ => return Err(invalid("A customer's key comes with its algorithm and its MD5.").into()),
        };
        if !algorithm.eq_ignore_ascii_case("AES256") {
            let message = "The encryption algorithm is not valid. Supported value: AES256.";
            return Err(Refused::new(400, "InvalidEncryptionAlgorithmError", message));
        }
        let key = STANDARD.decode(key).map_err(|_| invalid("The customer's key is not base64."))?;
        let mut key = zeroize::Zeroizing::new(key);
        if STANDARD.encode(Md5::digest(&*key)) != digest {
            return Err(invalid("The customer's key does not have the MD5 that came with it.").into());
        }
        Ok(Some(CustomerKey::take(&mut key)?))
    }

    /// The key that the object or upload was encrypted under, if the request says it.
    fn read_key(&self) -> Result<Option<CustomerKey>, Refused> {
        self.customer_key("x-oss-server-side-encryption-customer")
    }

    fn writes_urls(&self) -> bool {
        self.request.param("encoding-type").is_some_and(|kind| kind.eq_ignore_ascii_case("url"))
    }

    /// A name in an answer, encoded as the request asks for.
    fn written(&self, name: &str) -> String {
        if self.writes_urls() { request::encode(name, true) } else { xml::escape(name) }
    }

    fn encoding(&self) -> &'static str {
        if self.writes_urls() { "<EncodingType>url</EncodingType>" } else { "" }
    }
}

/// The bytes of a request's body.
fn incoming(body: Body) -> impl futures::Stream<Item = Result<Bytes, Failure>> + Send + 'static {
    body.into_data_stream().map(|piece| {
        piece.map_err(|error| match error.downcast_ref::<BodyError>() {
            Some(BodyError::TooLong) => Failure::new(FailureKind::EntityTooLarge, error.to_string()),
            _ => Failure::new(FailureKind::IncompleteBody, "The request's body broke off."),
        })
    })
}

fn md5(text: &str) -> Result<[u8; 16], Refused> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    bytes.ok_or_else(|| Refused::new(400, "InvalidDigest", "The Content-MD5 you specified is invalid."))
}

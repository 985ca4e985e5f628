//! The key service `aws`: AWS KMS.
//!
//! Wire protocol: <https://docs.aws.amazon.com/kms/latest/APIReference/>, spoken by AWS's own SDK.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kms::config::{Config, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, EncryptionAlgorithmSpec};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::kms::{Kms, secret};
use crate::types::{EncryptionContext, KeyState, KmsService, WrappedKey, is_loopback_host};

/// AWS KMS: CMKs of the kind "symmetric encryption", named by ARN, or for sealing also by id or alias.
///
/// What an envelope names is always the key's ARN, as the service answered it. A key that is named by ARN is called in the ARN's region,
/// so one object can have recipients in several; other names need a region in the configuration.
///
/// Each call is made once: put [`Retrying`](crate::kms::retry::Retrying) around it.
///
/// Permissions: `kms:GenerateDataKey` on the first key an object is sealed for, `kms:Encrypt` on further ones, `kms:Decrypt` to read. A
/// policy can ask for the encryption context, for example `kms:EncryptionContext:sealift:bucket` of bound objects.
///
/// A data key that comes from or goes to the service is wiped in what this module holds. The SDK's own copies, which are the bodies of
/// requests and responses, are freed without being wiped.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use sealift::kms::aws::AwsKms;
/// use sealift::kms::recipients::Recipient;
/// use sealift::kms::retry::{CallPolicy, Retrying};
///
/// # fn example() {
/// let kms = Retrying::new(Arc::new(AwsKms::from_env()), CallPolicy::default());
/// let recipient = Recipient { kms: Arc::new(kms), key: "alias/uploads".to_owned() };
/// # }
/// ```
pub struct AwsKms {
    client: OnceCell<Client>,
}

impl AwsKms {
    /// As AWS's own tools are configured: credentials, region and profile from the environment, the shared files, or the machine's
    /// role; `AWS_ENDPOINT_URL_KMS` or `AWS_ENDPOINT_URL` names another server, by `https://` unless it is on this machine. All of it is
    /// looked for by the first call.
    #[must_use]
    pub fn from_env() -> Self {
        Self { client: OnceCell::new() }
    }

    /// With the SDK's `config`, but for retries, which are off.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: OnceCell::new_with(Some(client(config))) }
    }

    /// The ARN of the key `key`, as envelopes have it: for [`TrustedKeys::Only`](crate::kms::recipients::TrustedKeys::Only). What is an ARN
    /// of a key already is not looked up; other names need the permission for `kms:DescribeKey`.
    ///
    /// # Errors
    /// Those of [`Kms`].
    pub async fn key_id(&self, key: &str) -> Result<String> {
        if key.parse::<Arn>().is_ok_and(|arn| arn.is_key) {
            return Ok(key.to_owned());
        }
        let (client, region) = self.client_for(key).await?;
        let call = client.describe_key().key_id(key).customize().config_override(in_region(region));
        let answer = call.send().await.map_err(|error| failed(error, "look up", key))?;
        let arn = answer.key_metadata.and_then(|metadata| metadata.arn);
        arn.filter(|arn| arn.parse::<Arn>().is_ok_and(|arn| arn.is_key)).ok_or_else(|| incomplete("Arn"))
    }

    async fn client(&self) -> &Client {
        let from_env = || async {
            // Whoever does not limit the time of a call must not wait for ever.
            let limit = TimeoutConfig::builder().operation_timeout(Duration::from_secs(30)).build();
            client(&aws_config::defaults(BehaviorVersion::latest()).timeout_config(limit).load().await)
        };
        self.client.get_or_init(|| Box::pin(from_env())).await
    }

    /// The client, and the region to call for `key` if that names one.
    async fn client_for(&self, key: &str) -> Result<(&Client, Option<Region>)> {
        if key.trim().is_empty() {
            return Err(no_such_name(key));
        }
        let region = match key.starts_with("arn:") {
            true => Some(Region::new(key.parse::<Arn>()?.region)),
            false => None,
        };
        let client = self.client().await;
        if region.is_none() && client.config().region().is_none() {
            let message = format!("in which AWS region is the key {key:?}? Set AWS_REGION, or name the key by its ARN");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok((client, region))
    }

    async fn generate(&self, key: &str, context: &EncryptionContext) -> Result<(DataKey, WrappedKey)> {
        let (client, region) = self.client_for(key).await?;
        let call = client.generate_data_key().key_id(key).key_spec(DataKeySpec::Aes256);
        let call = call.set_encryption_context(pairs(context)).customize().config_override(in_region(region));
        let answer = call.send().await.map_err(|error| failed(error, "draw a data key under", key))?;
        let data_key = take(answer.plaintext)?;
        Ok((data_key, wrapped(key, answer.key_id, answer.ciphertext_blob)?))
    }

    async fn encrypt(&self, key: &str, data_key: &DataKey, context: &EncryptionContext) -> Result<WrappedKey> {
        let (client, region) = self.client_for(key).await?;
        // Wiped when the SDK drops the last reference to it.
        let plaintext = Bytes::from_owner(Zeroizing::new(data_key.expose().to_vec()));
        let call = client.encrypt().key_id(key).plaintext(Blob::from_maybe_shared(plaintext));
        let call = call.set_encryption_context(pairs(context)).customize().config_override(in_region(region));
        let answer = call.send().await.map_err(|error| failed(error, "wrap with", key))?;
        wrapped(key, answer.key_id, answer.ciphertext_blob)
    }

    async fn decrypt(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<DataKey> {
        secret::check_service(KmsService::Aws, wrapped)?;
        let key = &wrapped.key;
        // The store wrote it: nothing but a key's ARN becomes part of a request.
        let region = key.parse::<Arn>().ok().filter(|arn| arn.is_key).map(|arn| Region::new(arn.region));
        let region = region.ok_or_else(|| no_such_name(key))?;
        if wrapped.blob.is_empty() || wrapped.blob.len() > MAX_BLOB {
            return Err(secret::does_not_open(wrapped));
        }
        let call = self.client().await.decrypt().key_id(key).ciphertext_blob(Blob::new(wrapped.blob.as_slice()));
        let call = call.encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault);
        let call = call.set_encryption_context(pairs(context)).customize().config_override(in_region(Some(region)));
        let answer = call.send().await.map_err(|error| match error.code() {
            Some("InvalidCiphertextException" | "IncorrectKeyException") => secret::does_not_open(wrapped),
            _ => failed(error, "unwrap with", key),
        })?;
        let data_key = take(answer.plaintext);
        if answer.key_id.as_deref() != Some(key) {
            return Err(secret::does_not_open(wrapped));
        }
        data_key
    }
}

impl Kms for AwsKms {
    fn service(&self) -> KmsService {
        KmsService::Aws
    }

    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
        Box::pin(self.generate(key, context))
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        Box::pin(self.encrypt(key, data_key, context))
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        Box::pin(self.decrypt(wrapped, context))
    }
}

impl fmt::Debug for AwsKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsKms").finish_non_exhaustive()
    }
}

fn client(config: &SdkConfig) -> Client {
    let config = aws_sdk_kms::config::Builder::from(config).retry_config(RetryConfig::disabled());
    Client::from_conf(config.interceptor(NothingInTheClear).build())
}

/// Stops requests that would go over a network without TLS, data keys and all: the SDK takes any endpoint that is configured.
#[derive(Debug)]
struct NothingInTheClear;

impl Intercept for NothingInTheClear {
    fn name(&self) -> &'static str {
        "NothingInTheClear"
    }

    fn read_before_transmit(
        &self,
        request: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let url = request.request().uri();
        if is_private(url) { Ok(()) } else { Err(InTheClear(url.to_owned()).into()) }
    }
}

/// Whether what is sent to `url` can be read by nobody on the way.
fn is_private(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    scheme.eq_ignore_ascii_case("https") || is_loopback_host(host)
}

/// The address a request was not sent to.
#[derive(Debug)]
struct InTheClear(String);

impl fmt::Display for InTheClear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} would get data keys in the clear: give an https endpoint", self.0)
    }
}

impl StdError for InTheClear {}

/// What AWS documents as the longest `CiphertextBlob`.
const MAX_BLOB: usize = 6_144;

/// `arn:PARTITION:kms:REGION:ACCOUNT:key/ID` or `…:alias/NAME`.
struct Arn {
    region: String,
    is_key: bool,
}

impl FromStr for Arn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A region becomes part of a host's name.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_label = |text: &str| (1..=63).contains(&text.len()) && text.chars().all(plain);
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
        let fields: Vec<_> = text.splitn(6, ':').collect();
        let arn = match fields[..] {
            ["arn", partition, "kms", region, account, resource]
                if is_label(partition) && is_label(region) && is_label(account) =>
            {
                let (kind, name) = resource.split_once('/').unwrap_or_default();
                let known = matches!(kind, "key" | "alias") && is_name(name);
                known.then(|| Self { region: region.to_owned(), is_key: kind == "key" })
            }
            _ => None,
        };
        arn.ok_or_else(|| no_such_name(text))
    }
}

fn no_such_name(key: &str) -> Error {
    let message = format!(
        "{key:?} names no AWS key: give its ARN, such as arn:aws:kms:REGION:ACCOUNT:key/ID; for sealing also its id or alias/NAME"
    );
    Error::new(ErrorKind::KeyUnavailable, message)
}

/// What a single call has other than the client.
fn in_region(region: Option<Region>) -> aws_sdk_kms::config::Builder {
    match region {
        Some(region) => Config::builder().region(region),
        None => Config::builder(),
    }
}

fn pairs(context: &EncryptionContext) -> Option<HashMap<String, String>> {
    let pairs = context.pairs().map(|(name, value)| (name.to_owned(), value.to_owned()));
    (!context.is_empty()).then(|| pairs.collect())
}

fn take(plaintext: Option<Blob>) -> Result<DataKey> {
    let plaintext = plaintext.ok_or_else(|| incomplete("Plaintext"))?;
    DataKey::take(&mut plaintext.into_inner())
}

fn wrapped(asked: &str, key: Option<String>, blob: Option<Blob>) -> Result<WrappedKey> {
    let key = key.filter(|key| key.parse::<Arn>().is_ok_and(|arn| arn.is_key)).ok_or_else(|| incomplete("KeyId"))?;
    if asked.parse::<Arn>().is_ok_and(|arn| arn.is_key) && asked != key {
        let message = format!("AWS KMS was asked for the key {asked} and used {key}");
        return Err(Error::new(ErrorKind::KeyUnavailable, message));
    }
    let blob = blob.filter(|blob| !blob.as_ref().is_empty()).ok_or_else(|| incomplete("CiphertextBlob"))?;
    Ok(WrappedKey { kms: KmsService::Aws, key, blob: blob.into_inner() })
}

fn incomplete(member: &str) -> Error {
    let message = format!("AWS KMS answered without a usable {member}: is its endpoint really AWS KMS?");
    Error::new(ErrorKind::Io, message)
}

/// What an error of the SDK means. Of an answer only what the service says of the error is kept, never its body.
fn failed<E>(error: SdkError<E, HttpResponse>, doing: &str, key: &str) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    if let Some(refused) = cause::<InTheClear>(&error) {
        let message = format!("AWS KMS was not asked to {doing} the key {key:?}: {refused}");
        return Error::new(ErrorKind::InvalidInput, message);
    }
    let status = error.raw_response().map_or(0, |answer| answer.status().as_u16());
    let said = |kind, retry, what: &str| {
        Error::new(kind, format!("AWS KMS could not {doing} the key {key:?}: {what}")).with_retry(retry)
    };
    let (kind, retry, what) = match &error {
        SdkError::ServiceError(_) if status >= 400 => {
            let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
            let (kind, retry, advice) = meaning(code, status);
            let message: String = message.chars().filter(|c| !c.is_control()).take(400).collect();
            let request = error.request_id().map(|id| format!(" (request {id:?})")).unwrap_or_default();
            let failed = said(kind, retry, &format!("{status} {code} {message}{advice}{request}"));
            return match state(code, &message) {
                Some(state) => failed.with_key_state(state),
                None => failed,
            };
        }
        // Their source can quote the body.
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
            return said(ErrorKind::Io, Retry::Yes, &format!("its answer {status} is not one of AWS KMS"));
        }
        SdkError::TimeoutError(_) => (ErrorKind::Timeout, Retry::Yes, "it did not answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (ErrorKind::Timeout, Retry::Yes, "it did not answer in time")
        }
        // `Other` with a kind is one of the SDK's transient errors, such as an answer that was cut off.
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.as_other().is_some() => {
            (ErrorKind::Io, Retry::Yes, "it cannot be reached")
        }
        _ => (ErrorKind::KeyUnavailable, Retry::No, "no request was made; check AWS credentials, region and endpoint"),
    };
    match error.into_source() {
        Ok(source) => said(kind, retry, what).with_source(source),
        Err(_) => said(kind, retry, what),
    }
}

/// The first cause of `error` that is a `T`.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// The state of a key that an error is for, as far as it says so.
fn state(code: &str, message: &str) -> Option<KeyState> {
    match code {
        "DisabledException" => Some(KeyState::Disabled),
        "KMSInvalidStateException" if message.contains("pending deletion") => Some(KeyState::PendingDeletion),
        "KMSInvalidStateException" if message.contains("pending import") => Some(KeyState::PendingImport),
        _ => None,
    }
}

/// Kind, whether to try again, and advice for each error of <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html>
/// and of the operations.
fn meaning(code: &str, status: u16) -> (ErrorKind, Retry, &'static str) {
    use ErrorKind::{InvalidInput, Io, KeyUnavailable, Throttled, Timeout};
    match code {
        "NotFoundException" | "InvalidArnException" | "InvalidKeyUsageException" => (KeyUnavailable, Retry::No, ""),
        "DisabledException" => (KeyUnavailable, Retry::No, "; enable the key to use it"),
        "KMSInvalidStateException" => (KeyUnavailable, Retry::No, "; look at the state of the key"),
        "KeyUnavailableException" => (KeyUnavailable, Retry::Yes, ""),
        "AccessDeniedException" => (KeyUnavailable, Retry::No, "; the key's policy or yours does not allow it"),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired" => (KeyUnavailable, Retry::No, "; check the AWS credentials"),
        "ExpiredToken" | "ExpiredTokenException" => (KeyUnavailable, Retry::No, "; sign in to AWS again"),
        "RequestExpired" => (KeyUnavailable, Retry::No, "; check the clock"),
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TooManyRequestsException"
        | "SlowDown" => (Throttled, Retry::Yes, ""),
        "DependencyTimeoutException" | "RequestTimeout" | "RequestTimeoutException" => (Timeout, Retry::Yes, ""),
        "KMSInternalException"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => (Io, Retry::Yes, ""),
        "ValidationException" | "ValidationError" => (InvalidInput, Retry::No, ""),
        _ => match status {
            429 => (Throttled, Retry::Yes, ""),
            500.. => (Io, Retry::Yes, ""),
            _ => (KeyUnavailable, Retry::No, ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for private in
            ["https://kms.example", "HTTPS://x:1/", "http://127.0.0.2:80/x", "http://[::1]:1", "http://localhost/"]
        {
            assert!(is_private(private), "{private}");
        }
        for public in
            ["http://kms.example/", "http://192.0.2.1:80", "http://[2001:db8::1]", "http://127.0.0.1.example", "x", ""]
        {
            assert!(!is_private(public), "{public}");
        }
    }

    #[test]
    fn an_arn_s_region_can_become_part_of_a_host_s_name() {
        let region = |text: &str| text.parse::<Arn>().ok().map(|arn| (arn.region, arn.is_key));
        let key = "arn:aws:kms:eu-west-1:123456789012:key/7799f07d-03b7-497c-80a6-a412c20b26c2";
        assert_eq!(region(key), Some(("eu-west-1".to_owned(), true)));
        let alias = "arn:aws-cn:kms:cn-north-1:123456789012:alias/a/b";
        assert_eq!(region(alias), Some(("cn-north-1".to_owned(), false)));
        for bad in [
            "",
            "arn:",
            "arn:aws:kms:eu-west-1:1:key/",
            "arn:aws:kms:eu-west-1:1:grant/x",
            "arn:aws:kms::1:key/x",
            "arn:aws:kms:a.example/#:1:key/x",
            "arn:aws:kms:A:1:key/x",
            "arn:aws:s3:eu-west-1:1:key/x",
            "arn:aws:kms:eu-west-1:1:key/x y",
            "arn:aws:kms:eu-west-1:key/x",
            &format!("arn:aws:kms:{}:1:key/x", "a".repeat(64)),
        ] {
            assert_eq!(region(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_what_can_succeed_is_to_be_tried_again() {
        for (code, kind, retry) in [
            ("NotFoundException", ErrorKind::KeyUnavailable, Retry::No),
            ("DisabledException", ErrorKind::KeyUnavailable, Retry::No),
            ("KMSInvalidStateException", ErrorKind::KeyUnavailable, Retry::No),
            ("AccessDeniedException", ErrorKind::KeyUnavailable, Retry::No),
            ("KeyUnavailableException", ErrorKind::KeyUnavailable, Retry::Yes),
            ("ThrottlingException", ErrorKind::Throttled, Retry::Yes),
            ("KMSInternalException", ErrorKind::Io, Retry::Yes),
            ("DependencyTimeoutException", ErrorKind::Timeout, Retry::Yes),
            ("SomethingNew", ErrorKind::KeyUnavailable, Retry::No),
        ] {
            let (got, advice, _) = meaning(code, 400);
            assert_eq!((got, advice), (kind, retry), "{code}");
        }
        assert_eq!(meaning("", 503).1, Retry::Yes);
        assert_eq!(meaning("", 429).0, ErrorKind::Throttled);
        assert_eq!(meaning("", 403).1, Retry::No);
    }
}

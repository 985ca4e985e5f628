//! The key service `aliyun`: Alibaba Cloud KMS, by the
//! [RPC protocol](https://www.alibabacloud.com/help/en/kms/key-management-service/developer-reference/) of its version
//! 2016-01-20.

mod answer;
mod sign;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::{Client, Url, header};
use zeroize::Zeroizing;

pub use self::sign::AliyunCredentials;

use self::answer::Answer;
use self::sign::{Parameter, parameter};
use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::kms::{Kms, secret};
use crate::types::{EncryptionContext, KmsService, WrappedKey, is_loopback_host};

/// CMKs of Alibaba Cloud KMS, in one region.
///
/// A key is named by its id, an alias (`alias/…`), or its ARN (`acs:kms:REGION:ACCOUNT:key/ID`); envelopes name it by its
/// id. A wrapped data key is what the service calls `CiphertextBlob`, decoded from base64. The service authenticates the
/// encryption context, pair by pair.
///
/// Every call is one request, signed anew; [`Retrying`](crate::kms::retry::Retrying) repeats those that can succeed
/// later. Requests are HTTPS, except to this machine itself. Dropping a future ends its request; the service may still
/// do what was asked, to no effect.
///
/// It needs a tokio runtime with I/O and time.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use sealift::EncryptionContext;
/// use sealift::kms::Kms as _;
/// use sealift::kms::aliyun::AliyunKms;
/// use sealift::kms::retry::{CallPolicy, Retrying};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// // ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET, ALIBABA_CLOUD_REGION_ID
/// let kms = Retrying::new(Arc::new(AliyunKms::from_env()?), CallPolicy::default());
/// let context = EncryptionContext::default();
/// let (data_key, wrapped) = kms.generate_data_key("alias/uploads", &context).await?;
/// assert_eq!(kms.unwrap(&wrapped, &context).await?, data_key);
/// # Ok(())
/// # }
/// ```
pub struct AliyunKms {
    client: Client,
    endpoint: Url,
    region: Option<String>,
    credentials: AliyunCredentials,
    timeout: Duration,
}

impl AliyunKms {
    /// The environment variable that holds the endpoint's URL, where it is not the region's own.
    pub const ENDPOINT_VARIABLE: &str = "SEALIFT_ALIYUN_KMS_ENDPOINT";

    /// The service that the environment names: credentials as in [`AliyunCredentials::from_env`], the region in
    /// `ALIBABA_CLOUD_REGION_ID` or `ALIBABA_CLOUD_REGION` (or `ALIBABACLOUD_…`, `ALICLOUD_…`), and
    /// [`SEALIFT_ALIYUN_KMS_ENDPOINT`](Self::ENDPOINT_VARIABLE) for another endpoint than `https://kms.REGION.aliyuncs.com`: a VPC's,
    /// `https://kms-vpc.REGION.aliyuncs.com`, for example.
    ///
    /// # Errors
    /// - [`ErrorKind::KeyUnavailable`] if there are no credentials, or neither region nor endpoint.
    /// - Those of [`new`](Self::new).
    pub fn from_env() -> Result<Self> {
        Self::from_variables(variable)
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let regions = VARIABLE_PREFIXES.map(|prefix| [format!("{prefix}REGION_ID"), format!("{prefix}REGION")]);
        let region = regions.as_flattened().iter().find_map(|name| variable(name));
        let endpoint = match (variable(Self::ENDPOINT_VARIABLE), &region) {
            (Some(endpoint), _) => endpoint,
            (None, Some(region)) => Self::endpoint_of(region)?,
            (None, None) => {
                let message = "the region of Alibaba Cloud KMS is not known: set ALIBABA_CLOUD_REGION_ID, to \
                               cn-hangzhou for example";
                return Err(Error::new(ErrorKind::KeyUnavailable, message));
            }
        };
        Self::with_region(&endpoint, region, AliyunCredentials::from_variables(variable)?)
    }

    /// The service of `region` at `endpoint`, a URL: `https://`, or `http://` for this machine itself.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `endpoint` is no such URL; [`ErrorKind::Internal`] if TLS cannot be set up.
    pub fn new(endpoint: &str, region: &str, credentials: AliyunCredentials) -> Result<Self> {
        Self::with_region(endpoint, Some(region.to_owned()), credentials)
    }

    /// The URL of a region's public endpoint.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if no region is called like that.
    pub fn endpoint_of(region: &str) -> Result<String> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || !region.bytes().all(fits) {
            let message = format!("a region of Alibaba Cloud has a name like cn-hangzhou, not {region:?}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(format!("https://kms.{region}.aliyuncs.com"))
    }

    fn with_region(endpoint: &str, region: Option<String>, credentials: AliyunCredentials) -> Result<Self> {
        let url = Url::parse(endpoint).ok().filter(|url| url.has_host() && url.path() == "/" && url.query().is_none());
        let url = url.filter(|url| url.scheme() == "https" || url.scheme() == "http" && is_this_machine(url));
        let endpoint = url.ok_or_else(|| {
            // A data key is in the answers.
            let message =
                format!("the endpoint of Alibaba Cloud KMS is an https:// URL without a path, not {endpoint:?}");
            Error::new(ErrorKind::InvalidInput, message)
        })?;
        let mut client = Client::builder()
            // A repeated request needs another nonce, and whoever is redirected to has no business with a data key.
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("sealift/", env!("CARGO_PKG_VERSION")));
        if is_this_machine(&endpoint) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| {
            Error::new(ErrorKind::Internal, "setting up TLS for Alibaba Cloud KMS").with_source(error)
        })?;
        Ok(Self { client, endpoint, region, credentials, timeout: TIMEOUT })
    }

    /// The same, and no request takes longer than `timeout`; 10 seconds if this is not called.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Id of the key `key`, as envelopes have it: for [`TrustedKeys::Only`](crate::kms::recipients::TrustedKeys::Only).
    /// Needs the permission for `DescribeKey`.
    ///
    /// # Errors
    /// Those of [`Kms`].
    pub async fn key_id(&self, key: &str) -> Result<String> {
        let answer = self.call("DescribeKey", key, vec![self.key_parameter(key)?]).await?;
        answer.described_key_id()
    }

    async fn generate(&self, key: &str, context: &EncryptionContext) -> Result<(DataKey, WrappedKey)> {
        let mut parameters = vec![self.key_parameter(key)?, parameter("KeySpec", "AES_256")];
        parameters.extend(context_parameter(context)?);
        let answer = self.call("GenerateDataKey", key, parameters).await?;
        Ok((answer.data_key()?, wrapped_key(&answer)?))
    }

    async fn wrap_data_key(&self, key: &str, data_key: &DataKey, context: &EncryptionContext) -> Result<WrappedKey> {
        let mut parameters = vec![self.key_parameter(key)?, ("Plaintext", secret::to_base64(data_key))];
        parameters.extend(context_parameter(context)?);
        wrapped_key(&self.call("Encrypt", key, parameters).await?)
    }

    async fn unwrap_data_key(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<DataKey> {
        secret::check_service(KmsService::Aliyun, wrapped)?;
        if wrapped.blob.is_empty() {
            return Err(secret::does_not_open(wrapped));
        }
        let mut parameters = vec![parameter("CiphertextBlob", &STANDARD.encode(&wrapped.blob))];
        parameters.extend(context_parameter(context)?);
        let answer = self.call("Decrypt", &wrapped.key, parameters).await.map_err(|error| match error.kind() {
            ErrorKind::Authentication => secret::does_not_open(wrapped),
            _ => error,
        })?;
        if answer.key_id()? == wrapped.key {
            return answer.data_key();
        }
        // The service takes no key with a blob, and says which one it was. So this blob is not of the key that the
        // envelope names; ask whether there is that one at all.
        self.key_id(&wrapped.key).await?;
        Err(secret::does_not_open(wrapped))
    }

    fn key_parameter(&self, key: &str) -> Result<Parameter> {
        if key.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a CMK of Alibaba Cloud KMS has an id, alias/… or ARN"));
        }
        let region = key.strip_prefix("acs:kms:").and_then(|rest| rest.split(':').next());
        if let (Some(theirs), Some(ours)) = (region, &self.region)
            && theirs != ours
        {
            let message = format!("the CMK {key:?} is in another region than {ours:?}: use that region's endpoint");
            return Err(Error::new(ErrorKind::KeyUnavailable, message));
        }
        Ok(parameter("KeyId", key))
    }

    /// Makes one request. `key` is what it is about, for messages.
    async fn call(&self, action: &'static str, key: &str, parameters: Vec<Parameter>) -> Result<Answer> {
        let (query, body) = sign::request(&self.credentials, action, VERSION, &parameters)?;
        let mut url = self.endpoint.clone();
        url.set_query(Some(&query));
        let request = self
            .client
            .post(url)
            .timeout(self.timeout)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::from_owner(body));
        let mut response = request.send().await.map_err(|error| self.not_reached(error))?;
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());

        // Large enough from the start: a vector that grows leaves copies behind, and a data key may be in it.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.not_reached(error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::new(ErrorKind::Io, format!("{self} answered with more than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status == 200 {
            return Answer::parse(&body);
        }
        let retry_after = retry_after.map(Duration::from_secs);
        Err(answer::refusal(action, key, status, retry_after, &body, self.credentials.access_key_id()))
    }

    fn not_reached(&self, error: reqwest::Error) -> Error {
        // Its URL has the signature in it.
        let error = error.without_url();
        let (kind, message) = if error.is_timeout() {
            (ErrorKind::Timeout, format!("{self} did not answer within {:?}", self.timeout))
        } else if error.is_connect() {
            (ErrorKind::Io, format!("cannot connect to {self}: are region or endpoint right?"))
        } else {
            (ErrorKind::Io, format!("the connection to {self} failed"))
        };
        Error::new(kind, message).with_retry(Retry::Yes).with_source(error)
    }
}

impl Kms for AliyunKms {
    fn service(&self) -> KmsService {
        KmsService::Aliyun
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
        Box::pin(self.wrap_data_key(key, data_key, context))
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        Box::pin(self.unwrap_data_key(wrapped, context))
    }
}

impl fmt::Display for AliyunKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alibaba Cloud KMS at {}", self.endpoint.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for AliyunKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AliyunKms")
            .field("endpoint", &self.endpoint.as_str())
            .field("region", &self.region)
            .field("credentials", &self.credentials)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn wrapped_key(answer: &Answer) -> Result<WrappedKey> {
    Ok(WrappedKey { kms: KmsService::Aliyun, key: answer.key_id()?.to_owned(), blob: answer.blob()? })
}

/// JSON of the pairs; nothing for a context without any.
fn context_parameter(context: &EncryptionContext) -> Result<Option<Parameter>> {
    if context.is_empty() {
        return Ok(None);
    }
    let json = serde_json::to_string(&context.pairs().collect::<BTreeMap<_, _>>())
        .map_err(|error| Error::new(ErrorKind::Internal, "writing an encryption context").with_source(error))?;
    Ok(Some(parameter("EncryptionContext", &json)))
}

fn is_this_machine(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Of the variables that Alibaba Cloud's SDKs and its command line read, the current ones first.
const VARIABLE_PREFIXES: [&str; 3] = ["ALIBABA_CLOUD_", "ALIBABACLOUD_", "ALICLOUD_"];
const VERSION: &str = "2016-01-20";
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Ten times what the longest plaintext, 6 KB, takes.
const MAX_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(set: &[(&str, &str)]) -> Result<AliyunKms> {
        let credentials = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")];
        let mut set = set.iter().chain(&credentials);
        let set: BTreeMap<_, _> = set.by_ref().copied().collect();
        AliyunKms::from_variables(|name| set.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn the_environment_names_region_or_endpoint() {
        let kms = from(&[("ALIBABA_CLOUD_REGION_ID", "eu-central-1"), ("ALICLOUD_REGION", "x")]).unwrap();
        assert_eq!(kms.endpoint.as_str(), "https://kms.eu-central-1.aliyuncs.com/");
        assert_eq!(kms.region.as_deref(), Some("eu-central-1"));
        let endpoint = (AliyunKms::ENDPOINT_VARIABLE, "https://kms-vpc.cn-hangzhou.aliyuncs.com");
        let kms = from(&[endpoint]).unwrap();
        assert_eq!((kms.endpoint.host_str(), kms.region), (Some("kms-vpc.cn-hangzhou.aliyuncs.com"), None));
        assert_eq!(from(&[]).unwrap_err().kind(), ErrorKind::KeyUnavailable);
        assert_eq!(from(&[("ALIBABA_CLOUD_REGION", "evil.example/")]).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn data_keys_do_not_travel_in_the_clear() {
        let new = |endpoint| AliyunKms::new(endpoint, "cn-hangzhou", AliyunCredentials::new("id", "secret"));
        for bad in ["", "kms.example", "http://kms.example", "https://kms.example/path", "ftp://127.0.0.1", "file:///x"]
        {
            assert_eq!(new(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
        for good in ["https://kms.example", "https://kms.example:8443/", "http://127.0.0.1:80", "http://[::1]:80"] {
            assert!(!format!("{:?}", new(good).unwrap()).contains("secret"), "{good}");
        }
    }

    #[tokio::test]
    async fn a_key_of_another_region_is_not_asked_for() {
        // Nobody listens there, so a request would end in another error.
        let kms = AliyunKms::new("http://127.0.0.1:1", "cn-hangzhou", AliyunCredentials::new("id", "secret")).unwrap();
        let context = EncryptionContext::default();
        let error = kms.generate_data_key("acs:kms:eu-central-1:1:key/k", &context).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No));
        let error = kms.generate_data_key("acs:kms:cn-hangzhou:1:key/k", &context).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Yes));
    }
}

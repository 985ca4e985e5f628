//! Which bucket, where, with whose credentials and what patience.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::{ProvideRegion as _, RegionProviderChain};
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation, SharedInterceptor,
    StalledStreamProtectionConfig,
};
use aws_types::service_config::ServiceConfigKey;

use super::watch::Watch;
use super::{MAX_PART, S3Store};
use crate::error::{Error, ErrorKind, Result};
use crate::store::percent::{bad_url, parse_bucket_url, percent_encode};

/// How requests name the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path where an endpoint is given, as most compatible stores want it; as AWS's SDK sees fit otherwise.
    #[default]
    Auto,
    /// In the path: `https://endpoint/bucket/key`.
    Path,
    /// In the host's name: `https://bucket.endpoint/key`.
    VirtualHost,
}

/// A checksum that is sent with every part and object, for the store to compare and keep.
///
/// Sealed bytes need none to be read safely: whoever opens them notices every change. With one, the sender notices damage too, while the
/// source is still there. TLS and TCP have checksums of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum S3Checksum {
    /// CRC-64/NVME, the cheapest: tens of gigabytes a second.
    Crc64Nvme,
    /// CRC-32C, which more stores have.
    Crc32c,
}

/// How long requests may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) request: Duration,
    pub(super) bytes_per_second: u64,
    pub(super) publish: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { request: Duration::from_secs(30), bytes_per_second: 256 << 10, publish: Duration::from_secs(600) }
    }
}

impl Patience {
    /// For a request with a body of `len` bytes.
    pub(super) fn sending(&self, len: u64) -> Duration {
        self.request.saturating_add(Duration::from_secs(len / self.bytes_per_second.max(1)))
    }
}

/// Makes an [`S3Store`].
///
/// What is not given is taken from where AWS's tools take it: environment, `~/.aws/config` and `~/.aws/credentials`, SSO, container and
/// machine roles (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>).
#[derive(Clone, Debug)]
#[must_use]
pub struct S3Builder {
    bucket: String,
    region: Option<String>,
    endpoint: Option<String>,
    profile: Option<String>,
    addressing: Addressing,
    credentials: Option<Credentials>,
    /// `None`: what the store has.
    checksum: Option<Option<S3Checksum>>,
    /// `None`: what the store has.
    sorted_listings: Option<bool>,
    patience: Patience,
    copy_in_one: u64,
}

impl S3Builder {
    pub(super) fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            region: None,
            endpoint: None,
            profile: None,
            addressing: Addressing::Auto,
            credentials: None,
            checksum: None,
            sorted_listings: None,
            patience: Patience::default(),
            copy_in_one: MAX_PART,
        }
    }

    /// The bucket's region, such as `eu-central-1`. With an endpoint, stores that have no regions take any; the default is then
    /// `us-east-1`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Where the store is, such as `https://s3.example.com` or `http://127.0.0.1:8333`. The default is AWS.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The profile of `~/.aws/config` and `~/.aws/credentials`. Its credentials go before those in the environment.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// How requests name the bucket.
    pub fn addressing(mut self, addressing: Addressing) -> Self {
        self.addressing = addressing;
        self
    }

    /// These credentials, instead of those that AWS's chain finds.
    pub fn credentials(
        mut self,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: Option<String>,
    ) -> Self {
        self.credentials =
            Some(Credentials::new(access_key_id, secret_access_key, session_token, None, "given to Sealift"));
        self
    }

    /// Sends this checksum with every part and object, also with one that is made of parts, demands that the store compares it, and
    /// compares what it answers; `None` sends none. Default: [`S3Checksum::Crc64Nvme`] to AWS, and none to an endpoint that was given,
    /// because not every store knows one.
    pub fn checksum(mut self, checksum: impl Into<Option<S3Checksum>>) -> Self {
        self.checksum = Some(checksum.into());
        self
    }

    /// Whether the store lists ascending by key, however many pages there are, so that it can be asked for what comes after a key. Where
    /// it does not, listings read all that comes before, too. Default: yes for AWS, and no for an endpoint that was given.
    pub fn sorted_listings(mut self, sorted: bool) -> Self {
        self.sorted_listings = Some(sorted);
        self
    }

    /// How long a request without a body may take, and how long a download may stand still. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.patience.request = timeout;
        self
    }

    /// How slow an upload may be: a part has the request's timeout and its length divided by this. Default: 256 KiB/s.
    pub fn min_upload_rate(mut self, bytes_per_second: u64) -> Self {
        self.patience.bytes_per_second = bytes_per_second;
        self
    }

    /// How long completing an upload, or one step of a copy, may take: the store joins or moves gigabytes meanwhile. Default: 10 min.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.patience.publish = timeout;
        self
    }

    /// Copies objects longer than this in parts, several at once, each no longer than this. Default: 5 GiB, the most that S3 copies in
    /// one request, in parts of 512 MiB. Parts have at least 5 MiB.
    pub fn multipart_copy_above(mut self, bytes: u64) -> Self {
        self.copy_in_one = bytes.min(MAX_PART);
        self
    }

    /// The store. Reads configuration files; the first request asks for credentials.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if there is no region, or bucket or endpoint are none.
    ///
    /// # Cancellation
    /// Only reads.
    pub async fn build(self) -> Result<S3Store> {
        check_bucket(&self.bucket)?;
        if let Some(endpoint) = &self.endpoint {
            check_endpoint(endpoint)?;
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(profile) = &self.profile {
            // Before credentials in the environment, as with AWS's own `--profile`: it was named, they may be leftovers.
            // Where a role has to be assumed, that is asked for in the profile's region.
            let region = ProfileFileRegionProvider::builder().profile_name(profile).build().region().await;
            let config = ProviderConfig::default().with_region(region.or_else(|| self.region.clone().map(Region::new)));
            let named = ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build();
            loader = loader.profile_name(profile).credentials_provider(named);
        }
        if let Some(credentials) = &self.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        // Looked up below, because the usual chain asks the network where this may be no machine of AWS's.
        loader = loader.region(self.region.clone().map_or_else(|| Region::from_static("unknown"), Region::new));
        // On the heap: the SDK's futures have tens of kilobytes.
        let sdk = Box::pin(loader.load()).await;
        let endpoint = self.endpoint.clone().or_else(|| configured_endpoint(&sdk));
        if let Some(endpoint) = &endpoint {
            check_endpoint(endpoint)?;
        }
        let region = Box::pin(self.find_region(endpoint.is_some())).await?;
        let path_style = match self.addressing {
            Addressing::Auto => endpoint.is_some(),
            Addressing::Path => true,
            Addressing::VirtualHost => false,
        };
        let mut config = aws_sdk_s3::config::Builder::from(&sdk)
            .region(Region::new(region.clone()))
            .force_path_style(path_style)
            // The engine's upload machine retries, and knows what it has sent.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(Duration::from_secs(10)).build())
            // A payload that is sealed while it is sent may pause for reasons of its own. Our own timeouts catch what stands still.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        config.set_endpoint_url(endpoint.clone());
        let watch = Watch::default();
        config.push_interceptor(SharedInterceptor::new(watch.clone()));
        let url = Url { endpoint: endpoint.as_deref(), region: &region, builder: &self }.to_string();
        let place = endpoint.as_deref().map_or_else(|| format!("Amazon S3 in {region}").into(), Arc::from);
        Ok(S3Store {
            place,
            client: aws_sdk_s3::Client::from_conf(config.build()),
            bucket: self.bucket,
            url,
            checksum: self.checksum.unwrap_or_else(|| endpoint.is_none().then_some(S3Checksum::Crc64Nvme)),
            checksums: Arc::default(),
            sorted_listings: self.sorted_listings.unwrap_or(endpoint.is_none()),
            patience: self.patience,
            copy_in_one: self.copy_in_one,
            credentials: sdk.credentials_provider(),
            watch,
        })
    }

    async fn find_region(&self, has_endpoint: bool) -> Result<String> {
        if let Some(region) = &self.region {
            return Ok(region.clone());
        }
        let found = if has_endpoint {
            let mut profile = ProfileFileRegionProvider::builder();
            if let Some(name) = &self.profile {
                profile = profile.profile_name(name);
            }
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                .or_else(profile.build())
                .or_else(Region::from_static("us-east-1"))
                .region()
                .await
        } else {
            let mut chain = DefaultRegionChain::builder();
            if let Some(name) = &self.profile {
                chain = chain.profile_name(name);
            }
            chain.build().region().await
        };
        found.map(|region| region.to_string()).ok_or_else(|| {
            let message =
                "no region is known for the bucket: give one (`--region`), set AWS_REGION, or put it into the profile";
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

/// The URLs that [`S3Store::url`](crate::store::MultipartStore::url) gives:
/// `s3://BUCKET?endpoint=URL&region=NAME&profile=NAME&addressing=path|virtual-host&checksum=crc64nvme|crc32c|none`, each of
/// them only where it matters. The checksum does: parts of an upload that goes on must have the one it began with.
impl FromStr for S3Builder {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let (bucket, parameters) = parse_bucket_url(url, "s3")?;
        let mut builder = Self::new(bucket);
        check_bucket(&builder.bucket)?;
        for (name, value) in parameters {
            builder = match (name, value.as_str()) {
                ("endpoint", _) => builder.endpoint(value),
                ("region", _) => builder.region(value),
                ("profile", _) => builder.profile(value),
                ("addressing", "path") => builder.addressing(Addressing::Path),
                ("addressing", "virtual-host") => builder.addressing(Addressing::VirtualHost),
                ("checksum", "crc64nvme") => builder.checksum(S3Checksum::Crc64Nvme),
                ("checksum", "crc32c") => builder.checksum(S3Checksum::Crc32c),
                ("checksum", "none") => builder.checksum(None),
                _ => return Err(bad_url(url, "has a parameter that means nothing")),
            };
        }
        Ok(builder)
    }
}

/// What [`S3Builder::from_str`] reads.
struct Url<'a> {
    endpoint: Option<&'a str>,
    region: &'a str,
    builder: &'a S3Builder,
}

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addressing = match self.builder.addressing {
            Addressing::Auto => None,
            Addressing::Path => Some("path"),
            Addressing::VirtualHost => Some("virtual-host"),
        };
        let checksum = self.builder.checksum.map(|checksum| match checksum {
            Some(S3Checksum::Crc64Nvme) => "crc64nvme",
            Some(S3Checksum::Crc32c) => "crc32c",
            None => "none",
        });
        write!(f, "s3://{}", self.builder.bucket)?;
        let mut separator = '?';
        for (name, value) in [
            ("endpoint", self.endpoint),
            ("region", Some(self.region)),
            ("profile", self.builder.profile.as_deref()),
            ("addressing", addressing),
            ("checksum", checksum),
        ] {
            if let Some(value) = value {
                write!(f, "{separator}{name}={}", percent_encode(value, b""))?;
                separator = '&';
            }
        }
        Ok(())
    }
}

/// The endpoint that environment or profile name for S3, or for everything.
fn configured_endpoint(sdk: &SdkConfig) -> Option<String> {
    let key =
        ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok()?;
    let of_s3 = sdk.service_config().and_then(|config| config.load_config(key));
    of_s3.or_else(|| sdk.endpoint_url().map(str::to_owned)).filter(|url| !url.is_empty())
}

fn check_bucket(bucket: &str) -> Result<()> {
    // Names of buckets, and the ARNs and aliases that stand for them.
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:/".contains(c);
    if bucket.is_empty() || !bucket.chars().all(is_name) {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{bucket:?} is no name of a bucket")));
    }
    Ok(())
}

fn check_endpoint(endpoint: &str) -> Result<()> {
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let is_host = |host: &str| !host.trim_matches('/').is_empty() && !host.contains(['@', '?', '#', ' ']);
    if !host.is_some_and(is_host) {
        // Not repeated: where somebody puts a password into it, it stays out of logs.
        let message = "an endpoint is https://HOST or http://HOST, with a port if need be, and without a user's name";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MultipartStore as _;

    fn local(bucket: &str) -> S3Builder {
        S3Builder::new(bucket).endpoint("http://127.0.0.1:9").region("here").credentials("id", "top secret", None)
    }

    #[tokio::test]
    async fn a_stores_url_makes_the_same_store() {
        for builder in [
            local("b"),
            local("b.c").profile("a&b=c"),
            local("b").addressing(Addressing::VirtualHost),
            local("b").checksum(S3Checksum::Crc32c),
            local("b").checksum(None),
        ] {
            let url = builder.build().await.unwrap().url();
            let again: S3Builder = url.parse().unwrap();
            let again = again.credentials("id", "secret", None).build().await.unwrap();
            assert_eq!(again.url(), url);
            assert!(url.contains("checksum") || again.checksum.is_none(), "{url}");
        }
        let url = local("b").build().await.unwrap().url();
        assert_eq!(url, "s3://b?endpoint=http%3A%2F%2F127.0.0.1%3A9&region=here");
    }

    #[tokio::test]
    async fn requests_name_the_bucket_where_they_are_told_to() {
        use aws_sdk_s3::presigning::PresigningConfig;
        let signed = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        for (addressing, expected) in [
            (Addressing::Auto, "https://s3.example.com/photos/k?"),
            (Addressing::Path, "https://s3.example.com/photos/k?"),
            (Addressing::VirtualHost, "https://photos.s3.example.com/k?"),
        ] {
            let builder = local("photos").endpoint("https://s3.example.com").addressing(addressing);
            let client = builder.build().await.unwrap().client;
            let request = client.get_object().bucket("photos").key("k").presigned(signed.clone()).await.unwrap();
            assert!(request.uri().starts_with(expected), "{addressing:?}: {}", request.uri());
        }
    }

    #[tokio::test]
    async fn aws_gets_a_checksum_and_others_only_where_it_was_said() {
        let aws = || S3Builder::new("b").region("eu-west-1").credentials("id", "secret", None);
        let sent = async |builder: S3Builder| builder.build().await.unwrap().checksum;
        // What the environment says of endpoints is not this test's.
        if std::env::var_os("AWS_ENDPOINT_URL").is_none() && std::env::var_os("AWS_ENDPOINT_URL_S3").is_none() {
            assert_eq!(sent(aws()).await, Some(S3Checksum::Crc64Nvme));
        }
        assert_eq!(sent(aws().checksum(None)).await, None);
        assert_eq!(sent(local("b")).await, None);
        assert_eq!(sent(local("b").checksum(S3Checksum::Crc32c)).await, Some(S3Checksum::Crc32c));
    }

    #[tokio::test]
    async fn what_is_no_bucket_or_endpoint_is_refused() {
        for bucket in ["", "a b", "a?b", "ü"] {
            assert!(local(bucket).build().await.is_err(), "{bucket:?}");
        }
        for endpoint in ["", "host", "ftp://host", "http://", "https:///", "http://user:word@host", "http://host?x"] {
            let error = local("b").endpoint(endpoint).build().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{endpoint:?}");
            assert!(!error.to_string().contains("word"), "{error}");
        }
        for url in [
            "s3://",
            "s3:b",
            "oss://b",
            "s3://b?endpoint",
            "s3://b?x=y",
            "s3://b?region=%zz",
            "s3://b?addressing=x",
            "s3://b?checksum=md5",
        ] {
            assert!(url.parse::<S3Builder>().is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn secrets_are_not_shown() {
        let builder = local("b");
        assert!(!format!("{builder:?}").contains("top secret"));
        let store = builder.build().await.unwrap();
        assert!(!format!("{store:?}").contains("top secret"));
    }

    #[test]
    fn patience_grows_with_the_part() {
        let patience = Patience::default();
        assert_eq!(patience.sending(0), Duration::from_secs(30));
        assert_eq!(patience.sending(16 << 20), Duration::from_secs(30 + 64));
        let none = Patience { bytes_per_second: 0, ..patience };
        assert!(none.sending(u64::MAX) > patience.sending(u64::MAX));
    }
}

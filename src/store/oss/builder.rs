//! How an [`OssStore`] is made.

use std::str::FromStr;
use std::time::Duration;

use super::client::{Client, Clock};
use super::copy::COPY_LIMIT;
use super::endpoint::{Endpoint, check_bucket};
use super::files::{Files, Settings};
use super::{Credentials, OssStore, SignatureVersion, Sse};
use crate::error::{Error, ErrorKind, Result};
use crate::store::percent::{bad_url, parse_bucket_url, percent_encode};

/// Where a bucket is, who asks, and how. From [`OssStore::builder`].
#[derive(Debug)]
pub struct Builder {
    bucket: String,
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Option<Credentials>,
    signature: SignatureVersion,
    path_style: Option<bool>,
    sse: Option<Sse>,
    checksums: bool,
    timeout: Duration,
    copy_limit: u64,
}

impl Builder {
    pub(super) fn new(bucket: String) -> Self {
        Self {
            bucket,
            endpoint: None,
            region: None,
            credentials: None,
            signature: SignatureVersion::default(),
            path_style: None,
            sse: None,
            checksums: true,
            timeout: Duration::from_secs(60),
            copy_limit: COPY_LIMIT,
        }
    }

    /// Where OSS is: a host such as `oss-cn-hangzhou.aliyuncs.com`, its internal or accelerated sibling, with `https://` (meant if
    /// missing) or `http://` before it. Without it, the region's public endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The bucket's region, such as `cn-hangzhou`. Without it, the one that the endpoint's name tells.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Who asks.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Takes from the environment what was not given yet: [credentials](Credentials::from_env), the endpoint from `OSS_ENDPOINT`, and the
    /// region from `OSS_REGION` or `ALIBABA_CLOUD_REGION_ID`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if credentials are neither given nor there.
    pub fn from_env(mut self) -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        if self.credentials.is_none() {
            self.credentials = Some(Credentials::from_env()?);
        }
        // A region that was given goes before an endpoint that was not.
        if self.region.is_none() {
            self.endpoint = self.endpoint.or_else(|| variable("OSS_ENDPOINT"));
            self.region = variable("OSS_REGION").or_else(|| variable("ALIBABA_CLOUD_REGION_ID"));
        }
        Ok(self)
    }

    /// Takes what was not given yet from the environment, as [`from_env`](Self::from_env), and then from the files of Alibaba Cloud's
    /// own tools: `~/.ossutilconfig` (or `OSSUTIL_CONFIG_FILE`), and if that has nothing, `~/.aliyun/config.json`.
    ///
    /// `profile` is a profile in one of them, whose credentials go before the environment's, because it was named. Without it, it is
    /// the one that the tools take. Of their ways to credentials, access keys and STS tokens are known.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if credentials are neither given nor there, or there is no such profile.
    pub fn from_env_and_files(self, profile: Option<&str>) -> Result<Self> {
        self.with_files(profile, &Files::of_user())
    }

    fn with_files(mut self, profile: Option<&str>, files: &Files) -> Result<Self> {
        let in_env = if profile.is_some() { None } else { Credentials::in_env() };
        let is_complete = self.credentials.is_some() || in_env.is_some();
        let found = match files.settings(profile, &self.bucket) {
            // Nobody asked for them.
            Err(_) if is_complete && profile.is_none() => Settings::default(),
            found => found?,
        };
        if self.credentials.is_none() {
            self.credentials = in_env.or(found.credentials);
        }
        if self.credentials.is_none() {
            return Err(Credentials::missing());
        }
        let mut builder = self.from_env()?;
        if builder.endpoint.is_none() && builder.region.is_none() {
            builder.endpoint = found.endpoint;
        }
        builder.region = builder.region.or(found.region);
        Ok(builder)
    }

    /// The server-side encryption of everything that is written.
    #[must_use]
    pub fn sse(mut self, sse: Option<Sse>) -> Self {
        self.sse = sse;
        self
    }

    /// The signature of requests; version 4 unless told otherwise.
    #[must_use]
    pub fn signature(mut self, version: SignatureVersion) -> Self {
        self.signature = version;
        self
    }

    /// Whether the bucket is named in the path, not in the host. Without it, it is where the host is an IP address or `localhost`.
    #[must_use]
    pub fn path_style(mut self, in_path: bool) -> Self {
        self.path_style = Some(in_path);
        self
    }

    /// Whether the CRC-64 of what is sent and read is compared with OSS's: yes unless told otherwise. It costs CPU.
    #[must_use]
    pub fn checksums(mut self, compared: bool) -> Self {
        self.checksums = compared;
        self
    }

    /// How long an attempt may take besides the time its bytes take at 64 KiB a second, and how long a read may get no byte.
    /// A minute unless told otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The largest object that is copied by one request while its encryption changes: OSS's 1 GiB unless told otherwise. Larger
    /// ones are copied in parts.
    #[must_use]
    pub fn copy_limit(mut self, bytes: u64) -> Self {
        self.copy_limit = bytes;
        self
    }

    /// The store. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if bucket, endpoint or encryption are none, or neither credentials nor what is needed of endpoint and
    /// region were given.
    pub fn build(self) -> Result<OssStore> {
        let invalid = |message: &'static str| Error::new(ErrorKind::InvalidInput, message);
        check_bucket(&self.bucket)?;
        if let Some(sse) = &self.sse {
            sse.check()?;
        }
        let credentials = self.credentials.ok_or_else(|| invalid("OSS needs credentials: see `Credentials`"))?;
        let is_region = |region: &str| {
            !region.is_empty() && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        // Many write it as part of the endpoint's name.
        let region = self.region.as_deref().map(|region| region.strip_prefix("oss-").unwrap_or(region).to_owned());
        if region.as_deref().is_some_and(|region| !is_region(region)) {
            return Err(invalid("a region of OSS is a name such as cn-hangzhou"));
        }
        let endpoint = match (self.endpoint, &region) {
            (Some(endpoint), _) => endpoint,
            (None, Some(region)) => Endpoint::of_region(region),
            (None, None) => return Err(invalid("where is the bucket? Give --region or --endpoint, or set OSS_REGION")),
        };
        let endpoint = Endpoint::parse(&endpoint, &self.bucket, self.path_style)?;
        let region = match (region.or_else(|| endpoint.region().map(str::to_owned)), self.signature) {
            (Some(region), _) => region,
            (None, SignatureVersion::V1) => String::new(),
            (None, SignatureVersion::V4) => {
                return Err(invalid(
                    "signatures need the bucket's region, which the endpoint's name does not tell: give --region",
                ));
            }
        };
        let encode = |text: &str| percent_encode(text, b"");
        let mut url = format!("oss://{}?endpoint={}", self.bucket, encode(&endpoint.to_string()));
        if !region.is_empty() {
            url.push_str(&format!("&region={region}"));
        }
        if let Some(in_path) = self.path_style {
            url.push_str(&format!("&path-style={in_path}"));
        }
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("sealift/", env!("CARGO_PKG_VERSION")))
            // A signature is for one host.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .connect_timeout(Duration::from_secs(10).min(self.timeout))
            // OSS closes connections that are idle for a minute.
            .pool_idle_timeout(Duration::from_secs(45))
            .tcp_keepalive(Duration::from_secs(30));
        if endpoint.is_loopback {
            http = http.no_proxy();
        }
        let http =
            http.build().map_err(|e| Error::new(ErrorKind::Io, "no HTTP client could be made").with_source(e))?;
        let client = Client {
            http,
            endpoint,
            bucket: self.bucket,
            region,
            credentials,
            signature: self.signature,
            clock: Clock::default(),
            timeout: self.timeout,
            checksums: self.checksums,
        };
        Ok(OssStore { client, url, sse: self.sse, copy_limit: self.copy_limit, checksums: Default::default() })
    }
}

/// Reads what the store's [`url`](crate::store::MultipartStore::url) says: `oss://BUCKET`, and optionally `?endpoint=…&region=…&path-style=…`.
impl FromStr for Builder {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let (bucket, parameters) = parse_bucket_url(url, "oss")?;
        let mut builder = Self::new(bucket.to_owned());
        check_bucket(&builder.bucket)?;
        for (name, value) in parameters {
            builder = match (name, value.as_str()) {
                ("endpoint", _) => builder.endpoint(value),
                ("region", _) => builder.region(value),
                ("path-style", "true") => builder.path_style(true),
                ("path-style", "false") => builder.path_style(false),
                _ => return Err(bad_url(url, "has a parameter that means nothing")),
            };
        }
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(change: impl FnOnce(Builder) -> Builder) -> Result<OssStore> {
        change(OssStore::builder("bkt").credentials(Credentials::new("id", "secret", None))).build()
    }

    #[test]
    fn endpoint_and_region_tell_each_other() {
        let store = built(|b| b.region("cn-hangzhou")).unwrap();
        let url = store.client.endpoint.url("bkt", "a", "").unwrap();
        assert_eq!(url.as_str(), "https://bkt.oss-cn-hangzhou.aliyuncs.com/a");
        assert_eq!(built(|b| b.endpoint("oss-eu-west-1.aliyuncs.com")).unwrap().client.region, "eu-west-1");
        assert_eq!(built(|b| b.region("oss-eu-west-1")).unwrap().client.region, "eu-west-1");
        let given = built(|b| b.endpoint("oss-accelerate.aliyuncs.com").region("eu-west-1")).unwrap();
        assert_eq!(given.client.region, "eu-west-1");
        built(|b| b.endpoint("http://127.0.0.1:9").signature(SignatureVersion::V1)).unwrap();
    }

    #[test]
    fn a_stores_url_leads_back_to_it() {
        for path_style in [None, Some(true)] {
            let store = built(|b| Builder { path_style, ..b.endpoint("http://127.0.0.1:9").region("cn-x") }).unwrap();
            let builder: Builder = store.url.parse().unwrap();
            let again = builder.credentials(Credentials::new("id", "secret", None)).build().unwrap();
            assert_eq!((&again.url, &again.client.endpoint), (&store.url, &store.client.endpoint));
        }
        for bad in
            ["s3://bkt", "oss://b", "oss://bkt?x", "oss://bkt?x=y", "oss://bkt?endpoint=%zz", "oss://bkt?path-style=1"]
        {
            assert!(bad.parse::<Builder>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let says = |change: fn(Builder) -> Builder| built(change).unwrap_err().to_string();
        assert!(says(|b| b).contains("--region or --endpoint"));
        assert!(says(|b| b.endpoint("http://127.0.0.1:9")).contains("--region"));
        assert!(says(|b| b.region("CN/x")).contains("cn-hangzhou"));
        assert!(OssStore::builder("Bkt").region("a").build().unwrap_err().to_string().contains("no bucket"));
        assert!(OssStore::builder("bkt").region("a").build().unwrap_err().to_string().contains("credentials"));
    }
}

//! Where OSS is.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::types::is_loopback_host;

/// An endpoint, and how a bucket is named there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `https://` or `http://`.
    scheme: String,
    /// Host, and port if it is not the scheme's.
    authority: String,
    path_style: bool,
    /// Whether it is this machine: no proxy leads there.
    pub(super) is_loopback: bool,
}

impl Endpoint {
    /// Reads `HOST`, `HOST:PORT` or a URL of those. Without a scheme it is HTTPS. IP addresses and `localhost` have no host for
    /// each bucket, so the bucket goes into the path there unless `path_style` says otherwise.
    pub(super) fn parse(text: &str, bucket: &str, path_style: Option<bool>) -> Result<Self> {
        let invalid = |why: &str| {
            let message = format!("{text:?} is no endpoint of OSS: {why}, such as oss-cn-hangzhou.aliyuncs.com");
            Error::new(ErrorKind::InvalidInput, message)
        };
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&with_scheme).map_err(|_| invalid("it is a host"))?;
        let rest = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        if !matches!(url.scheme(), "https" | "http") || rest || !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it is a host, with https:// or http:// before it and a port after it if need be"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("it is a host"))?;
        let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let is_loopback = is_loopback_host(host);
        // Consoles show a bucket's own host.
        let host = host.strip_prefix(bucket).and_then(|host| host.strip_prefix('.')).unwrap_or(host);
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self {
            scheme: format!("{}://", url.scheme()),
            authority,
            path_style: path_style.unwrap_or(host == "localhost" || ip.is_some()),
            is_loopback,
        })
    }

    /// The public endpoint of a region.
    pub(super) fn of_region(region: &str) -> String {
        format!("https://oss-{region}.aliyuncs.com")
    }

    /// The region that a public or internal endpoint's name tells.
    pub(super) fn region(&self) -> Option<&str> {
        let region = self.authority.strip_prefix("oss-")?.strip_suffix(".aliyuncs.com")?;
        let region = region.strip_suffix("-internal").unwrap_or(region);
        (!region.starts_with("accelerate") && !region.contains('.')).then_some(region)
    }

    /// The URL of a path, already encoded, in `bucket`.
    pub(super) fn url(&self, bucket: &str, path: &str, query: &str) -> Result<Url> {
        let Self { scheme, authority, .. } = self;
        let mark = if query.is_empty() { "" } else { "?" };
        let url = if self.path_style {
            format!("{scheme}{authority}/{bucket}/{path}{mark}{query}")
        } else {
            format!("{scheme}{bucket}.{authority}/{path}{mark}{query}")
        };
        Url::parse(&url).map_err(|e| Error::new(ErrorKind::InvalidInput, format!("{url} is no URL")).with_source(e))
    }
}

/// As [`Endpoint::parse`] reads it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme, self.authority)
    }
}

/// Refuses what OSS does not take as a bucket's name, which would become part of a host.
pub(super) fn check_bucket(bucket: &str) -> Result<()> {
    let fits = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !bucket.starts_with('-')
        && !bucket.ends_with('-');
    if fits {
        return Ok(());
    }
    let message = format!("{bucket:?} is no bucket of OSS: 3 to 63 lower-case letters, digits and `-` within");
    Err(Error::new(ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: &str, path_style: Option<bool>) -> String {
        Endpoint::parse(endpoint, "bkt", path_style).unwrap().url("bkt", "a%20b/c", "uploads").unwrap().to_string()
    }

    #[test]
    fn buckets_are_hosts_or_in_the_path() {
        assert_eq!(url("oss-cn-x.aliyuncs.com", None), "https://bkt.oss-cn-x.aliyuncs.com/a%20b/c?uploads");
        assert_eq!(url("https://bkt.oss-cn-x.aliyuncs.com", None), "https://bkt.oss-cn-x.aliyuncs.com/a%20b/c?uploads");
        assert_eq!(url("http://127.0.0.1:80", None), "http://127.0.0.1/bkt/a%20b/c?uploads");
        assert_eq!(url("http://[::1]:8080/", None), "http://[::1]:8080/bkt/a%20b/c?uploads");
        assert_eq!(url("localhost:8443", None), "https://localhost:8443/bkt/a%20b/c?uploads");
        assert_eq!(url("http://oss.example:9000", Some(true)), "http://oss.example:9000/bkt/a%20b/c?uploads");
        for bad in ["", "ftp://a", "https://a/b", "https://u@a", "https://a?b", "a b", "https://"] {
            assert!(Endpoint::parse(bad, "bkt", None).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints_tell_their_region() {
        let region = |text: &str| Endpoint::parse(text, "bkt", None).unwrap().region().map(str::to_owned);
        assert_eq!(region("oss-cn-hangzhou.aliyuncs.com").as_deref(), Some("cn-hangzhou"));
        assert_eq!(region("http://oss-cn-hangzhou-internal.aliyuncs.com").as_deref(), Some("cn-hangzhou"));
        assert_eq!(region("bkt.oss-us-west-1.aliyuncs.com").as_deref(), Some("us-west-1"));
        assert_eq!(region(&Endpoint::of_region("eu-central-1")).as_deref(), Some("eu-central-1"));
        assert_eq!(region("oss-accelerate.aliyuncs.com"), None);
        assert_eq!(region("oss-accelerate-overseas.aliyuncs.com"), None);
        assert_eq!(region("127.0.0.1:1"), None);
    }

    #[test]
    fn bucket_names_are_those_of_oss() {
        for (name, fits) in
            [("bkt", true), ("a-1", true), ("ab", false), ("-ab", false), ("a.b", false), ("A-b", false)]
        {
            assert_eq!(check_bucket(name).is_ok(), fits, "{name}");
        }
    }
}

//! The protocols that one listener speaks, and how a request tells which it is.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use zeroize::Zeroizing;

/// What can go wrong in a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body, whoever makes it.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
/// A request. Its body ends in an error where the client sends more than it may, or too slowly; its extensions hold the [`RequestId`].
pub(crate) type Request = http::Request<Body>;
/// An answer. Its extensions may hold what was [`Told`] of the request.
pub(crate) type Response = http::Response<Body>;

/// One of the protocols.
pub(crate) trait Dialect: Send + Sync {
    /// Answers a request of this protocol, errors included.
    fn answer(&self, request: Request) -> BoxFuture<'_, Response>;
}

/// What a request is called in logs and in the answer.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// What only the dialect knows of a request, for the log: an extension of its response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// The protocol's name for what was asked.
    pub(crate) operation: &'static str,
    /// The access key whose signature was right.
    pub(crate) access_key: Option<String>,
}

/// The protocols' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Kms,
    Oss,
    S3,
}

impl Protocol {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Oss => "oss",
            Self::S3 => "s3",
        }
    }

    /// Which protocol a request is of.
    ///
    /// `Action` with `Version=2016-01-20`, a form at `/`, or the headers that stand for them, are KMS; an authorization `OSS …` or
    /// `OSS4-…`, a header `x-oss-…`, or a signature of OSS in the query are OSS; all else is S3.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        // As bytes: one that is no text is refused in the protocol that it begins as.
        let begins = |name: header::HeaderName, with: &[&str]| {
            let value = headers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
            with.iter().any(|start| value.starts_with(start.as_bytes()))
        };
        if uri.path() == "/" && [Method::GET, Method::POST].contains(method) {
            let is_form = begins(header::CONTENT_TYPE, &["application/x-www-form-urlencoded"]);
            let query = uri.query().unwrap_or_default();
            let has = |name: &str| form_urlencoded::parse(query.as_bytes()).any(|(found, _)| found == name);
            // A form may have either, or both, in its body.
            if (has("Action") && has("Version"))
                || headers.contains_key("x-acs-action")
                || (is_form && method == Method::POST)
            {
                return Self::Kms;
            }
        }
        let is_signed_for_oss = begins(header::AUTHORIZATION, &["OSS ", "OSS4-"]);
        if is_signed_for_oss || headers.keys().any(|name| name.as_str().starts_with("x-oss-")) {
            return Self::Oss;
        }
        let query = uri.query().unwrap_or_default();
        let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        match names.any(|name| name == "OSSAccessKeyId" || name.starts_with("x-oss-")) {
            true => Self::Oss,
            false => Self::S3,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All of a body that has at most `max` bytes, wiped when it is dropped. Nothing if it is longer, or breaks off.
pub(crate) async fn collect(mut body: Body, max: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if bytes.len().saturating_add(data.len()) > max {
            return None;
        }
        bytes.extend_from_slice(&data);
    }
    Some(bytes)
}

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_tell_their_protocol() {
        for (method, uri, headers, protocol) in [
            ("GET", "/?Action=ListKeys&Version=2016-01-20&Signature=x", &[][..], Protocol::Kms),
            ("POST", "/?Version=2016-01-20&Action=Encrypt", &[], Protocol::Kms),
            ("POST", "/", &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")], Protocol::Kms),
            ("POST", "/", &[("x-acs-action", "Encrypt"), ("x-acs-version", "2016-01-20")], Protocol::Kms),
            ("GET", "/bucket?Action=ListKeys&Version=2016-01-20", &[], Protocol::S3),
            ("GET", "/", &[("authorization", "OSS id:signature")], Protocol::Oss),
            ("GET", "/b/k", &[("authorization", "OSS4-HMAC-SHA256 Credential=…")], Protocol::Oss),
            ("PUT", "/b/k", &[("x-oss-server-side-encryption", "KMS")], Protocol::Oss),
            ("GET", "/b/k?OSSAccessKeyId=id&Expires=1&Signature=x", &[], Protocol::Oss),
            ("GET", "/b/k?x-oss-signature-version=OSS4-HMAC-SHA256", &[], Protocol::Oss),
            ("GET", "/b/k?OSS=1", &[("authorization", "AWS4-HMAC-SHA256 Credential=…")], Protocol::S3),
            ("GET", "/", &[], Protocol::S3),
            ("POST", "/b?delete", &[("content-type", "application/x-www-form-urlencoded")], Protocol::S3),
        ] {
            let mut request = http::Request::builder().method(method).uri(uri);
            for (name, value) in headers {
                request = request.header(*name, value.as_bytes());
            }
            let request = request.body(()).unwrap();
            assert_eq!(Protocol::of(request.method(), request.uri(), request.headers()), protocol, "{method} {uri}");
        }
    }
}

//! Signatures of Alibaba Cloud's RPC protocol, version 1.0: HMAC-SHA1 over method and sorted parameters.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// An access key of Alibaba Cloud, with the token of a temporary one.
pub struct AliyunCredentials {
    access_key_id: String,
    access_key_secret: Zeroizing<String>,
    security_token: Option<Zeroizing<String>>,
}

impl AliyunCredentials {
    /// A user's access key.
    #[must_use]
    pub fn new(access_key_id: impl Into<String>, access_key_secret: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            access_key_secret: Zeroizing::new(access_key_secret.into()),
            security_token: None,
        }
    }

    /// The same as one of the Security Token Service (STS), which gave this token with it.
    #[must_use]
    pub fn with_security_token(mut self, token: impl Into<String>) -> Self {
        self.security_token = Some(Zeroizing::new(token.into()));
        self
    }

    /// Those that Alibaba Cloud's own tools take from the environment: `ALIBABA_CLOUD_ACCESS_KEY_ID`,
    /// `ALIBABA_CLOUD_ACCESS_KEY_SECRET`, and `ALIBABA_CLOUD_SECURITY_TOKEN` if it is set. Where the first is not set, all
    /// three with `ALIBABACLOUD_` instead, or with `ALICLOUD_`.
    ///
    /// # Errors
    /// [`ErrorKind::KeyUnavailable`] if there is no id, or no secret with it.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(super::variable)
    }

    pub(super) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let unset = |name: &str| {
            let message = format!("there are no credentials for Alibaba Cloud: set {name} in the environment");
            Error::new(ErrorKind::KeyUnavailable, message)
        };
        for prefix in super::VARIABLE_PREFIXES {
            let Some(id) = variable(&format!("{prefix}ACCESS_KEY_ID")) else { continue };
            let secret = format!("{prefix}ACCESS_KEY_SECRET");
            let credentials = Self::new(id, variable(&secret).ok_or_else(|| unset(&secret))?);
            return Ok(match variable(&format!("{prefix}SECURITY_TOKEN")) {
                Some(token) => credentials.with_security_token(token),
                None => credentials,
            });
        }
        Err(unset("ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET"))
    }

    pub(super) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }
}

impl fmt::Debug for AliyunCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AliyunCredentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A parameter of a request. Its value may be a data key.
pub(super) type Parameter = (&'static str, Zeroizing<String>);

/// One request, signed now and sent once: the query string, and the body, a form of `parameters`.
///
/// What the service may log, the query, has none of `parameters`.
pub(super) fn request(
    credentials: &AliyunCredentials,
    action: &str,
    version: &str,
    parameters: &[Parameter],
) -> Result<(Zeroizing<String>, Zeroizing<String>)> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(Error::no_randomness)?;
    let mut common = vec![
        parameter("AccessKeyId", &credentials.access_key_id),
        parameter("Action", action),
        parameter("Format", "JSON"),
        parameter("SignatureMethod", "HMAC-SHA1"),
        parameter("SignatureNonce", &base16ct::lower::encode_string(&nonce)),
        parameter("SignatureVersion", "1.0"),
        parameter("Timestamp", &timestamp(OffsetDateTime::now_utc())?),
        parameter("Version", version),
    ];
    if let Some(token) = &credentials.security_token {
        common.push(parameter("SecurityToken", token));
    }
    let all: Vec<_> = common.iter().chain(parameters).collect();
    let signature = sign(&credentials.access_key_secret, "POST", &all)?;
    common.push(parameter("Signature", &signature));
    Ok((form(&common.iter().collect::<Vec<_>>()), form(&parameters.iter().collect::<Vec<_>>())))
}

pub(super) fn parameter(name: &'static str, value: &str) -> Parameter {
    (name, Zeroizing::new(value.to_owned()))
}

/// `yyyy-MM-ddTHH:mm:ssZ`, by the clock and not by the calendar of any place.
fn timestamp(now: OffsetDateTime) -> Result<String> {
    let now = now.replace_nanosecond(0).ok().and_then(|now| now.format(&Rfc3339).ok());
    now.ok_or_else(|| Error::new(ErrorKind::KeyUnavailable, "the system clock shows a year that is no year: set it"))
}

fn sign(access_key_secret: &str, method: &str, parameters: &[&Parameter]) -> Result<String> {
    let mut sorted = parameters.to_vec();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    let canonical = form(&sorted);
    let mut to_sign = Zeroizing::new(String::with_capacity(method.len() + 5 + 3 * canonical.len()));
    to_sign.push_str(method);
    to_sign.push_str("&%2F&");
    percent_encode(&canonical, &mut to_sign);

    let mut key = Zeroizing::new(String::with_capacity(access_key_secret.len() + 1));
    key.push_str(access_key_secret);
    key.push('&');
    let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes())
        .map_err(|error| Error::new(ErrorKind::Internal, "HMAC takes keys of any length").with_source(error))?;
    mac.update(to_sign.as_bytes());
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}

/// `name=value&…`, as queries and forms have it: only unreserved characters stay what they are, so any reader of either
/// understands it.
fn form(parameters: &[&Parameter]) -> Zeroizing<String> {
    // As long as it can get: a string that grows leaves copies behind.
    let capacity = parameters.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut form = Zeroizing::new(String::with_capacity(capacity));
    for (name, value) in parameters {
        if !form.is_empty() {
            form.push('&');
        }
        percent_encode(name, &mut form);
        form.push('=');
        percent_encode(value, &mut form);
    }
    form
}

/// [RFC 3986, section 2.1](https://www.rfc-editor.org/rfc/rfc3986#section-2.1).
fn percent_encode(text: &str, to: &mut String) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => to.push(char::from(byte)),
            _ => {
                to.push('%');
                to.push(DIGITS[usize::from(byte >> 4)]);
                to.push(DIGITS[usize::from(byte & 15)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn signs_alibaba_cloud_s_own_example() {
        let parameters = [
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Format", "XML"),
            ("AccessKeyId", "testid"),
            ("Action", "DescribeRegions"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("Version", "2014-05-26"),
            ("SignatureVersion", "1.0"),
        ]
        .map(|(name, value)| parameter(name, value));
        let signature = sign("testsecret", "GET", &parameters.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(signature, "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }

    #[test]
    fn encodes_all_but_unreserved_characters() {
        let mut encoded = String::new();
        percent_encode("aZ09-_.~ *+/=%&é", &mut encoded);
        assert_eq!(encoded, "aZ09-_.~%20%2A%2B%2F%3D%25%26%C3%A9");
    }

    #[test]
    fn times_are_whole_seconds_of_utc() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_456_231_584_987_654_321).unwrap();
        assert_eq!(timestamp(time).unwrap(), "2016-02-23T12:46:24Z");
    }

    #[test]
    fn nonces_do_not_repeat_and_the_query_has_no_parameter_of_the_action() {
        let credentials = AliyunCredentials::new("id", "secret").with_security_token("to/ken");
        let nonces: BTreeSet<_> = (0..100)
            .map(|_| {
                let parameters = [parameter("Plaintext", "c2VjcmV0")];
                let (query, body) = request(&credentials, "Encrypt", "2016-01-20", &parameters).unwrap();
                assert_eq!(body.as_str(), "Plaintext=c2VjcmV0");
                assert!(!query.contains("c2Vj") && query.contains("SecurityToken=to%2Fken"), "{}", *query);
                query.split('&').find(|pair| pair.starts_with("SignatureNonce=")).unwrap().to_owned()
            })
            .collect();
        assert_eq!(nonces.len(), 100);
    }

    #[test]
    fn credentials_come_from_one_family_of_variables() {
        let read = |set: &[(&str, &str)]| {
            AliyunCredentials::from_variables(|name| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let id_and_secret = [("ALICLOUD_ACCESS_KEY_ID", "b"), ("ALICLOUD_ACCESS_KEY_SECRET", "c")];
        assert_eq!(read(&id_and_secret).unwrap().access_key_id(), "b");
        let credentials = read(&[
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "a"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hidden"),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", "hidden too"),
            ("ALICLOUD_ACCESS_KEY_ID", "b"),
        ])
        .unwrap();
        assert_eq!(credentials.security_token.as_deref().map(String::as_str), Some("hidden too"));
        assert_eq!(format!("{credentials:?}"), "AliyunCredentials { access_key_id: \"a\", .. }");
        let missing = read(&[("ALIBABA_CLOUD_ACCESS_KEY_ID", "a"), id_and_secret[0], id_and_secret[1]]).unwrap_err();
        assert!(missing.to_string().contains("ALIBABA_CLOUD_ACCESS_KEY_SECRET"), "{missing}");
        assert_eq!(read(&[]).unwrap_err().kind(), ErrorKind::KeyUnavailable);
    }
}

//! The key service `vault`: the transit engine of OpenBao and HashiCorp Vault.
//!
//! HTTP API: <https://openbao.org/api-docs/secret/transit/>, <https://developer.hashicorp.com/vault/api-docs/secret/transit>.

use std::env;
use std::error::Error as StdError;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::kms::{Kms, secret};
use crate::types::{EncryptionContext, KmsService, WrappedKey, is_loopback_host};

/// The transit engine of an OpenBao or Vault server: CMKs named `mount/name`, or `name` in the mount `transit`.
///
/// What an envelope names is always `mount/name`. Keys of any type that encrypts with associated data will do (`aes256-gcm96`, the
/// default, `chacha20-poly1305` and so on), derived or not. The encryption context goes, in its canonical form, into `associated_data`,
/// and also into `context`, which derived keys want and others ignore. HashiCorp Vault knows `associated_data` since 1.9.
///
/// Data keys are drawn here and wrapped by `encrypt`, not drawn by `datakey`: whether that one authenticates `associated_data` depends
/// on the server, and one that ignores it would make objects that never open. The call cannot create a key that is not there.
///
/// Each call is made once: put [`Retrying`](crate::kms::retry::Retrying) around it.
///
/// A token's policy needs `update` on `MOUNT/encrypt/NAME` to seal and on `MOUNT/decrypt/NAME` to read. Rotated keys go on opening what
/// earlier versions wrapped, down to their `min_decryption_version`.
///
/// Data keys are wiped in what this module holds. The HTTP client's own copies, parts of requests and responses on their way to and from
/// TLS, are freed without being wiped.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use sealift::kms::recipients::Recipient;
/// use sealift::kms::retry::{CallPolicy, Retrying};
/// use sealift::kms::vault::VaultKms;
///
/// # fn example() -> sealift::Result<()> {
/// let kms = Retrying::new(Arc::new(VaultKms::from_env()?), CallPolicy::default());
/// let recipient = Recipient { kms: Arc::new(kms), key: "transit/uploads".to_owned() };
/// # Ok(())
/// # }
/// ```
pub struct VaultKms {
    http: Client,
    address: Url,
}

/// Where the server is, and who asks.
#[derive(Default)]
pub struct VaultConfig {
    /// Its address, such as `https://vault.example:8200`. Plain `http` only goes to this machine.
    pub address: String,
    /// The token to authenticate with.
    pub token: Zeroizing<String>,
    /// The namespace to work in.
    pub namespace: Option<String>,
    /// Certificates, in PEM, of the authorities to trust instead of the system's.
    pub ca_certificates: Option<Vec<u8>>,
}

impl VaultConfig {
    /// As the servers' own tools take it: `BAO_ADDR`, `BAO_TOKEN`, `BAO_NAMESPACE` and `BAO_CACERT` (a file), or the same with `VAULT_`.
    ///
    /// # Errors
    /// - [`ErrorKind::KeyUnavailable`] if address or token are not set.
    /// - As the operating system has it if the file with the certificates cannot be read.
    pub fn from_env() -> Result<Self> {
        let get = |name: &str| {
            let found = ["BAO", "VAULT"].into_iter().find_map(|tool| env::var(format!("{tool}_{name}")).ok());
            found.filter(|value| !value.is_empty())
        };
        let needed = |name: &str, what: &str| {
            let missing = || {
                let message = format!("{what} is not known: set VAULT_{name} or BAO_{name}");
                Error::new(ErrorKind::KeyUnavailable, message)
            };
            get(name).ok_or_else(missing)
        };
        let read = |path: String| {
            let failed = |error| Error::io(format!("reading the certificates in {path}"), error);
            fs::read(Path::new(&path)).map_err(failed)
        };
        Ok(Self {
            address: needed("ADDR", "the address of the OpenBao or Vault server")?,
            token: Zeroizing::new(needed("TOKEN", "the token for the OpenBao or Vault server")?),
            namespace: get("NAMESPACE"),
            ca_certificates: get("CACERT").map(read).transpose()?,
        })
    }
}

impl fmt::Debug for VaultConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultConfig")
            .field("address", &self.address.parse().as_ref().map(shown).ok())
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl VaultKms {
    /// A client as [`VaultConfig::from_env`] finds it configured.
    ///
    /// # Errors
    /// As [`VaultConfig::from_env`] and [`new`](Self::new).
    pub fn from_env() -> Result<Self> {
        Self::new(VaultConfig::from_env()?)
    }

    /// A client. Nothing is sent before the first call.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the address is not one of `https`, or of `http` on this machine, or token, namespace or
    /// certificates are malformed.
    pub fn new(config: VaultConfig) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        let mut address: Url = config.address.parse().map_err(|error| {
            // Without the text itself: a password may be in it.
            invalid(format!("the address of the OpenBao or Vault server is none: {error}"))
        })?;
        let local = address.host_str().is_some_and(is_loopback_host);
        match address.scheme() {
            "https" => {}
            "http" if local => {}
            _ => {
                let message = format!("{} would send data keys in the clear: give an https address", shown(&address));
                return Err(invalid(message));
            }
        }
        if !address.path().ends_with('/') {
            address.set_path(&format!("{}/", address.path()));
        }
        let mut headers = HeaderMap::new();
        let header = |value: &str, what: &str| {
            HeaderValue::from_str(value).map_err(|_| invalid(format!("{what} has characters that no {what} has")))
        };
        let mut token = header(config.token.trim(), "token")?;
        token.set_sensitive(true);
        headers.insert("x-vault-token", token);
        // Agents can be set to want this of whoever is not a browser.
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(namespace) = &config.namespace {
            headers.insert("x-vault-namespace", header(namespace, "namespace")?);
        }
        let mut http = Client::builder()
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            // Whoever does not limit the time of a call must not wait for ever.
            .timeout(Duration::from_secs(30));
        if local {
            http = http.no_proxy();
        }
        if let Some(pem) = &config.ca_certificates {
            let certificates = Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty());
            let none = || invalid("the file of certificates holds none in PEM".to_owned());
            http = http.tls_certs_only(certificates.ok_or_else(none)?);
        }
        let http = http.build().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the HTTP client for OpenBao or Vault could not be set up")
                .with_source(error)
        })?;
        Ok(Self { http, address })
    }

    /// Id of the key `key`, as envelopes have it: for [`TrustedKeys::Only`](crate::kms::recipients::TrustedKeys::Only). The server is not
    /// asked.
    ///
    /// # Errors
    /// [`ErrorKind::KeyUnavailable`] if no key is called like that.
    pub fn key_id(key: &str) -> Result<String> {
        Ok(Name::parse(key)?.to_string())
    }

    async fn encrypt(&self, key: &str, data_key: &DataKey, context: &EncryptionContext) -> Result<WrappedKey> {
        let name = Name::parse(key)?;
        let plaintext = secret::to_base64(data_key);
        let bound = STANDARD.encode(context.canonical());
        let request = Encrypt {
            plaintext: &plaintext,
            associated_data: &bound,
            context: &bound,
            // A key that is not there would be created, of this type; there is no such type, so it is not.
            r#type: "sealift-creates-no-keys",
        };
        let answer = self.post("encrypt", &name, &request).await?;
        let answer = answer.map_err(|refused| refused.error("wrap with", &name))?;
        let ciphertext = Answer::of(&answer)?.ciphertext.filter(|text| is_ciphertext(text.as_bytes()));
        let blob = ciphertext.ok_or_else(|| unusable("ciphertext"))?.as_bytes().to_vec();
        Ok(WrappedKey { kms: KmsService::Vault, key: name.to_string(), blob })
    }

    async fn decrypt(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<DataKey> {
        secret::check_service(KmsService::Vault, wrapped)?;
        let name = Name::parse(&wrapped.key)?;
        // Envelopes have one name for each key.
        if name.to_string() != wrapped.key {
            return Err(no_such_name(&wrapped.key));
        }
        let blob = std::str::from_utf8(&wrapped.blob).ok().filter(|text| is_ciphertext(text.as_bytes()));
        let ciphertext = blob.ok_or_else(|| secret::does_not_open(wrapped))?;
        let bound = STANDARD.encode(context.canonical());
        let request = Decrypt { ciphertext, associated_data: &bound, context: &bound };
        let answer = match self.post("decrypt", &name, &request).await? {
            Ok(answer) => answer,
            Err(refused) if refused.is_not_authentic() => return Err(secret::does_not_open(wrapped)),
            Err(refused) => return Err(refused.error("unwrap with", &name)),
        };
        let plaintext = Answer::of(&answer)?.plaintext.ok_or_else(|| unusable("plaintext"))?;
        secret::from_base64(plaintext.as_bytes()).ok_or_else(|| secret::does_not_open(wrapped))
    }

    /// What the server answers: the body if it did as it was told.
    async fn post(
        &self,
        operation: &str,
        name: &Name<'_>,
        request: &impl Serialize,
    ) -> Result<Result<Zeroizing<Vec<u8>>, Refused>> {
        // Large enough from the start: a vector that grows leaves copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        serde_json::to_writer(&mut *body, request).map_err(|error| Error::io("writing a request", error.into()))?;
        let path = format!("v1/{}/{operation}/{}", name.mount, name.key);
        let url = self.address.join(&path).map_err(|_| no_such_name(&name.to_string()))?;
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").body(Bytes::from_owner(body));
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let pause = retry_after(&response);
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > MAX_BODY {
                let message =
                    format!("the server at {} answered with more than {MAX_BODY} bytes", shown(&self.address));
                return Err(Error::new(ErrorKind::Io, message));
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::OK {
            return Ok(Ok(body));
        }
        Ok(Err(Refused { status, pause, said: Errors::of(&body) }))
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let (kind, what) = match error.is_timeout() {
            true => (ErrorKind::Timeout, "did not answer in time"),
            false => (ErrorKind::Io, "cannot be reached"),
        };
        let retry = if error.is_builder() || is_certificate(&error) { Retry::No } else { Retry::Yes };
        let message = format!("the OpenBao or Vault server at {} {what}", shown(&self.address));
        Error::new(kind, message).with_retry(retry).with_source(error.without_url())
    }
}

impl Kms for VaultKms {
    fn service(&self) -> KmsService {
        KmsService::Vault
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

impl fmt::Debug for VaultKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultKms").field("address", &shown(&self.address)).finish_non_exhaustive()
    }
}

/// More than any request or answer about one data key: an encryption context can be a few kilobytes, twice in base64.
const MAX_BODY: usize = 64 * 1024;

/// A key's name, in parts that are parts of a path.
struct Name<'a> {
    mount: &'a str,
    key: &'a str,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let (mount, key) = text.rsplit_once('/').unwrap_or(("transit", text));
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let is_segment = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(plain);
        let fits = text.len() <= 512 && mount.split('/').all(is_segment) && is_segment(key);
        fits.then_some(Self { mount, key }).ok_or_else(|| no_such_name(text))
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mount, self.key)
    }
}

fn no_such_name(key: &str) -> Error {
    let message = format!("{key:?} names no key of a transit engine: give it as mount/name, such as transit/uploads");
    Error::new(ErrorKind::KeyUnavailable, message)
}

/// Whether this is `vault:v1:base64` with any version from 1, in the one spelling of it. Servers take other spellings for the same.
fn is_ciphertext(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"vault:v") else { return false };
    let Some(colon) = rest.iter().position(|byte| *byte == b':') else { return false };
    let (version, base64) = (rest.get(..colon).unwrap_or_default(), rest.get(colon + 1..).unwrap_or_default());
    let is_number = (1..=9).contains(&version.len()) && version.iter().all(u8::is_ascii_digit);
    is_number && version.first() != Some(&b'0') && !base64.is_empty() && STANDARD.decode(base64).is_ok()
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
    context: &'a str,
    r#type: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
    context: &'a str,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    ciphertext: Option<&'a str>,
    #[serde(borrow)]
    plaintext: Option<&'a str>,
}

impl<'a> Answer<'a> {
    fn of(body: &'a [u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Outer<'a> {
            #[serde(borrow)]
            data: Answer<'a>,
        }
        // A parser's own message could quote what it read.
        serde_json::from_slice(body).map(|outer: Outer<'a>| outer.data).map_err(|_| unusable("data"))
    }
}

fn unusable(member: &str) -> Error {
    let message =
        format!("the server's answer has no usable {member}: is its address that of an OpenBao or Vault server?");
    Error::new(ErrorKind::Io, message)
}

/// What the server says is wrong.
#[derive(Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Errors {
    fn of(body: &[u8]) -> String {
        let errors: Self = serde_json::from_slice(body).unwrap_or_default();
        errors.errors.join("; ").chars().filter(|c| !c.is_control()).take(400).collect()
    }
}

/// An answer other than 200.
struct Refused {
    status: StatusCode,
    pause: Option<Duration>,
    said: String,
}

impl Refused {
    /// Whether a ciphertext does not authenticate, or is none.
    fn is_not_authentic(&self) -> bool {
        // In words of the server's, because it has no codes.
        const SAYS: [&str; 4] =
            ["message authentication failed", "invalid ciphertext", "could not decode", "to decrypt"];
        self.status == StatusCode::BAD_REQUEST && SAYS.iter().any(|words| self.said.contains(words))
    }

    /// After <https://openbao.org/api-docs/#http-status-codes>.
    fn error(self, doing: &str, name: &Name<'_>) -> Error {
        use ErrorKind::{Io, KeyUnavailable, Throttled};
        let again = self.pause.map_or(Retry::Yes, Retry::After);
        let (kind, retry, advice) = match self.status.as_u16() {
            301..=308 => (Io, Retry::No, "it sends its clients elsewhere: give the address of the active server"),
            403 => (KeyUnavailable, Retry::No, "the token is not valid, or its policy does not allow it"),
            404 => (KeyUnavailable, Retry::No, "no transit engine is mounted there"),
            429 => (Throttled, again, "it asks for fewer requests"),
            412 | 472 | 473 => (Io, again, "this server is a standby that is not up to date"),
            503 => (KeyUnavailable, again, "it is sealed, or down for maintenance"),
            500.. => (Io, again, "it failed"),
            _ => (KeyUnavailable, Retry::No, "it was refused"),
        };
        let said = if self.said.is_empty() { String::new() } else { format!(": {}", self.said) };
        let message =
            format!("OpenBao or Vault could not {doing} the key \"{name}\": {advice} ({}{said})", self.status.as_u16());
        Error::new(kind, message).with_retry(retry)
    }
}

/// An address, to be shown: without the password that a proxy in front of the server may want.
fn shown(address: &Url) -> String {
    let mut shown = address.clone();
    // It fails only where there can be none.
    let _ = shown.set_username("").and_then(|()| shown.set_password(None));
    shown.into()
}

/// Seconds, as these servers send it; a date is not looked at.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whether the server's certificate is what is wrong: it will be wrong again.
fn is_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_mount_and_a_key_and_never_leave_their_path() {
        let name = |text: &str| Name::parse(text).ok().map(|name| name.to_string());
        assert_eq!(name("uploads").as_deref(), Some("transit/uploads"));
        assert_eq!(name("team/kms/a-b.c_1").as_deref(), Some("team/kms/a-b.c_1"));
        for bad in ["", "/", "a/", "/a", "a//b", "../a", "a/..", "a/./b", "a b", "a?b", "a#b", "a%2fb", "\u{e9}", "a\0"]
        {
            assert_eq!(name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_ciphertext_has_one_spelling() {
        assert!(is_ciphertext(b"vault:v1:AAAA") && is_ciphertext(b"vault:v12:AAA="));
        for bad in [
            "",
            "vault:v1:",
            "vault:v0:AAAA",
            "vault:v01:AAAA",
            "vault:v:AAAA",
            "vault:v+1:AAAA",
            "Vault:v1:AAAA",
            "vault:v1:AAA",
            "vault:v1:AAB=",
            "vault:v1:AA\nAA",
            "vault:v1:AAAA ",
            "vault:v1AAAA",
            "vault:v9999999999:AAAA",
        ] {
            assert!(!is_ciphertext(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn only_what_can_succeed_is_to_be_tried_again() {
        use ErrorKind::{Io, KeyUnavailable, Throttled};
        for (status, kind, retry) in [
            (307, Io, Retry::No),
            (400, KeyUnavailable, Retry::No),
            (403, KeyUnavailable, Retry::No),
            (404, KeyUnavailable, Retry::No),
            (409, KeyUnavailable, Retry::No),
            (412, Io, Retry::Yes),
            (429, Throttled, Retry::Yes),
            (473, Io, Retry::Yes),
            (500, Io, Retry::Yes),
            (502, Io, Retry::Yes),
            (503, KeyUnavailable, Retry::Yes),
        ] {
            let refused = Refused { status: StatusCode::from_u16(status).unwrap(), pause: None, said: String::new() };
            let error = refused.error("wrap with", &Name { mount: "transit", key: "k" });
            assert_eq!((error.kind(), error.retry()), (kind, retry), "{status}");
        }
    }

    #[test]
    fn data_keys_go_to_this_machine_or_over_tls() {
        let new = |address: &str| VaultKms::new(VaultConfig { address: address.to_owned(), ..VaultConfig::default() });
        for good in ["http://127.0.0.1:8200", "http://localhost:1/", "http://[::1]:1", "https://vault.example/prefix"] {
            assert!(new(good).is_ok(), "{good}");
        }
        for bad in ["http://vault.example", "http://127.0.0.1.example", "ftp://127.0.0.1", "vault", ""] {
            assert_eq!(new(bad).err().map(|error| error.kind()), Some(ErrorKind::InvalidInput), "{bad}");
        }
    }

    #[tokio::test]
    async fn neither_token_nor_a_password_in_the_address_is_shown() {
        for address in ["https://me:pass@127.0.0.1:1", "http://me:pass@vault.example", "https://me:pass@vault:x"] {
            let token = Zeroizing::new("pass".to_owned());
            let config = VaultConfig { address: address.to_owned(), token, ..VaultConfig::default() };
            let mut shown = format!("{config:?}");
            match VaultKms::new(config) {
                Ok(kms) => {
                    let failed = kms.generate_data_key("k", &EncryptionContext::default()).await.map(drop).unwrap_err();
                    shown += &format!("{kms:?} {failed} {failed:?}");
                }
                Err(error) => shown += &format!("{error} {error:?}"),
            }
            assert!(!shown.contains("pass"), "{shown}");
        }
    }
}

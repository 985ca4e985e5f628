//! What Alibaba Cloud KMS answers, and what its errors mean.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::Deserializer;
use zeroize::Zeroizing;

use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::kms::secret;
use crate::types::KeyState;

/// The members of all answers that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    key_id: Option<String>,
    ciphertext_blob: Option<String>,
    plaintext: Option<Secret>,
    key_metadata: Option<KeyMetadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyMetadata {
    key_id: String,
}

struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Answer {
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        // Not with its source, which might quote what it could not read.
        serde_json::from_slice(body).map_err(|_| not_understood("it is no JSON object of the kind"))
    }

    pub(super) fn key_id(&self) -> Result<&str> {
        self.key_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| not_understood("it names no key"))
    }

    pub(super) fn described_key_id(&self) -> Result<String> {
        let metadata = self.key_metadata.as_ref().ok_or_else(|| not_understood("it describes no key"))?;
        Ok(metadata.key_id.clone())
    }

    pub(super) fn blob(&self) -> Result<Vec<u8>> {
        let text = self.ciphertext_blob.as_deref().unwrap_or_default();
        let blob = STANDARD.decode(text).ok().filter(|blob| !blob.is_empty());
        blob.ok_or_else(|| not_understood("its CiphertextBlob is not base64"))
    }

    pub(super) fn data_key(&self) -> Result<DataKey> {
        let text = self.plaintext.as_ref().map(|Secret(text)| text.as_bytes());
        text.and_then(secret::from_base64).ok_or_else(|| not_understood("its Plaintext is not base64 of 32 bytes"))
    }
}

fn not_understood(why: &str) -> Error {
    Error::new(ErrorKind::Io, format!("Alibaba Cloud KMS gave an answer that is not understood: {why}"))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Refusal {
    code: String,
    message: String,
    request_id: String,
}

/// What an answer other than 200 means.
pub(super) fn refusal(
    action: &str,
    key: &str,
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    access_key_id: &str,
) -> Error {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let code = refusal.code.as_str();
    let later = retry_after.map_or(Retry::Yes, Retry::After);
    let state = code.strip_prefix("Rejected.").filter(|_| status == 409);
    let state = state.and_then(|state| KeyState::ALL.into_iter().find(|known| known.name() == state));
    let (kind, what, retry) = match status {
        _ if status == 429 || code.contains("Throttling") => {
            (ErrorKind::Throttled, "asks for fewer requests".to_owned(), later)
        }
        408 => (ErrorKind::Timeout, "waited too long for the request".to_owned(), later),
        500.. => (ErrorKind::Io, "failed".to_owned(), later),
        409 => (ErrorKind::KeyUnavailable, forbidden_by(key, state), Retry::No),
        _ if code.contains("AccessKey") => {
            let what = format!("does not know the access key {access_key_id:?}, or it is disabled");
            (ErrorKind::KeyUnavailable, what, Retry::No)
        }
        _ if code.contains("SecurityToken") => {
            let what = "refuses the security token: get new temporary credentials".to_owned();
            (ErrorKind::KeyUnavailable, what, Retry::No)
        }
        // By whatever repeated it on the way: the next one has another nonce.
        _ if code == "SignatureNonceUsed" => (ErrorKind::Io, "says the request was repeated".to_owned(), later),
        _ if code.contains("Signature") => {
            let what = format!("refuses the signature: is the secret that of the access key {access_key_id:?}?");
            (ErrorKind::KeyUnavailable, what, Retry::No)
        }
        _ if code.contains("TimeStamp") || code.contains("Timestamp") => {
            let what = "refuses the time of the request: set this machine's clock".to_owned();
            (ErrorKind::KeyUnavailable, what, Retry::No)
        }
        404 => (ErrorKind::KeyUnavailable, format!("has no CMK {key:?} in this region and account"), Retry::No),
        403 => {
            let what =
                format!("does not let this access key use the CMK {key:?}: it needs the permission kms:{action}");
            (ErrorKind::KeyUnavailable, what, Retry::No)
        }
        // All parameters of this action come from the wrapped key and its context.
        400 if action == "Decrypt"
            && (code.starts_with("InvalidParameter") || code.starts_with("InvalidCiphertext")) =>
        {
            (ErrorKind::Authentication, "does not open the wrapped data key".to_owned(), Retry::No)
        }
        400 if code.contains("Parameter") => (
            ErrorKind::InvalidInput,
            format!("refuses the name of the CMK {key:?}, or the encryption context"),
            Retry::No,
        ),
        _ => (ErrorKind::KeyUnavailable, format!("refuses to use the CMK {key:?}"), Retry::No),
    };
    let error = Error::new(kind, format!("Alibaba Cloud KMS {what} ({})", refusal.details(action, status)));
    state.into_iter().fold(error, Error::with_key_state).with_retry(retry)
}

impl Refusal {
    /// What the service's support will ask for. Its own message only where it cannot quote a data key or what signs a
    /// request: signature errors repeat the whole request.
    fn details(&self, action: &str, status: u16) -> String {
        let mut details = format!("{action}: HTTP status {status}");
        let may_quote = action != "Encrypt" && !self.code.contains("Signature");
        let shown = [("", &self.code), ("", &self.message), ("request ", &self.request_id)];
        for (what, text) in
            shown.into_iter().filter(|(_, text)| !text.is_empty() && (may_quote || *text != &self.message))
        {
            // Short, and without control characters: whoever answers is not proven to be the service.
            let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_QUOTED).collect();
            details = format!("{details}, {what}{text}");
        }
        details
    }
}

fn forbidden_by(key: &str, state: Option<KeyState>) -> String {
    let advice = match state {
        Some(KeyState::Disabled) => "enable it",
        Some(KeyState::PendingDeletion) => "cancel its deletion",
        Some(KeyState::PendingImport) => "import its key material",
        _ => return format!("cannot use the CMK {key:?} in the state it is in"),
    };
    let state = state.map_or("", KeyState::name);
    format!("cannot use the CMK {key:?}: its state is {state}; {advice} first")
}

const MAX_QUOTED: usize = 200;

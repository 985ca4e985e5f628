//! How answers and errors are written: JSON or XML, as the request says.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::{HeaderValue, StatusCode, header};
use sealift::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::server::{Response, full};

/// A result, or an error as KMS says it.
pub(super) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// An error as KMS says it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    pub(super) fn missing(name: &'static str) -> Self {
        Self::new(400, "MissingParameter", format!("The parameter {name} is needed and not there."))
    }

    pub(super) fn parameter(why: impl std::fmt::Display) -> Self {
        Self::new(400, "InvalidParameter", format!("The specified parameter is not valid: {why}."))
    }

    pub(super) fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(400, "UnsupportedOperation", format!("This action is not supported: {what}."))
    }

    /// There is no such key, or no such alias.
    pub(super) fn not_found(name: &str) -> Self {
        match name.contains("alias/") {
            true => Self::new(404, "Forbidden.AliasNotFound", "The specified Alias is not found."),
            false => Self::new(404, "Forbidden.KeyNotFound", "The specified Key is not found."),
        }
    }

    pub(super) fn internal() -> Self {
        Self::new(500, "InternalFailure", "Internal Failure")
    }

    /// What the key store's `error` about the key `name` is here.
    pub(super) fn of(error: &Error, name: &str) -> Self {
        if let Some(state) = error.key_state() {
            let code = format!("Rejected.{}", state.name());
            return Self::new(
                409,
                code,
                format!("The key is in the state {}, which does not allow this.", state.name()),
            );
        }
        match error.kind() {
            ErrorKind::KeyUnavailable => {
                // That there is no such key is the usual reason. Others are the operator's business: they name paths.
                tracing::debug!("a key was not found: {error}");
                Self::not_found(name)
            }
            ErrorKind::InvalidInput | ErrorKind::AlreadyExists => Self::parameter(error),
            ErrorKind::Authentication => Self::parameter("it does not decrypt with this key and encryption context"),
            ErrorKind::LimitExceeded => Self::new(400, "Rejected.LimitExceeded", error.to_string()),
            _ => {
                tracing::error!("the key store failed: {error:?}");
                Self::internal()
            }
        }
    }
}

/// How an answer is written.
#[derive(Debug)]
pub(super) struct Format {
    is_xml: bool,
    /// The action, once it is known.
    pub(super) root: &'static str,
}

impl Format {
    pub(super) fn json() -> Self {
        Self { is_xml: false, root: "" }
    }

    pub(super) fn xml() -> Self {
        Self { is_xml: true, root: "" }
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::json()
    }
}

/// The whole answer.
pub(super) fn response(acted: Result<Value>, request_id: &str, format: &Format) -> Response {
    let (status, mut body, root) = match acted {
        Ok(body) => (200, body, format!("{}Response", format.root)),
        Err(Refusal { status, code, message }) => {
            (status, json!({"HttpStatus": status, "Code": code, "Message": message}), "Error".to_owned())
        }
    };
    if let Some(body) = body.as_object_mut() {
        body.insert("RequestId".to_owned(), request_id.into());
    }
    let (media_type, body) = match format.is_xml {
        false => ("application/json;charset=utf-8", body.to_string()),
        true => {
            let mut text = "<?xml version='1.0' encoding='UTF-8'?>".to_owned();
            xml(&root, &body, &mut text);
            ("text/xml;charset=utf-8", text)
        }
    };
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// One element; of a list, one for each.
fn xml(name: &str, value: &Value, to: &mut String) {
    if let Value::Array(all) = value {
        return all.iter().for_each(|one| xml(name, one, to));
    }
    // Writing to a String does not fail.
    let _ = write!(to, "<{name}>");
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| xml(name, value, to)),
        Value::String(text) => to.push_str(&quick_xml::escape::escape(text.as_str())),
        Value::Null => {}
        other => {
            let _ = write!(to, "{other}");
        }
    }
    let _ = write!(to, "</{name}>");
}

#[cfg(test)]
mod tests {
    use sealift::KeyState;

    use super::*;

    #[test]
    fn states_are_conflicts_and_paths_stay_here() {
        let error = Error::new(ErrorKind::KeyUnavailable, "no").with_key_state(KeyState::PendingImport);
        let refusal = Refusal::of(&error, "k");
        assert_eq!((refusal.status, refusal.code.as_ref()), (409, "Rejected.PendingImport"));
        let error = Error::new(ErrorKind::KeyUnavailable, "there is no key in /srv/keys");
        let refusal = Refusal::of(&error, "alias/k");
        assert_eq!((refusal.status, refusal.code.as_ref()), (404, "Forbidden.AliasNotFound"));
        assert_eq!(Refusal::of(&error, "k").code, "Forbidden.KeyNotFound");
        let refusal = Refusal::of(&Error::new(ErrorKind::Io, "writing /srv/keys/x"), "k");
        assert_eq!((refusal.status, refusal.code.as_ref()), (500, "InternalFailure"));
        assert!(!refusal.message.contains("/srv"));
    }

    #[test]
    fn xml_repeats_elements_and_escapes() {
        let mut text = String::new();
        let value = json!({"Keys": {"Key": [{"KeyId": "<a>"}, {"KeyId": "b"}]}, "Total": 2, "On": true, "No": null});
        xml("R", &value, &mut text);
        let expected = "<R><Keys><Key><KeyId>&lt;a&gt;</KeyId></Key><Key><KeyId>b</KeyId></Key></Keys><No></No><On>true</On>\
                        <Total>2</Total></R>";
        assert_eq!(text, expected);
    }
}

//! Who signs.

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// An access key of Alibaba Cloud: id, secret, and for temporary ones the security token.
///
/// Not shown by `Debug`, not `Clone`, wiped when dropped.
///
/// ```
/// use sealift::store::oss::Credentials;
///
/// let credentials = Credentials::new("id", "secret", None);
/// assert_eq!(format!("{credentials:?}"), "Credentials { .. }");
/// ```
pub struct Credentials {
    id: String,
    secret: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
    source: Cow<'static, str>,
}

/// Names of the variables that hold id, secret and token: those of the OSS tools first, then those of all of Alibaba Cloud's.
const VARIABLES: [[&str; 3]; 2] = [
    ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"],
    ["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"],
];

impl Credentials {
    /// An access key, with a security token if STS gave it.
    #[must_use]
    pub fn new(id: impl Into<String>, secret: impl Into<String>, token: Option<&str>) -> Self {
        let token = token.map(|token| Zeroizing::new(token.to_owned()));
        Self { id: id.into(), secret: Zeroizing::new(secret.into()), token, source: "what was given".into() }
    }

    /// Where they were found, for people.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn found_in(self, source: String) -> Self {
        Self { source: source.into(), ..self }
    }

    /// The access key in the environment: `OSS_ACCESS_KEY_ID`, `OSS_ACCESS_KEY_SECRET` and `OSS_SESSION_TOKEN`, as ossutil and the OSS
    /// SDKs take them; else `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET` and `ALIBABA_CLOUD_SECURITY_TOKEN`, as all of
    /// Alibaba Cloud's tools do. The two are not mixed. The token is optional, and an empty variable counts as none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if neither an id with its secret is there.
    pub fn from_env() -> Result<Self> {
        Self::in_env().ok_or_else(Self::missing)
    }

    pub(super) fn in_env() -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        for [id_variable, secret, token] in VARIABLES {
            if let (Some(id), Some(secret)) = (variable(id_variable), variable(secret)) {
                let (secret, token) = (Zeroizing::new(secret), variable(token).map(Zeroizing::new));
                let source = Cow::Owned(format!("the environment ({id_variable})"));
                return Some(Self { id, secret, token, source });
            }
        }
        None
    }

    pub(super) fn missing() -> Error {
        Error::new(
            ErrorKind::InvalidInput,
            "no credentials for OSS: set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET (with OSS_SESSION_TOKEN for temporary ones), \
             or ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or run `ossutil config` or `aliyun configure`",
        )
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.as_str())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<(String, Option<String>)> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let credentials = Credentials::from_variables(variable)?;
        Some((credentials.id().to_owned(), credentials.token().map(str::to_owned)))
    }

    #[test]
    fn the_environment_is_read_as_alibabas_tools_read_it() {
        let general = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "b"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s")];
        assert_eq!(found(&general), Some(("b".into(), None)));
        let token = [&general[..], &[("ALIBABA_CLOUD_SECURITY_TOKEN", "t"), ("OSS_SESSION_TOKEN", "no")]].concat();
        assert_eq!(found(&token), Some(("b".into(), Some("t".into()))));
        let both = [&general[..], &[("OSS_ACCESS_KEY_ID", "a"), ("OSS_ACCESS_KEY_SECRET", "s")]].concat();
        assert_eq!(found(&both), Some(("a".into(), None)));
        assert_eq!(found(&[("OSS_ACCESS_KEY_ID", "a"), ("OSS_ACCESS_KEY_SECRET", "")]), None);
        assert_eq!(found(&[]), None);
    }
}

//! What is told of a store besides what it stores, for whoever looks for what is wrong.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::SystemTime;

use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::S3Store;
use super::errors::http_date;
use crate::error::{Error, ErrorKind, Result};
use crate::types::ObjectKey;

/// Before any answer told a time.
const UNKNOWN: i64 = i64::MIN;

/// Looks at the date of every answer.
#[derive(Clone)]
pub(super) struct Watch(Arc<AtomicI64>);

impl Default for Watch {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date").and_then(http_date) {
            let ahead = match date.duration_since(SystemTime::now()) {
                Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX),
                Err(behind) => i64::try_from(behind.duration().as_secs()).map_or(-i64::MAX, |seconds| -seconds),
            };
            self.0.store(ahead, Relaxed);
        }
        Ok(())
    }
}

impl S3Store {
    /// By how many seconds the store's clock was ahead of this machine's in its last answer; negative where it was behind. `None` if none
    /// has come yet that told the time.
    #[must_use]
    pub fn clock_ahead(&self) -> Option<i64> {
        Some(self.watch.0.load(Relaxed)).filter(|ahead| *ahead != UNKNOWN)
    }

    /// Where the credentials were found, for people. Asks for them, over the network where they come from there.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if there are none.
    pub async fn credentials_source(&self) -> Result<String> {
        let none = || {
            let message = "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or log in with \
                           `aws sso login`";
            Error::new(ErrorKind::PermissionDenied, message)
        };
        let provider = self.credentials.as_ref().ok_or_else(none)?;
        let credentials = provider.provide_credentials().await.map_err(|e| none().with_source(e))?;
        let features = credentials.get_property::<Vec<Feature>>().map(Vec::as_slice).unwrap_or_default();
        Ok(features.iter().find_map(source).unwrap_or("what was given or AWS's chain").to_owned())
    }

    /// Whether the store compares a checksum that comes with an object, found out by sending it a wrong one: a store that does not is left
    /// with an object of a few bytes under `key`.
    ///
    /// # Errors
    /// What the store says, if it is something else.
    pub async fn compares_checksums(&self, key: &ObjectKey) -> Result<bool> {
        let request = self.request(format!("store {}", self.name(key)));
        let put = || {
            let put = self.client.put_object().bucket(&self.bucket).key(key.as_str());
            // The CRC-32C of no bytes is 0.
            put.checksum_crc32_c(STANDARD.encode([0; 4])).body(ByteStream::from_static(b"some bytes")).send()
        };
        match self.send(&request, self.patience.request, put).await {
            Ok(_) => Ok(false),
            // What arrived is not what was sent, in whatever words.
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::InvalidInput) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn source(feature: &Feature) -> Option<&'static str> {
    Some(match feature {
        Feature::CredentialsEnvVars => "the environment (AWS_ACCESS_KEY_ID)",
        Feature::CredentialsSso | Feature::CredentialsProfileSso => "AWS SSO",
        Feature::CredentialsProcess | Feature::CredentialsProfileProcess => "a program that the profile names",
        Feature::CredentialsImds => "the role of this machine",
        Feature::CredentialsHttp => "the role of this container",
        Feature::CredentialsStsAssumeRole
        | Feature::CredentialsStsAssumeRoleWebId
        | Feature::CredentialsEnvVarsStsWebIdToken
        | Feature::CredentialsProfileStsWebIdToken => "a role that was assumed",
        Feature::CredentialsProfile => "the profile in AWS's configuration files",
        _ => return None,
    })
}

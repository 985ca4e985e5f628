//! Where customer master keys (CMKs) live: the trait every key service implements.
//!
//! A data key is drawn for each upload, wrapped by one or more CMKs, and travels with the object in its envelope.
//! Whoever may unwrap with one of those CMKs can read the object.

#[cfg(feature = "aliyun-kms")]
pub mod aliyun;
#[cfg(feature = "aws-kms")]
pub mod aws;
#[cfg(feature = "backup")]
pub mod backup;
pub mod cache;
pub mod conformance;
pub mod key_file;
pub mod local;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
pub mod recipients;
pub mod retry;
#[cfg(feature = "aws-lc-rs")]
pub mod rsa;
#[cfg(feature = "vault-kms")]
pub mod vault;

mod secret;

use futures::future::BoxFuture;

use crate::crypto::DataKey;
use crate::error::Result;
use crate::types::{EncryptionContext, KmsService, WrappedKey};

/// A key service: it wraps and unwraps data keys under CMKs that never leave it.
///
/// `key` is an id or an alias of the service's; what comes back in [`WrappedKey::key`] is always the id.
/// The encryption context is authenticated: an unwrap whose context differs from the wrap's fails.
///
/// # Errors
/// All methods return [`KeyUnavailable`](crate::ErrorKind::KeyUnavailable) where the CMK is unknown, in a state that forbids the
/// operation (then with [`Error::key_state`](crate::Error::key_state)), or the caller may not use it, and [`Authentication`](crate::ErrorKind::Authentication) where a wrapped key does not
/// open: the same error whether key, context or blob is the wrong one. (A wrapped key that was altered so that it names another CMK or
/// another version may be `KeyUnavailable`.) A service on a network also has [`Throttled`](crate::ErrorKind::Throttled),
/// [`Timeout`](crate::ErrorKind::Timeout) and [`Io`](crate::ErrorKind::Io). [`Error::retry`](crate::Error::retry) tells whether asking
/// again can help, which [`Retrying`](retry::Retrying) does. [`conformance`] checks all of this.
pub trait Kms: Send + Sync {
    /// Which service this is; [`WrappedKey::kms`] of everything it wraps.
    fn service(&self) -> KmsService;

    /// Draws a data key and wraps it under `key`, in one call.
    ///
    /// As it is here, the key is drawn on this machine, and the service wraps it. A service that draws data keys itself does so instead.
    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
        Box::pin(async move {
            let data_key = DataKey::random()?;
            let wrapped = self.wrap(key, &data_key, context).await?;
            Ok((data_key, wrapped))
        })
    }

    /// Wraps a data key that exists under `key`.
    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>>;

    /// Unwraps a data key that this service wrapped.
    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>>;
}

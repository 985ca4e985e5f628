//! Where customer master keys (CMKs) live: the trait every key service implements.
//!
//! A data key is drawn for each upload, wrapped by one or more CMKs, and travels with the object in its envelope.
//! Whoever may unwrap with one of those CMKs can read the object.

#[cfg(feature = "backup")]
pub mod backup;
pub mod cache;
pub mod key_file;
pub mod local;
pub mod recipients;

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
/// operation, or the service cannot be reached, and [`Authentication`](crate::ErrorKind::Authentication) where a wrapped key does not
/// open: the same error whether key, context or blob is the wrong one.
pub trait Kms: Send + Sync {
    /// Which service this is; [`WrappedKey::kms`] of everything it wraps.
    fn service(&self) -> KmsService;

    /// Draws a data key and wraps it under `key`, in one call.
    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>>;

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

//! The object that an upload makes, and how it is told from any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::cipher::Cipher;
use super::options::Protection;
use super::read::{Origin, fetch_tail};
use super::retries::Retries;
use super::upload::Uploaded;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::format::{self, Envelope, trailer};
use crate::store::{MultipartStore, Properties, PutCondition};
use crate::types::{ETag, ObjectId, ObjectKey, WrappedKey};
use crate::upload::{RetryPolicy, SealedPart};

/// What is being made, and where.
pub(super) struct Object {
    pub(super) store: Arc<dyn MultipartStore>,
    pub(super) key: ObjectKey,
    pub(super) properties: Properties,
    pub(super) condition: PutCondition,
    pub(super) identity: Identity,
}

/// Which upload makes it, as its metadata says.
pub(crate) enum Identity {
    Sealed(Envelope),
    Unsealed(ObjectId),
}

impl Identity {
    /// What [`metadata`](Self::metadata) gave.
    pub(super) fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Self> {
        match format::unsealed_by(metadata) {
            Some(upload) => Ok(Self::Unsealed(upload)),
            None => Envelope::from_metadata(metadata).map(Self::Sealed),
        }
    }

    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Self::Sealed(envelope) => envelope.to_metadata(),
            Self::Unsealed(upload) => format::unsealed_metadata(upload),
        }
    }

    pub(super) fn object_id(&self) -> &ObjectId {
        match self {
            Self::Sealed(envelope) => envelope.object_id(),
            Self::Unsealed(upload) => upload,
        }
    }

    pub(super) fn protection(&self) -> Protection {
        match self {
            Self::Sealed(_) => Protection::Sealed,
            Self::Unsealed(_) => Protection::Unsealed,
        }
    }

    pub(super) fn data_keys(&self) -> &[WrappedKey] {
        match self {
            Self::Sealed(envelope) => envelope.data_keys(),
            Self::Unsealed(_) => &[],
        }
    }
}

impl Object {
    /// Whether the object under the key is this very upload's. A sealed one has its object id, and its trailer with `manifest`'s parts;
    /// one that is not sealed has the upload's id in its metadata, and the length of all parts.
    pub(super) async fn published(
        &self,
        shared: &Shared,
        cipher: &Cipher,
        manifest: Option<&[SealedPart]>,
        retry: &RetryPolicy,
    ) -> Result<Option<Uploaded>> {
        let Some(manifest) = manifest else { return Ok(None) };
        let retries = Retries::new(retry.clone());
        let origin = Origin { shared, store: self.store.as_ref(), key: &self.key, retries: &retries };
        let plain_len = manifest.iter().map(|part| part.len).sum();
        let found = match cipher {
            Cipher::Cobblestone(data_key) => {
                let Some(found) = absent(fetch_tail(origin).await)? else { return Ok(None) };
                let object_id = found.envelope.object_id();
                if object_id != self.identity.object_id() {
                    return Ok(None);
                }
                let trailer = found.trailer(origin).await?;
                let Ok(opened) = trailer::open(shared.backend, data_key, object_id, &trailer, found.info.len) else {
                    return Ok(None);
                };
                let same = opened.parts().iter().map(|part| (part.number, part.len, part.salt));
                same.eq(manifest.iter().map(|part| (part.number, part.len, part.salt))).then_some(found.info)
            }
            Cipher::None => {
                let Some(info) = absent(retries.run(shared, || self.store.head(&self.key)).await)? else {
                    return Ok(None);
                };
                let upload = format::unsealed_by(&info.properties.metadata);
                (upload.as_ref() == Some(self.identity.object_id()) && info.len == plain_len).then_some(info)
            }
        };
        Ok(found.map(|info| Uploaded {
            object_id: *self.identity.object_id(),
            protection: self.identity.protection(),
            etag: info.etag,
            plain_len,
            sealed_len: info.len,
            parts: u32::try_from(manifest.len()).unwrap_or(u32::MAX),
            data_keys: self.identity.data_keys().to_vec(),
        }))
    }

    /// The ETag of the object where the request that was to make it failed with `error`, and made it all the same, or one before it did:
    /// the answer was lost, or the upload is gone, or what is in the way is the object itself.
    ///
    /// # Errors
    /// Why that cannot be found out, if nothing else could tell what became of it: then it is to be asked again.
    pub(super) async fn made_all_the_same(
        &self,
        shared: &Shared,
        cipher: &Cipher,
        manifest: &[SealedPart],
        retry: &RetryPolicy,
        error: &Error,
    ) -> Result<Option<ETag>> {
        let is_unclear = match error.kind() {
            ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::Changed => true,
            _ => error.retry() != Retry::No,
        };
        if !is_unclear {
            return Ok(None);
        }
        match (self.published(shared, cipher, Some(manifest), retry).await, error.kind()) {
            (Ok(done), _) => Ok(done.map(|done| done.etag)),
            // Of an upload that is gone only the object could tell what became of it.
            (Err(unknown), ErrorKind::NotFound | ErrorKind::AlreadyExists) => Err(unknown),
            (Err(_), _) => Ok(None),
        }
    }
}

/// `None` for an object that is not there, or is not sealed where a sealed one was looked for.
fn absent<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotSealed) => Ok(None),
        Err(e) => Err(e),
    }
}

//! Multipart uploads: a client's parts, each sealed as it comes in, under the client's numbers.
//!
//! What the next request needs to know lies in the store, sealed under the upload's data key, so any gateway can answer it. The
//! manifest, which makes the parts an object, is sealed at Complete, and nothing can be changed from then on.

mod complete;
mod list;
mod parts;
mod state;

use std::sync::Arc;
use std::time::SystemTime;

use sealift::store::PutCondition;
use sealift::{Attempt, PartNumber};

pub use complete::{CompleteRequest, ETagStyle, ListedPart};
pub use list::{ListedUpload, PartsListing, UploadsListing, UploadsRequest};
pub use parts::{PartInfo, PartRequest, PartSource};
pub(super) use state::{State, UploadCache};

use super::attributes::{Attributes, Own, check_size};
use super::checksums::ChecksumKind;
use super::encryption::{Encrypted, Sse};
use super::error::{Failure, FailureKind, Result};
use super::names::{self, ObjectName};
use super::write::sealed_properties;
use super::{Inner, Service, millis};
use state::Record;

/// How an object is to be written, part by part.
#[derive(Clone, Debug, Default)]
pub struct InitiateRequest {
    /// What it has besides its bytes.
    pub attributes: Attributes,
    /// How it is encrypted. `None` is the bucket's default.
    pub sse: Option<Sse>,
    /// The checksum it is to have. Its parts then have one each, too.
    pub checksum: Option<ChecksumKind>,
    /// Whether an object that is there stays, and this fails.
    pub if_not_exists: bool,
}

/// A multipart upload.
#[derive(Clone, Debug)]
pub struct UploadInfo {
    /// Its id.
    pub id: String,
    /// How the object is encrypted, if it is.
    pub encrypted: Option<Encrypted>,
}

impl Service {
    /// Begins a multipart upload.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], those of a CMK's id and state, [`FailureKind::AlreadyExists`] if so asked, and what the store says.
    pub async fn initiate(&self, name: &ObjectName, request: InitiateRequest) -> Result<UploadInfo> {
        let inner = &self.0;
        let sse = inner.encryption_of(name.bucket(), request.sse).await?;
        if request.if_not_exists && inner.properties_at(name).await?.is_some() {
            return Err(Failure::new(FailureKind::AlreadyExists, "The object exists already."));
        }
        let state = inner.begin_upload(name, &request.attributes, sse.as_ref(), request.checksum).await?;
        Ok(UploadInfo { id: state.id.clone(), encrypted: state.encrypted.clone() })
    }

    /// Gives up an upload and all of its parts.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchUpload`], and what the store says.
    pub async fn abort(&self, name: &ObjectName, id: &str) -> Result<()> {
        // Without its key: an upload can be given up even if its CMK is gone.
        let upload = self.0.upload_in_store(name, id).await?;
        self.0.store.abort(&upload).await?;
        self.0.remove_state(name.bucket(), id).await
    }
}

impl Inner {
    /// Begins an upload of an object that is encrypted as `sse` says.
    pub(super) async fn begin_upload(
        &self,
        name: &ObjectName,
        attributes: &Attributes,
        sse: Option<&Sse>,
        checksum: Option<ChecksumKind>,
    ) -> Result<Arc<State>> {
        let (sealer, mut properties) = match sse {
            Some(sse) => {
                let sealer = self.begin_object(sse).await?;
                let properties = sealed_properties(attributes, &sealer, sse);
                (Some(sealer), properties)
            }
            None => (None, attributes.to_properties()),
        };
        let id = state::new_id(sealer.as_ref())?;
        if sealer.is_none() {
            Own::Facts.set(&mut properties, &id);
        }
        check_size(self.store.as_ref(), &properties)?;
        let store_upload = self.store.initiate(name.path(), &properties).await?;
        let record = Record {
            version: 1,
            key: name.key().to_owned(),
            created: millis(SystemTime::now()),
            store_upload,
            metadata: properties.metadata,
            checksum,
        };
        let state = State::new(name.clone(), id.clone(), record, sealer);
        let path = names::of_upload(name.bucket(), &id, state::UPLOAD)?;
        if let Err(failure) = self.write_small(&path, state.encode()?, PutCondition::IfNotExists).await {
            let _ = self.store.abort(&state.upload()).await;
            return Err(failure);
        }
        Ok(self.uploads.put(state))
    }
}

/// The attempt that every part is put as: the store keeps the last one, and the record of that is the one that counts.
const ATTEMPT: Attempt = Attempt(1);

/// A part number that a client gave.
pub(super) fn number(number: u32) -> Result<PartNumber> {
    PartNumber::try_from(number).map_err(|error| {
        let message = "Part number must be an integer between 1 and 10000, inclusive.";
        Failure::new(FailureKind::InvalidArgument, message).with_cause(error)
    })
}

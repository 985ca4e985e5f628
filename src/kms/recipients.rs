//! One data key under several CMKs: who seals for whom, and whom a reader believes.
//!
//! ```
//! use std::sync::Arc;
//!
//! use sealift::kms::key_file::KeyFile;
//! use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys, new_data_key};
//! use sealift::{DataKey, EncryptionContext};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> sealift::Result<()> {
//! # let (mine, escrow) = (DataKey::random()?, DataKey::random()?);
//! let (mine, escrow) = (Arc::new(KeyFile::new(mine)), Arc::new(KeyFile::new(escrow)));
//! let recipients = [&mine, &escrow].map(|kms| Recipient { kms: kms.clone(), key: kms.id().to_owned() });
//! let context = EncryptionContext::default();
//! let (data_key, envelope) = new_data_key(&recipients, &context).await?;
//!
//! // Whoever has one of the two can open it.
//! let key = TrustedKeys::Only(vec![escrow.id().to_owned()]);
//! let reader = Trusted::new(vec![(escrow, key)]);
//! let (opened, recipient) = reader.unwrap(&envelope, &context, |key| *key == data_key).await?;
//! assert_eq!((opened, recipient), (data_key, 1));
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::MAX_RECIPIENTS;
use crate::kms::Kms;
use crate::types::{EncryptionContext, WrappedKey};

/// A CMK that an object is to be sealed for.
#[derive(Clone)]
pub struct Recipient {
    /// The service that holds the CMK.
    pub kms: Arc<dyn Kms>,
    /// The CMK's id or alias there.
    pub key: String,
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient").field("kms", &self.kms.service()).field("key", &self.key).finish()
    }
}

/// Draws a data key and wraps it for each of `recipients`, with one call to each one's service: each of them alone can
/// open what is sealed under it.
///
/// Dropping the future abandons the data key, and nothing else.
///
/// # Errors
/// - [`ErrorKind::InvalidInput`] if there are no recipients, or two that are the same CMK, perhaps by another name.
/// - [`ErrorKind::LimitExceeded`] if there are more than 16.
/// - What the first service that fails returned, as it is.
pub async fn new_data_key(recipients: &[Recipient], context: &EncryptionContext) -> Result<(DataKey, Vec<WrappedKey>)> {
    let Some((first, others)) = recipients.split_first() else {
        return Err(Error::new(ErrorKind::InvalidInput, "an object without a recipient could never be opened"));
    };
    if recipients.len() > MAX_RECIPIENTS {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("an object has at most {MAX_RECIPIENTS} recipients, not {}", recipients.len()),
        ));
    }
    let (data_key, wrapped) = first.kms.generate_data_key(&first.key, context).await?;
    let mut data_keys = vec![wrapped];
    for recipient in others {
        let wrapped = recipient.kms.wrap(&recipient.key, &data_key, context).await?;
        // Only now is it known, because the same CMK may have been named by id and by alias.
        if data_keys.iter().any(|other| (other.kms, &other.key) == (wrapped.kms, &wrapped.key)) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the {} key {:?} is a recipient twice: name it once", wrapped.kms, wrapped.key),
            ));
        }
        data_keys.push(wrapped);
    }
    Ok((data_key, data_keys))
}

/// Which CMKs of a service a reader believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedKeys {
    /// Those with these ids. Envelopes name ids, so an alias here matches nothing.
    Only(Vec<String>),
    /// Any that the service lets the reader unwrap with.
    ///
    /// In a cloud's key service, that can include CMKs of whoever owns the store: only choose this where everyone who
    /// may wrap under any of them may also make objects for this reader.
    Any,
}

impl TrustedKeys {
    fn include(&self, id: &str) -> bool {
        match self {
            Self::Only(ids) => ids.iter().any(|trusted| trusted == id),
            Self::Any => true,
        }
    }
}

/// The CMKs a reader believes, and the services to reach them by.
///
/// An envelope comes from the store, and a store could put into it a data key of its own, wrapped under a CMK of its
/// own, and so forge a whole object. Therefore only recipients that the caller named are tried.
#[derive(Clone)]
pub struct Trusted {
    services: Vec<(Arc<dyn Kms>, TrustedKeys)>,
}

impl Trusted {
    /// Believes these. A service may be there more than once, for example two key files.
    #[must_use]
    pub fn new(services: Vec<(Arc<dyn Kms>, TrustedKeys)>) -> Self {
        Self { services }
    }

    /// Unwraps an object's data key: tries those of `data_keys` that are trusted, in their order, and returns the
    /// first that opens and that `accept` accepts, with its index.
    ///
    /// `accept` tells whether a data key is the object's, by the commitment in its trailer. One that is not
    /// counts as a recipient that could not open it, and the next is tried.
    ///
    /// Dropping the future has no effect but that.
    ///
    /// # Errors
    /// - [`ErrorKind::KeyUnavailable`] if none of `data_keys` is trusted, or none opens and one of them could not be
    ///   tried; then what prevented that is the source, and [`Error::retry`] and [`Error::key_state`] are its.
    /// - [`ErrorKind::Authentication`] if every trusted one was tried and none opens.
    pub async fn unwrap(
        &self,
        data_keys: &[WrappedKey],
        context: &EncryptionContext,
        mut accept: impl FnMut(&DataKey) -> bool + Send,
    ) -> Result<(DataKey, usize)> {
        let mut tried = false;
        let mut unavailable = None;
        for (index, wrapped) in data_keys.iter().enumerate() {
            let mut refused = false;
            let mut failed = None;
            for kms in self.services_for(wrapped) {
                tried = true;
                match kms.unwrap(wrapped, context).await {
                    Ok(data_key) if accept(&data_key) => return Ok((data_key, index)),
                    Ok(_) => refused = true,
                    Err(error) if error.kind() == ErrorKind::Authentication => refused = true,
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            // Of several key files it is enough that one is the recipient's.
            if !refused {
                unavailable = unavailable.or(failed);
            }
        }
        Err(match unavailable {
            Some(error) => {
                let message = format!("no recipient could open the object, the first because: {error}");
                let unavailable = Error::new(ErrorKind::KeyUnavailable, message).with_retry(error.retry());
                match error.key_state() {
                    Some(state) => unavailable.with_key_state(state),
                    None => unavailable,
                }
                .with_source(error)
            }
            None if tried => Error::new(
                ErrorKind::Authentication,
                format!("no trusted recipient opens the object; tried: {}", self.list(data_keys, true)),
            ),
            None => Error::new(
                ErrorKind::KeyUnavailable,
                format!("the object is sealed for {}, and no key for that was given", self.list(data_keys, false)),
            ),
        })
    }

    fn services_for<'a>(&'a self, wrapped: &'a WrappedKey) -> impl Iterator<Item = &'a Arc<dyn Kms>> {
        self.services
            .iter()
            .filter(|(kms, keys)| kms.service() == wrapped.kms && keys.include(&wrapped.key))
            .map(|(kms, _)| kms)
    }

    /// The recipients that are trusted, or that are not. Quoted, because the store wrote them.
    fn list(&self, data_keys: &[WrappedKey], trusted: bool) -> String {
        let listed = data_keys.iter().filter(|wrapped| self.services_for(wrapped).next().is_some() == trusted);
        let names: Vec<_> = listed.map(|wrapped| format!("the {} key {:?}", wrapped.kms, wrapped.key)).collect();
        names.join(", ")
    }
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.services.iter().map(|(kms, keys)| (kms.service(), keys))).finish()
    }
}

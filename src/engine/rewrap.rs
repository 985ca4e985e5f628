//! Giving an object to other CMKs: its envelope is replaced, its body stays as it is.

use std::collections::BTreeMap;

use super::read::{Origin, Tail, envelope_of, fetch_tail};
use super::retries::Retries;
use super::{Engine, ReadOptions};
use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Envelope};
use crate::kms::recipients::{Recipient, Trusted};
use crate::store::MultipartStore;
use crate::types::{ETag, EncryptionContext, KmsService, ObjectId, ObjectKey, WrappedKey};
use crate::upload::RetryPolicy;

/// Who shall be able to open an object from now on.
#[derive(Clone, Debug, Default)]
pub struct RewrapOptions {
    /// CMKs to add. One that is a recipient already stays one.
    ///
    /// Name them by id where you can: that an alias stands for a CMK that is a recipient already, only its service can tell, so it is
    /// asked to wrap for nothing.
    pub add: Vec<Recipient>,
    /// Recipients to take away.
    pub remove: Remove,
    /// What the object must be besides. A store could put another object of yours in this one's place; what is bound, or has a context
    /// of its own, cannot be given away that way.
    pub demands: ReadOptions,
    /// Do all of it but the write: what cannot be done is found out, and nothing is changed.
    pub dry_run: bool,
    /// How often, and after what pauses, the write is repeated. Key services are not asked again for that.
    pub retry: RetryPolicy,
}

/// Which of an object's recipients are taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Remove {
    /// None.
    #[default]
    Nothing,
    /// These. Those that are no recipients need not be taken away.
    These(Vec<CmkId>),
    /// All but those that are [added](RewrapOptions::add).
    Others,
}

/// A CMK as envelopes name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmkId {
    /// The service that holds it; any if `None`.
    pub kms: Option<KmsService>,
    /// Its id there, never an alias.
    pub key: String,
}

/// What became of an object's envelope.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rewrapped {
    /// Whether it was written.
    pub outcome: RewrapOutcome,
    /// Identity of the object, which stays.
    pub object_id: ObjectId,
    /// The store's tag of the object, from now on.
    pub etag: ETag,
    /// Whom it was sealed for.
    pub before: Vec<WrappedKey>,
    /// Whom it is sealed for now, or would be.
    pub after: Vec<WrappedKey>,
}

/// Whether a rewrap wrote anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewrapOutcome {
    /// No: the object was as asked already.
    Unchanged,
    /// No, because it was not to: it would be written.
    Planned,
    /// Yes.
    Written,
}

impl Rewrapped {
    /// The recipients that are new.
    pub fn added(&self) -> impl Iterator<Item = &WrappedKey> {
        self.after.iter().filter(|wrapped| !contains(&self.before, wrapped))
    }

    /// The recipients that are none any more.
    pub fn removed(&self) -> impl Iterator<Item = &WrappedKey> {
        self.before.iter().filter(|wrapped| !contains(&self.after, wrapped))
    }
}

impl CmkId {
    fn names(&self, wrapped: &WrappedKey) -> bool {
        self.key == wrapped.key && self.kms.is_none_or(|kms| kms == wrapped.kms)
    }
}

impl Engine {
    /// Wraps an object's data key for other CMKs and replaces its envelope. Body, object id, encryption context and all else the object
    /// has stay as they are.
    ///
    /// The data key is believed if it opens the object's trailer, as in [`open`](Self::open). That takes one call to a key service, and
    /// one more for each CMK that is new; none at all if the object is as asked already. At least one recipient of the new envelope is
    /// always known to open the object: one that was added now, or else one that opened it just now. The envelope is replaced only if the
    /// object is still the one that was read, so whoever overwrites it meanwhile wins; and it is read back, so an answer that was lost is
    /// no failure.
    ///
    /// Rewrapping takes nothing back: who could unwrap the data key before may have kept it, and a store may have kept the old envelope.
    ///
    /// Dropping the future leaves the object with the old envelope or the new, whole.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and, before anything is written:
    /// - [`InvalidInput`](ErrorKind::InvalidInput) if nobody could open the object any more, or a CMK is named twice, or both to be added
    ///   and to be removed.
    /// - [`LimitExceeded`](ErrorKind::LimitExceeded) if the new envelope has more than 16 recipients, or the metadata more bytes than the
    ///   store takes.
    /// - [`KeyUnavailable`](ErrorKind::KeyUnavailable) if nothing is added and none of those that would stay opens the object here.
    /// - [`Changed`](ErrorKind::Changed) if somebody else overwrote or rewrapped the object meanwhile: their write stands.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use sealift::engine::{Remove, RewrapOptions, RewrapOutcome, UploadOptions};
    /// use sealift::kms::key_file::KeyFile;
    /// use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
    /// use sealift::source::BytesSource;
    /// use sealift::store::MemoryStore;
    /// use sealift::{Engine, ObjectKey};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> sealift::Result<()> {
    /// # let (old, new) = (sealift::DataKey::random()?, sealift::DataKey::random()?);
    /// let (old, new) = (Arc::new(KeyFile::new(old)), Arc::new(KeyFile::new(new)));
    /// let [for_old, for_new] = [&old, &new].map(|kms| Recipient { kms: kms.clone(), key: kms.id().to_owned() });
    /// let trusted = Trusted::new(vec![(old, TrustedKeys::Any)]);
    /// let (engine, store) = (Engine::builder().threads(1).build()?, Arc::new(MemoryStore::new()));
    /// let key: ObjectKey = "key".parse()?;
    /// let source = Box::new(BytesSource::new("secret"));
    /// engine.upload(store.clone(), key.clone(), source, &[for_old], UploadOptions::default()).await?;
    ///
    /// let options = RewrapOptions { add: vec![for_new], remove: Remove::Others, ..RewrapOptions::default() };
    /// let done = engine.rewrap(store.as_ref(), &key, &trusted, &options).await?;
    /// assert_eq!(done.outcome, RewrapOutcome::Written);
    /// let again = engine.rewrap(store.as_ref(), &key, &trusted, &options).await?;
    /// assert_eq!(again.outcome, RewrapOutcome::Unchanged);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn rewrap(
        &self,
        store: &dyn MultipartStore,
        key: &ObjectKey,
        trusted: &Trusted,
        options: &RewrapOptions,
    ) -> Result<Rewrapped> {
        options.check()?;
        let retries = Retries::new(options.retry.clone());
        let origin = Origin { shared: self.shared(), store, key, retries: &retries };
        // Most objects of a run that is repeated are done already: for those, this one request is all.
        let info = retries.run(self.shared(), || store.head(key)).await?;
        let envelope = envelope_of(store, key, &info)?;
        options.demands.check(key, &envelope)?;
        if Plan::new(options, &envelope).is_nothing() {
            return Ok(Rewrapped::unchanged(&envelope, info.etag));
        }

        let found = fetch_tail(origin).await?;
        options.demands.check(key, &found.envelope)?;
        let plan = Plan::new(options, &found.envelope);
        if plan.is_nothing() {
            return Ok(Rewrapped::unchanged(&found.envelope, found.info.etag));
        }
        plan.check().map_err(|e| e.while_doing(key))?;
        let before = found.envelope.data_keys();
        let after = wrap_anew(origin, trusted, options, &found, &plan).await?;
        if before.len() == after.len() && before.iter().all(|wrapped| contains(&after, wrapped)) {
            return Ok(Rewrapped::unchanged(&found.envelope, found.info.etag));
        }

        let named = |e: Error| e.while_doing(format_args!("rewrapping {key}"));
        let new = Envelope::new(
            *found.envelope.object_id(),
            after.clone(),
            found.envelope.context().clone(),
            found.envelope.is_bound(),
        )
        .map_err(named)?;
        let mut metadata = format::own_metadata(&found.info.properties.metadata);
        metadata.extend(new.to_metadata());
        format::check_metadata(&metadata, store.metadata_prefix_len(), store.limits().max_metadata).map_err(named)?;
        let mut done = Rewrapped {
            outcome: RewrapOutcome::Planned,
            object_id: *new.object_id(),
            etag: found.info.etag.clone(),
            before: before.to_vec(),
            after,
        };
        if !options.dry_run {
            done.etag = replace(origin, &found, &new, &metadata).await.map_err(named)?;
            done.outcome = RewrapOutcome::Written;
        }
        Ok(done)
    }
}

/// The recipients as the plan has them, of which one is known to open the object.
async fn wrap_anew(
    origin: Origin<'_>,
    trusted: &Trusted,
    options: &RewrapOptions,
    found: &Tail,
    plan: &Plan<'_>,
) -> Result<Vec<WrappedKey>> {
    // Those that stay come first: if one of them opens the object, nothing depends on the others.
    let unlocked = if options.add.is_empty() {
        let staying = found.unlock(origin, trusted, &plan.stay).await;
        staying.map_err(|e| e.while_doing("of the recipients that would stay, none is known to open the object"))?
    } else {
        let all = [plan.stay.as_slice(), &plan.leave].concat();
        found.unlock(origin, trusted, &all).await?
    };
    let one_that_stays_opens = unlocked.recipient < plan.stay.len();
    // What the envelope says of a recipient that is to be relied on could be wrong. What is wrapped now is not.
    let wrap_for = match plan.missing.as_slice() {
        [] if !one_that_stays_opens => options.add.iter().collect(),
        missing => missing.to_vec(),
    };
    let context = found.kms_context(origin.store, origin.key);
    let mut after = plan.stay.clone();
    for wrapped in wrap_for_each(&wrap_for, &unlocked.data_key, &context).await? {
        options.refuse_both(&wrapped)?;
        match after.iter_mut().find(|there| is_same(there, &wrapped)) {
            // An alias of a CMK that stays.
            Some(_) if one_that_stays_opens => {}
            Some(there) => *there = wrapped,
            None => after.push(wrapped),
        }
    }
    Ok(after)
}

/// Replaces the envelope of the very object that was read, and reads it back.
async fn replace(
    origin: Origin<'_>,
    found: &Tail,
    new: &Envelope,
    metadata: &BTreeMap<String, String>,
) -> Result<ETag> {
    let Origin { shared, store, key, retries } = origin;
    let mut failures = 0;
    loop {
        let replaced = store.replace_metadata(key, metadata, &found.info.etag).await;
        // Whatever the answer was: it may have been lost, or another may have written since.
        let error = match (replaced, fetch_tail(origin).await) {
            (_, Ok(now)) if now.envelope == *new && now.ends_like(found) => return Ok(now.info.etag),
            (Ok(_), Ok(_)) => {
                return Err(Error::new(ErrorKind::Changed, "somebody else replaced it again at once"));
            }
            (Ok(_), Err(e)) => e.while_doing("its envelope is replaced, and reading it back failed"),
            (Err(e), _) => e,
        };
        failures += 1;
        retries.wait(shared, failures, error).await?;
    }
}

/// What is to be done to one envelope, as far as it tells.
struct Plan<'a> {
    stay: Vec<WrappedKey>,
    leave: Vec<WrappedKey>,
    /// To be added; by their names, the envelope does not have them.
    missing: Vec<&'a Recipient>,
}

impl<'a> Plan<'a> {
    fn new(options: &'a RewrapOptions, envelope: &Envelope) -> Self {
        let is = |recipient: &Recipient, wrapped: &WrappedKey| {
            recipient.kms.service() == wrapped.kms && recipient.key == wrapped.key
        };
        let leaves = |wrapped: &WrappedKey| match &options.remove {
            Remove::Nothing => false,
            Remove::These(ids) => ids.iter().any(|id| id.names(wrapped)),
            Remove::Others => !options.add.iter().any(|recipient| is(recipient, wrapped)),
        };
        let (leave, stay): (Vec<_>, _) = envelope.data_keys().iter().cloned().partition(leaves);
        let missing = |recipient: &&Recipient| !envelope.data_keys().iter().any(|wrapped| is(recipient, wrapped));
        Self { stay, leave, missing: options.add.iter().filter(missing).collect() }
    }

    fn is_nothing(&self) -> bool {
        self.leave.is_empty() && self.missing.is_empty()
    }

    fn check(&self) -> Result<()> {
        if self.stay.is_empty() && self.missing.is_empty() {
            return Err(nobody_left());
        }
        Ok(())
    }
}

impl RewrapOptions {
    /// What is wrong whatever object it is for.
    fn check(&self) -> Result<()> {
        if self.add.is_empty() && self.remove == Remove::Others {
            return Err(nobody_left());
        }
        for recipient in &self.add {
            let (kms, key) = (recipient.kms.service(), recipient.key.clone());
            self.refuse_both(&WrappedKey { kms, key, blob: Vec::new() })?;
        }
        Ok(())
    }

    fn refuse_both(&self, added: &WrappedKey) -> Result<()> {
        match &self.remove {
            Remove::These(ids) if ids.iter().any(|id| id.names(added)) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the {} key {:?} is both to be added and to be removed", added.kms, added.key),
            )),
            _ => Ok(()),
        }
    }
}

impl Rewrapped {
    fn unchanged(envelope: &Envelope, etag: ETag) -> Self {
        let data_keys = envelope.data_keys().to_vec();
        Self {
            outcome: RewrapOutcome::Unchanged,
            object_id: *envelope.object_id(),
            etag,
            before: data_keys.clone(),
            after: data_keys,
        }
    }
}

/// One call to the service of each.
async fn wrap_for_each(
    recipients: &[&Recipient],
    data_key: &DataKey,
    context: &EncryptionContext,
) -> Result<Vec<WrappedKey>> {
    let mut all: Vec<WrappedKey> = Vec::new();
    for recipient in recipients {
        let wrapped = recipient.kms.wrap(&recipient.key, data_key, context).await?;
        // Only now is it known, because the same CMK may have been named by id and by alias.
        if contains(&all, &wrapped) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the {} key {:?} is to be added twice: name it once", wrapped.kms, wrapped.key),
            ));
        }
        all.push(wrapped);
    }
    Ok(all)
}

fn is_same(a: &WrappedKey, b: &WrappedKey) -> bool {
    (a.kms, &a.key) == (b.kms, &b.key)
}

fn contains(data_keys: &[WrappedKey], wrapped: &WrappedKey) -> bool {
    data_keys.iter().any(|other| is_same(other, wrapped))
}

fn nobody_left() -> Error {
    Error::new(ErrorKind::InvalidInput, "that would leave nobody who can open the object: add a key as well")
}

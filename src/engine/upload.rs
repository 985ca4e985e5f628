//! Uploads as a caller sees them: what is settled before the first byte is sent, and resume.

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use super::cipher::Cipher;
use super::control::{Meter, OnCancel};
use super::driver::{Driver, LedgerPlan};
use super::identity::{Identity, Object};
use super::ledger::{self, Header, PendingUpload};
use super::options::{Protection, ResumeOptions, UploadOptions};
use super::recheck::recheck;
use super::retries::Retries;
use super::seal::PartSealer;
use super::spool::Spool;
use crate::crypto::STRIPE;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Envelope};
use crate::kms::recipients::{Recipient, Trusted, new_data_key};
use crate::source::{Access, PartSource};
use crate::store::{MultipartStore, Properties, PutCondition, Upload};
use crate::types::{ETag, ObjectId, ObjectKey, UploadId, WrappedKey};
use crate::upload::{Config, Machine, PartPlan, Resumed, RetryPolicy};

/// The most parts that are sent at once where it is found out how many are worthwhile.
const MAX_IN_FLIGHT: u32 = 64;
/// How many parts are written at once by a store on this machine, or wait in a spool, unless the caller says otherwise.
const LOCAL_IN_FLIGHT: u32 = 8;

/// A finished upload.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// Identity of the object; where it is not sealed, of the upload that made it.
    pub object_id: ObjectId,
    /// Whether it is sealed.
    pub protection: Protection,
    /// The store's tag of the object.
    pub etag: ETag,
    /// Bytes of plaintext.
    pub plain_len: u64,
    /// Bytes of the body, trailer included.
    pub sealed_len: u64,
    /// How many parts it has, without the trailer.
    pub parts: u32,
    /// The data key, as each CMK wrapped it. None where it is not sealed.
    pub data_keys: Vec<WrappedKey>,
}

impl Engine {
    /// Seals `source` and stores it as `key`. What was there is replaced at the end, in one step, or not at all.
    ///
    /// An object of a known length that fits one part, and that part in memory, is one request to the store, which is repeated if it fails;
    /// nothing of it can be resumed. (At a store on this machine that is so up to 1 MiB.)
    ///
    /// One call to the key service of each recipient, none for retries. Dropping the future stops the upload where it is: its ledger,
    /// where there is one, stays, and so do the parts in the store; [`UploadOptions::cancel`] ends it cleanly.
    ///
    /// # Errors
    /// Before anything is sent: [`InvalidInput`](ErrorKind::InvalidInput), [`LimitExceeded`](ErrorKind::LimitExceeded),
    /// [`KeyUnavailable`](ErrorKind::KeyUnavailable). Later: [`SourceChanged`](ErrorKind::SourceChanged),
    /// [`SourceRead`](ErrorKind::SourceRead), what the store says, and [`Cancelled`](ErrorKind::Cancelled). Where the upload was kept,
    /// [`Error::resumable`] is its id.
    pub async fn upload(
        &self,
        store: Arc<dyn MultipartStore>,
        key: ObjectKey,
        source: Box<dyn PartSource>,
        recipients: &[Recipient],
        options: UploadOptions,
    ) -> Result<Uploaded> {
        let limits = store.limits();
        format::check_own_metadata(&options.metadata)?;
        if options.protection == Protection::Unsealed {
            refuse_sealing(recipients, &options)?;
        }
        let announced = source.len();
        let access = source.open();
        let rereadable = matches!(access, Access::At(_));
        let config = self.config(&store, rereadable, options.retry.clone(), options.max_in_flight);
        let spool = options.spool.filter(|_| !rereadable);
        let config = if spool.is_some() { spooling(config) } else { config };
        let plan = match &access {
            Access::At(source) => PartPlan::known(source.len(), options.part_size, options.uniform_parts, &limits)?,
            Access::Once(_) => plan_of_stream(announced, options.part_size, options.uniform_parts, &config)?,
        };
        let plan = match options.protection {
            Protection::Sealed => plan,
            Protection::Unsealed => plan.unsealed(&limits)?,
        };
        let config = holding_back(config, &plan, self.shared());
        let len = plan.total();
        let spool = match spool.filter(|_| config.is_spooled(plan.longest())) {
            Some(dir) => {
                let parts = config.max_in_flight;
                Some(Arc::new(self.shared().workers.blocking(move || Spool::open(dir, parts)).await?))
            }
            None => None,
        };

        let object_id = ObjectId::random()?;
        let (cipher, identity) = match options.protection {
            Protection::Unsealed => (Cipher::None, Identity::Unsealed(object_id)),
            Protection::Sealed => {
                let bound_to = options.bind.then(|| (store.bucket(), key.as_str()));
                let kms_context = Envelope::kms_context(&object_id, &options.context, bound_to);
                let (data_key, data_keys) = new_data_key(recipients, &kms_context).await?;
                let envelope = Envelope::new(object_id, data_keys, options.context.clone(), options.bind)?;
                (Cipher::Cobblestone(Arc::new(data_key)), Identity::Sealed(envelope))
            }
        };
        let our_metadata = identity.metadata();
        let mut metadata = options.metadata.clone();
        metadata.extend(our_metadata.clone());
        format::check_metadata(&metadata, store.metadata_prefix_len(), limits.max_metadata)?;

        let source_identity = match &access {
            Access::At(source) => source.identity(),
            Access::Once(_) => None,
        };
        // Of a stream too, although it cannot be resumed: the ledger is how its parts are found again, to be aborted.
        let resumable = source_identity.is_some() && options.ledger.is_some() && store.is_durable();
        let ledger = match options.ledger {
            Some(dir) if store.is_durable() => LedgerPlan::Create {
                dir,
                header: Box::new(Header {
                    ledger: Header::VERSION,
                    store: store.url(),
                    bucket: store.bucket().to_owned(),
                    key: key.as_str().to_owned(),
                    upload: UploadId(String::new()),
                    envelope: our_metadata,
                    plan: plan.clone(),
                    checksums: options.checksums,
                    if_not_exists: options.condition == PutCondition::IfNotExists,
                    source: source_identity,
                }),
            },
            _ => LedgerPlan::None,
        };
        let keep = options.on_failure == OnCancel::KeepForResume && resumable;
        let machine = Machine::new(Config { keep_on_failure: keep, ..config.clone() }, plan.clone())?;
        let object = Object {
            store,
            key,
            properties: Properties {
                metadata,
                content_type: options.content_type,
                storage_class: options.storage_class,
                tags: options.tags,
            },
            condition: options.condition,
            identity,
        };
        let sealer = PartSealer {
            shared: Arc::clone(self.shared()),
            cipher,
            object_id,
            checksums: options.checksums,
            meter: Meter::new(announced.or(len), options.progress),
        };
        let driver = Driver::new(object, machine, config, plan, sealer, access, ledger);
        driver.spooling(spool).run(&options.cancel).await
    }

    /// Goes on with an upload that was interrupted: sends what the store does not have yet, and publishes the object.
    ///
    /// # Errors
    /// [`SourceChanged`](ErrorKind::SourceChanged) if the source is not what it was, [`Ledger`](ErrorKind::Ledger) if the ledger was
    /// altered, [`NotFound`](ErrorKind::NotFound) if the store has forgotten the upload; otherwise as [`upload`](Self::upload).
    pub async fn resume(
        &self,
        pending: PendingUpload,
        store: Arc<dyn MultipartStore>,
        source: Box<dyn PartSource>,
        trusted: &Trusted,
        options: ResumeOptions,
    ) -> Result<Uploaded> {
        let Access::At(source) = source.open() else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "an upload is resumed from a source that can be read at any offset",
            ));
        };
        let header = pending.header();
        let Some(expected) = &header.source else {
            let message = "this upload was read from a stream, which cannot be read again: abort it, and upload anew";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        if source.identity().as_ref() != Some(expected) {
            let message = format!(
                "{} is not what it was when its upload began: abort that upload, and upload it anew",
                expected.path.display()
            );
            return Err(Error::new(ErrorKind::SourceChanged, message));
        }
        if options.verify_source && !header.checksums {
            let message = "this upload recorded no checksums that its source could be compared with";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let key = pending.key()?;
        let identity = header.identity()?;
        if identity.protection() != options.protection {
            let message = match options.protection {
                Protection::Sealed => "this upload is not sealed: to go on with it, that must be asked for",
                Protection::Unsealed => "this upload is sealed: it cannot go on without",
            };
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if header.plan.is_unsealed() != (options.protection == Protection::Unsealed) {
            return Err(Error::new(ErrorKind::Ledger, "the upload's ledger contradicts itself: abort it"));
        }
        let cipher = match &identity {
            Identity::Unsealed(_) => Cipher::None,
            Identity::Sealed(envelope) => {
                let bound_to = envelope.is_bound().then_some((header.bucket.as_str(), header.key.as_str()));
                let kms_context = Envelope::kms_context(envelope.object_id(), envelope.context(), bound_to);
                let (data_key, _) = trusted.unwrap(envelope.data_keys(), &kms_context, |_| true).await?;
                Cipher::Cobblestone(Arc::new(data_key))
            }
        };
        let backend = self.backend();
        let (ledger, header, recorded) = {
            let cipher = cipher.clone();
            self.shared().workers.run(move |_| pending.into_ledger(backend, cipher.data_key())).await?
        };
        let upload = Upload { key: key.clone(), id: header.upload.clone() };
        let condition = if header.if_not_exists { PutCondition::IfNotExists } else { PutCondition::None };
        let object = Object {
            store,
            key,
            properties: Properties { metadata: header.envelope.clone(), ..Properties::default() },
            condition,
            identity,
        };
        let retries = Retries::new(options.retry.clone());
        let listed = match retries.run(self.shared(), || object.store.list_parts(&upload)).await {
            Ok(listed) => listed,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Either Complete had been done and only its answer was lost, or somebody aborted it.
                let done =
                    object.published(self.shared(), &cipher, recorded.manifest.as_deref(), &options.retry).await?;
                let done = done.ok_or_else(|| {
                    e.while_doing("the store has forgotten this upload; abort it here too, and upload anew")
                })?;
                // What Complete had not tidied up yet, if it was cut off there.
                if let Err(e) = object.store.abort(&upload).await {
                    tracing::warn!(error = %e, "the object is complete, but what was left of its upload could not be removed");
                }
                ledger::forget(ledger.path());
                return Ok(done);
            }
            Err(e) => return Err(e),
        };
        let listed: HashMap<_, _> = listed.into_iter().map(|part| (part.number, (part.etag, part.len))).collect();
        let stored: Vec<_> = recorded
            .parts
            .into_iter()
            .filter(|(part, etag)| {
                let listed = listed.get(&part.number);
                listed.is_some_and(|(listed, len)| listed == etag && header.plan.stored_len(part.len) == *len)
            })
            .collect();
        if options.verify_source {
            recheck(self.shared(), &source, &header.plan, &stored).await?;
        }
        let meter = Meter::new(header.plan.total(), options.progress);
        meter.done(stored.iter().map(|(part, _)| part.len).sum());
        let config = self.config(&object.store, true, options.retry, options.max_in_flight);
        let config = holding_back(config, &header.plan, self.shared());
        let keep_on_failure = options.on_failure == OnCancel::KeepForResume;
        let resumed = Resumed { stored, manifest: recorded.manifest };
        let machine = Machine::resume(Config { keep_on_failure, ..config.clone() }, header.plan.clone(), resumed)?;
        let sealer = PartSealer {
            shared: Arc::clone(self.shared()),
            cipher,
            object_id: *object.identity.object_id(),
            checksums: header.checksums,
            meter,
        };
        let driver =
            Driver::new(object, machine, config, header.plan, sealer, Access::At(source), LedgerPlan::Open(ledger));
        driver.resuming(upload).run(&options.cancel).await
    }

    fn config(
        &self,
        store: &Arc<dyn MultipartStore>,
        rereadable: bool,
        retry: RetryPolicy,
        max_in_flight: Option<u32>,
    ) -> Config {
        let shared = self.shared();
        let limits = store.limits();
        let threads = u32::try_from(shared.workers.threads()).unwrap_or(u32::MAX);
        let local = store.direct().is_some();
        let (held, window) = if rereadable && local {
            // Parts go through the workers' own memory.
            (1, 1)
        } else {
            (shared.held_stripes(), threads.saturating_mul(2).saturating_add(2).min(shared.held_stripes()))
        };
        Config {
            limits,
            budget: shared.buffers.total(),
            held,
            window,
            spool: false,
            one_request: true,
            max_in_flight: max_in_flight.unwrap_or(if local { LOCAL_IN_FLIGHT } else { MAX_IN_FLIGHT }).max(1),
            find_in_flight: max_in_flight.is_none() && !local,
            retry,
            keep_on_failure: false,
        }
    }
}

/// Refuses what only a sealed object has: whoever asks for it believes that this will be one.
fn refuse_sealing(recipients: &[Recipient], options: &UploadOptions) -> Result<()> {
    let what = if !recipients.is_empty() {
        "recipients"
    } else if !options.context.is_empty() {
        "an encryption context"
    } else if options.bind {
        "a binding to its name"
    } else if options.spool.is_some() {
        "a spool, which holds sealed parts only"
    } else {
        return Ok(());
    };
    let message = format!("an object that is not sealed cannot have {what}: leave that out, or have it sealed");
    Err(Error::new(ErrorKind::InvalidInput, message))
}

/// As `config`, with room for the last part of `plan` where that must wait for the trailer, as far as memory allows.
fn holding_back(config: Config, plan: &PartPlan, shared: &super::Shared) -> Config {
    let must_hold = plan.longest_held_back(&config.limits).div_ceil(STRIPE as u64);
    let must_hold = u32::try_from(must_hold).unwrap_or(u32::MAX).min(shared.held_stripes());
    Config { held: config.held.max(must_hold), ..config }
}

/// As `config`, with a spool for parts that are too large for memory.
fn spooling(config: Config) -> Config {
    let max_in_flight = if config.find_in_flight { LOCAL_IN_FLIGHT } else { config.max_in_flight };
    // Two, because both pieces of a tail are read from it at once.
    Config { spool: true, window: config.window.max(2), max_in_flight, find_in_flight: false, ..config }
}

/// How a source that is read once is cut: into parts that are held, each until the store has it, because it cannot be read again to be
/// sent again.
fn plan_of_stream(announced: Option<u64>, part_size: Option<u64>, uniform: bool, config: &Config) -> Result<PartPlan> {
    let limits = &config.limits;
    let in_memory = u64::from(config.held) * STRIPE as u64;
    // With a spool, the schedule is the same whatever the memory.
    let largest = if config.spool { u64::MAX } else { in_memory };
    let part_size = part_size.or(Some(PartPlan::DEFAULT_PART.min(in_memory)).filter(|_| !config.spool));
    // One that announces nothing must still be read, to see that nothing comes.
    match announced.filter(|len| *len > 0) {
        Some(len) => {
            let plan = PartPlan::known(len, part_size, uniform, limits)?;
            require_held(plan.longest(), config)?;
            Ok(plan)
        }
        None => {
            require_held(part_size.unwrap_or(0), config)?;
            PartPlan::unknown(part_size, uniform, limits, largest)
        }
    }
}

fn require_held(part: u64, config: &Config) -> Result<()> {
    let stripes = part.div_ceil(STRIPE as u64);
    if config.spool || stripes <= u64::from(config.held) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::LimitExceeded,
        format!(
            "parts of {stripes} MiB from a source that can be read only once need a memory budget of about {} MiB: \
             give that, a spool directory, smaller parts, or a file",
            stripes.saturating_mul(4).saturating_add(8)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;
    use crate::crypto::{DataKey, sealed_len};
    use crate::engine::EngineBuilder;
    use crate::engine::stream::{Filled, PartStream};
    use crate::kms::key_file::KeyFile;
    use crate::source::StreamSource;
    use crate::store::DiscardStore;
    use crate::types::PartNumber;

    const TIB: u64 = 1 << 40;

    fn config(engine: &Engine) -> Config {
        let store: Arc<dyn MultipartStore> = Arc::new(DiscardStore::new());
        engine.config(&store, false, RetryPolicy::default(), None)
    }

    #[test]
    fn with_a_spool_48_tib_of_unknown_or_announced_length_fit_whatever_the_memory() {
        for budget in [16 << 20, EngineBuilder::DEFAULT_MEMORY_BUDGET] {
            let engine = Engine::builder().threads(1).memory_budget(budget).build().unwrap();
            let spooling = spooling(config(&engine));
            let plan = plan_of_stream(None, None, false, &spooling).unwrap();
            assert!(plan.capacity() > 48 * TIB + TIB / 100 * 19, "{}", plan.capacity());
            assert!(Machine::new(spooling.clone(), plan).is_ok());
            let plan = plan_of_stream(Some(48 * TIB), None, false, &spooling).unwrap();
            assert_eq!(plan.total(), Some(48 * TIB));
            assert!(Machine::new(spooling, plan).is_ok());

            // Without one, what it would take is said.
            let config = config(&engine);
            let largest = u64::from(config.held) << 20;
            let plan = plan_of_stream(None, None, false, &config).unwrap();
            assert!(plan.longest() <= largest && plan.capacity() <= 9_999 * largest);
            for refused in [
                plan_of_stream(Some(48 * TIB), None, false, &config),
                plan_of_stream(None, Some(5 << 30), false, &config),
            ] {
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::LimitExceeded);
                let text = error.to_string();
                assert!(text.contains("memory budget of about 2") && text.contains("a spool directory"), "{text}");
            }
        }
    }

    /// As the documents say.
    #[test]
    fn without_a_spool_604_gib_of_unknown_length_fit_into_what_is_the_default_on_two_cores() {
        let engine = Engine::builder().threads(2).build().unwrap();
        let plan = plan_of_stream(None, None, false, &config(&engine)).unwrap();
        assert_eq!(plan.capacity() >> 30, 604);
    }

    /// 80 MiB in a part, and buffers for a window of 4 stripes: they come in slabs of 32.
    #[tokio::test]
    async fn a_part_in_a_spool_is_ciphertext_and_takes_the_memory_of_a_window() {
        let engine = Engine::builder().threads(1).memory_budget(160 << 20).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let len: u64 = (80 << 20) + 5;
        let store = Arc::new(DiscardStore::new());
        let key = KeyFile::new(DataKey::random().unwrap());
        let recipients = [Recipient { key: key.id().to_owned(), kms: Arc::new(key) }];
        let source = Box::new(StreamSource::from_reader(tokio::io::AsyncReadExt::take(tokio::io::repeat(7), 2 * len)));
        let options = UploadOptions {
            part_size: Some(len),
            spool: Some(dir.path().to_owned()),
            max_in_flight: Some(2),
            ..UploadOptions::default()
        };
        let uploaded = engine.upload(store.clone(), "a".parse().unwrap(), source, &recipients, options).await.unwrap();
        assert_eq!((uploaded.plain_len, uploaded.parts), (2 * len, 2));
        assert_eq!(store.bytes(), uploaded.sealed_len);
        assert_eq!(engine.shared().buffers.allocated(), 32);
        assert_eq!(
            engine.shared().buffers.free_credits(engine.shared().buffers.total()).map(|all| all.num_permits()),
            Some(engine.shared().buffers.total() as usize)
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let sealer = PartSealer {
            shared: Arc::clone(engine.shared()),
            cipher: Cipher::Cobblestone(Arc::new(DataKey::random().unwrap())),
            object_id: ObjectId::random().unwrap(),
            checksums: true,
            meter: Meter::new(None, None),
        };
        let spool = Arc::new(Spool::open(dir.path().to_owned(), 1).unwrap());
        let mut stream = PartStream::new(Box::pin(tokio::io::AsyncReadExt::take(tokio::io::repeat(7), 3 << 20)), 1);
        let part = stream.spool(&sealer, PartNumber::MIN, 4 << 20, &spool, 2).await.unwrap();
        assert_eq!((part.len, part.last), (3 << 20, true));
        let Filled::Spooled(held) = part.part else { panic!("it is in memory") };
        assert_eq!((held.sealed.len, held.sealed.crc64), (3 << 20, crate::crypto::crc64(&[7; 3 << 20])));
        let mut payload = held.bytes.payload(engine.shared(), 2);
        assert_eq!(Some(payload.len()), sealed_len(3 << 20));
        while let Some(bytes) = payload.next().await {
            assert!(!bytes.unwrap().windows(16).any(|window| window == [7; 16]), "plaintext is in the spool");
        }
    }
}

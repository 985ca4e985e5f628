//! Drives the upload machine: one task owns it, does what it asks for, and tells it what happened.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::control::{Cancel, OnCancel};
use super::held::{HeldBytes, HeldPart, tail_payload};
use super::identity::Object;
use super::ledger::{self, Header, Ledger};
use super::seal::{PartSealer, SMALL, SealingPart};
use super::spool::Spool;
use super::stream::{Filled, FilledPart, PartStream};
use super::upload::Uploaded;
use super::workers::Scratch;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, ManifestPart, trailer};
use crate::source::{Access, ReadAt};
use crate::store::{CompletedPart, MultipartStore, Payload, PutPart, Upload};
use crate::types::{Attempt, PartNumber};
use crate::upload::{
    Action, Config, Input, Machine, Op, Outcome, PartPlan, PutBody, Record, RetryPolicy, SealedPart, TailPiece, Why,
};

/// Where the ledger is, or will be.
pub(super) enum LedgerPlan {
    None,
    Create { dir: PathBuf, header: Box<Header> },
    Open(Ledger),
}

enum Source {
    At(Arc<dyn ReadAt>),
    /// `None` while a part is being read from it.
    Once(Option<PartStream>),
}

/// A part between `Fill` and `Stored`.
struct Part {
    offset: u64,
    len: u64,
    sealing: Option<SealingPart>,
    held: Option<HeldPart>,
    _credits: OwnedSemaphorePermit,
}

/// What a spawned task found out.
enum Event {
    /// Nothing the machine waits for.
    Idle,
    Fact(Input),
    Failed(Op, Error),
    /// Complete was refused because of these parts.
    Missing(Vec<PartNumber>, Error),
    Ledger(Result<Ledger>),
    Credits(PartNumber, Result<OwnedSemaphorePermit>),
    Filled(PartNumber, PartStream, Result<(FilledPart, OwnedSemaphorePermit)>),
    Sealed(PartNumber, Result<HeldPart>),
    Trailer(Result<Bytes>),
}

pub(super) struct Driver {
    object: Arc<Object>,
    machine: Machine,
    config: Config,
    plan: PartPlan,
    sealer: Arc<PartSealer>,
    source: Source,
    /// Where parts of a stream wait that are too large for memory.
    spool: Option<Arc<Spool>>,
    ledger: LedgerPlan,
    upload: Option<Upload>,
    parts: HashMap<PartNumber, Part>,
    /// Where the next part begins.
    filled: u64,
    trailer: Bytes,
    /// Upload parts that carry the trailer.
    tail: HashSet<PartNumber>,
    manifest: Vec<SealedPart>,
    tasks: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Answers that need no waiting.
    ready: VecDeque<Event>,
    /// The failure that ended it, or the latest one.
    error: Option<Error>,
    /// Why the store could not be made to forget it.
    abort_error: Option<Error>,
    /// Whether it is being given up.
    is_ending: bool,
    /// The ledger being made: to its end, even if nobody waits for it any more.
    making_ledger: Option<tokio::task::JoinHandle<()>>,
}

impl Driver {
    pub(super) fn new(
        object: Object,
        machine: Machine,
        config: Config,
        plan: PartPlan,
        sealer: PartSealer,
        access: Access,
        ledger: LedgerPlan,
    ) -> Self {
        let source = match access {
            Access::At(source) => Source::At(source),
            Access::Once(reader) => Source::Once(Some(PartStream::new(reader, sealer.shared.workers.threads()))),
        };
        Self {
            object: Arc::new(object),
            machine,
            config,
            plan,
            sealer: Arc::new(sealer),
            source,
            spool: None,
            ledger,
            upload: None,
            parts: HashMap::new(),
            filled: 0,
            trailer: Bytes::new(),
            tail: HashSet::new(),
            manifest: Vec::new(),
            tasks: FuturesUnordered::new(),
            ready: VecDeque::new(),
            error: None,
            abort_error: None,
            is_ending: false,
            making_ledger: None,
        }
    }

    /// The same with a place for what is too large for memory.
    pub(super) fn spooling(self, spool: Option<Arc<Spool>>) -> Self {
        Self { spool, ..self }
    }

    /// The same for an upload that the store has begun already.
    pub(super) fn resuming(self, upload: Upload) -> Self {
        Self { upload: Some(upload), ..self }
    }

    pub(super) async fn run(mut self, cancel: &Cancel) -> Result<Uploaded> {
        match self.drive(cancel).await {
            Ok(outcome) => self.end(outcome).await,
            // A bug, somewhere. What is at the store can still be found.
            Err(e) => Err(match self.ledger {
                LedgerPlan::Open(_) => e.with_resumable(ledger::id_of(&self.sealer.object_id)),
                _ => e,
            }),
        }
    }

    async fn drive(&mut self, cancel: &Cancel) -> Result<Outcome> {
        let mut cancelled = std::pin::pin!(cancel.cancelled());
        let mut asked_to_stop = false;
        loop {
            while let Some(action) = self.machine.poll_action() {
                self.start(action)?;
            }
            if let Some(outcome) = self.machine.outcome().cloned() {
                return Ok(outcome);
            }
            let event = match self.ready.pop_front() {
                Some(event) => event,
                None => {
                    let timeout = self.machine.poll_timeout();
                    let timer = async {
                        match timeout {
                            Some(at) => tokio::time::sleep_until(at.into()).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        what = &mut cancelled, if !asked_to_stop => {
                            asked_to_stop = true;
                            if !self.is_ending {
                                self.error = Some(Error::new(ErrorKind::Cancelled, "the upload was stopped"));
                                self.is_ending = true;
                            }
                            Event::Fact(Input::Cancel { keep: what == OnCancel::KeepForResume && self.resumable() })
                        }
                        Some(event) = self.tasks.next() => event,
                        () = timer => Event::Fact(Input::Timeout),
                    }
                }
            };
            self.tell(event)?;
        }
    }

    /// Begins what the machine asks for. Never waits.
    fn start(&mut self, action: Action) -> Result<()> {
        tracing::trace!(?action, "upload");
        let object = Arc::clone(&self.object);
        match action {
            Action::Initiate => self.spawn(Op::Initiate, async move {
                let initiated = object.store.initiate_if(&object.key, &object.properties, object.condition);
                Ok(Input::Initiated(initiated.await?))
            }),
            Action::Save(record) => self.save(record)?,
            Action::Fill(part) => self.fill(part)?,
            Action::Seal(number) => self.seal(number)?,
            Action::Put { part, attempt, body, offset } => self.put(part, attempt, body, offset)?,
            Action::SealTrailer { parts } => self.seal_trailer(parts)?,
            Action::PutObject { part } => self.put_object(part)?,
            Action::Complete(parts) => self.complete(parts)?,
            Action::Abort => {
                self.is_ending = true;
                self.tasks.clear();
                self.ready.clear();
                let upload = self.upload()?;
                self.spawn(Op::Abort, async move {
                    object.store.abort(&upload).await?;
                    Ok(Input::Aborted)
                });
            }
        }
        Ok(())
    }

    /// Tells the machine what happened, and keeps what it does not carry.
    fn tell(&mut self, event: Event) -> Result<()> {
        let input = match event {
            Event::Idle => return Ok(()),
            Event::Fact(input) => input,
            Event::Failed(op, error) => self.failed(op, error)?,
            Event::Missing(parts, error) => {
                tracing::warn!(parts = parts.len(), "the store lost parts that it had stored: they are sent again");
                self.error = Some(error);
                Input::Missing(parts)
            }
            Event::Ledger(Ok(ledger)) => {
                self.ledger = LedgerPlan::Open(ledger);
                Input::Saved
            }
            Event::Ledger(Err(error)) => self.failed(Op::Save, error)?,
            Event::Credits(number, Ok(credits)) => {
                let (offset, len) = (self.plan.offset(number), self.plan.max_len(number));
                self.parts.insert(number, Part { offset, len, sealing: None, held: None, _credits: credits });
                let parts = self.plan.parts().ok_or_else(|| unknown(number))?;
                Input::Filled { part: number, len, last: number.get() >= parts }
            }
            Event::Filled(number, stream, Ok((filled, credits))) => {
                self.source = Source::Once(Some(stream));
                let FilledPart { part, len, last } = filled;
                let offset = self.filled;
                self.filled += len;
                if len > 0 {
                    let (sealing, held) = match part {
                        Filled::Sealing(part) => (Some(part), None),
                        Filled::Spooled(held) => (None, Some(held)),
                    };
                    self.parts.insert(number, Part { offset, len, sealing, held, _credits: credits });
                }
                Input::Filled { part: number, len, last }
            }
            Event::Credits(number, Err(error)) | Event::Filled(number, _, Err(error)) => {
                self.failed(Op::Fill(number), error)?
            }
            Event::Sealed(number, Ok(held)) => {
                let sealed = held.sealed;
                if let Some(part) = self.parts.get_mut(&number) {
                    part.held = Some(held);
                }
                Input::Sealed(sealed)
            }
            Event::Sealed(number, Err(error)) => self.failed(Op::Seal(number), error)?,
            Event::Trailer(Ok(trailer)) => {
                self.trailer = trailer;
                Input::TrailerSealed { len: self.trailer.len() as u64 }
            }
            Event::Trailer(Err(error)) => self.failed(Op::SealTrailer, error)?,
        };
        match &input {
            Input::Initiated(id) => self.upload = Some(Upload { key: self.object.key.clone(), id: id.clone() }),
            // A held-back part is still needed if the tail has to be sent again.
            Input::Stored { part, .. } if !self.tail.contains(part) => {
                if let Some(part) = self.parts.remove(part) {
                    self.sealer.meter.done(part.len);
                }
            }
            Input::Completed(_) | Input::ObjectStored(_) => {
                self.sealer.meter.done(self.parts.values().map(|part| part.len).sum())
            }
            Input::Missing(missing) => {
                // All that was for the tail, which is sealed again too.
                self.parts.clear();
                self.tail.clear();
                self.trailer = Bytes::new();
                let lost = self.manifest.drain(..).filter(|part| missing.contains(&part.number));
                self.sealer.meter.undone(lost.map(|part| part.len).sum());
            }
            _ => {}
        }
        self.machine.handle(Instant::now().into_std(), input).map_err(|e| {
            Error::new(ErrorKind::Internal, "the upload's driver broke its machine's rules").with_source(e)
        })
    }

    fn failed(&mut self, op: Op, error: Error) -> Result<Input> {
        tracing::debug!(?op, %error, "an operation of the upload failed");
        let jitter = self.sealer.shared.jitter()?;
        let (retry, throttled) = (error.retry(), error.kind() == ErrorKind::Throttled);
        let unreachable = error.kind() == ErrorKind::Unreachable;
        if unreachable {
            self.sealer.shared.outage.tell(&error);
        }
        match op {
            Op::Abort => self.abort_error = Some(error),
            // What fails while all is being given up is not why.
            _ if self.is_ending => {}
            _ => self.error = Some(error),
        }
        Ok(Input::Failed { op, retry, throttled, unreachable, jitter })
    }

    fn start_task(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        self.tasks.push(Box::pin(work));
    }

    fn spawn(&mut self, op: Op, work: impl Future<Output = Result<Input>> + Send + 'static) {
        self.start_task(async move { work.await.map_or_else(|e| Event::Failed(op, e), Event::Fact) });
    }

    fn save(&mut self, record: Record) -> Result<()> {
        let durable = !matches!(record, Record::Part { .. });
        match &mut self.ledger {
            LedgerPlan::None if durable => self.ready.push_back(Event::Fact(Input::Saved)),
            LedgerPlan::None => {}
            LedgerPlan::Create { dir, header } => {
                let (dir, mut header) = (dir.clone(), header.clone());
                let (backend, object_id) = (self.sealer.shared.backend, self.sealer.object_id);
                if let Record::Initiated { upload } = record {
                    header.upload = upload;
                }
                let shared = Arc::clone(&self.sealer.shared);
                let (answer, made) = oneshot::channel();
                self.making_ledger = Some(tokio::spawn(async move {
                    let create = move || Ledger::create(&dir, backend, object_id, &header);
                    // If nobody waits any more, the file is how its upload is found.
                    let _ = answer.send(shared.workers.blocking(create).await);
                }));
                self.start_task(async move {
                    let died = |_| Err(Error::new(ErrorKind::Internal, "the upload ledger was not made"));
                    Event::Ledger(made.await.unwrap_or_else(died))
                });
            }
            LedgerPlan::Open(ledger) => {
                let synced =
                    ledger.append(self.sealer.cipher.data_key(), &record).and_then(|()| ledger.sync_due(durable));
                match synced {
                    Ok(None) => {}
                    Ok(Some(file)) => {
                        let (path, shared) = (ledger.path().to_owned(), Arc::clone(&self.sealer.shared));
                        let doing =
                            move |e| Error::io(format!("putting the upload ledger {} on disk", path.display()), e);
                        self.start_task(async move {
                            match shared.workers.blocking(move || file.sync_data().map_err(doing)).await {
                                Err(e) => Event::Failed(Op::Save, e),
                                Ok(()) if durable => Event::Fact(Input::Saved),
                                Ok(()) => Event::Idle,
                            }
                        });
                    }
                    Err(e) => self.ready.push_back(Event::Failed(Op::Save, e)),
                }
            }
        }
        Ok(())
    }

    /// Whether an upload that stops here can go on later.
    fn resumable(&self) -> bool {
        let rereadable = matches!(&self.source, Source::At(source) if source.identity().is_some());
        rereadable && !matches!(self.ledger, LedgerPlan::None)
    }

    /// With the credits there, a part of a file is filled; a part of a stream has yet to be read.
    fn fill(&mut self, number: PartNumber) -> Result<()> {
        let sealer = Arc::clone(&self.sealer);
        let max = self.plan.max_len(number);
        let (credits, window) = (self.config.credits_for(max), self.config.window);
        let spool = self.spool.clone().filter(|_| self.config.is_spooled(max));
        match &mut self.source {
            Source::At(_) => match sealer.shared.buffers.free_credits(credits) {
                Some(credits) => self.ready.push_back(Event::Credits(number, Ok(credits))),
                None => {
                    self.start_task(async move { Event::Credits(number, sealer.shared.buffers.credits(credits).await) })
                }
            },
            Source::Once(stream) => {
                let mut stream = stream
                    .take()
                    .ok_or_else(|| Error::new(ErrorKind::Internal, "two parts were filled from one stream at once"))?;
                self.start_task(async move {
                    let filled = async {
                        stream.ready().await?;
                        let credits = sealer.shared.buffers.credits(credits).await?;
                        let filled = match spool {
                            Some(spool) => stream.spool(&sealer, number, max, &spool, window).await?,
                            None => stream.fill(&sealer, number, max).await?,
                        };
                        Ok((filled, credits))
                    };
                    let filled = filled.await;
                    Event::Filled(number, stream, filled)
                });
            }
        }
        Ok(())
    }

    fn seal(&mut self, number: PartNumber) -> Result<()> {
        let part = self.parts.get_mut(&number).ok_or_else(|| unknown(number))?;
        if let Some(held) = part.held.take() {
            self.ready.push_back(Event::Sealed(number, Ok(held)));
            return Ok(());
        }
        match (part.sealing.take(), &self.source) {
            (Some(sealing), _) => {
                self.start_task(async move { Event::Sealed(number, sealing.finish().await) });
            }
            (None, Source::At(source)) => {
                let (sealer, source) = (Arc::clone(&self.sealer), Arc::clone(source));
                let (offset, len) = (part.offset, part.len);
                self.start_task(
                    async move { Event::Sealed(number, sealer.seal_at(&source, number, offset, len).await) },
                );
            }
            (None, Source::Once(_)) => {
                let gone = Error::new(ErrorKind::SourceRead, "the source cannot be read again").with_part(number);
                self.ready.push_back(Event::Failed(Op::Seal(number), gone));
            }
        }
        Ok(())
    }

    fn put(&mut self, number: PartNumber, attempt: Attempt, body: PutBody, offset: u64) -> Result<()> {
        if let PutBody::Sealing(part) = body
            && self.object.store.direct().is_some()
        {
            return self.put_direct(number, attempt, part, offset);
        }
        let (shared, window) = (&self.sealer.shared, self.config.window);
        let mut streamed = None;
        let payload = match body {
            PutBody::Held(part) => self.held(part)?.payload(shared, window),
            PutBody::Tail { part, piece } => {
                self.tail.insert(number);
                self.tail_payload(part, piece)?
            }
            PutBody::Sealing(part) => {
                let Source::At(source) = &self.source else { return Err(unknown(part)) };
                let state = self.parts.get(&part).ok_or_else(|| unknown(part))?;
                let (answer, wait) = oneshot::channel();
                let segments = self.sealer.seal_streaming(source, part, state.offset, state.len, window, answer)?;
                let len = self.plan.stored_len(state.len);
                streamed = Some(wait);
                Payload::produced(len, segments)
            }
        };
        let (object, upload) = (Arc::clone(&self.object), self.upload()?);
        let op = Op::Put { upload_part: number, attempt };
        self.spawn(op, async move {
            let put = PutPart { number, attempt, offset: Some(offset), payload };
            let etag = object.store.put_part(&upload, put).await.map_err(|e| e.with_part(number))?;
            let sealed = match streamed {
                None => None,
                Some(wait) => Some(wait.await.map_err(|_| {
                    Error::new(ErrorKind::Io, "a store took a part without reading all of it").with_part(number)
                })?),
            };
            Ok(Input::Stored { part: number, attempt, etag, sealed })
        });
        Ok(())
    }

    /// Seals a part straight into a store that takes it that way.
    fn put_direct(&mut self, number: PartNumber, attempt: Attempt, part: PartNumber, offset: u64) -> Result<()> {
        let Source::At(source) = &self.source else { return Err(unknown(part)) };
        let (source, sealer) = (Arc::clone(source), Arc::clone(&self.sealer));
        let Part { offset: from, len, .. } = *self.parts.get(&part).ok_or_else(|| unknown(part))?;
        let stored_len = self.plan.stored_len(len);
        let (object, upload) = (Arc::clone(&self.object), self.upload()?);
        self.spawn(Op::Put { upload_part: number, attempt }, async move {
            let stored = async {
                let store = object.store.direct();
                let store = store.ok_or_else(|| Error::new(ErrorKind::Internal, "a store changed its ways"))?;
                let sink = store.begin_part(&upload, number, offset, stored_len).await?;
                let sealed = sealer.seal_into(&source, part, from, len, &sink).await?;
                Ok((sink.finish().await?, sealed))
            };
            let (etag, sealed) = stored.await.map_err(|e: Error| e.with_part(number))?;
            Ok(Input::Stored { part: number, attempt, etag, sealed: Some(sealed) })
        });
        Ok(())
    }

    /// All of an object in one request.
    fn put_object(&mut self, part: Option<PartNumber>) -> Result<()> {
        let payload = self.tail_payload(part, TailPiece::Whole)?;
        let (object, sealer, manifest) = (Arc::clone(&self.object), Arc::clone(&self.sealer), self.manifest.clone());
        // The request is repeated, so what looks at the object need not be.
        let retry = RetryPolicy { attempts: 1, ..self.config.retry.clone() };
        self.spawn(Op::PutObject, async move {
            let put = object.store.put_object(&object.key, payload, &object.properties, object.condition);
            let error = match put.await {
                Ok(etag) => return Ok(Input::ObjectStored(etag)),
                Err(error) => error,
            };
            match object.made_all_the_same(&sealer.shared, &sealer.cipher, &manifest, &retry, &error).await? {
                Some(etag) => Ok(Input::ObjectStored(etag)),
                None => Err(error),
            }
        });
        Ok(())
    }

    fn held(&self, part: PartNumber) -> Result<&HeldBytes> {
        self.parts.get(&part).and_then(|part| Some(&part.held.as_ref()?.bytes)).ok_or_else(|| unknown(part))
    }

    fn tail_payload(&self, part: Option<PartNumber>, piece: TailPiece) -> Result<Payload> {
        let held = part.map(|part| self.held(part)).transpose()?;
        Ok(tail_payload(held, &self.trailer, piece, &self.sealer.shared, self.config.window))
    }

    fn seal_trailer(&mut self, parts: Vec<SealedPart>) -> Result<()> {
        self.manifest.clone_from(&parts);
        let (sealer, source) = (
            Arc::clone(&self.sealer),
            match &self.source {
                Source::At(source) => Some(Arc::clone(source)),
                Source::Once(_) => None,
            },
        );
        let is_small = parts.iter().map(|part| part.len).sum::<u64>() <= SMALL as u64
            && source.as_ref().is_none_or(|source| source.is_in_memory(0, 1.min(source.len() as usize)));
        let job = move |_: &mut Scratch| {
            if let Some(source) = source {
                source.check_unchanged()?;
            }
            let Some(data_key) = sealer.cipher.data_key() else { return Ok(Bytes::new()) };
            let part = |part: SealedPart| ManifestPart {
                number: part.number,
                len: part.len,
                crc64: part.crc64,
                salt: part.salt,
            };
            let manifest = Manifest::new(parts.into_iter().map(part).collect(), sealer.checksums, BTreeMap::new())?;
            trailer::seal(sealer.shared.backend, data_key, &sealer.object_id, &manifest).map(Bytes::from)
        };
        if is_small {
            self.ready.push_back(Event::Trailer(job(&mut Scratch::small(0))));
            return Ok(());
        }
        let work = self.sealer.shared.workers.run(job);
        self.start_task(async move { Event::Trailer(work.await) });
        Ok(())
    }

    fn complete(&mut self, parts: Vec<CompletedPart>) -> Result<()> {
        let (object, upload) = (Arc::clone(&self.object), self.upload()?);
        let (sealer, manifest) = (Arc::clone(&self.sealer), self.manifest.clone());
        let (rereadable, retry) = (matches!(self.source, Source::At(_)), self.config.retry.clone());
        self.start_task(async move {
            let error = match object.store.complete(&upload, &parts, object.condition).await {
                Ok(etag) => return Event::Fact(Input::Completed(etag)),
                Err(error) => error,
            };
            match object.made_all_the_same(&sealer.shared, &sealer.cipher, &manifest, &retry, &error).await {
                Ok(Some(etag)) => return Event::Fact(Input::Completed(etag)),
                Ok(None) => {}
                Err(unknown) => return Event::Failed(Op::Complete, unknown),
            }
            if error.kind() == ErrorKind::Changed && rereadable {
                match missing(object.store.as_ref(), &upload, &parts).await {
                    Ok(missing) if missing.is_empty() => {}
                    Ok(missing) => return Event::Missing(missing, error),
                    Err(unknown) => return Event::Failed(Op::Complete, unknown),
                }
            }
            Event::Failed(Op::Complete, error)
        });
        Ok(())
    }

    fn upload(&self) -> Result<Upload> {
        self.upload.clone().ok_or_else(|| Error::new(ErrorKind::Internal, "there is no upload yet"))
    }

    async fn end(mut self, outcome: Outcome) -> Result<Uploaded> {
        self.tasks.clear();
        // Its lock is held until its file is gone.
        let plan = std::mem::replace(&mut self.ledger, LedgerPlan::None);
        let ledger = match &plan {
            LedgerPlan::None => None,
            LedgerPlan::Open(ledger) => Some(ledger.path().to_owned()),
            LedgerPlan::Create { dir, .. } => match self.making_ledger.take() {
                Some(making) => {
                    let _ = making.await;
                    Some(ledger::path_in(dir, &self.sealer.object_id)).filter(|path| path.exists())
                }
                None => None,
            },
        };
        let error = self.error.take();
        let error = || match outcome {
            Outcome::NotStarted(Why::SourceTooLong)
            | Outcome::Aborted(Why::SourceTooLong)
            | Outcome::Kept(Why::SourceTooLong)
            | Outcome::AbortFailed(Why::SourceTooLong) => Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "the source is longer than the {} bytes that its parts can hold: give {}",
                    self.plan.capacity(),
                    if self.spool.is_some() {
                        "a larger part size"
                    } else {
                        "a larger memory budget, or a spool directory"
                    },
                ),
            ),
            _ => error.unwrap_or_else(|| Error::new(ErrorKind::Internal, "an upload failed without saying why")),
        };
        match outcome.clone() {
            Outcome::Completed(etag) => {
                ledger.iter().for_each(|path| ledger::forget(path));
                let stored_parts = self.manifest.iter().map(|part| self.plan.stored_len(part.len)).sum::<u64>();
                Ok(Uploaded {
                    object_id: self.sealer.object_id,
                    protection: self.object.identity.protection(),
                    etag,
                    plain_len: self.manifest.iter().map(|part| part.len).sum(),
                    sealed_len: stored_parts + self.trailer.len() as u64,
                    parts: u32::try_from(self.manifest.len()).unwrap_or(u32::MAX),
                    data_keys: self.object.identity.data_keys().to_vec(),
                })
            }
            Outcome::Aborted(_) | Outcome::NotStarted(_) => {
                ledger.iter().for_each(|path| ledger::forget(path));
                Err(error())
            }
            Outcome::Kept(_) => Err(match ledger {
                Some(_) => error().with_resumable(ledger::id_of(&self.sealer.object_id)),
                None => error(),
            }),
            Outcome::AbortFailed(_) => {
                let upload = self.upload.as_ref().map_or("", |upload| upload.id.0.as_str());
                let cause = self.abort_error.take().map_or_else(String::new, |e| format!(" ({e})"));
                let error = error().while_doing(format_args!(
                    "upload {upload} of {} could not be aborted{cause}, its parts are still at the store; it failed because",
                    self.object.key
                ));
                Err(match ledger {
                    Some(_) => error.with_resumable(ledger::id_of(&self.sealer.object_id)),
                    None => error,
                })
            }
        }
    }
}

/// Those of `parts` that the store does not have as they are listed.
async fn missing(store: &dyn MultipartStore, upload: &Upload, parts: &[CompletedPart]) -> Result<Vec<PartNumber>> {
    let stored: HashSet<_> =
        store.list_parts(upload).await?.into_iter().map(|part| (part.number, part.etag.0)).collect();
    let is_missing = |part: &&CompletedPart| !stored.contains(&(part.number, part.etag.0.clone()));
    Ok(parts.iter().filter(is_missing).map(|part| part.number).collect())
}

fn unknown(part: PartNumber) -> Error {
    Error::new(ErrorKind::Internal, "the upload lost sight of a part").with_part(part)
}

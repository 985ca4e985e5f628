//! The states of an upload, and what takes it from one to the next.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::flow::Flow;
use super::parts::{Parts, Route, stripes};
use super::plan::PartPlan;
use super::protocol::{Action, ApiMisuse, Config, Input, MAX_TRAILER, Op, Outcome, PutBody, Record, SealedPart, Why};
use super::retry::Work;
use super::tail::Tail;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::store::CompletedPart;
use crate::types::{ETag, PartNumber, UploadId};

/// How often parts that the store lost are sent again before the upload fails.
const REPAIRS: u32 = 3;

/// An upload, from its beginning or from where an earlier one was interrupted, to its one [`Outcome`].
///
/// Drain [`poll_action`](Self::poll_action), beginning each piece of work without waiting for it; look at
/// [`outcome`](Self::outcome); wait for work to finish, or for [`poll_timeout`](Self::poll_timeout); tell
/// [`handle`](Self::handle); repeat.
#[derive(Clone, Debug)]
pub struct Machine {
    config: Config,
    plan: PartPlan,
    state: State,
    work: Work,
    flow: Flow,
    /// How often the store had lost parts when it was to publish them.
    repairs: u32,
    /// The chosen attempt of each part that is stored.
    stored: BTreeMap<PartNumber, (SealedPart, ETag)>,
    /// Records without an answer that are not given out yet.
    records: VecDeque<Record>,
    /// Whether a part's record was given out.
    appended: bool,
    /// Whether the ledger durably names the upload, so that it can be kept for resume.
    resumable: bool,
    /// Asked to stop while an answer decides what there is to stop: whether to keep the upload then.
    cancelled: Option<bool>,
}

/// What the upload awaits.
#[derive(Clone, Debug)]
enum State {
    Initiated,
    IdSaved(UploadId),
    Parts(Parts),
    Trailer(AwaitTrailer),
    ManifestSaved(AwaitManifestSaved),
    TailStored(AwaitTailStored),
    Completed(AwaitCompleted),
    /// The object, stored by one request: all that a machine with [`Config::one_request`] sends.
    Object(AwaitObject),
    Aborted(Why),
    /// Nothing any more.
    Ended(Outcome),
}

/// Everything outside the tail is stored; the part that is held back, if one is, is sealed.
#[derive(Clone, Debug)]
struct AwaitTrailer {
    held_back: Option<SealedPart>,
}

#[derive(Clone, Debug)]
struct AwaitManifestSaved {
    held_back: Option<SealedPart>,
    trailer_len: u64,
}

/// The commit point is passed.
#[derive(Clone, Debug)]
struct AwaitTailStored {
    held_back: Option<SealedPart>,
    tail: Tail,
}

#[derive(Clone, Debug)]
struct AwaitCompleted {
    parts: Vec<CompletedPart>,
}

/// The manifest is sealed, and is this machine's only one: if it fails, there is no other under its data key.
#[derive(Clone, Debug)]
struct AwaitObject {
    held_back: Option<SealedPart>,
}

/// What is known of an upload that was interrupted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// The parts the ledger has records of and the store still has, with that very ETag, in the ledger's order: of two
    /// records of one part the later counts.
    pub stored: Vec<(SealedPart, ETag)>,
    /// What the last sealed manifest lists, if one was recorded.
    pub manifest: Option<Vec<SealedPart>>,
}

impl Machine {
    /// A new upload.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] if a part that must be held does not fit into memory, or the store does not allow
    /// the plan's parts; [`ErrorKind::InvalidInput`] if `config` contradicts itself.
    pub fn new(config: Config, plan: PartPlan) -> Result<Self> {
        let config = config.for_plan(&plan);
        let mut machine = Self::in_state(State::Initiated, config, plan)?;
        if machine.config.one_request {
            machine.send_parts();
        } else {
            machine.work.add(Op::Initiate);
        }
        Ok(machine)
    }

    /// An upload that was interrupted after its [`Record::Initiated`] was durable. Its plan is the one it began with,
    /// and has a known length.
    ///
    /// # Errors
    /// As for [`new`](Self::new); [`ErrorKind::InvalidInput`] if the plan's length is not known;
    /// [`ErrorKind::Ledger`] if what was recorded is not of an upload with this plan. A manifest that was sealed binds:
    /// a second one under the same data key must have the same part numbers and lengths.
    pub fn resume(config: Config, plan: PartPlan, resumed: Resumed) -> Result<Self> {
        let Some(parts) = plan.parts() else {
            return Err(Error::new(ErrorKind::InvalidInput, "an upload of unknown length cannot be resumed"));
        };
        let other_plan = || {
            Error::new(
                ErrorKind::Ledger,
                "the ledger's records are not of an upload with its plan: abort this upload and upload anew",
            )
        };
        let planned = |part: &SealedPart| {
            let is_last = part.number.get() == parts;
            let in_tail = is_last && plan.is_held_back(part.len, &config.limits);
            (part.number.get() <= parts && part.len == plan.max_len(part.number), in_tail)
        };
        if let Some(manifest) = &resumed.manifest {
            let ascending = manifest.iter().map(|part| part.number.get()).eq(1..=parts);
            if !ascending || !manifest.iter().all(|part| planned(part).0) {
                return Err(other_plan());
            }
        }
        if !resumed.stored.iter().all(|(part, _)| planned(part) == (true, false)) {
            return Err(other_plan());
        }
        let mut machine = Self::in_state(State::Initiated, Config { one_request: false, ..config }, plan)?;
        machine.resumable = true;
        // It was asked which parts it has.
        machine.work.answered(Op::Initiate);
        machine.stored = resumed.stored.into_iter().map(|(part, etag)| (part.number, (part, etag))).collect();
        machine.send_parts();
        Ok(machine)
    }

    fn in_state(state: State, config: Config, plan: PartPlan) -> Result<Self> {
        check(&config, &plan)?;
        Ok(Self {
            work: Work::new(config.retry.clone()),
            flow: Flow::new(config.max_in_flight, config.find_in_flight),
            repairs: 0,
            config,
            plan,
            state,
            stored: BTreeMap::new(),
            records: VecDeque::new(),
            appended: false,
            resumable: false,
            cancelled: None,
        })
    }

    /// Takes in a fact. `now` never goes back.
    ///
    /// Answers to work that was begun are welcome at any time, late, repeated, and after the outcome.
    ///
    /// # Errors
    /// [`ApiMisuse`] if the fact cannot be; the machine is then as it was before.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), ApiMisuse> {
        let Some(op) = input.answers() else {
            match input {
                Input::Cancel { keep } => self.cancel(keep),
                _ => self.work.wake(now),
            }
            return Ok(());
        };
        if matches!(input, Input::Failed { op: Op::Save, .. }) && self.appended && !self.work.is_running(Op::Save) {
            // Once the manifest's record is durable, so are all before it, whatever is said of them late.
            if matches!(self.state, State::Parts(_) | State::Trailer(_) | State::ManifestSaved(_)) {
                self.fail(Op::Save);
            }
            return Ok(());
        }
        if !self.work.expects(op)? {
            return Ok(());
        }
        if self.has_given_up() && op != Op::Abort {
            self.work.finish(op);
            return Ok(());
        }
        match input {
            Input::Failed { retry, throttled, unreachable, jitter, .. } => {
                if matches!(op, Op::Put { .. }) {
                    self.flow.failed(throttled, self.work.puts() - 1);
                }
                if !unreachable {
                    self.work.answered(op);
                }
                self.failed(now, op, retry, jitter);
            }
            fact => {
                self.succeeded(fact)?;
                self.work.answered(op);
                self.work.finish(op);
                if let Op::Put { upload_part, .. } = op {
                    self.flow.stored(now, self.plan.max_len(upload_part));
                }
            }
        }
        Ok(())
    }

    /// The next piece of work. Drain it after every [`handle`](Self::handle).
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(record) = self.records.pop_front() {
            self.appended = true;
            return Some(Action::Save(record));
        }
        if let Some(op) = self.work.begin_next(self.flow.limit()) {
            return Some(self.action(op));
        }
        let State::Parts(parts) = &mut self.state else { return None };
        let number = parts.fill_next(&self.config, &self.plan)?;
        self.work.begin(Op::Fill(number));
        Some(Action::Fill(number))
    }

    /// When to tell [`Input::Timeout`], if something waits to be tried again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.work.next_wake()
    }

    /// How the upload ended, once it has. It never changes.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Memory credits in use: at most [`Config::budget`].
    #[must_use]
    pub fn credits_in_use(&self) -> u32 {
        match &self.state {
            State::Parts(parts) => parts.credits(),
            State::Trailer(AwaitTrailer { held_back })
            | State::ManifestSaved(AwaitManifestSaved { held_back, .. })
            | State::TailStored(AwaitTailStored { held_back, .. })
            | State::Object(AwaitObject { held_back }) => {
                // Never more than were taken for it, when it could still be longer.
                let credits = |len| self.config.credits_for(len);
                held_back.map_or(0, |part| credits(part.len).min(credits(self.plan.max_len(part.number))))
            }
            State::Initiated | State::IdSaved(_) | State::Completed(_) | State::Aborted(_) | State::Ended(_) => 0,
        }
    }

    /// What `op` is in the state that made it due.
    fn action(&self, op: Op) -> Action {
        match (op, &self.state) {
            (Op::Initiate, _) => Action::Initiate,
            (Op::Save, State::IdSaved(upload)) => Action::Save(Record::Initiated { upload: upload.clone() }),
            (Op::Save, State::ManifestSaved(state)) => Action::Save(Record::Manifest(self.sealings(state.held_back))),
            (Op::Fill(part), _) => Action::Fill(part),
            (Op::Seal(part), _) => Action::Seal(part),
            (Op::Put { upload_part, attempt }, State::Parts(parts)) => {
                let held = parts.is_held(upload_part);
                Action::Put {
                    part: upload_part,
                    attempt,
                    body: if held { PutBody::Held(upload_part) } else { PutBody::Sealing(upload_part) },
                    offset: self.plan.sealed_offset(upload_part),
                }
            }
            (Op::Put { upload_part, attempt }, State::TailStored(state)) => {
                let (body, offset) = state.tail.body(upload_part).expect("only pieces of the tail are due now");
                Action::Put { part: upload_part, attempt, body, offset }
            }
            (Op::SealTrailer, State::Trailer(state)) => Action::SealTrailer { parts: self.sealings(state.held_back) },
            (Op::Complete, State::Completed(state)) => Action::Complete(state.parts.clone()),
            (Op::PutObject, State::Object(state)) => {
                Action::PutObject { part: state.held_back.map(|part| part.number) }
            }
            (Op::Abort, _) => Action::Abort,
            (op, state) => unreachable!("{op:?} is due in {state:?}"),
        }
    }

    /// An operation that runs did what it was to do.
    fn succeeded(&mut self, fact: Input) -> Result<(), ApiMisuse> {
        match (&mut self.state, fact) {
            (State::Initiated, Input::Initiated(upload)) => {
                self.state = State::IdSaved(upload);
                if let Some(keep) = self.cancelled {
                    self.give_up(Why::Cancelled, keep);
                } else {
                    self.work.add(Op::Save);
                }
            }
            (State::IdSaved(_), Input::Saved) => {
                self.resumable = true;
                self.send_parts();
            }
            (State::Parts(parts), Input::Filled { part, len, last }) => {
                let next = if last { None } else { next_to_send(&self.plan, &self.stored, part.next()) };
                match parts.filled(&self.config, &self.plan, part, len, last, next)? {
                    Route::Empty => {}
                    Route::Hold => self.work.add(Op::Seal(part)),
                    Route::Stream => self.work.add_put(part),
                }
                if !last && self.plan.is_full_after(part) {
                    self.give_up(Why::SourceTooLong, self.config.keep_on_failure);
                } else {
                    self.seal_trailer_if_ready();
                }
            }
            (State::Parts(parts), Input::Sealed(sealed)) => {
                if parts.sealed(sealed)? {
                    self.work.add_put(sealed.number);
                }
                self.seal_trailer_if_ready();
            }
            (State::Parts(parts), Input::Stored { part, attempt, etag, sealed }) => {
                let sealed = parts.stored(part, sealed)?;
                self.stored.insert(part, (sealed, etag.clone()));
                self.records.push_back(Record::Part { sealed, etag, attempt });
                self.seal_trailer_if_ready();
            }
            (State::Trailer(state), Input::TrailerSealed { len }) => {
                if len > MAX_TRAILER || (len == 0) != self.plan.is_unsealed() {
                    return Err(ApiMisuse("of a trailer of impossible length"));
                }
                let held_back = state.held_back;
                if self.config.one_request {
                    self.state = State::Object(AwaitObject { held_back });
                    self.work.add(Op::PutObject);
                } else {
                    self.state = State::ManifestSaved(AwaitManifestSaved { held_back, trailer_len: len });
                    self.work.add(Op::Save);
                }
            }
            (State::ManifestSaved(state), Input::Saved) => {
                let held_back = state.held_back;
                let stored = self.stored.values().map(|(sealed, _)| sealed);
                let tail = Tail::new(&self.plan, stored, held_back.as_ref(), state.trailer_len);
                for upload_part in tail.upload_parts() {
                    self.work.add_put(upload_part);
                }
                self.state = State::TailStored(AwaitTailStored { held_back, tail });
                self.complete_if_stored();
            }
            (State::TailStored(state), Input::Stored { part, etag, sealed: None, .. }) => {
                state.tail.stored(part, etag);
                self.complete_if_stored();
            }
            (State::Completed(_), Input::Completed(etag)) | (State::Object(_), Input::ObjectStored(etag)) => {
                self.end(Outcome::Completed(etag));
            }
            (State::Completed(state), Input::Missing(missing)) => {
                let is_listed = |number: &PartNumber| state.parts.iter().any(|part| part.number == *number);
                if missing.is_empty() || !missing.iter().all(is_listed) || self.plan.parts().is_none() {
                    return Err(ApiMisuse("of missing parts that cannot be"));
                }
                self.repair(&missing);
            }
            (State::Aborted(why), Input::Aborted) => {
                let why = *why;
                self.end(Outcome::Aborted(why));
            }
            _ => return Err(ApiMisuse("of another sealing than the one that was sent")),
        }
        Ok(())
    }

    /// An operation that runs failed.
    fn failed(&mut self, now: Instant, op: Op, retry: Retry, jitter: u64) {
        if let Some(keep) = self.cancelled {
            self.work.finish(op);
            self.give_up(Why::Cancelled, keep);
        } else if !self.work.retry(now, op, retry, jitter) {
            self.fail(op);
        }
    }

    /// `op` failed for good.
    fn fail(&mut self, op: Op) {
        match self.state {
            State::Aborted(why) => self.end(Outcome::AbortFailed(why)),
            _ => self.give_up(Why::Failed(op), self.config.keep_on_failure),
        }
    }

    /// The store has lost `missing` of what was stored: goes on as an upload that is resumed then.
    fn repair(&mut self, missing: &[PartNumber]) {
        if let Some(keep) = self.cancelled {
            self.give_up(Why::Cancelled, keep);
        } else if self.repairs == REPAIRS {
            self.fail(Op::Complete);
        } else {
            self.repairs += 1;
            self.stored.retain(|number, _| !missing.contains(number));
            self.send_parts();
        }
    }

    fn cancel(&mut self, keep: bool) {
        let decisive = match self.state {
            State::Initiated => Op::Initiate,
            State::Completed(_) => Op::Complete,
            State::Object(_) => Op::PutObject,
            State::Aborted(_) | State::Ended(_) => return,
            _ => return self.give_up(Why::Cancelled, keep),
        };
        if self.work.is_running(decisive) {
            self.cancelled = Some(keep);
        } else {
            self.give_up(Why::Cancelled, keep);
        }
    }

    fn give_up(&mut self, why: Why, keep: bool) {
        if self.config.one_request || matches!(self.state, State::Initiated) {
            self.end(Outcome::NotStarted(why));
        } else if keep && self.resumable {
            self.end(Outcome::Kept(why));
        } else {
            self.work.give_up();
            self.state = State::Aborted(why);
            self.work.add(Op::Abort);
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.work.give_up();
        self.state = State::Ended(outcome);
    }

    /// Whether answers no longer matter, but Abort's.
    fn has_given_up(&self) -> bool {
        matches!(self.state, State::Aborted(_) | State::Ended(_))
    }

    fn send_parts(&mut self) {
        let first = next_to_send(&self.plan, &self.stored, Some(PartNumber::MIN));
        self.state = State::Parts(Parts::new(first));
        self.seal_trailer_if_ready();
    }

    fn seal_trailer_if_ready(&mut self) {
        let State::Parts(parts) = &self.state else { return };
        if let Some(held_back) = parts.rest() {
            self.state = State::Trailer(AwaitTrailer { held_back });
            self.work.add(Op::SealTrailer);
        }
    }

    fn complete_if_stored(&mut self) {
        let State::TailStored(state) = &self.state else { return };
        let Some(tail) = state.tail.etags() else { return };
        let parts = self.stored.iter().map(|(number, (_, etag))| (*number, etag.clone()));
        let parts = parts.chain(tail).map(|(number, etag)| CompletedPart { number, etag }).collect();
        self.state = State::Completed(AwaitCompleted { parts });
        self.work.add(Op::Complete);
    }

    /// The chosen sealing of every part, ascending.
    fn sealings(&self, held_back: Option<SealedPart>) -> Vec<SealedPart> {
        self.stored.values().map(|(sealed, _)| *sealed).chain(held_back).collect()
    }
}

/// The first part from `from` on that is not stored, if the object may have one.
fn next_to_send(
    plan: &PartPlan,
    stored: &BTreeMap<PartNumber, (SealedPart, ETag)>,
    from: Option<PartNumber>,
) -> Option<PartNumber> {
    std::iter::successors(from, |number| number.next())
        .take_while(|number| plan.max_len(*number) > 0)
        .find(|number| !stored.contains_key(number))
}

fn check(config: &Config, plan: &PartPlan) -> Result<()> {
    let Config { budget, held, window, max_in_flight, .. } = *config;
    if held == 0 || window == 0 || held.max(window) > budget || max_in_flight == 0 {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "an upload needs at least one credit to hold a part, one to stream it and one part in flight, \
                 and a part cannot take more than the whole budget: held {held}, window {window}, budget {budget}, \
                 in flight {max_in_flight}"
            ),
        ));
    }
    config.retry.check()?;
    plan.check(&config.limits)?;
    let must_hold = stripes(plan.longest_held_back(&config.limits));
    // The credits of the longest part are there for the last one, if that may be shorter than it was filled for.
    let may_hold =
        if stripes(plan.longest()) > u64::from(held) && plan.parts().is_none() { held.min(window) } else { held };
    if !config.spool && must_hold > u64::from(may_hold) {
        let needed = must_hold.saturating_mul(u64::from(budget.div_ceil(may_hold)));
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "the last part may have to be held until the trailer follows it, up to {must_hold} MiB, and the memory \
                 budget has room for {may_hold}: give about {needed} MiB, or make the parts smaller"
            ),
        ));
    }
    Ok(())
}

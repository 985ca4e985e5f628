//! A store, a ledger and a driver in miniature, which check every promise of the machine while they drive it.
//!
//! They do what a script of bytes says, in any order: answer, fail, lose answers, answer late and twice, let time pass,
//! cancel, kill the process and resume. The tests and the fuzz target `upload_machine` share them.

mod checks;
mod faults;
mod setup;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Action, Config, Input, Machine, Op, Outcome, PartPlan, PutBody, Record, Resumed, SealedPart, TailPiece};
use crate::crypto::STRIPE;
use crate::error::Retry;
use crate::store::CompletedPart;
use crate::types::{Attempt, ETag, PartNumber, Salt, UploadId};

use setup::Script;
pub use setup::Setup;

/// Does what `script` says, then lets everything succeed. Panics where the machine breaks a promise.
///
/// `None` if the script is not one, or asks for a setup that the machine refuses.
pub fn run(script: &[u8]) -> Option<Outcome> {
    play(script, 16)
}

/// As [`run`], but nothing fails.
#[cfg(test)]
pub(super) fn run_fair(script: &[u8]) -> Option<Outcome> {
    play(script, 8)
}

fn play(script: &[u8], kinds: u8) -> Option<Outcome> {
    let mut script = Script(script);
    let mut model = Model::new(Setup::from_script(&mut script)?)?;
    while let Some(choice) = script.next() {
        if model.outcome.is_some() && choice % 32 == 0 {
            break;
        }
        model.step(choice % kinds, choice >= 0x80, &mut script);
    }
    Some(model.finish())
}

/// Bytes of a body: from which sealing, which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    of: Sealing,
    from: u64,
    to: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sealing {
    Part(SealedPart),
    /// Index into the trailers ever sealed.
    Trailer(usize),
}

/// One upload part at the store.
#[derive(Clone, Debug)]
struct Write {
    part: PartNumber,
    etag: ETag,
    spans: Vec<Span>,
    offset: u64,
}

/// Work that was begun.
#[derive(Clone, Debug)]
struct Running {
    op: Op,
    action: Action,
    /// What its answer will be if it succeeds.
    answer: Input,
    /// What the store has then.
    write: Option<Write>,
}

/// The world around one upload, over all processes that work on it.
#[derive(Clone, Debug)]
pub struct Model {
    setup: Setup,
    plan: PartPlan,
    pub(super) machine: Machine,
    now: Instant,

    // This process.
    running: Vec<Running>,
    held: BTreeMap<PartNumber, SealedPart>,
    trailer: Option<usize>,
    /// Credits by sealed part.
    credits: BTreeMap<PartNumber, u32>,
    /// The latest attempt at each upload part that was begun.
    attempts: BTreeMap<PartNumber, Attempt>,
    /// The ETag of each upload part whose latest attempt was answered.
    chosen: BTreeMap<PartNumber, ETag>,
    recorded: BTreeSet<PartNumber>,
    has_appended: bool,
    /// Answers that were given, and can come again.
    given: Vec<Input>,
    aborting: bool,
    outcome: Option<Outcome>,

    // What outlives it.
    durable: Vec<Record>,
    appended: Vec<Record>,
    at_store: BTreeMap<PartNumber, Write>,
    /// Writes whose answer was given up on, but which may still land.
    zombies: Vec<Write>,
    published: Option<ETag>,
    /// What every manifest ever sealed lists.
    manifests: Vec<Vec<SealedPart>>,
    sealings: BTreeMap<PartNumber, u8>,
    writes: BTreeMap<PartNumber, u32>,
}

impl Model {
    /// A world in which nothing has happened, unless the machine refuses the setup.
    #[must_use]
    pub fn new(setup: Setup) -> Option<Self> {
        let plan = setup.plan().ok()?;
        let machine = Machine::new(setup.config.clone(), plan.clone()).ok()?;
        Some(Self {
            setup,
            plan,
            machine,
            now: Instant::now(),
            running: Vec::new(),
            held: BTreeMap::new(),
            trailer: None,
            credits: BTreeMap::new(),
            attempts: BTreeMap::new(),
            chosen: BTreeMap::new(),
            recorded: BTreeSet::new(),
            has_appended: false,
            given: Vec::new(),
            aborting: false,
            outcome: None,
            durable: Vec::new(),
            appended: Vec::new(),
            at_store: BTreeMap::new(),
            zombies: Vec::new(),
            published: None,
            manifests: Vec::new(),
            sealings: BTreeMap::new(),
            writes: BTreeMap::new(),
        })
    }

    /// One thing happens.
    fn step(&mut self, what: u8, flag: bool, script: &mut Script<'_>) {
        match what {
            0..4 => {
                self.poll();
            }
            4..8 => {
                if let Some(n) = script.below(self.running.len().max(1)).filter(|n| *n < self.running.len()) {
                    self.succeed(n);
                }
            }
            8 | 9 => {
                let n = script.below(self.running.len().max(1));
                if let (Some(n), Some(how)) = (n.filter(|n| *n < self.running.len()), script.next()) {
                    // Mostly such that it can go on.
                    let retry = match how % 8 {
                        0 if flag => Retry::No,
                        1 => Retry::After(Duration::from_secs(u64::from(how))),
                        _ => Retry::Yes,
                    };
                    self.fail(n, retry, how & 16 != 0, how & 32 != 0);
                }
            }
            10 => {
                if let Some(n) = script.below(self.given.len().max(1)).filter(|n| *n < self.given.len()) {
                    self.tell_late(self.given[n].clone());
                }
            }
            11 => {
                if let Some(ms) = script.next() {
                    self.now += Duration::from_millis(u64::from(ms) * 20);
                    self.tell(Input::Timeout);
                }
            }
            12 => {
                // Rare, so that much can happen before.
                match script.below(32) {
                    Some(0) => self.tell(Input::Cancel { keep: flag }),
                    Some(1) if self.has_appended && !self.runs(Op::Save) => {
                        self.tell(Input::Failed {
                            op: Op::Save,
                            retry: Retry::Yes,
                            throttled: false,
                            unreachable: false,
                            jitter: 0,
                        });
                    }
                    _ => {}
                }
            }
            13 => {
                if let (Some(0), Some(records)) = (script.below(4), script.below(self.appended.len() + 1)) {
                    self.kill(records, flag);
                }
            }
            14 => self.land_zombie(),
            _ => {
                if let Some(what) = script.next() {
                    self.misuse(what);
                }
            }
        }
    }

    /// Everything succeeds from now on, in the order it was begun.
    ///
    /// # Panics
    /// If the upload is stuck, or a promise was broken.
    pub fn finish(&mut self) -> Outcome {
        loop {
            while self.poll() {}
            if let Some(outcome) = self.machine.outcome() {
                return outcome.clone();
            }
            if !self.running.is_empty() {
                self.succeed(0);
            } else {
                self.now = self.machine.poll_timeout().expect("an upload that awaits nothing has ended");
                self.tell(Input::Timeout);
            }
        }
    }

    /// What runs.
    #[cfg(test)]
    pub(super) fn running(&self) -> Vec<Op> {
        self.running.iter().map(|running| running.op).collect()
    }

    /// How many records were appended and are not durable.
    #[cfg(test)]
    pub(super) fn appended(&self) -> usize {
        self.appended.len()
    }

    /// What every manifest ever sealed lists.
    #[cfg(test)]
    pub(super) fn manifests(&self) -> &[Vec<SealedPart>] {
        &self.manifests
    }

    /// What was begun under this number and runs.
    #[cfg(test)]
    pub(super) fn action(&self, op: Op) -> &Action {
        let running = self.running.iter().find(|running| running.op == op);
        &running.unwrap_or_else(|| panic!("{op:?} does not run")).action
    }

    /// Begins what can be begun.
    #[cfg(test)]
    pub(super) fn begin_all(&mut self) {
        while self.poll() {}
    }

    /// Lets everything succeed until `op` runs.
    #[cfg(test)]
    pub(super) fn advance_to(&mut self, op: Op) {
        self.begin_all();
        while !self.runs(op) {
            assert!(!self.running.is_empty(), "{op:?} never runs");
            self.succeed(0);
            self.begin_all();
        }
    }

    /// `op` succeeds.
    #[cfg(test)]
    pub(super) fn succeed_op(&mut self, op: Op) {
        let n = self.running.iter().position(|running| running.op == op).expect("it runs");
        self.succeed(n);
        self.begin_all();
    }

    /// The next retry's time comes: how long that took.
    #[cfg(test)]
    pub(super) fn wait(&mut self) -> Duration {
        let before = self.now;
        self.now = self.machine.poll_timeout().expect("something waits");
        self.tell(Input::Timeout);
        self.begin_all();
        self.now - before
    }

    /// Everything that decides what can happen from here on, but time.
    #[cfg(test)]
    pub(super) fn state(&self) -> String {
        let stored: Vec<_> = self.at_store.values().map(|write| &write.etag).collect();
        format!("{:?} {:?} {:?} {:?} {stored:?}", self.machine, self.running(), self.durable, self.appended)
    }

    /// Begins the next piece of work, if there is one.
    fn poll(&mut self) -> bool {
        let Some(action) = self.machine.poll_action() else {
            self.check_all_credits();
            return false;
        };
        assert!(
            self.machine.outcome().is_none() || matches!(action, Action::Save(Record::Part { .. })),
            "{action:?} after the outcome"
        );
        assert!(!self.aborting || action == Action::Abort, "{action:?} after Abort");
        self.begin(action);
        self.check_credits();
        true
    }

    fn begin(&mut self, action: Action) {
        let mut write = None;
        let (op, answer) = match &action {
            Action::Initiate => {
                assert!(self.durable.is_empty() && self.running.is_empty());
                (Op::Initiate, Input::Initiated(UploadId("upload".into())))
            }
            Action::Save(record) => {
                if let Record::Part { sealed, etag, .. } = record {
                    assert_eq!(self.chosen.get(&sealed.number), Some(etag), "a record names the chosen attempt");
                    self.recorded.insert(sealed.number);
                    self.appended.push(record.clone());
                    self.has_appended = true;
                    return;
                }
                if let Record::Manifest(parts) = record {
                    assert_eq!(parts, self.manifests.last().expect("sealed before it is recorded"));
                }
                (Op::Save, Input::Saved)
            }
            Action::Fill(part) => self.begin_fill(*part),
            Action::Seal(part) => {
                let sealed = self.seal(*part);
                (Op::Seal(*part), Input::Sealed(sealed))
            }
            Action::Put { part, attempt, body, offset } => {
                let (spans, sealed) = self.body(*part, *body);
                self.check_put(*part, *attempt, *body);
                *self.writes.entry(*part).or_default() += 1;
                let etag = ETag(format!("{part}/{}", self.writes[part]));
                write = Some(Write { part: *part, etag: etag.clone(), spans, offset: *offset });
                let op = Op::Put { upload_part: *part, attempt: *attempt };
                (op, Input::Stored { part: *part, attempt: *attempt, etag, sealed })
            }
            Action::SealTrailer { parts } => self.begin_seal_trailer(parts),
            Action::PutObject { part } => {
                self.check_object(*part);
                (Op::PutObject, Input::ObjectStored(ETag("object".into())))
            }
            Action::Complete(parts) => {
                self.check_list(parts);
                self.credits.clear();
                (Op::Complete, Input::Completed(ETag("object".into())))
            }
            Action::Abort => {
                self.aborting = true;
                // It drops all work in flight; what was sent may land all the same.
                for dropped in std::mem::take(&mut self.running) {
                    self.zombies.extend(dropped.write);
                    self.given.push(dropped.answer);
                }
                (Op::Abort, Input::Aborted)
            }
        };
        assert!(self.running.iter().all(|running| running.op != op), "{op:?} runs twice");
        self.running.push(Running { op, action, answer, write });
    }

    fn begin_fill(&mut self, part: PartNumber) -> (Op, Input) {
        assert!(self.is_durable() || self.is_one_request(), "the upload's record is durable before its source is read");
        assert!(!self.running.iter().any(|running| matches!(running.op, Op::Fill(_))), "two parts are filled at once");
        // A retry has its credits already.
        self.credits.entry(part).or_insert_with(|| credits(&self.setup.config, self.plan.max_len(part)));
        self.check_spool(part);
        let left = self.setup.len - self.plan.offset(part);
        let len = left.min(self.plan.max_len(part));
        (Op::Fill(part), Input::Filled { part, len, last: len == left })
    }

    fn begin_seal_trailer(&mut self, parts: &[SealedPart]) -> (Op, Input) {
        assert!(self.running.is_empty(), "the manifest is sealed last");
        let lens: Vec<_> = parts.iter().map(|part| (part.number, part.len)).collect();
        assert!(lens.iter().map(|(number, _)| number.get()).eq(1..=lens.len() as u32), "each part once, ascending");
        assert_eq!(lens.iter().map(|(_, len)| len).sum::<u64>(), self.setup.len);
        for part in parts {
            if self.chosen.contains_key(&part.number) {
                assert!(self.recorded.contains(&part.number), "part {} has no record", part.number);
            } else {
                assert_eq!(self.held.get(&part.number), Some(part), "part {} is nowhere", part.number);
            }
        }
        for earlier in &self.manifests {
            assert!(
                earlier.iter().map(|part| (part.number, part.len)).eq(lens.iter().copied()),
                "two manifests under one data key list other parts"
            );
        }
        self.manifests.push(parts.to_vec());
        self.trailer = Some(self.manifests.len() - 1);
        (Op::SealTrailer, Input::TrailerSealed { len: self.setup.trailer })
    }

    /// The `n`-th piece of work that runs succeeds.
    pub(super) fn succeed(&mut self, n: usize) {
        let Running { op, action, mut answer, write } = self.running.remove(n);
        if let Some(write) = write {
            self.land(write);
        }
        match (&action, &mut answer) {
            (Action::Save(record), _) => {
                self.durable.append(&mut self.appended);
                self.durable.push(record.clone());
            }
            (Action::Complete(parts), Input::Completed(etag)) => match self.publish(parts) {
                Some(published) => *etag = published,
                None => {
                    let missing = self.missing(parts);
                    self.given.push(answer);
                    return match self.plan.total() {
                        Some(_) if !self.setup.config.spool => self.lose(missing),
                        _ => self.tell(Input::Failed {
                            op,
                            retry: Retry::No,
                            throttled: false,
                            unreachable: false,
                            jitter: 0,
                        }),
                    };
                }
            },
            (Action::PutObject { .. }, _) => self.published = Some(ETag("object".into())),
            (Action::Abort, _) => self.at_store.clear(),
            _ => {}
        }
        self.answer(answer);
    }

    /// Those of `parts` that the store does not have as they are listed.
    fn missing(&self, parts: &[CompletedPart]) -> Vec<PartNumber> {
        let has = |part: &CompletedPart| self.at_store.get(&part.number).is_some_and(|write| write.etag == part.etag);
        parts.iter().filter(|part| !has(part)).map(|part| part.number).collect()
    }

    /// An answer that was awaited.
    fn answer(&mut self, input: Input) {
        let ended = self.has_ended();
        match &input {
            Input::Filled { part, len, .. } if !ended => {
                let taken = self.credits[part];
                self.credits.insert(*part, if *len == 0 { 0 } else { taken.min(credits(&self.setup.config, *len)) });
            }
            Input::Sealed(sealed) => {
                self.held.insert(sealed.number, *sealed);
            }
            Input::Stored { part, attempt, etag, .. } if !ended => {
                assert_eq!(self.attempts.get(part), Some(attempt), "only the latest attempt is awaited");
                let before = self.chosen.insert(*part, etag.clone());
                assert_eq!(before, None, "part {part} is chosen twice");
                // The part in the tail is stored when all of the tail is: Complete comes next.
                if self.trailer.is_none() {
                    self.credits.remove(part);
                }
            }
            _ => {}
        }
        self.given.push(input.clone());
        self.tell(input);
    }

    /// Tells the machine something that may be.
    pub(super) fn tell(&mut self, input: Input) {
        if let Err(e) = self.machine.handle(self.now, input.clone()) {
            panic!("{input:?}: {e}");
        }
        if let Some(outcome) = &self.outcome {
            assert_eq!(Some(outcome), self.machine.outcome(), "there is one outcome");
        }
        self.outcome = self.machine.outcome().cloned();
        match &self.outcome {
            Some(Outcome::Completed(etag)) => {
                assert_eq!(self.published.as_ref(), Some(etag), "completed, but not published");
            }
            Some(Outcome::Kept(_)) => assert!(self.is_durable(), "kept, but nothing names it"),
            Some(Outcome::Aborted(_) | Outcome::AbortFailed(_)) => assert!(self.aborting, "given up without Abort"),
            Some(Outcome::NotStarted(_)) => assert!(self.durable.is_empty() && self.at_store.is_empty()),
            None => {}
        }
        self.check_credits();
    }

    fn has_ended(&self) -> bool {
        self.aborting || self.outcome.is_some()
    }

    fn body(&mut self, part: PartNumber, body: PutBody) -> (Vec<Span>, Option<SealedPart>) {
        match body {
            PutBody::Held(held) => {
                assert_eq!(held, part);
                (vec![self.whole(self.held[&held])], None)
            }
            PutBody::Sealing(source) => {
                assert_eq!(source, part);
                assert!(!self.setup.config.spool, "part {part} is sent without being held");
                let sealed = self.seal(source);
                (vec![self.whole(sealed)], Some(sealed))
            }
            PutBody::Tail { part: held_back, piece } => {
                let sealing = self.trailer.expect("the trailer is sealed before it is sent");
                let spans = self.end_of_body(held_back, sealing);
                let (from, to) = match piece {
                    TailPiece::Whole => (0, u64::MAX),
                    TailPiece::First(to) => (0, to),
                    TailPiece::Second(from) => (from, u64::MAX),
                };
                (cut(spans, from, to), None)
            }
        }
    }

    fn whole(&self, sealed: SealedPart) -> Span {
        Span { of: Sealing::Part(sealed), from: 0, to: self.plan.stored_len(sealed.len) }
    }

    /// The part that is held back, if one is, and the trailer.
    fn end_of_body(&self, held_back: Option<PartNumber>, sealing: usize) -> Vec<Span> {
        let mut spans: Vec<_> = held_back.map(|held_back| self.whole(self.held[&held_back])).into_iter().collect();
        if self.setup.trailer > 0 {
            spans.push(Span { of: Sealing::Trailer(sealing), from: 0, to: self.setup.trailer });
        }
        spans
    }

    /// Whether the machine may do without an upload.
    fn is_one_request(&self) -> bool {
        self.setup.config.one_request && self.plan.parts().is_some_and(|parts| parts <= 1)
    }

    /// A fresh sealing of a part.
    fn seal(&mut self, part: PartNumber) -> SealedPart {
        let sealing = self.sealings.entry(part).or_default();
        *sealing += 1;
        let mut salt = [0; 24];
        salt[0] = part.get() as u8;
        salt[1] = *sealing;
        let len = (self.setup.len - self.plan.offset(part)).min(self.plan.max_len(part));
        SealedPart { number: part, len, salt: Salt(salt), crc64: 0 }
    }

    fn land(&mut self, write: Write) {
        // An upload that was aborted or completed takes no more parts.
        if self.published.is_none() {
            self.at_store.insert(write.part, write);
        }
    }

    /// Complete as a store does it: `None` if a part has another ETag.
    fn publish(&mut self, parts: &[CompletedPart]) -> Option<ETag> {
        if self.published.is_some() {
            return self.published.clone();
        }
        let listed: Option<Vec<_>> = parts
            .iter()
            .map(|part| self.at_store.get(&part.number).filter(|write| write.etag == part.etag).cloned())
            .collect();
        self.check_body(&listed?);
        self.published = Some(ETag("object".into()));
        self.published.clone()
    }

    fn is_durable(&self) -> bool {
        matches!(self.durable.first(), Some(Record::Initiated { .. }))
    }

    fn runs(&self, op: Op) -> bool {
        self.running.iter().any(|running| running.op == op)
    }
}

fn len(write: &Write) -> u64 {
    write.spans.iter().map(|span| span.to - span.from).sum()
}

fn credits(config: &Config, len: u64) -> u32 {
    let stripes = len.div_ceil(STRIPE as u64).max(1) as u32;
    if stripes <= config.held { stripes } else { config.window }
}

/// The bytes `from..to` of `spans`.
fn cut(spans: Vec<Span>, from: u64, to: u64) -> Vec<Span> {
    let mut at = 0;
    let mut cut = Vec::new();
    for span in spans {
        let (start, end) = (at, at + span.to - span.from);
        at = end;
        let (first, last) = (from.clamp(start, end), to.clamp(start, end));
        if first < last {
            cut.push(Span { of: span.of, from: span.from + first - start, to: span.from + last - start });
        }
    }
    cut
}

//! What goes wrong: failures, answers that come late, a driver that misbehaves, a process that dies.

use super::*;

impl Model {
    /// The `n`-th piece of work that runs fails; where `done`, only its answer was lost, or comes `late`.
    pub(in super::super) fn fail(&mut self, n: usize, retry: Retry, done: bool, late: bool) {
        let Running { op, action, answer, write } = self.running.remove(n);
        match (write, &action) {
            (Some(write), _) if late => self.zombies.push(write),
            (Some(write), _) if done => self.land(write),
            (_, Action::Complete(parts)) if done => drop(self.publish(parts)),
            (_, Action::PutObject { .. }) if done || late => self.published = Some(ETag("object".into())),
            (_, Action::Save(record)) if done => {
                self.durable.append(&mut self.appended);
                self.durable.push(record.clone());
            }
            _ => {}
        }
        self.given.push(answer);
        // Whichever it is, nothing but the number of Puts in flight, and of retries, may depend on it.
        let (throttled, unreachable) = (done == late, !done && !late);
        self.answer(Input::Failed { op, retry, throttled, unreachable, jitter: u64::MAX / 2 });
    }

    /// `op` fails; where `done`, only its answer was lost.
    #[cfg(test)]
    pub(in super::super) fn fail_op(&mut self, op: Op, retry: Retry, done: bool) {
        let n = self.running.iter().position(|running| running.op == op).expect("it runs");
        self.fail(n, retry, done, false);
        self.begin_all();
    }

    /// `op` fails, as far as its driver can tell; the store takes it later.
    #[cfg(test)]
    pub(in super::super) fn fail_op_late(&mut self, op: Op) {
        let n = self.running.iter().position(|running| running.op == op).expect("it runs");
        self.fail(n, Retry::Yes, false, true);
        self.begin_all();
    }

    /// The store says that it lost `missing`. Its driver forgets all it held.
    pub(super) fn lose(&mut self, missing: Vec<PartNumber>) {
        self.held.clear();
        self.trailer = None;
        self.recorded.retain(|number| !missing.contains(number));
        // The tail is sent again, whether it is missing or not.
        self.chosen.retain(|number, _| self.recorded.contains(number));
        self.given.push(Input::Missing(missing.clone()));
        self.tell(Input::Missing(missing));
    }

    /// Repeats an answer, or gives the answer of an attempt that was given up on. Invariant 4: neither changes anything.
    pub(super) fn tell_late(&mut self, input: Input) {
        let op = input.answers().expect("it was an answer");
        // To work that runs it would be the answer, and of records without one it would tell that they failed.
        if self.runs(op) || (op == Op::Save && self.has_appended) {
            return;
        }
        if self.has_ended() {
            // Work that was dropped may be answered once more.
            let _ = self.machine.handle(self.now, input);
            assert_eq!(self.outcome.as_ref(), self.machine.outcome());
            return;
        }
        let before = format!("{:?}", self.machine);
        let result = self.machine.handle(self.now, input.clone());
        // Only a `Put` may be answered late. That other work is answered twice is its driver's mistake.
        assert_eq!(result.is_ok(), matches!(op, Op::Put { .. }), "{input:?}");
        assert_eq!(before, format!("{:?}", self.machine), "{input:?} changed the state");
    }

    /// Tells it something that cannot be.
    pub(super) fn misuse(&mut self, what: u8) {
        // Whether it has given up shows in what it asks for.
        while self.poll() {}
        let part = PartNumber::try_from(1 + u32::from(what / 8)).expect("1 to 32");
        let attempt = Attempt(self.attempts.get(&part).map_or(1, |attempt| attempt.0 + 1));
        let etag = ETag("forged".into());
        let input = match what % 8 {
            0 => Input::Stored { part, attempt, etag, sealed: None },
            1 => Input::Stored { part, attempt: Attempt(0), etag, sealed: None },
            2 => Input::Failed {
                op: Op::Put { upload_part: part, attempt },
                retry: Retry::No,
                throttled: true,
                unreachable: false,
                jitter: 0,
            },
            3 if (what / 8).is_multiple_of(2) && !self.runs(Op::PutObject) => Input::ObjectStored(etag),
            3 if !self.runs(Op::Complete) => Input::Completed(etag),
            4 if !self.runs(Op::Abort) => Input::Aborted,
            7 if self.runs(Op::Complete) => Input::Missing(vec![PartNumber::MAX]),
            // Of what is no longer awaited, the content is not looked at.
            _ if self.has_ended() => return,
            5 => Input::Sealed(SealedPart { number: part, len: u64::MAX, salt: Salt([0; 24]), crc64: 0 }),
            6 => Input::Filled { part, len: u64::MAX, last: true },
            7 => Input::TrailerSealed { len: if what / 8 == 0 && self.setup.trailer > 0 { 0 } else { u64::MAX } },
            _ => return,
        };
        let before = format!("{:?}", self.machine);
        assert!(self.machine.handle(self.now, input.clone()).is_err(), "{input:?} was taken");
        assert_eq!(before, format!("{:?}", self.machine), "misuse changed the state");
    }

    /// The process dies; `records` of those that were not synced survive, and where `lands` so does what was in flight.
    /// `false` if nothing can be resumed: then this world is as it was.
    pub(in super::super) fn kill(&mut self, records: usize, lands: bool) -> bool {
        if !self.is_durable() || self.plan.total().is_none() || self.aborting || self.published.is_some() {
            return false;
        }
        self.durable.extend(self.appended.drain(..records));
        self.appended.clear();
        for running in std::mem::take(&mut self.running) {
            match running.write {
                Some(write) if lands => self.land(write),
                Some(write) => self.zombies.push(write),
                None => {}
            }
        }
        self.held.clear();
        self.credits.clear();
        self.attempts.clear();
        self.chosen.clear();
        self.recorded.clear();
        self.has_appended = false;
        self.given.clear();
        self.trailer = None;
        self.outcome = None;

        let mut resumed = Resumed::default();
        for record in &self.durable {
            match record {
                Record::Initiated { .. } => {}
                Record::Part { sealed, etag, .. } => {
                    if self.at_store.get(&sealed.number).is_some_and(|write| write.etag == *etag) {
                        resumed.stored.push((*sealed, etag.clone()));
                        self.chosen.insert(sealed.number, etag.clone());
                        self.recorded.insert(sealed.number);
                    }
                }
                Record::Manifest(parts) => resumed.manifest = Some(parts.clone()),
            }
        }
        self.machine = Machine::resume(self.setup.config.clone(), self.plan.clone(), resumed)
            .expect("what was recorded can be resumed");
        true
    }

    pub(in super::super) fn land_zombie(&mut self) {
        if let Some(write) = self.zombies.pop() {
            self.land(write);
        }
    }

    /// The store loses a part.
    #[cfg(test)]
    pub(in super::super) fn forget(&mut self, part: PartNumber) {
        self.at_store.remove(&part);
    }
}

//! The promises that are checked with every step: the invariants of the machine, and the content of what is published.

use super::{Model, Sealing, Span, Write, len};
use crate::crypto::STRIPE;
use crate::store::CompletedPart;
use crate::types::{Attempt, PartNumber};
use crate::upload::{Config, Op, PutBody, Record};

impl Model {
    /// All of the object is in the one request, of the only manifest there ever is, and nothing else was begun.
    pub(super) fn check_object(&self, part: Option<PartNumber>) {
        assert!(self.is_one_request() && self.running.is_empty());
        assert!(self.durable.is_empty() && self.appended.is_empty() && self.at_store.is_empty());
        let trailer = self.trailer.expect("the trailer is sealed before it is sent");
        assert_eq!(trailer + 1, self.manifests.len(), "another manifest was sealed");
        let spans = self.end_of_body(part, trailer);
        self.check_content(&spans);
    }

    /// Invariant 1.
    pub(super) fn check_credits(&self) {
        let config = &self.setup.config;
        assert!(self.machine.credits_in_use() <= config.budget, "the budget is exceeded");
    }

    /// As the machine counts them, so are they counted here.
    pub(super) fn check_all_credits(&self) {
        if !self.has_ended() {
            let counted: u32 = self.credits.values().sum();
            assert_eq!(self.machine.credits_in_use(), counted, "{:?}", self.credits);
        }
    }

    /// Invariant 1, of what is held outside of memory: no more parts at a time than are sent, when `part` joins them.
    pub(super) fn check_spool(&self, part: PartNumber) {
        let Config { spool, held, max_in_flight, .. } = self.setup.config;
        if spool && self.plan.max_len(part) > u64::from(held) * STRIPE as u64 {
            assert!(self.credits.len() <= max_in_flight as usize, "too many parts in the spool: {:?}", self.credits);
        }
    }

    /// Invariants 2 and 3, and the commit point.
    pub(super) fn check_put(&mut self, part: PartNumber, attempt: Attempt, body: PutBody) {
        assert!(self.is_durable(), "the upload's record is durable before the first Put");
        let in_flight = self.running.iter().filter(|running| matches!(running.op, Op::Put { .. })).count();
        assert!(in_flight < self.setup.config.max_in_flight as usize, "too many Puts");
        let before = self.attempts.insert(part, attempt);
        assert_eq!(attempt.0, before.map_or(0, |before| before.0) + 1, "attempts are counted");
        assert!(!self.chosen.contains_key(&part), "part {part} is stored already");
        if matches!(body, PutBody::Tail { .. }) {
            let recorded = self.durable.iter().rev().find_map(|record| match record {
                Record::Manifest(parts) => Some(parts),
                _ => None,
            });
            assert_eq!(recorded, self.manifests.last(), "a manifest leaves before its record is durable");
        }
    }

    /// Invariant 5, and invariant 4: the list has what was chosen, whatever came later.
    pub(super) fn check_list(&self, parts: &[CompletedPart]) {
        assert!(self.running.is_empty(), "Complete comes last, and once");
        assert!(parts.iter().map(|part| part.number.get()).eq(1..=parts.len() as u32), "each part once, ascending");
        assert!(parts.iter().all(|part| self.chosen.get(&part.number) == Some(&part.etag)), "not the chosen attempts");
        assert_eq!(parts.len(), self.chosen.len(), "all that was chosen is listed");
    }

    /// The listed parts are what the store allows, and one after the other they are the object.
    pub(super) fn check_body(&self, parts: &[Write]) {
        let limits = &self.setup.config.limits;
        let (last, middle) = parts.split_last().expect("there is a part at least");
        let mut at = 0;
        for write in parts {
            assert_eq!(write.offset, at, "part {} is not where it was said to be", write.part);
            assert!(
                len(write) <= limits.max_part && (len(write) > 0 || self.setup.len == 0 && self.setup.trailer == 0)
            );
            at += len(write);
        }
        assert!(middle.iter().all(|write| len(write) >= limits.min_part), "a part is too short");
        if limits.equal_parts || self.setup.uniform {
            assert!(middle.windows(2).all(|pair| len(&pair[0]) == len(&pair[1])), "parts are not equal");
            let cut_tail = last.spans.iter().any(|span| span.from > 0);
            assert!(cut_tail || middle.is_empty() || last.spans.len() == 1 || len(last) <= len(&middle[0]));
        }

        let spans: Vec<_> = parts.iter().flat_map(|write| write.spans.clone()).collect();
        self.check_content(&spans);
    }

    /// What is published is what its manifest lists.
    pub(super) fn check_content(&self, spans: &[Span]) {
        let mut body: Vec<Span> = Vec::new();
        for span in spans {
            match body.last_mut() {
                Some(before) if before.of == span.of && before.to == span.from => before.to = span.to,
                _ => body.push(span.clone()),
            }
        }
        let trailer = match body.last() {
            Some(Span { of: Sealing::Trailer(trailer), .. }) => *trailer,
            _ if self.setup.trailer == 0 => self.manifests.len() - 1,
            _ => panic!("no trailer at the end"),
        };
        let mut expected: Vec<_> = self.manifests[trailer].iter().map(|part| self.whole(*part)).collect();
        if self.setup.trailer > 0 {
            expected.push(Span { of: Sealing::Trailer(trailer), from: 0, to: self.setup.trailer });
        }
        assert_eq!(body, expected, "the body is not what its manifest says");
    }
}

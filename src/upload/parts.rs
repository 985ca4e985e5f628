//! The sealed parts that are on their way to the store, and the memory they take.

use std::collections::BTreeMap;

use super::plan::PartPlan;
use super::protocol::{ApiMisuse, Config, MAX_TRAILER, SealedPart};
use crate::crypto::STRIPE;
use crate::types::PartNumber;

/// Parts between `Fill` and `Stored`.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// The part to fill next, once its credits are free. `None` while one is being filled, and after the last.
    next: Option<PartNumber>,
    active: BTreeMap<PartNumber, Part>,
}

#[derive(Clone, Debug)]
struct Part {
    /// Plaintext bytes.
    len: u64,
    credits: u32,
    stage: Stage,
}

/// What a part awaits.
#[derive(Clone, Debug)]
enum Stage {
    Filled,
    Sealed {
        hold_back: bool,
    },
    /// Stored, being sent as it was sealed; or, without a sealing, being sealed while it is sent.
    Stored(Option<SealedPart>),
    /// The trailer, to be sent with it.
    Trailer(SealedPart),
}

/// How a part that is filled gets to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// There is nothing to send.
    Empty,
    /// Sealed first, then sent.
    Hold,
    /// Sealed while it is sent.
    Stream,
}

impl Parts {
    pub(super) fn new(first: Option<PartNumber>) -> Self {
        Self { next: first, active: BTreeMap::new() }
    }

    /// Credits in use.
    pub(super) fn credits(&self) -> u32 {
        self.active.values().map(|part| part.credits).sum()
    }

    /// Takes the credits of the next part to fill, if they are free.
    pub(super) fn fill_next(&mut self, config: &Config, plan: &PartPlan) -> Option<PartNumber> {
        let number = self.next?;
        let len = plan.max_len(number);
        let credits = config.credits_for(len);
        if credits > config.budget - self.credits() {
            return None;
        }
        // Credits bound memory only. What stands in the spool's directory is bounded by how many parts there are.
        if config.is_spooled(len) && self.active.len() >= config.max_in_flight as usize {
            return None;
        }
        self.next = None;
        self.active.insert(number, Part { len, credits, stage: Stage::Filled });
        Some(number)
    }

    /// A part is filled; `next` is the one after it.
    pub(super) fn filled(
        &mut self,
        config: &Config,
        plan: &PartPlan,
        number: PartNumber,
        len: u64,
        last: bool,
        next: Option<PartNumber>,
    ) -> Result<Route, ApiMisuse> {
        let Some(part @ Part { stage: Stage::Filled, .. }) = self.active.get_mut(&number) else {
            return Err(ApiMisuse::UNASKED);
        };
        if len > part.len || (len < part.len && !last) {
            return Err(ApiMisuse("of a part of another length than planned"));
        }
        if len == 0 && number > PartNumber::MIN {
            return Err(ApiMisuse("of an empty part"));
        }
        if let Some(parts) = plan.parts()
            && (len != part.len || last != (number.get() == parts))
        {
            return Err(ApiMisuse("of a source of another length than planned"));
        }
        self.next = next;
        if len == 0 {
            self.active.remove(&number);
            return Ok(Route::Empty);
        }
        part.len = len;
        let hold_back = config.one_request || (last && plan.is_held_back(len, &config.limits));
        // A short last part may need fewer credits than were taken, never more: it is held in memory only where they
        // suffice. `check` has made sure that they do for a part that must be held back.
        part.credits = part.credits.min(config.credits_for(len));
        if config.spool || stripes(len) <= u64::from(config.held.min(part.credits)) {
            part.stage = Stage::Sealed { hold_back };
            Ok(Route::Hold)
        } else {
            part.stage = Stage::Stored(None);
            Ok(Route::Stream)
        }
    }

    /// A part is sealed and held. Says whether it is to be sent now, or held back.
    pub(super) fn sealed(&mut self, sealed: SealedPart) -> Result<bool, ApiMisuse> {
        let Some(part @ Part { stage: Stage::Sealed { .. }, .. }) = self.active.get_mut(&sealed.number) else {
            return Err(ApiMisuse::UNASKED);
        };
        if sealed.len != part.len {
            return Err(ApiMisuse("of a sealing of another length than the part has"));
        }
        let hold_back = matches!(part.stage, Stage::Sealed { hold_back: true });
        part.stage = if hold_back { Stage::Trailer(sealed) } else { Stage::Stored(Some(sealed)) };
        Ok(!hold_back)
    }

    /// Whether a part that is being sent is held, sealed.
    pub(super) fn is_held(&self, number: PartNumber) -> bool {
        matches!(self.active.get(&number), Some(Part { stage: Stage::Stored(Some(_)), .. }))
    }

    /// A part is stored: which sealing of it.
    pub(super) fn stored(&mut self, number: PartNumber, sent: Option<SealedPart>) -> Result<SealedPart, ApiMisuse> {
        let Some(Part { stage: Stage::Stored(held), len, .. }) = self.active.get(&number) else {
            return Err(ApiMisuse::UNASKED);
        };
        let sealed = match (held, sent) {
            (Some(held), None) => *held,
            (None, Some(sent)) if (sent.number, sent.len) == (number, *len) => sent,
            _ => return Err(ApiMisuse("of another sealing than the one that was sent")),
        };
        self.active.remove(&number);
        Ok(sealed)
    }

    /// Whether nothing is left but the part that is held back, if one is; and that part.
    pub(super) fn rest(&self) -> Option<Option<SealedPart>> {
        if self.next.is_some() {
            return None;
        }
        let mut parts = self.active.values();
        match (parts.next(), parts.next()) {
            (None, None) => Some(None),
            (Some(Part { stage: Stage::Trailer(sealed), .. }), None) => Some(Some(*sealed)),
            _ => None,
        }
    }
}

impl Config {
    /// This, with `one_request` only where `plan`'s object can be stored by one: a part that is held at most, and with its trailer no
    /// longer than the store takes at once.
    pub(super) fn for_plan(self, plan: &PartPlan) -> Self {
        let fits = plan.parts().is_some_and(|parts| parts <= 1) && {
            let len = plan.longest();
            let held = self.spool || stripes(len) <= u64::from(self.held);
            held && plan.stored_len(len).saturating_add(MAX_TRAILER) <= self.limits.max_part
        };
        Self { one_request: self.one_request && fits, ..self }
    }

    /// The credits that a part of `len` bytes takes.
    pub(crate) fn credits_for(&self, len: u64) -> u32 {
        match u32::try_from(stripes(len)) {
            Ok(stripes) if stripes <= self.held => stripes,
            _ => self.window,
        }
    }

    /// Whether a part that was planned with `len` bytes is held outside of memory.
    pub(crate) fn is_spooled(&self, len: u64) -> bool {
        self.spool && stripes(len) > u64::from(self.held)
    }
}

/// The stripes that `len` bytes fill; an empty part has one too.
pub(super) fn stripes(len: u64) -> u64 {
    len.div_ceil(STRIPE as u64).max(1)
}

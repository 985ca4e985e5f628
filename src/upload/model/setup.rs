//! What is uploaded, and the script of bytes that decides what happens meanwhile.

use std::time::Duration;

use crate::store::Limits;
use crate::types::PartNumber;
use crate::upload::{Config, PartPlan, RetryPolicy};

const MIB: u64 = 1 << 20;

/// What is uploaded, and how.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Bytes of the source.
    pub len: u64,
    /// Whether the machine knows them beforehand.
    pub known: bool,
    /// Bytes of the first part.
    pub part: u64,
    /// Bytes of the largest part, where they grow.
    pub largest: u64,
    /// Whether equal parts are asked for.
    pub uniform: bool,
    /// Bytes of the trailer; none where nothing is sealed.
    pub trailer: u64,
    /// The machine's.
    pub config: Config,
}

impl Setup {
    /// Three parts of 1 MiB, the last one shorter; everything else roomy.
    #[must_use]
    pub fn small() -> Self {
        let limits = Limits {
            min_part: 1,
            max_part: 5 << 30,
            max_parts: PartNumber::MAX,
            max_metadata: 2048,
            equal_parts: false,
        };
        let retry =
            RetryPolicy { attempts: 3, budget: 10, base: Duration::from_millis(100), cap: Duration::from_secs(1) };
        Self {
            len: 2 * MIB + 100,
            known: true,
            part: MIB,
            largest: MIB,
            uniform: false,
            trailer: 300,
            config: Config {
                limits,
                budget: 8,
                held: 2,
                window: 2,
                spool: false,
                max_in_flight: 8,
                find_in_flight: false,
                one_request: false,
                retry,
                keep_on_failure: false,
            },
        }
    }

    /// The plan, if there is one.
    ///
    /// # Errors
    /// As for [`PartPlan::known`] and [`PartPlan::unknown`].
    pub fn plan(&self) -> crate::Result<PartPlan> {
        let limits = &self.config.limits;
        let plan = if self.known {
            PartPlan::known(self.len, Some(self.part), self.uniform, limits)
        } else {
            PartPlan::unknown(Some(self.part), self.uniform, limits, self.largest)
        }?;
        if self.trailer == 0 { plan.unsealed(limits) } else { Ok(plan) }
    }

    pub(super) fn from_script(script: &mut Script<'_>) -> Option<Self> {
        let mut setup = Self::small();
        let sizes = [MIB, 3 * MIB / 2, 2 * MIB, 3 * MIB, 5 * MIB];
        setup.part = sizes[script.below(sizes.len())?];
        let parts = script.below(24)? as u64;
        setup.len = parts * setup.part + [0, 1, MIB / 3, setup.part - 1][script.below(4)?];
        let flags = script.next()?;
        setup.known = flags & 1 == 0;
        setup.uniform = flags & 2 != 0;
        setup.config.limits.equal_parts = flags & 4 != 0;
        setup.config.keep_on_failure = flags & 8 != 0;
        setup.largest = if flags & 16 != 0 { setup.part } else { 4 * setup.part };
        setup.config.spool = flags & 32 != 0;
        setup.config.limits.min_part = [1, MIB / 2, MIB][script.below(3)?];
        setup.trailer = [102, 5_000, MIB / 2, 0][script.below(4)?];
        setup.config.held = 1 + script.below(6)? as u32;
        setup.config.window = 1 + script.below(4)? as u32;
        setup.config.budget = setup.config.held.max(setup.config.window) + script.below(8)? as u32;
        setup.config.max_in_flight = 1 + script.below(4)? as u32;
        setup.config.find_in_flight = flags & 64 != 0;
        setup.config.one_request = flags & 128 != 0;
        setup.config.retry.attempts = 1 + script.below(4)? as u32;
        setup.config.retry.budget = script.below(12)? as u32;
        Some(setup)
    }
}

/// The choices of one run.
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl Script<'_> {
    pub(super) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn below(&mut self, n: usize) -> Option<usize> {
        Some(usize::from(self.next()?) % n)
    }
}

//! The async driver: uploads, resumes and reads, with worker threads for the CPU work and one memory budget for all of it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod abort;
mod buffers;
mod cipher;
mod control;
mod driver;
mod held;
mod identity;
mod ledger;
mod object;
mod options;
mod read;
mod reader_io;
mod recheck;
mod retries;
mod rewrap;
#[cfg(test)]
mod scale;
mod seal;
mod slab;
mod spool;
mod stream;
mod upload;
mod workers;

pub use abort::forget_damaged;
pub use control::{Cancel, OnCancel, Progress, ProgressCallback};
pub use ledger::{PendingUpload, UploadEntry, UploadState, list_uploads};
pub use object::{Note, ObjectSealer, PartRecord, Sealing};
pub use options::{Protection, ResumeOptions, UploadOptions};
pub use read::{GetOptions, ReadOptions, Reader, UnsealedReader, Verified, Written, partial_path};
pub use reader_io::ObjectReader;
pub use rewrap::{CmkId, Remove, RewrapOptions, RewrapOutcome, Rewrapped};
pub use upload::Uploaded;

use crate::crypto::{Backend, SEALED_STRIPE, STRIPE};
use crate::error::{Error, ErrorKind, Result};

/// Seals uploads and opens objects. Cheap to clone: clones share the threads and the memory budget.
///
/// ```
/// # fn main() -> sealift::Result<()> {
/// let engine = sealift::Engine::builder().threads(2).memory_budget(64 << 20).build()?;
/// assert_eq!(engine.threads(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

/// What everything that runs on one engine shares.
pub(crate) struct Shared {
    pub(crate) backend: Backend,
    pub(crate) workers: workers::Workers,
    pub(crate) buffers: Arc<buffers::Buffers>,
    jitter: Option<AtomicU64>,
    pub(crate) outage: retries::Outage,
}

impl Shared {
    /// Stripes that a part, or a span being read, may have to be held whole: a quarter of the budget.
    pub(crate) fn held_stripes(&self) -> u32 {
        (self.buffers.total() / 4).max(1)
    }

    /// A number that spreads out retries.
    pub(crate) fn jitter(&self) -> Result<u64> {
        if let Some(state) = &self.jitter {
            // SplitMix64: any spread will do, as long as it is the same for the same seed.
            let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            return Ok(z ^ (z >> 31));
        }
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(Error::no_randomness)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl Engine {
    /// An engine to be configured.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            threads: None,
            memory_budget: EngineBuilder::DEFAULT_MEMORY_BUDGET,
            backend: None,
            simulation: None,
        }
    }

    /// How many threads seal and open.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.workers.threads()
    }

    /// What computes AES-256-GCM.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.0.backend
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("threads", &self.threads())
            .field("credits", &self.0.buffers.total())
            .field("backend", &self.backend())
            .finish()
    }
}

/// A worker has memory of its own, and a stripe of a stream's plaintext may wait for it. One more stripe is being read.
const PER_THREAD: u64 = (workers::Scratch::LEN + STRIPE) as u64;

/// How many threads `bytes` are enough for, at least one.
fn threads_in(bytes: u64) -> usize {
    usize::try_from(bytes.saturating_sub(STRIPE as u64) / PER_THREAD).unwrap_or(usize::MAX).max(1)
}

/// Configures an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineBuilder {
    threads: Option<usize>,
    memory_budget: u64,
    backend: Option<Backend>,
    simulation: Option<u64>,
}

impl EngineBuilder {
    /// 256 MiB.
    pub const DEFAULT_MEMORY_BUDGET: u64 = 256 << 20;

    /// How many threads seal and open. Default: one for each core, but no more than half of the memory budget is enough for.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The most memory, in bytes, that all uploads and reads on this engine together take for data. Default: 256 MiB.
    ///
    /// Whoever reads more slowly than the network, or writes to a slow store, is made to wait; nothing grows. A stream being uploaded takes
    /// a MiB for each thread and one more on top, for plaintext that waits to be sealed; those of one stream are in the budget. A reader of
    /// an object of up to 64 KiB, sealed, keeps that on top.
    #[must_use]
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// What computes AES-256-GCM. Default: [`Backend::default`].
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// For simulations: no threads of its own, and a course of events that `seed` settles. Slow.
    #[doc(hidden)]
    #[must_use]
    pub fn simulation(mut self, seed: u64) -> Self {
        self.simulation = Some(seed);
        self
    }

    /// Starts the worker threads.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for 0 or more than 1,024 threads, [`LimitExceeded`](ErrorKind::LimitExceeded) if the
    /// memory budget is too small for so many, [`Io`](ErrorKind::Io) if threads cannot be started.
    pub fn build(self) -> Result<Engine> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = self.threads.unwrap_or_else(|| cores.min(threads_in(self.memory_budget / 2)));
        if !(1..=1024).contains(&threads) {
            return Err(Error::new(ErrorKind::InvalidInput, "an engine has 1 to 1,024 threads"));
        }
        let workers = workers::Workers::start(if self.simulation.is_some() { 0 } else { threads })?;
        let overhead = threads as u64 * PER_THREAD + STRIPE as u64;
        let credits = self.memory_budget.saturating_sub(overhead) / SEALED_STRIPE as u64;
        if credits < 4 {
            let needed = (overhead + 4 * SEALED_STRIPE as u64).div_ceil(1 << 20);
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "a memory budget of {} bytes is too small for {threads} threads: give at least {needed} MiB",
                    self.memory_budget
                ),
            ));
        }
        Ok(Engine(Arc::new(Shared {
            backend: self.backend.unwrap_or_default(),
            workers,
            jitter: self.simulation.map(AtomicU64::new),
            outage: retries::Outage::default(),
            buffers: buffers::Buffers::new(u32::try_from(credits).unwrap_or(u32::MAX)),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_many_cores_keep_to_the_budget() {
        assert_eq!(threads_in(EngineBuilder::DEFAULT_MEMORY_BUDGET / 2), 42);
        assert_eq!(threads_in(0), 1);
        let small = |threads| Engine::builder().threads(threads).memory_budget(32 << 20).build();
        assert!(small(8).is_ok());
        let error = small(10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("give at least 36 MiB"), "{error}");
    }
}

//! The multipart upload as a pure state machine: no I/O, no clock, no randomness, no cryptography.
//!
//! A [`Machine`] is told facts by [`handle`](Machine::handle) and gives work by [`poll_action`](Machine::poll_action).
//! Whoever drives it does the work, in any order and as parallel as it likes, and tells what came of it.
//!
//! ```text
//! Initiate → Save(Initiated) → Fill, Seal, Put of every part → SealTrailer → Save(Manifest) → Put of the tail → Complete
//!                                        ╰──────────── on failure or Cancel ────────────╯ → Abort, or kept for resume
//! ```
//!
//! An object that is one part, and that part held, needs no upload: Fill, Seal, SealTrailer → PutObject. One request makes it or does not,
//! and is repeated with the same bytes; there is nothing to record, to abort or to resume.
//!
//! An object that is not sealed ([`PartPlan::unsealed`]) goes the same way, with an empty trailer: where its parts are sent, there is no
//! tail, and what Save(Manifest) records is the list of its parts.
//!
//! # What it guarantees
//! 1. Memory credits are taken before `Fill` and returned when the bytes are stored or given up: never more than the
//!    budget are in use.
//! 2. The record with the upload's id is durable before the first `Put`.
//! 3. A retry sends the same bytes if they are still held; otherwise it seals afresh. Either is a new attempt.
//! 4. A late or repeated `Stored` cannot replace the ETag that was chosen.
//! 5. `Complete` lists each part once, ascending, and is acted on once.
//! 6. There is exactly one outcome; every failure after `Initiated` goes through `Abort` or is kept for resume.
//!
//! `Put`s run at most [`Config::max_in_flight`] at once; fewer where fewer are as fast, and while the store asks for fewer.
//!
//! And the commit point: the manifest is sealed only once every part outside the tail is stored and recorded, and no
//! byte of it leaves before the record of what it lists is durable.
//!
//! # Attempts
//! Of the attempts at a part only the latest counts, and only until it is answered. An attempt that failed, as far as
//! the driver could tell, is over: should the store have taken it all the same, the next attempt replaces it there, and
//! a `Stored` that comes late is ignored. So the salt in the manifest and the ETag in the list are of one attempt.
//!
//! An attempt that was given up may still land after its successor and replace it. Then the store has another ETag than the list, and
//! Complete is refused. Where the source can be read again, the driver says so by [`Input::Missing`], the parts concerned are sealed and
//! sent once more, and with them a new manifest, as a resumed upload does it; at most three times.
//!
//! # The tail
//! The last upload part must hold the trailer. A last sealed part that is too short to be a part in the middle is held
//! back and sent followed by the trailer; where parts must be equal and the two are longer than the others, they are
//! cut at the common size. Otherwise the trailer alone is the last upload part.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use sealift::upload::{Action, Config, Input, Machine, PartPlan, RetryPolicy};
//! # use sealift::{PartNumber, UploadId};
//! # use sealift::store::Limits;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let limits = Limits {
//! #     min_part: 5 << 20, max_part: 5 << 30, max_parts: PartNumber::MAX, max_metadata: 2048, equal_parts: false,
//! # };
//! let plan = PartPlan::known(40 << 20, None, false, &limits)?;
//! let config = Config {
//!     limits, budget: 64, held: 16, window: 8, spool: false, one_request: true, max_in_flight: 4, find_in_flight: false, retry: RetryPolicy::default(), keep_on_failure: false,
//! };
//! let mut machine = Machine::new(config, plan)?;
//! assert_eq!(machine.poll_action(), Some(Action::Initiate));
//! assert_eq!(machine.poll_action(), None); // nothing else until the store has answered
//! machine.handle(Instant::now(), Input::Initiated(UploadId("id".into())))?;
//! assert!(matches!(machine.poll_action(), Some(Action::Save(_))));
//! machine.handle(Instant::now(), Input::Saved)?;
//! assert_eq!(machine.poll_action(), Some(Action::Fill(PartNumber::MIN)));
//! # Ok(())
//! # }
//! ```

mod flow;
mod machine;
mod parts;
mod plan;
mod protocol;
mod retry;
mod tail;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod model;
#[cfg(test)]
mod tests;

pub(crate) use flow::Flow;
pub use machine::{Machine, Resumed};
pub use plan::PartPlan;
pub use protocol::{Action, ApiMisuse, Config, Input, Op, Outcome, PutBody, Record, SealedPart, TailPiece, Why};
pub use retry::RetryPolicy;

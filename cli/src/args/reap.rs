//! `uploads reap`.

use std::time::Duration;

use clap::{Args, ValueHint};

use super::{Json, StoreArgs};
use crate::duration::parse_duration;
use crate::url::Location;

/// Give up every upload that no process works on any more, and remove its parts
///
/// Those are the uploads that `uploads list` shows as interrupted or damaged: none of them can be resumed afterwards. With a URL, only
/// those to there, and in addition the uploads that the store has in progress there and no ledger here knows. Those may be another
/// machine's, so only old ones are given up. An upload that is running here is never touched, and an object never removed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealift uploads reap --dry-run                         what would be given up
  sealift uploads reap --older-than 7d                   only what nobody went on with for a week
  sealift uploads reap s3://bucket/backup                also what another machine began there, more than a week ago
  sealift uploads reap s3://bucket/backup --older-than 0s
                                                         whatever its age: make sure that nobody is uploading")]
pub(crate) struct UploadsReap {
    /// Only uploads to here and below, and those too that only the store knows
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Option<Location>,
    /// Leave alone what is younger, such as 12h or 7d [default: 0s for uploads of this machine, 7d for others]
    ///
    /// An upload of this machine is as old as the last thing that was recorded of it; another is counted from when it was begun.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) older_than: Option<Duration>,
    /// Only say what would be given up
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) json: Json,
}

//! `doctor`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{Json, StoreArgs};
use crate::url::Location;

/// Check a store, the keys and this machine, and say what is wrong
///
/// One line for each check, with what to do where it is not ok. In the store, objects of a few bytes and one of about twice its smallest
/// part are written below a temporary name beside URL, read and removed again: credentials, clock, bucket, permissions, and what the
/// store keeps of its promises. No secret is shown, and nothing else is changed. Ends with the exit code of the first check that failed:
/// 7 for store or machine, 5 for a key, 3 for what is not there.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealift doctor s3://bucket/backup --profile work
  sealift doctor oss://bucket --region cn-hangzhou
  sealift doctor /backup --kms-key vault:uploads
  sealift doctor                                   only the keys and this machine")]
pub(crate) struct Doctor {
    /// Where objects are, or will be; without it, no store is looked at
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Option<Location>,
    /// Also wrap a data key for this key, and unwrap it again; named as for `put`; may be repeated
    #[arg(long, value_name = "[SERVICE:]KEY", help_heading = "Keys")]
    pub(crate) kms_key: Vec<String>,
    /// Also read the key in this file; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Keys", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) json: Json,
}

//! `rewrap`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

use super::{Output, StoreArgs, parse_pair};
use crate::url::Location;

const EXAMPLES: &str = concat!(
    "\
Examples:
  sealift rewrap /backup/db.tar --kms-key alias/new                    one more key opens it
  sealift rewrap /backup/db.tar --kms-key alias/new --only             no other key opens it any more
  sealift rewrap /backup/db.tar --remove alias/old                     one key less
  sealift rewrap /backup --recursive --kms-key alias/new --remove alias/old --dry-run
  sealift rewrap /backup/db.tar --key-file new.key --only --open-with-key-file old.key

",
    urls!()
);

/// Give objects to other keys, without writing their data
///
/// Each object's data key is unwrapped with a key that opens it now, and wrapped for the keys named here; only the envelope is replaced.
/// An object that is as asked already is left alone, so a run that was interrupted, or that failed for some objects, is simply run
/// again. What somebody else overwrites meanwhile is not touched.
///
/// This takes nothing back: whoever could open an object before may have kept its data key, and a store its old envelope.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(["kms_key", "key_file", "remove"])))]
pub(crate) struct Rewrap {
    /// The object; with --recursive, a directory or a prefix
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,
    /// Rewrap every sealed object in this directory and below, or under this prefix; what was not sealed is left alone
    ///
    /// What fails is listed at the end, and does not keep the others from being done.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Write nothing, and print what would change
    ///
    /// All else is done, key services are asked as well: what would fail, fails.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// How many objects to work on at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,

    /// Add this key, named as for `put`; may be repeated
    #[arg(long, value_name = "[SERVICE:]KEY", help_heading = "Keys to open it from now on")]
    pub(crate) kms_key: Vec<String>,
    /// Add the key in this file: exactly 32 bytes, or their base64; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Keys to open it from now on", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Vec<PathBuf>,
    /// Remove this key: an alias of the local key store, or an id as `sealift stat` shows it; may be repeated
    ///
    /// Where two services have a key of that id, SERVICE:ID means one of them. Objects that it does not open stay as they are. The last
    /// key of an object is not removed.
    #[arg(long, value_name = "OLD", help_heading = "Keys to open it from now on", conflicts_with = "only")]
    pub(crate) remove: Vec<String>,
    /// Remove all keys but those that are added here
    #[arg(long, help_heading = "Keys to open it from now on")]
    pub(crate) only: bool,

    /// Only open with this key, named as for `get` [default: every key of the local key store]; may be repeated
    #[arg(long, value_name = "[SERVICE:]KEY", help_heading = "Keys that open it now")]
    pub(crate) open_with: Vec<String>,
    /// Also open with the key in this file; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Keys that open it now", value_hint = ValueHint::FilePath)]
    pub(crate) open_with_key_file: Vec<PathBuf>,
    /// Demand that the object was sealed with this pair; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, help_heading = "Keys that open it now")]
    pub(crate) encryption_context: Vec<(String, String)>,
    /// Demand that the object is bound to this very name (put --bind)
    #[arg(long, help_heading = "Keys that open it now")]
    pub(crate) bound: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

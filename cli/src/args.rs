//! The command line, as clap reads it. Its comments are the program's help, completions and man pages.

mod kms;
#[cfg(feature = "gateway")]
mod serve;
mod shared;
mod uploads;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use sealift::ByteRange;

use crate::url::Location;
pub(crate) use kms::*;
#[cfg(feature = "gateway")]
pub(crate) use serve::{LogFormat, Serve};
pub(crate) use shared::{EngineArgs, Json, Keys, Output, ReadMode, ReaderKeys, StoreArgs};
use shared::{backend_parser, parse_pair};
pub(crate) use uploads::{Uploads, UploadsAbort, UploadsList, UploadsResume};

const EXAMPLES: &str = "\
Examples:
  sealift put holiday.mov /backup/holiday.mov      seal a file into the directory /backup
  sealift get /backup/holiday.mov copy.mov         open it again, where the key store is
  sealift cat /backup/db.tar --range 0-511         only its first 512 bytes
  tar c photos | sealift put - /backup/photos.tar  seal what comes through a pipe
  sealift verify /backup/holiday.mov               check that all of it is whole
  sealift uploads list                             uploads that were interrupted
  sealift bench --quick                            how fast it is on this machine

What to back up: the key store (`sealift kms export-backup FILE`), and with every
object the folder `.sealift` beside it. Without either, objects cannot be opened.

Environment:
  SEALIFT_HOME      where key store and upload ledgers are
                    (default: the platform's data directory, ~/.local/share/sealift on Linux);
                    config.toml there, else in ~/.config/sealift, has defaults for flags
  SEALIFT_ROOT_KEY  root key of the key store, 32 bytes in base64, instead of its file root.key
  AWS_…, ALIBABA_CLOUD_…, VAULT_… or BAO_…, SEALIFT_PKCS11_PIN
                    credentials and addresses of key services, as their own tools take them
  AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...
                    for s3://, as AWS's own tools know them
  OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN, OSS_REGION, OSS_ENDPOINT
                    for oss://, as ossutil knows them; or ALIBABA_CLOUD_ACCESS_KEY_ID and so on
  RUST_LOG          what to log to stderr, such as `sealift=debug`

Exit codes:
  0 done                        4 not sealed, or authentication failed
  1 something else              5 key unavailable
  2 wrong usage                 6 source changed while it was read
  3 not found                   7 store or input/output failed
                                130 interrupted";

macro_rules! urls {
    () => {
        "\
URLs:
  /dir/name, dir/name      the object is the plain file at exactly this path;
                           everything else about it is in the folder `.sealift` beside it
  file:///dir/name         the same, with %20 and the like for special characters
  s3://bucket/key          an object in Amazon S3 or in a store that speaks its protocol (--endpoint);
                           credentials are found as AWS's own tools find them
  oss://bucket/key         an object in Alibaba Cloud OSS; --region or --endpoint says where
  discard:                 only for put: count the bytes and drop them, to measure"
    };
}

const URLS: &str = urls!();

// Below the macro, which it uses.
mod bench;
mod doctor;
mod put;
mod reap;
mod rewrap;
mod sse;
mod tree;

pub(crate) use bench::{Bench, Group};
pub(crate) use doctor::Doctor;
pub(crate) use put::{Checksum, Put};
pub(crate) use reap::UploadsReap;
pub(crate) use rewrap::Rewrap;
pub(crate) use sse::{Sse, SseArgs, SseSet};
pub(crate) use tree::{GetSealing, GetTree, PutSealing, PutTree, ResumeSealing};

const CAT: &str = concat!(
    "\
Examples:
  sealift cat /backup/photos.tar | tar x
  sealift cat /backup/disk.img --range 0-511       the first 512 bytes
  sealift cat /backup/disk.img --range -512        the last 512 bytes

",
    urls!()
);

const VERIFY: &str = concat!(
    "\
Examples:
  sealift verify /backup/disk.img                      before relying on it
  sealift verify /backup/disk.img --against disk.img   before removing the original

",
    urls!()
);

/// Encrypts files on their way into storage, in parallel and authenticated, and opens them again, whole or in part.
///
/// Each object has a data key of its own. It travels with the object, wrapped by a master key from your key store (made on
/// first use) or from a key file you bring.
#[derive(Debug, Parser)]
#[command(name = "sealift", version, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(subcommand_required = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Say more on stderr; twice: still more. RUST_LOG takes precedence.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Put(Box<Put>),
    Get(Get),
    Cat(Cat),
    Stat(Stat),
    Verify(Verify),
    Ls(Ls),
    Rm(Rm),
    /// Copy an object, body and envelope together, within one store
    ///
    /// Copies are made of the sealed bytes: no key is needed, and the copy opens with the same keys. What is at DST is replaced
    /// unless --if-not-exists is given. An object bound to its name (put --bind) cannot have another one.
    #[command(after_help = URLS)]
    Cp(Copy),
    /// Move or rename an object, body and envelope together, within one store
    ///
    /// Works like `cp` followed by `rm`.
    #[command(after_help = URLS)]
    Mv(Copy),
    Rewrap(Rewrap),
    /// Change how Alibaba Cloud OSS encrypts objects on its side
    #[command(subcommand, arg_required_else_help = true)]
    Sse(Sse),
    /// List, resume, abort and clear away interrupted uploads
    #[command(subcommand, arg_required_else_help = true)]
    Uploads(Uploads),
    Doctor(Doctor),
    DataKey(DataKey),
    #[cfg(feature = "gateway")]
    Serve(Serve),
    /// Look after the local key store
    #[command(subcommand, arg_required_else_help = true)]
    Kms(Kms),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
}

/// Open an object into a file
///
/// The file appears when all of it was authenticated and is on disk, and not before. `-` is stdout, as in `cat`.
#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub(crate) struct Get {
    /// The object
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,
    /// The file to write; `-` is stdout
    #[arg(value_name = "DEST", value_hint = ValueHint::FilePath)]
    pub(crate) dest: PathBuf,
    /// Replace DEST if it exists
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) sealing: GetSealing,
    #[command(flatten)]
    pub(crate) tree: GetTree,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) keys: ReaderKeys,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Open an object, or a range of it, to stdout
///
/// Every byte is authenticated before it is printed. If something is wrong further on, what was printed before is genuine but not
/// all there is: look at the exit code.
#[derive(Args, Debug)]
#[command(after_help = CAT)]
pub(crate) struct Cat {
    /// The object
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,
    /// Only these bytes, first and last included, as in HTTP: FIRST-LAST, FIRST- or -SUFFIX (the last SUFFIX bytes)
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub(crate) range: Option<ByteRange>,
    #[command(flatten)]
    pub(crate) sealing: GetSealing,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) keys: ReaderKeys,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Show what is known of an object
///
/// Lengths and parts are sealed, so this needs a key. Without one, it shows what the envelope says in the clear (nobody
/// vouches for that) and ends with exit code 5.
#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub(crate) struct Stat {
    /// The object
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) keys: ReaderKeys,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Open all of an object and write nothing
///
/// Every chunk is authenticated, recorded checksums are compared, and every recipient whose key is at hand is tried.
#[derive(Args, Debug)]
#[command(after_help = VERIFY)]
pub(crate) struct Verify {
    /// The object
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,
    /// Also compare with this file; a difference is exit code 1, with the first offset that differs. `-` is stdin
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) against: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sealing: GetSealing,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) keys: ReaderKeys,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// List the objects in a directory and below
///
/// Shows the length as stored, sealed, the time of the last change, and the name. Whether each is sealed is not looked at.
#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub(crate) struct Ls {
    /// The directory, or one object
    #[arg(value_name = "URL", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) url: Location,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Remove an object, body and envelope
///
/// Refuses files that Sealift did not store.
#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub(crate) struct Rm {
    /// The object
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Copy {
    /// The object
    #[arg(value_name = "SRC_URL", value_hint = ValueHint::AnyPath)]
    pub(crate) source: Location,
    /// Its new place
    #[arg(value_name = "DST_URL", value_hint = ValueHint::AnyPath)]
    pub(crate) dest: Location,
    /// Fail if there is an object at DST_URL already, instead of replacing it
    #[arg(long)]
    pub(crate) if_not_exists: bool,

    #[command(flatten)]
    pub(crate) sse: SseArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Print the data key of an object, in hex
///
/// For escrow, and for other programs that read the format (FORMAT.md). Whoever has the data key can read that object, and can
/// forge it, for ever.
#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub(crate) struct DataKey {
    /// The object
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) keys: ReaderKeys,
}

/// Print shell completions to stdout
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sealift completions bash > ~/.local/share/bash-completion/completions/sealift")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the man page to stdout, or write all of them into a directory
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sealift man --out-dir ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Write the pages of all commands here
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}

//! The command line, as clap reads it. Its comments are the program's help, completions and man pages.

mod kms;
#[cfg(feature = "gateway")]
mod serve;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use sealift::ByteRange;
use sealift::crypto::Backend;

use crate::size::parse_size;
use crate::url::Location;
pub(crate) use kms::*;
#[cfg(feature = "gateway")]
pub(crate) use serve::{LogFormat, Serve};

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
mod reap;
mod rewrap;
mod sse;
mod tree;

pub(crate) use bench::{Bench, Group};
pub(crate) use doctor::Doctor;
pub(crate) use reap::UploadsReap;
pub(crate) use rewrap::Rewrap;
pub(crate) use sse::{Sse, SseArgs, SseSet};
pub(crate) use tree::{GetSealing, GetTree, PutSealing, PutTree, ResumeSealing};

const PUT: &str = concat!(
    "\
Examples:
  sealift put report.pdf /backup/report.pdf
  tar c photos | sealift put - /backup/photos.tar
  sealift put report.pdf /backup/report.pdf --key-file my.key     no key store: bring your own key
  sealift put disk.img /backup/disk.img --metadata host=web1      a note, stored in the clear
  sealift put -r photos s3://bucket/photos --exclude '*.tmp'      every file of a directory
  sealift put disk.img oss://bucket/disk.img --no-seal --sse KMS  not sealed: the store encrypts it
  sealift put disk.img discard:                                   how fast is it here?

",
    urls!()
);

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

/// Seal a file or stdin and store it
///
/// What is at URL is replaced in one step at the very end, or not at all. If the upload of a file is interrupted, it is kept, and
/// `sealift uploads resume` goes on with it. On first use, a key store is made and you are told to back it up.
#[derive(Args, Debug)]
#[command(after_help = PUT)]
pub(crate) struct Put {
    /// The file to seal; `-` is stdin
    #[arg(value_name = "SRC", value_hint = ValueHint::FilePath)]
    pub(crate) source: PathBuf,
    /// Where to store it
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,
    /// Fail if there is an object already, instead of replacing it
    #[arg(long)]
    pub(crate) if_not_exists: bool,
    #[command(flatten)]
    pub(crate) sealing: PutSealing,
    #[command(flatten)]
    pub(crate) tree: PutTree,

    /// Seal for this key [default: alias/default of the local key store]; may be repeated
    ///
    /// An id or alias of the local key store, or a key of another service: an ARN of AWS (arn:aws:kms:…) or Alibaba Cloud
    /// (acs:kms:…), aws:ID, aliyun:ID, vault:[MOUNT/]NAME for OpenBao and Vault, a PKCS #11 URI (pkcs11:…), or rsa:FILE for a public
    /// key whose private half is kept elsewhere. Each of several keys, and each --key-file, can open the object alone.
    #[arg(long, value_name = "[SERVICE:]KEY", help_heading = "Keys")]
    pub(crate) kms_key: Vec<String>,
    /// Seal for the key in this file: exactly 32 bytes, or their base64; may be repeated
    ///
    /// The local key store is then left alone, unless --kms-key is given too. To make a key file:
    /// `(umask 077; head -c 32 /dev/urandom > FILE)`.
    #[arg(long, value_name = "FILE", help_heading = "Keys", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Vec<PathBuf>,
    /// A pair that whoever opens the object can demand; may be repeated. It is stored in the clear
    ///
    /// The wrapped data key is bound to these pairs, so nobody can change them.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, help_heading = "Keys")]
    pub(crate) encryption_context: Vec<(String, String)>,
    /// Bind the object to its name: it opens under no other, so it cannot be renamed
    #[arg(long, help_heading = "Keys")]
    pub(crate) bind: bool,

    /// Metadata of your own; may be repeated. It is stored in the clear, not encrypted and not authenticated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Media type that the store shows for the object. Stored in the clear
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// How the store is to keep the object, such as STANDARD_IA, where it has several ways
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub(crate) storage_class: Option<String>,
    /// A tag for the store's own rules and bills, where it has tags; may be repeated. Stored in the clear
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, help_heading = "Store")]
    pub(crate) tag: Vec<(String, String)>,
    /// Size of a part, such as 16M [default: 16M, more where the object needs it]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) part_size: Option<u64>,
    /// Keep all parts but the last at one size, for stores that want that
    #[arg(long)]
    pub(crate) uniform_parts: bool,
    /// Directory for the parts of a stream that are larger than a quarter of the memory budget, sealed, until they are stored
    ///
    /// Needed for streams of more than about 600 GiB, or 9,999 times a quarter of --memory-budget, and for a --part-size larger than
    /// that quarter. Only ciphertext is written there, to files without a name that are gone with this command. It needs room for
    /// 8 parts, which grow to 5 GiB in a stream of many TiB. Files need none: they are read again.
    #[arg(long, value_name = "DIR", help_heading = "Resources", value_hint = ValueHint::DirPath)]
    pub(crate) spool_dir: Option<PathBuf>,
    /// How many parts are sent at once [default: as many as make it faster]
    ///
    /// As far as --memory-budget allows. By default it begins with 8, takes more as long as that is faster, and less while the store
    /// asks for that.
    #[arg(long, help_heading = "Resources", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) concurrency: Option<u32>,
    /// Record checksums of the plaintext, encrypted, in the object: crc64 costs up to a quarter of the speed
    #[arg(long, value_enum, default_value_t = Checksum::None)]
    pub(crate) checksum: Checksum,
    /// How to read the file
    #[arg(long, value_enum, default_value_t = ReadMode::Auto)]
    pub(crate) read_mode: ReadMode,
    /// On Ctrl-C or failure, remove what was uploaded, instead of keeping it to be resumed
    #[arg(long)]
    pub(crate) abort_on_interrupt: bool,

    #[command(flatten)]
    pub(crate) sse: SseArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) output: Output,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Uploads {
    /// List the uploads that have not ended
    List(UploadsList),
    Resume(UploadsResume),
    /// Give up an interrupted upload and remove its parts; needs no key
    Abort(UploadsAbort),
    Reap(UploadsReap),
}

#[derive(Args, Debug)]
pub(crate) struct UploadsList {
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Go on with an interrupted upload
///
/// The source must be what it was. Parts that are stored already are not sent again.
#[derive(Args, Debug)]
pub(crate) struct UploadsResume {
    /// Id of the upload, or an unambiguous beginning of it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// How to read the file
    #[arg(long, value_enum, default_value_t = ReadMode::Auto)]
    pub(crate) read_mode: ReadMode,
    /// Read again what was uploaded, and compare it with the checksums that `put --checksum crc64` recorded
    ///
    /// Without it, length, times and inode of the file tell whether it changed.
    #[arg(long)]
    pub(crate) verify_source: bool,
    #[command(flatten)]
    pub(crate) sealing: ResumeSealing,
    /// On Ctrl-C or failure, remove what was uploaded, instead of keeping it to be resumed
    #[arg(long)]
    pub(crate) abort_on_interrupt: bool,
    /// How many parts are sent at once [default: as many as make it faster]
    #[arg(long, help_heading = "Resources", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) concurrency: Option<u32>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) keys: Keys,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct UploadsAbort {
    /// Id of the upload, or an unambiguous beginning of it
    #[arg(value_name = "ID")]
    pub(crate) id: String,

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

/// Which keys a reader may use.
#[derive(Args, Debug)]
pub(crate) struct Keys {
    /// Only trust this key [default: every key of the local key store]; may be repeated
    ///
    /// Named as for `put`; rsa:FILE is the private key here. Keys of other services are only tried if they are named, because a store
    /// could forge objects under keys of its own. aws:any, aliyun:any and vault:any trust every key that the service lets you use.
    #[arg(long, value_name = "[SERVICE:]KEY", help_heading = "Keys")]
    pub(crate) kms_key: Vec<String>,
    /// Also trust the key in this file: exactly 32 bytes, or their base64; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Keys", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Vec<PathBuf>,
}

/// Which keys a reader may use, and what it demands.
#[derive(Args, Debug)]
pub(crate) struct ReaderKeys {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Demand that the object was sealed with this pair; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, help_heading = "Keys")]
    pub(crate) encryption_context: Vec<(String, String)>,
    /// Demand that the object is bound to this very name (put --bind)
    #[arg(long, help_heading = "Keys")]
    pub(crate) bound: bool,
}

/// Where a bucket is, for what environment and profile do not say.
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArgs {
    /// Where the store of the bucket is, such as https://s3.example.com [default: what AWS_ENDPOINT_URL or the profile says, or AWS]
    #[arg(long, value_name = "URL", help_heading = "Store", value_hint = ValueHint::Url)]
    pub(crate) endpoint: Option<String>,
    /// The bucket's region [default: what AWS_REGION or the profile says]
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub(crate) region: Option<String>,
    /// The profile to take from the cloud's own configuration files [default: what AWS_PROFILE or OSSUTIL_PROFILE says]
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub(crate) profile: Option<String>,
    /// What commands that write put here.
    #[arg(skip)]
    pub(crate) sse: SseArgs,
}

/// What the engine may use.
#[derive(Args, Debug)]
pub(crate) struct EngineArgs {
    /// The most memory to take for data
    #[arg(long, help_heading = "Resources", value_name = "SIZE", value_parser = parse_size, default_value = "256M")]
    pub(crate) memory_budget: u64,
    /// How many threads seal and open [default: one for each core, as far as half of the memory budget goes]
    #[arg(long, help_heading = "Resources", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// What computes AES-256-GCM [default: what is fastest on this CPU; `sealift bench` tells which that is]
    #[arg(long, help_heading = "Resources", value_name = "NAME", value_parser = backend_parser())]
    pub(crate) backend: Option<Backend>,
}

/// How a command that moves data tells what it did.
#[derive(Args, Debug)]
pub(crate) struct Output {
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Json {
    /// Print the result as JSON, and nothing else, on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Checksum {
    /// CRC-64/XZ of every part
    Crc64,
    /// None: authentication needs no checksum
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadMode {
    /// What is faster: for a file of 64 MiB or more that is in the page cache, both are tried on a few MiB of it; else positioned reads
    Auto,
    /// Positioned reads
    Read,
    /// A memory map: faster if the page cache holds the file in large pieces, slower if not
    Map,
}

fn backend_parser() -> impl clap::builder::TypedValueParser<Value = Backend> {
    PossibleValuesParser::new(Backend::available().iter().map(|backend| backend.name()))
        .try_map(|name| name.parse::<Backend>())
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a pair is NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(parse_pair("=b").is_err());
        assert!(parse_pair("a").is_err());
    }
}

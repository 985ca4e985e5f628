//! `put`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{EngineArgs, Output, PutSealing, PutTree, ReadMode, SseArgs, StoreArgs, parse_pair};
use crate::size::parse_size;
use crate::url::Location;

const EXAMPLES: &str = concat!(
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

/// Seal a file or stdin and store it
///
/// What is at URL is replaced in one step at the very end, or not at all. If the upload of a file is interrupted, it is kept, and
/// `sealift uploads resume` goes on with it. On first use, a key store is made and you are told to back it up.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
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
    /// Needed for streams of more than about 600 GiB (less on many cores), or 9,999 times a quarter of --memory-budget, and for a --part-size larger than
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Checksum {
    /// CRC-64/XZ of every part
    Crc64,
    /// None: authentication needs no checksum
    None,
}

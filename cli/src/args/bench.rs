//! `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use sealift::crypto::Backend;

use super::{Json, StoreArgs, backend_parser};
use crate::size::parse_size;
use crate::url::Location;

const EXAMPLES: &str = "\
Examples:
  sealift bench --quick                            a first impression, in about a minute
  sealift bench --chart speed.svg                  with a picture
  sealift bench --only memory,file --rounds 25     some of it, more exactly
  sealift bench --dir /mnt/disk --only directory   that file system
  sealift bench s3://bucket/tmp/ --only url        that store, and the way to it: objects are made there, and removed
  sealift bench --json > speed.json                for programs

Reading it: only figures of one run can be compared, because contenders take turns. `half within` is the range that
half of all rounds are in. Where that is wide, the machine was busy, and ratios are marked as not conclusive unless
all of the range is on one side of what should be: run it again, with more --rounds, on a machine that does nothing else.";

/// Measure how fast this machine seals, opens, and stores, and what limits it
///
/// Everything is measured beside what it could be at best: the cipher alone, a loop written by hand that does the same and nothing else,
/// a plain copy, and other encrypting programs that are installed: age, rage, openssl, rclone.
///
/// It makes a file of --size and some objects in a directory of its own, and removes them. Nothing of yours is read, and no key of yours
/// is used.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// Stores to measure too: each is a directory, or s3://BUCKET/PREFIX/, or oss://BUCKET/PREFIX/
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) urls: Vec<Location>,
    /// A small file, few rounds
    #[arg(long)]
    pub(crate) quick: bool,
    /// How long the file is [default: 512M; with --quick 64M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// How often each contender has its turn, after one turn to warm up [default: 9; with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: Option<u16>,
    /// The most threads to use; fewer are measured as well [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Where the file and the objects are made, for a while [default: the directory for temporary files]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// Only these groups [default: all]
    #[arg(long, value_name = "GROUP", value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Group>,
    /// What computes AES-256-GCM [default: what is fastest on this CPU]
    #[arg(long, value_name = "NAME", value_parser = backend_parser())]
    pub(crate) backend: Option<Backend>,
    /// Draw a chart into this file, which is replaced
    #[arg(long, value_name = "FILE.svg", value_hint = ValueHint::FilePath)]
    pub(crate) chart: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Group {
    /// Sealing and opening what is in memory
    Memory,
    /// Small objects
    Small,
    /// A file, sealed and dropped
    File,
    /// A file into a directory and back
    Directory,
    /// Ranges of an object
    Range,
    /// Other programs
    Peers,
    /// The stores that are named
    Url,
}

impl Group {
    pub(crate) const ALL: [Self; 7] =
        [Self::Memory, Self::Small, Self::File, Self::Directory, Self::Range, Self::Peers, Self::Url];

    /// As it is written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Small => "small",
            Self::File => "file",
            Self::Directory => "directory",
            Self::Range => "range",
            Self::Peers => "peers",
            Self::Url => "url",
        }
    }
}

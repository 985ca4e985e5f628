//! What several commands take.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum, ValueHint};
use sealift::crypto::Backend;

use super::SseArgs;
use crate::size::parse_size;

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
pub(crate) enum ReadMode {
    /// What is faster: for a file of 64 MiB or more that is in the page cache, both are tried on a few MiB of it; else positioned reads
    Auto,
    /// Positioned reads
    Read,
    /// A memory map: faster if the page cache holds the file in large pieces, slower if not
    Map,
}

pub(super) fn backend_parser() -> impl clap::builder::TypedValueParser<Value = Backend> {
    PossibleValuesParser::new(Backend::available().iter().map(|backend| backend.name()))
        .try_map(|name| name.parse::<Backend>())
}

pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a pair is NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(parse_pair("=b").is_err());
        assert!(parse_pair("a").is_err());
    }
}

//! The command line of `serve`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::EngineArgs;
use crate::url::Location;

const SERVE: &str = "\
Examples:
  sealift serve --demo                          try it: a temporary directory, and keys that are printed
  sealift serve --store /srv/sealed             with SEALIFT_ACCESS_KEY_ID and SEALIFT_ACCESS_KEY_SECRET set
  sealift serve --store s3://sealed --store-endpoint https://s3.example.com --listen 0.0.0.0:8333
  sealift serve --config gateway.toml           more access keys, rights, TLS, limits

The first line on stdout is `listening on http://ADDRESS`. Logs go to stderr. SIGTERM or Ctrl-C stops it when requests
in flight have ended; a second one at once.

Environment:
  SEALIFT_ACCESS_KEY_ID, SEALIFT_ACCESS_KEY_SECRET
                    an access key that may do everything; more are in the configuration file
  SEALIFT_HOME      where the key store is; the same that `sealift kms` uses";

/// Answer OSS, S3 and KMS clients, and seal what they store
///
/// For programs that cannot change: they talk to this as to OSS or S3, and what reaches the store is sealed under the CMK that
/// the request, the bucket or --kms-key names. `sealift get` opens it from the store, too. Alibaba's KMS protocol manages the
/// local key store at the same address. See docs/gateway.md.
#[derive(Args, Debug)]
#[command(after_help = SERVE)]
pub(crate) struct Serve {
    /// Where the sealed objects are: a directory, s3://BUCKET or oss://BUCKET. What is below it by one name is a bucket to clients
    #[arg(long, value_name = "URL", value_hint = ValueHint::AnyPath, conflicts_with = "demo")]
    pub(crate) store: Option<Location>,
    /// Address and port to listen on; port 0 is any that is free [default: 127.0.0.1:8333]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// The region it says it is in; CMKs of another are refused [default: local]
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Seal for this key where neither request nor bucket names one [default: alias/default of the local key store]
    ///
    /// Named as for `put`. With a key of another service than the local key store, the names of CMKs in requests are that service's,
    /// and there is no KMS endpoint.
    #[arg(long, value_name = "[SERVICE:]KEY")]
    pub(crate) kms_key: Option<String>,
    /// A file with access keys, rights, TLS, limits and all of the above, in TOML; the command line takes precedence
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Try it out: store and key store are in a temporary directory, which is removed at the end, and the access key is printed
    #[arg(long)]
    pub(crate) demo: bool,
    /// How to write logs to stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Certificate for TLS, with those that lead to its authority, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "TLS", value_hint = ValueHint::FilePath)]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate", help_heading = "TLS", value_hint = ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,

    /// Where the store of the bucket is [default: what AWS_ENDPOINT_URL or the profile says, or AWS]
    #[arg(long, value_name = "URL", help_heading = "Store", value_hint = ValueHint::Url)]
    pub(crate) store_endpoint: Option<String>,
    /// The region of the store's bucket [default: what AWS_REGION or the profile says]
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub(crate) store_region: Option<String>,
    /// The profile to take from the cloud's own configuration files [default: what AWS_PROFILE says]
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub(crate) store_profile: Option<String>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people: one line each
    Text,
    /// For programs: one JSON object a line
    Json,
}

//! Server-side encryption: flags of commands that write, and `sse`.

use clap::{Args, Subcommand, ValueHint};
use sealift::ErrorKind;

use super::{Output, StoreArgs};
use crate::exit::{Failure, Result};
use crate::url::Location;

/// Encryption on the server's side, which OSS does with keys of its own or of Alibaba Cloud KMS. Sealing is apart from it: both,
/// either or none can be used.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SseArgs {
    /// Have OSS encrypt what it stores, too: with keys of its own, or KMS
    #[arg(long = "sse", value_name = "ALGORITHM", help_heading = "Store", ignore_case = true, value_parser = ["AES256", "KMS", "SM4"])]
    pub(crate) algorithm: Option<String>,
    /// The CMK in KMS that OSS is to use [default: the account's own for OSS]
    #[arg(long = "sse-key-id", value_name = "ID", help_heading = "Store", requires = "algorithm")]
    pub(crate) key_id: Option<String>,
    /// The cipher of data under a CMK in KMS [default: AES256]
    #[arg(long = "sse-data-encryption", value_name = "CIPHER", help_heading = "Store", requires = "algorithm", ignore_case = true, value_parser = ["SM4"])]
    pub(crate) data_encryption: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sse {
    Set(SseSet),
}

/// Change the server-side encryption of an object, keeping all else of it
///
/// OSS copies the object onto itself: bytes, metadata, content headers, tags, ACL and storage class stay. No key of Sealift's is needed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealift sse set oss://bucket/backup/db.tar --algorithm KMS --key-id 9468da86-3509-4f8d-a61e-6eab1eac1234
  sealift sse set oss://bucket/backup/db.tar --algorithm AES256")]
pub(crate) struct SseSet {
    /// The object
    #[arg(value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub(crate) url: Location,
    /// Whose keys encrypt it from now on: OSS's own, or KMS
    #[arg(long, value_name = "ALGORITHM", ignore_case = true, value_parser = ["AES256", "KMS", "SM4"])]
    pub(crate) algorithm: String,
    /// The CMK in KMS [default: the account's own for OSS]
    #[arg(long, value_name = "ID")]
    pub(crate) key_id: Option<String>,
    /// The cipher of the data under a CMK in KMS [default: AES256]
    #[arg(long, value_name = "CIPHER", ignore_case = true, value_parser = ["SM4"])]
    pub(crate) data_encryption: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl SseArgs {
    /// What of OSS these ask for.
    #[cfg(feature = "oss")]
    pub(crate) fn sse(&self) -> Result<Option<sealift::store::oss::Sse>> {
        let Some(algorithm) = &self.algorithm else { return Ok(None) };
        let sse = sealift::store::oss::Sse {
            algorithm: algorithm.parse()?,
            key_id: self.key_id.clone(),
            data_encryption: self.data_encryption.as_deref().map(str::parse).transpose()?,
        };
        sse.check()?;
        Ok(Some(sse))
    }
}

impl StoreArgs {
    pub(crate) fn with(self, sse: SseArgs) -> Self {
        Self { sse, ..self }
    }

    /// For stores that cannot be asked for it.
    pub(crate) fn refuse_sse(&self) -> Result {
        if self.sse.algorithm.is_none() {
            return Ok(());
        }
        let message = "--sse is for objects in oss://";
        Err(Failure::new(ErrorKind::InvalidInput, message)
            .hint("other stores encrypt on their side as their bucket says"))
    }
}

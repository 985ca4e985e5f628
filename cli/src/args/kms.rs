//! The command line of `sealift kms`.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueHint};
use sealift::kms::local::{KeyOrigin, WrappingAlgorithm, WrappingKeySpec};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Json, Output, parse_pair};

const CREATE_KEY: &str = "\
The key's id goes to stdout, and what there is to say to stderr, so a script can do:
  KEY=$(sealift kms create-key)

Examples:
  sealift kms create-key --description 'backups of web1' --tag team=web
  sealift kms create-key --origin external     your own key material: import it next";

const GET_PARAMETERS: &str = "\
Example, where `material` holds exactly 32 bytes:
  sealift kms get-parameters-for-import alias/ours \\
      --public-key-out public.der --import-token-out import-token
  openssl pkeyutl -encrypt -pubin -keyform DER -inkey public.der \\
      -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 \\
      -in material -out material.wrapped
  sealift kms import-key-material alias/ours \\
      --import-token import-token --encrypted-key-material material.wrapped";

const IMPORT: &str = "\
How the files are read:
  A file of text is taken for standard base64 with padding, line breaks and other white space aside;
  text that is none, such as PEM, is refused. A file with any other byte is taken as it is. What is
  raw, a token or wrapped material, has hundreds of bytes like random ones and is never mere text.

Example:
  sealift kms import-key-material alias/ours --expires 2030-01-01T00:00:00Z \\
      --import-token import-token --encrypted-key-material material.wrapped";

#[derive(Debug, Subcommand)]
pub(crate) enum Kms {
    CreateKey(CreateKey),
    /// Show what there is to know of a key, but for its secrets
    DescribeKey(DescribeKey),
    /// List the keys of the local key store
    ListKeys(ListKeys),
    /// Let a disabled key seal and open again
    EnableKey(ChangeKey),
    /// Stop a key from sealing and opening, until it is enabled again
    DisableKey(ChangeKey),
    ScheduleKeyDeletion(ScheduleKeyDeletion),
    /// Keep a key whose deletion was scheduled
    CancelKeyDeletion(ChangeKey),
    /// Draw new key material for a key
    ///
    /// From then on it seals; what was sealed with earlier material still opens. Keys of origin `external` do not rotate: create
    /// another, import its material, and `update-alias`.
    RotateKey(ChangeKey),
    /// Change what a key says it is for
    UpdateDescription(UpdateDescription),
    /// Give a key tags, or change them
    TagKey(TagKey),
    /// Take tags from a key
    UntagKey(UntagKey),
    /// Give a key another name
    ///
    /// An alias stands for the key wherever a key is named. Objects remember the key's id, not the alias.
    CreateAlias(PutAlias),
    /// Let an alias stand for another key
    ///
    /// From then on that key seals for it. What was sealed before opens with the key it was sealed for.
    UpdateAlias(PutAlias),
    /// Remove an alias; the key stays
    DeleteAlias(DeleteAlias),
    /// List the aliases
    ListAliases(ListAliases),
    GetParametersForImport(GetParametersForImport),
    ImportKeyMaterial(ImportKeyMaterial),
    /// Delete the imported material of a key of origin `external`
    ///
    /// What was sealed with the key cannot be opened until the same material is imported again.
    DeleteKeyMaterial(ChangeKey),
    ExportBackup(ExportBackup),
    ImportBackup(ImportBackup),
}

/// Create a key
///
/// On first use, a key store is made and you are told to back it up.
#[derive(Args, Debug)]
#[command(after_help = CREATE_KEY)]
pub(crate) struct CreateKey {
    /// Where its material comes from: `local` is drawn here; `external` is your own, to be imported
    #[arg(long, value_name = "ORIGIN", default_value = "local", value_parser = origin_parser())]
    pub(crate) origin: KeyOrigin,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) description: String,
    /// A tag; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) tag: Vec<(String, String)>,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct DescribeKey {
    /// Id or alias of the key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct ListKeys {
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct ChangeKey {
    /// Id or alias of the key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Delete a key, after some days
///
/// Until then it neither seals nor opens, and cancel-key-deletion keeps it. After that nothing that was sealed for it alone can ever
/// be opened.
#[derive(Args, Debug)]
pub(crate) struct ScheduleKeyDeletion {
    /// Id or alias of the key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// After how many days, 7 to 30
    #[arg(long, value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u16).range(7..=30))]
    pub(crate) days: u16,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct UpdateDescription {
    /// Id or alias of the key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// What it is for
    #[arg(value_name = "TEXT")]
    pub(crate) description: String,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct TagKey {
    /// Id or alias of the key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// The tags; a tag it has by that name is replaced
    #[arg(value_name = "NAME=VALUE", value_parser = parse_pair, required = true)]
    pub(crate) tags: Vec<(String, String)>,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct UntagKey {
    /// Id or alias of the key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// Names of the tags
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct PutAlias {
    /// The alias: `alias/` and 1 to 249 of A-Z a-z 0-9 / _ -
    #[arg(value_name = "ALIAS")]
    pub(crate) alias: String,
    /// Id or alias of the key it is to stand for
    #[arg(value_name = "KEY")]
    pub(crate) key: String,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteAlias {
    /// The alias
    #[arg(value_name = "ALIAS")]
    pub(crate) alias: String,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct ListAliases {
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Get the public key to wrap your own key material with, and the token to import it by
///
/// Both are good for 24 hours, and for several imports. The key is one of origin `external`.
#[derive(Args, Debug)]
#[command(after_help = GET_PARAMETERS)]
pub(crate) struct GetParametersForImport {
    /// Id or alias of the key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// How the material will be wrapped. RSAES_PKCS1_V1_5 is for devices that cannot do better
    #[arg(long, value_name = "ALGORITHM", default_value = "RSAES_OAEP_SHA_256", value_parser = algorithm_parser())]
    pub(crate) wrapping_algorithm: WrappingAlgorithm,
    /// The public key's kind
    #[arg(long, value_name = "SPEC", default_value = "RSA_2048", value_parser = key_spec_parser())]
    pub(crate) wrapping_key_spec: WrappingKeySpec,
    /// Write the public key to this file, in DER (SubjectPublicKeyInfo)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) public_key_out: Option<PathBuf>,
    /// Write the import token to this file, as raw bytes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) import_token_out: Option<PathBuf>,
    /// Replace the files if they exist
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) json: Json,
}

/// Import your own key material into a key of origin `external`
///
/// The material, exactly 32 bytes, is wrapped with the public key of get-parameters-for-import. The first import binds the key to it
/// for good: after it expired or was deleted, the same material can be imported again, and no other.
#[derive(Args, Debug)]
#[command(after_help = IMPORT)]
pub(crate) struct ImportKeyMaterial {
    /// Id or alias of the key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// The import token, raw or in base64
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) import_token: PathBuf,
    /// The key material, wrapped with the public key; raw or in base64
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) encrypted_key_material: PathBuf,
    /// When the material expires, as RFC 3339 has it: 2030-01-01T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) expires: Option<SystemTime>,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Write the key store into one file, sealed under a passphrase
///
/// The file is in age format. Keep it, and the passphrase, away from this machine: with both, everything sealed with the key store
/// can be opened; without them and without the key store, nothing.
#[derive(Args, Debug)]
pub(crate) struct ExportBackup {
    /// The file to write; `-` is stdout
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Replace FILE if it exists
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
}

/// Restore the key store from a backup
///
/// Only where there is no key store: an existing one is never touched.
#[derive(Args, Debug)]
pub(crate) struct ImportBackup {
    /// The backup; `-` is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
}

#[derive(Args, Debug)]
pub(crate) struct Passphrase {
    /// Take the passphrase from the first line of this file. Otherwise it is taken from SEALIFT_BACKUP_PASSPHRASE, or asked for
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

fn origin_parser() -> impl TypedValueParser<Value = KeyOrigin> {
    PossibleValuesParser::new(["local", "external"]).try_map(|name| name.parse::<KeyOrigin>())
}

fn algorithm_parser() -> impl TypedValueParser<Value = WrappingAlgorithm> {
    PossibleValuesParser::new(["RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1", "RSAES_PKCS1_V1_5"])
        .try_map(|name| name.parse::<WrappingAlgorithm>())
}

fn key_spec_parser() -> impl TypedValueParser<Value = WrappingKeySpec> {
    PossibleValuesParser::new(["RSA_2048", "RSA_3072", "RSA_4096"]).try_map(|name| name.parse::<WrappingKeySpec>())
}

fn parse_time(text: &str) -> Result<SystemTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map(SystemTime::from)
        .map_err(|_| "a time is as RFC 3339 has it, with its zone: 2030-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        let at = |seconds| Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        // date -d 2030-01-01T00:00:00Z +%s
        assert_eq!(parse_time("2030-01-01T00:00:00Z"), at(1_893_456_000));
        assert_eq!(parse_time("2030-01-01t01:30:00+01:30"), at(1_893_456_000));
        assert_eq!(
            parse_time("2030-01-01T00:00:00.5Z"),
            at(1_893_456_000).map(|time: SystemTime| time + Duration::from_millis(500))
        );
        for text in
            ["", "2030-01-01", "2030-01-01T00:00:00", "2030-13-01T00:00:00Z", "2030-02-29T00:00:00Z", "1893456000"]
        {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}

//! `uploads`.

use clap::{Args, Subcommand};

use super::{EngineArgs, Json, Keys, Output, ReadMode, ResumeSealing, StoreArgs, UploadsReap};

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

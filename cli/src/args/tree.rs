//! Whole directories, and which files of them; and objects that are not sealed.

use clap::Args;

use crate::filter::Filters;

/// `put --recursive`.
#[derive(Args, Debug)]
pub(crate) struct PutTree {
    /// Store every file in the directory SRC and below, under its path from there
    ///
    /// A file that cannot be stored does not keep the others from it: what failed is listed at the end, and the exit code is that of the
    /// first. Symbolic links (without --follow-links), sockets, pipes, devices, and folders `.sealift` are left out with a warning, and so
    /// are empty directories: stores have none. After an interruption, run it again with --skip-existing.
    #[arg(short, long, help_heading = "Directories")]
    pub(crate) recursive: bool,
    /// Leave alone what is at URL already: to go on where a run was interrupted
    ///
    /// Objects are there as a whole or not at all. Their content is not compared. The interrupted upload of a large file is taken up again, as it was
    /// begun: for the keys, and with the metadata, tags and part size, of the run that began it. To have it otherwise, remove it first:
    /// `sealift uploads abort ID`.
    #[arg(long, help_heading = "Directories", requires = "recursive")]
    pub(crate) skip_existing: bool,
    /// Store what symbolic links lead to, as if it were there
    #[arg(long, help_heading = "Directories", requires = "recursive")]
    pub(crate) follow_links: bool,
    #[command(flatten)]
    pub(crate) filters: Filters,
}

/// `get --recursive`.
#[derive(Args, Debug)]
pub(crate) struct GetTree {
    /// Open every object below URL into the directory DEST, each under its path from there
    ///
    /// An object that cannot be opened does not keep the others from it: what failed is listed at the end, and the exit code is that of
    /// the first. Names that would lead out of DEST, or through a symbolic link in it, are refused.
    #[arg(short, long, help_heading = "Directories")]
    pub(crate) recursive: bool,
    /// Leave alone the files that are in DEST already: to go on where a run was interrupted
    ///
    /// Files are there as a whole or not at all. Their content is not compared.
    #[arg(long, help_heading = "Directories", requires = "recursive", conflicts_with = "force")]
    pub(crate) skip_existing: bool,
    #[command(flatten)]
    pub(crate) filters: Filters,
}

/// Writing without sealing.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct PutSealing {
    /// Store SRC as it is, NOT sealed: whoever can read the store can read it, and whoever can write there can alter it unnoticed
    ///
    /// An ordinary upload, as parallel and as resumable as the others. With --sse the store encrypts it, with keys of its own. `get`,
    /// `cat` and `verify` read it only if they are given --no-seal as well.
    #[arg(long, conflicts_with_all = ["kms_key", "key_file", "encryption_context", "bind", "spool_dir"])]
    pub(crate) no_seal: bool,
}

/// Reading what is not sealed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct GetSealing {
    /// Read an object that is NOT sealed, as it is: nothing of it is authenticated
    ///
    /// Sealed objects are refused then.
    #[arg(long, conflicts_with_all = ["kms_key", "key_file", "encryption_context", "bound"])]
    pub(crate) no_seal: bool,
}

/// Going on without sealing.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ResumeSealing {
    /// Go on with an upload of `put --no-seal`, which stores the file as it is
    #[arg(long, conflicts_with_all = ["kms_key", "key_file"])]
    pub(crate) no_seal: bool,
}

//! The program's own directory: the key store and the ledgers of uploads.

use std::path::PathBuf;

use sealift::kms::local::{LocalKms, RootKey, RootKeySource};
use sealift::{Error, ErrorKind};

use crate::exit::{Failure, Result};
use crate::output;

/// `SEALIFT_HOME`, or the platform's data directory.
pub(crate) struct Home {
    dir: PathBuf,
}

impl Home {
    pub(crate) fn find() -> Result<Self> {
        if let Some(dir) = std::env::var_os("SEALIFT_HOME").filter(|dir| !dir.is_empty()) {
            let dir = std::path::absolute(&dir).map_err(|e| Error::io("finding SEALIFT_HOME", e))?;
            return Ok(Self { dir });
        }
        let dirs = directories::ProjectDirs::from("", "", "sealift").ok_or_else(|| {
            Failure::new(ErrorKind::Io, "this account has no home directory").hint("set SEALIFT_HOME to a directory")
        })?;
        Ok(Self { dir: dirs.data_dir().to_owned() })
    }

    /// Directory of the local key store.
    pub(crate) fn key_store(&self) -> PathBuf {
        self.dir.join("kms")
    }

    /// Directory of the ledgers.
    pub(crate) fn uploads(&self) -> PathBuf {
        self.dir.join("uploads")
    }

    /// The key store that is there. That it cannot be used is always [`ErrorKind::KeyUnavailable`].
    pub(crate) fn open_key_store(&self) -> Result<LocalKms, Error> {
        root_key().and_then(|root_key| LocalKms::open(self.key_store(), root_key)).map_err(unavailable)
    }

    /// The key store, made if there is none.
    pub(crate) fn open_or_create_key_store(&self) -> Result<LocalKms, Error> {
        let root_key = root_key().map_err(unavailable)?;
        let (kms, created) = LocalKms::open_or_create(self.key_store(), root_key).map_err(|e| match e.kind() {
            // Making it failed for want of room or permission.
            ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::PermissionDenied => e,
            _ => unavailable(e),
        })?;
        if let Some(created) = created {
            let also = match created.root_key_file {
                Some(_) => "",
                None => {
                    " Keep the root key in SEALIFT_ROOT_KEY safe as well: the key store is worth nothing without it."
                }
            };
            output::say(&format!(
                "Made a key store in {} with a first key, {} ({}).\n\
                 BACK IT UP NOW: whoever loses it can never open again what was sealed with it.{also}\n    \
                 sealift kms export-backup FILE",
                self.key_store().display(),
                LocalKms::DEFAULT_ALIAS,
                created.key_id,
            ));
        }
        Ok(kms)
    }
}

fn root_key() -> Result<RootKeySource, Error> {
    match std::env::var_os("SEALIFT_ROOT_KEY").filter(|text| !text.is_empty()) {
        None => Ok(RootKeySource::File),
        Some(text) => RootKey::from_base64(text.to_str().unwrap_or_default())
            .map(RootKeySource::Given)
            .map_err(|e| e.while_doing("reading SEALIFT_ROOT_KEY")),
    }
}

/// A key that cannot be read is one thing to a user, whatever the reason.
pub(crate) fn unavailable(error: Error) -> Error {
    match error.kind() {
        ErrorKind::KeyUnavailable => error,
        _ => {
            let message = error.to_string();
            Error::new(ErrorKind::KeyUnavailable, message).with_source(error)
        }
    }
}

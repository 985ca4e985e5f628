//! Giving up uploads that no process is working on.

use std::fs::OpenOptions;
use std::path::Path;

use serde::Deserialize;

use super::Engine;
use super::ledger::{self, Header, PendingUpload};
use super::retries::Retries;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{MultipartStore, Upload};
use crate::upload::RetryPolicy;

impl Engine {
    /// Gives up an interrupted upload: removes its parts from the store and its ledger here. Needs no key.
    ///
    /// An upload that the store does not know any more is a success, and so its ledger goes too. An object is never removed.
    ///
    /// # Errors
    /// What the store says; the ledger is kept then.
    pub async fn abort(&self, pending: PendingUpload, store: &dyn MultipartStore) -> Result<()> {
        let upload = Upload { key: pending.key()?, id: pending.header().upload.clone() };
        self.abort_unknown(&upload, store).await?;
        pending.remove()
    }

    /// Gives up an upload that has no ledger here, and removes its parts from the store, those too that arrive meanwhile.
    ///
    /// Whether somebody is working on it, nobody can tell: then it fails for them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn abort_unknown(&self, upload: &Upload, store: &dyn MultipartStore) -> Result<()> {
        Retries::new(RetryPolicy::default()).run(self.shared(), || store.abort(upload)).await
    }
}

/// Removes a ledger in `dir` whose header nobody can read. What its upload left at the store, only the store knows.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) if there is none, [`Ledger`](ErrorKind::Ledger) if a process is working on it,
/// [`InvalidInput`](ErrorKind::InvalidInput) if it can be read, or another version of this crate can.
pub fn forget_damaged(dir: &Path, id: &str) -> Result<()> {
    let mut found = ledger::ledgers(dir)?.into_iter().filter(|(name, _)| name == id);
    let (_, path) = found.next().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no upload ledger {id:?} in {}", dir.display()))
    })?;
    let doing = |e| Error::io(format!("opening the upload ledger {}", path.display()), e);
    let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(doing)?;
    ledger::lock(&file, &path)?;
    let usable = |why: &str| Err(Error::new(ErrorKind::InvalidInput, format!("{} {why}", path.display())));
    if ledger::read_header(&mut file, &path).is_ok() {
        return usable("is not damaged: abort its upload instead");
    }
    match version(&path) {
        Some(version) if version != Header::VERSION => {
            usable("was written by another version of Sealift: abort its upload with that")
        }
        _ => ledger::remove(&path),
    }
}

/// The version that a ledger says it has, if as much of it can be read.
fn version(path: &Path) -> Option<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        ledger: u32,
    }
    let bytes = std::fs::read(path).ok()?;
    let len = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let header: Versioned = serde_json::from_slice(bytes.get(4..)?.get(..len)?).ok()?;
    Some(header.ledger)
}

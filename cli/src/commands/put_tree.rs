//! `put --recursive`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
use sealift::engine::{PendingUpload, Protection, ResumeOptions, UploadOptions, UploadState, Uploaded, list_uploads};
use sealift::kms::recipients::{Recipient, Trusted};
use sealift::store::MultipartStore;
use sealift::{Engine, Error, ErrorKind};
use serde::Serialize;

use super::put::{cipher, on_failure, options, refuse_onto_itself};
use super::tree::{Summary, each};
use crate::args::{Keys, Put, ReadMode};
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupts;
use crate::keys::{self, TrustedByUser};
use crate::output::Total;
use crate::source;
use crate::store::{Below, Object};
use crate::url::Location;
use crate::walk::{FoundFile, walk};

#[derive(Serialize)]
struct Stored {
    source: String,
    url: String,
    object_id: String,
    etag: String,
    plain_len: u64,
    sealed_len: u64,
    parts: u32,
    cipher: &'static str,
}

/// What the upload of every file needs.
struct Run {
    engine: Engine,
    recipients: Vec<Recipient>,
    options: UploadOptions,
    read_mode: ReadMode,
    uploads: PathBuf,
    /// Ids of interrupted uploads, by store and key.
    interrupted: HashMap<(String, String), String>,
    /// Whose keys open what was interrupted.
    trusted: Option<TrustedByUser>,
    total: Total,
}

pub(crate) async fn put_tree(args: Put, verbose: u8) -> Result {
    let dir = args.source.clone();
    if !dir.is_dir() {
        if let Err(error) = std::fs::metadata(&dir) {
            let failure = Failure::from(Error::io(format!("cannot open {}", dir.display()), error));
            return Err(source::hint_if_missing(failure, &dir));
        }
        let message = format!("{} is not a directory: leave out --recursive", dir.display());
        return Err(Failure::new(ErrorKind::InvalidInput, message));
    }
    refuse_into_itself(&dir, &args.url)?;
    let engine = args.engine.engine()?;
    let below = args.url.new_below(&args.store.clone().with(args.sse.clone())).await?;
    let home = Home::find()?;
    let recipients = keys::recipients(&args, &home)?;
    // Until here a signal ends the program as it ends any other: there is nothing yet to end cleanly.
    let interrupts = Interrupts::listen()?;
    let bar = args.output.bar(verbose);

    let (filters, follow) = (args.tree.filters.clone(), args.tree.follow_links);
    let found = tokio::task::spawn_blocking(move || walk(&dir, &filters, follow));
    let found = found.await.map_err(|e| Error::new(ErrorKind::Internal, "looking through files").with_source(e))?;
    let existing = if args.tree.skip_existing { names(&below).await? } else { HashSet::new() };
    let mut summary = Summary::new(args.source.display().to_string(), args.url.to_string());
    let mut files = found.files;
    let all = files.len();
    files.retain(|file| !existing.contains(&file.name));
    summary.existing = (all - files.len()) as u64;
    for (path, why) in found.skipped {
        summary.skip(path.display().to_string(), why);
    }
    for (path, error) in &found.failed {
        summary.fail(path.display().to_string(), error);
    }

    let total = bar.total(files.iter().map(|file| file.len).sum());
    let mut options = options(&args, &home)?;
    let at_once = args.concurrency.map(|at_once| at_once as usize);
    // One limit for all: of many files at once, each sends one part at a time.
    options.max_in_flight = at_once.map(|at_once| (at_once / at_once.min(files.len()).max(1)).max(1) as u32);
    let interrupted = if args.tree.skip_existing { interrupted(&home)? } else { HashMap::new() };
    let trusted = match interrupted.is_empty() || args.sealing.no_seal {
        true => None,
        false => {
            let keys = Keys { kms_key: args.kms_key.clone(), key_file: args.key_file.clone() };
            Some(keys.trusted(&home).await?)
        }
    };
    let (cancel, on_failure) = (options.cancel.clone(), on_failure(args.abort_on_interrupt));
    let uploads = home.uploads();
    // A mapped file that shrinks ends the program, and the other files' uploads with it: not unless that is asked for.
    let read_mode = if args.read_mode == ReadMode::Auto { ReadMode::Read } else { args.read_mode };
    let run = Run { engine, recipients, options, read_mode, uploads, interrupted, trusted, total };
    let mut stored = Vec::new();
    let work = each(
        files,
        at_once,
        |file| {
            let (run, name) = (&run, file.path.display().to_string());
            let (url, object) = match below.key(&file.name) {
                Ok(key) => below.object(key),
                Err(e) => (file.name.clone(), Err(e)),
            };
            async move {
                let done = match object {
                    Ok(object) => run.upload(&file, &url, object).await,
                    Err(e) => Err(e),
                };
                (name, url, done)
            }
        },
        |n, (name, url, done)| match done {
            Ok(uploaded) => {
                stored.push((n, row(name, url, &uploaded)));
                true
            }
            Err(e) => {
                summary.fail(name, &e);
                e.kind() != ErrorKind::Cancelled
            }
        },
    );
    interrupts.cancelling(&cancel, on_failure, work).await;
    let took = bar.finish();
    stored.sort_by_key(|(n, _)| *n);
    summary.objects = stored.into_iter().map(|(_, stored)| stored).collect();
    summary.plain_len = summary.objects.iter().map(|stored| stored.plain_len).sum();
    summary.report(if args.sealing.no_seal { "Stored, NOT sealed," } else { "Sealed" }, "stored", took, &args.output)
}

impl Run {
    async fn upload(&self, file: &FoundFile, url: &str, object: Object) -> Result<Uploaded, Error> {
        if let Ok(location) = url.parse::<Location>() {
            refuse_onto_itself(&file.path, &location).map_err(Failure::into_error)?;
        }
        let place = (object.store.url(), object.key.to_string());
        if let Some(id) = self.interrupted.get(&place)
            && let Some(done) = self.resume(file, id, &object.store).await?
        {
            return Ok(done);
        }
        let source =
            source::open_file(&file.path, self.read_mode, self.engine.backend()).map_err(Failure::into_error)?;
        let options = UploadOptions { progress: self.total.callback(), ..self.options.clone() };
        self.engine.upload(object.store, object.key, source, &self.recipients, options).await
    }

    /// Goes on with an interrupted upload of this very file, for the keys and with the metadata that it was begun with. `None` if that
    /// cannot be done: it is then given up. One of another file is left alone: `None` too.
    async fn resume(
        &self,
        file: &FoundFile,
        id: &str,
        store: &Arc<dyn MultipartStore>,
    ) -> Result<Option<Uploaded>, Error> {
        let path = std::path::absolute(&file.path).map_err(|e| Error::io("finding a file", e))?;
        let Ok(pending) = PendingUpload::open(&self.uploads, id) else { return Ok(None) };
        let is_unsealed = self.options.protection == Protection::Unsealed;
        if pending.source_path() != Some(&path) || pending.is_unsealed() != is_unsealed {
            return Ok(None);
        }
        let none = Trusted::new(Vec::new());
        let trusted = self.trusted.as_ref().map_or(&none, |trusted| &trusted.keys);
        let source =
            source::open_file(&file.path, self.read_mode, self.engine.backend()).map_err(Failure::into_error)?;
        let options = ResumeOptions {
            protection: self.options.protection,
            on_failure: self.options.on_failure,
            max_in_flight: self.options.max_in_flight,
            progress: self.total.callback(),
            cancel: self.options.cancel.clone(),
            ..ResumeOptions::default()
        };
        match self.engine.resume(pending, Arc::clone(store), source, trusted, options).await {
            Ok(done) => Ok(Some(done)),
            Err(e) if matches!(e.kind(), ErrorKind::SourceChanged | ErrorKind::NotFound | ErrorKind::Ledger) => {
                tracing::warn!(error = %e, "an interrupted upload cannot be gone on with: it is given up, and the file is uploaded anew");
                if let Ok(pending) = PendingUpload::open(&self.uploads, id) {
                    self.engine.abort(pending, store.as_ref()).await?;
                }
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

fn row(source: String, url: String, uploaded: &Uploaded) -> Stored {
    Stored {
        source,
        url,
        object_id: uploaded.object_id.to_string(),
        etag: uploaded.etag.0.clone(),
        plain_len: uploaded.plain_len,
        sealed_len: uploaded.sealed_len,
        parts: uploaded.parts,
        cipher: cipher(uploaded.protection),
    }
}

/// The names of what is there.
async fn names(below: &Below) -> Result<HashSet<String>> {
    let listed = below.list().try_fold(HashSet::new(), |mut names, key| async move {
        names.insert(below.name(&key).to_owned());
        Ok(names)
    });
    match listed.await {
        // It is made with the first object.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(HashSet::new()),
        listed => Ok(listed?),
    }
}

fn interrupted(home: &Home) -> Result<HashMap<(String, String), String>> {
    let uploads = list_uploads(&home.uploads())?.into_iter();
    let interrupted = uploads.filter(|upload| upload.state == UploadState::Interrupted);
    Ok(interrupted.map(|upload| ((upload.store, upload.key), upload.id)).collect())
}

/// Objects that are stored into the directory they come from would be found there by the next run, and sealed again.
fn refuse_into_itself(source: &Path, url: &Location) -> Result {
    let Location::File(dest) = url else { return Ok(()) };
    let there = dest.ancestors().find_map(|above| above.canonicalize().ok());
    let source_is = source.canonicalize().map_err(|e| Error::io(format!("cannot open {}", source.display()), e))?;
    if there.is_none_or(|there| !there.starts_with(&source_is)) {
        return Ok(());
    }
    let message = format!("{} is in {} itself: store elsewhere", dest.display(), source.display());
    Err(Failure::new(ErrorKind::InvalidInput, message))
}

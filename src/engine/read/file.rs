//! Writing an object to a file, which appears when all of it is there.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use futures::{Stream, TryStreamExt as _};
use tempfile::TempPath;

use super::Reader;
use super::partial::{Partial, fingerprint};
use super::spans::{Sealed, Stripe};
use crate::engine::Shared;
use crate::engine::control::{Meter, ProgressCallback};
use crate::engine::workers::Scratch;
use crate::error::{Error, ErrorKind, Result};

/// Shorter objects are fetched again from their beginning: that takes no longer than finding out where to go on.
const WORTH_RESUMING: u64 = 64 << 20;
/// After so many bytes it is noted how far it is.
const NOTE_EVERY: u64 = 64 << 20;

/// How an object is written to a file.
#[derive(Clone, Default)]
pub struct GetOptions {
    /// Whether a file that is there may be replaced.
    pub overwrite: bool,
    /// Keeps what was written of an object of 64 MiB or more if that fails, is dropped or dies, the putting in place included, in the file of
    /// [`partial_path`](super::partial_path), and goes on with what such a file holds of this very object.
    pub resume: bool,
    /// Told how far it is. What an earlier run had written counts as done.
    pub progress: Option<ProgressCallback>,
}

impl fmt::Debug for GetOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { overwrite, resume, progress: _ } = self;
        f.debug_struct("GetOptions").field("overwrite", overwrite).field("resume", resume).finish_non_exhaustive()
    }
}

/// What was written to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Bytes that an earlier run had written already.
    pub resumed_from: u64,
}

/// A file to be written.
pub(super) struct Target<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) path: &'a Path,
    /// Bytes of the object.
    pub(super) len: u64,
    /// Tells the object from any other.
    pub(super) object: [u8; 32],
}

/// Where the bytes go until they are whole.
struct Unfinished {
    file: Arc<File>,
    /// Bytes that are there already.
    done: u64,
    place: Place,
}

enum Place {
    /// Removed however this ends.
    Temporary(TempPath),
    Partial(Partial),
}

impl Reader {
    /// Writes the object to `path`. The file appears there when it is whole, authenticated and on disk; until then what was there stays.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if there is a file and it may not be replaced, or another process is writing it;
    /// otherwise as [`read_range`](Self::read_range).
    pub async fn write_to_file(&self, path: &Path, options: GetOptions) -> Result<Written> {
        let object = fingerprint(self.envelope().object_id(), self.manifest());
        let target = Target { shared: &self.0.shared, path, len: self.len(), object };
        let write = |file: Arc<File>, from, meter: Meter| {
            let path = path.to_owned();
            let write = move |stripe: Stripe, sealed: Sealed, scratch: &mut Scratch| {
                let plain = stripe.open_in(&sealed, scratch)?;
                file.write_all_at(plain, stripe.at).map_err(|e| Error::io(format!("writing {}", path.display()), e))?;
                meter.sealed(plain.len() as u64);
                meter.done(plain.len() as u64);
                Ok(())
            };
            self.0.opened(from..self.len(), 0, write).map_ok(|(span, _)| span.end)
        };
        target.write(options, write).await
    }
}

impl Target<'_> {
    /// Has the object written by `spans`, which gets the file and where to begin, and says in order up to where it is written.
    pub(super) async fn write<S: Stream<Item = Result<u64>>>(
        self,
        options: GetOptions,
        spans: impl FnOnce(Arc<File>, u64, Meter) -> S,
    ) -> Result<Written> {
        let path = self.path;
        let doing = |what: &str| format!("{what} {}", path.display());
        if !options.overwrite && fs::symlink_metadata(path).is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{} exists already", path.display())));
        }
        if path.is_dir() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{} is a directory: name a file", path.display())));
        }
        let unfinished = self.unfinished(options.resume)?;
        let meter = Meter::new(Some(self.len), options.progress);
        meter.done(unfinished.done);
        let spans = spans(Arc::clone(&unfinished.file), unfinished.done, meter);
        self.fill(&unfinished, spans).await?;

        let Unfinished { file, done: resumed_from, place } = unfinished;
        let workers = &self.shared.workers;
        let failed = doing("putting on disk");
        // In place it is put here and not on a worker, so that the target does not appear after this future was dropped.
        let put = match place {
            Place::Temporary(temp) => {
                workers.blocking(move || file.sync_all().map_err(|e| Error::io(failed, e))).await?;
                let put = if options.overwrite { temp.persist(path) } else { temp.persist_noclobber(path) };
                put.map_err(|e| e.error)
            }
            Place::Partial(partial) => {
                let finishing = partial.clone();
                workers.blocking(move || finishing.finish()).await?;
                partial.put(path, options.overwrite)
            }
        };
        put.map_err(|e| Error::io(doing("putting in place"), e))?;
        let (dir, failed) = (directory_of(path).to_owned(), doing("putting on disk"));
        workers
            .blocking(move || File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io(failed, e)))
            .await?;
        Ok(Written { resumed_from })
    }

    fn unfinished(&self, resume: bool) -> Result<Unfinished> {
        if resume && self.len >= WORTH_RESUMING {
            let (partial, done) = Partial::open(self.path, self.object, self.len)?;
            return Ok(Unfinished { file: partial.file(), done, place: Place::Partial(partial) });
        }
        let temp = tempfile::Builder::new()
            .prefix(".sealift-partial-")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory_of(self.path))
            .map_err(|e| Error::io(format!("writing {}", self.path.display()), e))?;
        let (file, path) = temp.into_parts();
        Ok(Unfinished { file: Arc::new(file), done: 0, place: Place::Temporary(path) })
    }

    /// Writes what is missing, and notes how far it is where that can be gone on with.
    async fn fill(&self, unfinished: &Unfinished, spans: impl Stream<Item = Result<u64>>) -> Result<()> {
        let partial = match &unfinished.place {
            Place::Temporary(_) => None,
            Place::Partial(partial) => Some(partial),
        };
        let (mut reached, mut noted) = (unfinished.done, unfinished.done);
        let mut noting: Option<tokio::task::JoinHandle<Result<()>>> = None;
        let mut spans = std::pin::pin!(spans);
        let failure = loop {
            match spans.try_next().await {
                // They come in order, so all before it is written.
                Ok(Some(end)) => reached = end,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
            if let Some(partial) = partial
                && reached - noted >= NOTE_EVERY
                && noting.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
            {
                if let Some(before) = noting.take() {
                    ended(before.await)?;
                }
                noted = reached;
                let (partial, shared) = (partial.clone(), Arc::clone(self.shared));
                noting = Some(tokio::spawn(async move { shared.workers.blocking(move || partial.note(noted)).await }));
            }
        };
        if let Some(noting) = noting {
            ended(noting.await)?;
        }
        let Some(error) = failure else { return Ok(()) };
        if let Some(partial) = partial.cloned().filter(|_| reached > noted) {
            // If that fails too, the first error is the one to tell.
            let _ = self.shared.workers.blocking(move || partial.note(reached)).await;
        }
        Err(error)
    }
}

fn ended(noted: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    noted
        .unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal, "a task that notes how far it is died").with_source(e)))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

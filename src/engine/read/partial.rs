//! A file that is being written and can be gone on with: its plaintext, and behind it a note of how much of that is there.
//!
//! The note names the very object: SHA-256 over the object's id and every part's number, length and salt; of an object that is not sealed,
//! over its length and ETag. Whatever else lies under the
//! name is overwritten from its beginning. What the file holds is trusted as much as the file that it becomes: whoever can write to the
//! one can write to the other.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::types::ObjectId;

/// Behind the plaintext: this, the object, how many bytes are written and on disk, and the hash of these three.
const MAGIC: &[u8; 16] = b"sealift partial1";
const NOTE: usize = 16 + 32 + 8 + 32;

/// What [`Reader::write_to_file`](crate::engine::Reader::write_to_file) writes to before `target` is whole, where it can be gone on with:
/// a file beside it.
///
/// ```
/// # use std::path::Path;
/// let partial = sealift::engine::partial_path(Path::new("/downloads/film.mov"));
/// assert_eq!(partial.as_deref(), Some(Path::new("/downloads/.film.mov.sealift-partial")));
/// ```
#[must_use]
pub fn partial_path(target: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(target.file_name()?);
    name.push(".sealift-partial");
    Some(target.with_file_name(name))
}

/// See the module. Locked for this process as long as it is open, and removed then unless a note was written.
#[derive(Clone)]
pub(super) struct Partial(Arc<Inner>);

struct Inner {
    file: Arc<File>,
    path: PathBuf,
    object: [u8; 32],
    len: u64,
    keep: AtomicBool,
    /// All of it is there, and the note is cut off.
    finished: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !*self.keep.get_mut() {
            let _ = std::fs::remove_file(&self.path);
        } else if *self.finished.get_mut() {
            // It could not be put in place: it is all to be gone on with.
            let _ = self.file.write_all_at(&self.encode(self.len), self.len);
        }
    }
}

impl Partial {
    /// Opens what there is for `target`, or begins it, to hold `len` bytes of `object`. Returns also how many it holds.
    pub(super) fn open(target: &Path, object: [u8; 32], len: u64) -> Result<(Self, u64)> {
        let path = partial_path(target)
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{} names no file", target.display())))?;
        let failed = |e| Error::io(format!("writing {}", path.display()), e);
        let mut open = OpenOptions::new();
        // Not through a link that somebody may have put there.
        open.read(true).write(true).create(true).truncate(false).mode(0o666).custom_flags(libc_nofollow());
        let file = open.open(&path).map_err(failed)?;
        let stat = file.metadata().map_err(failed)?;
        if !stat.is_file() || stat.nlink() > 1 || stat.uid() != rustix::process::geteuid().as_raw() {
            let message = format!("{} is not a file of yours: remove it, or write elsewhere", path.display());
            return Err(Error::new(ErrorKind::PermissionDenied, message));
        }
        let busy = || {
            let message = format!("{} is being written by another process", target.display());
            Err(Error::new(ErrorKind::AlreadyExists, message))
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return busy(),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        // Whoever held the lock before may have put the file in place since it was opened here.
        if !std::fs::symlink_metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (stat.dev(), stat.ino())) {
            return busy();
        }
        let mut partial = Inner {
            file: Arc::new(file),
            path,
            object,
            len,
            keep: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        };
        let done = partial.noted()?;
        *partial.keep.get_mut() = done > 0;
        if done == 0 {
            partial.file.set_len(0).map_err(|e| partial.failed(e))?;
        }
        Ok((Self(Arc::new(partial)), done))
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.0.file)
    }

    /// Puts on disk what was written, then notes that its first `done` bytes are there.
    pub(super) fn note(&self, done: u64) -> Result<()> {
        let Inner { file, len, keep, .. } = &*self.0;
        file.sync_data().map_err(|e| self.0.failed(e))?;
        file.write_all_at(&self.0.encode(done), *len).map_err(|e| self.0.failed(e))?;
        file.sync_data().map_err(|e| self.0.failed(e))?;
        keep.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Leaves nothing but the plaintext, on disk.
    pub(super) fn finish(&self) -> Result<()> {
        // What takes its time, while it can still be gone on with.
        self.note(self.0.len)?;
        self.0.finished.store(true, Ordering::Relaxed);
        let Inner { file, len, .. } = &*self.0;
        file.set_len(*len).and_then(|()| file.sync_all()).map_err(|e| self.0.failed(e))
    }

    /// Puts what is finished in place.
    pub(super) fn put(&self, target: &Path, overwrite: bool) -> std::io::Result<()> {
        let path = TempPath::try_from_path(&self.0.path)?;
        let put = if overwrite { path.persist(target) } else { path.persist_noclobber(target) };
        match put {
            Ok(()) => self.0.finished.store(false, Ordering::Relaxed),
            Err(refused) => {
                let _ = refused.path.keep();
                return Err(refused.error);
            }
        }
        Ok(())
    }
}

impl Inner {
    fn failed(&self, e: std::io::Error) -> Error {
        Error::io(format!("writing {}", self.path.display()), e)
    }

    /// How much of the object is there, as far as a note says so.
    fn noted(&self) -> Result<u64> {
        let file_len = self.file.metadata().map_err(|e| self.failed(e))?.len();
        let mut note = [0; NOTE];
        if file_len != self.len.saturating_add(NOTE as u64) || self.file.read_exact_at(&mut note, self.len).is_err() {
            return Ok(0);
        }
        let done = note.get(48..56).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        Ok(if done <= self.len && note == self.encode(done) { done } else { 0 })
    }

    fn encode(&self, done: u64) -> [u8; NOTE] {
        let mut note = [0; NOTE];
        let (said, hash) = note.split_at_mut(NOTE - 32);
        let fields = MAGIC.iter().chain(&self.object).copied().chain(done.to_be_bytes());
        said.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        hash.copy_from_slice(&Sha256::digest(&*said));
        note
    }
}

/// Tells one sealing of an object from any other.
pub(super) fn fingerprint(id: &ObjectId, manifest: &Manifest) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(id.as_bytes());
    for part in manifest.parts() {
        hash.update(part.number.get().to_be_bytes());
        hash.update(part.len.to_be_bytes());
        hash.update(part.salt.as_bytes());
    }
    hash.finalize().into()
}

fn libc_nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

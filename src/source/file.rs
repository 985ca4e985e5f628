//! Files read at any offset by positioned reads: the default, because a file that shrinks is then an error and not a signal.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, PartSource, ReadAt, SourceIdentity};
use crate::error::{Error, ErrorKind, Result};

/// A regular file, read by positioned reads.
///
/// Several threads may read it at once; an upload from it can be resumed. The file is looked at when it is opened, and
/// [`check_unchanged`](ReadAt::check_unchanged) compares the open file with what it was then. Renaming or removing it, or renaming another
/// over it, counts as a change too, because that changes the inode's change time.
///
/// A change is noticed by length, modification time and change time, so one that falls within the file system's timestamp granularity
/// (up to 10 ms before Linux 6.13) after the file was opened, or whose writer puts the times back by setting the clock, can escape.
///
/// ```
/// use sealift::source::{FileSource, ReadAt};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("report.txt");
/// std::fs::write(&path, "twelve bytes")?;
/// let source = FileSource::open(&path)?;
/// let mut scratch = [0; 5];
/// assert_eq!(source.read_at(7, 5, &mut scratch)?, b"bytes");
///
/// std::fs::write(&path, "no longer the same")?;
/// assert_eq!(source.check_unchanged().unwrap_err().kind(), sealift::ErrorKind::SourceChanged);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileSource {
    file: File,
    identity: SourceIdentity,
}

impl FileSource {
    /// Opens the file at `path`. Blocks as long as opening a file does.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) and [`PermissionDenied`](ErrorKind::PermissionDenied) as the operating system says,
    /// [`InvalidInput`](ErrorKind::InvalidInput) for anything but a regular file (directories, pipes, devices; read pipes with
    /// [`StreamSource`](super::StreamSource)), [`SourceRead`](ErrorKind::SourceRead) for other failures.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let (file, identity) = open_regular(path.as_ref())?;
        Ok(Self { file, identity })
    }
}

impl PartSource for FileSource {
    fn len(&self) -> Option<u64> {
        Some(self.identity.len)
    }

    fn open(self: Box<Self>) -> Access {
        Access::At(Arc::new(*self))
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.identity.len
    }

    fn read_at<'a>(&'a self, offset: u64, len: usize, scratch: &'a mut [u8]) -> Result<&'a [u8]> {
        let path = &self.identity.path;
        let bytes = scratch
            .get_mut(..len)
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("the buffer is shorter than {len} bytes")))?;
        // Bytes past the length it was opened with belong to another state of the file, even where they exist.
        if offset.checked_add(len as u64).is_none_or(|end| end > self.identity.len) {
            return Err(past_the_end(path, offset, len));
        }
        match self.file.read_exact_at(bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(past_the_end(path, offset, len)),
            Err(error) => {
                Err(Error::new(ErrorKind::SourceRead, format!("cannot read {}", path.display())).with_source(error))
            }
        }
    }

    /// As far as its ends tell.
    fn is_in_memory(&self, offset: u64, len: usize) -> bool {
        let Some(before_last) = (len as u64).checked_sub(1) else { return true };
        let Some(last) = offset.checked_add(before_last) else { return false };
        is_cached(&self.file, offset) && (last == offset || is_cached(&self.file, last))
    }

    fn identity(&self) -> Option<SourceIdentity> {
        Some(self.identity.clone())
    }

    fn check_unchanged(&self) -> Result<()> {
        check_unchanged(&self.file, &self.identity)
    }
}

/// Opens a regular file and takes its identity from the open descriptor, so that no rename can come between the two.
pub(super) fn open_regular(path: &Path) -> Result<(File, SourceIdentity)> {
    let cannot = |error: io::Error| {
        let message = format!("cannot open {}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Error::io(message, error),
            _ => Error::new(ErrorKind::SourceRead, message).with_source(error),
        }
    };
    // Without O_NONBLOCK, opening a FIFO waits for a writer; it changes nothing about regular files.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "not a regular file" };
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "{} is {what}; only regular files can be read at any offset, read others as a stream",
                path.display()
            ),
        ));
    }
    let path = std::path::absolute(path).map_err(cannot)?;
    Ok((file, identity(path, &metadata)))
}

pub(super) fn check_unchanged(file: &File, was: &SourceIdentity) -> Result<()> {
    let metadata = file.metadata().map_err(|error| {
        Error::new(ErrorKind::SourceRead, format!("cannot look at {}", was.path.display())).with_source(error)
    })?;
    if identity(was.path.clone(), &metadata) != *was {
        return Err(changed(&was.path, "its length or its times are not those it was opened with"));
    }
    Ok(())
}

/// Whether the byte at `at` is in the page cache, so that reading it does not wait.
#[cfg(target_os = "linux")]
fn is_cached(file: &File, at: u64) -> bool {
    use rustix::io::{IoSliceMut, ReadWriteFlags, preadv2};
    // Not all file systems know the flag: then there is no telling.
    matches!(preadv2(file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT), Ok(1))
}

#[cfg(not(target_os = "linux"))]
fn is_cached(_: &File, _: u64) -> bool {
    false
}

pub(super) fn past_the_end(path: &Path, offset: u64, len: usize) -> Error {
    changed(path, format_args!("it has no {len} bytes at {offset} any more"))
}

fn changed(path: &Path, how: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::SourceChanged, format!("{} changed while it was being read: {how}", path.display()))
}

fn identity(path: PathBuf, metadata: &Metadata) -> SourceIdentity {
    let nanoseconds = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    SourceIdentity {
        path,
        len: metadata.len(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

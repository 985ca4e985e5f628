//! Files sealed straight from a memory map, without a copy.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use memmap2::{Mmap, MmapOptions, UncheckedAdvice};

use super::file::{check_unchanged, open_regular, past_the_end};
use super::{Access, PartSource, ReadAt, SourceIdentity};
use crate::error::{Error, ErrorKind, Result};

/// A regular file, mapped into memory: its bytes are lent from the page cache, never copied.
///
/// Faster than [`FileSource`](super::FileSource) where the page cache holds the file in large pieces, slower where it does not;
/// measure. What differs is what happens to a file that shrinks while it is read: reading a page that is gone raises `SIGBUS`, which
/// ends the process unless a handler deals with it. The `sealift` program has such a handler and makes it an ordinary
/// [`SourceChanged`](ErrorKind::SourceChanged); it tells its own faults by [`address_range`](Self::address_range).
#[derive(Debug)]
pub struct MapSource {
    map: Mmap,
    /// How many bytes of each [`REGION`] were released.
    released: Box<[AtomicUsize]>,
    file: File,
    identity: SourceIdentity,
}

/// Pages are given back in pieces of this size: each time, every core that runs one of our threads is interrupted, and forgets where
/// pages are. Much more of the map than is in flight is never in memory.
const REGION: usize = 32 << 20;

impl MapSource {
    /// Maps the file at `path`. Blocks as long as opening a file does.
    ///
    /// # Safety
    /// The bytes belong to the file system, not to this process. As long as the source or a clone of its `Arc` lives, either
    ///
    /// - nobody writes to the file or shortens it, or
    /// - a `SIGBUS` handler deals with faults in [`address_range`](Self::address_range), and whatever reads the lent slices takes each
    ///   byte for what it is and nothing more: it does not rely on a second read giving the same, as a validated `&str` would.
    ///
    /// This crate keeps the second half: it feeds the slices to the cipher and the checksum once each, and ends with
    /// [`check_unchanged`](ReadAt::check_unchanged). A file that changed meanwhile is sealed in whatever mixture was read, and then
    /// refused.
    ///
    /// # Errors
    /// As [`FileSource::open`](super::FileSource::open), and [`SourceRead`](ErrorKind::SourceRead) if it cannot be mapped.
    ///
    /// # Example
    /// ```
    /// use sealift::source::{MapSource, ReadAt};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("report.txt");
    /// std::fs::write(&path, "twelve bytes")?;
    /// // SAFETY: this program's own file, which nothing else knows.
    /// let source = unsafe { MapSource::open(&path)? };
    /// assert_eq!(source.read_at(7, 5, &mut [])?, b"bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[allow(unsafe_code, reason = "what makes a map sound is in the hands of its caller")]
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Self> {
        let (file, identity) = open_regular(path.as_ref())?;
        let cannot = || format!("cannot map {}; read it as a file instead", identity.path.display());
        let len = usize::try_from(identity.len)
            .map_err(|error| Error::new(ErrorKind::SourceRead, cannot()).with_source(error))?;
        // SAFETY: the mapping is read-only and private to `self`, lives as long as any slice lent from it, and its bytes are plain
        // `u8`, for which every value is valid. That they stay unchanged, or that no reader minds, is what our caller promises. A page
        // past the end of a file that shrank is not undefined behaviour but SIGBUS, raised at the read.
        let map = unsafe { MmapOptions::new().len(len).map(&file) }
            .map_err(|error| Error::new(ErrorKind::SourceRead, cannot()).with_source(error))?;
        let released = map.chunks(REGION).map(|_| AtomicUsize::new(0)).collect();
        Ok(Self { map, released, file, identity })
    }

    /// Takes the pages of a region out of the map.
    #[allow(unsafe_code, reason = "the map is of a file, so its pages can be had again")]
    fn give_back(&self, region: Range<usize>) {
        // SAFETY: the map is of a file and only ever read. A page that is dropped and read again comes from the file again, with the
        // bytes that it has then, which is what `open`'s caller answers for.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, region.start, region.len()) };
    }

    /// The addresses the file is mapped at, for a `SIGBUS` handler to tell this map's faults from others. Empty for an empty file.
    ///
    /// The last page reaches past the end of the range, but only bytes in the range are ever read.
    #[must_use]
    pub fn address_range(&self) -> Range<usize> {
        let range = self.map.as_ptr_range();
        range.start.addr()..range.end.addr()
    }
}

impl PartSource for MapSource {
    fn len(&self) -> Option<u64> {
        Some(self.identity.len)
    }

    fn open(self: Box<Self>) -> Access {
        Access::At(Arc::new(*self))
    }
}

impl ReadAt for MapSource {
    fn len(&self) -> u64 {
        self.identity.len
    }

    fn read_at<'a>(&'a self, offset: u64, len: usize, _scratch: &'a mut [u8]) -> Result<&'a [u8]> {
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.map.get(start..start.checked_add(len)?))
            .ok_or_else(|| past_the_end(&self.identity.path, offset, len))
    }

    /// Takes the pages out of the map, so that a long file does not fill memory. They stay in the page cache.
    fn release(&self, offset: u64, len: usize) {
        let Ok(mut at) = usize::try_from(offset) else { return };
        let Some(end) = at.checked_add(len).filter(|&end| end <= self.map.len()) else { return };
        while at < end {
            let start = at / REGION * REGION;
            let region = start..self.map.len().min(start + REGION);
            let piece = end.min(region.end) - at;
            let before = self.released.get(at / REGION).map_or(0, |released| released.fetch_add(piece, Relaxed));
            // Once only: what is read again, for a part that is sent again, may stay.
            if before < region.len() && region.len() <= before + piece {
                self.give_back(region);
            }
            at += piece;
        }
    }

    fn identity(&self) -> Option<SourceIdentity> {
        Some(self.identity.clone())
    }

    fn check_unchanged(&self) -> Result<()> {
        check_unchanged(&self.file, &self.identity)
    }
}

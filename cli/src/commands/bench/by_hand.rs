//! Loops written by hand: the least that does the work, without key derivation, manifest, retries or progress. What Sealift is slower
//! than these is what it costs to be more.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sealift::Error;
use sealift::crypto::{Backend, CHUNK, Primitive, SEALED_CHUNK, SEALED_STRIPE, STRIPE, crc64};
use sealift::source::{FileSource, ReadAt};

use super::bed::on_threads;
use crate::exit::Result;
use crate::source;

/// How the file is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Reads,
    Map,
}

/// Reads or borrows the file MiB by MiB, and seals each chunk by chunk. Nothing is kept.
pub(super) fn seal(path: &Path, by: By, backend: Backend, threads: usize, checksum: bool) -> Result {
    let file: Box<dyn ReadAt> = match by {
        By::Reads => Box::new(FileSource::open(path)?),
        By::Map => Box::new(source::map(path)?),
    };
    each_stripe(file.as_ref(), backend, threads, |_, primitive, plain, sealed| {
        for (plain, sealed) in plain.chunks_exact(CHUNK).zip(sealed.chunks_exact_mut(SEALED_CHUNK)) {
            if checksum {
                black_box(crc64(plain));
            }
            primitive.seal(plain, sealed)?;
        }
        black_box(sealed);
        Ok(())
    })
}

/// The same into a new file, which is then put on disk and in place.
pub(super) fn seal_to_file(path: &Path, target: &Path, backend: Backend, threads: usize) -> Result {
    let source = FileSource::open(path)?;
    let temp = target.with_extension("new");
    let out = File::create(&temp).map_err(cannot("make"))?;
    each_stripe(&source, backend, threads, |at, primitive, plain, sealed| {
        for (plain, sealed) in plain.chunks_exact(CHUNK).zip(sealed.chunks_exact_mut(SEALED_CHUNK)) {
            primitive.seal(plain, sealed)?;
        }
        Ok(out.write_all_at(sealed, at / STRIPE as u64 * SEALED_STRIPE as u64).map_err(cannot("write"))?)
    })?;
    put_in_place(&out, &temp, target)
}

/// A file of chunks that the cipher alone sealed, to be opened again.
pub(super) struct Sealed {
    path: PathBuf,
    primitive: Primitive,
}

impl Sealed {
    pub(super) fn make(source: &Path, path: PathBuf, backend: Backend) -> Result<Self> {
        let (source, primitive) = (FileSource::open(source)?, Primitive::new(backend)?);
        let out = File::create(&path).map_err(cannot("make"))?;
        let (mut plain, mut sealed) = (vec![0; STRIPE], vec![0; SEALED_STRIPE]);
        for n in 0..ReadAt::len(&source) / STRIPE as u64 {
            let plain = source.read_at(n * STRIPE as u64, STRIPE, &mut plain)?;
            // In order, so that a chunk's place is the number that opens it.
            for (plain, sealed) in plain.chunks_exact(CHUNK).zip(sealed.chunks_exact_mut(SEALED_CHUNK)) {
                primitive.seal(plain, sealed)?;
            }
            out.write_all_at(&sealed, n * SEALED_STRIPE as u64).map_err(cannot("write"))?;
        }
        out.sync_all().map_err(cannot("write"))?;
        Ok(Self { path, primitive })
    }

    /// Reads, opens, and drops, or writes into a new file that is then put on disk and in place.
    pub(super) fn open(&self, target: Option<&Path>, threads: usize) -> Result {
        let file = File::open(&self.path).map_err(cannot("open"))?;
        let stripes = file.metadata().map_err(cannot("look at"))?.len() / SEALED_STRIPE as u64;
        let temp = target.map(|target| target.with_extension("new"));
        let out = temp.as_ref().map(|temp| File::create(temp).map_err(cannot("make"))).transpose()?;
        let next = AtomicU64::new(0);
        on_threads(threads, |_| {
            let (mut sealed, mut plain) = (vec![0; SEALED_STRIPE], vec![0; STRIPE]);
            loop {
                let n = next.fetch_add(1, Relaxed);
                if n >= stripes {
                    return Ok(());
                }
                file.read_exact_at(&mut sealed, n * SEALED_STRIPE as u64).map_err(cannot("read"))?;
                let first = n * (STRIPE / CHUNK) as u64;
                let chunks = sealed.chunks_exact(SEALED_CHUNK).zip(plain.chunks_exact_mut(CHUNK));
                for (number, (sealed, plain)) in (first..).zip(chunks) {
                    self.primitive.open(number, sealed, plain)?;
                }
                if let Some(out) = &out {
                    out.write_all_at(&plain, n * STRIPE as u64).map_err(cannot("write"))?;
                }
                black_box(&mut plain);
            }
        })?;
        match (out, temp, target) {
            (Some(out), Some(temp), Some(target)) => put_in_place(&out, &temp, target),
            _ => Ok(()),
        }
    }
}

fn each_stripe(
    source: &dyn ReadAt,
    backend: Backend,
    threads: usize,
    work: impl Fn(u64, &Primitive, &[u8], &mut [u8]) -> Result + Sync,
) -> Result {
    let next = AtomicU64::new(0);
    on_threads(threads, |_| {
        let primitive = Primitive::new(backend)?;
        let (mut plain, mut sealed) = (vec![0; STRIPE], vec![0; SEALED_STRIPE]);
        loop {
            let at = next.fetch_add(STRIPE as u64, Relaxed);
            if at >= source.len() {
                return Ok(());
            }
            work(at, &primitive, source.read_at(at, STRIPE, &mut plain)?, &mut sealed)?;
        }
    })
}

fn put_in_place(file: &File, temp: &Path, target: &Path) -> Result {
    file.sync_all().map_err(cannot("sync"))?;
    fs::rename(temp, target).map_err(cannot("rename"))?;
    let dir = target.parent().unwrap_or(Path::new("."));
    Ok(File::open(dir).and_then(|dir| dir.sync_all()).map_err(cannot("sync"))?)
}

fn cannot(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::io(format!("cannot {what} a file of the benchmark"), error)
}

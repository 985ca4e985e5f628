//! Whether reading or mapping a file is faster, found out by doing both.

use std::time::{Duration, Instant};

use super::{FileSource, ReadAt};
use crate::crypto::{Backend, CHUNK, Primitive, SEALED_CHUNK};
use crate::error::{Error, ErrorKind, Result};

/// How much is read and sealed at once, as an upload's workers do.
const BLOCK: usize = 256 * 1024;
/// Bytes of one sample. Each is read once and in one way, because the first reading is what an upload pays for.
const SAMPLE: u64 = 1 << 20;
/// Samples of each way.
const SAMPLES: usize = 5;

/// Bytes a second at which one thread reads a file and seals what it read, in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadSpeeds {
    /// By positioned reads.
    pub read: u64,
    /// By a memory map.
    pub map: u64,
}

impl ReadSpeeds {
    /// Shorter files are not worth the trouble.
    pub const SHORTEST: u64 = 64 << 20;

    /// Reads and seals a few MiB of a file in both ways, in turn, and keeps nothing of it. Takes 2 ms or so, and blocks.
    ///
    /// Which is faster depends on how the page cache holds the file: in large pieces, a map is; in single pages, reading is. `None` for
    /// a file shorter than 64 MiB, and for one that is not in the page cache, or where there is no telling: then the disk decides, and
    /// reading, which tells the kernel more, is right.
    ///
    /// # Errors
    /// Those of [`ReadAt::read_at`]; [`InvalidInput`](ErrorKind::InvalidInput) if `map` is not of the same file.
    ///
    /// # Example
    /// ```no_run
    /// use sealift::crypto::Backend;
    /// use sealift::source::{FileSource, MapSource, PartSource, ReadSpeeds};
    ///
    /// # fn main() -> sealift::Result<()> {
    /// let file = FileSource::open("disk.img")?;
    /// // SAFETY: nobody writes to this file as long as the map lives.
    /// let map = unsafe { MapSource::open("disk.img")? };
    /// let speeds = ReadSpeeds::measure(&file, &map, Backend::default())?;
    /// let source: Box<dyn PartSource> = if speeds.is_some_and(|speeds| speeds.map_is_faster()) { Box::new(map) } else { Box::new(file) };
    /// # Ok(())
    /// # }
    /// ```
    pub fn measure(file: &FileSource, map: &dyn ReadAt, backend: Backend) -> Result<Option<Self>> {
        if ReadAt::identity(file) != map.identity() {
            return Err(Error::new(ErrorKind::InvalidInput, "the map is of another file, or of another state of it"));
        }
        let len = ReadAt::len(file);
        if len < Self::SHORTEST {
            return Ok(None);
        }
        let count = 2 * SAMPLES as u64;
        let places: Vec<u64> = (0..count).map(|n| len / count / SAMPLE * SAMPLE * n).collect();
        if !places.iter().all(|&at| file.is_in_memory(at, BLOCK + SAMPLE as usize)) {
            return Ok(None);
        }
        let mut sealer = Sealing::new(backend)?;
        // The first use of anything is slow.
        sealer.seal(file, 0, BLOCK as u64)?;
        let (mut read, mut mapped) = (Vec::new(), Vec::new());
        for (n, &at) in places.iter().enumerate() {
            let (source, times): (&dyn ReadAt, _) =
                if n.is_multiple_of(2) { (file, &mut read) } else { (map, &mut mapped) };
            // The first block of the file is warm by now: no sample begins with it.
            let at = at + BLOCK as u64;
            let start = Instant::now();
            sealer.seal(source, at, SAMPLE)?;
            times.push(start.elapsed());
        }
        Ok(Some(Self { read: speed(read), map: speed(mapped) }))
    }

    /// Whether mapping is so much faster that it is worth it.
    #[must_use]
    pub fn map_is_faster(self) -> bool {
        self.map > self.read.saturating_add(self.read / 32)
    }
}

struct Sealing {
    primitive: Primitive,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Sealing {
    fn new(backend: Backend) -> Result<Self> {
        Ok(Self { primitive: Primitive::new(backend)?, plain: vec![0; BLOCK], sealed: vec![0; SEALED_CHUNK] })
    }

    fn seal(&mut self, source: &dyn ReadAt, at: u64, len: u64) -> Result<()> {
        for at in (at..at + len).step_by(BLOCK) {
            for chunk in source.read_at(at, BLOCK, &mut self.plain)?.chunks_exact(CHUNK) {
                self.primitive.seal(chunk, &mut self.sealed)?;
            }
        }
        Ok(())
    }
}

/// Bytes a second in the median sample.
fn speed(mut times: Vec<Duration>) -> u64 {
    times.sort_unstable();
    let median = times.get(times.len() / 2).map_or(0, Duration::as_nanos).max(1);
    u64::try_from(u128::from(SAMPLE) * 1_000_000_000 / median).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_to_be_clearly_faster() {
        let is_faster = |read, map| ReadSpeeds { read, map }.map_is_faster();
        assert!(is_faster(6_000_000_000, 8_000_000_000));
        assert!(!is_faster(6_000_000_000, 6_100_000_000) && !is_faster(6, 5));
    }

    #[test]
    fn the_median_sample_counts() {
        let times = [9, 1, 2, 2, 900].map(Duration::from_millis).to_vec();
        assert_eq!(speed(times), SAMPLE * 500);
    }
}

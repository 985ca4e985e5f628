//! Whether reading or mapping a file is faster, found out by doing both.

use std::time::{Duration, Instant};

use super::{FileSource, ReadAt};
use crate::crypto::{Backend, CHUNK, Primitive, SEALED_CHUNK, SEALED_STRIPE, STRIPE};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of one sample, read and sealed at once, as an upload's workers do. Each is read once and in one way, because the first
/// reading is what an upload pays for.
const SAMPLE: usize = STRIPE;
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
        // The first use of anything is slow: the first sample does not count, and no other has its place.
        let count = 2 * SAMPLES as u64;
        let sample = SAMPLE as u64;
        let places: Vec<u64> = (0..count).map(|n| sample + (len - sample) / count / sample * sample * n).collect();
        if !places.iter().chain(&[0]).all(|&at| file.is_in_memory(at, SAMPLE)) {
            return Ok(None);
        }
        let mut sealer = Sealing::new(backend)?;
        sealer.seal(file, 0)?;
        let (mut read, mut mapped) = (Vec::new(), Vec::new());
        for (n, &at) in places.iter().enumerate() {
            let (source, times): (&dyn ReadAt, _) =
                if n.is_multiple_of(2) { (file, &mut read) } else { (map, &mut mapped) };
            let start = Instant::now();
            sealer.seal(source, at)?;
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
        Ok(Self { primitive: Primitive::new(backend)?, plain: vec![0; SAMPLE], sealed: vec![0; SEALED_STRIPE] })
    }

    fn seal(&mut self, source: &dyn ReadAt, at: u64) -> Result<()> {
        let plain = source.read_at(at, SAMPLE, &mut self.plain)?;
        for (chunk, sealed) in plain.chunks_exact(CHUNK).zip(self.sealed.chunks_exact_mut(SEALED_CHUNK)) {
            self.primitive.seal(chunk, sealed)?;
        }
        Ok(())
    }
}

/// Bytes a second in the median sample.
fn speed(mut times: Vec<Duration>) -> u64 {
    times.sort_unstable();
    let median = times.get(times.len() / 2).map_or(0, Duration::as_nanos).max(1);
    u64::try_from(SAMPLE as u128 * 1_000_000_000 / median).unwrap_or(u64::MAX)
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
        assert_eq!(speed(times), SAMPLE as u64 * 500);
    }
}

//! The file that is worked on.

use std::fs::File;
use std::io::{BufWriter, Write as _};

use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A directory with a file `source` in it, which is in the page cache and on disk, and the file's length: as many MiB as
/// `SEALIFT_BENCH_MIB` says, or else `mib`.
pub(crate) fn make(mib: u64) -> (TempDir, u64) {
    let mib = std::env::var("SEALIFT_BENCH_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(mib);
    // Beside the build: a real file system, where /tmp may be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut file = BufWriter::with_capacity(MIB, File::create(dir.path().join("source")).unwrap());
    let block: Vec<u8> = (0..MIB).map(|i| (i * 31 + i / 251) as u8).collect();
    for n in 0..mib {
        file.write_all(&n.to_be_bytes()).unwrap();
        file.write_all(&block[8..]).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    (dir, mib * MIB as u64)
}

//! The test bed: a file, plaintext in memory, a key, and a directory that is gone afterwards.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use sealift::crypto::{Backend, STRIPE};
use sealift::engine::{ReadOptions, Reader, UploadOptions};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::PartSource;
use sealift::store::MultipartStore;
use sealift::{DataKey, Engine, Error, ErrorKind};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::memory::seal_part;
use crate::args::Bench;
use crate::exit::{Failure, Result};

/// The most that is held in memory as plaintext.
const IN_MEMORY: u64 = 128 << 20;

/// See the module.
pub(super) struct Bed {
    dir: TempDir,
    pub(super) size: u64,
    pub(super) rounds: usize,
    /// The beginning of the file: whole stripes.
    pub(super) plain: Bytes,
    pub(super) key: DataKey,
    kms: Arc<KeyFile>,
    pub(super) backend: Backend,
    /// Ascending, from 1 to the most.
    pub(super) threads: Vec<usize>,
    /// How many small objects make one turn.
    pub(super) objects: u64,
    runtime: Handle,
}

impl Bed {
    /// Makes the file, of bytes that no file system can shorten.
    pub(super) fn new(args: &Bench) -> Result<Self> {
        let size = args.size.unwrap_or(if args.quick { 64 << 20 } else { 512 << 20 });
        let size = size.next_multiple_of(STRIPE as u64).max(STRIPE as u64);
        let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        let cannot = |e| Failure::from(Error::io(format!("making files in {}", parent.display()), e));
        let dir = tempfile::Builder::new().prefix("sealift-bench-").tempdir_in(&parent).map_err(cannot)?;
        let plain = noise(usize::try_from(size.min(IN_MEMORY)).unwrap_or(STRIPE));
        let mut file = BufWriter::with_capacity(STRIPE, File::create(dir.path().join("source")).map_err(cannot)?);
        let mut left = size;
        while left > 0 {
            let piece = plain.get(..plain.len().min(left as usize)).unwrap_or(&plain);
            file.write_all(piece).map_err(cannot)?;
            left -= piece.len() as u64;
        }
        file.into_inner().map_err(|e| cannot(e.into_error()))?.sync_all().map_err(cannot)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = args.threads.map_or(cores, usize::from);
        Ok(Self {
            dir,
            size,
            rounds: args.rounds.map_or(if args.quick { 3 } else { 9 }, usize::from),
            plain: plain.into(),
            key: DataKey::random()?,
            kms: Arc::new(KeyFile::new(DataKey::random()?)),
            backend: args.backend.unwrap_or_default(),
            threads: powers(most),
            objects: if args.quick || size < 64 << 20 { 1_000 } else { 10_000 },
            runtime: Handle::current(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path("source")
    }

    pub(super) fn most_threads(&self) -> usize {
        self.threads.last().copied().unwrap_or(1)
    }

    pub(super) fn engine(&self, threads: usize) -> Result<Engine> {
        // Workers' own memory comes out of the budget, so many cores need more of it.
        let budget = (256 << 20) + threads as u64 * (4 << 20);
        Ok(Engine::builder().threads(threads).backend(self.backend).memory_budget(budget).build()?)
    }

    /// Waits for what needs the async runtime.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::task::block_in_place(|| self.runtime.block_on(future))
    }

    pub(super) fn put_into<'a>(
        &'a self,
        engine: &'a Engine,
        store: Arc<dyn MultipartStore>,
        key: String,
        source: Box<dyn PartSource>,
    ) -> BoxFuture<'a, Result> {
        self.put_with(engine, store, key, source, UploadOptions::default())
    }

    pub(super) fn put_with<'a>(
        &'a self,
        engine: &'a Engine,
        store: Arc<dyn MultipartStore>,
        key: String,
        source: Box<dyn PartSource>,
        options: UploadOptions,
    ) -> BoxFuture<'a, Result> {
        Box::pin(async move {
            let recipients = [Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }];
            engine.upload(store, key.parse()?, source, &recipients, options).await?;
            Ok(())
        })
    }

    pub(super) async fn open(&self, engine: &Engine, store: Arc<dyn MultipartStore>, key: &str) -> Result<Reader> {
        let trusted = Trusted::new(vec![(self.kms.clone(), TrustedKeys::Any)]);
        Ok(engine.open(store, key.parse()?, &trusted, &ReadOptions::default()).await?)
    }

    /// The plaintext in memory as one sealed message.
    pub(super) fn sealed_part(&self) -> Result<Vec<u8>> {
        seal_part(self.backend, &self.key, &self.plain)
    }

    /// A directory for a store.
    pub(super) fn new_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).map_err(|e| Error::io(format!("making {}", path.display()), e))?;
        Ok(path)
    }
}

/// Does `work` on so many threads, each told which it is. The first failure is the answer.
pub(super) fn on_threads(threads: usize, work: impl Fn(usize) -> Result + Sync) -> Result {
    if threads == 1 {
        return work(0);
    }
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n))).collect();
        running.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure::new(ErrorKind::Internal, "a measuring thread died")))
        })
    })
}

/// 1, 2, 4 and so on below `most`, and `most`.
fn powers(most: usize) -> Vec<usize> {
    let below = std::iter::successors(Some(1_usize), |n| n.checked_mul(2)).take_while(|n| *n < most);
    below.chain([most]).collect()
}

/// Bytes that do not repeat: xorshift64.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_doubled_up_to_the_most() {
        assert_eq!(powers(1), [1]);
        assert_eq!(powers(2), [1, 2]);
        assert_eq!(powers(6), [1, 2, 4, 6]);
    }

    #[test]
    fn a_failure_on_one_thread_is_the_answer() {
        let failing = |n| if n == 1 { Err(Failure::new(ErrorKind::Io, "full")) } else { Ok(()) };
        assert_eq!(on_threads(3, failing).unwrap_err().kind(), ErrorKind::Io);
        on_threads(3, |_| Ok(())).unwrap();
    }
}

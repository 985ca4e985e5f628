//! Parts of a stream that are too large for memory: sealed as they are read, they wait for the store in files without a name.
//!
//! Nothing but ciphertext is written. What was sealed once is sent from there however often it takes, so a retry sends the same bytes
//! and the source is never read again. The files have no name, so they are gone with the process, however it ends.

use std::fs::File;
use std::future::Future;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use tokio::sync::{Semaphore, mpsc};

use super::Shared;
use super::held::{HeldBytes, HeldPart};
use super::seal::{Stripe, room_of};
use crate::crypto::SEALED_STRIPE;
use crate::error::{Error, ErrorKind, Result};
use crate::upload::SealedPart;

/// Pieces that are read at a time: enough for the disk to be busy while one is sent.
const READ_AHEAD: usize = 4;

/// The directory of such files.
pub(crate) struct Spool {
    dir: PathBuf,
    /// The most parts in it at a time.
    parts: u32,
    /// For the first part. Made beforehand, to see whether it can be.
    first: Mutex<Option<File>>,
}

/// A sealed part in a file.
pub(crate) struct SpooledPart {
    file: Arc<File>,
    /// What says where that is, in errors.
    dir: PathBuf,
    len: u64,
}

impl Spool {
    /// A spool in `dir`, for `parts` parts at a time. Blocks for the disk.
    pub(crate) fn open(dir: PathBuf, parts: u32) -> Result<Self> {
        let first = Mutex::new(Some(new_file(&dir)?));
        Ok(Self { dir, parts, first })
    }

    /// Writes one part: its header, then its stripes as they come and are sealed, each dropped once it is written.
    pub(crate) async fn write(
        self: &Arc<Self>,
        shared: &Shared,
        header: Bytes,
        mut sealed: SealedPart,
        checksums: bool,
        mut stripes: mpsc::Receiver<impl Future<Output = Result<Stripe>>>,
    ) -> Result<HeldPart> {
        let file = {
            let spool = Arc::clone(self);
            shared.workers.blocking(move || spool.file()).await?
        };
        let mut len = self.append(shared, &file, 0, header).await?;
        while let Some(stripe) = stripes.recv().await {
            let (bytes, crc, plain) = stripe.await?;
            sealed.add(checksums, crc, plain);
            len += self.append(shared, &file, len, bytes).await?;
        }
        let part = SpooledPart { file, dir: self.dir.clone(), len };
        Ok(HeldPart { bytes: HeldBytes::Spooled(Arc::new(part)), sealed })
    }

    fn file(&self) -> Result<Arc<File>> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map_or_else(|| new_file(&self.dir), Ok).map(Arc::new)
    }

    async fn append(self: &Arc<Self>, shared: &Shared, file: &Arc<File>, at: u64, bytes: Bytes) -> Result<u64> {
        let (spool, file) = (Arc::clone(self), Arc::clone(file));
        let write = move || {
            file.write_all_at(&bytes, at).map_err(|e| {
                let Self { dir, parts, .. } = spool.as_ref();
                let doing = format!(
                    "writing a part to the spool directory {}, which must have room for as many as are sent at once, here {parts}",
                    dir.display()
                );
                Error::io(doing, e)
            })?;
            Ok(bytes.len() as u64)
        };
        shared.workers.blocking(write).await
    }
}

impl SpooledPart {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Some of its bytes, in pieces of a stripe, at most `window` of them in memory.
    pub(crate) fn read(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        range: Range<u64>,
        window: u32,
    ) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        let window = (window as usize).max(1);
        // Taken for a buffer before it is filled, given back when whoever was handed its bytes drops them.
        let room = Arc::new(Semaphore::new(window));
        let (this, shared, end) = (Arc::clone(self), Arc::clone(shared), range.end);
        stream::iter(range.step_by(SEALED_STRIPE))
            .then(move |at| {
                let permit = Arc::clone(&room).acquire_owned();
                async move { Ok((at, permit.await.map_err(|_| window_closed())?)) }
            })
            .map(move |piece| {
                let (this, shared) = (Arc::clone(&this), Arc::clone(&shared));
                async move {
                    let (at, permit) = piece?;
                    let buffers = Arc::clone(&shared.buffers);
                    let read = move || {
                        let mut buffer = buffers.take().with_permit(permit);
                        let len = (end - at).min(SEALED_STRIPE as u64) as usize;
                        this.file.read_exact_at(room_of(buffer.space(), len)?, at).map_err(|e| {
                            Error::io(format!("reading a part in the spool directory {}", this.dir.display()), e)
                        })?;
                        buffer.set_filled(len);
                        Ok(buffer.freeze())
                    };
                    shared.workers.blocking(read).await
                }
            })
            .buffered(READ_AHEAD.min(window))
    }
}

pub(super) fn window_closed() -> Error {
    Error::new(ErrorKind::Internal, "a part's window was closed")
}

fn new_file(dir: &std::path::Path) -> Result<File> {
    tempfile::tempfile_in(dir)
        .map_err(|e| Error::io(format!("making a file in the spool directory {}", dir.display()), e))
}

#[cfg(test)]
pub(super) mod tests {
    use futures::TryStreamExt as _;

    use super::super::Engine;
    use super::*;

    /// A part of these bytes.
    pub(in super::super) fn spooled(bytes: &[u8]) -> SpooledPart {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        SpooledPart { file: Arc::new(file), dir: PathBuf::new(), len: bytes.len() as u64 }
    }

    #[tokio::test]
    async fn any_bytes_come_back_and_no_more_than_a_window_of_them_is_in_memory() {
        let engine = Engine::builder().threads(1).memory_budget(16 << 20).build().unwrap();
        let bytes: Vec<u8> = (0..5 * SEALED_STRIPE + 77).map(|n| (n / 251) as u8).collect();
        let part = Arc::new(spooled(&bytes));
        let stripe = SEALED_STRIPE as u64;
        for range in [0..part.len(), 5..5, 1..stripe + 1, stripe..2 * stripe, 4 * stripe + 1..part.len()] {
            let read: Vec<Bytes> = part.read(engine.shared(), range.clone(), 8).try_collect().await.unwrap();
            assert!(read.concat() == bytes[range.start as usize..range.end as usize], "{range:?}");
        }
        let mut pieces = std::pin::pin!(part.read(engine.shared(), 0..part.len(), 2));
        let first = [pieces.next().await.unwrap().unwrap(), pieces.next().await.unwrap().unwrap()];
        assert!(futures::poll!(pieces.next()).is_pending(), "a third while two are held");
        drop(first);
        assert_eq!(pieces.next().await.unwrap().unwrap().len(), SEALED_STRIPE);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap().path().join("none");
        let error = Spool::open(dir.clone(), 1).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
    }
}

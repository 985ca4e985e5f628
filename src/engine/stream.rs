//! Reading a source that can only be read once, a stripe at a time, always knowing whether more follows.

use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use super::seal::{PartSealer, PlainPool, SealingPart};
use crate::crypto::STRIPE;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::types::PartNumber;

/// Enough to look ahead, and what a pipe gives at a time.
const AHEAD: usize = 64 * 1024;

/// A stream being cut into parts.
pub(crate) struct PartStream {
    reader: BufReader<Pin<Box<dyn AsyncRead + Send>>>,
    pool: Arc<PlainPool>,
}

/// A part that was read to its end and is being sealed.
pub(crate) struct FilledPart {
    pub(crate) part: SealingPart,
    pub(crate) len: u64,
    pub(crate) last: bool,
}

impl PartStream {
    pub(crate) fn new(reader: Pin<Box<dyn AsyncRead + Send>>, threads: usize) -> Self {
        Self { reader: BufReader::with_capacity(AHEAD, reader), pool: PlainPool::new(threads + 1) }
    }

    /// Waits until there is something to read, or the end. Whoever has nothing to send takes no memory.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        self.reader.fill_buf().await.map(drop).map_err(read_failed)
    }

    /// Reads the next part, at most `max` bytes, and hands its stripes to the workers as they come.
    pub(crate) async fn fill(&mut self, sealer: &PartSealer, number: PartNumber, max: u64) -> Result<FilledPart> {
        let mut part = sealer.begin(number)?;
        let mut len = 0;
        loop {
            let mut plain = self.pool.take().await;
            let room = (max - len).min(STRIPE as u64);
            (&mut self.reader).take(room).read_to_end(&mut plain).await.map_err(read_failed)?;
            len += plain.len() as u64;
            let is_last_stripe = plain.len() < STRIPE;
            sealer.push(&mut part, plain, is_last_stripe, &self.pool)?;
            if is_last_stripe {
                break;
            }
        }
        let last = self.reader.fill_buf().await.map_err(read_failed)?.is_empty();
        Ok(FilledPart { part, len, last })
    }
}

fn read_failed(e: std::io::Error) -> Error {
    // Adapters put their own errors inside; a plain one is the stream's.
    match e.downcast::<Error>() {
        Ok(error) => error,
        Err(e) => Error::new(ErrorKind::SourceRead, "reading the source").with_source(e),
    }
    // Whatever the source says of itself: what was read before the failure is gone, and the next read would go on behind it.
    .with_retry(Retry::No)
}

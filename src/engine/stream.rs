//! Reading a source that can only be read once, a stripe at a time, always knowing whether more follows.

use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::{Semaphore, mpsc};

use super::held::HeldPart;
use super::seal::{PartSealer, PlainPool, SealingPart};
use super::spool::{Spool, window_closed};
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

/// A part that was read to its end.
pub(crate) struct FilledPart {
    pub(crate) part: Filled,
    pub(crate) len: u64,
    pub(crate) last: bool,
}

/// What became of its bytes.
pub(crate) enum Filled {
    /// They are being sealed.
    Sealing(SealingPart),
    /// They are sealed already.
    Spooled(HeldPart),
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
            let plain = self.stripe(max - len).await?;
            len += plain.len() as u64;
            let is_last_stripe = plain.len() < STRIPE;
            sealer.push(&mut part, plain, is_last_stripe, &self.pool)?;
            if is_last_stripe {
                break;
            }
        }
        Ok(FilledPart { part: Filled::Sealing(part), len, last: self.is_at_end().await? })
    }

    /// The same for a part that is too large for memory: it is sealed into `spool`, with at most `window` stripes on their way there.
    pub(crate) async fn spool(
        &mut self,
        sealer: &PartSealer,
        number: PartNumber,
        max: u64,
        spool: &Arc<Spool>,
        window: u32,
    ) -> Result<FilledPart> {
        let mut part = sealer.begin(number)?;
        let (header, sealed) = (part.header(), part.without_stripes());
        let window = (window as usize).max(1);
        // Taken for a buffer before it is filled, given back when it is written.
        let room = Arc::new(Semaphore::new(window));
        // The empty last chunk of a part of whole stripes needs no buffer.
        let (sealing, stripes) = mpsc::channel(window + 1);
        let read = async move {
            let mut len = 0;
            loop {
                let permit = Arc::clone(&room).acquire_owned().await.map_err(|_| window_closed())?;
                let plain = self.stripe(max - len).await?;
                len += plain.len() as u64;
                let is_last_stripe = plain.len() < STRIPE;
                let stripe = sealer.seal_next(&mut part, plain, is_last_stripe, &self.pool, permit)?;
                sealing.send(stripe).await.map_err(|_| window_closed())?;
                if is_last_stripe {
                    break;
                }
            }
            drop(sealing);
            Ok((len, self.is_at_end().await?))
        };
        let write = spool.write(&sealer.shared, header, sealed, sealer.checksums, stripes);
        // What was read is gone with the part, so none of it can be tried again.
        let gone = |e: Error| e.with_part(number).with_retry(Retry::No);
        let ((len, last), held) = futures::future::try_join(read, write).await.map_err(gone)?;
        Ok(FilledPart { part: Filled::Spooled(held), len, last })
    }

    /// The next bytes of a part of which `left` are missing: a stripe of them, or fewer if the part ends with them.
    async fn stripe(&mut self, left: u64) -> Result<Vec<u8>> {
        let mut plain = self.pool.take().await;
        let room = left.min(STRIPE as u64);
        (&mut self.reader).take(room).read_to_end(&mut plain).await.map_err(read_failed)?;
        Ok(plain)
    }

    async fn is_at_end(&mut self) -> Result<bool> {
        Ok(self.reader.fill_buf().await.map_err(read_failed)?.is_empty())
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

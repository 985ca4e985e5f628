//! A sealed object as tokio's `AsyncRead` and `AsyncSeek`.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use super::Reader;
use crate::error::{Error, Result};

/// What a read after a seek fetches; doubled with every read that goes on from there, so that jumping about stays cheap and
/// reading through gets fast.
const FIRST_WINDOW: u64 = 256 * 1024;
const LAST_WINDOW: u64 = 1 << 30;

/// Reads a sealed object from any position, as [`AsyncRead`] and [`AsyncSeek`]. Errors are [`crate::Error`] inside
/// [`io::Error`].
pub struct ObjectReader {
    reader: Reader,
    position: u64,
    window: u64,
    stream: Option<BoxStream<'static, Result<Bytes>>>,
    rest: Bytes,
}

impl Reader {
    /// A cursor on the object, at its beginning.
    #[must_use]
    pub fn cursor(&self) -> ObjectReader {
        ObjectReader { reader: self.clone(), position: 0, window: FIRST_WINDOW, stream: None, rest: Bytes::new() }
    }
}

impl std::fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectReader")
            .field("reader", &self.reader)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for ObjectReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            if out.remaining() == 0 || this.position >= this.reader.len() {
                return Poll::Ready(Ok(()));
            }
            let stream = this.stream.get_or_insert_with(|| {
                let end = this.position.saturating_add(this.window);
                this.window = this.window.saturating_mul(2).min(LAST_WINDOW);
                Box::pin(this.reader.stream(this.position..end))
            });
            match ready!(stream.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => this.rest = bytes,
                Some(Err(e)) => {
                    this.stream = None;
                    return Poll::Ready(Err(io_error(e)));
                }
                None => this.stream = None,
            }
        }
        let n = out.remaining().min(this.rest.len());
        out.put_slice(&this.rest.split_to(n));
        this.position += n as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for ObjectReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.reader.len().checked_add_signed(by),
        };
        let position =
            position.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the beginning"))?;
        if position != self.position {
            self.position = position;
            self.window = FIRST_WINDOW;
            self.stream = None;
            self.rest = Bytes::new();
        }
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

fn io_error(e: Error) -> io::Error {
    use crate::ErrorKind as Kind;
    let kind = match e.kind() {
        Kind::NotFound => io::ErrorKind::NotFound,
        Kind::PermissionDenied => io::ErrorKind::PermissionDenied,
        Kind::Timeout => io::ErrorKind::TimedOut,
        Kind::Authentication | Kind::Malformed | Kind::NotSealed | Kind::UnsupportedFormat => {
            io::ErrorKind::InvalidData
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, e)
}

//! Sources that are read once, in order: pipes, sockets, bodies of requests.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::stream::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use super::{Access, PartSource};

/// A source that is read once, in order, of known or unknown length.
///
/// ```
/// use bytes::Bytes;
/// use futures::stream;
/// use sealift::source::{PartSource, StreamSource};
///
/// let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from("twelve ")), Ok(Bytes::from("bytes"))]);
/// assert_eq!(StreamSource::from_stream(pieces).with_len(12).len(), Some(12));
///
/// // Anything that reads: tokio's `stdin`, a `TcpStream`, here a slice.
/// assert_eq!(StreamSource::from_reader(&b"twelve bytes"[..]).len(), None);
/// ```
pub struct StreamSource {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    len: Option<u64>,
}

impl StreamSource {
    /// What `reader` reads up to its end.
    pub fn from_reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Self { reader: Box::pin(reader), len: None }
    }

    /// What `stream` yields up to its end or its first error. Empty pieces are skipped.
    pub fn from_stream<E>(stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::from_reader(StreamReader { stream: Box::pin(stream), rest: Bytes::new() })
    }

    /// The same, announced to have `len` bytes, so that the upload can be planned for them. Reading then fails with
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if there are fewer, [`InvalidData`](io::ErrorKind::InvalidData) if there are
    /// more.
    #[must_use]
    pub fn with_len(mut self, len: u64) -> Self {
        self.len = Some(len);
        self
    }
}

impl PartSource for StreamSource {
    fn len(&self) -> Option<u64> {
        self.len
    }

    fn open(self: Box<Self>) -> Access {
        Access::Once(match self.len {
            None => self.reader,
            Some(len) => Box::pin(Announced { reader: self.reader, len, left: len }),
        })
    }
}

impl fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSource").field("len", &self.len).finish_non_exhaustive()
    }
}

struct StreamReader<S: ?Sized> {
    rest: Bytes,
    stream: Pin<Box<S>>,
}

impl<S, E> AsyncRead for StreamReader<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // An empty piece is not the end, but an empty read would say so.
        while self.rest.is_empty() {
            match ready!(self.stream.as_mut().poll_next(cx)) {
                Some(Ok(piece)) => self.rest = piece,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..n]);
        self.rest.advance(n);
        Poll::Ready(Ok(()))
    }
}

/// Holds a reader to the length its owner announced.
struct Announced {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    len: u64,
    left: u64,
}

impl AsyncRead for Announced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(self.reader.as_mut().poll_read(cx, buf))?;
        let n = (buf.filled().len() - before) as u64;
        let wrong = |kind, how| {
            let message = format!("the source was announced with {} bytes and has {how}", self.len);
            Poll::Ready(Err(io::Error::new(kind, message)))
        };
        match self.left.checked_sub(n) {
            None => {
                // A reader that fails has read nothing, says AsyncRead's contract.
                buf.set_filled(before);
                wrong(io::ErrorKind::InvalidData, "more".to_owned())
            }
            Some(left) if n == 0 && left > 0 => wrong(io::ErrorKind::UnexpectedEof, (self.len - left).to_string()),
            Some(left) => {
                self.left = left;
                Poll::Ready(Ok(()))
            }
        }
    }
}

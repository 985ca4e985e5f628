//! Clients that are too slow: who sends or takes less than a few bytes a second holds what others need.
//!
//! Only the time counts that is spent waiting for the client.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::dialect::BoxError;

/// How slow a client may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowest {
    /// Over how much waiting for it the client is judged.
    pub(super) window: Duration,
    /// How many bytes it has to move in that time.
    pub(super) bytes: u64,
}

/// What became of one direction of one client.
struct Pace {
    slowest: Slowest,
    /// What was moved, and how long was waited, in this window.
    moved: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Pace {
    fn new(slowest: Slowest) -> Self {
        let timer = Box::pin(tokio::time::sleep(slowest.window));
        Self { slowest, moved: 0, waited: Duration::ZERO, waiting_since: None, timer }
    }

    fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        self.moved = self.moved.saturating_add(bytes as u64);
        if self.moved >= self.slowest.bytes.max(1) {
            (self.moved, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Waits on, unless it was too long for too little.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            self.timer.as_mut().reset(now + self.slowest.window.saturating_sub(self.waited));
        }
        self.timer.as_mut().poll(cx)
    }
}

/// A request's body that ends in an error if it is longer than it may be, or comes too slowly.
pub(super) struct Paced<B> {
    inner: B,
    /// Bytes that may still come.
    room: u64,
    pace: Pace,
}

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is longer than the gateway takes.
    TooLong,
    /// It came too slowly.
    TooSlow,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the request's body is longer than this gateway takes",
            Self::TooSlow => "the request's body came too slowly",
        })
    }
}

impl std::error::Error for BodyError {}

impl<B> Paced<B> {
    pub(super) fn new(inner: B, most: u64, slowest: Slowest) -> Self {
        Self { inner, room: most, pace: Pace::new(slowest) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            ready!(this.pace.wait(cx));
            return Poll::Ready(Some(Err(BodyError::TooSlow.into())));
        };
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => frame,
        };
        let len = frame.data_ref().map_or(0, |data| data.remaining());
        this.pace.moved(len);
        match this.room.checked_sub(len as u64) {
            None => return Poll::Ready(Some(Err(BodyError::TooLong.into()))),
            Some(room) => this.room = room,
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection that fails if its client takes too slowly what is sent to it, or says nothing for too long at the beginning.
pub(super) struct PacedIo<S> {
    inner: S,
    writes: Pace,
    /// Bytes that the client has to send before `opening` ends, for the protocol to be known.
    awaited: usize,
    opening: Pin<Box<Sleep>>,
}

impl<S> PacedIo<S> {
    pub(super) fn new(inner: S, slowest: Slowest, opening: Duration) -> Self {
        let opening = Box::pin(tokio::time::sleep(opening));
        Self { inner, writes: Pace::new(slowest), awaited: PREFACE, opening }
    }

    fn paced<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
        len: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(done) => {
                if let Ok(value) = &done {
                    self.writes.moved(len(value));
                }
                Poll::Ready(done)
            }
            Poll::Pending => {
                ready!(self.writes.wait(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes too little")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        if this.awaited > 0 {
            match &result {
                Poll::Pending => {
                    ready!(this.opening.as_mut().poll(cx));
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing")));
                }
                Poll::Ready(_) => this.awaited = this.awaited.saturating_sub(buf.filled().len() - before),
            }
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.paced(cx, result, |len| *len)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.paced(cx, result, |len| *len)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_flush(cx);
        this.paced(cx, result, |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.paced(cx, result, |()| 0)
    }
}

/// As long as what HTTP/2 begins with, and shorter than any request of HTTP/1.1.
const PREFACE: usize = 24;

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const SLOWEST: Slowest = Slowest { window: Duration::from_secs(10), bytes: 100 };

    /// A body of so many bytes, each after such a pause.
    async fn read(pieces: &'static [(u64, usize)], most: u64, think: Duration) -> Result<usize, BoxError> {
        let stream = futures::stream::iter(pieces).then(|(pause, len)| async move {
            tokio::time::sleep(Duration::from_secs(*pause)).await;
            Ok::<_, BoxError>(Frame::data(Bytes::from(vec![0; *len])))
        });
        let mut body = Paced::new(StreamBody::new(stream.boxed()), most, SLOWEST);
        let mut len = 0;
        while let Some(frame) = body.frame().await {
            len += frame?.into_data().map_or(0, |data| data.len());
            tokio::time::sleep(think).await;
        }
        Ok(len)
    }

    fn why<T: std::fmt::Debug>(result: Result<T, BoxError>) -> BodyError {
        *result.unwrap_err().downcast().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_but_not_too_slow() {
        assert_eq!(read(&[(9, 100), (9, 100), (9, 1)], 1000, Duration::ZERO).await.unwrap(), 201);
        // Alternating, no single pause is too long.
        assert_eq!(why(read(&[(4, 1), (4, 1), (4, 1), (4, 1)], 1000, Duration::ZERO).await), BodyError::TooSlow);
        assert_eq!(why(read(&[(11, 100)], 1000, Duration::ZERO).await), BodyError::TooSlow);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_the_client_s_fault_if_nobody_reads() {
        assert_eq!(read(&[(1, 1), (1, 1), (1, 1)], 1000, Duration::from_secs(60)).await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_where_it_gets_too_long() {
        assert_eq!(read(&[(0, 600), (0, 400)], 1000, Duration::ZERO).await.unwrap(), 1000);
        assert_eq!(why(read(&[(0, 600), (0, 401)], 1000, Duration::ZERO).await), BodyError::TooLong);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_or_says_nothing_is_given_up() {
        let (client, server) = tokio::io::duplex(64);
        let mut server = PacedIo::new(server, SLOWEST, Duration::from_secs(5));
        let failed = server.write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        drop(client);

        let (mut client, server) = tokio::io::duplex(64);
        let mut server = PacedIo::new(server, SLOWEST, Duration::from_secs(5));
        client.write_all(b"GET / HT").await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 8);
        assert_eq!(server.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);

        // Once it has begun, how long a request may take is not the connection's business.
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = PacedIo::new(server, SLOWEST, Duration::from_secs(5));
        client.write_all(&[b'x'; 30]).await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 30);
        let later = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(600)).await;
            client.write_all(b"y").await.map(|()| client)
        });
        assert_eq!(server.read(&mut buffer).await.unwrap(), 1);
        later.await.unwrap().unwrap();
    }
}

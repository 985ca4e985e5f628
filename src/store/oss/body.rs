//! Bodies on their way: counted, and with their checksum.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{Stream, StreamExt as _};

use crate::crypto::Crc64;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Payload;

/// A payload as the body of a request. It fails rather than have another length than announced, so that OSS never takes it for whole.
///
/// The last segment is held back until the payload has ended: what would follow it is an error, which the connection would not ask for.
pub(super) struct Outgoing {
    payload: Payload,
    left: u64,
    last: Option<Bytes>,
    crc: Option<Crc64>,
    ended: bool,
    sent: Sent,
}

/// What has become of an outgoing body.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    crc: Option<u64>,
    error: Option<Error>,
}

impl Outgoing {
    pub(super) fn new(payload: Payload, checksum: bool) -> (Self, Sent) {
        let sent = Sent::default();
        let left = payload.len();
        let crc = checksum.then(Crc64::new);
        (Self { payload, left, last: None, crc, ended: false, sent: sent.clone() }, sent)
    }

    /// Takes a payload of no bytes to its end, where no connection would ask for it.
    pub(super) async fn end_of_none(&mut self) -> Result<()> {
        while let Some(segment) = self.next().await {
            if segment.is_err() {
                return Err(self.sent.take_error().unwrap_or_else(|| Payload::wrong_length(0, 1)));
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Bytes, Failed>>> {
        self.ended = true;
        self.sent.state(|state| state.error = Some(error));
        Poll::Ready(Some(Err(Failed)))
    }
}

impl Sent {
    fn state<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the payload failed, if it did.
    pub(super) fn take_error(&self) -> Option<Error> {
        self.state(|state| state.error.take())
    }

    /// The checksum of all of it, if it was computed and all was sent.
    pub(super) fn crc(&self) -> Option<u64> {
        self.state(|state| state.crc)
    }
}

impl Stream for Outgoing {
    type Item = Result<Bytes, Failed>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            match this.payload.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return this.fail(error),
                Poll::Ready(Some(Ok(segment))) if segment.is_empty() => {}
                Poll::Ready(Some(Ok(segment))) => {
                    let (len, all) = (segment.len() as u64, this.payload.len());
                    let Some(left) = this.left.checked_sub(len) else {
                        let sent = all - this.left;
                        return this.fail(Payload::wrong_length(all, sent.saturating_add(len)));
                    };
                    this.left = left;
                    if let Some(crc) = &mut this.crc {
                        crc.update(&segment);
                    }
                    if left > 0 {
                        return Poll::Ready(Some(Ok(segment)));
                    }
                    this.last = Some(segment);
                }
                Poll::Ready(None) if this.left > 0 => {
                    let all = this.payload.len();
                    let sent = all - this.left;
                    return this.fail(Payload::wrong_length(all, sent));
                }
                Poll::Ready(None) => {
                    this.ended = true;
                    let crc = this.crc.as_ref().map(Crc64::value);
                    this.sent.state(|state| state.crc = crc);
                    return Poll::Ready(this.last.take().map(Ok));
                }
            }
        }
    }
}

/// A payload that failed; why is in [`Sent`].
#[derive(Debug)]
pub(super) struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the payload failed")
    }
}

impl std::error::Error for Failed {}

/// All of an answer's body, which a well-behaved server keeps short.
pub(super) async fn bounded(mut response: reqwest::Response, max: usize, doing: &str) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| super::errors::transport(doing, e))? {
        if body.len().saturating_add(chunk.len()) > max {
            let message = format!("{doing}: OSS's answer is longer than {max} bytes");
            return Err(Error::new(ErrorKind::Malformed, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn send(payload: Payload) -> (Vec<usize>, Sent) {
        let (outgoing, sent) = Outgoing::new(payload, true);
        let lengths = outgoing.filter_map(async |segment| segment.ok().map(|bytes| bytes.len())).collect().await;
        (lengths, sent)
    }

    #[tokio::test]
    async fn the_last_segment_waits_for_the_end() {
        let segments = || ["123".into(), "".into(), "456789".into()].map(Ok);
        let (lengths, sent) = send(Payload::produced(9, stream::iter(segments()))).await;
        assert_eq!((lengths, sent.crc()), (vec![3, 6], Some(0x995d_c9bb_df19_39fa)));
        // Too long and too short: the announced length is never reached.
        for len in [8, 3, 10] {
            let (lengths, sent) = send(Payload::produced(len, stream::iter(segments()))).await;
            assert!(lengths.iter().sum::<usize>() < len as usize, "{len}: {lengths:?}");
            assert_eq!((sent.crc(), sent.take_error().map(|e| e.kind())), (None, Some(ErrorKind::Io)));
        }
    }

    #[tokio::test]
    async fn a_payload_of_nothing_is_taken_to_its_end() {
        let (mut empty, sent) = Outgoing::new(Payload::held(vec![]), true);
        empty.end_of_none().await.unwrap();
        assert_eq!(sent.crc(), Some(0));
        let (mut not_empty, _) = Outgoing::new(Payload::produced(0, stream::iter([Ok("1".into())])), true);
        assert_eq!(not_empty.end_of_none().await.unwrap_err().kind(), ErrorKind::Io);
    }
}

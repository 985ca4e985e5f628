//! Bodies of requests and answers: segments go out as they are, and what comes in is counted.

use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream as _, StreamExt as _};
use http_body::{Body, Frame, SizeHint};

use super::errors::{Cause, Request, root_cause};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::store::Payload;

/// Why a payload failed, kept aside: what passes through the HTTP client comes out as a broken connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    fn set(&self, error: Error) -> Cause {
        let cause = Cause(error.to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        cause
    }

    /// The payload's own error, if it had one.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A payload as the body of a request: each segment is one frame, and nothing is joined or copied.
///
/// The last segment is held back until the payload has ended, so that one which has too much never looks whole to the store.
pub(super) fn outgoing(payload: Payload) -> (ByteStream, Failure) {
    let failure = Failure::default();
    let body = Outgoing {
        len: payload.len(),
        taken: 0,
        sent: 0,
        last: None,
        // The SDK wants bodies that are `Sync`. Nobody waits for this lock: there is one owner, who has it exclusively.
        payload: Mutex::new(payload),
        failure: failure.clone(),
    };
    (ByteStream::new(SdkBody::from_body_1_x(body)), failure)
}

/// The answer to a request that sends a payload. If that is what failed, its own error is the one to tell.
pub(super) async fn sent<T, E>(
    request: &Request,
    allowed: Duration,
    failure: &Failure,
    sending: impl Future<Output = Result<T, SdkError<E>>>,
) -> Result<T>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let error = match tokio::time::timeout(allowed, Box::pin(sending)).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => request.failed(error),
        Err(_) => request.timed_out(allowed),
    };
    Err(failure.take().unwrap_or(error))
}

struct Outgoing {
    /// Bytes announced.
    len: u64,
    /// Bytes taken from the payload.
    taken: u64,
    /// Bytes given to the connection.
    sent: u64,
    /// The segment that makes it whole.
    last: Option<Bytes>,
    payload: Mutex<Payload>,
    failure: Failure,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = &mut *self;
        loop {
            let payload = this.payload.get_mut().unwrap_or_else(PoisonError::into_inner);
            let segment = match ready!(Pin::new(payload).poll_next(cx)) {
                Some(Ok(segment)) => segment,
                Some(Err(error)) => return Poll::Ready(Some(Err(this.failure.set(error)))),
                None if this.taken < this.len => {
                    let error = Payload::wrong_length(this.len, this.taken);
                    return Poll::Ready(Some(Err(this.failure.set(error))));
                }
                None => {
                    let last = this.last.take();
                    this.sent = this.len;
                    return Poll::Ready(last.map(|last| Ok(Frame::data(last))));
                }
            };
            if segment.is_empty() {
                continue;
            }
            this.taken = this.taken.saturating_add(segment.len() as u64);
            if this.taken > this.len {
                let error = Payload::wrong_length(this.len, this.taken);
                return Poll::Ready(Some(Err(this.failure.set(error))));
            }
            if this.taken == this.len {
                this.last = Some(segment);
                continue;
            }
            this.sent = this.taken;
            return Poll::Ready(Some(Ok(Frame::data(segment))));
        }
    }

    fn is_end_stream(&self) -> bool {
        // Even a body of no bytes is asked once, so that one which has some is noticed.
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len - self.sent)
    }
}

/// The bytes of an answer: exactly as many as `range` has, or an error. A pause of `idle` between two pieces is one.
pub(super) fn incoming(
    body: ByteStream,
    range: &Range<u64>,
    idle: Duration,
    request: Request,
) -> BoxStream<'static, Result<Bytes>> {
    let left = range.end.saturating_sub(range.start);
    stream::try_unfold((body, left, request), move |(mut body, left, request)| async move {
        let broken = |why: &str| {
            let message = format!("cannot {}: {why}", request.doing);
            Error::new(ErrorKind::Io, message).with_retry(Retry::Yes)
        };
        loop {
            let piece = match tokio::time::timeout(idle, body.next()).await {
                Err(_) => return Err(request.timed_out(idle)),
                Ok(Some(Err(error))) => {
                    let cause = Cause(root_cause(&error));
                    return Err(broken("the connection to the store failed in the middle").with_source(cause));
                }
                Ok(None) if left == 0 => return Ok(None),
                Ok(None) => return Err(broken("the store sent less than it announced")),
                Ok(Some(Ok(piece))) => piece,
            };
            if piece.is_empty() {
                continue;
            }
            return match left.checked_sub(piece.len() as u64) {
                Some(left) => Ok(Some((piece, (body, left, request)))),
                None => Err(broken("the store sent more than it announced")),
            };
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produced(len: u64, segments: &[&'static [u8]]) -> Payload {
        let segments: Vec<_> = segments.iter().map(|segment| Ok(Bytes::from_static(segment))).collect();
        Payload::produced(len, stream::iter(segments))
    }

    async fn drain(payload: Payload) -> (Result<Vec<Bytes>, String>, Option<Error>) {
        let (mut body, failure) = outgoing(payload);
        let mut frames = Vec::new();
        while let Some(frame) = body.next().await {
            match frame {
                Ok(frame) => frames.push(frame),
                Err(error) => return (Err(error.to_string()), failure.take()),
            }
        }
        (Ok(frames), failure.take())
    }

    #[tokio::test]
    async fn segments_go_out_as_they_are() {
        let segments = vec![Bytes::from(vec![1; 1000]), Bytes::new(), Bytes::from(vec![2; 10])];
        let places: Vec<_> = segments.iter().filter(|s| !s.is_empty()).map(|s| s.as_ptr()).collect();
        let (frames, failure) = drain(Payload::held(segments)).await;
        assert_eq!(frames.unwrap().iter().map(|frame| frame.as_ptr()).collect::<Vec<_>>(), places);
        assert!(failure.is_none());
    }

    #[tokio::test]
    async fn a_payload_of_another_length_never_looks_whole() {
        for segments in [&[b"ab" as &[u8], b"c"][..], &[b"abcd", b"e"], &[b"abcde"], &[], &[b"ab", b"c", b"d", b"e"]] {
            let (frames, failure) = drain(produced(4, segments)).await;
            let sent: usize = frames.iter().flatten().map(Bytes::len).sum();
            assert!(frames.is_err() && sent < 4, "{segments:?}");
            assert_eq!(failure.unwrap().kind(), ErrorKind::Io, "{segments:?}");
        }
        let (frames, failure) = drain(produced(4, &[b"ab", b"", b"cd", b""])).await;
        assert_eq!(frames.unwrap().concat(), b"abcd");
        assert!(failure.is_none());
        assert_eq!(drain(produced(0, &[])).await.0.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_payloads_own_error_is_kept() {
        let error = Error::new(ErrorKind::SourceChanged, "changed");
        let payload = Payload::produced(4, stream::iter([Ok(Bytes::from_static(b"ab")), Err(error)]));
        let (frames, failure) = drain(payload).await;
        assert!(frames.is_err());
        assert_eq!(failure.unwrap().kind(), ErrorKind::SourceChanged);
    }

    #[tokio::test]
    async fn answers_have_as_many_bytes_as_announced() {
        for (body, whole) in [("abcd", true), ("abc", false), ("abcde", false), ("", false)] {
            let request = Request::new("read it");
            let pieces = incoming(ByteStream::from(body.as_bytes().to_vec()), &(3..7), Duration::from_secs(9), request);
            let pieces: Vec<_> = pieces.collect().await;
            assert_eq!(pieces.iter().all(Result::is_ok), whole, "{body}");
            let len: usize = pieces.iter().flatten().map(Bytes::len).sum();
            assert!(len <= 4, "{body}");
        }
    }
}

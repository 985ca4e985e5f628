//! A request from its head to the last byte of its answer: what is logged and counted of it, and the place it takes among those that
//! may be answered at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::dialect::{self, BoxError, Protocol, RequestId, Response, Told};
use super::metrics::Metrics;

/// One request. Dropping it, with the end of the answer or of the connection, logs and counts it.
pub(super) struct Observed {
    pub(super) metrics: Arc<Metrics>,
    pub(super) protocol: Protocol,
    pub(super) id: RequestId,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) received: Arc<AtomicU64>,
    begun: Instant,
    status: Option<StatusCode>,
    told: Told,
    sent: u64,
    /// Whether the answer was given to the end.
    ended: bool,
    /// Its place, where the request takes one.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Observed {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        protocol: Protocol,
        id: RequestId,
        head: (&Method, &str),
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics,
            protocol,
            id,
            method: head.0.clone(),
            path: head.1.to_owned(),
            received: Arc::default(),
            begun: Instant::now(),
            status: None,
            told: Told::default(),
            sent: 0,
            ended: false,
            _permit: permit,
        }
    }

    /// The answer, whose end is this request's.
    pub(super) fn answer(mut self, response: Response) -> Response {
        self.status = Some(response.status());
        self.told = response.extensions().get::<Told>().cloned().unwrap_or_default();
        self.ended = response.body().is_end_stream();
        response.map(|inner| dialect::Body::new(Watched { inner, observed: self }))
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        let received = self.received.load(Ordering::Relaxed);
        let took = self.begun.elapsed();
        // 499, as others call it: the client went away.
        let status = self.status.map_or(499, |status| status.as_u16());
        self.metrics.answered(self.protocol, self.told.operation, status, took);
        self.metrics.moved(self.protocol, received, self.sent);
        let access_key = self.told.access_key.as_deref().unwrap_or("-");
        tracing::info!(
            target: "sealift_gateway::access",
            id = self.id.0, protocol = self.protocol.name(), operation = self.told.operation, access_key,
            method = %self.method, path = self.path, status, received, sent = self.sent, whole = self.ended,
            millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
    }
}

struct Watched {
    inner: dialect::Body,
    observed: Observed,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                this.observed.sent += frame.data_ref().map_or(0, |data| data.remaining()) as u64;
                this.observed.ended = this.inner.is_end_stream();
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::warn!(id = this.observed.id.0, path = this.observed.path, "an answer broke off: {error}");
            }
            Poll::Ready(None) => this.observed.ended = true,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request's body that is counted.
pub(super) struct Counted<B> {
    pub(super) inner: B,
    pub(super) received: Arc<AtomicU64>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let len = frame.data_ref().map_or(0, |data| data.remaining()) as u64;
            this.received.fetch_add(len, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

//! What `/metrics` tells, in Prometheus' text format.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::dialect::Protocol;

/// The gateway's counters.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    seconds: Family<OfProtocol, Histogram>,
    received: Family<OfProtocol, Counter>,
    sent: Family<OfProtocol, Counter>,
    refused: Family<Refused, Counter>,
    pub(super) in_flight: Gauge,
    pub(super) connections: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    protocol: &'static str,
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProtocol {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("sealift_gateway");
        let requests = Family::default();
        registry.register("requests", "Requests that were answered", requests.clone());
        let new_histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 10));
        let seconds = Family::new_with_constructor(new_histogram);
        registry.register("request_seconds", "Time from a request's head to the end of its answer", seconds.clone());
        let received = Family::default();
        registry.register("received_bytes", "Bytes of requests' bodies", received.clone());
        let sent = Family::default();
        registry.register("sent_bytes", "Bytes of answers' bodies", sent.clone());
        let refused = Family::default();
        registry.register("refused", "Requests and connections refused for a limit", refused.clone());
        let (in_flight, connections) = (Gauge::default(), Gauge::default());
        registry.register("requests_in_flight", "Requests that are being answered", in_flight.clone());
        registry.register("connections", "Open connections", connections.clone());
        Self { registry, requests, seconds, received, sent, refused, in_flight, connections }
    }

    /// Counts a request whose answer has ended.
    pub(super) fn answered(&self, protocol: Protocol, operation: &'static str, status: u16, took: Duration) {
        let protocol = protocol.name();
        self.requests.get_or_create(&Request { protocol, operation, status }).inc();
        self.seconds.get_or_create(&OfProtocol { protocol }).observe(took.as_secs_f64());
    }

    pub(super) fn moved(&self, protocol: Protocol, received: u64, sent: u64) {
        let label = OfProtocol { protocol: protocol.name() };
        self.received.get_or_create(&label).inc_by(received);
        self.sent.get_or_create(&label).inc_by(sent);
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    /// All of them, and the media type of that.
    pub(super) fn text(&self) -> (&'static str, String) {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        (prometheus_text::CONTENT_TYPE, text)
    }
}

//! The listener: connections, TLS, limits, and which dialect a request is for. What requests mean is the dialects' business.

mod dialect;
mod metrics;
mod observed;
mod pace;
mod refusal;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use sealift::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::access::AccessKeys;
use crate::config::Limits;
use crate::kms::KmsEndpoint;
use crate::oss::Oss;
use crate::s3::S3Dialect;
use crate::service::Service;
use crate::{Back, Config};
use dialect::Protocol;
pub(crate) use dialect::{Body, BoxError, Dialect, Request, RequestId, Response, Told, collect, full};
use metrics::Metrics;
use observed::{Counted, Observed};
pub(crate) use pace::BodyError;
use pace::{Paced, PacedIo, Slowest};
use refusal::Refusal;

/// More than anybody wants to answer at once.
const MAX_REQUESTS: usize = 1 << 24;

/// A gateway that is bound to its address.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
}

/// What all connections share.
struct Server {
    dialects: Dialects,
    limits: Limits,
    metrics: Arc<Metrics>,
    requests: Arc<Semaphore>,
}

/// Who answers requests.
struct Dialects {
    kms: Option<Box<dyn Dialect>>,
    oss: Option<Box<dyn Dialect>>,
    s3: Option<Box<dyn Dialect>>,
}

impl Gateway {
    /// Binds to the address that `config` says, in front of `back`. Nothing is answered yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the configuration cannot be what is meant; as the operating system has it if a file cannot be
    /// read or the address not be bound to.
    pub async fn bind(mut config: Config, back: Back) -> Result<Self> {
        let keys = Arc::new(config.take_access_keys()?);
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let failed = |error| Error::io(format!("listening on {}", config.listen), error);
        let listener = TcpListener::bind(&config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let requests = Arc::new(Semaphore::new(config.limits.concurrent_requests.clamp(1, MAX_REQUESTS)));
        let dialects = Dialects::new(&config, &back, &keys)?;
        let server = Server { dialects, limits: config.limits, metrics: Arc::new(Metrics::new()), requests };
        Ok(Self { listener, address, tls, server: Arc::new(server) })
    }

    /// The address it is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients find it, if they are on this machine or its address is one.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Answers requests until `stop` is done. Then it takes no more connections, and lets requests in flight end, for as long as
    /// [`Limits::shutdown_seconds`] says.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if requests in flight had to be given up.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self { listener, tls, server, .. } = self;
        let connections = Arc::new(Semaphore::new(server.limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = async {
                let permit = Arc::clone(&connections).acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stop => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Of that one connection, or because there are no more file descriptors. Others may end meanwhile.
                    tracing::warn!("a connection was not accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let (server, tls, watcher) = (Arc::clone(&server), tls.clone(), graceful.watcher());
            tokio::spawn(async move {
                server.metrics.connections.inc();
                let metrics = Arc::clone(&server.metrics);
                match tls {
                    None => server.connection(stream, watcher).await,
                    Some(tls) => match tokio::time::timeout(server.limits.header_timeout(), tls.accept(stream)).await {
                        Ok(Ok(stream)) => server.connection(stream, watcher).await,
                        Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    },
                }
                metrics.connections.dec();
                drop(permit);
            });
        }
        drop(listener);
        tracing::info!("stopping; requests in flight have {} s to end", server.limits.shutdown_seconds);
        let ended = async {
            tokio::select! {
                () = graceful.shutdown() => {}
                () = server.unused() => tracing::debug!("connections that nothing is asked on were not ended by their clients"),
            }
        };
        tokio::time::timeout(server.limits.shutdown_timeout(), ended).await.map_err(|_| {
            let message = "requests were still in flight when the time to end them was over";
            Error::new(ErrorKind::Timeout, message)
        })
    }
}

impl Dialects {
    fn new(config: &Config, back: &Back, keys: &Arc<AccessKeys>) -> Result<Self> {
        let kms = back.keys.local.clone().map(|local| {
            let endpoint = KmsEndpoint::new(local, &config.region, Arc::clone(keys));
            Box::new(endpoint) as Box<dyn Dialect>
        });
        let service = Service::new(back, &config.region)?;
        let s3: Box<dyn Dialect> = Box::new(S3Dialect::new(service.clone(), Arc::clone(keys), &config.domains)?);
        let oss: Box<dyn Dialect> = Box::new(Oss::new(service, Arc::clone(keys), config.domains.clone()));
        Ok(Self { kms, oss: Some(oss), s3: Some(s3) })
    }

    fn of(&self, protocol: Protocol) -> Option<&dyn Dialect> {
        match protocol {
            Protocol::Kms => self.kms.as_deref(),
            Protocol::Oss => self.oss.as_deref(),
            Protocol::S3 => self.s3.as_deref(),
        }
    }
}

impl Server {
    /// Returns when no request is in flight, and what was answered last had a while to arrive. A client of HTTP/2 that does not answer
    /// any more would keep its connection until it is given up.
    async fn unused(&self) {
        let all = u32::try_from(self.limits.concurrent_requests.clamp(1, MAX_REQUESTS)).unwrap_or(u32::MAX);
        let _all = self.requests.acquire_many(all).await;
        tokio::time::sleep(self.limits.shutdown_timeout() / 4).await;
    }

    fn slowest(&self) -> Slowest {
        let window = self.limits.stall_timeout();
        Slowest { window, bytes: self.limits.slowest_bytes_per_second.saturating_mul(window.as_secs()) }
    }

    async fn connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        let io = PacedIo::new(stream, self.slowest(), self.limits.header_timeout());
        let limits = self.limits.clone();
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // Less than 8 KiB is nothing that HTTP libraries expect.
        let header_bytes = limits.header_bytes.max(8 << 10);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout())
            .max_buf_size(header_bytes)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.stall_timeout())
            .keep_alive_timeout(limits.header_timeout())
            .max_concurrent_streams(128)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX));
        let service = hyper::service::service_fn(move |request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(io), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!("a connection ended: {error}");
        }
    }

    async fn answer(&self, request: http::Request<Incoming>) -> Response {
        if let Some(response) = self.own(&request) {
            return response;
        }
        let protocol = Protocol::of(request.method(), request.uri(), request.headers());
        let id = request_id();
        let permit = Arc::clone(&self.requests).try_acquire_owned().ok();
        let refusal = match &permit {
            None => Some(Refusal::Busy),
            Some(_) if request.body().size_hint().lower() > self.limits.request_bytes => Some(Refusal::TooLong),
            Some(_) => None,
        };
        let head = (request.method(), request.uri().path());
        let observed = Observed::new(Arc::clone(&self.metrics), protocol, id.clone(), head, permit);
        let is_http1 = request.version() < Version::HTTP_2;
        let (waits, announced) = (request.headers().contains_key(header::EXPECT), request.body().size_hint().lower());
        let dialect = self.dialects.of(protocol);
        let mut response = match (refusal.or(dialect.is_none().then_some(Refusal::NotServed)), dialect) {
            (None, Some(dialect)) => dialect.answer(self.prepare(request, &observed)).await,
            (refusal, _) => {
                let refusal = refusal.unwrap_or(Refusal::NotServed);
                self.metrics.refused(refusal.name());
                refusal.response(protocol, &id)
            }
        };
        let name = match protocol {
            Protocol::Kms => None,
            Protocol::Oss => Some(HeaderName::from_static("x-oss-request-id")),
            Protocol::S3 => Some(HeaderName::from_static("x-amz-request-id")),
        };
        if let (Some(name), Ok(id)) = (name, HeaderValue::from_str(&id.0)) {
            response.headers_mut().insert(name, id);
        }
        response.headers_mut().insert(header::SERVER, HeaderValue::from_static("Sealift"));
        // Answered without "100 Continue", for the body is empty or was not wanted. AWS's command line up to 1.46 at least takes the
        // status of such an answer for that of the connection's next request too, so there is to be none.
        // And where the body was not read to its end, the connection cannot be used again, which its client has to know.
        let received = observed.received.load(Ordering::Relaxed);
        if is_http1 && (waits && received == 0 || received < announced) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        observed.answer(response)
    }

    /// The request as a dialect gets it: its body is limited.
    fn prepare(&self, request: http::Request<Incoming>, observed: &Observed) -> Request {
        let mut request = request.map(|inner| {
            let counted = Counted { inner, received: Arc::clone(&observed.received) };
            Body::new(Paced::new(counted, self.limits.request_bytes, self.slowest()))
        });
        request.extensions_mut().insert(observed.id.clone());
        request
    }

    /// What the server answers itself: its health and its metrics, to whoever asks without a signature.
    fn own(&self, request: &http::Request<Incoming>) -> Option<Response> {
        let is_plain = request.method() == Method::GET
            && request.uri().query().is_none()
            && !request.headers().contains_key(header::AUTHORIZATION);
        let (media_type, text) = match request.uri().path() {
            "/health" if is_plain => ("text/plain; charset=utf-8", "ok\n".to_owned()),
            "/metrics" if is_plain => self.metrics.text(),
            _ => return None,
        };
        let mut response = Response::new(full(text));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        Some(response)
    }
}

/// 24 hexadecimal digits in upper case, as OSS has them.
fn request_id() -> RequestId {
    let mut bytes = [0; 12];
    // Only a name: without randomness, every signature and seal fails anyway.
    let _ = getrandom::fill(&mut bytes);
    RequestId(base16ct::upper::encode_string(&bytes))
}

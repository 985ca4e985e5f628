//! Alibaba Cloud OSS in memory, on a port of 127.0.0.1: as much of it as the store uses, as strict as the documentation says.
//!
//! There is no emulator of OSS. What keeps this one true: `tests/store_oss_clients.rs` drives it with Alibaba's own clients.

mod auth;
mod calls;
mod http;

use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

pub(crate) use auth::Account;
pub(crate) use http::Request;
use http::Response;
#[allow(unused_imports, reason = "each test file uses some of it")]
pub(crate) use http::decode;

pub(crate) const BUCKET: &str = "sealift-test";
pub(crate) const REGION: &str = "cn-hangzhou";

/// A running server. Dropping it stops it.
pub(crate) struct OssServer {
    pub(crate) addr: SocketAddr,
    pub(crate) state: Arc<State>,
}

pub(crate) struct State {
    pub(crate) account: Account,
    /// By how many seconds its clock is ahead.
    pub(crate) ahead: AtomicI64,
    /// The most rows of a page.
    pub(crate) page: AtomicU64,
    /// The largest object that a copy encrypts anew.
    pub(crate) copy_limit: AtomicU64,
    kms_enabled: AtomicBool,
    stopped: AtomicBool,
    requests: AtomicU64,
    pub(crate) data: Mutex<Data>,
    recorded: Mutex<Vec<Request>>,
    faults: Mutex<Vec<Fault>>,
}

#[derive(Default)]
pub(crate) struct Data {
    pub(crate) objects: BTreeMap<String, Object>,
    pub(crate) uploads: BTreeMap<String, OpenUpload>,
}

#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) body: Arc<Vec<u8>>,
    pub(crate) etag: String,
    pub(crate) kind: &'static str,
    pub(crate) modified: i64,
    /// Metadata and content headers.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) sse: Sse,
    pub(crate) class: String,
    pub(crate) acl: String,
    pub(crate) tags: Vec<(String, String)>,
}

pub(crate) struct OpenUpload {
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) sse: Sse,
    pub(crate) class: String,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) parts: BTreeMap<u32, Part>,
}

pub(crate) struct Part {
    pub(crate) body: Vec<u8>,
    pub(crate) etag: String,
}

/// The headers that answers have for an encryption; empty if there is none.
pub(crate) type Sse = Vec<(String, String)>;

/// Something that goes wrong, once, with the first request that it is for.
struct Fault {
    call: &'static str,
    what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// Nothing is done, and this is answered: status, code, further headers.
    Refuse(u16, &'static str, &'static [(&'static str, &'static str)]),
    /// Nothing is done, and the connection closed.
    Drop,
    /// It is done, and the connection closed without an answer.
    LoseAnswer,
    /// Nothing is done, and an error is answered with the status 200.
    ErrorInSuccess(&'static str),
    /// It is done, and the answer has these headers in place of its own; an empty value: none of that name.
    Headers(&'static [(&'static str, &'static str)]),
    /// It is done, and the answer's body ends in the middle.
    Truncate,
    /// It is done, and the answer has this body.
    Body(Vec<u8>),
}

/// An error answer in the making.
pub(crate) struct Failure {
    status: u16,
    code: String,
    message: String,
    ec: &'static str,
}

fn fail(status: u16, code: &str, message: &str) -> Failure {
    Failure { status, code: code.to_owned(), message: message.to_owned(), ec: "0000-00000000" }
}

impl OssServer {
    pub(crate) fn start() -> Self {
        Self::with_account(Account { id: "the-id".into(), secret: "the secret".into(), token: None })
    }

    pub(crate) fn with_account(account: Account) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            account,
            ahead: AtomicI64::new(0),
            page: AtomicU64::new(1000),
            copy_limit: AtomicU64::new(1 << 30),
            kms_enabled: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            data: Mutex::default(),
            recorded: Mutex::default(),
            faults: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.stopped.load(SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                if let Ok(connection) = connection {
                    std::thread::spawn(move || state.serve(connection));
                }
            }
        });
        Self { addr, state }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// `what` goes wrong with the next request of that call (named as OSS names it).
    pub(crate) fn fail_next(&self, call: &'static str, what: What) {
        lock(&self.state.faults).push(Fault { call, what });
    }

    /// Whether everything that was to go wrong went wrong.
    pub(crate) fn all_failed(&self) -> bool {
        lock(&self.state.faults).is_empty()
    }

    /// Nothing goes wrong any more.
    pub(crate) fn forgive(&self) {
        lock(&self.state.faults).clear();
    }

    /// The requests since the last time this was asked.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut *lock(&self.state.recorded))
    }

    pub(crate) fn enable_kms(&self, enabled: bool) {
        self.state.kms_enabled.store(enabled, SeqCst);
    }

    pub(crate) fn object(&self, key: &str) -> Object {
        lock(&self.state.data).objects.get(key).expect("there is such an object").clone()
    }
}

impl Drop for OssServer {
    fn drop(&mut self) {
        self.state.stopped.store(true, SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(self.addr));
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn serve(&self, connection: TcpStream) {
        let mut reader = BufReader::new(connection.try_clone().expect("a second handle"));
        let mut writer = BufWriter::new(connection);
        while let Ok(Some(request)) = Request::read(&mut reader) {
            if self.stopped.load(SeqCst) {
                return;
            }
            let is_head = request.method == "HEAD";
            let Some(response) = self.answer(request) else { return };
            let broken = response.length.is_some() && !is_head;
            if response.write(&mut writer, is_head).is_err() || broken {
                return;
            }
        }
    }

    pub(crate) fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        now.as_secs() as i64 + self.ahead.load(SeqCst)
    }

    fn answer(&self, request: Request) -> Option<Response> {
        lock(&self.recorded).push(Request { body: Vec::new(), ..request.clone() });
        let call = operation(&request);
        let fault = {
            let mut faults = lock(&self.faults);
            faults.iter().position(|fault| fault.call == call).map(|at| faults.remove(at).what)
        };
        let id = format!("{:024X}", self.requests.fetch_add(1, SeqCst) + 1);
        let done = || {
            auth::check(&request, &self.account, REGION, self.now())
                .and_then(|()| self.call(&request))
                .unwrap_or_else(|failure| failure.response(&id, request.method == "HEAD"))
        };
        let response = match fault {
            None => done(),
            Some(What::Drop) => return None,
            Some(What::LoseAnswer) => {
                done();
                return None;
            }
            Some(What::Refuse(status, code, headers)) => {
                let refusal = fail(status, code, "as the test wants it").response(&id, request.method == "HEAD");
                headers.iter().fold(refusal, |response, (name, value)| response.header(name, *value))
            }
            Some(What::ErrorInSuccess(code)) => {
                Response { status: 200, ..fail(200, code, "as the test wants it").response(&id, false) }
            }
            Some(What::Headers(headers)) => {
                let mut response = done();
                response.headers.retain(|(name, _)| !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)));
                let added = headers.iter().filter(|(_, value)| !value.is_empty());
                added.fold(response, |response, (name, value)| response.header(name, *value))
            }
            Some(What::Truncate) => {
                let mut response = done();
                response.length = Some(response.body.len() as u64);
                response.body.truncate(response.body.len() / 2);
                response
            }
            Some(What::Body(body)) => Response { body, ..done() },
        };
        Some(
            response
                .header("Date", auth::http_date(self.now()))
                .header("Server", "AliyunOSS")
                .header("x-oss-request-id", id)
                .header("x-oss-server-time", "1"),
        )
    }
}

impl Failure {
    fn response(self, id: &str, is_head: bool) -> Response {
        use base64::Engine as _;
        let xml = format!(
            "<Error>\n  <Code>{}</Code>\n  <Message>{}</Message>\n  <RequestId>{id}</RequestId>\n  <HostId>127.0.0.1</HostId>\n  <EC>{}</EC>\n</Error>",
            self.code,
            http::escape(&self.message),
            self.ec
        );
        let response = Response::new(self.status).header("x-oss-ec", self.ec);
        if is_head {
            return response.header("x-oss-err", base64::engine::general_purpose::STANDARD.encode(xml));
        }
        response.xml(xml)
    }
}

/// The call that a request is, as OSS names it.
pub(crate) fn operation(request: &Request) -> &'static str {
    let (_, key) = request.bucket_and_key();
    let has = |name: &str| request.raw_query.iter().any(|(n, _)| n == name);
    let copies = request.headers.contains_key("x-oss-copy-source");
    match (request.method.as_str(), key.is_empty()) {
        ("GET", true) if has("uploads") => "ListMultipartUploads",
        ("GET", true) if has("list-type") => "ListObjectsV2",
        (_, true) => "other",
        ("POST", _) if has("uploads") => "InitiateMultipartUpload",
        ("POST", _) if has("uploadId") => "CompleteMultipartUpload",
        ("PUT", _) if has("uploadId") && copies => "UploadPartCopy",
        ("PUT", _) if has("uploadId") => "UploadPart",
        ("DELETE", _) if has("uploadId") => "AbortMultipartUpload",
        ("GET", _) if has("uploadId") => "ListParts",
        ("GET", _) if has("acl") => "GetObjectACL",
        ("PUT", _) if has("acl") => "PutObjectACL",
        ("GET", _) if has("tagging") => "GetObjectTagging",
        ("PUT", _) if has("tagging") => "PutObjectTagging",
        ("PUT", _) if copies => "CopyObject",
        ("PUT", _) => "PutObject",
        ("GET", _) => "GetObject",
        ("HEAD", _) => "HeadObject",
        ("DELETE", _) => "DeleteObject",
        _ => "other",
    }
}

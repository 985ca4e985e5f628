//! A server that answers as a test tells it: what other people's servers do only on bad days.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers with this status, these further header lines and this body.
    Answer(u16, Vec<String>, String),
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and closes the connection.
    Close,
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl Into<String>) -> Self {
        Self::Answer(status, Vec::new(), body.into())
    }
}

/// A request it got.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Such as `POST /path HTTP/1.1`.
    pub(crate) line: String,
    /// Header lines, in lower case.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// An HTTP server on a free port of this machine. It gives its replies one after the other, then the last one again and again. Its
/// threads end with the process, or when their connection does.
pub(crate) struct Stub {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    replies: VecDeque<Reply>,
    requests: Vec<Request>,
}

impl Stub {
    pub(crate) fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State { replies: replies.into_iter().collect(), requests: Vec::new() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives `reply` from now on.
    pub(crate) fn answer_from_now_on(&self, reply: Reply) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).replies = [reply].into();
    }

    /// The requests it got so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }
}

/// One request of one connection. What fails on the way is the client's to notice.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = (!lines.is_empty()).then(|| lines.remove(0))?;
    let headers: Vec<_> = lines.iter().map(|line| line.to_lowercase()).collect();
    let len = headers.iter().find_map(|header| header.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push(Request { line, headers, body });
        if state.replies.len() > 1 { state.replies.pop_front() } else { state.replies.front().cloned() }
    };
    match reply.expect("a reply") {
        Reply::Answer(status, headers, body) => {
            let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
            let len = body.len();
            let head =
                format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {len}\r\nConnection: close\r\n{headers}\r\n");
            let mut stream = stream;
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()
        }
        Reply::Close => Some(()),
        // Until the client gives up.
        Reply::Hang => reader.read_exact(&mut [0]).ok(),
    }
}

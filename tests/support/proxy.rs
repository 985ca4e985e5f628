//! A proxy between a client and an HTTP server that fails as a test tells it to.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing: the server answers.
    None,
    /// The server never sees it; this is the answer, status line and all.
    Answer(String),
    /// The server does what it says, and the connection ends before the answer.
    LoseAnswer,
    /// The connection ends after this many bytes of the request's body.
    CutBody(u64),
    /// The server's answer ends after this many bytes.
    CutAnswer(u64),
    /// The server never sees it, and there is no answer until the client gives up.
    Hang,
}

impl Fault {
    /// An answer with an XML body, as S3 gives them.
    pub(crate) fn xml(status: &str, headers: &str, body: &str) -> Self {
        let len = body.len();
        Self::Answer(format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len}\r\n{headers}\r\n{body}"
        ))
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
struct Seen {
    /// `PUT /bucket/key?query`
    line: String,
    head: String,
}

/// How slow a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) latency: Duration,
    pub(crate) bytes_per_second: u64,
}

impl Pace {
    /// Copies what there is, no faster than this. Says how much it was.
    fn copy(self, from: &mut impl Read, to: &mut impl Write) -> std::io::Result<u64> {
        let (began, mut copied, mut buffer) = (Instant::now(), 0_u64, vec![0; 64 << 10]);
        loop {
            let len = from.read(&mut buffer)?;
            if len == 0 {
                return Ok(copied);
            }
            to.write_all(&buffer[..len])?;
            copied += len as u64;
            let due = Duration::from_secs_f64(copied as f64 / self.bytes_per_second as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

type Script = dyn FnMut(&str) -> Fault + Send;

/// A running proxy. Its threads end with the test's process.
pub(crate) struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Proxy {
    /// Passes requests on to a port here. `script` is told each request's method and target, and says what happens to it.
    pub(crate) fn before(upstream: u16, script: impl FnMut(&str) -> Fault + Send + 'static) -> Self {
        Self::slow(upstream, Pace { latency: Duration::ZERO, bytes_per_second: u64::MAX }, script)
    }

    /// The same, and each request waits, and each direction of a connection carries so many bytes a second.
    pub(crate) fn slow(upstream: u16, pace: Pace, script: impl FnMut(&str) -> Fault + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                // A connection that fails is what the test is about.
                thread::spawn(move || drop(serve(&stream, upstream, pace, &script, &log)));
            }
        });
        Self { port, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many requests there were whose method and target contain `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.seen().iter().filter(|line| line.contains(text)).count()
    }

    /// Method and target of each request.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|request| request.line.clone()).collect()
    }

    /// What each request had in this header, named in lower case.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let value = |request: &Seen| {
            let mut fields = request.head.lines().filter_map(|line| line.split_once(':'));
            let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        self.seen.lock().unwrap().iter().map(value).collect()
    }
}

/// One request, then the connection is closed, so that each can fail on its own.
fn serve(
    client: &TcpStream,
    upstream: u16,
    pace: Pace,
    script: &Mutex<Script>,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut head = String::new();
    let mut len = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            len = value.trim().parse().unwrap_or(0);
        }
        if line == "\r\n" {
            head.push_str("Connection: close\r\n\r\n");
            break;
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let fault = (*script.lock().unwrap())(&line);
    log.lock().unwrap().push(Seen { line, head: head.clone() });
    thread::sleep(pace.latency);
    let mut client_out = client;
    match fault {
        Fault::Answer(answer) => {
            std::io::copy(&mut reader.by_ref().take(len), &mut std::io::sink())?;
            let (line, rest) = answer.split_once("\r\n").unwrap_or((&answer, "\r\n"));
            write!(client_out, "{line}\r\nConnection: close\r\n{rest}")?;
        }
        Fault::Hang => drop(std::io::copy(&mut reader, &mut std::io::sink())?),
        fault => {
            let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
            server.write_all(head.as_bytes())?;
            if let Fault::CutBody(at) = fault {
                pace.copy(&mut reader.by_ref().take(len.min(at)), &mut server)?;
                server.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
            if pace.copy(&mut reader.by_ref().take(len), &mut server)? < len {
                // The client is gone.
                return server.shutdown(Shutdown::Both);
            }
            match fault {
                Fault::LoseAnswer => drop(std::io::copy(&mut server, &mut std::io::sink())?),
                Fault::CutAnswer(at) => {
                    pace.copy(&mut server.take(at), &mut client_out)?;
                }
                _ => {
                    pace.copy(&mut server, &mut client_out)?;
                }
            }
        }
    }
    client.shutdown(Shutdown::Both)
}

//! As much of S3 as an upload and a read need, by hand and as cheap as can be, so that the client is what is measured.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a connection carries at most, and how long each request waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) latency: Duration,
    pub(crate) bytes_per_second: u64,
}

impl Pace {
    pub(crate) const NONE: Self = Self { latency: Duration::ZERO, bytes_per_second: u64::MAX };

    fn wait(self, began: Instant, bytes: u64) {
        let due = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
}

/// A server on a free port of this machine. Its threads end with the process.
pub(crate) struct Sink {
    port: u16,
}

/// What is kept of the one object, if anything is.
#[derive(Clone, Default)]
struct Kept {
    /// Header lines that come back with it.
    headers: String,
    parts: BTreeMap<u32, Arc<Vec<u8>>>,
}

impl Sink {
    /// Drops what it is given.
    pub(crate) fn discarding(pace: Pace) -> Self {
        Self::start(pace, None)
    }

    /// Keeps the last object in memory, whatever its key.
    pub(crate) fn keeping(pace: Pace) -> Self {
        Self::start(pace, Some(Arc::default()))
    }

    fn start(pace: Pace, kept: Option<Arc<Mutex<Kept>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                // A client that hangs up has what it wanted.
                thread::spawn(move || drop(serve(&stream, pace, kept.as_deref())));
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(stream: &TcpStream, pace: Pace, kept: Option<&Mutex<Kept>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(16 << 10, stream);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
        let mut out = stream;
        if request.expects_continue {
            out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        thread::sleep(pace.latency);
        let keep = request.part().filter(|_| kept.is_some());
        let mut body = Vec::with_capacity(if keep.is_some() { request.len as usize } else { 0 });
        let (began, mut left) = (Instant::now(), request.len);
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = reader.read(&mut buffer[..most])?;
            if n == 0 {
                return Ok(());
            }
            left -= n as u64;
            if keep.is_some() {
                body.extend_from_slice(&buffer[..n]);
            }
            pace.wait(began, request.len - left);
        }
        answer(&request, body, out, pace, kept)?;
    }
}

struct Request {
    method: String,
    target: String,
    head: String,
    len: u64,
    expects_continue: bool,
}

impl Request {
    fn read(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Self>> {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut request = Self { method, target, head, len: 0, expects_continue: false };
        request.len = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        request.expects_continue = request.header("expect").is_some();
        Ok(Some(request))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The number of the part that this stores.
    fn part(&self) -> Option<u32> {
        let number = self.target.split(['?', '&']).find_map(|pair| pair.strip_prefix("partNumber="))?;
        number.parse().ok().filter(|_| self.method == "PUT")
    }

    /// The first and last byte that are asked for, of so many.
    fn range(&self, len: u64) -> (u64, u64) {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")).unwrap_or("0-");
        match range.split_once('-') {
            Some(("", last)) => (len.saturating_sub(last.parse().unwrap_or(0)), len - 1),
            Some((first, last)) => (first.parse().unwrap_or(0), last.parse().unwrap_or(u64::MAX).min(len - 1)),
            None => (0, len - 1),
        }
    }
}

fn answer(
    request: &Request,
    body: Vec<u8>,
    mut out: &TcpStream,
    pace: Pace,
    kept: Option<&Mutex<Kept>>,
) -> std::io::Result<()> {
    let change = |change: &mut dyn FnMut(&mut Kept)| {
        if let Some(kept) = kept {
            change(&mut kept.lock().unwrap_or_else(PoisonError::into_inner));
        }
    };
    let xml = |mut out: &TcpStream, name: &str, inner: &str| {
        let body = format!("<{name}><Bucket>b</Bucket><Key>k</Key>{inner}</{name}>");
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    match request.method.as_str() {
        "PUT" => {
            let (part, body) = (request.part().unwrap_or(0), Arc::new(body));
            change(&mut |kept| drop(kept.parts.insert(part, Arc::clone(&body))));
            write!(out, "HTTP/1.1 200 OK\r\nETag: \"{part}\"\r\nContent-Length: 0\r\n\r\n")
        }
        "POST" if request.target.contains("uploadId=") => {
            xml(out, "CompleteMultipartUploadResult", "<ETag>\"whole\"</ETag>")
        }
        "POST" => {
            let mine = request.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-amz-meta-"));
            let headers: String = mine.map(|line| format!("{line}\r\n")).collect();
            change(&mut |kept| *kept = Kept { headers: headers.clone(), ..Kept::default() });
            xml(out, "InitiateMultipartUploadResult", "<UploadId>upload</UploadId>")
        }
        "GET" | "HEAD" => {
            let mut object = Kept::default();
            change(&mut |kept| object = kept.clone());
            send(request, &object, out, pace)
        }
        _ => write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

fn send(request: &Request, object: &Kept, mut out: &TcpStream, pace: Pace) -> std::io::Result<()> {
    let len: u64 = object.parts.values().map(|part| part.len() as u64).sum();
    if len == 0 {
        return write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    let (first, last) = request.range(len);
    let fields = "ETag: \"whole\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    let fields = format!("{fields}Content-Length: {}\r\n{}", last + 1 - first, object.headers);
    if request.method == "HEAD" {
        return write!(out, "HTTP/1.1 200 OK\r\n{fields}\r\n");
    }
    write!(out, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{len}\r\n{fields}\r\n")?;
    let (mut at, mut sent, began) = (0, 0, Instant::now());
    for part in object.parts.values() {
        let end = at + part.len() as u64;
        let (from, to) = (first.max(at), end.min(last + 1));
        if from < to {
            for piece in part[(from - at) as usize..(to - at) as usize].chunks(256 << 10) {
                out.write_all(piece)?;
                sent += piece.len() as u64;
                pace.wait(began, sent);
            }
        }
        at = end;
    }
    Ok(())
}

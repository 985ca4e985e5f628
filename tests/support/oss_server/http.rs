//! As much of HTTP/1.1 as the clients speak: read from the socket, nothing decoded that a signature covers as it was sent.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Before the `?`, still encoded.
    pub(crate) raw_path: String,
    /// Names and values, still encoded.
    pub(crate) raw_query: Vec<(String, String)>,
    /// By names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What Content-Length says, if it is not the body's.
    pub(crate) length: Option<u64>,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), length: None }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn xml(mut self, body: String) -> Self {
        self.body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}").into_bytes();
        self.header("Content-Type", "application/xml")
    }
}

impl Request {
    /// The next request of a connection; `None` when it is closed between two.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(bad("request line")) };
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("header"))?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let mut size = String::new();
                from.read_line(&mut size)?;
                let size = usize::from_str_radix(size.trim(), 16).map_err(|_| bad("chunk"))?;
                let start = body.len();
                body.resize(start + size, 0);
                from.read_exact(&mut body[start..])?;
                from.read_line(&mut String::new())?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().map_err(|_| bad("length"))?, 0);
            from.read_exact(&mut body)?;
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        };
        let raw_query = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
        Ok(Some(Self { method, raw_path: path.to_owned(), raw_query, headers, body }))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// A parameter's value, decoded.
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        self.raw_query.iter().find(|(n, _)| decode(n) == name).map(|(_, value)| decode(value))
    }

    /// Bucket and key of a path that begins with the bucket.
    pub(crate) fn bucket_and_key(&self) -> (String, String) {
        let path = self.raw_path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        (decode(bucket), decode(key))
    }
}

impl Response {
    pub(crate) fn write(&self, to: &mut impl Write, is_head: bool) -> io::Result<()> {
        write!(to, "HTTP/1.1 {} Whatever\r\n", self.status)?;
        for (name, value) in &self.headers {
            write!(to, "{name}: {value}\r\n")?;
        }
        if self.status != 204 {
            write!(to, "Content-Length: {}\r\n", self.length.unwrap_or(self.body.len() as u64))?;
        }
        write!(to, "\r\n")?;
        if !is_head {
            to.write_all(&self.body)?;
        }
        to.flush()
    }
}

pub(crate) fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap_or(b'?'), bytes.next().unwrap_or(b'?')];
            let digits = std::str::from_utf8(&digits).unwrap_or("??");
            out.push(u8::from_str_radix(digits, 16).unwrap_or(b'?'));
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// RFC 3986's unreserved characters stay, and those in `also`.
pub(crate) fn encode(text: &str, also: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c) || also.contains(c);
    text.chars()
        .map(|c| {
            if keep(c) {
                return c.to_string();
            }
            c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
        })
        .collect()
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(crate) fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#34;", "\"").replace("&amp;", "&")
}

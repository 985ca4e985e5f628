//! Servers that tests start for themselves: on free loopback ports, with their data in a directory that goes with them.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running server. It is killed when dropped, also by a panic, which shows the end of its log.
pub(crate) struct Server {
    child: Child,
    dir: TempDir,
    /// The port it was made for.
    pub(crate) port: u16,
}

/// The credentials that every server here takes.
pub(crate) const ACCESS_KEY: &str = "sealift-tests";
pub(crate) const SECRET_KEY: &str = "not-a-secret";

impl Server {
    /// Starts what `command` makes for a fresh directory and `ports` free ports, and waits until `ready` says so of the first port.
    pub(crate) fn start(ports: usize, command: impl Fn(&Path, &[u16]) -> Command, ready: impl Fn(u16) -> bool) -> Self {
        let mut last_log = String::new();
        // Somebody else may take a port before the server does.
        for _ in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let ports = free_ports(ports);
            let log = File::create(dir.path().join("log")).unwrap();
            let mut command = command(dir.path(), &ports);
            command.current_dir(dir.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            let program = command.get_program().to_owned();
            let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}; {INSTALL}", program.display()));
            let mut server = Self { child, dir, port: ports[0] };
            let started = Instant::now();
            loop {
                if ready(server.port) {
                    return server;
                }
                if server.child.try_wait().unwrap().is_some() || started.elapsed() > READY_WITHIN {
                    break;
                }
                sleep(Duration::from_millis(20));
            }
            last_log = server.log();
        }
        panic!("the server does not start:\n{last_log}");
    }

    /// SeaweedFS: a real S3 server. It makes buckets when something is stored in them.
    pub(crate) fn seaweedfs() -> Self {
        let weed = installed("weed");
        let command = |dir: &Path, ports: &[u16]| {
            let identity = format!(
                r#"{{"identities":[{{"name":"tests","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin"]}}]}}"#
            );
            fs::write(dir.join("s3.json"), identity).unwrap();
            fs::create_dir(dir.join("data")).unwrap();
            let mut command = Command::new(&weed);
            // In the directory, not in /tmp, where it would stay.
            command.args(["mini", "-dir=data", "-filer.localSocket=filer.sock", "-s3.config=s3.json"]);
            command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]);
            command.args(["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
            let names =
                ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"];
            let names = names.into_iter().chain(["filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"]);
            for (name, port) in names.zip(ports) {
                command.arg(format!("-{name}={port}"));
            }
            command
        };
        Self::start(10, command, |port| answers(port, "/").is_some_and(|status| status < 500))
    }

    /// moto: many services of AWS in one, in memory, with what `moto.py` mends. It demands no credentials.
    pub(crate) fn moto() -> Self {
        let python = installed("python");
        let command = |_: &Path, ports: &[u16]| {
            let mut command = Command::new(&python);
            command.args(["-c", include_str!("moto.py"), "-H", "127.0.0.1", "-p", &ports[0].to_string()]);
            command
        };
        Self::start(1, command, |port| answers(port, "/moto-api/").is_some_and(|status| status < 500))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its data is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a bucket on a server that demands no credentials.
    pub(crate) fn make_bucket(&self, name: &str) {
        let status = request(self.port, "PUT", &format!("/{name}"));
        assert_eq!(status, Some(200), "the bucket {name} was not made");
    }

    fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(8000)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the server's log:\n{}", self.log());
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

const INSTALL: &str = "run `cargo xtask setup` first: it installs tests/requirements.txt into target/test-venv";

/// A program of the environment that `cargo xtask setup` makes.
///
/// # Panics
/// If it is not there yet.
pub(crate) fn installed(program: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory is inside target/");
    let path = target.join("test-venv/bin").join(program);
    assert!(path.exists(), "{} is not there: {INSTALL}", path.display());
    path
}

/// Ports that were free a moment ago, all different.
fn free_ports(n: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..n).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// The status of the answer to a GET, if there is one.
pub(crate) fn answers(port: u16, path: &str) -> Option<u16> {
    request(port, "GET", path)
}

fn request(port: u16, method: &str, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    // Whatever its body is, the first line tells.
    let mut bytes = [0; 64];
    let n = stream.read(&mut bytes).ok()?;
    answer.push_str(&String::from_utf8_lossy(&bytes[..n]));
    answer.split(' ').nth(1)?.parse().ok()
}

//! Other people's servers, for the test that starts them: on a free port of this machine, gone when dropped.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const INSTALL: &str = "to install what the tests need: cargo xtask setup";

/// A server that runs until this is dropped, which a panic does too.
pub(crate) struct Server {
    child: Child,
    /// The port it was started for.
    pub(crate) port: u16,
    dir: TempDir,
    /// What it leaves elsewhere.
    elsewhere: Vec<PathBuf>,
}

impl Server {
    /// Starts what `command` gives for a port and an empty directory to work in, and waits until `is_ready` of that port.
    ///
    /// # Panics
    /// With what the server printed, if it ends or is not ready within a minute. If it cannot be started at all, with the command that
    /// installs it.
    pub(crate) fn start(
        name: &str,
        mut command: impl FnMut(u16, &Path) -> Command,
        is_ready: impl Fn(u16) -> bool,
    ) -> Self {
        // Somebody else may take a port that is free now; then the server ends, and the next one tries another.
        for _ in 0..3 {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let port = free_port();
            let mut command = command(port, dir.path());
            let log = File::create(dir.path().join("log")).expect("a log file");
            let out = log.try_clone().expect("a second handle of it");
            command.current_dir(dir.path()).env("HOME", dir.path()).env("TMPDIR", dir.path());
            command.stdin(Stdio::null()).stdout(out).stderr(log);
            let child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started, {error}; {INSTALL}"));
            let mut server = Self { child, port, dir, elsewhere: Vec::new() };
            if server.wait_until_ready(name, &is_ready) {
                return server;
            }
        }
        panic!("{name} ended before it was ready, three times");
    }

    /// The same, which puts these files where it can be told nothing else; they are removed with it.
    pub(crate) fn leaving(mut self, files: Vec<PathBuf>) -> Self {
        self.elsewhere = files;
        self
    }

    /// Its address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The directory it works in, removed with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        let mut text = Vec::new();
        let log = File::open(self.dir.path().join("log"));
        let _ = log.and_then(|mut file| file.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }

    fn wait_until_ready(&mut self, name: &str, is_ready: impl Fn(u16) -> bool) -> bool {
        let started = Instant::now();
        loop {
            let ready = is_ready(self.port);
            if let Some(status) = self.child.try_wait().expect("its status") {
                eprintln!("{name} ended, {status}; it printed:\n{}", self.log());
                return false;
            }
            if ready {
                return true;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{name} is not ready; it printed:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the server at port {} printed:\n{}", self.port, self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.elsewhere.iter().for_each(|file| drop(fs::remove_file(file)));
    }
}

/// A port of 127.0.0.1 that nobody listens on, and that no other test of this process was given: a server takes a while to listen.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        if GIVEN.lock().expect("no test panics in between").insert(port) {
            return port;
        }
    }
}

/// The status that a server on this machine answers a request without body with, if it answers.
pub(crate) fn http_status(port: u16, method: &str, path: &str) -> Option<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(head.get(9..)?).ok()?.parse().ok()
}

/// A program of the environment that `cargo xtask setup` makes.
///
/// # Panics
/// If it is not there.
pub(crate) fn installed(program: &str) -> PathBuf {
    let path = environment().join("bin").join(program);
    assert!(path.exists(), "{} is not there; {INSTALL}", path.display());
    path
}

/// A file of a package in that environment, wherever its `site-packages` is.
///
/// # Panics
/// If it is not there.
pub(crate) fn python_package_file(path: &str) -> PathBuf {
    let versions = fs::read_dir(environment().join("lib")).into_iter().flatten().flatten();
    let mut found = versions.map(|version| version.path().join("site-packages").join(path));
    found.find(|file| file.exists()).unwrap_or_else(|| panic!("{path} is not there; {INSTALL}"))
}

fn environment() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory is inside target/");
    target.join("test-venv")
}

//! A directory to run the program in, and what comes out of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A directory with a home of its own for the program. Gone when dropped.
pub(crate) struct Sandbox {
    dir: TempDir,
}

/// A run of the program that ended.
pub(crate) struct Run {
    command: String,
    output: Output,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    /// The names in a directory, sorted; none if it is not there.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(name)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The one metadata file of the object `name` in the directory `dir`.
    pub(crate) fn envelope_file(&self, dir: &str, name: &str) -> PathBuf {
        let folder = format!("{dir}/.sealift");
        let found: Vec<_> =
            self.list(&folder).into_iter().filter(|file| file.starts_with(&format!("{name}."))).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        self.path(&folder).join(&found[0])
    }

    /// A file of `len` bytes that do not repeat.
    pub(crate) fn random_file(&self, name: &str, len: usize) -> Vec<u8> {
        let bytes = noise(len);
        self.write(name, &bytes);
        bytes
    }

    /// A file of `len` bytes in blocks of their own, made without writing them all.
    pub(crate) fn large_file(&self, name: &str, len: u64) {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::create(self.path(name)).unwrap();
        file.set_len(len).unwrap();
        for offset in (0..len).step_by(1 << 20) {
            file.write_all_at(&offset.to_be_bytes(), offset).unwrap();
        }
    }

    /// The program, with nothing of the environment that it looks at but the home of this sandbox.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let program = std::env::var_os("SEALIFT_PROGRAM");
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_sealift").into()));
        command.args(args).current_dir(self.dir.path()).env("SEALIFT_HOME", self.path("home")).stdin(Stdio::null());
        for name in ["SEALIFT_ROOT_KEY", "SEALIFT_BACKUP_PASSPHRASE", "RUST_LOG"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// Runs it with `input` on stdin.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Run {
        self.write("input", input);
        Run::of(self.command(args).stdin(fs::File::open(self.path("input")).unwrap()))
    }

    /// Runs it in the background.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until an upload has a ledger, which is when it may be resumed.
    pub(crate) fn wait_for_ledger(&self) -> String {
        wait("a ledger", || {
            let names = self.list("home/uploads");
            names.iter().find_map(|name| name.strip_suffix(".ledger").map(str::to_owned))
        })
    }

    /// Ids of the uploads that `uploads list` shows.
    pub(crate) fn uploads(&self) -> Vec<String> {
        let uploads = self.run(&["uploads", "list", "--json"]).expect(0).json();
        uploads.as_array().unwrap().iter().map(|upload| upload["id"].as_str().unwrap().to_owned()).collect()
    }
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self { command: format!("{command:?}"), output }
    }

    pub(crate) fn of_child(child: Child) -> Self {
        Self { command: "the child".to_owned(), output: child.wait_with_output().unwrap() }
    }

    /// Demands this exit code. A signal has none.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let Self { command, output } = &self;
        let out = String::from_utf8_lossy(&output.stdout);
        let out = out.get(..2000).unwrap_or(&out);
        assert_eq!(output.status.code(), Some(code), "{command}: {}\n{out}\n{}", output.status, self.stderr());
        self
    }

    /// Demands an error with this code that says this, and nothing on stdout.
    #[track_caller]
    pub(crate) fn expect_error(self, code: i32, says: &str) -> Self {
        let run = self.expect(code);
        let stderr = run.stderr();
        assert!(stderr.contains("error: ") && stderr.contains(says), "{}: {says:?} is not in\n{stderr}", run.command);
        assert!(run.output.stdout.is_empty(), "{}: printed {:?}", run.command, run.stdout());
        run
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.output.stdout
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The JSON on stdout, which must be all there is.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.output.stdout).unwrap_or_else(|e| panic!("{e} in {:?}", self.stdout()))
    }
}

/// Polls until `done` has something.
pub(crate) fn wait<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// Bytes that do not repeat: xorshift64.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// How many rounds of a random test: few, or many in a soak.
pub(crate) fn rounds(few: usize, many: usize) -> usize {
    if std::env::var_os("SEALIFT_SOAK").is_some() { many } else { few }
}

/// Runs a shell script as root of a name space of its own, where it may mount; `$SEALIFT` is the program, `$MNT` an empty directory.
pub(crate) fn run_in_namespace(sandbox: &Sandbox, script: &str) -> Run {
    let mount_point = sandbox.path("mnt");
    fs::create_dir_all(&mount_point).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-ec", script])
        .current_dir(sandbox.path("."))
        .env("SEALIFT", program())
        .env("MNT", mount_point)
        .env("SEALIFT_HOME", sandbox.path("home"))
        .stdin(Stdio::null());
    Run::of(&mut command)
}

/// A Python that has what `tests/requirements.txt` asks for.
pub(crate) fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../test-venv/bin/python");
    assert!(python.exists(), "run `cargo xtask setup` first: it installs tests/requirements.txt into target/test-venv");
    python
}

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sealift"))
}

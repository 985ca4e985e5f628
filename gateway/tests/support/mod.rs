//! A gateway of the test's own, and other people's clients for it.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use sealift::Engine;
use sealift::kms::Kms;
use sealift::kms::local::{LocalKms, RootKeySource};
use sealift::store::{DirStore, MultipartStore};
use sealift_gateway::access::Secret;
use sealift_gateway::{Back, Config, Gateway, Keys};
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) const ACCESS_KEY_ID: &str = "LTAI-test";
pub(crate) const ACCESS_KEY_SECRET: &str = "not/a=real+secret";

/// A gateway in front of a directory. Dropping it stops it.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) kms: Arc<LocalKms>,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<sealift::Result<()>>>,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// With another configuration than the usual one, which has one access key that may do everything.
    pub(crate) fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(DirStore::open(dir.path().join("store")).unwrap());
        Self::over(store, dir, configure)
    }

    /// In front of another store; the key store is in `dir`.
    pub(crate) fn over(store: Arc<dyn MultipartStore>, dir: TempDir, configure: impl FnOnce(&mut Config)) -> Self {
        let (kms, _) = LocalKms::open_or_create(dir.path().join("kms"), RootKeySource::File).unwrap();
        let kms = Arc::new(kms);
        let keys = Keys {
            kms: Arc::clone(&kms) as Arc<dyn Kms>,
            default_key: LocalKms::DEFAULT_ALIAS.to_owned(),
            local: Some(Arc::clone(&kms)),
        };
        let mut config = Config::default();
        config.listen = "127.0.0.1:0".to_owned();
        config.add_access_key(ACCESS_KEY_ID, Secret::new(ACCESS_KEY_SECRET.to_owned()));
        configure(&mut config);
        let engine = Engine::builder().memory_budget(64 << 20).threads(2).build().unwrap();
        let back = Back { engine, store, keys };
        let (stop, stopped) = oneshot::channel();
        let (bound, url) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let gateway = Gateway::bind(config, back).await?;
                bound.send(gateway.url()).unwrap();
                gateway.serve(async { drop(stopped.await) }).await
            })
        });
        let url = url.recv().expect("the gateway is bound");
        Self { url, kms, dir, stop: Some(stop), thread: Some(thread) }
    }

    /// The address without scheme.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("a URL").1
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Tells it to stop.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> sealift::Result<()> {
        self.ask_to_stop();
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("the gateway does not panic"))
    }

    /// Runs a Python script of `gateway/tests/support` on it.
    ///
    /// # Panics
    /// With what it printed, if it fails.
    pub(crate) fn python(&self, script: &str, args: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script);
        let mut command = Command::new(installed("python"));
        command.arg(script).args([&self.url, ACCESS_KEY_ID, ACCESS_KEY_SECRET]).args(args);
        self.run(command);
    }

    /// Runs a client of its own, with the environment that those of AWS take.
    pub(crate) fn run(&self, mut command: Command) -> String {
        command
            .env("NO_PROXY", "127.0.0.1")
            .env("HOME", self.dir.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY_SECRET)
            .env("AWS_REGION", "local")
            .env("AWS_ENDPOINT_URL", &self.url)
            .env("AWS_EC2_METADATA_DISABLED", "true");
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {INSTALL}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
        out
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let stopped = self.stop();
        if !std::thread::panicking() {
            stopped.expect("it stops when nothing is in flight");
        }
    }
}

/// A program of the environment that `cargo xtask setup` makes.
pub(crate) fn installed(program: &str) -> std::path::PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory is inside target/");
    let path = target.join("test-venv/bin").join(program);
    assert!(path.exists(), "{} is not there; {INSTALL}", path.display());
    path
}

const INSTALL: &str = "to install what the tests need: cargo xtask setup";

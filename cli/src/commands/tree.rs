//! What `put --recursive` and `get --recursive` have in common: many objects at a time, and an account of what became of each.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use sealift::{Error, ErrorKind};
use serde::Serialize;

use crate::args::Output;
use crate::exit::{Failure, Result};
use crate::output::{self, printable};

/// How many objects are worked on at once: small ones spend their time waiting for the store, the disk and key services.
const AT_ONCE: usize = 64;

/// What became of many objects. `T` is what is told of one that is done.
#[derive(Serialize)]
pub(crate) struct Summary<T> {
    pub(crate) source: String,
    pub(crate) dest: String,
    /// What was done, in the order of the names.
    pub(crate) objects: Vec<T>,
    pub(crate) plain_len: u64,
    /// How many were left alone because they were there.
    pub(crate) existing: u64,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) failed: Vec<Failed>,
    pub(crate) seconds: f64,
    pub(crate) bytes_per_second: u64,
}

#[derive(Serialize)]
pub(crate) struct Skipped {
    pub(crate) name: String,
    pub(crate) why: &'static str,
}

#[derive(Serialize)]
pub(crate) struct Failed {
    name: String,
    error: String,
    #[serde(skip)]
    kind: ErrorKind,
}

/// Does `work` for each of `items`, several at a time, and tells `done` of each as it ends. Stops when one was cancelled: nothing more is
/// begun then, and what was begun is waited for.
pub(crate) async fn each<I, T, F>(
    items: impl IntoIterator<Item = I>,
    at_once: Option<usize>,
    work: impl Fn(I) -> F,
    mut done: impl FnMut(usize, T) -> bool,
) where
    F: Future<Output = T>,
{
    let at_once = at_once.unwrap_or(AT_ONCE);
    let mut items = items.into_iter().enumerate();
    // All on this task: what takes the CPU is done by the engine's threads, and requests by its own tasks.
    let mut tasks = FuturesUnordered::new();
    let mut goes_on = true;
    loop {
        while goes_on && tasks.len() < at_once {
            let Some((n, item)) = items.next() else { break };
            let work = work(item);
            tasks.push(async move { (n, work.await) });
        }
        let Some((n, result)) = tasks.next().await else { return };
        goes_on &= done(n, result);
    }
}

impl<T: Serialize> Summary<T> {
    pub(crate) fn new(source: String, dest: String) -> Self {
        Self {
            source,
            dest,
            objects: Vec::new(),
            plain_len: 0,
            existing: 0,
            skipped: Vec::new(),
            failed: Vec::new(),
            seconds: 0.0,
            bytes_per_second: 0,
        }
    }

    pub(crate) fn skip(&mut self, name: String, why: &'static str) {
        self.skipped.push(Skipped { name, why });
    }

    pub(crate) fn fail(&mut self, name: String, error: &Error) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(e) = cause {
            let message = e.to_string();
            // Some errors repeat their cause in their own message.
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = e.source();
        }
        self.failed.push(Failed { name, error: text, kind: error.kind() });
    }

    /// Whether one was stopped by the user.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.failed.iter().any(|failed| failed.kind == ErrorKind::Cancelled)
    }

    /// Tells what was done, what was left out and what failed. The exit code is that of the first failure.
    ///
    /// `did` is what became of the objects, such as "Sealed"; `could` what did not, such as "stored".
    pub(crate) fn report(mut self, did: &str, could: &str, took: Duration, output: &Output) -> Result {
        (self.seconds, self.bytes_per_second) = (took.as_secs_f64(), output::rate(self.plain_len, took));
        self.failed.sort_by(|a, b| a.name.cmp(&b.name));
        if !output.quiet {
            for Skipped { name, why } in &self.skipped {
                output::say(&format!("warning: left out: {}: {why}", printable(name)));
            }
        }
        output.done(&self, || {
            let existing = match self.existing {
                0 => String::new(),
                n => format!("; {n} left alone, which were there"),
            };
            let bytes = output::bytes_in(self.plain_len, took);
            format!("{did} {} files, {bytes}, into {}{existing}", self.objects.len(), self.dest)
        })?;
        for Failed { name, error, kind } in &self.failed {
            if *kind != ErrorKind::Cancelled {
                output::say(&format!("failed: {}: {}", printable(name), printable(error)));
            }
        }
        if self.is_cancelled() {
            return Err(Failure::new(ErrorKind::Cancelled, format!("stopped after {} files", self.objects.len()))
                .hint("to go on, run the same command with --skip-existing"));
        }
        let Some(first) = self.failed.first() else { return Ok(()) };
        let total = self.objects.len() + self.failed.len();
        let message = format!("{} of {total} files could not be {could}", self.failed.len());
        let failure = Failure::new(first.kind, message).hint("to try these again, run it again with --skip-existing");
        Err(failure
            .hint_if(ErrorKind::AlreadyExists, "what was there is still there, and --skip-existing does not tell"))
    }
}

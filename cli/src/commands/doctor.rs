//! `doctor`: what stands in the way of sealing and opening, found out by trying.

mod keys;
mod machine;
mod probe;
mod store;

use sealift::{Error, ErrorKind};
use serde::Serialize;

use crate::args::Doctor;
use crate::exit::{Failure, Result};
use crate::interrupt::Interrupts;
use crate::output::{self, printable};

pub(crate) async fn doctor(args: Doctor) -> Result {
    let mut report = Report { streams: !args.json.json, checks: Vec::new(), failed: None };
    if let Some(url) = &args.url {
        store::check(url, &args.store, &mut report).await?;
    }
    Interrupts::listen()?.dropping(keys::check(&args.kms_key, &args.key_file, &mut report)).await?;
    machine::check(&mut report)?;
    report.end(&args)
}

/// What was found so far.
struct Report {
    /// Whether each line is printed as soon as it is known.
    streams: bool,
    checks: Vec<Check>,
    /// What the first failure is to a script.
    failed: Option<ErrorKind>,
}

#[derive(Serialize)]
struct Check {
    check: &'static str,
    status: Status,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

impl Report {
    fn ok(&mut self, check: &'static str, text: impl Into<String>) -> Result {
        self.add(check, Status::Ok, text.into())
    }

    /// Something that works, but not as well as it should.
    fn warn(&mut self, check: &'static str, text: impl Into<String>) -> Result {
        self.add(check, Status::Warn, text.into())
    }

    fn fail(&mut self, check: &'static str, kind: ErrorKind, text: impl Into<String>) -> Result {
        let kind = match kind {
            ErrorKind::NotFound | ErrorKind::KeyUnavailable => kind,
            _ => ErrorKind::Io,
        };
        self.failed.get_or_insert(kind);
        self.add(check, Status::Fail, text.into())
    }

    /// The same, as an error tells it.
    fn fail_with(&mut self, check: &'static str, error: &Error) -> Result {
        self.fail(check, error.kind(), told(error))
    }

    fn add(&mut self, check: &'static str, status: Status, text: String) -> Result {
        let check = Check { check, status, text: printable(&text) };
        if self.streams {
            let status = match status {
                Status::Ok => "ok  ",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            output::print(&format!("{status}  {:13}  {}", check.check, check.text))?;
        }
        self.checks.push(check);
        Ok(())
    }

    fn end(self, args: &Doctor) -> Result {
        #[derive(Serialize)]
        struct Json<'a> {
            url: Option<String>,
            healthy: bool,
            checks: &'a [Check],
        }
        let json = Json {
            url: args.url.as_ref().map(ToString::to_string),
            healthy: self.failed.is_none(),
            checks: &self.checks,
        };
        args.json.print(&json, String::new)?;
        let Some(kind) = self.failed else { return Ok(()) };
        let failed = self.checks.iter().filter(|check| check.status == Status::Fail).count();
        Err(Failure::new(kind, format!("{failed} of {} checks failed", self.checks.len())))
    }
}

/// An error and what caused it, in one line.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(&format!("; because: {message}"));
        }
        cause = error.source();
    }
    text
}

//! How the program ends: exit codes that scripts rely on, and errors that say what to do.

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

use sealift::{Error, ErrorKind, KeyState};

use crate::output::printable;

/// The exit codes of the program. They never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Other = 1,
    Usage = 2,
    NotFound = 3,
    NotAuthentic = 4,
    KeyUnavailable = 5,
    SourceChanged = 6,
    Io = 7,
    Interrupted = 130,
}

impl Exit {
    fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidInput | ErrorKind::LimitExceeded => Self::Usage,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::NotSealed | ErrorKind::Malformed | ErrorKind::UnsupportedFormat | ErrorKind::Authentication => {
                Self::NotAuthentic
            }
            ErrorKind::KeyUnavailable => Self::KeyUnavailable,
            ErrorKind::SourceChanged => Self::SourceChanged,
            ErrorKind::SourceRead
            | ErrorKind::Io
            | ErrorKind::Unreachable
            | ErrorKind::NoSpace
            | ErrorKind::PermissionDenied
            | ErrorKind::Throttled
            | ErrorKind::Timeout
            | ErrorKind::Ledger => Self::Io,
            ErrorKind::Cancelled => Self::Interrupted,
            _ => Self::Other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, and what its user can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    hints: Vec<String>,
}

pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error::new(kind, message.into()).into()
    }

    /// `error`, about the key that the user calls `key`. If its state was in the way, with the command that changes that.
    pub(crate) fn of_key(error: Error, key: &str) -> Self {
        let hints = key_state(&error).and_then(|state| next_step(state, &printable(key)));
        Self { error, hints: hints.into_iter().collect() }
    }

    /// The same for a key of the local key store, where it can be looked up what keys there are.
    pub(crate) fn of_local_key(error: Error, key: &str) -> Self {
        let is_unknown = error.kind() == ErrorKind::KeyUnavailable && key_state(&error).is_none();
        let failure = Self::of_key(error, key);
        if is_unknown { failure.hint("the keys that are there: sealift kms list-keys") } else { failure }
    }

    /// The same with advice. The first advice given comes first.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with advice if it is of `kind`.
    pub(crate) fn hint_if(self, kind: ErrorKind, hint: impl Into<String>) -> Self {
        if self.kind() == kind { self.hint(hint) } else { self }
    }

    /// The same with advice if reading an object found it altered.
    pub(crate) fn hint_if_damaged(self) -> Self {
        self.hint_if(
            ErrorKind::Authentication,
            "it was altered or damaged where it is stored: restore it from a copy, or read intact ranges with `sealift cat --range`",
        )
    }

    pub(crate) fn error(&self) -> &Error {
        &self.error
    }

    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// What failed, without the advice.
    pub(crate) fn into_error(self) -> Error {
        self.error
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// What went wrong, without advice.
    pub(crate) fn text(&self) -> String {
        self.error.to_string()
    }

    pub(crate) fn exit(&self) -> Exit {
        Exit::of(self.kind())
    }

    /// Tells the user, on stderr.
    pub(crate) fn print(&self) {
        let mut text = format!("error: {}\n", printable(&self.error.to_string()));
        let mut said = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let message = error.to_string();
            // Some errors repeat their cause in their own message.
            if !said.contains(&message) {
                text.push_str(&format!("  because: {}\n", printable(&message)));
                said = message;
            }
            cause = error.source();
        }
        for hint in &self.hints {
            text.push_str(&format!("hint: {hint}\n"));
        }
        // There is nobody left to tell if this fails.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of_key(error, "KEY")
    }
}

/// What to do about a key whose state forbids something. Perhaps it is another service's, whose tools we do not name.
fn next_step(state: KeyState, key: &str) -> Option<String> {
    match state {
        KeyState::Disabled => Some(format!("a key of the local key store is enabled by: sealift kms enable-key {key}")),
        KeyState::PendingDeletion => {
            Some(format!("a key of the local key store is kept by: sealift kms cancel-key-deletion {key}"))
        }
        KeyState::PendingImport => Some(format!(
            "a key of the local key store gets its material (the same, if it had any) by: \
             sealift kms get-parameters-for-import {key}, then sealift kms import-key-material {key}"
        )),
        _ => None,
    }
}

/// The state of a key that forbade something, if that was it or led to it.
fn key_state(error: &Error) -> Option<KeyState> {
    error.key_state().or_else(|| error.source()?.downcast_ref().and_then(key_state))
}

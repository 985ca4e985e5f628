//! What the program prints: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use sealift::engine::{Progress, ProgressCallback, Reader};
use sealift::store::ServerSideEncryption;
use sealift::{Error, WrappedKey};
use serde::Serialize;

use crate::args::{Json, Output};
use crate::exit::Result;

/// How reports call the one cipher there is: an envelope with another would not have been parsed.
pub(crate) const COBBLESTONE_256: &str = "COBBLESTONE-256";
/// How they call none.
pub(crate) const NOT_SEALED: &str = "none";

/// Prints `text` and a line's end on stdout. A reader that went away is no error: it has what it wanted.
pub(crate) fn print(text: &str) -> Result {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("writing to stdout", e).into()),
        _ => Ok(()),
    }
}

/// Tells the user something on stderr.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

impl Json {
    /// Prints a result: as JSON, or as the text for people.
    pub(crate) fn print(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result {
        if self.json {
            let json = serde_json::to_string_pretty(value).map_err(|e| Error::io("writing JSON", e.into()))?;
            return print(&json);
        }
        match text() {
            text if text.is_empty() => Ok(()),
            text => print(&text),
        }
    }
}

impl Output {
    /// Prints what was done, unless that is not wanted.
    pub(crate) fn done(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result {
        if self.quiet { Ok(()) } else { self.json.print(value, text) }
    }

    pub(crate) fn bar(&self, verbose: u8) -> Bar {
        // Log lines would tear the bar apart.
        Bar::new(!self.quiet && !self.json.json && verbose == 0 && io::stderr().is_terminal())
    }

    /// A bar that counts objects.
    pub(crate) fn counter(&self, verbose: u8) -> Bar {
        let bar = self.bar(verbose);
        bar.bar.set_style(style("{spinner} {human_pos} objects  {per_sec}  {elapsed}"));
        bar
    }
}

/// A progress bar on a terminal; nothing elsewhere. Gone when dropped.
pub(crate) struct Bar {
    bar: ProgressBar,
    started: Instant,
}

impl Bar {
    fn new(visible: bool) -> Self {
        let bar = if visible { ProgressBar::no_length() } else { ProgressBar::hidden() };
        bar.set_style(style("{spinner} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, started: Instant::now() }
    }

    /// A bar over so many steps, if stderr is a terminal and it is to be `visible`.
    pub(crate) fn of_steps(visible: bool, steps: u64) -> Self {
        let bar = Self::new(visible && io::stderr().is_terminal());
        bar.bar.set_length(steps);
        bar.bar.set_style(style("{percent:>3}% [{bar:30}]  {elapsed}, {eta} to go  {msg}"));
        bar
    }

    /// The next step begins.
    pub(crate) fn step(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
    }

    /// What the engine calls, if anybody looks.
    pub(crate) fn callback(&self) -> Option<ProgressCallback> {
        if self.bar.is_hidden() {
            return None;
        }
        let bar = self.bar.clone();
        Some(Arc::new(move |progress: Progress| {
            if let Some(total) = progress.total
                && bar.length().is_none()
            {
                bar.set_length(total);
                bar.set_style(style(OF_TOTAL));
            }
            bar.set_position(progress.done);
        }))
    }

    /// The same bar for many objects, which have `len` bytes together.
    pub(crate) fn total(&self, len: u64) -> Total {
        if !self.bar.is_hidden() {
            self.bar.set_length(len);
            self.bar.set_style(style(OF_TOTAL));
        }
        Total((!self.bar.is_hidden()).then(|| self.bar.clone()))
    }

    /// One object more.
    pub(crate) fn count(&self) {
        self.bar.inc(1);
    }

    /// Ends it; how long it took.
    pub(crate) fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}

/// A bar that many objects share.
pub(crate) struct Total(Option<ProgressBar>);

impl Total {
    /// There are so many bytes more.
    pub(crate) fn add(&self, len: u64) {
        if let Some(bar) = &self.0 {
            bar.inc_length(len);
        }
    }

    /// What the engine calls for one of them, if anybody looks.
    pub(crate) fn callback(&self) -> Option<ProgressCallback> {
        let bar = self.0.clone()?;
        let before = Mutex::new(0);
        Some(Arc::new(move |progress: Progress| {
            let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
            match progress.done.checked_sub(*before) {
                Some(more) => bar.inc(more),
                None => bar.dec(*before - progress.done),
            }
            *before = progress.done;
        }))
    }
}

const OF_TOTAL: &str =
    "{percent:>3}% [{bar:30}] {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}";

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// A recipient, as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Recipient {
    pub(crate) kms: &'static str,
    pub(crate) key: String,
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kms, printable(&self.key))
    }
}

impl From<&WrappedKey> for Recipient {
    fn from(wrapped: &WrappedKey) -> Self {
        Self { kms: wrapped.kms.name(), key: wrapped.key.clone() }
    }
}

/// Encryption on the store's side, as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Encryption {
    pub(crate) algorithm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_encryption: Option<String>,
}

impl std::fmt::Display for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&printable(&self.algorithm))?;
        if let Some(id) = &self.key_id {
            write!(f, " with the CMK {}", printable(id))?;
        }
        Ok(())
    }
}

impl From<ServerSideEncryption> for Encryption {
    fn from(encryption: ServerSideEncryption) -> Self {
        let ServerSideEncryption { algorithm, key_id, data_encryption } = encryption;
        Self { algorithm, key_id, data_encryption }
    }
}

pub(crate) fn recipients(data_keys: &[WrappedKey]) -> Vec<Recipient> {
    data_keys.iter().map(Recipient::from).collect()
}

/// Whose key opened an object.
pub(crate) fn opened_with(reader: &Reader) -> Option<Recipient> {
    reader.opened_with().map(Recipient::from)
}

/// `text` without what commands a terminal: whoever stored an object wrote its name and its metadata.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

pub(crate) fn bytes(n: u64) -> String {
    HumanBytes(n).to_string()
}

/// `1.50 GiB in 0.8 s (1.87 GiB/s)`
pub(crate) fn bytes_in(n: u64, took: Duration) -> String {
    format!("{} in {:.1} s ({}/s)", bytes(n), took.as_secs_f64(), bytes(rate(n, took)))
}

/// Bytes per second.
pub(crate) fn rate(n: u64, took: Duration) -> u64 {
    (n as f64 / took.as_secs_f64().max(1e-9)) as u64
}

/// A time in UTC as RFC 3339 has it, to the second.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_secs(),
        Err(_) => 0,
    };
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's `civil_from_days` for dates from 1970 on: eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_is_not_printed() {
        assert_eq!(printable("grün\u{1b}[2J\n\u{9b}"), r"grün\u{1b}[2J\n\u{9b}");
    }

    #[test]
    fn times_are_as_date_prints_them() {
        // date -u -d @N +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}

//! What was found, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::machine::{FileSystem, Load, Machine};
use super::measure::{Amount, Measured, Ratio, Spread};
use super::peers::Skipped;
use crate::args::Group;
use crate::output;

/// Everything that was found.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) file_system: FileSystem,
    pub(super) load: Load,
    pub(super) rounds: usize,
    pub(super) file_bytes: u64,
    /// How fast reading and mapping the file are, and so which of the two `put` would take.
    pub(super) read_mode: ReadMode,
    pub(super) rows: Vec<Entry>,
    pub(super) ratios: Vec<Ratio>,
    pub(super) skipped: Vec<Skipped>,
    /// Reasons to doubt the figures.
    pub(super) doubts: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ReadMode {
    pub(super) read_bytes_per_second: Option<u64>,
    pub(super) map_bytes_per_second: Option<u64>,
    pub(super) chosen: &'static str,
}

/// A row of the table.
#[derive(Serialize)]
pub(super) struct Entry {
    pub(super) group: &'static str,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) threads: usize,
    /// What `per_second` counts.
    pub(super) unit: &'static str,
    pub(super) per_second: Spread,
    pub(super) seconds: Vec<f64>,
    pub(super) cores_busy: f64,
    pub(super) limit: &'static str,
    pub(super) noisy: bool,
}

impl Entry {
    pub(super) fn of(row: &Measured) -> Self {
        Self {
            group: row.group.name(),
            id: row.id.clone(),
            name: row.name.clone(),
            threads: row.threads,
            unit: match row.amount {
                Amount::Bytes(_) => "bytes",
                Amount::Items(_, what) => what,
            },
            per_second: row.rate(),
            seconds: row.seconds(),
            cores_busy: row.cores(),
            limit: row.limit(),
            noisy: row.is_noisy(),
        }
    }
}

impl Report {
    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = self.heading();
        for group in Group::ALL {
            let rows: Vec<_> = self.rows.iter().filter(|row| row.group == group.name()).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n{:<46} threads {:>18}  half within      CPU  limited by", title(group), "median");
            for row in rows {
                let _ = writeln!(
                    text,
                    "  {:<44} {:>7} {:>18}  {:<14} {:>5}  {}{}",
                    shortened(&row.name, 44),
                    row.threads,
                    rate(row.per_second.median, row.unit),
                    within(row.per_second),
                    format!("{:.0} %", row.cores_busy * 100.0),
                    row.limit,
                    if row.noisy { "  (noisy)" } else { "" },
                );
            }
        }
        if !self.ratios.is_empty() {
            text.push_str("\nSpeed compared, turn by turn\n");
        }
        for ratio in &self.ratios {
            let _ = writeln!(text, "  {}", said(ratio));
        }
        for Skipped { name, why } in &self.skipped {
            let _ = writeln!(text, "\nNot measured: {name}, {why}.");
        }
        for doubt in &self.doubts {
            let _ = writeln!(text, "\nTake care: {doubt}");
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn heading(&self) -> String {
        let Self { machine, file_system, load, rounds, file_bytes, read_mode, .. } = self;
        let memory = machine.memory_bytes.map_or_else(String::new, |bytes| format!(", {}", output::bytes(bytes)));
        let speed = |speed: Option<u64>| speed.map_or_else(|| "?".to_owned(), |speed| gigabytes(speed as f64));
        let mut text = format!(
            "CPU      {}, {} cores{memory}; has {}\n\
             Backend  {}: {}\n\
             System   {}; huge pages {}; sealift {}\n\
             File     {} in {}, {} on {}\n",
            machine.cpu,
            machine.cores,
            machine.cpu_features,
            machine.backend,
            machine.backend_why,
            machine.kernel,
            machine.huge_pages.as_deref().unwrap_or("unknown"),
            machine.version,
            output::bytes(*file_bytes),
            file_system.dir,
            file_system.kind,
            file_system.device,
        );
        if read_mode.read_bytes_per_second.is_some() {
            let _ = writeln!(
                text,
                "Reading  one thread reads and seals it at {}, maps and seals it at {}: `put` would {} it",
                speed(read_mode.read_bytes_per_second),
                speed(read_mode.map_bytes_per_second),
                read_mode.chosen,
            );
        }
        let figure = |figure: Option<f64>| figure.map_or_else(|| "?".to_owned(), |figure| format!("{figure:.1}"));
        let _ = writeln!(
            text,
            "Load     {} before, {} after; {} % of the time went to other machines\n\
             Rounds   {rounds}, in turn, after one to warm up",
            figure(load.before),
            figure(load.after),
            figure(load.stolen.map(|stolen| stolen * 100.0)),
        );
        text
    }
}

fn said(ratio: &Ratio) -> String {
    let Spread { median, lower_quartile, upper_quartile, .. } = ratio.ratio;
    let verdict = match ratio.bar {
        _ if !ratio.conclusive => "not conclusive: too few rounds, or too much noise".to_owned(),
        None => String::new(),
        Some(bar) if median >= bar => format!("at least {bar:.2}, as it should be"),
        Some(bar) => format!("BELOW the {bar:.2} that it should be"),
    };
    let about = &ratio.about;
    format!(
        "{median:6.2}  ({lower_quartile:.2} to {upper_quartile:.2})  {about}{}{verdict}",
        if verdict.is_empty() { "" } else { "; " }
    )
}

pub(super) fn title(group: Group) -> &'static str {
    match group {
        Group::Memory => "In memory",
        Group::Small => "Small objects, in memory",
        Group::File => "File, sealed and dropped",
        Group::Directory => "File into a directory, and back",
        Group::Range => "Ranges of an object in a directory",
        Group::Peers => "Programs, file to nowhere",
        Group::Url => "Stores",
    }
}

/// `9.87 GB/s`, or `148,000 objects/s`.
pub(super) fn rate(per_second: f64, unit: &str) -> String {
    if unit == "bytes" { gigabytes(per_second) } else { format!("{} {unit}/s", grouped(per_second)) }
}

fn gigabytes(per_second: f64) -> String {
    if per_second < 1e9 { format!("{:.0} MB/s", per_second / 1e6) } else { format!("{:.2} GB/s", per_second / 1e9) }
}

/// Where half of the rounds are, as differences from the median.
fn within(spread: Spread) -> String {
    let percent = |figure: f64| (figure / spread.median.max(1e-9) - 1.0) * 100.0;
    format!("{:+.1} {:+.1} %", percent(spread.lower_quartile), percent(spread.upper_quartile))
}

pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_read_them() {
        assert_eq!(rate(9_874_000_000.0, "bytes"), "9.87 GB/s");
        assert_eq!(rate(38_100_000.0, "bytes"), "38 MB/s");
        assert_eq!(rate(148_123.4, "objects"), "148,123 objects/s");
        assert_eq!(rate(999.0, "ranges"), "999 ranges/s");
        let spread = Spread { median: 100.0, lower_quartile: 98.0, upper_quartile: 101.5, mad: 1.0 };
        assert_eq!(within(spread), "-2.0 +1.5 %");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }

    #[test]
    fn a_ratio_says_whether_it_is_enough_and_nothing_if_it_cannot() {
        let spread = Spread { median: 0.97, lower_quartile: 0.96, upper_quartile: 0.98, mad: 0.01 };
        let ratio = |bar, conclusive| {
            let (about, row, compared_with) = ("sealing".to_owned(), "a".to_owned(), "b".to_owned());
            said(&Ratio { about, row, compared_with, ratio: spread, bar, conclusive })
        };
        assert!(ratio(Some(0.95), true).ends_with("sealing; at least 0.95, as it should be"));
        assert!(ratio(Some(0.99), true).contains("BELOW"));
        assert!(ratio(Some(0.95), false).contains("not conclusive"));
        assert!(ratio(None, true).ends_with("sealing"));
    }
}

//! Contenders that take turns, and what can be said of their times.

use std::time::{Duration, Instant};

use crate::args::Group;
use crate::commands::bench::machine;
use crate::exit::Result;

/// Where the quartiles are further apart than this share of the median, nothing is concluded.
pub(super) const NOISY: f64 = 0.10;

/// One row of the table: something that is done again and again, and timed.
pub(super) struct Row<'a> {
    pub(super) group: Group,
    /// Unique, and the same in every run: `group/what/threads`.
    pub(super) id: String,
    pub(super) name: String,
    /// Threads that do the work.
    pub(super) threads: usize,
    pub(super) amount: Amount,
    /// What limits it as long as its threads are busy, and what it waits for when they are not.
    pub(super) limits: Limits,
    pub(super) work: Box<dyn FnMut() -> Result + 'a>,
}

/// What one turn gets done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    Bytes(u64),
    /// So many of something.
    Items(u64, &'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) busy: &'static str,
    pub(super) waiting: &'static str,
}

/// One turn.
#[derive(Clone, Copy, Debug)]
struct Sample {
    wall: Duration,
    cpu: Duration,
}

/// A row that has been measured.
pub(super) struct Measured {
    pub(super) group: Group,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) threads: usize,
    pub(super) amount: Amount,
    limits: Limits,
    samples: Vec<Sample>,
}

/// The middle of some figures, and where half of them are.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lower_quartile: f64,
    pub(super) upper_quartile: f64,
    /// Median of the distances from the median.
    pub(super) mad: f64,
}

/// Something to be said of two rows, or of the better of several: how fast the first is as a share of the second.
pub(super) struct Claim {
    pub(super) about: String,
    pub(super) mine: Vec<String>,
    pub(super) other: Against,
    /// What the other's speed is multiplied by: `n` where n cores are compared with one.
    pub(super) times: f64,
    /// What is to be reached.
    pub(super) bar: Option<f64>,
}

/// What a row is compared with.
pub(super) enum Against {
    /// The best of these rows.
    Rows(Vec<String>),
    /// So many a second.
    Rate(f64),
}

/// A claim with its figures.
#[derive(Debug, serde::Serialize)]
pub(super) struct Ratio {
    pub(super) about: String,
    pub(super) row: String,
    pub(super) compared_with: String,
    #[serde(flatten)]
    pub(super) ratio: Spread,
    pub(super) bar: Option<f64>,
    /// Whether the rounds are many enough, and the spread small enough or all on one side of the bar, to say so.
    pub(super) conclusive: bool,
}

/// Lets all rows take turns, `rounds` times after one turn each to warm up.
pub(super) fn take_turns(
    rows: Vec<Row<'_>>,
    rounds: usize,
    mut begin: impl FnMut(usize, &str) -> Result,
) -> Result<Vec<Measured>> {
    let mut rows: Vec<_> = rows.into_iter().map(|row| (row, Vec::with_capacity(rounds))).collect();
    for round in 0..=rounds {
        // Whoever comes after one that wrote may find the disk busy, so every other round goes backwards.
        let order: Box<dyn Iterator<Item = &mut (Row<'_>, Vec<Sample>)>> =
            if round.is_multiple_of(2) { Box::new(rows.iter_mut()) } else { Box::new(rows.iter_mut().rev()) };
        for (row, samples) in order {
            begin(round, &row.name)?;
            let (cpu, start) = (machine::cpu_time(), Instant::now());
            (row.work)()?;
            let wall = start.elapsed();
            if round > 0 {
                samples.push(Sample { wall, cpu: machine::cpu_time().saturating_sub(cpu) });
            }
        }
    }
    let measured = |(row, samples): (Row<'_>, _)| {
        let Row { group, id, name, threads, amount, limits, work: _ } = row;
        Measured { group, id, name, threads, amount, limits, samples }
    };
    Ok(rows.into_iter().map(measured).collect())
}

impl Measured {
    pub(super) fn seconds(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.wall.as_secs_f64()).collect()
    }

    /// Bytes or items a second.
    pub(super) fn rate(&self) -> Spread {
        Spread::of(self.rates())
    }

    fn rates(&self) -> Vec<f64> {
        let (Amount::Bytes(amount) | Amount::Items(amount, _)) = self.amount;
        self.seconds().into_iter().map(|seconds| amount as f64 / seconds.max(1e-9)).collect()
    }

    /// How many cores were busy, on average.
    pub(super) fn cores(&self) -> f64 {
        let cores = |sample: &Sample| sample.cpu.as_secs_f64() / sample.wall.as_secs_f64().max(1e-9);
        Spread::of(self.samples.iter().map(cores).collect()).median
    }

    pub(super) fn limit(&self) -> &'static str {
        if self.cores() >= 0.85 * self.threads as f64 { self.limits.busy } else { self.limits.waiting }
    }

    pub(super) fn is_noisy(&self) -> bool {
        self.rate().is_noisy()
    }
}

impl Spread {
    pub(super) fn of(mut figures: Vec<f64>) -> Self {
        let median = quantile(&mut figures, 0.5);
        let (lower_quartile, upper_quartile) = (quantile(&mut figures, 0.25), quantile(&mut figures, 0.75));
        let mut distances: Vec<_> = figures.iter().map(|figure| (figure - median).abs()).collect();
        Self { median, lower_quartile, upper_quartile, mad: quantile(&mut distances, 0.5) }
    }

    pub(super) fn is_noisy(self) -> bool {
        self.upper_quartile - self.lower_quartile > NOISY * self.median
    }
}

impl Claim {
    /// That the best of `mine` is at least `bar` times as fast as the best of `other`.
    pub(super) fn of_rows(about: String, mine: Vec<String>, other: Vec<String>, bar: Option<f64>) -> Self {
        Self { about, mine, other: Against::Rows(other), times: 1.0, bar }
    }

    /// What the rows say. `None` if one of them is not there.
    ///
    /// The turns of one round are compared with each other: what slows the machine down for a while slows both.
    pub(super) fn ratio(&self, rows: &[Measured]) -> Option<Ratio> {
        let mine = best(rows, &self.mine)?;
        let (compared_with, ratios): (_, Vec<f64>) = match &self.other {
            Against::Rows(ids) => {
                let other = best(rows, ids)?;
                let pairs = mine.rates().into_iter().zip(other.rates());
                (other.id.clone(), pairs.map(|(mine, other)| mine / (other * self.times)).collect())
            }
            Against::Rate(rate) => {
                (format!("{rate} a second"), mine.rates().into_iter().map(|mine| mine / rate).collect())
            }
        };
        let (rounds, ratio) = (ratios.len(), Spread::of(ratios));
        let is_decided = self.bar.is_some_and(|bar| bar < ratio.lower_quartile || bar > ratio.upper_quartile);
        Some(Ratio {
            about: self.about.clone(),
            row: mine.id.clone(),
            compared_with,
            ratio,
            bar: self.bar,
            conclusive: rounds >= 5 && (is_decided || !ratio.is_noisy()),
        })
    }
}

/// The fastest of the rows named. All have to be there.
fn best<'a>(rows: &'a [Measured], ids: &[String]) -> Option<&'a Measured> {
    let found: Option<Vec<_>> = ids.iter().map(|id| rows.iter().find(|row| row.id == *id)).collect();
    found?.into_iter().max_by(|a, b| a.rate().median.total_cmp(&b.rate().median))
}

/// Between the two nearest figures, in proportion. 0 if there are none.
fn quantile(figures: &mut [f64], q: f64) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let at = q * figures.len().saturating_sub(1) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    match (figures.get(below), figures.get(above)) {
        (Some(low), Some(high)) => low + (high - low) * at.fract(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, bytes: u64, milliseconds: &[u64]) -> Measured {
        let sample = |&ms: &u64| Sample { wall: Duration::from_millis(ms), cpu: Duration::from_millis(ms / 2) };
        Measured {
            group: Group::Memory,
            id: id.to_owned(),
            name: id.to_owned(),
            threads: 1,
            amount: Amount::Bytes(bytes),
            limits: Limits { busy: "the CPU", waiting: "the disk" },
            samples: milliseconds.iter().map(sample).collect(),
        }
    }

    fn claim(mine: &[&str], other: &[&str], times: f64) -> Claim {
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        Claim { times, ..Claim::of_rows("a claim".to_owned(), ids(mine), ids(other), None) }
    }

    #[test]
    fn medians_and_quartiles() {
        let spread = Spread::of(vec![5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!(spread, Spread { median: 3.0, lower_quartile: 2.0, upper_quartile: 4.0, mad: 1.0 });
        assert_eq!(Spread::of(vec![1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of(Vec::new()).median, 0.0);
    }

    #[test]
    fn the_better_of_several_is_compared_round_by_round() {
        let rows = [
            row("read", 1000, &[20, 20, 20, 20, 20]),
            row("map", 1000, &[10, 10, 10, 10, 1000]),
            // Slow whenever the other is.
            row("hand", 1000, &[8, 8, 8, 8, 800]),
        ];
        let ratio = claim(&["read", "map"], &["hand"], 1.0).ratio(&rows).unwrap();
        assert_eq!((ratio.row.as_str(), ratio.ratio.median), ("map", 0.8));
        assert!(ratio.conclusive);
        assert!(rows[1].limit() == "the disk" && (rows[1].cores() - 0.5).abs() < 1e-9);
        assert!(claim(&["map"], &["absent"], 1.0).ratio(&rows).is_none());
    }

    #[test]
    fn amounts_and_cores_count() {
        let rows = [row("one", 1000, &[10; 5]), row("two", 4000, &[20; 5])];
        assert_eq!(claim(&["two"], &["one"], 2.0).ratio(&rows).unwrap().ratio.median, 1.0);
        let rate = Claim { other: Against::Rate(50_000.0), ..claim(&["one"], &[], 1.0) };
        assert_eq!(rate.ratio(&rows).unwrap().ratio.median, 2.0);
    }

    #[test]
    fn nothing_is_concluded_from_noise_or_from_few_rounds() {
        let rows = [row("a", 10, &[10, 10, 10, 10, 10]), row("b", 10, &[5, 20, 10, 7, 30]), row("c", 10, &[10, 10])];
        assert!(!claim(&["a"], &["b"], 1.0).ratio(&rows).unwrap().conclusive);
        assert!(!claim(&["c"], &["a"], 1.0).ratio(&rows).unwrap().conclusive);
        assert!(rows[1].is_noisy() && !rows[0].is_noisy());
    }

    #[test]
    fn noise_that_stays_on_one_side_of_the_bar_does_not_matter() {
        let rows = [row("a", 10, &[10, 10, 10, 10, 10]), row("b", 10, &[5, 20, 10, 7, 30])];
        // a is half to three times as fast, and half of the rounds are between 0.7 and 2.
        for (bar, conclusive) in [(0.6, true), (0.8, false), (1.9, false), (2.1, true)] {
            let claim = Claim { bar: Some(bar), ..claim(&["a"], &["b"], 1.0) };
            assert_eq!(claim.ratio(&rows).unwrap().conclusive, conclusive, "{bar}");
        }
    }
}

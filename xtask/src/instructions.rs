//! How many instructions the inner loops take, counted by valgrind: what no clock on a busy machine can tell.
//!
//! valgrind shows programs a CPU with AVX2 and AES-NI and without AVX-512 or VAES, whatever the machine has. So the figures are those of
//! the same code everywhere, and say nothing about speed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::setup;
use crate::steps::{cargo, output};

const BASELINE: &str = "benches/instructions.txt";
/// In percent. Compilers and the cipher's library may change a little without anyone's fault. One needless copy of a chunk is 3 % of
/// sealing it. Another machine's C library may copy with other instructions, so CI tolerates a little more, but not that.
const TOLERANCE: f64 = 2.0;
/// Each is counted this often, and again with the second figure: the difference has no start of the program in it.
const COUNTS: [u64; 2] = [16, 48];

pub(crate) fn run(arguments: &[String]) -> Result {
    let tolerance = |percent: &String| percent.parse().ok().filter(|percent| (0.0..100.0).contains(percent));
    let (bless, tolerance) = match arguments {
        [] => (false, Some(TOLERANCE)),
        [flag] if flag == "--bless" => (true, Some(TOLERANCE)),
        [flag, percent] if flag == "--tolerance" => (false, tolerance(percent)),
        _ => (false, None),
    };
    let wrong = || format!("takes --bless, --tolerance PERCENT or nothing, but was given {arguments:?}");
    let tolerance = tolerance.ok_or_else(wrong)?;
    setup::valgrind()?;
    let program = build()?;
    let names = output(Command::new(&program).arg("--list"))?;
    let mut found = BTreeMap::new();
    for name in String::from_utf8_lossy(&names).lines() {
        let [few, many] = [count(&program, name, COUNTS[0])?, count(&program, name, COUNTS[1])?];
        found.insert(name.to_owned(), many.saturating_sub(few) / (COUNTS[1] - COUNTS[0]));
    }
    if bless {
        let text: String = found.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        print!("{text}");
        return fs::write(BASELINE, text).map_err(|error| format!("cannot write {BASELINE}: {error}"));
    }
    compare(&baseline()?, &found, tolerance)
}

/// With the default features, as most programs have it.
fn build() -> Result<PathBuf> {
    let arguments = "bench --locked --package sealift --no-run --bench instructions --message-format json";
    println!("    cargo {arguments}");
    let messages = output(&mut cargo(arguments))?;
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "instructions";
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    };
    let found = String::from_utf8_lossy(&messages).lines().find_map(executable);
    found.ok_or_else(|| "cargo did not say where benches/instructions.rs was built".to_owned())
}

fn count(program: &Path, name: &str, times: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]).arg(program);
    command.arg(name).arg(times.to_string());
    let output = command.output().map_err(|error| format!("cannot run valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name} failed under valgrind with {}:\n{said}", output.status));
    }
    instructions(&said).ok_or_else(|| format!("valgrind did not say how many instructions {name} took:\n{said}"))
}

/// `==1234== I   refs:      3,141,592`
fn instructions(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("refs:") && line.contains("I "))?;
    line.rsplit_once(':')?.1.trim().replace(',', "").parse().ok()
}

fn baseline() -> Result<BTreeMap<String, u64>> {
    let advice = "`cargo xtask instructions --bless` makes it";
    let text = fs::read_to_string(BASELINE).map_err(|error| format!("cannot read {BASELINE}: {error}; {advice}"))?;
    let read = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    let lines =
        text.lines().map(|line| read(line).ok_or_else(|| format!("{BASELINE}: {line:?} is no name and number")));
    lines.collect()
}

fn compare(baseline: &BTreeMap<String, u64>, found: &BTreeMap<String, u64>, tolerance: f64) -> Result {
    let mut wrong = Vec::new();
    for (name, &count) in found {
        let Some(&was) = baseline.get(name) else {
            wrong.push(format!("{name} is not in {BASELINE}"));
            continue;
        };
        let change = (count as f64 / was.max(1) as f64 - 1.0) * 100.0;
        println!("{name:20} {count:>10} instructions, {change:+.2} % of {was}");
        if change > tolerance {
            wrong.push(format!("{name} takes {change:.1} % more instructions than it did"));
        } else if change < -tolerance {
            wrong.push(format!("{name} takes {:.1} % fewer instructions: make that the new figure", -change));
        }
    }
    wrong.extend(
        baseline.keys().filter(|name| !found.contains_key(*name)).map(|name| format!("{name} was not counted")),
    );
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\nIf it is meant to be so: `cargo xtask instructions --bless`, and say why in the commit.",
        wrong.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn what_valgrind_says_is_understood() {
        assert_eq!(
            instructions("==7== Cachegrind, a profiler\n==7== \n==7== I   refs:      3,141,592\n"),
            Some(3_141_592)
        );
        assert_eq!(instructions("==7== I refs:        27,654"), Some(27_654));
        assert_eq!(instructions("valgrind: failed to start"), None);
    }

    #[test]
    fn more_and_fewer_instructions_are_noticed_and_a_few_are_not() {
        let baseline = counts(&[("seal-chunk", 10_000)]);
        let compare = |found: &[(&str, u64)]| compare(&baseline, &counts(found), 2.0);
        compare(&[("seal-chunk", 10_150)]).unwrap();
        assert!(compare(&[("seal-chunk", 10_300)]).unwrap_err().contains("3.0 % more"));
        assert!(compare(&[("seal-chunk", 9_000)]).unwrap_err().contains("fewer"));
        assert!(compare(&[]).unwrap_err().contains("not counted"));
        assert!(compare(&[("seal-chunk", 10_000), ("new", 1)]).unwrap_err().contains("new is not in"));
    }
}

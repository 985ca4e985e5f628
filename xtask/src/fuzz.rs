//! The fuzz targets, by cargo-fuzz.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::steps::{Steps, cargo, output, succeeds};

pub(crate) fn run(arguments: &[String]) -> Result {
    let (seconds, mut targets) = parse(arguments)?;
    if !Path::new("fuzz/Cargo.toml").exists() {
        return Err("there is no fuzz/Cargo.toml, so there are no fuzz targets".to_owned());
    }
    if !succeeds(&mut cargo("fuzz --version")) {
        return Err("needs cargo-fuzz: `cargo install --locked cargo-fuzz --version 0.13.2`".to_owned());
    }
    if targets.is_empty() {
        let list = output(&mut cargo_fuzz("list"))?;
        targets = String::from_utf8_lossy(&list).lines().map(str::to_owned).collect();
    }
    let mut steps = Steps::default();
    steps.run("build", &mut cargo_fuzz("build"))?;
    for target in targets {
        let mut fuzz = cargo_fuzz(&format!("run {target}"));
        fuzz.arg("--").arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
        steps.run(target, &mut fuzz)?;
    }
    steps.finish()
}

/// The sanitizers are nightly options, which this lets the stable toolchain have.
fn cargo_fuzz(arguments: &str) -> Command {
    let mut command = cargo("fuzz");
    command.args(arguments.split_whitespace()).env("RUSTC_BOOTSTRAP", "1");
    command
}

fn parse(arguments: &[String]) -> Result<(u64, Vec<String>)> {
    let mut seconds = 60;
    let mut targets = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let number = arguments.next().and_then(|number| number.parse().ok());
            // To libFuzzer, 0 means for ever.
            seconds = number.filter(|number| *number > 0).ok_or("--seconds needs a number from 1")?;
        } else if argument.starts_with('-') {
            return Err(format!("unknown option {argument}; there is only --seconds N"));
        } else {
            targets.push(argument.clone());
        }
    }
    Ok((seconds, targets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_seconds_and_targets() {
        let parse = |arguments: &str| parse(&arguments.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap(), (60, vec![]));
        assert_eq!(parse("a --seconds 5 b").unwrap(), (5, vec!["a".to_owned(), "b".to_owned()]));
        for wrong in ["--seconds", "--seconds x", "--seconds 0", "--jobs 2"] {
            parse(wrong).unwrap_err();
        }
    }
}

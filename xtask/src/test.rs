//! The tests, short and long.

use std::process::Command;

use crate::steps::{Steps, cargo};
use crate::{Result, setup};

pub(crate) fn run(_: &[String]) -> Result {
    setup::run(&[])?;
    let mut steps = Steps::default();
    steps.run("build the tests", &mut cargo("test --locked --workspace --all-features --no-run"))?;
    tests(&mut steps, cargo)?;
    steps.run(
        "library tests with RustCrypto alone",
        &mut cargo("test --locked --package sealift --lib --no-default-features --features portable"),
    )?;
    steps.finish()
}

pub(crate) fn soak(_: &[String]) -> Result {
    setup::run(&[])?;
    let mut steps = Steps::default();
    tests(&mut steps, |arguments| {
        let mut command = cargo(arguments);
        command.arg("--release").env("SEALIFT_SOAK", "1");
        command
    })?;
    steps.finish()
}

fn tests(steps: &mut Steps, cargo: impl Fn(&str) -> Command) -> Result {
    steps.run("tests", &mut cargo("test --locked --workspace --all-features --tests --no-fail-fast"))?;
    steps.run("documentation's examples", &mut cargo("test --locked --workspace --all-features --doc"))
}

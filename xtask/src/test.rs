//! The tests, short and long.

use std::env;
use std::fs;
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
    run_vectors(&mut steps)?;
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

pub(crate) fn vectors(_: &[String]) -> Result {
    let mut steps = Steps::default();
    run_vectors(&mut steps)?;
    steps.finish()
}

fn tests(steps: &mut Steps, cargo: impl Fn(&str) -> Command) -> Result {
    steps.run("tests", &mut cargo("test --locked --workspace --all-features --tests --no-fail-fast"))?;
    steps.run("documentation's examples", &mut cargo("test --locked --workspace --all-features --doc"))
}

/// The files `tests/*vectors*.rs` that fix salts, which takes a build of its own: the function that does must never be within a
/// user's reach.
fn run_vectors(steps: &mut Steps) -> Result {
    const CFG: &str = "sealift_test_vectors";
    let mut arguments = "test --locked --package sealift --all-features --target-dir target/vectors".to_owned();
    let mut found = false;
    for entry in fs::read_dir("tests").into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".rs").filter(|name| name.contains("vectors")) else { continue };
        if fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(CFG)) {
            arguments += &format!(" --test {name}");
            found = true;
        }
    }
    if !found {
        println!("\nNo tests/*vectors*.rs names cfg({CFG}), so no vector needs a build of its own.");
        return Ok(());
    }
    let flags = format!("{} --cfg {CFG}", env::var("RUSTFLAGS").unwrap_or_default());
    steps.run("published vectors", cargo(&arguments).env("RUSTFLAGS", flags.trim_start()))
}

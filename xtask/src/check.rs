//! What needs no test to be seen: formatting, lints, documentation, licences.

use std::path::Path;

use crate::Result;
use crate::steps::{Steps, cargo, succeeds};

pub(crate) fn run(_: &[String]) -> Result {
    let mut steps = Steps::default();
    steps.run("formatting", &mut cargo("fmt --all --check"))?;
    if Path::new("fuzz/Cargo.toml").exists() {
        steps.run("formatting of fuzz/", &mut cargo("fmt --manifest-path fuzz/Cargo.toml --check"))?;
        // cargo-fuzz would update it without a word. `tree` is the cheapest command that minds.
        let mut tree = cargo("tree --locked --manifest-path fuzz/Cargo.toml --quiet --depth 0");
        steps.run("lock file of fuzz/", &mut tree)?;
    }
    // With all features, tests and benches are looked at too. The others only have to build: each is a build of its own.
    for (features, packages) in [
        ("all features", "--workspace --all-features --all-targets"),
        ("default features", "--workspace"),
        ("the program without features", "--package sealift-cli --no-default-features"),
        (
            "the program for one store and one key service",
            "--package sealift-cli --no-default-features --features oss,vault-kms",
        ),
        ("only portable", "--package sealift --no-default-features --features portable"),
        ("only ring", "--package sealift --no-default-features --features ring"),
    ] {
        let arguments = format!("clippy --locked {packages} -- -D warnings");
        steps.run(format!("lints, {features}"), &mut cargo(&arguments))?;
    }
    let mut doc = cargo("doc --locked --workspace --all-features --no-deps");
    steps.run("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;

    let has_deny = succeeds(&mut cargo("deny --version"));
    if has_deny {
        // Not `advisories`: they come from the network, and change without a change of ours.
        let mut deny = cargo("deny --locked --workspace check --hide-inclusion-graph licenses bans sources");
        steps.run("licences and sources of dependencies", &mut deny)?;
    }
    steps.finish()?;
    if !has_deny {
        println!(
            "\nNot checked: licences and sources of dependencies. `cargo install --locked cargo-deny` brings what it takes."
        );
    }
    Ok(())
}

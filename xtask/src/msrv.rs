//! Whether the workspace keeps to the `rust-version` it states.
//!
//! That very toolchain is asked, and installed for it if need be. Where it cannot be had, this is evidence, not proof: every dependency in
//! the lock file says it builds with that version. That our code uses no newer item of the standard library, `check` says by clippy's
//! `incompatible_msrv`.

use std::process::Command;

use crate::Result;
use crate::metadata::{Metadata, Package};
use crate::steps::{Steps, succeeds};

pub(crate) fn run(_: &[String]) -> Result {
    let metadata = Metadata::read()?;
    let msrv = stated(&metadata)?;
    let too_new = newer(&metadata, msrv)?;
    if !too_new.is_empty() {
        return Err(format!("rust-version is {msrv}, but the lock file has {}", too_new.join(", ")));
    }
    let silent = metadata.packages().filter(|package| package.rust_version().is_none()).count();
    println!(
        "No dependency in the lock file asks for a Rust newer than {msrv}; {silent} do not say what they ask for."
    );

    let mut steps = Steps::default();
    let has_toolchain = || succeeds(Command::new("rustup").args(["run", msrv, "cargo", "--version"]));
    let install = ["toolchain", "install", msrv, "--profile", "minimal", "--no-self-update"];
    let has_toolchain = has_toolchain() || (succeeds(Command::new("rustup").args(install)) && has_toolchain());
    if has_toolchain {
        let check = "check --locked --workspace --all-features --target-dir target/msrv";
        let mut command = Command::new("rustup");
        command.args(["run", msrv, "cargo"]).args(check.split_whitespace()).env_remove("RUSTUP_TOOLCHAIN");
        steps.run(format!("build with Rust {msrv}"), &mut command)?;
    }
    steps.finish()?;
    if !has_toolchain {
        println!(
            "\nNot built with Rust {msrv} itself, which could not be installed: `rustup toolchain install {msrv}` says why."
        );
    }
    Ok(())
}

/// The one version that all packages of the workspace state.
fn stated(metadata: &Metadata) -> Result<&str> {
    let mut versions: Vec<_> = metadata.members().map(|package| package.rust_version().unwrap_or("none")).collect();
    versions.sort_unstable();
    versions.dedup();
    match versions[..] {
        [version] => Ok(version),
        _ => Err(format!("the packages of the workspace state different versions: {versions:?}")),
    }
}

fn newer(metadata: &Metadata, msrv: &str) -> Result<Vec<String>> {
    let msrv = parse(msrv)?;
    let mut newer = Vec::new();
    for package in metadata.packages() {
        if let Some(version) = package.rust_version()
            && parse(version)? > msrv
        {
            newer.push(describe(package, version));
        }
    }
    Ok(newer)
}

fn describe(package: Package<'_>, version: &str) -> String {
    format!("{} {}, which asks for {version}", package.name(), package.version())
}

/// `1.89` and `1.89.0` are the same.
fn parse(version: &str) -> Result<[u32; 3]> {
    let mut parts = [0; 3];
    let mut words = version.split('.');
    for part in &mut parts {
        let Some(word) = words.next() else { break };
        *part = word.parse().map_err(|_| format!("{version} is no version of Rust"))?;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(parse("1.89").unwrap(), parse("1.89.0").unwrap());
        assert!(parse("1.100").unwrap() > parse("1.89.2").unwrap());
        parse("none").unwrap_err();
    }
}

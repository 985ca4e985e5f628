//! The benchmarks, measured or only run.

use crate::Result;
use crate::metadata::Metadata;
use crate::steps::{Steps, cargo};

pub(crate) fn run(arguments: &[String]) -> Result {
    bench("", arguments)
}

/// `--test` is criterion's option to run each benchmark once. What the tests were built with is fast enough for that, and there already.
pub(crate) fn smoke(_: &[String]) -> Result {
    bench("--profile dev", &["--test".to_owned()])
}

fn bench(profile: &str, arguments: &[String]) -> Result {
    if !Metadata::read()?.members().any(|package| package.has_benches()) {
        return Err("no package of the workspace has a benchmark".to_owned());
    }
    let mut steps = Steps::default();
    // All bench targets by name: `--benches` would hand criterion's options to test harnesses too.
    let mut command = cargo(&format!("bench --locked {profile} --workspace --all-features --bench * --"));
    steps.run("benchmarks", command.args(arguments))?;
    steps.finish()
}

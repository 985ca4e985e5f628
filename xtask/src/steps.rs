//! Running commands, one after the other, saying which and how long each took.

use std::env;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;

/// The steps of one recipe.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs a command with its output shown. The first failure ends the recipe.
    pub(crate) fn run(&mut self, name: impl Into<String>, command: &mut Command) -> Result {
        let name = name.into();
        println!("\n==> {name}\n    {}", shown(command));
        let begun = Instant::now();
        let status = command.status().map_err(|error| cannot_run(command, &error))?;
        if !status.success() {
            return Err(format!("{name}: `{}` failed with {status}", shown(command)));
        }
        self.done.push((name, begun.elapsed()));
        Ok(())
    }

    /// Says how long each step took.
    pub(crate) fn finish(self) -> Result {
        println!();
        for (name, took) in &self.done {
            println!("{:8.1} s  {name}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:8.1} s  in all", total.as_secs_f64());
        Ok(())
    }
}

/// `cargo` with arguments that are separated by spaces.
pub(crate) fn cargo(arguments: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments.split_whitespace());
    // `cargo run` sets these for xtask. Build scripts watch some of them (ring's do): passed on, they would make cargo build anew
    // what a plain `cargo test` has built.
    let is_ours = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_ours) {
            command.env_remove(name);
        }
    }
    command
}

/// What a command prints, without its standard error, which is shown.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| cannot_run(command, &error))?;
    if !output.status.success() {
        return Err(format!("`{}` failed with {}", shown(command), output.status));
    }
    Ok(output.stdout)
}

/// Whether a command can be run at all, and succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let variables = variables.map(|(name, value)| format!("{}={}", name.display(), quoted(&value.to_string_lossy())));
    let program = std::iter::once(command.get_program()).chain(command.get_args());
    variables.chain(program.map(|word| quoted(&word.to_string_lossy()))).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '*', '"', '$']) { format!("'{word}'") } else { word.to_owned() }
}

fn cannot_run(command: &Command, error: &io::Error) -> String {
    format!("cannot run `{}`: {error}", shown(command))
}

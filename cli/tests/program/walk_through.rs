//! docs/byok.md and docs/rotation.md, run as they stand.
//!
//! A document's ```` ```sh ```` blocks are one shell script, in their order. What a block prints, on stdout or stderr, is the
//! ```` ```text ```` block that follows it; nothing, where none does. In such a block `…` stands for anything within its line.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Run, Sandbox, program, python};

/// Commands, and what they print.
struct Step<'a> {
    commands: &'a str,
    prints: &'a str,
}

#[test]
fn the_byok_document_does_what_it_says() {
    walk_through(include_str!("../../../docs/byok.md"));
}

#[test]
fn the_document_on_rotation_does_what_it_says() {
    walk_through(include_str!("../../../docs/rotation.md"));
}

fn walk_through(document: &str) {
    /// Printed between blocks: the record separator of ASCII, which no command prints.
    const SEPARATOR: char = '\u{1e}';
    let steps = steps(document);
    assert!(steps.len() > 5, "{} blocks", steps.len());
    let sandbox = Sandbox::new();
    let mut script = "set -eu\nexec 2>&1\n".to_owned();
    for step in &steps {
        script.push_str(&format!("{}\nprintf '\\036'\n", step.commands));
    }

    let run = run_script(&sandbox, &script);
    let output = run.stdout();
    let mut printed: Vec<_> = output.split(SEPARATOR).collect();
    let unfinished = printed.pop().unwrap_or_default();
    for (step, printed) in steps.iter().zip(&printed) {
        assert!(
            matches(step.prints, printed),
            "{}\nis to print\n{}\nbut printed\n{printed}",
            step.commands,
            step.prints
        );
    }
    let next = steps.get(printed.len()).map_or("nothing", |step| step.commands);
    assert_eq!(printed.len(), steps.len(), "this failed: {next}\nafter printing: {unfinished}");
    run.expect(0);
    assert!(sandbox.exists("home/kms/root.key"), "its own SEALIFT_HOME was used");
}

fn run_script(sandbox: &Sandbox, script: &str) -> Run {
    let dirs = [program(), &python()].map(|file| file.parent().unwrap_or(Path::new("/")).to_owned());
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(dirs.into_iter().chain(std::env::split_paths(&others))).unwrap();
    fs::create_dir(sandbox.path("work")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(sandbox.path("work"));
    command.env("PATH", path).env("SEALIFT_HOME", sandbox.path("home")).stdin(std::process::Stdio::null());
    for name in ["SEALIFT_ROOT_KEY", "SEALIFT_BACKUP_PASSPHRASE", "RUST_LOG"] {
        command.env_remove(name);
    }
    Run::of(&mut command)
}

fn steps(document: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    // Text and code take turns; code begins with its language.
    let mut fences = document.split("```");
    let mut prose = fences.next().unwrap_or_default();
    while let (Some(code), next) = (fences.next(), fences.next()) {
        match code.split_once('\n') {
            Some(("sh", commands)) => steps.push(Step { commands, prints: "" }),
            Some(("text", prints)) if prose.trim().is_empty() => {
                let step = steps.last_mut().expect("output follows commands");
                assert!(step.prints.is_empty(), "output follows output: {prints}");
                step.prints = prints;
            }
            _ => {}
        }
        prose = next.unwrap_or_default();
    }
    steps
}

fn matches(expected: &str, printed: &str) -> bool {
    let (expected, printed): (Vec<_>, Vec<_>) = (expected.lines().collect(), printed.lines().collect());
    expected.len() == printed.len() && expected.iter().zip(printed).all(|(expected, line)| line_matches(expected, line))
}

fn line_matches(expected: &str, line: &str) -> bool {
    let mut pieces = expected.split('…');
    let Some(mut rest) = line.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[test]
fn the_convention_is_read_as_written() {
    let steps =
        steps("a\n```sh\none\n```\n\n```text\n1\n```\n```sh\ntwo\n```\nprose\n```text\nno output\n```\n```rust\n```\n");
    let steps: Vec<_> = steps.iter().map(|step| (step.commands, step.prints)).collect();
    assert_eq!(steps, [("one\n", "1\n"), ("two\n", "")]);
    for (expected, line) in [("a…c", "abc"), ("a…c", "ac"), ("…", ""), ("…b…", "abc"), ("a", "a"), ("a…b…c", "axbbxc")]
    {
        assert!(line_matches(expected, line), "{expected} {line}");
    }
    for (expected, line) in [("a…c", "abcd"), ("a", "ab"), ("", "a"), ("…b…", "ac"), ("ab…b", "ab"), ("a…b…c", "acb")]
    {
        assert!(!line_matches(expected, line), "{expected} {line}");
    }
    assert!(matches("a\n…\n", "a\nb\n") && !matches("a\n", "a\nb\n") && !matches("…\n", ""));
}

//! A tour of the program: its main job, on a file made for it, with keys and objects in a directory that is thrown away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::metadata::Metadata;
use crate::steps::{Steps, cargo};

const FILE: &str = "holiday.mov";
const COPY: &str = "holiday-back.mov";
const OBJECT: &str = "backup/holiday.mov";
const LEN: usize = 256 << 20;

pub(crate) fn run(_: &[String]) -> Result {
    let target = Metadata::read()?.target_directory();
    let dir = target.join("demo");
    let mut steps = Steps::default();
    steps.run("build the program", &mut cargo("build --locked --release --package sealift-cli"))?;

    remove(&dir)?;
    fs::create_dir_all(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    write(&dir.join(FILE), &noise(LEN))?;
    println!("\nMade {FILE}, {} MiB of noise, in {}", LEN >> 20, dir.display());

    let program = Program { path: target.join("release/sealift"), dir: dir.clone() };
    program.run(&mut steps, "seal it into the directory `backup`", &["put", FILE, OBJECT])?;
    program.run(&mut steps, "what the store knows of it", &["stat", OBJECT])?;
    program.run(&mut steps, "authenticate all of it, write nothing", &["verify", OBJECT])?;
    program.run(&mut steps, "get it back", &["get", OBJECT, COPY])?;
    if read(&dir.join(FILE))? != read(&dir.join(COPY))? {
        return Err(format!("{FILE} and {COPY} in {} differ", dir.display()));
    }
    println!("\n{FILE} and {COPY} are equal, byte by byte.");
    remove(&dir)?;
    steps.finish()
}

struct Program {
    path: PathBuf,
    dir: PathBuf,
}

impl Program {
    fn run(&self, steps: &mut Steps, name: &str, arguments: &[&str]) -> Result {
        let mut command = Command::new(&self.path);
        command.args(arguments).current_dir(&self.dir).env("SEALIFT_HOME", self.dir.join("home"));
        steps.run(name, &mut command)
    }
}

/// Bytes that do not compress and do not repeat: xorshift64.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn remove(dir: &Path) -> Result {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", dir.display()))
        }
        _ => Ok(()),
    }
}

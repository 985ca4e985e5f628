//! The Python environment that some tests run: other people's implementations, to check ours against.

use std::fs;
use std::process::Command;

use crate::Result;
use crate::metadata::Metadata;
use crate::steps::{Steps, succeeds};

const REQUIREMENTS: &str = "tests/requirements.txt";

pub(crate) fn run(_: &[String]) -> Result {
    let Ok(requirements) = fs::read(REQUIREMENTS) else {
        println!("There is no {REQUIREMENTS}, so no test needs Python: nothing to set up.");
        return Ok(());
    };
    let venv = Metadata::read()?.target_directory().join("test-venv");
    let python = venv.join("bin/python");
    // A copy of the requirements that the environment was made for, written last.
    let stamp = venv.join("requirements.txt");
    if fs::read(&stamp).is_ok_and(|stamp| stamp == requirements) && python.exists() {
        println!("{} is up to date.", venv.display());
        return Ok(());
    }
    if !succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        return Err("the tests need Python 3 with venv and pip. To install it: `apt-get install python3-venv` \
                    (Debian, Ubuntu), `dnf install python3` (Fedora), `brew install python` (macOS)"
            .to_owned());
    }
    let mut steps = Steps::default();
    steps.run("make the environment", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS];
    steps.run("install what the tests need", Command::new(&python).args(pip))?;
    fs::write(&stamp, requirements).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    steps.finish()
}

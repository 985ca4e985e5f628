//! What some tests run: a Python environment, with other people's implementations to check ours against, and SoftHSM.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::metadata::Metadata;
use crate::steps::{Steps, succeeds};

const REQUIREMENTS: &str = "tests/requirements.txt";

/// Where the distributions put SoftHSM's library. `tests/kms_pkcs11.rs` looks there too.
const SOFTHSM: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
];

pub(crate) fn run(_: &[String]) -> Result {
    softhsm()?;
    python()
}

/// A token in software, for what is said to hardware security modules.
fn softhsm() -> Result {
    if SOFTHSM.iter().any(|library| Path::new(library).exists()) {
        return Ok(());
    }
    apt_install(
        "softhsm2",
        "the tests need SoftHSM 2. To install it: `sudo apt-get install softhsm2` (Debian, Ubuntu), \
         `dnf install softhsm` (Fedora), `brew install softhsm` (macOS)",
    )
}

/// What counts instructions. Only `cargo xtask instructions` needs it.
pub(crate) fn valgrind() -> Result {
    if succeeds(Command::new("valgrind").arg("--version")) {
        return Ok(());
    }
    apt_install(
        "valgrind",
        "instructions are counted by valgrind. To install it: `sudo apt-get install valgrind` (Debian, Ubuntu), \
         `dnf install valgrind` (Fedora). It does not run on all systems that Sealift runs on",
    )
}

/// Installs a package where this is root on a Debian, as it is in CI; elsewhere the failure is `advice`.
fn apt_install(package: &str, advice: &str) -> Result {
    let user = Command::new("id").arg("-u").output();
    let is_root = user.is_ok_and(|user| user.stdout.trim_ascii() == b"0");
    if !is_root || !succeeds(Command::new("apt-get").arg("--version")) {
        return Err(advice.to_owned());
    }
    let mut steps = Steps::default();
    let install = ["install", "--yes", "--no-install-recommends", package];
    if !succeeds(Command::new("apt-get").args(install).env("DEBIAN_FRONTEND", "noninteractive")) {
        // The lists of packages may be missing, as in containers, or old.
        steps.run("fetch the lists of packages", Command::new("apt-get").arg("update"))?;
        let mut command = Command::new("apt-get");
        steps.run(format!("install {package}"), command.args(install).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    Ok(())
}

fn python() -> Result {
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

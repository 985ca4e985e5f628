//! Other programs that encrypt files, as they are installed, started as a user starts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sealift::{Error, ErrorKind};
use serde::Serialize;

use super::bed::Bed;
use super::measure::{Amount, Claim, Limits, Row};
use crate::args::Group;
use crate::exit::{Failure, Result};

/// A program that was to be measured, and was not.
#[derive(Debug, Serialize)]
pub(super) struct Skipped {
    pub(super) name: &'static str,
    pub(super) why: String,
}

struct Peer {
    name: &'static str,
    /// What it does, as the table says it.
    about: &'static str,
    authenticates: bool,
    seal: Command,
    open: Option<Command>,
}

/// The file to nowhere and back, by every program there is. What each writes goes to /dev/null, rclone's into its own memory.
pub(super) fn rows<'a>(bed: &'a Bed, rows: &mut Vec<Row<'a>>, claims: &mut Vec<Claim>) -> Result<Vec<Skipped>> {
    let mut skipped = Vec::new();
    let mut authenticating = [Vec::new(), Vec::new()];
    let mut push = |peer: Peer| {
        for (command, what) in [(Some(peer.seal), "seal"), (peer.open, "open")] {
            let Some(mut command) = command else { continue };
            let id = format!("peers/{what}-{}", peer.name);
            if peer.authenticates && peer.name != "sealift" {
                authenticating[usize::from(what == "open")].push(id.clone());
            }
            rows.push(Row {
                group: Group::Peers,
                id,
                name: format!("{} {what}, {}", peer.name, peer.about),
                threads: 1,
                amount: Amount::Bytes(bed.size),
                limits: Limits { busy: "the CPU", waiting: "its own pipes and threads" },
                work: Box::new(move || run(&mut command)),
            });
        }
    };
    push(sealift(bed)?);
    for (name, make) in [
        ("age", age as fn(&Bed, &'static str) -> Result<Peer>),
        ("rage", age),
        ("rclone", rclone),
        ("openssl", openssl),
    ] {
        if find(name).is_none() {
            skipped.push(Skipped { name, why: "not installed".to_owned() });
            continue;
        }
        // Another version may take other arguments: that is no reason to measure nothing.
        match make(bed, name) {
            Ok(peer) => push(peer),
            Err(failure) => skipped.push(Skipped { name, why: failure.text() }),
        }
    }
    for (what, ids) in ["seal", "open"].into_iter().zip(authenticating) {
        if !ids.is_empty() {
            let bar = (what == "seal").then_some(4.0);
            let about = format!("the program, {what}, started anew: of the best other that authenticates");
            claims.push(Claim::of_rows(about, vec![format!("peers/{what}-sealift")], ids, bar));
        }
    }
    Ok(skipped)
}

/// This very program, with a home and a key of its own.
fn sealift(bed: &Bed) -> Result<Peer> {
    let program = std::env::current_exe().map_err(|e| Error::io("finding this program", e))?;
    let key = bed.path("peer.key");
    let random: String = (0..32).map(|n| char::from(b'A' + n)).collect();
    std::fs::write(&key, random).map_err(|e| Error::io("writing a key file", e))?;
    let command = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).arg("--key-file").arg(&key).env("SEALIFT_HOME", bed.path("home")).env_remove("RUST_LOG");
        command.arg("--threads").arg(bed.most_threads().to_string()).args(["--backend", bed.backend.name()]);
        command
    };
    let object = bed.path("peer-object");
    let mut put = command(&["put", "--quiet"]);
    put.arg(bed.file()).arg(&object);
    run(&mut put)?;
    let (mut seal, mut open) = (command(&["put", "--quiet"]), command(&["cat"]));
    seal.arg(bed.file()).arg("discard:");
    open.arg(&object);
    Ok(Peer { name: "sealift", about: "AES-256-GCM, all cores", authenticates: true, seal, open: Some(open) })
}

fn age(bed: &Bed, name: &'static str) -> Result<Peer> {
    let (identity, sealed) = (bed.path(&format!("{name}.key")), bed.path(&format!("file.{name}")));
    run(Command::new(format!("{name}-keygen")).arg("-o").arg(&identity))?;
    let text = std::fs::read_to_string(&identity).map_err(|e| Error::io("reading a key", e))?;
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: "));
    let recipient = recipient.ok_or_else(|| Failure::new(ErrorKind::Malformed, "its key file has no public key"))?;
    let seal = |to: &Path| {
        let mut command = Command::new(name);
        command.args(["-r", recipient, "-o"]).arg(to).arg(bed.file());
        command
    };
    run(&mut seal(&sealed))?;
    let mut open = Command::new(name);
    open.arg("-d").arg("-i").arg(identity).arg("-o").arg("/dev/null").arg(sealed);
    let about = "ChaCha20-Poly1305";
    let (seal, open) = (seal(Path::new("/dev/null")), Some(open));
    Ok(Peer { name, about, authenticates: true, seal, open })
}

fn rclone(bed: &Bed, name: &'static str) -> Result<Peer> {
    let config = bed.path("rclone.conf");
    std::fs::write(&config, "").map_err(|e| Error::io("writing rclone's configuration", e))?;
    let obscured = output(Command::new(name).args(["obscure", "sealift-bench"]))?;
    let mut seal = Command::new(name);
    seal.env("RCLONE_CONFIG", config)
        .env("RCLONE_CONFIG_SEALED_TYPE", "crypt")
        .env("RCLONE_CONFIG_SEALED_REMOTE", ":memory:bench")
        .env("RCLONE_CONFIG_SEALED_PASSWORD", obscured.trim())
        .arg("copyto")
        .arg(bed.file())
        .arg("sealed:file");
    run(&mut seal)?;
    Ok(Peer { name, about: "XSalsa20-Poly1305, into memory", authenticates: true, seal, open: None })
}

fn openssl(bed: &Bed, name: &'static str) -> Result<Peer> {
    let encrypt = |from: PathBuf, to: &Path, decrypt: bool| {
        let mut command = Command::new(name);
        command.args(["enc", "-aes-256-ctr", "-K", &"7".repeat(64), "-iv", &"0".repeat(32), "-in"]).arg(from);
        command.args(decrypt.then_some("-d")).arg("-out").arg(to);
        command
    };
    let sealed = bed.path("file.openssl");
    run(&mut encrypt(bed.file(), &sealed, false))?;
    let (seal, open) =
        (encrypt(bed.file(), Path::new("/dev/null"), false), encrypt(sealed, Path::new("/dev/null"), true));
    Ok(Peer { name, about: "AES-256-CTR, NOT authenticated", authenticates: false, seal, open: Some(open) })
}

fn run(command: &mut Command) -> Result {
    output(command.stdout(Stdio::null())).map(drop)
}

fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.map_err(|e| Error::io(format!("running {name}"), e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next_back().unwrap_or_default();
        return Err(Failure::new(ErrorKind::Io, format!("{name} failed with {}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where on PATH a program is.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

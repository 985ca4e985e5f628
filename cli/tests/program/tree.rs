//! `put --recursive` and `get --recursive`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Run, Sandbox, noise, signal};

/// Names and contents of all files in a directory and below, but for folders `.sealift`.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn add(dir: &Path, above: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{above}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && !name.ends_with(".sealift") => add(&entry.path(), &format!("{name}/"), files),
                kind if kind.is_file() => drop(files.insert(name, fs::read(entry.path()).unwrap())),
                _ => {}
            }
        }
    }
    let mut files_found = BTreeMap::new();
    add(dir, "", &mut files_found);
    files_found
}

/// A directory of files of many lengths.
fn tree(sandbox: &Sandbox) -> BTreeMap<String, Vec<u8>> {
    for (n, name) in
        ["a.jpg", "b.txt", "deep/c.jpg", "deep/er/d.bin", "deep/er/ü +%.txt", "empty", "large"].iter().enumerate()
    {
        let path = sandbox.path("src").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let len = if *name == "large" { 3_000_000 } else { [5000, 1, 16_384, 70_000, 33, 0][n] };
        fs::write(path, noise(len)).unwrap();
    }
    files(&sandbox.path("src"))
}

/// There and back again, and what each step leaves alone.
pub(crate) fn round_trip(sandbox: &Sandbox, url: &str, run: impl Fn(&[&str]) -> Run) {
    let plain = tree(sandbox);
    fs::create_dir(sandbox.path("src/empty-dir")).unwrap();
    let put = ["put", "-r", "src", url, "--part-size", "5M", "--json"];
    let report = run(&put).expect(0).json();
    assert_eq!(report["objects"].as_array().unwrap().len(), plain.len());
    assert_eq!(report["objects"][0]["cipher"], "COBBLESTONE-256");
    assert_eq!(report["plain_len"], plain.values().map(Vec::len).sum::<usize>());
    let listed = run(&["ls", url, "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), plain.len());

    let report = run(&["get", "-r", url, "out", "--json"]).expect(0).json();
    assert_eq!(report["objects"].as_array().unwrap().len(), plain.len());
    assert!(files(&sandbox.path("out")) == plain);
    assert!(!sandbox.exists("out/empty-dir"), "stores have no directories");
    run(&["cat", &format!("{url}/deep/c.jpg")]).expect(0);

    // Again: everything is there.
    let report = run(&["put", "-r", "src", url, "--skip-existing", "--json"]).expect(0).json();
    assert_eq!((&report["existing"], report["objects"].as_array().unwrap().len()), (&plain.len().into(), 0));
    let report = run(&["get", "-r", url, "out", "--skip-existing", "--json"]).expect(0).json();
    assert_eq!(report["existing"], plain.len());
    let refused = run(&["put", "-r", "src", url, "--if-not-exists"]).expect(1);
    assert!(refused.stderr().contains("7 of 7 files could not be stored"), "{}", refused.stderr());
    let refused = run(&["get", "-r", url, "out"]).expect(1);
    assert!(refused.stderr().contains("7 of 7 files could not be opened"), "{}", refused.stderr());
    sandbox.write("out/b.txt", b"another");
    run(&["get", "-r", url, "out", "--force"]).expect(0);
    assert!(files(&sandbox.path("out")) == plain);

    // Some of it.
    run(&["get", "-r", url, "some", "--include", "*.jpg"]).expect(0);
    assert_eq!(files(&sandbox.path("some")).into_keys().collect::<Vec<_>>(), ["a.jpg", "deep/c.jpg"]);
    run(&["get", "-r", &format!("{url}/deep/"), "deep", "--exclude", "er"]).expect(0);
    assert_eq!(files(&sandbox.path("deep")).into_keys().collect::<Vec<_>>(), ["c.jpg"]);

    // Not sealed, beside the others.
    let clear = format!("{url}-clear");
    let put = ["put", "-r", "src", &clear, "--no-seal", "--exclude", "large", "--json"];
    let report = run(&put).expect(0).json();
    assert_eq!(report["objects"][0]["cipher"], "none");
    let refused = run(&["get", "-r", &clear, "clear"]).expect(4);
    assert!(refused.stderr().contains("--no-seal"), "{}", refused.stderr());
    assert_eq!(files(&sandbox.path("clear")).len(), 0, "never raw bytes unless they are asked for");
    run(&["get", "-r", &clear, "clear", "--no-seal"]).expect(0);
    assert_eq!(files(&sandbox.path("clear")).len(), plain.len() - 1);
    assert!(files(&sandbox.path("clear")).iter().all(|(name, bytes)| plain[name] == *bytes));
}

#[test]
fn a_directory_goes_into_a_directory_and_comes_back() {
    let sandbox = Sandbox::new();
    round_trip(&sandbox, "store/a", |args| sandbox.run(args));
}

#[test]
fn what_is_no_file_is_left_out_and_what_fails_stops_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("elsewhere", b"linked to");
    fs::create_dir_all(sandbox.path("src/dir")).unwrap();
    sandbox.write("src/a", b"1");
    sandbox.write("src/z", b"2");
    symlink(sandbox.path("elsewhere"), sandbox.path("src/link")).unwrap();
    symlink(sandbox.path("src"), sandbox.path("src/dir/circle")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.path("src/socket")).unwrap();
    let run = sandbox.run(&["put", "-r", "src", "store"]).expect(0);
    for left_out in ["link: a symbolic link", "circle: a symbolic link", "socket: neither a file nor a directory"] {
        assert!(run.stderr().contains(left_out), "{}", run.stderr());
    }
    assert_eq!(sandbox.list("store"), [".sealift", "a", "z"]);
    sandbox.run(&["put", "-r", "src", "store", "--follow-links", "--quiet"]).expect(0);
    sandbox.run(&["verify", "store/link", "--against", "elsewhere"]).expect(0);

    // A name that no object can have, and a file where a directory would have to be.
    fs::write(sandbox.path("src").join(OsStr::from_bytes(b"caf\xe9")), "3").unwrap();
    sandbox.write("src/dir/file", b"4");
    sandbox.write("other", b"");
    fs::create_dir(sandbox.path("other-store")).unwrap();
    sandbox.write("other-store/dir", b"in the way");
    let run = sandbox.run(&["put", "-r", "src", "other-store", "--json"]).expect(2);
    assert!(run.stderr().contains("2 of 4 files could not be stored"), "{}", run.stderr());
    assert!(run.stderr().contains("not UTF-8") && run.stderr().contains("dir/file"), "{}", run.stderr());
    let report = run.json();
    assert_eq!(report["failed"].as_array().unwrap().len(), 2);
    assert_eq!(report["skipped"].as_array().unwrap().len(), 3);
    sandbox.run(&["verify", "other-store/z", "--against", "src/z"]).expect(0);

    // One object is damaged: the others are opened.
    let stored = sandbox.path("store/a");
    let mut bytes = fs::read(&stored).unwrap();
    bytes[60] ^= 1;
    fs::write(&stored, bytes).unwrap();
    let run = sandbox.run(&["get", "-r", "store", "out"]).expect(4);
    assert!(run.stderr().contains("failed: ") && run.stderr().contains("1 of 3 files"), "{}", run.stderr());
    assert_eq!(sandbox.list("out"), ["link", "z"]);
}

#[test]
fn what_cannot_be_is_said_before_anything_is_done() {
    let sandbox = Sandbox::new();
    tree(&sandbox);
    sandbox.run(&["put", "-r", "src/a.jpg", "store"]).expect_error(2, "leave out --recursive");
    sandbox.run(&["put", "src", "store/o"]).expect_error(2, "--recursive");
    sandbox.run(&["put", "-r", "src", "src/store"]).expect_error(2, "in src itself");
    sandbox.run(&["put", "src/a.jpg", "store/o", "--exclude", "*"]).expect_error(2, "--recursive");
    sandbox.run(&["put", "-r", "src", "store", "--exclude", "[a"]).expect_error(2, "--exclude [a");
    sandbox.run(&["get", "-r", "src", "-"]).expect_error(2, "needs a directory");
    sandbox.run(&["get", "-r", "nothing", "out"]).expect_error(3, "no directory");
    assert!(!sandbox.exists("store") && !sandbox.exists("src/store") && !sandbox.exists("home"));
    sandbox.run(&["put", "-r", "src", "discard:"]).expect(0);
}

/// Whoever can write to the store names the objects; links in the directory that is written to are its owner's.
#[test]
fn nothing_is_written_outside_of_the_directory() {
    let sandbox = Sandbox::new();
    sandbox.write("file", b"1");
    sandbox.run(&["put", "file", "store/link/escaped"]).expect(0);
    sandbox.run(&["put", "file", "store/inside"]).expect(0);
    fs::create_dir_all(sandbox.path("outside")).unwrap();
    fs::create_dir_all(sandbox.path("out")).unwrap();
    symlink(sandbox.path("outside"), sandbox.path("out/link")).unwrap();
    let run = sandbox.run(&["get", "-r", "store", "out", "--force"]).expect(2);
    assert!(run.stderr().contains("not followed"), "{}", run.stderr());
    assert_eq!((sandbox.list("outside"), sandbox.list("out")), (vec![], vec!["inside".into(), "link".into()]));
}

#[test]
fn a_run_that_was_interrupted_is_gone_on_with() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("src")).unwrap();
    sandbox.write("src/a", b"small");
    sandbox.large_file("src/large", 1 << 30);
    let put = ["put", "-r", "src", "store", "--threads", "1", "--memory-budget", "32M"];
    let mut child = sandbox.command(put).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sandbox.wait_for_ledger();
    signal(&child, Signal::STOP);
    child.kill().unwrap();
    child.wait().unwrap();
    let id = &sandbox.uploads()[0];
    let report = sandbox.run(&["put", "-r", "src", "store", "--skip-existing", "--json"]).expect(0).json();
    let large = report["objects"].as_array().unwrap().iter().find(|object| object["plain_len"] == 1 << 30).unwrap();
    assert!(large["object_id"].is_string());
    // It was taken up again: the id of the upload is its object id, in hex.
    use base64::Engine as _;
    let object_id =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(large["object_id"].as_str().unwrap()).unwrap();
    assert_eq!(*id, object_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    assert_eq!(sandbox.uploads(), [""; 0]);
    sandbox.run(&["verify", "store/large", "--against", "src/large"]).expect(0);
    sandbox.run(&["verify", "store/a", "--against", "src/a"]).expect(0);
}

//! `--no-seal`.

use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Sandbox, signal};

#[test]
fn an_unsealed_object_is_read_only_by_who_says_so() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 3_000_000);
    let report = sandbox.run(&["put", "src", "store/o", "--no-seal", "--part-size", "1M", "--json"]).expect(0).json();
    assert_eq!((&report["cipher"], &report["sealed_len"]), (&"none".into(), &plain.len().into()));
    assert_eq!(report["data_keys"], serde_json::json!([]));
    assert!(sandbox.read("store/o") == plain, "it is stored as it is");
    assert!(!sandbox.exists("home/kms"), "no key is needed, so none is made");

    sandbox.run(&["cat", "store/o"]).expect_error(4, "was stored unsealed, on purpose");
    for args in [&["get", "store/o", "out"] as &[_], &["cat", "store/o"], &["verify", "store/o"]] {
        sandbox.run(args).expect_error(4, "--no-seal");
    }
    assert!(!sandbox.exists("out"));
    let got = sandbox.run(&["get", "store/o", "out", "--no-seal", "--json"]).expect(0).json();
    assert_eq!((&got["cipher"], &got["object_id"]), (&"none".into(), &serde_json::Value::Null));
    assert!(sandbox.read("out") == plain);
    sandbox.run(&["get", "store/o", "out", "--no-seal"]).expect_error(1, "exists already");
    assert!(sandbox.run(&["get", "store/o", "-", "--no-seal"]).expect(0).bytes() == plain);
    assert!(sandbox.run(&["cat", "store/o", "--no-seal", "--range", "1-4"]).expect(0).bytes() == &plain[1..=4]);
    sandbox.run(&["verify", "store/o", "--no-seal", "--against", "src"]).expect(0);
    sandbox.run(&["verify", "store/o", "--no-seal"]).expect_error(2, "--against");
    sandbox.write("other", &plain[1..]);
    sandbox.run(&["verify", "store/o", "--no-seal", "--against", "other"]).expect_error(1, "differ from offset 0");

    let stat = sandbox.run(&["stat", "store/o", "--json"]).expect(0).json();
    assert_eq!((&stat["cipher"], &stat["plain_len"]), (&"none".into(), &plain.len().into()));
    assert!(sandbox.run(&["stat", "store/o"]).expect(0).stdout().contains("NOT sealed"));
    sandbox.run(&["cp", "store/o", "store/copy"]).expect(0);
    sandbox.run(&["verify", "store/copy", "--no-seal", "--against", "src"]).expect(0);
    sandbox.run(&["rm", "store/o"]).expect(0);
    assert_eq!(sandbox.list("store"), [".sealift", "copy"]);
}

#[test]
fn sealed_objects_and_what_belongs_to_them_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "store/sealed"]).expect(0);
    sandbox.run(&["get", "store/sealed", "out", "--no-seal"]).expect_error(2, "is sealed");
    sandbox.run(&["cat", "store/sealed", "--no-seal"]).expect_error(2, "is sealed");
    std::fs::remove_file(sandbox.envelope_file("store", "sealed")).unwrap();
    sandbox.run(&["cat", "store/sealed", "--no-seal"]).expect_error(2, "without its envelope");
    // A file that nobody marked is read as well.
    assert!(sandbox.run(&["cat", "src", "--no-seal"]).expect(0).bytes() == sandbox.read("src"));
    for flags in [
        &["--kms-key", "alias/x"] as &[&str],
        &["--key-file", "src"],
        &["--encryption-context", "a=b"],
        &["--bind"],
        &["--spool-dir", "."],
    ] {
        sandbox.run(&[&["put", "src", "store/o", "--no-seal"], flags].concat()).expect_error(2, "cannot be used with");
    }
}

#[test]
fn an_unsealed_upload_that_was_killed_is_resumed_without_keys() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", 1 << 30);
    let put = ["put", "src", "store/o", "--no-seal", "--threads", "1", "--memory-budget", "32M"];
    let mut child = sandbox.command(put).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let id = sandbox.wait_for_ledger();
    signal(&child, Signal::STOP);
    child.kill().unwrap();
    child.wait().unwrap();
    sandbox.run(&["uploads", "resume", &id]).expect_error(2, "--no-seal");
    let resumed = sandbox.run(&["uploads", "resume", &id, "--no-seal", "--json"]).expect(0).json();
    assert_eq!((&resumed["cipher"], &resumed["plain_len"]), (&"none".into(), &(1 << 30).into()));
    sandbox.run(&["verify", "store/o", "--no-seal", "--against", "src"]).expect(0);
    assert!(!sandbox.exists("home/kms"));
}

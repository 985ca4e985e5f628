//! Uploads that are interrupted, and sources that change.

use std::fs::OpenOptions;
use std::process::{Child, Stdio};
use std::thread::sleep;

use rustix::process::Signal;

use crate::support::{Run, Sandbox, rounds, signal, wait};

/// Long enough to be interrupted: hundreds of parts.
const LEN: u64 = 96 << 20;
const PUT: [&str; 7] = ["put", "src", "store/obj", "--part-size", "256K", "--threads", "1"];

/// Starts a `put` and stops it where it is, after some parts were stored.
fn stopped_put(sandbox: &Sandbox, flags: &[&str]) -> (Child, String) {
    let child = sandbox.start(&[&PUT[..], flags].concat());
    let id = sandbox.wait_for_ledger();
    wait("parts", || {
        let folder = sandbox.list("store/.sealift/uploads").pop()?;
        (sandbox.list(&format!("store/.sealift/uploads/{folder}")).len() > 8).then_some(())
    });
    signal(&child, Signal::STOP);
    (child, id)
}

/// `wait_with_output` closes stdin first, which would end what is waited for here.
fn wait_with_stdin_open(mut child: Child) -> Run {
    let stdin = child.stdin.take();
    let run = Run::of_child(child);
    drop(stdin);
    run
}

fn staged(sandbox: &Sandbox) -> Vec<String> {
    sandbox.list("store/.sealift/uploads")
}

#[test]
fn s28_ctrl_c_keeps_the_upload_and_names_the_command_that_resumes_it() {
    for kind in [Signal::INT, Signal::TERM] {
        let sandbox = Sandbox::new();
        sandbox.large_file("src", LEN);
        let (child, id) = stopped_put(&sandbox, &[]);
        signal(&child, kind);
        signal(&child, Signal::CONT);
        let run = Run::of_child(child).expect(130);
        let command = format!("sealift uploads resume {id}");
        assert!(
            run.stderr().lines().any(|line| line.starts_with("hint: ") && line.ends_with(&command)),
            "{}",
            run.stderr()
        );
        assert!(!sandbox.exists("store/obj"));

        let listed = sandbox.run(&["uploads", "list", "--json"]).expect(0).json();
        assert_eq!(listed[0]["id"], id);
        assert_eq!(listed[0]["state"], "interrupted");
        assert_eq!(listed[0]["source"], sandbox.path("src").to_str().unwrap());
        assert_eq!(listed[0]["url"], sandbox.path("store/obj").to_str().unwrap());

        let resumed = sandbox.run(&["uploads", "resume", &id[..8], "--json"]).expect(0).json();
        assert_eq!(resumed["plain_len"], LEN);
        assert_eq!(resumed["url"], listed[0]["url"]);
        sandbox.run(&["get", "store/obj", "out"]).expect(0);
        assert!(sandbox.read("out") == sandbox.read("src"));
        assert_eq!((sandbox.uploads(), staged(&sandbox)), (Vec::new(), Vec::new()));
    }
}

#[test]
fn s28_abort_on_interrupt_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", LEN);
    let (child, _) = stopped_put(&sandbox, &["--abort-on-interrupt"]);
    signal(&child, Signal::INT);
    signal(&child, Signal::CONT);
    let run = Run::of_child(child).expect(130);
    assert!(!run.stderr().contains("resume"), "{}", run.stderr());
    assert_eq!((sandbox.uploads(), staged(&sandbox)), (Vec::new(), Vec::new()));
    assert!(!sandbox.exists("store/obj"));
}

#[test]
fn s28_ctrl_c_ends_the_wait_for_a_pipe() {
    let sandbox = Sandbox::new();
    // Nobody writes to it, and it stays open: nothing but the signal ends the wait.
    let mut command = sandbox.command(["put", "-", "obj"]);
    let child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait("the upload", || sandbox.list(".sealift/uploads").pop());
    signal(&child, Signal::INT);
    let run = wait_with_stdin_open(child).expect(130);
    assert!(run.stderr().contains("nothing of it was kept"), "{}", run.stderr());
    assert!(!sandbox.exists("obj"));
    assert_eq!(sandbox.list(".sealift/uploads"), [""; 0]);
}

#[test]
fn s28_a_second_ctrl_c_loses_nothing() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", LEN);
    let (child, id) = stopped_put(&sandbox, &[]);
    signal(&child, Signal::INT);
    signal(&child, Signal::TERM);
    signal(&child, Signal::CONT);
    Run::of_child(child).expect(130);
    sandbox.run(&["uploads", "resume", &id]).expect(0);
    sandbox.run(&["verify", "store/obj", "--against", "src"]).expect(0);
}

#[test]
fn s28_the_command_names_the_key_file_too() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", LEN);
    sandbox.write("my key", &[7; 32]);
    let (child, id) = stopped_put(&sandbox, &["--key-file", "my key"]);
    signal(&child, Signal::INT);
    signal(&child, Signal::CONT);
    let run = Run::of_child(child).expect(130);
    let command = format!("sealift uploads resume {id} --key-file '{}'", sandbox.path("my key").display());
    assert!(run.stderr().contains(&command), "{}", run.stderr());
    sandbox.run(&["uploads", "resume", &id]).expect_error(5, "key");
    sandbox.run(&["uploads", "resume", &id, "--key-file", "my key"]).expect(0);
    sandbox.run(&["verify", "store/obj", "--against", "src", "--key-file", "my key"]).expect(0);
}

#[test]
fn an_interrupted_get_leaves_no_file_but_one_that_it_can_go_on_with() {
    // From 64 MiB on, what is there is kept (if any of it was noted: in tests/program/network.rs).
    for (len, partial) in [(48 << 20, ".sealift-partial-"), (LEN, ".out.sealift-partial")] {
        let sandbox = Sandbox::new();
        sandbox.large_file("src", len);
        sandbox.run(&PUT).expect(0);
        let child = sandbox.start(&["get", "store/obj", "out", "--threads", "1"]);
        let partial = || sandbox.list(".").into_iter().find(|name| name.starts_with(partial));
        wait("a partial file", partial);
        signal(&child, Signal::INT);
        Run::of_child(child).expect_error(130, "interrupted");
        assert!(!sandbox.exists("out"));
        if len == LEN {
            sandbox.run(&["get", "store/obj", "out"]).expect(0);
            assert!(sandbox.read("out") == sandbox.read("src"));
        }
        assert_eq!(partial(), None);
    }
}

#[test]
fn s16_killed_at_any_time_resume_yields_the_object() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", 32 << 20);
    let whole = std::time::Instant::now();
    sandbox.run(&PUT).expect(0);
    let whole = whole.elapsed();
    let rounds = rounds(6, 300);
    for round in 0..rounds {
        sandbox.run(&["rm", "store/obj"]).expect(0);
        let mut child = sandbox.start(&PUT);
        // Spread over the time that an undisturbed upload takes, and some after its end.
        sleep(whole.mul_f64(1.1 * (round as f64 + 0.5) / rounds as f64));
        child.kill().unwrap();
        child.wait().unwrap();
        match sandbox.uploads().as_slice() {
            [] if sandbox.exists("store/obj") => {}
            // Killed before there was anything to resume.
            [] => drop(sandbox.run(&PUT).expect(0)),
            [id] => {
                // And once more, while it resumes.
                let mut child = sandbox.start(&["uploads", "resume", id]);
                sleep(whole.mul_f64(0.1 * (round % 7) as f64));
                child.kill().unwrap();
                child.wait().unwrap();
                if let [id] = sandbox.uploads().as_slice() {
                    sandbox.run(&["uploads", "resume", id]).expect(0);
                }
            }
            several => panic!("{several:?}"),
        }
        sandbox.run(&["verify", "store/obj", "--against", "src"]).expect(0);
        assert_eq!(sandbox.uploads(), [""; 0], "round {round}");
    }
}

#[test]
fn a_running_upload_is_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", LEN);
    let (child, id) = stopped_put(&sandbox, &[]);
    assert_eq!(sandbox.run(&["uploads", "list", "--json"]).expect(0).json()[0]["state"], "running");
    sandbox.run(&["uploads", "resume", &id]).expect_error(7, "another process");
    sandbox.run(&["uploads", "abort", &id]).expect_error(7, "another process");
    signal(&child, Signal::CONT);
    Run::of_child(child).expect(0);
    sandbox.run(&["verify", "store/obj", "--against", "src"]).expect(0);
}

#[test]
fn abort_needs_no_key_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", LEN);
    let (mut child, id) = stopped_put(&sandbox, &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(sandbox.path("home/kms")).unwrap();
    let aborted = sandbox.run(&["uploads", "abort", &id[..12], "--json"]).expect(0).json();
    assert_eq!(aborted["id"], id);
    assert_eq!((sandbox.uploads(), staged(&sandbox)), (Vec::new(), Vec::new()));
}

#[test]
fn s04_a_source_that_shrinks_while_it_is_read_is_6() {
    for mode in ["auto", "read", "map"] {
        let sandbox = Sandbox::new();
        sandbox.large_file("src", LEN);
        sandbox.write("old", b"old");
        sandbox.run(&["put", "old", "store/obj"]).expect(0);
        let (child, id) = stopped_put(&sandbox, &["--read-mode", mode]);
        OpenOptions::new().write(true).open(sandbox.path("src")).unwrap().set_len(4096).unwrap();
        signal(&child, Signal::CONT);
        let run = Run::of_child(child).expect_error(6, "changed while it was being read");
        assert!(
            run.stderr().contains("hint: ") && run.stderr().contains("sealift uploads abort"),
            "{mode}: {}",
            run.stderr()
        );
        assert_eq!(sandbox.run(&["cat", "store/obj"]).expect(0).bytes(), b"old", "{mode}");

        assert_eq!(sandbox.uploads(), [id.as_str()], "{mode}");
        sandbox.run(&["uploads", "resume", &id]).expect_error(6, "src");
        sandbox.run(&["uploads", "abort", &id]).expect(0);
    }
}

#[test]
fn s04_a_source_that_changes_without_shrinking_is_6() {
    for mode in ["read", "map"] {
        let sandbox = Sandbox::new();
        sandbox.large_file("src", LEN);
        let (child, _) = stopped_put(&sandbox, &["--read-mode", mode]);
        use std::os::unix::fs::FileExt as _;
        let file = OpenOptions::new().write(true).open(sandbox.path("src")).unwrap();
        file.write_all_at(b"changed", LEN / 2).unwrap();
        signal(&child, Signal::CONT);
        Run::of_child(child).expect_error(6, "changed");
        assert!(!sandbox.exists("store/obj"), "{mode}");
    }
}

#[test]
fn s17_a_source_that_changed_before_resume_is_6() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", LEN);
    let (mut child, id) = stopped_put(&sandbox, &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    sandbox.random_file("src", 1000);
    let run = sandbox.run(&["uploads", "resume", &id]).expect_error(6, "src");
    assert!(run.stderr().contains(&format!("sealift uploads abort {id}")), "{}", run.stderr());
    std::fs::remove_file(sandbox.path("src")).unwrap();
    sandbox.run(&["uploads", "resume", &id]).expect_error(3, "src");
}

#[test]
fn a_sigbus_that_is_not_ours_is_fatal_as_ever() {
    use std::os::unix::process::ExitStatusExt as _;
    let sandbox = Sandbox::new();
    sandbox.large_file("src", LEN);
    let (mut child, _) = stopped_put(&sandbox, &["--read-mode", "map"]);
    signal(&child, Signal::BUS);
    signal(&child, Signal::CONT);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::BUS.as_raw()));
}

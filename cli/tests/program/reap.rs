//! `uploads reap`.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Run, Sandbox, signal, wait};

const PUT: [&str; 7] = ["put", "src", "store/obj", "--part-size", "256K", "--threads", "1"];

/// Starts a `put` to the directory `store` and stops it where it is, after some parts were stored. Its ledger's id.
fn stopped_put(sandbox: &Sandbox, name: &str) -> (std::process::Child, String) {
    let before = sandbox.list("home/uploads");
    let put = PUT.map(|arg| if arg == "store/obj" { name } else { arg });
    let child = sandbox.start(&put);
    let id = wait("a ledger", || {
        let new = sandbox.list("home/uploads").into_iter().find(|name| !before.contains(name))?;
        new.strip_suffix(".ledger").map(str::to_owned)
    });
    wait("records of parts", || {
        let len = fs::metadata(sandbox.path(&format!("home/uploads/{id}.ledger"))).ok()?.len();
        (len > 4096).then_some(())
    });
    signal(&child, Signal::STOP);
    (child, id)
}

/// The same, killed.
fn killed_put(sandbox: &Sandbox, name: &str) -> String {
    let (mut child, id) = stopped_put(sandbox, name);
    child.kill().unwrap();
    child.wait().unwrap();
    id
}

fn reap(sandbox: &Sandbox, args: &[&str]) -> Vec<Value> {
    let run = sandbox.run(&[&["uploads", "reap", "--json"], args].concat()).expect(0);
    run.json().as_array().unwrap().clone()
}

/// Action and ledger of each row.
fn told(rows: &[Value]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (row["action"].as_str().unwrap(), row["id"].as_str().unwrap_or("-"))).collect()
}

fn staged(sandbox: &Sandbox) -> usize {
    sandbox.list("store/.sealift/uploads").len()
}

#[test]
fn s24_a_drop_or_cancel_leaves_the_upload_id_in_the_ledger_and_reap_finds_it() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", 96 << 20);
    let dropped = killed_put(&sandbox, "store/dropped");
    let (child, cancelled) = stopped_put(&sandbox, "store/cancelled");
    signal(&child, Signal::INT);
    signal(&child, Signal::CONT);
    Run::of_child(child).expect(130);
    let (child, running) = stopped_put(&sandbox, "store/running");
    assert_eq!(staged(&sandbox), 3);

    let (a, b, c) = (dropped.as_str(), cancelled.as_str(), running.as_str());
    let rows = reap(&sandbox, &["--dry-run"]);
    assert_eq!(told(&rows), [("would-abort", a), ("would-abort", b), ("kept", c)]);
    assert_eq!((&rows[0]["state"], &rows[2]["why"]), (&"interrupted".into(), &"it is running".into()));
    assert_eq!(rows[0]["url"], sandbox.path("store/dropped").to_str().unwrap());
    assert!(
        rows[0]["upload"].as_str().is_some_and(|id| sandbox.list("store/.sealift/uploads").contains(&id.to_owned()))
    );
    assert_eq!(told(&reap(&sandbox, &["--older-than", "1h"])), [("kept", a), ("kept", b), ("kept", c)]);
    sandbox.run(&["uploads", "reap", "elsewhere/obj"]).expect_error(3, "no directory");
    assert_eq!(staged(&sandbox), 3);

    // Keys are not needed.
    fs::rename(sandbox.path("home/kms"), sandbox.path("kms")).unwrap();
    let text = sandbox.run(&["uploads", "reap"]).expect(0).stdout();
    assert!(text.contains(&format!("aborted       {a}")) && text.contains("kept"), "{text}");
    fs::rename(sandbox.path("kms"), sandbox.path("home/kms")).unwrap();
    assert_eq!((sandbox.uploads(), staged(&sandbox)), (vec![running.clone()], 1));

    // What is running is not disturbed.
    signal(&child, Signal::CONT);
    Run::of_child(child).expect(0);
    sandbox.run(&["verify", "store/running", "--against", "src"]).expect(0);
    let nothing = sandbox.run(&["uploads", "reap"]).expect(0).stdout();
    assert!(nothing.contains("nothing to give up"), "{nothing}");
}

#[test]
fn uploads_that_only_the_store_knows_are_given_up_when_they_are_old_or_it_is_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", 96 << 20);
    fs::create_dir(sandbox.path("store")).unwrap();
    let known = killed_put(&sandbox, "store/known");
    let lost = killed_put(&sandbox, "store/lost");
    let other = killed_put(&sandbox, "other/obj");
    let (child, running) = stopped_put(&sandbox, "store/running");
    fs::remove_file(sandbox.path(&format!("home/uploads/{lost}.ledger"))).unwrap();

    // Without a URL, only ledgers are looked at.
    assert_eq!(reap(&sandbox, &["--dry-run"]).len(), 3);
    let rows = reap(&sandbox, &["store", "--older-than", "1h"]);
    assert_eq!(told(&rows), [("kept", known.as_str()), ("kept", running.as_str()), ("kept", "-")]);
    assert!(rows[2]["why"].as_str().unwrap().contains("--older-than 0s"), "{}", rows[2]);
    assert_eq!(rows[2]["url"], sandbox.path("store/lost").to_str().unwrap());
    assert_eq!(rows[2]["state"], "unknown");
    // Its own are given up, the other is young.
    let rows = reap(&sandbox, &["store"]);
    assert_eq!(told(&rows), [("aborted", known.as_str()), ("kept", running.as_str()), ("kept", "-")]);
    assert_eq!(staged(&sandbox), 2);
    // Older than a week.
    let upload = rows[2]["upload"].as_str().unwrap();
    let begun =
        fs::File::options().write(true).open(sandbox.path(&format!("store/.sealift/uploads/{upload}/upload.json")));
    begun.unwrap().set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 86_400)).unwrap();
    assert_eq!(told(&reap(&sandbox, &["store", "--dry-run"]))[1], ("would-abort", "-"));
    assert_eq!(told(&reap(&sandbox, &["store"])), [("kept", running.as_str()), ("aborted", "-")]);
    // Even then, what runs here is left alone.
    assert_eq!(told(&reap(&sandbox, &["store", "--older-than", "0s"])), [("kept", running.as_str())]);
    assert_eq!(sandbox.uploads(), [other.as_str(), running.as_str()]);
    signal(&child, Signal::CONT);
    Run::of_child(child).expect(0);
}

#[test]
fn a_ledger_that_cannot_be_read_is_forgotten_and_one_of_another_version_is_not() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", 96 << 20);
    let id = killed_put(&sandbox, "store/obj");
    let path = sandbox.path(&format!("home/uploads/{id}.ledger"));
    let good = fs::read(&path).unwrap();
    let mut newer = good.clone();
    let at = good.windows(10).position(|window| window == b"\"ledger\":1").unwrap();
    newer[at + 9] = b'2';
    fs::write(&path, newer).unwrap();
    let run = sandbox.run(&["uploads", "reap", "--json"]).expect(2);
    assert_eq!(told(run.json().as_array().unwrap()), [("failed", id.as_str())]);
    assert!(run.stderr().contains("another version"), "{}", run.stderr());

    fs::write(&path, &good[..100]).unwrap();
    assert_eq!(told(&reap(&sandbox, &["--dry-run"])), [("would-forget", id.as_str())]);
    let rows = reap(&sandbox, &[]);
    assert_eq!(told(&rows), [("forgotten", id.as_str())]);
    assert!(rows[0]["why"].as_str().unwrap().contains("reap URL"));
    assert_eq!((sandbox.uploads().len(), staged(&sandbox)), (0, 1));
    assert_eq!(told(&reap(&sandbox, &["store", "--older-than", "0"])), [("aborted", "-")]);
    assert_eq!(staged(&sandbox), 0);
}

#[cfg(feature = "s3")]
#[test]
fn s24_an_abort_that_races_parts_in_flight_is_repeated_until_none_is_left() {
    use crate::proxy::{Fault, Proxy};
    use crate::s3::World;

    let world = World::new();
    world.sandbox.random_file("src", 96 << 20);
    // The first two answers to an abort come before what was on its way has landed: the parts are still there.
    let mut aborts = 0;
    let proxy = Proxy::before(world.server.port, move |request| {
        aborts += u32::from(request.starts_with("DELETE "));
        match aborts {
            1 | 2 if request.starts_with("DELETE ") => Fault::Answer("HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
            _ => Fault::None,
        }
    });
    world.reach_by(&proxy.url());
    let put = ["put", "src", "s3://bucket/obj", "--part-size", "5M", "--threads", "1", "--memory-budget", "32M"];
    let mut child = world.command(&put).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let id = world.sandbox.wait_for_ledger();
    // With this little memory, 4 are sent at once: so earlier ones are stored.
    wait("parts", || (proxy.count("partNumber=9") > 0).then_some(()));
    signal(&child, Signal::STOP);
    // As long as it runs, nothing of it is touched, whatever is asked for.
    let reap = |args: &[&str]| world.run(&[&["uploads", "reap", "--json"], args].concat()).expect(0).json();
    let rows = reap(&["s3://bucket", "--older-than", "0s"]);
    assert_eq!((told(rows.as_array().unwrap()), proxy.count("DELETE ")), (vec![("kept", id.as_str())], 0));
    child.kill().unwrap();
    child.wait().unwrap();

    let rows = reap(&["s3://bucket/obj"]);
    assert_eq!(told(rows.as_array().unwrap()), [("aborted", id.as_str())]);
    assert_eq!(proxy.count("DELETE "), 3);
    let again = reap(&["s3://bucket", "--older-than", "0s"]);
    assert_eq!((again.as_array().map(Vec::len), world.sandbox.uploads().len()), (Some(0), 0));
}

#[cfg(feature = "s3")]
#[test]
fn a_store_that_cannot_be_reached_keeps_its_ledger_and_stops_nobody_else() {
    use crate::s3::World;

    let world = World::new();
    world.sandbox.random_file("src", 96 << 20);
    let put = ["put", "src", "s3://bucket/obj", "--part-size", "5M", "--threads", "1", "--memory-budget", "32M"];
    let mut child = world.command(&put).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let id = world.sandbox.wait_for_ledger();
    signal(&child, Signal::STOP);
    child.kill().unwrap();
    child.wait().unwrap();
    let local = killed_put(&world.sandbox, "store/obj");
    // Whose credentials nobody has any more.
    world.sandbox.write("credentials", b"[other]\n");
    let run = world.run(&["uploads", "reap", "--json"]).expect(7);
    let rows = run.json();
    assert_eq!(told(rows.as_array().unwrap()), [("failed", id.as_str()), ("aborted", local.as_str())]);
    assert!(run.stderr().contains("credentials"), "{}", run.stderr());
    assert_eq!(world.sandbox.uploads(), [id.as_str()]);
    world.reach_by(&world.server.url());
    world.run(&["uploads", "reap"]).expect(0);
    assert_eq!(world.sandbox.uploads(), [""; 0]);
}

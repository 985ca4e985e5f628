//! `rewrap`: other keys open the same bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;

use rustix::process::Signal;
use sealift::kms::local::{CreateKey, LocalKms, RootKeySource};
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, signal, wait};

/// A second key in the key store. Its id.
fn new_key(sandbox: &Sandbox, alias: &str) -> String {
    let kms = LocalKms::open_or_create(sandbox.path("home/kms"), RootKeySource::File).unwrap().0;
    let key = kms.create_key(CreateKey::default()).unwrap().key_id;
    kms.create_alias(alias, &key).unwrap();
    key
}

fn default_key(sandbox: &Sandbox) -> String {
    let kms = LocalKms::open(sandbox.path("home/kms"), RootKeySource::File).unwrap();
    kms.describe_key(LocalKms::DEFAULT_ALIAS).unwrap().key_id
}

fn key_file(sandbox: &Sandbox, name: &str, byte: u8) {
    sandbox.write(name, &[byte; 32]);
    fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// What opens the object, by service.
fn opens_with(sandbox: &Sandbox, object: &str) -> Vec<String> {
    let stat: Value = serde_json::from_slice(sandbox.run(&["stat", object, "--json"]).bytes()).unwrap();
    let keys = stat["data_keys"].as_array().unwrap().iter();
    keys.map(|key| format!("{} {}", key["kms"].as_str().unwrap(), key["key"].as_str().unwrap())).collect()
}

/// Every envelope below a directory.
fn envelopes(sandbox: &Sandbox, dir: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{dir}/.sealift");
    let names = sandbox.list(&folder).into_iter().filter(|name| name.ends_with(".json"));
    names.map(|name| (name.clone(), sandbox.read(&format!("{folder}/{name}")))).collect()
}

#[test]
fn a_new_key_opens_the_same_body_and_the_old_key_may_go() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 3_000_000);
    sandbox.run(&["put", "src", "store/obj", "--part-size", "1M", "--metadata", "host=web1"]).expect(0);
    let (sealed, old) = (sandbox.read("store/obj"), default_key(&sandbox));
    let new = new_key(&sandbox, "alias/new");

    let text = sandbox.run(&["rewrap", "store/obj", "--kms-key", "alias/new"]).expect(0).stdout();
    assert!(text.contains("store/obj: added local ") && text.contains(&new) && !text.contains("removed"), "{text}");
    assert_eq!(opens_with(&sandbox, "store/obj"), [format!("local {old}"), format!("local {new}")]);
    sandbox.run(&["cat", "store/obj", "--kms-key", "alias/default"]).expect(0);

    let text = sandbox.run(&["rewrap", "store/obj", "--remove", "alias/default"]).expect(0).stdout();
    assert!(text.contains(&format!("removed local {old}")) && !text.contains("added"), "{text}");
    sandbox.run(&["cat", "store/obj", "--kms-key", "alias/default"]).expect_error(5, "no key");

    assert!(sandbox.read("store/obj") == sealed, "the body is not written");
    fs::remove_file(sandbox.path(&format!("home/kms/keys/{old}.json"))).unwrap();
    assert_eq!(sandbox.run(&["cat", "store/obj"]).expect(0).bytes(), plain);
    sandbox.run(&["verify", "store/obj"]).expect(0);
    let stat = sandbox.run(&["stat", "store/obj", "--json"]).expect(0).json();
    assert_eq!(stat["metadata"], json!({"host": "web1"}), "the owner's metadata stays");
}

#[test]
fn only_is_in_one_step_and_again_it_is_unchanged() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "store/obj"]).expect(0);
    let (old, new) = (default_key(&sandbox), new_key(&sandbox, "alias/new"));
    let command = ["rewrap", "store/obj", "--kms-key", "alias/new", "--only", "--json"];
    let report = sandbox.run(&command).expect(0).json();
    assert_eq!(report["outcome"], "rewrapped");
    assert_eq!(report["added"], json!([{"kms": "local", "key": new}]));
    assert_eq!(report["removed"], json!([{"kms": "local", "key": old}]));
    assert_eq!(report["data_keys"], report["added"]);
    let before = envelopes(&sandbox, "store");
    let report = sandbox.run(&command).expect(0).json();
    assert_eq!((&report["outcome"], &report["added"]), (&json!("unchanged"), &json!([])));
    let text = sandbox.run(&command[..5]).expect(0).stdout();
    assert!(text.contains(&format!("unchanged, it opens with local {new}")), "{text}");
    assert_eq!(envelopes(&sandbox, "store"), before);
    assert_eq!(sandbox.run(&["cat", "store/obj"]).expect(0).bytes(), plain);
    let quiet = sandbox.run(&["rewrap", "store/obj", "--kms-key", "alias/default", "--quiet"]).expect(0);
    assert_eq!((quiet.stdout(), quiet.stderr()), (String::new(), String::new()));
}

#[test]
fn between_the_key_store_and_key_files() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    key_file(&sandbox, "one.key", 1);
    key_file(&sandbox, "two.key", 2);
    sandbox.run(&["put", "src", "obj", "--key-file", "one.key"]).expect(0);
    let run = sandbox.run(&["rewrap", "obj", "--key-file", "two.key", "--only"]).expect_error(5, "key-file");
    assert!(run.stderr().contains("--open-with-key-file FILE"), "{}", run.stderr());
    sandbox.run(&["rewrap", "obj", "--key-file", "two.key", "--only", "--open-with-key-file", "one.key"]).expect(0);
    assert!(!sandbox.exists("home/kms"), "key files leave the key store alone");
    sandbox.run(&["cat", "obj", "--key-file", "one.key"]).expect_error(5, "key-file");
    assert_eq!(sandbox.run(&["cat", "obj", "--key-file", "two.key"]).expect(0).bytes(), plain);

    // A dry run makes no key store; the real one does, as a first put would.
    let into_the_store =
        ["rewrap", "obj", "--kms-key", "alias/default", "--only", "--open-with-key-file", "two.key", "--dry-run"];
    sandbox.run(&into_the_store).expect_error(5, "key store");
    assert!(!sandbox.exists("home/kms"));
    let run = sandbox.run(&into_the_store[..7]).expect(0);
    assert!(run.stderr().contains("BACK IT UP"), "{}", run.stderr());
    assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), plain);
    assert_eq!(opens_with(&sandbox, "obj"), [format!("local {}", default_key(&sandbox))]);

    // By service and id, as `stat` shows it.
    sandbox.run(&["rewrap", "obj", "--key-file", "two.key"]).expect(0);
    let two = opens_with(&sandbox, "obj").pop().unwrap().replace(' ', ":");
    let run = sandbox.run(&["rewrap", "obj", "--remove", &two.replace("key-file", "aliyun")]).expect(0);
    assert!(run.stderr().contains("was no key of this object"), "{}", run.stderr());
    // What envelopes never call a key would never be removed.
    sandbox
        .run(&["rewrap", "obj", "--remove", &two.replace("key-file", "aws")])
        .expect_error(2, "as envelopes name it");
    sandbox.run(&["rewrap", "obj", "--remove", "local:alias/none"]).expect_error(5, "no key");
    assert_eq!(opens_with(&sandbox, "obj").len(), 2, "that of another service is another key");
    sandbox.run(&["rewrap", "obj", "--remove", &two]).expect(0);
    assert_eq!(opens_with(&sandbox, "obj"), [format!("local {}", default_key(&sandbox))]);
}

#[test]
fn what_cannot_be_asked_for_is_2_and_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "store/obj"]).expect(0);
    let old = default_key(&sandbox);
    new_key(&sandbox, "alias/new");
    let before = envelopes(&sandbox, "store");
    for args in [
        &[][..],
        &["--only"],
        &["--dry-run"],
        &["--kms-key", "alias/new", "--only", "--remove", "alias/default"],
        &["--kms-key", "alias/new", "--concurrency", "0"],
    ] {
        sandbox.run(&[&["rewrap", "store/obj"], args].concat()).expect(2);
    }
    for (args, code, says) in [
        (&["--remove", "alias/default"][..], 2, "nobody who can open"),
        (&["--remove", &old], 2, "nobody who can open"),
        (&["--kms-key", &old, "--remove", "alias/default"], 2, "both"),
        (&["--kms-key", "alias/none"], 5, "alias/none"),
        (&["--kms-key", "alias/new", "--remove", "alias/none"], 5, "alias/none"),
        (&["--kms-key", "alias/new", "--open-with", "alias/new"], 5, "no key for that"),
        (&["--kms-key", "alias/new", "--bound"], 4, "bound"),
        (&["--kms-key", "alias/new", "--encryption-context", "a=b"], 4, "encryption context"),
        (&["--kms-key", "alias/new", "--recursive"], 3, "no directory"),
    ] {
        sandbox.run(&[&["rewrap", "store/obj"], args].concat()).expect_error(code, says);
    }
    let run = sandbox.run(&["rewrap", "store", "--kms-key", "alias/new"]).expect_error(3, "store");
    assert!(run.stderr().contains("--recursive"), "{}", run.stderr());
    sandbox.run(&["rewrap", "store/none", "--kms-key", "alias/new"]).expect_error(3, "none");
    sandbox.run(&["rewrap", "src", "--kms-key", "alias/new"]).expect_error(4, "src");
    sandbox.run(&["rewrap", "discard:", "--kms-key", "alias/new"]).expect_error(2, "discard:");
    let long: Vec<_> = (0..16).map(|n| format!("{n}.key")).collect();
    long.iter().enumerate().for_each(|(n, name)| key_file(&sandbox, name, n as u8));
    let many: Vec<_> = long.iter().flat_map(|name| ["--key-file", name]).collect();
    sandbox.run(&[&["rewrap", "store/obj"], &many[..]].concat()).expect_error(2, "16");
    sandbox.run(&[&["rewrap", "store/obj"], &many[..26]].concat()).expect_error(2, "2048");
    assert_eq!(envelopes(&sandbox, "store"), before);
}

#[test]
fn a_directory_is_rewrapped_as_far_as_it_can_be_and_the_rest_is_listed() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 100_000);
    for object in ["store/a", "store/deep/er/b", "store/damaged"] {
        sandbox.run(&["put", "src", object]).expect(0);
    }
    sandbox.run(&["put", "src", "store/deep/bound", "--bind"]).expect(0);
    key_file(&sandbox, "other.key", 1);
    sandbox.run(&["put", "src", "store/foreign", "--key-file", "other.key"]).expect(0);
    sandbox.write("store/plain.txt", b"never sealed");
    let mut damaged = sandbox.read("store/damaged");
    let at = damaged.len() - 20;
    damaged[at] ^= 1;
    sandbox.write("store/damaged", &damaged);
    new_key(&sandbox, "alias/new");

    // First, what would be.
    let before = [envelopes(&sandbox, "store"), envelopes(&sandbox, "store/deep")];
    let command = ["rewrap", "store", "--recursive", "--kms-key", "alias/new", "--only"];
    let dry = sandbox.run(&[&command[..], &["--dry-run"]].concat()).expect(1);
    for part in
        ["store/a: would add local ", "; would remove local ", "store/deep/bound: would add", "3 would be rewrapped"]
    {
        assert!(dry.stdout().contains(part), "{part:?} is not in\n{}", dry.stdout());
    }
    let planned = sandbox.run(&[&command[..], &["--dry-run", "--json"]].concat()).expect(1).json();
    assert_eq!((&planned["dry_run"], planned["planned"].as_array().unwrap().len()), (&json!(true), 3));
    assert_eq!([envelopes(&sandbox, "store"), envelopes(&sandbox, "store/deep")], before);

    let run = sandbox.run(&command).expect(1);
    let expected = "3 rewrapped, 0 unchanged, 1 not sealed and left alone, 2 failed\n";
    assert!(run.stdout().ends_with(expected), "{}", run.stdout());
    for part in ["failed: ", "store/damaged: ", "store/foreign: ", "error: 2 of 5 objects"] {
        assert!(run.stderr().contains(part), "{part:?} is not in\n{}", run.stderr());
    }
    for object in ["store/a", "store/deep/er/b", "store/deep/bound"] {
        assert_eq!(sandbox.run(&["cat", object, "--kms-key", "alias/new"]).expect(0).bytes(), plain, "{object}");
    }
    assert_eq!(sandbox.read("store/plain.txt"), b"never sealed");

    // Again: what is done is left alone. Where all failures are of one sort, so is the exit code.
    fs::remove_file(sandbox.path("store/damaged")).unwrap();
    let again = sandbox.run(&[&command[..], &["--json"]].concat()).expect(5);
    let report = again.json();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(
        (count("rewrapped"), count("unchanged"), count("not_sealed"), count("failed")),
        (0, 3, 1, 1),
        "{report}"
    );
    assert!(report["failures"][0]["url"].as_str().unwrap().ends_with("store/foreign"), "{report}");
    let all = sandbox.run(&[&command[..], &["--open-with-key-file", "other.key"]].concat()).expect(0);
    assert!(all.stdout().ends_with("1 rewrapped, 3 unchanged, 1 not sealed and left alone\n"), "{}", all.stdout());
    sandbox.run(&["rewrap", "nowhere", "-r", "--kms-key", "alias/new"]).expect_error(3, "nowhere");
}

/// As many copies as it takes for a run to be stopped in its midst.
fn many_objects(sandbox: &Sandbox, count: usize) {
    sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "store/obj"]).expect(0);
    let envelope = sandbox.envelope_file("store", "obj");
    let file = envelope.file_name().unwrap().to_str().unwrap();
    for n in 0..count {
        let name = format!("copy-{n:05}");
        fs::copy(sandbox.path("store/obj"), sandbox.path(&format!("store/{name}"))).unwrap();
        fs::copy(&envelope, envelope.with_file_name(file.replacen("obj", &name, 1))).unwrap();
    }
}

#[test]
fn s28_an_interrupted_run_is_run_again() {
    const COUNT: usize = 1_500;
    let sandbox = Sandbox::new();
    many_objects(&sandbox, COUNT);
    new_key(&sandbox, "alias/new");
    let old = sandbox.envelope_file("store", "obj");
    let old_len = fs::metadata(&old).unwrap().len();
    let done = || envelopes(&sandbox, "store").iter().filter(|(_, json)| json.len() as u64 > old_len + 100).count();
    let command = ["rewrap", "store", "--recursive", "--kms-key", "alias/new", "--concurrency", "2", "--json"];
    let more_than = |before: usize, child: &Child| {
        let _ = child;
        wait("some objects to be rewrapped", || (done() > before).then_some(()));
    };

    let child = sandbox.start(&command);
    more_than(0, &child);
    signal(&child, Signal::KILL);
    let killed = Run::of_child(child);
    assert!(killed.stdout().is_empty(), "it was not to end by itself: {}", killed.stdout());
    let after_kill = done();

    let child = sandbox.start(&command);
    more_than(after_kill, &child);
    signal(&child, Signal::INT);
    let interrupted = Run::of_child(child).expect_error(130, "interrupted");
    assert!(interrupted.stderr().contains("same command again"), "{}", interrupted.stderr());
    let after_interrupt = done();
    assert!(after_kill < after_interrupt && after_interrupt <= COUNT, "{after_kill}, {after_interrupt}");

    let report = sandbox.run(&command).expect(0).json();
    assert_eq!(report["unchanged"], after_interrupt, "{report}");
    assert_eq!(report["rewrapped"], COUNT + 1 - after_interrupt, "{report}");
    assert_eq!(done(), COUNT + 1);
    let report = sandbox.run(&command).expect(0).json();
    assert_eq!((&report["unchanged"], &report["rewrapped"]), (&json!(COUNT + 1), &json!(0)));
    for object in ["store/copy-00000", "store/copy-00777", "store/obj"] {
        let opened = sandbox.run(&["cat", object, "--kms-key", "alias/new"]).expect(0);
        assert_eq!(opened.bytes(), sandbox.read("src"));
    }
}

//! `s3://` on SeaweedFS.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::proxy::{Fault, Proxy};
use crate::s3_server::{ACCESS_KEY, SECRET_KEY, seaweedfs};
use crate::server::Server;
use crate::support::{Run, Sandbox, signal, wait};

/// A sandbox whose program finds a store, as its user's environment and configuration say.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) server: Server,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self { sandbox: Sandbox::new(), server: seaweedfs() };
        world.reach_by(&world.server.url());
        world
    }

    /// From now on the server is reached by this URL.
    pub(crate) fn reach_by(&self, url: &str) {
        let sandbox = &self.sandbox;
        let config = format!("[profile tests]\nregion = eu-west-1\nendpoint_url = {url}\n");
        sandbox.write("config", config.as_bytes());
        let credentials = format!("[tests]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
        sandbox.write("credentials", credentials.as_bytes());
    }

    /// With nothing of the environment about AWS.
    pub(crate) fn bare(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(args);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
                command.env_remove(name);
            }
        }
        command.env("AWS_CONFIG_FILE", self.sandbox.path("config"));
        command.env("AWS_SHARED_CREDENTIALS_FILE", self.sandbox.path("credentials"));
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare(args);
        command.env("AWS_PROFILE", "tests");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }
}

#[test]
fn put_get_cat_ls_stat_cp_mv_rm() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", 12_000_000);
    let url = "s3://bucket/a dir/ü+1%25.bin";
    let put = ["put", "src", url, "--part-size", "5M", "--content-type", "video/mp4", "--tag", "team=a b", "--json"];
    let report = world.run(&put).expect(0).json();
    assert_eq!((&report["url"], &report["parts"]), (&url.into(), &3.into()));

    world.run(&["get", url, "out"]).expect(0);
    assert!(world.sandbox.read("out") == plain);
    assert!(world.run(&["cat", url]).expect(0).bytes() == plain);
    assert!(world.run(&["cat", url, "--range", "5242870-5242890"]).expect(0).bytes() == &plain[5_242_870..=5_242_890]);
    world.run(&["verify", url, "--against", "src"]).expect(0);
    let stat = world.run(&["stat", url, "--json"]).expect(0).json();
    assert_eq!((&stat["plain_len"], &stat["parts"], &stat["url"]), (&12_000_000.into(), &3.into(), &url.into()));

    world.run(&["put", "src", url, "--if-not-exists"]).expect_error(1, "exists already");
    world.run(&["cp", url, "s3://bucket/copy"]).expect(0);
    world.run(&["cp", url, "s3://bucket/copy", "--if-not-exists"]).expect_error(1, "already");
    world.run(&["mv", "s3://bucket/copy", "s3://bucket/a dir/moved"]).expect(0);
    world.run(&["verify", "s3://bucket/a dir/moved", "--against", "src"]).expect(0);
    let keys = |url: &str| -> Vec<String> {
        let listed = world.run(&["ls", url, "--json"]).expect(0).json();
        listed.as_array().unwrap().iter().map(|object| object["key"].as_str().unwrap().to_owned()).collect()
    };
    for url in ["s3://bucket", "s3://bucket/", "s3://bucket/a dir", "s3://bucket/a dir/"] {
        assert_eq!(keys(url), ["a dir/moved", "a dir/ü+1%25.bin"], "{url}");
    }
    assert_eq!(keys("s3://bucket/a dir/moved"), ["a dir/moved"]);

    world.run(&["rm", url]).expect(0);
    world.run(&["rm", url]).expect_error(3, "no such object");
    world.run(&["get", url, "other"]).expect_error(3, "no such object");
    world.run(&["ls", "s3://bucket/nothing"]).expect_error(3, "no such object");
    assert_eq!(keys("s3://bucket"), ["a dir/moved"]);
}

#[test]
fn directories_go_there_and_come_back() {
    let world = World::new();
    crate::tree::round_trip(&world.sandbox, "s3://bucket/a dir", |args| world.run(args));
}

#[test]
fn many_small_files_are_one_request_each_to_put_and_to_get() {
    let world = World::new();
    let proxy = Proxy::before(world.server.port, |_| Fault::None);
    world.reach_by(&proxy.url());
    std::fs::create_dir(world.sandbox.path("src")).unwrap();
    for n in 0..300 {
        world.sandbox.random_file(&format!("src/{n}"), 4096 + n);
    }
    world.run(&["put", "-r", "src", "s3://bucket/many"]).expect(0);
    assert_eq!((proxy.count("PUT "), proxy.seen().len()), (300, 300), "{:?}", proxy.seen());
    world.run(&["get", "-r", "s3://bucket/many", "out"]).expect(0);
    // The end, with the trailer, is all of it.
    assert_eq!((proxy.count("list-type"), proxy.seen().len()), (1, 300 + 1 + 300), "{:?}", proxy.seen());
    for n in 0..300 {
        assert!(world.sandbox.read(&format!("out/{n}")) == world.sandbox.read(&format!("src/{n}")), "{n}");
    }
}

#[test]
fn an_upload_that_is_not_sealed_is_what_any_client_reads() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", 12_000_000);
    let put = ["put", "src", "s3://bucket/o", "--no-seal", "--part-size", "5M", "--checksum", "crc64", "--json"];
    let report = world.run(&put).expect(0).json();
    assert_eq!((&report["parts"], &report["cipher"]), (&3.into(), &"none".into()));
    world.run(&["get", "s3://bucket/o", "out"]).expect_error(4, "--no-seal");
    world.run(&["get", "s3://bucket/o", "out", "--no-seal"]).expect(0);
    assert!(world.sandbox.read("out") == plain);
    world.run(&["stat", "s3://bucket/o"]).expect(0);
    world.run(&["put", "src", "s3://bucket/o", "--no-seal", "--if-not-exists"]).expect_error(1, "exists already");
    world.run(&["put", "src", "s3://bucket/o", "--no-seal", "--sse", "KMS"]).expect_error(2, "--sse is for");
    world.run(&["rm", "s3://bucket/o"]).expect(0);
}

#[test]
fn what_cannot_be_is_said_clearly() {
    let world = World::new();
    world.sandbox.random_file("src", 1000);
    world.run(&["put", "src", "s3://bucket/"]).expect_error(2, "names no object");
    world.run(&["put", "src", "s3://bucket/dir/"]).expect_error(2, "names no object");
    world.run(&["put", "src", "s3:///key"]).expect(2);
    world.run(&["put", "src", "s3://bucket/o"]).expect(0);
    world.run(&["cp", "s3://bucket/o", "s3://other/o"]).expect_error(2, "copies are made within one");
    world.run(&["cp", "s3://bucket/o", "o"]).expect_error(2, "copies are made within one");
    world.run(&["put", "src", "s3://bucket/o", "--endpoint", "nonsense"]).expect_error(2, "an endpoint is");
    world.run(&["put", "src", "s3://bucket/o", "--metadata", "who=Jürgen"]).expect_error(2, "ASCII");
    world.run(&["put", "src", "dir/o", "--storage-class", "STANDARD_IA"]).expect_error(2, "storage classes");
    world.run(&["put", "src", "dir/o", "--tag", "a=b"]).expect_error(2, "tags");
    let nowhere = ["--endpoint", "http://127.0.0.1:1"];
    let cannot = "cannot connect to http://127.0.0.1:1";
    world.run(&[&["ls", "s3://bucket"], &nowhere[..]].concat()).expect_error(7, cannot);
    // What is tried again says so, once.
    std::fs::create_dir(world.sandbox.path("dir")).unwrap();
    world.sandbox.write("dir/a", b"x");
    world.sandbox.write("dir/b", b"x");
    for command in
        [&["put", "src", "s3://bucket/o"][..], &["put", "-r", "dir", "s3://bucket/"], &["cat", "s3://bucket/o"]]
    {
        let run = world.run(&[command, &nowhere[..]].concat()).expect(7);
        let stderr = run.stderr();
        let told: Vec<_> = stderr.lines().filter(|line| line.contains("it is tried again")).collect();
        assert!(told.len() == 1 && told[0].contains(cannot), "{command:?}:\n{stderr}");
        assert!(stderr.lines().filter(|line| line.contains(cannot)).count() > 1, "the error says it too:\n{stderr}");
    }

    let mut wrong = world.command(&["ls", "s3://bucket"]);
    wrong.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", "another").env_remove("AWS_PROFILE");
    wrong.args(["--endpoint", &world.server.url()]);
    let run = Run::of(&mut wrong).expect_error(7, "secret access key");
    assert!(!run.stderr().contains("another"), "{}", run.stderr());
    let run = Run::of(&mut world.bare(&["ls", "s3://bucket", "--endpoint", &world.server.url()]));
    run.expect_error(7, "there are no credentials");
    Run::of(&mut world.bare(&["ls", "s3://bucket"])).expect_error(2, "--region");
}

#[test]
fn flags_name_the_store_as_well_as_profiles_do() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", 1000);
    world.run(&["put", "src", "s3://bucket/o"]).expect(0);
    let flags =
        ["cat", "s3://bucket/o", "--endpoint", &world.server.url(), "--region", "us-east-1", "--profile", "tests"];
    assert!(Run::of(&mut world.bare(&flags)).expect(0).bytes() == plain);
    assert!(Run::of(&mut world.bare(&["cat", "s3://bucket/o", "--profile", "tests"])).expect(0).bytes() == plain);
    let mut named = world.bare(&["cat", "s3://bucket/o"]);
    named.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    named.env("AWS_ENDPOINT_URL_S3", world.server.url());
    assert!(Run::of(&mut named).expect(0).bytes() == plain);
}

#[test]
fn all_below_a_prefix_is_given_to_another_key() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", 100_000);
    for name in ["p/a", "p/b", "p/sub/c", "elsewhere"] {
        let put = ["put", "src", &format!("s3://bucket/{name}"), "--tag", "team=a b", "--metadata", "host=web1"];
        world.run(&put).expect(0);
    }
    let new = world.run(&["kms", "create-key"]).expect(0).stdout().trim().to_owned();
    let rewrap = ["rewrap", "s3://bucket/p", "--recursive", "--kms-key", &new, "--only", "--json"];
    let run = |more: &[&str]| {
        let report = world.run(&[&rewrap[..], more].concat()).expect(0).json();
        ["rewrapped", "unchanged", "failed"].map(|name| report[name].as_u64().unwrap())
    };
    assert_eq!(run(&["--dry-run"]), [3, 0, 0]);
    assert_eq!(run(&[]), [3, 0, 0]);
    assert_eq!(run(&[]), [0, 3, 0]);
    for name in ["p/a", "p/b", "p/sub/c"] {
        let stat = world.run(&["stat", &format!("s3://bucket/{name}"), "--json"]).expect(0).json();
        assert_eq!(stat["data_keys"], serde_json::json!([{ "kms": "local", "key": new }]), "{name}");
        assert_eq!(stat["metadata"], serde_json::json!({ "host": "web1" }), "{name}");
    }
    let stat = world.run(&["stat", "s3://bucket/elsewhere", "--json"]).expect(0).json();
    assert_ne!(stat["data_keys"][0]["key"], new.as_str());
    world.run(&["kms", "disable-key", "alias/default"]).expect(0);
    assert!(world.run(&["cat", "s3://bucket/p/sub/c"]).expect(0).bytes() == plain);
    let nowhere = world.run(&["rewrap", "s3://nowhere/p", "--recursive", "--kms-key", &new]).expect(3);
    assert!(nowhere.stderr().contains("could not be listed to its end"), "{}", nowhere.stderr());
}

/// Bytes in all files below a directory.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let len = |path: &Path| if path.is_dir() { size(path) } else { path.metadata().map_or(0, |file| file.len()) };
    entries.map(|entry| len(&entry.path())).sum()
}

#[test]
fn s16_killed_in_the_middle_resume_yields_the_object() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", 96 << 20);
    let data = world.server.dir().join("data");
    let put = ["put", "src", "s3://bucket/obj", "--part-size", "5M", "--threads", "1", "--memory-budget", "32M"];
    for resumes in [true, false] {
        let before = size(&data);
        let mut child = world.command(&put).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        world.sandbox.wait_for_ledger();
        wait("parts", || (size(&data) > before + (12 << 20)).then_some(()));
        signal(&child, Signal::STOP);
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = world.run(&["uploads", "list", "--json"]).expect(0).json();
        assert_eq!((&listed[0]["url"], &listed[0]["state"]), (&"s3://bucket/obj".into(), &"interrupted".into()));
        let id = listed[0]["id"].as_str().unwrap();
        // Where the store is, the ledger says; whose credentials, the environment.
        if resumes {
            let resumed = world.run(&["uploads", "resume", id, "--json"]).expect(0).json();
            assert_eq!(resumed["plain_len"], plain.len());
            world.run(&["get", "s3://bucket/obj", "out"]).expect(0);
            assert!(world.sandbox.read("out") == plain);
            world.run(&["rm", "s3://bucket/obj"]).expect(0);
        } else {
            world.run(&["uploads", "abort", id]).expect(0);
            world.run(&["stat", "s3://bucket/obj"]).expect_error(3, "no such object");
        }
        assert_eq!(world.sandbox.uploads(), [""; 0]);
    }
}

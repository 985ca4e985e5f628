//! `oss://` on a server in memory.

use std::process::Command;

use crate::oss_server::{BUCKET, OssServer, REGION};
use crate::support::{Run, Sandbox};

/// A sandbox whose environment names the account of a server.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) server: OssServer,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { sandbox: Sandbox::new(), server: OssServer::start() }
    }

    /// With nothing of the environment about OSS, and a home of its own.
    pub(crate) fn bare(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(args);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("OSS_") || name.starts_with("ALIBABA_CLOUD_")) {
                command.env_remove(name);
            }
        }
        command.env_remove("OSSUTIL_CONFIG_FILE").env_remove("OSSUTIL_PROFILE").env("HOME", self.sandbox.path("."));
        command
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let account = &self.server.state.account;
        let mut command = self.bare(args);
        command.env("OSS_ACCESS_KEY_ID", &account.id).env("OSS_ACCESS_KEY_SECRET", &account.secret);
        command.env("OSS_ENDPOINT", self.server.endpoint()).env("OSS_REGION", REGION);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }
}

#[test]
fn directories_go_there_and_come_back() {
    let world = World::new();
    crate::tree::round_trip(&world.sandbox, &format!("oss://{BUCKET}/a dir"), |args| world.run(args));
}

/// Encryption on the server's side alone: an ordinary fast upload.
#[test]
fn what_is_not_sealed_can_be_encrypted_by_the_server() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", 3_000_000);
    let url = format!("oss://{BUCKET}/o");
    for part_size in ["1M", "16M"] {
        let put = ["put", "src", &url, "--no-seal", "--sse", "KMS", "--sse-key-id", "a-cmk", "--part-size", part_size];
        world.run(&put).expect(0);
        let object = world.server.object("o");
        assert_eq!((object.sse[0].1.as_str(), object.sse[1].1.as_str()), ("KMS", "a-cmk"));
        world.run(&["cat", &url]).expect_error(4, "--no-seal");
        assert!(world.run(&["cat", &url, "--no-seal"]).expect(0).bytes() == plain);
        let stat = world.run(&["stat", &url, "--json"]).expect(0).json();
        assert_eq!(stat["cipher"], "none");
    }
}

#[test]
fn put_get_cat_ls_stat_cp_mv_rm() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", 3_000_000);
    let url = format!("oss://{BUCKET}/a dir/ü+1%25.bin");
    let (copy, moved) = (format!("oss://{BUCKET}/a dir/copy"), format!("oss://{BUCKET}/moved"));
    let put = [
        "put",
        "src",
        &url,
        "--part-size",
        "1M",
        "--sse",
        "kms",
        "--sse-key-id",
        "a-cmk",
        "--tag",
        "team=a b",
        "--json",
    ];
    let report = world.run(&put).expect(0).json();
    assert_eq!(report["url"], url.as_str());
    // As the server tells it, not as it was asked for.
    assert_eq!(report["encryption"], serde_json::json!({ "algorithm": "KMS", "key_id": "a-cmk" }));
    let object = world.server.object("a dir/ü+1%25.bin");
    assert_eq!((object.sse[0].1.as_str(), object.sse[1].1.as_str(), object.tags.len()), ("KMS", "a-cmk", 1));
    world.run(&["get", &url, "back"]).expect(0);
    assert!(world.sandbox.read("back") == plain);
    world.run(&["cp", &url, &copy]).expect(0);
    world.run(&["mv", &copy, &moved]).expect(0);
    assert_eq!(world.server.object("moved").sse, object.sse, "a copy is encrypted as its source");
    world.run(&["verify", &moved, "--against", "src"]).expect(0);
    let listed = world.run(&["ls", &format!("oss://{BUCKET}"), "--json"]).expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    world.run(&["rm", &moved]).expect(0);
    world.run(&["get", &moved, "gone"]).expect(3);
}

#[test]
fn sse_set_changes_the_encryption_and_stat_shows_it_as_ossutil_does() {
    let world = World::new();
    world.sandbox.random_file("src", 100_000);
    let url = format!("oss://{BUCKET}/object");
    world.run(&["put", "src", &url, "--metadata", "mine=kept"]).expect(0);
    world.run(&["sse", "set", &url, "--algorithm", "KMS", "--key-id", "a-cmk"]).expect(0);
    let stat = world.run(&["stat", &url]).expect(0).stdout();
    let names: Vec<_> =
        stat.lines().skip_while(|line| !line.is_empty()).skip(1).filter_map(|line| line.split_once(": ")).collect();
    let shown: Vec<_> =
        names.iter().map(|(name, _)| name.trim()).filter(|name| !name.starts_with("X-Oss-Meta-")).collect();
    let expected = "ACL Accept-Ranges Content-Length Content-Type Etag Last-Modified Owner X-Oss-Hash-Crc64ecma X-Oss-Object-Type \
                    X-Oss-Server-Side-Encryption X-Oss-Server-Side-Encryption-Key-Id X-Oss-Storage-Class";
    assert_eq!(shown.join(" ").replace("Content-Md5 ", ""), expected);
    assert!(stat.contains("X-Oss-Meta-Mine") && stat.contains(": a-cmk"), "{stat}");
    let json = world.run(&["stat", &url, "--json"]).expect(0).json();
    assert_eq!(json["store"]["X-Oss-Server-Side-Encryption"], "KMS");
    world.run(&["cat", &url]).expect(0);

    world.run(&["sse", "set", &url, "--algorithm", "KMS", "--key-id", "disabled"]).expect_error(5, "enable the CMK");
    world.run(&["sse", "set", &url, "--algorithm", "AES256", "--key-id", "a-cmk"]).expect_error(2, "KMS only");
    world.run(&["sse", "set", "src", "--algorithm", "AES256"]).expect_error(2, "oss://");
    world.run(&["put", "src", "dir/object", "--sse", "AES256"]).expect_error(2, "--sse is for objects in oss://");
    assert!(!world.sandbox.exists("dir"));
}

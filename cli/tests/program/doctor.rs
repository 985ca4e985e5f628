//! `doctor`: on stores that are well, and on each that is not.

use serde_json::Value;

use crate::support::{Run, Sandbox, run_in_namespace};

/// Status and text of a check; nothing if it was not made.
fn check<'a>(report: &'a Value, name: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["check"] == name);
    found.map_or(("", ""), |check| (check["status"].as_str().unwrap(), check["text"].as_str().unwrap()))
}

/// Names of the checks that failed.
fn failed(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().filter(|check| check["status"] == "fail").map(|check| check["check"].as_str().unwrap()).collect()
}

#[track_caller]
fn is(report: &Value, name: &str, status: &str, says: &str) {
    let (found, text) = check(report, name);
    assert!(found == status && text.contains(says), "{name} should be {status} and say {says:?} in {report:#}");
}

#[test]
fn a_directory_that_is_well() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"plain");
    sandbox.run(&["put", "src", "store/obj"]).expect(0);
    let before = (sandbox.list("store"), sandbox.list("store/.sealift"));
    for url in ["store", "store/obj", "store/new/deep/obj"] {
        let report = sandbox.run(&["doctor", url, "--json"]).expect(0).json();
        assert_eq!((&report["healthy"], failed(&report)), (&true.into(), vec![]), "{report:#}");
        for name in
            ["put", "metadata", "get", "range", "if-not-exists", "initiate", "upload-part", "list-parts", "complete"]
        {
            is(&report, name, "ok", "");
        }
        is(&report, "abort", "ok", "leave nothing");
        is(&report, "delete", "ok", "are gone");
        is(&report, "key store", "ok", "opens");
        is(&report, "default key", "ok", "enabled");
        is(&report, "backup", "ok", "export-backup");
        is(&report, "processor", check(&report, "processor").0, "AES-256-GCM by");
    }
    assert_eq!((sandbox.list("store"), sandbox.list("store/.sealift")), before, "nothing is left behind");
    let text = sandbox.run(&["doctor", "store"]).expect(0).stdout();
    assert!(text.lines().all(|line| line.starts_with("ok    ") || line.starts_with("warn  ")), "{text}");
    assert!(text.lines().count() > 15, "{text}");
    // Only the keys and the machine.
    let report = sandbox.run(&["doctor", "--json"]).expect(0).json();
    assert_eq!((check(&report, "put").0, check(&report, "default key").0), ("", "ok"));
}

#[test]
fn a_directory_that_cannot_be_written_is_7() {
    let sandbox = Sandbox::new();
    let script = "mount -t tmpfs -o size=1m none $MNT; mount -o remount,ro $MNT; exec $SEALIFT doctor $MNT --json";
    let run = run_in_namespace(&sandbox, script).expect(7);
    let report = run.json();
    is(&report, "put", "fail", "");
    assert!(check(&report, "put").1.contains("Read-only"), "{report:#}");
    assert!(run.stderr().contains("checks failed"), "{}", run.stderr());
    sandbox.write("file", b"x");
    let run = sandbox.run(&["doctor", "file/below", "--json"]).expect(7);
    is(&run.json(), "directory", "fail", "is no directory");
}

#[test]
fn keys_that_cannot_be_used_are_5() {
    let sandbox = Sandbox::new();
    let report = sandbox.run(&["doctor", ".", "--json"]).expect(0).json();
    is(&report, "key store", "warn", "first `put` makes it");
    assert!(!sandbox.exists("home/kms"), "looking makes none");
    sandbox.write("src", b"plain");
    sandbox.run(&["put", "src", "obj"]).expect(0);

    sandbox.run(&["kms", "disable-key", "alias/default"]).expect(0);
    let run = sandbox.run(&["doctor", "--json"]).expect(5);
    is(&run.json(), "default key", "fail", "sealift kms enable-key alias/default");
    sandbox.run(&["kms", "enable-key", "alias/default"]).expect(0);
    sandbox.run(&["kms", "schedule-key-deletion", "alias/default", "--days", "7"]).expect(0);
    let run = sandbox.run(&["doctor", "--json"]).expect(5);
    is(&run.json(), "deletion", "warn", "cancel-key-deletion");
    sandbox.run(&["kms", "cancel-key-deletion", "alias/default"]).expect(0);
    sandbox.run(&["kms", "enable-key", "alias/default"]);

    sandbox.write("key", &[7; 32]);
    let report = sandbox.run(&["doctor", "--json", "--key-file", "key", "--kms-key", "alias/default"]).expect(0).json();
    let wraps =
        |check: &&Value| check["check"] == "key" && check["text"].as_str().unwrap().ends_with("wraps and unwraps");
    assert_eq!(report["checks"].as_array().unwrap().iter().filter(wraps).count(), 2, "{report:#}");
    let run = sandbox.run(&["doctor", "--json", "--key-file", "missing"]).expect(5);
    is(&run.json(), "key", "fail", "missing");
    let run = sandbox.run(&["doctor", "--json", "--kms-key", "alias/nobody"]).expect(5);
    is(&run.json(), "key", "fail", "nobody");

    let store = sandbox.path("home/kms/store.json");
    std::fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let report = sandbox.run(&["doctor", "--json"]).expect(0).json();
    is(&report, "permissions", "warn", "chmod -R go=");
    std::fs::remove_file(sandbox.path("home/kms/root.key")).unwrap();
    let run = sandbox.run(&["doctor", "--json"]).expect(5);
    is(&run.json(), "key store", "fail", "import-backup");
}

#[cfg(feature = "s3")]
mod s3 {
    use super::*;
    use crate::proxy::{Fault, Proxy};
    use crate::s3::World;
    use crate::s3_server::ACCESS_KEY;
    use crate::stub::{Reply, Stub};

    #[test]
    fn a_bucket_that_is_well() {
        let world = World::new();
        world.sandbox.write("src", b"plain");
        world.run(&["put", "src", "s3://bucket/a/obj"]).expect(0);
        let run = world.run(&["doctor", "s3://bucket/a", "--json"]).expect(0);
        let report = run.json();
        assert_eq!(failed(&report), [""; 0], "{report:#}");
        is(&report, "credentials", "ok", "profile");
        is(&report, "endpoint", "ok", "this machine");
        is(&report, "clock", "ok", "");
        is(&report, "bucket", "ok", "can be listed");
        for name in
            ["put", "metadata", "get", "range", "initiate", "upload-part", "list-parts", "complete", "abort", "delete"]
        {
            is(&report, name, "ok", "");
        }
        for name in ["if-not-exists", "checksums", "part-size"] {
            assert!(!check(&report, name).0.is_empty(), "{name} is not in {report:#}");
        }
        let listed = world.run(&["ls", "s3://bucket", "--json"]).expect(0).json();
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        let reaped =
            world.run(&["uploads", "reap", "s3://bucket", "--older-than", "0s", "--dry-run", "--json"]).expect(0);
        assert_eq!(reaped.json(), serde_json::json!([]));
    }

    #[test]
    fn wrong_credentials_a_wrong_bucket_and_a_wrong_place_are_told_apart() {
        let world = World::new();
        let report = |command: &mut std::process::Command, code| Run::of(command).expect(code).json();
        let url = world.server.url();
        let args = ["doctor", "s3://bucket", "--json", "--endpoint", &url];
        let none = report(&mut world.bare(&args), 7);
        is(&none, "credentials", "fail", "AWS_ACCESS_KEY_ID");
        assert_eq!(check(&none, "put").0, "", "nothing is sent without");
        let mut wrong = world.bare(&args);
        wrong.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", "hush hush");
        let run = Run::of(&mut wrong).expect(7);
        is(&run.json(), "credentials", "ok", "AWS_ACCESS_KEY_ID");
        is(&run.json(), "bucket", "fail", "secret access key");
        assert!(!run.stdout().contains("hush") && !run.stderr().contains("hush"));
        let mut unknown = world.bare(&args);
        unknown.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "hush hush");
        is(&report(&mut unknown, 7), "bucket", "fail", "access key");
        let nowhere =
            report(&mut world.command(&["doctor", "s3://bucket", "--json", "--endpoint", "http://127.0.0.1:9"]), 7);
        is(&nowhere, "endpoint", "fail", "does not answer");
        assert_eq!(check(&nowhere, "bucket").0, "");

        let xml = "<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>";
        let proxy = Proxy::before(world.server.port, move |_| Fault::xml("404 Not Found", "", xml));
        world.reach_by(&proxy.url());
        let missing = world.run(&["doctor", "s3://bucket", "--json"]).expect(3).json();
        is(&missing, "bucket", "fail", "no such bucket");
        let elsewhere = "<Error><Code>PermanentRedirect</Code><Message>no</Message></Error>";
        let redirect = Fault::xml("301 Moved Permanently", "x-amz-bucket-region: eu-west-7\r\n", elsewhere);
        let proxy = Proxy::before(world.server.port, move |_| redirect.clone());
        world.reach_by(&proxy.url());
        let run = world.run(&["doctor", "s3://bucket", "--json"]).expect(7);
        is(&run.json(), "bucket", "fail", "--region eu-west-7");
    }

    #[test]
    fn what_may_not_be_done_is_named() {
        let world = World::new();
        world.sandbox.write("src", b"plain");
        world.run(&["put", "src", "s3://bucket/obj"]).expect(0);
        let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        for (method, part, name) in [
            ("PUT", "object", "put"),
            ("POST", "?uploads", "initiate"),
            ("PUT", "partNumber", "upload-part"),
            ("DELETE", "/object", "delete"),
        ] {
            let proxy = Proxy::before(world.server.port, move |request| {
                match request.starts_with(method) && request.contains(part) {
                    true => Fault::xml("403 Forbidden", "", denied),
                    false => Fault::None,
                }
            });
            world.reach_by(&proxy.url());
            let run = world.run(&["doctor", "s3://bucket/x/", "--json"]).expect(7);
            assert_eq!(failed(&run.json()), [name], "{:#}", run.json());
            is(&run.json(), name, "fail", "access was refused");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_told_by_the_stores_date() {
        let world = World::new();
        let xml = "<Error><Code>RequestTimeTooSkewed</Code><Message>no</Message></Error>";
        let headers =
            vec!["Date: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), "Content-Type: application/xml".to_owned()];
        let stub = Stub::start([Reply::Answer(403, headers, xml.to_owned())]);
        world.reach_by(&stub.url());
        let run = world.run(&["doctor", "s3://bucket", "--json"]).expect(7);
        is(&run.json(), "clock", "fail", "ahead of the store's");
        is(&run.json(), "clock", "fail", "set it");
        is(&run.json(), "endpoint", "ok", "answers");
    }
}

#[cfg(feature = "oss")]
mod oss {
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;
    use crate::oss::World;
    use crate::oss_server::{BUCKET, What};

    fn url() -> String {
        format!("oss://{BUCKET}/folder/")
    }

    #[test]
    fn a_bucket_that_is_well_and_one_whose_clock_is_not_ours() {
        let world = World::new();
        let report = world.run(&["doctor", &url(), "--json"]).expect(0).json();
        assert_eq!(failed(&report), [""; 0], "{report:#}");
        is(&report, "credentials", "ok", "OSS_ACCESS_KEY_ID");
        is(&report, "clock", "ok", "");
        is(&report, "checksums", "ok", "CRC-64");
        is(&report, "part-size", "ok", "at least 100.00 KiB");
        for name in ["bucket", "put", "metadata", "get", "range", "if-not-exists", "complete", "abort", "delete"] {
            is(&report, name, "ok", "");
        }
        let data = crate::oss_server::lock(&world.server.state.data);
        assert_eq!((data.objects.len(), data.uploads.len()), (0, 0), "nothing is left behind");
        drop(data);

        world.server.state.ahead.store(3_600, SeqCst);
        let run = world.run(&["doctor", &url(), "--json"]).expect(7);
        assert_eq!(failed(&run.json()), ["clock"], "all else works: {:#}", run.json());
        is(&run.json(), "clock", "fail", "behind the store's");
        world.server.state.ahead.store(-300, SeqCst);
        is(&world.run(&["doctor", &url(), "--json"]).expect(0).json(), "clock", "warn", "set it");
    }

    #[test]
    fn wrong_credentials_a_wrong_bucket_and_refusals() {
        let world = World::new();
        let run = |command: &mut std::process::Command, code| Run::of(command).expect(code).json();
        let doctor = ["doctor", &url(), "--json"];
        is(
            &run(world.command(&doctor).env("OSS_ACCESS_KEY_SECRET", "wrong"), 7),
            "bucket",
            "fail",
            "access key's secret",
        );
        is(&run(world.command(&doctor).env("OSS_ACCESS_KEY_ID", "nobody"), 7), "bucket", "fail", "OSS_ACCESS_KEY_ID");
        is(&run(world.command(&doctor).env_remove("OSS_ACCESS_KEY_ID"), 7), "credentials", "fail", "ossutil config");
        is(&run(world.command(&doctor).env("OSS_REGION", "cn-beijing"), 7), "bucket", "fail", "region");
        let missing = world.run(&["doctor", "oss://another-bucket", "--json"]).expect(3);
        is(&missing.json(), "bucket", "fail", "NoSuchBucket");
        for (call, check) in
            [("PutObject", "put"), ("CompleteMultipartUpload", "complete"), ("ListParts", "list-parts")]
        {
            world.server.fail_next(call, What::Refuse(403, "AccessDenied", &[]));
            world.server.fail_next(call, What::Refuse(403, "AccessDenied", &[]));
            let run = world.run(&doctor).expect(7);
            assert!(failed(&run.json()).contains(&check), "{call}: {:#}", run.json());
            world.server.forgive();
        }
        // What is stored comes back without its metadata, as by a proxy that drops headers.
        world.server.fail_next("HeadObject", What::Headers(&[("x-oss-meta-doctor", "")]));
        is(&world.run(&doctor).expect(7).json(), "metadata", "fail", "wrapped key would be lost");
    }
}

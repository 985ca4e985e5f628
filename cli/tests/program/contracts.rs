//! What scripts rely on: URLs, flags, JSON, exit codes.

use crate::support::Sandbox;

#[test]
fn urls_are_paths_and_file_urls() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    let url = format!("file://{}", sandbox.path("dir/an%20object").display());
    sandbox.run(&["put", "src", &url]).expect(0);
    assert!(sandbox.exists("dir/an object"));
    assert_eq!(sandbox.list("dir"), [".sealift", "an object"], "body at the path, all else in the folder beside it");
    for url in [url.as_str(), "dir/an object", "./dir/../dir/an object"] {
        assert_eq!(sandbox.run(&["cat", url]).expect(0).bytes(), plain, "{url}");
    }

    for url in ["gopher://bucket/key", "gs://bucket/key", "ftp:x"] {
        let run = sandbox.run(&["put", "src", url]).expect_error(2, "file://");
        assert!(run.stderr().contains("discard:"), "{}", run.stderr());
    }
    sandbox.run(&["put", "src", "./s3:key"]).expect(0);
    sandbox.run(&["put", "src", "dir"]).expect_error(2, "directory");
    sandbox.run(&["put", "src", "new/"]).expect_error(2, "directory");
    sandbox.run(&["put", "src", ".sealift/x"]).expect_error(2, ".sealift");
    sandbox.run(&["put", "src", "src/x"]).expect_error(2, "src");
}

#[test]
fn put_replaces_unless_told_otherwise() {
    let sandbox = Sandbox::new();
    sandbox.write("one", b"one");
    sandbox.write("two", b"two");
    sandbox.run(&["put", "one", "obj", "--if-not-exists"]).expect(0);
    sandbox.run(&["put", "two", "obj", "--if-not-exists"]).expect_error(1, "exists");
    assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), b"one");
    assert_eq!(sandbox.uploads(), [""; 0]);
    sandbox.run(&["put", "two", "obj"]).expect(0);
    assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), b"two");
}

#[test]
fn put_refuses_to_seal_a_file_over_itself() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"precious");
    std::os::unix::fs::symlink(sandbox.path("src"), sandbox.path("link")).unwrap();
    sandbox.run(&["put", "src", "src"]).expect_error(2, "same file");
    sandbox.run(&["put", "link", "src"]).expect_error(2, "same file");
    sandbox.run(&["put", "src", "link"]).expect_error(2, "same file");
    assert_eq!(sandbox.read("src"), b"precious");
    assert!(!sandbox.exists("home"), "nothing is made for a mistake");
}

#[test]
fn get_refuses_an_existing_file_unless_forced() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"new");
    sandbox.write("out", b"old");
    sandbox.run(&["put", "src", "obj"]).expect(0);
    sandbox.run(&["get", "obj", "out"]).expect_error(1, "--force");
    assert_eq!(sandbox.read("out"), b"old");
    std::os::unix::fs::symlink("nowhere", sandbox.path("dangling")).unwrap();
    sandbox.run(&["get", "obj", "dangling"]).expect_error(1, "exists");
    // A directory is replaced by no flag.
    std::fs::create_dir(sandbox.path("dir")).unwrap();
    for force in [&[][..], &["--force"]] {
        let run = sandbox.run(&[&["get", "obj", "dir"], force].concat()).expect_error(2, "dir/NAME");
        assert!(!run.stderr().contains("--force"), "{}", run.stderr());
    }
    sandbox.run(&["get", "obj", "out", "--force"]).expect(0);
    assert_eq!(sandbox.read("out"), b"new");
}

#[test]
fn ranges_are_those_of_http() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 100_000);
    sandbox.run(&["put", "src", "obj", "--part-size", "32K"]).expect(0);
    for (range, expected) in [
        ("0-0", &plain[..1]),
        ("16383-16384", &plain[16_383..16_385]),
        ("32000-70000", &plain[32_000..=70_000]),
        ("99999-", &plain[99_999..]),
        ("99000-200000", &plain[99_000..]),
        ("-1", &plain[99_999..]),
        ("-40000", &plain[60_000..]),
        ("-200000", &plain[..]),
    ] {
        assert_eq!(sandbox.run(&["cat", "obj", "--range", range]).expect(0).bytes(), expected, "{range}");
    }
    for range in ["100000-", "100000-100001", "-0"] {
        sandbox.run(&["cat", "obj", "--range", range]).expect_error(1, range);
    }
    for range in ["2-1", "a-b", "5", ""] {
        sandbox.run(&["cat", "obj", "--range", range]).expect_error(2, "--range");
    }
}

#[test]
fn sizes_are_binary_and_shape_the_parts() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 5 << 20);
    for size in ["1M", "1MiB", "1m", "1024K", "1048576"] {
        let report = sandbox.run(&["put", "src", "obj", "--part-size", size, "--json"]).expect(0).json();
        assert_eq!(report["parts"], 5, "{size}");
    }
    let report = sandbox.run(&["put", "src", "obj", "--json"]).expect(0).json();
    assert_eq!(report["parts"], 1, "16 MiB");
    sandbox.run(&["put", "src", "obj", "--part-size", "1M", "--uniform-parts"]).expect(0);
    sandbox.run(&["verify", "obj", "--against", "src"]).expect(0);
    // One part, and several with a short last one, which waits for the trailer.
    sandbox.random_file("large", 40 << 20);
    for file in ["src", "large"] {
        sandbox.run(&["put", file, "obj", "--uniform-parts"]).expect(0);
        sandbox.run(&["verify", "obj", "--against", file]).expect(0);
    }
    for size in ["1MB", "x", "-1", "1.5M"] {
        sandbox.run(&["put", "src", "obj", &format!("--part-size={size}")]).expect_error(2, "--part-size");
    }
    sandbox.run(&["put", "src", "obj", "--part-size", "0"]).expect(2);
    sandbox.run(&["put", "src", "obj", "--memory-budget", "1M"]).expect_error(2, "memory budget");
    sandbox.run(&["put", "src", "obj", "--memory-budget", "24M", "--threads", "1"]).expect(0);
    sandbox.run(&["get", "obj", "out", "--memory-budget", "24M", "--threads", "1"]).expect(0);
    assert_eq!(sandbox.read("out"), sandbox.read("src"));
}

#[test]
fn checksums_are_recorded_where_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 3 << 20);
    for (flags, expected) in [(&["--checksum", "crc64"][..], true), (&["--checksum", "none"], false), (&[], false)] {
        sandbox.run(&[&["put", "src", "obj", "--part-size", "1M"], flags].concat()).expect(0);
        assert_eq!(sandbox.run(&["stat", "obj", "--json"]).expect(0).json()["checksums"], expected);
        let verified = sandbox.run(&["verify", "obj", "--json"]).expect(0).json();
        assert_eq!(verified["checksums"], expected);
    }
}

#[test]
fn every_way_to_read_and_every_backend_seal_the_same() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 3_000_000);
    sandbox.write("empty", b"");
    for mode in ["auto", "read", "map"] {
        sandbox.run(&["put", "src", "obj", "--read-mode", mode]).expect(0);
        assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), plain, "{mode}");
        sandbox.run(&["put", "empty", "obj", "--read-mode", mode]).expect(0);
        assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), b"", "{mode}");
    }
    for backend in sealift::crypto::Backend::available() {
        sandbox.run(&["put", "src", "obj", "--backend", backend.name()]).expect(0);
        assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), plain, "{backend}");
        assert_eq!(sandbox.run(&["cat", "obj", "--backend", backend.name()]).expect(0).bytes(), plain, "{backend}");
    }
    sandbox.run(&["put", "src", "obj", "--backend", "rot13"]).expect_error(2, "aws-lc-rs");
}

#[test]
fn stat_tells_what_is_promised() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 3_000_000);
    let flags = ["--part-size", "1M", "--metadata", "colour=blue", "--encryption-context", "purpose=test", "--bind"];
    let put = sandbox.run(&[&["put", "src", "obj", "--json"], &flags[..]].concat()).expect(0).json();
    let stat = sandbox.run(&["stat", "obj", "--json"]).expect(0).json();
    assert_eq!(stat["object_id"].as_str().unwrap().len(), 22);
    assert_eq!(stat["plain_len"], 3_000_000);
    assert_eq!(stat["sealed_len"], sandbox.read("obj").len());
    assert_eq!(stat["parts"], 3);
    assert_eq!(stat["cipher"], "COBBLESTONE-256");
    assert_eq!(stat["data_keys"][0]["kms"], "local");
    assert_eq!(stat["data_keys"][0]["key"].as_str().unwrap().len(), 36);
    assert_eq!(stat["metadata"]["colour"], "blue");
    assert_eq!(stat["encryption_context"]["purpose"], "test");
    assert_eq!(stat["bound"], true);
    for member in ["object_id", "plain_len", "sealed_len", "parts", "data_keys", "etag", "url"] {
        assert_eq!(put[member], stat[member], "{member}");
    }
    let text = sandbox.run(&["stat", "obj"]).expect(0).stdout();
    for part in ["3000000", "COBBLESTONE-256", "colour=blue", "purpose=test", "local"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn json_is_alone_on_stdout() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    let first = sandbox.run(&["put", "src", "store/obj", "--json"]).expect(0);
    assert_eq!(first.json()["plain_len"], 1000);
    assert!(first.stderr().contains("BACK IT UP"), "what else there is to say goes to stderr");

    assert_eq!(sandbox.run(&["get", "store/obj", "out", "--json"]).expect(0).json()["plain_len"], 1000);
    assert_eq!(sandbox.run(&["verify", "store/obj", "--json"]).expect(0).json()["parts"], 1);
    assert_eq!(sandbox.run(&["verify", "store/obj", "--json", "--against", "src"]).expect(0).json()["against"], "src");
    assert_eq!(sandbox.run(&["ls", "store", "--json"]).expect(0).json().as_array().unwrap().len(), 1);
    assert_eq!(sandbox.run(&["uploads", "list", "--json"]).expect(0).json(), serde_json::json!([]));
    assert_eq!(sandbox.run(&["kms", "list-keys", "--json"]).expect(0).json()[0]["aliases"][0], "alias/default");
    let removed = sandbox.run(&["rm", "store/obj", "--json"]).expect(0).json();
    assert!(removed["removed"].as_str().unwrap().ends_with("/obj"));
    // An error is text on stderr, and nothing on stdout.
    sandbox.run(&["stat", "store/obj", "--json"]).expect_error(3, "store/obj");
}

#[test]
fn metadata_leaves_our_own_names_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    sandbox.run(&["put", "src", "obj", "--metadata", "sealift-format=2"]).expect_error(2, "sealift-");
    sandbox.run(&["put", "src", "obj", "--metadata", "novalue"]).expect_error(2, "NAME=VALUE");
    sandbox.run(&["put", "src", "obj", "--encryption-context", "sealift:key=x"]).expect_error(2, "sealift:");
    sandbox.run(&["put", "src", "obj", "--metadata", &format!("a={}", "x".repeat(2048))]).expect_error(2, "2048");
    assert!(!sandbox.exists("obj"));
    assert_eq!(sandbox.uploads(), [""; 0]);
}

#[test]
fn encryption_context_can_be_demanded() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    sandbox.run(&["put", "src", "obj", "--encryption-context", "a=1", "--encryption-context", "b=2"]).expect(0);
    sandbox.run(&["cat", "obj", "--encryption-context", "a=1"]).expect(0);
    for pair in ["a=2", "c=1"] {
        for command in
            [&["cat", "obj"][..], &["get", "obj", "out"], &["stat", "obj"], &["verify", "obj"], &["data-key", "obj"]]
        {
            sandbox.run(&[command, &["--encryption-context", pair]].concat()).expect_error(4, "encryption context");
        }
    }
    assert!(!sandbox.exists("out"));
}

#[test]
fn what_is_not_there_is_3() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    let run = sandbox.run(&["put", "none", "obj"]).expect_error(3, "none");
    assert!(run.stderr().contains("hint: it was looked for in /"), "{}", run.stderr());
    sandbox.run(&["put", "-r", "none", "dir"]).expect_error(3, "hint: it was looked for in /");
    sandbox.run(&["put", "discard:", "src"]).expect_error(3, "sealift put FILE URL");
    assert!(!sandbox.exists("home"), "no key store is made for a source that is not there");
    sandbox.run(&["put", "src", "obj"]).expect(0);
    for command in ["cat", "stat", "verify", "rm", "data-key"] {
        sandbox.run(&[command, "none"]).expect_error(3, "none");
        sandbox.run(&[command, "no/dir/none"]).expect_error(3, "none");
    }
    sandbox.run(&["get", "none", "out"]).expect_error(3, "none");
    sandbox.run(&["get", "none", "no/dir/out"]).expect_error(3, "there is no directory no/dir");
    sandbox.run(&["uploads", "resume", "0123"]).expect_error(3, "0123");
    sandbox.run(&["uploads", "abort", "0123"]).expect_error(3, "0123");
}

#[test]
fn wrong_usage_is_2() {
    let sandbox = Sandbox::new();
    for command in [
        &[][..],
        &["fly"],
        &["put"],
        &["put", "a", "b", "c"],
        &["put", "a", "b", "--no-such-flag"],
        &["put", "a", "b", "--threads", "0"],
        &["put", "a", "b", "--quiet", "--json"],
        &["cat", "a", "--json"],
        &["uploads"],
        &["kms"],
        &["completions", "cobol"],
    ] {
        let run = sandbox.run(command).expect(2);
        assert!(run.stdout().is_empty() && !run.stderr().is_empty(), "{command:?}");
    }
    sandbox.run(&["put", ".", "obj"]).expect_error(2, "directory");
}

//! Objects, stores and disks that are not what they should be: the documented exit code, and nothing written over.

use std::fs;

use crate::support::{Sandbox, noise, run_in_namespace};

/// Every command that opens the object `store/obj` ends with 4, and a file that was there stays.
#[track_caller]
fn refused(sandbox: &Sandbox, why: &str) {
    sandbox.write("dest", b"precious");
    for command in [
        &["get", "store/obj", "out"][..],
        &["get", "store/obj", "dest", "--force"],
        &["verify", "store/obj"],
        &["verify", "store/obj", "--against", "src"],
    ] {
        let run = sandbox.run(command).expect(4);
        assert!(run.stdout().is_empty() && run.stderr().contains("error: "), "{why}: {}", run.stderr());
    }
    assert_eq!(sandbox.read("dest"), b"precious", "{why}");
    assert!(!sandbox.exists("out"), "{why}");
    assert!(
        sandbox.list(".").iter().all(|name| !name.starts_with(".sealift-partial")),
        "{why}: {:?}",
        sandbox.list(".")
    );
    let plain = sandbox.read("src");
    let cat = sandbox.run(&["cat", "store/obj"]).expect(4);
    assert!(plain.starts_with(cat.bytes()), "{why}: something else than the plaintext was printed");
}

struct Victim {
    sandbox: Sandbox,
    body: Vec<u8>,
    envelope: Vec<u8>,
}

impl Victim {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.random_file("src", 300_000);
        sandbox.run(&["put", "src", "store/obj", "--part-size", "100K"]).expect(0);
        let body = sandbox.read("store/obj");
        let envelope = fs::read(sandbox.envelope_file("store", "obj")).unwrap();
        Self { sandbox, body, envelope }
    }

    /// Another body, with the envelope it had.
    fn with_body(&self, body: &[u8]) -> &Sandbox {
        fs::remove_dir_all(self.sandbox.path("store/.sealift")).unwrap();
        fs::create_dir(self.sandbox.path("store/.sealift")).unwrap();
        let head: String = body.iter().take(24).map(|byte| format!("{byte:02x}")).collect();
        self.sandbox.write(&format!("store/.sealift/obj.{head}.json"), &self.envelope);
        self.sandbox.write("store/obj", body);
        &self.sandbox
    }
}

#[test]
fn a_truncated_object_is_refused() {
    let victim = Victim::new();
    let len = victim.body.len();
    for cut in [1, 8, 100, 1000, len / 2, len - 24, len - 1] {
        refused(victim.with_body(&victim.body[..len - cut]), &format!("{cut} bytes short"));
    }
    refused(victim.with_body(b""), "empty");
    refused(victim.with_body(&[&victim.body[..], b"x"].concat()), "longer");
}

#[test]
fn a_flipped_bit_is_refused() {
    let victim = Victim::new();
    let len = victim.body.len();
    for at in [0, 24, 55, 56, 16_456, len / 3, len / 2, len - 200, len - 12, len - 9, len - 8, len - 1] {
        let mut body = victim.body.clone();
        body[at] ^= 0x10;
        refused(victim.with_body(&body), &format!("byte {at}"));
    }
}

#[test]
fn s07_another_sealing_in_its_place_is_refused() {
    let victim = Victim::new();
    let sandbox = &victim.sandbox;
    sandbox.run(&["put", "src", "other/obj", "--part-size", "100K"]).expect(0);
    // The body of another object of the same bytes and the same key.
    refused(victim.with_body(&sandbox.read("other/obj")), "swapped");
    // Parts swapped within one body: all sealed to 100 KiB and what sealing adds.
    let part = 102_400 + 56 + 16 * 7;
    let (one, two, rest) = (&victim.body[..part], &victim.body[part..2 * part], &victim.body[2 * part..]);
    refused(victim.with_body(&[two, one, rest].concat()), "parts swapped");
    refused(victim.with_body(&[one, one, rest].concat()), "a part repeated");
    refused(victim.with_body(&[one, rest].concat()), "a part left out");
}

#[test]
fn s09_a_stripped_envelope_is_not_sealed() {
    let victim = Victim::new();
    let sandbox = &victim.sandbox;
    let envelope = sandbox.envelope_file("store", "obj");
    fs::remove_file(&envelope).unwrap();
    refused(sandbox, "no envelope");
    let run = sandbox.run(&["stat", "store/obj"]).expect_error(4, "no envelope");
    assert!(run.stderr().contains(envelope.to_str().unwrap()), "the place is named: {}", run.stderr());
    sandbox.run(&["rm", "store/obj"]).expect(4);

    let text = String::from_utf8(victim.envelope.clone()).unwrap();
    for (from, to) in [("COBBLESTONE-256", "COBBLESTONE-128"), ("\"1\"", "\"2\""), ("sealift-cipher", "sealift-cypher")]
    {
        assert!(text.contains(from), "{text}");
        fs::write(&envelope, text.replace(from, to)).unwrap();
        refused(sandbox, &format!("{to} for {from}"));
    }
    fs::write(&envelope, "{").unwrap();
    refused(sandbox, "half an envelope");
}

#[test]
fn plain_files_are_not_sealed() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    sandbox.run(&["put", "src", "other"]).expect(0);
    fs::create_dir(sandbox.path("store")).unwrap();
    for content in [&b""[..], b"some text", &noise(200_000)] {
        sandbox.write("store/obj", content);
        sandbox.run(&["cat", "store/obj"]).expect_error(4, "no envelope");
    }
}

#[test]
fn a_wrong_key_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    for (name, byte) in [("right.key", 1), ("wrong.key", 2)] {
        sandbox.write(name, &[byte; 32]);
    }
    sandbox.run(&["put", "src", "obj", "--key-file", "right.key"]).expect(0);
    sandbox.write("dest", b"precious");
    sandbox.run(&["get", "obj", "dest", "--force", "--key-file", "wrong.key"]).expect_error(5, "key");
    assert_eq!(sandbox.read("dest"), b"precious");

    // The right name, the wrong key.
    let envelope = sandbox.envelope_file(".", "obj");
    let text = fs::read_to_string(&envelope).unwrap();
    let id = |key: &str| {
        let put = sandbox.run(&["put", "src", "discard:", "--json", "--key-file", key]).expect(0).json();
        put["data_keys"][0]["key"].as_str().unwrap().to_owned()
    };
    fs::write(&envelope, text.replace(&id("right.key"), &id("wrong.key"))).unwrap();
    sandbox.run(&["get", "obj", "dest", "--force", "--key-file", "wrong.key"]).expect_error(4, "key");
    assert_eq!(sandbox.read("dest"), b"precious");
}

#[test]
fn s27_a_full_disk_is_one_clear_error_and_nothing_is_written_over() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 3_000_000);
    sandbox.write("small", b"small");
    sandbox.run(&["put", "src", "obj"]).expect(0);
    let script = r#"
        mount -t tmpfs -o size=1m none "$MNT"
        "$SEALIFT" put small "$MNT/obj"
        echo old > "$MNT/dest"
        code=0; "$SEALIFT" put src "$MNT/obj" || code=$?
        echo "put $code"
        code=0; "$SEALIFT" get obj "$MNT/dest" --force || code=$?
        echo "get $code"
        "$SEALIFT" cat "$MNT/obj"; echo
        cat "$MNT/dest"
        ls -A "$MNT"
    "#;
    let run = run_in_namespace(&sandbox, script).expect(0);
    let out = run.stdout();
    let lines: Vec<_> = out.lines().skip(1).collect();
    assert_eq!(lines, ["put 7", "get 7", "small", "old", ".sealift", "dest", "obj"], "{}", run.stderr());
    let dest = format!("writing {}", sandbox.path("mnt/dest").display());
    for text in ["No space left", "sealift uploads resume ", &dest] {
        assert!(run.stderr().contains(text), "{text:?} is not in {}", run.stderr());
    }
}

#[test]
fn s27_a_spool_that_is_full_or_read_only_is_one_clear_error() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 20_000_000);
    sandbox.write("small", b"small");
    sandbox.run(&["put", "small", "obj"]).expect(0);
    let script = r#"
        mount -t tmpfs -o size=6m none "$MNT"
        set -- --memory-budget 24M --threads 1 --part-size 8M --spool-dir "$MNT"
        code=0; "$SEALIFT" put - obj "$@" < src || code=$?
        echo "full $code"
        ls -A "$MNT"
        mount -o remount,ro "$MNT"
        code=0; "$SEALIFT" put - obj "$@" < src || code=$?
        echo "read-only $code"
        "$SEALIFT" cat obj
    "#;
    let run = run_in_namespace(&sandbox, script).expect(0);
    assert_eq!(run.stdout().lines().collect::<Vec<_>>(), ["full 7", "read-only 7", "small"], "{}", run.stderr());
    for text in ["No space left", "Read-only", "spool directory"] {
        assert!(run.stderr().contains(text), "{text:?} is not in {}", run.stderr());
    }
    assert_eq!(sandbox.uploads(), [""; 0]);
}

#[test]
fn s27_a_read_only_directory_is_one_clear_error() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 100_000);
    let script = r#"
        mount -t tmpfs none "$MNT"
        echo old > old
        "$SEALIFT" put old "$MNT/obj" --quiet
        mount -o remount,ro "$MNT"
        for command in "put src $MNT/obj" "put src $MNT/new/obj" "get $MNT/obj $MNT/out" "rm $MNT/obj" "mv $MNT/obj $MNT/other"; do
            code=0; "$SEALIFT" $command || code=$?
            echo "$code"
        done
        "$SEALIFT" cat "$MNT/obj"
        "$SEALIFT" uploads list
    "#;
    let run = run_in_namespace(&sandbox, script).expect(0);
    assert_eq!(run.stdout(), "7\n7\n7\n7\n7\nold\n", "{}", run.stderr());
    assert!(run.stderr().contains("Read-only file system"), "{}", run.stderr());
}

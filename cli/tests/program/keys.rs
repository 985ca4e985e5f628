//! Key store, key files, backups.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Run, Sandbox};

fn private_file(sandbox: &Sandbox, name: &str, bytes: &[u8]) {
    sandbox.write(name, bytes);
    fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_first_put_makes_the_key_store_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    let run = sandbox.run(&["put", "src", "obj"]).expect(0);
    for part in ["home/kms", "alias/default", "BACK IT UP", "sealift kms export-backup FILE"] {
        assert!(run.stderr().contains(part), "{part} is not in\n{}", run.stderr());
    }
    let mode = |name: &str| fs::metadata(sandbox.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("home/kms"), 0o700);
    assert_eq!(mode("home/kms/root.key"), 0o600);
    let text = sandbox.run(&["kms", "list-keys"]).expect(0).stdout();
    assert!(text.contains("alias/default") && text.lines().count() == 1, "{text}");
}

#[test]
fn without_sealift_home_it_is_the_data_directory() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    let mut command = sandbox.command(["put", "src", "obj"]);
    command.env_remove("SEALIFT_HOME").env_remove("XDG_DATA_HOME").env("HOME", sandbox.path("me"));
    Run::of(&mut command).expect(0);
    #[cfg(target_os = "linux")]
    assert!(sandbox.exists("me/.local/share/sealift/kms/root.key"));
}

#[test]
fn a_missing_key_store_is_5_for_readers_and_makes_none() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "obj"]).expect(0);
    fs::rename(sandbox.path("home"), sandbox.path("elsewhere")).unwrap();
    for command in [&["cat", "obj"][..], &["get", "obj", "out"], &["verify", "obj"], &["data-key", "obj"]] {
        let run = sandbox.run(command).expect_error(5, "key store");
        assert!(run.stderr().contains("hint: ") && run.stderr().contains("import-backup"), "{}", run.stderr());
    }
    sandbox.run(&["kms", "list-keys"]).expect_error(5, "key store");
    sandbox.run(&["kms", "export-backup", "backup"]).expect_error(5, "key store");
    assert!(!sandbox.exists("home") && !sandbox.exists("out") && !sandbox.exists("backup"));

    // stat tells what the envelope says.
    let stat = sandbox.run(&["stat", "obj", "--json"]).expect(5);
    let json = stat.json();
    assert!(json["plain_len"].is_null() && json["parts"].is_null());
    assert_eq!(json["sealed_len"], sandbox.read("obj").len());
    assert_eq!(json["data_keys"][0]["kms"], "local");
    assert!(stat.stderr().contains("error: "));

    fs::rename(sandbox.path("elsewhere"), sandbox.path("home")).unwrap();
    assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), plain);
    fs::remove_file(sandbox.path("home/kms/root.key")).unwrap();
    sandbox.run(&["cat", "obj"]).expect_error(5, "root key");
    sandbox.run(&["put", "src", "obj"]).expect_error(5, "root key");
    assert!(!sandbox.exists("home/kms/root.key"), "a key store that lost its root key is not given another");
}

#[test]
fn another_key_store_does_not_open() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    sandbox.run(&["put", "src", "obj"]).expect(0);
    let other = |args: &[&str]| Run::of(sandbox.command(args).env("SEALIFT_HOME", sandbox.path("other")));
    other(&["put", "src", "theirs"]).expect(0);
    other(&["cat", "obj"]).expect_error(5, "key");
    sandbox.run(&["cat", "theirs"]).expect_error(5, "key");
}

#[test]
fn s26_a_key_that_is_not_there_is_refused_before_anything_is_sent() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    let run = sandbox.run(&["put", "src", "store/obj", "--kms-key", "alias/none"]).expect_error(5, "no key alias/none");
    for hint in ["sealift kms create-key", "sealift kms create-alias", "without --kms-key"] {
        assert!(run.stderr().contains(hint), "{hint} is not in\n{}", run.stderr());
    }
    assert!(!sandbox.exists("home/kms"), "a key store is not made for a key that it would not have");
    sandbox.run(&["put", "src", "other"]).expect(0);
    let run = sandbox.run(&["put", "src", "store/obj", "--kms-key", "alias/none"]).expect_error(5, "alias/none");
    assert!(run.stderr().contains("sealift kms list-keys"), "{}", run.stderr());
    sandbox.run(&["put", "src", "store/obj", "--key-file", "none"]).expect_error(5, "none");
    assert!(!sandbox.exists("store"));
    assert_eq!(sandbox.uploads(), [""; 0]);
}

#[test]
fn s26_each_recipient_opens_alone() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    private_file(&sandbox, "one.key", &[1; 32]);
    private_file(&sandbox, "two.key", &[2; 32]);
    private_file(&sandbox, "three.key", &[3; 32]);
    let files = ["--key-file", "one.key", "--key-file", "two.key"];
    let put =
        sandbox.run(&[&["put", "src", "obj", "--json", "--kms-key", "alias/default"], &files[..]].concat()).expect(0);
    let kms: Vec<_> = put.json()["data_keys"].as_array().unwrap().iter().map(|key| key["kms"].clone()).collect();
    assert_eq!(kms, ["local", "key-file", "key-file"]);

    let verified = sandbox.run(&["verify", "obj", "--json", "--key-file", "two.key"]).expect(0).json();
    let opened: Vec<_> = verified["data_keys"].as_array().unwrap().iter().map(|key| key["opened"].clone()).collect();
    assert_eq!(opened, [true, false, true]);

    fs::rename(sandbox.path("home"), sandbox.path("elsewhere")).unwrap();
    for key in ["one.key", "two.key"] {
        assert_eq!(sandbox.run(&["cat", "obj", "--key-file", key]).expect(0).bytes(), plain);
    }
    let run = sandbox.run(&["cat", "obj", "--key-file", "three.key"]).expect_error(5, "key");
    assert!(run.stderr().contains("not among those given"), "{}", run.stderr());
    assert!(!sandbox.exists("home"));
}

#[test]
fn a_key_file_leaves_the_key_store_alone() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    private_file(&sandbox, "raw.key", b"0123456789abcdef0123456789abcdef");
    private_file(&sandbox, "base64.key", b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    sandbox.run(&["put", "src", "obj", "--key-file", "raw.key"]).expect(0);
    assert!(!sandbox.exists("home/kms"));
    for key in ["raw.key", "base64.key"] {
        for command in [
            &["cat", "obj"][..],
            &["get", "obj", "out", "--force"],
            &["stat", "obj"],
            &["verify", "obj"],
            &["data-key", "obj"],
        ] {
            sandbox.run(&[command, &["--key-file", key]].concat()).expect(0);
        }
        assert_eq!(sandbox.read("out"), plain);
    }
    let run = sandbox.run(&["cat", "obj"]).expect_error(5, "key-file");
    assert!(run.stderr().contains("--key-file FILE"), "{}", run.stderr());

    private_file(&sandbox, "short.key", &[1; 31]);
    sandbox.run(&["put", "src", "obj", "--key-file", "short.key"]).expect_error(5, "32 bytes");
    fs::set_permissions(sandbox.path("raw.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = sandbox.run(&["cat", "obj", "--key-file", "raw.key"]).expect(0);
    assert!(run.stderr().contains("warning") && run.stderr().contains("chmod 600"), "{}", run.stderr());
}

#[test]
fn kms_key_on_a_reader_trusts_that_one_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    private_file(&sandbox, "one.key", &[1; 32]);
    sandbox.run(&["put", "src", "obj"]).expect(0);
    let id = sandbox.run(&["kms", "list-keys", "--json"]).expect(0).json()[0]["key_id"].as_str().unwrap().to_owned();
    for key in ["alias/default", &id] {
        sandbox.run(&["cat", "obj", "--kms-key", key]).expect(0);
        sandbox.run(&["put", "src", "obj", "--kms-key", key]).expect(0);
    }
    sandbox.run(&["cat", "obj", "--kms-key", "alias/none"]).expect_error(5, "alias/none");
    sandbox.run(&["put", "src", "obj", "--kms-key", &id, "--kms-key", "alias/default"]).expect_error(2, "twice");
}

#[test]
fn verify_tells_of_keys_that_it_could_not_use() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    private_file(&sandbox, "my.key", &[1; 32]);
    sandbox.run(&["put", "src", "obj", "--kms-key", "alias/default", "--key-file", "my.key"]).expect(0);
    sandbox.run(&["kms", "disable-key", "alias/default"]).expect(0);
    let run = sandbox.run(&["verify", "obj", "--key-file", "my.key"]).expect(0);
    let told = "not opened, because its key is not here or cannot be used now: local ";
    assert!(run.stdout().contains(told), "the key is here: {}", run.stdout());
}

#[test]
fn the_root_key_can_come_from_the_environment() {
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    let with = |key: &str, args: &[&str]| Run::of(sandbox.command(args).env("SEALIFT_ROOT_KEY", key));
    let run = with(KEY, &["put", "src", "obj"]).expect(0);
    assert!(run.stderr().contains("SEALIFT_ROOT_KEY"), "{}", run.stderr());
    assert!(!sandbox.exists("home/kms/root.key"));
    with(KEY, &["cat", "obj"]).expect(0);
    sandbox.run(&["cat", "obj"]).expect_error(5, "root key");
    with(&KEY.replace('M', "N"), &["cat", "obj"]).expect_error(5, "root key");
    with("nonsense", &["cat", "obj"]).expect_error(5, "SEALIFT_ROOT_KEY");
    with("nonsense", &["put", "src", "obj"]).expect_error(5, "SEALIFT_ROOT_KEY");
}

#[test]
fn a_backup_restores_the_key_store() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "obj"]).expect(0);
    private_file(&sandbox, "passphrase", b"correct horse\n");
    let with_file = ["--passphrase-file", "passphrase"];
    let with_env =
        |passphrase: &str, args: &[&str]| Run::of(sandbox.command(args).env("SEALIFT_BACKUP_PASSPHRASE", passphrase));

    sandbox.run(&["kms", "export-backup", "backup"]).expect_error(2, "SEALIFT_BACKUP_PASSPHRASE");
    with_env("", &["kms", "export-backup", "backup"]).expect_error(2, "empty");
    assert!(!sandbox.exists("backup"));
    sandbox.run(&[&["kms", "export-backup", "backup"], &with_file[..]].concat()).expect(0);
    assert_eq!(fs::metadata(sandbox.path("backup")).unwrap().permissions().mode() & 0o777, 0o600);
    sandbox.run(&[&["kms", "export-backup", "backup"], &with_file[..]].concat()).expect_error(1, "--force");
    let to_stdout = with_env("correct horse", &["kms", "export-backup", "-"]).expect(0);
    assert!(to_stdout.bytes().starts_with(b"age-encryption.org/v1"));

    with_env("correct horse", &["kms", "import-backup", "backup"]).expect_error(1, "SEALIFT_HOME");
    fs::rename(sandbox.path("home/kms"), sandbox.path("lost")).unwrap();
    with_env("wrong", &["kms", "import-backup", "backup"]).expect_error(4, "passphrase");
    with_env("correct horse", &["kms", "import-backup", "src"]).expect(4);
    with_env("correct horse", &["kms", "import-backup", "none"]).expect_error(3, "none");
    assert!(!sandbox.exists("home/kms"));
    with_env("correct horse", &["kms", "import-backup", "backup"]).expect(0);
    assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), plain);

    for (root_key, is_used) in [("", false), ("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", true)] {
        fs::remove_dir_all(sandbox.path("home/kms")).unwrap();
        let args = [&["kms", "import-backup", "backup"], &with_file[..]].concat();
        let run = Run::of(sandbox.command(args).env("SEALIFT_ROOT_KEY", root_key)).expect(0);
        assert_eq!(run.stderr().contains("SEALIFT_ROOT_KEY is set"), is_used, "{}", run.stderr());
    }

    fs::remove_dir_all(sandbox.path("home/kms")).unwrap();
    sandbox.run_with_input(&[&["kms", "import-backup", "-"], &with_file[..]].concat(), to_stdout.bytes()).expect(0);
    assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), plain);
}

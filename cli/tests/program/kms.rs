//! `kms`: the whole life of a key, and bring your own key with material that OpenSSL wrapped.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::{Run, Sandbox, noise, wait};

const OAEP_SHA_256: [&str; 3] = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"];

/// The options that name the files of [`KeyStore::parameters`] and [`KeyStore::wrap`].
const FILES: [&str; 4] = ["--import-token", "token", "--encrypted-key-material", "wrapped"];

/// A sandbox, and what a person does with its keys.
struct KeyStore {
    sandbox: Sandbox,
}

impl KeyStore {
    /// With a file `src` to seal.
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("src", b"for our eyes only");
        Self { sandbox }
    }

    fn kms(&self, args: &[&str]) -> Run {
        self.sandbox.run(&[&["kms"], args].concat())
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        self.kms(&[args, &["--json"]].concat()).expect(0).json()
    }

    #[track_caller]
    fn create(&self, origin: &str) -> String {
        let id = self.kms(&["create-key", "--origin", origin]).expect(0).stdout();
        id.strip_suffix('\n').unwrap().to_owned()
    }

    #[track_caller]
    fn state(&self, key: &str) -> String {
        self.json(&["describe-key", key])["key_state"].as_str().unwrap().to_owned()
    }

    /// The files `public.der` and `token`.
    #[track_caller]
    fn parameters(&self, key: &str, options: &[&str]) {
        let files = ["--public-key-out", "public.der", "--import-token-out", "token", "--force"];
        self.kms(&[&["get-parameters-for-import", key], &files[..], options].concat()).expect(0);
    }

    /// The file `wrapped`: `material`, wrapped by OpenSSL with `public.der`.
    fn wrap(&self, material: &[u8], options: &[&str]) {
        self.sandbox.write("material", material);
        let mut command = Command::new("openssl");
        command.args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public.der"]);
        command.args(["-in", "material", "-out", "wrapped"]).current_dir(self.sandbox.path("."));
        command.args(options.iter().flat_map(|option| ["-pkeyopt", option]));
        let status = command.status().expect("these tests need the program `openssl`: apt-get install openssl");
        assert!(status.success(), "{command:?}");
    }

    /// Imports `material` into `key`.
    #[track_caller]
    fn import(&self, key: &str, material: &[u8]) {
        self.parameters(key, &[]);
        self.wrap(material, &OAEP_SHA_256);
        self.kms(&[&["import-key-material", key], &FILES[..]].concat()).expect(0);
    }

    fn put(&self, key: &str, object: &str) -> Run {
        self.sandbox.run(&["put", "src", object, "--kms-key", key])
    }

    fn cat(&self, object: &str) -> Run {
        self.sandbox.run(&["cat", object])
    }

    #[track_caller]
    fn opens(&self, object: &str) {
        assert_eq!(self.cat(object).expect(0).bytes(), b"for our eyes only");
    }
}

/// RFC 3339 in UTC, `from_now` ahead.
fn time(from_now: Duration) -> String {
    let at = SystemTime::now() + from_now;
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let output = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn create_key_makes_the_key_store_and_says_so() {
    let store = KeyStore::new();
    let run = store.kms(&["create-key"]).expect(0);
    let id = run.stdout().trim().to_owned();
    assert_eq!((id.len(), run.stdout().lines().count()), (36, 1), "the id alone is on stdout: {}", run.stdout());
    for part in ["home/kms", "alias/default", "BACK IT UP", "sealift kms export-backup FILE"] {
        assert!(run.stderr().contains(part), "{part} is not in\n{}", run.stderr());
    }
    let run = store.kms(&["create-key", "--origin", "external"]).expect(0);
    assert!(!run.stderr().contains("BACK IT UP"));
    let next = format!("sealift kms get-parameters-for-import {}", run.stdout().trim());
    assert!(run.stderr().contains(&next), "{}", run.stderr());

    assert_eq!(store.json(&["list-keys"]).as_array().unwrap().len(), 3, "the first key, and two more");
    store.put(&id, "obj").expect(0);
    store.opens("obj");
}

#[test]
fn the_other_commands_make_no_key_store() {
    let store = KeyStore::new();
    for command in [
        &["describe-key", "alias/default"][..],
        &["list-keys"],
        &["list-aliases"],
        &["disable-key", "alias/default"],
        &["create-alias", "alias/a", "alias/default"],
        &["get-parameters-for-import", "alias/default"],
    ] {
        store.kms(command).expect_error(5, "no key store");
    }
    assert!(!store.sandbox.exists("home"));
}

/// The names and values that scripts rely on.
#[test]
fn a_key_is_one_flat_object() {
    let store = KeyStore::new();
    let key = store.json(&["create-key", "--description", "of web1", "--tag", "team=web", "--tag", "empty="]);
    let names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "aliases",
        "creation_date",
        "delete_date",
        "description",
        "key_id",
        "key_state",
        "material_expire_time",
        "origin",
        "primary_key_version",
        "tags",
    ];
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from(expected));
    let id = key["key_id"].as_str().unwrap();
    assert_eq!((&key["key_state"], &key["origin"]), (&Value::from("Enabled"), &Value::from("local")));
    assert_eq!((&key["description"], &key["primary_key_version"]), (&Value::from("of web1"), &Value::from(1)));
    assert_eq!(key["tags"], serde_json::json!({"team": "web", "empty": ""}));
    assert_eq!(key["aliases"], serde_json::json!([]));
    assert!(key["material_expire_time"].is_null() && key["delete_date"].is_null());
    is_time(&key["creation_date"]);

    assert_eq!(store.json(&["describe-key", id]), key);
    assert!(store.json(&["list-keys"]).as_array().unwrap().contains(&key));
    let external = store.json(&["create-key", "--origin", "external"]);
    assert_eq!(
        (&external["key_state"], &external["origin"]),
        (&Value::from("PendingImport"), &Value::from("external"))
    );
    assert!(external["primary_key_version"].is_null());

    // What changes a key prints what it is then.
    for (command, name, value) in [
        (&["update-description", id, "of web2"][..], "description", Value::from("of web2")),
        (&["tag-key", id, "team=db", "a=b=c"], "tags", serde_json::json!({"team": "db", "empty": "", "a": "b=c"})),
        (&["untag-key", id, "team", "empty"], "tags", serde_json::json!({"a": "b=c"})),
        (&["rotate-key", id], "primary_key_version", Value::from(2)),
        (&["disable-key", id], "key_state", Value::from("Disabled")),
        (&["enable-key", id], "key_state", Value::from("Enabled")),
        (&["schedule-key-deletion", id, "--days", "7"], "key_state", Value::from("PendingDeletion")),
        (&["cancel-key-deletion", id], "delete_date", Value::Null),
    ] {
        let changed = store.json(command);
        assert_eq!((&changed["key_id"], &changed[name]), (&key["key_id"], &value), "{command:?}");
        assert_eq!(store.json(&["describe-key", id]), changed, "{command:?}");
    }
    is_time(&store.json(&["schedule-key-deletion", id])["delete_date"]);
}

#[track_caller]
fn is_time(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z", "{value}");
}

#[test]
fn people_read_text() {
    let store = KeyStore::new();
    let id = store.create("local");
    store.kms(&["create-alias", "alias/web", &id]).expect(0);
    store.kms(&["update-description", "alias/web", "of web1\u{1b}[2J"]).expect(0);
    store.kms(&["tag-key", "alias/web", "team=web"]).expect(0);
    let text = store.kms(&["describe-key", "alias/web"]).expect(0).stdout();
    for part in [&id, "Enabled", "local", "alias/web", r"of web1\u{1b}[2J", "team=web"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let list = store.kms(&["list-keys"]).expect(0).stdout();
    let line = list.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("Enabled") && line.contains("alias/web") && !line.contains('\u{1b}'), "{line}");

    let said = store.kms(&["disable-key", "alias/web"]).expect(0).stdout();
    assert!(said.starts_with(&format!("{id}: disabled")), "{said}");
    assert_eq!(store.kms(&["enable-key", "alias/web", "--quiet"]).expect(0).stdout(), "");
    let said = store.kms(&["schedule-key-deletion", "alias/web"]).expect(0).stdout();
    assert!(said.contains(&format!("sealift kms cancel-key-deletion {id}")), "{said}");
}

#[test]
fn aliases_stand_for_keys() {
    let store = KeyStore::new();
    let (one, two) = (store.create("local"), store.create("local"));
    let alias = |name: &str, id: &str| serde_json::json!({"alias": name, "key_id": id});
    assert_eq!(store.json(&["create-alias", "alias/a", &one]), alias("alias/a", &one));
    store.put("alias/a", "first").expect(0);

    let run = store.kms(&["create-alias", "alias/a", &two]).expect_error(1, "exists");
    assert!(run.stderr().contains(&format!("sealift kms update-alias alias/a {two}")), "{}", run.stderr());
    assert_eq!(store.json(&["update-alias", "alias/a", &two]), alias("alias/a", &two));
    let listed = store.json(&["list-aliases"]);
    assert_eq!(listed[0], alias("alias/a", &two));
    assert_eq!(listed[1]["alias"], "alias/default");
    assert_eq!(store.json(&["describe-key", &two])["aliases"], serde_json::json!(["alias/a"]));
    assert_eq!(store.json(&["describe-key", &one])["aliases"], serde_json::json!([]));

    store.put("alias/a", "second").expect(0);
    for (object, key) in [("first", &one), ("second", &two)] {
        let stat = store.sandbox.run(&["stat", object, "--json"]).expect(0).json();
        assert_eq!(stat["data_keys"][0]["key"].as_str(), Some(key.as_str()), "objects name ids");
    }
    assert_eq!(store.json(&["delete-alias", "alias/a"]), alias("alias/a", &two));
    store.opens("first");
    store.opens("second");
    store.put("alias/a", "third").expect_error(5, "alias/a");
    store.kms(&["describe-key", "alias/a"]).expect_error(5, "alias/a");

    store.kms(&["create-alias", "a", &one]).expect_error(2, "alias/");
    store.kms(&["create-alias", "alias/b", "alias/none"]).expect_error(5, "alias/none");
}

#[test]
fn rotation_keeps_what_was_sealed_before() {
    let store = KeyStore::new();
    let id = store.create("local");
    for round in 1..4 {
        store.put(&id, &format!("obj{round}")).expect(0);
        let said = store.kms(&["rotate-key", &id]).expect(0).stdout();
        assert!(said.contains(&format!("version {}", round + 1)), "{said}");
    }
    for round in 1..4 {
        store.opens(&format!("obj{round}"));
    }
}

#[test]
fn material_is_imported_as_openssl_wraps_it() {
    let store = KeyStore::new();
    let sha_1 = &["rsa_padding_mode:oaep", "rsa_oaep_md:sha1", "rsa_mgf1_md:sha1"][..];
    for (algorithm, options, spec) in [
        ("RSAES_OAEP_SHA_256", &OAEP_SHA_256[..], "RSA_2048"),
        ("RSAES_OAEP_SHA_1", sha_1, "RSA_3072"),
        ("RSAES_PKCS1_V1_5", &["rsa_padding_mode:pkcs1"], "RSA_4096"),
    ] {
        let id = store.create("external");
        store.put(&id, "obj").expect_error(5, "PendingImport");
        store.parameters(&id, &["--wrapping-algorithm", algorithm, "--wrapping-key-spec", spec]);
        store.wrap(&noise(32), options);
        let key = store.json(&[&["import-key-material", &id], &FILES[..]].concat());
        assert_eq!((&key["key_state"], &key["primary_key_version"]), (&Value::from("Enabled"), &Value::from(1)));
        store.put(&id, "obj").expect(0);
        store.opens("obj");
        store.kms(&["rotate-key", &id]).expect_error(2, "external");
    }
}

#[test]
fn parameters_come_as_files_or_as_json() {
    let store = KeyStore::new();
    let id = store.create("external");
    let get = ["get-parameters-for-import", &id];
    let parameters = store.json(&[&get[..], &["--wrapping-key-spec", "RSA_3072"]].concat());
    let names: Vec<_> = parameters.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["import_token", "key_id", "public_key", "token_expire_time", "wrapping_algorithm", "wrapping_key_spec"];
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from(expected));
    assert_eq!(parameters["key_id"], id.as_str());
    assert_eq!(
        (&parameters["wrapping_algorithm"], &parameters["wrapping_key_spec"]),
        (&Value::from("RSAES_OAEP_SHA_256"), &Value::from("RSA_3072"))
    );
    is_time(&parameters["token_expire_time"]);

    // What JSON has in base64 works as a file, as it is and decoded.
    let decoded = |name: &str| STANDARD.decode(parameters[name].as_str().unwrap()).unwrap();
    store.sandbox.write("public.der", &decoded("public_key"));
    store.wrap(&noise(32), &OAEP_SHA_256);
    let wrapped = store.sandbox.read("wrapped");
    let lines = |bytes: &[u8]| {
        let text = STANDARD.encode(bytes);
        text.as_bytes().chunks(64).flat_map(|line| [line, b"\n"].concat()).collect::<Vec<_>>()
    };
    for (token, wrapped) in [
        (decoded("import_token"), wrapped.clone()),
        (parameters["import_token"].as_str().unwrap().as_bytes().to_vec(), lines(&wrapped)),
        (lines(&decoded("import_token")), STANDARD.encode(&wrapped).into_bytes()),
    ] {
        store.sandbox.write("token", &token);
        store.sandbox.write("wrapped", &wrapped);
        store.kms(&[&["import-key-material", &id], &FILES[..]].concat()).expect(0);
    }

    store.sandbox.write("there", b"precious");
    for option in ["--public-key-out", "--import-token-out"] {
        store.kms(&[&get[..], &[option, "there"]].concat()).expect_error(1, "--force");
        store.kms(&[&get[..], &[option, "-"]].concat()).expect_error(2, "--json");
        store.kms(&[&get[..], &[option, "no/dir"]].concat()).expect_error(3, "no/dir");
    }
    let same = ["--public-key-out", "same", "--import-token-out", "same"];
    store.kms(&[&get[..], &same].concat()).expect_error(2, "file each");
    assert!(store.sandbox.read("there") == b"precious" && !store.sandbox.exists("same"));
    let text = store.kms(&[&get[..], &["--public-key-out", "there", "--force"]].concat()).expect(0).stdout();
    assert!(text.contains("in there") && text.contains("RSAES_OAEP_SHA_256, RSA_2048"), "{text}");
    assert_ne!(store.sandbox.read("there"), b"precious");
}

#[test]
fn wrong_files_are_refused_with_what_to_do() {
    let store = KeyStore::new();
    let (id, other) = (store.create("external"), store.create("external"));
    store.parameters(&other, &[]);
    std::fs::rename(store.sandbox.path("token"), store.sandbox.path("token-of-other")).unwrap();
    store.parameters(&id, &[]);
    store.wrap(&noise(32), &OAEP_SHA_256);
    let text = |name: &str| STANDARD.encode(store.sandbox.read(name)).into_bytes();
    store.sandbox.write("token.base64", &text("token"));
    store.sandbox.write("wrapped.base64", &text("wrapped"));
    let mut damaged = store.sandbox.read("token");
    *damaged.last_mut().unwrap() ^= 1;
    store.sandbox.write("damaged", &damaged);
    store.sandbox.write("flipped", &store.sandbox.read("wrapped").iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
    store.sandbox.write("empty", b"");
    store.sandbox.write("blank", b"\n\n");
    store.sandbox.write("hex", "0123456789abcdef".repeat(32).as_bytes());
    store.sandbox.write("pem", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    store.sandbox.write("large", &noise(70_000));

    for (token, material, code, says) in [
        // Swapped, raw and in base64.
        ("wrapped", "token", 2, "--encrypted-key-material names"),
        ("wrapped.base64", "token.base64", 2, "--encrypted-key-material names"),
        ("wrapped", "wrapped", 2, "token"),
        // Not wrapped at all.
        ("token", "material", 2, "wrap the material"),
        ("token", "empty", 2, "empty is empty"),
        ("empty", "wrapped", 2, "empty is empty"),
        ("blank", "wrapped", 2, "blank is empty"),
        ("token", ".", 2, "directory"),
        (".", "wrapped", 2, "directory"),
        ("none", "wrapped", 3, "none"),
        ("token", "none", 3, "none"),
        ("token", "pem", 2, "not base64"),
        ("token", "hex", 2, "could not be unwrapped"),
        ("token", "flipped", 2, "could not be unwrapped"),
        ("token", "large", 2, "too large"),
        ("damaged", "wrapped", 2, "token"),
        ("public.der", "wrapped", 2, "token"),
        ("token-of-other", "wrapped", 2, "token"),
    ] {
        let files = ["--import-token", token, "--encrypted-key-material", material];
        let run = store.kms(&[&["import-key-material", &id], &files[..]].concat());
        run.expect_error(code, says);
        assert_eq!(store.state(&id), "PendingImport", "{token} {material}");
    }
    // Material of another length says no more than any other that does not unwrap.
    for len in [0, 1, 16, 31, 33, 64] {
        store.wrap(&noise(len), &OAEP_SHA_256);
        let run = store.kms(&[&["import-key-material", &id], &FILES[..]].concat());
        run.expect_error(2, "could not be unwrapped");
    }
    store.wrap(&noise(32), &OAEP_SHA_256);
    store.kms(&[&["import-key-material", &other], &FILES[..]].concat()).expect_error(2, "token");
    store.kms(&[&["import-key-material", &id], &FILES[..]].concat()).expect(0);
    store.kms(&[&["import-key-material", "alias/default"], &FILES[..]].concat()).expect_error(2, "local");
}

#[test]
fn s26_deleted_material_closes_objects_and_the_same_opens_them() {
    let store = KeyStore::new();
    let id = store.create("external");
    store.import(&id, &noise(32));
    store.put(&id, "obj").expect(0);
    let said = store.kms(&["delete-key-material", &id]).expect(0).stdout();
    assert!(said.contains("same material"), "{said}");

    let run = store.cat("obj").expect_error(5, "PendingImport");
    for part in [id.as_str(), "get-parameters-for-import", "import-key-material"] {
        assert!(run.stderr().contains(part), "{part} is not in {}", run.stderr());
    }
    store.wrap(&[7; 32], &OAEP_SHA_256);
    store.kms(&[&["import-key-material", &id], &FILES[..]].concat()).expect_error(2, "material");
    assert_eq!(store.state(&id), "PendingImport");
    store.import(&id, &noise(32));
    store.opens("obj");
    store.kms(&["delete-key-material", "alias/default"]).expect_error(2, "local");
}

#[test]
fn s26_expired_material_closes_objects_and_the_same_opens_them() {
    let store = KeyStore::new();
    let id = store.create("external");
    store.import(&id, &noise(32));
    store.put(&id, "obj").expect(0);
    let import =
        |expires: &str| store.kms(&[&["import-key-material", &id], &FILES[..], &["--expires", expires]].concat());

    let later = time(Duration::from_secs(1000));
    import(&later).expect(0);
    assert_eq!(store.json(&["describe-key", &id])["material_expire_time"], later.as_str());
    store.opens("obj");
    for past in ["1969-12-31T23:59:59Z", "2020-01-01T00:00:00+01:00"] {
        import(past).expect_error(2, "expire");
    }
    for no_time in ["tomorrow", "2030-01-01", "1893456000", ""] {
        import(no_time).expect_error(2, "RFC 3339");
    }

    // A moment ahead; further where this machine is too busy to import before it.
    let soon = (2..).map(|seconds| time(Duration::from_secs(seconds)));
    let imported = soon.take(60).find(|expires| import(expires).code() == Some(0));
    assert!(imported.is_some());
    wait("the material to expire", || (store.state(&id) == "PendingImport").then_some(()));
    let run = store.cat("obj").expect_error(5, "PendingImport");
    assert!(run.stderr().contains("get-parameters-for-import"), "{}", run.stderr());
    store.put(&id, "more").expect_error(5, "PendingImport");
    assert!(!store.sandbox.exists("more"));

    store.import(&id, &noise(32));
    store.opens("obj");
    assert!(store.json(&["describe-key", &id])["material_expire_time"].is_null());
}

#[test]
fn wrong_arguments_are_2() {
    let store = KeyStore::new();
    let id = store.create("local");
    for command in [
        &["create-key", "--origin", "EXTERNAL"][..],
        &["create-key", "--tag", "novalue"],
        &["describe-key"],
        &["schedule-key-deletion", &id, "--days", "6"],
        &["schedule-key-deletion", &id, "--days", "31"],
        &["tag-key", &id],
        &["tag-key", &id, "novalue"],
        &["untag-key", &id],
        &["create-alias", "alias/x"],
        &["get-parameters-for-import", &id, "--wrapping-algorithm", "RSA"],
        &["get-parameters-for-import", &id, "--wrapping-key-spec", "RSA_1024"],
        &["import-key-material", &id, "--import-token", "src"],
        &["get-parameters-for-import", &id],
    ] {
        let run = store.kms(command).expect(2);
        assert!(run.stdout().is_empty() && run.stderr().contains("error: "), "{command:?}: {}", run.stderr());
    }
    assert_eq!(store.state(&id), "Enabled");
    for key in ["alias/none", "none", "00000000-0000-4000-8000-000000000000"] {
        for command in ["describe-key", "enable-key", "disable-key", "rotate-key", "schedule-key-deletion"] {
            store.kms(&[command, key]).expect_error(5, key);
        }
    }
}

/// Whatever is done, and however much is logged, no secret is printed.
#[test]
fn no_secret_shows() {
    let store = KeyStore::new();
    let material = noise(32);
    let id = store.create("external");
    store.parameters(&id, &[]);
    store.wrap(&material, &OAEP_SHA_256);
    let mut said = Vec::new();
    let mut run = |args: &[&str]| {
        let run = Run::of(store.sandbox.command([args, &["-vv"]].concat()).env("RUST_LOG", "trace"));
        said.extend_from_slice(run.bytes());
        said.extend_from_slice(run.stderr().as_bytes());
    };
    let import = [&["kms", "import-key-material", &id], &FILES[..]].concat();
    for json in [&[][..], &["--json"]] {
        let mut run = |args: &[&str]| run(&[args, json].concat());
        run(&import);
        run(&["kms", "get-parameters-for-import", &id]);
        run(&["kms", "describe-key", &id]);
        run(&["kms", "list-keys"]);
        run(&["put", "src", "obj", "--kms-key", &id]);
        run(&["stat", "obj"]);
        run(&["get", "obj", "out", "--force"]);
        run(&["kms", "import-key-material", &id, "--import-token", "token", "--encrypted-key-material", "material"]);
        run(&["kms", "import-key-material", &id, "--import-token", "material", "--encrypted-key-material", "wrapped"]);
        run(&["kms", "delete-key-material", &id]);
        run(&["get", "obj", "out", "--force"]);
        run(&import);
        run(&["kms", "disable-key", &id]);
        run(&["verify", "obj"]);
        run(&["kms", "enable-key", &id]);
    }
    let data_key = store.sandbox.run(&["data-key", "obj"]).expect(0).stdout();
    let data_key = from_hex(data_key.trim());
    let root_key = STANDARD.decode(store.sandbox.read("home/kms/root.key").trim_ascii()).unwrap();
    assert!(said.len() > 10_000, "{}", String::from_utf8_lossy(&said));
    for (what, secret) in [("the material", material), ("the root key", root_key), ("the data key", data_key)] {
        assert_eq!(secret.len(), 32, "{what}");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let list: Vec<_> = secret.iter().map(u8::to_string).collect();
        let forms = [
            secret[..8].to_vec(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
            STANDARD.encode(&secret).into_bytes(),
        ];
        for mut form in forms.into_iter().chain([list.join(", ").into_bytes()]) {
            // A few bytes of it would be too many.
            form.truncate(16);
            let form = form.as_slice();
            assert!(
                !said.windows(form.len()).any(|window| window == form),
                "{what} shows, as {}",
                String::from_utf8_lossy(form)
            );
        }
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_table_of_operations_and_states_is_true() {
    const DOCUMENT: &str = include_str!("../../../docs/keys.md");
    let section = DOCUMENT.split("\n### local\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let rows: Vec<Vec<_>> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let (states, rows) = (&rows[0][1..], &rows[2..]);
    assert_eq!(states, ["Enabled", "Disabled", "PendingImport", "PendingDeletion"]);
    assert!(rows.len() > 12);
    let store = KeyStore::new();
    let mut wrong = Vec::new();
    for row in rows {
        for operation in row[0].split('`').skip(1).step_by(2) {
            for (state, cell) in states.iter().zip(&row[1..]) {
                let external = row[0].contains("origin external") || *state == "PendingImport";
                if *cell != "–"
                    && let Err(why) = check_cell(&store, operation, external, state, cell)
                {
                    wrong.push(format!("{operation} ({}) in {state}, documented as {cell:?}: {why}", row[0]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `operation` on a key in `state` ends as `cell` has it.
fn check_cell(store: &KeyStore, operation: &str, external: bool, state: &str, cell: &str) -> Result<(), String> {
    let id = store.create(if external { "external" } else { "local" });
    if external {
        store.import(&id, &noise(32));
    }
    store.put(&id, "obj").expect(0);
    let (alias, another) = (format!("alias/{id}"), format!("alias/another-{id}"));
    store.kms(&["create-alias", &alias, &id]).expect(0);
    store.kms(&["create-alias", "alias/moving", "alias/default"]);
    match state {
        "Disabled" => drop(store.kms(&["disable-key", &id]).expect(0)),
        "PendingImport" => drop(store.kms(&["delete-key-material", &id]).expect(0)),
        "PendingDeletion" => drop(store.kms(&["schedule-key-deletion", &id]).expect(0)),
        _ => {}
    }
    assert_eq!(store.state(&id), state);

    let run = match operation {
        "put" => store.put(&id, "other"),
        "get" => store.sandbox.run(&["get", "obj", "out", "--force"]),
        "verify" => store.sandbox.run(&["verify", "obj"]),
        "list-keys" => store.kms(&["list-keys"]),
        "update-description" => store.kms(&["update-description", &id, "text"]),
        "tag-key" => store.kms(&["tag-key", &id, "a=b"]),
        "untag-key" => store.kms(&["untag-key", &id, "a"]),
        "create-alias" => store.kms(&["create-alias", &another, &id]),
        "delete-alias" => store.kms(&["delete-alias", &alias]),
        "update-alias" => store.kms(&["update-alias", "alias/moving", &id]),
        "import-key-material" => store.kms(&[&["import-key-material", &id], &FILES[..]].concat()),
        _ => store.kms(&[operation, &id]),
    };
    store.kms(&["update-alias", "alias/moving", "alias/default"]).expect(0);
    let (code, now) = match cell.split_once(' ') {
        None if cell == "yes" => (0, state),
        Some(("→", now)) => (0, now),
        Some(("refused,", code)) => (code.parse().unwrap(), state),
        _ => panic!("{cell} is not how a cell is written"),
    };
    let (found, then) = (run.code(), store.state(&id));
    if found != Some(code) || then != now {
        return Err(format!("ended with {found:?}, then {then}: {}", run.stderr()));
    }
    if code == 5 && !(run.stderr().contains(state) && run.stderr().contains(&id)) {
        return Err(format!("does not name key and state: {}", run.stderr()));
    }
    Ok(())
}

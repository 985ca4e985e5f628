//! `kms`: bring your own key, with material that OpenSSL wrapped.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::key_store::{FILES, KeyStore, OAEP_SHA_256, is_time};
use crate::support::{Run, noise, wait};

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

/// RFC 3339 in UTC, `from_now` ahead.
fn time(from_now: Duration) -> String {
    let at = SystemTime::now() + from_now;
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let output = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

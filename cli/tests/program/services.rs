//! Key services other than the local key store, as `--kms-key` names them. Each service's own tests are the library's.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::stub::{Reply, Stub};
use crate::support::{Run, Sandbox};

pub(crate) const ARN: &str = "arn:aws:kms:eu-west-1:123456789012:key/7799f07d-03b7-497c-80a6-a412c20b26c2";
/// The numbers 0 to 31 in base64.
pub(crate) const DATA_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Runs the program with nothing that could lead it to a real service.
pub(crate) fn run(sandbox: &Sandbox, env: &[(&str, &str)], args: &[&str]) -> Run {
    let mut command = sandbox.command(args);
    let is_of_a_service = |name: &OsString| {
        let services = ["AWS_", "VAULT_", "BAO_", "ALIBABA", "ALICLOUD", "SEALIFT_ALIYUN", "SEALIFT_PKCS11"];
        name.to_str().is_some_and(|name| services.iter().any(|service| name.starts_with(service)))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_service(name)) {
        command.env_remove(name);
    }
    command.env("HOME", sandbox.path("me")).env("AWS_EC2_METADATA_DISABLED", "true").envs(env.iter().copied());
    Run::of(&mut command)
}

#[test]
fn a_key_of_aws_seals_and_opens_if_it_is_named() {
    let answer = json!({ "KeyId": ARN, "Plaintext": DATA_KEY, "CiphertextBlob": "AAAA" });
    let aws = Stub::start([Reply::json(200, answer.to_string())]);
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 100_000);
    let url = aws.url();
    let env = [
        ("AWS_ENDPOINT_URL_KMS", url.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ];
    let put = run(&sandbox, &env, &["put", "src", "obj", "--json", "--kms-key", "aws:alias/uploads"]).expect(0);
    assert_eq!(put.json()["data_keys"], json!([{ "kms": "aws", "key": ARN }]));
    assert!(!sandbox.exists("home/kms"), "the local key store is left alone");
    assert_eq!(aws.requests().len(), 1, "one call for an upload");

    let get = run(&sandbox, &env, &["get", "obj", "out", "--json", "--kms-key", ARN]).expect(0);
    assert_eq!(get.json()["opened_with"], json!({ "kms": "aws", "key": ARN }));
    assert_eq!(sandbox.read("out"), plain);
    assert_eq!(aws.requests().len(), 2, "one call for an object that is opened");
    for command in [&["stat", "obj", "--json"][..], &["verify", "obj", "--json"]] {
        let told = run(&sandbox, &env, &[command, &["--kms-key", "aws:any"]].concat()).expect(0).json();
        assert_eq!(told["opened_with"], json!({ "kms": "aws", "key": ARN }), "{command:?}");
    }
    let cat = run(&sandbox, &env, &["cat", "-v", "obj", "--kms-key", ARN]).expect(0);
    assert!(cat.stderr().contains(&format!("opened with the aws key {ARN}")), "{}", cat.stderr());

    // What nobody named is not tried: a store could name any key.
    let asked = aws.requests().len();
    let other = ARN.replace("7799", "7798");
    run(&sandbox, &env, &["cat", "obj"]).expect_error(5, ARN);
    run(&sandbox, &env, &["cat", "obj", "--kms-key", &other]).expect_error(5, ARN);
    let stat = run(&sandbox, &env, &["stat", "obj", "--json"]).expect(5).json();
    assert_eq!((&stat["opened_with"], &stat["data_keys"][0]["key"]), (&Value::Null, &json!(ARN)));
    assert_eq!(aws.requests().len(), asked);
}

#[test]
fn a_key_of_vault_seals_and_opens() {
    let vault = Stub::start([Reply::json(200, r#"{"data":{"ciphertext":"vault:v1:AAAA"}}"#)]);
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    let url = vault.url();
    let env = [("BAO_ADDR", url.as_str()), ("VAULT_TOKEN", "t")];
    let keys = ["--kms-key", "vault:uploads", "--kms-key", "alias/default"];
    let put = run(&sandbox, &env, &[&["put", "src", "obj", "--json"], &keys[..]].concat()).expect(0).json();
    assert_eq!(put["data_keys"][0], json!({ "kms": "vault", "key": "transit/uploads" }));
    assert_eq!(put["data_keys"][1]["kms"], "local");
    let sent: Value = serde_json::from_str(&vault.requests()[0].body).unwrap();
    let opened = json!({ "data": { "plaintext": sent["plaintext"] } });
    vault.answer_from_now_on(Reply::json(200, opened.to_string()));

    let get = run(&sandbox, &env, &["get", "obj", "out", "--json", "--kms-key", "vault:transit/uploads"]).expect(0);
    assert_eq!(get.json()["opened_with"], json!({ "kms": "vault", "key": "transit/uploads" }));
    assert_eq!(sandbox.read("out"), plain);
    // By default, only the local keys are tried.
    let stat = run(&sandbox, &[], &["stat", "obj", "--json"]).expect(0).json();
    assert_eq!(stat["opened_with"]["kms"], "local");
    assert_eq!(vault.requests().len(), 2);
    // The service is down: the next recipient opens it.
    let down = [("BAO_ADDR", "http://127.0.0.1:9"), ("VAULT_TOKEN", "t")];
    let verified = run(&sandbox, &down, &[&["verify", "obj", "--json"], &keys[..]].concat()).expect(0).json();
    assert_eq!(verified["opened_with"]["kms"], "local");
    assert_eq!(verified["data_keys"][0]["opened"], false);
}

#[test]
fn a_key_of_alibaba_cloud_seals_and_opens() {
    let answer = json!({ "KeyId": "key-1", "KeyVersionId": "v", "Plaintext": DATA_KEY, "CiphertextBlob": "AAAA" });
    let aliyun = Stub::start([Reply::json(200, answer.to_string())]);
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    let url = aliyun.url();
    let env = [
        ("SEALIFT_ALIYUN_KMS_ENDPOINT", url.as_str()),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "test"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "test"),
    ];
    let arn = "acs:kms:cn-hangzhou:1:key/key-1";
    let put = run(&sandbox, &env, &["put", "src", "obj", "--json", "--kms-key", arn]).expect(0);
    assert_eq!(put.json()["data_keys"], json!([{ "kms": "aliyun", "key": "key-1" }]));
    for (n, name) in [arn, "aliyun:key-1", "aliyun:any"].into_iter().enumerate() {
        let cat = run(&sandbox, &env, &["cat", "obj", "--kms-key", name]).expect(0);
        assert_eq!((cat.bytes(), aliyun.requests().len()), (&plain[..], n + 2), "{name}");
    }
    run(&sandbox, &env, &["cat", "obj", "--kms-key", "aliyun:key-2"]).expect_error(5, "key-1");
}

#[test]
fn an_escrow_key_seals_and_its_private_half_opens() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(sandbox.path(".")).output();
        let output = output.expect("openssl runs: install it with `apt-get install openssl`, or your system's like");
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "private.pem"]);
    openssl(&["pkey", "-in", "private.pem", "-pubout", "-out", "escrow.pem"]);
    let keys = ["--kms-key", "alias/default", "--kms-key", "rsa:escrow.pem"];
    let put = run(&sandbox, &[], &[&["put", "src", "obj", "--json"], &keys[..]].concat()).expect(0).json();
    assert_eq!(put["data_keys"][1]["kms"], "rsa");
    assert_eq!(run(&sandbox, &[], &["cat", "obj"]).expect(0).bytes(), plain);
    // The machine is lost, its key store with it.
    fs::remove_dir_all(sandbox.path("home")).unwrap();
    run(&sandbox, &[], &["cat", "obj", "--kms-key", "rsa:escrow.pem"]).expect_error(5, "private");
    let get = run(&sandbox, &[], &["get", "obj", "out", "--json", "--kms-key", "rsa:private.pem"]).expect(0).json();
    assert_eq!((sandbox.read("out"), &get["opened_with"]), (plain, &put["data_keys"][1]));
}

#[test]
fn s26_a_service_that_refuses_is_5_and_nothing_is_sent_to_the_store() {
    let refused = json!({ "__type": "DisabledException", "message": "is disabled" });
    let aws = Stub::start([Reply::json(400, refused.to_string())]);
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    let url = aws.url();
    let env = [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s")];
    run(&sandbox, &env, &["put", "src", "store/obj", "--kms-key", ARN]).expect_error(5, "DisabledException");
    assert_eq!(aws.requests().len(), 1, "what cannot succeed is asked once");
    assert!(!sandbox.exists("store"));
    assert_eq!(sandbox.uploads(), [""; 0]);
}

#[test]
fn what_is_missing_to_use_a_service_is_said() {
    let sandbox = Sandbox::new();
    sandbox.write("src", b"x");
    sandbox.write("not-a-key", b"x");
    for (key, code, says) in [
        ("vault:uploads", 5, "VAULT_ADDR"),
        ("aws:alias/uploads", 2, "AWS_REGION"),
        ("aws:any", 2, "for reading"),
        ("vault:any", 2, "for reading"),
        ("aliyun:any", 2, "for reading"),
        (ARN, 5, "credentials"),
        ("aliyun:key-x", 5, "ALIBABA_CLOUD"),
        ("rsa:not-a-key", 5, "not-a-key"),
        ("rsa:missing", 5, "missing"),
        ("pkcs11:token=t;object=k", 2, "module-path"),
    ] {
        let run = run(&sandbox, &[], &["put", "src", "store/obj", "--kms-key", key]);
        let stderr = run.stderr();
        assert!(stderr.contains("error: "), "{key}: {stderr}");
        run.expect_error(code, says);
        assert!(!sandbox.exists("store") && !sandbox.exists("home/kms"), "{key}");
    }
}

#[test]
fn more_recipients_than_fit_are_refused_before_the_upload() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    let mut args = vec!["put".to_owned(), "src".to_owned(), "store/obj".to_owned()];
    for n in 0..17_u8 {
        let name = format!("{n}.key");
        sandbox.write(&name, &[n; 32]);
        args.extend(["--key-file".to_owned(), name]);
    }
    let put = |recipients: usize| {
        let args: Vec<_> = args[..3 + 2 * recipients].iter().map(String::as_str).collect();
        run(&sandbox, &[], &args)
    };
    put(17).expect_error(2, "at most 16 recipients");
    // As many as the format allows, but more than an object's metadata can hold.
    put(16).expect_error(2, "2048");
    assert!(!sandbox.exists("store"));
    assert_eq!(sandbox.uploads(), [""; 0]);
    put(8).expect(0);
}

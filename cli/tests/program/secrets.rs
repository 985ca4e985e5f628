//! No secret leaves the program but as its user asked: not in what it logs at any level, and not in a core dump.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::services::{ARN, DATA_KEY, run};
use crate::stub::{Reply, Stub};
use crate::support::{Sandbox, program, signal, wait};

/// Whatever a service's client logs, data keys and credentials are not in it.
#[test]
fn data_keys_and_credentials_of_services_are_not_logged() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    let drawn = STANDARD.decode(DATA_KEY).unwrap();

    let answer = json!({ "KeyId": ARN, "Plaintext": DATA_KEY, "CiphertextBlob": "AAAA" });
    let aws = Stub::start([Reply::json(200, answer.to_string())]);
    let env = [
        ("AWS_ENDPOINT_URL_KMS", aws.url()),
        ("AWS_ACCESS_KEY_ID", "an-access-key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "the-secret-of-aws".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let said = seal_and_open(&sandbox, &env, ARN);
    assert_hidden("aws", &said, &drawn, "the-secret-of-aws");

    let answer = json!({ "KeyId": "key-1", "KeyVersionId": "v", "Plaintext": DATA_KEY, "CiphertextBlob": "AAAA" });
    let aliyun = Stub::start([Reply::json(200, answer.to_string())]);
    let env = [
        ("SEALIFT_ALIYUN_KMS_ENDPOINT", aliyun.url()),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "an-access-key".to_owned()),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "the-secret-of-aliyun".to_owned()),
    ];
    let said = seal_and_open(&sandbox, &env, "aliyun:key-1");
    assert_hidden("aliyun", &said, &drawn, "the-secret-of-aliyun");

    let vault = Stub::start([Reply::json(200, r#"{"data":{"ciphertext":"vault:v1:AAAA"}}"#)]);
    let env = [("BAO_ADDR", vault.url()), ("BAO_TOKEN", "the-token-of-vault".to_owned())];
    let mut said = logged(&sandbox, &env, &["put", "src", "obj", "--kms-key", "vault:uploads"]);
    let sent: Value = serde_json::from_str(&vault.requests()[0].body).unwrap();
    let opened = json!({ "data": { "plaintext": sent["plaintext"] } });
    vault.answer_from_now_on(Reply::json(200, opened.to_string()));
    said.extend(logged(&sandbox, &env, &["cat", "obj", "--kms-key", "vault:uploads"]));
    let drawn = STANDARD.decode(sent["plaintext"].as_str().unwrap()).unwrap();
    assert_hidden("vault", &said, &drawn, "the-token-of-vault");
}

fn seal_and_open(sandbox: &Sandbox, env: &[(&str, String)], key: &str) -> Vec<u8> {
    let mut said = logged(sandbox, env, &["put", "src", "obj", "--kms-key", key]);
    said.extend(logged(sandbox, env, &["cat", "obj", "--kms-key", key]));
    said
}

/// All that a successful command writes to stderr with every log switched on.
fn logged(sandbox: &Sandbox, env: &[(&str, String)], args: &[&str]) -> Vec<u8> {
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = run(sandbox, &[&env[..], &[("RUST_LOG", "trace")]].concat(), args).expect(0);
    run.stderr().into_bytes()
}

#[track_caller]
fn assert_hidden(service: &str, said: &[u8], data_key: &[u8], credential: &str) {
    // There is something to be found in: what was sent, and where to, is logged.
    let text = String::from_utf8_lossy(said);
    assert!(text.contains("TRACE") && text.contains("127.0.0.1"), "{service}: {text}");
    let hex: String = data_key.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<_> = data_key.iter().map(u8::to_string).collect();
    let escaped = data_key.escape_ascii().to_string();
    let forms = [STANDARD.encode(data_key), hex.to_uppercase(), hex, list.join(", "), escaped, credential.to_owned()];
    for form in forms {
        let form = &form.as_bytes()[..form.len().min(16)];
        let found = said.windows(form.len()).position(|window| window == form);
        if let Some(at) = found {
            let around = &said[at.saturating_sub(400)..(at + 100).min(said.len())];
            panic!("{service}: {} shows in {}", String::from_utf8_lossy(form), String::from_utf8_lossy(around));
        }
    }
}

#[test]
fn no_core_with_keys_in_it_is_dumped() {
    let sandbox = Sandbox::new();
    // As for whoever wants cores, as far as may be. It waits for more on stdin.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -S -c "$(ulimit -H -c)"; exec "$0" put - obj"#]).arg(program());
    shell.current_dir(sandbox.path(".")).env("SEALIFT_HOME", sandbox.path("home"));
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    wait("the program to begin", || sandbox.exists("home/kms/store.json").then_some(()));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(limit.split_whitespace().nth(4), Some("0"), "{limit}");

    signal(&child, Signal::ABORT);
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}

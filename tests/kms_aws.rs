//! The key service `aws` against two servers that speak its protocol, and against one that has a bad day.

#![cfg(feature = "aws-kms")]
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

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_kms::types::OriginType;
use futures::future::BoxFuture;
use kms_network::{Answers, BadNetwork};
use sealift::kms::Kms;
use sealift::kms::aws::AwsKms;
use sealift::kms::conformance::{Fault, Fixture, Network, check};
use sealift::kms::retry::{CallPolicy, Retrying};
use sealift::upload::RetryPolicy;
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, KeyState, KmsService, Result, Retry, WrappedKey};
use serde_json::{Value, json};
use server::{Server, http_status};
use stub::{Reply, Stub};

/// It refuses ciphertexts that were altered as AWS does, and lets disabled keys be used.
fn moto() -> Server {
    // As it is, it authenticates a context's names and values one behind the other, so that `ab=c` is `a=bc`.
    const SCRIPT: &str = "\
import json
import moto.kms.utils as utils
from moto.server import main
assert utils._serialize_encryption_context({}) == b''
def serialize(encryption_context):
    return json.dumps(encryption_context, sort_keys=True).encode()
utils._serialize_encryption_context = serialize
main()
";
    let start = |port: u16, _: &Path| {
        let mut command = Command::new(support::python());
        command.args(["-c", SCRIPT, "-H", "127.0.0.1", "-p", &port.to_string()]);
        command
    };
    Server::start("moto", start, |port| http_status(port, "GET", "/moto-api/data.json") == Some(200))
}

/// It has the states of keys that AWS has, and opens ciphertexts that were altered.
fn ministack() -> Server {
    let start = |port: u16, _: &Path| {
        let mut command = Command::new(support::python());
        command.args(["-m", "ministack"]).env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
        // What it listens on beside that, on ports of its own.
        command.env("SERVICES", "kms").env("IOT_MTLS_ENABLED", "0").env("SFTP_ENABLED", "0");
        command
    };
    Server::start("ministack", start, |port| http_status(port, "GET", "/_ministack/health") == Some(200))
}

fn config(url: &str, region: Option<&'static str>) -> SdkConfig {
    let credentials = Credentials::new("test", "test-secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(region.map(Region::new))
        .endpoint_url(url)
        .build()
}

/// Whoever manages the keys.
fn admin(server: &Server, region: &'static str) -> aws_sdk_kms::Client {
    aws_sdk_kms::Client::new(&config(&server.url(), Some(region)))
}

/// The ARN of a new key.
async fn create_key(admin: &aws_sdk_kms::Client) -> String {
    admin.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap()
}

fn unknown(key: &str) -> String {
    format!("{}00000000-0000-4000-8000-000000000000", &key[..key.rfind('/').unwrap() + 1])
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

fn context() -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), "test".to_owned())]).unwrap()
}

/// A client of two servers: neither does all that AWS does, and the suite is one.
struct Both {
    moto: AwsKms,
    ministack: AwsKms,
    on_ministack: String,
}

impl Both {
    fn of(&self, key: &str) -> &AwsKms {
        if key == self.on_ministack { &self.ministack } else { &self.moto }
    }
}

impl Kms for Both {
    fn service(&self) -> KmsService {
        self.moto.service()
    }

    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<(DataKey, WrappedKey)>> {
        self.of(key).generate_data_key(key, context)
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        self.of(key).wrap(key, data_key, context)
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        self.of(&wrapped.key).unwrap(wrapped, context)
    }
}

/// The ways to both servers. Only the one to moto is disturbed.
struct BothWays(BadNetwork, BadNetwork);

impl Network for BothWays {
    fn disturb(&self, faults: &[Fault]) {
        self.0.disturb(faults);
    }

    fn take_requests(&self) -> usize {
        self.0.take_requests() + self.1.take_requests()
    }
}

#[tokio::test]
async fn it_does_what_every_key_service_must() {
    let (server, with_states) = (moto(), ministack());
    let way_to = |server: &Server| {
        let answers = Answers {
            throttled: "HTTP/1.1 400 Bad Request\r\nContent-Length: 32\r\n\r\n{\"__type\":\"ThrottlingException\"}",
            unavailable: "HTTP/1.1 500 Error\r\nContent-Length: 33\r\n\r\n{\"__type\":\"KMSInternalException\"}",
        };
        BadNetwork::before(server.port, answers)
    };
    let network = BothWays(way_to(&server), way_to(&with_states));
    let client = |network: &BadNetwork, region| AwsKms::new(&config(&network.url(), Some(region)));
    let disabled = create_key(&admin(&with_states, "us-east-1")).await;
    let ministack = client(&network.1, "us-east-1");
    let (_, wrapped) = ministack.generate_data_key(&disabled, &EncryptionContext::default()).await.unwrap();
    admin(&with_states, "us-east-1").disable_key().key_id(&disabled).send().await.unwrap();

    let admin = admin(&server, "eu-west-1");
    let (key, other) = (create_key(&admin).await, create_key(&admin).await);
    admin.create_alias().alias_name("alias/uploads").target_key_id(&key).send().await.unwrap();
    let kms = Both { moto: client(&network.0, "eu-west-1"), ministack, on_ministack: disabled.clone() };
    let unknown = unknown(&key);
    let fixture = Fixture {
        other_key: Some(&other),
        disabled_key: Some(&disabled),
        wrapped_by_disabled_key: Some(&wrapped),
        network: Some(&network),
        ..Fixture::new(&kms, &key, &unknown)
    };
    check(&Fixture { alias: Some("alias/uploads"), ..fixture }).await;
    // By its bare id, and by the ARN of its alias.
    let id = key.rsplit_once('/').unwrap().1;
    check(&Fixture { alias: Some(id), ..fixture }).await;
    let alias_arn = format!("{}:alias/uploads", key.rsplit_once(':').unwrap().0);
    check(&Fixture { alias: Some(&alias_arn), ..fixture }).await;
    for name in [&key, "alias/uploads", id, &alias_arn] {
        assert_eq!(kms.moto.key_id(name).await.unwrap(), key);
    }
    assert_eq!(failure(kms.moto.key_id("alias/none").await).kind(), ErrorKind::KeyUnavailable);
}

#[tokio::test]
async fn an_arn_is_called_in_its_own_region() {
    let server = moto();
    let kms = AwsKms::new(&config(&server.url(), None));
    for region in ["us-west-2", "ap-southeast-2"] {
        let key = create_key(&admin(&server, region)).await;
        assert!(key.contains(region));
        let (data_key, wrapped) = kms.generate_data_key(&key, &context()).await.unwrap();
        assert_eq!((wrapped.kms, &wrapped.key), (KmsService::Aws, &key));
        assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
    }
    let error = failure(kms.generate_data_key("alias/uploads", &context()).await);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("AWS_REGION"), "{error}");
}

#[tokio::test]
async fn s26_keys_that_are_disabled_or_pending_are_unavailable() {
    let server = ministack();
    let admin = admin(&server, "us-east-1");
    let kms = AwsKms::new(&config(&server.url(), Some("us-east-1")));
    let key = create_key(&admin).await;
    let (data_key, wrapped) = kms.generate_data_key(&key, &context()).await.unwrap();

    admin.disable_key().key_id(&key).send().await.unwrap();
    refused(&kms, &wrapped, KeyState::Disabled).await;
    admin.enable_key().key_id(&key).send().await.unwrap();
    assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
    admin.schedule_key_deletion().key_id(&key).pending_window_in_days(7).send().await.unwrap();
    refused(&kms, &wrapped, KeyState::PendingDeletion).await;

    let created = admin.create_key().origin(OriginType::External).send().await.unwrap();
    let key = created.key_metadata.unwrap().arn.unwrap();
    refused(&kms, &WrappedKey { key, ..wrapped }, KeyState::PendingImport).await;
}

/// No operation can be done with the key of `wrapped`, and the error says why.
async fn refused(kms: &AwsKms, wrapped: &WrappedKey, state: KeyState) {
    let data_key = DataKey::random().unwrap();
    for error in [
        failure(kms.generate_data_key(&wrapped.key, &context()).await),
        failure(kms.wrap(&wrapped.key, &data_key, &context()).await),
        failure(kms.unwrap(wrapped, &context()).await),
    ] {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No), "{error}");
        assert_eq!(error.key_state(), Some(state), "{error}");
        assert!(error.to_string().contains(&wrapped.key), "{error}");
    }
}

const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/7799f07d-03b7-497c-80a6-a412c20b26c2";

/// Nothing but quick pauses is different from what programs use.
fn quick() -> CallPolicy {
    let (base, cap) = (Duration::from_millis(1), Duration::from_millis(4));
    let retries = RetryPolicy { base, cap, ..CallPolicy::default().retries };
    CallPolicy { retries, ..CallPolicy::default() }
}

fn drawn() -> Reply {
    let plaintext = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    Reply::json(200, json!({ "KeyId": KEY, "Plaintext": plaintext, "CiphertextBlob": "AAAA" }).to_string())
}

fn refusal(status: u16, code: &str) -> Reply {
    Reply::json(status, json!({ "__type": code, "message": "scripted\u{1b}[2J" }).to_string())
}

/// What comes of one call to a server that gives these replies, and how often it was asked.
async fn ask(replies: impl IntoIterator<Item = Reply>, policy: CallPolicy) -> (Result<(DataKey, WrappedKey)>, usize) {
    let stub = Stub::start(replies);
    let kms = Retrying::new(Arc::new(AwsKms::new(&config(&stub.url(), None))), policy);
    let result = kms.generate_data_key(KEY, &context()).await;
    (result, stub.requests().len())
}

#[tokio::test]
async fn s25_throttling_outages_and_lost_answers_are_ridden_out() {
    for (reply, kind) in [
        (refusal(400, "ThrottlingException"), ErrorKind::Throttled),
        (refusal(500, "KMSInternalException"), ErrorKind::Io),
        (refusal(500, "KeyUnavailableException"), ErrorKind::KeyUnavailable),
        (refusal(503, "DependencyTimeoutException"), ErrorKind::Timeout),
        (Reply::json(503, "<html>"), ErrorKind::Io),
        (Reply::json(429, ""), ErrorKind::Throttled),
        (Reply::Close, ErrorKind::Io),
    ] {
        let (result, asked) = ask([reply.clone(), reply.clone(), drawn()], quick()).await;
        assert_eq!((result.unwrap().1.key.as_str(), asked), (KEY, 3), "{reply:?}");
        let (result, asked) = ask([reply.clone()], quick()).await;
        let error = failure(result);
        // The SDK repeats nothing by itself.
        assert_eq!((error.kind(), error.retry(), asked), (kind, Retry::Yes, 5), "{reply:?}: {error}");
        assert!(error.to_string().starts_with("the last of 5 attempts: "), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_succeed_is_asked_once() {
    for (status, code) in [
        (400, "NotFoundException"),
        (400, "DisabledException"),
        (400, "KMSInvalidStateException"),
        (400, "AccessDeniedException"),
        (400, "UnrecognizedClientException"),
        (400, "ExpiredTokenException"),
        (403, "Something"),
        (404, "Something"),
        (409, "Something"),
    ] {
        let (result, asked) = ask([refusal(status, code), drawn()], quick()).await;
        let error = failure(result);
        assert_eq!((error.kind(), error.retry(), asked), (ErrorKind::KeyUnavailable, Retry::No, 1), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(code) && text.contains("scripted[2J") && !text.contains("test-secret"), "{text}");
    }
}

#[tokio::test]
async fn s25_a_server_that_hangs_is_given_up() {
    let policy = CallPolicy { timeout: Duration::from_millis(200), ..quick() };
    let (result, asked) = ask([Reply::Hang], policy).await;
    assert_eq!((failure(result).kind(), asked), (ErrorKind::Timeout, 5));
}

#[tokio::test]
async fn an_answer_about_another_key_is_refused() {
    let other = KEY.replace("7799", "7798");
    let plaintext = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for (key_id, kind) in [(json!(other), ErrorKind::KeyUnavailable), (Value::Null, ErrorKind::Io)] {
        let answer = json!({ "KeyId": key_id, "Plaintext": plaintext, "CiphertextBlob": "AAAA" });
        let (result, _) = ask([Reply::json(200, answer.to_string())], quick()).await;
        let error = failure(result);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!format!("{error:?}").contains(plaintext), "{error:?}");

        let stub = Stub::start([Reply::json(200, answer.to_string())]);
        let wrapped = WrappedKey { kms: KmsService::Aws, key: KEY.to_owned(), blob: vec![0; 3] };
        let error = failure(AwsKms::new(&config(&stub.url(), None)).unwrap(&wrapped, &context()).await);
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        let request: Value = serde_json::from_str(&stub.requests()[0].body).unwrap();
        assert_eq!((&request["KeyId"], &request["EncryptionContext"]["purpose"]), (&json!(KEY), &json!("test")));
    }
    // A parser's message could quote an answer that it could not read, with the data key in it.
    let cut = format!(r#"{{"KeyId":"{KEY}","Plaintext":"{plaintext}","Ciph"#);
    let (result, _) = ask([Reply::json(200, cut)], quick()).await;
    let error = failure(result);
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(!format!("{error:?}").contains(&plaintext[..8]), "{error:?}");
}

#[tokio::test]
async fn what_an_envelope_calls_a_key_becomes_no_request() {
    let stub = Stub::start([drawn()]);
    let kms = AwsKms::new(&config(&stub.url(), Some("eu-west-1")));
    for key in ["alias/uploads", "7799f07d-03b7-497c-80a6-a412c20b26c2", "arn:aws:kms:x.example/#:1:key/1", ""] {
        let wrapped = WrappedKey { kms: KmsService::Aws, key: key.to_owned(), blob: vec![0; 3] };
        let error = failure(kms.unwrap(&wrapped, &context()).await);
        assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No), "{error}");
    }
    assert_eq!(stub.requests().len(), 0);
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let url = format!("http://127.0.0.1:{}", server::free_port());
    let error = failure(AwsKms::new(&config(&url, None)).generate_data_key(KEY, &context()).await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Yes), "{error:?}");
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_over_a_network() {
    for url in ["http://kms.invalid", "http://127.0.0.1.invalid:8080/"] {
        let kms = AwsKms::new(&config(url, None));
        let error = failure(kms.generate_data_key(KEY, &context()).await);
        assert_eq!((error.kind(), error.retry()), (ErrorKind::InvalidInput, Retry::No), "{url}: {error:?}");
        assert!(error.to_string().contains("https"), "{error}");
    }
}

#[tokio::test]
async fn without_credentials_it_says_what_to_check() {
    let config =
        SdkConfig::builder().behavior_version(BehaviorVersion::latest()).endpoint_url("http://127.0.0.1:9").build();
    let error = failure(AwsKms::new(&config).generate_data_key(KEY, &context()).await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No), "{error:?}");
    assert!(error.to_string().contains("credentials"), "{error}");
}

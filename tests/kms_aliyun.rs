//! Alibaba Cloud KMS, on a server of our own that speaks its protocol, which one of Alibaba's own clients vouches for.

#![cfg(feature = "aliyun-kms")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "support/aliyun_kms.rs"]
mod server;
mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealift::kms::Kms;
use sealift::kms::aliyun::{AliyunCredentials, AliyunKms};
use sealift::kms::conformance::{self, Fixture, Network, check};
use sealift::kms::retry::{CallPolicy, Retrying};
use sealift::upload::RetryPolicy;
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, KeyState, KmsService, Result, Retry, WrappedKey};
use server::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, AliyunKmsServer, Fault};

fn client(server: &AliyunKmsServer) -> AliyunKms {
    client_with(server, AliyunCredentials::new(ACCESS_KEY_ID, ACCESS_KEY_SECRET))
}

fn client_with(server: &AliyunKmsServer, credentials: AliyunCredentials) -> AliyunKms {
    AliyunKms::new(&server.endpoint(), "cn-hangzhou", credentials).unwrap()
}

fn retrying(kms: AliyunKms) -> Retrying {
    let (base, cap) = (Duration::from_millis(1), Duration::from_millis(2));
    let retries = RetryPolicy { attempts: 5, budget: 4, base, cap };
    Retrying::new(Arc::new(kms), CallPolicy { retries, ..CallPolicy::default() })
}

fn context() -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), "a test: 100% + \"quoted\"".to_owned())]).unwrap()
}

async fn generate(kms: &dyn Kms, key: &str) -> Result<(DataKey, WrappedKey)> {
    kms.generate_data_key(key, &context()).await
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

impl Network for AliyunKmsServer {
    fn disturb(&self, faults: &[conformance::Fault]) {
        self.inject(faults.iter().map(|fault| match fault {
            conformance::Fault::Throttled => Fault::Refuse(429, "Rejected.Throttling"),
            conformance::Fault::Unavailable => Fault::Refuse(503, "SerivceUnavailableTemporary"),
            conformance::Fault::Closed => Fault::HangUp,
            conformance::Fault::Hangs => Fault::Hang,
        }));
    }

    fn take_requests(&self) -> usize {
        self.take_actions().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_key_service_must() {
    let server = AliyunKmsServer::start();
    let (key, other, disabled) = (server.create_key(), server.create_key(), server.create_key());
    server.create_alias("alias/test", &key);
    let kms = client(&server);
    let (_, wrapped) = kms.generate_data_key(&disabled, &EncryptionContext::default()).await.unwrap();
    server.set_state(&disabled, "Disabled");
    check(&Fixture {
        alias: Some("alias/test"),
        other_key: Some(&other),
        disabled_key: Some(&disabled),
        wrapped_by_disabled_key: Some(&wrapped),
        network: Some(&server),
        ..Fixture::new(&kms, &key, "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")
    })
    .await;
}

#[tokio::test]
async fn each_call_is_one_request() {
    let server = AliyunKmsServer::start();
    let (key, kms) = (server.create_key(), client(&server));
    let (data_key, wrapped) = generate(&kms, &key).await.unwrap();
    assert_eq!((wrapped.kms, &wrapped.key), (KmsService::Aliyun, &key));
    assert_eq!(server.take_actions(), ["GenerateDataKey"]);
    assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
    assert_eq!(server.take_actions(), ["Decrypt"]);
    kms.wrap(&key, &data_key, &context()).await.unwrap();
    assert_eq!(server.take_actions(), ["Encrypt"]);
}

#[tokio::test]
async fn a_key_has_an_id_an_alias_and_an_arn() {
    let server = AliyunKmsServer::start();
    let (key, kms) = (server.create_key(), client(&server));
    server.create_alias("alias/a/b", &key);
    for name in [key.clone(), "alias/a/b".to_owned(), format!("acs:kms:cn-hangzhou:1234567890:key/{key}")] {
        let (data_key, wrapped) = generate(&kms, &name).await.unwrap();
        assert_eq!(wrapped.key, key);
        assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
        assert_eq!(kms.key_id(&name).await.unwrap(), key);
    }
    let error = failure(kms.key_id("alias/none").await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No));
}

#[tokio::test]
async fn s26_throttling_and_outages_are_waited_out_with_a_new_signature_each_time() {
    let server = AliyunKmsServer::start();
    let (key, kms) = (server.create_key(), retrying(client(&server)));
    let faults = || {
        [
            Fault::Refuse(429, "Rejected.Throttling"),
            Fault::Refuse(400, "Throttling.User"),
            Fault::Refuse(503, "SerivceUnavailableTemporary"),
            Fault::Refuse(500, "InternalFailure"),
        ]
    };
    server.inject(faults());
    let (data_key, wrapped) = generate(&kms, &key).await.unwrap();
    // The server refuses a nonce that it saw before.
    assert_eq!(server.take_actions().len(), 5);
    server.inject(faults());
    assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
    assert_eq!(server.take_actions().len(), 5);

    server.inject((0..9).map(|_| Fault::Refuse(429, "Rejected.Throttling")));
    let error = failure(generate(&kms, &key).await);
    assert_eq!((error.kind(), server.take_actions().len()), (ErrorKind::Throttled, 5));
}

#[tokio::test]
async fn the_service_can_ask_for_a_pause() {
    let server = AliyunKmsServer::start();
    let (key, kms) = (server.create_key(), client(&server));
    let answer = "503 X\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    server.inject([Fault::Raw(answer.to_owned())]);
    assert_eq!(failure(generate(&kms, &key).await).retry(), Retry::After(Duration::from_secs(7)));
}

#[tokio::test]
async fn s26_what_cannot_succeed_is_asked_for_once() {
    let server = AliyunKmsServer::start();
    let (key, kms) = (server.create_key(), retrying(client(&server)));
    for (status, code, kind, advice) in [
        (403, "Forbidden.NoPermission", ErrorKind::KeyUnavailable, "permission kms:GenerateDataKey"),
        (403, "Forbidden.KmsServiceNotEnabled", ErrorKind::KeyUnavailable, "KmsServiceNotEnabled"),
        (404, "Forbidden.KeyNotFound", ErrorKind::KeyUnavailable, "has no CMK"),
        (404, "Forbidden.KeyVersionNotFound", ErrorKind::KeyUnavailable, "has no CMK"),
        (404, "InvalidAccessKeyId.NotFound", ErrorKind::KeyUnavailable, "access key \"LTAI-test\""),
        (400, "InvalidSecurityToken.Expired", ErrorKind::KeyUnavailable, "temporary credentials"),
        (400, "InvalidTimeStamp.Expired", ErrorKind::KeyUnavailable, "clock"),
        (400, "InvalidParameter", ErrorKind::InvalidInput, "name of the CMK"),
        (400, "UnsupportedOperation", ErrorKind::KeyUnavailable, "UnsupportedOperation"),
        (409, "Rejected.Disabled", ErrorKind::KeyUnavailable, "its state is Disabled; enable it"),
        (409, "Rejected.PendingDeletion", ErrorKind::KeyUnavailable, "PendingDeletion; cancel"),
        (409, "Rejected.PendingImport", ErrorKind::KeyUnavailable, "PendingImport; import"),
        (409, "Rejected.Unavailable", ErrorKind::KeyUnavailable, "Rejected.Unavailable"),
    ] {
        server.inject([Fault::Refuse(status, code)]);
        let error = failure(generate(&kms, &key).await);
        assert_eq!((error.kind(), error.retry()), (kind, Retry::No), "{code}");
        let message = error.to_string();
        assert!(message.contains(advice) && message.contains(code) && message.contains("a-request"), "{message}");
        assert_eq!(server.take_actions().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn s26_a_key_that_is_disabled_while_objects_are_there_opens_them_when_enabled_again() {
    let server = AliyunKmsServer::start();
    let (key, kms) = (server.create_key(), client(&server));
    let (data_key, wrapped) = generate(&kms, &key).await.unwrap();
    for state in ["Disabled", "PendingDeletion", "PendingImport"] {
        server.set_state(&key, state);
        let error = failure(kms.unwrap(&wrapped, &context()).await);
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
        assert_eq!(error.key_state().map(KeyState::name), Some(state));
        assert!(error.to_string().contains(&key) && error.to_string().contains(state), "{error}");
    }
    server.set_state(&key, "Enabled");
    assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_and_asked_again() {
    let server = AliyunKmsServer::start();
    let key = server.create_key();
    let impatient = || client(&server).with_timeout(Duration::from_millis(300));
    server.inject([Fault::Hang]);
    let error = failure(generate(&impatient(), &key).await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Retry::Yes));
    server.inject([Fault::Hang, Fault::HangUp]);
    assert!(generate(&retrying(impatient()), &key).await.is_ok());
    assert_eq!(server.take_actions().len(), 4);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() {
    let server = AliyunKmsServer::start();
    let (key, kms) = (server.create_key(), client(&server));
    let answer = |body: &str| format!("200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let data_key = STANDARD.encode([7; 32]);
    let short = STANDARD.encode([7; 31]);
    let redirect =
        format!("307 X\r\nLocation: {}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", server.endpoint());
    for answer in [
        answer(""),
        answer("<html>"),
        answer("{}"),
        answer("[]"),
        answer(&format!(r#"{{"KeyId":"","CiphertextBlob":"AAAA","Plaintext":"{data_key}"}}"#)),
        answer(&format!(r#"{{"KeyId":"{key}","CiphertextBlob":"?","Plaintext":"{data_key}"}}"#)),
        answer(&format!(r#"{{"KeyId":"{key}","CiphertextBlob":"AAAA","Plaintext":"{short}"}}"#)),
        answer(&format!(r#"{{"KeyId":"{key}","CiphertextBlob":"AAAA","Plaintext":"{data_key}{data_key}"}}"#)),
        answer(&format!(r#"{{"KeyId":"{key}","CiphertextBlob":"AAAA","Plaintext":7{data_key}}}"#)),
        answer(&" ".repeat(65 * 1024)),
        format!("200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{{\"Plaintext\":\"{data_key}"),
        redirect,
    ] {
        server.inject([Fault::Raw(answer.clone())]);
        let error = failure(generate(&kms, &key).await);
        let shown = format!("{error} {error:?}");
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::KeyUnavailable), "{answer}: {shown}");
        assert!(!shown.contains(&data_key[..8]), "{shown}");
        assert_eq!(server.take_actions().len(), 1, "a redirect is not followed, and nothing repeated");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_the_data_key_not_quoted() {
    let server = AliyunKmsServer::start();
    let key = server.create_key();
    let kms = retrying(client_with(&server, AliyunCredentials::new(ACCESS_KEY_ID, "wrong-secret")));
    let data_key = DataKey::take(&mut [7; 32]).unwrap();
    let error = failure(kms.wrap(&key, &data_key, &context()).await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::KeyUnavailable, Retry::No));
    let shown = format!("{error} {error:?} {kms:?}");
    // The server quotes all of the request.
    let plaintext = STANDARD.encode([7; 32]);
    for secret in [&plaintext[..8], "wrong-secret", "Plaintext"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("is the secret that of the access key"), "{shown}");
}

#[tokio::test]
async fn temporary_credentials_bring_their_token() {
    let server = AliyunKmsServer::start();
    let key = server.create_key();
    server.demand_security_token("a/token+=");
    let credentials = AliyunCredentials::new(ACCESS_KEY_ID, ACCESS_KEY_SECRET).with_security_token("a/token+=");
    assert!(generate(&client_with(&server, credentials), &key).await.is_ok());
    let error = failure(generate(&client(&server), &key).await);
    assert!(error.to_string().contains("temporary credentials"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_an_error_that_may_pass() {
    let server = AliyunKmsServer::start();
    let kms = client(&server);
    drop(server);
    let error = failure(generate(&kms, "key").await);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Yes));
    assert!(!format!("{error:?}").contains("Signature"), "{error:?}");
}

/// Alibaba's own client for Python signs for our server as ours does, and each opens what was wrapped for the other.
#[tokio::test(flavor = "multi_thread")]
async fn alibaba_s_own_client_and_this_one_open_each_other_s_data_keys() {
    const SCRIPT: &str = "
import json, sys
from aliyunsdkcore.client import AcsClient
from aliyunsdkkms.request.v20160120.DecryptRequest import DecryptRequest
from aliyunsdkkms.request.v20160120.GenerateDataKeyRequest import GenerateDataKeyRequest
port, access_key_id, access_key_secret, key, context, blob = sys.argv[1:]
client = AcsClient(access_key_id, access_key_secret, 'cn-hangzhou', port=int(port), auto_retry=False)

def call(request, **parameters):
    request.set_endpoint('127.0.0.1')
    request.set_protocol_type('http')
    request.set_accept_format('json')
    for name, value in parameters.items():
        # In a form, as ours are. Its own setters put them into the query.
        (request.add_query_param if name == 'KeyId' else request.add_body_params)(name, value)
    return json.loads(client.do_action_with_exception(request))

generated = call(GenerateDataKeyRequest(), KeyId=key, KeySpec='AES_256', EncryptionContext=context)
decrypted = call(DecryptRequest(), CiphertextBlob=blob, EncryptionContext=context)
print(json.dumps([generated, decrypted]))
";
    let server = AliyunKmsServer::start();
    let (key, kms) = (server.create_key(), client(&server));
    let (data_key, wrapped) = generate(&kms, &key).await.unwrap();
    let output = Command::new(support::python())
        .args(["-c", SCRIPT, &server.port().to_string(), ACCESS_KEY_ID, ACCESS_KEY_SECRET, &key])
        .args([r#"{"purpose": "a test: 100% + \"quoted\""}"#, &STANDARD.encode(&wrapped.blob)])
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let decode = |value: &serde_json::Value| STANDARD.decode(value.as_str().unwrap()).unwrap();

    assert_eq!(decode(&answers[1]["Plaintext"]), data_key.expose());
    let theirs = WrappedKey { blob: decode(&answers[0]["CiphertextBlob"]), ..wrapped };
    assert_eq!(kms.unwrap(&theirs, &context()).await.unwrap().expose(), decode(&answers[0]["Plaintext"]).as_slice());
    assert_eq!(server.take_actions(), ["GenerateDataKey", "GenerateDataKey", "Decrypt", "Decrypt"]);
}

//! Alibaba's own clients, PyPI's `oss2` and `alibabacloud-oss-v2`, on the server that the store is tested with: it answers them as OSS
//! would, and the store sends what they send.

#![cfg(feature = "oss")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use futures::TryStreamExt as _;
use sealift::store::oss::{Credentials, OssStore, SignatureVersion, Sse, SseAlgorithm};
use sealift::store::{CompletedPart, MultipartStore, Payload, Properties, PutCondition, PutPart, Upload};
use sealift::{Attempt, ByteRange, ObjectKey, PartNumber};

#[allow(dead_code, reason = "each test file uses some of it")]
#[path = "support/oss_server/mod.rs"]
mod oss_server;
mod support;

use oss_server::{Account, BUCKET, OssServer, REGION, Request, decode, operation};

fn account(token: Option<&str>) -> Account {
    Account { id: "LTAI-id".into(), secret: "a/secret+".into(), token: token.map(str::to_owned) }
}

/// Runs a client through all calls, and gives the requests that it sent.
fn client(server: &OssServer, name: &str, signature: &str) -> Vec<Request> {
    let account = &server.state.account;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/oss_clients.py");
    let output = Command::new(support::python())
        .args([script, name, signature, &server.endpoint(), BUCKET, REGION, &account.id, &account.secret])
        .arg(account.token.as_deref().unwrap_or_default())
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{name} {signature}: {}", String::from_utf8_lossy(&output.stderr));
    server.take_requests()
}

#[test]
fn the_server_is_oss_to_its_clients_with_either_signature() {
    for token in [None, Some("a/token+")] {
        for name in ["oss2", "v2"] {
            for signature in ["v1", "v4"] {
                if (name, signature, token.is_some()) == ("v2", "v1", true) {
                    // It sends the token as `security-token`, not as the header that the documentation names.
                    continue;
                }
                let server = OssServer::with_account(account(token));
                client(&server, name, signature);
            }
        }
    }
}

/// What a request means, whoever wrote it: without signature, dates and what only says how to answer.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Meaning {
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

/// How an answer is paged or written. Each client has its own defaults; none of them changes what is meant.
const FORM: [&str; 9] = [
    "encoding-type",
    "max-keys",
    "max-parts",
    "max-uploads",
    "delimiter",
    "key-marker",
    "upload-id-marker",
    "fetch-owner",
    "start-after",
];

fn meaning(request: &Request) -> Meaning {
    let query = request.raw_query.iter().map(|(name, value)| (decode(name), decode(value)));
    let query = query.map(|(name, value)| {
        // Ids are the server's.
        let value = if name == "uploadId" { "ID".to_owned() } else { value };
        (name, value)
    });
    let query = query.filter(|(name, _)| !FORM.contains(&name.as_str()));
    // An empty token or marker, as oss2 sends it, is none.
    let query = query.filter(|(name, value)| {
        !(["continuation-token", "part-number-marker"].contains(&name.as_str()) && value.is_empty())
    });
    let signs = ["x-oss-date", "x-oss-content-sha256", "x-oss-security-token"];
    let headers = request.headers.iter().filter(|(name, _)| {
        (name.starts_with("x-oss-") && !signs.contains(&name.as_str()))
            || ["range", "if-match"].contains(&name.as_str())
    });
    let headers = headers.map(|(name, value)| {
        let value = if name == "x-oss-copy-source" { decode(value) } else { value.clone() };
        (name.clone(), value.trim_matches('"').to_owned())
    });
    Meaning { path: decode(&request.raw_path), query: query.collect(), headers: headers.collect() }
}

fn meanings(requests: &[Request]) -> BTreeMap<&'static str, Vec<Meaning>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for request in requests {
        all.entry(operation(request)).or_default().push(meaning(request));
    }
    all
}

/// The calls of `support/oss_clients.py`, by the store.
async fn store(server: &OssServer, signature: SignatureVersion) -> Vec<Request> {
    let Account { id, secret, token } = &server.state.account;
    let sse = Sse { key_id: Some("a-cmk".into()), ..Sse::new(SseAlgorithm::Kms) };
    let store = OssStore::builder(BUCKET)
        .endpoint(server.endpoint())
        .region(REGION)
        .credentials(Credentials::new(id, secret, token.as_deref()))
        .signature(signature)
        .sse(Some(sse))
        // So that a copy that changes the encryption is done in parts.
        .copy_limit(10)
        .build()
        .unwrap();
    let key = |name: &str| name.parse::<ObjectKey>().unwrap();
    let held = |bytes: Vec<u8>| Payload::held(vec![bytes.into()]);
    let (name, copy, large) = (key("dir/ä b+c"), key("dir/copy"), key("dir/large"));
    let properties = Properties { metadata: [("name".to_owned(), "value".to_owned())].into(), ..Properties::default() };
    let body: Vec<u8> = (0..2560).map(|i| i as u8).collect();

    let etag = store.put_object(&name, held(body), &properties, PutCondition::IfNotExists).await.unwrap();
    store.head(&name).await.unwrap();
    store.get(&name, None, None).await.unwrap();
    let range = ByteRange::Inclusive { first: 10, last: 19 };
    store.get(&name, Some(range), Some(&etag)).await.unwrap();
    store.stat(&name).await.unwrap();
    store.copy(&name, &copy, PutCondition::None).await.unwrap();
    let upload = Upload { key: large.clone(), id: store.initiate(&large, &properties).await.unwrap() };
    let mut parts = Vec::new();
    for (n, len) in [(1, 100 << 10), (2, 100 << 10), (3, 1)] {
        let number = PartNumber::try_from(n).unwrap();
        let part = PutPart { number, attempt: Attempt(1), offset: None, payload: held(vec![b'0'; len]) };
        parts.push(CompletedPart { number, etag: store.put_part(&upload, part).await.unwrap() });
    }
    store.list_parts(&upload).await.unwrap();
    store.list_uploads("dir/").await.unwrap();
    store.complete(&upload, &parts, PutCondition::IfNotExists).await.unwrap();
    let given_up = Upload { key: large.clone(), id: store.initiate(&large, &properties).await.unwrap() };
    store.abort(&given_up).await.unwrap();
    let objects: Vec<_> = store.list("dir/").try_collect().await.unwrap();
    store.set_sse(&name, &Sse::new(SseAlgorithm::Aes256)).await.unwrap();
    for object in objects {
        store.delete(&object.key).await.unwrap();
    }
    server.take_requests()
}

#[tokio::test]
async fn the_store_sends_what_the_clients_send() {
    let mut theirs: BTreeMap<&str, Vec<BTreeMap<&str, Vec<Meaning>>>> = BTreeMap::new();
    for name in ["oss2", "v2"] {
        let server = OssServer::with_account(account(None));
        theirs.entry(name).or_default().push(meanings(&client(&server, name, "v4")));
    }
    for signature in [SignatureVersion::V4, SignatureVersion::V1] {
        let server = OssServer::with_account(account(None));
        let ours = meanings(&store(&server, signature).await);
        for (client, theirs) in &theirs {
            let theirs = &theirs[0];
            let calls: BTreeSet<_> = ours.keys().collect();
            let known: BTreeSet<_> = theirs.keys().collect();
            assert!(calls.is_subset(&known), "{client} is not asked for {:?}", calls.difference(&known));
            for (call, sent) in &ours {
                let theirs = &theirs[call];
                // The first of each kind was made with the same arguments; of the reads and copies, all are among theirs.
                let compared: &[Meaning] = match *call {
                    "UploadPartCopy" => &[],
                    "GetObject" => &sent[..2],
                    _ => &sent[..1],
                };
                for one in compared {
                    assert!(theirs.contains(one), "{call}: the store sends\n{one:#?}\nand {client}\n{theirs:#?}");
                }
            }
            // A part that is copied differs in its numbers alone.
            let names = |meaning: &Meaning| {
                let headers: Vec<_> = meaning.headers.keys().cloned().collect();
                (headers, meaning.query.keys().cloned().collect::<Vec<_>>())
            };
            assert_eq!(names(&ours["UploadPartCopy"][0]), names(&theirs["UploadPartCopy"][0]), "{client}");
        }
    }
}

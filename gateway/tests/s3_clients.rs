//! Other people's clients for S3 on the gateway: what they put comes back, and the store does not hold it in the clear.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../../tests/support/s3_server.rs"]
mod s3_server;
#[path = "../../tests/support/server.rs"]
mod server;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sealift::store::s3::S3Checksum;
use sealift::store::{S3Store, conformance};
use sealift_gateway::Config;
use sealift_gateway::access::Right;
use support::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Running, installed};

/// Bytes that do not repeat: xorshift64.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn contains(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => contains(&path, needle),
            // One that is gone meanwhile holds nothing.
            false => fs::read(&path).unwrap_or_default().windows(needle.len()).any(|window| window == needle),
        }
    })
}

#[test]
fn boto3_does_what_it_does_with_s3() {
    let gateway = Running::with(|config| {
        config.anonymous.insert("public".to_owned(), vec![Right::Read]);
    });
    gateway.python("s3_boto3.py", &[]);
    assert!(contains(&gateway.path("store"), b"in the clear"), "an object that nobody encrypts is stored as it is");
    assert!(!contains(&gateway.path("store"), b"nobody else may read"), "a sealed object is not");
}

/// The same in front of a store in the network.
#[tokio::test(flavor = "multi_thread")]
async fn boto3_does_it_in_front_of_seaweedfs() {
    let server = s3_server::seaweedfs();
    let builder = S3Store::builder("sealed").endpoint(server.url()).region("us-east-1").credentials(
        s3_server::ACCESS_KEY,
        s3_server::SECRET_KEY,
        None,
    );
    let store = Arc::new(builder.build().await.unwrap());
    let gateway = Running::over(store, tempfile::tempdir().unwrap(), |config| {
        config.anonymous.insert("public".to_owned(), vec![Right::Read]);
    });
    tokio::task::block_in_place(|| gateway.python("s3_boto3.py", &[]));
    assert!(contains(&server.dir().join("data"), b"in the clear"), "this is how its files are searched");
    assert!(
        !contains(&server.dir().join("data"), b"nobody else may read"),
        "a sealed object is not in the clear there"
    );
}

/// In each of the three protocols.
#[test]
fn access_keys_have_the_rights_that_they_are_given() {
    let gateway = Running::with(|config| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let keys = "[[access_keys]]\nid = 'few'\nsecret = 'few rights'\n\
                    buckets = { 'team-*' = ['read', 'write'], shared = ['read'] }\n\
                    [[access_keys]]\nid = 'user'\nsecret = 'of keys'\nkms = 'use'\n";
        fs::write(&file, keys).unwrap();
        config.access_keys.extend(Config::read(file.path()).unwrap().access_keys);
    });
    gateway.python("rights.py", &[]);
}

/// Up with one client, and down with each.
#[test]
fn aws_cli_s5cmd_and_rclone_bring_back_what_they_took() {
    let gateway = Running::start();
    let files = gateway.path("files");
    fs::create_dir_all(files.join("sub")).unwrap();
    let large = noise(20_000_000);
    fs::write(files.join("large"), &large).unwrap();
    fs::write(files.join("empty"), b"").unwrap();
    fs::write(files.join("sub/ä small + one"), b"small").unwrap();
    let aws = |args: &[&str]| {
        let mut command = Command::new(installed("python"));
        gateway.run({
            command.arg(installed("aws")).args(args).current_dir(gateway.path(""));
            command
        })
    };
    let same = |dir: &str| {
        for name in ["large", "empty", "sub/ä small + one"] {
            let (sent, back) = (fs::read(files.join(name)).unwrap(), fs::read(gateway.path(dir).join(name)));
            assert!(back.is_ok_and(|back| back == sent), "{dir}/{name}");
        }
    };
    let rule = r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"alias/default"}}]}"#;
    aws(&["s3", "mb", "s3://clients"]);
    aws(&["s3api", "put-bucket-encryption", "--bucket", "clients", "--server-side-encryption-configuration", rule]);
    aws(&["s3", "cp", "--recursive", "--no-progress", "files", "s3://clients/aws/"]);
    aws(&["s3", "sync", "--no-progress", "s3://clients/aws/", "by-aws"]);
    same("by-aws");
    let head = aws(&["s3api", "head-object", "--bucket", "clients", "--key", "aws/large"]);
    assert!(head.contains("aws:kms") && head.contains("20000000"), "{head}");

    let mut rclone = Command::new(installed("rclone"));
    rclone.current_dir(gateway.path("")).args(["--config", "none", "copy", "--s3-provider", "Other", "--s3-env-auth"]);
    rclone.args(["--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", "--s3-endpoint", &gateway.url, "--retries", "1"]);
    let rclone = |from: &str, to: &str| {
        let mut command = Command::new(rclone.get_program());
        command.args(rclone.get_args()).current_dir(gateway.path("")).args([from, to]);
        gateway.run(command)
    };
    rclone("files", ":s3:clients/rclone");
    rclone(":s3:clients/rclone", "by-rclone");
    same("by-rclone");

    let s5cmd = |args: &[&str]| {
        let mut command = Command::new(installed("s5cmd"));
        command.args(["--endpoint-url", &gateway.url, "--retry-count", "0"]).args(args).current_dir(gateway.path(""));
        gateway.run(command)
    };
    s5cmd(&["cp", "--part-size", "5", "files/*", "s3://clients/s5cmd/"]);
    s5cmd(&["cp", "s3://clients/s5cmd/*", "by-s5cmd/"]);
    same("by-s5cmd");
    assert!(s5cmd(&["ls", "s3://clients/"]).contains("s5cmd/"));
    s5cmd(&["rm", "s3://clients/*"]);
    aws(&["s3", "rb", "s3://clients"]);
    assert!(!contains(&gateway.path("store"), &large[..1000]), "none of it is in the clear");
}

/// Only where the operator named a region: most tools sign for one of AWS's unless they are told otherwise.
#[test]
fn a_region_that_was_named_is_the_one_to_sign_for() {
    let anywhere = Running::start();
    let named = Running::with(|config| config.region = "cn-hongkong".to_owned());
    let list = |gateway: &Running, region: &str| {
        let code = "import boto3, sys; from botocore.exceptions import ClientError\n\
                    try: boto3.client('s3', region_name=sys.argv[1]).list_buckets(); print('listed')\n\
                    except ClientError as error: print(error, error.response['ResponseMetadata']['HTTPHeaders'])";
        let mut command = Command::new(installed("python"));
        command.args(["-c", code, region]);
        gateway.run(command)
    };
    assert_eq!(list(&anywhere, "us-east-1"), "listed\n");
    assert_eq!(list(&named, "cn-hongkong"), "listed\n");
    let refused = list(&named, "us-east-1");
    assert!(
        refused.contains("AuthorizationHeaderMalformed") && refused.contains("expecting 'cn-hongkong'"),
        "{refused}"
    );
    assert!(refused.contains("'x-amz-bucket-region': 'cn-hongkong'"), "{refused}");
}

/// The library's own store for S3: parts, lists, ranges, conditions, aborts.
#[tokio::test(flavor = "multi_thread")]
async fn the_library_s_store_for_s3_conforms_on_it() {
    let gateway = Running::start();
    let mut make = Command::new(installed("aws"));
    make.args(["s3api", "create-bucket", "--bucket", "conformance"]);
    gateway.run(make);
    for checksum in [None, Some(S3Checksum::Crc64Nvme), Some(S3Checksum::Crc32c)] {
        let builder = S3Store::builder("conformance").endpoint(&gateway.url).region("local").checksum(checksum);
        let store = builder.credentials(ACCESS_KEY_ID, ACCESS_KEY_SECRET, None).build().await.unwrap();
        conformance::check(&store).await;
        conformance::check_latest_attempts(&store).await;
    }
}

//! Real S3 servers for tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::server::{Server, free_port, http_status, installed};

/// The credentials that every server here takes.
pub(crate) const ACCESS_KEY: &str = "sealift-tests";
pub(crate) const SECRET_KEY: &str = "not-a-secret";

/// SeaweedFS: a real S3 server. It makes buckets when something is stored in them.
pub(crate) fn seaweedfs() -> Server {
    let weed = installed("weed");
    let mut sockets = Vec::new();
    let command = |port: u16, dir: &Path| {
        let identity = format!(
            r#"{{"identities":[{{"name":"tests","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin"]}}]}}"#
        );
        fs::write(dir.join("s3.json"), identity).expect("its configuration");
        fs::create_dir(dir.join("data")).expect("its directory");
        let mut command = Command::new(&weed);
        // In the directory, not in /tmp, where they would stay.
        command.args(["mini", "-dir=data", "-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]);
        command.arg("-s3.config=s3.json");
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]);
        command.args(["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-s3.port={port}"));
        for name in ["s3", "master", "volume", "filer", "admin"] {
            if name != "s3" {
                command.arg(format!("-{name}.port={}", free_port()));
            }
            let port = free_port();
            command.arg(format!("-{name}.port.grpc={port}"));
            // No flag says where these are.
            sockets.push(format!("/tmp/seaweedfs-{name}-grpc-{port}.sock").into());
        }
        command
    };
    let is_ready = |port| http_status(port, "GET", "/").is_some_and(|status| status < 500);
    Server::start("SeaweedFS", command, is_ready).leaving(sockets)
}

/// moto: many services of AWS in one, in memory, with what `moto.py` mends. It demands no credentials.
#[allow(dead_code, reason = "not every test uses it")]
pub(crate) fn moto() -> Server {
    moto_with_clock(0)
}

/// The same with a clock that is so many seconds ahead, or behind; if it is, requests must be signed with its time.
#[allow(dead_code, reason = "not every test uses it")]
pub(crate) fn moto_with_clock(ahead: i64) -> Server {
    let python = installed("python");
    let command = |port: u16, _: &Path| {
        let mut command = Command::new(&python);
        command.args(["-c", include_str!("moto.py"), "-H", "127.0.0.1", "-p", &port.to_string()]);
        if ahead != 0 {
            command.env("SEALIFT_AHEAD", ahead.to_string());
        }
        command
    };
    // Nobody else has that page.
    Server::start("moto", command, |port| http_status(port, "GET", "/moto-api/") == Some(200))
}

/// Makes a bucket on a server that demands no credentials.
#[allow(dead_code, reason = "not every test uses it")]
pub(crate) fn make_bucket(server: &Server, name: &str) {
    assert_eq!(http_status(server.port, "PUT", &format!("/{name}")), Some(200), "the bucket {name} was not made");
}

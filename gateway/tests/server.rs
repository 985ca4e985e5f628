//! The listener: TLS and HTTP/2, limits, slow clients, health and metrics, and an end that loses nothing.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use sealift_gateway::Config;
use sealift_gateway::access::Right;
use sealift_gateway::config::Tls;
use support::Running;

/// Lets anybody do anything with the bucket `open`, so that requests can be written by hand.
fn open_bucket(config: &mut Config) {
    config.anonymous.insert("open".to_owned(), vec![Right::Read, Right::Write, Right::Admin]);
}

fn connect(gateway: &Running) -> TcpStream {
    TcpStream::connect(gateway.address()).unwrap()
}

/// What is answered until the connection ends.
fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A server that closes before it has read all resets the connection; what it said before counts.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask(gateway: &Running, head: &str) -> String {
    let mut stream = connect(gateway);
    let _ = stream.write_all(format!("{head}\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
    answer(stream)
}

/// Asks for a bucket or object to be written, without its body.
fn begin_put(gateway: &Running, path: &str, len: u64) -> TcpStream {
    let mut stream = connect(gateway);
    let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[track_caller]
fn expect(answer: &str, status: u16, says: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(says), "{status} {says}: {answer}");
}

#[test]
fn health_and_metrics_are_for_everybody() {
    let gateway = Running::with(open_bucket);
    expect(&ask(&gateway, "GET /health HTTP/1.1"), 200, "ok\n");
    expect(&answer(begin_put(&gateway, "/open", 0)), 200, "x-amz-request-id");
    expect(&ask(&gateway, "GET /open/none HTTP/1.1"), 404, "<Code>NoSuchKey</Code>");
    let metrics = ask(&gateway, "GET /metrics HTTP/1.1");
    expect(&metrics, 200, "text/plain; version=0.0.4");
    for line in [
        r#"sealift_gateway_requests_total{protocol="s3",operation="CreateBucket",status="200"} 1"#,
        r#"sealift_gateway_requests_total{protocol="s3",operation="GetObject",status="404"} 1"#,
        "sealift_gateway_requests_in_flight 0",
        r#"sealift_gateway_request_seconds_count{protocol="s3"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn without_an_access_key_nothing_is_answered_but_what_is_configured() {
    let gateway = Running::with(open_bucket);
    expect(&ask(&gateway, "GET / HTTP/1.1"), 403, "<Code>AccessDenied</Code>");
    expect(&answer(begin_put(&gateway, "/another", 0)), 403, "<Code>AccessDenied</Code>");
    expect(&ask(&gateway, "GET /?Action=ListKeys&Version=2016-01-20&Format=JSON HTTP/1.1"), 400, "MissingParameter");
}

#[test]
fn what_is_too_much_is_refused() {
    let gateway = Running::with(|config| {
        open_bucket(config);
        config.limits.request_bytes = 1000;
        config.limits.header_bytes = 8 << 10;
        config.limits.concurrent_requests = 1;
    });
    expect(&answer(begin_put(&gateway, "/open", 0)), 200, "");
    expect(&answer(begin_put(&gateway, "/open/long", 1001)), 400, "<Code>EntityTooLarge</Code>");
    // Of a length that is not announced.
    let mut chunked = connect(&gateway);
    let head = "PUT /open/long HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    chunked.write_all(format!("{head}3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001)).as_bytes()).unwrap();
    let refused = answer(chunked);
    assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");
    let long = ask(&gateway, &format!("GET /{} HTTP/1.1", "x".repeat(20_000)));
    assert!(long.starts_with("HTTP/1.1 431") || long.starts_with("HTTP/1.1 414"), "{long}");

    let mut first = begin_put(&gateway, "/open/one", 10);
    first.write_all(b"12345").unwrap();
    // The one place is taken when the request is counted.
    while !ask(&gateway, "GET /metrics HTTP/1.1").contains("sealift_gateway_requests_in_flight 1") {}
    expect(&ask(&gateway, "GET /open/one HTTP/1.1"), 503, "<Code>SlowDown</Code>");
    first.write_all(b"67890").unwrap();
    expect(&answer(first), 200, "");
    expect(&ask(&gateway, "GET /open/one HTTP/1.1"), 200, "1234567890");
}

/// The command line of AWS takes the status of an answer that came instead of "100 Continue" for that of the next request, too.
#[test]
fn who_waits_to_send_is_told_to_or_has_no_other_answer_on_the_connection() {
    let gateway = Running::with(open_bucket);
    expect(&answer(begin_put(&gateway, "/open", 0)), 200, "");
    let waiting = |path: &str, len: usize| {
        let mut stream = connect(&gateway);
        let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {len}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    expect(&answer(waiting("/open/empty", 0)), 200, "connection: close");
    expect(&answer(waiting("/none/object", 5)), 403, "connection: close");

    let mut told = waiting("/open/object", 5);
    let mut head = [0; 25];
    told.read_exact(&mut head).unwrap();
    assert_eq!(head, *b"HTTP/1.1 100 Continue\r\n\r\n");
    told.write_all(b"12345GET /open/object HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let both = answer(told);
    expect(&both, 200, "\r\n\r\n12345");
    assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2, "{both}");
}

#[test]
fn slow_clients_are_given_up() {
    let gateway = Running::with(|config| {
        open_bucket(config);
        config.limits.stall_seconds = 1;
        config.limits.header_seconds = 1;
    });
    expect(&answer(begin_put(&gateway, "/open", 0)), 200, "");
    // A body that does not come, a head that does not end, and nothing at all. Each of these waits until the server ends it.
    let mut stalled = begin_put(&gateway, "/open/slow", 1000);
    stalled.write_all(b"12345").unwrap();
    expect(&answer(stalled), 400, "<Code>IncompleteBody</Code>");
    let mut stalled = connect(&gateway);
    stalled.write_all(b"GET /open/slow HTTP/1.1\r\nHost: h\r\n").unwrap();
    assert!(!answer(stalled).contains("200 OK"));
    assert_eq!(answer(connect(&gateway)), "");
    expect(&ask(&gateway, "GET /open/slow HTTP/1.1"), 404, "NoSuchKey");
}

#[test]
fn it_ends_when_what_is_in_flight_has_ended() {
    let mut gateway = Running::with(open_bucket);
    expect(&answer(begin_put(&gateway, "/open", 0)), 200, "");
    let mut last = begin_put(&gateway, "/open/last", 10);
    last.write_all(b"12345").unwrap();
    while !ask(&gateway, "GET /metrics HTTP/1.1").contains("sealift_gateway_requests_in_flight 1") {}
    gateway.ask_to_stop();
    while TcpStream::connect(gateway.address()).is_ok() {}
    last.write_all(b"67890").unwrap();
    expect(&answer(last), 200, "");
    gateway.stop().unwrap();
    assert_eq!(std::fs::read(gateway.path("store/open/last")).unwrap(), b"1234567890");
}

// On threads of its own, for a client of HTTP/2 has to answer when the gateway asks it to end the connection.
#[tokio::test(flavor = "multi_thread")]
async fn tls_and_either_version_of_http() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("crt"), dir.path().join("key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]);
    // Its own root, and yet not an authority, as which rustls would refuse it.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    let made = openssl.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let gateway = Running::with(|config| {
        open_bucket(config);
        config.tls = Some(Tls { certificate: certificate.clone(), key });
    });
    assert!(gateway.url.starts_with("https://"));
    let root = reqwest::Certificate::from_pem(&std::fs::read(certificate).unwrap()).unwrap();
    let client = || reqwest::Client::builder().no_proxy().tls_certs_only([root.clone()]);
    for (client, version) in [(client(), reqwest::Version::HTTP_2), (client().http1_only(), reqwest::Version::HTTP_11)]
    {
        let client = client.build().unwrap();
        let url = format!("{}/open", gateway.url);
        let made = client.put(&url).send().await.unwrap();
        assert_eq!(made.version(), version);
        let put = client.put(format!("{url}/object")).body("over TLS").send().await.unwrap();
        assert_eq!(put.status(), 200);
        assert_eq!(client.get(format!("{url}/object")).send().await.unwrap().text().await.unwrap(), "over TLS");
    }
    // In the clear, a client that knows it speaks HTTP/2 at once.
    let plain = Running::start();
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let health = client.get(format!("{}/health", plain.url)).send().await.unwrap();
    assert_eq!((health.status().as_u16(), health.version()), (200, reqwest::Version::HTTP_2));
    assert!(client.get(gateway.url.replace("https", "http")).send().await.is_err());
}

/// HTTP/2 ends a connection when the client has answered a ping, and this one does not read.
#[test]
fn a_client_that_is_stuck_and_asks_nothing_does_not_keep_it_from_ending() {
    let mut gateway = Running::with(|config| config.limits.shutdown_seconds = 8);
    let mut stuck = connect(&gateway);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stuck.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat()).unwrap();
    // The server's own settings show that it speaks HTTP/2 now.
    let mut frame = [0; 9];
    stuck.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
    gateway.stop().unwrap();
}

/// Else a client takes the connection for its next request, and finds it closed.
#[test]
fn a_body_that_was_not_read_ends_the_connection_and_the_answer_says_so() {
    let gateway = Running::start();
    let mut refused = connect(&gateway);
    refused.write_all(b"PUT /none/object HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n").unwrap();
    expect(&answer(refused), 403, "connection: close");
}

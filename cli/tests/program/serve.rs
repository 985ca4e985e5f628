//! `serve`: started, asked, stopped; and killed while clients write.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::services;
use crate::stub::{Reply, Stub};
use crate::support::{Run, Sandbox, program, python, signal};

/// A gateway that is listening.
struct Server {
    child: Child,
    address: String,
    out: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        Self::start_with(sandbox, args, &[])
    }

    fn start_with(sandbox: &Sandbox, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = sandbox.command([&["serve", "--listen", "127.0.0.1:0"], args].concat());
        command.envs(env.iter().copied());
        command.env("SEALIFT_ACCESS_KEY_ID", "me").env("SEALIFT_ACCESS_KEY_SECRET", "s3cr3t");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut server = Self::listening(child)
            .unwrap_or_else(|(line, child)| panic!("{line:?}: {}", Run::of_child(child).stderr()));
        // What nobody reads must not fill the pipe.
        let mut err = server.child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
        server
    }

    /// The gateway that this is, once it listens; what else it said instead.
    fn listening(mut child: Child) -> Result<Self, (String, Child)> {
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        match line.strip_prefix("listening on ").and_then(|url| url.split_once("://")) {
            Some((_, address)) => Ok(Self { child, address: address.trim().to_owned(), out }),
            None => Err((line, child)),
        }
    }

    fn get(&self, path: &str) -> String {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> String {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
    }

    fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stop(mut self) -> (Option<i32>, String) {
        signal(&self.child, Signal::TERM);
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn client(script: &str, server: &Server, args: &[&str]) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway/tests/support/").to_owned() + script;
    let mut command = Command::new(python());
    command.arg(script).args([&format!("http://{}", server.address), "me", "s3cr3t"]).args(args);
    command.env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn it_listens_answers_and_stops() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &["--store", "sealed"]);
    assert!(server.get("/health").starts_with("HTTP/1.1 200"));
    assert!(server.get("/bucket").contains("AccessDenied"));
    let keys = sandbox.run(&["kms", "list-keys", "--json"]).expect(0).json();
    assert_eq!(keys.as_array().map(Vec::len), Some(1), "the key store is the one of `sealift kms`");
    assert_eq!(server.stop(), (Some(0), String::new()));
}

/// Buckets of either kind, by the program's own clients.
#[test]
fn a_store_is_reached_over_tls_and_only_if_its_certificate_is_trusted() {
    let sandbox = Sandbox::new();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]);
    // Its own root, and yet not an authority, as which rustls would refuse it.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"]);
    let made = openssl.args(["-keyout", "key", "-out", "crt"]).current_dir(sandbox.path(".")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    sandbox.write("config.toml", b"[anonymous]\nopen = ['admin', 'read', 'write']\n");
    let store = ["--store", "sealed", "--config", "config.toml"];
    let server = Server::start(&sandbox, &store);
    assert!(server.ask("PUT", "/open").starts_with("HTTP/1.1 200"));
    server.stop();

    let server = Server::start(&sandbox, &[&store[..], &["--tls-certificate", "crt", "--tls-key", "key"]].concat());
    let (plain, endpoint) = (sandbox.random_file("src", 11_000_000), format!("https://{}", server.address));
    let client = |args: &[&str], trusts: bool| {
        let mut command = sandbox.command([args, &["--endpoint", &endpoint, "--region", "local"]].concat());
        for service in ["AWS", "OSS"] {
            command.env(format!("{service}_ACCESS_KEY_ID"), "me");
        }
        command.env("AWS_SECRET_ACCESS_KEY", "s3cr3t").env("OSS_ACCESS_KEY_SECRET", "s3cr3t");
        command.env("SSL_CERT_FILE", sandbox.path(if trusts { "crt" } else { "empty" }));
        Run::of(&mut command)
    };
    sandbox.write("empty", b"");
    for url in ["s3://open/o", "oss://open/p"] {
        client(&["put", "src", url, "--part-size", "5M"], true).expect(0);
        assert!(client(&["cat", url], true).expect(0).bytes() == plain, "{url}");
        client(&["ls", url], false).expect(7);
    }
}

#[test]
fn another_key_service_wraps_what_the_gateway_seals() {
    let vault = Stub::start([Reply::json(200, r#"{"data":{"ciphertext":"vault:v1:AAAA"}}"#)]);
    let sandbox = Sandbox::new();
    sandbox.write("config.toml", b"[anonymous]\nopen = ['admin', 'read', 'write']\n");
    let (url, args) = (vault.url(), ["--store", "sealed", "--config", "config.toml", "--kms-key", "vault:uploads"]);
    let env = [("BAO_ADDR", url.as_str()), ("VAULT_TOKEN", "t")];
    let server = Server::start_with(&sandbox, &args, &env);
    assert!(server.ask("PUT", "/open").starts_with("HTTP/1.1 200"));
    let put = "PUT /open/o HTTP/1.1\r\nHost: h\r\nConnection: close\r\nx-amz-server-side-encryption: aws:kms\r\n";
    let stored = server.send(&format!("{put}Content-Length: 5\r\n\r\nhello"));
    assert!(stored.starts_with("HTTP/1.1 200") && stored.contains("aws:kms"), "{stored}");
    let sent: Value = serde_json::from_str(&vault.requests()[0].body).unwrap();
    vault.answer_from_now_on(Reply::json(200, json!({ "data": { "plaintext": sent["plaintext"] } }).to_string()));
    let read = server.ask("GET", "/open/o");
    assert!(read.starts_with("HTTP/1.1 200") && read.ends_with("\r\n\r\nhello"), "{read}");
    server.stop();
    assert!(!sandbox.exists("home/kms"), "the local key store is left alone");
    let stat = services::run(&sandbox, &env, &["stat", "sealed/open/o", "--json", "--kms-key", "vault:uploads"]);
    let stat = stat.expect(0).json();
    assert_eq!(stat["opened_with"], json!({ "kms": "vault", "key": "transit/uploads" }));
}

#[test]
fn a_demo_needs_nothing_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["serve", "--demo", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ctrl-C") {
        assert!(out.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(said.starts_with("listening on http://127.0.0.1:") && said.contains("access key secret  "), "{said}");
    let dir = said.split_whitespace().find_map(|word| word.strip_prefix("SEALIFT_HOME=")).unwrap();
    assert!(std::path::Path::new(dir).join("kms/root.key").exists(), "{said}");
    what_it_says_can_be_typed(&sandbox, &said);
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!std::path::Path::new(dir).exists() && !sandbox.exists("home"));
}

/// Also with all that it can be told to say.
#[test]
fn every_request_is_an_event_in_the_log_and_secrets_are_in_none() {
    let sandbox = Sandbox::new();
    let log = std::fs::File::create(sandbox.path("log")).unwrap();
    let mut command =
        sandbox.command(["serve", "--listen", "127.0.0.1:0", "--store", "sealed", "--log-format", "json", "-vv"]);
    command.env("SEALIFT_ACCESS_KEY_ID", "me").env("SEALIFT_ACCESS_KEY_SECRET", "s3cr3t");
    let child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let server = Server::listening(child).unwrap_or_else(|(line, _)| panic!("{line:?}"));
    let code = "import boto3, sys, urllib.request\n\
                url, id, secret = sys.argv[1:]\n\
                s3 = boto3.client('s3', endpoint_url=url, aws_access_key_id=id, aws_secret_access_key=secret, region_name='local')\n\
                s3.create_bucket(Bucket='bucket', CreateBucketConfiguration={'LocationConstraint': 'local'})\n\
                at = dict(Bucket='bucket', Key='object')\n\
                s3.put_object(Body=b'the plaintext', ServerSideEncryption='aws:kms', **at)\n\
                own = dict(SSECustomerAlgorithm='AES256', SSECustomerKey=b'k' * 32)\n\
                s3.put_object(Bucket='bucket', Key='own', Body=b'the plaintext', **own)\n\
                link = s3.generate_presigned_url('get_object', Params=at)\n\
                answer = urllib.request.urlopen(link)\n\
                assert answer.read() == b'the plaintext'\n\
                print(answer.headers['x-amz-request-id'], link.split('Signature=')[1].split('&')[0])";
    let url = format!("http://{}", server.address);
    let mut client = Command::new(python());
    client.args(["-c", code, &url, "me", "s3cr3t"]).env("NO_PROXY", "127.0.0.1").env("HOME", sandbox.path(""));
    let printed = Run::of(&mut client).expect(0).stdout();
    let (id, signature) = printed.trim().split_once(' ').unwrap();
    assert!(server.get("/bucket/none").contains("AccessDenied"));
    assert_eq!(server.stop().0, Some(0));

    let log = String::from_utf8(sandbox.read("log")).unwrap();
    // The program speaks to its user, too: of a key store that it made, here.
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answered: Vec<_> = events.filter(|event| event["target"] == "sealift_gateway::access").collect();
    assert_eq!(answered.len(), 5, "{log}");
    let got = answered.iter().find(|event| event["id"] == id).expect("by the id that the client has");
    assert_eq!(got["operation"], "GetObject");
    assert_eq!((&got["access_key"], &got["path"]), (&"me".into(), &"/bucket/object".into()));
    assert_eq!((&got["status"], &got["sent"]), (&200.into(), &13.into()));
    let refused = answered.last().unwrap();
    assert_eq!((&refused["status"], &refused["access_key"]), (&403.into(), &"-".into()));
    // The customer's key in base64, too.
    for secret in ["s3cr3t", "the plaintext", "kkkkkkkk", "a2tra2tra2tr", signature] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

/// The lines that a demo prints to begin with, as they are.
fn what_it_says_can_be_typed(sandbox: &Sandbox, said: &str) {
    sandbox.write("FILE", b"what was typed");
    let lines = said.lines().filter_map(|line| line.strip_prefix("  "));
    let (python_lines, shell_lines): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("bucket"));
    let python = python();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", program().parent().unwrap().display(), python.parent().unwrap().display());
    let run = |command: &mut Command| {
        command
            .current_dir(sandbox.path(""))
            .env("PATH", &path)
            .env("HOME", sandbox.path(""))
            .env("NO_PROXY", "127.0.0.1");
        Run::of(command).expect(0).stdout()
    };
    let printed = run(Command::new("sh").args(["-ec", &shell_lines.join("\n")]));
    assert_eq!(printed.matches("what was typed").count(), 2, "by aws and by sealift: {printed}");
    let [made, put, got] = python_lines[..] else { panic!("{said}") };
    let code = format!("import oss2\n{made}\n{put}\nprint({got})");
    assert_eq!(run(Command::new(&python).args(["-c", &code])), "b'text'\n");
}

#[test]
fn what_it_cannot_do_it_says_before_it_listens() {
    let sandbox = Sandbox::new();
    let serve = |args: &[&str]| {
        let mut command = sandbox.command([&["serve"], args].concat());
        command.env_remove("SEALIFT_ACCESS_KEY_ID").env_remove("SEALIFT_ACCESS_KEY_SECRET");
        Run::of(&mut command)
    };
    serve(&["--store", "sealed"]).expect_error(2, "SEALIFT_ACCESS_KEY_ID");
    sandbox.write("config.toml", b"listen = '127.0.0.1:0'\nspeed = 'fast'\n");
    serve(&["--store", "sealed", "--config", "config.toml"]).expect_error(2, "line 2");
    sandbox.write("config.toml", b"listen = '127.0.0.1:0'\n[anonymous]\nopen = ['read']\n");
    serve(&["--config", "config.toml"]).expect_error(2, "--store");
    serve(&["--config", "config.toml", "--store", "discard:"]).expect_error(2, "discard:");
    serve(&["--config", "config.toml", "--store", "s3://bucket/prefix"])
        .expect_error(2, "give --store the bucket alone");
    serve(&["--config", "config.toml", "--store", "sealed", "--kms-key", "alias/none"]).expect_error(5, "alias/none");
    serve(&["--config", "config.toml", "--store", "sealed", "--listen", "nonsense"]).expect_error(7, "nonsense");
    let tls = ["--config", "config.toml", "--store", "sealed", "--tls-certificate", "none", "--tls-key", "none"];
    serve(&tls).expect_error(2, "none");
}

/// Whatever was acknowledged before the gateway was killed is whole, and nothing else is there in part. `SEALIFT_SOAK=1` makes it a minute:
/// half of it before the gateway is killed, half after it is back.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    let sandbox = Sandbox::new();
    let half =
        if std::env::var_os("SEALIFT_SOAK").is_some() { Duration::from_secs(30) } else { Duration::from_secs(3) };
    let mut checked = String::new();
    let mut server = Server::start(&sandbox, &["--store", "sealed"]);
    for round in ["1", "2"] {
        let notes = sandbox.path(&format!("notes-{round}"));
        let arguments = |mode| [mode, notes.to_str().unwrap(), round, "64"];
        let mut load = client("load.py", &server, &arguments("write")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(load.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "writing\n");
        std::thread::sleep(half);
        server.kill();
        Run::of_child(load).expect(0);
        server = Server::start(&sandbox, &["--store", "sealed"]);
        checked += &Run::of(&mut client("load.py", &server, &arguments("check"))).expect(0).stdout();
    }
    println!("{checked}");
    assert_eq!(server.stop().0, Some(0));
}

//! Large objects through the gateway, encrypted on the server's side and not: the same gateway, store, client and run, in turn.
//!
//! `cargo bench --workspace --all-features --bench gateway`; with `-- --test` each runs once on small objects. `SEALIFT_BENCH_MIB` sets
//! their size. The client is a socket that sends and drops bytes, without signatures; client and gateway share the machine.
#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to report an error to")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sealift::Engine;
use sealift::kms::Kms;
use sealift::kms::local::{LocalKms, RootKeySource};
use sealift::store::{DirStore, MemoryStore, MultipartStore};
use sealift_gateway::access::Right;
use sealift_gateway::{Back, Config, Gateway, Keys};
use tokio::sync::oneshot;

const MIB: usize = 1 << 20;
/// What asks for encryption.
const SSE: &str = "x-amz-server-side-encryption: AES256\r\n";

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let mib = std::env::var("SEALIFT_BENCH_MIB").ok().and_then(|n| n.parse().ok());
    let len = mib.unwrap_or(if test { 2 } else { 256 }) * MIB;
    let rounds = if test { 1 } else { 9 };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = DirStore::open(dir.path().join("store")).unwrap();
    let stores: [(&str, Arc<dyn MultipartStore>); 2] =
        [("memory", Arc::new(MemoryStore::default())), ("a directory", Arc::new(directory))];
    for (name, store) in stores {
        let running = Running::start(store, &dir.path().join("kms"));
        for clients in [1, 2] {
            println!("\n{} MiB by {clients} clients, stored in {name}: medians of {rounds}", len / MIB);
            measure(&running.address, clients, len / clients, rounds);
        }
    }
}

/// Puts and gets, plain and sealed in turn.
fn measure(address: &str, clients: usize, len: usize, rounds: usize) {
    let mut took = [const { Vec::new() }; 4];
    // Objects are there, to be replaced, before it counts.
    for round in 0..=rounds {
        let turns: [&(dyn Fn(&str) + Sync); 4] = [
            &|client| put(address, &format!("plain-{client}"), "", len),
            &|client| put(address, &format!("sealed-{client}"), SSE, len),
            &|client| get(address, &format!("plain-{client}"), len),
            &|client| get(address, &format!("sealed-{client}"), len),
        ];
        for (turn, took) in turns.into_iter().zip(&mut took) {
            let begun = Instant::now();
            thread::scope(|scope| {
                for client in 0..clients {
                    scope.spawn(move || turn(&client.to_string()));
                }
            });
            if round > 0 {
                took.push(begun.elapsed());
            }
        }
    }
    let [put_plain, put_sealed, get_plain, get_sealed] = &took;
    for (name, plain, sealed) in [("put", put_plain, put_sealed), ("get", get_plain, get_sealed)] {
        let mut ratios: Vec<_> =
            plain.iter().zip(sealed).map(|(plain, sealed)| plain.div_duration_f64(*sealed)).collect();
        ratios.sort_by(f64::total_cmp);
        let quartile = |n: usize| ratios[(ratios.len() - 1) * n / 4];
        let speed = |took: &[Duration]| (len * clients) as f64 / median(took).as_secs_f64() / 1e6;
        println!(
            "  {name}: plain {:.0} MB/s, sealed {:.0} MB/s; in turn {:.2} of plain ({:.2} to {:.2})",
            speed(plain),
            speed(sealed),
            quartile(2),
            quartile(1),
            quartile(3)
        );
    }
}

fn median(took: &[Duration]) -> Duration {
    let mut took = took.to_vec();
    took.sort_unstable();
    took[took.len() / 2]
}

fn put(address: &str, key: &str, header: &str, len: usize) {
    let answer = write(address, key, header, len);
    assert_eq!(answer.contains("x-amz-server-side-encryption"), !header.is_empty(), "{answer}");
}

fn write(address: &str, key: &str, header: &str, len: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head =
        format!("PUT /bench/{key} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len}\r\n{header}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let piece: Vec<u8> = (0..MIB).map(|n| ((n * n) >> 3).to_le_bytes()[0]).collect();
    for _ in 0..len / MIB {
        stream.write_all(&piece).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn get(address: &str, key: &str, len: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /bench/{key} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = BufReader::with_capacity(MIB, stream);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    while line != "\r\n" {
        line.clear();
        answer.read_line(&mut line).unwrap();
    }
    let mut found = 0;
    loop {
        let read = answer.fill_buf().unwrap().len();
        if read == 0 {
            break;
        }
        found += read;
        answer.consume(read);
    }
    assert_eq!(found, len);
}

/// A gateway that lets anybody use the bucket `bench`. Dropping it stops it.
struct Running {
    address: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(store: Arc<dyn MultipartStore>, kms: &Path) -> Self {
        let (kms, _) = LocalKms::open_or_create(kms, RootKeySource::File).unwrap();
        let kms = Arc::new(kms) as Arc<dyn Kms>;
        let keys = Keys { kms, default_key: LocalKms::DEFAULT_ALIAS.to_owned(), local: None };
        let mut config = Config::default();
        config.listen = "127.0.0.1:0".to_owned();
        config.anonymous.insert("bench".to_owned(), vec![Right::Read, Right::Write, Right::Admin]);
        let back = Back { engine: Engine::builder().build().unwrap(), store, keys };
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let gateway = Gateway::bind(config, back).await.unwrap();
                bound.send(gateway.address().to_string()).unwrap();
                gateway.serve(async { drop(stopped.await) }).await.unwrap();
            });
        });
        let running = Self { address: address.recv().unwrap(), stop: Some(stop), thread: Some(thread) };
        write(&running.address, "", "", 0);
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().is_some_and(|thread| thread.join().is_ok());
        assert!(ended || thread::panicking(), "the gateway panicked");
    }
}

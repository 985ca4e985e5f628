//! Sealed uploads and downloads over HTTP beside plaintext ones by the same client, the project's `S3Store`.
//!
//! `cargo bench --bench http`; with `-- --test` each runs once on a small file. `SEALIFT_BENCH_MIB` sets the file's size. The last tables
//! are of SeaweedFS, which `cargo xtask setup` installs.
//!
//! Contenders take turns, and medians are compared: on a shared machine nothing else can be. Client and server share its cores.
#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to report an error to")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sealift::engine::{GetOptions, ReadOptions, Reader, UploadOptions};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::FileSource;
use sealift::store::{CompletedPart, MultipartStore, Payload, Properties, PutCondition, PutPart, S3Store, Upload};
use sealift::{Attempt, ByteRange, DataKey, Engine, ObjectKey, PartNumber};
use tokio::runtime::Runtime;

#[path = "support/peers.rs"]
mod peers;
#[path = "../tests/support/s3_server.rs"]
mod s3_server;
#[path = "../tests/support/server.rs"]
mod server;
#[path = "support/sink.rs"]
mod sink;
#[path = "support/source.rs"]
mod source;
#[path = "support/turns.rs"]
mod turns;

use peers::Peer;
use sink::{Pace, Sink};

const MIB: u64 = 1 << 20;
const PART: u64 = 16 * MIB;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let test = args.iter().any(|arg| arg == "--test");
    let wanted = |name: &str| {
        let filters = || args.iter().skip(1).filter(|arg| !arg.starts_with('-'));
        filters().next().is_none() || filters().any(|filter| name.contains(filter.as_str()))
    };
    let bench = Bench::new(if test { 40 } else { 1024 });
    let rounds = if test { 1 } else { 9 };
    let slow = Pace { latency: Duration::from_millis(20), bytes_per_second: 100_000_000 };
    if wanted("upload loopback") {
        bench.uploads("loopback, a sink that discards", &Sink::discarding(Pace::NONE).url(), rounds);
    }
    if wanted("upload slow") {
        bench.uploads("100 MB/s a connection, 20 ms a request", &Sink::discarding(slow).url(), rounds.min(5));
    }
    if wanted("download loopback") {
        bench.downloads("loopback, from memory", &Sink::keeping(Pace::NONE).url(), rounds);
    }
    if wanted("download to file") {
        bench.downloads_to_file(&Sink::keeping(Pace::NONE).url(), &Sink::keeping(Pace::NONE).url(), rounds);
    }
    if wanted("download slow") {
        bench.downloads("100 MB/s a connection, 20 ms a request", &Sink::keeping(slow).url(), rounds.min(5));
    }
    if wanted("peers") {
        bench.peers(&Sink::keeping(Pace::NONE).url(), rounds.min(5));
    }
    if wanted("seaweedfs") {
        let server = s3_server::seaweedfs();
        bench.uploads("SeaweedFS", &server.url(), rounds.min(7));
        bench.downloads("SeaweedFS", &server.url(), rounds.min(7));
    }
}

/// A file, and what it takes to upload it.
struct Bench {
    dir: tempfile::TempDir,
    len: u64,
    runtime: Runtime,
    kms: Arc<KeyFile>,
    engine: Engine,
    buffers: Arc<Buffers>,
}

/// How a contender did.
#[derive(Clone, Copy)]
struct Times {
    median: Duration,
    fastest: Duration,
    slowest: Duration,
}

impl Bench {
    fn new(mib: u64) -> Self {
        let (dir, len) = source::make(mib);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let engine = Engine::builder().threads(2).build().unwrap();
        Self {
            dir,
            len,
            runtime,
            kms: Arc::new(KeyFile::new(DataKey::random().unwrap())),
            engine,
            buffers: Arc::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn store(&self, url: &str) -> Arc<S3Store> {
        let store = S3Store::builder("bench").endpoint(url).region("us-east-1");
        let store = store.credentials(s3_server::ACCESS_KEY, s3_server::SECRET_KEY, None);
        Arc::new(self.runtime.block_on(store.build()).unwrap())
    }

    fn uploads(&self, title: &str, url: &str, rounds: usize) {
        let store = self.store(url);
        println!("\nupload of {} MiB, {title}: medians of {rounds}", self.len / MIB);
        for in_flight in [4, 8] {
            let [plain, sealed] = take_turns(
                rounds,
                [&mut || self.runtime.block_on(self.put_plain(&store, in_flight)), &mut || {
                    self.put_sealed(&store, Some(in_flight))
                }],
            );
            self.row(&format!("plaintext, {in_flight} parts in flight"), plain);
            self.row(&format!("sealed, {in_flight} parts in flight"), sealed);
            ratio(plain, sealed);
        }
        let [sealed] = take_turns(rounds, [&mut || self.put_sealed(&store, None)]);
        self.row("sealed, as many as are worth it", sealed);
    }

    fn downloads(&self, title: &str, url: &str, rounds: usize) {
        let store = self.store(url);
        // The same bytes are read both ways: the sealed object, opened, and as it is.
        self.put_sealed(&store, Some(8));
        let reader = self.open(&store, None);
        let sealed_len = reader.info().len;
        println!("\ndownload of {} MiB, {title}: medians of {rounds}", self.len / MIB);
        for in_flight in [4, 8] {
            let reader = self.open(&store, Some(in_flight));
            let [plain, opened] = take_turns(
                rounds,
                [&mut || self.runtime.block_on(get_plain(&store, sealed_len, in_flight)), &mut || {
                    self.runtime.block_on(drain(&reader))
                }],
            );
            self.row(&format!("as it is, {in_flight} ranges in flight"), plain);
            self.row(&format!("opened, {in_flight} ranges in flight"), opened);
            ratio(plain, opened);
        }
        let first = self.len / 2 + 17;
        let range = ByteRange::Inclusive { first, last: first + MIB - 1 };
        let [plain, opened] = take_turns(
            rounds * 20,
            [&mut || self.runtime.block_on(get_range(&store, range)), &mut || {
                drop(black_box(self.runtime.block_on(reader.read_range(range)).unwrap()))
            }],
        );
        println!("  range of 1 MiB: plain {:?}, opened {:?}", plain.median, opened.median);
        println!("  {:.3} of the plain latency", opened.median.as_secs_f64() / plain.median.as_secs_f64());
    }

    /// Into a file, by the engine both times: a sealed object, and one that is not. The file is in memory where there is such a place, as
    /// a disk would be the limit.
    fn downloads_to_file(&self, sealed_url: &str, plain_url: &str, rounds: usize) {
        let (sealed, plain) = (self.store(sealed_url), self.store(plain_url));
        self.put_sealed(&sealed, Some(8));
        self.runtime.block_on(self.put_plain(&plain, 8));
        let memory = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(if memory.is_dir() { memory } else { self.dir.path() }).unwrap();
        let target = dir.path().join("target");
        let overwrite = || GetOptions { overwrite: true, ..GetOptions::default() };
        println!("\ndownload of {} MiB into a file: medians of {rounds}", self.len / MIB);
        for in_flight in [4, 8] {
            let options = ReadOptions { max_in_flight: Some(in_flight), ..ReadOptions::default() };
            let as_it_is = self.runtime.block_on(self.engine.open_unsealed(plain.clone(), key(), &options)).unwrap();
            let opened = self.open(&sealed, Some(in_flight));
            let [plain, opened] = take_turns(
                rounds,
                [&mut || _ = self.runtime.block_on(as_it_is.write_to_file(&target, overwrite())).unwrap(), &mut || {
                    _ = self.runtime.block_on(opened.write_to_file(&target, overwrite())).unwrap()
                }],
            );
            self.row(&format!("not sealed, {in_flight} ranges in flight"), plain);
            self.row(&format!("opened, {in_flight} ranges in flight"), opened);
            ratio(plain, opened);
        }
    }

    /// Other programs that encrypt and upload, each with its own settings for speed, as far as they are installed.
    fn peers(&self, url: &str, rounds: usize) {
        let store = self.store(url);
        println!("\nother programs that encrypt, {} MiB, loopback and memory: medians of {rounds}", self.len / MIB);
        for peer in Peer::installed(self.dir.path(), url) {
            let [up, sealed] =
                take_turns(rounds, [&mut || peer.upload(&self.path()), &mut || self.put_sealed(&store, Some(8))]);
            // The sink keeps one object: each reads what it has written itself.
            self.put_sealed(&store, Some(8));
            let reader = self.open(&store, Some(8));
            let [opened] = take_turns(rounds, [&mut || self.runtime.block_on(drain(&reader))]);
            peer.upload(&self.path());
            let [down] = take_turns(rounds, [&mut || peer.download()]);
            self.row(&format!("{} up", peer.name()), up);
            self.row("sealift up", sealed);
            ratio(up, sealed);
            self.row(&format!("{} down", peer.name()), down);
            self.row("sealift down", opened);
            ratio(down, opened);
        }
    }

    fn put_sealed(&self, store: &Arc<S3Store>, in_flight: Option<u32>) {
        let recipients = [Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }];
        let options = UploadOptions { max_in_flight: in_flight, part_size: Some(PART), ..UploadOptions::default() };
        let source = Box::new(FileSource::open(self.path()).unwrap());
        let upload = self.engine.upload(store.clone(), key(), source, &recipients, options);
        self.runtime.block_on(upload).unwrap();
    }

    /// The same parts by the same store, read from the file into buffers that are used again.
    async fn put_plain(&self, store: &S3Store, in_flight: u32) {
        let file = Arc::new(File::open(self.path()).unwrap());
        let upload = Upload { key: key(), id: store.initiate(&key(), &Properties::default()).await.unwrap() };
        let parts = u32::try_from(self.len.div_ceil(PART)).unwrap();
        let mut parts: Vec<CompletedPart> = stream::iter(1..=parts)
            .map(|n| {
                let (file, buffers, upload) = (Arc::clone(&file), Arc::clone(&self.buffers), &upload);
                async move {
                    let at = u64::from(n - 1) * PART;
                    let len = PART.min(self.len - at) as usize;
                    let read = move || {
                        let mut bytes = buffers.take();
                        file.read_exact_at(&mut bytes[..len], at).unwrap();
                        Bytes::from_owner(Pooled(bytes, buffers)).slice(..len)
                    };
                    let bytes = tokio::task::spawn_blocking(read).await.unwrap();
                    let segments = (0..len).step_by(MIB as usize);
                    let segments = segments.map(|from| bytes.slice(from..len.min(from + MIB as usize))).collect();
                    let number = PartNumber::try_from(n).unwrap();
                    let payload = Payload::held(segments);
                    let part = PutPart { number, attempt: Attempt(1), offset: None, payload };
                    CompletedPart { number, etag: store.put_part(upload, part).await.unwrap() }
                }
            })
            .buffer_unordered(in_flight as usize)
            .collect()
            .await;
        parts.sort_by_key(|part| part.number);
        store.complete(&upload, &parts, PutCondition::None).await.unwrap();
    }

    fn open(&self, store: &Arc<S3Store>, in_flight: Option<u32>) -> Reader {
        let trusted = Trusted::new(vec![(self.kms.clone(), TrustedKeys::Any)]);
        let options = ReadOptions { max_in_flight: in_flight, ..ReadOptions::default() };
        self.runtime.block_on(self.engine.open(store.clone(), key(), &trusted, &options)).unwrap()
    }

    fn row(&self, name: &str, times: Times) {
        let rate = |time: Duration| self.len as f64 / 1e6 / time.as_secs_f64();
        let Times { median, fastest, slowest } = times;
        println!("  {name:34} {:6.0} MB/s ({:.0} to {:.0})", rate(median), rate(slowest), rate(fastest));
    }
}

/// Buffers for parts, each of a part's size.
#[derive(Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; PART as usize])
    }
}

struct Pooled(Vec<u8>, Arc<Buffers>);

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.1.0.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.0));
    }
}

fn key() -> ObjectKey {
    "object".parse().unwrap()
}

/// All of it in ranges of a part's size, each dropped as it comes.
async fn get_plain(store: &S3Store, len: u64, in_flight: u32) {
    let ranges = (0..len).step_by(PART as usize).map(|first| (first, len.min(first + PART) - 1));
    let done = stream::iter(ranges)
        .map(|(first, last)| get_range(store, ByteRange::Inclusive { first, last }))
        .buffer_unordered(in_flight as usize);
    done.collect::<()>().await;
}

async fn get_range(store: &S3Store, range: ByteRange) {
    let mut body = store.get(&key(), Some(range), None).await.unwrap().body;
    while let Some(piece) = body.try_next().await.unwrap() {
        black_box(piece);
    }
}

async fn drain(reader: &Reader) {
    let mut plain = std::pin::pin!(reader.stream(0..reader.len()));
    while let Some(piece) = plain.try_next().await.unwrap() {
        black_box(piece);
    }
}

fn ratio(plain: Times, sealed: Times) {
    println!("  {:.3} of the other's speed", plain.median.as_secs_f64() / sealed.median.as_secs_f64());
}

fn take_turns<const N: usize>(rounds: usize, contenders: [&mut dyn FnMut(); N]) -> [Times; N] {
    turns::take_turns(rounds, contenders).map(|times| Times {
        median: times[times.len() / 2],
        fastest: times[0],
        slowest: times[times.len() - 1],
    })
}

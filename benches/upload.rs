//! Uploads and reads of a file in the page cache, beside hand-written loops that do the same and nothing else.
//!
//! `cargo bench --bench upload`; with `-- --test` each runs once on a small file. `SEALIFT_BENCH_MIB` sets the file's size.
//!
//! The tables at the end are what performance promises are about: contenders take turns, and medians are compared, because
//! on a shared machine nothing else can be.
#![allow(unsafe_code, reason = "maps are measured: of a file of its own, which nothing else knows")]
#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to report an error to")]

use std::cell::Cell;
use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures::TryStreamExt as _;
use sealift::crypto::{CHUNK, SEALED_CHUNK, SEALED_STRIPE, STRIPE, TAG, crc64};
use sealift::engine::{GetOptions, ReadOptions, Reader, UploadOptions};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{FileSource, MapSource, PartSource};
use sealift::store::{DirStore, DiscardStore, MultipartStore};
use sealift::{ByteRange, DataKey, Engine, ObjectKey};
use tokio::runtime::Runtime;

#[path = "support/source.rs"]
mod source;
#[path = "support/turns.rs"]
mod turns;

const MIB: u64 = 1 << 20;

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let bench = Bench::new(if test { 9 } else { 1024 });
    let mut criterion = Criterion::default().configure_from_args();
    bench.with_criterion(&mut criterion);
    criterion.final_summary();
    let (in_memory, on_disk) = if test { (1, 1) } else { (21, 9) };
    for threads in [1, 2] {
        bench.to_discard(threads, false, in_memory);
    }
    bench.to_discard(2, true, in_memory);
    bench.in_flight(in_memory);
    for threads in [1, 2] {
        bench.opened(threads, in_memory);
    }
    bench.to_directory(on_disk);
    bench.ranges(if test { 3 } else { 200 });
}

/// A file, and what it takes to upload it.
struct Bench {
    dir: tempfile::TempDir,
    len: u64,
    runtime: Runtime,
    kms: Arc<KeyFile>,
}

impl Bench {
    fn new(mib: u64) -> Self {
        let (dir, len) = source::make(mib);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { dir, len, runtime, kms: Arc::new(KeyFile::new(DataKey::random().unwrap())) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn source(&self, map: bool) -> Box<dyn PartSource> {
        match map {
            // SAFETY: nobody else knows the file.
            true => Box::new(unsafe { MapSource::open(self.path()) }.unwrap()),
            false => Box::new(FileSource::open(self.path()).unwrap()),
        }
    }

    fn put(&self, engine: &Engine, store: Arc<dyn MultipartStore>, map: bool, checksums: bool) {
        self.put_with(engine, store, map, UploadOptions { checksums, ..UploadOptions::default() });
    }

    fn put_with(&self, engine: &Engine, store: Arc<dyn MultipartStore>, map: bool, options: UploadOptions) {
        let recipients = [Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }];
        let upload = engine.upload(store, "object".parse().unwrap(), self.source(map), &recipients, options);
        self.runtime.block_on(upload).unwrap();
    }

    fn open(&self, engine: &Engine, store: Arc<dyn MultipartStore>) -> Reader {
        let trusted = Trusted::new(vec![(self.kms.clone(), TrustedKeys::Any)]);
        let options = ReadOptions::default();
        let open = engine.open(store, "object".parse().unwrap(), &trusted, &options);
        self.runtime.block_on(open).unwrap()
    }

    fn with_criterion(&self, criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("file, page cache");
        group.sample_size(10).throughput(Throughput::Bytes(self.len));
        for threads in [1, 2] {
            let engine = engine(threads);
            for (name, map) in [("read", false), ("map", true)] {
                group.bench_function(format!("{name} to discard, {threads} threads"), |b| {
                    b.iter(|| self.put(&engine, Arc::new(DiscardStore::new()), map, false));
                });
                group.bench_function(format!("hand-written {name} to discard, {threads} threads"), |b| {
                    b.iter(|| hand_written(&self.path(), self.len, threads, map, false));
                });
            }
        }
        let (engine, store) = (engine(2), self.dir_store());
        group.bench_function("read to directory, 2 threads", |b| {
            b.iter(|| self.put(&engine, store.clone(), false, false));
        });
        self.put(&engine, store.clone(), false, false);
        let reader = self.open(&engine, store);
        let target = self.dir.path().join("target");
        group.bench_function("directory to file, 2 threads", |b| {
            let options = || GetOptions { overwrite: true, ..GetOptions::default() };
            b.iter(|| self.runtime.block_on(reader.write_to_file(&target, options())).unwrap());
        });
        group.throughput(Throughput::Bytes(MIB));
        let range = ByteRange::Inclusive { first: self.len / 2 + 17, last: self.len / 2 + 16 + MIB };
        group.bench_function("range of 1 MiB from directory", |b| {
            b.iter(|| black_box(self.runtime.block_on(reader.read_range(range)).unwrap()));
        });
    }

    fn dir_store(&self) -> Arc<DirStore> {
        Arc::new(DirStore::open(self.dir.path().join("store")).unwrap())
    }

    fn to_discard(&self, threads: usize, checksums: bool, rounds: usize) {
        let engine = engine(threads);
        let store = || Arc::new(DiscardStore::new());
        let path = self.path();
        let [read, map, hand_read, hand_map] = medians(
            rounds,
            [
                &mut || self.put(&engine, store(), false, checksums),
                &mut || self.put(&engine, store(), true, checksums),
                &mut || hand_written(&path, self.len, threads, false, checksums),
                &mut || hand_written(&path, self.len, threads, true, checksums),
            ],
        );
        let title = if checksums { ", CRC-64" } else { "" };
        println!("\nfile to discard, {threads} threads{title}: medians of {rounds}");
        self.row("sealift, read", read);
        self.row("sealift, map", map);
        self.row("hand-written, read", hand_read);
        self.row("hand-written, map", hand_map);
        let (best, hand) = (read.min(map), hand_read.min(hand_map));
        println!("  {:.3} of the better hand-written loop's speed", hand.as_secs_f64() / best.as_secs_f64());
    }

    /// Whether all threads are busy with one part at a time as with fifty.
    fn in_flight(&self, rounds: usize) {
        let engine = engine(2);
        let put = |max_in_flight, part_size: u64| {
            let (max_in_flight, part_size) = (Some(max_in_flight), Some(part_size));
            let options = UploadOptions { max_in_flight, part_size, ..UploadOptions::default() };
            self.put_with(&engine, Arc::new(DiscardStore::new()), false, options);
        };
        let times = medians(
            rounds,
            [
                &mut || put(50, 16 * MIB),
                &mut || put(8, 16 * MIB),
                &mut || put(1, 16 * MIB),
                &mut || put(1, 128 * MIB),
                &mut || put(1, self.len),
            ],
        );
        println!("\nfile to discard, 2 threads, parts in flight: medians of {rounds}");
        let names = ["50 of 16 MiB", "8 of 16 MiB", "1 of 16 MiB", "1 of 128 MiB", "1, all of the file"];
        for (name, time) in names.into_iter().zip(times) {
            self.row(name, time);
        }
        println!("  {:.3} of fifty's speed with one of 16 MiB", times[0].as_secs_f64() / times[2].as_secs_f64());
    }

    /// An object in a directory, opened and dropped.
    fn opened(&self, threads: usize, rounds: usize) {
        let (engine, store) = (engine(threads), self.dir_store());
        self.put(&engine, store.clone(), false, false);
        let reader = self.open(&engine, store);
        let by_hand = self.dir.path().join("by hand");
        hand_written_to_file(&self.path(), self.len, 2, &by_hand);
        let [sealift, hand] = medians(
            rounds,
            [
                &mut || {
                    black_box(self.runtime.block_on(reader.verify(None)).unwrap());
                },
                &mut || hand_opened(&by_hand, self.len, threads),
            ],
        );
        println!("\ndirectory, opened and dropped, {threads} threads: medians of {rounds}");
        self.row("sealift", sealift);
        self.row("hand-written", hand);
        println!("  {:.3} of the hand-written loop's speed", hand.as_secs_f64() / sealift.as_secs_f64());
        fs::remove_file(by_hand).unwrap();
    }

    fn to_directory(&self, rounds: usize) {
        let (engine, store, path) = (engine(2), self.dir_store(), self.path());
        let (copy, sealed) = (self.dir.path().join("copy"), self.dir.path().join("sealed"));
        let [read, map, hand, cp] = medians(
            rounds,
            [
                &mut || self.put(&engine, store.clone(), false, false),
                &mut || self.put(&engine, store.clone(), true, false),
                &mut || hand_written_to_file(&path, self.len, 2, &sealed),
                &mut || cp_and_sync(&path, &copy),
            ],
        );
        println!("\nfile to directory, synced, 2 threads: medians of {rounds}");
        self.row("sealift, read", read);
        self.row("sealift, map", map);
        self.row("hand-written, read", hand);
        self.row("cp --reflink=never && sync", cp);
        let best = read.min(map).as_secs_f64();
        println!("  {:.3} of the hand-written loop, {:.3} of cp", hand.as_secs_f64() / best, cp.as_secs_f64() / best);
    }

    fn ranges(&self, rounds: usize) {
        let (engine, store) = (engine(2), self.dir_store());
        self.put(&engine, store.clone(), false, false);
        let reader = self.open(&engine, store.clone());
        let body = File::open(self.dir.path().join("store/object")).unwrap();
        let key: ObjectKey = "object".parse().unwrap();
        // Another one each time, so that none is in the core's cache.
        let turn = Cell::new(0);
        let first = || (turn.replace(turn.get() + 1) * 37 * MIB + 17) % (self.len - MIB);
        let next = || {
            let first = first();
            ByteRange::Inclusive { first, last: first + MIB - 1 }
        };
        let plain = async || {
            let got = store.get(&key, Some(next()), None).await.unwrap();
            let add = async |mut all: Vec<u8>, bytes: Bytes| {
                all.extend_from_slice(&bytes);
                Ok(all)
            };
            got.body.try_fold(Vec::with_capacity(MIB as usize), add).await.unwrap()
        };
        let [sealed, of_store, bare] = medians(
            rounds,
            [
                &mut || {
                    black_box(self.runtime.block_on(reader.read_range(next())).unwrap());
                },
                &mut || {
                    black_box(self.runtime.block_on(plain()));
                },
                &mut || {
                    let mut bytes = vec![0; MIB as usize];
                    body.read_exact_at(&mut bytes, first()).unwrap();
                    black_box(bytes);
                },
            ],
        );
        println!("\nrange of 1 MiB from directory, manifest cached: medians of {rounds}");
        println!("  authenticated {sealed:?}, the same store's plain range {of_store:?}, one pread {bare:?}");
        println!("  {:.3} of the plain range", sealed.as_secs_f64() / of_store.as_secs_f64());
    }

    fn row(&self, name: &str, time: Duration) {
        println!("  {name:30} {:8.0} MB/s", self.len as f64 / 1e6 / time.as_secs_f64());
    }
}

fn medians<const N: usize>(rounds: usize, contenders: [&mut dyn FnMut(); N]) -> [Duration; N] {
    turns::take_turns(rounds, contenders).map(|times| times[times.len() / 2])
}

fn engine(threads: usize) -> Engine {
    Engine::builder().threads(threads).build().unwrap()
}

/// The least that seals a file: each thread takes the next MiB, reads or borrows it, and seals it chunk by chunk.
fn hand_written(path: &Path, len: u64, threads: usize, map: bool, checksum: bool) {
    let file = File::open(path).unwrap();
    // SAFETY: nobody else knows the file.
    let map = map.then(|| unsafe { memmap2::Mmap::map(&file) }.unwrap());
    each_stripe(len, threads, |at, key, buffer, ring| {
        if let Some(map) = &map {
            let plain = &map[at as usize..at as usize + STRIPE];
            for (i, (plain, sealed)) in plain.chunks_exact(CHUNK).zip(ring.chunks_exact_mut(SEALED_CHUNK)).enumerate() {
                if checksum {
                    black_box(crc64(plain));
                }
                let (ciphertext, tag) = sealed.split_at_mut(CHUNK);
                key.seal_out_of_place_scatter(nonce(at, i), Aad::empty(), plain, ciphertext, &[], tag).unwrap();
            }
            black_box(ring);
        } else {
            file.read_exact_at(buffer, at).unwrap();
            for (i, chunk) in buffer.chunks_exact_mut(CHUNK).enumerate() {
                if checksum {
                    black_box(crc64(chunk));
                }
                let tag = key.seal_in_place_separate_tag(nonce(at, i), Aad::empty(), chunk).unwrap();
                let _ = black_box(tag);
            }
            black_box(buffer);
        }
    });
}

/// The same, written into a new file that is then put on disk and in place.
fn hand_written_to_file(path: &Path, len: u64, threads: usize, target: &Path) {
    let file = File::open(path).unwrap();
    let temp = target.with_extension("new");
    let out = File::create(&temp).unwrap();
    each_stripe(len, threads, |at, key, buffer, ring| {
        file.read_exact_at(buffer, at).unwrap();
        for (i, (plain, sealed)) in buffer.chunks_exact(CHUNK).zip(ring.chunks_exact_mut(SEALED_CHUNK)).enumerate() {
            let (ciphertext, tag) = sealed.split_at_mut(CHUNK);
            key.seal_out_of_place_scatter(nonce(at, i), Aad::empty(), plain, ciphertext, &[], tag).unwrap();
        }
        out.write_all_at(ring, at / STRIPE as u64 * SEALED_STRIPE as u64).unwrap();
    });
    out.sync_all().unwrap();
    fs::rename(&temp, target).unwrap();
    File::open(target.parent().unwrap()).unwrap().sync_all().unwrap();
}

/// The way back: each thread takes the next sealed MiB, reads it, and opens it chunk by chunk.
fn hand_opened(path: &Path, len: u64, threads: usize) {
    let file = File::open(path).unwrap();
    each_stripe(len, threads, |at, key, buffer, ring| {
        file.read_exact_at(ring, at / STRIPE as u64 * SEALED_STRIPE as u64).unwrap();
        for (i, (sealed, plain)) in ring.chunks_exact(SEALED_CHUNK).zip(buffer.chunks_exact_mut(CHUNK)).enumerate() {
            let (ciphertext, tag) = sealed.split_at(CHUNK);
            key.open_separate_gather(nonce(at, i), Aad::empty(), ciphertext, tag, plain).unwrap();
        }
        black_box(buffer);
    });
}

fn each_stripe(len: u64, threads: usize, work: impl Fn(u64, &LessSafeKey, &mut [u8], &mut [u8]) + Sync) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
                let (mut buffer, mut ring) = (vec![0; STRIPE], vec![0; SEALED_STRIPE]);
                loop {
                    let at = next.fetch_add(STRIPE as u64, Relaxed);
                    if at >= len {
                        break;
                    }
                    work(at, &key, &mut buffer, &mut ring);
                }
            });
        }
    });
}

fn nonce(at: u64, i: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&(at / CHUNK as u64 + i as u64).to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn cp_and_sync(from: &Path, to: &Path) {
    let done = Command::new("sh")
        .args(["-c", r#"cp --reflink=never "$1" "$2" && sync "$2""#, "sh"])
        .args([from, to])
        .status()
        .unwrap();
    assert!(done.success());
}

const _: () = assert!(SEALED_CHUNK == CHUNK + TAG);

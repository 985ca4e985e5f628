//! Sealing and opening in memory, beside the bare primitive. Ends with the ratio that performance promises are about.
//!
//! `cargo bench --bench seal --all-features`; with `-- --test` each runs once.
//!
//! Everything seals from a part in memory into one stripe's buffer, used over and over, as uploads do.

#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to report an error to")]

use std::hint::black_box;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use criterion::{BenchmarkId, Criterion, Throughput};
use sealift::DataKey;
use sealift::crypto::{
    Backend, CHUNK, Opener, SEALED_CHUNK, SEALED_STRIPE, STRIPE, STRIPE_CHUNKS, Sealer, TAG, crc64, open_message,
    seal_message,
};

const CONTEXT: &[u8] = b"sealift/v1/part\0an object's id..\0\0\0\x01";
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    primitive(&mut criterion);
    part(&mut criterion);
    part_sizes(&mut criterion);
    threads(&mut criterion);
    small(&mut criterion);
    checksum(&mut criterion);
    criterion.final_summary();
    ratio(if std::env::args().any(|arg| arg == "--test") { 1 } else { 151 });
}

/// aws-lc-rs alone, by chunk size.
fn primitive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("primitive, 16 MiB");
    let (key, source) = (raw_key(), bytes(16 * MIB));
    group.throughput(Throughput::Bytes(source.len() as u64));
    for chunk in [CHUNK, 64 * KIB, MIB] {
        let mut ring = bytes(MIB / chunk * (chunk + TAG));
        let name = format!("{} KiB chunks", chunk / KIB);
        group.bench_function(BenchmarkId::new("source to destination", &name), |b| {
            b.iter(|| raw_seal(&key, &source, &mut ring, chunk));
        });
        group.bench_function(BenchmarkId::new("in place", &name), |b| {
            b.iter(|| {
                for _ in 0..source.len() / MIB {
                    for (i, chunk) in ring.chunks_exact_mut(chunk).enumerate() {
                        let _ = black_box(key.seal_in_place_separate_tag(nonce(i), Aad::empty(), chunk).unwrap());
                    }
                }
            });
        });
    }
}

/// One part, one core, by backend.
fn part(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("part, 16 MiB");
    let (key, source) = (DataKey::random().unwrap(), bytes(16 * MIB));
    group.throughput(Throughput::Bytes(source.len() as u64));
    for &backend in Backend::available() {
        let mut out = bytes(SEALED_STRIPE);
        group.bench_function(BenchmarkId::new("seal", backend), |b| b.iter(|| seal(backend, &key, &source, &mut out)));
        let sealed = seal_message(backend, &key, CONTEXT, &source).unwrap();
        group.bench_function(BenchmarkId::new("open", backend), |b| b.iter(|| open(backend, &key, &sealed, &mut out)));
    }
}

/// One part, one core, by its size.
fn part_sizes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("part by size");
    let key = DataKey::random().unwrap();
    for size in [64 * KIB, MIB, 5 * MIB, 64 * MIB] {
        let (source, mut out) = (bytes(size), bytes(SEALED_STRIPE));
        let sealed = seal_message(Backend::default(), &key, CONTEXT, &source).unwrap();
        group.throughput(Throughput::Bytes(size as u64));
        let name = format!("{} KiB", size / KIB);
        group.bench_function(BenchmarkId::new("seal", &name), |b| {
            b.iter(|| seal(Backend::default(), &key, &source, &mut out));
        });
        group.bench_function(BenchmarkId::new("open", &name), |b| {
            b.iter(|| open(Backend::default(), &key, &sealed, &mut out));
        });
    }
}

/// One part, its stripes shared out among threads.
fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("part, 256 MiB, by threads");
    group.sample_size(10);
    let (key, raw, source) = (DataKey::random().unwrap(), raw_key(), bytes(256 * MIB));
    let sealed = seal_message(Backend::default(), &key, CONTEXT, &source).unwrap();
    group.throughput(Throughput::Bytes(source.len() as u64));
    for threads in [1, 2] {
        let mut buffers: Vec<_> = (0..threads).map(|_| bytes(SEALED_STRIPE)).collect();
        group.bench_function(BenchmarkId::new("primitive", threads), |b| {
            b.iter(|| {
                share(&mut buffers, source.chunks(STRIPE), |stripe, out| raw_seal(&raw, stripe, out, CHUNK));
            });
        });
        group.bench_function(BenchmarkId::new("seal", threads), |b| {
            b.iter(|| {
                let mut sealer = Sealer::begin(Backend::default(), &key, CONTEXT).unwrap();
                let stripes = source.chunks(STRIPE).map(|stripe| (stripe, sealer.next_stripe().unwrap()));
                share(&mut buffers, stripes, |(stripe, mut sealer), out| {
                    sealer.seal(stripe, out).unwrap();
                });
            });
        });
        group.bench_function(BenchmarkId::new("open", threads), |b| {
            b.iter(|| {
                let (header, chunks) = sealed.split_first_chunk().unwrap();
                let opener = Opener::begin(Backend::default(), &key, CONTEXT, header).unwrap();
                share(&mut buffers, chunks.chunks_exact(SEALED_STRIPE).zip(0..), |(stripe, i), out| {
                    opener.open(i * STRIPE_CHUNKS as u64, stripe, false, &mut out[..STRIPE]).unwrap();
                });
            });
        });
    }
}

/// Whole messages of 1 KiB: seals and opens a second.
fn small(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message, 1 KiB");
    let (key, plaintext) = (DataKey::random().unwrap(), bytes(KIB));
    group.throughput(Throughput::Elements(1));
    for &backend in Backend::available() {
        let sealed = seal_message(backend, &key, CONTEXT, &plaintext).unwrap();
        group.bench_function(BenchmarkId::new("seal", backend), |b| {
            b.iter(|| seal_message(backend, &key, CONTEXT, &plaintext).unwrap());
        });
        group.bench_function(BenchmarkId::new("open", backend), |b| {
            b.iter(|| open_message(backend, &key, CONTEXT, &sealed).unwrap());
        });
    }
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("CRC-64/XZ");
    let stripe = bytes(STRIPE);
    group.throughput(Throughput::Bytes(STRIPE as u64));
    group.bench_function("1 MiB", |b| b.iter(|| crc64(black_box(&stripe))));
}

/// Sealing a 16 MiB part against the bare primitive at 16 KiB, turn about after each stripe: a stripe takes far less than
/// a scheduler's time slice, so on a busy machine few of them are interrupted, and the median ignores those.
fn ratio(rounds: usize) {
    const STRIPES: usize = 16;
    let (key, raw) = (DataKey::random().unwrap(), raw_key());
    // Of its own each, or one would find in the cache what the other has just read.
    let sources = [bytes(STRIPES * STRIPE), bytes(STRIPES * STRIPE)];
    let mut outs = [bytes(SEALED_STRIPE), bytes(SEALED_STRIPE)];
    let mut times: [[Vec<Duration>; 2]; STRIPES] = Default::default();
    for round in 0..rounds {
        let mut sealer = None;
        for (stripe, times) in times.iter_mut().enumerate() {
            for turn in [round % 2, (round + 1) % 2] {
                let (source, out) = (&sources[turn].as_chunks::<STRIPE>().0[stripe], &mut outs[turn]);
                let start = Instant::now();
                if turn == 0 {
                    raw_seal(&raw, source, out, CHUNK);
                } else {
                    let sealer = sealer.get_or_insert_with(|| Sealer::begin(Backend::AwsLc, &key, CONTEXT).unwrap());
                    sealer.next_stripe().unwrap().seal(source, out).unwrap();
                    if stripe + 1 == STRIPES {
                        sealer.next_stripe().unwrap().seal_last(b"", &mut out[..TAG]).unwrap();
                    }
                    black_box(out);
                }
                times[turn].push(start.elapsed());
            }
        }
    }
    let [primitive, sealing] =
        [0, 1].map(|turn| times.iter_mut().map(|times| median(&mut times[turn])).sum::<Duration>());
    println!(
        "16 MiB part: primitive {primitive:?}, sealed {sealing:?}: {:.3} of the primitive's speed, medians of {rounds}",
        primitive.as_secs_f64() / sealing.as_secs_f64(),
    );
}

fn raw_seal(key: &LessSafeKey, source: &[u8], ring: &mut [u8], chunk: usize) {
    for (i, lap) in source.chunks(ring.len() / (chunk + TAG) * chunk).enumerate() {
        for (j, (plain, sealed)) in lap.chunks_exact(chunk).zip(ring.chunks_exact_mut(chunk + TAG)).enumerate() {
            let (ciphertext, tag) = sealed.split_at_mut(chunk);
            let nonce = nonce(i * STRIPE_CHUNKS + j);
            key.seal_out_of_place_scatter(nonce, Aad::empty(), plain, ciphertext, &[], tag).unwrap();
        }
    }
    black_box(ring);
}

fn seal(backend: Backend, key: &DataKey, source: &[u8], out: &mut [u8]) {
    let mut sealer = Sealer::begin(backend, key, CONTEXT).unwrap();
    let (stripes, last) = source.as_chunks::<STRIPE>();
    for stripe in stripes {
        sealer.next_stripe().unwrap().seal(stripe, out).unwrap();
    }
    let sealed = last.len() + TAG * (last.len() / CHUNK + 1);
    sealer.next_stripe().unwrap().seal_last(last, &mut out[..sealed]).unwrap();
    black_box(out);
}

fn open(backend: Backend, key: &DataKey, sealed: &[u8], out: &mut [u8]) {
    let (header, chunks) = sealed.split_first_chunk().unwrap();
    let opener = Opener::begin(backend, key, CONTEXT, header).unwrap();
    let (stripes, last) = chunks.as_chunks::<SEALED_STRIPE>();
    for (stripe, i) in stripes.iter().zip(0..) {
        opener.open(i * STRIPE_CHUNKS as u64, stripe, false, &mut out[..STRIPE]).unwrap();
    }
    let plain = last.len() - TAG * (last.len() / SEALED_CHUNK + 1);
    opener.open((stripes.len() * STRIPE_CHUNKS) as u64, last, true, &mut out[..plain]).unwrap();
    black_box(out);
}

/// Does `work` on all `items`, on a thread for each buffer.
fn share<T: Send>(buffers: &mut [Vec<u8>], items: impl Iterator<Item = T> + Send, work: impl Fn(T, &mut [u8]) + Sync) {
    let items = Mutex::new(items);
    thread::scope(|scope| {
        for buffer in buffers {
            scope.spawn(|| {
                while let Some(item) = { items.lock().unwrap().next() } {
                    work(item, buffer);
                }
            });
        }
    });
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn raw_key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap())
}

/// The primitive alone does not care that these repeat, and nothing here is secret.
fn nonce(n: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&(n as u64).to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

//! Work to be counted, not timed: `cargo xtask instructions` runs this under valgrind and compares how many instructions each takes with
//! `benches/instructions.txt`. A clock is too coarse for a regression of 1 %, and a busy machine hides one of 10 %.
//!
//! `instructions NAME COUNT` does it so many times; twice with different counts, and what the program itself takes cancels out.
//! With `--test`, all of it is done once.

#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to report an error to")]

use std::hint::black_box;
use std::sync::Arc;

use sealift::crypto::{Backend, CHUNK, HEADER, Opener, SEALED_CHUNK, Sealer, crc64, open_message, seal_message};
use sealift::engine::{ReadOptions, UploadOptions};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::BytesSource;
use sealift::store::{DiscardStore, MemoryStore, MultipartStore};
use sealift::{ByteRange, DataKey, Engine};

const CONTEXT: &[u8] = b"sealift/v1/part\0an object's id..\0\0\0\x01";
/// Plaintext of the parts and ranges that are counted.
const PART: usize = 4 * CHUNK;
/// One backend everywhere, whatever the CPU has.
const BACKEND: Backend = Backend::AwsLc;

type Work = fn(usize);

const ALL: [(&str, Work); 7] = [
    ("seal-chunk", seal_chunks),
    ("open-chunk", open_chunks),
    ("crc64-chunk", checksums),
    ("seal-message-1k", seal_messages),
    ("open-message-1k", open_messages),
    ("upload-part-64k", upload_parts),
    ("read-range-64k", read_ranges),
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [name, count] if ALL.iter().any(|(known, _)| known == name) => {
            let (_, work) = ALL.iter().find(|(known, _)| known == name).unwrap();
            work(count.parse().unwrap());
        }
        _ if arguments.iter().any(|argument| argument == "--list") => {
            ALL.iter().for_each(|(name, _)| println!("{name}"))
        }
        // What `cargo bench` gives, in whatever words.
        _ => ALL.iter().for_each(|(name, work)| {
            work(1);
            println!("{name}: to be counted by `cargo xtask instructions`");
        }),
    }
}

fn seal_chunks(count: usize) {
    let (key, plain, mut sealed) = (key(), bytes(CHUNK), bytes(SEALED_CHUNK));
    let mut sealer = Sealer::begin(BACKEND, &key, CONTEXT).unwrap();
    let mut stripe = sealer.next_stripe().unwrap();
    for n in 1..=count {
        stripe.seal(black_box(&plain), &mut sealed).unwrap();
        if n.is_multiple_of(64) {
            stripe = sealer.next_stripe().unwrap();
        }
    }
    black_box(sealed);
}

fn open_chunks(count: usize) {
    let (key, mut plain) = (key(), bytes(CHUNK));
    let sealed = seal_message(BACKEND, &key, CONTEXT, &bytes(CHUNK)).unwrap();
    let opener = Opener::begin(BACKEND, &key, CONTEXT, sealed.first_chunk().unwrap()).unwrap();
    for _ in 0..count {
        opener.open(0, black_box(&sealed[HEADER..HEADER + SEALED_CHUNK]), false, &mut plain).unwrap();
    }
    black_box(plain);
}

fn checksums(count: usize) {
    let plain = bytes(CHUNK);
    for _ in 0..count {
        black_box(crc64(black_box(&plain)));
    }
}

fn seal_messages(count: usize) {
    let (key, plain) = (key(), bytes(1024));
    for _ in 0..count {
        black_box(seal_message(BACKEND, &key, CONTEXT, black_box(&plain)).unwrap());
    }
}

fn open_messages(count: usize) {
    let key = key();
    let sealed = seal_message(BACKEND, &key, CONTEXT, &bytes(1024)).unwrap();
    for _ in 0..count {
        black_box(open_message(BACKEND, &key, CONTEXT, black_box(&sealed)).unwrap());
    }
}

/// Driver, machine, sealing, and a store that takes parts as the network ones do; all on this thread.
fn upload_parts(count: usize) {
    let world = World::new();
    world.put(Arc::new(MemoryStore::new()), count * PART);
    // The same code with a store that is written to directly.
    world.put(Arc::new(DiscardStore::new()), count * PART);
}

fn read_ranges(count: usize) {
    let world = World::new();
    let store = Arc::new(MemoryStore::new());
    world.put(store.clone(), 4 * PART);
    let trusted = Trusted::new(vec![(world.kms.clone(), TrustedKeys::Any)]);
    world.runtime.block_on(async {
        let options = ReadOptions::default();
        let reader = world.engine.open(store, "object".parse().unwrap(), &trusted, &options).await.unwrap();
        let range = ByteRange::Inclusive { first: 1000, last: 999 + PART as u64 };
        reader.read_range(range).await.unwrap();
        for _ in 0..count {
            black_box(reader.read_range(range).await.unwrap());
        }
    });
}

struct World {
    runtime: tokio::runtime::Runtime,
    engine: Engine,
    kms: Arc<KeyFile>,
}

impl World {
    fn new() -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            engine: Engine::builder().threads(1).backend(BACKEND).simulation(1).build().unwrap(),
            kms: Arc::new(KeyFile::new(key())),
        }
    }

    fn put(&self, store: Arc<dyn MultipartStore>, len: usize) {
        let recipients = [Recipient { kms: self.kms.clone(), key: self.kms.id().to_owned() }];
        let options = UploadOptions { part_size: Some(PART as u64), ..UploadOptions::default() };
        let source = Box::new(BytesSource::new(bytes(len)));
        let upload = self.engine.upload(store, "object".parse().unwrap(), source, &recipients, options);
        self.runtime.block_on(upload).unwrap();
    }
}

fn key() -> DataKey {
    DataKey::take(&mut [7; 32]).unwrap()
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

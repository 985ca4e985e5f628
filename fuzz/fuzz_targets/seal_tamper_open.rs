//! Whatever is done to a sealed message, it opens to what was sealed or not at all.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sealift::crypto::{Backend, CHUNK, HEADER, SEALED_CHUNK, open_message, seal_message};
use sealift::{DataKey, ErrorKind};

#[derive(Arbitrary, Debug)]
struct Input {
    key: [u8; 32],
    context: Vec<u8>,
    len: u16,
    tampering: Vec<Tamper>,
}

#[derive(Arbitrary, Debug)]
enum Tamper {
    Flip(u32),
    Set(u16, u8),
    Truncate(u16),
    Append(Vec<u8>),
    Remove(u16),
    SwapChunks(u8, u8),
    RepeatChunk(u8),
    DropChunk(u8),
    Context(Vec<u8>),
    Key([u8; 32]),
}

fuzz_target!(|input: Input| {
    let backend = Backend::default();
    let plaintext: Vec<u8> = (0..usize::from(input.len) % (3 * CHUNK)).map(|i| (i * 31 + i / 251) as u8).collect();
    let key = input.key;
    let sealed = seal_message(backend, &take(key), &input.context, &plaintext).unwrap();

    let (mut forged, mut forged_context, mut forged_key) = (sealed.clone(), input.context.clone(), key);
    for tamper in input.tampering {
        match tamper {
            Tamper::Context(context) => forged_context = context,
            Tamper::Key(key) => forged_key = key,
            tamper => forged = tamper.apply(forged),
        }
    }
    let untouched = forged == sealed && forged_context == input.context && forged_key == key;
    match open_message(backend, &take(forged_key), &forged_context, &forged) {
        Ok(opened) => assert!(untouched && opened == plaintext, "a forgery opened"),
        Err(error) => assert!(!untouched && error.kind() == ErrorKind::Authentication, "{error}"),
    }
});

impl Tamper {
    fn apply(self, mut message: Vec<u8>) -> Vec<u8> {
        let len = message.len().max(1);
        match self {
            Self::Flip(bit) => {
                if let Some(byte) = message.get_mut(bit as usize / 8 % len) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Set(at, value) => {
                if let Some(byte) = message.get_mut(usize::from(at) % len) {
                    *byte = value;
                }
            }
            Self::Truncate(at) => message.truncate(usize::from(at)),
            Self::Append(more) => message.extend(more),
            Self::Remove(at) => {
                if !message.is_empty() {
                    message.remove(usize::from(at) % len);
                }
            }
            chunkwise => return chunkwise.apply_to_chunks(&message),
        }
        message
    }

    fn apply_to_chunks(self, message: &[u8]) -> Vec<u8> {
        let (header, chunks) = message.split_at(message.len().min(HEADER));
        let mut chunks: Vec<_> = chunks.chunks(SEALED_CHUNK).collect();
        if !chunks.is_empty() {
            let n = chunks.len();
            match self {
                Self::SwapChunks(a, b) => chunks.swap(usize::from(a) % n, usize::from(b) % n),
                Self::RepeatChunk(i) => chunks.insert(usize::from(i) % n, chunks[usize::from(i) % n]),
                Self::DropChunk(i) => {
                    chunks.remove(usize::from(i) % n);
                }
                _ => unreachable!("the others do not work on chunks"),
            }
        }
        [header, &chunks.concat()].concat()
    }
}

fn take(mut key: [u8; 32]) -> DataKey {
    DataKey::take(&mut key).unwrap()
}

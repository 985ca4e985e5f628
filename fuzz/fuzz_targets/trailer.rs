//! Arbitrary ends of bodies, and arbitrary manifests sealed as a true one would be: what opens fills the body exactly.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::crypto::{Backend, seal_message};
use sealift::format::{Manifest, context, trailer};
use sealift::{DataKey, ObjectId};

fuzz_target!(|input: (u64, &[u8], &[u8])| {
    let (object_len, tail, manifest) = input;
    if let Ok(len) = trailer::len_at_end(tail, object_len) {
        assert!((102..=444_628).contains(&len) && len <= object_len);
    }

    let key = DataKey::take(&mut [7; 32]).expect("32 bytes");
    let id = ObjectId::from_bytes([9; 16]);
    let backend = Backend::default();
    trailer::open(backend, &key, &id, tail, object_len).expect_err("nobody guesses a commitment");

    let sealed = seal_message(backend, &key, &context::manifest(&id), manifest).expect("it is short");
    let len = u32::try_from(sealed.len()).expect("it is short").to_be_bytes();
    let trailer = [&sealed[..], &len, b"SEALIFT1"].concat();
    let parsed = Manifest::parse(manifest).ok();
    let object_len = parsed.as_ref().map_or(object_len, |parsed| parsed.sealed_len() + trailer.len() as u64);
    assert_eq!(trailer::open(backend, &key, &id, &trailer, object_len).ok(), parsed);
    if parsed.is_some() {
        trailer::open(backend, &key, &id, &trailer, object_len + 1).expect_err("a byte more than there should be");
    }
});

//! Opening takes arbitrary headers, chunk numbers and bytes: no panic, and no plaintext but what was sealed.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sealift::DataKey;
use sealift::crypto::{Backend, CHUNK, HEADER, Opener, Sealer, TAG, open_message};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    backend: u8,
    key: [u8; 32],
    context: &'a [u8],
    /// Without one, a header that is in order, so that the chunks are looked at.
    header: Option<[u8; HEADER]>,
    first_chunk: u64,
    last: bool,
    out: u16,
    sealed: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let backends = Backend::available();
    let backend = backends[usize::from(input.backend) % backends.len()];
    let key = DataKey::take(&mut input.key.clone()).unwrap();
    assert!(open_message(backend, &key, input.context, input.sealed).is_err(), "a forgery opened");

    let header = match input.header {
        Some(header) => header,
        None => *Sealer::begin(backend, &key, input.context).unwrap().header(),
    };
    let opener = match Opener::begin(backend, &key, input.context, &header) {
        Ok(opener) => opener,
        Err(_) => return assert!(input.header.is_some(), "its own header opens"),
    };
    assert!(input.header.is_none(), "a forged header opened");
    let full = input.sealed.len() / (CHUNK + TAG);
    let fits = (input.sealed.len() % (CHUNK + TAG)).saturating_sub(TAG) + full * CHUNK;
    for len in [fits, usize::from(input.out)] {
        let mut out = vec![0xaa; len];
        match opener.open(input.first_chunk, input.sealed, input.last, &mut out) {
            Ok(opened) => assert!(opened == 0 && input.sealed.is_empty() && !input.last, "a forgery opened"),
            Err(_) => assert!(out.iter().all(|byte| *byte == 0), "unauthenticated plaintext got out"),
        }
    }
});

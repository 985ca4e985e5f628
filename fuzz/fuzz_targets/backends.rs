//! Every backend opens what every other seals, and refuses what every other refuses.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sealift::DataKey;
use sealift::crypto::{Backend, CHUNK, open_message, seal_message};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    key: [u8; 32],
    context: &'a [u8],
    /// Zeros before the plaintext, so that small inputs reach past the first chunk.
    padding: u16,
    plaintext: &'a [u8],
    flip: Option<u32>,
}

fuzz_target!(|input: Input<'_>| {
    let key = DataKey::take(&mut input.key.clone()).unwrap();
    let mut plaintext = vec![0; usize::from(input.padding) % (2 * CHUNK + 2)];
    plaintext.extend(input.plaintext);
    for &sealer in Backend::available() {
        let mut sealed = seal_message(sealer, &key, input.context, &plaintext).unwrap();
        if let Some(flip) = input.flip {
            let bit = flip as usize % (sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
        for &opener in Backend::available() {
            match open_message(opener, &key, input.context, &sealed) {
                Ok(opened) => assert!(input.flip.is_none() && opened == plaintext, "{sealer} seals, {opener} opens"),
                Err(error) => assert!(input.flip.is_some(), "{sealer} seals, {opener} refuses: {error}"),
            }
        }
    }
});

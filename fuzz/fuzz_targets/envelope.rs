//! Metadata as a store might hand it over: an envelope that is read can be written, and reads the same.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use sealift::format::Envelope;

const NAMES: [&str; 8] = [
    "sealift-format",
    "sealift-cipher",
    "sealift-object-id",
    "sealift-data-keys",
    "sealift-context",
    "sealift-bound",
    "Sealift-Bound",
    "sealift-of-the-future",
];

fuzz_target!(|lines: Vec<(u8, String)>| {
    // Most of what is missing is filled in, so that what is there is read.
    let mut metadata: BTreeMap<String, String> = [
        ("sealift-format", "1"),
        ("sealift-cipher", "COBBLESTONE-256"),
        ("sealift-object-id", "AAECAwQFBgcICQoLDA0ODw"),
        ("sealift-data-keys", r#"[{"kms":"local","key":"k","blob":"YQ=="}]"#),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for (name, value) in lines {
        if let Some(name) = NAMES.get(usize::from(name)) {
            metadata.insert((*name).to_owned(), value);
        }
    }
    if let Ok(envelope) = Envelope::from_metadata(&metadata) {
        let written = envelope.to_metadata();
        assert!(written.values().all(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~'))));
        assert_eq!(Envelope::from_metadata(&written).expect("what is written can be read"), envelope);
    }
});

//! Arbitrary bytes as a manifest: one that parses has one spelling, and its pieces cover any range exactly.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::format::{Layout, Manifest};

fuzz_target!(|input: (u64, u64, &[u8])| {
    let (start, len, bytes) = input;
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    assert_eq!(manifest.encode(), bytes);

    let layout = Layout::new(&manifest);
    assert_eq!(layout.plain_len(), manifest.plain_len());
    assert_eq!(layout.parts().last().map_or(0, |part| part.sealed.end), manifest.sealed_len());
    let range = start..start.saturating_add(len);
    let mut at = range.start;
    for piece in layout.pieces(range.clone()) {
        let part = &layout.parts()[piece.part];
        assert!(part.plain.contains(&at) && piece.take > 0);
        assert!(piece.sealed.start >= part.sealed.start + 56 && piece.sealed.end <= part.sealed.end);
        assert_eq!(piece.last, piece.sealed.end == part.sealed.end);
        at += piece.take;
    }
    assert_eq!(at, range.end.min(manifest.plain_len()).max(range.start));
});

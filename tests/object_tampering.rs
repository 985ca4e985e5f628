//! What a store could do to an object, done to it: full reads and range reads are refused, or right. `sNN` are the
//! numbers of the scenarios that all of Sealift must survive; here they meet format and encryption alone.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "support/object.rs"]
mod object;

use std::ops::Range;

use object::{Cmk, Reader, Stored, Upload};
use sealift::crypto::CHUNK;
use sealift::format::{Envelope, Manifest, TAIL_READ, trailer};
use sealift::{Error, ErrorKind, PartNumber};

const BUCKET: &str = "bucket";
const KEY: &str = "key";

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn read(stored: &Stored, cmk: &Cmk, range: Option<Range<u64>>) -> Result<Vec<u8>, Error> {
    let envelope = Envelope::from_metadata(&stored.metadata)?;
    let data_key = cmk.unwrap(&envelope, BUCKET, KEY)?;
    let reader = Reader::open(data_key, *envelope.object_id(), &stored.body)?;
    reader.read(range.unwrap_or(0..reader.plain_len()))
}

/// An object, and what it must open to.
struct Sealed {
    cmk: Cmk,
    upload: Upload,
    stored: Stored,
    plaintext: Vec<u8>,
}

impl Sealed {
    fn new(lens: &[usize]) -> Self {
        let (cmk, plaintext) = (Cmk::random(), plaintext(lens.iter().sum()));
        let upload = Upload::new(&plaintext, lens);
        let stored = upload.stored(&cmk);
        let sealed = Self { cmk, upload, stored, plaintext };
        assert!(
            read(&sealed.stored, &sealed.cmk, None).unwrap() == sealed.plaintext,
            "it opens as long as it is whole"
        );
        sealed
    }

    /// A full read is refused with one of `kinds`, as are range reads of one byte at each of `affected`; a range read
    /// anywhere else is refused or right.
    #[track_caller]
    fn assert_refused(&self, stored: &Stored, kinds: &[ErrorKind], affected: &[usize]) {
        let refusal = read(stored, &self.cmk, None).expect_err("a full read is refused");
        assert!(kinds.contains(&refusal.kind()), "{refusal:?}");
        for &at in affected {
            let refusal = self.read_byte(stored, at).expect_err("a range read of what was altered is refused");
            assert!(kinds.contains(&refusal.kind()), "byte {at}: {refusal:?}");
        }
        for at in (0..self.plaintext.len()).step_by(1_000) {
            if let Ok(found) = self.read_byte(stored, at) {
                assert_eq!(found, self.plaintext[at..=at], "byte {at}");
            }
        }
    }

    fn read_byte(&self, stored: &Stored, at: usize) -> Result<Vec<u8>, Error> {
        read(stored, &self.cmk, Some(at as u64..at as u64 + 1))
    }

    fn with_body(&self, body: Vec<u8>) -> Stored {
        Stored { body, ..self.stored.clone() }
    }

    /// Other sealed parts, in front of the same trailer.
    fn with_parts<'a>(&self, parts: impl IntoIterator<Item = &'a Vec<u8>>) -> Stored {
        let trailer = &self.stored.body[self.upload.sealed.iter().map(Vec::len).sum()..];
        let mut body: Vec<u8> = parts.into_iter().flatten().copied().collect();
        body.extend_from_slice(trailer);
        self.with_body(body)
    }
}

#[test]
fn s05_every_bit_of_a_small_body_matters() {
    let sealed = Sealed::new(&[5, 3]);
    for at in 0..sealed.stored.body.len() {
        for bit in 0..8 {
            let mut altered = sealed.stored.clone();
            altered.body[at] ^= 1 << bit;
            let refusal = read(&altered, &sealed.cmk, None).expect_err("an altered body is refused");
            assert!(
                matches!(refusal.kind(), ErrorKind::Authentication | ErrorKind::Malformed),
                "bit {bit} of byte {at}: {refusal:?}"
            );
            for at in 0..8 {
                if let Ok(found) = sealed.read_byte(&altered, at) {
                    assert_eq!(found, sealed.plaintext[at..=at]);
                }
            }
        }
    }
}

#[test]
fn s05_bits_all_over_a_large_body_matter() {
    let sealed = Sealed::new(&[1_500_000, 1 << 20, 70_000]);
    let len = sealed.stored.body.len();
    for i in 0..150 {
        let mut altered = sealed.stored.clone();
        // A stride that is prime to the chunks' reaches headers, ciphertext and tags at every offset.
        altered.body[(i * 1_000_003 + i) % len] ^= 1 << (i % 8);
        assert!(read(&altered, &sealed.cmk, None).is_err(), "flip {i}");
    }
}

#[test]
fn s05_any_bit_of_the_envelope_is_refused_or_changes_nothing() {
    let cmk = Cmk::random();
    let plaintext = plaintext(5);
    let mut upload = Upload::new(&plaintext, &[5]);
    upload.bound_to = Some((BUCKET, KEY));
    upload.context =
        sealift::EncryptionContext::new([("app".into(), "\"é".into()), ("tier".into(), "hot".into())]).unwrap();
    let stored = upload.stored(&cmk);
    assert_eq!(stored.metadata.len(), 6, "every name is there");

    let (mut refused, mut same) = (0, 0);
    for (name, value) in &stored.metadata {
        for at in 0..(name.len() + value.len()) * 8 {
            let mut line = [name.as_bytes(), value.as_bytes()].concat();
            line[at / 8] ^= 1 << (at % 8);
            let (altered_name, altered_value) = line.split_at(name.len());
            let (Ok(altered_name), Ok(altered_value)) = (str::from_utf8(altered_name), str::from_utf8(altered_value))
            else {
                continue; // A store's client cannot even say it.
            };
            let mut altered = stored.clone();
            altered.metadata.remove(name);
            altered.metadata.insert(altered_name.into(), altered_value.into());
            match read(&altered, &cmk, None) {
                Ok(found) => {
                    assert_eq!(found, plaintext);
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 2_000 && same > 0 && same < 200, "{refused} refused, {same} the same");
}

#[test]
fn s06_parts_swapped_are_refused() {
    for lens in [[20_000, 20_000, 7], [20_000, 9_000, 5_000]] {
        let sealed = Sealed::new(&lens);
        let [a, b, c] = &sealed.upload.sealed[..] else { panic!("three parts") };
        sealed.assert_refused(&sealed.with_parts([b, a, c]), &[ErrorKind::Authentication], &[0, lens[0]]);
    }
}

#[test]
fn s06_a_part_repeated_is_refused() {
    let sealed = Sealed::new(&[9_000, 9_000, 9_000]);
    let [a, b, c] = &sealed.upload.sealed[..] else { panic!("three parts") };
    sealed.assert_refused(&sealed.with_parts([a, a, c]), &[ErrorKind::Authentication], &[9_000]);
    sealed.assert_refused(&sealed.with_parts([a, b, b]), &[ErrorKind::Authentication], &[18_000, 26_999]);
    sealed.assert_refused(&sealed.with_parts([a, b, c, c]), &[ErrorKind::Malformed], &[0, 26_999]);
}

#[test]
fn s06_the_last_parts_dropped_are_refused() {
    let sealed = Sealed::new(&[9_000, 1, 9_000]);
    for kept in 0..3 {
        let dropped = sealed.with_parts(&sealed.upload.sealed[..kept]);
        sealed.assert_refused(&dropped, &[ErrorKind::Malformed], &[0, 9_000, 18_000]);
    }
}

#[test]
fn s06_a_body_cut_anywhere_is_refused() {
    let sealed = Sealed::new(&[300, 1]);
    for len in 0..sealed.stored.body.len() {
        let cut = sealed.with_body(sealed.stored.body[..len].to_vec());
        sealed.assert_refused(&cut, &[ErrorKind::Malformed], &[0, 300]);
    }
}

#[test]
fn s06_bytes_after_the_trailer_are_refused() {
    let sealed = Sealed::new(&[9_000]);
    let body = &sealed.stored.body;
    for extra in [&[0][..], b"1", &body[body.len() - 12..], &sealed.upload.trailer(), body] {
        let longer = sealed.with_body([body, extra].concat());
        sealed.assert_refused(&longer, &[ErrorKind::Malformed, ErrorKind::Authentication], &[0, 8_999]);
    }
}

#[test]
fn s06_a_trailer_from_another_upload_is_refused() {
    let sealed = Sealed::new(&[9_000, 10]);
    let other = Sealed::new(&[9_000, 10]);
    let body = [sealed.upload.sealed.concat(), other.upload.trailer()].concat();
    sealed.assert_refused(&sealed.with_body(body), &[ErrorKind::Authentication], &[0, 9_000]);
}

#[test]
fn s07_a_part_from_another_sealing_is_refused() {
    let sealed = Sealed::new(&[9_000, 20_000, 10]);
    let (_, again) = sealed.upload.seal_part(PartNumber::try_from(2).unwrap(), &sealed.plaintext[9_000..29_000]);
    let [a, b, c] = &sealed.upload.sealed[..] else { panic!("three parts") };
    sealed.assert_refused(&sealed.with_parts([a, &again, c]), &[ErrorKind::Authentication], &[9_000, 28_999]);

    let halfway = [&b[..56 + 16_400], &again[56 + 16_400..]].concat();
    sealed.assert_refused(&sealed.with_parts([a, &halfway, c]), &[ErrorKind::Authentication], &[9_000 + CHUNK]);
    let halfway = [&again[..56 + 16_400], &b[56 + 16_400..]].concat();
    sealed.assert_refused(&sealed.with_parts([a, &halfway, c]), &[ErrorKind::Authentication], &[9_000, 28_999]);
}

#[test]
fn s08_falsified_part_lengths_are_refused() {
    let mut sealed = Sealed::new(&[20_000, 9_000, 5_000]);
    for (part, claimed) in sealed.upload.parts.iter_mut().zip([19_000, 10_000, 5_000]) {
        part.len = claimed;
    }
    let stored = sealed.upload.stored(&sealed.cmk);
    assert_eq!(stored.body.len(), sealed.stored.body.len());
    // The first chunk is where it was, whatever the lengths: it alone may be read.
    sealed.assert_refused(&stored, &[ErrorKind::Authentication], &[CHUNK, 18_999, 19_000, 28_999]);
}

#[test]
fn s09_a_stripped_envelope_releases_nothing() {
    let sealed = Sealed::new(&[9_000]);
    let mut stripped = sealed.stored.clone();
    stripped.metadata.clear();
    sealed.assert_refused(&stripped, &[ErrorKind::NotSealed], &[0]);

    for name in ["sealift-format", "sealift-cipher"] {
        let mut changed = sealed.stored.clone();
        changed.metadata.insert(name.into(), "none".into());
        sealed.assert_refused(&changed, &[ErrorKind::UnsupportedFormat], &[0]);
    }
}

#[test]
fn s10_an_envelope_or_wrapped_key_moved_to_another_object_is_refused() {
    let (sealed, other) = (Sealed::new(&[9_000]), Sealed::new(&[9_000]));
    // One CMK for both, as in practice.
    let from_other = other.upload.stored(&sealed.cmk).metadata;

    let moved = Stored { metadata: from_other.clone(), ..sealed.stored.clone() };
    sealed.assert_refused(&moved, &[ErrorKind::Authentication], &[0]);

    let mut moved = sealed.stored.clone();
    moved.metadata.insert("sealift-data-keys".into(), from_other["sealift-data-keys"].clone());
    sealed.assert_refused(&moved, &[ErrorKind::Authentication], &[0]);
}

#[test]
fn s12_huge_counts_and_lengths_allocate_nothing_and_overflow_nothing() {
    /// Room for an error and its message.
    const ERROR: u64 = 4_096;
    let allocated = |work: &mut dyn FnMut()| allocation_counter::measure(work).bytes_max;

    let one_part = Manifest::new(Upload::new(b"x", &[1]).parts, false, Default::default()).unwrap().encode();
    for (at, with) in
        [(4, &[0xff; 4][..]), (4, &[0, 0, 0x27, 0x10]), (8, &[0xff; 8]), (20, &[0xff; 8]), (60, &[0xff; 2])]
    {
        let mut manifest = one_part.clone();
        manifest[at..at + with.len()].copy_from_slice(with);
        let bytes = allocated(&mut || assert_eq!(Manifest::parse(&manifest).unwrap_err().kind(), ErrorKind::Malformed));
        assert!(bytes < ERROR, "{with:x?} at {at} of a manifest allocates {bytes} bytes");
    }

    for len in [u32::MAX, u32::MAX - 11, 444_617, 444_616, 89, 0] {
        let tail = [&len.to_be_bytes()[..], b"SEALIFT1"].concat();
        for object_len in [0, 12, 101, 400_000] {
            let refused = |tail| trailer::len_at_end(tail, object_len).unwrap_err().kind() == ErrorKind::Malformed;
            let bytes = allocated(&mut || assert!(refused(&tail)));
            assert!(bytes < ERROR, "a trailer of {len} bytes allocates {bytes} bytes");
        }
    }
    let tail = [&444_616_u32.to_be_bytes()[..], b"SEALIFT1"].concat();
    assert_eq!(trailer::len_at_end(&tail, u64::MAX).unwrap(), 444_628);

    // JSON claims no lengths; what it takes only grows with what was received.
    let sealed = Sealed::new(&[1]);
    for json in [format!("[{}]", ["{}"; 20_000].join(",")), "[".repeat(100_000), r#"{"a":"#.repeat(50_000)] {
        let mut metadata = sealed.stored.metadata.clone();
        metadata.insert("sealift-data-keys".into(), json.clone());
        let malformed = |metadata| Envelope::from_metadata(metadata).unwrap_err().kind() == ErrorKind::Malformed;
        let bytes = allocated(&mut || assert!(malformed(&metadata)));
        assert!(bytes < 32 * json.len() as u64, "{} bytes of JSON allocate {bytes} bytes", json.len());
    }
}

#[test]
fn s13_every_range_around_an_edge_is_the_plaintext_s_slice() {
    let sealed = Sealed::new(&[16_384, 20_000, 1, 32_768]);
    let envelope = Envelope::from_metadata(&sealed.stored.metadata).unwrap();
    let data_key = sealed.cmk.unwrap(&envelope, BUCKET, KEY).unwrap();
    let reader = Reader::open(data_key, *envelope.object_id(), &sealed.stored.body).unwrap();
    let len = sealed.plaintext.len();
    let mut edges: Vec<usize> = [0, 16_384, 32_768, 36_384, 36_385, 52_769, len]
        .into_iter()
        .flat_map(|edge: usize| [edge.saturating_sub(1), edge, edge + 1])
        .collect();
    edges.dedup();
    for &start in &edges {
        for &end in &edges {
            let expected = sealed.plaintext.get(start..end.min(len)).unwrap_or_default();
            assert!(reader.read(start as u64..end as u64).unwrap() == expected, "{start}..{end}");
        }
    }
}

#[test]
fn s14_objects_of_every_kind_of_length_open() {
    for lens in [&[][..], &[1], &[16_383], &[16_384], &[16_385], &[65_536, 65_536], &[1 << 20, (1 << 20) + 1]] {
        Sealed::new(lens);
    }
}

#[test]
fn s14_an_object_of_10_000_parts_opens_and_its_trailer_is_longer_than_the_first_read() {
    let sealed = Sealed::new(&[1; 10_000]);
    let len = sealed.stored.body.len() as u64;
    let tail = &sealed.stored.body[(len - TAIL_READ) as usize..];
    let trailer_len = trailer::len_at_end(tail, len).unwrap();
    assert!(trailer_len > TAIL_READ);
    assert_eq!(trailer_len, len - 10_000 * 73);
}

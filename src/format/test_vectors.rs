//! The vectors in `tests/vectors/objects`: made here, because only this crate's own tests can choose salts; opened in
//! `tests/object_vectors.rs`, through the public API alone, and by `examples/open_with_python.py`.
//!
//! A test makes them anew and compares. `SEALIFT_WRITE_VECTORS=1 cargo test --lib vectors` writes them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Envelope, Manifest, ManifestPart, context, trailer};
use crate::crypto::{Backend, DataKey, Sealer, crc64, sealed_len};
use crate::error::ErrorKind::{self, Authentication, Malformed, NotSealed, UnsupportedFormat};
use crate::types::{EncryptionContext, KmsService, ObjectId, PartNumber, WrappedKey};

/// One file: what is stored, how to open it, and what then happens.
#[derive(Serialize)]
struct Vector {
    #[serde(skip)]
    name: &'static str,
    description: &'static str,
    /// Hex of the key material of the CMK `example` of the service `local`.
    cmk: String,
    /// Hex of the data key that the sound envelope wraps.
    data_key: String,
    /// The bucket and key in the reader's request.
    bucket: &'static str,
    key: &'static str,
    metadata: BTreeMap<String, String>,
    body: String,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Expected {
    Plaintext { len: usize, sha256: String },
    Error { at: At, kind: String },
}

/// The step of reading that refuses.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum At {
    Envelope,
    DataKey,
    Trailer,
    Parts,
}

const BUCKET: &str = "bucket";
const KEY: &str = "a/key";

/// Everything that is drawn at random for a real object, derived from the vector's name.
struct Upload {
    name: &'static str,
    object_id: ObjectId,
    salts: u32,
    context: EncryptionContext,
    bound: bool,
    parts: Vec<ManifestPart>,
    sealed: Vec<Vec<u8>>,
    checksums: bool,
    attributes: BTreeMap<String, Vec<u8>>,
    plaintext: Vec<u8>,
}

fn derive<const N: usize>(what: &str, name: &str) -> [u8; N] {
    *Sha256::digest(format!("sealift test vector, {what}: {name}")).first_chunk().expect("at most 32 bytes")
}

fn cmk() -> [u8; 32] {
    derive("cmk", "example")
}

fn number(n: u32) -> PartNumber {
    PartNumber::try_from(n).unwrap()
}

/// Bytes `0..len` of SHA-256(BE32(0)) ‖ SHA-256(BE32(1)) ‖ …
fn plaintext(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(|i| Sha256::digest(i.to_be_bytes())).take(len).collect()
}

impl Upload {
    fn new(name: &'static str, parts: &[(u32, usize)]) -> Self {
        let mut upload = Self {
            name,
            object_id: ObjectId::from_bytes(derive("object id", name)),
            salts: 0,
            context: EncryptionContext::default(),
            bound: false,
            parts: Vec::new(),
            sealed: Vec::new(),
            checksums: false,
            attributes: BTreeMap::new(),
            plaintext: plaintext(parts.iter().map(|(_, len)| len).sum()),
        };
        upload.seal_parts(parts);
        upload
    }

    fn seal_parts(&mut self, parts: &[(u32, usize)]) {
        let mut rest = &*self.plaintext.clone();
        for &(n, len) in parts {
            let (plaintext, behind) = rest.split_at(len);
            rest = behind;
            let (salt, sealed) = self.seal(&context::part(&self.object_id, number(n)), plaintext);
            self.parts.push(ManifestPart { number: number(n), len: len as u64, crc64: 0, salt });
            self.sealed.push(sealed);
        }
    }

    fn data_key(&self) -> [u8; 32] {
        derive("data key", self.name)
    }

    fn seal_under(&mut self, key: [u8; 32], context: &[u8], plaintext: &[u8]) -> (crate::Salt, Vec<u8>) {
        self.salts += 1;
        let key = DataKey::take(&mut key.to_vec()).unwrap();
        let salt = derive(&format!("salt {}", self.salts), self.name);
        let mut sealer = Sealer::begin_with_salt(Backend::default(), &key, context, salt).unwrap();
        let header = sealer.header().to_vec();
        let mut chunks = vec![0; sealed_len(plaintext.len() as u64).unwrap() as usize - header.len()];
        sealer.next_stripe().unwrap().seal_last(plaintext, &mut chunks).unwrap();
        (sealer.salt(), [header, chunks].concat())
    }

    fn seal(&mut self, context: &[u8], plaintext: &[u8]) -> (crate::Salt, Vec<u8>) {
        self.seal_under(self.data_key(), context, plaintext)
    }

    fn manifest(&self) -> Vec<u8> {
        Manifest::new(self.parts.clone(), self.checksums, self.attributes.clone()).unwrap().encode()
    }

    fn trailer(&mut self, manifest: &[u8]) -> Vec<u8> {
        let (_, sealed) = self.seal(&context::manifest(&self.object_id), manifest);
        trailer::join(sealed)
    }

    fn body(&mut self) -> Vec<u8> {
        let manifest = self.manifest();
        [self.sealed.concat(), self.trailer(&manifest)].concat()
    }

    fn envelope(&mut self) -> Envelope {
        let bound_to = self.bound.then_some((BUCKET, KEY));
        let kms_context = Envelope::kms_context(&self.object_id, &self.context, bound_to);
        let (_, blob) = self.seal_under(cmk(), &context::kms_local(&kms_context), &self.data_key());
        let wrapped = WrappedKey { kms: KmsService::Local, key: "example".into(), blob };
        Envelope::new(self.object_id, vec![wrapped], self.context.clone(), self.bound).unwrap()
    }

    fn stored(&mut self) -> Stored {
        Stored { metadata: self.envelope().to_metadata(), body: self.body() }
    }
}

/// What the store has.
struct Stored {
    metadata: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Stored {
    fn set(&mut self, name: &str, value: &str) {
        self.metadata.insert(name.to_owned(), value.to_owned());
    }

    /// Replaces what occurs exactly once in a value.
    fn replace(&mut self, name: &str, from: &str, to: &str) {
        let value = self.metadata.get_mut(name).unwrap();
        assert_eq!(value.matches(from).count(), 1, "{from} in {value}");
        *value = value.replace(from, to);
    }

    /// Replaces bytes of the body, at an offset from its end.
    fn at_end(&mut self, before_end: usize, with: &[u8]) {
        let at = self.body.len() - before_end;
        self.body[at..at + with.len()].copy_from_slice(with);
    }
}

/// A vector that opens.
fn opens(
    name: &'static str,
    description: &'static str,
    parts: &[(u32, usize)],
    adjust: impl FnOnce(&mut Upload),
) -> Vector {
    let mut upload = Upload::new(name, parts);
    adjust(&mut upload);
    let stored = upload.stored();
    let expected = Expected::Plaintext {
        len: upload.plaintext.len(),
        sha256: base16ct::lower::encode_string(&Sha256::digest(&upload.plaintext)),
    };
    vector(description, &upload, stored, KEY, expected)
}

/// A vector that is refused: what `harm` makes of a sound object of two parts of 5 bytes.
fn refused(
    name: &'static str,
    description: &'static str,
    at: At,
    kind: ErrorKind,
    harm: impl FnOnce(&mut Upload, &mut Stored),
) -> Vector {
    let mut upload = Upload::new(name, &[(1, 5), (2, 5)]);
    let mut stored = upload.stored();
    harm(&mut upload, &mut stored);
    vector(description, &upload, stored, KEY, Expected::Error { at, kind: format!("{kind:?}") })
}

fn vector(description: &'static str, upload: &Upload, stored: Stored, key: &'static str, expected: Expected) -> Vector {
    Vector {
        name: upload.name,
        description,
        cmk: base16ct::lower::encode_string(&cmk()),
        data_key: base16ct::lower::encode_string(&upload.data_key()),
        bucket: BUCKET,
        key,
        metadata: stored.metadata,
        body: base16ct::lower::encode_string(&stored.body),
        expected,
    }
}

fn all() -> Vec<Vector> {
    let mut all = sound_objects();
    all.extend(harmed_bodies());
    all.extend(false_trailers());
    all.extend(false_manifests());
    all.extend(false_envelopes());
    all
}

fn sound_objects() -> Vec<Vector> {
    let as_is = |_: &mut Upload| {};
    vec![
        opens("empty", "No parts: the trailer alone.", &[], as_is),
        opens("one_byte", "One part of one byte.", &[(1, 1)], as_is),
        opens("hello", "One part, \"hello\": the worked example of FORMAT.md.", &[], |upload| {
            upload.plaintext = b"hello".to_vec();
            upload.seal_parts(&[(1, 5)]);
        }),
        opens("16383", "One part of a chunk less one byte: one chunk.", &[(1, 16_383)], as_is),
        opens("16384", "One part of exactly a chunk: a second, empty chunk ends it.", &[(1, 16_384)], as_is),
        opens("16385", "One part of a chunk and one byte.", &[(1, 16_385)], as_is),
        opens("two_parts", "Two parts, the first of two chunks.", &[(1, 20_000), (2, 9_000)], as_is),
        opens("gap_in_part_numbers", "Parts 1, 3 and 10,000.", &[(1, 3), (3, 4), (10_000, 5)], as_is),
        opens("with_checksums", "The manifest has a CRC-64/XZ of each part.", &[(1, 9), (2, 9)], |upload| {
            upload.checksums = true;
            let (first, second) = upload.plaintext.split_at(9);
            (upload.parts[0].crc64, upload.parts[1].crc64) = (crc64(first), crc64(second));
        }),
        opens("attributes", "The manifest has an etag, and an attribute no reader knows.", &[(1, 5)], |upload| {
            upload.attributes.insert("etag".into(), br#""5d41402abc4b2a76b9719d911017c592""#.to_vec());
            upload.attributes.insert("of the future".into(), vec![0, 0xff]);
        }),
        opens("encryption_context", "Pairs of the caller's, with every kind of escape.", &[(1, 5)], |upload| {
            let pairs = [("app", "Zürich"), ("quote\"", "back\\slash"), ("\u{1f512}", "\n\u{7f}")];
            upload.context = EncryptionContext::new(pairs.map(|(name, value)| (name.into(), value.into()))).unwrap();
        }),
        opens("bound", "Bound to the bucket and key it is read under.", &[(1, 5)], |upload| upload.bound = true),
        {
            let mut upload = Upload::new("other_spelling", &[(1, 5)]);
            let mut stored = upload.stored();
            stored.replace("sealift-data-keys", r#"[{"kms":"#, "[ {\n\"\\u006b\\u006D\\u0073\" : ");
            stored.metadata = stored.metadata.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect();
            stored.set("author", "someone");
            let expected =
                Expected::Plaintext { len: 5, sha256: base16ct::lower::encode_string(&Sha256::digest(plaintext(5))) };
            let description = "An envelope no writer writes, but readers parse; and metadata of the caller's own.";
            vector(description, &upload, stored, KEY, expected)
        },
        {
            let mut upload = Upload::new("two_recipients", &[(1, 5)]);
            let envelope = upload.envelope();
            let other = WrappedKey { kms: KmsService::Aws, key: "another".into(), blob: vec![1; 184] };
            let data_keys = [vec![other], envelope.data_keys().to_vec()].concat();
            let envelope = Envelope::new(upload.object_id, data_keys, envelope.context().clone(), false).unwrap();
            let stored = Stored { metadata: envelope.to_metadata(), body: upload.body() };
            let expected =
                Expected::Plaintext { len: 5, sha256: base16ct::lower::encode_string(&Sha256::digest(plaintext(5))) };
            let description = "The second recipient is the one this reader is configured with.";
            vector(description, &upload, stored, KEY, expected)
        },
    ]
}

fn harmed_bodies() -> Vec<Vector> {
    use At::{Parts, Trailer};
    const PART: usize = 5 + 72;
    vec![
        refused("parts_swapped", "Parts 1 and 2 in each other's place.", Parts, Authentication, |_, stored| {
            stored.body[..2 * PART].rotate_left(PART);
        }),
        refused("part_repeated", "Part 1 again in place of part 2.", Parts, Authentication, |_, stored| {
            stored.body.copy_within(..PART, PART);
        }),
        refused("part_dropped", "Part 1 is gone.", Trailer, Malformed, |_, stored| {
            stored.body.drain(..PART);
        }),
        refused("last_part_dropped", "Part 2 is gone.", Trailer, Malformed, |_, stored| {
            stored.body.drain(PART..2 * PART);
        }),
        refused("byte_before_trailer", "A byte more between part 2 and trailer.", Trailer, Malformed, |_, stored| {
            stored.body.insert(2 * PART, 0);
        }),
        refused("byte_after_trailer", "A byte more behind the trailer.", Trailer, Malformed, |_, stored| {
            stored.body.push(b'1');
        }),
        refused("last_byte_dropped", "The last byte is gone.", Trailer, Malformed, |_, stored| {
            stored.body.pop();
        }),
        refused("trailer_dropped", "The trailer is gone.", Trailer, Malformed, |_, stored| {
            stored.body.truncate(2 * PART);
        }),
        refused("body_empty", "The body is gone.", Trailer, Malformed, |_, stored| stored.body.clear()),
        refused("body_of_11_bytes", "The body is shorter than a trailer's end.", Trailer, Malformed, |_, stored| {
            stored.body.drain(..stored.body.len() - 11);
        }),
        refused("bit_flip_in_salt", "A bit of part 2's salt.", Parts, Authentication, |_, stored| {
            stored.body[PART] ^= 0x80;
        }),
        refused("bit_flip_in_commitment", "A bit of part 2's commitment.", Parts, Authentication, |_, stored| {
            stored.body[PART + 24] ^= 1;
        }),
        refused("bit_flip_in_chunk", "A bit of part 2's only chunk.", Parts, Authentication, |_, stored| {
            stored.body[PART + 56] ^= 1;
        }),
        refused("bit_flip_in_tag", "The last bit of part 2.", Parts, Authentication, |_, stored| {
            stored.body[2 * PART - 1] ^= 1;
        }),
        {
            let mut upload = Upload::new("bit_flip_in_empty_chunk", &[(1, 16_384)]);
            let mut stored = upload.stored();
            stored.body[56 + 16_400] ^= 1;
            let expected = Expected::Error { at: Parts, kind: "Authentication".into() };
            let description = "A bit of the empty chunk that ends a part of exactly one chunk: the plaintext is \
                               whole, and still nothing says that it ends there.";
            vector(description, &upload, stored, KEY, expected)
        },
        {
            let mut upload = Upload::new("chunks_swapped", &[(1, 32_768)]);
            let mut stored = upload.stored();
            stored.body[56..56 + 2 * 16_400].rotate_left(16_400);
            let expected = Expected::Error { at: Parts, kind: "Authentication".into() };
            vector("Chunks 0 and 1 of a part in each other's place.", &upload, stored, KEY, expected)
        },
        refused(
            "part_from_another_sealing",
            "Part 2 as it was sealed another time, by the same upload, of the same plaintext: sound in itself, but \
             not the sealing that the manifest names.",
            Parts,
            Authentication,
            |upload, stored| {
                let plaintext = upload.plaintext[5..].to_vec();
                let (_, again) = upload.seal(&context::part(&upload.object_id, number(2)), &plaintext);
                stored.body[PART..2 * PART].copy_from_slice(&again);
            },
        ),
        refused(
            "part_of_another_number",
            "Part 2 was sealed as part 3, and the manifest calls it 2, with the right salt.",
            Parts,
            Authentication,
            |upload, stored| {
                let plaintext = upload.plaintext[5..].to_vec();
                (upload.parts[1].salt, upload.sealed[1]) =
                    upload.seal(&context::part(&upload.object_id, number(3)), &plaintext);
                stored.body = upload.body();
            },
        ),
        refused(
            "part_of_another_object",
            "Part 2 was sealed with the same data key for another object id, and the manifest has its salt.",
            Parts,
            Authentication,
            |upload, stored| {
                let plaintext = upload.plaintext[5..].to_vec();
                let other = ObjectId::from_bytes([0; 16]);
                (upload.parts[1].salt, upload.sealed[1]) = upload.seal(&context::part(&other, number(2)), &plaintext);
                stored.body = upload.body();
            },
        ),
        {
            let mut upload = Upload::new("claimed_lengths_falsified", &[(1, 20), (2, 9), (3, 5)]);
            upload.parts[0].len = 19;
            upload.parts[1].len = 10;
            let stored = upload.stored();
            let expected = Expected::Error { at: Parts, kind: "Authentication".into() };
            let description = "Parts of 20, 9 and 5 bytes that the manifest calls 19, 10 and 5: the same in all.";
            vector(description, &upload, stored, KEY, expected)
        },
    ]
}

fn false_trailers() -> Vec<Vector> {
    use At::Trailer;
    let resized = |name, description, kind, len: fn(u32) -> u32| {
        refused(name, description, Trailer, kind, move |_, stored| {
            let at = stored.body.len() - 12;
            let sound = u32::from_be_bytes(*stored.body[at..].first_chunk().unwrap());
            stored.at_end(12, &len(sound).to_be_bytes());
        })
    };
    vec![
        refused("bit_flip_in_trailer", "A bit of the sealed manifest.", Trailer, Authentication, |_, stored| {
            stored.at_end(13, &[!stored.body[stored.body.len() - 13]]);
        }),
        refused("bit_flip_in_magic", "The trailer's magic is SEALIFT0.", Trailer, Malformed, |_, stored| {
            stored.at_end(1, b"0");
        }),
        resized("trailer_length_too_long", "The trailer's length is one too high.", Authentication, |len| len + 1),
        resized("trailer_length_too_short", "The trailer's length is one too low.", Authentication, |len| len - 1),
        resized("trailer_length_below_all", "No sealed manifest has 89 bytes.", Malformed, |_| 89),
        resized("trailer_length_past_the_body", "A trailer longer than the body.", Malformed, |_| 444_616),
        resized("trailer_length_huge", "A trailer of 2^32 - 1 bytes.", Malformed, |_| u32::MAX),
        refused(
            "trailer_of_another_upload",
            "The trailer of another upload, with parts of the same lengths.",
            Trailer,
            Authentication,
            |_, stored| {
                let other = Upload::new("another upload", &[(1, 5), (2, 5)]).body();
                stored.body[2 * 77..].copy_from_slice(&other[2 * 77..]);
            },
        ),
        refused(
            "trailer_of_another_object_id",
            "The trailer was sealed with the same data key for another object id.",
            Trailer,
            Authentication,
            |upload, stored| {
                let (_, sealed) = upload.seal(&context::manifest(&ObjectId::from_bytes([0; 16])), &upload.manifest());
                stored.body = [upload.sealed.concat(), trailer::join(sealed)].concat();
            },
        ),
        refused(
            "part_as_manifest",
            "A manifest sealed as part 1: the contexts keep them apart.",
            Trailer,
            Authentication,
            |upload, stored| {
                let (_, sealed) = upload.seal(&context::part(&upload.object_id, number(1)), &upload.manifest());
                stored.body = [upload.sealed.concat(), trailer::join(sealed)].concat();
            },
        ),
    ]
}

/// Manifests that authenticate and still break a rule.
fn false_manifests() -> Vec<Vector> {
    const SECOND: usize = 16 + 44;
    const ATTRIBUTES: usize = 16 + 2 * 44;
    let edited = |name, description, kind, edit: fn(&mut Vec<u8>)| {
        refused(name, description, At::Trailer, kind, move |upload, stored| {
            let mut manifest = upload.manifest();
            edit(&mut manifest);
            stored.body = [upload.sealed.concat(), upload.trailer(&manifest)].concat();
        })
    };
    fn put(manifest: &mut [u8], at: usize, with: &[u8]) {
        manifest[at..at + with.len()].copy_from_slice(with);
    }
    vec![
        edited("manifest_version_2", "A version of the future.", UnsupportedFormat, |m| put(m, 0, &[2])),
        edited("manifest_unknown_flag", "A flag of the future.", Malformed, |m| put(m, 1, &[2])),
        edited("manifest_reserved_byte", "A reserved byte is not zero.", Malformed, |m| put(m, 3, &[1])),
        edited("manifest_count_huge", "It claims 2^32 - 1 parts.", Malformed, |m| put(m, 4, &[0xff; 4])),
        edited("manifest_total_wrong", "The object's length is not the parts'.", Malformed, |m| put(m, 15, &[11])),
        edited("manifest_part_0", "Its first part is number 0.", Malformed, |m| put(m, 16, &[0; 4])),
        edited("manifest_part_10001", "Its last part is number 10,001.", Malformed, |m| {
            put(m, SECOND, &10_001_u32.to_be_bytes());
        }),
        edited("manifest_unsorted", "Parts 2 and 1.", Malformed, |m| {
            put(m, 16, &2_u32.to_be_bytes());
            put(m, SECOND, &1_u32.to_be_bytes());
        }),
        edited("manifest_part_twice", "Parts 1 and 1.", Malformed, |m| put(m, SECOND, &1_u32.to_be_bytes())),
        edited("manifest_part_empty", "Its first part has no bytes.", Malformed, |m| {
            put(m, 16 + 4, &0_u64.to_be_bytes());
            put(m, 8, &5_u64.to_be_bytes());
        }),
        edited("manifest_part_too_long", "Its first part has a byte more than seals to 5 GiB.", Malformed, |m| {
            put(m, 16 + 4, &(super::MAX_PART_PLAIN + 1).to_be_bytes());
            put(m, 8, &(super::MAX_PART_PLAIN + 6).to_be_bytes());
        }),
        edited("manifest_lengths_overflow", "Its lengths add up to 2^64 + 8.", Malformed, |m| {
            put(m, 16 + 4, &(u64::MAX - 1).to_be_bytes());
            put(m, SECOND + 4, &10_u64.to_be_bytes());
            put(m, 8, &8_u64.to_be_bytes());
        }),
        edited("manifest_checksum_without_flag", "A checksum, and the flag is off.", Malformed, |m| {
            put(m, 16 + 19, &[1])
        }),
        edited("manifest_cut_short", "Its last byte is gone.", Malformed, |m| {
            m.pop();
        }),
        edited("manifest_trailing_bytes", "A byte follows the attributes.", Malformed, |m| m.push(0)),
        edited("manifest_attributes_unsorted", "Attributes b and a.", Malformed, |m| {
            put(m, ATTRIBUTES, &[0, 2]);
            m.extend_from_slice(b"\x01b\0\0\x01a\0\0");
        }),
        edited("manifest_attribute_twice", "Attributes a and a.", Malformed, |m| {
            put(m, ATTRIBUTES, &[0, 2]);
            m.extend_from_slice(b"\x01a\0\0\x01a\0\0");
        }),
        edited("manifest_attribute_without_name", "An attribute's name is empty.", Malformed, |m| {
            put(m, ATTRIBUTES, &[0, 1]);
            m.extend_from_slice(b"\0\0\x01x");
        }),
        edited("manifest_attribute_not_utf8", "An attribute's name is not UTF-8.", Malformed, |m| {
            put(m, ATTRIBUTES, &[0, 1]);
            m.extend_from_slice(b"\x01\xff\0\0");
        }),
        edited("manifest_attributes_too_long", "The attributes have 4,097 bytes.", Malformed, |m| {
            put(m, ATTRIBUTES, &[0, 1]);
            m.extend_from_slice(b"\x01a");
            m.extend_from_slice(&(4_097_u16 - 6).to_be_bytes());
            m.resize(ATTRIBUTES + 4_097, 0);
        }),
    ]
}

fn false_envelopes() -> Vec<Vector> {
    const KEYS: &str = "sealift-data-keys";
    let edited = |name, description, kind, edit: fn(&mut Stored)| {
        refused(name, description, At::Envelope, kind, move |_, stored| edit(stored))
    };
    let moved = |name, description, harm: fn(&mut Upload, &mut Stored)| {
        refused(name, description, At::DataKey, Authentication, harm)
    };
    vec![
        edited("envelope_stripped", "No metadata but the caller's own.", NotSealed, |stored| {
            stored.metadata.clear();
            stored.set("author", "someone");
        }),
        edited("envelope_unknown_version", "Format 2.", UnsupportedFormat, |stored| {
            stored.set("sealift-format", "2");
        }),
        edited("envelope_unknown_cipher", "Another cipher.", UnsupportedFormat, |stored| {
            stored.set("sealift-cipher", "COBBLESTONE-128");
        }),
        edited("envelope_without_format", "No version.", Malformed, |stored| {
            stored.metadata.remove("sealift-format");
        }),
        edited("envelope_without_object_id", "No object id.", Malformed, |stored| {
            stored.metadata.remove("sealift-object-id");
        }),
        edited("envelope_without_data_keys", "No recipients' names.", Malformed, |stored| {
            stored.metadata.remove(KEYS);
        }),
        edited("envelope_unknown_name", "A sealift- name of the future.", Malformed, |stored| {
            stored.set("sealift-comment", "x");
        }),
        edited("envelope_name_twice", "A name twice, in different case.", Malformed, |stored| {
            stored.set("Sealift-Format", "1");
        }),
        edited("envelope_object_id_unused_bits", "A second spelling of the object id.", Malformed, |stored| {
            let id = stored.metadata.get_mut("sealift-object-id").unwrap();
            let last = id.pop().unwrap();
            id.push(char::from(u8::try_from(last).unwrap() + 1));
        }),
        edited("envelope_unknown_member", "A recipient with a member of the future.", Malformed, |stored| {
            stored.replace(KEYS, r#""kms":"#, r#""alg":"x","kms":"#);
        }),
        edited("envelope_missing_member", "A recipient without its CMK.", Malformed, |stored| {
            stored.replace(KEYS, r#""key":"example","#, "");
        }),
        edited("envelope_duplicate_recipient_member", "A recipient's member twice.", Malformed, |stored| {
            stored.replace(KEYS, r#""key":"example""#, r#""key":"example","key":"example""#);
        }),
        edited("envelope_member_not_a_string", "A recipient's member that is a number.", Malformed, |stored| {
            stored.replace(KEYS, r#""key":"example""#, r#""key":1"#);
        }),
        edited("envelope_lone_surrogate", "Half a character.", Malformed, |stored| {
            stored.replace(KEYS, r#""key":"example""#, r#""key":"\ud800""#);
        }),
        edited("envelope_unknown_kms", "A key service that is not of this format.", Malformed, |stored| {
            stored.replace(KEYS, r#""kms":"local""#, r#""kms":"LOCAL""#);
        }),
        edited("envelope_blob_not_base64", "A wrapped key in base64url.", Malformed, |stored| {
            stored.replace(KEYS, r#""blob":""#, r#""blob":"-___"#);
        }),
        edited("envelope_recipient_array", "A recipient that is an array.", Malformed, |stored| {
            stored.set(KEYS, r#"[["local","example","AAAA"]]"#);
        }),
        edited("data_keys_0", "No recipients.", Malformed, |stored| stored.set(KEYS, "[]")),
        edited("data_keys_17", "17 recipients.", Malformed, |stored| {
            let one = r#"{"kms":"local","key":"example","blob":"AAAA"}"#;
            stored.set(KEYS, &format!("[{}]", [one; 17].join(",")));
        }),
        edited("envelope_context_empty", "A context without pairs is absent.", Malformed, |stored| {
            stored.set("sealift-context", "{}");
        }),
        edited("envelope_context_member_twice", "A pair twice, spelled differently.", Malformed, |stored| {
            stored.set("sealift-context", r#"{"a":"1","\u0061":"1"}"#);
        }),
        edited("envelope_context_reserved_name", "A pair of Sealift's own.", Malformed, |stored| {
            stored.set("sealift-context", r#"{"sealift:bucket":"b"}"#);
        }),
        edited("envelope_bound_to_something_else", "Bound to what this version cannot.", Malformed, |stored| {
            stored.set("sealift-bound", "Name");
        }),
        moved("envelope_of_another_object", "Another object's whole envelope but the id.", |upload, stored| {
            stored.metadata = Upload::new("another upload", &[]).stored().metadata;
            stored.set("sealift-object-id", &upload.object_id.to_string());
        }),
        moved("bit_flip_in_object_id", "A bit of the object id.", |upload, stored| {
            let mut id = *upload.object_id.as_bytes();
            id[7] ^= 1;
            stored.set("sealift-object-id", &ObjectId::from_bytes(id).to_string());
        }),
        moved("context_added", "The store adds a pair to the encryption context.", |_, stored| {
            stored.set("sealift-context", r#"{"a":"1"}"#);
        }),
        moved("bound_added", "The store claims that the object is bound.", |_, stored| {
            stored.set("sealift-bound", "name");
        }),
        {
            let mut upload = Upload::new("bound_stripped", &[(1, 5)]);
            upload.bound = true;
            let mut stored = upload.stored();
            stored.metadata.remove("sealift-bound");
            let expected = Expected::Error { at: At::DataKey, kind: "Authentication".into() };
            vector("The store claims that a bound object is not.", &upload, stored, KEY, expected)
        },
        {
            let mut upload = Upload::new("bound_under_another_name", &[(1, 5)]);
            upload.bound = true;
            let stored = upload.stored();
            let expected = Expected::Error { at: At::DataKey, kind: "Authentication".into() };
            vector("A bound object, read under another key.", &upload, stored, "another/key", expected)
        },
        refused(
            "data_key_of_another_object",
            "The CMK wrapped another data key for this object.",
            At::Trailer,
            Authentication,
            |upload, stored| {
                let kms_context = Envelope::kms_context(&upload.object_id, &upload.context, None);
                let other = derive::<32>("data key", "another upload");
                let (_, blob) = upload.seal_under(cmk(), &context::kms_local(&kms_context), &other);
                let wrapped = WrappedKey { kms: KmsService::Local, key: "example".into(), blob };
                let envelope = Envelope::new(upload.object_id, vec![wrapped], upload.context.clone(), false);
                stored.metadata = envelope.unwrap().to_metadata();
            },
        ),
    ]
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/objects")
}

#[test]
fn vectors_are_what_this_crate_seals() {
    let mut files: Vec<_> = std::fs::read_dir(directory())
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    let write = std::env::var_os("SEALIFT_WRITE_VECTORS").is_some();
    for vector in all() {
        let file = format!("{}.json", vector.name);
        let expected = serde_json::to_string_pretty(&vector).unwrap() + "\n";
        if write {
            std::fs::create_dir_all(directory()).unwrap();
            std::fs::write(directory().join(&file), &expected).unwrap();
        }
        let found = std::fs::read_to_string(directory().join(&file)).unwrap_or_default();
        assert!(
            found == expected,
            "{file} is not what is sealed now: if that is meant, run with SEALIFT_WRITE_VECTORS=1"
        );
        files.retain(|name| *name != file);
    }
    assert!(write || files.is_empty(), "no vector makes {files:?}: remove them");
}

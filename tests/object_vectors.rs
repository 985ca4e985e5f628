//! Reads every vector in `tests/vectors/objects` through the public API: what opens must open to the right bytes, and
//! what is refused must be refused at the right step with the right kind of error.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "support/object.rs"]
mod object;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use object::{Cmk, Reader, Upload};
use sealift::crypto::{CHUNK, sealed_len};
use sealift::format::{Envelope, Layout, Manifest};
use sealift::{DataKey, Error};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    #[serde(rename = "description")]
    _description: String,
    cmk: String,
    data_key: String,
    bucket: String,
    key: String,
    metadata: BTreeMap<String, String>,
    body: String,
    plaintext: Option<Plaintext>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plaintext {
    len: u64,
    sha256: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Refusal {
    at: String,
    kind: String,
}

#[test]
fn every_vector_opens_or_is_refused_as_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/objects");
    let (mut opened, mut refused) = (0, BTreeSet::new());
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let vector: Vector = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        match (vector.read(), vector.plaintext, vector.error) {
            (Ok(found), Some(expected), None) => {
                assert_eq!(found.len() as u64, expected.len, "{name}");
                assert_eq!(hex(&Sha256::digest(&found)), expected.sha256, "{name}");
                opened += 1;
            }
            (Err((at, error)), None, Some(expected)) => {
                let found = Refusal { at: at.into(), kind: format!("{:?}", error.kind()) };
                assert_eq!(found, expected, "{name}: {error}");
                refused.insert(found.at);
            }
            (Ok(_), _, _) => panic!("{name} opens, and must not"),
            (Err((at, error)), _, _) => panic!("{name} is refused at the {at}: {error}"),
        }
    }
    assert!(opened > 10, "only {opened} vectors open");
    assert!(refused.iter().eq(["data_key", "envelope", "parts", "trailer"]), "only at {refused:?} is any refused");
}

/// A specification whose numbers are wrong is worse than none.
#[test]
fn format_md_says_what_the_code_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let format = fs::read_to_string(root.join("FORMAT.md")).unwrap();

    // The worked example is the vector.
    let hello = fs::read_to_string(root.join("tests/vectors/objects/hello.json")).unwrap();
    let hello: Vector = serde_json::from_str(&hello).unwrap();
    let without_space: String = format.split_whitespace().collect();
    let (part, trailer) = hello.body.split_at(2 * 77);
    for (message, chunk) in [(part, 5 + 16), (trailer, 62 + 16)] {
        let (salt, message) = message.split_at(2 * 24);
        let (commitment, message) = message.split_at(2 * 32);
        for hex in [salt, commitment, &message[..2 * chunk]] {
            assert!(without_space.contains(hex), "{hex}");
        }
    }
    assert!(format.contains(&format!("    data key       {}\n", hello.data_key)));
    assert!(format.contains(&format!("    key material   {}\n", hello.cmk)));
    for (name, value) in &hello.metadata {
        assert!(format.contains(&format!("    {name:<20}{value}\n")), "{name}");
    }

    // The table of sealed lengths.
    let numbers = |line: &str| -> Vec<u64> {
        line.split('|').filter_map(|cell| cell.split('=').next()?.trim().replace(',', "").parse().ok()).collect()
    };
    let (_, table) = format.split_once("| ---: | ---: | ---: |\n").unwrap();
    let rows: Vec<_> = table.lines().map(numbers).take_while(|row| !row.is_empty()).collect();
    assert_eq!(rows.len(), 11);
    for row in rows {
        let [plain, chunks, sealed] = row[..] else { panic!("{row:?}") };
        assert_eq!((chunks, Some(sealed)), (plain / CHUNK as u64 + 1, sealed_len(plain)));
    }

    // The table of offsets.
    let upload = Upload::new(&[0; 57_768], &[20_000, 32_768, 5_000]);
    let manifest = Manifest::new(upload.parts.clone(), false, BTreeMap::new()).unwrap();
    for part in Layout::new(&manifest).parts() {
        let lengths = [part.plain.end - part.plain.start, part.chunks, part.sealed.end - part.sealed.start];
        let row = format!(
            " | {} | {} | {} |\n",
            dotted(&part.plain),
            lengths.map(thousands).join(" | "),
            dotted(&part.sealed)
        );
        assert!(format.contains(&row), "{row}");
    }
    let body = upload.body().len() as u64;
    assert!(format.contains(&format!("| {} |\n", dotted(&(manifest.sealed_len()..body)))), "{body}");
}

fn dotted(range: &Range<u64>) -> String {
    format!("{}..{}", thousands(range.start), thousands(range.end))
}

/// 12345 as 12,345.
fn thousands(n: u64) -> String {
    if n < 1_000 { n.to_string() } else { format!("{},{:03}", thousands(n / 1_000), n % 1_000) }
}

impl Vector {
    /// All of the plaintext, or the step that refused.
    fn read(&self) -> Result<Vec<u8>, (&'static str, Error)> {
        let cmk = Cmk(DataKey::take(&mut unhex(&self.cmk)).unwrap());
        let body = unhex(&self.body);

        let envelope = Envelope::from_metadata(&self.metadata).map_err(|error| ("envelope", error))?;
        let data_key = cmk.unwrap(&envelope, &self.bucket, &self.key).map_err(|error| ("data_key", error))?;
        if self.plaintext.is_some() {
            assert_eq!(hex(data_key.expose()), self.data_key);
        }
        let reader = Reader::open(data_key, *envelope.object_id(), &body).map_err(|error| ("trailer", error))?;
        reader.read_all().map_err(|error| ("parts", error))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "two digits for each byte");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

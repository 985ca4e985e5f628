//! `examples/open_with_python.py`, which shares no code with this crate, opens and refuses the same bodies.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "support/object.rs"]
mod object;
mod support;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use object::{Cmk, Upload};
use sealift::crypto::STRIPE;
use sealift::format::Envelope;
use sealift::{DataKey, ObjectId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

#[test]
fn python_opens_and_refuses_the_vectors() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/objects");
    let (mut opened, mut refused) = (0, 0);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let vector: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        // The script begins where the data key is known.
        let Some((object_id, data_key)) = unwrap(&vector) else { continue };
        let output = python(&unhex(&vector["body"]), &object_id, &data_key);
        if let Some(expected) = vector.get("plaintext") {
            assert!(output.status.success(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stdout.len() as u64, expected["len"], "{path:?}");
            assert_eq!(hex(&Sha256::digest(&output.stdout)), expected["sha256"], "{path:?}");
            opened += 1;
        } else {
            assert!(!output.status.success(), "{path:?} opens, and must not");
            assert!(output.stdout.is_empty(), "{path:?} releases something");
            let complaint = String::from_utf8_lossy(&output.stderr);
            let known = ["InvalidTag", "not a sealed object", "UnicodeDecodeError", "struct.error", "IndexError"];
            assert!(known.iter().any(|known| complaint.contains(known)), "{path:?}: {complaint}");
            refused += 1;
        }
    }
    assert!(opened > 10 && refused > 40, "only {opened} opened and {refused} refused");
}

#[test]
fn python_opens_what_is_sealed_now() {
    let plaintext: Vec<u8> = (0..2 * STRIPE + 50_000).map(|i| (i * 31 + i / 251) as u8).collect();
    let upload = Upload::new(&plaintext, &[STRIPE + 1, 16_384, STRIPE - 16_384, 49_999]);
    let output = python(&upload.body(), &upload.object_id, &upload.data_key);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == plaintext);
}

fn unwrap(vector: &Value) -> Option<(ObjectId, DataKey)> {
    let cmk = Cmk(DataKey::take(&mut unhex(&vector["cmk"])).unwrap());
    let metadata = serde_json::from_value(vector["metadata"].clone()).unwrap();
    let envelope = Envelope::from_metadata(&metadata).ok()?;
    let data_key = cmk.unwrap(&envelope, vector["bucket"].as_str().unwrap(), vector["key"].as_str().unwrap()).ok()?;
    Some((*envelope.object_id(), data_key))
}

fn python(body: &[u8], object_id: &ObjectId, data_key: &DataKey) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(body).unwrap();
    let mut child = Command::new(support::python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/open_with_python.py"))
        .arg(file.path())
        .arg(object_id.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let key = hex(data_key.expose());
    child.stdin.take().expect("piped").write_all(key.as_bytes()).expect("it reads the key");
    child.wait_with_output().expect("Python ends")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("a string");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

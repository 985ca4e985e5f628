//! PyPI's `cryptography` opens what this crate seals, and the other way round.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use sealift::DataKey;
use sealift::crypto::{Backend, CHUNK, STRIPE, open_message, seal_message};

const SCRIPT: &str = r#"
import sys
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
work, key, context = sys.argv[1:]
cipher = {"seal": Cobblestone256Encryptor, "open": Cobblestone256Decryptor}[work]
cipher = cipher(bytes.fromhex(key), bytes.fromhex(context))
data = sys.stdin.buffer.read()
out = cipher.update(data[:1000]) + cipher.update(data[1000:]) + cipher.finalize()
sys.stdout.buffer.write(out)
"#;

const CONTEXT: &[u8] = b"sealift/v1/part\0an object's id..\0\0\0\x01";
const LENGTHS: [usize; 9] = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, STRIPE - 1, STRIPE, STRIPE + 1, 3 * STRIPE + 12_345];

#[test]
fn python_opens_what_we_seal() {
    let (key, hex_key) = key();
    for (i, len) in LENGTHS.into_iter().enumerate() {
        let plaintext = plaintext(len);
        // Each length by one backend, each backend at several lengths: they agree byte for byte, as other tests show.
        let backend = Backend::available()[i % Backend::available().len()];
        let sealed = seal_message(backend, &key, CONTEXT, &plaintext).unwrap();
        let opened = python("open", &hex_key, &sealed).expect("Python opens it");
        assert!(opened == plaintext, "{backend} {len}");

        let mut altered = sealed;
        *altered.last_mut().unwrap() ^= 1;
        let refusal = python("open", &hex_key, &altered).expect_err("Python refuses it once altered");
        assert!(refusal.contains("InvalidTag"), "{refusal}");
    }
}

#[test]
fn we_open_what_python_seals() {
    let (key, hex_key) = key();
    for len in LENGTHS {
        let plaintext = plaintext(len);
        let sealed = python("seal", &hex_key, &plaintext).expect("Python seals it");
        for &backend in Backend::available() {
            let opened = open_message(backend, &key, CONTEXT, &sealed).unwrap();
            assert!(opened == plaintext, "{backend} {len}");
        }
    }
}

/// What the script wrote, or what it complained of.
fn python(work: &str, key: &str, input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new(support::python())
        .args(["-c", SCRIPT, work, key, &hex(CONTEXT)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    // It reads all before it writes anything, so neither side waits for the other. If it fails sooner, the pipe breaks,
    // but what it complained of says more.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("Python ends");
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn key() -> (DataKey, String) {
    let key = DataKey::random().unwrap();
    let hex = hex(key.expose());
    (key, hex)
}

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

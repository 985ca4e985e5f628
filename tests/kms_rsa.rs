//! The escrow key: what it wraps, foreign tools open with the private key.

#![cfg(feature = "aws-lc-rs")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use futures::FutureExt as _;
use sealift::kms::Kms as _;
use sealift::kms::conformance::{Fixture, check};
use sealift::kms::rsa::RsaEscrow;
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, KmsService, Result, WrappedKey};

/// One key in all the spellings that openssl has, because making one takes a while.
struct Keys {
    /// Inside of target/, because nothing drops a static.
    dir: PathBuf,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let keys = Keys { dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("kms_rsa") };
    let _ = fs::remove_dir_all(&keys.dir);
    fs::create_dir_all(&keys.dir).unwrap();
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out"], &keys.path("private.pem"));
    for (arguments, name) in [
        // `pkey -outform DER` would write PKCS #1.
        (&["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"][..], "private.der"),
        (&["pkey", "-pubout"], "public.pem"),
        (&["pkey", "-pubout", "-outform", "DER"], "public.der"),
        (&["pkey", "-pubout", "-text"], "public-with-text.pem"),
        (&["rsa", "-RSAPublicKey_out"], "pkcs1-public.pem"),
        (&["rsa", "-traditional"], "pkcs1-private.pem"),
        (&["pkey", "-aes-256-cbc", "-passout", "pass:x"], "encrypted.pem"),
    ] {
        let private = keys.path("private.pem");
        openssl(&[arguments, &["-in", private.to_str().unwrap(), "-out"]].concat(), &keys.path(name));
    }
    openssl(&["genpkey", "-algorithm", "ED25519", "-out"], &keys.path("ed25519.pem"));
    keys
});

impl Keys {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn public(&self) -> RsaEscrow {
        RsaEscrow::read(self.path("public.pem")).unwrap()
    }

    fn private(&self) -> RsaEscrow {
        RsaEscrow::read_private(self.path("private.pem")).unwrap()
    }
}

fn openssl(arguments: &[&str], out: &Path) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).arg(out).stdin(Stdio::null()).output();
    let output = output.expect("openssl runs: install it with `apt-get install openssl`, or your system's like");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn context(purpose: &str) -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), purpose.to_owned())]).unwrap()
}

fn generate(kms: &RsaEscrow) -> (DataKey, WrappedKey) {
    kms.generate_data_key(kms.id(), &context("test")).now_or_never().unwrap().unwrap()
}

fn unwrap(kms: &RsaEscrow, wrapped: &WrappedKey) -> Result<DataKey> {
    kms.unwrap(wrapped, &context("test")).now_or_never().unwrap()
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

/// The label of `context("test")`, by the words of FORMAT.md.
const LABEL: &str = "sealift/v1/rsa-escrow\0\0\0\0\x07purpose\0\0\0\x04test";

#[tokio::test]
async fn it_does_what_every_key_service_must() {
    let unknown = "ab".repeat(32);
    let kms = KEYS.private();
    check(&Fixture::new(&kms, kms.id(), &unknown)).await;
}

#[test]
fn a_key_has_one_id_however_it_is_spelt() {
    let id = KEYS.public().id().to_owned();
    let sha256 = openssl(&["dgst", "-sha256", "-r"], &KEYS.path("public.der"));
    assert_eq!(id.as_bytes(), &sha256[..64]);
    for name in ["public.der", "public-with-text.pem"] {
        assert_eq!(RsaEscrow::read(KEYS.path(name)).unwrap().id(), id, "{name}");
    }
    assert_eq!(KEYS.private().id(), id);
    assert_eq!(RsaEscrow::read_private(KEYS.path("private.der")).unwrap().id(), id);
}

#[test]
fn the_public_key_wraps_and_only_the_private_one_unwraps() {
    let (public, private) = (KEYS.public(), KEYS.private());
    assert!(!public.can_unwrap() && private.can_unwrap());
    let (data_key, wrapped) = generate(&public);
    assert_eq!((wrapped.kms, wrapped.key.as_str(), wrapped.blob.len()), (KmsService::Rsa, public.id(), 3072 / 8));
    let error = failure(unwrap(&public, &wrapped));
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
    assert!(error.to_string().contains("can wrap but not unwrap here"), "{error}");
    assert_eq!(unwrap(&private, &wrapped).unwrap(), data_key);
    let error = failure(private.unwrap(&wrapped, &context("other")).now_or_never().unwrap());
    assert_eq!(error.kind(), ErrorKind::Authentication);
}

#[test]
fn openssl_with_the_private_key_opens_what_was_wrapped() {
    let (data_key, wrapped) = generate(&KEYS.public());
    let dir = tempfile::tempdir().unwrap();
    let (blob, label, opened) = (dir.path().join("blob"), dir.path().join("label"), dir.path().join("opened"));
    fs::write(&blob, &wrapped.blob).unwrap();
    fs::write(&label, LABEL).unwrap();
    let hash = String::from_utf8(openssl(&["dgst", "-sha256", "-r"], &label)).unwrap();
    let label = format!("rsa_oaep_label:{}", &hash[..64]);
    let private = KEYS.path("private.pem");
    let arguments = [
        ["pkeyutl", "-decrypt"],
        ["-inkey", private.to_str().unwrap()],
        ["-in", blob.to_str().unwrap()],
        ["-pkeyopt", "rsa_padding_mode:oaep"],
        ["-pkeyopt", "rsa_oaep_md:sha256"],
        ["-pkeyopt", "rsa_mgf1_md:sha256"],
        ["-pkeyopt", &label],
    ];
    openssl(&[arguments.as_flattened(), &["-out"]].concat(), &opened);
    assert_eq!(fs::read(opened).unwrap(), data_key.expose());
}

#[test]
fn python_opens_what_was_wrapped_and_wraps_what_opens() {
    const SCRIPT: &str = "
import hashlib, pathlib, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
dir = pathlib.Path(sys.argv[1])
key = serialization.load_pem_private_key((dir / 'private.pem').read_bytes(), None)
label = hashlib.sha256(bytes.fromhex(sys.argv[3])).digest()
oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label)
data_key = key.decrypt(bytes.fromhex(sys.argv[2]), oaep)
print(data_key.hex())
print(key.public_key().encrypt(data_key, oaep).hex())
";
    let (data_key, wrapped) = generate(&KEYS.public());
    let output = Command::new(support::python())
        .args(["-c", SCRIPT])
        .arg(&KEYS.dir)
        .args([hex(&wrapped.blob), hex(LABEL.as_bytes())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], hex(data_key.expose()));
    let foreign = WrappedKey { blob: unhex(lines[1]), ..wrapped };
    assert_eq!(unwrap(&KEYS.private(), &foreign).unwrap(), data_key);
}

#[test]
fn other_files_are_refused_with_the_command_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged.pem");
    let pem = fs::read_to_string(KEYS.path("public.pem")).unwrap();
    fs::write(&damaged, &pem[..pem.len() / 2]).unwrap();
    let noise = dir.path().join("noise");
    fs::write(&noise, [0x30; 1000]).unwrap();
    for (result, advice) in [
        (RsaEscrow::read(KEYS.path("private.pem")), "keep that one in a safe"),
        (RsaEscrow::read(KEYS.path("encrypted.pem")), "keep that one in a safe"),
        (RsaEscrow::read(KEYS.path("private.der")), "-pubout"),
        (RsaEscrow::read(KEYS.path("pkcs1-public.pem")), "openssl rsa -RSAPublicKey_in"),
        (RsaEscrow::read(&damaged), "cut short"),
        (RsaEscrow::read(&noise), "something else"),
        (RsaEscrow::read_private(KEYS.path("public.pem")), "private half"),
        (RsaEscrow::read_private(KEYS.path("pkcs1-private.pem")), "openssl pkcs8 -topk8"),
        (RsaEscrow::read_private(KEYS.path("encrypted.pem")), "passphrase"),
        (RsaEscrow::read_private(KEYS.path("ed25519.pem")), "another kind or size"),
        (RsaEscrow::read_private(&noise), "PKCS #8"),
    ] {
        let error = failure(result);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert_eq!(failure(RsaEscrow::read("/nowhere")).kind(), ErrorKind::NotFound);
}

#[test]
fn a_key_that_is_too_short_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (private, public) = (dir.path().join("private.pem"), dir.path().join("public.pem"));
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out"], &private);
    openssl(&["pkey", "-pubout", "-in", private.to_str().unwrap(), "-out"], &public);
    for result in [RsaEscrow::read(&public), RsaEscrow::read_private(&private)] {
        assert!(failure(result).to_string().contains("2,048 to 8,192 bits"));
    }
}

#[test]
fn nothing_of_the_private_key_is_shown() {
    let kms = KEYS.private();
    let shown = format!("{kms:?}");
    assert_eq!(shown, format!("RsaEscrow {{ id: {:?}, bits: 3072, can_unwrap: true }}", kms.id()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

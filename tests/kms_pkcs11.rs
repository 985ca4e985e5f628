//! PKCS #11, on tokens of a SoftHSM of our own.

#![cfg(feature = "pkcs11")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod support;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use sealift::kms::Kms as _;
use sealift::kms::conformance::{Fixture, check};
use sealift::kms::pkcs11::Pkcs11Kms;
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, KeyState, KmsService, Result};

const PIN: &str = "1234";
/// A token for each test: SoftHSM fails now and then to make a key while another thread looks for one on the same token.
/// All are made at once, because it sees no token that is made later.
const TOKENS: [&str; 7] =
    ["uploads", "conformance", "format", "names", "key in URI", "nobody logs in here", "somebody logs out here"];

/// Where the distributions put it. `cargo xtask setup` looks there too.
const LIBRARIES: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
];

/// SoftHSM's library in this process.
struct SoftHsm {
    library: &'static str,
    module: Pkcs11,
}

static SOFT_HSM: LazyLock<SoftHsm> = LazyLock::new(|| {
    const MISSING: &str = "run `cargo xtask setup` first: it installs SoftHSM (on Debian, the package softhsm2)";
    let library = LIBRARIES.into_iter().find(|library| Path::new(library).exists()).expect(MISSING);
    // Inside of target/, because nothing drops a static; another one for a test that runs itself as another process.
    let name = if env::var_os(Pkcs11Kms::PIN_VARIABLE).is_some() { "softhsm-with-pin" } else { "softhsm" };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("tokens")).unwrap();
    let conf = dir.join("softhsm2.conf");
    let tokens = dir.join("tokens");
    fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display())).unwrap();
    for token in TOKENS {
        let output = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", token, "--so-pin", "so-pin", "--pin", PIN])
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .expect(MISSING);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // SAFETY: nothing else in this process reads the environment but through std, which locks it: the library that
    // does is loaded below, and by tests only after they have come through here.
    #[allow(unsafe_code, reason = "SoftHSM takes its configuration from nowhere else")]
    unsafe {
        env::set_var("SOFTHSM2_CONF", &conf);
    }
    let module = Pkcs11::new(library).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    SoftHsm { library, module }
});

/// A session that makes keys.
fn session(token: &str) -> Session {
    let hsm = &*SOFT_HSM;
    let slots = hsm.module.get_slots_with_initialized_token().unwrap();
    let is_it = |slot: &_| hsm.module.get_token_info(*slot).unwrap().label() == token;
    let session = hsm.module.open_rw_session(slots.into_iter().find(is_it).unwrap()).unwrap();
    // It may be logged in already: a process is, as a whole.
    let _ = session.login(UserType::User, Some(&AuthPin::from(PIN)));
    session
}

/// Makes a key of 32 bytes whose value is known here.
fn create_key(session: &Session, label: &str, id: &[u8], value: [u8; 32]) {
    create_key_with(session, label, id, &value);
}

fn create_key_with(session: &Session, label: &str, id: &[u8], value: &[u8]) {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Label(label.into()),
        Attribute::Id(id.to_vec()),
        Attribute::Value(value.to_vec()),
    ];
    session.create_object(&template).unwrap();
}

fn uri(token: &str, rest: &str) -> String {
    format!("pkcs11:token={}?module-path={}{rest}", token.replace(' ', "%20"), SOFT_HSM.library)
}

fn open(token: &str) -> Pkcs11Kms {
    Pkcs11Kms::open(&uri(token, &format!("&pin-value={PIN}"))).unwrap()
}

fn context() -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), "test".to_owned())]).unwrap()
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_key_service_must() {
    let session = session("conformance");
    create_key(&session, "a key", &[0xaa, 1], [1; 32]);
    create_key(&session, "another key", &[0xaa, 2], [2; 32]);
    create_key(&session, "a disabled key", &[0xaa, 3], [3; 32]);
    let kms = open("conformance");
    let (_, wrapped) = kms.generate_data_key("aa03", &EncryptionContext::default()).await.unwrap();
    let disabled = session.find_objects(&[Attribute::Id(vec![0xaa, 3])]).unwrap();
    session.update_attributes(disabled[0], &[Attribute::Encrypt(false), Attribute::Decrypt(false)]).unwrap();
    check(&Fixture {
        alias: Some("a key"),
        other_key: Some("aa02"),
        disabled_key: Some("aa03"),
        wrapped_by_disabled_key: Some(&wrapped),
        ..Fixture::new(&kms, "aa01", "aaff")
    })
    .await;
    let error = failure(kms.generate_data_key("aa03", &context()).await);
    assert!(error.to_string().contains("CKA_ENCRYPT is false"), "{error}");
    let error = failure(kms.unwrap(&wrapped, &EncryptionContext::default()).await);
    assert!(error.to_string().contains("CKA_DECRYPT is false"), "{error}");
    assert_eq!(error.key_state(), Some(KeyState::Disabled));
}

#[tokio::test]
async fn a_wrapped_key_is_what_the_format_says() {
    const SCRIPT: &str = "
import sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
blob = bytes.fromhex(sys.argv[1])
context = bytes.fromhex(sys.argv[2])
print(AESGCM(bytes([0x42]) * 32).decrypt(blob[:12], blob[12:], context).hex())
";
    create_key(&session("format"), "known", &[0xb0], [0x42; 32]);
    let kms = open("format");
    let (data_key, wrapped) = kms.generate_data_key("known", &context()).await.unwrap();
    assert_eq!((wrapped.kms, wrapped.key.as_str(), wrapped.blob.len()), (KmsService::Pkcs11, "b0", 60));
    let output = Command::new(support::python())
        .args(["-c", SCRIPT, &hex(&wrapped.blob), &hex(b"\0\0\0\x07purpose\0\0\0\x04test")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), hex(data_key.expose()));
}

#[tokio::test]
async fn keys_are_named_by_id_or_else_by_label() {
    let session = session("names");
    create_key(&session, "only a label", &[], [4; 32]);
    create_key(&session, "twins", &[0xc0, 1], [5; 32]);
    create_key(&session, "twins", &[0xc0, 2], [6; 32]);
    // Somebody's label that is another's id does not get in its way.
    create_key(&session, "c001", &[0xc0, 3], [7; 32]);
    create_key_with(&session, "too short", &[0xc0, 4], &[8; 16]);
    let kms = open("names");
    let data_key = DataKey::random().unwrap();
    for (name, id) in [("only a label", "only a label"), ("C001", "c001"), ("c002", "c002"), ("c003", "c003")] {
        let wrapped = kms.wrap(name, &data_key, &context()).await.unwrap();
        assert_eq!((wrapped.key.as_str(), kms.key_id(name).await.unwrap().as_str()), (id, id));
        assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
    }
    for (name, says) in [("twins", "several keys"), ("too short", "has 16 bytes"), ("nothing", "there is no AES key")] {
        let error = failure(kms.wrap(name, &data_key, &context()).await);
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn the_uri_can_name_the_key() {
    create_key(&session("key in URI"), "in a URI", &[0xd0, 1], [9; 32]);
    let pin = format!("&pin-value={PIN}");
    let with = |attributes: &str| Pkcs11Kms::open(&uri(&format!("key in URI;{attributes}"), &pin));
    for attributes in ["object=in%20a%20URI", "id=%D0%01", "object=in%20a%20URI;id=%d0%01;type=secret-key"] {
        assert_eq!(with(attributes).unwrap().key(), Some("d001"), "{attributes}");
    }
    assert_eq!(open("key in URI").key(), None);
    for attributes in ["object=not%20there", "object=in%20a%20URI;id=%D0%02"] {
        assert_eq!(failure(with(attributes)).kind(), ErrorKind::KeyUnavailable, "{attributes}");
    }
}

#[tokio::test]
async fn who_is_logged_out_logs_in_again() {
    let session = session("somebody logs out here");
    create_key(&session, "cmk", &[1], [1; 32]);
    let kms = open("somebody logs out here");
    let (data_key, wrapped) = kms.generate_data_key("cmk", &context()).await.unwrap();
    session.logout().unwrap();
    assert_eq!(kms.unwrap(&wrapped, &context()).await.unwrap(), data_key);
}

#[test]
fn tokens_and_pins_that_do_not_fit_are_told() {
    let token = "nobody logs in here";
    let dir = tempfile::tempdir().unwrap();
    let pin_file = dir.path().join("pin");
    fs::write(&pin_file, "4321\n").unwrap();
    let missing_library = "pkcs11:token=uploads?module-path=/nowhere/module.so&pin-value=4321".to_owned();
    let any_token = format!("pkcs11:?module-path={}&pin-value=4321", SOFT_HSM.library);
    for (uri, says) in [
        (uri(token, "&pin-value=4321"), "refuses the PIN"),
        (uri(token, &format!("&pin-source=file:{}", pin_file.display())), "refuses the PIN"),
        (uri(token, "&pin-value=1"), "refuses the PIN"),
        (uri(token, ""), "needs a PIN"),
        (uri("absent", "&pin-value=4321"), "no token matches"),
        (any_token, "several tokens match"),
        (missing_library, "/nowhere/module.so"),
    ] {
        let error = failure(Pkcs11Kms::open(&uri));
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(says) && !shown.contains("4321"), "{shown}");
    }
    fs::write(&pin_file, format!("{PIN}\n")).unwrap();
    let kms = Pkcs11Kms::open(&uri("uploads", &format!("&pin-source={}", pin_file.display()))).unwrap();
    assert!(!format!("{kms:?}").contains(PIN));
}

/// In another process, because the environment is everybody's.
#[test]
fn the_pin_can_be_in_the_environment() {
    if env::var_os(Pkcs11Kms::PIN_VARIABLE).is_some() {
        Pkcs11Kms::open(&uri("uploads", "")).unwrap();
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_pin_can_be_in_the_environment"])
        .env(Pkcs11Kms::PIN_VARIABLE, PIN)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Bring your own key: material that other tools wrapped, its expiry, and its return.

#![cfg(feature = "aws-lc-rs")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::io::ErrorKind as Io;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealift::kms::local::{CreateKey, ImportParameters, KeyMetadata, LocalKms, WrappingAlgorithm, WrappingKeySpec};
use sealift::{Error, ErrorKind, KeyState, Result, WrappedKey};
use sha2::{Digest as _, Sha256};

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/keys.rs"]
mod keys;
mod support;

use keys::{DAY, HOUR, World, encrypt, external, failure, generate, import, material, state, tree, unwrap};

/// A tool that encrypts `material` to `public_key` with `algorithm`.
type Tool = fn(public_key: &[u8], algorithm: WrappingAlgorithm, material: &[u8]) -> Vec<u8>;

#[test]
fn material_wrapped_by_openssl_is_taken_with_every_algorithm_and_key_size() {
    every_algorithm_and_key_size(openssl);
}

#[test]
fn material_wrapped_by_python_is_taken_with_every_algorithm_and_key_size() {
    every_algorithm_and_key_size(python);
}

fn every_algorithm_and_key_size(tool: Tool) {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(external()).unwrap().key_id;
    let material: Vec<u8> = (100..132).collect();
    let mut before: Option<WrappedKey> = None;
    for spec in WrappingKeySpec::ALL {
        for algorithm in WrappingAlgorithm::ALL {
            let parameters = kms.get_parameters_for_import(&key, algorithm, spec).unwrap();
            assert_eq!((&parameters.key_id, parameters.valid_until), (&key, world.clock.after(DAY)));
            let encrypted = tool(&parameters.public_key, algorithm, &material);
            assert_eq!(format!("RSA_{}", encrypted.len() * 8), spec.to_string());
            let imported = kms.import_key_material(&key, &encrypted, &parameters.import_token, None).unwrap();
            assert_eq!((imported.state, imported.primary_version), (KeyState::Enabled, 1), "{spec} {algorithm}");

            // It is the material that came before, as the next import sees too.
            if let Some(wrapped) = before.replace(generate(kms, &key).unwrap().1) {
                unwrap(kms, &wrapped).unwrap();
            }
            kms.delete_key_material(&key).unwrap();
            assert_eq!(state(kms, &key), KeyState::PendingImport);

            // Each other algorithm is another tool's mistake.
            for other in WrappingAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                if spec == WrappingKeySpec::Rsa2048 {
                    let encrypted = tool(&parameters.public_key, other, &material);
                    assert_opaque(kms.import_key_material(&key, &encrypted, &parameters.import_token, None));
                }
            }
        }
    }
}

/// The message of each way in which encrypted material can be wrong is the same.
#[track_caller]
fn assert_opaque(result: Result<KeyMetadata>) {
    let error = failure(result);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        error.to_string(),
        "the key material could not be unwrapped: encrypt exactly 32 bytes to the public key that came with this import \
         token, with the wrapping algorithm that was asked for"
    );
    assert!(std::error::Error::source(&error).is_none(), "{error:?}");
}

fn parameters(kms: &LocalKms, key: &str) -> ImportParameters {
    kms.get_parameters_for_import(key, WrappingAlgorithm::default(), WrappingKeySpec::default()).unwrap()
}

fn wrap(parameters: &ImportParameters, material: &[u8]) -> Vec<u8> {
    encrypt(WrappingAlgorithm::default(), &parameters.public_key, material)
}

#[test]
fn whatever_is_wrong_with_the_encrypted_material_the_refusal_is_the_same() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(external()).unwrap().key_id;
    for algorithm in WrappingAlgorithm::ALL {
        let parameters = kms.get_parameters_for_import(&key, algorithm, WrappingKeySpec::Rsa2048).unwrap();
        let import = |encrypted: &[u8]| kms.import_key_material(&key, encrypted, &parameters.import_token, None);
        let wrap = |material: &[u8]| encrypt(algorithm, &parameters.public_key, material);
        for len in [0, 1, 16, 31, 33, 64] {
            assert_opaque(import(&wrap(&vec![7; len])));
        }
        let good = wrap(&material(7));
        for len in [0, 1, 32, 255] {
            assert_opaque(import(&good[..len]));
        }
        assert_opaque(import(&[&good[..], &[0]].concat()));
        assert_opaque(import(&[0; 256]));
        assert_opaque(import(&[0xff; 256]));
        assert_opaque(import(&material(7)));
        for at in [0, 100, 255] {
            let mut altered = good.clone();
            altered[at] ^= 1;
            assert_opaque(import(&altered));
        }
        // To the public key of another token, even if it is for the same key.
        let other = kms.get_parameters_for_import(&key, algorithm, WrappingKeySpec::Rsa2048).unwrap();
        assert_opaque(import(&encrypt(algorithm, &other.public_key, &material(7))));
    }
    assert_eq!(state(kms, &key), KeyState::PendingImport);
}

#[test]
fn a_token_is_for_one_key_of_one_store() {
    let world = World::new();
    let kms = &world.kms;
    let [one, two] = [(); 2].map(|()| kms.create_key(external()).unwrap().key_id);
    let for_one = parameters(kms, &one);
    let encrypted = wrap(&for_one, &material(1));
    let refused = |kms: &LocalKms, key: &str, token: &[u8], says: &str| {
        let error = failure(kms.import_key_material(key, &encrypted, token, None));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{says:?} is not in: {error}");
    };
    refused(kms, &two, &for_one.import_token, &format!("for the key {one}, not {two}"));

    let other = World::new();
    let foreign = other.kms.create_key(external()).unwrap().key_id;
    refused(&other.kms, &foreign, &for_one.import_token, "another key store's");

    for at in 0..for_one.import_token.len() {
        let mut altered = for_one.import_token.clone();
        altered[at] ^= 0x10;
        refused(kms, &one, &altered, if (24..40).contains(&at) { "another key store's" } else { "damaged" });
    }
    for len in (0..for_one.import_token.len()).step_by(7) {
        refused(kms, &one, &for_one.import_token[..len], "no import token");
    }
    refused(kms, &one, &[&for_one.import_token[..], b"x"].concat(), "no import token");
    refused(kms, &one, &encrypted, "no import token");
    kms.import_key_material(&one, &encrypted, &for_one.import_token, None).unwrap();
}

#[test]
fn a_token_is_good_for_24_hours_and_for_any_process_and_more_than_one_import() {
    let world = World::new();
    let key = world.kms.create_key(external()).unwrap().key_id;
    let token = parameters(&world.kms, &key);
    let encrypted = wrap(&token, &material(1));
    let import = || world.clock.open(&world.dir).import_key_material(&key, &encrypted, &token.import_token, None);
    import().unwrap();
    world.clock.advance(DAY - 1);
    assert_eq!(token.valid_until, world.clock.after(1));
    world.kms.delete_key_material(&key).unwrap();
    import().unwrap();
    world.kms.delete_key_material(&key).unwrap();
    world.clock.advance(1);
    let error = failure(import());
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("expired"), "{error}");
    assert_eq!(state(&world.kms, &key), KeyState::PendingImport);
}

#[test]
fn only_the_same_material_is_imported_again_and_what_it_wrapped_opens_again() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(external()).unwrap().key_id;
    import(kms, &key, &material(1), None).unwrap();
    let (data_key, wrapped) = generate(kms, &key).unwrap();

    let other = |kms: &LocalKms| {
        let before = kms.describe_key(&key).unwrap();
        let error = failure(import(kms, &key, &material(2), None));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("not the key material") && error.to_string().contains(&key), "{error}");
        assert_eq!(kms.describe_key(&key).unwrap(), before);
    };
    other(kms);
    assert_eq!(unwrap(kms, &wrapped).unwrap(), data_key);

    kms.delete_key_material(&key).unwrap();
    let error = failure(unwrap(kms, &wrapped));
    assert_eq!((error.kind(), error.key_state()), (ErrorKind::KeyUnavailable, Some(KeyState::PendingImport)));
    assert!(error.to_string().contains(&key) && error.to_string().contains("import"), "{error}");
    other(&world.clock.open(&world.dir));
    import(kms, &key, &material(1), None).unwrap();
    assert_eq!(unwrap(kms, &wrapped).unwrap(), data_key);
}

#[test]
fn material_expires_for_everybody_at_once_and_leaves_the_file_with_the_next_write() {
    let world = World::new();
    let kms = &world.kms;
    let other_handle = world.clock.open(&world.dir);
    let key = kms.create_key(external()).unwrap().key_id;
    let expires = world.clock.after(48 * HOUR);
    let imported = import(kms, &key, &material(1), Some(expires)).unwrap();
    assert_eq!((imported.state, imported.material_expires), (KeyState::Enabled, Some(expires)));
    let (data_key, wrapped) = generate(kms, &key).unwrap();

    world.clock.advance(48 * HOUR - 1);
    unwrap(&other_handle, &wrapped).unwrap();
    world.clock.advance(1);
    let files = tree(&world.dir);
    for kms in [kms, &other_handle] {
        for error in [failure(unwrap(kms, &wrapped)), failure(generate(kms, &key))] {
            assert_eq!((error.kind(), error.key_state()), (ErrorKind::KeyUnavailable, Some(KeyState::PendingImport)));
            assert!(error.to_string().contains("expired"), "{error}");
        }
        let described = kms.describe_key(&key).unwrap();
        assert_eq!((described.versions, described.primary_version), (0, 0));
        assert_eq!(described.material_expires, Some(expires), "to know why there is none");
    }
    assert_eq!(tree(&world.dir), files, "nobody wrote anything");

    let versions = || {
        let file = fs::read(world.dir.join(format!("keys/{key}.json"))).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        file["record"]["versions"].as_array().unwrap().len()
    };
    assert_eq!(versions(), 1);
    kms.update_description(&key, "a write to the key").unwrap();
    assert_eq!(versions(), 0);

    for past in [expires, world.clock.now(), std::time::SystemTime::UNIX_EPOCH] {
        let error = failure(import(kms, &key, &material(1), Some(past)));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("in the past"), "{error}");
    }
    let imported = import(kms, &key, &material(1), None).unwrap();
    assert_eq!((imported.state, imported.material_expires), (KeyState::Enabled, None));
    assert_eq!(unwrap(kms, &wrapped).unwrap(), data_key);
}

#[test]
fn importing_again_sets_another_time_to_expire_and_keeps_a_disabled_key_disabled() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(external()).unwrap().key_id;
    import(kms, &key, &material(1), Some(world.clock.after(DAY))).unwrap();
    let (_, wrapped) = generate(kms, &key).unwrap();
    kms.disable_key(&key).unwrap();
    let later = world.clock.after(9 * DAY);
    let imported = import(kms, &key, &material(1), Some(later)).unwrap();
    assert_eq!((imported.state, imported.material_expires), (KeyState::Disabled, Some(later)));
    world.clock.advance(2 * DAY);
    kms.enable_key(&key).unwrap();
    unwrap(kms, &wrapped).unwrap();
}

#[test]
fn the_same_material_in_two_keys_does_not_make_them_one() {
    let world = World::new();
    let kms = &world.kms;
    let [one, two] = [(); 2].map(|()| {
        let key = kms.create_key(external()).unwrap().key_id;
        import(kms, &key, &material(1), None).unwrap();
        key
    });
    let (data_key, wrapped) = generate(kms, &one).unwrap();
    let moved = WrappedKey { key: two, ..wrapped.clone() };
    assert_eq!(failure(unwrap(kms, &moved)).kind(), ErrorKind::Authentication);
    assert_eq!(unwrap(kms, &wrapped).unwrap(), data_key);
}

#[test]
fn a_crash_while_material_is_imported_leaves_the_key_as_it_was_or_as_it_will_be() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(external()).unwrap().key_id;
    let path = world.dir.join(format!("keys/{key}.json"));
    let before = fs::read(&path).unwrap();
    import(kms, &key, &material(1), None).unwrap();
    let after = fs::read(&path).unwrap();
    for (content, expected) in [(&before, KeyState::PendingImport), (&after, KeyState::Enabled)] {
        for half in [0, after.len() / 2, after.len()] {
            fs::write(&path, content).unwrap();
            fs::write(world.dir.join(".new"), &after[..half]).unwrap();
            let kms = world.clock.open(&world.dir);
            assert_eq!(state(&kms, &key), expected);
            import(&kms, &key, &material(1), None).unwrap();
        }
    }
}

#[test]
fn any_damage_to_an_imported_key_s_file_is_refused() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(external()).unwrap().key_id;
    import(kms, &key, &material(1), Some(world.clock.after(DAY))).unwrap();
    let path = world.dir.join(format!("keys/{key}.json"));
    let good = fs::read(&path).unwrap();
    for at in 0..good.trim_ascii_end().len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        for error in [failure(kms.describe_key(&key)), failure(kms.delete_key_material(&key))] {
            let kinds = [ErrorKind::Malformed, ErrorKind::UnsupportedFormat];
            assert!(kinds.contains(&error.kind()), "{at}: {error:?}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), damaged, "left as it was");
    }
}

#[test]
fn neither_material_nor_private_key_is_shown_or_in_a_file_or_token_in_the_clear() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(external()).unwrap().key_id;
    let material: Vec<u8> = Sha256::digest("some material").to_vec();
    let parameters = parameters(kms, &key);
    let encrypted = wrap(&parameters, &material);
    let imported = kms.import_key_material(&key, &encrypted, &parameters.import_token, None).unwrap();
    // What this key's version is made of, by the documentation.
    let key_id = u128::from_str_radix(&key.replace('-', ""), 16).unwrap().to_be_bytes();
    let made_of_it = Sha256::new()
        .chain_update(b"sealift/v1/keystore-imported\0")
        .chain_update(key_id)
        .chain_update(&material)
        .finalize();
    // A private key begins with the modulus, as does what the public key has after 33 bytes of DER.
    let modulus = &parameters.public_key[40..72];

    let mut secrets = Vec::new();
    for secret in [&material[..], &made_of_it[..], modulus] {
        secrets.push(secret[..24].to_vec());
        secrets.push(secret[..8].to_vec());
        secrets.push(STANDARD.encode(&secret[..24]).into_bytes());
        let hex: String = secret[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        secrets.push(hex.to_uppercase().into_bytes());
        secrets.push(hex.into_bytes());
        secrets.push(format!("{}, {}, {}, {}", secret[0], secret[1], secret[2], secret[3]).into_bytes());
    }
    let errors = [
        kms.import_key_material(&key, &material, &parameters.import_token, None),
        kms.import_key_material(&key, &wrap(&parameters, &material[..31]), &parameters.import_token, None),
        kms.import_key_material(&key, &wrap(&parameters, &[9; 32]), &parameters.import_token, None),
        kms.import_key_material(LocalKms::DEFAULT_ALIAS, &encrypted, &parameters.import_token, None),
    ]
    .map(failure);
    let show = |error: &Error| format!("{error} {error:?}").into_bytes();
    let mut shown: Vec<(String, Vec<u8>)> = errors.iter().map(|error| ("error".to_owned(), show(error))).collect();
    shown.push(("Debug".to_owned(), format!("{kms:?} {imported:?}").into_bytes()));
    shown.push(("token".to_owned(), parameters.import_token.clone()));
    shown.extend(tree(&world.dir).into_iter().map(|(path, content)| (path.display().to_string(), content)));
    assert!(shown.len() > 9);
    for (name, shown) in shown {
        for secret in &secrets {
            assert!(!shown.windows(secret.len()).any(|window| window == secret), "{secret:?} is in {name}");
        }
    }

    // Only what it is compared with next time remembers which material it was.
    kms.delete_key_material(&key).unwrap();
    let file = fs::read_to_string(world.dir.join(format!("keys/{key}.json"))).unwrap();
    assert!(file.contains("\"versions\":[]") && file.contains("\"fingerprint\":"), "{file}");
}

#[test]
fn names_are_those_of_the_key_services() {
    let algorithms = WrappingAlgorithm::ALL.map(|algorithm| algorithm.to_string());
    assert_eq!(algorithms, ["RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1", "RSAES_PKCS1_V1_5"]);
    assert_eq!(WrappingKeySpec::ALL.map(|spec| spec.to_string()), ["RSA_2048", "RSA_3072", "RSA_4096"]);
    for algorithm in WrappingAlgorithm::ALL {
        assert_eq!(algorithm.to_string().parse::<WrappingAlgorithm>().unwrap(), algorithm);
    }
    for spec in WrappingKeySpec::ALL {
        assert_eq!(spec.to_string().parse::<WrappingKeySpec>().unwrap(), spec);
    }
    let error = failure("RSA_AES_KEY_WRAP_SHA_256".parse::<WrappingAlgorithm>());
    assert!(error.to_string().contains("RSAES_OAEP_SHA_256, "), "{error}");
    assert_eq!(failure("rsa_2048".parse::<WrappingKeySpec>()).kind(), ErrorKind::InvalidInput);
    assert_eq!(WrappingAlgorithm::default(), WrappingAlgorithm::RsaesOaepSha256);
}

#[test]
fn a_local_key_takes_no_material() {
    let world = World::new();
    let key = world.kms.create_key(CreateKey::default()).unwrap().key_id;
    let error = failure(world.kms.get_parameters_for_import(&key, Default::default(), Default::default()));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("origin local"), "{error}");
}

// The tools.

fn openssl(public_key: &[u8], algorithm: WrappingAlgorithm, material: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let [public_key_file, material_file, encrypted_file] =
        ["public.der", "material", "out"].map(|n| dir.path().join(n));
    fs::write(&public_key_file, public_key).unwrap();
    fs::write(&material_file, material).unwrap();
    let options: &[&str] = match algorithm {
        WrappingAlgorithm::RsaesOaepSha256 => &["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"],
        WrappingAlgorithm::RsaesOaepSha1 => &["rsa_padding_mode:oaep", "rsa_oaep_md:sha1", "rsa_mgf1_md:sha1"],
        WrappingAlgorithm::RsaesPkcs1V15 => &["rsa_padding_mode:pkcs1"],
    };
    let mut command = Command::new("openssl");
    command.args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey"]).arg(public_key_file);
    command.arg("-in").arg(material_file).arg("-out").arg(&encrypted_file);
    command.args(options.iter().flat_map(|option| ["-pkeyopt", option]));
    run(command, "openssl is needed for this test: apt-get install openssl");
    fs::read(encrypted_file).unwrap()
}

fn python(public_key: &[u8], algorithm: WrappingAlgorithm, material: &[u8]) -> Vec<u8> {
    const SCRIPT: &str = r#"
import sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
algorithm, public_key, material = sys.argv[1:]
def oaep(hash):
    return padding.OAEP(mgf=padding.MGF1(algorithm=hash), algorithm=hash, label=None)
padding = {
    "RSAES_OAEP_SHA_256": lambda: oaep(hashes.SHA256()),
    "RSAES_OAEP_SHA_1": lambda: oaep(hashes.SHA1()),
    "RSAES_PKCS1_V1_5": lambda: padding.PKCS1v15(),
}[algorithm]()
key = serialization.load_der_public_key(bytes.fromhex(public_key))
sys.stdout.buffer.write(key.encrypt(bytes.fromhex(material), padding))
"#;
    let mut command = Command::new(support::python());
    command.args(["-c", SCRIPT, algorithm.name(), &hex(public_key), &hex(material)]);
    run(command, "the Python that `cargo xtask setup` makes does not start")
}

/// What it wrote to stdout.
fn run(mut command: Command, missing: &str) -> Vec<u8> {
    let output = match command.output() {
        Err(error) if error.kind() == Io::NotFound => panic!("{missing}"),
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

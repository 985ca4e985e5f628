//! Backups of the embedded key store.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use futures::FutureExt as _;
use sealift::kms::Kms as _;
use sealift::kms::backup::{self, SecretString};
use sealift::kms::local::{CreateKey, LocalKms, RootKey, RootKeySource};
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, Result, WrappedKey};
use tempfile::TempDir;

#[cfg(feature = "aws-lc-rs")]
#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/keys.rs"]
mod keys;

fn store() -> (TempDir, PathBuf, LocalKms) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("kms");
    let (kms, _) = LocalKms::open_or_create(&dir, RootKeySource::File).unwrap();
    (home, dir, kms)
}

fn passphrase() -> SecretString {
    SecretString::from("correct horse battery staple")
}

fn export(kms: &LocalKms) -> Vec<u8> {
    let mut file = Vec::new();
    backup::export(kms, passphrase(), &mut file).unwrap();
    file
}

/// Sealed as a backup is, by age and nothing of ours, and in no time.
fn sealed(content: &str) -> Vec<u8> {
    let mut recipient = age::scrypt::Recipient::new(passphrase());
    recipient.set_work_factor(4);
    age::encrypt(&recipient, content.as_bytes()).unwrap()
}

/// What a backup holds, opened by age and nothing of ours.
fn opened(backup: &[u8]) -> String {
    let mut identity = age::scrypt::Identity::new(passphrase());
    identity.set_max_work_factor(18);
    String::from_utf8(age::decrypt(&identity, backup).unwrap()).unwrap()
}

fn generate(kms: &LocalKms, key: &str) -> (DataKey, WrappedKey) {
    kms.generate_data_key(key, &EncryptionContext::default()).now_or_never().unwrap().unwrap()
}

fn unwrap(kms: &LocalKms, wrapped: &WrappedKey) -> Result<DataKey> {
    kms.unwrap(wrapped, &EncryptionContext::default()).now_or_never().unwrap()
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn what_was_wrapped_before_opens_after() {
    let (_home, dir, kms) = store();
    let second = kms.create_key(CreateKey::default()).unwrap();
    kms.create_alias("alias/second", &second.key_id).unwrap();
    let wrapped = [generate(&kms, "alias/default"), generate(&kms, "alias/second")];
    let keys = kms.list_keys().unwrap();
    let backup = export(&kms);
    fs::remove_dir_all(&dir).unwrap();

    let restored = backup::import(backup.as_slice(), passphrase(), &dir).unwrap();
    assert_eq!(restored.list_keys().unwrap(), keys);
    // With its root key, and for handles that were open.
    for kms in [restored, kms, LocalKms::open(&dir, RootKeySource::File).unwrap()] {
        for (data_key, wrapped) in &wrapped {
            assert_eq!(unwrap(&kms, wrapped).unwrap(), *data_key);
        }
        kms.create_key(CreateKey::default()).unwrap();
    }
}

#[test]
fn a_root_key_kept_elsewhere_is_in_the_backup() {
    let home = tempfile::tempdir().unwrap();
    let given = RootKeySource::Given(RootKey::random().unwrap());
    let (kms, _) = LocalKms::open_or_create(home.path().join("kms"), given).unwrap();
    let (data_key, wrapped) = generate(&kms, "alias/default");
    let restored = backup::import(export(&kms).as_slice(), passphrase(), home.path().join("restored")).unwrap();
    assert_eq!(unwrap(&restored, &wrapped).unwrap(), data_key);
}

#[test]
fn a_backup_is_refused_with_another_passphrase_cut_short_or_damaged() {
    let (home, _, kms) = store();
    let backup = sealed(&opened(&export(&kms)));
    let restored = home.path().join("restored");
    let refused = |content: &[u8], passphrase: &str| {
        let before = entries(home.path());
        let error = failure(backup::import(content, SecretString::from(passphrase), &restored));
        assert_eq!(entries(home.path()), before, "nothing is left behind");
        error.kind()
    };
    let right = "correct horse battery staple";
    for wrong in ["", "Correct horse battery staple", "correct horse battery staple "] {
        assert_eq!(refused(&backup, wrong), ErrorKind::Authentication);
    }

    for len in (0..backup.len()).step_by(5).chain([backup.len() - 1]) {
        assert_eq!(refused(&backup[..len], right), ErrorKind::Malformed, "{len}");
    }
    assert_eq!(refused(&[&backup[..], b"x"].concat(), right), ErrorKind::Malformed);
    for at in (0..backup.len()).step_by(5) {
        let mut damaged = backup.clone();
        damaged[at] ^= 1;
        let kind = refused(&damaged, right);
        assert!(matches!(kind, ErrorKind::Malformed | ErrorKind::Authentication), "{at}: {kind:?}");
    }
    assert_eq!(refused(b"not a backup", right), ErrorKind::Malformed);
    backup::import(backup.as_slice(), passphrase(), &restored).unwrap();
}

#[test]
fn what_a_backup_holds_is_checked() {
    let (home, _, kms) = store();
    let text = opened(&export(&kms));
    let id = kms.list_keys().unwrap()[0].key_id.clone();
    let import = |name: &str, text: &str| backup::import(sealed(text).as_slice(), passphrase(), home.path().join(name));
    import("unchanged", &text).unwrap();

    let mut cases = vec![
        ("a path", text.replace(&format!("\"keys\":{{\"{id}\""), "\"keys\":{\"../../evil\""), ErrorKind::Malformed),
        (
            "no keys",
            format!("{}\"keys\":{{}}}}}}", &text[..text.find("\"keys\":").unwrap()]),
            ErrorKind::KeyUnavailable,
        ),
        ("altered", text.replacen("alias/default", "alias/defaulT", 1), ErrorKind::Malformed),
        ("later", text.replacen("\"version\":1", "\"version\":2", 1), ErrorKind::UnsupportedFormat),
        ("foreign", text.replacen("sealift-kms-backup", "another", 1), ErrorKind::Malformed),
        ("nothing", "{}".to_owned(), ErrorKind::Malformed),
    ];
    let root_key = text.find("\"root_key\":\"").unwrap() + 12;
    let other = RootKey::random().unwrap().to_base64();
    cases.push(("root key", text.replace(&text[root_key..root_key + 44], &other), ErrorKind::KeyUnavailable));
    for (name, changed, kind) in cases {
        assert_ne!(changed, text, "{name}");
        let before = entries(home.path());
        let error = failure(import(name, &changed));
        assert_eq!(error.kind(), kind, "{name}: {error:?}");
        assert_eq!(entries(home.path()), before, "{name}: nothing is left behind");
    }
}

#[test]
fn an_import_replaces_nothing() {
    let (home, dir, kms) = store();
    let backup = export(&kms);
    let (_, wrapped) = generate(&kms, &kms.create_key(CreateKey::default()).unwrap().key_id);
    let error = failure(backup::import(backup.as_slice(), passphrase(), &dir));
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    unwrap(&kms, &wrapped).unwrap();

    let other = home.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "x").unwrap();
    assert_eq!(failure(backup::import(backup.as_slice(), passphrase(), &other)).kind(), ErrorKind::AlreadyExists);
    fs::remove_file(other.join("file")).unwrap();
    backup::import(backup.as_slice(), passphrase(), &other).unwrap();
}

#[test]
fn a_store_that_lacks_a_key_is_not_backed_up() {
    let (_home, dir, kms) = store();
    let key = kms.create_key(CreateKey::default()).unwrap();
    fs::remove_file(dir.join(format!("keys/{}.json", key.key_id))).unwrap();
    let mut file = Vec::new();
    let error = failure(backup::export(&kms, passphrase(), &mut file));
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
    assert!(error.to_string().contains(&key.key_id), "{error}");
    assert!(file.is_empty());
}

#[test]
fn failing_readers_and_writers_are_errors() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::TimedOut.into())
        }
    }
    let (home, _, kms) = store();
    assert_eq!(failure(backup::export(&kms, passphrase(), Broken)).kind(), ErrorKind::NoSpace);
    let error = failure(backup::import(Broken, passphrase(), home.path().join("restored")));
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn a_backup_shows_nothing_without_the_passphrase() {
    let (_home, dir, kms) = store();
    let backup = String::from_utf8_lossy(&export(&kms)).into_owned();
    assert!(backup.starts_with("age-encryption.org/v1\n-> scrypt "));
    let root_key = fs::read_to_string(dir.join("root.key")).unwrap();
    for inside in [&root_key[..8], "alias/", "store_id", &kms.list_keys().unwrap()[0].key_id] {
        assert!(!backup.contains(inside), "{inside}");
    }
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn keys_come_back_in_their_states_and_what_should_be_gone_does_not() {
    use keys::{DAY, World, external, import, material, state, tree};
    use sealift::KeyState;

    let world = World::new();
    let kms = &world.kms;
    let create = |expires| {
        let key = kms.create_key(external()).unwrap().key_id;
        import(kms, &key, &material(1), expires).unwrap();
        let pair = generate(kms, &key);
        (key, pair)
    };
    let new = kms.create_key(external()).unwrap().key_id;
    let (imported, pair) = create(Some(world.clock.after(30 * DAY)));
    let (deleted, deleted_pair) = create(None);
    kms.delete_key_material(&deleted).unwrap();
    let (expired, expired_pair) = create(Some(world.clock.after(DAY)));
    let [disabled, pending, gone] = [(); 3].map(|()| kms.create_key(CreateKey::default()).unwrap().key_id);
    kms.disable_key(&disabled).unwrap();
    kms.schedule_key_deletion(&pending, 30).unwrap();
    kms.schedule_key_deletion(&gone, 7).unwrap();
    world.clock.advance(7 * DAY);
    let keys = kms.list_keys().unwrap();

    let backup = export(kms);
    let content = opened(&backup);
    assert!(!content.contains(&gone));
    assert_eq!(content.matches("\\\"versions\\\":[]").count(), 3, "new, deleted and expired have no material in it");
    let dir = world.home.path().join("restored");
    backup::import(backup.as_slice(), passphrase(), &dir).unwrap();
    let restored = world.clock.open(&dir);
    assert_eq!(restored.list_keys().unwrap(), keys);
    assert_eq!(unwrap(&restored, &pair.1).unwrap(), pair.0);
    assert_eq!(state(&restored, &disabled), KeyState::Disabled);
    assert_eq!(state(&restored, &pending), KeyState::PendingDeletion);
    for (key, (data_key, wrapped)) in [(&deleted, deleted_pair), (&expired, expired_pair)] {
        assert_eq!(failure(unwrap(&restored, &wrapped)).key_state(), Some(KeyState::PendingImport));
        // What it was made with is remembered.
        assert_eq!(failure(import(&restored, key, &material(2), None)).kind(), ErrorKind::InvalidInput);
        import(&restored, key, &material(1), None).unwrap();
        assert_eq!(unwrap(&restored, &wrapped).unwrap(), data_key);
    }
    import(&restored, &new, &material(3), None).unwrap();

    // A backup from before a key was gone does not bring it back to life.
    world.clock.advance(23 * DAY);
    let late = world.home.path().join("late");
    backup::import(backup.as_slice(), passphrase(), &late).unwrap();
    let late = world.clock.open(&late);
    assert!(late.describe_key(&pending).is_err());
    assert_eq!(state(&late, &imported), KeyState::PendingImport);
    assert!(tree(late.dir()).iter().any(|(path, _)| path.ends_with(format!("{pending}.json"))), "until the next write");
}

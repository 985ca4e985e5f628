//! The embedded key store: what it promises about keys that must not be lost.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use sealift::crypto::{Backend, open_message};
use sealift::kms::Kms as _;
use sealift::kms::local::{CreateKey, LocalKms, RootKey, RootKeySource};
use sealift::{DataKey, EncryptionContext, Error, ErrorKind, KmsService, Result, WrappedKey};
use tempfile::TempDir;

/// A home directory with a new key store in `kms`.
fn store() -> (TempDir, PathBuf, LocalKms) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("kms");
    let (kms, created) = LocalKms::open_or_create(&dir, RootKeySource::File).unwrap();
    assert!(created.is_some());
    (home, dir, kms)
}

fn context(purpose: &str) -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), purpose.to_owned())]).unwrap()
}

// The embedded service never waits, so its futures are ready at once.

fn generate(kms: &LocalKms, key: &str) -> Result<(DataKey, WrappedKey)> {
    kms.generate_data_key(key, &context("test")).now_or_never().unwrap()
}

fn unwrap(kms: &LocalKms, wrapped: &WrappedKey) -> Result<DataKey> {
    kms.unwrap(wrapped, &context("test")).now_or_never().unwrap()
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

#[track_caller]
fn assert_refused<T>(result: Result<T>, kind: ErrorKind, saying: &[&str]) {
    let error = failure(result);
    assert_eq!(error.kind(), kind, "{error:?}");
    for words in saying {
        assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The one file in `keys/`.
fn key_file(dir: &Path) -> PathBuf {
    let mut files = fs::read_dir(dir.join("keys")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

/// Every file below `dir` with its content.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(tree(&path)) } else { found.push((path.clone(), fs::read(path).unwrap())) }
    }
    found.sort();
    found
}

#[test]
fn first_use_makes_a_private_store_with_one_key_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sealift/kms");
    let (kms, created) = LocalKms::open_or_create(&dir, RootKeySource::File).unwrap();
    let created = created.unwrap();
    assert_eq!(created.root_key_file, Some(dir.join("root.key")));

    let keys = kms.list_keys().unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].key_id, created.key_id);
    assert_eq!(keys[0].aliases, [LocalKms::DEFAULT_ALIAS]);
    assert_eq!(keys[0].primary_version, 1);
    assert!(keys[0].created.elapsed().unwrap().as_secs() < 600);
    assert_eq!(kms.describe_key("alias/default").unwrap(), keys[0]);

    for private in [home.path().join("sealift"), dir.clone(), dir.join("keys")] {
        assert_eq!(mode(&private), 0o700, "{}", private.display());
    }
    let files = tree(&dir);
    assert_eq!(files.len(), 4);
    for (file, _) in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }

    let (_, created) = LocalKms::open_or_create(&dir, RootKeySource::File).unwrap();
    assert_eq!(created, None, "only the first use makes anything");
}

#[test]
fn a_wrapped_key_names_the_key_by_id_and_opens_for_every_handle() {
    let (_home, dir, kms) = store();
    let id = kms.describe_key("alias/default").unwrap().key_id;
    let (data_key, wrapped) = generate(&kms, "alias/default").unwrap();
    assert_eq!((wrapped.kms, &wrapped.key, wrapped.blob.len()), (KmsService::Local, &id, 104));
    let other = LocalKms::open(&dir, RootKeySource::File).unwrap();
    assert_eq!(unwrap(&other, &wrapped).unwrap(), data_key);

    let again = kms.wrap(&id, &data_key, &context("test")).now_or_never().unwrap().unwrap();
    assert_ne!(again.blob, wrapped.blob, "each wrap has a salt of its own");
    assert_eq!(unwrap(&other, &again).unwrap(), data_key);
}

/// Recomputed from the documentation, with none of the store's own code.
#[test]
fn the_files_are_what_the_documentation_says() {
    let (_home, dir, kms) = store();
    let (data_key, wrapped) = generate(&kms, "alias/default").unwrap();

    let json = |path: PathBuf| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let id = |text: &serde_json::Value| -> Vec<u8> {
        let digits = text.as_str().unwrap().replace('-', "");
        u128::from_str_radix(&digits, 16).unwrap().to_be_bytes().to_vec()
    };
    let secret = |mut bytes: Vec<u8>| DataKey::take(&mut bytes).unwrap();
    let open = |key: &DataKey, context: &[&[u8]], sealed: &[u8]| {
        secret(open_message(Backend::default(), key, &context.concat(), sealed).unwrap())
    };

    let store = json(dir.join("store.json"));
    let key = json(dir.join(format!("keys/{}.json", wrapped.key)));
    assert_eq!((&store["format"], &store["version"]), (&"sealift-kms-store".into(), &1.into()));
    assert_eq!((&key["format"], &key["version"]), (&"sealift-kms-key".into(), &1.into()));
    assert_eq!(store["record"]["aliases"]["alias/default"], wrapped.key);

    let root_key = secret(STANDARD.decode(fs::read(dir.join("root.key")).unwrap()).unwrap());
    let sealed = STANDARD.decode(key["record"]["versions"][0]["material"].as_str().unwrap()).unwrap();
    let (store_id, key_id) = (id(&store["record"]["store_id"]), id(&key["record"]["key_id"]));
    let cmk = open(&root_key, &[b"sealift/v1/keystore\0", &store_id, &key_id, &1u32.to_be_bytes()], &sealed);
    let wrap_context = [b"sealift/v1/kms-local\0".as_slice(), b"\0\0\0\x07purpose\0\0\0\x04test"];
    assert_eq!(open(&cmk, &wrap_context, &wrapped.blob), data_key);
}

#[test]
fn s10_a_wrapped_key_moved_to_another_object_is_refused() {
    let (_home, _, kms) = store();
    let (_, wrapped) = generate(&kms, "alias/default").unwrap();
    for other in [context("Test"), context("test "), EncryptionContext::default()] {
        let result = kms.unwrap(&wrapped, &other).now_or_never().unwrap();
        assert_refused(result, ErrorKind::Authentication, &[&wrapped.key]);
    }
}

#[test]
fn s11_a_wrapped_key_opens_under_no_other_cmk() {
    let (_home, _, kms) = store();
    let (_, mut wrapped) = generate(&kms, "alias/default").unwrap();
    wrapped.key = kms.create_key(CreateKey::default()).unwrap().key_id;
    assert_refused(unwrap(&kms, &wrapped), ErrorKind::Authentication, &[&wrapped.key]);
}

#[test]
fn s05_any_bit_flipped_in_a_wrapped_key_is_refused() {
    let (_home, _, kms) = store();
    let (data_key, wrapped) = generate(&kms, "alias/default").unwrap();
    let altered = |blob: Vec<u8>| unwrap(&kms, &WrappedKey { blob, ..wrapped.clone() });
    for bit in 0..wrapped.blob.len() * 8 {
        let mut blob = wrapped.blob.clone();
        blob[bit / 8] ^= 1 << (bit % 8);
        assert_refused(altered(blob), ErrorKind::Authentication, &[]);
    }
    for len in 0..wrapped.blob.len() {
        assert_refused(altered(wrapped.blob[..len].to_vec()), ErrorKind::Authentication, &[]);
    }
    assert_refused(altered([&wrapped.blob[..], &[0]].concat()), ErrorKind::Authentication, &[]);
    assert_eq!(altered(wrapped.blob.clone()).unwrap(), data_key);
}

#[test]
fn s26_a_key_that_is_not_there_is_unavailable() {
    let (_home, _, kms) = store();
    let (_, wrapped) = generate(&kms, "alias/default").unwrap();
    const UNKNOWN: &str = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed";
    // An envelope names ids only, and nothing in it becomes a path.
    for key in [UNKNOWN, "alias/default", "", "../store", "/etc/passwd", "\u{0}"] {
        let wrapped = WrappedKey { key: key.to_owned(), ..wrapped.clone() };
        assert_refused(unwrap(&kms, &wrapped), ErrorKind::KeyUnavailable, &["no key"]);
    }
    for key in [UNKNOWN, "alias/other", "default", "", "../store"] {
        assert_refused(generate(&kms, key), ErrorKind::KeyUnavailable, &["no key", key]);
    }
    let foreign = WrappedKey { kms: KmsService::Aws, ..wrapped };
    assert_refused(unwrap(&kms, &foreign), ErrorKind::KeyUnavailable, &["aws"]);
}

#[test]
fn keys_and_aliases_made_by_one_handle_are_seen_by_another() {
    let (_home, dir, kms) = store();
    let other = LocalKms::open(&dir, RootKeySource::File).unwrap();
    let key = kms.create_key(CreateKey::default()).unwrap();
    assert!(key.aliases.is_empty());
    kms.create_alias("alias/photos/2024", &key.key_id).unwrap();
    kms.create_alias("alias/archive", "alias/photos/2024").unwrap();
    assert_eq!(other.describe_key("alias/archive").unwrap().key_id, key.key_id);
    assert_eq!(other.describe_key(&key.key_id).unwrap().aliases, ["alias/archive", "alias/photos/2024"]);
    assert_eq!(other.list_keys().unwrap().len(), 2);

    assert_refused(other.create_alias("alias/archive", "alias/default"), ErrorKind::AlreadyExists, &["alias/archive"]);
    assert_refused(other.create_alias("alias/new", "alias/missing"), ErrorKind::KeyUnavailable, &["alias/missing"]);
    for bad in ["", "archive", "alias/", "alias/a b", "alias/é", &format!("alias/{}", "x".repeat(250))] {
        assert_refused(other.create_alias(bad, "alias/default"), ErrorKind::InvalidInput, &["alias/"]);
    }
}

#[test]
fn a_root_key_given_is_not_written_down_and_is_needed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("kms");
    let text = RootKey::random().unwrap().to_base64();
    let given = || RootKeySource::Given(RootKey::from_base64(&text).unwrap());
    let (kms, created) = LocalKms::open_or_create(&dir, given()).unwrap();
    assert_eq!(created.unwrap().root_key_file, None);
    let (data_key, wrapped) = generate(&kms, "alias/default").unwrap();
    for (file, content) in tree(&dir) {
        let content = String::from_utf8(content).unwrap();
        assert!(!content.contains(text.as_str()), "{}", file.display());
    }

    assert_eq!(unwrap(&LocalKms::open(&dir, given()).unwrap(), &wrapped).unwrap(), data_key);
    let missing = dir.join("root.key");
    assert_refused(
        LocalKms::open(&dir, RootKeySource::File),
        ErrorKind::KeyUnavailable,
        &[missing.to_str().unwrap(), "restore it from your backup"],
    );
    let other = RootKey::random().unwrap();
    let fingerprints = [other.fingerprint(), RootKey::from_base64(&text).unwrap().fingerprint()];
    assert_refused(
        LocalKms::open_or_create(&dir, RootKeySource::Given(other)),
        ErrorKind::KeyUnavailable,
        &[&fingerprints[0], &fingerprints[1]],
    );
}

#[test]
fn root_keys_are_base64_of_32_bytes() {
    for bad in [
        "",
        "AAAA",
        "not base64 at all, but 44 characters in all..",
        &STANDARD.encode([1; 31]),
        &STANDARD.encode([1; 33]),
    ] {
        assert_refused(RootKey::from_base64(bad), ErrorKind::InvalidInput, &["44 characters"]);
    }
}

#[test]
fn a_root_key_that_others_can_use_is_refused_with_the_command_that_mends_it() {
    let (_home, dir, _) = store();
    let path = dir.join("root.key");
    for mode in [0o640, 0o620, 0o604, 0o644, 0o601] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let command = format!("chmod 600 {}", path.display());
        assert_refused(LocalKms::open(&dir, RootKeySource::File), ErrorKind::KeyUnavailable, &[&command]);
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    LocalKms::open(&dir, RootKeySource::File).unwrap();
}

#[test]
fn opening_what_is_not_there_makes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("kms");
    assert_refused(LocalKms::open(&dir, RootKeySource::File), ErrorKind::KeyUnavailable, &[dir.to_str().unwrap()]);
    assert!(!dir.exists());
}

#[test]
fn loss_is_reported_with_the_file_s_name_and_never_made_up_for() {
    let (home, dir, kms) = store();
    let (_, wrapped) = generate(&kms, "alias/default").unwrap();
    let spare = home.path().join("spare");
    let key_file = key_file(&dir);

    for lost in [dir.join("root.key"), dir.join("store.json")] {
        fs::rename(&lost, &spare).unwrap();
        let before = tree(&dir);
        let saying = [lost.to_str().unwrap(), "restore it from your backup"];
        assert_refused(LocalKms::open(&dir, RootKeySource::File), ErrorKind::KeyUnavailable, &saying);
        assert_refused(LocalKms::open_or_create(&dir, RootKeySource::File), ErrorKind::KeyUnavailable, &saying);
        assert_eq!(tree(&dir), before);
        fs::rename(&spare, &lost).unwrap();
    }

    // All that is left of a store is its root key.
    fs::rename(dir.join("store.json"), &spare).unwrap();
    fs::rename(dir.join("keys"), home.path().join("keys")).unwrap();
    assert_refused(LocalKms::open_or_create(&dir, RootKeySource::File), ErrorKind::KeyUnavailable, &["store.json"]);
    fs::rename(home.path().join("keys"), dir.join("keys")).unwrap();
    fs::rename(&spare, dir.join("store.json")).unwrap();

    let lose_key = |lost: &Path| {
        fs::rename(lost, &spare).unwrap();
        let (kms, _) = LocalKms::open_or_create(&dir, RootKeySource::File).unwrap();
        let saying = [key_file.to_str().unwrap(), "is missing: restore it from your backup"];
        assert_refused(unwrap(&kms, &wrapped), ErrorKind::KeyUnavailable, &saying);
        assert_refused(generate(&kms, "alias/default"), ErrorKind::KeyUnavailable, &saying);
        assert_refused(kms.list_keys(), ErrorKind::KeyUnavailable, &saying);
        fs::rename(&spare, lost).unwrap();
    };
    lose_key(&key_file);
    lose_key(&dir.join("keys"));
    unwrap(&kms, &wrapped).unwrap();
}

#[test]
fn any_damage_to_a_file_is_refused() {
    let (_home, dir, kms) = store();
    let (_, wrapped) = generate(&kms, "alias/default").unwrap();
    let use_it = || {
        let kms = LocalKms::open_or_create(&dir, RootKeySource::File)?.0;
        unwrap(&kms, &wrapped)?;
        kms.describe_key("alias/default")
    };
    let key_file = key_file(&dir);
    for path in [dir.join("root.key"), dir.join("store.json"), key_file.clone()] {
        let good = fs::read(&path).unwrap();
        let assert_refused = || {
            let before = fs::read(&path).unwrap();
            let error = failure(use_it());
            let kinds = [ErrorKind::Malformed, ErrorKind::UnsupportedFormat, ErrorKind::KeyUnavailable];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
            if path == key_file {
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            }
            assert_eq!(fs::read(&path).unwrap(), before, "left as it was");
        };
        // In place, because file systems take their time with files that are emptied and written again.
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for (at, byte) in good.iter().enumerate() {
            for bit in 0..8 {
                file.write_all_at(&[byte ^ 1 << bit], at as u64).unwrap();
                assert_refused();
            }
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
        use_it().unwrap();
        // Without its final line break a file says the same.
        for len in (0..good.trim_ascii_end().len()).rev() {
            file.set_len(len as u64).unwrap();
            assert_refused();
        }
        fs::write(&path, &good).unwrap();
        use_it().unwrap();
    }
}

#[test]
fn key_files_cannot_stand_in_for_each_other() {
    let (_home, dir, kms) = store();
    let first = kms.describe_key("alias/default").unwrap().key_id;
    let second = kms.create_key(CreateKey::default()).unwrap().key_id;
    let path = |dir: &Path, id: &str| dir.join(format!("keys/{id}.json"));
    let (data_key, wrapped) = generate(&kms, &first).unwrap();

    let good = fs::read(path(&dir, &first)).unwrap();
    fs::copy(path(&dir, &second), path(&dir, &first)).unwrap();
    let name = path(&dir, &first);
    assert_refused(unwrap(&kms, &wrapped), ErrorKind::Malformed, &[name.to_str().unwrap()]);
    assert_refused(generate(&kms, "alias/default"), ErrorKind::Malformed, &[name.to_str().unwrap()]);

    // Of another store, even one with the same root key.
    let home = tempfile::tempdir().unwrap();
    let other_dir = home.path().join("kms");
    let root_key = RootKey::from_base64(&fs::read_to_string(dir.join("root.key")).unwrap()).unwrap();
    let (other, _) = LocalKms::open_or_create(&other_dir, RootKeySource::Given(root_key)).unwrap();
    let foreign = other.describe_key("alias/default").unwrap().key_id;
    fs::copy(path(&other_dir, &foreign), path(&dir, &foreign)).unwrap();
    assert_refused(generate(&kms, &foreign), ErrorKind::Malformed, &[&foreign]);

    fs::write(path(&dir, &first), good).unwrap();
    assert_eq!(unwrap(&kms, &wrapped).unwrap(), data_key);

    // The whole store under an open handle.
    fs::copy(other_dir.join("store.json"), dir.join("store.json")).unwrap();
    assert_refused(kms.create_key(CreateKey::default()), ErrorKind::KeyUnavailable, &["another key store"]);
}

#[test]
fn a_crash_while_making_a_store_leaves_none() {
    let (home, dir, _) = store();
    // What a crash at each step leaves: the new store under a name of its own, with some of its files.
    let files = ["lock", ".new", "root.key", "keys"];
    for (step, file) in files.iter().enumerate() {
        let leftover = home.path().join(format!(".again.new-{step}"));
        fs::create_dir(&leftover).unwrap();
        for file in &files[..step] {
            fs::write(leftover.join(file), "half").unwrap();
        }
        let again = home.path().join("again");
        let (kms, created) = LocalKms::open_or_create(&again, RootKeySource::File).unwrap();
        assert!(created.is_some(), "{file}");
        generate(&kms, "alias/default").unwrap();
        fs::remove_dir_all(again).unwrap();
    }
    // A directory that was made for it is as good as none.
    fs::create_dir(home.path().join("empty")).unwrap();
    let (kms, created) = LocalKms::open_or_create(home.path().join("empty"), RootKeySource::File).unwrap();
    assert!(created.is_some());
    assert_ne!(kms.list_keys().unwrap(), LocalKms::open(&dir, RootKeySource::File).unwrap().list_keys().unwrap());
}

#[test]
fn a_crash_while_making_a_key_loses_nothing() {
    let (_home, dir, kms) = store();
    let before = fs::read(dir.join("store.json")).unwrap();
    // Between the key's file and the entry in store.json, and with the next file half written.
    let key = kms.create_key(CreateKey::default()).unwrap();
    fs::write(dir.join("store.json"), before).unwrap();
    fs::write(dir.join(".new"), "{\"format\":\"sealift-kms-st").unwrap();

    let kms = LocalKms::open(&dir, RootKeySource::File).unwrap();
    assert_eq!(kms.list_keys().unwrap().len(), 2);
    assert!(kms.list_keys().unwrap().contains(&key));
    let (data_key, wrapped) = generate(&kms, &key.key_id).unwrap();
    assert_eq!(unwrap(&kms, &wrapped).unwrap(), data_key);
    kms.create_alias("alias/found", &key.key_id).unwrap();
    assert_eq!(kms.list_keys().unwrap().len(), 2);
}

#[test]
fn s27_a_write_that_fails_is_an_error_and_changes_nothing() {
    let (_home, dir, kms) = store();
    let before = kms.list_keys().unwrap();
    // In the way of the file that is written first: as good as a full disk, and also refused to root.
    fs::create_dir(dir.join(".new")).unwrap();
    let path = dir.join("keys");
    assert_refused(kms.create_key(CreateKey::default()), ErrorKind::Io, &["writing", path.to_str().unwrap()]);
    assert_refused(kms.create_alias("alias/new", "alias/default"), ErrorKind::Io, &["writing"]);
    assert_eq!(kms.list_keys().unwrap(), before);
    generate(&kms, "alias/default").unwrap();
    fs::remove_dir(dir.join(".new")).unwrap();
    kms.create_key(CreateKey::default()).unwrap();
}

#[test]
fn writers_at_once_lose_nothing_of_each_other() {
    let (_home, dir, kms) = store();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let dir = &dir;
            scope.spawn(move || {
                let kms = LocalKms::open(dir, RootKeySource::File).unwrap();
                for i in 0..5 {
                    let key = kms.create_key(CreateKey::default()).unwrap();
                    kms.create_alias(&format!("alias/{thread}-{i}"), &key.key_id).unwrap();
                    // Readers among the writers never see half of anything.
                    kms.list_keys().unwrap();
                }
            });
        }
    });
    let keys = kms.list_keys().unwrap();
    assert_eq!(keys.len(), 21);
    assert!(keys.iter().all(|key| key.aliases.len() == 1));
}

#[test]
fn threads_at_first_use_agree_on_one_store() {
    for _ in 0..20 {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/kms");
        let barrier = Barrier::new(4);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                barrier.wait();
                let (kms, created) = LocalKms::open_or_create(&dir, RootKeySource::File).unwrap();
                (kms.describe_key("alias/default").unwrap().key_id, created.is_some())
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(opened.iter().all(|(key, _)| *key == opened[0].0), "{opened:?}");
        assert_eq!(opened.iter().filter(|(_, created)| *created).count(), 1, "{opened:?}");
        assert_eq!(fs::read_dir(home.path().join("a")).unwrap().count(), 1, "nothing else is left");
    }
}

const CHILD_DIR: &str = "SEALIFT_TEST_KMS_DIR";

fn spawn_child(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn processes_at_first_use_agree_on_one_store() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("kms");
    let children: Vec<_> = (0..8).map(|_| spawn_child(&dir)).collect();
    let said: Vec<String> = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .map(|output| String::from_utf8(output.stdout).unwrap())
        .collect();

    let kms = LocalKms::open(&dir, RootKeySource::File).unwrap();
    let default = format!("default {}", kms.describe_key("alias/default").unwrap().key_id);
    assert!(said.iter().all(|said| said.contains(&default)), "{said:?}");
    assert_eq!(said.iter().filter(|said| said.contains("made the store")).count(), 1, "{said:?}");
    assert_eq!(kms.list_keys().unwrap().len(), 9, "each made a key, and they share the first");
}

/// The kills are spread over the milliseconds in which a store and then a key are made.
#[test]
fn a_process_killed_at_any_time_leaves_a_store_that_works() {
    for step in 0..20 {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("kms");
        let mut child = spawn_child(&dir);
        std::thread::sleep(Duration::from_micros(500) * step);
        child.kill().unwrap();
        child.wait().unwrap();

        let (kms, created) = LocalKms::open_or_create(&dir, RootKeySource::File).unwrap();
        let keys = kms.list_keys().unwrap();
        assert!(created.is_none() || keys.len() == 1);
        for key in keys {
            let (data_key, wrapped) = generate(&kms, &key.key_id).unwrap();
            assert_eq!(unwrap(&kms, &wrapped).unwrap(), data_key);
        }
        kms.create_key(CreateKey::default()).unwrap();
    }
}

/// One of the processes above.
#[test]
#[ignore = "run by the tests that need processes"]
fn child_process() {
    let dir = std::env::var_os(CHILD_DIR).expect("the parent says where");
    let (kms, created) = LocalKms::open_or_create(PathBuf::from(dir), RootKeySource::File).unwrap();
    kms.create_key(CreateKey::default()).unwrap();
    println!("default {}", kms.describe_key("alias/default").unwrap().key_id);
    if created.is_some() {
        println!("made the store");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let (_home, dir, kms) = store();
    let text = fs::read_to_string(dir.join("root.key")).unwrap();
    let bytes = STANDARD.decode(text.trim()).unwrap();
    let root_key = RootKey::from_base64(&text).unwrap();

    let mut shown = vec![format!("{kms:?}"), format!("{root_key:?}"), root_key.fingerprint()];
    shown.push(format!("{:?}", RootKeySource::Given(root_key)));
    // Almost a root key, in a message about it.
    let misspelt = format!("{}!", text.trim());
    shown.push(format!("{:?}", failure(RootKey::from_base64(&misspelt))));
    fs::write(dir.join("root.key"), &misspelt).unwrap();
    shown.push(format!("{:?}", failure(LocalKms::open(&dir, RootKeySource::File))));

    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    for shown in shown {
        for secret in [&text[..8], &hex[..8], &format!("{}, {}, {}", bytes[0], bytes[1], bytes[2])] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

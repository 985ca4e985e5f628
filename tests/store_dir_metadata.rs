//! Replacing metadata in a directory: what it leaves alone, and what survives crashes and other writers.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use sealift::store::{DirStore, MultipartStore, Payload, Properties, PutCondition};
use sealift::{ETag, ErrorKind, ObjectKey, Result};

fn key() -> ObjectKey {
    "a".parse().unwrap()
}

fn metadata(which: &str) -> BTreeMap<String, String> {
    // Long enough that a torn file shows.
    [("which".to_owned(), which.to_owned()), ("padding".to_owned(), which.repeat(50))].into()
}

async fn put(store: &DirStore, body: &'static str, which: &str) -> ETag {
    let properties = Properties { metadata: metadata(which), ..Properties::default() };
    store.put_object(&key(), Payload::held(vec![body.into()]), &properties, PutCondition::None).await.unwrap()
}

async fn replace(store: &DirStore, which: &str, etag: &ETag) -> Result<ETag> {
    store.replace_metadata(&key(), &metadata(which), etag).await
}

/// What the object's metadata says, which must be whole.
async fn which(store: &DirStore) -> String {
    let found = store.head(&key()).await.unwrap().properties.metadata;
    let which = found["which"].clone();
    assert_eq!(found, metadata(&which));
    which
}

#[tokio::test]
async fn the_body_is_the_same_file_and_the_metadata_keeps_its_name_mode_and_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let etag = put(&store, "a body of some length, not short", "old").await;
    let stat = fs::metadata(dir.path().join("a")).unwrap();
    let file = store.metadata_path(&key()).await.unwrap();
    // Only root may; then it must be root as well who keeps it so.
    let given_away = chown(&file, Some(4_321), Some(4_322)).is_ok();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&file).unwrap();
    assert_eq!(before.uid() == 4_321, given_away);

    replace(&store, "new", &etag).await.unwrap();
    assert_eq!(which(&store).await, "new");
    let now = fs::metadata(dir.path().join("a")).unwrap();
    assert_eq!((now.ino(), now.mtime_nsec(), now.len()), (stat.ino(), stat.mtime_nsec(), stat.len()));
    assert_eq!(store.metadata_path(&key()).await.unwrap(), file);
    let after = fs::metadata(&file).unwrap();
    assert_ne!(after.ino(), before.ino(), "it is another file");
    assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
    let mut left: Vec<_> =
        fs::read_dir(dir.path().join(".sealift")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [file.file_name().unwrap(), "lock".as_ref(), "uploads".as_ref()], "nothing else is left");
}

#[tokio::test]
async fn a_read_goes_on_by_the_tag_it_began_with_and_a_write_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let first = put(&store, "a body of some length, not short", "one").await;
    let second = replace(&store, "two", &first).await.unwrap();
    assert_ne!(first, second);
    store.get(&key(), None, Some(&first)).await.unwrap();
    assert_eq!(replace(&store, "three", &first).await.unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(which(&store).await, "two");
    // The same metadata has the same tag: there is nothing that would be lost.
    assert_eq!(replace(&store, "one", &second).await.unwrap(), first);
    put(&store, "another body of such a length..", "four").await;
    for etag in [&first, &second, &ETag("none".into()), &ETag(String::new())] {
        assert_eq!(store.get(&key(), None, Some(etag)).await.unwrap_err().kind(), ErrorKind::Changed);
        assert_eq!(replace(&store, "five", etag).await.unwrap_err().kind(), ErrorKind::Changed);
    }
    assert_eq!(which(&store).await, "four");
}

#[tokio::test]
async fn a_body_from_elsewhere_gets_metadata_and_a_missing_one_gets_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    assert_eq!(replace(&store, "x", &ETag("none".into())).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!dir.path().join(".sealift").exists());
    fs::write(dir.path().join("a"), "from elsewhere").unwrap();
    let etag = store.head(&key()).await.unwrap().etag;
    replace(&store, "x", &etag).await.unwrap();
    assert_eq!(which(&store).await, "x");
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"from elsewhere");
}

#[tokio::test]
async fn s16_what_a_crash_left_of_a_replacement_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let etag = put(&store, "a body of some length, not short", "old").await;
    // Written in part, and not renamed.
    fs::write(dir.path().join(".sealift/new-metadata"), "{\"metadata\":{\"wh").unwrap();
    assert_eq!(which(&store).await, "old");
    replace(&store, "new", &etag).await.unwrap();
    assert_eq!(which(&store).await, "new");
    assert!(!dir.path().join(".sealift/new-metadata").exists());
}

#[tokio::test]
async fn s27_where_it_cannot_be_written_the_old_metadata_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let etag = put(&store, "a body of some length, not short", "old").await;
    // Not even root can write a file there.
    fs::create_dir(dir.path().join(".sealift/new-metadata")).unwrap();
    replace(&store, "new", &etag).await.unwrap_err();
    assert_eq!(which(&store).await, "old");
    assert_eq!(store.head(&key()).await.unwrap().etag, etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_replacements_of_one_state_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let store = Arc::new(DirStore::open(dir.path()).unwrap());
        let etag = put(&store, "a body of some length, not short", "before").await;
        let writers: Vec<_> = (0..8)
            .map(|n| {
                let (store, etag) = (store.clone(), etag.clone());
                tokio::spawn(async move { (n, replace(&store, &format!("writer {n}"), &etag).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                (n, Ok(etag)) => winners.push((format!("writer {n}"), etag)),
                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Changed),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(winners[0], (which(&store).await, store.head(&key()).await.unwrap().etag));
    }
}

#[test]
#[ignore = "run by s16_killed_replacements_leave_whole_metadata"]
fn replacing_process() {
    let store = DirStore::open(PathBuf::from(std::env::var("TEST_DIR").unwrap())).unwrap();
    tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
        for round in 0.. {
            let etag = store.head(&key()).await.unwrap().etag;
            match replace(&store, &format!("round {round}"), &etag).await {
                Err(error) if error.kind() != ErrorKind::Changed => panic!("{error:?}"),
                _ => {}
            }
        }
    });
}

/// Two processes at a time replace the metadata as fast as they can, and are killed.
#[tokio::test]
async fn s16_killed_replacements_leave_whole_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "a body of some length, not short", "before").await;
    let program = |dir: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "replacing_process", "--ignored", "--test-threads=1"]).env("TEST_DIR", dir);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for _ in 0..5 {
        let before = store.head(&key()).await.unwrap().etag;
        let mut writers = [program(dir.path()), program(dir.path())];
        let mut seen = 0;
        let mut last = before;
        // Until they are at work for sure, and every state that is seen on the way is whole.
        while seen < 20 {
            which(&store).await;
            let now = store.head(&key()).await.unwrap().etag;
            seen += u32::from(now != last);
            last = now;
            assert!(writers.iter_mut().all(|writer| writer.try_wait().unwrap().is_none()), "a writer failed");
        }
        for writer in &mut writers {
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        which(&store).await;
        let etag = store.head(&key()).await.unwrap().etag;
        replace(&store, "after", &etag).await.unwrap();
        assert_eq!(which(&store).await, "after");
    }
}

//! What the directory store promises beyond the suite that every store runs: its layout, and what survives crashes, races, full and
//! read-only disks.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sealift::store::{CompletedPart, DirStore, MultipartStore, Payload, Properties, PutCondition, PutPart, Upload};
use sealift::{Attempt, ETag, ErrorKind, ObjectKey, PartNumber, Result, UploadId};

mod crashes;
mod disks;
mod model;

fn key(key: &str) -> ObjectKey {
    key.parse().unwrap()
}

/// An object's bytes that begin with bytes of their own, and properties that name them: nothing fits together but what belongs together.
fn object(seed: u64, len: usize) -> (Bytes, Properties) {
    let block: Vec<u8> = format!("{seed:024}").into_bytes();
    let body: Vec<u8> = block.iter().copied().cycle().take(len).collect();
    let metadata = [("seed".to_owned(), seed.to_string())].into();
    (body.into(), Properties { metadata, ..Properties::default() })
}

async fn put(store: &DirStore, name: &str, (body, properties): (Bytes, Properties)) -> Result<ETag> {
    store.put_object(&key(name), Payload::held(vec![body]), &properties, PutCondition::None).await
}

async fn put_part(
    store: &DirStore,
    upload: &Upload,
    n: u32,
    offset: Option<u64>,
    payload: Payload,
) -> Result<CompletedPart> {
    let number = PartNumber::try_from(n).unwrap();
    let etag = store.put_part(upload, PutPart { number, attempt: Attempt(1), offset, payload }).await?;
    Ok(CompletedPart { number, etag })
}

fn held(bytes: &Bytes) -> Payload {
    Payload::held(vec![bytes.clone()])
}

async fn initiate(store: &DirStore, name: &str, properties: &Properties) -> Upload {
    Upload { key: key(name), id: store.initiate(&key(name), properties).await.unwrap() }
}

/// A whole upload of two parts.
async fn upload(
    store: &DirStore,
    name: &str,
    (body, properties): (Bytes, Properties),
    condition: PutCondition,
) -> Result<ETag> {
    let upload = Upload { key: key(name), id: store.initiate(&key(name), &properties).await? };
    let middle = body.len() / 2;
    let second = put_part(store, &upload, 2, Some(middle as u64), held(&body.slice(middle..))).await?;
    let first = put_part(store, &upload, 1, None, held(&body.slice(..middle))).await?;
    let completed = store.complete(&upload, &[first, second], condition).await;
    if completed.is_err() {
        store.abort(&upload).await?;
    }
    completed
}

async fn read(store: &DirStore, name: &str) -> Result<(Bytes, Properties)> {
    let got = store.get(&key(name), None, None).await?;
    let properties = got.info.properties;
    let pieces: Vec<Bytes> = got.body.try_collect().await?;
    Ok((pieces.concat().into(), properties))
}

/// Checks that the object under `name` is one that [`object`] made, with its own metadata, and returns its seed.
async fn whole(store: &DirStore, name: &str) -> u64 {
    let (body, properties) = read(store, name).await.unwrap();
    let seed = properties.metadata.get("seed").expect("an object has its metadata").parse().unwrap();
    assert!(object(seed, body.len()).0 == body, "the body is not the one its metadata belongs to");
    seed
}

/// Every path below `dir`, relative to it, sorted.
fn tree(dir: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            all.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() && !path.is_symlink() {
                walk(root, &path, all);
            }
        }
    }
    let mut all = Vec::new();
    walk(dir, dir, &mut all);
    all.sort();
    all
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

// Layout

#[tokio::test]
async fn a_body_is_the_plain_file_and_its_metadata_lies_beside() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let salted: Bytes = (0..100).collect();
    put(&store, "a/b/c", (salted.clone(), object(1, 0).1)).await.unwrap();
    put(&store, "a/b/short", ("xyz".into(), object(2, 0).1)).await.unwrap();
    assert_eq!(fs::read(dir.path().join("a/b/c")).unwrap(), salted);
    let metadata = "a/b/.sealift/c.000102030405060708090a0b0c0d0e0f1011121314151617.json";
    assert_eq!(
        tree(dir.path()),
        [
            "a",
            "a/b",
            "a/b/.sealift",
            metadata,
            "a/b/.sealift/lock",
            "a/b/.sealift/short.78797a.json",
            "a/b/.sealift/uploads",
            "a/b/c",
            "a/b/short"
        ]
    );
    assert_eq!(fs::read_to_string(dir.path().join(metadata)).unwrap(), r#"{"metadata":{"seed":"1"}}"#);
    assert_eq!(store.metadata_path(&key("a/b/c")).await.unwrap(), dir.path().join(metadata));

    // What replaces or deletes an object takes the old metadata along.
    upload(&store, "a/b/c", object(3, 100), PutCondition::None).await.unwrap();
    assert!(!dir.path().join(metadata).exists());
    store.delete(&key("a/b/c")).await.unwrap();
    store.delete(&key("a/b/short")).await.unwrap();
    assert_eq!(tree(dir.path()), ["a", "a/b", "a/b/.sealift", "a/b/.sealift/lock", "a/b/.sealift/uploads"]);
}

#[tokio::test]
async fn bodies_from_elsewhere_are_read_and_listed_without_properties() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/foreign"), "not sealed").unwrap();
    assert_eq!(read(&store, "sub/foreign").await.unwrap(), ("not sealed".into(), Properties::default()));
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap()[0].key, key("sub/foreign"));
    let looked_for = store.metadata_path(&key("sub/foreign")).await.unwrap();
    assert_eq!(looked_for, dir.path().join("sub/.sealift/foreign.6e6f74207365616c6564.json"));

    store.delete(&key("sub/foreign")).await.unwrap();
    assert_eq!(tree(dir.path()), ["sub"], "no folder is made to delete what never had one");
}

#[tokio::test]
async fn a_copied_body_has_metadata_of_its_own_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "original", object(1, 1000)).await.unwrap();
    fs::copy(dir.path().join("original"), dir.path().join("copy")).unwrap();
    assert_eq!(store.head(&key("copy")).await.unwrap().properties, Properties::default());

    // As the documentation says to: the metadata file under the name that is looked for.
    let from = store.metadata_path(&key("original")).await.unwrap();
    fs::copy(from, store.metadata_path(&key("copy")).await.unwrap()).unwrap();
    assert_eq!(whole(&store, "copy").await, 1);
    store.delete(&key("original")).await.unwrap();
    assert_eq!(whole(&store, "copy").await, 1, "deleting the original does not take the copy's");
}

#[tokio::test]
async fn a_body_moved_away_and_back_still_has_its_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "a", object(1, 1000)).await.unwrap();
    fs::rename(dir.path().join("a"), dir.path().join("aside")).unwrap();
    put(&store, "a", object(2, 1000)).await.unwrap();
    store.delete(&key("a")).await.unwrap();
    fs::rename(dir.path().join("aside"), dir.path().join("a")).unwrap();
    assert_eq!(whole(&store, "a").await, 1);
}

#[tokio::test]
async fn damaged_metadata_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "a", object(1, 1000)).await.unwrap();
    let metadata = store.metadata_path(&key("a")).await.unwrap();
    for damaged in ["", "{", r#"{"metadata":{"a":1}}"#, "\0\0\0"] {
        fs::write(&metadata, damaged).unwrap();
        let error = store.head(&key("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains(metadata.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn keys_that_no_path_has_are_refused_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir_in(dir.path()).unwrap();
    let store = DirStore::open(outside.path()).unwrap();
    let (body, properties) = object(1, 10);
    put(&store, "ok", (body.clone(), properties.clone())).await.unwrap();
    let before = tree(dir.path());
    for bad in ["../x", "a/../../x", "/x", "x/", "a//b", ".", ".sealift/lock", "a/.sealift", &"n".repeat(202)] {
        let bad = key(bad);
        let none = PutCondition::None;
        let upload = Upload { key: bad.clone(), id: UploadId("0".repeat(32)) };
        assert_eq!(
            kind(store.put_object(&bad, held(&body), &properties, none).await),
            ErrorKind::InvalidInput,
            "{bad}"
        );
        assert_eq!(kind(store.initiate(&bad, &properties).await), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(kind(put_part(&store, &upload, 1, None, held(&body)).await), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(kind(store.get(&bad, None, None).await), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(kind(store.head(&bad).await), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(kind(store.delete(&bad).await), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(kind(store.copy(&key("ok"), &bad, none).await), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(kind(store.copy(&bad, &key("ok"), none).await), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(kind(store.metadata_path(&bad).await), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(store.list(bad.as_str()).try_collect::<Vec<_>>().await.unwrap(), [], "{bad}");
        assert_eq!(store.list_uploads(bad.as_str()).await.unwrap(), [], "{bad}");
    }
    assert_eq!(tree(dir.path()), before);
}

#[tokio::test]
async fn a_key_beside_one_that_goes_on_below_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "file", object(1, 100)).await.unwrap();
    put(&store, "dir/file", object(2, 100)).await.unwrap();
    for name in ["file/below", "file/below/further", "dir"] {
        let (body, properties) = object(3, 100);
        assert_eq!(kind(put(&store, name, (body, properties.clone())).await), ErrorKind::InvalidInput, "{name}");
        assert_eq!(kind(store.initiate(&key(name), &properties).await), ErrorKind::InvalidInput, "{name}");
        assert_eq!(kind(store.copy(&key("file"), &key(name), PutCondition::None).await), ErrorKind::InvalidInput);
        assert_eq!(kind(store.head(&key(name)).await), ErrorKind::NotFound, "{name}");
        assert_eq!(kind(store.delete(&key(name)).await), ErrorKind::NotFound, "{name}");
    }
    assert_eq!((whole(&store, "file").await, whole(&store, "dir/file").await), (1, 2));
    assert_eq!(store.list_uploads("").await.unwrap(), []);
}

#[tokio::test]
async fn a_directory_that_can_never_be_made_is_an_error() {
    // /proc answers "no such file" to mkdir although its parent is there.
    let store = DirStore::open("/proc").unwrap();
    assert_eq!(kind(put(&store, "sealift/a/b", object(1, 10)).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_root_is_a_directory_or_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(kind(DirStore::open(&file)), ErrorKind::InvalidInput);

    let store = DirStore::open(dir.path().join("not/there")).unwrap();
    assert_eq!(kind(store.head(&key("a")).await), ErrorKind::NotFound);
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap(), []);
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    assert_eq!(tree(dir.path()), ["file"], "reading creates nothing");
    put(&store, "a", object(1, 10)).await.unwrap();
    assert_eq!(whole(&store, "a").await, 1);
}

#[tokio::test]
async fn links_pipes_and_strange_names() {
    use std::os::unix::ffi::OsStrExt as _;

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let store = DirStore::open(&root).unwrap();
    fs::write(dir.path().join("target"), "elsewhere").unwrap();
    symlink(dir.path().join("target"), root.join("link")).unwrap();
    symlink(dir.path(), root.join("loop")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xFF")), "").unwrap();
    fs::write(root.join("n".repeat(202)), "").unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), mode).unwrap();

    let listed: Vec<_> = store.list("").try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["link"]);
    assert_eq!(read(&store, "link").await.unwrap().0, "elsewhere");
    assert_eq!(kind(store.get(&key("fifo"), None, None).await), ErrorKind::NotFound);
    assert_eq!(kind(store.get(&key("dangling"), None, None).await), ErrorKind::NotFound);

    // A write replaces the link, not what it leads to.
    put(&store, "link", object(1, 10)).await.unwrap();
    assert!(!root.join("link").is_symlink());
    assert_eq!(fs::read_to_string(dir.path().join("target")).unwrap(), "elsewhere");
}

// Uploads

#[tokio::test]
async fn an_upload_goes_on_in_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let (body, properties) = object(1, 3000);
    let first = DirStore::open(dir.path()).unwrap();
    let upload = initiate(&first, "a/b", &properties).await;
    let one = put_part(&first, &upload, 1, Some(0), held(&body.slice(..1000))).await.unwrap();
    let three = put_part(&first, &upload, 3, None, held(&body.slice(2000..))).await.unwrap();
    drop(first);

    // Another root gives the object another key, and the upload with it.
    let second = DirStore::open(dir.path().join("a")).unwrap();
    let upload = Upload { key: key("b"), id: upload.id };
    assert_eq!(second.list_uploads("").await.unwrap(), std::slice::from_ref(&upload));
    let listed = second.list_parts(&upload).await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|part| (part.number.get(), part.etag, part.len)).collect();
    assert_eq!(listed, [(1, one.etag.clone(), 1000), (3, three.etag.clone(), 1000)]);
    let two = put_part(&second, &upload, 2, Some(1000), held(&body.slice(1000..2000))).await.unwrap();
    second.complete(&upload, &[one, two, three], PutCondition::None).await.unwrap();
    assert_eq!(read(&second, "b").await.unwrap(), (body, properties));
}

#[tokio::test]
async fn parts_that_do_not_tile_the_object_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "a", object(7, 50)).await.unwrap();
    let part = |len: usize| held(&object(1, len).0);
    for (what, parts) in [
        ("a gap", [(0, 100), (101, 100)]),
        ("an overlap", [(0, 100), (99, 100)]),
        ("not from the beginning", [(1, 100), (101, 100)]),
        ("one inside another", [(0, 100), (50, 10)]),
    ] {
        let upload = initiate(&store, "a", &Properties::default()).await;
        let mut list = Vec::new();
        for (n, (offset, len)) in (1..).zip(parts) {
            list.push(put_part(&store, &upload, n, Some(offset), part(len)).await.unwrap());
        }
        assert_eq!(kind(store.complete(&upload, &list, PutCondition::None).await), ErrorKind::Changed, "{what}");
        assert_eq!(whole(&store, "a").await, 7, "{what}");
        assert_eq!(store.list_parts(&upload).await.unwrap().len(), 2, "{what}");
        store.abort(&upload).await.unwrap();
    }

    let upload = initiate(&store, "a", &Properties::default()).await;
    let far = put_part(&store, &upload, 1, Some(u64::MAX - 5), part(100)).await;
    assert_eq!(kind(far), ErrorKind::LimitExceeded, "no overflow");
    assert_eq!(store.list_parts(&upload).await.unwrap(), []);
}

#[tokio::test]
async fn a_payload_that_is_too_long_does_not_reach_the_next_part() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let (body, properties) = object(1, 2000);
    let upload = initiate(&store, "a", &properties).await;
    let two = put_part(&store, &upload, 2, Some(1000), held(&body.slice(1000..))).await.unwrap();
    let segments = [Ok(body.slice(..900)), Ok(Bytes::from(vec![0; 101]))];
    let error =
        put_part(&store, &upload, 1, Some(0), Payload::produced(1000, stream::iter(segments))).await.unwrap_err();
    assert_eq!((error.kind(), error.part()), (ErrorKind::Io, Some(PartNumber::MIN)));
    let one = put_part(&store, &upload, 1, Some(0), held(&body.slice(..1000))).await.unwrap();
    store.complete(&upload, &[one, two], PutCondition::None).await.unwrap();
    assert_eq!(read(&store, "a").await.unwrap(), (body, properties));
}

/// A payload that stops after its first half until told to go on, and says when it has got there.
fn stalling(bytes: &Bytes) -> (Payload, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (reached, has_reached) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel();
    let middle = bytes.len() / 2;
    let (first, second) = (bytes.slice(..middle), bytes.slice(middle..));
    let rest = stream::once(async move {
        // Polled only after the first half is written: the stream had nothing more ready then.
        tokio::task::yield_now().await;
        _ = reached.send(());
        _ = may_go_on.await;
        Ok(second)
    });
    (Payload::produced(bytes.len() as u64, stream::iter([Ok(first)]).chain(rest)), has_reached, go_on)
}

#[tokio::test]
async fn s22_attempts_at_a_part_never_mix() {
    for offset in [Some(0), None] {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::open(dir.path()).unwrap();
        let (body, properties) = object(2, 1_000_000);
        let upload = initiate(&store, "a", &properties).await;
        let stored = put_part(&store, &upload, 1, offset, held(&object(9, 1_000_000).0)).await.unwrap();

        let (payload, has_reached, go_on) = stalling(&object(1, 1_000_000).0);
        let zombie = tokio::spawn({
            let (store, upload) = (store.clone(), upload.clone());
            async move { put_part(&store, &upload, 1, offset, payload).await }
        });
        has_reached.await.unwrap();
        // Where bytes are overwritten in place, the part is not listed; where they are not, the old one is whole.
        let listed = DirStore::open(dir.path()).unwrap().list_parts(&upload).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|part| part.etag).collect();
        assert_eq!(listed, if offset.is_some() { vec![] } else { vec![stored.etag.clone()] });

        let mut successor = std::pin::pin!(put_part(&store, &upload, 1, offset, held(&body)));
        let waited = tokio::time::timeout(Duration::from_millis(100), successor.as_mut()).await;
        // In place, an attempt waits for the one before it. With a file of its own it does not, and the last to end counts.
        assert_eq!(waited.is_err(), offset.is_some());
        drop(go_on);
        let late = zombie.await.unwrap().unwrap();
        let (gone, part, body) = match waited {
            Err(_) => ([stored, late], successor.await.unwrap(), body),
            Ok(early) => ([stored, early.unwrap()], late, object(1, 1_000_000).0),
        };
        for gone in gone {
            assert_eq!(kind(store.complete(&upload, &[gone], PutCondition::None).await), ErrorKind::Changed);
        }
        store.complete(&upload, &[part], PutCondition::None).await.unwrap();
        assert_eq!(read(&store, "a").await.unwrap(), (body, properties));
        assert_eq!(store.list_uploads("").await.unwrap(), []);
    }
}

#[tokio::test]
async fn s22_an_attempt_that_was_dropped_leaves_nothing_behind() {
    for offset in [Some(0), None] {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::open(dir.path()).unwrap();
        let (body, properties) = object(2, 1_000_000);
        let upload = initiate(&store, "a", &properties).await;

        // Two give up: one while it is written, one while it waits for its turn, as it has to if it is written in place.
        let (payload, has_reached, _go_on) = stalling(&object(1, 1_000_000).0);
        let mut written = Box::pin(put_part(&store, &upload, 1, offset, payload));
        futures::future::select(written.as_mut(), has_reached).await;
        let waiting = Box::pin(put_part(&store, &upload, 1, offset, held(&object(3, 1_000_000).0)));
        assert_eq!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err(), offset.is_some());
        drop(written);

        let part = put_part(&store, &upload, 1, offset, held(&body)).await.unwrap();
        // Time for a waiting attempt to undo this one, if it did.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(store.list_parts(&upload).await.unwrap()[0].etag, part.etag);
        store.complete(&upload, &[part], PutCondition::None).await.unwrap();
        assert_eq!(read(&store, "a").await.unwrap(), (body, properties));
        assert_eq!(tree(&dir.path().join(".sealift/uploads")), [""; 0]);
    }
}

#[tokio::test]
async fn s22_complete_waits_for_what_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let (body, properties) = object(1, 1000);
    let upload = initiate(&store, "a", &properties).await;
    let one = put_part(&store, &upload, 1, Some(0), held(&body)).await.unwrap();
    let (payload, has_reached, go_on) = stalling(&object(2, 1000).0);
    let mut zombie = Box::pin(put_part(&store, &upload, 2, Some(1000), payload));
    futures::future::select(zombie.as_mut(), has_reached).await;
    let list = [one];
    let mut complete = std::pin::pin!(store.complete(&upload, &list, PutCondition::None));
    assert!(tokio::time::timeout(Duration::from_millis(100), complete.as_mut()).await.is_err());
    // What is written into the body after it is published would be written into the object.
    drop((zombie, go_on));
    complete.await.unwrap();
    assert_eq!(read(&store, "a").await.unwrap(), (body, properties));
}

#[tokio::test]
async fn an_abort_does_not_wait_for_what_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let upload = initiate(&store, "a", &Properties::default()).await;
    let (payload, has_reached, go_on) = stalling(&object(1, 1000).0);
    let mut zombie = Box::pin(put_part(&store, &upload, 1, Some(0), payload));
    futures::future::select(zombie.as_mut(), has_reached).await;
    store.abort(&upload).await.unwrap();
    drop(go_on);
    // Whatever it is told, it is written nowhere.
    _ = zombie.await;
    assert_eq!(kind(store.list_parts(&upload).await), ErrorKind::NotFound);
    assert_eq!(tree(&dir.path().join(".sealift/uploads")), [""; 0]);
}

// Races

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_key_leave_one_whole_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "k/a", object(0, 100_000)).await.unwrap();
    let writers: Vec<_> = (1..=6)
        .map(|writer| {
            let store = DirStore::open(dir.path()).unwrap();
            tokio::spawn(async move {
                for round in 0..15 {
                    let object = object(writer * 100 + round, 100_000 + writer as usize);
                    match round % 2 {
                        0 => put(&store, "k/a", object).await.unwrap(),
                        _ => upload(&store, "k/a", object, PutCondition::None).await.unwrap(),
                    };
                }
            })
        })
        .collect();
    let mut reads = 0;
    while !writers.iter().all(|writer| writer.is_finished()) {
        whole(&store, "k/a").await;
        reads += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(reads > 10, "only {reads} reads while there were writers");
    whole(&store, "k/a").await;
    let metadata: Vec<_> = tree(dir.path()).into_iter().filter(|path| path.ends_with(".json")).collect();
    let current = store.metadata_path(&key("k/a")).await.unwrap();
    assert_eq!(metadata, [current.strip_prefix(dir.path()).unwrap().to_str().unwrap()], "the losers' are removed");
    assert_eq!(store.list_uploads("").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn if_not_exists_has_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    for seed in 0..4 {
        put(&store, &format!("from-{seed}"), object(1000 + seed, 500)).await.unwrap();
    }
    for round in 0..10 {
        let name = format!("race-{round}");
        let racers: Vec<_> = (0..12)
            .map(|racer: u64| {
                let (store, name) = (DirStore::open(dir.path()).unwrap(), name.clone());
                tokio::spawn(async move {
                    let new = PutCondition::IfNotExists;
                    let (body, properties) = object(racer, 500);
                    let done = match racer % 3 {
                        0 => store.put_object(&key(&name), held(&body), &properties, new).await,
                        1 => upload(&store, &name, (body, properties), new).await,
                        _ => store.copy(&key(&format!("from-{}", racer / 3)), &key(&name), new).await,
                    };
                    let seed = if racer % 3 == 2 { 1000 + racer / 3 } else { racer };
                    done.map(|etag| (seed, etag))
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                Ok(winner) => winners.push(winner),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(winners[0], (whole(&store, &name).await, store.head(&key(&name)).await.unwrap().etag));
    }
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    let metadata = tree(dir.path()).into_iter().filter(|path| path.ends_with(".json")).count();
    assert_eq!(metadata, 14, "the losers' are removed");
}

// Processes

/// Runs a test of this program in a process of its own, with `arguments` in its environment.
fn this_program(wrapper: &[&str], test: &str, arguments: &[(&str, &str)]) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    words.push(program.to_str().unwrap().to_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.envs(arguments.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn argument(name: &str) -> String {
    std::env::var(name).expect("run by another test of this program")
}

fn succeeded(child: Child) {
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A name that is no test's would succeed too, with nothing run.
    assert!(output.status.success() && stdout.contains("1 passed"), "{}\n{stdout}\n{stderr}", output.status);
}

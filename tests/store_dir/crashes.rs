//! What a crash leaves, wherever it happens, and writers that are killed.

use std::path::PathBuf;
use std::time::Instant;

use super::*;

/// Where a crash can stop what publishes an object, and what it leaves then.
#[tokio::test]
async fn s16_leftovers_of_every_step_are_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "a", object(1, 1000)).await.unwrap();
    let etag = store.head(&key("a")).await.unwrap().etag;
    let folder = dir.path().join(".sealift");
    let id = |n: u8| format!("{n:032}");
    let leave = |n: u8, files: &[(&str, &str)]| {
        let staging = folder.join("uploads").join(id(n));
        fs::create_dir(&staging).unwrap();
        for (name, content) in files {
            fs::write(staging.join(name), content).unwrap();
        }
    };
    let description = r#"{"name":"a","metadata":{"seed":"2"}}"#;
    // Initiate: the folder, the body, a description of which nothing or half is on the disk.
    leave(1, &[]);
    leave(2, &[("body", "")]);
    leave(3, &[("body", ""), ("upload.json", "")]);
    leave(4, &[("body", ""), ("upload.json", &description[..10])]);
    // Complete: metadata staged; metadata in place but the body not renamed; the body renamed but the folder not removed.
    let record = r#"{"etag":"x","len":4,"bytes":{"offset":0}}"#;
    let begun = [("body", "body"), ("part-00001", record), ("upload.json", description)];
    leave(5, &[&begun[..], &[("metadata", "{}")]].concat());
    leave(6, &begun);
    fs::write(folder.join("a.626f6479.json"), "{}").unwrap();
    leave(7, &begun[1..]);
    // Abort: the body is gone, then everything but the description.
    leave(8, &[("upload.json", description)]);
    fs::create_dir(folder.join("uploads/not an id")).unwrap();
    fs::write(folder.join("uploads/stray"), "").unwrap();

    assert_eq!(
        (whole(&store, "a").await, store.head(&key("a")).await.unwrap().etag),
        (1, etag),
        "the old object is whole"
    );
    let uploads = store.list_uploads("").await.unwrap();
    let expected: Vec<_> = (5..=8).map(|n| Upload { key: key("a"), id: UploadId(id(n)) }).collect();
    assert_eq!(uploads, expected, "what takes space is found");
    for (n, listed) in [(5, Some(1)), (6, Some(1)), (7, None), (8, None)] {
        let listed_now = store.list_parts(&Upload { key: key("a"), id: UploadId(id(n)) }).await;
        match listed {
            Some(parts) => assert_eq!(listed_now.unwrap().len(), parts, "upload {n}"),
            None => assert_eq!(kind(listed_now), ErrorKind::NotFound, "upload {n}"),
        }
    }

    // Complete can be done again where the body is still there; where it is not, the object may be.
    let part = |n| {
        (
            Upload { key: key("a"), id: UploadId(id(n)) },
            [CompletedPart { number: PartNumber::MIN, etag: ETag("x".into()) }],
        )
    };
    for n in [7, 8] {
        let (upload, parts) = part(n);
        assert_eq!(kind(store.complete(&upload, &parts, PutCondition::None).await), ErrorKind::NotFound);
    }
    let (upload, parts) = part(6);
    store.complete(&upload, &parts, PutCondition::None).await.unwrap();
    assert_eq!(
        read(&store, "a").await.unwrap(),
        ("body".into(), object(2, 0).1),
        "the metadata left before is replaced"
    );
    for n in 1..=8 {
        store.abort(&Upload { key: key("a"), id: UploadId(id(n)) }).await.unwrap();
    }
    assert_eq!(tree(&folder.join("uploads")), ["not an id", "stray"]);
    put(&store, "a", object(3, 1000)).await.unwrap();
    assert_eq!(whole(&store, "a").await, 3);
}

#[tokio::test]
async fn s16_a_part_that_is_not_whole_is_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let upload = initiate(&store, "a", &Properties::default()).await;
    let (body, _) = object(1, 1000);
    let in_place = put_part(&store, &upload, 1, Some(0), held(&body)).await.unwrap();
    let apart = put_part(&store, &upload, 2, None, held(&body)).await.unwrap();
    let staging = dir.path().join(".sealift/uploads").join(&upload.id.0);
    let own_file = tree(&staging).into_iter().find(|name| name.starts_with("part-00002-")).unwrap();
    let records = ["part-00001", "part-00002"].map(|name| (name, fs::read(staging.join(name)).unwrap()));
    assert_eq!(store.list_parts(&upload).await.unwrap().len(), 2);

    let refused = async |what: &str| {
        assert_eq!(store.list_parts(&upload).await.unwrap(), [], "{what}");
        for part in [&in_place, &apart] {
            let completed = store.complete(&upload, std::slice::from_ref(part), PutCondition::None).await;
            assert_eq!(kind(completed), ErrorKind::Changed, "{what}");
        }
        assert_eq!(kind(store.head(&key("a")).await), ErrorKind::NotFound, "{what}");
    };
    // Every way a record that was not synced can come back: cut anywhere, or as zeros.
    for cut in 0..records[0].1.len().min(records[1].1.len()) {
        for (name, record) in &records {
            fs::write(staging.join(name), &record[..cut]).unwrap();
        }
        refused(&format!("records cut after {cut} bytes")).await;
    }
    for (name, record) in &records {
        fs::write(staging.join(name), vec![0; record.len()]).unwrap();
    }
    refused("records of zeros").await;

    // Records without their bytes.
    for (name, record) in &records {
        fs::write(staging.join(name), record).unwrap();
    }
    assert_eq!(store.list_parts(&upload).await.unwrap().len(), 2, "they were put back");
    for file in ["body", &own_file] {
        fs::File::options().write(true).open(staging.join(file)).unwrap().set_len(999).unwrap();
    }
    refused("bytes that are missing").await;
    fs::remove_file(staging.join(own_file)).unwrap();
    refused("a file that is missing").await;
}

/// What Complete gave up before it failed is not found again as if it were whole.
#[tokio::test]
async fn a_part_that_a_failed_complete_cut_off_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "a", object(9, 100)).await.unwrap();
    let upload = initiate(&store, "a", &Properties::default()).await;
    let parts = [(1, 0), (2, 1000), (3, 2000)];
    let mut list = Vec::new();
    for (n, offset) in parts {
        list.push(put_part(&store, &upload, n, Some(offset), held(&object(n.into(), 1000).0)).await.unwrap());
    }
    let completed = store.complete(&upload, &list[..1], PutCondition::IfNotExists).await;
    assert_eq!(kind(completed), ErrorKind::AlreadyExists);
    put_part(&store, &upload, 3, Some(2000), held(&object(3, 1000).0)).await.unwrap();
    let listed: Vec<_> = store.list_parts(&upload).await.unwrap().iter().map(|part| part.number.get()).collect();
    assert_eq!(listed, [1, 3], "part 2 would be a hole now");
}

#[tokio::test]
async fn a_failure_to_publish_leaves_the_old_object_and_the_upload() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "a", object(1, 1000)).await.unwrap();
    let (body, properties) = object(2, 1000);
    let upload = initiate(&store, "a", &properties).await;
    let list = [put_part(&store, &upload, 1, Some(0), held(&body)).await.unwrap()];

    // The metadata cannot be put in place.
    let hex: String = body[..24].iter().map(|byte| format!("{byte:02x}")).collect();
    let metadata = dir.path().join(format!(".sealift/a.{hex}.json"));
    fs::create_dir(&metadata).unwrap();
    store.complete(&upload, &list, PutCondition::None).await.unwrap_err();
    assert_eq!(whole(&store, "a").await, 1);
    fs::remove_dir(&metadata).unwrap();

    // The metadata can, but the body cannot.
    fs::rename(dir.path().join("a"), dir.path().join("aside")).unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    assert_eq!(kind(store.complete(&upload, &list, PutCondition::None).await), ErrorKind::InvalidInput);
    fs::remove_dir(dir.path().join("a")).unwrap();
    fs::rename(dir.path().join("aside"), dir.path().join("a")).unwrap();
    assert_eq!(whole(&store, "a").await, 1);
    assert!(!metadata.exists(), "metadata of a body that was not published is removed");

    store.complete(&upload, &list, PutCondition::None).await.unwrap();
    assert_eq!(whole(&store, "a").await, 2);
}

#[test]
#[ignore = "run by s16_killed_writers_leave_whole_objects and by writers_in_several_processes"]
fn writer_process() {
    let (dir, seed) = (PathBuf::from(argument("TEST_DIR")), argument("TEST_SEED").parse::<u64>().unwrap());
    let rounds = argument("TEST_ROUNDS").parse::<u64>().unwrap();
    let store = DirStore::open(dir).unwrap();
    tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
        for round in 0..rounds {
            let object = object(seed * 1_000_000 + round, 200_000);
            match round % 3 {
                0 => drop(put(&store, "k/a", object).await.unwrap()),
                1 => drop(upload(&store, "k/a", object, PutCondition::None).await.unwrap()),
                _ if seed % 2 == 0 => drop(store.copy(&key("k/a"), &key("k/b"), PutCondition::None).await),
                _ => {}
            }
        }
    });
}

fn writer(dir: &Path, seed: u64, rounds: u64) -> Child {
    let (seed, rounds) = (seed.to_string(), rounds.to_string());
    let arguments = [("TEST_DIR", dir.to_str().unwrap()), ("TEST_SEED", &seed), ("TEST_ROUNDS", &rounds)];
    this_program(&[], "crashes::writer_process", &arguments).spawn().unwrap()
}

#[tokio::test]
async fn s16_killed_writers_leave_whole_objects() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "k/a", object(0, 200_000)).await.unwrap();
    let mut found = std::collections::BTreeSet::new();
    for seed in 1..=25 {
        let mut child = writer(dir.path(), seed, u64::MAX);
        // Once it writes; then at any time.
        let began = Instant::now();
        while whole(&store, "k/a").await / 1_000_000 != seed {
            assert!(began.elapsed() < Duration::from_secs(60), "the writer does not get going");
        }
        tokio::time::sleep(Duration::from_micros(seed * 7_919 % 20_000)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        found.insert(whole(&store, "k/a").await);
        if store.head(&key("k/b")).await.is_ok() {
            whole(&store, "k/b").await;
        }
    }
    assert_eq!(found.len(), 25);
    // Whatever they left is found and removed, and hinders nobody.
    for upload in store.list_uploads("").await.unwrap() {
        store.abort(&upload).await.unwrap();
    }
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    put(&store, "k/a", object(1, 10)).await.unwrap();
    assert_eq!(whole(&store, "k/a").await, 1);
}

#[tokio::test]
async fn writers_in_several_processes() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    put(&store, "k/a", object(0, 200_000)).await.unwrap();
    let mut writers: Vec<_> = (1..=4).map(|seed| writer(dir.path(), seed, 15)).collect();
    while writers.iter_mut().any(|writer| writer.try_wait().unwrap().is_none()) {
        whole(&store, "k/a").await;
    }
    for writer in writers {
        succeeded(writer);
    }
    for name in ["k/a", "k/b"] {
        whole(&store, name).await;
    }
    let metadata = tree(dir.path()).into_iter().filter(|path| path.ends_with(".json")).count();
    assert_eq!((metadata, store.list_uploads("").await.unwrap()), (2, vec![]));
}

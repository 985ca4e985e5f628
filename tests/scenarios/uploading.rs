//! Scenarios 3, 4, 14 and 18: sources, lengths and ledgers.

use super::*;

#[tokio::test]
async fn s03_overwriting_a_key_repeats_no_data_key_object_id_or_salt() {
    let world = World::new();
    let (mut ids, mut keys, mut salts) = (HashSet::new(), HashSet::new(), HashSet::new());
    for _ in 0..20 {
        let uploaded = world.put("object", b"the same bytes every time", 10).await;
        assert!(ids.insert(uploaded.object_id));
        assert!(keys.insert(*world.data_key("object").await.expose()));
        for part in world.open("object").await.unwrap().manifest().parts() {
            assert!(salts.insert(part.salt));
        }
    }
    assert_eq!(salts.len(), 60);
}

#[tokio::test]
#[allow(unsafe_code, reason = "a map is made by an `unsafe fn`")]
async fn s04_a_source_that_changes_or_shrinks_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source");
    let len = 3_000_000;
    type Change = fn(&std::path::Path);
    let changes: [Change; 3] = [
        |path| std::fs::File::options().write(true).open(path).unwrap().set_len(1_000_000).unwrap(),
        |path| std::fs::File::options().append(true).open(path).unwrap().set_len(3_000_001).unwrap(),
        |path| {
            use std::os::unix::fs::FileExt as _;
            std::fs::File::options().write(true).open(path).unwrap().write_all_at(b"x", 17).unwrap();
        },
    ];
    for change in changes {
        for map in [false, true] {
            std::fs::write(&path, noise(len)).unwrap();
            let source: Box<dyn PartSource> = match map {
                // SAFETY: this test changes the file only by ways that leave its pages mapped, and accepts either content.
                true => Box::new(unsafe { MapSource::open(&path) }.unwrap()),
                false => Box::new(FileSource::open(&path).unwrap()),
            };
            // Reading from a map that lost its pages is a signal, which the program has a handler for, and its tests.
            if map && std::ptr::fn_addr_eq(change, changes[0]) {
                continue;
            }
            std::thread::sleep(std::time::Duration::from_millis(20)); // more than the granularity of timestamps
            change(&path);
            let world = World::new();
            let options = UploadOptions { part_size: Some(500_000), ..UploadOptions::default() };
            let refused = world.put_with("object", source, options).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::SourceChanged);
            assert_eq!(world.open("object").await.unwrap_err().kind(), ErrorKind::NotFound);
            assert!(world.store.list_uploads("").await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn an_announced_length_is_held_to() {
    let world = World::new();
    for (announced, real) in [(0, 5), (5, 0), (100_000, 99_999), (100_000, 100_001), (40_000, 50_000)] {
        let source = StreamSource::from_reader(std::io::Cursor::new(noise(real))).with_len(announced);
        let options = UploadOptions { part_size: Some(40_000), ..UploadOptions::default() };
        let refused = world.put_with("object", Box::new(source), options).await;
        assert!(refused.is_err(), "{announced} announced, {real} there");
        assert_eq!(world.open("object").await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    for len in [0, 1, 40_000, 80_000, 100_000] {
        let source = StreamSource::from_reader(std::io::Cursor::new(noise(len))).with_len(len as u64);
        let options = UploadOptions { part_size: Some(40_000), ..UploadOptions::default() };
        world.put_with("object", Box::new(source), options).await.unwrap();
        assert!(world.read("object").await.unwrap() == noise(len));
    }
}

#[tokio::test]
async fn an_interrupted_stream_upload_is_found_and_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let store = SimStore::new(24, MemoryStore::new().limits());
    let world = World::on(store.clone());
    store.set_faults(Faults { die_at: Some(3), ..Faults::default() });
    let options = UploadOptions {
        part_size: Some(10_000),
        max_in_flight: Some(1),
        ledger: Some(dir.path().to_owned()),
        ..UploadOptions::default()
    };
    let source = Box::new(StreamSource::from_reader(std::io::Cursor::new(noise(90_000))));
    tokio::select! {
        _ = world.put_with("object", source, options) => panic!("it was to die"),
        () = store.died() => {}
    }
    store.set_faults(Faults::default());
    let entry = list_uploads(dir.path()).unwrap().pop().unwrap();
    assert_eq!(entry.source, None);
    let pending = || PendingUpload::open(dir.path(), &entry.id).unwrap();
    let file = Box::new(BytesSource::new(noise(90_000)));
    let resume = world.engine.resume(pending(), store.clone(), file, &world.trusted(), ResumeOptions::default()).await;
    assert_eq!(resume.unwrap_err().kind(), ErrorKind::InvalidInput);
    world.engine.abort(pending(), store.as_ref()).await.unwrap();
    assert_eq!(store.open_uploads().await, 0);
    assert!(list_uploads(dir.path()).unwrap().is_empty());
}

#[tokio::test]
async fn s14_edge_lengths_round_trip_on_memory_and_directory() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn MultipartStore>; 2] =
        [Arc::new(MemoryStore::new()), Arc::new(DirStore::open(dir.path().join("store")).unwrap())];
    for store in stores {
        let world = World::on(store);
        for len in
            [0, 1, 16_383, 16_384, 16_385, 65_536, 131_072, 1_048_575, 1_048_576, 1_048_577, 2_097_152, 2_500_000]
        {
            let plain = noise(len);
            for part_size in [65_536, 1_048_576, 1_000_000] {
                let uploaded = world.put("object", &plain, part_size).await;
                assert_eq!(uploaded.plain_len, len as u64);
                assert_eq!(uploaded.sealed_len, world.store.head(&world.key).await.unwrap().len);
                assert_eq!(u64::from(uploaded.parts), (len as u64).div_ceil(part_size));
                assert!(world.read("object").await.unwrap() == plain, "{len} in parts of {part_size}");
                let target = dir.path().join("target");
                let options = GetOptions { overwrite: true, ..GetOptions::default() };
                world.open("object").await.unwrap().write_to_file(&target, options).await.unwrap();
                assert!(std::fs::read(&target).unwrap() == plain);
            }
            let pieces = plain.chunks(10_007).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)));
            let source = Box::new(StreamSource::from_stream(futures::stream::iter(pieces.collect::<Vec<_>>())));
            let options = UploadOptions { checksums: true, part_size: Some(65_536), ..UploadOptions::default() };
            world.put_with("object", source, options).await.unwrap();
            assert!(world.read("object").await.unwrap() == plain, "{len} from a stream");
            let verified = world.open("object").await.unwrap().verify(None).await.unwrap();
            assert!(verified.checksums && verified.plain_len == len as u64);
        }
    }
}

#[tokio::test]
async fn s14_ten_thousand_parts_round_trip() {
    let world = World::new();
    let plain = noise(9_999 * 100 - 50);
    let uploaded = world.put("object", &plain, 100).await;
    assert_eq!(uploaded.parts, 9_999);
    // Its manifest does not fit the first request's 64 KiB.
    assert!(world.read("object").await.unwrap() == plain);
    let refused = world.put_with(
        "object",
        Box::new(BytesSource::new(plain.clone())),
        UploadOptions { part_size: Some(100), uniform_parts: true, ..UploadOptions::default() },
    );
    refused.await.unwrap();
    assert!(world.read("object").await.unwrap() == plain);
}

#[tokio::test]
async fn s14_parts_larger_than_the_budget_holds_are_sealed_while_they_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source");
    let plain = noise(30_000_000);
    std::fs::write(&path, &plain).unwrap();
    for store in [
        Arc::new(MemoryStore::new()) as Arc<dyn MultipartStore>,
        Arc::new(DirStore::open(dir.path().join("store")).unwrap()),
    ] {
        let world =
            World { engine: Engine::builder().threads(2).memory_budget(12 << 20).build().unwrap(), ..World::on(store) };
        let options = UploadOptions { part_size: Some(12_000_000), checksums: true, ..UploadOptions::default() };
        let uploaded =
            world.put_with("object", Box::new(FileSource::open(&path).unwrap()), options.clone()).await.unwrap();
        assert_eq!(uploaded.parts, 3);
        assert!(world.read("object").await.unwrap() == plain);
        assert!(world.open("object").await.unwrap().verify(None).await.unwrap().checksums);
        // What can be read only once would have to be held: refused before anything is sent, with the budget it needs.
        let source = Box::new(StreamSource::from_reader(tokio::io::empty()));
        let refused = world.put_with("stream", source, options).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
        assert!(world.store.list_uploads("").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn s14_parts_of_a_stream_larger_than_the_budget_holds_wait_in_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let equal = Limits { equal_parts: true, ..MemoryStore::new().limits() };
    let long = Limits { min_part: 5_000_000, ..MemoryStore::new().limits() };
    for store in [
        Arc::new(MemoryStore::new()) as Arc<dyn MultipartStore>,
        Arc::new(MemoryStore::with_limits(equal)),
        Arc::new(MemoryStore::with_limits(long)),
        Arc::new(DirStore::open(dir.path().join("store")).unwrap()),
    ] {
        let world =
            World { engine: Engine::builder().threads(2).memory_budget(12 << 20).build().unwrap(), ..World::on(store) };
        let options = UploadOptions {
            part_size: Some(6_000_000),
            checksums: true,
            spool: Some(spool.clone()),
            ..UploadOptions::default()
        };
        // Nothing is begun where it could not go on.
        let source = || Box::new(StreamSource::from_reader(tokio::io::empty()));
        assert_eq!(world.put_with("no", source(), options.clone()).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(world.store.list_uploads("").await.unwrap().is_empty());
        std::fs::create_dir(&spool).unwrap();
        // The last part is whole, followed by the trailer, cut with it, or short; and there is none.
        for len in [18_000_000, 17_999_990, 16_000_000, 12_000_001, 0] {
            for announced in [false, true] {
                let plain = noise(len);
                let source = StreamSource::from_reader(std::io::Cursor::new(plain.clone()));
                let source = if announced { source.with_len(len as u64) } else { source };
                let uploaded = world.put_with("object", Box::new(source), options.clone()).await.unwrap();
                assert_eq!(uploaded.plain_len, len as u64);
                assert!(world.read("object").await.unwrap() == plain);
                assert!(world.open("object").await.unwrap().verify(None).await.unwrap().checksums);
            }
        }
        std::fs::remove_dir(&spool).unwrap();
    }
}

/// Interrupts an upload and returns the bytes of its ledger's file.
async fn interrupted(world: &World, store: &SimStore, dir: &std::path::Path) -> std::path::PathBuf {
    let source = dir.join("source");
    std::fs::write(&source, noise(100_000)).unwrap();
    store.set_faults(Faults { die_at: Some(5), ..Faults::default() });
    let options = UploadOptions {
        part_size: Some(10_000),
        max_in_flight: Some(1),
        ledger: Some(dir.join("ledgers")),
        ..UploadOptions::default()
    };
    tokio::select! {
        _ = world.put_with("object", Box::new(FileSource::open(&source).unwrap()), options) => panic!("it was to die"),
        () = store.died() => {}
    }
    store.set_faults(Faults::default());
    let id = &list_uploads(&dir.join("ledgers")).unwrap()[0].id;
    dir.join("ledgers").join(format!("{id}.ledger"))
}

#[tokio::test]
async fn s18_the_ledger_holds_no_key_and_is_refused_or_cut_where_it_was_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = SimStore::new(18, MemoryStore::new().limits());
    let world = World::on(store.clone());
    let path = interrupted(&world, &store, dir.path()).await;
    let good = std::fs::read(&path).unwrap();
    let ledgers = dir.path().join("ledgers");
    let resume = async |path: &std::path::Path| -> Result<Uploaded> {
        let id = path.file_stem().unwrap().to_str().unwrap();
        let pending = PendingUpload::open(&ledgers, id)?;
        let source = Box::new(FileSource::open(dir.path().join("source")).unwrap());
        let trusted = world.trusted();
        world.engine.resume(pending, world.store.clone(), source, &trusted, ResumeOptions::default()).await
    };

    // The data key is in there only as the key service wrapped it.
    let header: serde_json::Value = {
        let len = u32::from_be_bytes(*good.first_chunk().unwrap()) as usize;
        serde_json::from_slice(&good[4..4 + len]).unwrap()
    };
    let metadata: BTreeMap<String, String> = serde_json::from_value(header["envelope"].clone()).unwrap();
    let envelope = Envelope::from_metadata(&metadata).unwrap();
    let kms_context = Envelope::kms_context(envelope.object_id(), envelope.context(), None);
    let data_key = world.kms.unwrap(&envelope.data_keys()[0], &kms_context).await.unwrap();
    let raw = data_key.expose();
    assert!(!good.windows(8).any(|window| raw.windows(8).any(|key| key == window)));

    // A bit of every byte: refused, or taken for a record that was cut off. Never another object.
    let (mut path, mut good) = (path, good);
    let (mut refused, mut resumed, mut at) = (0, 0, 0);
    while at < good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        match resume(&path).await {
            Ok(_) => {
                assert!(world.read("object").await.unwrap() == noise(100_000), "byte {at}");
                resumed += 1;
                // Done, and the upload with it: begin again.
                store.delete_object(&world.key).await;
                path = interrupted(&world, &store, dir.path()).await;
                good = std::fs::read(&path).unwrap();
            }
            Err(e) => {
                assert_ne!(e.kind(), ErrorKind::Internal, "byte {at}: {e:?}");
                refused += 1;
            }
        }
        at += 1;
    }
    assert!(refused > 100 && resumed > 5, "{refused} were refused, {resumed} resumed");

    // Torn at every length behind its header: resumed from the last whole record.
    let header = 4 + u32::from_be_bytes(*good.first_chunk().unwrap()) as usize;
    for len in (header..good.len()).step_by(3) {
        std::fs::write(&path, &good[..len.min(good.len())]).unwrap();
        resume(&path).await.unwrap();
        assert!(world.read("object").await.unwrap() == noise(100_000), "{len}");
        store.delete_object(&world.key).await;
        path = interrupted(&world, &store, dir.path()).await;
        good = std::fs::read(&path).unwrap();
    }
}

#[tokio::test]
async fn s18_a_running_uploads_ledger_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let store = SimStore::new(18, MemoryStore::new().limits());
    let world = World::on(store.clone());
    let path = interrupted(&world, &store, dir.path()).await;
    let id = path.file_stem().unwrap().to_str().unwrap();
    let _running = PendingUpload::open(&dir.path().join("ledgers"), id).unwrap();
    let refused = PendingUpload::open(&dir.path().join("ledgers"), id).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Ledger);
}

#[tokio::test]
async fn an_upload_whose_source_has_no_identity_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = SimStore::new(19, MemoryStore::new().limits());
    let world = World::on(store.clone());
    let cancel = Cancel::new();
    let cancelling = cancel.clone();
    let options = UploadOptions {
        part_size: Some(10_000),
        max_in_flight: Some(1),
        ledger: Some(dir.path().join("ledgers")),
        on_failure: OnCancel::KeepForResume,
        cancel,
        progress: Some(Arc::new(move |progress: Progress| {
            if progress.done > 30_000 {
                cancelling.cancel(OnCancel::KeepForResume);
            }
        })),
        ..UploadOptions::default()
    };
    let stopped = world.put_with("object", Box::new(BytesSource::new(noise(100_000))), options).await.unwrap_err();
    assert_eq!((stopped.kind(), stopped.resumable()), (ErrorKind::Cancelled, None));
    assert!(store.list_uploads("").await.unwrap().is_empty(), "it could not have been gone on with");
    assert!(list_uploads(&dir.path().join("ledgers")).unwrap().is_empty());
}

#[tokio::test]
async fn progress_is_of_the_plaintext_and_ends_at_the_whole() {
    let world = World::new();
    let plain = noise(3_000_000);
    let file = dir_with(&plain);
    let sources: [Box<dyn PartSource>; 3] = [
        Box::new(BytesSource::new(Bytes::copy_from_slice(&plain))),
        Box::new(FileSource::open(file.path().join("source")).unwrap()),
        Box::new(StreamSource::from_reader(std::io::Cursor::new(plain.clone()))),
    ];
    for (n, source) in sources.into_iter().enumerate() {
        let told: Arc<std::sync::Mutex<Vec<Progress>>> = Arc::default();
        let telling = Arc::clone(&told);
        let options = UploadOptions {
            part_size: Some(500_000),
            progress: Some(Arc::new(move |progress| telling.lock().unwrap().push(progress))),
            ..UploadOptions::default()
        };
        world.put_with("object", source, options).await.unwrap();
        let told = told.lock().unwrap();
        let total = (n < 2).then_some(3_000_000);
        assert!(told.iter().all(|progress| progress.total == total), "{n}");
        // Told from several threads, so not always in order.
        let steps: BTreeSet<_> = told.iter().map(|progress| progress.done).collect();
        assert!(steps.len() >= 6 && steps.last() == Some(&3_000_000), "{n}: {steps:?}");
        assert_eq!(told.iter().map(|progress| progress.sealed).max(), Some(3_000_000), "{n}");
    }
}

fn dir_with(plain: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("source"), plain).unwrap();
    dir
}

#[tokio::test]
async fn if_not_exists_has_one_winner() {
    let world = World::new();
    let put = |bytes: &'static [u8]| {
        let options = UploadOptions { condition: PutCondition::IfNotExists, ..UploadOptions::default() };
        world.put_with("object", Box::new(BytesSource::new(Bytes::from_static(bytes))), options)
    };
    put(b"first").await.unwrap();
    assert_eq!(put(b"second").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(world.read("object").await.unwrap(), b"first");
    assert!(world.store.list_uploads("").await.unwrap().is_empty());
}

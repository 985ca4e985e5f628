//! Scenarios 13 and 15: ranges, cursors, and objects that change while they are read.

use std::os::unix::fs::FileExt as _;

use super::*;

/// On a store that is asked for bytes, and on one whose bytes are read by whoever opens them.
fn both_kinds(dir: &tempfile::TempDir) -> [World; 2] {
    [World::new(), World::on(Arc::new(DirStore::open(dir.path().join("store")).unwrap()))]
}

#[tokio::test]
async fn s13_every_range_around_every_edge_equals_the_slice() {
    let part = 40_000u64;
    let plain = noise(130_000);
    let len = plain.len() as u64;
    let mut edges = HashSet::new();
    for at in (0..=len).step_by(part as usize) {
        for chunk in (0..=part).step_by(16_384) {
            edges.extend([at + chunk, (at + chunk).saturating_sub(1), at + chunk + 1]);
        }
    }
    edges.extend([len - 1, len, len + 1, u64::MAX]);
    let mut edges: Vec<_> = edges.into_iter().collect();
    edges.sort_unstable();
    let dir = tempfile::tempdir().unwrap();
    for world in both_kinds(&dir) {
        world.put("object", &plain, part).await;
        let reader = world.open("object").await.unwrap();
        for &first in &edges {
            for &last in &edges {
                if last < first {
                    continue;
                }
                let got = reader.read_range(ByteRange::Inclusive { first, last }).await;
                match first < len {
                    true => assert!(got.unwrap() == plain[first as usize..(last.saturating_add(1)).min(len) as usize]),
                    false => assert_eq!(got.unwrap_err().kind(), ErrorKind::RangeNotSatisfiable),
                }
            }
            let from = reader.read_range(ByteRange::From(first)).await;
            assert_eq!(from.is_ok(), first < len);
            let suffix = reader.read_range(ByteRange::Suffix(first)).await;
            match first {
                0 => assert_eq!(suffix.unwrap_err().kind(), ErrorKind::RangeNotSatisfiable),
                n => assert!(suffix.unwrap() == plain[len.saturating_sub(n) as usize..]),
            }
        }
    }
}

#[tokio::test]
async fn s13_the_cursor_reads_and_seeks_as_a_file_does() {
    let world = World::new();
    let plain = noise(3_000_000);
    world.put("object", &plain, 1_100_000).await;
    let mut cursor = world.open("object").await.unwrap().cursor();
    let mut model = std::io::Cursor::new(&plain);
    let mut rng = Rng::new(13);
    for _ in 0..60 {
        use std::io::{Read, Seek, SeekFrom};
        let to = match rng.below(4) {
            0 => Some(SeekFrom::Start(rng.below(3_100_000))),
            1 => Some(SeekFrom::End(-(rng.below(3_000_000) as i64))),
            2 => Some(SeekFrom::Current(rng.below(5_000) as i64)),
            _ => None,
        };
        if let Some(to) = to {
            assert_eq!(cursor.seek(to).await.unwrap(), Seek::seek(&mut model, to).unwrap());
        }
        let n = rng.below(400_000);
        let (mut got, mut expected) = (Vec::new(), Vec::new());
        (&mut cursor).take(n).read_to_end(&mut got).await.unwrap();
        Read::read_to_end(&mut Read::take(&mut model, n), &mut expected).unwrap();
        assert!(got == expected);
    }
    assert!(cursor.seek(std::io::SeekFrom::Current(-i64::MAX)).await.is_err());
}

#[tokio::test]
async fn s13_ranges_around_every_edge_of_large_parts_equal_the_slice() {
    // Shorter and longer than what is opened by whoever waits for it: they begin and end in the middle of a chunk, a stripe and a part.
    const MIB: usize = 1 << 20;
    let (len, part) = (7 * MIB + 54_321, 3 * MIB + 4_000);
    let plain = noise(len);
    let mut edges = vec![0, 1, len - 1, len];
    for at in [16_384, MIB, part, part + 16_384, part + MIB, 2 * part, 2 * part + 16_384] {
        edges.extend([at - 1, at, at + 1]);
    }
    let dir = tempfile::tempdir().unwrap();
    for world in both_kinds(&dir) {
        world.put("object", &plain, part as u64).await;
        let reader = world.open("object").await.unwrap();
        let (mut short, mut long) = (0, 0);
        for &first in &edges {
            for &end in edges.iter().filter(|&&end| end > first) {
                let (range, last) = (first as u64..end as u64, end as u64 - 1);
                let streamed = reader.stream(range).try_collect::<Vec<_>>().await.unwrap().concat();
                assert!(streamed == plain[first..end], "{first}..{end}");
                let read = reader.read_range(ByteRange::Inclusive { first: first as u64, last }).await.unwrap();
                assert!(read == streamed, "{first}..{end}");
                *if end - first > 2 * MIB { &mut long } else { &mut short } += 1;
            }
        }
        assert!(short > 80 && long > 200, "{short} {long}");
    }
}

#[tokio::test]
async fn a_range_of_an_altered_body_in_a_directory_gives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [_, world] = both_kinds(&dir);
    let plain = noise(3 << 20);
    world.put("object", &plain, 2 << 20).await;
    let path = dir.path().join("store/object");
    let whole = std::fs::read(&path).unwrap();
    let second = world.layout("object").await.parts()[1].sealed.start as usize;
    let range = ByteRange::Inclusive { first: 1 << 20, last: (5 << 19) - 1 };
    // In the first half of what is read, in the second, in the header of the part that holds the second, and in neither.
    for (at, part) in [(5 << 18, Some(1)), (second + 5_000, Some(2)), (second + 3, Some(2)), (1_000, None)] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        // In place: the object is not replaced, its disk has a fault.
        std::fs::File::options().write(true).open(&path).unwrap().write_all_at(&altered, 0).unwrap();
        let reader = world.open("object").await.unwrap();
        match (reader.read_range(range).await, part) {
            (Ok(read), None) => assert!(read == plain[1 << 20..5 << 19]),
            (Err(error), Some(part)) => {
                assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
                assert!(error.to_string().contains(&format!("part {part}")), "{error}");
            }
            (got, _) => panic!("{at}: {:?}", got.map(|read| read.len())),
        }
    }
}

#[tokio::test]
async fn readers_that_nobody_polls_stop_nobody_else() {
    let world = World::new();
    let world = World { engine: Engine::builder().threads(2).memory_budget(40 << 20).build().unwrap(), ..world };
    let plain = noise(20_000_000);
    world.put("object", &plain, 4 << 20).await;
    let reader = world.open("object").await.unwrap();
    // More than the budget has room for a stripe of each: some have taken a first piece, some only asked for it.
    let mut paused: Vec<_> = (0..60).map(|n| Box::pin(reader.stream(n * 100_000 + 77_777..u64::MAX))).collect();
    for (n, stream) in paused.iter_mut().enumerate() {
        match n % 2 {
            0 => assert!(stream.try_next().await.unwrap().is_some()),
            _ => drop(futures::poll!(stream.try_next())),
        }
    }
    let others = async {
        assert!(read_all(&reader).await.unwrap() == plain);
        world.put("another", &plain, 4 << 20).await;
        let source = Box::new(StreamSource::from_reader(std::io::Cursor::new(plain.clone())));
        world.put_with("streamed", source, UploadOptions::default()).await.unwrap();
        for (n, stream) in paused.into_iter().enumerate().skip(50) {
            let rest = stream.try_collect::<Vec<_>>().await.unwrap().concat();
            assert!(plain.ends_with(&rest) && rest.len() > 10_000_000, "{n}");
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), others).await.expect("somebody waits for ever");
}

#[tokio::test]
async fn s15_an_object_overwritten_while_it_is_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for store in [
        Arc::new(MemoryStore::new()) as Arc<dyn MultipartStore>,
        Arc::new(DirStore::open(dir.path().join("store")).unwrap()),
    ] {
        let world = World::on(store);
        world.put("object", &noise(200_000), 50_000).await;
        let reader = world.open("object").await.unwrap();
        assert!(reader.read_range("0-10".parse().unwrap()).await.is_ok());
        world.put("object", &noise(200_001), 50_000).await;
        assert_eq!(reader.read_range("60000-60010".parse().unwrap()).await.unwrap_err().kind(), ErrorKind::Changed);
        assert_eq!(read_all(&reader).await.unwrap_err().kind(), ErrorKind::Changed);
        assert!(world.read("object").await.unwrap() == noise(200_001));
    }
}

#[tokio::test]
async fn s15_a_small_object_overwritten_while_it_is_read_is_wholly_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    for store in [
        Arc::new(MemoryStore::new()) as Arc<dyn MultipartStore>,
        Arc::new(DirStore::open(dir.path().join("store")).unwrap()),
    ] {
        let world = World::on(store);
        let old = noise(60_000);
        world.put("object", &old, 50_000).await;
        let reader = world.open("object").await.unwrap();
        world.put("object", &noise(60_001), 50_000).await;
        assert!(reader.read_range("40000-55000".parse().unwrap()).await.unwrap() == old[40_000..=55_000]);
        assert!(read_all(&reader).await.unwrap() == old);
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        reader.write_to_file(&target, GetOptions::default()).await.unwrap();
        assert!(std::fs::read(&target).unwrap() == old);
        assert!(world.read("object").await.unwrap() == noise(60_001));
    }
}

#[tokio::test]
async fn a_small_object_that_was_altered_gives_nothing() {
    let world = World::new();
    world.put("object", &noise(60_000), 50_000).await;
    let whole = world.stored("object").await;
    for at in [0, 30, 100, 20_000, 49_000, 50_100, 55_000] {
        let mut altered = whole.clone();
        altered.body[at] ^= 1;
        world.replace("object", &altered).await;
        let reader = world.open("object").await.unwrap();
        assert_eq!(read_all(&reader).await.unwrap_err().kind(), ErrorKind::Authentication, "{at}");
        assert_eq!(reader.verify(None).await.unwrap_err().kind(), ErrorKind::Authentication, "{at}");
    }
}

#[tokio::test]
async fn s15_an_object_overwritten_in_the_middle_of_a_stream_is_refused_or_wholly_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Arc::new(DirStore::open(dir.path().join("store")).unwrap());
    for (store, is_refused) in [(Arc::new(MemoryStore::new()) as Arc<dyn MultipartStore>, true), (directory, false)] {
        let world = World::on(store);
        let engine = Engine::builder().threads(2).memory_budget(40 << 20).build().unwrap();
        let world = World { engine, ..world };
        let old = noise(60_000_000);
        world.put("object", &old, 4 << 20).await;
        let reader = world.open("object").await.unwrap();
        let mut stream = std::pin::pin!(reader.stream(0..u64::MAX));
        let mut read = stream.try_next().await.unwrap().unwrap().to_vec();
        world.put("object", &noise(59_999_999), 4 << 20).await;
        let end = loop {
            match stream.try_next().await {
                Ok(Some(bytes)) => read.extend_from_slice(&bytes),
                Ok(None) => break None,
                Err(e) => break Some(e.kind()),
            }
        };
        assert!(old.starts_with(&read), "something else than the old object was read");
        match is_refused {
            true => assert_eq!(end, Some(ErrorKind::Changed)),
            // The directory's reader holds on to the file.
            false => assert!(end.is_none() && read.len() == old.len()),
        }
    }
}

#[tokio::test]
async fn get_leaves_what_was_there_when_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    std::fs::write(&target, "precious").unwrap();
    let world = World::new();
    world.put("object", &noise(100_000), 30_000).await;
    let reader = world.open("object").await.unwrap();
    let refused = reader.write_to_file(&target, GetOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    let mut object = world.stored("object").await;
    object.body[70_000] ^= 1;
    world.replace("object", &object).await;
    let options = GetOptions { overwrite: true, ..GetOptions::default() };
    let refused = world.open("object").await.unwrap().write_to_file(&target, options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Authentication);
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half done is left behind");
}

//! Scenarios 13 and 15: ranges, cursors, and objects that change while they are read.

use super::*;

#[tokio::test]
async fn s13_every_range_around_every_edge_equals_the_slice() {
    let world = World::new();
    let part = 40_000u64;
    let plain = noise(130_000);
    world.put("object", &plain, part).await;
    let reader = world.open("object").await.unwrap();
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
async fn readers_that_nobody_polls_stop_nobody_else() {
    let world = World::new();
    let world = World { engine: Engine::builder().threads(2).memory_budget(40 << 20).build().unwrap(), ..world };
    let plain = noise(20_000_000);
    world.put("object", &plain, 4 << 20).await;
    let reader = world.open("object").await.unwrap();
    let mut paused = Vec::new();
    for n in 0..8 {
        let mut cursor = reader.cursor();
        // Into the middle of a part, whose header none has fetched yet.
        let at = n * 1_000_000 + 77_777;
        cursor.seek(std::io::SeekFrom::Start(at)).await.unwrap();
        let mut byte = [0];
        cursor.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte[0], plain[at as usize]);
        paused.push(cursor);
    }
    let all = async {
        assert!(read_all(&reader).await.unwrap() == plain);
        world.put("another", &plain, 4 << 20).await;
        for mut cursor in paused {
            let mut rest = vec![0; 3_000_000];
            let at = cursor.seek(std::io::SeekFrom::Current(0)).await.unwrap() as usize;
            cursor.read_exact(&mut rest).await.unwrap();
            assert!(rest == plain[at..at + rest.len()]);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), all).await.expect("somebody waits for ever");
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

//! What the sources promise: exact bytes, and an error when the file is no longer what it was.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use proptest::prelude::*;
use sealift::crypto::Backend;
use sealift::engine::{ReadOptions, UploadOptions};
use sealift::kms::key_file::KeyFile;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::{Access, BytesSource, FileSource, MapSource, PartSource, ReadAt, ReadSpeeds, StreamSource};
use sealift::store::MemoryStore;
use sealift::{DataKey, Engine, ErrorKind};
use tokio::io::AsyncReadExt;

type Open = fn(&Path) -> sealift::Result<Box<dyn PartSource>>;

const FILES: [(&str, Open); 2] = [
    ("file", |path| Ok(Box::new(FileSource::open(path)?))),
    ("map", |path| {
        // SAFETY: the tests read only pages that are there.
        #[allow(unsafe_code, reason = "a map is made by an `unsafe fn`")]
        let source = unsafe { MapSource::open(path)? };
        Ok(Box::new(source))
    }),
];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn at(source: Box<dyn PartSource>) -> Arc<dyn ReadAt> {
    match source.open() {
        Access::At(source) => source,
        Access::Once(_) => panic!("can be read at any offset"),
    }
}

fn read(source: &dyn ReadAt, offset: u64, len: usize) -> sealift::Result<Vec<u8>> {
    Ok(source.read_at(offset, len, &mut vec![0xA5; len + 3])?.to_vec())
}

fn some_bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

#[test]
fn every_range_is_the_files_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for len in [0, 1, 4095, 4096, 4097, 70_000] {
        let content = some_bytes(len);
        fs::write(&path, &content).unwrap();
        let sources = FILES.iter().map(|(_, open)| open(&path).unwrap());
        for source in sources.chain([Box::new(BytesSource::new(content.clone())) as Box<dyn PartSource>]) {
            assert_eq!(source.len(), Some(len as u64));
            let source = at(source);
            assert_eq!((source.len(), source.is_empty()), (len as u64, len == 0));
            for (start, end) in
                [(0, len), (len / 3, len / 2), (len, len), (len.saturating_sub(1), len), (0, len.min(1))]
            {
                assert_eq!(read(&*source, start as u64, end - start).unwrap(), &content[start..end], "{source:?}");
            }
            for (offset, n) in [(0, len + 1), (len as u64, 1), (len as u64 + 1, 0), (u64::MAX, 1)] {
                let error = read(&*source, offset, n).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::SourceChanged, "{n} at {offset} of {source:?}");
            }
            source.check_unchanged().unwrap();
        }
    }
}

#[test]
fn identity_is_the_open_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "same").unwrap();
    for (name, open) in FILES {
        let source = at(open(&path).unwrap());
        let identity = source.identity().unwrap();
        assert_eq!((identity.path.as_path(), identity.len), (path.as_path(), 4), "{name}");
        assert_eq!(at(open(&path).unwrap()).identity().unwrap(), identity, "{name}: the same file, opened again");

        // Another file in its place does not touch the open one (its change time alone may move: a link is gone), and is told from it.
        let other = dir.path().join("other");
        fs::write(&other, "same").unwrap();
        assert_ne!(at(open(&other).unwrap()).identity().unwrap(), identity, "{name}");
        fs::rename(&other, &path).unwrap();
        assert_eq!(read(&*source, 0, 4).unwrap(), b"same", "{name}");
        assert_ne!(at(open(&path).unwrap()).identity().unwrap(), identity, "{name}");
    }
    assert_eq!(BytesSource::new("same").identity(), None);
}

/// Long enough for the coarsest clock a kernel stamps files with.
fn next_tick() {
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn s04_source_that_changes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("rewritten in place", |path| {
            File::options().write(true).open(path).unwrap().write_all(b"other").unwrap();
        }),
        ("grown", |path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap()),
        ("shortened", |path| File::options().write(true).open(path).unwrap().set_len(9_000).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("rewritten, its modification time put back", |path| {
            let file = File::options().write(true).open(path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            (&file).write_all(b"other").unwrap();
            file.set_modified(modified).unwrap();
        }),
    ];
    for (name, open) in FILES {
        for (how, change) in changes {
            fs::write(&path, some_bytes(10_000)).unwrap();
            next_tick();
            let source = at(open(&path).unwrap());
            source.check_unchanged().unwrap();
            change(&path);
            let error = source.check_unchanged().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceChanged, "{name}, {how}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }
}

#[test]
fn s04_file_cut_between_open_and_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, some_bytes(10_000)).unwrap();
    let source = at(Box::new(FileSource::open(&path).unwrap()));
    File::options().write(true).open(&path).unwrap().set_len(6_000).unwrap();
    assert_eq!(read(&*source, 0, 6_000).unwrap(), some_bytes(6_000), "what is there can be read");
    for (offset, len) in [(0, 10_000), (5_999, 2), (6_000, 1), (9_999, 1)] {
        assert_eq!(read(&*source, offset, len).unwrap_err().kind(), ErrorKind::SourceChanged);
    }

    // Grown again: those bytes are not the ones it was opened with, but only its times can tell.
    File::options().write(true).open(&path).unwrap().set_len(20_000).unwrap();
    assert_eq!(read(&*source, 9_999, 2).unwrap_err().kind(), ErrorKind::SourceChanged, "past the length it had");
    assert_eq!(source.check_unchanged().unwrap_err().kind(), ErrorKind::SourceChanged);
}

#[test]
fn only_regular_files_open() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    for (name, open) in FILES {
        for path in [dir.path(), &fifo, &link, Path::new("/dev/null")] {
            // A FIFO without a writer must not hang either.
            let error = open(path).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{name}: {error}");
        }
        assert_eq!(open(&dir.path().join("nothing")).err().unwrap().kind(), ErrorKind::NotFound, "{name}");
    }
}

#[test]
fn short_scratch_is_an_error_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "twelve bytes").unwrap();
    let source = FileSource::open(&path).unwrap();
    assert_eq!(source.read_at(0, 12, &mut [0; 11]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_map_lends_from_the_range_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for len in [0, 1, 4096, 10_000] {
        fs::write(&path, some_bytes(len)).unwrap();
        // SAFETY: nobody else knows the file.
        #[allow(unsafe_code, reason = "a map is made by an `unsafe fn`")]
        let source = unsafe { MapSource::open(&path).unwrap() };
        let range = source.address_range();
        assert_eq!(range.len(), len);
        let lent = source.read_at(0, len, &mut []).unwrap().as_ptr_range();
        assert_eq!(lent.start.addr()..lent.end.addr(), range, "lent, not copied");
    }
}

fn read_to_end(source: StreamSource) -> io::Result<Vec<u8>> {
    let Access::Once(mut reader) = Box::new(source).open() else { panic!("read once") };
    let mut all = Vec::new();
    block_on(reader.read_to_end(&mut all))?;
    Ok(all)
}

#[test]
fn a_stream_is_held_to_its_announced_length() {
    let source = |len| StreamSource::from_reader(&b"twelve bytes"[..]).with_len(len);
    assert_eq!(source(12).len(), Some(12));
    assert_eq!(read_to_end(source(12)).unwrap(), b"twelve bytes");
    assert_eq!(read_to_end(source(13)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(read_to_end(source(11)).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(read_to_end(source(0)).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(read_to_end(StreamSource::from_reader(&b""[..]).with_len(0)).unwrap(), b"");
}

#[test]
fn a_streams_error_comes_after_what_came_before_it() {
    let source = StreamSource::from_stream(stream::iter([Ok(Bytes::from("some")), Err("the wire broke")]));
    let Access::Once(mut reader) = Box::new(source).open() else { panic!("read once") };
    let mut all = Vec::new();
    let error = block_on(reader.read_to_end(&mut all)).unwrap_err();
    assert_eq!((all.as_slice(), error.to_string().as_str()), (&b"some"[..], "the wire broke"));
}

proptest! {
    #[test]
    fn a_stream_in_any_pieces_is_read_whole(pieces in prop::collection::vec(0_usize..40, 0..30), room in 1_usize..50) {
        let content = some_bytes(pieces.iter().sum());
        let mut rest = Bytes::from(content.clone());
        let pieces: Vec<_> = pieces.into_iter().map(|n| Ok::<_, io::Error>(rest.split_to(n))).collect();
        let source = StreamSource::from_stream(stream::iter(pieces)).with_len(content.len() as u64);
        let Access::Once(mut reader) = Box::new(source).open() else { panic!("read once") };
        let mut all = Vec::new();
        let mut buffer = vec![0; room];
        loop {
            let n = block_on(reader.read(&mut buffer)).unwrap();
            if n == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..n]);
        }
        prop_assert_eq!(all, content);
    }

    #[test]
    fn file_and_map_agree_with_memory(len in 0_usize..20_000, offset in 0_u64..21_000, n in 0_usize..21_000) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, some_bytes(len)).unwrap();
        let expected = read(&BytesSource::new(some_bytes(len)), offset, n).map_err(|error| error.kind());
        for (_, open) in FILES {
            let got = read(&*at(open(&path).unwrap()), offset, n).map_err(|error| error.kind());
            prop_assert_eq!(&got, &expected);
        }
    }
}

#[test]
fn reading_and_mapping_are_measured_where_a_file_is_long_and_cached() {
    // A real file system, where /tmp may be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("f");
    let long = File::create(&path).unwrap();
    (0..ReadSpeeds::SHORTEST >> 20).for_each(|_| (&long).write_all(&[7; 1 << 20]).unwrap());
    let open = || {
        // SAFETY: the tests read only pages that are there.
        #[allow(unsafe_code, reason = "a map is made by an `unsafe fn`")]
        let map = unsafe { MapSource::open(&path) }.unwrap();
        (FileSource::open(&path).unwrap(), map)
    };
    let (file, map) = open();
    if file.is_in_memory(0, 1) {
        let speeds = ReadSpeeds::measure(&file, &map, Backend::default()).unwrap().expect("it is long and cached");
        assert!(speeds.read > 0 && speeds.map > 0);
    } else {
        assert_eq!(ReadSpeeds::measure(&file, &map, Backend::default()).unwrap(), None);
    }
    long.set_len(ReadSpeeds::SHORTEST - 1).unwrap();
    let (short, short_map) = open();
    assert_eq!(ReadSpeeds::measure(&short, &short_map, Backend::default()).unwrap(), None);
    let mixed = ReadSpeeds::measure(&short, &map, Backend::default()).unwrap_err();
    assert_eq!(mixed.kind(), ErrorKind::InvalidInput);
}

/// Tells on which thread it was read.
#[derive(Debug)]
struct Watched {
    bytes: Vec<u8>,
    in_memory: bool,
    read_by: Arc<std::sync::Mutex<Vec<std::thread::ThreadId>>>,
}

impl PartSource for Watched {
    fn len(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }

    fn open(self: Box<Self>) -> Access {
        Access::At(Arc::new(*self))
    }
}

impl ReadAt for Watched {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at<'a>(&'a self, offset: u64, len: usize, _: &'a mut [u8]) -> sealift::Result<&'a [u8]> {
        self.read_by.lock().unwrap().push(std::thread::current().id());
        Ok(&self.bytes[offset as usize..][..len])
    }

    fn is_in_memory(&self, _: u64, _: usize) -> bool {
        self.in_memory
    }

    fn identity(&self) -> Option<sealift::source::SourceIdentity> {
        None
    }

    fn check_unchanged(&self) -> sealift::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_small_and_in_memory_is_sealed_where_it_is_awaited() {
    let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
    let recipients = [Recipient { kms: kms.clone(), key: kms.id().to_owned() }];
    let engine = Engine::builder().threads(2).build().unwrap();
    let own = std::thread::current().id();
    for (len, in_memory, here) in
        [(1024, true, true), (16_384, true, true), (16_385, true, false), (1024, false, false)]
    {
        let read_by = Arc::default();
        let source = Watched { bytes: some_bytes(len), in_memory, read_by: Arc::clone(&read_by) };
        let store = Arc::new(MemoryStore::new());
        let key = || "object".parse().unwrap();
        let upload = engine.upload(store.clone(), key(), Box::new(source), &recipients, UploadOptions::default());
        block_on(upload).unwrap();
        let trusted = Trusted::new(vec![(kms.clone(), TrustedKeys::Any)]);
        let opened = block_on(engine.open(store, key(), &trusted, &ReadOptions::default())).unwrap();
        assert_eq!(block_on(opened.read_range("0-".parse().unwrap())).unwrap(), some_bytes(len));
        let read_by = read_by.lock().unwrap();
        assert!(!read_by.is_empty() && read_by.iter().all(|thread| (*thread == own) == here), "{len} {in_memory}");
    }
}

#[test]
fn files_know_what_of_them_is_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, some_bytes(70_000)).unwrap();
    let file = FileSource::open(&path).unwrap();
    // Nothing past its end is; what else is in the page cache, the file system may not tell.
    assert!(!file.is_in_memory(69_999, 2) && !file.is_in_memory(u64::MAX, 2));
    assert!(file.is_in_memory(0, 0));
    assert_eq!(file.is_in_memory(0, 70_000), file.is_in_memory(69_999, 1));
    assert!(BytesSource::new("abc").is_in_memory(0, 3));
}

/// Pages of files in this process's memory, in bytes (proc_pid_status(5)).
#[cfg(target_os = "linux")]
fn resident_file_pages() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
#[cfg(target_os = "linux")]
fn a_mapped_file_does_not_fill_memory_while_it_is_uploaded() {
    const LEN: usize = 128 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, some_bytes(LEN)).unwrap();
    let [_, (_, open)] = FILES;
    let before = resident_file_pages();
    let source = open(&path).unwrap();
    let kms = Arc::new(KeyFile::new(DataKey::random().unwrap()));
    let recipients = [Recipient { kms: kms.clone(), key: kms.id().to_owned() }];
    let engine = Engine::builder().threads(2).memory_budget(64 << 20).build().unwrap();
    // The source is gone when the upload has ended, so it is looked at while it goes on.
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let progress = move |_| {
        seen.fetch_max(resident_file_pages(), std::sync::atomic::Ordering::Relaxed);
    };
    let options = UploadOptions { progress: Some(Arc::new(progress)), ..UploadOptions::default() };
    let store = Arc::new(sealift::store::DiscardStore::new());
    block_on(engine.upload(store, "object".parse().unwrap(), source, &recipients, options)).unwrap();
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    assert!(most > before && most - before < LEN / 2, "{before} bytes, then {most}");
}

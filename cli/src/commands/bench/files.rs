//! A file in the page cache: sealed and dropped, into a directory and back, and ranges of it.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::Arc;

use futures::TryStreamExt as _;
use sealift::crypto::STRIPE;
use sealift::engine::{GetOptions, UploadOptions};
use sealift::source::{FileSource, PartSource};
use sealift::store::{DirStore, DiscardStore, MultipartStore};
use sealift::{ByteRange, Error, ErrorKind};

use super::bed::Bed;
use super::by_hand::{self, By};
use super::measure::{Amount, Claim, Limits, Row};
use super::on;
use crate::args::{Group, ReadMode};
use crate::exit::{Failure, Result};
use crate::source;

const READS: Limits = Limits {
    busy: "the CPU: AES rounds, GHASH, and the copy out of the page cache",
    waiting: "cores that others took, and handing over between threads",
};
const MAP: Limits = Limits {
    busy: "the CPU: AES rounds, GHASH, and mapping pages",
    waiting: "cores that others took, and handing over between threads",
};
const DISK: Limits =
    Limits { busy: "the CPU: sealing or opening, and copies from and to the page cache", waiting: "the disk" };
/// Reads of a MiB in one turn.
const RANGES: u64 = 40;

/// Sealed and dropped.
pub(super) fn dropped<'a>(bed: &'a Bed, rows: &mut Vec<Row<'a>>, claims: &mut Vec<Claim>) -> Result {
    let most = bed.most_threads();
    let checksums = || [(false, "", "")].into_iter();
    for &threads in &bed.threads {
        if threads != 1 && threads != most {
            continue;
        }
        // With checksums at full width only.
        let with = (threads == most).then_some((true, "-crc", ", CRC-64"));
        for (checksum, suffix, title) in checksums().chain(with) {
            for (by, name, limits) in [(By::Reads, "read", READS), (By::Map, "map", MAP)] {
                let engine = bed.engine(threads)?;
                let mut row = |what: &str, title: String, work: Box<dyn FnMut() -> Result + 'a>| {
                    let id = format!("file/{what}{name}{suffix}/{threads}");
                    let amount = Amount::Bytes(bed.size);
                    rows.push(Row { group: Group::File, id, name: title, threads, amount, limits, work });
                };
                row(
                    "hand-",
                    format!("by hand, {name}{title}"),
                    Box::new(move || by_hand::seal(&bed.file(), by, bed.backend, threads, checksum)),
                );
                row(
                    "",
                    format!("sealift, {name}{title}"),
                    Box::new(move || {
                        let options = UploadOptions { checksums: checksum, ..UploadOptions::default() };
                        let source = match by {
                            By::Reads => source::open_file(&bed.file(), ReadMode::Read, bed.backend)?,
                            By::Map => source::open_file(&bed.file(), ReadMode::Map, bed.backend)?,
                        };
                        bed.wait(bed.put_with(
                            &engine,
                            Arc::new(DiscardStore::new()),
                            "object".to_owned(),
                            source,
                            options,
                        ))
                    }),
                );
            }
            let ids = |what: &str| ["read", "map"].map(|name| format!("file/{what}{name}{suffix}/{threads}")).to_vec();
            claims.push(Claim::of_rows(
                format!("file sealed and dropped{title}, {}: of the better loop by hand", on(threads)),
                ids(""),
                ids("hand-"),
                Some(0.95),
            ));
        }
    }
    for (part_size, name) in [(1 << 20, "1 MiB"), (64 << 20, "64 MiB")] {
        let engine = bed.engine(most)?;
        rows.push(Row {
            group: Group::File,
            id: format!("file/part-{}m/{most}", part_size >> 20),
            name: format!("sealift, read, parts of {name}"),
            threads: most,
            amount: Amount::Bytes(bed.size),
            limits: READS,
            work: Box::new(move || {
                let options = UploadOptions { part_size: Some(part_size), ..UploadOptions::default() };
                let source: Box<dyn PartSource> = Box::new(FileSource::open(bed.file())?);
                bed.wait(bed.put_with(&engine, Arc::new(DiscardStore::new()), "object".to_owned(), source, options))
            }),
        });
    }
    Ok(())
}

/// Into a directory, and from there.
pub(super) fn directory<'a>(bed: &'a Bed, rows: &mut Vec<Row<'a>>, claims: &mut Vec<Claim>) -> Result {
    let most = bed.most_threads();
    let amount = Amount::Bytes(bed.size);
    let mut push = |what: &str, threads: usize, name: &str, limits, work: Box<dyn FnMut() -> Result + 'a>| {
        let id = format!("directory/{what}/{threads}");
        rows.push(Row { group: Group::Directory, id, name: name.to_owned(), threads, amount, limits, work });
    };
    let id = |what: &str, threads: usize| vec![format!("directory/{what}/{threads}")];

    let engine = bed.engine(most)?;
    let puts = Arc::new(DirStore::open(bed.new_dir("puts")?)?);
    push(
        "put",
        most,
        "sealift, synced",
        DISK,
        Box::new(move || {
            let source = source::open_file(&bed.file(), ReadMode::Auto, bed.backend)?;
            bed.wait(bed.put_into(&engine, puts.clone(), "object".to_owned(), source))
        }),
    );
    push(
        "hand-put",
        most,
        "by hand, synced",
        DISK,
        Box::new(move || by_hand::seal_to_file(&bed.file(), &bed.path("sealed-by-hand"), bed.backend, most)),
    );
    push("cp", 1, "cp, nothing sealed, synced", DISK, Box::new(move || cp_and_sync(bed)));
    claims.push(Claim::of_rows(
        format!("file into a directory, synced, {}: of the loop by hand", on(most)),
        id("put", most),
        id("hand-put", most),
        Some(0.9),
    ));
    claims.push(Claim::of_rows(
        "file into a directory, synced: of cp and sync".to_owned(),
        id("put", most),
        id("cp", 1),
        Some(0.85),
    ));

    let store = Arc::new(DirStore::open(bed.new_dir("store")?)?);
    let engine = bed.engine(most)?;
    bed.wait(bed.put_into(&engine, store.clone(), "object".to_owned(), Box::new(FileSource::open(bed.file())?)))?;
    let sealed = Arc::new(by_hand::Sealed::make(&bed.file(), bed.path("chunks-by-hand"), bed.backend)?);
    for threads in [1, most].into_iter().take(if most == 1 { 1 } else { 2 }) {
        let engine = bed.engine(threads)?;
        let reader = bed.wait(bed.open(&engine, store.clone(), "object"))?;
        let to_file = reader.clone();
        push(
            "open",
            threads,
            "sealift, opened and dropped",
            READS,
            Box::new(move || {
                bed.wait(reader.verify(None))?;
                Ok(())
            }),
        );
        let by_hand = Arc::clone(&sealed);
        push("hand-open", threads, "by hand, opened and dropped", READS, Box::new(move || by_hand.open(None, threads)));
        push(
            "get",
            threads,
            "sealift, opened into a file, synced",
            DISK,
            Box::new(move || {
                let options = GetOptions { overwrite: true, ..GetOptions::default() };
                bed.wait(to_file.write_to_file(&bed.path("opened"), options))?;
                Ok(())
            }),
        );
        let by_hand = Arc::clone(&sealed);
        push(
            "hand-get",
            threads,
            "by hand, opened into a file, synced",
            DISK,
            Box::new(move || by_hand.open(Some(&bed.path("opened-by-hand")), threads)),
        );
        for (what, about) in [("open", "opened and dropped"), ("get", "opened into a file, synced")] {
            claims.push(Claim::of_rows(
                format!("object {about}, {}: of the loop by hand", on(threads)),
                id(what, threads),
                id(&format!("hand-{what}"), threads),
                Some(if what == "open" { 0.95 } else { 0.9 }),
            ));
        }
    }
    Ok(())
}

/// A MiB here and there, of an object whose manifest is known.
pub(super) fn ranges<'a>(bed: &'a Bed, rows: &mut Vec<Row<'a>>, claims: &mut Vec<Claim>) -> Result {
    let len = bed.size.min(STRIPE as u64);
    let engine = bed.engine(bed.most_threads())?;
    let store = Arc::new(DirStore::open(bed.new_dir("ranges")?)?);
    bed.wait(bed.put_into(&engine, store.clone(), "object".to_owned(), Box::new(FileSource::open(bed.file())?)))?;
    let reader = bed.wait(bed.open(&engine, store.clone(), "object"))?;
    let mut push = |what: &str, name: &str, work: Box<dyn FnMut() -> Result + 'a>| {
        let limits = Limits { busy: "the CPU: copies, and opening", waiting: "handing over between threads" };
        let (id, amount) = (format!("range/{what}/1"), Amount::Items(RANGES, "ranges"));
        rows.push(Row { group: Group::Range, id, name: name.to_owned(), threads: 1, amount, limits, work });
    };
    push(
        "sealed",
        "sealift, 1 MiB authenticated",
        Box::new(move || {
            places(bed.size, len).try_for_each(|first| {
                black_box(bed.wait(reader.read_range(ByteRange::Inclusive { first, last: first + len - 1 }))?);
                Ok(())
            })
        }),
    );
    push(
        "plain",
        "the same store, 1 MiB as it is",
        Box::new(move || {
            places(bed.size, len).try_for_each(|first| {
                let range = ByteRange::Inclusive { first, last: first + len - 1 };
                black_box(bed.wait(get(store.as_ref(), "object", range))?);
                Ok(())
            })
        }),
    );
    let body = File::open(bed.path("ranges/object")).map_err(|e| Error::io("opening an object's file", e))?;
    push(
        "pread",
        "one system call",
        Box::new(move || {
            places(bed.size, len).try_for_each(|first| {
                let mut bytes = vec![0; len as usize];
                body.read_exact_at(&mut bytes, first).map_err(|e| Error::io("reading an object's file", e))?;
                black_box(bytes);
                Ok(())
            })
        }),
    );
    claims.push(Claim::of_rows(
        "range of 1 MiB: of the same store's plain range".to_owned(),
        vec!["range/sealed/1".to_owned()],
        vec!["range/plain/1".to_owned()],
        Some(1.0 / 1.1),
    ));
    Ok(())
}

/// All bytes of a range, as a store has them.
pub(super) async fn get(store: &dyn MultipartStore, key: &str, range: ByteRange) -> Result<Vec<u8>> {
    let got = store.get(&key.parse()?, Some(range), None).await?;
    let mut bytes = Vec::with_capacity((got.range.end - got.range.start) as usize);
    let mut body = got.body;
    while let Some(piece) = body.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Offsets all over, not aligned to anything.
pub(super) fn places(size: u64, len: u64) -> impl Iterator<Item = u64> {
    let room = size - len + 1;
    (1..=RANGES).map(move |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % room)
}

fn cp_and_sync(bed: &Bed) -> Result {
    let copy = bed.path("copied");
    for (program, args) in [("cp", vec![bed.file(), copy.clone()]), ("sync", vec![copy])] {
        let mut command = Command::new(program);
        // Sharing blocks is not copying. The flag is GNU's; elsewhere cp copies anyway.
        if program == "cp" && cfg!(target_os = "linux") {
            command.arg("--reflink=never");
        }
        let done = command.args(args).status().map_err(|e| Error::io(format!("running {program}"), e))?;
        if !done.success() {
            return Err(Failure::new(ErrorKind::Io, format!("{program} failed with {done}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_in_the_file() {
        for size in [STRIPE as u64, 3 * STRIPE as u64, 1 << 40] {
            assert!(places(size, STRIPE as u64).all(|at| at + STRIPE as u64 <= size));
        }
        assert_eq!(places(1 << 40, 1).count(), RANGES as usize);
    }
}

//! Uploads in progress: a folder each, with the body to be and a record of every stored part.
//!
//! A part is listed from when its record is written, and that is after its bytes are on the disk; where bytes are overwritten in place,
//! the old record is gone from the disk before the first of them. So a crash, even of the machine, never leaves a part listed that is
//! not whole, and losing a record costs sending that part again.
//!
//! Locks, all freed by the kernel when their file closes: every part that is written in place shares the lock on the upload's description
//! and holds that on its own record, so two attempts at one part never mix; Complete takes the description's alone, so nothing can still
//! be writing into a body that is published. A part with a file of its own takes them when its bytes are there: one that comes slowly, or
//! not at all, holds off nobody. Abort takes none: it unlinks what is there, and writers run out into files nobody sees.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::layout::{Place, Staging, cannot, random_name, record_number};
use super::publish::{check_free, create_dirs, publish, sync_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{CompletedPart, Properties, PutCondition, StoredPart};
use crate::types::{ETag, PartNumber, UploadId};

/// What an upload is for: `upload.json`. The key's last segment only, so that it means the same whatever root a store is opened at.
#[derive(serde::Serialize, serde::Deserialize)]
struct Description {
    name: String,
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

/// What is known of a stored part: the content of its record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Record {
    etag: ETag,
    len: u64,
    bytes: Whereabouts,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Whereabouts {
    /// In the staged body at this offset.
    Offset(u64),
    /// In a file of their own.
    File(String),
}

/// Makes the folder of a new upload. `durable` if it must survive the machine's crash.
pub(super) fn create(place: &Place, properties: &Properties, durable: bool) -> Result<(UploadId, Staging)> {
    properties.refuse_classes_and_tags("a directory")?;
    check_free(place)?;
    let id = UploadId(random_name()?);
    let staging = place.upload(&id)?;
    create_dirs(&place.uploads())?;
    fs::create_dir(&staging.0).map_err(cannot("create", &staging.0))?;
    let description = Description {
        name: place.name.clone(),
        metadata: properties.metadata.clone(),
        content_type: properties.content_type.clone(),
    };
    let json = serde_json::to_vec(&description)
        .map_err(|error| Error::new(ErrorKind::Internal, "an upload does not become JSON").with_source(error))?;
    let written = (|| {
        File::create_new(staging.body()).map_err(cannot("create", &staging.body()))?;
        // The description comes last: a folder without one is no upload.
        let mut file = File::create_new(staging.description()).map_err(cannot("create", &staging.description()))?;
        file.write_all(&json).map_err(cannot("write", &staging.description()))?;
        if durable {
            file.sync_all().map_err(cannot("write", &staging.description()))?;
            sync_dir(&staging.0)?;
            sync_dir(&place.uploads())?;
        }
        Ok(())
    })();
    match written {
        Ok(()) => Ok((id, staging)),
        Err(error) => {
            _ = remove(&staging);
            Err(error)
        }
    }
}

/// Removes an upload's folder. One that is gone already is a success.
pub(super) fn remove(staging: &Staging) -> Result<()> {
    let gone = |removed: io::Result<()>, path: &PathBuf| match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(error)),
        _ => Ok(()),
    };
    // The body first, so that no part can begin any more. The description last: until then the upload is listed, and a second abort
    // finds what the first left.
    gone(fs::remove_file(staging.body()), &staging.body())?;
    loop {
        match fs::read_dir(&staging.0) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(cannot("read", &staging.0))?.path();
                    if path != staging.description() {
                        gone(fs::remove_file(&path), &path)?;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(cannot("read", &staging.0)(error)),
        }
        gone(fs::remove_file(staging.description()), &staging.description())?;
        match fs::remove_dir(&staging.0) {
            // A part that began before its record was listed above. It finds no body next, so this ends.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            removed => return gone(removed, &staging.0),
        }
    }
}

/// A part whose turn it is: other attempts at it wait.
#[derive(Debug)]
pub(super) struct PartTurn {
    staging: Staging,
    /// Holds off Complete.
    _upload: File,
    /// Holds off other attempts.
    record: File,
    path: PathBuf,
}

impl PartTurn {
    /// Waits for it. Nothing is changed yet: whoever gave up while waiting must not undo what came before it.
    pub(super) fn wait(place: &Place, staging: Staging, number: PartNumber) -> Result<Self> {
        let (upload, _) = open_description(place, &staging)?;
        upload.lock_shared().map_err(cannot("lock", &staging.description()))?;
        let path = staging.record(number);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let record = open.map_err(|error| opening(&staging, &path, error))?;
        record.lock().map_err(cannot("lock", &path))?;
        // The upload may have ended while this waited.
        fs::metadata(staging.body()).map_err(|error| opening(&staging, &staging.body(), error))?;
        Ok(Self { staging, _upload: upload, record, path })
    }

    /// Makes ready for the part's bytes at `offset` of the body.
    pub(super) fn begin(self, offset: u64) -> Result<PartFile> {
        if self.recorded()?.is_some() {
            self.forget()?;
        }
        let path = self.staging.body();
        let file = OpenOptions::new().write(true).open(&path).map_err(|error| opening(&self.staging, &path, error))?;
        Ok(PartFile { turn: Turn::Held(self), file, path, start: offset })
    }

    /// Makes sure, on the disk too, that the part is not listed.
    fn forget(&self) -> Result<()> {
        self.record.set_len(0).and_then(|()| self.record.sync_all()).map_err(cannot("write", &self.path))
    }

    /// Records the part, whose bytes are on the disk: from now on it is stored.
    fn record(&self, len: u64, bytes: Whereabouts) -> Result<ETag> {
        let before = self.recorded()?;
        let record = Record { etag: ETag(random_name()?), len, bytes };
        let json = serde_json::to_vec(&record).map_err(|error| {
            Error::new(ErrorKind::Internal, "a part's record does not become JSON").with_source(error)
        })?;
        let mut file = &self.record;
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(&json))
            .map_err(cannot("write", &self.path))?;
        if let Some(Record { bytes: Whereabouts::File(before), .. }) = before {
            _ = fs::remove_file(self.staging.part(&before));
        }
        Ok(record.etag)
    }

    fn recorded(&self) -> Result<Option<Record>> {
        let mut json = Vec::new();
        (&self.record).seek(SeekFrom::Start(0)).map_err(cannot("read", &self.path))?;
        (&self.record).read_to_end(&mut json).map_err(cannot("read", &self.path))?;
        Ok(serde_json::from_slice(&json).ok())
    }
}

/// A part while its bytes come in.
#[derive(Debug)]
pub(super) struct PartFile {
    turn: Turn,
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Where in the file they begin.
    pub(super) start: u64,
}

/// When a part has its turn.
#[derive(Debug)]
enum Turn {
    /// From its beginning: it is written in place.
    Held(PartTurn),
    /// At its end: it has a file of this name.
    Later { place: Place, staging: Staging, number: PartNumber, name: String },
}

impl PartFile {
    /// Makes ready for a part's bytes in a file of their own.
    pub(super) fn apart(place: Place, staging: Staging, number: PartNumber) -> Result<Self> {
        open_description(&place, &staging)?;
        let name = format!("part-{:05}-{}", number.get(), random_name()?);
        let path = staging.part(&name);
        let file = File::create_new(&path).map_err(|error| opening(&staging, &path, error))?;
        // The upload may have ended, and whoever removes it may not have seen this file.
        if let Err(error) = fs::metadata(staging.body()) {
            _ = fs::remove_file(&path);
            return Err(opening(&staging, &staging.body(), error));
        }
        Ok(Self { turn: Turn::Later { place, staging, number, name }, file, path, start: 0 })
    }

    /// Records the part: from now on it is stored.
    pub(super) fn finish(&self, len: u64) -> Result<ETag> {
        self.file.sync_data().map_err(cannot("write", &self.path))?;
        match &self.turn {
            Turn::Held(turn) => turn.record(len, Whereabouts::Offset(self.start)),
            Turn::Later { place, staging, number, name } => {
                PartTurn::wait(place, staging.clone(), *number)?.record(len, Whereabouts::File(name.clone()))
            }
        }
    }

    /// After a failure: frees the space now, where it is the part's own.
    pub(super) fn discard(&self) {
        if matches!(self.turn, Turn::Later { .. }) {
            _ = fs::remove_file(&self.path);
        }
    }
}

fn opening(staging: &Staging, path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => staging.no_such_upload(),
        _ => cannot("open", path)(error),
    }
}

/// The stored parts, ascending by number.
pub(super) fn list_parts(staging: &Staging) -> Result<Vec<StoredPart>> {
    let body = body_len(staging)?;
    let parts = records(staging)?.into_iter().filter(|(_, record)| is_whole(staging, body, record));
    Ok(parts.map(|(number, record)| StoredPart { number, etag: record.etag, len: record.len }).collect())
}

/// Makes the body of the listed parts, and publishes it.
pub(super) fn complete(
    place: &Place,
    staging: &Staging,
    parts: &[CompletedPart],
    condition: PutCondition,
) -> Result<ETag> {
    let invalid = |message| Err(Error::new(ErrorKind::InvalidInput, message));
    if parts.is_empty() {
        return invalid("an object is made of at least one part");
    }
    if !parts.is_sorted_by(|a, b| a.number < b.number) {
        return invalid("the parts of an object are listed once each, ascending by number");
    }
    let (upload, description) = open_description(place, staging)?;
    upload.lock().map_err(cannot("lock", &staging.description()))?;
    let body = OpenOptions::new().read(true).write(true).open(staging.body()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => staging.no_such_upload(),
        _ => cannot("open", &staging.body())(error),
    })?;
    let body_len = body.metadata().map_err(cannot("look at", &staging.body()))?.len();

    let mut records = records(staging)?;
    let mut own_files = Vec::new();
    let mut end: u64 = 0;
    for part in parts {
        let changed =
            |why| Err(Error::new(ErrorKind::Changed, format!("cannot complete: {why}")).with_part(part.number));
        let Some(record) = records.remove(&part.number) else { return changed("it is not stored") };
        if record.etag != part.etag {
            return changed("it was stored again");
        }
        if !is_whole(staging, body_len, &record) {
            return changed("its bytes are gone");
        }
        match record.bytes {
            Whereabouts::Offset(offset) if offset != end => {
                return changed("it does not begin where the parts before it end");
            }
            Whereabouts::Offset(_) => {}
            Whereabouts::File(name) => own_files.push((staging.part(&name), end, record.len)),
        }
        let Some(next) = end.checked_add(record.len) else { return changed("the object is too long") };
        end = next;
    }

    // Parts that are not listed are given up here, because their bytes may be overwritten or cut off below; were this Complete to fail
    // after that, they must not be found.
    let unlisted: Vec<_> = records.into_keys().collect();
    for &number in &unlisted {
        let path = staging.record(number);
        fs::remove_file(&path).map_err(cannot("remove", &path))?;
    }
    if !unlisted.is_empty() {
        sync_dir(&staging.0)?;
    }
    for (path, offset, len) in own_files {
        let copied = File::open(&path).and_then(|mut from| {
            (&body).seek(SeekFrom::Start(offset))?;
            // In the kernel, and without copying at all where the file system can share blocks.
            io::copy(&mut from, &mut &body)
        });
        let copied = copied.map_err(cannot("join", &path))?;
        if copied != len {
            return Err(Error::new(ErrorKind::Changed, format!("{} changed while it was joined", path.display())));
        }
    }
    body.set_len(end).map_err(cannot("write", &staging.body()))?;
    let Description { metadata, content_type, .. } = description;
    let properties = Properties { metadata, content_type, ..Properties::default() };
    publish(place, staging, &body, &properties, condition)
}

/// Checks that an upload is there, and for this key.
pub(super) fn check(place: &Place, staging: &Staging) -> Result<()> {
    match name(staging)? {
        Some(name) if name == place.name => Ok(()),
        _ => Err(staging.no_such_upload()),
    }
}

/// The key's last segment that an upload is for, or `None` if the folder is no upload.
pub(super) fn name(staging: &Staging) -> Result<Option<String>> {
    match read_description(staging, OpenOptions::new().read(true)) {
        Ok((_, description)) => Ok(Some(description.name)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Malformed) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The description of an upload for this key, for locking.
fn open_description(place: &Place, staging: &Staging) -> Result<(File, Description)> {
    // Open for writing because NFS has no exclusive locks on files that are not.
    let (file, description) = read_description(staging, OpenOptions::new().read(true).write(true))?;
    if description.name != place.name {
        return Err(staging.no_such_upload());
    }
    Ok((file, description))
}

fn read_description(staging: &Staging, options: &OpenOptions) -> Result<(File, Description)> {
    let path = staging.description();
    let mut json = Vec::new();
    let file =
        options.open(&path).and_then(|mut file| file.read_to_end(&mut json).map(|_| file)).map_err(
            |error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => staging.no_such_upload(),
                _ => cannot("read", &path)(error),
            },
        )?;
    let description = serde_json::from_slice(&json).map_err(|error| {
        Error::new(ErrorKind::Malformed, format!("{} is damaged; abort the upload", path.display())).with_source(error)
    })?;
    Ok((file, description))
}

fn body_len(staging: &Staging) -> Result<u64> {
    match fs::metadata(staging.body()) {
        Ok(stat) => Ok(stat.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(staging.no_such_upload()),
        Err(error) => Err(cannot("look at", &staging.body())(error)),
    }
}

/// Every record that is complete. An empty one is of a part that is not stored; a torn one was being written when the machine crashed.
fn records(staging: &Staging) -> Result<BTreeMap<PartNumber, Record>> {
    let mut records = BTreeMap::new();
    let entries = fs::read_dir(&staging.0).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => staging.no_such_upload(),
        _ => cannot("read", &staging.0)(error),
    })?;
    for entry in entries {
        let entry = entry.map_err(cannot("read", &staging.0))?;
        let Some(number) = entry.file_name().to_str().and_then(record_number) else { continue };
        match fs::read(entry.path()) {
            Ok(json) => records.extend(serde_json::from_slice(&json).ok().map(|record| (number, record))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("read", &entry.path())(error)),
        }
    }
    Ok(records)
}

/// Whether a recorded part's bytes are there: after a crash, the record alone may be.
fn is_whole(staging: &Staging, body: u64, record: &Record) -> bool {
    match &record.bytes {
        // No bytes are nowhere, also behind a body that ends before them because other parts have files of their own.
        Whereabouts::Offset(_) if record.len == 0 => true,
        Whereabouts::Offset(offset) => offset.checked_add(record.len).is_some_and(|end| end <= body),
        Whereabouts::File(name) => fs::metadata(staging.part(name)).is_ok_and(|stat| stat.len() == record.len),
    }
}

//! A published body and the metadata that belongs to it: found together, or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::layout::{HEAD, Place, cannot};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::source::{ReadAt, SourceIdentity};
use crate::store::{ObjectInfo, Properties};
use crate::types::ETag;

/// How often a body is looked for anew because another took its place before its metadata was read.
const RETRIES: usize = 100;

/// An open body. What is read through it stays one state of the object, whatever is published meanwhile.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) file: File,
    pub(super) head: Vec<u8>,
    pub(super) info: ObjectInfo,
}

impl Body {
    /// Opens the body at `place` with its own metadata. A body that has none, because something else put it there, has no properties.
    pub(super) fn open(place: &Place) -> Result<Self> {
        for _ in 0..RETRIES {
            let (file, stat) = open(place)?;
            let head = head(&file).map_err(cannot("read", &place.body()))?;
            let properties = match read_metadata(&place.metadata(&head))? {
                Some(properties) => properties,
                // Publishing removes the metadata of the body it replaced: then there is another body now.
                None if is_still_there(place, &stat) => Properties::default(),
                None => continue,
            };
            let etag = etag(&stat, &head, &properties)?;
            let info =
                ObjectInfo { len: stat.len(), etag, modified: stat.modified().ok(), properties, encryption: None };
            return Ok(Self { file, head, info });
        }
        let message = format!("{} is being replaced all the time", place.body().display());
        Err(Error::new(ErrorKind::Changed, message).with_retry(Retry::Yes))
    }

    /// The bytes in `range`, which is no longer than a buffer should be.
    pub(super) fn read(&self, range: Range<u64>) -> Result<Bytes> {
        // Grown by the reads into spare capacity, not zeroed first.
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        let mut offset = range.start;
        while offset < range.end {
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), offset) {
                // The allocator may give more room than was asked for.
                Ok(n) if n > 0 => offset += n as u64,
                Ok(_) => return Err(shortened()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io("cannot read the body", error.into())),
            }
        }
        bytes.truncate(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        Ok(bytes.into())
    }
}

/// For the threads that open it.
impl ReadAt for Body {
    fn len(&self) -> u64 {
        self.info.len
    }

    fn read_at<'a>(&'a self, offset: u64, len: usize, scratch: &'a mut [u8]) -> Result<&'a [u8]> {
        let bytes = scratch
            .get_mut(..len)
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("the buffer is shorter than {len} bytes")))?;
        match self.file.read_exact_at(bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(shortened()),
            Err(error) => Err(Error::io("cannot read the body", error)),
        }
    }

    fn identity(&self) -> Option<SourceIdentity> {
        None
    }

    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }
}

fn shortened() -> Error {
    Error::new(ErrorKind::Changed, "the body was shortened while it was being read")
}

/// The first bytes of the body at `place`, if there is one.
pub(super) fn head_at(place: &Place) -> Result<Vec<u8>> {
    let (file, _) = open(place)?;
    head(&file).map_err(cannot("read", &place.body()))
}

/// A file's first [`HEAD`] bytes, or all of a shorter one.
pub(super) fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = [0; HEAD];
    let mut n = 0;
    while n < HEAD {
        match file.read_at(&mut head[n..], n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head[..n].to_vec())
}

/// Inode, length and time tell apart states of any file; a sealed body's salt tells it from every other even where an inode is used
/// again within one tick of the clock. Behind the dot is what tells apart states of the metadata.
pub(super) fn etag(stat: &Metadata, head: &[u8], properties: &Properties) -> Result<ETag> {
    let modified = i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
    let metadata = Sha256::digest(encode_metadata(properties)?);
    let metadata = base16ct::lower::encode_string(metadata.first_chunk::<8>().map_or(&[], <[u8; 8]>::as_slice));
    Ok(ETag(format!(
        "{:x}-{:x}-{modified:x}-{}.{metadata}",
        stat.ino(),
        stat.len(),
        base16ct::lower::encode_string(head)
    )))
}

/// Whether both are of one body, whatever metadata it had.
pub(super) fn is_same_body(a: &ETag, b: &ETag) -> bool {
    let body = |etag: &ETag| etag.0.rsplit_once('.').map(|(body, _)| body.to_owned());
    body(a).is_some() && body(a) == body(b)
}

pub(super) fn encode_metadata(properties: &Properties) -> Result<Vec<u8>> {
    let file = MetadataFile { metadata: properties.metadata.clone(), content_type: properties.content_type.clone() };
    serde_json::to_vec(&file)
        .map_err(|error| Error::new(ErrorKind::Internal, "metadata does not become JSON").with_source(error))
}

#[derive(serde::Serialize, serde::Deserialize)]
struct MetadataFile {
    metadata: std::collections::BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

fn open(place: &Place) -> Result<(File, Metadata)> {
    let path = place.body();
    let no_object = || Error::new(ErrorKind::NotFound, format!("there is no object at {}", path.display()));
    // Without O_NONBLOCK, opening a FIFO waits for a writer; it changes nothing about regular files.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(no_object());
        }
        Err(error) => return Err(cannot("open", &path)(error)),
    };
    let stat = file.metadata().map_err(cannot("look at", &path))?;
    if !stat.is_file() {
        return Err(no_object());
    }
    Ok((file, stat))
}

fn read_metadata(path: &Path) -> Result<Option<Properties>> {
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("read", path)(error)),
    };
    let file: MetadataFile = serde_json::from_slice(&json).map_err(|error| {
        Error::new(ErrorKind::Malformed, format!("{} is damaged; restore it from a backup", path.display()))
            .with_source(error)
    })?;
    Ok(Some(Properties { metadata: file.metadata, content_type: file.content_type, ..Properties::default() }))
}

/// Whether the file that was opened is the body now.
pub(super) fn is_still_there(place: &Place, was: &Metadata) -> bool {
    // The open descriptor keeps the inode's number from being used again.
    fs::metadata(place.body()).is_ok_and(|now| (now.dev(), now.ino()) == (was.dev(), was.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What publishing does, without the fsyncs that keep it from doing it often.
    #[test]
    fn a_body_that_is_replaced_all_the_time_is_never_read_without_its_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), &"a".parse().unwrap()).unwrap();
        fs::create_dir(place.folder()).unwrap();
        let publish = |n: u32| {
            let head = format!("{n:024}");
            let properties = Properties { metadata: [("n".to_owned(), n.to_string())].into(), ..Properties::default() };
            fs::write(place.metadata(head.as_bytes()), encode_metadata(&properties).unwrap()).unwrap();
            fs::write(dir.path().join("staged"), head).unwrap();
            fs::rename(dir.path().join("staged"), place.body()).unwrap();
            if n > 0 {
                fs::remove_file(place.metadata(format!("{:024}", n - 1).as_bytes())).unwrap();
            }
        };
        publish(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..3000).for_each(publish));
            while !writer.is_finished() {
                let body = Body::open(&place).unwrap();
                let n: u32 = body.info.properties.metadata.get("n").expect("its own metadata").parse().unwrap();
                assert_eq!(body.read(0..24).unwrap(), format!("{n:024}"));
            }
        });
    }
}

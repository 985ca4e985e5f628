//! What `put` and `resume` read.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use sealift::crypto::Backend;
use sealift::source::{FileSource, PartSource, ReadAt, ReadSpeeds, StreamSource};
use sealift::{Error, ErrorKind};

use crate::args::ReadMode;
use crate::exit::{Failure, Result};
use crate::sigbus::{self, WatchedMap};
use crate::url::Location;

/// Opens `path`: `-` is stdin, pipes and devices are read as streams, files at any offset.
pub(crate) async fn open(path: &Path, mode: ReadMode, backend: Backend) -> Result<Box<dyn PartSource>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(StreamSource::from_reader(tokio::io::stdin())));
    }
    let is_stream = fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_char_device() || kind.is_socket()
    });
    if is_stream {
        let file =
            tokio::fs::File::open(path).await.map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
        return Ok(Box::new(StreamSource::from_reader(file)));
    }
    if path.is_dir() {
        let message = format!("{} is a directory: put its files one by one, or what `tar` makes of it", path.display());
        return Err(Failure::new(ErrorKind::InvalidInput, message)
            .hint("for an object of each of its files: --recursive")
            .hint("for one object: tar c DIRECTORY | sealift put - URL"));
    }
    open_file(path, mode, backend).map_err(|failure| hint_if_missing(failure, path))
}

/// `failure` to open `path`, with where it was looked for if it is not there.
pub(crate) fn hint_if_missing(failure: Failure, path: &Path) -> Failure {
    if failure.kind() != ErrorKind::NotFound {
        return failure;
    }
    let is_url = path.to_str().is_some_and(|text| matches!(text.parse(), Ok(Location::Remote(_) | Location::Discard)));
    if is_url {
        return failure.hint("the file to seal comes first, and then where to store it: sealift put FILE URL");
    }
    match std::env::current_dir() {
        Ok(here) if path.is_relative() => failure.hint(format!("it was looked for in {}", here.display())),
        _ => failure,
    }
    .hint("what another program writes is sealed by: … | sealift put - URL")
}

/// Opens a regular file, to be sealed by `backend`.
pub(crate) fn open_file(path: &Path, mode: ReadMode, backend: Backend) -> Result<Box<dyn PartSource>> {
    Ok(match mode {
        ReadMode::Read => Box::new(FileSource::open(path)?),
        ReadMode::Map => Box::new(map(path)?),
        ReadMode::Auto => {
            let file = FileSource::open(path)?;
            match faster_map(&file, path, backend) {
                Some(map) => Box::new(map),
                None => Box::new(file),
            }
        }
    })
}

/// The file as a map, if sealing from one is faster than from reads of it.
fn faster_map(file: &FileSource, path: &Path, backend: Backend) -> Option<WatchedMap> {
    if ReadAt::len(file) < ReadSpeeds::SHORTEST {
        return None;
    }
    // Whatever fails here, reading it will say if it matters.
    let map = map(path).ok()?;
    let speeds = ReadSpeeds::measure(file, &map, backend).ok()??;
    let is_faster = speeds.map_is_faster();
    tracing::debug!(read = speeds.read, map = speeds.map, "{} the file", if is_faster { "mapping" } else { "reading" });
    is_faster.then_some(map)
}

/// The file as a map, with the message for a file that shrinks.
pub(crate) fn map(path: &Path) -> sealift::Result<WatchedMap> {
    sigbus::map(
        path,
        format!(
            "error: {} changed while it was being read: it became shorter\n\
             hint: what was uploaded cannot be used any more; `sealift uploads list` shows it, `sealift uploads abort ID` removes it\n",
            path.display()
        ),
    )
}

//! What `put` and `resume` read.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use sealift::source::{FileSource, PartSource, StreamSource};
use sealift::{Error, ErrorKind};

use crate::args::ReadMode;
use crate::exit::{Failure, Result};
use crate::sigbus;

/// Opens `path`: `-` is stdin, pipes and devices are read as streams, files at any offset.
pub(crate) async fn open(path: &Path, mode: ReadMode) -> Result<Box<dyn PartSource>> {
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
    open_file(path, mode)
}

/// Opens a regular file.
pub(crate) fn open_file(path: &Path, mode: ReadMode) -> Result<Box<dyn PartSource>> {
    Ok(match mode {
        ReadMode::Auto | ReadMode::Read => Box::new(FileSource::open(path)?),
        ReadMode::Map => Box::new(sigbus::map(
            path,
            format!(
                "error: {} changed while it was being read: it became shorter\n\
                 hint: what was uploaded cannot be used any more; `sealift uploads list` shows it, `sealift uploads abort ID` removes it\n",
                path.display()
            ),
        )?),
    })
}

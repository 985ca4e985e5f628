//! Where plaintext comes from: files that can be read at any offset, and streams that can be read once.

mod bytes;
mod file;
mod map;
mod probe;
mod stream;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::AsyncRead;

use crate::error::Result;

pub use bytes::BytesSource;
pub use file::FileSource;
pub use map::MapSource;
pub use probe::ReadSpeeds;
pub use stream::StreamSource;

/// What an upload reads.
#[allow(clippy::len_without_is_empty, reason = "of a stream nobody knows")]
pub trait PartSource: Send {
    /// Its length in bytes, if it is known beforehand.
    fn len(&self) -> Option<u64>;

    /// How it is read.
    fn open(self: Box<Self>) -> Access;
}

/// How a source is read.
pub enum Access {
    /// At any offset, many times, from several threads at once. Such an upload can be resumed.
    At(Arc<dyn ReadAt>),
    /// Once, in order.
    Once(Pin<Box<dyn AsyncRead + Send>>),
}

/// A source that can be read at any offset. Its calls block; they run on the engine's worker threads.
pub trait ReadAt: Send + Sync + fmt::Debug {
    /// Its length in bytes, from when it was opened.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `len` bytes at `offset`: either read into `scratch`, which has at least `len` bytes, or lent from where they lie.
    ///
    /// # Errors
    /// [`SourceChanged`](crate::ErrorKind::SourceChanged) if there are fewer bytes, [`SourceRead`](crate::ErrorKind::SourceRead)
    /// if they cannot be read.
    fn read_at<'a>(&'a self, offset: u64, len: usize, scratch: &'a mut [u8]) -> Result<&'a [u8]>;

    /// Whether reading `len` bytes at `offset` takes no longer than copying them: whether they are in memory. A few bytes that are need no
    /// other thread to be read.
    fn is_in_memory(&self, _offset: u64, _len: usize) -> bool {
        false
    }

    /// Whoever read `len` bytes at `offset` has done with them: what lends its bytes need not keep them at hand. They may be read again.
    fn release(&self, _offset: u64, _len: usize) {}

    /// What tells this state of the source from another, for the ledger. `None` if nothing does.
    fn identity(&self) -> Option<SourceIdentity>;

    /// Checks that the source is still what it was when it was opened.
    ///
    /// # Errors
    /// [`SourceChanged`](crate::ErrorKind::SourceChanged) if it is not.
    fn check_unchanged(&self) -> Result<()>;
}

/// What tells one state of a file from another: if any of these differ, it has changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceIdentity {
    /// Absolute path.
    #[serde(with = "path_bytes")]
    pub path: std::path::PathBuf,
    /// Length in bytes.
    pub len: u64,
    /// Modification time in nanoseconds since 1970.
    pub modified_ns: i128,
    /// Change time of the inode in nanoseconds since 1970.
    pub changed_ns: i128,
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// Paths are bytes. Those that are text are written as text, others as numbers.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => text.serialize(to),
            None => path.as_os_str().as_bytes().serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Text(PathBuf),
            Bytes(Vec<u8>),
        }
        Ok(match Spelling::deserialize(from)? {
            Spelling::Text(path) => path,
            Spelling::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn an_identity_of_any_path_comes_back_from_json() {
        for path in [OsStr::new("/plain/caf\u{e9}"), OsStr::from_bytes(b"/caf\xe9.tar")] {
            let identity = SourceIdentity {
                path: path.into(),
                len: 1,
                modified_ns: -2,
                changed_ns: i128::from(u64::MAX),
                device: 3,
                inode: 4,
            };
            let json = serde_json::to_string(&identity).unwrap();
            assert_eq!(serde_json::from_str::<SourceIdentity>(&json).unwrap(), identity);
        }
    }
}

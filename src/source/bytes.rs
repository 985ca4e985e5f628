//! Bytes in memory.

use std::sync::Arc;

use bytes::Bytes;

use super::{Access, PartSource, ReadAt, SourceIdentity};
use crate::error::{Error, ErrorKind, Result};

/// Bytes in memory, lent without a copy. They cannot change, but nothing tells them from others, so an upload from them cannot be
/// resumed by another process.
///
/// ```
/// use sealift::source::{BytesSource, ReadAt};
///
/// let source = BytesSource::new("twelve bytes");
/// assert_eq!(source.read_at(7, 5, &mut [])?, b"bytes");
/// # Ok::<(), sealift::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct BytesSource(Bytes);

impl BytesSource {
    /// A source of these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }
}

impl PartSource for BytesSource {
    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    fn open(self: Box<Self>) -> Access {
        Access::At(Arc::new(*self))
    }
}

impl ReadAt for BytesSource {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at<'a>(&'a self, offset: u64, len: usize, _scratch: &'a mut [u8]) -> Result<&'a [u8]> {
        usize::try_from(offset).ok().and_then(|start| self.0.get(start..start.checked_add(len)?)).ok_or_else(|| {
            Error::new(
                ErrorKind::SourceChanged,
                format!("there are no {len} bytes at {offset} in a source of {}", self.0.len()),
            )
        })
    }

    fn is_in_memory(&self, _: u64, _: usize) -> bool {
        true
    }

    fn identity(&self) -> Option<SourceIdentity> {
        None
    }

    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }
}

//! Bytes of an object as its store sends them, asked for again from where they broke off.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};

use crate::engine::Shared;
use crate::engine::retries::Retries;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::store::{MultipartStore, ObjectInfo};
use crate::types::{ByteRange, ObjectKey};

/// Where an object is, and the patience to read it with.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) store: &'a dyn MultipartStore,
    pub(crate) key: &'a ObjectKey,
    pub(crate) retries: &'a Retries,
}

/// One state of an object.
#[derive(Clone, Copy)]
pub(super) struct Fetch<'a> {
    pub(super) origin: Origin<'a>,
    /// What it was when it was opened. If it has another ETag now, nothing more is read.
    pub(super) info: &'a ObjectInfo,
    /// All of its body, if opening it brought that: then nothing is asked for.
    pub(super) whole: Option<&'a Bytes>,
}

impl<'a> Fetch<'a> {
    /// Asks for `range`, which is not empty.
    pub(super) async fn range(self, range: Range<u64>) -> Result<Body<'a>> {
        if let Some(whole) = self.whole {
            let rest = slice(whole, &range).ok_or_else(wrong_length)?;
            return Ok(Body { fetch: self, left: range.end..range.end, stream: None, rest, failures: 0 });
        }
        let mut body = Body { fetch: self, left: range, stream: None, rest: Bytes::new(), failures: 0 };
        body.connect().await?;
        Ok(body)
    }

    async fn ask(self, range: &Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let asked = ByteRange::Inclusive { first: range.start, last: range.end.saturating_sub(1) };
        let Origin { store, key, .. } = self.origin;
        let got = store.get(key, Some(asked), Some(&self.info.etag)).await?;
        if got.range != *range || got.info.len != self.info.len {
            return Err(unexpected_range(key));
        }
        Ok(got.body)
    }
}

/// A range that is on its way, read in pieces of the reader's own size.
pub(super) struct Body<'a> {
    fetch: Fetch<'a>,
    /// What the store has not sent yet.
    left: Range<u64>,
    stream: Option<BoxStream<'static, Result<Bytes>>>,
    rest: Bytes,
    /// Failures since anything came.
    failures: u32,
}

impl Body<'_> {
    /// Fills `out`.
    pub(super) async fn read(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            if self.rest.is_empty() {
                self.rest = self.next().await?;
                continue;
            }
            let n = out.len().min(self.rest.len());
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&self.rest.split_to(n));
            out = later;
        }
        Ok(())
    }

    /// The next bytes, as many as the store gives at once: at least one.
    pub(super) async fn piece(&mut self) -> Result<Bytes> {
        loop {
            let bytes = if self.rest.is_empty() { self.next().await? } else { std::mem::take(&mut self.rest) };
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }

    /// Makes sure that nothing follows. That the connection fails when all is there is no matter.
    pub(super) async fn end(mut self) -> Result<()> {
        self.fetch.origin.retries.succeeded();
        while self.rest.is_empty() {
            match self.stream.as_mut() {
                Some(stream) => match stream.next().await {
                    Some(Ok(bytes)) => self.rest = bytes,
                    Some(Err(_)) | None => return Ok(()),
                },
                None => return Ok(()),
            }
        }
        Err(wrong_length())
    }

    async fn next(&mut self) -> Result<Bytes> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.connect().await?;
                continue;
            };
            let error = match stream.next().await {
                Some(Ok(bytes)) => {
                    self.left.start = self.left.start.saturating_add(bytes.len() as u64);
                    if self.left.start > self.left.end {
                        return Err(wrong_length());
                    }
                    self.failures = 0;
                    return Ok(bytes);
                }
                Some(Err(error)) => error,
                None => wrong_length(),
            };
            self.stream = None;
            self.wait(error).await?;
        }
    }

    async fn connect(&mut self) -> Result<()> {
        if self.left.is_empty() {
            return Err(wrong_length());
        }
        while self.stream.is_none() {
            match self.fetch.ask(&self.left).await {
                Ok(stream) => self.stream = Some(stream),
                Err(error) => self.wait(error).await?,
            }
        }
        Ok(())
    }

    async fn wait(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        let Origin { retries, shared, .. } = self.fetch.origin;
        retries.wait(shared, self.failures, error).await
    }
}

fn slice(whole: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
    whole.get(range).map(|part| whole.slice_ref(part))
}

pub(super) fn unexpected_range(key: &ObjectKey) -> Error {
    Error::new(ErrorKind::Io, format!("the store answered with another range of {key} than it was asked for"))
}

pub(super) fn wrong_length() -> Error {
    Error::new(ErrorKind::Io, "the store sent another number of bytes than it announced").with_retry(Retry::Yes)
}

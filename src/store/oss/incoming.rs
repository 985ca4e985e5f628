//! Bodies on their way here: as many bytes as announced, or an error.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use reqwest::Response;
use reqwest::header::{CONTENT_RANGE, HeaderMap};

use super::errors::{timed_out, transport};
use crate::crypto::Crc64;
use crate::error::{Error, ErrorKind, Result, Retry};

/// The bytes of an answer. `crc64` is the checksum they must have, if it is known; each piece may take `patience`.
pub(super) fn incoming(
    response: Response,
    range: &Range<u64>,
    crc64: Option<u64>,
    patience: Duration,
    doing: String,
) -> BoxStream<'static, Result<Bytes>> {
    let left = range.end.saturating_sub(range.start);
    let state = Incoming { response, left, crc64, crc: Crc64::new(), patience, doing };
    stream::try_unfold(Some(state), async |state| {
        let Some(mut state) = state else { return Ok(None) };
        Ok(state.next().await?.map(|piece| (piece, Some(state))))
    })
    .boxed()
}

struct Incoming {
    response: Response,
    left: u64,
    crc64: Option<u64>,
    crc: Crc64,
    patience: Duration,
    doing: String,
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let piece = tokio::time::timeout(self.patience, self.response.chunk()).await;
        let piece = piece.map_err(|_| timed_out(&self.doing))?.map_err(|error| transport(&self.doing, error))?;
        let failed = |what| Err(Error::new(ErrorKind::Io, format!("{}: {what}", self.doing)).with_retry(Retry::Yes));
        match piece {
            None if self.left > 0 => failed("OSS's answer ended early"),
            None if self.crc64.is_some_and(|crc64| crc64 != self.crc.value()) => {
                failed("what came has another CRC-64 than the object that OSS has")
            }
            None => Ok(None),
            Some(piece) => {
                let Some(left) = self.left.checked_sub(piece.len() as u64) else {
                    return failed("OSS's answer is longer than it announced");
                };
                self.left = left;
                if self.crc64.is_some() {
                    self.crc.update(&piece);
                }
                Ok(Some(piece))
            }
        }
    }
}

/// The bytes that an answer of part of an object has, and the length of all of it: `bytes FIRST-LAST/LENGTH`.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, len) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, end, len) = (number(first)?, number(last)?.checked_add(1)?, number(len)?);
    (first < end && end <= len).then_some((first..end, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_consistent_or_nothing() {
        let range = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(range("bytes 0-9/10"), Some((0..10, 10)));
        assert_eq!(range("bytes 3-3/10"), Some((3..4, 10)));
        for bad in
            ["bytes 0-10/10", "bytes 5-4/10", "bytes */10", "0-9/10", "bytes 0-18446744073709551615/10", "bytes 0-9/*"]
        {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}

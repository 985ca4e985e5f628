//! Short ranges: opened as their bytes come, each chunk straight from where the store put it to where its reader wants it.
//!
//! A chunk takes 2 µs to open, waking a thread and being woken by it many times that, and a copy of a MiB about as long as opening it. So
//! what a network brings is opened on the task that waits for it, and what is on a disk of this machine by the threads that wait for the
//! disk.

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::OwnedSemaphorePermit;

use super::Inner;
use crate::crypto::{CHUNK, Opener, SEALED_CHUNK, STRIPE, STRIPE_CHUNKS, TAG};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Piece;

/// The longest range that is short.
const SHORT: u64 = 2 * STRIPE as u64;
/// Sealed bytes that are opened before others on the same thread get their turn: some 30 µs.
const TURN: usize = 256 * 1024;
/// Sealed bytes that are read from this machine's disk before they are opened.
const AT_ONCE: usize = 16 * SEALED_CHUNK;
/// Of how many parts it may be, each of which takes a request.
const PARTS: usize = 4;

impl Inner {
    /// The pieces of `range`, if it is short.
    pub(super) fn short_pieces(&self, range: &Range<u64>) -> Option<Vec<Piece>> {
        if range.is_empty() || range.end - range.start > SHORT {
            return None;
        }
        let pieces: Vec<_> = self.layout.pieces(range.clone()).take(PARTS + 1).collect();
        (pieces.len() <= PARTS).then_some(pieces)
    }

    /// The plaintext of a short `range`, which `pieces` are all of.
    pub(super) async fn read_short(self: &Arc<Self>, range: Range<u64>, pieces: &[Piece]) -> Result<Vec<u8>> {
        // What the store has sent and is not opened yet is in the budget, as it is for long ranges.
        let chunks: u64 = pieces.iter().map(|piece| piece.chunks.end - piece.chunks.start).sum();
        let credits = u32::try_from(chunks.div_ceil(STRIPE_CHUNKS as u64)).unwrap_or(u32::MAX);
        let credits = Arc::new(self.shared.buffers.credits(credits).await?);
        if self.is_direct() {
            let read = || self.read_direct(&range, &credits);
            if let Some(plain) = self.retries.run(&self.shared, read).await? {
                return Ok(plain);
            }
        }
        let mut out = vec![0; len_of(&range)?];
        let mut rest = out.as_mut_slice();
        let mut opening = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let (own, others) = rest.split_at_mut_checked(piece.take as usize).ok_or_else(bug)?;
            rest = others;
            opening.push(self.open_piece(piece, own));
        }
        futures::future::try_join_all(opening).await?;
        Ok(out)
    }

    /// The same from a store on this machine, if it lets itself be read like that. More than a little is read by two threads.
    async fn read_direct(
        self: &Arc<Self>,
        range: &Range<u64>,
        credits: &Arc<OwnedSemaphorePermit>,
    ) -> Result<Option<Vec<u8>>> {
        let read = |range: Range<u64>, mut out: BytesMut| {
            let (inner, credits) = (Arc::clone(self), Arc::clone(credits));
            self.shared.workers.blocking(move || {
                let _until_read = credits;
                Ok(inner.read_into(range, &mut out)?.then_some(out))
            })
        };
        let len = len_of(range)?;
        let mut plain = BytesMut::zeroed(len);
        if len < TURN {
            return Ok(read(range.clone(), plain).await?.map(Vec::from));
        }
        let (half, middle) = (plain.split_off(len / 2), range.start + len as u64 / 2);
        match futures::future::try_join(read(range.start..middle, plain), read(middle..range.end, half)).await? {
            (Some(mut plain), Some(half)) => {
                plain.unsplit(half);
                Ok(Some(plain.into()))
            }
            _ => Ok(None),
        }
    }

    /// Fills `out` with the plaintext of `range`. May block for a disk. False if the store cannot be read like that.
    fn read_into(&self, range: Range<u64>, mut out: &mut [u8]) -> Result<bool> {
        let Some(body) = self.direct_body()? else { return Ok(false) };
        let mut sealed = vec![0; AT_ONCE];
        for piece in self.layout.pieces(range) {
            let (own, others) = out.split_at_mut_checked(piece.take as usize).ok_or_else(bug)?;
            out = others;
            let mut opening = Opening::new(&piece, self.opener_at(piece.part, body.as_ref())?, own);
            let mut at = piece.sealed.start;
            while at < piece.sealed.end {
                let len = (piece.sealed.end - at).min(AT_ONCE as u64);
                let bytes = body.read_at(at, len as usize, &mut sealed)?;
                opening.take(bytes).map_err(|e| self.named(&piece, e))?;
                at += len;
            }
        }
        Ok(true)
    }

    /// `error`, said of the part that `piece` is of.
    fn named(&self, piece: &Piece, error: Error) -> Error {
        let part = self.layout.parts().get(piece.part).map(|part| part.number);
        error.while_doing(part.map_or_else(|| self.key.to_string(), |part| format!("{} (part {part})", self.key)))
    }

    async fn open_piece(&self, piece: &Piece, out: &mut [u8]) -> Result<()> {
        let (mut body, opener) = self.begin(piece.part, piece.chunks.start, &piece.sealed).await?;
        let mut opening = Opening::new(piece, opener, out);
        while opening.left > 0 {
            let bytes = body.piece().await?;
            for (n, block) in bytes.chunks(TURN).enumerate() {
                if n > 0 {
                    tokio::task::yield_now().await;
                }
                opening.take(block).map_err(|e| self.named(piece, e))?;
            }
        }
        body.end().await
    }
}

/// A piece that is being opened as its bytes come, in blocks of any length.
struct Opening<'a> {
    opener: Arc<Opener>,
    /// The next chunk.
    chunk: u64,
    /// Sealed bytes that have not come yet.
    left: u64,
    /// Whether the piece ends with its message's last chunk.
    last: bool,
    /// Plaintext to be dropped at the front.
    skip: usize,
    /// The beginning of a chunk whose end has not come yet.
    split: Vec<u8>,
    /// For a chunk of which not all is wanted.
    scratch: Vec<u8>,
    out: &'a mut [u8],
}

impl<'a> Opening<'a> {
    fn new(piece: &Piece, opener: Arc<Opener>, out: &'a mut [u8]) -> Self {
        let (chunk, left) = (piece.chunks.start, piece.sealed.end - piece.sealed.start);
        let (last, skip) = (piece.last, piece.skip);
        Self { opener, chunk, left, last, skip, split: Vec::new(), scratch: Vec::new(), out }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let had = self.split.len() as u64;
            let len = usize::try_from((self.left + had).min(SEALED_CHUNK as u64)).map_err(|_| bug())?;
            let missing = len.saturating_sub(self.split.len()).min(bytes.len());
            let (now, later) = bytes.split_at_checked(missing).ok_or_else(bug)?;
            if now.is_empty() {
                return Err(bug()); // More than was asked for, which `Body` does not give.
            }
            self.left -= now.len() as u64;
            bytes = later;
            if now.len() == len {
                self.open(now)?;
                continue;
            }
            self.split.extend_from_slice(now);
            if self.split.len() == len {
                let split = std::mem::take(&mut self.split);
                self.open(&split)?;
                self.split = split;
                self.split.clear();
            }
        }
        Ok(())
    }

    /// Opens one whole chunk.
    fn open(&mut self, sealed: &[u8]) -> Result<()> {
        let is_last = self.last && self.left == 0;
        let len = sealed.len().saturating_sub(TAG);
        let from = self.skip.min(len);
        let take = (len - from).min(self.out.len());
        let (out, rest) = std::mem::take(&mut self.out).split_at_mut_checked(take).ok_or_else(bug)?;
        if take == len {
            self.opener.open(self.chunk, sealed, is_last, out)?;
        } else {
            self.scratch.resize(CHUNK, 0);
            let plain = self.scratch.get_mut(..len).ok_or_else(bug)?;
            self.opener.open(self.chunk, sealed, is_last, plain)?;
            out.copy_from_slice(plain.get(from..from + take).ok_or_else(bug)?);
        }
        self.out = rest;
        self.skip -= from;
        self.chunk += 1;
        Ok(())
    }
}

fn len_of(range: &Range<u64>) -> Result<usize> {
    usize::try_from(range.end - range.start).map_err(|_| bug())
}

fn bug() -> Error {
    Error::new(ErrorKind::Internal, "a short range was not as long as its pieces")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Backend, DataKey, HEADER, seal_message};

    #[test]
    fn chunks_may_come_in_any_pieces_and_be_wanted_in_part() {
        let (key, plain) =
            (DataKey::random().unwrap(), (0..3 * CHUNK + 5).map(|i| (i * 31 / 7) as u8).collect::<Vec<_>>());
        let sealed = seal_message(Backend::default(), &key, b"context", &plain).unwrap();
        let opener = Opener::begin(Backend::default(), &key, b"context", sealed.first_chunk().unwrap()).unwrap();
        let opener = Arc::new(opener);
        let open =
            |sealed: &[u8], first: usize, last: bool, skip: usize, take: usize, step: usize| -> Result<Vec<u8>> {
                let mut out = vec![0; take];
                let left = sealed.len() as u64;
                let (opener, chunk) = (Arc::clone(&opener), first as u64);
                let (split, scratch) = (Vec::new(), Vec::new());
                let mut opening = Opening { opener, chunk, left, last, skip, split, scratch, out: &mut out };
                sealed.chunks(step).try_for_each(|piece| opening.take(piece))?;
                assert!(opening.left == 0 && opening.out.is_empty());
                Ok(out)
            };
        for step in [1, 15, 16, 4096, SEALED_CHUNK - 1, SEALED_CHUNK, SEALED_CHUNK + 1, sealed.len()] {
            for first in 0..=3 {
                for end in first + 1..=4 {
                    let last = end == 4;
                    let from = HEADER + first * SEALED_CHUNK;
                    let to = if last { sealed.len() } else { HEADER + end * SEALED_CHUNK };
                    let of = &plain[first * CHUNK..plain.len().min(end * CHUNK)];
                    for (skip, drop) in [(0, 0), (1, 0), (0, 1), (3, 2)] {
                        let want = &of[skip..of.len() - drop];
                        assert_eq!(open(&sealed[from..to], first, last, skip, want.len(), step).unwrap(), want);
                    }
                }
            }
        }
        let mut altered = sealed[HEADER..].to_vec();
        altered[SEALED_CHUNK + 7] ^= 1;
        let refused = open(&altered, 0, true, 0, plain.len(), 1000).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Authentication);
        assert!(
            open(&sealed[HEADER..], 0, false, 0, plain.len(), 1000).is_err(),
            "the last chunk is sealed as the last"
        );
    }
}

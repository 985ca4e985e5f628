//! Sealed parts that are held until the store has them, and the payloads made of them: the same bytes as often as they are asked for.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};

use super::Shared;
use super::spool::SpooledPart;
use crate::store::Payload;
use crate::upload::{SealedPart, TailPiece};

/// A part, sealed.
pub(crate) struct HeldPart {
    pub(crate) bytes: HeldBytes,
    pub(crate) sealed: SealedPart,
}

/// Where its bytes are.
pub(crate) enum HeldBytes {
    Memory(Vec<Bytes>),
    Spooled(Arc<SpooledPart>),
}

impl HeldBytes {
    /// All of a part. What is not in memory is read while it is sent, at most `window` stripes ahead of whoever takes them.
    pub(crate) fn payload(&self, shared: &Arc<Shared>, window: u32) -> Payload {
        match self {
            Self::Memory(segments) => Payload::held(segments.clone()),
            Self::Spooled(part) => Payload::produced(part.len(), part.read(shared, 0..part.len(), window)),
        }
    }
}

/// A piece of the tail: the part that is held back, if one is, then the trailer.
pub(crate) fn tail_payload(
    part: Option<&HeldBytes>,
    trailer: &Bytes,
    piece: TailPiece,
    shared: &Arc<Shared>,
    window: u32,
) -> Payload {
    let Some(HeldBytes::Spooled(part)) = part else {
        let mut segments = match part {
            Some(HeldBytes::Memory(segments)) => segments.clone(),
            _ => Vec::new(),
        };
        segments.push(trailer.clone());
        return Payload::held(cut(segments, piece));
    };
    let (end, total) = (part.len(), part.len() + trailer.len() as u64);
    let wanted = wanted(piece, total);
    let in_trailer = |at: u64| (at.max(end) - end) as usize;
    let rest = trailer.slice(in_trailer(wanted.start)..in_trailer(wanted.end));
    let rest = (!rest.is_empty()).then_some(Ok(rest));
    // Two pieces may be sent at once, with one part's credits.
    let window = if piece == TailPiece::Whole { window } else { window / 2 };
    let in_part = wanted.start.min(end)..wanted.end.min(end);
    Payload::produced(wanted.end - wanted.start, part.read(shared, in_part, window.max(1)).chain(stream::iter(rest)))
}

fn wanted(piece: TailPiece, total: u64) -> Range<u64> {
    match piece {
        TailPiece::Whole => 0..total,
        TailPiece::First(len) => 0..len.min(total),
        TailPiece::Second(from) => from.min(total)..total,
    }
}

/// The segments of the tail that go into one upload part.
fn cut(segments: Vec<Bytes>, piece: TailPiece) -> Vec<Bytes> {
    let wanted = wanted(piece, segments.iter().map(|segment| segment.len() as u64).sum());
    let mut at = 0;
    let mut out = Vec::new();
    for segment in segments {
        let (start, end) = (at, at + segment.len() as u64);
        at = end;
        let from = wanted.start.clamp(start, end) - start;
        let to = wanted.end.clamp(start, end) - start;
        if from < to {
            out.push(segment.slice(from as usize..to as usize));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::super::Engine;
    use super::super::spool::tests::spooled;
    use super::*;

    #[test]
    fn a_tail_is_cut_where_the_store_wants_it() {
        let segments = || vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defg"), Bytes::from_static(b"h")];
        let text = |piece| cut(segments(), piece).concat();
        assert_eq!(text(TailPiece::Whole), b"abcdefgh");
        for at in 0..=8 {
            let whole = [text(TailPiece::First(at)), text(TailPiece::Second(at))];
            assert_eq!(whole.concat(), b"abcdefgh");
            assert_eq!(whole[0].len() as u64, at);
        }
    }

    #[tokio::test]
    async fn a_tail_in_a_spool_is_cut_there_too() {
        let engine = Engine::builder().threads(1).build().unwrap();
        let part = HeldBytes::Spooled(Arc::new(spooled(b"abcdefg")));
        let trailer = Bytes::from_static(b"hij");
        let text = async |piece| {
            let payload = tail_payload(Some(&part), &trailer, piece, engine.shared(), 2);
            let announced = payload.len();
            let bytes = payload.try_collect::<Vec<_>>().await.unwrap().concat();
            assert_eq!(bytes.len() as u64, announced);
            bytes
        };
        assert_eq!(text(TailPiece::Whole).await, b"abcdefghij");
        for at in 0..=10 {
            let whole = [text(TailPiece::First(at)).await, text(TailPiece::Second(at)).await];
            assert_eq!(whole.concat(), b"abcdefghij");
            assert_eq!(whole[0].len() as u64, at);
        }
    }
}

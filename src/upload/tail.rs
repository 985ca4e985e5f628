//! The upload parts that hold the trailer: one, or two where parts must be equal.

use std::collections::BTreeMap;

use super::plan::PartPlan;
use super::protocol::{PutBody, SealedPart, TailPiece};
use crate::types::{ETag, PartNumber};

/// The end of the body. It is sealed once, so that its pieces are always of one sealing. Where nothing is sealed, there is none.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    part: Option<PartNumber>,
    pieces: BTreeMap<PartNumber, Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    which: TailPiece,
    /// Where it begins in the finished object.
    offset: u64,
    /// Known once it is stored.
    etag: Option<ETag>,
}

impl Tail {
    /// Cuts the part that is held back and a trailer of `trailer_len` bytes into upload parts, behind those that are
    /// stored: all others.
    pub(super) fn new<'a>(
        plan: &PartPlan,
        stored: impl Iterator<Item = &'a SealedPart>,
        held_back: Option<&SealedPart>,
        trailer_len: u64,
    ) -> Self {
        let stored_len = |part: &SealedPart| plan.stored_len(part.len);
        let (last, offset) = stored.fold((None, 0), |(_, offset), part| (Some(part.number), offset + stored_len(part)));
        let first = last.map_or(PartNumber::MIN, after);
        let len = held_back.map_or(0, stored_len) + trailer_len;
        if len == 0 && last.is_some() {
            return Self { part: None, pieces: BTreeMap::new() };
        }
        // Without any part there is no object, so one that is empty and not sealed is an empty part.
        let cut = plan.common_sealed_len().filter(|common| {
            // A trailer that comes alone is the last part, of any length: stores that want equal parts want long ones.
            held_back.is_some() && len > *common
        });
        let piece = |which, offset| Piece { which, offset, etag: None };
        let pieces = match cut {
            None => BTreeMap::from([(first, piece(TailPiece::Whole, offset))]),
            Some(cut) => BTreeMap::from([
                (first, piece(TailPiece::First(cut), offset)),
                (after(first), piece(TailPiece::Second(cut), offset + cut)),
            ]),
        };
        Self { part: held_back.map(|part| part.number), pieces }
    }

    pub(super) fn upload_parts(&self) -> impl Iterator<Item = PartNumber> + '_ {
        self.pieces.keys().copied()
    }

    /// Body and offset of an upload part.
    pub(super) fn body(&self, upload_part: PartNumber) -> Option<(PutBody, u64)> {
        let piece = self.pieces.get(&upload_part)?;
        Some((PutBody::Tail { part: self.part, piece: piece.which }, piece.offset))
    }

    pub(super) fn stored(&mut self, upload_part: PartNumber, etag: ETag) {
        if let Some(piece) = self.pieces.get_mut(&upload_part) {
            piece.etag = Some(etag);
        }
    }

    /// The ETags of all pieces, once all are stored.
    pub(super) fn etags(&self) -> Option<Vec<(PartNumber, ETag)>> {
        self.pieces.iter().map(|(number, piece)| Some((*number, piece.etag.clone()?))).collect()
    }
}

fn after(part: PartNumber) -> PartNumber {
    part.next().expect("a plan leaves a number for the trailer")
}

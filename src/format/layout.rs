//! Where everything lies: from a range of plaintext to parts, to chunks, to bytes of the body, all by arithmetic.

use std::ops::Range;

use super::Manifest;
use crate::crypto;
use crate::types::{PartNumber, Salt};

const CHUNK: u64 = crypto::CHUNK as u64;
const HEADER: u64 = crypto::HEADER as u64;
const TAG: u64 = crypto::TAG as u64;

/// Where each part of an object lies, in the plaintext and in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    parts: Vec<PartLayout>,
    plain_len: u64,
}

/// Where one part lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartLayout {
    /// Its number.
    pub number: PartNumber,
    /// The salt its header must have.
    pub salt: Salt,
    /// Its bytes of the object's plaintext. Never empty.
    pub plain: Range<u64>,
    /// Its bytes of the object's body: 56 bytes of header, then its chunks.
    pub sealed: Range<u64>,
    /// How many chunks it has: the last is always shorter than the others, and empty if they suffice.
    pub chunks: u64,
}

/// A run of chunks of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the part in [`Layout::parts`].
    pub part: usize,
    /// Which chunks of the part, counted from 0.
    pub chunks: Range<u64>,
    /// Those chunks' bytes of the object's body; the part's header is not among them.
    pub sealed: Range<u64>,
    /// Whether the part's last chunk is among them, which must open as the last.
    pub last: bool,
    /// How many plaintext bytes to drop at the front: fewer than a chunk has.
    pub skip: usize,
    /// How many plaintext bytes to take after those.
    pub take: u64,
}

impl Layout {
    /// The layout that a manifest describes.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let (mut plain, mut sealed) = (0, 0);
        let parts = manifest
            .parts()
            .iter()
            .map(|part| {
                let layout = PartLayout::at(part.number, part.salt, plain, sealed, part.len);
                (plain, sealed) = (layout.plain.end, layout.sealed.end);
                layout
            })
            .collect();
        Self { parts, plain_len: plain }
    }

    /// Length of the object in plaintext bytes.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// The parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[PartLayout] {
        &self.parts
    }

    /// What to read and open for a range of plaintext: one piece for each part it touches, in order. What of `range`
    /// lies past the end is left out.
    ///
    /// A piece that reaches its part's end includes the last chunk even if that is empty, so that reading all of an
    /// object authenticates all of it.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + '_ {
        let range = range.start..range.end.min(self.plain_len);
        let first = self.parts.partition_point(|part| part.plain.end <= range.start);
        let past = if range.is_empty() { 0 } else { self.parts.partition_point(|part| part.plain.start < range.end) };
        self.parts.iter().enumerate().take(past).skip(first).map(move |(index, part)| part.piece(index, &range))
    }
}

// A layout is made of a manifest that was checked: 10,000 parts of at most 5 GiB end below 2^46, and ranges are clamped
// to them.
#[expect(clippy::arithmetic_side_effects, reason = "bounded by the manifest's rules, see above")]
impl PartLayout {
    fn at(number: PartNumber, salt: Salt, plain: u64, sealed: u64, len: u64) -> Self {
        let chunks = len / CHUNK + 1;
        let sealed_len = HEADER + len + chunks * TAG;
        Self { number, salt, plain: plain..plain + len, sealed: sealed..sealed + sealed_len, chunks }
    }

    /// The piece of this part that holds `range` of the object, which begins before this part's end and ends after its
    /// beginning.
    fn piece(&self, index: usize, range: &Range<u64>) -> Piece {
        let from = range.start.max(self.plain.start) - self.plain.start;
        let to = range.end.min(self.plain.end) - self.plain.start;
        let chunks = from / CHUNK..if range.end >= self.plain.end { self.chunks } else { (to - 1) / CHUNK + 1 };
        let last = chunks.end == self.chunks;

        let chunk_at = |chunk: u64| self.sealed.start + HEADER + chunk * (CHUNK + TAG);
        let end = if last { self.sealed.end } else { chunk_at(chunks.end) };
        Piece {
            part: index,
            sealed: chunk_at(chunks.start)..end,
            chunks,
            last,
            skip: (from % CHUNK) as usize,
            take: to - from,
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "in a test, a panic is the report")]
mod tests {
    use super::*;
    use crate::format::{MAX_PART_PLAIN, ManifestPart};

    fn layout(lens: &[u64]) -> Layout {
        let part = |(i, &len): (usize, &u64)| ManifestPart {
            number: PartNumber::try_from(i as u32 * 3 + 1).unwrap(),
            len,
            crc64: 0,
            salt: Salt([i as u8; 24]),
        };
        Layout::new(&Manifest::new(lens.iter().enumerate().map(part).collect(), false, Default::default()).unwrap())
    }

    /// One chunk as a plain walk over the object finds it, the way a sealer writes it.
    struct Chunk {
        part: usize,
        index: u64,
        plain: Range<u64>,
        sealed: Range<u64>,
        last: bool,
    }

    fn walk(lens: &[u64]) -> Vec<Chunk> {
        let (mut plain, mut sealed) = (0, 0);
        let mut chunks = Vec::new();
        for (part, &len) in lens.iter().enumerate() {
            let end = plain + len;
            sealed += 56;
            for index in 0.. {
                let here = (end - plain).min(16_384);
                let last = here < 16_384;
                chunks.push(Chunk {
                    part,
                    index,
                    plain: plain..plain + here,
                    sealed: sealed..sealed + here + 16,
                    last,
                });
                (plain, sealed) = (plain + here, sealed + here + 16);
                if last {
                    break;
                }
            }
        }
        chunks
    }

    /// The chunks that hold a byte of the range, and the last of each part whose end it reaches.
    fn model(chunks: &[Chunk], range: &Range<u64>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for chunk in chunks {
            let take = range.end.min(chunk.plain.end).saturating_sub(range.start.max(chunk.plain.start));
            let open = pieces.last_mut().filter(|piece| piece.part == chunk.part);
            match open {
                Some(piece) if take > 0 || (chunk.plain.is_empty() && range.end >= chunk.plain.end) => {
                    piece.chunks.end = chunk.index + 1;
                    piece.sealed.end = chunk.sealed.end;
                    piece.last = chunk.last;
                    piece.take += take;
                }
                None if take > 0 => pieces.push(Piece {
                    part: chunk.part,
                    chunks: chunk.index..chunk.index + 1,
                    sealed: chunk.sealed.clone(),
                    last: chunk.last,
                    skip: (range.start.max(chunk.plain.start) - chunk.plain.start) as usize,
                    take,
                }),
                _ => {}
            }
        }
        pieces
    }

    #[test]
    fn s13_every_range_around_an_edge_has_the_pieces_a_plain_walk_finds() {
        for lens in [
            &[1_u64][..],
            &[16_383],
            &[16_384],
            &[16_385],
            &[32_768, 16_384, 1],
            &[20_000, 9_000, 5_000],
            &[1, 1, 1],
            &[49_152, 7, 32_768],
        ] {
            let layout = layout(lens);
            let chunks = walk(lens);
            let len = layout.plain_len();
            assert_eq!(len, lens.iter().sum::<u64>());
            assert_eq!(layout.parts().last().unwrap().sealed.end, chunks.last().unwrap().sealed.end);

            let mut edges: Vec<u64> = chunks
                .iter()
                .flat_map(|chunk| [chunk.plain.start, chunk.plain.end])
                .flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1])
                .chain([len + 1, u64::MAX])
                .collect();
            edges.sort_unstable();
            edges.dedup();
            for &start in &edges {
                for &end in &edges {
                    let pieces: Vec<_> = layout.pieces(start..end).collect();
                    assert_eq!(pieces, model(&chunks, &(start..end)), "{start}..{end} of {lens:?}");
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_range_has_the_pieces_a_plain_walk_finds(
            lens in proptest::collection::vec(1_u64..70_000, 0..6),
            start in 0_u64..300_000,
            len in 0_u64..300_000,
        ) {
            let pieces: Vec<_> = layout(&lens).pieces(start..start + len).collect();
            proptest::prop_assert_eq!(pieces, model(&walk(&lens), &(start..start + len)));
        }
    }

    #[test]
    fn an_empty_object_has_no_pieces() {
        assert_eq!(layout(&[]).pieces(0..u64::MAX).count(), 0);
        assert_eq!(layout(&[]).plain_len(), 0);
    }

    #[test]
    fn the_longest_part_and_what_follows_it_lie_where_they_should() {
        const GIB_5: u64 = 5 << 30;
        let layout = layout(&[MAX_PART_PLAIN, MAX_PART_PLAIN, 1]);
        assert_eq!(layout.parts()[1].sealed, GIB_5..2 * GIB_5);
        assert_eq!(layout.parts()[2].sealed, 2 * GIB_5..2 * GIB_5 + 73);
        let pieces: Vec<_> = layout.pieces(2 * MAX_PART_PLAIN - 1..2 * MAX_PART_PLAIN + 1).collect();
        assert_eq!(pieces.len(), 2);
        assert_eq!((pieces[0].chunks.clone(), pieces[0].last, pieces[0].take), (327_360..327_361, true, 1));
        assert_eq!((pieces[1].sealed.clone(), pieces[1].skip), (2 * GIB_5 + 56..2 * GIB_5 + 73, 0));
    }
}

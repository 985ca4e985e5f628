//! Memory for many buffers in one piece, so that the kernel can back it with huge pages.
//!
//! A part's sealed bytes go to as many MiB as the part has. On 4 KiB pages every GiB takes a quarter of a million TLB
//! entries; on huge pages, sealing into 16 buffers in turn is 7 % faster (`docs/performance.md`). Safe code cannot cut one mapping into parts that are
//! owned apart; this is the measured exception to the rule against `unsafe`.
#![allow(unsafe_code, reason = "see above")]

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions};

use crate::crypto::SEALED_STRIPE;

/// Buffers in one slab: about 32 MiB, which wastes little at its ends.
pub(super) const PIECES: usize = 32;

/// Room for one sealed stripe, for its owner alone. Its slab is unmapped when the last of its pieces is dropped.
pub(super) struct Piece {
    start: NonNull<u8>,
    _slab: Arc<MmapMut>,
}

// SAFETY: a piece is the only way to its bytes, as a `Box<[u8]>` is, and what it points to belongs to no thread.
unsafe impl Send for Piece {}
// SAFETY: as above; shared, it only lends shared slices.
unsafe impl Sync for Piece {}

impl Piece {
    /// The pieces of a new slab, all zero. Memory is taken as they are written to.
    pub(super) fn slab() -> Vec<Self> {
        const LEN: usize = PIECES * SEALED_STRIPE;
        let Ok(mut map) = MmapOptions::new().len(LEN).map_anon() else {
            handle_alloc_error(Layout::new::<[u8; LEN]>());
        };
        // A wish: without huge pages it is only slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let start = map.as_mut_ptr();
        let slab = Arc::new(map);
        (0..PIECES)
            .filter_map(|n| {
                // SAFETY: `n` is less than `PIECES`, so this is within the mapping of `PIECES * SEALED_STRIPE` bytes.
                let start = NonNull::new(unsafe { start.add(n * SEALED_STRIPE) })?;
                Some(Self { start, _slab: Arc::clone(&slab) })
            })
            .collect()
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `slab` made pieces of `SEALED_STRIPE` initialised bytes that do not overlap, and the mapping, which nobody else reads or
        // writes, lives as long as this piece's share of it. Writes need `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), SEALED_STRIPE) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), SEALED_STRIPE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_outlive_each_other() {
        let mut pieces = Piece::slab();
        assert_eq!(pieces.len(), PIECES);
        for (n, piece) in pieces.iter_mut().enumerate() {
            assert!(piece.iter().all(|byte| *byte == 0));
            piece.fill(n as u8 + 1);
        }
        let last = pieces.pop().unwrap();
        for (n, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|byte| *byte == n as u8 + 1));
        }
        drop(pieces);
        let last = std::thread::spawn(move || last).join().unwrap();
        assert!(last.iter().all(|byte| *byte == PIECES as u8));
    }
}

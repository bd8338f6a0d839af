//! Vectors in the order in which a kernel needs their values.

use std::arch::aarch64::*;

use lagar_codec::{BLOCK_COLS, GROUP};

use super::super::tile::{TOKENS, Vectors};

/// The most blocks of a tile.
const BLOCKS: usize = GROUP / BLOCK_COLS;

/// Up to [`TOKENS`] vectors as registers, each with the 4 values of a block from 4 places. What no vector
/// and no block gives is 0.
#[repr(C, align(64))]
pub(super) struct Packed([[i8; BLOCK_COLS]; TOKENS * BLOCKS]);

impl Packed {
    /// For products by element: register `b` has block `b` of vectors 0 to 3.
    pub(super) fn in_blocks(vectors: &Vectors<'_>, blocks: usize) -> Self {
        let mut words = [[0; BLOCK_COLS]; TOKENS * BLOCKS];
        for t in 0..vectors.sums.len() {
            let (x, _) = vectors.x[t * vectors.stride..].as_chunks();
            for (b, &x) in x[..blocks].iter().enumerate() {
                words[b * TOKENS + t] = x;
            }
        }
        Self(words)
    }

    /// Register `i`.
    ///
    /// # Safety
    /// The processor has NEON; `i` is below 32.
    #[inline(always)]
    pub(super) unsafe fn register(&self, i: usize) -> int8x16_t {
        debug_assert!(i < BLOCKS);
        // SAFETY: the caller promises both, and a register is 16 of the 512 bytes.
        unsafe { vld1q_s8(self.0.as_ptr().add(i * TOKENS).cast()) }
    }
}

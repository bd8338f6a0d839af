//! Vectors in the order in which a kernel needs their values.

use std::arch::aarch64::*;

use lagar_codec::{BLOCK_COLS, GROUP};

use super::super::tile::Factors;

/// The most vectors.
const TOKENS: usize = 4;

/// The most blocks of a tile.
pub(super) const BLOCKS: usize = GROUP / BLOCK_COLS;

/// Up to [`TOKENS`] vectors as registers, each with the 4 values of a block from 4 places. What no vector
/// and no block gives is 0.
#[repr(C, align(64))]
pub(super) struct Packed([[i8; BLOCK_COLS]; TOKENS * BLOCKS]);

impl Packed {
    /// For products by element: register `b` has block `b` of vectors 0 to 3.
    pub(super) fn in_blocks(by: &Factors<'_>, blocks: usize) -> Self {
        Self::new::<false>(by, blocks)
    }

    /// For `smmla`: registers `2 p` and `2 p + 1` have blocks `2 p` and `2 p + 1`, those of vectors 0 and 1 and
    /// those of 2 and 3, 8 values of the one and then 8 of the other.
    pub(super) fn in_pairs(by: &Factors<'_>, blocks: usize) -> Self {
        Self::new::<true>(by, blocks)
    }

    #[inline(always)]
    fn new<const PAIRS: bool>(by: &Factors<'_>, blocks: usize) -> Self {
        let mut words = [[0; BLOCK_COLS]; TOKENS * BLOCKS];
        for t in 0..by.x_sums.len() {
            let (x, _) = by.x[t * by.stride..].as_chunks();
            for (b, &x) in x[..blocks].iter().enumerate() {
                let place = match PAIRS {
                    true => b / 2 * 2 * TOKENS + t / 2 * 4 + t % 2 * 2 + b % 2,
                    false => b * TOKENS + t,
                };
                words[place] = x;
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

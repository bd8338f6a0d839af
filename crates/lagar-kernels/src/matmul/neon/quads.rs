//! Products with a few vectors at 2 and 3 bits a weight, four blocks of columns at a time: see [`quads`](super::super::quads).
//!
//! Windows are not taken apart one by one: shifts of whole bytes give what they are looked up by.

mod three;
mod two;

use std::arch::aarch64::*;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT, TILE_ROWS};

use super::super::lookup::Lookup;
use super::super::quads::{BLOCKS, BY_COLUMN};
use super::super::tile::{Factors, Tile};
use super::decode::{Decode, Halves};
use super::{STEP_ROWS, accumulate, add_lane, start};
use three::Three;
use two::Two;

/// Registers of a unit's sums with one vector.
const PARTS: usize = 4;

/// What is done with a unit in four blocks: from codes to levels.
trait Step: Copy {
    /// Bits of a weight.
    const DEPTH: usize;
    /// What a unit shares with the one before.
    type Begun: Copy;

    /// # Safety
    /// The processor has NEON.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Before the first unit, given the byte before its codes in each block, in every lane.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn begin(before: uint8x16_t) -> Self::Begun;

    /// Adds the products of a unit, whose codes begin at `from`, and those of the next block `block_bytes` on; rows in any order.
    ///
    /// # Safety
    /// The processor has the instruction set, the unit's codes are there, and the vectors have its sums.
    unsafe fn add<V: Vectors>(
        self,
        from: *const u8,
        block_bytes: usize,
        before: Self::Begun,
        vectors: &mut V,
        unit: usize,
    ) -> Self::Begun;

    /// A unit's sums in the order of rows.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn ascending(parts: [int32x4_t; PARTS]) -> [int32x4_t; PARTS];
}

/// What levels are multiplied with, and the sums.
trait Vectors {
    /// Adds the products of the levels of the last, second, third and first column of each block to one register of a unit's sums.
    ///
    /// # Safety
    /// The processor has the instruction set; there are sums of the unit, and fewer than [`PARTS`] before `part`.
    unsafe fn add(&mut self, unit: usize, part: usize, levels: [int8x16_t; BLOCK_COLS]);
}

/// `T` vectors' values of four blocks, and their sums.
struct Products<'a, const T: usize, const DOTPROD: bool> {
    x: [int8x16_t; T],
    dots: &'a mut [Dots; T],
}

/// The sums of one vector.
type Dots = [[int32x4_t; PARTS]; TILE_ROWS / ROW_UNIT];

impl<const T: usize, const DOTPROD: bool> Vectors for Products<'_, T, DOTPROD> {
    #[inline(always)]
    unsafe fn add(&mut self, unit: usize, part: usize, [a, b, c, d]: [int8x16_t; BLOCK_COLS]) {
        for (dots, &x) in self.dots.iter_mut().zip(&self.x) {
            // SAFETY: the caller promises all of it.
            unsafe {
                let sum = dots.get_unchecked_mut(unit).get_unchecked_mut(part);
                *sum = add_lane::<3, DOTPROD>(*sum, a, x);
                *sum = add_lane::<1, DOTPROD>(*sum, b, x);
                *sum = add_lane::<2, DOTPROD>(*sum, c, x);
                *sum = add_lane::<0, DOTPROD>(*sum, d, x);
            }
        }
    }
}

/// Dot products of a range of units with `T` vectors.
///
/// # Safety
/// As [`Ops::dot`](super::Ops::dot), whose arguments are checked, with a table for [`quads`](super::super::quads) and a multiple of [`BLOCKS`].
pub(super) unsafe fn dot<const T: usize, const DOTPROD: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe {
        match tile.lookup.depth {
            Two::DEPTH => units_with::<Two, T, DOTPROD>(tile, units, by, sums),
            _ => units_with::<Three, T, DOTPROD>(tile, units, by, sums),
        }
    }
}

/// See [`dot`].
///
/// # Safety
/// As there.
unsafe fn units_with<S: Step, const T: usize, const DOTPROD: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let bytes = tile.block_bytes();
    // SAFETY: the caller promises the processor and a whole number of four blocks, and 4 values of each vector in each; a unit's codes are
    // behind the byte that `Tile::unit` points to.
    unsafe {
        let step = S::new(tile.lookup);
        let mut dots = [[[vdupq_n_s32(0); PARTS]; TILE_ROWS / ROW_UNIT]; T];
        for (dots, &x_sum) in dots.iter_mut().zip(by.x_sums) {
            dots[..units.len()].fill([start(Halves::OFFSET, x_sum); PARTS]);
        }
        for quad in 0..tile.blocks() / BLOCKS {
            let from = tile.unit(units.start).add(quad * BLOCKS * bytes);
            let mut x = [vdupq_n_s8(0); T];
            for (t, x) in x.iter_mut().enumerate() {
                let first = t * by.stride + quad * BLOCKS * BLOCK_COLS;
                let values = vld1q_s8(by.x[first..][..BLOCKS * BLOCK_COLS].as_ptr());
                *x = vqtbl1q_s8(values, vld1q_u8(BY_COLUMN.as_ptr()));
            }
            let mut vectors = Products::<'_, T, DOTPROD> { x, dots: &mut dots };
            let before = std::array::from_fn(|i| from.add(i * bytes).read());
            let before = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(before)));
            let mut begun = S::begin(before);
            for unit in 0..units.len() {
                let from = from.add(1 + unit * (ROW_UNIT * BLOCK_COLS * S::DEPTH / 8));
                begun = step.add(from, bytes, begun, &mut vectors, unit);
            }
        }
        for (t, dots) in dots.iter().enumerate() {
            for (unit, dots) in dots[..units.len()].iter().enumerate() {
                for (part, dots) in S::ascending(*dots).into_iter().enumerate() {
                    accumulate(dots, t, (unit * PARTS + part) * STEP_ROWS, by, sums);
                }
            }
        }
    }
}

//! Products with a few vectors at 2 bits a weight, four blocks of columns at a time: see [`quads`](super::super::quads).
//!
//! Windows are not taken apart one by one: shifts of whole bytes give what they are looked up by. What a row shares with the one before is
//! shifted in from the lane before.

use std::arch::aarch64::*;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT, TILE_ROWS};

use super::super::quads::{BLOCKS, BY_COLUMN};
use super::super::tile::{Factors, Tile};
use super::decode::{Decode, Halves};
use super::{STEP_ROWS, accumulate, add_lane, start};

/// Registers that the codes of a unit in these blocks take, and its sums with one vector.
const PARTS: usize = 4;

/// Bits of codes, 4 in each byte, that other rows' windows have too.
#[derive(Clone, Copy)]
struct Shared {
    /// Bits 2 to 5.
    middle: uint8x16_t,
    /// Bits 4 to 7.
    high: uint8x16_t,
}

/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn shared(codes: uint8x16_t) -> Shared {
    // SAFETY: the caller promises NEON.
    unsafe {
        Shared {
            middle: vandq_u8(vshrq_n_u8::<2>(codes), vdupq_n_u8(15)),
            high: vshrq_n_u8::<4>(codes),
        }
    }
}

/// Levels of 4 rows in four blocks: those of the last, second, third and first column of each. The last lane of `before` is the row before.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn levels(
    table: Halves,
    codes: uint8x16_t,
    own: Shared,
    before: Shared,
) -> [int8x16_t; BLOCK_COLS] {
    // SAFETY: the caller promises NEON.
    unsafe {
        let low = vandq_u8(codes, vdupq_n_u8(15));
        let middle = vextq_u8::<12>(before.middle, own.middle);
        let high = vextq_u8::<12>(before.high, own.high);
        // The two bits below the byte and its own lowest two.
        let edge = vsliq_n_u8::<2>(vshrq_n_u8::<2>(high), codes);
        let edge = vandq_u8(edge, vdupq_n_u8(15));
        [
            table.of(low, own.high),
            table.of(high, low),
            table.of(edge, own.middle),
            table.of(middle, edge),
        ]
    }
}

/// The codes of a unit in four blocks, each lane those of a row: part `p` has rows `4 · p` to `4 · p + 3`.
///
/// # Safety
/// The processor has NEON; 16 bytes are readable in each block, the next of which is `block_bytes` on.
#[inline(always)]
unsafe fn transposed(from: *const u8, block_bytes: usize) -> [uint8x16_t; PARTS] {
    // SAFETY: the caller promises both.
    unsafe {
        let a = vld1q_u8(from);
        let b = vld1q_u8(from.add(block_bytes));
        let c = vld1q_u8(from.add(2 * block_bytes));
        let d = vld1q_u8(from.add(3 * block_bytes));
        let first = vreinterpretq_u16_u8(vzip1q_u8(a, b));
        let second = vreinterpretq_u16_u8(vzip1q_u8(c, d));
        let third = vreinterpretq_u16_u8(vzip2q_u8(a, b));
        let fourth = vreinterpretq_u16_u8(vzip2q_u8(c, d));
        [
            vreinterpretq_u8_u16(vzip1q_u16(first, second)),
            vreinterpretq_u8_u16(vzip2q_u16(first, second)),
            vreinterpretq_u8_u16(vzip1q_u16(third, fourth)),
            vreinterpretq_u8_u16(vzip2q_u16(third, fourth)),
        ]
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
    // SAFETY: the caller promises the processor and a whole number of four blocks, and 4 values of each vector in each; there are 16 bytes of
    // codes for a unit behind the one that `Tile::unit` points to.
    unsafe {
        let table = Halves::new(tile.lookup);
        let mut dots = [[[vdupq_n_s32(0); PARTS]; TILE_ROWS / ROW_UNIT]; T];
        for (dots, &x_sum) in dots.iter_mut().zip(by.x_sums) {
            dots[..units.len()].fill([start(Halves::OFFSET, x_sum); PARTS]);
        }
        for quad in 0..tile.blocks() / BLOCKS {
            let mut from = tile.unit(units.start);
            from = from.add(quad * BLOCKS * tile.block_bytes());
            let mut x = [vdupq_n_s8(0); T];
            for (t, x) in x.iter_mut().enumerate() {
                let first = t * by.stride + quad * BLOCKS * BLOCK_COLS;
                let values = vld1q_s8(by.x[first..][..BLOCKS * BLOCK_COLS].as_ptr());
                *x = vqtbl1q_s8(values, vld1q_u8(BY_COLUMN.as_ptr()));
            }
            let first = std::array::from_fn(|i| from.add(i * tile.block_bytes()).read());
            let first = vdupq_n_u32(u32::from_le_bytes(first));
            let mut before = shared(vreinterpretq_u8_u32(first));
            for unit in 0..units.len() {
                let codes = transposed(from.add(1), tile.block_bytes());
                for (part, &codes) in codes.iter().enumerate() {
                    let own = shared(codes);
                    let [a, b, c, d] = levels(table, codes, own, before);
                    for (dots, &x) in dots.iter_mut().zip(&x) {
                        let sum = &mut dots.get_unchecked_mut(unit)[part];
                        *sum = add_lane::<3, DOTPROD>(*sum, a, x);
                        *sum = add_lane::<1, DOTPROD>(*sum, b, x);
                        *sum = add_lane::<2, DOTPROD>(*sum, c, x);
                        *sum = add_lane::<0, DOTPROD>(*sum, d, x);
                    }
                    before = own;
                }
                from = from.add(ROW_UNIT);
            }
        }
        for (t, dots) in dots.iter().enumerate() {
            for (part, &dots) in dots[..units.len()].as_flattened().iter().enumerate() {
                accumulate(dots, t, part * STEP_ROWS, by, sums);
            }
        }
    }
}

//! Products with a few vectors as codes are decoded, with the int8 dot product.
//!
//! Sums stay in registers, beside tables and shifts and the values that all vectors have in a block.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use lagar_codec::ROW_UNIT;

use super::super::tile::{Factors, Tile, UNIT};
use super::decode::{Decode, Extract, STEP};
use super::packed::{BLOCKS, Packed};
use super::{STEP_ROWS, accumulate, add_lanes, decode_with, multiply_unit, starts};

/// # Safety
/// As [`Ops::dot`](super::Ops::dot), whose arguments are checked.
pub(super) unsafe fn few_with<D: Decode, const SHARED: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: as promised by the caller; `T` is at least the number of vectors.
    unsafe {
        match (by.x_sums.len(), D::LARGE) {
            (1 | 2, false) => few_vectors::<D, SHARED, 2, 4>(tile, units, by, sums),
            (3, false) => few_vectors::<D, SHARED, 3, 4>(tile, units, by, sums),
            (_, false) => few_vectors::<D, SHARED, 4, 4>(tile, units, by, sums),
            (1 | 2, true) => few_vectors::<D, SHARED, 2, 2>(tile, units, by, sums),
            (3, true) => few_decoded::<D, SHARED, 3>(tile, units, by, sums),
            (_, true) => few_decoded::<D, SHARED, 4>(tile, units, by, sums),
        }
    }
}

/// Products with at most `T` vectors, `S` steps of 4 rows at a time.
///
/// # Safety
/// As [`few_with`]; `T` is at least the number of vectors, `S` divides 4.
#[inline(always)]
unsafe fn few_vectors<D: Decode, const SHARED: bool, const T: usize, const S: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let x = Packed::in_blocks(by, tile.blocks());
    let count = by.x_sums.len();
    let step = tile.lookup.unit_bytes() / 4;
    // SAFETY: the caller promises the processor; codes are read as in `dot_with`; `x` has a register for each
    // block; `by` and `sums` have `count` vectors and the rows of `units`.
    unsafe {
        let (extract, table) = (Extract::<SHARED>::new(tile.lookup), D::new(tile.lookup));
        for first in (0..units.len() * UNIT / STEP).step_by(S) {
            let unit = tile.unit(units.start + first / 4);
            let mut codes = unit.wrapping_add(first % 4 * step);
            let mut dots = [starts::<T>(D::OFFSET, by); S];
            for b in 0..tile.blocks() {
                let x = x.register(b);
                for (i, dots) in dots.iter_mut().enumerate() {
                    let levels = table.levels(extract.windows(codes.wrapping_add(i * step)));
                    add_lanes::<T, true>(dots, levels, x);
                    if !D::LARGE {
                        codes = after(codes, dots[T - 1]);
                    }
                }
                codes = codes.wrapping_add(tile.block_bytes());
            }
            for (i, dots) in dots.iter().enumerate() {
                for (t, &dots) in dots.iter().take(count).enumerate() {
                    accumulate(dots, t, (first + i) * STEP_ROWS, by, sums);
                }
            }
        }
    }
}

/// Products with `T` vectors where tables leave no room for the sums: each unit is decoded first.
///
/// # Safety
/// As [`few_with`]; `T` is the number of vectors.
#[inline(always)]
unsafe fn few_decoded<D: Decode, const SHARED: bool, const T: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let x = Packed::in_blocks(by, tile.blocks());
    let mut levels = [0; BLOCKS * UNIT];
    let levels = &mut levels[..tile.blocks() * UNIT];
    for (i, unit) in units.enumerate() {
        // SAFETY: the caller promises the processor; the unit is inside the tile, `levels` has room for it, `x` as
        // many blocks, and `by` and `sums` `T` vectors and the rows of `units`.
        unsafe {
            decode_with::<D, SHARED>(tile, unit..unit + 1, levels);
            multiply_unit::<T, true>(levels, D::OFFSET, &x, i * ROW_UNIT, by, sums);
        }
    }
}

/// The address, which the compiler takes to depend on a sum. Else it decodes all steps of a block together, for which
/// registers are too few, and copies sums about.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn after(address: *const u8, sum: int32x4_t) -> *const u8 {
    let mut address = address;
    // SAFETY: the assembly is a comment.
    unsafe {
        asm!(
            "/* {address} {sum:v} */",
            address = inout(reg) address,
            sum = in(vreg) sum,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    address
}

//! What the int8 matrix product (`smmla`) does better: products of decoded levels with several vectors.
//!
//! `smmla` adds the products of 2 rows of 8 levels with 2 vectors of 8 values to 2 × 2 sums: twice as many
//! as `sdot` does. The levels of two blocks are zipped for it, once for up to 4 vectors.

use std::arch::aarch64::*;
use std::arch::asm;
use std::hint::black_box;

use lagar_codec::ROW_UNIT;

use super::super::tile::{Product, UNIT};
use super::decode::STEP;
use super::packed::Packed;
use super::{STEP_ROWS, accumulate, multiply_tokens, offset, start};

/// Sums of 4 rows with 2 vectors: rows 0 and 1, and 2 and 3, each with the one vector and then the other.
type Sums = [int32x4_t; 2];

/// Adds the products of 2 rows of 8 levels with 2 vectors of 8 values to 2 × 2 sums.
///
/// # Safety
/// The processor has NEON and the int8 matrix product.
#[inline(always)]
unsafe fn add(sums: int32x4_t, levels: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: the caller promises the instruction; it only changes `sums`. (Its intrinsic is not stable
    // yet.)
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sums:v}.4s, {levels:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            levels = in(vreg) levels,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// See [`Ops::multiply`](super::Ops::multiply).
///
/// # Safety
/// The processor has NEON, the int8 dot product and the int8 matrix product.
pub(super) unsafe fn multiply(product: &Product<'_>, sums: &mut [f32]) {
    product.check(sums);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match product.by.x_sums.len() {
            1 => multiply_tokens::<1, true>(product, sums),
            2 => multiply_pairs::<1>(product, sums),
            _ => multiply_pairs::<2>(product, sums),
        }
    }
}

/// # Safety
/// As [`multiply`], whose arguments are checked, with at most `P` pairs of vectors.
unsafe fn multiply_pairs<const P: usize>(product: &Product<'_>, sums: &mut [f32]) {
    let (blocks, count) = (product.blocks, product.by.x_sums.len());
    let x = Packed::in_pairs(&product.by, blocks);
    let offset = offset(product.lookup);
    let units = product.levels.chunks_exact(blocks * UNIT);
    for (unit, levels) in units.enumerate() {
        let (pairs, rest) = levels.as_chunks::<{ 2 * UNIT }>();
        // SAFETY: the caller promises the processor; a pair is twice 64 levels, `rest` 64 or none;
        // `Packed::in_pairs` took no more than 32 blocks, so there are as many registers.
        unsafe {
            let mut dots = [[[vdupq_n_s32(0); 2]; P]; 4];
            for dots in &mut dots {
                for (dots, x_sums) in dots.iter_mut().zip(product.by.x_sums.chunks(2)) {
                    let first = start(offset, x_sums[0]);
                    let second = start(offset, x_sums[x_sums.len() - 1]);
                    *dots = [vtrn1q_s32(first, second); 2];
                }
            }
            for (pair, levels) in pairs.iter().enumerate() {
                let levels = levels.as_ptr();
                add_blocks(&mut dots, levels, levels.add(UNIT), &x, pair);
            }
            if !rest.is_empty() {
                // The values of the block that is not there are 0.
                let levels = rest.as_ptr();
                add_blocks(&mut dots, levels, levels, &x, pairs.len());
            }
            for (step, dots) in dots.iter().enumerate() {
                let row = unit * ROW_UNIT + step * STEP_ROWS;
                for (pair, [a, b]) in dots.iter().enumerate() {
                    let (t, by) = (2 * pair, &product.by);
                    accumulate(vuzp1q_s32(*a, *b), t, row, by, sums);
                    if t + 1 < count {
                        accumulate(vuzp2q_s32(*a, *b), t + 1, row, by, sums);
                    }
                }
            }
        }
    }
}

/// Adds the products of the 16 rows of two blocks, pair `pair` of a tile's.
///
/// # Safety
/// The processor has NEON and the int8 matrix product; 64 levels of each block are readable; `pair` is below 16.
#[inline(always)]
unsafe fn add_blocks<const P: usize>(
    sums: &mut [[Sums; P]; 4],
    first: *const u8,
    second: *const u8,
    x: &Packed,
    pair: usize,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        for (step, sums) in sums.iter_mut().enumerate() {
            let first = vld1q_s32(first.add(step * STEP).cast());
            let second = vld1q_s32(second.add(step * STEP).cast());
            let low = vreinterpretq_s8_s32(vzip1q_s32(first, second));
            let high = vreinterpretq_s8_s32(vzip2q_s32(first, second));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = x.register(2 * pair + i);
                *sums = [add(sums[0], low, x), add(sums[1], high, x)];
            }
        }
    }
}

/// See [`Ops::peak`](super::Ops::peak).
///
/// # Safety
/// The processor has NEON and the int8 matrix product.
pub(super) unsafe fn peak(products: u64) {
    // SAFETY: the caller promises the processor; the assembly is a comment.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 16];
        let mut levels = black_box(vdupq_n_s8(3));
        let x = black_box(vdupq_n_s8(-5));
        for _ in 0..products.div_ceil((sums.len() * 2 * STEP) as u64) {
            // Else the products would be the same in every round, and computed once.
            asm!("/* {:v} */", inout(vreg) levels, options(nomem, nostack, preserves_flags));
            for sum in &mut sums {
                *sum = add(*sum, levels, x);
            }
        }
        black_box(sums);
    }
}

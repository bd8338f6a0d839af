//! The integer kernels with NEON, with and without the int8 dot product.
//!
//! A step handles 16 windows, 4 rows × 4 columns. Each 16-bit lane gets the two bytes that hold a
//! window, a shift by lane brings it to the low byte, and `trn1` joins even and odd windows. Levels are
//! signed bytes throughout.

mod decode;

use std::arch::aarch64::*;
use std::arch::asm;
use std::hint::black_box;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::lookup::Form;
use super::portable;
use super::tile::{Factors, Ops, Product, Tile, UNIT};
use decode::{Decode, Extract, Free, Halves, Nibble, Plain, STEP, shared};

pub(super) const OPS: Ops = Ops {
    dot: dot::<false>,
    few: 1,
    decode,
    offset: |_| 0,
    multiply: multiply::<false>,
    // NEON has no look-up of 32-bit values.
    scales: portable::scales,
    peak: peak::<false>,
};

pub(super) const OPS_DOTPROD: Ops = Ops {
    dot: dot::<true>,
    multiply: multiply::<true>,
    peak: peak::<true>,
    ..OPS
};

/// Calls a function with the extraction and look-up that fit a table.
macro_rules! with_decode {
    ($lookup:expr, $function:ident $arguments:tt) => {
        match ($lookup.form, shared($lookup.depth)) {
            (Form::Plain, _) => $function::<Plain, true> $arguments,
            (Form::Nibble, true) => $function::<Nibble, true> $arguments,
            (Form::Nibble, false) => $function::<Nibble, false> $arguments,
            (Form::Split, true) => $function::<Halves, true> $arguments,
            (Form::Split, false) => $function::<Halves, false> $arguments,
            (Form::Free, true) => $function::<Free, true> $arguments,
            (Form::Free, false) => $function::<Free, false> $arguments,
        }
    };
}

/// Adds the products of 4 rows of 4 levels with 4 values to 4 sums.
///
/// # Safety
/// The processor has NEON, and the int8 dot product if `DOTPROD` is set.
#[inline(always)]
unsafe fn add<const DOTPROD: bool>(sum: int32x4_t, levels: int8x16_t, x: int8x16_t) -> int32x4_t {
    if DOTPROD {
        let mut sum = sum;
        // SAFETY: the caller promises the instruction; it only changes `sum`. (Its intrinsic is not
        // stable yet.)
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {levels:v}.16b, {x:v}.16b",
                sum = inout(vreg) sum,
                levels = in(vreg) levels,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        return sum;
    }
    // SAFETY: the caller promises NEON.
    unsafe {
        // Two products are at most 2 · 128 · 127 < 2¹⁵.
        let low = vmull_s8(vget_low_s8(levels), vget_low_s8(x));
        let high = vmull_high_s8(levels, x);
        vpadalq_s16(sum, vpaddq_s16(low, high))
    }
}

/// `sums = fma(dots, scales · x_scale, sums)` of 4 rows.
///
/// # Safety
/// The processor has NEON; there are 4 scales and 4 sums.
#[inline(always)]
unsafe fn accumulate(dots: int32x4_t, scales: *const f32, x_scale: f32, sums: *mut f32) {
    // SAFETY: the caller promises all of it.
    unsafe {
        let scale = vmulq_n_f32(vld1q_f32(scales), x_scale);
        vst1q_f32(sums, vfmaq_f32(vld1q_f32(sums), vcvtq_f32_s32(dots), scale));
    }
}

/// 4 values, four times.
///
/// # Safety
/// The processor has NEON; 4 values are readable.
#[inline(always)]
unsafe fn four(x: *const i8) -> int8x16_t {
    // SAFETY: the caller promises both.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned())) }
}

/// See [`Ops::dot`].
///
/// # Safety
/// The processor has NEON, and the int8 dot product if `DOTPROD` is set.
unsafe fn dot<const DOTPROD: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    tile.check_dot(&units, by, sums);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        if DOTPROD {
            with_decode!(tile.lookup, dot_sdot(tile, units, by, sums))
        } else {
            with_decode!(tile.lookup, dot_plain(tile, units, by, sums))
        }
    }
}

unsafe fn dot_sdot<D: Decode, const SHARED: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: as promised by the caller.
    unsafe { dot_with::<D, SHARED, true>(tile, units, by, sums) }
}

unsafe fn dot_plain<D: Decode, const SHARED: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: as promised by the caller.
    unsafe { dot_with::<D, SHARED, false>(tile, units, by, sums) }
}

/// # Safety
/// As [`Ops::dot`], whose arguments are checked.
#[inline(always)]
unsafe fn dot_with<D: Decode, const SHARED: bool, const DOTPROD: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let step = tile.lookup.unit_bytes() / 4;
    // SAFETY: the caller promises NEON; `Tile::unit` says that 64 bytes are in bounds from each unit's
    // first, and 16 windows are read at most 48 bytes further on, 16 bytes each; there are 4 scales and sums for
    // each quarter of a unit.
    unsafe {
        let (extract, table) = (Extract::<SHARED>::new(tile.lookup), D::new(tile.lookup));
        let mut dots = [vdupq_n_s32(0); 64];
        let dots = &mut dots[..4 * units.len()];
        let mut block = tile.unit(units.start);
        for x in &by.x.as_chunks::<BLOCK_COLS>().0[..tile.blocks()] {
            let x = four(x.as_ptr());
            let mut codes = block;
            for dots in dots.iter_mut() {
                let levels = table.levels(extract.windows(codes));
                *dots = add::<DOTPROD>(*dots, levels, x);
                codes = codes.wrapping_add(step);
            }
            block = block.wrapping_add(tile.block_bytes());
        }
        let quarters = by
            .scales
            .as_chunks::<4>()
            .0
            .iter()
            .zip(sums.as_chunks_mut::<4>().0);
        for (dots, (scales, sums)) in dots.iter().zip(quarters) {
            accumulate(*dots, scales.as_ptr(), by.x_scales[0], sums.as_mut_ptr());
        }
    }
}

/// See [`Ops::decode`].
///
/// # Safety
/// The processor has NEON.
unsafe fn decode(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    tile.check_decode(&units, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_decode!(tile.lookup, decode_with(tile, units, out)) }
}

/// # Safety
/// As [`Ops::decode`], whose arguments are checked.
unsafe fn decode_with<D: Decode, const SHARED: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    out: &mut [u8],
) {
    let step = tile.lookup.unit_bytes() / 4;
    // SAFETY: as in `dot_with`; `out` has four times 16 bytes for each block of each unit.
    unsafe {
        let (extract, table) = (Extract::<SHARED>::new(tile.lookup), D::new(tile.lookup));
        let mut block = tile.unit(units.start);
        for b in 0..tile.blocks() {
            let mut codes = block;
            for quarter in 0..4 * units.len() {
                let levels = table.levels(extract.windows(codes));
                let to = (quarter / 4 * tile.blocks() + b) * UNIT + quarter % 4 * STEP;
                vst1q_s8(out.as_mut_ptr().add(to).cast(), levels);
                codes = codes.wrapping_add(step);
            }
            block = block.wrapping_add(tile.block_bytes());
        }
    }
}

/// See [`Ops::multiply`].
///
/// # Safety
/// The processor has NEON, and the int8 dot product if `DOTPROD` is set.
unsafe fn multiply<const DOTPROD: bool>(product: &Product<'_>, sums: &mut [f32]) {
    product.check(sums);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match product.by.x_sums.len() {
            1 => multiply_tokens::<1, DOTPROD>(product, sums),
            2 => multiply_tokens::<2, DOTPROD>(product, sums),
            3 => multiply_tokens::<3, DOTPROD>(product, sums),
            _ => multiply_tokens::<4, DOTPROD>(product, sums),
        }
    }
}

/// # Safety
/// As [`Ops::multiply`], whose arguments are checked, with `T` vectors.
unsafe fn multiply_tokens<const T: usize, const DOTPROD: bool>(
    product: &Product<'_>,
    sums: &mut [f32],
) {
    let by = &product.by;
    let units = product.levels.chunks_exact(product.blocks * UNIT);
    for (unit, levels) in units.enumerate() {
        // SAFETY: the caller promises the processor; there are 64 levels; `Product::check` has the
        // length of `x`; the slices of scales and sums have 16 values.
        unsafe {
            let mut dots = [[vdupq_n_s32(0); 4]; T];
            for (b, levels) in levels.as_chunks::<UNIT>().0.iter().enumerate() {
                let mut rows = [vdupq_n_s8(0); 4];
                for (i, rows) in rows.iter_mut().enumerate() {
                    *rows = vld1q_s8(levels.as_ptr().add(i * STEP).cast());
                }
                for (t, dots) in dots.iter_mut().enumerate() {
                    let x = four(by.x.as_ptr().add(t * by.stride + b * BLOCK_COLS));
                    for (dots, rows) in dots.iter_mut().zip(rows) {
                        *dots = add::<DOTPROD>(*dots, rows, x);
                    }
                }
            }
            let scales = &by.scales[unit * ROW_UNIT..][..ROW_UNIT];
            for (t, dots) in dots.iter().enumerate() {
                let sums = &mut sums[(t * product.units + unit) * ROW_UNIT..][..ROW_UNIT];
                for (i, &dots) in dots.iter().enumerate() {
                    let (scales, sums) = (&scales[4 * i..], &mut sums[4 * i..]);
                    accumulate(dots, scales.as_ptr(), by.x_scales[t], sums.as_mut_ptr());
                }
            }
        }
    }
}

/// See [`Ops::peak`].
///
/// # Safety
/// The processor has NEON, and the int8 dot product if `DOTPROD` is set.
unsafe fn peak<const DOTPROD: bool>(products: u64) {
    // SAFETY: the caller promises the processor; the assembly is a comment.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 16];
        let mut levels = black_box(vdupq_n_s8(3));
        let x = black_box(vdupq_n_s8(-5));
        for _ in 0..products.div_ceil((sums.len() * STEP) as u64) {
            // Else the products would be the same in every round, and computed once.
            asm!("/* {:v} */", inout(vreg) levels, options(nomem, nostack, preserves_flags));
            for sum in &mut sums {
                *sum = add::<DOTPROD>(*sum, levels, x);
            }
        }
        black_box(sums);
    }
}

//! The integer kernels with NEON, with and without the int8 dot product and the int8 matrix product.
//!
//! A step handles 16 windows, 4 rows × 4 columns. Each 16-bit lane gets the two bytes that hold a
//! window, a shift by lane brings it to the low byte, and `trn1` joins even and odd windows. Levels are
//! signed bytes, those of split tables plus 64. (At 2 and 3 bits [`quads`] takes four blocks of columns at a time.)

mod decode;
mod few;
mod i8mm;
mod packed;
mod quads;

use std::arch::aarch64::*;
use std::arch::asm;
use std::hint::black_box;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::lookup::{Form, Lookup};
use super::portable;
use super::quads::{BLOCKS, take};
use super::tile::{Factors, Ops, Product, Tile, UNIT};
use decode::{Decode, Extract, Free, Halves, Nibble, Plain, STEP, shared};
use few::few_with;
use packed::Packed;

/// Rows of a step.
const STEP_ROWS: usize = STEP / BLOCK_COLS;

pub(super) const OPS: Ops = Ops {
    dot: dot::<false>,
    // Without `sdot`, products take registers that the sums of 4 vectors do not leave: sums would go through memory, which
    // takes more instructions than decoding first (bench/record/instructions-per-64-weights.md).
    few: |_| 1,
    several: None,
    decode,
    offset,
    together: 4,
    multiply: multiply::<false>,
    release: || {},
    // NEON has no look-up of 32-bit values.
    scales: portable::scales,
    peak: peak::<false>,
};

pub(super) const OPS_DOTPROD: Ops = Ops {
    dot: dot::<true>,
    few: |_| 4,
    several: None,
    multiply: multiply::<true>,
    peak: peak::<true>,
    ..OPS
};

pub(super) const OPS_I8MM: Ops = Ops {
    multiply: i8mm::multiply,
    peak: i8mm::peak,
    ..OPS_DOTPROD
};

/// Calls a function with the extraction and look-up that fit a table, and with the constant in brackets if there is one.
macro_rules! with_decode {
    ($lookup:expr, $function:ident[$($constant:ident)?]$arguments:tt) => {
        match ($lookup.form, shared($lookup.depth)) {
            (Form::Plain, _) => $function::<Plain, true $(, $constant)?> $arguments,
            (Form::Nibble, true) => $function::<Nibble, true $(, $constant)?> $arguments,
            (Form::Nibble, false) => $function::<Nibble, false $(, $constant)?> $arguments,
            (Form::Split, true) => $function::<Halves, true $(, $constant)?> $arguments,
            (Form::Split, false) => $function::<Halves, false $(, $constant)?> $arguments,
            (Form::Bent | Form::Free, true) => $function::<Free, true $(, $constant)?> $arguments,
            (Form::Bent | Form::Free, false) => $function::<Free, false $(, $constant)?> $arguments,
        }
    };
}

/// See [`Ops::offset`].
fn offset(lookup: &Lookup) -> u8 {
    match lookup.form {
        Form::Split => Halves::OFFSET,
        Form::Nibble | Form::Bent | Form::Plain | Form::Free => 0,
    }
}

/// Where the sums of a vector's products begin, given what is added to levels and the sum of the vector's values.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn start(offset: u8, x_sum: i32) -> int32x4_t {
    // SAFETY: the caller promises NEON.
    unsafe { vdupq_n_s32(-i32::from(offset) * x_sum) }
}

/// [`start`] for each of `T` vectors; those that `by` does not have begin anywhere.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn starts<const T: usize>(offset: u8, by: &Factors<'_>) -> [int32x4_t; T] {
    // SAFETY: the caller promises NEON.
    unsafe {
        let mut starts = [vdupq_n_s32(0); T];
        for (starts, &x_sum) in starts.iter_mut().zip(by.x_sums) {
            *starts = start(offset, x_sum);
        }
        starts
    }
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

/// [`add`] with 4 values of the `LANE`th vector in a register of [`Packed::in_blocks`].
///
/// # Safety
/// As [`add`].
#[inline(always)]
unsafe fn add_lane<const LANE: i32, const DOTPROD: bool>(
    sum: int32x4_t,
    levels: int8x16_t,
    x: int8x16_t,
) -> int32x4_t {
    if DOTPROD {
        let mut sum = sum;
        // SAFETY: as in `add`.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {levels:v}.16b, {x:v}.4b[{lane}]",
                sum = inout(vreg) sum,
                levels = in(vreg) levels,
                x = in(vreg) x,
                lane = const LANE,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        return sum;
    }
    // SAFETY: the caller promises NEON.
    unsafe {
        let x = vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(x));
        add::<false>(sum, levels, vreinterpretq_s8_s32(x))
    }
}

/// [`add_lane`] for each of `T` vectors.
///
/// # Safety
/// As [`add`].
#[inline(always)]
unsafe fn add_lanes<const T: usize, const DOTPROD: bool>(
    sums: &mut [int32x4_t; T],
    levels: int8x16_t,
    x: int8x16_t,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        sums[0] = add_lane::<0, DOTPROD>(sums[0], levels, x);
        if T > 1 {
            sums[1] = add_lane::<1, DOTPROD>(sums[1], levels, x);
        }
        if T > 2 {
            sums[2] = add_lane::<2, DOTPROD>(sums[2], levels, x);
        }
        if T > 3 {
            sums[3] = add_lane::<3, DOTPROD>(sums[3], levels, x);
        }
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

/// `sums = fma(dots, scales · x_scale, sums)` of 4 rows, `row` to `row + 3`, with vector `t`.
///
/// # Safety
/// The processor has NEON; `by` has that row and vector, and `sums` is vectors × rows.
#[inline(always)]
unsafe fn accumulate(dots: int32x4_t, t: usize, row: usize, by: &Factors<'_>, sums: &mut [f32]) {
    let rows = by.scales.len();
    let at = t * rows + row;
    debug_assert!(row + STEP_ROWS <= rows && at + STEP_ROWS <= sums.len());
    // SAFETY: the caller promises NEON and the 4 values of each.
    unsafe {
        let scale = vmulq_n_f32(vld1q_f32(by.scales.as_ptr().add(row)), by.x_scales[t]);
        let to = sums.as_mut_ptr().add(at);
        vst1q_f32(to, vfmaq_f32(vld1q_f32(to), vcvtq_f32_s32(dots), scale));
    }
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
    tile.check_dot(&units, (OPS_DOTPROD.few)(tile.lookup), by, sums);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        // Without the int8 dot product there is one vector: see `OPS`.
        let quads = take(tile.lookup, 2..=3) && tile.blocks().is_multiple_of(BLOCKS);
        match (by.x_sums.len(), quads) {
            (1, true) => quads::dot::<1, DOTPROD>(tile, units, by, sums),
            (2, true) => quads::dot::<2, true>(tile, units, by, sums),
            (3, true) => quads::dot::<3, true>(tile, units, by, sums),
            (_, true) => quads::dot::<4, true>(tile, units, by, sums),
            (1, _) => with_decode!(tile.lookup, dot_with[DOTPROD](tile, units, by, sums)),
            _ => with_decode!(tile.lookup, few_with[](tile, units, by, sums)),
        }
    }
}

/// # Safety
/// As [`Ops::dot`], whose arguments are checked.
unsafe fn dot_with<D: Decode, const SHARED: bool, const DOTPROD: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let step = tile.lookup.unit_bytes() / 4;
    // SAFETY: the caller promises NEON; `Tile::unit` says that 64 bytes are in bounds from each unit's
    // first, and 16 windows are read at most 48 bytes further on, 16 bytes each.
    unsafe {
        let (extract, table) = (Extract::<SHARED>::new(tile.lookup), D::new(tile.lookup));
        let mut dots = [start(D::OFFSET, by.x_sums[0]); 64];
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
        for (step, &dots) in dots.iter().enumerate() {
            accumulate(dots, 0, step * STEP_ROWS, by, sums);
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
    unsafe { with_decode!(tile.lookup, decode_with[](tile, units, out)) }
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
            let (mut codes, mut to) = (block, out.as_mut_ptr().wrapping_add(b * UNIT));
            for _ in units.clone() {
                for i in 0..UNIT / STEP {
                    let levels = table.levels(extract.windows(codes));
                    vst1q_s8(to.add(i * STEP).cast(), levels);
                    codes = codes.wrapping_add(step);
                }
                to = to.wrapping_add(tile.blocks() * UNIT);
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
    let x = Packed::in_blocks(&product.by, product.blocks);
    let offset = offset(product.lookup);
    let units = product.levels.chunks_exact(product.blocks * UNIT);
    for (unit, levels) in units.enumerate() {
        // SAFETY: the caller promises the processor; `Product::check` has the length of `sums`, and `x` was packed
        // from as many blocks.
        unsafe {
            multiply_unit::<T, DOTPROD>(levels, offset, &x, unit * ROW_UNIT, &product.by, sums)
        }
    }
}

/// Products of 16 rows of decoded levels, plus `offset`, `row` to `row + 15`, with `T` vectors, packed in as many blocks.
///
/// # Safety
/// The processor has NEON, and the int8 dot product if `DOTPROD` is set; `by` has that many vectors and rows, `sums` is
/// vectors × rows, and `x` has a register for each block.
#[inline(always)]
unsafe fn multiply_unit<const T: usize, const DOTPROD: bool>(
    levels: &[u8],
    offset: u8,
    x: &Packed,
    row: usize,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises the processor, the registers of `x`, and what `accumulate` asks for; a block is 64
    // levels.
    unsafe {
        let mut dots = [starts::<T>(offset, by); 4];
        for (b, levels) in levels.as_chunks::<UNIT>().0.iter().enumerate() {
            let x = x.register(b);
            for (i, dots) in dots.iter_mut().enumerate() {
                let levels = vld1q_s8(levels.as_ptr().add(i * STEP).cast());
                add_lanes::<T, DOTPROD>(dots, levels, x);
            }
        }
        for (i, dots) in dots.iter().enumerate() {
            for (t, &dots) in dots.iter().enumerate() {
                accumulate(dots, t, row + i * STEP_ROWS, by, sums);
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
            for sum in &mut sums {
                // Else the products would be the same each time, and computed once.
                asm!("/* {:v} */", inout(vreg) levels, options(nomem, nostack, preserves_flags));
                *sum = add::<DOTPROD>(*sum, levels, x);
            }
        }
        black_box(sums);
    }
}

//! The integer kernels with AVX2.
//!
//! A step handles 32 windows, 8 rows × 4 columns. Each 16-bit lane gets the two bytes that hold a
//! window; a multiplication by a power of two shifts it into place, lane by lane. Levels of split
//! tables, plus 64, are in 1..=127, so that the pairwise sums of `vpmaddubsw` never saturate
//! (`2 · 127 · 127 < 2¹⁵`); for other tables the level's sign moves to the other factor
//! (`2 · 128 · 127 < 2¹⁵`).

mod decode;
mod pairs;
mod quads;

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::lookup::{Form, Lookup};
use super::tile::{AHEAD, DECODE_AHEAD, Factors, Ops, Product, Tile, UNIT};
use decode::{Bends, Free, Half, Halves, Nibble, Plain, STEP, Steps, offset};
use pairs::Pairs;

pub(super) const OPS: Ops = Ops {
    dot: dot::<false>,
    few: |lookup| match quads::takes(lookup) {
        true => quads::VECTORS,
        false => 1,
    },
    several: None,
    decode,
    offset,
    together: 4,
    multiply: multiply::<false>,
    release: || {},
    scales,
    peak: peak::<false>,
};

/// With AVX-VNNI.
pub(super) const OPS_VNNI: Ops = Ops {
    dot: dot::<true>,
    multiply: multiply::<true>,
    peak: peak::<true>,
    ..OPS
};

/// Calls a function with the extraction and look-up of half a unit that fit a table.
macro_rules! with_halves {
    ($lookup:expr, $function:ident<$($flag:ident),*> $arguments:tt) => {
        match $lookup.depth {
            1 | 2 => with_halves!(@ $lookup, $function<$($flag),*>, true, true, $arguments),
            _ if $lookup.form == Form::Plain => {
                $function::<Half<Plain, true, false>, 1, $($flag),*> $arguments
            }
            4 | 8 => with_halves!(@ $lookup, $function<$($flag),*>, true, false, $arguments),
            _ => with_halves!(@ $lookup, $function<$($flag),*>, false, false, $arguments),
        }
    };
    (@ $lookup:expr, $function:ident<$($flag:ident),*>, $shared:literal, $near:literal, $arguments:tt) => {
        match $lookup.form {
            Form::Nibble => $function::<Half<Nibble, $shared, $near>, 1, $($flag),*> $arguments,
            Form::Split => $function::<Half<Halves, $shared, $near>, 1, $($flag),*> $arguments,
            Form::Bent => $function::<Half<Bends, $shared, $near>, 1, $($flag),*> $arguments,
            _ if $lookup.window < 8 => $function::<Half<Free<8>, $shared, $near>, 1, $($flag),*> $arguments,
            _ => $function::<Half<Free<16>, $shared, $near>, 1, $($flag),*> $arguments,
        }
    };
}

/// How many of some units go through [`Pairs`].
fn paired(lookup: &Lookup, units: usize) -> usize {
    match (lookup.form, lookup.depth) {
        (Form::Split, 2 | 4) => units / 2 * 2,
        _ => 0,
    }
}

/// Adds the products of 8 rows of 4 levels with 4 values to 8 sums. Signed levels have the offset of
/// [`unsigned`] with VNNI.
///
/// # Safety
/// The processor has AVX2, and AVX-VNNI with `VNNI`.
#[inline(always)]
unsafe fn add<const VNNI: bool>(
    signed: bool,
    sum: __m256i,
    levels: __m256i,
    x: __m256i,
) -> __m256i {
    // SAFETY: the caller promises the processor.
    unsafe {
        if VNNI {
            return _mm256_dpbusd_avx_epi32(sum, levels, x);
        }
        let pairs = if signed {
            _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels))
        } else {
            _mm256_maddubs_epi16(levels, x)
        };
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// What VNNI multiplies: unsigned levels. Signed ones get an offset of 128.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn unsigned<const VNNI: bool>(signed: bool, levels: __m256i) -> __m256i {
    if VNNI && signed {
        // SAFETY: the caller promises AVX2.
        return unsafe { _mm256_xor_si256(levels, _mm256_set1_epi8(-128)) };
    }
    levels
}

/// What is added to the levels that are multiplied, times the sum of the values.
fn correction<const VNNI: bool>(lookup: &Lookup, sum: i32) -> i32 {
    match offset(lookup) {
        0 if VNNI => -128 * sum,
        offset => -i32::from(offset) * sum,
    }
}

/// `sums = fma(dots, scales · x_scale, sums)` of 8 rows.
///
/// # Safety
/// The processor has AVX2 and FMA; there are 8 scales and 8 sums.
#[inline(always)]
unsafe fn accumulate(dots: __m256i, scales: *const f32, x_scale: f32, sums: *mut f32) {
    // SAFETY: the caller promises all of it.
    unsafe {
        let scale = _mm256_mul_ps(_mm256_loadu_ps(scales), _mm256_set1_ps(x_scale));
        let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, _mm256_loadu_ps(sums));
        _mm256_storeu_ps(sums, sum);
    }
}

/// See [`Ops::dot`].
///
/// # Safety
/// The processor has AVX2 and FMA, and AVX-VNNI with `VNNI`.
unsafe fn dot<const VNNI: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    tile.check_dot(&units, (OPS.few)(tile.lookup), by, sums);
    let rows = sums.len() / by.x_sums.len();
    let quads = quads::taken(tile, units.len());
    let (first, rest) = (
        units.start..units.start + quads,
        units.start + quads..units.end,
    );
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match (first.is_empty(), by.x_sums.len()) {
            (true, _) => {}
            (false, 1) => quads_with::<1, VNNI>(tile, first, by, sums),
            (false, 2) => quads_with::<2, VNNI>(tile, first, by, sums),
            (false, 3) => quads_with::<3, VNNI>(tile, first, by, sums),
            (false, _) => quads_with::<{ quads::VECTORS }, VNNI>(tile, first, by, sums),
        }
        if !rest.is_empty() {
            let row = quads * ROW_UNIT;
            for (t, sums) in sums.chunks_exact_mut(rows).enumerate() {
                let by = by.part(t, row);
                one::<VNNI>(tile, rest.clone(), &by, &mut sums[row..]);
            }
        }
    }
}

/// # Safety
/// As [`quads::dot`], with AVX-VNNI for `VNNI`.
unsafe fn quads_with<const T: usize, const VNNI: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe {
        match VNNI {
            true => quads_vnni::<T>(tile, units, by, sums),
            false => quads_avx2::<T>(tile, units, by, sums),
        }
    }
}

/// # Safety
/// As [`quads::dot`].
#[target_feature(enable = "avx2,fma")]
unsafe fn quads_avx2<const T: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe { quads::dot::<T, false>(tile, units, by, sums) }
}

/// # Safety
/// As [`quads::dot`], with AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn quads_vnni<const T: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe { quads::dot::<T, true>(tile, units, by, sums) }
}

/// Dot products with one vector.
///
/// # Safety
/// As [`dot`], whose arguments are checked; scales and sums begin with the first of the units.
unsafe fn one<const VNNI: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let middle = units.start + paired(tile.lookup, units.len());
    let (pairs, rest) = (units.start..middle, middle..units.end);
    let row = pairs.len() * ROW_UNIT;
    let (first, last) = sums.split_at_mut(row);
    // SAFETY: the caller promises all of it.
    unsafe {
        match (pairs.is_empty(), tile.lookup.depth) {
            (true, _) => {}
            (false, 2) => dot_with::<Pairs<2>, 4, VNNI>(tile, pairs, by, first),
            (false, _) => dot_with::<Pairs<4>, 4, VNNI>(tile, pairs, by, first),
        }
        if !rest.is_empty() {
            let by = by.part(0, row);
            with_halves!(tile.lookup, dot_with<VNNI>(tile, rest, &by, last));
        }
    }
}

/// Dot products of all units of a range, which is a whole number of steps.
///
/// # Safety
/// As [`one`].
unsafe fn dot_with<S: Steps<N>, const N: usize, const VNNI: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe {
        match VNNI {
            true => dot_vnni::<S, N>(tile, units, by, sums),
            false => dot_avx2::<S, N>(tile, units, by, sums),
        }
    }
}

/// # Safety
/// As [`dot_with`].
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_avx2<S: Steps<N>, const N: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe { dot_steps::<S, N, false>(tile, units, by, sums) }
}

/// # Safety
/// As [`dot_with`], with AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn dot_vnni<S: Steps<N>, const N: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe { dot_steps::<S, N, true>(tile, units, by, sums) }
}

/// # Safety
/// As [`dot_with`].
#[inline(always)]
unsafe fn dot_steps<S: Steps<N>, const N: usize, const VNNI: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises the processor, and steps that lie in the tile, behind the last of which one may begin;
    // there are 8 scales and sums for each half of a unit, and 4 values for each block.
    unsafe {
        let steps = S::new(tile.lookup);
        let start = correction::<VNNI>(tile.lookup, by.x_sums[0]);
        let mut dots = [_mm256_set1_epi32(start); 32];
        let (dots, _) = dots[..2 * units.len()].as_chunks_mut::<N>();
        let mut block = tile.unit(units.start);
        for x in &by.x.as_chunks::<BLOCK_COLS>().0[..tile.blocks()] {
            let x = _mm256_set1_epi32(i32::from_le_bytes(x.map(|x| x as u8)));
            let mut codes = block;
            let ahead = block.wrapping_add(AHEAD);
            for line in (0..dots.len() * steps.bytes()).step_by(64) {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
            }
            let mut begun = steps.begin(codes);
            for dots in dots.iter_mut() {
                codes = codes.wrapping_add(steps.bytes());
                let next = steps.begin(codes);
                for (dots, levels) in dots.iter_mut().zip(steps.levels(begun)) {
                    let levels = unsigned::<VNNI>(S::SIGNED, levels);
                    *dots = add::<VNNI>(S::SIGNED, *dots, levels, x);
                }
                begun = next;
            }
            block = block.wrapping_add(tile.block_bytes());
        }
        let sums = sums.as_chunks_mut::<8>().0.iter_mut();
        let mut halves = by.scales.as_chunks::<8>().0.iter().zip(sums);
        // No closures: they would not have the instruction set.
        for dots in dots {
            for (dots, (scales, sums)) in S::ascending(*dots).into_iter().zip(&mut halves) {
                accumulate(dots, scales.as_ptr(), by.x_scales[0], sums.as_mut_ptr());
            }
        }
    }
}

/// See [`Ops::decode`].
///
/// # Safety
/// The processor has AVX2.
unsafe fn decode(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    tile.check_decode(&units, out);
    let middle = units.start + paired(tile.lookup, units.len());
    let (pairs, rest) = (units.start..middle, middle..units.end);
    let (first, last) = out.split_at_mut(pairs.len() * tile.blocks() * UNIT);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match (pairs.is_empty(), tile.lookup.depth) {
            (true, _) => {}
            (false, 2) => decode_with::<Pairs<2>, 4>(tile, pairs, first),
            (false, _) => decode_with::<Pairs<4>, 4>(tile, pairs, first),
        }
        if !rest.is_empty() {
            with_halves!(tile.lookup, decode_with<>(tile, rest, last));
        }
    }
}

/// Levels of all units of a range, which is a whole number of steps.
///
/// # Safety
/// As [`Ops::decode`], whose arguments are checked.
#[target_feature(enable = "avx2")]
unsafe fn decode_with<S: Steps<N>, const N: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    out: &mut [u8],
) {
    // SAFETY: the caller promises the processor, and steps that lie in the tile; `out` has two times 32 bytes for each
    // block of each unit.
    unsafe {
        let steps = S::new(tile.lookup);
        let mut block = tile.unit(units.start);
        for b in 0..tile.blocks() {
            let mut codes = block;
            let ahead = block.wrapping_add(DECODE_AHEAD);
            for line in (0..2 * units.len() / N * steps.bytes()).step_by(64) {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
            }
            for first in (0..2 * units.len()).step_by(N) {
                let levels = S::ascending(steps.levels(steps.begin(codes)));
                for (half, levels) in (first..).zip(levels) {
                    let to = (half / 2 * tile.blocks() + b) * UNIT + half % 2 * STEP;
                    _mm256_storeu_si256(out.as_mut_ptr().add(to).cast(), levels);
                }
                codes = codes.wrapping_add(steps.bytes());
            }
            block = block.wrapping_add(tile.block_bytes());
        }
    }
}

/// See [`Ops::multiply`].
///
/// # Safety
/// The processor has AVX2, and AVX-VNNI with `VNNI`.
unsafe fn multiply<const VNNI: bool>(product: &Product<'_>, sums: &mut [f32]) {
    product.check(sums);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match (product.by.x_sums.len(), product.lookup.form == Form::Split) {
            (1, false) => multiply_with::<1, true, VNNI>(product, sums),
            (2, false) => multiply_with::<2, true, VNNI>(product, sums),
            (3, false) => multiply_with::<3, true, VNNI>(product, sums),
            (_, false) => multiply_with::<4, true, VNNI>(product, sums),
            (1, true) => multiply_with::<1, false, VNNI>(product, sums),
            (2, true) => multiply_with::<2, false, VNNI>(product, sums),
            (3, true) => multiply_with::<3, false, VNNI>(product, sums),
            (_, true) => multiply_with::<4, false, VNNI>(product, sums),
        }
    }
}

/// # Safety
/// As [`multiply`], whose arguments are checked, with `T` vectors.
unsafe fn multiply_with<const T: usize, const SIGNED: bool, const VNNI: bool>(
    product: &Product<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe {
        match VNNI {
            true => multiply_vnni::<T, SIGNED>(product, sums),
            false => multiply_avx2::<T, SIGNED>(product, sums),
        }
    }
}

/// # Safety
/// As [`multiply_with`].
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_avx2<const T: usize, const SIGNED: bool>(
    product: &Product<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe { multiply_vectors::<T, SIGNED, false>(product, sums) }
}

/// # Safety
/// As [`multiply_with`], with AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn multiply_vnni<const T: usize, const SIGNED: bool>(
    product: &Product<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe { multiply_vectors::<T, SIGNED, true>(product, sums) }
}

/// # Safety
/// As [`multiply_with`].
#[inline(always)]
unsafe fn multiply_vectors<const T: usize, const SIGNED: bool, const VNNI: bool>(
    product: &Product<'_>,
    sums: &mut [f32],
) {
    let by = &product.by;
    let units = product.levels.chunks_exact(product.blocks * UNIT);
    for (unit, levels) in units.enumerate() {
        // SAFETY: there are 64 levels; `Product::check` has the length of `x`; the slices of scales and sums have 16
        // values; the processor is promised.
        unsafe {
            let mut dots = [[_mm256_setzero_si256(); 2]; T];
            for (dots, &sum) in dots.iter_mut().zip(by.x_sums) {
                *dots = [_mm256_set1_epi32(correction::<VNNI>(product.lookup, sum)); 2];
            }
            for (b, levels) in levels.as_chunks::<UNIT>().0.iter().enumerate() {
                let low = _mm256_loadu_si256(levels.as_ptr().cast());
                let high = _mm256_loadu_si256(levels.as_ptr().add(STEP).cast());
                let (low, high) = (
                    unsigned::<VNNI>(SIGNED, low),
                    unsigned::<VNNI>(SIGNED, high),
                );
                for (t, dots) in dots.iter_mut().enumerate() {
                    let x = by.x.as_ptr().add(t * by.stride + b * BLOCK_COLS);
                    let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
                    dots[0] = add::<VNNI>(SIGNED, dots[0], low, x);
                    dots[1] = add::<VNNI>(SIGNED, dots[1], high, x);
                }
            }
            let scales = by.scales[unit * ROW_UNIT..][..ROW_UNIT].as_ptr();
            for (t, dots) in dots.iter().enumerate() {
                let sums = sums[(t * product.units + unit) * ROW_UNIT..][..ROW_UNIT].as_mut_ptr();
                accumulate(dots[0], scales, by.x_scales[t], sums);
                accumulate(dots[1], scales.add(8), by.x_scales[t], sums.add(8));
            }
        }
    }
}

/// See [`Ops::scales`].
///
/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn scales(codes: &[u8], out: &mut [f32]) {
    assert_eq!(codes.len(), out.len());
    let codes = codes.as_chunks::<8>().0.iter();
    // SAFETY: the loads and stores are of whole arrays: 16 steps, 8 codes, 8 values.
    unsafe {
        let steps = super::portable::SCALES.as_ptr();
        let (first, second) = (_mm256_loadu_ps(steps), _mm256_loadu_ps(steps.add(8)));
        for (codes, out) in codes.zip(out.as_chunks_mut::<8>().0) {
            let codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(codes.as_ptr().cast()));
            let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
            let step = _mm256_blendv_ps(
                _mm256_permutevar8x32_ps(first, codes),
                _mm256_permutevar8x32_ps(second, codes),
                upper,
            );
            let octaves = _mm256_slli_epi32::<23>(_mm256_srli_epi32::<4>(codes));
            // Steps lie in (1/2, 1] and octaves go down to 2⁻¹⁵, so exponents stay positive.
            let value = _mm256_sub_epi32(_mm256_castps_si256(step), octaves);
            let none = _mm256_cmpeq_epi32(codes, _mm256_set1_epi32(255));
            let value = _mm256_castsi256_ps(_mm256_andnot_si256(none, value));
            _mm256_storeu_ps(out.as_mut_ptr(), value);
        }
    }
}

/// See [`Ops::peak`].
///
/// # Safety
/// The processor has AVX2, and AVX-VNNI with `VNNI`.
unsafe fn peak<const VNNI: bool>(products: u64) {
    // SAFETY: the caller promises the processor.
    unsafe {
        match VNNI {
            true => peak_vnni(products),
            false => peak_avx2(products),
        }
    }
}

/// The loop of [`peak`]: assembly needs the features in the function that it stands in.
macro_rules! peak_loop {
    ($vnni:literal, $products:ident) => {
        // SAFETY: the features are those of the function; the assembly is a comment.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); 10];
            let mut levels = black_box(_mm256_set1_epi8(3));
            let x = black_box(_mm256_set1_epi8(-5));
            for _ in 0..$products.div_ceil((sums.len() * STEP) as u64) {
                for sum in &mut sums {
                    // Else the products would be the same each time, and computed once.
                    asm!("/* {} */", inout(ymm_reg) levels, options(nomem, nostack, preserves_flags));
                    *sum = add::<$vnni>(false, *sum, levels, x);
                }
            }
            black_box(sums);
        }
    };
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn peak_avx2(products: u64) {
    peak_loop!(false, products);
}

/// # Safety
/// The processor has AVX2 and AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn peak_vnni(products: u64) {
    peak_loop!(true, products);
}

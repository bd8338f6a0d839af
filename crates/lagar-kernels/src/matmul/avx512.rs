//! The integer kernels with AVX-512 VBMI and VNNI.
//!
//! A step handles 64 windows, 16 rows × 4 columns: one load, `vpermb` (bytes to the 8-byte lanes that
//! need them), `vpmultishiftqb` (8 windows a lane, at any bit), a look-up of unsigned levels, and
//! `vpdpbusd` with 4 values broadcast. The port of the byte shuffles is the bottleneck, so a look-up is
//! made of two `vpermb` and of what the other port can do beside them.

mod decode;

use std::arch::x86_64::*;
use std::hint::black_box;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::lookup::Form;
use super::tile::{AHEAD, Factors, Ops, Product, Tile, UNIT};
use decode::{Decode, Extract, Free, Halves, Plain, Small, halves_shift, offset};

pub(super) const OPS: Ops = Ops {
    dot,
    few: 4,
    decode,
    offset,
    together: 4,
    multiply,
    scales,
    peak,
};

/// Calls a function with the look-up that fits a table.
macro_rules! with_decode {
    ($lookup:expr, $function:ident($($argument:expr),*)) => {
        match ($lookup.form, halves_shift($lookup)) {
            (_, Some(2)) => $function::<Halves<2>>($($argument),*),
            (_, Some(_)) => $function::<Halves<3>>($($argument),*),
            (Form::Plain, _) => $function::<Plain>($($argument),*),
            _ if $lookup.window <= 6 => $function::<Small>($($argument),*),
            _ if $lookup.window == 7 => $function::<Free<1>>($($argument),*),
            _ => $function::<Free<2>>($($argument),*),
        }
    };
}

/// `sums = fma(dots, scales · x_scale, sums)` of 16 rows.
///
/// # Safety
/// The processor has AVX-512; there are 16 scales and 16 sums.
#[inline(always)]
unsafe fn accumulate(dots: __m512i, scales: *const f32, x_scale: f32, sums: *mut f32) {
    // SAFETY: the caller promises all of it.
    unsafe {
        let scale = _mm512_mul_ps(_mm512_loadu_ps(scales), _mm512_set1_ps(x_scale));
        let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, _mm512_loadu_ps(sums));
        _mm512_storeu_ps(sums, sum);
    }
}

/// See [`Ops::dot`].
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
unsafe fn dot(tile: &Tile<'_>, units: Range<usize>, by: &Factors<'_>, sums: &mut [f32]) {
    tile.check_dot(&units, by, sums);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_decode!(tile.lookup, dot_with(tile, units, by, sums)) }
}

/// # Safety
/// As [`dot`], whose arguments are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
unsafe fn dot_with<D: Decode>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the features are those of this function; the rest is promised. `T` is at least the number of
    // vectors, and `U · T` sums, `T` values and the tables fit the registers.
    unsafe {
        match by.x_sums.len() {
            1 => dot_vectors::<D, 1, 16>(tile, units, by, sums),
            2 => dot_vectors::<D, 2, 8>(tile, units, by, sums),
            3 => dot_vectors::<D, 3, 4>(tile, units, by, sums),
            _ => dot_vectors::<D, 4, 4>(tile, units, by, sums),
        }
    }
}

/// Dot products with at most `T` vectors, `U` units at a time and then fewer.
///
/// # Safety
/// As [`dot`], whose arguments are checked; `T` is at least the number of vectors.
#[inline(always)]
unsafe fn dot_vectors<D: Decode, const T: usize, const U: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises the features.
    let (extract, table) = unsafe { (Extract::new(tile.lookup), D::new(tile.lookup)) };
    let all = units.len();
    let mut unit = units.start;
    while unit < units.end {
        let done = unit - units.start;
        // SAFETY: the units are inside the tile, and `done` of `all` have been done.
        unsafe {
            unit += match units.end - unit {
                left if left >= U => {
                    dot_units::<D, T, U>(tile, unit, extract, table, by, done, all, sums)
                }
                4.. if U > 4 => {
                    dot_units::<D, T, 4>(tile, unit, extract, table, by, done, all, sums)
                }
                _ => dot_units::<D, T, 1>(tile, unit, extract, table, by, done, all, sums),
            };
        }
    }
}

/// Dot products of `U` units with at most `T` vectors; `done` of `all` units lie before them in the scales and in the sums of
/// each vector. Returns `U`.
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI; the tile has units `unit..unit + U`; `by` fits it and has at most `T` vectors.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a part of a loop")]
unsafe fn dot_units<D: Decode, const T: usize, const U: usize>(
    tile: &Tile<'_>,
    unit: usize,
    extract: Extract,
    table: D,
    by: &Factors<'_>,
    done: usize,
    all: usize,
    sums: &mut [f32],
) -> usize {
    let step = tile.lookup.unit_bytes();
    let count = by.x_sums.len();
    // SAFETY: `Tile::unit` says that all loads of codes are in bounds; vectors beyond the last one are
    // read as the last one, which has 4 values per block; there are 16 scales and sums for each unit.
    unsafe {
        let mut start = [_mm512_setzero_si512(); T];
        let mut x = [by.x.as_ptr(); T];
        for (t, (start, x)) in start.iter_mut().zip(&mut x).enumerate() {
            let t = t.min(count - 1);
            *start = _mm512_set1_epi32(-i32::from(D::OFFSET) * by.x_sums[t]);
            *x = by.x.as_ptr().add(t * by.stride);
        }
        let mut dots = [start; U];
        let mut block = tile.unit(unit);
        for b in 0..tile.blocks() {
            let ahead = block.wrapping_add(AHEAD);
            for line in (0..U * step).step_by(64) {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
            }
            let x =
                x.map(|x| _mm512_set1_epi32(x.add(b * BLOCK_COLS).cast::<i32>().read_unaligned()));
            let mut codes = block;
            for dots in &mut dots {
                let levels = table.levels(extract.windows(codes));
                for (dots, x) in dots.iter_mut().zip(x) {
                    *dots = _mm512_dpbusd_epi32(*dots, levels, x);
                }
                codes = codes.wrapping_add(step);
            }
            block = block.wrapping_add(tile.block_bytes());
        }
        let scales = by.scales[done * ROW_UNIT..][..U * ROW_UNIT].as_ptr();
        for (t, &x_scale) in by.x_scales.iter().enumerate().take(T) {
            let sums = sums[(t * all + done) * ROW_UNIT..][..U * ROW_UNIT].as_mut_ptr();
            for (u, dots) in dots.iter().enumerate() {
                let (scales, sums) = (scales.add(u * ROW_UNIT), sums.add(u * ROW_UNIT));
                accumulate(dots[t], scales, x_scale, sums);
            }
        }
    }
    U
}

/// See [`Ops::decode`].
///
/// # Safety
/// The processor has AVX-512 VBMI.
unsafe fn decode(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    tile.check_decode(&units, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_decode!(tile.lookup, decode_with(tile, units, out)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn decode_with<D: Decode>(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    // SAFETY: the features are those of this function.
    let (extract, table) = unsafe { (Extract::new(tile.lookup), D::new(tile.lookup)) };
    let step = tile.lookup.unit_bytes();
    let mut block = tile.unit(units.start);
    for b in 0..tile.blocks() {
        let mut codes = block;
        let ahead = block.wrapping_add(AHEAD);
        for line in (0..units.len() * step).step_by(64) {
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
        }
        for unit in 0..units.len() {
            // SAFETY: `Tile::unit` says that the load is in bounds; `out` has 64 bytes for each
            // block of each unit.
            unsafe {
                let levels = table.levels(extract.windows(codes));
                let to = out.as_mut_ptr().add((unit * tile.blocks() + b) * UNIT);
                _mm512_storeu_si512(to.cast(), levels);
            }
            codes = codes.wrapping_add(step);
        }
        block = block.wrapping_add(tile.block_bytes());
    }
}

/// See [`Ops::multiply`].
///
/// # Safety
/// The processor has AVX-512 VNNI.
unsafe fn multiply(product: &Product<'_>, sums: &mut [f32]) {
    product.check(sums);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match product.by.x_sums.len() {
            1 => multiply_tokens::<1>(product, sums),
            2 => multiply_tokens::<2>(product, sums),
            3 => multiply_tokens::<3>(product, sums),
            _ => multiply_tokens::<4>(product, sums),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply_tokens<const T: usize>(product: &Product<'_>, sums: &mut [f32]) {
    let mut unit = 0;
    while unit < product.units {
        // SAFETY: the lengths of `product` and `sums` are checked; the units exist.
        unsafe {
            unit += match product.units - unit {
                4.. => multiply_block::<T, 4>(product, unit, sums),
                2.. => multiply_block::<T, 2>(product, unit, sums),
                _ => multiply_block::<T, 1>(product, unit, sums),
            };
        }
    }
}

/// Products of `U` units with `T` vectors; returns `U`.
///
/// # Safety
/// The processor has AVX-512 VNNI; `product` and `sums` are checked and have units `unit..unit + U`
/// and `T` vectors.
#[inline(always)]
unsafe fn multiply_block<const T: usize, const U: usize>(
    product: &Product<'_>,
    unit: usize,
    sums: &mut [f32],
) -> usize {
    let offset = i32::from(offset(product.lookup));
    let (stride, by) = (product.blocks * UNIT, &product.by);
    // SAFETY: as promised by the caller; `Product::check` has the lengths.
    unsafe {
        let mut dots = [[_mm512_setzero_si512(); U]; T];
        for (dots, sum) in dots.iter_mut().zip(by.x_sums) {
            *dots = [_mm512_set1_epi32(-offset * sum); U];
        }
        let levels = product.levels.as_ptr().add(unit * stride);
        for b in 0..product.blocks {
            let mut rows = [_mm512_setzero_si512(); U];
            for (u, rows) in rows.iter_mut().enumerate() {
                *rows = _mm512_loadu_si512(levels.add(u * stride + b * UNIT).cast());
            }
            for (t, dots) in dots.iter_mut().enumerate() {
                let x = by.x.as_ptr().add(t * by.stride + b * BLOCK_COLS);
                let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
                for (dots, rows) in dots.iter_mut().zip(rows) {
                    *dots = _mm512_dpbusd_epi32(*dots, rows, x);
                }
            }
        }
        for (t, dots) in dots.iter().enumerate() {
            for (u, &dots) in dots.iter().enumerate() {
                let scales = by.scales.as_ptr().add((unit + u) * ROW_UNIT);
                let to = (t * product.units + unit + u) * ROW_UNIT;
                accumulate(dots, scales, by.x_scales[t], sums.as_mut_ptr().add(to));
            }
        }
    }
    U
}

/// See [`Ops::scales`].
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn scales(codes: &[u8], out: &mut [f32]) {
    assert_eq!(codes.len(), out.len());
    let (codes, _) = codes.as_chunks::<ROW_UNIT>();
    // SAFETY: the loads and stores are of whole arrays: 16 steps, 16 codes, 16 values.
    unsafe {
        let steps = _mm512_loadu_ps(super::portable::SCALES.as_ptr());
        for (codes, out) in codes.iter().zip(out.as_chunks_mut::<ROW_UNIT>().0) {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast()));
            let step = _mm512_castps_si512(_mm512_permutexvar_ps(codes, steps));
            let octaves = _mm512_slli_epi32::<23>(_mm512_srli_epi32::<4>(codes));
            // Steps lie in (1/2, 1] and octaves go down to 2⁻¹⁵, so exponents stay positive.
            let stored = _mm512_cmpneq_epi32_mask(codes, _mm512_set1_epi32(255));
            let value = _mm512_maskz_sub_epi32(stored, step, octaves);
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(value));
        }
    }
}

/// See [`Ops::peak`].
///
/// # Safety
/// The processor has AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn peak(products: u64) {
    let mut sums = [_mm512_setzero_si512(); 16];
    let (levels, x) = black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(-5)));
    for _ in 0..products.div_ceil((sums.len() * UNIT) as u64) {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, levels, x);
        }
    }
    black_box(sums);
}

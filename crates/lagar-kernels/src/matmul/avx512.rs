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
use super::tile::{AHEAD, Ops, Product, Tile, UNIT, Vectors};
use decode::{Decode, Extract, Free, Halves, Plain, Small, halves_shift, offset};

pub(super) const OPS: Ops = Ops {
    dot,
    few: Some(few),
    decode,
    offset,
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

/// See [`Ops::dot`].
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
unsafe fn dot(tile: &Tile<'_>, units: Range<usize>, x: &[i8], sum: i32, out: &mut [f32]) {
    tile.check_dot(&units, x, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_decode!(tile.lookup, dot_with(tile, units, x, sum, out)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
unsafe fn dot_with<D: Decode>(
    tile: &Tile<'_>,
    units: Range<usize>,
    x: &[i8],
    sum: i32,
    out: &mut [f32],
) {
    // SAFETY: the features are those of this function.
    let (extract, table) = unsafe { (Extract::new(tile.lookup), D::new(tile.lookup)) };
    let start = -i32::from(D::OFFSET) * sum;
    let mut unit = units.start;
    while unit < units.end {
        let out = out[(unit - units.start) * ROW_UNIT..].as_mut_ptr();
        // SAFETY: the units are inside the tile, `out` has 16 values for each, `x` 4 per block.
        unsafe {
            unit += match units.end - unit {
                16.. => dot_units::<D, 16>(tile, unit, extract, table, x, start, out),
                8.. => dot_units::<D, 8>(tile, unit, extract, table, x, start, out),
                4.. => dot_units::<D, 4>(tile, unit, extract, table, x, start, out),
                2.. => dot_units::<D, 2>(tile, unit, extract, table, x, start, out),
                _ => dot_units::<D, 1>(tile, unit, extract, table, x, start, out),
            };
        }
    }
}

/// Dot products of `U` units; returns `U`.
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI; the tile has units `unit..unit + U`, `x` has 4 values per
/// block, `out` room for 16 values per unit.
#[inline(always)]
unsafe fn dot_units<D: Decode, const U: usize>(
    tile: &Tile<'_>,
    unit: usize,
    extract: Extract,
    table: D,
    x: &[i8],
    start: i32,
    out: *mut f32,
) -> usize {
    let step = tile.lookup.unit_bytes();
    // SAFETY: `Tile::unit` says that all these loads are in bounds; the rest is promised.
    unsafe {
        let mut sums = [_mm512_set1_epi32(start); U];
        let mut block = tile.unit(unit);
        for x in x.as_chunks::<BLOCK_COLS>().0 {
            let x = _mm512_set1_epi32(i32::from_le_bytes(x.map(|x| x as u8)));
            let mut codes = block;
            let ahead = block.wrapping_add(AHEAD);
            for line in (0..U * step).step_by(64) {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
            }
            for sum in &mut sums {
                let levels = table.levels(extract.windows(codes));
                *sum = _mm512_dpbusd_epi32(*sum, levels, x);
                codes = codes.wrapping_add(step);
            }
            block = block.wrapping_add(tile.block_bytes());
        }
        for (i, sum) in sums.into_iter().enumerate() {
            _mm512_storeu_ps(out.add(i * ROW_UNIT), _mm512_cvtepi32_ps(sum));
        }
    }
    U
}

/// See [`Ops::few`].
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
unsafe fn few(tile: &Tile<'_>, units: Range<usize>, vectors: &Vectors<'_>, out: &mut [f32]) {
    tile.check_few(&units, vectors, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_decode!(tile.lookup, few_with(tile, units, vectors, out)) }
}

/// # Safety
/// As [`few`], whose arguments are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
unsafe fn few_with<D: Decode>(
    tile: &Tile<'_>,
    units: Range<usize>,
    vectors: &Vectors<'_>,
    out: &mut [f32],
) {
    // SAFETY: the features are those of this function; the rest is promised. `T` is at least the number of
    // vectors, and `U · T` sums, `T` values and the tables fit the registers.
    unsafe {
        match vectors.sums.len() {
            1 | 2 => few_vectors::<D, 2, 8>(tile, units, vectors, out),
            3 => few_vectors::<D, 3, 4>(tile, units, vectors, out),
            _ => few_vectors::<D, 4, 4>(tile, units, vectors, out),
        }
    }
}

/// Dot products with at most `T` vectors, `U` units at a time.
///
/// # Safety
/// As [`few`], whose arguments are checked; `T` is at least the number of vectors.
#[inline(always)]
unsafe fn few_vectors<D: Decode, const T: usize, const U: usize>(
    tile: &Tile<'_>,
    units: Range<usize>,
    vectors: &Vectors<'_>,
    out: &mut [f32],
) {
    // SAFETY: the caller promises the features.
    let (extract, table) = unsafe { (Extract::new(tile.lookup), D::new(tile.lookup)) };
    let all = units.len();
    let mut unit = units.start;
    while unit < units.end {
        let out = &mut out[(unit - units.start) * ROW_UNIT..];
        // SAFETY: the units are inside the tile; `out` begins at the first of them.
        unsafe {
            unit += match units.end - unit {
                left if left >= U => {
                    few_units::<D, T, U>(tile, unit, extract, table, vectors, all, out)
                }
                _ => few_units::<D, T, 1>(tile, unit, extract, table, vectors, all, out),
            };
        }
    }
}

/// Dot products of `U` units with at most `T` vectors; those of a vector lie `all` units after those of
/// the one before. Returns `U`.
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI; the tile has units `unit..unit + U`; `vectors` fits it and has at most `T`.
#[inline(always)]
unsafe fn few_units<D: Decode, const T: usize, const U: usize>(
    tile: &Tile<'_>,
    unit: usize,
    extract: Extract,
    table: D,
    vectors: &Vectors<'_>,
    all: usize,
    out: &mut [f32],
) -> usize {
    let step = tile.lookup.unit_bytes();
    let count = vectors.sums.len();
    // SAFETY: `Tile::unit` says that all loads of codes are in bounds; vectors beyond the last one are
    // read as the last one, which has 4 values per block.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); U]; T];
        let mut x = [vectors.x.as_ptr(); T];
        for (t, (sums, x)) in sums.iter_mut().zip(&mut x).enumerate() {
            let t = t.min(count - 1);
            *sums = [_mm512_set1_epi32(-i32::from(D::OFFSET) * vectors.sums[t]); U];
            *x = vectors.x.as_ptr().add(t * vectors.stride);
        }
        let mut block = tile.unit(unit);
        for b in 0..tile.blocks() {
            let ahead = block.wrapping_add(AHEAD);
            for line in (0..U * step).step_by(64) {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
            }
            let x =
                x.map(|x| _mm512_set1_epi32(x.add(b * BLOCK_COLS).cast::<i32>().read_unaligned()));
            for u in 0..U {
                let levels = table.levels(extract.windows(block.wrapping_add(u * step)));
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums[u] = _mm512_dpbusd_epi32(sums[u], levels, x);
                }
            }
            block = block.wrapping_add(tile.block_bytes());
        }
        for (t, sums) in sums.iter().take(count).enumerate() {
            for (u, &sum) in sums.iter().enumerate() {
                let out = &mut out[(t * all + u) * ROW_UNIT..][..ROW_UNIT];
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtepi32_ps(sum));
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
unsafe fn multiply(product: &Product<'_>, out: &mut [f32]) {
    product.check(out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match product.vectors.sums.len() {
            1 => multiply_tokens::<1>(product, out),
            2 => multiply_tokens::<2>(product, out),
            3 => multiply_tokens::<3>(product, out),
            _ => multiply_tokens::<4>(product, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply_tokens<const T: usize>(product: &Product<'_>, out: &mut [f32]) {
    let mut unit = 0;
    while unit < product.units {
        // SAFETY: the lengths of `product` and `out` are checked; the units exist.
        unsafe {
            unit += match product.units - unit {
                4.. => multiply_block::<T, 4>(product, unit, out),
                2.. => multiply_block::<T, 2>(product, unit, out),
                _ => multiply_block::<T, 1>(product, unit, out),
            };
        }
    }
}

/// Products of `U` units with `T` vectors; returns `U`.
///
/// # Safety
/// The processor has AVX-512 VNNI; `product` and `out` are checked and have units `unit..unit + U`
/// and `T` vectors.
#[inline(always)]
unsafe fn multiply_block<const T: usize, const U: usize>(
    product: &Product<'_>,
    unit: usize,
    out: &mut [f32],
) -> usize {
    let offset = i32::from(offset(product.lookup));
    let stride = product.blocks * UNIT;
    // SAFETY: as promised by the caller; `Product::check` has the lengths.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); U]; T];
        for (sums, sum) in sums.iter_mut().zip(product.vectors.sums) {
            *sums = [_mm512_set1_epi32(-offset * sum); U];
        }
        let levels = product.levels.as_ptr().add(unit * stride);
        for b in 0..product.blocks {
            let mut rows = [_mm512_setzero_si512(); U];
            for (u, rows) in rows.iter_mut().enumerate() {
                *rows = _mm512_loadu_si512(levels.add(u * stride + b * UNIT).cast());
            }
            for (t, sums) in sums.iter_mut().enumerate() {
                let x = product
                    .vectors
                    .x
                    .as_ptr()
                    .add(t * product.vectors.stride + b * BLOCK_COLS);
                let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
                for (sum, rows) in sums.iter_mut().zip(rows) {
                    *sum = _mm512_dpbusd_epi32(*sum, rows, x);
                }
            }
        }
        for (t, sums) in sums.iter().enumerate() {
            for (u, &sum) in sums.iter().enumerate() {
                let to = (t * product.units + unit + u) * ROW_UNIT;
                _mm512_storeu_ps(out.as_mut_ptr().add(to), _mm512_cvtepi32_ps(sum));
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

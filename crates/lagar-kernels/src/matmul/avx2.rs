//! The integer kernels with AVX2.
//!
//! A step handles 32 windows, 8 rows × 4 columns. Each 16-bit lane gets the two bytes that hold a
//! window; a multiplication by a power of two shifts it into place, lane by lane. Levels of split
//! tables, plus 64, are in 1..=127, so that the pairwise sums of `vpmaddubsw` never saturate
//! (`2 · 127 · 127 < 2¹⁵`); for other tables the level's sign moves to the other factor
//! (`2 · 128 · 127 < 2¹⁵`).

mod decode;

use std::arch::x86_64::*;
use std::hint::black_box;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::lookup::Form;
use super::tile::{AHEAD, Ops, Product, Tile, UNIT};
use decode::{Decode, Extract, Free, Halves, Nibble, Plain, STEP, offset};

pub(super) const OPS: Ops = Ops {
    dot,
    few: None,
    decode,
    offset,
    multiply,
    scales,
    peak,
};

/// Calls a function with the extraction and look-up that fit a table.
macro_rules! with_decode {
    ($lookup:expr, $function:ident $arguments:tt) => {
        match $lookup.depth {
            1 | 2 => with_decode!(@ $lookup, $function, true, true, $arguments),
            _ if $lookup.form == Form::Plain => $function::<Plain, true, false> $arguments,
            4 | 8 => with_decode!(@ $lookup, $function, true, false, $arguments),
            _ => with_decode!(@ $lookup, $function, false, false, $arguments),
        }
    };
    (@ $lookup:expr, $function:ident, $shared:literal, $near:literal, $arguments:tt) => {
        match $lookup.form {
            Form::Nibble => $function::<Nibble, $shared, $near> $arguments,
            Form::Split => $function::<Halves, $shared, $near> $arguments,
            _ if $lookup.window < 8 => $function::<Free<8>, $shared, $near> $arguments,
            _ => $function::<Free<16>, $shared, $near> $arguments,
        }
    };
}

/// Adds the products of 8 rows of 4 levels with 4 values to 8 sums.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn add(signed: bool, sum: __m256i, levels: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let pairs = if signed {
            _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels))
        } else {
            _mm256_maddubs_epi16(levels, x)
        };
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// See [`Ops::dot`].
///
/// # Safety
/// The processor has AVX2.
unsafe fn dot(tile: &Tile<'_>, units: Range<usize>, x: &[i8], sum: i32, out: &mut [f32]) {
    tile.check_dot(&units, x, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_decode!(tile.lookup, dot_with(tile, units, x, sum, out)) }
}

#[target_feature(enable = "avx2")]
unsafe fn dot_with<D: Decode, const SHARED: bool, const NEAR: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    x: &[i8],
    sum: i32,
    out: &mut [f32],
) {
    // SAFETY: the features are those of this function.
    let (extract, table) = unsafe {
        (
            Extract::<SHARED, NEAR>::new(tile.lookup),
            D::new(tile.lookup),
        )
    };
    let start = -i32::from(offset(tile.lookup)) * sum;
    let mut sums = [_mm256_set1_epi32(start); 32];
    let sums = &mut sums[..2 * units.len()];
    let mut block = tile.unit(units.start);
    for x in x.as_chunks::<BLOCK_COLS>().0 {
        let x = _mm256_set1_epi32(i32::from_le_bytes(x.map(|x| x as u8)));
        let mut codes = block;
        let ahead = block.wrapping_add(AHEAD);
        for line in (0..2 * sums.len() * extract.half_bytes).step_by(64) {
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
        }
        for sum in sums.iter_mut() {
            // SAFETY: `Tile::unit` says that 64 bytes are in bounds; these steps read at most
            // 48 bytes from the unit's first, or its last 32.
            unsafe {
                let levels = table.levels(extract.windows(codes));
                *sum = add(D::SIGNED, *sum, levels, x);
            }
            codes = codes.wrapping_add(2 * extract.half_bytes);
        }
        block = block.wrapping_add(tile.block_bytes());
    }
    for (sum, out) in sums.iter().zip(out.as_chunks_mut::<8>().0) {
        // SAFETY: `out` has 8 values.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtepi32_ps(*sum)) };
    }
}

/// See [`Ops::decode`].
///
/// # Safety
/// The processor has AVX2.
unsafe fn decode(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    tile.check_decode(&units, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_decode!(tile.lookup, decode_with(tile, units, out)) }
}

#[target_feature(enable = "avx2")]
unsafe fn decode_with<D: Decode, const SHARED: bool, const NEAR: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    out: &mut [u8],
) {
    // SAFETY: the features are those of this function.
    let (extract, table) = unsafe {
        (
            Extract::<SHARED, NEAR>::new(tile.lookup),
            D::new(tile.lookup),
        )
    };
    let mut block = tile.unit(units.start);
    for b in 0..tile.blocks() {
        let mut codes = block;
        for half in 0..2 * units.len() {
            // SAFETY: as in `dot_with`; `out` has two times 32 bytes for each block of each unit.
            unsafe {
                let levels = table.levels(extract.windows(codes));
                let to = (half / 2 * tile.blocks() + b) * UNIT + half % 2 * STEP;
                _mm256_storeu_si256(out.as_mut_ptr().add(to).cast(), levels);
            }
            codes = codes.wrapping_add(2 * extract.half_bytes);
        }
        block = block.wrapping_add(tile.block_bytes());
    }
}

/// See [`Ops::multiply`].
///
/// # Safety
/// The processor has AVX2.
unsafe fn multiply(product: &Product<'_>, out: &mut [f32]) {
    product.check(out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match (
            product.vectors.sums.len(),
            product.lookup.form == Form::Split,
        ) {
            (1, false) => multiply_tokens::<1, true>(product, out),
            (2, false) => multiply_tokens::<2, true>(product, out),
            (3, false) => multiply_tokens::<3, true>(product, out),
            (_, false) => multiply_tokens::<4, true>(product, out),
            (1, true) => multiply_tokens::<1, false>(product, out),
            (2, true) => multiply_tokens::<2, false>(product, out),
            (3, true) => multiply_tokens::<3, false>(product, out),
            (_, true) => multiply_tokens::<4, false>(product, out),
        }
    }
}

#[target_feature(enable = "avx2")]
unsafe fn multiply_tokens<const T: usize, const SIGNED: bool>(
    product: &Product<'_>,
    out: &mut [f32],
) {
    let offset = i32::from(offset(product.lookup));
    for (unit, levels) in product
        .levels
        .chunks_exact(product.blocks * UNIT)
        .enumerate()
    {
        let mut sums = [[_mm256_setzero_si256(); 2]; T];
        for (sums, sum) in sums.iter_mut().zip(product.vectors.sums) {
            *sums = [_mm256_set1_epi32(-offset * sum); 2];
        }
        for (b, levels) in levels.as_chunks::<UNIT>().0.iter().enumerate() {
            // SAFETY: there are 64 levels; `Product::check` has the length of `x`; the features are
            // those of this function.
            unsafe {
                let low = _mm256_loadu_si256(levels.as_ptr().cast());
                let high = _mm256_loadu_si256(levels.as_ptr().add(STEP).cast());
                for (t, sums) in sums.iter_mut().enumerate() {
                    let x = product
                        .vectors
                        .x
                        .as_ptr()
                        .add(t * product.vectors.stride + b * BLOCK_COLS);
                    let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
                    sums[0] = add(SIGNED, sums[0], low, x);
                    sums[1] = add(SIGNED, sums[1], high, x);
                }
            }
        }
        for (t, sums) in sums.iter().enumerate() {
            let out = &mut out[(t * product.units + unit) * ROW_UNIT..][..ROW_UNIT];
            // SAFETY: `out` has 16 values.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtepi32_ps(sums[0]));
                _mm256_storeu_ps(out.as_mut_ptr().add(8), _mm256_cvtepi32_ps(sums[1]));
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
    for (codes, out) in codes.zip(out.as_chunks_mut::<8>().0) {
        // SAFETY: 8 codes are read and 8 values written; every code is an index of `SCALES`.
        unsafe {
            let codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(codes.as_ptr().cast()));
            let values = _mm256_i32gather_ps::<4>(super::portable::SCALES.as_ptr(), codes);
            _mm256_storeu_ps(out.as_mut_ptr(), values);
        }
    }
}

/// See [`Ops::peak`].
///
/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn peak(products: u64) {
    let mut sums = [_mm256_setzero_si256(); 8];
    let mut levels = black_box(_mm256_set1_epi8(3));
    let x = black_box(_mm256_set1_epi8(-5));
    for _ in 0..products.div_ceil((sums.len() * STEP) as u64) {
        // Else the products would be the same in every round, and computed once.
        levels = black_box(levels);
        for sum in &mut sums {
            // SAFETY: the features are those of this function.
            *sum = unsafe { add(false, *sum, levels, x) };
        }
    }
    black_box(sums);
}

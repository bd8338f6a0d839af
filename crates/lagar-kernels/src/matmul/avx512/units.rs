//! The loop of all AVX-512 products, over [`Steps`] from codes to levels: of a tile, for one vector or a few, or of levels that are decoded
//! already.
//!
//! Without VNNI, `vpmaddubsw` adds two products to 16 bits. Levels of split tables, plus 64, are in 1..=127, so that these never saturate; for
//! other tables, whose levels are signed bytes, the value's sign moves to the level.

use std::arch::x86_64::*;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT, TILE_ROWS};

use super::super::lookup::{FREE_OFFSET, Lookup, SPLIT_OFFSET};
use super::super::tile::{AHEAD, DECODE_AHEAD, Factors, Tile, UNIT};

/// A set of features that the loop is compiled for.
pub(super) trait Set {
    /// Whether the products are VNNI's.
    const VNNI: bool;
    /// Whether steps are so short that one vector's take all units of a tile at a time.
    const SHORT: bool;

    /// Adds the scaled dot products of units with 1 to 4 vectors to `vectors × rows` sums.
    ///
    /// # Safety
    /// The processor has the features; `source` has its units, `by` fits it and `sums` them.
    unsafe fn products<S: Steps<N>, const N: usize>(
        source: Source<'_>,
        by: &Factors<'_>,
        sums: &mut [f32],
    );

    /// Levels, unit by unit, in it block by block.
    ///
    /// # Safety
    /// The processor has the features; `source` is in a tile, and `out` has 64 bytes for each block of each unit.
    unsafe fn decode<S: Steps<N>, const N: usize>(source: Source<'_>, out: &mut [u8]);
}

macro_rules! set {
    ($(#[$doc:meta])* $name:ident, $vnni:literal, $short:literal, $features:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Set for $name {
            const VNNI: bool = $vnni;
            const SHORT: bool = $short;

            unsafe fn products<S: Steps<N>, const N: usize>(
                source: Source<'_>,
                by: &Factors<'_>,
                sums: &mut [f32],
            ) {
                #[target_feature(enable = $features)]
                unsafe fn run<S: Steps<N>, const N: usize>(
                    source: Source<'_>,
                    by: &Factors<'_>,
                    sums: &mut [f32],
                ) {
                    // SAFETY: the features are those of this function; the caller promises the rest.
                    unsafe { products_with::<S, N, $name>(source, by, sums) }
                }
                // SAFETY: the caller promises all of it.
                unsafe { run::<S, N>(source, by, sums) }
            }

            unsafe fn decode<S: Steps<N>, const N: usize>(source: Source<'_>, out: &mut [u8]) {
                #[target_feature(enable = $features)]
                unsafe fn run<S: Steps<N>, const N: usize>(source: Source<'_>, out: &mut [u8]) {
                    // SAFETY: the features are those of this function; the caller promises the rest.
                    unsafe { decode_with::<S, N, $name>(source, out) }
                }
                // SAFETY: the caller promises all of it.
                unsafe { run::<S, N>(source, out) }
            }
        }
    };
}

set!(
    /// AVX-512 BW.
    Bw,
    false,
    false,
    "avx512f,avx512bw,avx512dq,avx512vl"
);
set!(
    /// With VNNI.
    BwVnni,
    true,
    false,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
);
set!(
    /// With VBMI and VNNI.
    Vbmi,
    true,
    true,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni"
);

/// From codes to the levels of `N` units, as registers.
pub(super) trait Steps<const N: usize>: Copy {
    /// Whether levels are those of a split table plus 64. Others are unsigned with an offset of 128 if products are `VNNI`'s, else signed.
    const SPLIT: bool;
    /// Whether codes come from memory, so that they are asked for ahead.
    const STREAMED: bool = true;

    /// # Safety
    /// The processor has AVX-512 BW.
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self;

    /// The levels of the step whose windows lie from `codes` on, 4 of a row in each lane of 32 bits; rows in any order.
    ///
    /// # Safety
    /// The processor has AVX-512 BW; `codes` is what `Tile::unit` says of the first unit. (What lies there for units that the
    /// tile does not have is read and means nothing.)
    unsafe fn levels(self, codes: *const u8) -> [__m512i; N];

    /// Lanes of 32 bits in the order of rows, unit by unit, given that of [`Steps::levels`].
    ///
    /// # Safety
    /// The processor has AVX-512 BW.
    unsafe fn ascending(lanes: [__m512i; N]) -> [__m512i; N];
}

/// Four values of a vector, in each lane of 32 bits, as products take them.
#[derive(Clone, Copy)]
pub(super) struct Values {
    x: __m512i,
    magnitude: __m512i,
    /// All bits of values below 0.
    negative: __m512i,
}

impl Values {
    /// # Safety
    /// The processor has AVX-512 BW; 4 values are readable.
    #[inline(always)]
    pub(super) unsafe fn new(x: *const i8) -> Self {
        // SAFETY: the caller promises both.
        unsafe {
            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            Self {
                x,
                magnitude: _mm512_abs_epi8(x),
                negative: _mm512_movm_epi8(_mm512_movepi8_mask(x)),
            }
        }
    }
}

/// Adds the products of 16 rows of 4 levels with 4 values to 16 sums. Signed levels become `level` or `−level − 1`, whichever
/// has the sign of the product: see [`start`].
///
/// # Safety
/// The processor has AVX-512 BW, and VNNI with `VNNI`.
#[inline(always)]
pub(super) unsafe fn add<F: Set>(
    split: bool,
    sum: __m512i,
    levels: __m512i,
    values: Values,
) -> __m512i {
    // SAFETY: the caller promises the processor.
    unsafe {
        if F::VNNI {
            return _mm512_dpbusd_epi32(sum, levels, values.x);
        }
        let pairs = if split {
            _mm512_maddubs_epi16(levels, values.x)
        } else {
            _mm512_maddubs_epi16(values.magnitude, _mm512_xor_si512(levels, values.negative))
        };
        _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
    }
}

/// Where the sums of a vector's products begin, so that they end as dot products; `sum` is that of its values.
///
/// # Safety
/// The processor has AVX-512 BW.
#[inline(always)]
unsafe fn start<F: Set>(split: bool, x: &[i8], sum: i32) -> i32 {
    if split {
        return -i32::from(SPLIT_OFFSET) * sum;
    }
    if F::VNNI {
        return -i32::from(FREE_OFFSET) * sum;
    }
    // What is lost with levels of the other sign: the magnitudes of values below 0.
    // SAFETY: the caller promises the processor; masked bytes are not read.
    unsafe {
        let mut lost = _mm512_setzero_si512();
        for x in x.chunks(UNIT) {
            let x = _mm512_maskz_loadu_epi8(u64::MAX >> (UNIT - x.len()), x.as_ptr());
            let below = _mm512_maskz_abs_epi8(_mm512_movepi8_mask(x), x);
            lost = _mm512_add_epi64(lost, _mm512_sad_epu8(below, _mm512_setzero_si512()));
        }
        _mm512_reduce_add_epi64(lost) as i32
    }
}

/// Units of a whole tile.
const UNITS: usize = TILE_ROWS / ROW_UNIT;

/// Where the codes of some units are, or their levels.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) lookup: &'a Lookup,
    /// Those of the first unit and block.
    pub(super) first: *const u8,
    /// From one unit to the next.
    pub(super) unit_bytes: usize,
    /// From one block to the next.
    pub(super) block_bytes: usize,
    pub(super) units: usize,
    pub(super) blocks: usize,
}

impl<'a> Source<'a> {
    pub(super) fn of(tile: &Tile<'a>, units: &Range<usize>) -> Self {
        Self {
            lookup: tile.lookup,
            first: tile.unit(units.start),
            unit_bytes: tile.lookup.unit_bytes(),
            block_bytes: tile.block_bytes(),
            units: units.len(),
            blocks: tile.blocks(),
        }
    }
}

/// Levels that are decoded already.
#[derive(Clone, Copy)]
pub(super) struct Decoded<const SPLIT: bool>;

impl<const SPLIT: bool> Steps<1> for Decoded<SPLIT> {
    const SPLIT: bool = SPLIT;
    const STREAMED: bool = false;

    #[inline(always)]
    unsafe fn new<F: Set>(_: &Lookup) -> Self {
        Self
    }

    #[inline(always)]
    unsafe fn levels(self, levels: *const u8) -> [__m512i; 1] {
        // SAFETY: the caller promises the processor and 64 bytes.
        unsafe { [_mm512_loadu_si512(levels.cast())] }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m512i; 1]) -> [__m512i; 1] {
        lanes
    }
}

/// See [`Set::products`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn products_with<S: Steps<N>, const N: usize, F: Set>(
    source: Source<'_>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it. The dot products, tables and what a step holds fit the registers.
    unsafe {
        match by.x_sums.len() {
            1 if F::SHORT => all_units::<S, N, 1, UNITS, F>(source, by, sums),
            // More steps at 2 bits are not unrolled, and then dot products go through memory.
            1 if N == 4 => all_units::<S, N, 1, 4, F>(source, by, sums),
            1 => all_units::<S, N, 1, 8, F>(source, by, sums),
            2 => all_units::<S, N, 2, 4, F>(source, by, sums),
            3 => all_units::<S, N, 3, 4, F>(source, by, sums),
            4 => all_units::<S, N, 4, 4, F>(source, by, sums),
            many => unreachable!("{many} vectors, {N} units a step"),
        }
    }
}

/// Dot products with `T` vectors, `U` units at a time, then fewer.
///
/// # Safety
/// As [`products_with`], with `T` vectors; `U` is a multiple of `N`.
#[inline(always)]
unsafe fn all_units<S: Steps<N>, const N: usize, const T: usize, const U: usize, F: Set>(
    source: Source<'_>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let columns = source.blocks * BLOCK_COLS;
    let mut unit = 0;
    // SAFETY: the caller promises all of it; the units exist, but for the last ones of the last step.
    unsafe {
        let steps = S::new::<F>(source.lookup);
        let mut starts = [0; T];
        for (t, starts) in starts.iter_mut().enumerate() {
            let x = &by.x[t * by.stride..][..columns];
            *starts = start::<F>(S::SPLIT, x, by.x_sums[t]);
        }
        while U > N && source.units - unit >= U {
            units::<S, N, T, U, F>(source, unit, steps, by, starts, sums.as_mut_ptr());
            unit += U;
        }
        while U > 4 && N < 4 && source.units - unit >= 4 {
            units::<S, N, T, 4, F>(source, unit, steps, by, starts, sums.as_mut_ptr());
            unit += 4;
        }
        while unit < source.units {
            units::<S, N, T, N, F>(source, unit, steps, by, starts, sums.as_mut_ptr());
            unit += N;
        }
    }
}

/// Dot products of `U` units from `unit` on, as far as they exist, with `T` vectors.
///
/// # Safety
/// As [`all_units`], the lengths being checked; the source has unit `unit`, and all of them if `U > N`.
#[inline(always)]
unsafe fn units<S: Steps<N>, const N: usize, const T: usize, const U: usize, F: Set>(
    source: Source<'_>,
    unit: usize,
    steps: S,
    by: &Factors<'_>,
    starts: [i32; T],
    sums: *mut f32,
) {
    let step_bytes = N * source.unit_bytes;
    // A loop that passes over other units comes to what follows only after they have had theirs: it asks for the same units of the next tile.
    let ahead = if U == UNITS {
        AHEAD
    } else {
        source.blocks * source.block_bytes
    };
    // SAFETY: the caller promises the processor, the units, 4 values of each vector per block, and 16 scales and sums of each unit.
    unsafe {
        let mut dots = begin::<T, U>(starts);
        let mut block = source.first.add(unit * source.unit_bytes);
        for b in 0..source.blocks {
            let values = values::<T>(by, b);
            let mut codes = block;
            for step in 0..U / N {
                if S::STREAMED {
                    _mm_prefetch::<_MM_HINT_T1>(codes.wrapping_add(ahead).cast());
                }
                let levels = steps.levels(codes);
                add_step::<S, N, T, U, F>(&mut dots, step, levels, values);
                codes = codes.wrapping_add(step_bytes);
            }
            block = block.wrapping_add(source.block_bytes);
        }
        finish::<S, N, T, U>(source, unit, dots, by, sums);
    }
}

/// Dot products before the first block.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn begin<const T: usize, const U: usize>(starts: [i32; T]) -> [[__m512i; U]; T] {
    // SAFETY: the caller promises AVX-512.
    unsafe {
        let mut dots = [[_mm512_setzero_si512(); U]; T];
        for (dots, start) in dots.iter_mut().zip(starts) {
            *dots = [_mm512_set1_epi32(start); U];
        }
        dots
    }
}

/// The values of a block.
///
/// # Safety
/// The processor has AVX-512 BW; each of `T` vectors has the block.
#[inline(always)]
unsafe fn values<const T: usize>(by: &Factors<'_>, block: usize) -> [Values; T] {
    // SAFETY: the caller promises both.
    unsafe {
        let x = by.x.as_ptr().add(block * BLOCK_COLS);
        let mut values = [Values::new(x); T];
        for (t, values) in values.iter_mut().enumerate().skip(1) {
            *values = Values::new(x.add(t * by.stride));
        }
        values
    }
}

/// Adds the products of a step's levels.
///
/// # Safety
/// The processor has the features of the set.
#[inline(always)]
unsafe fn add_step<S: Steps<N>, const N: usize, const T: usize, const U: usize, F: Set>(
    dots: &mut [[__m512i; U]; T],
    step: usize,
    levels: [__m512i; N],
    values: [Values; T],
) {
    for (dots, values) in dots.iter_mut().zip(values) {
        for (dots, levels) in dots[step * N..][..N].iter_mut().zip(levels) {
            // SAFETY: the caller promises the features.
            *dots = unsafe { add::<F>(S::SPLIT, *dots, levels, values) };
        }
    }
}

/// Adds scaled dot products of units from `unit` on, as far as they exist, to the sums.
///
/// # Safety
/// The processor has AVX-512; there are 16 scales and sums of each unit.
#[inline(always)]
unsafe fn finish<S: Steps<N>, const N: usize, const T: usize, const U: usize>(
    source: Source<'_>,
    unit: usize,
    dots: [[__m512i; U]; T],
    by: &Factors<'_>,
    sums: *mut f32,
) {
    for (t, dots) in dots.iter().enumerate() {
        for (step, dots) in dots.as_chunks::<N>().0.iter().enumerate() {
            // SAFETY: the caller promises the processor, and scales and sums of units that exist.
            unsafe {
                for (i, dots) in S::ascending(*dots).into_iter().enumerate() {
                    let unit = unit + step * N + i;
                    if U > N || unit < source.units {
                        let scales = by.scales.as_ptr().add(unit * ROW_UNIT);
                        let sums = sums.add((t * source.units + unit) * ROW_UNIT);
                        accumulate(dots, scales, by.x_scales[t], sums);
                    }
                }
            }
        }
    }
}

/// See [`Set::decode`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn decode_with<S: Steps<N>, const N: usize, F: Set>(source: Source<'_>, out: &mut [u8]) {
    // SAFETY: the caller promises all of it; units beyond the last one are not stored.
    unsafe {
        let steps = S::new::<F>(source.lookup);
        let mut block = source.first;
        for b in 0..source.blocks {
            for first in (0..source.units).step_by(N) {
                let codes = block.wrapping_add(first * source.unit_bytes);
                _mm_prefetch::<_MM_HINT_T1>(codes.wrapping_add(DECODE_AHEAD).cast());
                let levels = S::ascending(steps.levels(codes));
                for (unit, levels) in (first..source.units).zip(levels) {
                    let to = out.as_mut_ptr().add((unit * source.blocks + b) * UNIT);
                    _mm512_storeu_si512(to.cast(), levels);
                }
            }
            block = block.wrapping_add(source.block_bytes);
        }
    }
}

/// `sums = fma(dots, scales · x_scale, sums)` of 16 rows.
///
/// # Safety
/// The processor has AVX-512; there are 16 scales and 16 sums.
#[inline(always)]
pub(in super::super) unsafe fn accumulate(
    dots: __m512i,
    scales: *const f32,
    x_scale: f32,
    sums: *mut f32,
) {
    // SAFETY: the caller promises all of it.
    unsafe { _mm512_storeu_ps(sums, scaled(dots, scales, x_scale, _mm512_loadu_ps(sums))) }
}

/// `fma(dots, scales · x_scale, sum)` of 16 rows.
///
/// # Safety
/// The processor has AVX-512; there are 16 scales.
#[inline(always)]
pub(super) unsafe fn scaled(
    dots: __m512i,
    scales: *const f32,
    x_scale: f32,
    sum: __m512,
) -> __m512 {
    // SAFETY: the caller promises both.
    unsafe {
        let scale = _mm512_mul_ps(_mm512_loadu_ps(scales), _mm512_set1_ps(x_scale));
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, sum)
    }
}

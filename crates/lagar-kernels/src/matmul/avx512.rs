//! The integer kernels with AVX-512 VBMI and VNNI.
//!
//! A step handles 64 windows, 16 rows × 4 columns: one load, `vpermb` (bytes to the 8-byte lanes that
//! need them), `vpmultishiftqb` (8 windows a lane, at any bit), a look-up of unsigned levels, and
//! `vpdpbusd` with 4 values broadcast. The port of the byte shuffles is the bottleneck, so a look-up is
//! made of two `vpermb` and of what the other port can do beside them.

use std::arch::x86_64::*;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT, Split};

use super::lookup::{Form, Lookup, Place};
use super::tile::{Ops, Product, Tile, UNIT};

pub(super) const OPS: Ops = Ops {
    dot,
    decode,
    offset,
    multiply,
    scales,
};

/// What is added to levels by look-ups of free tables.
const FREE_OFFSET: u8 = 128;
/// What is added to levels, within ±63, by look-ups of split tables.
const SPLIT_OFFSET: u8 = 64;

#[repr(C, align(64))]
struct Aligned<T>(T);

/// Where each of 64 windows is: the byte that each byte of an 8-byte lane comes from, and the bit of
/// that lane at which each window begins.
struct Spread {
    bytes: Aligned<[u8; UNIT]>,
    shifts: Aligned<[u8; UNIT]>,
}

/// By depth and by whether `L = K`.
static SPREAD: [[Spread; 2]; 9] = {
    const fn spread(depth: usize, scalar: bool) -> Spread {
        let place = Place::of(depth, scalar);
        let (mut bytes, mut shifts) = ([0; UNIT], [0; UNIT]);
        let mut i = 0;
        while i < UNIT {
            let (lane, j) = (i / 8, i % 8);
            // Lane 7 ends with byte `7 · 7 + skip + 7 = 57` at most, window 7 before bit 64.
            let skip = place.first / 8;
            bytes[i] = (lane * depth + skip + j) as u8;
            shifts[i] = (place.bit(j) - 8 * skip) as u8;
            i += 1;
        }
        Spread {
            bytes: Aligned(bytes),
            shifts: Aligned(shifts),
        }
    }
    macro_rules! depths {
        ($($depth:literal)*) => { [$([spread($depth, false), spread($depth, true)]),*] };
    }
    depths!(0 1 2 3 4 5 6 7 8)
};

/// Extraction and look-up of 64 windows, as registers.
trait Decode: Copy {
    /// What is added to levels.
    const OFFSET: u8;

    /// # Safety
    /// The processor has AVX-512 VBMI.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Windows, with any bits above them, to levels plus offset.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    unsafe fn levels(self, windows: __m512i) -> __m512i;
}

/// Up to 64 levels: the windows' low 6 bits choose.
#[derive(Clone, Copy)]
struct Small(__m512i);

impl Decode for Small {
    const OFFSET: u8 = FREE_OFFSET;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512; there are 256 levels.
        unsafe { Self(free_levels(lookup, 0)) }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe { _mm512_permutexvar_epi8(windows, self.0) }
    }
}

/// 128 or 256 free levels, as two or four registers.
#[derive(Clone, Copy)]
struct Free<const HALVES: usize>([[__m512i; 2]; HALVES]);

impl<const HALVES: usize> Decode for Free<HALVES> {
    const OFFSET: u8 = FREE_OFFSET;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let mut tables = [[_mm512_setzero_si512(); 2]; HALVES];
            for (half, tables) in tables.iter_mut().enumerate() {
                tables[0] = free_levels(lookup, 2 * half);
                tables[1] = free_levels(lookup, 2 * half + 1);
            }
            Self(tables)
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe {
            let [a, b] = self.0[0];
            let low = _mm512_permutex2var_epi8(a, windows, b);
            if HALVES == 1 {
                return low;
            }
            let [a, b] = self.0[HALVES - 1];
            let high = _mm512_permutex2var_epi8(a, windows, b);
            _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(windows), high)
        }
    }
}

/// Plain int8.
#[derive(Clone, Copy)]
struct Plain(__m512i);

impl Decode for Plain {
    const OFFSET: u8 = FREE_OFFSET;

    #[inline(always)]
    unsafe fn new(_: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe { Self(_mm512_set1_epi8(FREE_OFFSET as i8)) }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512.
        unsafe { _mm512_xor_si512(windows, self.0) }
    }
}

/// A split table whose sign bits lie `SHIFT` above the first bit of the halves: A's is bit
/// `4 + SHIFT`, B's is bit `SHIFT`. Then one shift by `SHIFT` brings both where 6-bit look-ups want them.
#[derive(Clone, Copy)]
struct Halves<const SHIFT: u32> {
    /// By 4 bits of the window and, at bit 4, the sign.
    a: __m512i,
    /// By bits `SHIFT` and up of the window: the sign first.
    b: __m512i,
    low: __m512i,
}

impl<const SHIFT: u32> Decode for Halves<SHIFT> {
    const OFFSET: u8 = SPLIT_OFFSET;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let split = lookup.split.as_ref().expect("a split table");
        let (mut a, mut b) = ([0i8; UNIT], [0i8; UNIT]);
        for i in 0..UNIT {
            let level = split.a[i & 15];
            // Only the sum of both is known to fit a byte, so each wraps.
            let level = if i >> 4 & 1 == 1 { level.wrapping_neg() } else { level };
            a[i] = level.wrapping_add(SPLIT_OFFSET as i8);
            let level = split.b[(i >> (4 - SHIFT)) & 15];
            b[i] = if i & 1 == 1 { level.wrapping_neg() } else { level };
        }
        // SAFETY: the caller promises AVX-512; the arrays have 64 bytes.
        unsafe {
            Self {
                a: _mm512_loadu_si512(a.as_ptr().cast()),
                b: _mm512_loadu_si512(b.as_ptr().cast()),
                low: _mm512_set1_epi8(15),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        /// Bits of the second operand where the third is set, of the first elsewhere.
        const SELECT: i32 = 0b1101_1000;
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe {
            // The look-ups ignore what comes from the neighbouring byte.
            let shifted = _mm512_srli_epi16::<SHIFT>(windows);
            let a = _mm512_ternarylogic_epi32::<SELECT>(shifted, windows, self.low);
            let a = _mm512_permutexvar_epi8(a, self.a);
            let b = _mm512_permutexvar_epi8(shifted, self.b);
            _mm512_add_epi8(a, b)
        }
    }
}

/// 64 free levels plus offset.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn free_levels(lookup: &Lookup, quarter: usize) -> __m512i {
    let levels = &lookup.levels.as_chunks::<UNIT>().0[quarter];
    // SAFETY: the caller promises AVX-512; there are 64 levels.
    unsafe {
        let levels = _mm512_loadu_si512(levels.as_ptr().cast());
        _mm512_xor_si512(levels, _mm512_set1_epi8(FREE_OFFSET as i8))
    }
}

/// Extraction of windows.
#[derive(Clone, Copy)]
struct Extract {
    bytes: __m512i,
    shifts: __m512i,
}

impl Extract {
    /// # Safety
    /// The processor has AVX-512.
    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let spread = &SPREAD[lookup.depth][usize::from(lookup.scalar)];
        // SAFETY: the caller promises AVX-512; both arrays have 64 bytes.
        unsafe {
            Self {
                bytes: _mm512_loadu_si512(spread.bytes.0.as_ptr().cast()),
                shifts: _mm512_loadu_si512(spread.shifts.0.as_ptr().cast()),
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512 VBMI; 64 bytes are readable.
    #[inline(always)]
    unsafe fn windows(self, codes: *const u8) -> __m512i {
        // SAFETY: the caller promises both.
        unsafe {
            let bytes = _mm512_permutexvar_epi8(self.bytes, _mm512_loadu_si512(codes.cast()));
            _mm512_multishift_epi64_epi8(self.shifts, bytes)
        }
    }
}

/// The fast form of a split table, if its sign bits allow it: the distance of both sign bits from the
/// first bits of their halves.
fn halves_shift(lookup: &Lookup) -> Option<u8> {
    let Split { a_sign_bit, b_sign_bit, .. } = lookup.split?;
    (b_sign_bit + 4 == a_sign_bit && b_sign_bit >= 2).then_some(b_sign_bit)
}

fn offset(lookup: &Lookup) -> u8 {
    match halves_shift(lookup) {
        Some(_) => SPLIT_OFFSET,
        None => FREE_OFFSET,
    }
}

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
        match product.sums.len() {
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
        for (sums, sum) in sums.iter_mut().zip(product.sums) {
            *sums = [_mm512_set1_epi32(-offset * sum); U];
        }
        let levels = product.levels.as_ptr().add(unit * stride);
        for b in 0..product.blocks {
            let mut rows = [_mm512_setzero_si512(); U];
            for (u, rows) in rows.iter_mut().enumerate() {
                *rows = _mm512_loadu_si512(levels.add(u * stride + b * UNIT).cast());
            }
            for (t, sums) in sums.iter_mut().enumerate() {
                let x = product.x.as_ptr().add(t * product.stride + b * BLOCK_COLS);
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

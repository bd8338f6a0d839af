//! The integer kernels with AVX2.
//!
//! A step handles 32 windows, 8 rows × 4 columns. Each 16-bit lane gets the two bytes that hold a
//! window; a multiplication by a power of two shifts it into place, lane by lane. Levels of split
//! tables, plus 64, are in 1..=127, so that the pairwise sums of `vpmaddubsw` never saturate
//! (`2 · 127 · 127 < 2¹⁵`); for other tables the level's sign moves to the other factor
//! (`2 · 128 · 127 < 2¹⁵`).

use std::arch::x86_64::*;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::lookup::{Form, Lookup, Place};
use super::tile::{Ops, Product, Tile, UNIT};

pub(super) const OPS: Ops = Ops {
    dot,
    decode,
    offset,
    multiply,
    scales,
};

/// What is added to the levels of split tables.
const SPLIT_OFFSET: u8 = 64;

/// Windows of a step.
const STEP: usize = 32;

/// Where each of 32 windows is. Half `h` of the register holds 16 windows, which begin in the bytes of
/// the same half, or all in the first half if `NEAR`.
#[repr(C, align(32))]
struct Spread {
    /// The two bytes of each even window, and their factor.
    even: [u8; STEP],
    even_factors: [u16; STEP / 2],
    /// The two bytes of each odd window, and their factor.
    odd: [u8; STEP],
    odd_factors: [u16; STEP / 2],
}

/// By depth and by whether `L = K`.
static SPREAD: [[Spread; 2]; 9] = {
    const fn spread(depth: usize, scalar: bool) -> Spread {
        let place = Place::of(depth, scalar);
        let mut spread = Spread {
            even: [0; STEP],
            even_factors: [0; STEP / 2],
            odd: [0; STEP],
            odd_factors: [0; STEP / 2],
        };
        let mut lane = 0;
        while lane < STEP / 2 {
            let (half, pair) = (lane / 8, lane % 8);
            let base = if near(depth) { half * 2 * depth } else { 0 };
            let (even, odd) = (place.bit(2 * pair), place.bit(2 * pair + 1));
            // A shared load takes the odd window from the even one's bytes, at most 8 bits up.
            let odd_byte = if shared(depth) { even / 8 } else { odd / 8 };
            spread.even[2 * lane] = (base + even / 8) as u8;
            spread.odd[2 * lane] = (base + odd_byte) as u8;
            // Byte 16 is asked for only at depth 8, where no bit of it is used.
            spread.even[2 * lane + 1] = ((base + even / 8 + 1) & 15) as u8;
            spread.odd[2 * lane + 1] = ((base + odd_byte + 1) & 15) as u8;
            spread.even_factors[lane] = 1 << (8 - even % 8);
            spread.odd_factors[lane] = 1 << (8 + 8 * odd_byte - odd);
            lane += 1;
        }
        spread
    }
    macro_rules! depths {
        ($($depth:literal)*) => { [$([spread($depth, false), spread($depth, true)]),*] };
    }
    depths!(0 1 2 3 4 5 6 7 8)
};

/// Whether two neighbouring windows always lie in the same two bytes, from an even one's first byte on.
const fn shared(depth: usize) -> bool {
    matches!(depth, 1 | 2 | 4 | 8)
}

/// Whether the kernels for shared bytes read all 32 windows from one 16-byte load.
const fn near(depth: usize) -> bool {
    matches!(depth, 1 | 2)
}

/// Extraction of windows.
#[derive(Clone, Copy)]
struct Extract<const SHARED: bool, const NEAR: bool> {
    even: __m256i,
    even_factors: __m256i,
    odd: __m256i,
    odd_factors: __m256i,
    high: __m256i,
    half_bytes: usize,
}

impl<const SHARED: bool, const NEAR: bool> Extract<SHARED, NEAR> {
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        assert!(shared(lookup.depth) == SHARED && near(lookup.depth) == NEAR);
        let spread = &SPREAD[lookup.depth][usize::from(lookup.scalar)];
        // SAFETY: the caller promises AVX2; each array has 32 bytes.
        unsafe {
            Self {
                even: _mm256_loadu_si256(spread.even.as_ptr().cast()),
                even_factors: _mm256_loadu_si256(spread.even_factors.as_ptr().cast()),
                odd: _mm256_loadu_si256(spread.odd.as_ptr().cast()),
                odd_factors: _mm256_loadu_si256(spread.odd_factors.as_ptr().cast()),
                high: _mm256_set1_epi16(0xff00_u16 as i16),
                half_bytes: 2 * lookup.depth,
            }
        }
    }

    /// # Safety
    /// The processor has AVX2; 16 bytes are readable from `codes` and from `codes + half_bytes` on.
    #[inline(always)]
    unsafe fn windows(self, codes: *const u8) -> __m256i {
        // SAFETY: the caller promises both.
        unsafe {
            let low = _mm_loadu_si128(codes.cast());
            let bytes = if NEAR {
                _mm256_broadcastsi128_si256(low)
            } else {
                let high = _mm_loadu_si128(codes.add(self.half_bytes).cast());
                _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
            };
            let even = _mm256_shuffle_epi8(bytes, self.even);
            let odd = if SHARED { even } else { _mm256_shuffle_epi8(bytes, self.odd) };
            let even = _mm256_srli_epi16::<8>(_mm256_mullo_epi16(even, self.even_factors));
            let odd = _mm256_and_si256(_mm256_mullo_epi16(odd, self.odd_factors), self.high);
            _mm256_or_si256(even, odd)
        }
    }
}

/// Look-up of 32 windows, as registers.
trait Decode: Copy {
    /// Whether levels are signed bytes (else unsigned ones, with an offset of 64).
    const SIGNED: bool;

    /// # Safety
    /// The processor has AVX2.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Windows, with any bits above them, to levels.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn levels(self, windows: __m256i) -> __m256i;
}

/// 16 bytes in both halves.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn twice(bytes: [i8; 16]) -> __m256i {
    // SAFETY: the caller promises AVX2; there are 16 bytes.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

/// Up to 16 levels.
#[derive(Clone, Copy)]
struct Nibble {
    table: __m256i,
    low: __m256i,
}

impl Decode for Nibble {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                table: twice(lookup.nibble()),
                low: _mm256_set1_epi8(15),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe { _mm256_shuffle_epi8(self.table, _mm256_and_si256(windows, self.low)) }
    }
}

/// A split table: the levels and the signs of each half by 4 bits.
#[derive(Clone, Copy)]
struct Halves {
    a: __m256i,
    b: __m256i,
    /// ±1, by the bits that choose B.
    a_sign: __m256i,
    /// ±1, by the bits that choose A.
    b_sign: __m256i,
    low: __m256i,
    offset: __m256i,
}

impl Decode for Halves {
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let split = lookup.split.as_ref().expect("a split table");
        let mut signs = [[1i8; 16]; 2];
        for i in 0..16u8 {
            let negative = [i >> (split.a_sign_bit - 4) & 1, i >> split.b_sign_bit & 1];
            for (signs, negative) in signs.iter_mut().zip(negative) {
                signs[usize::from(i)] -= 2 * negative as i8;
            }
        }
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                a: twice(split.a),
                b: twice(split.b),
                a_sign: twice(signs[0]),
                b_sign: twice(signs[1]),
                low: _mm256_set1_epi8(15),
                offset: _mm256_set1_epi8(SPLIT_OFFSET as i8),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let low = _mm256_and_si256(windows, self.low);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(windows), self.low);
            let a = _mm256_shuffle_epi8(self.a, low);
            let b = _mm256_shuffle_epi8(self.b, high);
            let a = _mm256_sign_epi8(a, _mm256_shuffle_epi8(self.a_sign, high));
            let b = _mm256_sign_epi8(b, _mm256_shuffle_epi8(self.b_sign, low));
            _mm256_add_epi8(_mm256_add_epi8(a, b), self.offset)
        }
    }
}

/// Plain int8.
#[derive(Clone, Copy)]
struct Plain;

impl Decode for Plain {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn new(_: &Lookup) -> Self {
        Self
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        windows
    }
}

/// `TABLES · 16` free levels, 128 or 256.
///
/// A byte shuffle gives 0 where an index is negative. So with indices that go down by 16 from table to
/// table, all tables up to the right one answer, and if each holds the difference (exclusive or) to
/// the one before it, what remains is the right one's answer. Indices from 128 on are negative at once
/// and stay so, because the subtraction saturates; they are looked up with the top bit flipped.
#[derive(Clone, Copy)]
struct Free<const TABLES: usize> {
    differences: [__m256i; TABLES],
}

impl<const TABLES: usize> Decode for Free<TABLES> {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let (levels, _) = lookup.levels.as_chunks::<16>();
        // SAFETY: the caller promises AVX2.
        unsafe {
            let mut differences = [_mm256_setzero_si256(); TABLES];
            for (i, difference) in differences.iter_mut().enumerate() {
                *difference = twice(levels[i]);
                if i % 8 != 0 {
                    *difference = _mm256_xor_si256(*difference, twice(levels[i - 1]));
                }
            }
            Self { differences }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let top = _mm256_set1_epi8(-128);
            let step = _mm256_set1_epi8(16);
            let mut levels = _mm256_setzero_si256();
            for (i, tables) in self.differences.chunks(8).enumerate() {
                let mut index = match (TABLES, i) {
                    (16, 0) => windows,
                    (16, _) => _mm256_xor_si256(windows, top),
                    _ => _mm256_andnot_si256(top, windows),
                };
                for &table in tables {
                    levels = _mm256_xor_si256(levels, _mm256_shuffle_epi8(table, index));
                    index = _mm256_subs_epi8(index, step);
                }
            }
            levels
        }
    }
}

fn offset(lookup: &Lookup) -> u8 {
    match lookup.form {
        Form::Split => SPLIT_OFFSET,
        Form::Nibble | Form::Plain | Form::Free => 0,
    }
}

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
        match (product.sums.len(), product.lookup.form == Form::Split) {
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
    for (unit, levels) in product.levels.chunks_exact(product.blocks * UNIT).enumerate() {
        let mut sums = [[_mm256_setzero_si256(); 2]; T];
        for (sums, sum) in sums.iter_mut().zip(product.sums) {
            *sums = [_mm256_set1_epi32(-offset * sum); 2];
        }
        for (b, levels) in levels.as_chunks::<UNIT>().0.iter().enumerate() {
            // SAFETY: there are 64 levels; `Product::check` has the length of `x`; the features are
            // those of this function.
            unsafe {
                let low = _mm256_loadu_si256(levels.as_ptr().cast());
                let high = _mm256_loadu_si256(levels.as_ptr().add(STEP).cast());
                for (t, sums) in sums.iter_mut().enumerate() {
                    let x = product.x.as_ptr().add(t * product.stride + b * BLOCK_COLS);
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

//! 16 lanes as two AVX2 registers.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// Token of AVX2, FMA and F16C. Whoever holds one runs on a processor that has these.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// Runs a kernel with AVX2.
///
/// # Safety
/// The processor has the features of `Isa::Avx2`.
#[target_feature(enable = "avx2,fma,f16c,popcnt,bmi2")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

impl Avx2 {
    /// A token.
    ///
    /// # Safety
    /// The processor has the features of `Isa::Avx2`.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

/// Lanes 0 to 7 and 8 to 15.
type Pair = (__m256, __m256);

/// One instruction on both halves.
macro_rules! both {
    ($instruction:ident $(::<$constant:path>)?, $($operand:ident),+) => {
        // SAFETY: the token proves AVX2, FMA and F16C.
        unsafe { ($instruction$(::<$constant>)?($($operand.0),+), $instruction$(::<$constant>)?($($operand.1),+)) }
    };
}

impl Simd for Avx2 {
    type F32 = Pair;
    type Mask = Pair;

    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, v: f32) -> Pair {
        // SAFETY: the token proves AVX2.
        let half = unsafe { _mm256_set1_ps(v) };
        (half, half)
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Pair {
        let from = from.as_ptr();
        // SAFETY: the token proves AVX2; the array is 64 readable bytes.
        unsafe { (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    fn store(self, v: Pair, to: &mut [f32; LANES]) {
        let to = to.as_mut_ptr();
        // SAFETY: the token proves AVX2; the array is 64 writable bytes.
        unsafe {
            _mm256_storeu_ps(to, v.0);
            _mm256_storeu_ps(to.add(8), v.1);
        }
    }
    #[inline(always)]
    fn of_bits(self, bits: (__m256i, __m256i)) -> Pair {
        both!(_mm256_castsi256_ps, bits)
    }
    #[inline(always)]
    fn load_f32_bytes(self, from: &[u8; 64]) -> Pair {
        let from = from.as_ptr().cast::<f32>();
        // SAFETY: the token proves AVX2; the array is 64 readable bytes, x86 is little-endian.
        unsafe { (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> Pair {
        let from = from.as_ptr();
        // SAFETY: the token proves AVX2 and F16C; the array is 32 readable bytes.
        unsafe {
            (
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())),
            )
        }
    }
    #[inline(always)]
    fn store_f16(self, v: Pair, to: &mut [u8; 32]) {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
        let halves = both!(_mm256_cvtps_ph::<NEAREST>, v);
        let to = to.as_mut_ptr();
        // SAFETY: the token proves AVX2; the array is 32 writable bytes.
        unsafe {
            _mm_storeu_si128(to.cast(), halves.0);
            _mm_storeu_si128(to.add(16).cast(), halves.1);
        }
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> Pair {
        let from = from.as_ptr();
        // SAFETY: the token proves AVX2; the array is 32 readable bytes.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(16).cast()));
            (
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            )
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> Pair {
        let from = from.as_ptr();
        // SAFETY: the token proves AVX2; the array is twice 8 readable bytes.
        unsafe {
            let (low, high) = (
                _mm_loadl_epi64(from.cast()),
                _mm_loadl_epi64(from.add(8).cast()),
            );
            (
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)),
            )
        }
    }
    #[inline(always)]
    fn load_i8_columns(self, from: &[u8; 4 * LANES], offset: u8) -> [Pair; 4] {
        // SAFETY: the token proves AVX2; the array is 64 readable bytes.
        unsafe {
            let offset = _mm256_set1_epi8(offset as i8);
            let low = _mm256_loadu_si256(from.as_ptr().cast());
            let high = _mm256_loadu_si256(from.as_ptr().add(32).cast());
            let low = columns(_mm256_sub_epi8(low, offset));
            let high = columns(_mm256_sub_epi8(high, offset));
            std::array::from_fn(|c| (low[c], high[c]))
        }
    }
    #[inline(always)]
    fn load_levels(self, from: &[u8; LANES], levels: &[i8; 16]) -> [Pair; 2] {
        // SAFETY: the token proves AVX2; the arrays are 16 readable bytes each.
        let [low, high] = unsafe {
            let (bytes, half) = (_mm_loadu_si128(from.as_ptr().cast()), _mm_set1_epi8(15));
            let levels = _mm_loadu_si128(levels.as_ptr().cast());
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), half);
            [
                _mm_shuffle_epi8(levels, _mm_and_si128(bytes, half)),
                _mm_shuffle_epi8(levels, high),
            ]
        };
        [widen_i8(self, low), widen_i8(self, high)]
    }
    #[inline(always)]
    fn store_i8(self, v: Pair, to: &mut [i8; LANES]) {
        let integers = both!(_mm256_cvtps_epi32, v);
        // SAFETY: the token proves AVX2; the array is 16 writable bytes.
        unsafe {
            let words = _mm256_packs_epi32(integers.0, integers.1);
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packs_epi16(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
    }
    #[inline(always)]
    fn store_u8(self, v: Pair, to: &mut [u8; LANES]) {
        let integers = both!(_mm256_cvtps_epi32, v);
        // SAFETY: the token proves AVX2; the array is 16 writable bytes.
        unsafe {
            let words = _mm256_packs_epi32(integers.0, integers.1);
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packus_epi16(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
    }

    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn fnma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        both!(_mm256_fnmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps, sign, a)
    }
    #[inline(always)]
    fn round(self, a: Pair) -> Pair {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        both!(_mm256_round_ps::<NEAREST>, a)
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: Pair, n: Pair) -> Pair {
        (scale_half(self, a.0, n.0), scale_half(self, a.1, n.1))
    }

    #[inline(always)]
    fn less(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_cmp_ps::<_CMP_LT_OQ>, a, b)
    }
    #[inline(always)]
    fn select(self, mask: Pair, yes: Pair, no: Pair) -> Pair {
        both!(_mm256_blendv_ps, no, yes, mask)
    }
    #[inline(always)]
    fn mask_bits(self, mask: Pair) -> u16 {
        let bits = both!(_mm256_movemask_ps, mask);
        (bits.0 | bits.1 << 8) as u16
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u16) -> Pair {
        // SAFETY: the token proves AVX2.
        unsafe {
            let bits = _mm256_set1_epi32(i32::from(bits));
            let low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let high = _mm256_slli_epi32::<8>(low);
            (
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, low), low)),
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, high), high)),
            )
        }
    }

    #[inline(always)]
    fn swap<const DISTANCE: usize>(self, a: Pair) -> Pair {
        const PAIRS: i32 = 0b10_11_00_01;
        const QUADS: i32 = 0b01_00_11_10;
        const HALVES: i32 = 1;
        match DISTANCE {
            1 => both!(_mm256_permute_ps::<PAIRS>, a),
            2 => both!(_mm256_permute_ps::<QUADS>, a),
            4 => both!(_mm256_permute2f128_ps::<HALVES>, a, a),
            8 => (a.1, a.0),
            _ => unreachable!("lanes are swapped at distances 1, 2, 4 and 8"),
        }
    }
    #[inline(always)]
    fn spread(self, a: Pair, index: &[u32; LANES / 2]) -> Pair {
        // SAFETY: the token proves AVX2; the array is 32 readable bytes.
        let half = unsafe {
            let index = _mm256_loadu_si256(index.as_ptr().cast());
            let low = _mm256_permutevar8x32_ps(a.0, index);
            let high = _mm256_permutevar8x32_ps(a.1, index);
            // Bit 3 of the index says which half it names.
            _mm256_blendv_ps(
                low,
                high,
                _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)),
            )
        };
        (half, half)
    }
    #[inline(always)]
    fn store_rows(self, columns: &[[f32; LANES]], to: &mut [f32], stride: usize) {
        super::check_rows(columns, to, stride);
        for quad in 0..4 {
            for first in (0..columns.len()).step_by(8) {
                // SAFETY: the token proves AVX2; 4 rows of a column are read; the check has the length of
                // `to`.
                unsafe {
                    // Four rows of columns `first + i` and `first + i + 4`.
                    let mut parts = [_mm256_setzero_ps(); 4];
                    for (i, part) in parts.iter_mut().enumerate() {
                        let column = columns.as_ptr().add(first + i).cast::<f32>().add(4 * quad);
                        let v = _mm256_castps128_ps256(_mm_loadu_ps(column));
                        *part = _mm256_insertf128_ps::<1>(v, _mm_loadu_ps(column.add(4 * LANES)));
                    }
                    let [a, b, c, d] = parts;
                    let pairs = [
                        _mm256_castps_pd(_mm256_unpacklo_ps(a, b)),
                        _mm256_castps_pd(_mm256_unpacklo_ps(c, d)),
                        _mm256_castps_pd(_mm256_unpackhi_ps(a, b)),
                        _mm256_castps_pd(_mm256_unpackhi_ps(c, d)),
                    ];
                    for (half, pair) in pairs.chunks_exact(2).enumerate() {
                        let to = to.as_mut_ptr().add((4 * quad + 2 * half) * stride + first);
                        let (even, odd) = (
                            _mm256_unpacklo_pd(pair[0], pair[1]),
                            _mm256_unpackhi_pd(pair[0], pair[1]),
                        );
                        _mm256_storeu_ps(to, _mm256_castpd_ps(even));
                        _mm256_storeu_ps(to.add(stride), _mm256_castpd_ps(odd));
                    }
                }
            }
        }
    }
    #[inline(always)]
    fn first(self, v: Pair) -> f32 {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_cvtss_f32(v.0) }
    }
}

/// The four bytes of each lane, lowest first, as numbers.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn columns(bytes: __m256i) -> [__m256; 4] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let tops = [
            _mm256_slli_epi32::<24>(bytes),
            _mm256_slli_epi32::<16>(bytes),
            _mm256_slli_epi32::<8>(bytes),
            bytes,
        ];
        let mut columns = [_mm256_setzero_ps(); 4];
        for (column, top) in columns.iter_mut().zip(tops) {
            *column = _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(top));
        }
        columns
    }
}

/// `a · 2ⁿ` in two steps, each with a normal factor; only the second can round.
#[inline(always)]
fn scale_half(_: Avx2, a: __m256, n: __m256) -> __m256 {
    // SAFETY: the token proves AVX2.
    unsafe {
        let bias = _mm256_set1_epi32(127);
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        let rest = _mm256_sub_epi32(n, half);
        let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
        let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias));
        let a = _mm256_mul_ps(a, _mm256_castsi256_ps(first));
        _mm256_mul_ps(a, _mm256_castsi256_ps(second))
    }
}

/// 16 signed bytes.
#[inline(always)]
fn widen_i8(_: Avx2, bytes: __m128i) -> Pair {
    // SAFETY: the token proves AVX2.
    unsafe {
        let high = _mm_unpackhi_epi64(bytes, bytes);
        (
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)),
        )
    }
}

//! 16 lanes as one AVX-512 register.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// Token of AVX-512 (F, BW, DQ and VL, with AVX2, FMA, F16C, POPCNT and BMI2). Whoever holds one
/// runs on a processor that has these.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// Runs a kernel with AVX-512.
///
/// # Safety
/// The processor has the features of `Isa::Avx512Bw`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2,popcnt")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

impl Avx512 {
    /// A token.
    ///
    /// # Safety
    /// The processor has the features of `Isa::Avx512Bw`.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

impl Simd for Avx512 {
    type F32 = __m512;
    type Mask = __mmask16;

    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, v: f32) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_set1_ps(v) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        // SAFETY: the token proves AVX-512; the array is 64 readable bytes.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32; LANES]) {
        // SAFETY: the token proves AVX-512; the array is 64 writable bytes.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn of_bits(self, bits: __m512i) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_castsi512_ps(bits) }
    }
    #[inline(always)]
    fn load_f32_bytes(self, from: &[u8; 64]) -> __m512 {
        // SAFETY: the token proves AVX-512; the array is 64 readable bytes, x86 is little-endian.
        unsafe { _mm512_loadu_ps(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> __m512 {
        // SAFETY: the token proves AVX-512; the array is 32 readable bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, to: &mut [u8; 32]) {
        // SAFETY: the token proves AVX-512; the array is 32 writable bytes.
        unsafe {
            let half = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), half);
        }
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> __m512 {
        // SAFETY: the token proves AVX-512; the array is 32 readable bytes.
        unsafe {
            let half = _mm256_loadu_si256(from.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> __m512 {
        // SAFETY: the token proves AVX-512; the array is 16 readable bytes.
        unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        }
    }
    #[inline(always)]
    fn load_i8_columns(self, from: &[u8; 4 * LANES], offset: u8) -> [__m512; 4] {
        /// For `vpternlogd`: bits of the first operand where the second is set, with those of the third.
        const AND_OR: i32 = 0b1110_1010;
        // SAFETY: the token proves AVX-512; the array is 64 readable bytes.
        unsafe {
            // Unsigned, 128 more than they stand for. As bits 0–7 of 2²³, or bits 8–15 of 2¹⁵, a byte adds its own value.
            let add = _mm512_set1_epi8(128u8.wrapping_sub(offset) as i8);
            let low = _mm512_add_epi8(_mm512_loadu_si512(from.as_ptr().cast()), add);
            let high = _mm512_srli_epi32::<16>(low);
            let mut columns = [_mm512_setzero_ps(); 4];
            for (c, column) in columns.iter_mut().enumerate() {
                let (mask, large) = [(0xff, 8_388_608.0), (0xff00, 32_768.0)][c % 2];
                let bytes = _mm512_ternarylogic_epi32::<AND_OR>(
                    [low, high][c / 2],
                    _mm512_set1_epi32(mask),
                    _mm512_castps_si512(_mm512_set1_ps(large)),
                );
                *column = _mm512_sub_ps(_mm512_castsi512_ps(bytes), _mm512_set1_ps(large + 128.0));
            }
            columns
        }
    }
    #[inline(always)]
    fn load_levels(self, from: &[u8; LANES], levels: &[i8; 16]) -> [__m512; 2] {
        let levels = self.load_i8(levels);
        // SAFETY: the token proves AVX-512; the array is 16 readable bytes. A permutation reads the low 4 bits of
        // an index alone.
        unsafe {
            let index = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            [
                _mm512_permutexvar_ps(index, levels),
                _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(index), levels),
            ]
        }
    }
    #[inline(always)]
    fn store_i8(self, v: __m512, to: &mut [i8; LANES]) {
        // SAFETY: the token proves AVX-512; the array is 16 writable bytes.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
    }
    #[inline(always)]
    fn store_u8(self, v: __m512, to: &mut [u8; LANES]) {
        // SAFETY: the token proves AVX-512; the array is 16 writable bytes.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: __m512, n: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    fn less(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_mask_blend_ps(mask, no, yes) }
    }
    #[inline(always)]
    fn mask_bits(self, mask: __mmask16) -> u16 {
        mask
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u16) -> __mmask16 {
        bits
    }

    #[inline(always)]
    fn swap<const DISTANCE: usize>(self, a: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe {
            match DISTANCE {
                1 => _mm512_permute_ps::<0b10_11_00_01>(a),
                2 => _mm512_permute_ps::<0b01_00_11_10>(a),
                4 => _mm512_shuffle_f32x4::<0b10_11_00_01>(a, a),
                8 => _mm512_shuffle_f32x4::<0b01_00_11_10>(a, a),
                _ => unreachable!("lanes are swapped at distances 1, 2, 4 and 8"),
            }
        }
    }

    #[inline(always)]
    fn spread(self, a: __m512, index: &[u32; LANES / 2]) -> __m512 {
        // SAFETY: the token proves AVX-512; the array is 32 readable bytes.
        unsafe {
            let index = _mm256_loadu_si256(index.as_ptr().cast());
            _mm512_permutexvar_ps(_mm512_broadcast_i64x4(index), a)
        }
    }

    #[inline(always)]
    fn store_rows(self, columns: &[[f32; LANES]], to: &mut [f32], stride: usize) {
        super::check_rows(columns, to, stride);
        for quad in 0..4 {
            for first in (0..columns.len()).step_by(16) {
                // SAFETY: the token proves AVX-512; 4 rows of a column are read; the check has the length
                // of `to`.
                unsafe {
                    // Four rows of columns i, i + 4, i + 8 and i + 12.
                    let mut parts = [_mm512_setzero_ps(); 4];
                    for (i, part) in parts.iter_mut().enumerate() {
                        let column = columns.as_ptr().add(first + i).cast::<f32>().add(4 * quad);
                        let v = _mm512_castps128_ps512(_mm_loadu_ps(column));
                        let v = _mm512_insertf32x4::<1>(v, _mm_loadu_ps(column.add(4 * LANES)));
                        let v = _mm512_insertf32x4::<2>(v, _mm_loadu_ps(column.add(8 * LANES)));
                        *part = _mm512_insertf32x4::<3>(v, _mm_loadu_ps(column.add(12 * LANES)));
                    }
                    let [a, b, c, d] = parts;
                    let pairs = [
                        _mm512_castps_pd(_mm512_unpacklo_ps(a, b)),
                        _mm512_castps_pd(_mm512_unpacklo_ps(c, d)),
                        _mm512_castps_pd(_mm512_unpackhi_ps(a, b)),
                        _mm512_castps_pd(_mm512_unpackhi_ps(c, d)),
                    ];
                    for (half, pair) in pairs.chunks_exact(2).enumerate() {
                        let to = to.as_mut_ptr().add((4 * quad + 2 * half) * stride + first);
                        let (even, odd) = (
                            _mm512_unpacklo_pd(pair[0], pair[1]),
                            _mm512_unpackhi_pd(pair[0], pair[1]),
                        );
                        _mm512_storeu_ps(to, _mm512_castpd_ps(even));
                        _mm512_storeu_ps(to.add(stride), _mm512_castpd_ps(odd));
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> __m512 {
        if let Ok(whole) = from.try_into() {
            return self.load(whole);
        }
        let mask = mask_of_first(from.len());
        // SAFETY: the token proves AVX-512; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(mask, from.as_ptr()) }
    }
    #[inline(always)]
    fn store_partial(self, v: __m512, to: &mut [f32]) {
        // What a masked store has written is slow to be read again.
        if let Ok(whole) = (&mut *to).try_into() {
            return self.store(v, whole);
        }
        let mask = mask_of_first(to.len());
        // SAFETY: the token proves AVX-512; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, v) }
    }
    #[inline(always)]
    fn first(self, v: __m512) -> f32 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_cvtss_f32(v) }
    }
}

/// The mask of the first `len` lanes.
#[inline(always)]
fn mask_of_first(len: usize) -> __mmask16 {
    assert!(len <= LANES);
    ((1u32 << len) - 1) as u16
}

use std::arch::x86_64::*;

use super::super::Avx512;
use super::{Integers, LANES, last_index};

/// One instruction.
macro_rules! one {
    ($instruction:ident, $($operand:expr),+) => {
        // SAFETY: the token proves AVX-512.
        unsafe { $instruction($($operand),+) }
    };
}

impl Integers for Avx512 {
    type U32 = __m512i;
    type Truth = __mmask16;

    #[inline(always)]
    fn splat_u32(self, v: u32) -> __m512i {
        one!(_mm512_set1_epi32, v as i32)
    }
    #[inline(always)]
    fn load_u32(self, from: &[u32; LANES]) -> __m512i {
        // SAFETY: the token proves AVX-512; the array is 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_u32(self, v: __m512i, to: &mut [u32; LANES]) {
        // SAFETY: the token proves AVX-512; the array is 64 writable bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) }
    }

    #[inline(always)]
    fn plus(self, a: __m512i, b: __m512i) -> __m512i {
        one!(_mm512_add_epi32, a, b)
    }
    #[inline(always)]
    fn minus(self, a: __m512i, b: __m512i) -> __m512i {
        one!(_mm512_sub_epi32, a, b)
    }
    #[inline(always)]
    fn times(self, a: __m512i, b: __m512i) -> __m512i {
        one!(_mm512_mullo_epi32, a, b)
    }
    #[inline(always)]
    fn minus_saturating(self, a: __m512i, b: __m512i) -> __m512i {
        one!(_mm512_subs_epu16, a, b)
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        one!(_mm512_and_si512, a, b)
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        one!(_mm512_or_si512, a, b)
    }
    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        one!(_mm512_xor_si512, a, b)
    }
    #[inline(always)]
    fn left(self, a: __m512i, n: u32) -> __m512i {
        let n = one!(_mm_cvtsi32_si128, n as i32);
        one!(_mm512_sll_epi32, a, n)
    }
    #[inline(always)]
    fn right(self, a: __m512i, n: u32) -> __m512i {
        let n = one!(_mm_cvtsi32_si128, n as i32);
        one!(_mm512_srl_epi32, a, n)
    }
    #[inline(always)]
    fn left_each(self, a: __m512i, n: __m512i) -> __m512i {
        one!(_mm512_sllv_epi32, a, n)
    }
    #[inline(always)]
    fn right_each(self, a: __m512i, n: __m512i) -> __m512i {
        one!(_mm512_srlv_epi32, a, n)
    }
    #[inline(always)]
    fn spread_sign(self, a: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_srai_epi32::<31>(a) }
    }
    #[inline(always)]
    fn smaller(self, a: __m512i, b: __m512i) -> __m512i {
        one!(_mm512_min_epu32, a, b)
    }
    #[inline(always)]
    fn as_f32_bits(self, a: __m512i) -> __m512i {
        let floats = one!(_mm512_cvtepi32_ps, a);
        one!(_mm512_castps_si512, floats)
    }

    #[inline(always)]
    fn at_least(self, a: __m512i, b: __m512i) -> __mmask16 {
        one!(_mm512_cmpge_epu32_mask, a, b)
    }
    #[inline(always)]
    fn choose(self, truth: __mmask16, yes: __m512i, no: __m512i) -> __m512i {
        one!(_mm512_mask_blend_epi32, truth, no, yes)
    }

    #[inline(always)]
    fn look_up(self, table: &[u32], index: __m512i) -> __m512i {
        let last = self.splat_u32(last_index(table));
        let index = self.smaller(index, last);
        // SAFETY: the token proves AVX-512; every index is inside the table, and below 2^28.
        unsafe { _mm512_i32gather_epi32::<4>(index, table.as_ptr().cast()) }
    }

    #[inline(always)]
    fn refill(self, a: __m512i, words: &[[u8; 2]; LANES]) -> (__m512i, usize) {
        let least = self.splat_u32(1 << 16);
        let low = one!(_mm512_cmplt_epu32_mask, a, least);
        // SAFETY: the token proves AVX-512; the array is 32 readable bytes.
        let next = unsafe {
            let next = _mm512_cvtepu16_epi32(_mm256_loadu_si256(words.as_ptr().cast()));
            _mm512_or_si512(
                _mm512_slli_epi32::<16>(a),
                _mm512_maskz_expand_epi32(low, next),
            )
        };
        (self.choose(low, next, a), low.count_ones() as usize)
    }
}

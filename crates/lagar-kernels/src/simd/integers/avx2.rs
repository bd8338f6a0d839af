use std::arch::x86_64::*;

use super::super::Avx2;
use super::{Integers, LANES, last_index, ranks};

/// Lanes 0 to 7 and 8 to 15.
type Pair = (__m256i, __m256i);

/// Which of the next words each of 8 lanes takes.
static RANKS: [u64; 256] = ranks();

/// One instruction on both halves.
macro_rules! both {
    ($instruction:ident $(::<$constant:literal>)?, $($operand:ident),+) => {
        // SAFETY: the token proves AVX2.
        unsafe { ($instruction$(::<$constant>)?($($operand.0),+), $instruction$(::<$constant>)?($($operand.1),+)) }
    };
}

impl Integers for Avx2 {
    type U32 = Pair;
    type Truth = Pair;

    #[inline(always)]
    fn splat_u32(self, v: u32) -> Pair {
        // SAFETY: the token proves AVX2.
        let half = unsafe { _mm256_set1_epi32(v as i32) };
        (half, half)
    }
    #[inline(always)]
    fn load_u32(self, from: &[u32; LANES]) -> Pair {
        let from = from.as_ptr().cast::<__m256i>();
        // SAFETY: the token proves AVX2; the array is 64 readable bytes.
        unsafe { (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))) }
    }
    #[inline(always)]
    fn store_u32(self, v: Pair, to: &mut [u32; LANES]) {
        let to = to.as_mut_ptr().cast::<__m256i>();
        // SAFETY: the token proves AVX2; the array is 64 writable bytes.
        unsafe {
            _mm256_storeu_si256(to, v.0);
            _mm256_storeu_si256(to.add(1), v.1);
        }
    }

    #[inline(always)]
    fn plus(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn minus(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_sub_epi32, a, b)
    }
    #[inline(always)]
    fn times(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_mullo_epi32, a, b)
    }
    #[inline(always)]
    fn minus_saturating(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_subs_epu16, a, b)
    }
    #[inline(always)]
    fn and(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn or(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn xor(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_xor_si256, a, b)
    }
    #[inline(always)]
    fn left(self, a: Pair, n: u32) -> Pair {
        // SAFETY: the token proves AVX2.
        unsafe {
            let n = _mm_cvtsi32_si128(n as i32);
            (_mm256_sll_epi32(a.0, n), _mm256_sll_epi32(a.1, n))
        }
    }
    #[inline(always)]
    fn right(self, a: Pair, n: u32) -> Pair {
        // SAFETY: the token proves AVX2.
        unsafe {
            let n = _mm_cvtsi32_si128(n as i32);
            (_mm256_srl_epi32(a.0, n), _mm256_srl_epi32(a.1, n))
        }
    }
    #[inline(always)]
    fn left_each(self, a: Pair, n: Pair) -> Pair {
        both!(_mm256_sllv_epi32, a, n)
    }
    #[inline(always)]
    fn right_each(self, a: Pair, n: Pair) -> Pair {
        both!(_mm256_srlv_epi32, a, n)
    }
    #[inline(always)]
    fn spread_sign(self, a: Pair) -> Pair {
        both!(_mm256_srai_epi32::<31>, a)
    }
    #[inline(always)]
    fn smaller(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_min_epu32, a, b)
    }
    #[inline(always)]
    fn as_f32_bits(self, a: Pair) -> Pair {
        let floats = both!(_mm256_cvtepi32_ps, a);
        both!(_mm256_castps_si256, floats)
    }

    #[inline(always)]
    fn at_least(self, a: Pair, b: Pair) -> Pair {
        let largest = both!(_mm256_max_epi32, a, b);
        both!(_mm256_cmpeq_epi32, largest, a)
    }
    #[inline(always)]
    fn choose(self, truth: Pair, yes: Pair, no: Pair) -> Pair {
        both!(_mm256_blendv_epi8, no, yes, truth)
    }

    #[inline(always)]
    fn look_up(self, table: &[u32], index: Pair) -> Pair {
        let last = self.splat_u32(last_index(table));
        let index = self.smaller(index, last);
        let table = table.as_ptr().cast();
        // SAFETY: the token proves AVX2; every index is inside the table, and below 2^28.
        unsafe {
            (
                _mm256_i32gather_epi32::<4>(table, index.0),
                _mm256_i32gather_epi32::<4>(table, index.1),
            )
        }
    }

    #[inline(always)]
    fn refill(self, a: Pair, words: &[[u8; 2]; LANES]) -> (Pair, usize) {
        let (first, used) = refill_half(self, a.0, words, 0);
        let (second, more) = refill_half(self, a.1, words, used);
        ((first, second), used + more)
    }
}

/// Refills 8 lanes from the words behind the first `from` (at most 8).
#[inline(always)]
fn refill_half(_: Avx2, a: __m256i, words: &[[u8; 2]; LANES], from: usize) -> (__m256i, usize) {
    // SAFETY: the token proves AVX2; 16 bytes behind at most 16 of 32 are in bounds, because a half takes
    // at most 8 words; a set of 8 lanes is below 256.
    unsafe {
        let low = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(a), _mm256_setzero_si256());
        let set = _mm256_movemask_ps(_mm256_castsi256_ps(low)) as usize;
        let next = _mm_loadu_si128(words.as_ptr().add(from.min(8)).cast());
        let ranks = _mm_cvtsi64_si128(RANKS[set] as i64);
        let next =
            _mm256_permutevar8x32_epi32(_mm256_cvtepu16_epi32(next), _mm256_cvtepu8_epi32(ranks));
        let refilled = _mm256_or_si256(_mm256_slli_epi32::<16>(a), next);
        (
            _mm256_blendv_epi8(a, refilled, low),
            set.count_ones() as usize,
        )
    }
}

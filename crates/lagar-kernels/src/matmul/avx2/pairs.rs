//! Look-up of split tables without extraction, at 2 and 4 bits a weight.
//!
//! There the 4 bits that choose A, and those that choose B, lie as far from the edges of bytes in one row as in
//! every other. So two units, 128 windows, take one or two loads and a few shifts: each vector of 4 bits
//! per byte is looked up where it chooses A and where it chooses B, and what belongs to one row is brought together
//! afterwards.

use std::arch::x86_64::*;

use super::super::lookup::Lookup;
use super::decode::{Decode, Halves, Steps, from};

/// Two units at `K` bits a weight, 2 or 4.
#[derive(Clone, Copy)]
pub(super) struct Pairs<const K: usize>(Halves);

impl<const K: usize> Steps<4> for Pairs<K> {
    const SIGNED: bool = false;

    type Begun = *const u8;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        assert!(K == lookup.depth && (K == 2 || K == 4));
        // SAFETY: the caller promises AVX2.
        Self(unsafe { Halves::new(lookup) })
    }

    #[inline(always)]
    fn bytes(self) -> usize {
        16 * K
    }

    #[inline(always)]
    unsafe fn begin(self, codes: *const u8) -> *const u8 {
        codes
    }

    #[inline(always)]
    unsafe fn levels(self, codes: *const u8) -> [__m256i; 4] {
        // SAFETY: the caller promises AVX2 and the bytes: the second load ends with the last of the two units.
        unsafe {
            if K == 2 {
                return self.quarters(codes);
            }
            let [a, b] = self.halves(codes);
            let [c, d] = self.halves(codes.add(32));
            [a, b, c, d]
        }
    }

    #[inline(always)]
    unsafe fn ascending([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let low = _mm256_permute2x128_si256::<0x20>;
            let high = _mm256_permute2x128_si256::<0x31>;
            if K == 2 {
                [low(a, b), low(c, d), high(a, b), high(c, d)]
            } else {
                [low(a, b), high(a, b), low(c, d), high(c, d)]
            }
        }
    }
}

impl<const K: usize> Pairs<K> {
    /// Levels of windows with these 4 low bits in each byte, and these high ones.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn level(self, low: __m256i, high: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe { self.0.of(low, high) }
    }

    /// `x` shifted right in each byte, of which 4 bits remain.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn four<const SHIFT: i32>(self, x: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe { from::<SHIFT>(x, self.0.low) }
    }

    /// Two bits a weight: byte `r` of 32 has the newest bits of row `r`'s 4 windows. Vectors of rows 0–3 of both
    /// units, 4–7, 8–11 and 12–15.
    ///
    /// # Safety
    /// The processor has AVX2; 33 bytes are readable.
    #[inline(always)]
    unsafe fn quarters(self, codes: *const u8) -> [__m256i; 4] {
        // SAFETY: the caller promises both.
        unsafe {
            let before = _mm256_loadu_si256(codes.cast());
            let own = _mm256_loadu_si256(codes.add(1).cast());
            let (low, high) = (self.four::<0>(own), self.four::<4>(own));
            // The 4 bits two below the edges of the byte, and those between both. These a shift of 64 bits brings into place but in the last
            // byte from the one side, in the first from the other.
            let below = self.four::<2>(before);
            let edge = _mm256_blend_epi32::<0b1010_1010>(
                _mm256_srli_epi64::<6>(before),
                _mm256_slli_epi64::<2>(own),
            );
            let edge = _mm256_and_si256(edge, self.0.low);
            let first = self.level(below, edge);
            let second = self.level(self.four::<4>(before), low);
            let third = self.level(edge, self.four::<2>(own));
            let fourth = self.level(low, high);
            let (a, b) = (
                _mm256_unpacklo_epi8(first, second),
                _mm256_unpackhi_epi8(first, second),
            );
            let (c, d) = (
                _mm256_unpacklo_epi8(third, fourth),
                _mm256_unpackhi_epi8(third, fourth),
            );
            [
                _mm256_unpacklo_epi16(a, c),
                _mm256_unpackhi_epi16(a, c),
                _mm256_unpacklo_epi16(b, d),
                _mm256_unpackhi_epi16(b, d),
            ]
        }
    }

    /// Four bits a weight: bytes `2r` and `2r + 1` of 32 have those of row `r` of one unit. Vectors of rows 0–3 and 8–11, and of the
    /// others.
    ///
    /// # Safety
    /// The processor has AVX2; 33 bytes are readable.
    #[inline(always)]
    unsafe fn halves(self, codes: *const u8) -> [__m256i; 2] {
        // SAFETY: the caller promises both.
        unsafe {
            let before = _mm256_loadu_si256(codes.cast());
            let own = _mm256_loadu_si256(codes.add(1).cast());
            let low = self.four::<0>(own);
            let even = self.level(self.four::<4>(before), low);
            let odd = self.level(low, self.four::<4>(own));
            [
                _mm256_unpacklo_epi8(even, odd),
                _mm256_unpackhi_epi8(even, odd),
            ]
        }
    }
}

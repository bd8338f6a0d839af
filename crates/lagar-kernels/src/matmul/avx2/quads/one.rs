//! 1 bit a weight: a byte has a pair of rows, 4 weights of a block each.
//!
//! The windows of a pair are in its byte and the one before. From the first bit of that one on, the 4 low bits of window `i` begin at bit
//! `1 + i`, and the 4 high ones four later: 12 places for 16 look-ups.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::super::decode::{Decode, Halves};
use super::{Add, BLOCKS, Lookup, Step, Sums, add_all};

/// Registers of two units: even rows and odd ones of their first 4 pairs, then of the others.
pub(super) const PARTS: usize = 4;

/// Pairs of rows in a unit, which are bytes of a block.
const PAIRS: usize = 8;

/// Of 9 bytes, those of all pairs, which begin with the second one, and those before each.
const OWN_AND_BEFORE: [u8; 2 * PAIRS] = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 6, 7];

/// Look-up of the codes of two units in four blocks.
#[derive(Clone, Copy)]
pub(super) struct One {
    table: Halves,
    own_and_before: __m256i,
}

impl One {
    /// The bytes of two units in one block, one in each half; `from` is the byte before them.
    ///
    /// # Safety
    /// The processor has AVX2; 24 bytes are readable.
    #[inline(always)]
    unsafe fn block(self, from: *const u8) -> __m256i {
        // SAFETY: the caller promises both.
        unsafe {
            let first = _mm256_castsi128_si256(_mm_loadu_si128(from.cast()));
            let second = _mm_loadu_si128(from.add(PAIRS).cast());
            let both = _mm256_inserti128_si256::<1>(first, second);
            _mm256_shuffle_epi8(both, self.own_and_before)
        }
    }

    /// 4 bits of each byte, from one up.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn from<const BIT: i32>(self, bytes: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<BIT>(bytes), self.table.low) }
    }
}

impl Step<PARTS> for One {
    const DEPTH: usize = 1;

    /// The byte before is read again.
    type Begun = ();

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // See `Three`.
        let order = black_box(&OWN_AND_BEFORE);
        // SAFETY: the caller promises AVX2; the array has 16 bytes.
        unsafe {
            Self {
                table: Halves::new(lookup),
                own_and_before: _mm256_broadcastsi128_si256(_mm_loadu_si128(order.as_ptr().cast())),
            }
        }
    }

    #[inline(always)]
    unsafe fn begin(self, _: [u8; BLOCKS], _: *const u8, _: usize) {}

    #[inline(always)]
    unsafe fn add<A: Add, const T: usize>(
        self,
        from: *const u8,
        block_bytes: usize,
        (): (),
        add: &[A; T],
        sums: &mut [Sums; T],
        first: usize,
    ) {
        let table = self.table;
        // SAFETY: the caller promises all of it, and that a byte is before the codes.
        unsafe {
            let from = from.sub(1);
            let [a, b, c, d] = [
                self.block(from),
                self.block(from.add(block_bytes)),
                self.block(from.add(2 * block_bytes)),
                self.block(from.add(3 * block_bytes)),
            ];
            let own = [_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d)];
            let before = [_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d)];
            let pairs = [
                [
                    _mm256_unpacklo_epi16(own[0], own[1]),
                    _mm256_unpacklo_epi16(before[0], before[1]),
                ],
                [
                    _mm256_unpackhi_epi16(own[0], own[1]),
                    _mm256_unpackhi_epi16(before[0], before[1]),
                ],
            ];
            for (i, [own, before]) in pairs.into_iter().enumerate() {
                let (at4, at8) = (self.from::<4>(before), _mm256_and_si256(own, table.low));
                // From bit 4 on.
                let edge = _mm256_or_si256(at4, _mm256_slli_epi16::<4>(at8));
                let (at5, at6, at7) = (
                    self.from::<1>(edge),
                    self.from::<2>(edge),
                    self.from::<3>(edge),
                );
                let even = [
                    table.of(at4, at8),
                    table.of(self.from::<2>(before), at6),
                    table.of(self.from::<3>(before), at7),
                    table.of(self.from::<1>(before), at5),
                ];
                add_all(add, sums, first + 2 * i, even);
                let odd = [
                    table.of(at8, self.from::<4>(own)),
                    table.of(at6, self.from::<2>(own)),
                    table.of(at7, self.from::<3>(own)),
                    table.of(at5, self.from::<1>(own)),
                ];
                add_all(add, sums, first + 2 * i + 1, odd);
            }
        }
    }

    #[inline(always)]
    unsafe fn ascending([a, b, c, d]: [__m256i; PARTS]) -> [__m256i; PARTS] {
        // SAFETY: the caller promises AVX2.
        unsafe {
            // 4 pairs of each unit in order.
            let [a, b] = [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)];
            let [c, d] = [_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d)];
            [
                _mm256_permute2x128_si256::<0x20>(a, b),
                _mm256_permute2x128_si256::<0x20>(c, d),
                _mm256_permute2x128_si256::<0x31>(a, b),
                _mm256_permute2x128_si256::<0x31>(c, d),
            ]
        }
    }
}

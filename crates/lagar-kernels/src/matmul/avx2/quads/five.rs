//! 5 bits a weight: five bytes have a pair of rows, 4 weights of a block each.
//!
//! So the first bytes of 8 pairs of rows in four blocks are a register, and so are the second to fifth ones; see [`three`](super::three).

use std::arch::x86_64::*;
use std::hint::black_box;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::super::decode::{Bends, Decode, Signed, twice};
use super::{
    Add, BLOCKS, Lookup, Step, Sums, add_all, all_in_turns, border, both, from, lanes_before,
    together,
};

/// Registers of a unit: even rows and odd ones.
pub(super) const PARTS: usize = 2;

/// Bytes of a unit in one block, and of half of it, 4 pairs.
const UNIT_BYTES: usize = ROW_UNIT * BLOCK_COLS * 5 / 8;
const HALF_BYTES: usize = UNIT_BYTES / 2;

/// Of the first 16 bytes of 4 pairs, every fifth one from the first, second, third and fourth on.
const FIRST: [i8; 16] = [0, 5, 10, 15, 1, 6, 11, -1, 2, 7, 12, -1, 3, 8, 13, -1];
/// What is missing there, of their last 16.
const LAST: [i8; 16] = [
    -1, -1, -1, -1, -1, -1, -1, 12, -1, -1, -1, 13, -1, -1, -1, 14,
];
/// Of these, the fifth ones.
const FIFTH: [i8; 16] = [0, 5, 10, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1];

/// The first to fifth bytes of 8 pairs of rows, each lane those of a pair in four blocks.
type Codes = [__m256i; 5];

/// Look-up of the codes of a unit in four blocks.
#[derive(Clone, Copy)]
pub(super) struct Five {
    table: Bends,
    first: __m256i,
    last: __m256i,
    fifth: __m256i,
    /// 7 in each byte.
    seven: __m256i,
}

impl Five {
    /// The codes of a unit in one block, in each half those of 4 pairs: their first to fourth bytes, and their fifth ones.
    ///
    /// # Safety
    /// The processor has AVX2; 40 bytes are readable.
    #[inline(always)]
    unsafe fn block(self, codes: *const u8) -> [__m256i; 2] {
        // SAFETY: the caller promises both.
        unsafe {
            let first = both(codes, HALF_BYTES, self.first);
            let last = codes.add(HALF_BYTES - 16);
            let fifth = both(last, HALF_BYTES, self.fifth);
            [
                _mm256_or_si256(first, both(last, HALF_BYTES, self.last)),
                fifth,
            ]
        }
    }

    /// The codes of a unit in four blocks.
    ///
    /// # Safety
    /// The processor has AVX2; 40 bytes are readable in each block, the next of which is `block_bytes` on.
    #[inline(always)]
    unsafe fn codes(self, from: *const u8, block_bytes: usize) -> Codes {
        // SAFETY: the caller promises both.
        unsafe {
            let [a, a5] = self.block(from);
            let [b, b5] = self.block(from.add(block_bytes));
            let [c, c5] = self.block(from.add(2 * block_bytes));
            let [d, d5] = self.block(from.add(3 * block_bytes));
            let [one, two, three, four] = together([a, b, c, d]);
            let five =
                _mm256_unpacklo_epi16(_mm256_unpacklo_epi8(a5, b5), _mm256_unpacklo_epi8(c5, d5));
            [one, two, three, four, five]
        }
    }

    /// The upper 3 bits of each byte of `below`, and above them the lower 4 of `above`.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn border(self, below: __m256i, above: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe { border::<5, 3>(below, self.seven, _mm256_and_si256(above, self.table.low)) }
    }
}

impl Step<PARTS> for Five {
    const DEPTH: usize = 5;

    type Level = Signed;

    /// The fifth bytes of the unit before, and the codes of this one.
    type Begun = (__m256i, Codes);

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                table: Bends::new(lookup),
                // See `three.rs`.
                first: twice(black_box(FIRST)),
                last: twice(black_box(LAST)),
                fifth: twice(black_box(FIFTH)),
                seven: _mm256_set1_epi8(7),
            }
        }
    }

    #[inline(always)]
    unsafe fn begin(
        self,
        before: [u8; BLOCKS],
        codes: *const u8,
        block_bytes: usize,
    ) -> Self::Begun {
        // SAFETY: the caller promises AVX2 and the codes.
        unsafe {
            let before = _mm256_set1_epi32(i32::from_le_bytes(before));
            (before, self.codes(codes, block_bytes))
        }
    }

    #[inline(always)]
    unsafe fn add<A: Add<Signed>, const T: usize>(
        self,
        _: *const u8,
        next: *const u8,
        block_bytes: usize,
        (before, [one, two, three, four, five]): Self::Begun,
        add: &[A; T],
        sums: &mut [Sums; T],
        first: usize,
    ) -> Self::Begun {
        let (table, low) = (self.table, self.table.low);
        // SAFETY: the caller promises all of it. Of what is looked up by, bits 4 to 6 are ignored, and bit 7 is 0.
        unsafe {
            // They are there when they are needed.
            let next = self.codes(next, block_bytes);
            // From bit 5 of the third and of the fourth bytes on.
            let (third, fourth) = (self.border(three, four), self.border(four, five));
            let odd = [
                table.of(_mm256_and_si256(five, low), from::<4>(five, low)),
                table.of(from::<1>(third, low), from::<2>(four, low)),
                table.of(from::<3>(four, low), from::<2>(fourth, low)),
                table.of(from::<1>(three, low), third),
            ];
            add_all(add, sums, first + 1, odd);
            // From bit 5 of the bytes before on, and of the first ones.
            let previous = lanes_before(before, five);
            let (edge, second) = (self.border(previous, one), self.border(one, two));
            let even = [
                table.of(from::<4>(two, low), _mm256_and_si256(three, low)),
                table.of(from::<2>(one, low), from::<1>(second, low)),
                table.of(from::<2>(second, low), from::<3>(two, low)),
                table.of(edge, from::<1>(one, low)),
            ];
            add_all(add, sums, first, even);
            (five, next)
        }
    }

    #[inline(always)]
    unsafe fn ascending(sums: [__m256i; PARTS]) -> [__m256i; PARTS] {
        // SAFETY: the caller promises AVX2.
        unsafe { all_in_turns(sums) }
    }
}

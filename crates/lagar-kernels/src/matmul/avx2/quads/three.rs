//! 3 bits a weight: three bytes have a pair of rows, 4 weights of a block each.
//!
//! So the first bytes of 8 pairs of rows in four blocks are a register, and so are the second and the third ones. Each of the 8 windows of a pair
//! begins at the same bit in all of them. Where its 4 low or high bits are in two bytes, bits around the border of these two are brought
//! together once for all that lies there.

use std::arch::x86_64::*;
use std::hint::black_box;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::super::decode::{Decode, Halves, twice};
use super::{
    Add, BLOCKS, Lookup, Step, Sums, add_all, all_in_turns, border, both, from, lanes_before,
    together,
};

/// Registers of a unit: even rows and odd ones.
pub(super) const PARTS: usize = 2;

/// Bytes of a unit in one block.
const UNIT_BYTES: usize = ROW_UNIT * BLOCK_COLS * 3 / 8;

/// Of 12 bytes, every third one from the first on, from the second on, from the third on.
const APART: [i8; 16] = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1];

/// The first, second and third bytes of 8 pairs of rows, each lane those of a pair in four blocks.
type Codes = [__m256i; 3];

/// Look-up of the codes of a unit in four blocks.
#[derive(Clone, Copy)]
pub(super) struct Three {
    table: Halves,
    apart: __m256i,
    /// 7 in each byte.
    seven: __m256i,
}

impl Three {
    /// The codes of a unit in four blocks.
    ///
    /// # Safety
    /// The processor has AVX2; 28 bytes are readable in each block, the next of which is `block_bytes` on.
    #[inline(always)]
    unsafe fn codes(self, from: *const u8, block_bytes: usize) -> Codes {
        // SAFETY: the caller promises both.
        unsafe {
            let [first, second, third, _] = together([
                both(from, UNIT_BYTES / 2, self.apart),
                both(from.add(block_bytes), UNIT_BYTES / 2, self.apart),
                both(from.add(2 * block_bytes), UNIT_BYTES / 2, self.apart),
                both(from.add(3 * block_bytes), UNIT_BYTES / 2, self.apart),
            ]);
            [first, second, third]
        }
    }
}

impl Step<PARTS> for Three {
    const DEPTH: usize = 3;

    type Level = __m256i;

    /// The third bytes of the unit before, and the codes of this one.
    type Begun = (__m256i, Codes);

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                table: Halves::new(lookup),
                // The compiler, if it knew this, would look up twice what it then need not bring together once.
                apart: twice(black_box(APART)),
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
    unsafe fn add<A: Add<__m256i>, const T: usize>(
        self,
        _: *const u8,
        next: *const u8,
        block_bytes: usize,
        (before, [one, two, three]): Self::Begun,
        add: &[A; T],
        sums: &mut [Sums; T],
        first: usize,
    ) -> Self::Begun {
        let table = self.table;
        // SAFETY: the caller promises all of it. Of what is looked up by, bits 4 to 6 are ignored, and bit 7 is 0.
        unsafe {
            // They are there when they are needed.
            let next = self.codes(next, block_bytes);
            let second = _mm256_and_si256(two, table.low);
            // From bit 5 of the second bytes on.
            let last = _mm256_and_si256(three, table.low);
            let upper = border::<5, 3>(two, self.seven, last);
            // From bit 5 of the first bytes on.
            let middle = border::<5, 3>(one, self.seven, second);
            let odd = [
                table.of(last, from::<4>(three, table.low)),
                table.of(from::<2>(two, table.low), from::<1>(upper, table.low)),
                table.of(upper, from::<1>(three, table.low)),
                table.of(from::<2>(middle, table.low), from::<3>(two, table.low)),
            ];
            add_all(add, sums, first + 1, odd);
            // From bit 5 of the bytes before on.
            let previous = lanes_before(before, three);
            let edge = border::<5, 3>(previous, self.seven, _mm256_and_si256(one, table.low));
            let even = [
                table.of(from::<4>(one, table.low), second),
                table.of(from::<1>(edge, table.low), from::<2>(one, table.low)),
                table.of(from::<1>(one, table.low), middle),
                table.of(from::<3>(previous, table.low), from::<2>(edge, table.low)),
            ];
            add_all(add, sums, first, even);
            (three, next)
        }
    }

    #[inline(always)]
    unsafe fn ascending(sums: [__m256i; PARTS]) -> [__m256i; PARTS] {
        // SAFETY: the caller promises AVX2.
        unsafe { all_in_turns(sums) }
    }
}

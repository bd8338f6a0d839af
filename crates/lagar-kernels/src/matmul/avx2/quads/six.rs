//! 6 bits a weight: three bytes have a row's 4 weights of a block.
//!
//! Of 4 bytes, the last before a row and its three, the first ones of 8 rows in four blocks are a register, and so are the second, the third
//! and the fourth ones. A window is 8 bits from bit 6 of the first on, from bit 4 of the second on, from bit 2 of the third on, or the fourth.

use std::arch::x86_64::*;
use std::hint::black_box;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::super::decode::{Bends, Decode, Signed, twice};
use super::{Add, BLOCKS, Lookup, Step, Sums, add_all, border, both, from, together};

/// Registers of a unit: 8 rows each.
pub(super) const PARTS: usize = 2;

/// Bytes of 8 rows in one block.
const PART_BYTES: usize = ROW_UNIT / PARTS * BLOCK_COLS * 6 / 8;

/// Of 13 bytes, every third one up to the last but three, and those one, two and three behind each.
const APART: [i8; 16] = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12];

/// The bytes of 8 rows, each lane those of a row in four blocks: the one before the row, and its three.
type Codes = [__m256i; 4];

/// Look-up of the codes of 8 rows in four blocks.
#[derive(Clone, Copy)]
pub(super) struct Six {
    table: Bends,
    apart: __m256i,
    /// 3 in each byte.
    three: __m256i,
}

impl Six {
    /// The codes of 8 rows in four blocks.
    ///
    /// # Safety
    /// The processor has AVX2; the byte before `codes` and 27 from there on are readable in each block, the next of which is `block_bytes` on.
    #[inline(always)]
    unsafe fn codes(self, codes: *const u8, block_bytes: usize) -> Codes {
        // SAFETY: the caller promises both.
        unsafe {
            let from = codes.sub(1);
            together([
                both(from, PART_BYTES / 2, self.apart),
                both(from.add(block_bytes), PART_BYTES / 2, self.apart),
                both(from.add(2 * block_bytes), PART_BYTES / 2, self.apart),
                both(from.add(3 * block_bytes), PART_BYTES / 2, self.apart),
            ])
        }
    }

    /// Levels of the last, second, third and first column of each block.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn levels(self, [before, one, two, three]: Codes) -> [Signed; BLOCK_COLS] {
        let table = self.table;
        // SAFETY: the caller promises AVX2. Of what is looked up by, bits 4 to 6 are ignored, and bit 7 is 0.
        unsafe {
            let last = _mm256_and_si256(three, table.low);
            let first = _mm256_and_si256(one, table.low);
            [
                table.of(last, from::<4>(three, table.low)),
                table.of(from::<4>(one, table.low), _mm256_and_si256(two, table.low)),
                table.of(
                    from::<2>(two, table.low),
                    border::<6, 2>(two, self.three, last),
                ),
                table.of(
                    border::<6, 2>(before, self.three, first),
                    from::<2>(one, table.low),
                ),
            ]
        }
    }
}

impl Step<PARTS> for Six {
    const DEPTH: usize = 6;

    type Level = Signed;

    /// The codes of the first 8 rows.
    type Begun = Codes;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                table: Bends::new(lookup),
                // See `three.rs`.
                apart: twice(black_box(APART)),
                three: _mm256_set1_epi8(3),
            }
        }
    }

    #[inline(always)]
    unsafe fn begin(self, _: [u8; BLOCKS], codes: *const u8, block_bytes: usize) -> Codes {
        // SAFETY: the caller promises AVX2 and the codes.
        unsafe { self.codes(codes, block_bytes) }
    }

    #[inline(always)]
    unsafe fn add<A: Add<Signed>, const T: usize>(
        self,
        codes: *const u8,
        next: *const u8,
        block_bytes: usize,
        begun: Codes,
        add: &[A; T],
        sums: &mut [Sums; T],
        first: usize,
    ) -> Codes {
        // SAFETY: the caller promises all of it: the second 8 rows end with byte 48 of the unit, and what is read with byte 51.
        unsafe {
            // Codes are there when they are needed.
            let second = self.codes(codes.add(PART_BYTES), block_bytes);
            add_all(add, sums, first, self.levels(begun));
            let next = self.codes(next, block_bytes);
            add_all(add, sums, first + 1, self.levels(second));
            next
        }
    }

    #[inline(always)]
    unsafe fn ascending(sums: [__m256i; PARTS]) -> [__m256i; PARTS] {
        sums
    }
}

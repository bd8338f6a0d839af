//! 1 bit a weight: a byte has a pair of rows, 4 weights of a block each.
//!
//! The windows of a pair are in its byte and the one before. From the first bit of that one on, the 4 low bits of window `i` begin at bit
//! `1 + i`, and the 4 high ones four later: 12 places for 16 look-ups.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::super::decode::{Decode, Halves, twice};
use super::{Add, BLOCKS, Lookup, Step, Sums, Two, add_all, both, from, in_turns, together};

/// Registers of two units: even rows and odd ones of their first 4 pairs, then of the others.
pub(super) const PARTS: usize = 4;

/// Pairs of rows in a unit, which are bytes of a block.
const PAIRS: usize = 8;

/// Of 9 bytes, those of all pairs, which begin with the second one, and those before each.
const OWN_AND_BEFORE: [i8; 2 * PAIRS] = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 6, 7];

/// Look-up of the codes of two units in four blocks.
#[derive(Clone, Copy)]
pub(super) struct One {
    table: Halves,
    own_and_before: __m256i,
}

impl Step<PARTS> for One {
    const DEPTH: usize = 1;

    type Level = __m256i;

    /// The byte before is read again.
    type Begun = ();

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                table: Halves::new(lookup),
                // See `Three`.
                own_and_before: twice(black_box(OWN_AND_BEFORE)),
            }
        }
    }

    #[inline(always)]
    unsafe fn begin(self, _: [u8; BLOCKS], _: *const u8, _: usize) {}

    #[inline(always)]
    unsafe fn add<A: Add<__m256i>, const T: usize>(
        self,
        codes: *const u8,
        _: *const u8,
        block_bytes: usize,
        (): (),
        add: &[A; T],
        sums: &mut [Sums; T],
        first: usize,
    ) {
        let table = self.table;
        // SAFETY: the caller promises all of it, and that a byte is before the codes.
        unsafe {
            let (from_before, order) = (codes.sub(1), self.own_and_before);
            let [own, more, before, more_before] = together([
                both(from_before, PAIRS, order),
                both(from_before.add(block_bytes), PAIRS, order),
                both(from_before.add(2 * block_bytes), PAIRS, order),
                both(from_before.add(3 * block_bytes), PAIRS, order),
            ]);
            let pairs = [[own, before], [more, more_before]];
            for (i, [own, before]) in pairs.into_iter().enumerate() {
                let (at4, at8) = (
                    from::<4>(before, table.low),
                    _mm256_and_si256(own, table.low),
                );
                // From bit 4 on.
                let edge = _mm256_or_si256(at4, _mm256_slli_epi16::<4>(at8));
                let (at5, at6, at7) = (
                    from::<1>(edge, table.low),
                    from::<2>(edge, table.low),
                    from::<3>(edge, table.low),
                );
                let even = [
                    table.of(at4, at8),
                    table.of(from::<2>(before, table.low), at6),
                    table.of(from::<3>(before, table.low), at7),
                    table.of(from::<1>(before, table.low), at5),
                ];
                add_all(add, sums, first + 2 * i, even);
                let odd = [
                    table.of(at8, from::<4>(own, table.low)),
                    table.of(at6, from::<2>(own, table.low)),
                    table.of(at7, from::<3>(own, table.low)),
                    table.of(at5, from::<1>(own, table.low)),
                ];
                add_all(add, sums, first + 2 * i + 1, odd);
            }
        }
    }

    #[inline(always)]
    unsafe fn ascending([a, b, c, d]: [__m256i; PARTS]) -> [__m256i; PARTS] {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let ([a, b], [c, d]) = (in_turns(a, b), in_turns(c, d));
            Two::ascending([a, b, c, d])
        }
    }
}

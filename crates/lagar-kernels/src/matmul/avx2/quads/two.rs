//! 2 bits a weight: a byte has a row's 4 weights of a block. What a row shares with the one before is shifted in from the lane before.

use std::arch::x86_64::*;

use lagar_codec::BLOCK_COLS;

use super::super::decode::{Decode, Halves};
use super::{Add, BLOCKS, Lookup, Step, Sums, add_all, from, together};

/// Registers of two units, as many as have 32 bytes of codes in each block.
pub(super) const PARTS: usize = 4;

/// Bits of codes, 4 in each byte, that other rows' windows have too.
#[derive(Clone, Copy)]
pub(super) struct Shared {
    /// Bits 2 to 5.
    middle: __m256i,
    /// Bits 4 to 7.
    high: __m256i,
}

/// Look-up of the codes of 8 rows in four blocks.
#[derive(Clone, Copy)]
pub(super) struct Two(Halves);

impl Two {
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn shared(self, codes: __m256i) -> Shared {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Shared {
                middle: from::<2>(codes, self.0.low),
                high: from::<4>(codes, self.0.low),
            }
        }
    }

    /// Levels of the last, second, third and first column of each block: those that are known sooner come first. The last lane
    /// of each half of `before` is that of the row before.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn levels(self, codes: __m256i, own: Shared, before: Shared) -> [__m256i; BLOCK_COLS] {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let low = _mm256_and_si256(codes, self.0.low);
            let middle = _mm256_alignr_epi8::<12>(own.middle, before.middle);
            let high = _mm256_alignr_epi8::<12>(own.high, before.high);
            // Of the 8 bits that begin 4 before the byte, those in the middle.
            let edge = _mm256_or_si256(_mm256_slli_epi16::<4>(low), high);
            let edge = from::<2>(edge, self.0.low);
            [
                self.0.of(low, own.high),
                self.0.of(high, low),
                self.0.of(edge, own.middle),
                self.0.of(middle, edge),
            ]
        }
    }
}

impl Step<PARTS> for Two {
    const DEPTH: usize = 2;

    type Level = __m256i;

    type Begun = Shared;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX2.
        Self(unsafe { Halves::new(lookup) })
    }

    #[inline(always)]
    unsafe fn begin(self, before: [u8; BLOCKS], _: *const u8, _: usize) -> Shared {
        // SAFETY: the caller promises AVX2.
        unsafe { self.shared(_mm256_set1_epi32(i32::from_le_bytes(before))) }
    }

    #[inline(always)]
    unsafe fn add<A: Add<__m256i>, const T: usize>(
        self,
        codes: *const u8,
        _: *const u8,
        block_bytes: usize,
        before: Shared,
        add: &[A; T],
        sums: &mut [Sums; T],
        first: usize,
    ) -> Shared {
        // SAFETY: the caller promises all of it.
        unsafe {
            // Each lane is a row: part `p` has rows `4 · p` to `4 · p + 3` of each unit.
            let codes = together([
                _mm256_loadu_si256(codes.cast()),
                _mm256_loadu_si256(codes.add(block_bytes).cast()),
                _mm256_loadu_si256(codes.add(2 * block_bytes).cast()),
                _mm256_loadu_si256(codes.add(3 * block_bytes).cast()),
            ]);
            let last = self.shared(codes[PARTS - 1]);
            // The row before the second unit is the first one's last.
            let mut before = Shared {
                middle: _mm256_permute2x128_si256::<0x21>(before.middle, last.middle),
                high: _mm256_permute2x128_si256::<0x21>(before.high, last.high),
            };
            for (part, &codes) in codes.iter().enumerate() {
                let own = match part + 1 {
                    PARTS => last,
                    _ => self.shared(codes),
                };
                add_all(add, sums, first + part, self.levels(codes, own, before));
                before = own;
            }
            before
        }
    }

    #[inline(always)]
    unsafe fn ascending([a, b, c, d]: [__m256i; PARTS]) -> [__m256i; PARTS] {
        // SAFETY: the caller promises AVX2.
        unsafe {
            [
                _mm256_permute2x128_si256::<0x20>(a, b),
                _mm256_permute2x128_si256::<0x20>(c, d),
                _mm256_permute2x128_si256::<0x31>(a, b),
                _mm256_permute2x128_si256::<0x31>(c, d),
            ]
        }
    }
}

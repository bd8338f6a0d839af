//! 3 bits a weight: three bytes have a pair of rows, 4 weights of a block each.
//!
//! So the first bytes of 8 pairs of rows in four blocks are a register, and so are the second and the third ones. Each of the 8 windows of a pair
//! begins at the same bit in all of them. Where its 4 low or high bits are in two bytes, bits around the border of these two are brought
//! together once for all that lies there.

use std::arch::x86_64::*;
use std::hint::black_box;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::super::decode::{Decode, Halves};
use super::{Add, BLOCKS, Lookup, Step, Sums, add_all};

/// Registers of a unit: even rows and odd ones.
pub(super) const PARTS: usize = 2;

/// Bytes of a unit in one block.
const UNIT_BYTES: usize = ROW_UNIT * BLOCK_COLS * 3 / 8;

/// Of 12 bytes, every third one from the first on, from the second on, from the third on.
const APART: [u8; 16] = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 128, 128, 128, 128];

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
    /// The codes of a unit in one block: in each half, the first bytes of 4 pairs of rows, their second, and their third ones.
    ///
    /// # Safety
    /// The processor has AVX2; 28 bytes are readable.
    #[inline(always)]
    unsafe fn apart(self, from: *const u8) -> __m256i {
        // SAFETY: the caller promises both.
        unsafe {
            let first = _mm256_castsi128_si256(_mm_loadu_si128(from.cast()));
            let both = _mm256_inserti128_si256::<1>(
                first,
                _mm_loadu_si128(from.add(UNIT_BYTES / 2).cast()),
            );
            _mm256_shuffle_epi8(both, self.apart)
        }
    }

    /// The codes of a unit in four blocks.
    ///
    /// # Safety
    /// The processor has AVX2; 28 bytes are readable in each block, the next of which is `block_bytes` on.
    #[inline(always)]
    unsafe fn transposed(self, from: *const u8, block_bytes: usize) -> Codes {
        // SAFETY: the caller promises both.
        unsafe {
            let first = self.apart(from);
            let second = self.apart(from.add(block_bytes));
            let third = self.apart(from.add(2 * block_bytes));
            let fourth = self.apart(from.add(3 * block_bytes));
            let a = _mm256_unpacklo_epi8(first, second);
            let b = _mm256_unpacklo_epi8(third, fourth);
            let c = _mm256_unpackhi_epi8(first, second);
            let d = _mm256_unpackhi_epi8(third, fourth);
            [
                _mm256_unpacklo_epi16(a, b),
                _mm256_unpackhi_epi16(a, b),
                _mm256_unpacklo_epi16(c, d),
            ]
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

    /// The upper 3 bits of each byte of `below`, and above them `low`, 4 bits.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn border(self, below: __m256i, low: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let below = _mm256_and_si256(_mm256_srli_epi16::<5>(below), self.seven);
            _mm256_or_si256(below, _mm256_slli_epi16::<3>(low))
        }
    }
}

impl Step<PARTS> for Three {
    const DEPTH: usize = 3;

    /// The third bytes of the unit before, and the codes of this one.
    type Begun = (__m256i, Codes);

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // The compiler, if it knew this, would look up twice what it then need not bring together once.
        let apart = black_box(&APART);
        // SAFETY: the caller promises AVX2; the array has 16 bytes.
        unsafe {
            Self {
                table: Halves::new(lookup),
                apart: _mm256_broadcastsi128_si256(_mm_loadu_si128(apart.as_ptr().cast())),
                seven: _mm256_set1_epi8(7),
            }
        }
    }

    #[inline(always)]
    unsafe fn begin(
        self,
        before: [u8; BLOCKS],
        from: *const u8,
        block_bytes: usize,
    ) -> Self::Begun {
        // SAFETY: the caller promises AVX2 and the codes.
        unsafe {
            let before = _mm256_set1_epi32(i32::from_le_bytes(before));
            (before, self.transposed(from, block_bytes))
        }
    }

    #[inline(always)]
    unsafe fn add<A: Add, const T: usize>(
        self,
        from: *const u8,
        block_bytes: usize,
        (before, [one, two, three]): Self::Begun,
        add: &[A; T],
        sums: &mut [Sums; T],
        first: usize,
    ) -> Self::Begun {
        let Self { table, .. } = self;
        // SAFETY: the caller promises all of it. Of what is looked up by, bits 4 to 6 are ignored, and bit 7 is 0.
        unsafe {
            // The next unit's codes, or what lies where they would: they are there when they are needed.
            let next = self.transposed(from.add(UNIT_BYTES), block_bytes);
            let second = _mm256_and_si256(two, table.low);
            // From bit 5 of the second bytes on.
            let last = _mm256_and_si256(three, table.low);
            let border = self.border(two, last);
            // From bit 5 of the first bytes on.
            let middle = self.border(one, second);
            let odd = [
                table.of(last, self.from::<4>(three)),
                table.of(self.from::<2>(two), self.from::<1>(border)),
                table.of(border, self.from::<1>(three)),
                table.of(self.from::<2>(middle), self.from::<3>(two)),
            ];
            add_all(add, sums, first + 1, odd);
            // From bit 5 of the bytes before on.
            let previous = _mm256_permute2x128_si256::<0x21>(before, three);
            let previous = _mm256_alignr_epi8::<12>(three, previous);
            let edge = self.border(previous, _mm256_and_si256(one, table.low));
            let even = [
                table.of(self.from::<4>(one), second),
                table.of(self.from::<1>(edge), self.from::<2>(one)),
                table.of(self.from::<1>(one), middle),
                table.of(self.from::<3>(previous), self.from::<2>(edge)),
            ];
            add_all(add, sums, first, even);
            (three, next)
        }
    }

    #[inline(always)]
    unsafe fn ascending([even, odd]: [__m256i; PARTS]) -> [__m256i; PARTS] {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let a = _mm256_unpacklo_epi32(even, odd);
            let b = _mm256_unpackhi_epi32(even, odd);
            [
                _mm256_permute2x128_si256::<0x20>(a, b),
                _mm256_permute2x128_si256::<0x31>(a, b),
            ]
        }
    }
}

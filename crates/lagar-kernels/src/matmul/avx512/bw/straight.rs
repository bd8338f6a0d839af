//! Look-up without extraction, at 2 and 4 bits a weight.
//!
//! There the 4 bits that choose A of a split table, and those that choose B, lie as far from the edges of bytes in one row as in every
//! other; so do the windows of 4-bit codebooks. So four units at 2 bits, or two at 4, take one or two loads and a few shifts: each vector of
//! 4 bits per byte is looked up where it chooses A and where it chooses B, and what belongs to one row is brought together afterwards.

use std::arch::x86_64::*;

use super::super::super::lookup::Lookup;
use super::super::units::{Set, Steps};
use super::decode::{Decode, Halves, Nibble, SELECT, nibbles};

/// Four units of a split table at 2 bits.
#[derive(Clone, Copy)]
pub(super) struct TwoBits {
    table: Halves,
    /// 3 in each byte.
    three: __m512i,
}

impl TwoBits {
    /// `x` shifted right in each byte, of which 4 bits remain.
    ///
    /// # Safety
    /// The processor has AVX-512 BW.
    #[inline(always)]
    unsafe fn four<const SHIFT: u32>(self, x: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<SHIFT>(x), self.table.low) }
    }
}

impl Steps<4> for TwoBits {
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        assert_eq!(lookup.depth, 2);
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            Self {
                table: Halves::new::<F>(lookup),
                three: _mm512_set1_epi8(3),
            }
        }
    }

    /// Rows 0–3 of all four units, 4–7, 8–11 and 12–15: byte `r` of 64 has the newest bits of row `r`'s 4 windows.
    #[inline(always)]
    unsafe fn levels(self, codes: *const u8) -> [__m512i; 4] {
        let table = self.table;
        // SAFETY: the caller promises AVX-512 BW and what `Tile::unit` says.
        unsafe {
            let [before, own] = both(codes);
            let (low, high) = (self.four::<0>(own), self.four::<4>(own));
            // The 4 bits two below the edges of the byte, and those between both.
            let below = self.four::<2>(before);
            let edge = _mm512_ternarylogic_epi32::<SELECT>(
                _mm512_slli_epi16::<2>(own),
                _mm512_srli_epi16::<6>(before),
                self.three,
            );
            let edge = self.four::<0>(edge);
            let first = table.of(below, edge);
            let second = table.of(self.four::<4>(before), low);
            let third = table.of(edge, self.four::<2>(own));
            let fourth = table.of(low, high);
            let (a, b) = (
                _mm512_unpacklo_epi8(first, second),
                _mm512_unpackhi_epi8(first, second),
            );
            let (c, d) = (
                _mm512_unpacklo_epi8(third, fourth),
                _mm512_unpackhi_epi8(third, fourth),
            );
            [
                _mm512_unpacklo_epi16(a, c),
                _mm512_unpackhi_epi16(a, c),
                _mm512_unpacklo_epi16(b, d),
                _mm512_unpackhi_epi16(b, d),
            ]
        }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { transposed(lanes) }
    }
}

/// Two units of a split table at 4 bits.
#[derive(Clone, Copy)]
pub(super) struct FourBits(Halves);

impl Steps<2> for FourBits {
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        assert_eq!(lookup.depth, 4);
        // SAFETY: the caller promises AVX-512 BW.
        Self(unsafe { Halves::new::<F>(lookup) })
    }

    /// See [`join`]: the even windows end with the low half of a byte, and begin with the high half of the one before.
    #[inline(always)]
    unsafe fn levels(self, codes: *const u8) -> [__m512i; 2] {
        let Self(table) = self;
        // SAFETY: the caller promises AVX-512 BW and what `Tile::unit` says.
        unsafe {
            let [before, own] = both(codes);
            let [_, before] = nibbles(before, table.low);
            let [low, high] = nibbles(own, table.low);
            join(table.of(before, low), table.of(low, high))
        }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m512i; 2]) -> [__m512i; 2] {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { two_units(lanes) }
    }
}

/// Two units of a 4-bit codebook.
#[derive(Clone, Copy)]
pub(super) struct Codebook(Nibble);

impl Steps<2> for Codebook {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        assert!(lookup.depth == 4 && lookup.scalar);
        // SAFETY: the caller promises AVX-512 BW.
        Self(unsafe { Nibble::new::<F>(lookup) })
    }

    /// See [`join`].
    #[inline(always)]
    unsafe fn levels(self, codes: *const u8) -> [__m512i; 2] {
        let Self(table) = self;
        // SAFETY: the caller promises AVX-512 BW; `Tile::unit` says that 65 bytes are in bounds.
        unsafe {
            let bytes = _mm512_loadu_si512(codes.add(1).cast());
            let [low, high] = nibbles(bytes, table.low);
            join(table.of(low), table.of(high))
        }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m512i; 2]) -> [__m512i; 2] {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { two_units(lanes) }
    }
}

/// 64 bytes, and the 64 that begin one further on.
///
/// # Safety
/// The processor has AVX-512; 65 bytes are readable.
#[inline(always)]
unsafe fn both(codes: *const u8) -> [__m512i; 2] {
    // SAFETY: the caller promises both.
    unsafe {
        [
            _mm512_loadu_si512(codes.cast()),
            _mm512_loadu_si512(codes.add(1).cast()),
        ]
    }
}

/// The levels of even windows and of odd ones, at 4 bits: bytes `2r` and `2r + 1` have those of row `r` of two units. Rows 0–3 and 8–11 of
/// both units, and the others.
///
/// # Safety
/// The processor has AVX-512 BW.
#[inline(always)]
unsafe fn join(even: __m512i, odd: __m512i) -> [__m512i; 2] {
    // SAFETY: the caller promises AVX-512 BW.
    unsafe {
        [
            _mm512_unpacklo_epi8(even, odd),
            _mm512_unpackhi_epi8(even, odd),
        ]
    }
}

/// The order of rows, given that of [`join`].
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn two_units([a, b]: [__m512i; 2]) -> [__m512i; 2] {
    // SAFETY: the caller promises AVX-512.
    unsafe {
        let first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
        let second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
        [
            _mm512_permutex2var_epi64(a, first, b),
            _mm512_permutex2var_epi64(a, second, b),
        ]
    }
}

/// Lanes of 16 bytes as a matrix, transposed.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
pub(in super::super) unsafe fn transposed([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller promises AVX-512.
    unsafe {
        let first = [
            _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b),
            _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d),
        ];
        let last = [
            _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b),
            _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d),
        ];
        [
            _mm512_shuffle_i32x4::<0b10_00_10_00>(first[0], first[1]),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(first[0], first[1]),
            _mm512_shuffle_i32x4::<0b10_00_10_00>(last[0], last[1]),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(last[0], last[1]),
        ]
    }
}

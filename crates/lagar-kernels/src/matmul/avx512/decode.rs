//! From codes to levels with AVX-512 VBMI: extraction of windows, and look-ups for each form of table.

use std::arch::x86_64::*;

use lagar_codec::Split;

use super::super::lookup::{FREE_OFFSET, Lookup, Place, SPLIT_OFFSET};
use super::super::tile::UNIT;

#[repr(C, align(64))]
pub(super) struct Aligned<T>(T);

/// Where each of 64 windows is: the byte that each byte of an 8-byte lane comes from, and the bit of
/// that lane at which each window begins.
pub(super) struct Spread {
    bytes: Aligned<[u8; UNIT]>,
    shifts: Aligned<[u8; UNIT]>,
}

/// By depth and by whether `L = K`.
static SPREAD: [[Spread; 2]; 9] = {
    const fn spread(depth: usize, scalar: bool) -> Spread {
        let place = Place::of(depth, scalar);
        let (mut bytes, mut shifts) = ([0; UNIT], [0; UNIT]);
        let mut i = 0;
        while i < UNIT {
            let (lane, j) = (i / 8, i % 8);
            // Lane 7 ends with byte `7 · 7 + skip + 7 = 57` at most, window 7 before bit 64.
            let skip = place.first / 8;
            bytes[i] = (lane * depth + skip + j) as u8;
            shifts[i] = (place.bit(j) - 8 * skip) as u8;
            i += 1;
        }
        Spread {
            bytes: Aligned(bytes),
            shifts: Aligned(shifts),
        }
    }
    macro_rules! depths {
        ($($depth:literal)*) => { [$([spread($depth, false), spread($depth, true)]),*] };
    }
    depths!(0 1 2 3 4 5 6 7 8)
};

/// Extraction and look-up of 64 windows, as registers.
pub(super) trait Decode: Copy {
    /// What is added to levels.
    const OFFSET: u8;

    /// # Safety
    /// The processor has AVX-512 VBMI.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Windows, with any bits above them, to levels plus offset.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    unsafe fn levels(self, windows: __m512i) -> __m512i;
}

/// Up to 64 levels: the windows' low 6 bits choose.
#[derive(Clone, Copy)]
pub(super) struct Small(__m512i);

impl Decode for Small {
    const OFFSET: u8 = FREE_OFFSET;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512; there are 256 levels.
        unsafe { Self(free_levels(lookup, 0)) }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe { _mm512_permutexvar_epi8(windows, self.0) }
    }
}

/// 128 or 256 free levels, as two or four registers.
#[derive(Clone, Copy)]
pub(super) struct Free<const HALVES: usize>([[__m512i; 2]; HALVES]);

impl<const HALVES: usize> Decode for Free<HALVES> {
    const OFFSET: u8 = FREE_OFFSET;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let mut tables = [[_mm512_setzero_si512(); 2]; HALVES];
            for (half, tables) in tables.iter_mut().enumerate() {
                tables[0] = free_levels(lookup, 2 * half);
                tables[1] = free_levels(lookup, 2 * half + 1);
            }
            Self(tables)
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe {
            let [a, b] = self.0[0];
            let low = _mm512_permutex2var_epi8(a, windows, b);
            if HALVES == 1 {
                return low;
            }
            let [a, b] = self.0[HALVES - 1];
            let high = _mm512_permutex2var_epi8(a, windows, b);
            _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(windows), high)
        }
    }
}

/// Plain int8.
#[derive(Clone, Copy)]
pub(super) struct Plain(__m512i);

impl Decode for Plain {
    const OFFSET: u8 = FREE_OFFSET;

    #[inline(always)]
    unsafe fn new(_: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe { Self(_mm512_set1_epi8(FREE_OFFSET as i8)) }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512.
        unsafe { _mm512_xor_si512(windows, self.0) }
    }
}

/// A split table whose sign bits lie `SHIFT` above the first bit of the halves: A's is bit
/// `4 + SHIFT`, B's is bit `SHIFT`. Then one shift by `SHIFT` brings both where 6-bit look-ups want them.
#[derive(Clone, Copy)]
pub(super) struct Halves<const SHIFT: u32> {
    /// By 4 bits of the window and, at bit 4, the sign.
    a: __m512i,
    /// By bits `SHIFT` and up of the window: the sign first.
    b: __m512i,
    low: __m512i,
}

impl<const SHIFT: u32> Decode for Halves<SHIFT> {
    const OFFSET: u8 = SPLIT_OFFSET;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let split = lookup.split.as_ref().expect("a split table");
        let (mut a, mut b) = ([0i8; UNIT], [0i8; UNIT]);
        for i in 0..UNIT {
            let level = split.a[i & 15];
            // Only the sum of both is known to fit a byte, so each wraps.
            let level = if i >> 4 & 1 == 1 {
                level.wrapping_neg()
            } else {
                level
            };
            a[i] = level.wrapping_add(SPLIT_OFFSET as i8);
            let level = split.b[(i >> (4 - SHIFT)) & 15];
            b[i] = if i & 1 == 1 {
                level.wrapping_neg()
            } else {
                level
            };
        }
        // SAFETY: the caller promises AVX-512; the arrays have 64 bytes.
        unsafe {
            Self {
                a: _mm512_loadu_si512(a.as_ptr().cast()),
                b: _mm512_loadu_si512(b.as_ptr().cast()),
                low: _mm512_set1_epi8(15),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        /// Bits of the second operand where the third is set, of the first elsewhere.
        const SELECT: i32 = 0b1101_1000;
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe {
            // The look-ups ignore what comes from the neighbouring byte.
            let shifted = _mm512_srli_epi16::<SHIFT>(windows);
            let a = _mm512_ternarylogic_epi32::<SELECT>(shifted, windows, self.low);
            let a = _mm512_permutexvar_epi8(a, self.a);
            let b = _mm512_permutexvar_epi8(shifted, self.b);
            _mm512_add_epi8(a, b)
        }
    }
}

/// 64 free levels plus offset.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
pub(super) unsafe fn free_levels(lookup: &Lookup, quarter: usize) -> __m512i {
    let levels = &lookup.levels.as_chunks::<UNIT>().0[quarter];
    // SAFETY: the caller promises AVX-512; there are 64 levels.
    unsafe {
        let levels = _mm512_loadu_si512(levels.as_ptr().cast());
        _mm512_xor_si512(levels, _mm512_set1_epi8(FREE_OFFSET as i8))
    }
}

/// Extraction of windows.
#[derive(Clone, Copy)]
pub(super) struct Extract {
    bytes: __m512i,
    shifts: __m512i,
}

impl Extract {
    /// # Safety
    /// The processor has AVX-512.
    #[inline(always)]
    pub(super) unsafe fn new(lookup: &Lookup) -> Self {
        let spread = &SPREAD[lookup.depth][usize::from(lookup.scalar)];
        // SAFETY: the caller promises AVX-512; both arrays have 64 bytes.
        unsafe {
            Self {
                bytes: _mm512_loadu_si512(spread.bytes.0.as_ptr().cast()),
                shifts: _mm512_loadu_si512(spread.shifts.0.as_ptr().cast()),
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512 VBMI; 64 bytes are readable.
    #[inline(always)]
    pub(super) unsafe fn windows(self, codes: *const u8) -> __m512i {
        // SAFETY: the caller promises both.
        unsafe {
            let bytes = _mm512_permutexvar_epi8(self.bytes, _mm512_loadu_si512(codes.cast()));
            _mm512_multishift_epi64_epi8(self.shifts, bytes)
        }
    }
}

/// The fast form of a split table, if its sign bits allow it: the distance of both sign bits from the
/// first bits of their halves.
pub(super) fn halves_shift(lookup: &Lookup) -> Option<u8> {
    let Split {
        a_sign_bit,
        b_sign_bit,
        ..
    } = lookup.split?;
    (b_sign_bit + 4 == a_sign_bit && b_sign_bit >= 2).then_some(b_sign_bit)
}

pub(super) fn offset(lookup: &Lookup) -> u8 {
    match halves_shift(lookup) {
        Some(_) => SPLIT_OFFSET,
        None => FREE_OFFSET,
    }
}

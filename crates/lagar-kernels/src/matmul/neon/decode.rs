//! From codes to levels with NEON: extraction of windows, and look-ups for each form of table.

use std::arch::aarch64::*;

use super::super::lookup::{Lookup, Place, SPLIT_OFFSET};
use super::super::tile::UNIT;

/// Windows of a step.
pub(super) const STEP: usize = 16;

/// Where each of 16 windows is: the two bytes of the even and of the odd ones, and how far to shift
/// them (to the right, so not above 0).
pub(super) struct Spread {
    even: [u8; STEP],
    even_shifts: [i16; STEP / 2],
    odd: [u8; STEP],
    odd_shifts: [i16; STEP / 2],
}

/// By depth and by whether `L = K`.
static SPREAD: [[Spread; 2]; 9] = {
    const fn spread(depth: usize, scalar: bool) -> Spread {
        let place = Place::of(depth, scalar);
        let mut spread = Spread {
            even: [0; STEP],
            even_shifts: [0; STEP / 2],
            odd: [0; STEP],
            odd_shifts: [0; STEP / 2],
        };
        let mut lane = 0;
        while lane < STEP / 2 {
            let (even, odd) = (place.bit(2 * lane), place.bit(2 * lane + 1));
            let odd_byte = if shared(depth) { even / 8 } else { odd / 8 };
            // Byte 16 is asked for only at depth 8, where it does not matter; it reads as 0.
            spread.even[2 * lane] = (even / 8) as u8;
            spread.even[2 * lane + 1] = (even / 8 + 1) as u8;
            spread.odd[2 * lane] = odd_byte as u8;
            spread.odd[2 * lane + 1] = (odd_byte + 1) as u8;
            spread.even_shifts[lane] = -((even % 8) as i16);
            spread.odd_shifts[lane] = -((odd - 8 * odd_byte) as i16);
            lane += 1;
        }
        spread
    }
    macro_rules! depths {
        ($($depth:literal)*) => { [$([spread($depth, false), spread($depth, true)]),*] };
    }
    depths!(0 1 2 3 4 5 6 7 8)
};

/// Whether two neighbouring windows always lie in the same two bytes, from an even one's first byte on.
pub(super) const fn shared(depth: usize) -> bool {
    matches!(depth, 1 | 2 | 4 | 8)
}

/// Extraction of windows.
#[derive(Clone, Copy)]
pub(super) struct Extract<const SHARED: bool> {
    even: uint8x16_t,
    even_shifts: int16x8_t,
    odd: uint8x16_t,
    odd_shifts: int16x8_t,
}

impl<const SHARED: bool> Extract<SHARED> {
    /// # Safety
    /// The processor has NEON.
    #[inline(always)]
    pub(super) unsafe fn new(lookup: &Lookup) -> Self {
        assert_eq!(shared(lookup.depth), SHARED);
        let spread = &SPREAD[lookup.depth][usize::from(lookup.scalar)];
        // SAFETY: the caller promises NEON; each array has 16 bytes.
        unsafe {
            Self {
                even: vld1q_u8(spread.even.as_ptr()),
                even_shifts: vld1q_s16(spread.even_shifts.as_ptr()),
                odd: vld1q_u8(spread.odd.as_ptr()),
                odd_shifts: vld1q_s16(spread.odd_shifts.as_ptr()),
            }
        }
    }

    /// # Safety
    /// The processor has NEON; 16 bytes are readable.
    #[inline(always)]
    pub(super) unsafe fn windows(self, codes: *const u8) -> uint8x16_t {
        // SAFETY: the caller promises both.
        unsafe {
            let bytes = vld1q_u8(codes);
            let even = vreinterpretq_u16_u8(vqtbl1q_u8(bytes, self.even));
            let odd = if SHARED {
                even
            } else {
                vreinterpretq_u16_u8(vqtbl1q_u8(bytes, self.odd))
            };
            vtrn1q_u8(
                vreinterpretq_u8_u16(vshlq_u16(even, self.even_shifts)),
                vreinterpretq_u8_u16(vshlq_u16(odd, self.odd_shifts)),
            )
        }
    }
}

/// Look-up of 16 windows, as registers.
pub(super) trait Decode: Copy {
    /// Whether its registers leave room for few others.
    const LARGE: bool = false;
    /// What is added to levels.
    const OFFSET: u8 = 0;

    /// # Safety
    /// The processor has NEON.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Windows, with any bits above them, to levels plus offset, signed bytes.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn levels(self, windows: uint8x16_t) -> int8x16_t;
}

/// Up to 16 levels.
#[derive(Clone, Copy)]
pub(super) struct Nibble(int8x16_t);

impl Decode for Nibble {
    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises NEON; there are 16 levels.
        unsafe { Self(vld1q_s8(lookup.nibble().as_ptr())) }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: uint8x16_t) -> int8x16_t {
        // SAFETY: the caller promises NEON.
        unsafe { vqtbl1q_s8(self.0, vandq_u8(windows, vdupq_n_u8(15))) }
    }
}

/// A split table: [`Lookup::halves`].
#[derive(Clone, Copy)]
pub(super) struct Halves {
    p: int8x16_t,
    q: int8x16_t,
}

impl Halves {
    /// The levels, plus offset, of windows with these 4 low bits in each byte, and these high ones.
    ///
    /// # Safety
    /// The processor has NEON.
    #[inline(always)]
    pub(super) unsafe fn of(self, low: uint8x16_t, high: uint8x16_t) -> int8x16_t {
        // SAFETY: the caller promises NEON.
        unsafe {
            let p = vqtbl1q_s8(self.p, low);
            let q = vqtbl1q_s8(self.q, high);
            vabsq_s8(vaddq_s8(p, q))
        }
    }
}

impl Decode for Halves {
    const OFFSET: u8 = SPLIT_OFFSET;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let [p, q] = lookup.halves;
        // SAFETY: the caller promises NEON; each array has 16 bytes.
        unsafe {
            Self {
                p: vld1q_s8(p.as_ptr()),
                q: vld1q_s8(q.as_ptr()),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: uint8x16_t) -> int8x16_t {
        // SAFETY: the caller promises NEON.
        unsafe {
            let low = vandq_u8(windows, vdupq_n_u8(15));
            self.of(low, vshrq_n_u8::<4>(windows))
        }
    }
}

/// Plain int8.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Decode for Plain {
    #[inline(always)]
    unsafe fn new(_: &Lookup) -> Self {
        Self
    }

    #[inline(always)]
    unsafe fn levels(self, windows: uint8x16_t) -> int8x16_t {
        // SAFETY: the caller promises NEON.
        unsafe { vreinterpretq_s8_u8(windows) }
    }
}

/// 256 free levels: four tables of 64, each of which answers indices below 64 only.
#[derive(Clone, Copy)]
pub(super) struct Free([int8x16x4_t; 4]);

impl Decode for Free {
    const LARGE: bool = true;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let (levels, _) = lookup.levels.as_chunks::<UNIT>();
        // SAFETY: the caller promises NEON; each array has 64 bytes.
        unsafe {
            let table = |i: usize| vld1q_s8_x4(levels[i].as_ptr());
            Self([table(0), table(1), table(2), table(3)])
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: uint8x16_t) -> int8x16_t {
        // SAFETY: the caller promises NEON.
        unsafe {
            let size = vdupq_n_u8(UNIT as u8);
            let mut index = windows;
            let mut levels = vqtbl4q_s8(self.0[0], index);
            for table in &self.0[1..] {
                index = vsubq_u8(index, size);
                levels = vqtbx4q_s8(levels, *table, index);
            }
            levels
        }
    }
}

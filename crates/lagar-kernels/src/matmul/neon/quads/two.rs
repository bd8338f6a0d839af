//! 2 bits a weight: a byte has a row's 4 weights of a block. What a row shares with the one before is shifted in from the lane before.

use std::arch::aarch64::*;

use lagar_codec::BLOCK_COLS;

use super::super::decode::{Decode, Halves};
use super::{Lookup, PARTS, Step, Vectors};

/// Bits of codes, 4 in each byte, that other rows' windows have too.
#[derive(Clone, Copy)]
pub(super) struct Shared {
    /// Bits 2 to 5.
    middle: uint8x16_t,
    /// Bits 4 to 7.
    high: uint8x16_t,
}

/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn shared(codes: uint8x16_t) -> Shared {
    // SAFETY: the caller promises NEON.
    unsafe {
        Shared {
            middle: vandq_u8(vshrq_n_u8::<2>(codes), vdupq_n_u8(15)),
            high: vshrq_n_u8::<4>(codes),
        }
    }
}

/// Levels of 4 rows in four blocks: those of the last, second, third and first column of each. The last lane of `before` is the row before.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn levels(
    table: Halves,
    codes: uint8x16_t,
    own: Shared,
    before: Shared,
) -> [int8x16_t; BLOCK_COLS] {
    // SAFETY: the caller promises NEON.
    unsafe {
        let low = vandq_u8(codes, vdupq_n_u8(15));
        let middle = vextq_u8::<12>(before.middle, own.middle);
        let high = vextq_u8::<12>(before.high, own.high);
        // The two bits below the byte and its own lowest two.
        let edge = vsliq_n_u8::<2>(vshrq_n_u8::<2>(high), codes);
        let edge = vandq_u8(edge, vdupq_n_u8(15));
        [
            table.of(low, own.high),
            table.of(high, low),
            table.of(edge, own.middle),
            table.of(middle, edge),
        ]
    }
}

/// The codes of a unit in four blocks, each lane those of a row: part `p` has rows `4 · p` to `4 · p + 3`.
///
/// # Safety
/// The processor has NEON; 16 bytes are readable in each block, the next of which is `block_bytes` on.
#[inline(always)]
unsafe fn transposed(from: *const u8, block_bytes: usize) -> [uint8x16_t; PARTS] {
    // SAFETY: the caller promises both.
    unsafe {
        let a = vld1q_u8(from);
        let b = vld1q_u8(from.add(block_bytes));
        let c = vld1q_u8(from.add(2 * block_bytes));
        let d = vld1q_u8(from.add(3 * block_bytes));
        let first = vreinterpretq_u16_u8(vzip1q_u8(a, b));
        let second = vreinterpretq_u16_u8(vzip1q_u8(c, d));
        let third = vreinterpretq_u16_u8(vzip2q_u8(a, b));
        let fourth = vreinterpretq_u16_u8(vzip2q_u8(c, d));
        [
            vreinterpretq_u8_u16(vzip1q_u16(first, second)),
            vreinterpretq_u8_u16(vzip2q_u16(first, second)),
            vreinterpretq_u8_u16(vzip1q_u16(third, fourth)),
            vreinterpretq_u8_u16(vzip2q_u16(third, fourth)),
        ]
    }
}

/// Look-up of the codes of a unit in four blocks.
#[derive(Clone, Copy)]
pub(super) struct Two(Halves);

impl Step for Two {
    const DEPTH: usize = 2;

    type Begun = Shared;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises NEON.
        Self(unsafe { Halves::new(lookup) })
    }

    #[inline(always)]
    unsafe fn begin(before: uint8x16_t) -> Shared {
        // SAFETY: the caller promises NEON.
        unsafe { shared(before) }
    }

    #[inline(always)]
    unsafe fn add<V: Vectors>(
        self,
        from: *const u8,
        block_bytes: usize,
        mut before: Shared,
        vectors: &mut V,
        unit: usize,
    ) -> Shared {
        // SAFETY: the caller promises all of it.
        unsafe {
            for (part, &codes) in transposed(from, block_bytes).iter().enumerate() {
                let own = shared(codes);
                vectors.add(unit, part, levels(self.0, codes, own, before));
                before = own;
            }
            before
        }
    }

    #[inline(always)]
    unsafe fn ascending(parts: [int32x4_t; PARTS]) -> [int32x4_t; PARTS] {
        parts
    }
}

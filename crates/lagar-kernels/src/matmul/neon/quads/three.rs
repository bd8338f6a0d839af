//! 3 bits a weight: three bytes have a pair of rows, 4 weights of a block each.
//!
//! So the first bytes of 4 pairs of rows in four blocks are a register, and so are the second and the third ones. Each of the 8 windows of a pair
//! begins at the same bit in all of them.

use std::arch::aarch64::*;

use super::super::decode::{Decode, Halves};
use super::{BLOCKS, Lookup, PARTS, Step, Vectors};

/// Look-up of the codes of a unit in four blocks.
#[derive(Clone, Copy)]
pub(super) struct Three(Halves);

/// The first, second and third bytes of pairs of rows, each lane those of a pair in four blocks.
type Codes = [uint8x16_t; 3];

/// The codes of a unit in four blocks: those of its first 4 pairs of rows, and those of the others.
///
/// # Safety
/// The processor has NEON; 24 bytes are readable in each block, the next of which is `block_bytes` on.
#[inline(always)]
unsafe fn transposed(from: *const u8, block_bytes: usize) -> [Codes; 2] {
    // SAFETY: the caller promises both.
    unsafe {
        let a = vld3_u8(from);
        let b = vld3_u8(from.add(block_bytes));
        let c = vld3_u8(from.add(2 * block_bytes));
        let d = vld3_u8(from.add(3 * block_bytes));
        let first = together([a.0, b.0, c.0, d.0]);
        let second = together([a.1, b.1, c.1, d.1]);
        let third = together([a.2, b.2, c.2, d.2]);
        [
            [first[0], second[0], third[0]],
            [first[1], second[1], third[1]],
        ]
    }
}

/// One byte of 8 pairs of rows in four blocks, each lane those of a pair.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn together([a, b, c, d]: [uint8x8_t; BLOCKS]) -> [uint8x16_t; 2] {
    // SAFETY: the caller promises NEON.
    unsafe {
        let first = vreinterpretq_u16_u8(vcombine_u8(vzip1_u8(a, b), vzip2_u8(a, b)));
        let second = vreinterpretq_u16_u8(vcombine_u8(vzip1_u8(c, d), vzip2_u8(c, d)));
        [
            vreinterpretq_u8_u16(vzip1q_u16(first, second)),
            vreinterpretq_u8_u16(vzip2q_u16(first, second)),
        ]
    }
}

impl Three {
    /// Levels of windows that begin at bit `BIT` of the bytes `low` and go on in the bytes `high`, of which they take `BIT` bits.
    ///
    /// # Safety
    /// The processor has NEON.
    #[inline(always)]
    unsafe fn of<const BIT: i32, const REST: i32>(
        self,
        low: uint8x16_t,
        high: uint8x16_t,
    ) -> int8x16_t {
        // SAFETY: the caller promises NEON.
        unsafe {
            self.0
                .levels(vsliq_n_u8::<REST>(vshrq_n_u8::<BIT>(low), high))
        }
    }
}

impl Step for Three {
    const DEPTH: usize = 3;

    /// The third bytes.
    type Begun = uint8x16_t;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises NEON.
        Self(unsafe { Halves::new(lookup) })
    }

    #[inline(always)]
    unsafe fn begin(before: uint8x16_t) -> uint8x16_t {
        before
    }

    #[inline(always)]
    unsafe fn add<V: Vectors>(
        self,
        from: *const u8,
        block_bytes: usize,
        mut before: uint8x16_t,
        vectors: &mut V,
        unit: usize,
    ) -> uint8x16_t {
        // SAFETY: the caller promises all of it.
        unsafe {
            for (half, [first, second, third]) in
                transposed(from, block_bytes).into_iter().enumerate()
            {
                let last = vextq_u8::<12>(before, third);
                let even = [
                    self.of::<4, 4>(first, second),
                    self.of::<6, 2>(last, first),
                    self.of::<1, 7>(first, second),
                    self.of::<3, 5>(last, first),
                ];
                vectors.add(unit, 2 * half, even);
                let odd = [
                    self.0.levels(third),
                    self.of::<2, 6>(second, third),
                    self.of::<5, 3>(second, third),
                    self.of::<7, 1>(first, second),
                ];
                vectors.add(unit, 2 * half + 1, odd);
                before = third;
            }
            before
        }
    }

    #[inline(always)]
    unsafe fn ascending([a, b, c, d]: [int32x4_t; PARTS]) -> [int32x4_t; PARTS] {
        // SAFETY: the caller promises NEON.
        unsafe {
            [
                vzip1q_s32(a, b),
                vzip2q_s32(a, b),
                vzip1q_s32(c, d),
                vzip2q_s32(c, d),
            ]
        }
    }
}

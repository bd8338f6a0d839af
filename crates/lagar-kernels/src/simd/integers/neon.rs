use std::arch::aarch64::*;

use super::super::Neon;
use super::super::neon::each;
use super::{Integers, LANES, last_index, ranks};

/// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
type Quad = [uint32x4_t; 4];

/// Which of the next words each of 4 lanes takes.
static RANKS: [u64; 16] = ranks();

impl Integers for Neon {
    type U32 = Quad;
    type Truth = Quad;

    #[inline(always)]
    fn splat_u32(self, v: u32) -> Quad {
        // SAFETY: the token proves NEON.
        [unsafe { vdupq_n_u32(v) }; 4]
    }
    #[inline(always)]
    fn load_u32(self, from: &[u32; LANES]) -> Quad {
        // SAFETY: the token proves NEON; the array is four times 16 readable bytes.
        let load = |i: usize| unsafe { vld1q_u32(from.as_ptr().add(4 * i)) };
        [load(0), load(1), load(2), load(3)]
    }
    #[inline(always)]
    fn store_u32(self, v: Quad, to: &mut [u32; LANES]) {
        for (v, to) in v.into_iter().zip(to.as_chunks_mut::<4>().0) {
            // SAFETY: the token proves NEON; the array is 16 writable bytes.
            unsafe { vst1q_u32(to.as_mut_ptr(), v) };
        }
    }

    #[inline(always)]
    fn plus(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vaddq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn minus(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vsubq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn times(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vmulq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn minus_saturating(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vqsubq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn and(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vandq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn or(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vorrq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn xor(self, a: Quad, b: Quad) -> Quad {
        each!(|i| veorq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn left(self, a: Quad, n: u32) -> Quad {
        each!(|i| vshlq_u32(a[i], vdupq_n_s32(n as i32)))
    }
    #[inline(always)]
    fn right(self, a: Quad, n: u32) -> Quad {
        each!(|i| vshlq_u32(a[i], vdupq_n_s32(-(n as i32))))
    }
    #[inline(always)]
    fn left_each(self, a: Quad, n: Quad) -> Quad {
        each!(|i| vshlq_u32(a[i], vreinterpretq_s32_u32(n[i])))
    }
    #[inline(always)]
    fn right_each(self, a: Quad, n: Quad) -> Quad {
        each!(|i| vshlq_u32(a[i], vnegq_s32(vreinterpretq_s32_u32(n[i]))))
    }
    #[inline(always)]
    fn spread_sign(self, a: Quad) -> Quad {
        each!(|i| vreinterpretq_u32_s32(vshrq_n_s32::<31>(vreinterpretq_s32_u32(a[i]))))
    }
    #[inline(always)]
    fn smaller(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vminq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn as_f32_bits(self, a: Quad) -> Quad {
        each!(|i| vreinterpretq_u32_f32(vcvtq_f32_u32(a[i])))
    }

    #[inline(always)]
    fn at_least(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vcgeq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn choose(self, truth: Quad, yes: Quad, no: Quad) -> Quad {
        each!(|i| vbslq_u32(truth[i], yes[i], no[i]))
    }

    #[inline(always)]
    fn look_up(self, table: &[u32], index: Quad) -> Quad {
        // NEON has no look-up of 32-bit values.
        let last = last_index(table);
        let mut lanes = [0; LANES];
        self.store_u32(index, &mut lanes);
        self.load_u32(&lanes.map(|index| table[index.min(last) as usize]))
    }

    #[inline(always)]
    fn refill(self, a: Quad, words: &[[u8; 2]; LANES]) -> (Quad, usize) {
        let (mut out, mut used) = (a, 0);
        for (out, a) in out.iter_mut().zip(a) {
            // SAFETY: the token proves NEON; 8 bytes behind at most 24 of 32 are in bounds, because a
            // quarter takes at most 4 words; a set of 4 lanes is below 16.
            unsafe {
                let low = vcltq_u32(a, vdupq_n_u32(1 << 16));
                let bits = vld1q_u32([1, 2, 4, 8].as_ptr());
                let set = vaddvq_u32(vandq_u32(low, bits)) as usize;
                let next = vld1_u8(words.as_ptr().add(used.min(12)).cast());
                // Bytes 2 rank and 2 rank + 1 for the low half of a lane, none for the high one.
                let ranks = vget_low_u16(vmovl_u8(vcreate_u8(RANKS[set & 15])));
                let ranks = vmulq_n_u32(vmovl_u16(ranks), 0x0202);
                let bytes = vaddq_u32(ranks, vdupq_n_u32(0xffff_0100));
                let next = vqtbl1q_u8(vcombine_u8(next, vdup_n_u8(0)), vreinterpretq_u8_u32(bytes));
                let refilled = vorrq_u32(vshlq_n_u32::<16>(a), vreinterpretq_u32_u8(next));
                *out = vbslq_u32(low, refilled, a);
                used += set.count_ones() as usize;
            }
        }
        (out, used)
    }
}

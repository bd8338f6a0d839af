//! 16 lanes as four NEON registers.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Kernel, LANES, Simd};

/// Token of NEON. Whoever holds one runs on a processor that has it.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

/// Runs a kernel with NEON.
///
/// # Safety
/// The processor has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon(()))
}

impl Neon {
    /// A token.
    ///
    /// # Safety
    /// The processor has NEON.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

/// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
type Quad = [float32x4_t; 4];

/// One expression for each of the four registers.
macro_rules! each {
    (|$i:ident| $expression:expr) => {
        // SAFETY: the token proves NEON.
        unsafe {
            [
                {
                    let $i = 0;
                    $expression
                },
                {
                    let $i = 1;
                    $expression
                },
                {
                    let $i = 2;
                    $expression
                },
                {
                    let $i = 3;
                    $expression
                },
            ]
        }
    };
}
pub(super) use each;

impl Simd for Neon {
    type F32 = Quad;
    type Mask = [uint32x4_t; 4];

    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, v: f32) -> Quad {
        each!(|_i| vdupq_n_f32(v))
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Quad {
        // The array is 64 readable bytes.
        each!(|i| vld1q_f32(from.as_ptr().add(4 * i)))
    }
    #[inline(always)]
    fn store(self, v: Quad, to: &mut [f32; LANES]) {
        // The array is 64 writable bytes.
        each!(|i| vst1q_f32(to.as_mut_ptr().add(4 * i), v[i]));
    }
    #[inline(always)]
    fn of_bits(self, bits: [uint32x4_t; 4]) -> Quad {
        each!(|i| vreinterpretq_f32_u32(bits[i]))
    }
    #[inline(always)]
    fn load_f32_bytes(self, from: &[u8; 64]) -> Quad {
        // The array is 64 readable bytes; the targets with this path are little-endian.
        each!(|i| vreinterpretq_f32_u8(vld1q_u8(from.as_ptr().add(16 * i))))
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> Quad {
        // The array is 32 readable bytes.
        each!(|i| widen_f16(vreinterpret_u16_u8(vld1_u8(from.as_ptr().add(8 * i)))))
    }
    #[inline(always)]
    fn store_f16(self, v: Quad, to: &mut [u8; 32]) {
        // The array is 32 writable bytes.
        each!(|i| vst1_u8(
            to.as_mut_ptr().add(8 * i),
            vreinterpret_u8_u16(narrow_f16(v[i]))
        ));
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> Quad {
        // The array is 32 readable bytes.
        each!(
            |i| vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(
                from.as_ptr().add(8 * i)
            ))))
        )
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> Quad {
        // SAFETY: the token proves NEON; the array is 16 readable bytes.
        unsafe { widen_i8(vld1q_s8(from.as_ptr())) }
    }
    #[inline(always)]
    fn load_i8_columns(self, from: &[u8; 4 * LANES], offset: u8) -> [Quad; 4] {
        // SAFETY: the token proves NEON; the array is 64 readable bytes.
        unsafe {
            let uint8x16x4_t(a, b, c, d) = vld4q_u8(from.as_ptr());
            let mut columns = [self.splat(0.0); 4];
            for (column, bytes) in columns.iter_mut().zip([a, b, c, d]) {
                *column = widen_i8(vreinterpretq_s8_u8(vsubq_u8(bytes, vdupq_n_u8(offset))));
            }
            columns
        }
    }
    #[inline(always)]
    fn load_levels(self, from: &[u8; LANES], levels: &[i8; 16]) -> [Quad; 2] {
        // SAFETY: the token proves NEON; the arrays are 16 readable bytes each.
        unsafe {
            let (bytes, levels) = (vld1q_u8(from.as_ptr()), vld1q_s8(levels.as_ptr()));
            let low = vqtbl1q_s8(levels, vandq_u8(bytes, vdupq_n_u8(15)));
            let high = vqtbl1q_s8(levels, vshrq_n_u8::<4>(bytes));
            [widen_i8(low), widen_i8(high)]
        }
    }
    #[inline(always)]
    fn store_i8(self, v: Quad, to: &mut [i8; LANES]) {
        // SAFETY: the token proves NEON; the array is 16 writable bytes.
        unsafe { vst1q_s8(to.as_mut_ptr(), vreinterpretq_s8_u8(low_bytes(v))) }
    }
    #[inline(always)]
    fn store_u8(self, v: Quad, to: &mut [u8; LANES]) {
        // SAFETY: the token proves NEON; the array is 16 writable bytes.
        unsafe { vst1q_u8(to.as_mut_ptr(), low_bytes(v)) }
    }

    #[inline(always)]
    fn add(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vaddq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn sub(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vsubq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn mul(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vmulq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn div(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vdivq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn fma(self, a: Quad, b: Quad, c: Quad) -> Quad {
        each!(|i| vfmaq_f32(c[i], a[i], b[i]))
    }
    #[inline(always)]
    fn fnma(self, a: Quad, b: Quad, c: Quad) -> Quad {
        each!(|i| vfmsq_f32(c[i], a[i], b[i]))
    }
    // Not `fminnm` and its kin, which treat NaN and signed zeros otherwise.
    #[inline(always)]
    fn min(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]))
    }
    #[inline(always)]
    fn max(self, a: Quad, b: Quad) -> Quad {
        each!(|i| vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]))
    }
    #[inline(always)]
    fn abs(self, a: Quad) -> Quad {
        each!(|i| vabsq_f32(a[i]))
    }
    #[inline(always)]
    fn round(self, a: Quad) -> Quad {
        each!(|i| vrndnq_f32(a[i]))
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: Quad, n: Quad) -> Quad {
        // In two steps, each with a normal factor; only the second can round.
        each!(|i| {
            let bias = vdupq_n_s32(127);
            let n = vcvtq_s32_f32(n[i]);
            let half = vshrq_n_s32::<1>(n);
            let rest = vsubq_s32(n, half);
            let first = vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(half, bias)));
            let second = vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(rest, bias)));
            vmulq_f32(vmulq_f32(a[i], first), second)
        })
    }

    #[inline(always)]
    fn less(self, a: Quad, b: Quad) -> Self::Mask {
        each!(|i| vcltq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, yes: Quad, no: Quad) -> Quad {
        each!(|i| vbslq_f32(mask[i], yes[i], no[i]))
    }
    #[inline(always)]
    fn mask_bits(self, mask: Self::Mask) -> u16 {
        let weights: [[u32; 4]; 4] =
            std::array::from_fn(|i| [1, 2, 4, 8].map(|bit| bit << (4 * i)));
        let parts: [u32; 4] =
            each!(|i| vaddvq_u32(vandq_u32(mask[i], vld1q_u32(weights[i].as_ptr()))));
        parts.iter().sum::<u32>() as u16
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u16) -> Self::Mask {
        let weights: [[u32; 4]; 4] =
            std::array::from_fn(|i| [1, 2, 4, 8].map(|bit| bit << (4 * i)));
        each!(|i| vtstq_u32(vdupq_n_u32(u32::from(bits)), vld1q_u32(weights[i].as_ptr())))
    }

    #[inline(always)]
    fn swap<const DISTANCE: usize>(self, a: Quad) -> Quad {
        match DISTANCE {
            1 => each!(|i| vrev64q_f32(a[i])),
            2 => each!(|i| vextq_f32::<2>(a[i], a[i])),
            4 => [a[1], a[0], a[3], a[2]],
            8 => [a[2], a[3], a[0], a[1]],
            _ => unreachable!("lanes are swapped at distances 1, 2, 4 and 8"),
        }
    }
    #[inline(always)]
    fn spread(self, a: Quad, index: &[u32; LANES / 2]) -> Quad {
        // SAFETY: the token proves NEON; both loads read 16 bytes inside the array.
        unsafe {
            let bytes = uint8x16x4_t(
                vreinterpretq_u8_f32(a[0]),
                vreinterpretq_u8_f32(a[1]),
                vreinterpretq_u8_f32(a[2]),
                vreinterpretq_u8_f32(a[3]),
            );
            // Lane `i` is bytes `4 i` to `4 i + 3`.
            let (four, first) = (vdupq_n_u32(0x0404_0404), vdupq_n_u32(0x0302_0100));
            let low = vmlaq_u32(first, vld1q_u32(index.as_ptr()), four);
            let high = vmlaq_u32(first, vld1q_u32(index.as_ptr().add(4)), four);
            let low = vreinterpretq_f32_u8(vqtbl4q_u8(bytes, vreinterpretq_u8_u32(low)));
            let high = vreinterpretq_f32_u8(vqtbl4q_u8(bytes, vreinterpretq_u8_u32(high)));
            [low, high, low, high]
        }
    }
    #[inline(always)]
    fn store_rows(self, columns: &[[f32; LANES]], to: &mut [f32], stride: usize) {
        super::check_rows(columns, to, stride);
        for quad in 0..4 {
            for first in (0..columns.len()).step_by(4) {
                // SAFETY: the token proves NEON; 4 rows of a column are read; the check has the length of
                // `to`.
                unsafe {
                    let mut parts = [vdupq_n_f32(0.0); 4];
                    for (i, part) in parts.iter_mut().enumerate() {
                        *part = vld1q_f32(columns[first + i].as_ptr().add(4 * quad));
                    }
                    let [a, b, c, d] = parts;
                    let pairs = [
                        vreinterpretq_f64_f32(vzip1q_f32(a, b)),
                        vreinterpretq_f64_f32(vzip1q_f32(c, d)),
                        vreinterpretq_f64_f32(vzip2q_f32(a, b)),
                        vreinterpretq_f64_f32(vzip2q_f32(c, d)),
                    ];
                    for (half, pair) in pairs.chunks_exact(2).enumerate() {
                        let to = to.as_mut_ptr().add((4 * quad + 2 * half) * stride + first);
                        vst1q_f32(to, vreinterpretq_f32_f64(vzip1q_f64(pair[0], pair[1])));
                        let odd = vreinterpretq_f32_f64(vzip2q_f64(pair[0], pair[1]));
                        vst1q_f32(to.add(stride), odd);
                    }
                }
            }
        }
    }
    #[inline(always)]
    fn first(self, v: Quad) -> f32 {
        // SAFETY: the token proves NEON.
        unsafe { vgetq_lane_f32::<0>(v[0]) }
    }
}

/// 16 signed bytes, exactly.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn widen_i8(bytes: int8x16_t) -> Quad {
    // SAFETY: the caller has NEON.
    let words = unsafe {
        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
        [
            vget_low_s16(low),
            vget_high_s16(low),
            vget_low_s16(high),
            vget_high_s16(high),
        ]
    };
    each!(|i| vcvtq_f32_s32(vmovl_s16(words[i])))
}

/// Four half floats, exactly. (The intrinsics need a type that is not stable yet.)
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn widen_f16(half: uint16x4_t) -> float32x4_t {
    let wide: float32x4_t;
    // SAFETY: one instruction of NEON without side effects.
    unsafe {
        asm!(
            "fcvtl {wide:v}.4s, {half:v}.4h",
            wide = lateout(vreg) wide,
            half = in(vreg) half,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    wide
}

/// Four half floats, rounded to nearest, ties to even.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn narrow_f16(wide: float32x4_t) -> uint16x4_t {
    let half: uint16x4_t;
    // SAFETY: one instruction of NEON without side effects (the rounding mode is the default one).
    unsafe {
        asm!(
            "fcvtn {half:v}.4h, {wide:v}.4s",
            half = lateout(vreg) half,
            wide = in(vreg) wide,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    half
}

/// The low byte of each lane, which holds an integer.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn low_bytes(v: Quad) -> uint8x16_t {
    let words: [uint16x4_t; 4] = each!(|i| vreinterpret_u16_s16(vmovn_s32(vcvtnq_s32_f32(v[i]))));
    // SAFETY: the caller has NEON.
    unsafe {
        let low = vmovn_u16(vcombine_u16(words[0], words[1]));
        let high = vmovn_u16(vcombine_u16(words[2], words[3]));
        vcombine_u8(low, high)
    }
}

//! The integer kernels with NEON, with and without the int8 dot product.
//!
//! A step handles 16 windows, 4 rows × 4 columns. Each 16-bit lane gets the two bytes that hold a
//! window, a shift by lane brings it to the low byte, and `trn1` joins even and odd windows. Levels are
//! signed bytes throughout.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::lookup::{Form, Lookup, Place};
use super::portable;
use super::tile::{Ops, Product, Tile, UNIT};

pub(super) const OPS: Ops = Ops {
    dot: dot::<false>,
    decode,
    offset: |_| 0,
    multiply: multiply::<false>,
    // NEON has no look-up of 32-bit values.
    scales: portable::scales,
};

pub(super) const OPS_DOTPROD: Ops = Ops {
    dot: dot::<true>,
    multiply: multiply::<true>,
    ..OPS
};

/// Windows of a step.
const STEP: usize = 16;

/// Where each of 16 windows is: the two bytes of the even and of the odd ones, and how far to shift
/// them (to the right, so not above 0).
struct Spread {
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
const fn shared(depth: usize) -> bool {
    matches!(depth, 1 | 2 | 4 | 8)
}

/// Extraction of windows.
#[derive(Clone, Copy)]
struct Extract<const SHARED: bool> {
    even: uint8x16_t,
    even_shifts: int16x8_t,
    odd: uint8x16_t,
    odd_shifts: int16x8_t,
}

impl<const SHARED: bool> Extract<SHARED> {
    /// # Safety
    /// The processor has NEON.
    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
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
    unsafe fn windows(self, codes: *const u8) -> uint8x16_t {
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
trait Decode: Copy {
    /// # Safety
    /// The processor has NEON.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Windows, with any bits above them, to levels.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn levels(self, windows: uint8x16_t) -> int8x16_t;
}

/// Up to 16 levels.
#[derive(Clone, Copy)]
struct Nibble(int8x16_t);

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

/// A split table: the levels and the signs (±1) of each half by 4 bits.
#[derive(Clone, Copy)]
struct Halves {
    a: int8x16_t,
    b: int8x16_t,
    a_sign: int8x16_t,
    b_sign: int8x16_t,
}

impl Decode for Halves {
    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let split = lookup.split.as_ref().expect("a split table");
        let [a_sign, b_sign] = lookup.signs();
        // SAFETY: the caller promises NEON; each array has 16 bytes.
        unsafe {
            Self {
                a: vld1q_s8(split.a.as_ptr()),
                b: vld1q_s8(split.b.as_ptr()),
                a_sign: vld1q_s8(a_sign.as_ptr()),
                b_sign: vld1q_s8(b_sign.as_ptr()),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: uint8x16_t) -> int8x16_t {
        // SAFETY: the caller promises NEON.
        unsafe {
            let low = vandq_u8(windows, vdupq_n_u8(15));
            let high = vshrq_n_u8::<4>(windows);
            let a = vmulq_s8(vqtbl1q_s8(self.a, low), vqtbl1q_s8(self.a_sign, high));
            vmlaq_s8(a, vqtbl1q_s8(self.b, high), vqtbl1q_s8(self.b_sign, low))
        }
    }
}

/// Plain int8.
#[derive(Clone, Copy)]
struct Plain;

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
struct Free([int8x16x4_t; 4]);

impl Decode for Free {
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

/// Calls a function with the extraction and look-up that fit a table.
macro_rules! with_decode {
    ($lookup:expr, $function:ident $arguments:tt) => {
        match ($lookup.form, shared($lookup.depth)) {
            (Form::Plain, _) => $function::<Plain, true> $arguments,
            (Form::Nibble, true) => $function::<Nibble, true> $arguments,
            (Form::Nibble, false) => $function::<Nibble, false> $arguments,
            (Form::Split, true) => $function::<Halves, true> $arguments,
            (Form::Split, false) => $function::<Halves, false> $arguments,
            (Form::Free, true) => $function::<Free, true> $arguments,
            (Form::Free, false) => $function::<Free, false> $arguments,
        }
    };
}

/// Adds the products of 4 rows of 4 levels with 4 values to 4 sums.
///
/// # Safety
/// The processor has NEON, and the int8 dot product if `DOTPROD` is set.
#[inline(always)]
unsafe fn add<const DOTPROD: bool>(sum: int32x4_t, levels: int8x16_t, x: int8x16_t) -> int32x4_t {
    if DOTPROD {
        let mut sum = sum;
        // SAFETY: the caller promises the instruction; it only changes `sum`. (Its intrinsic is not
        // stable yet.)
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {levels:v}.16b, {x:v}.16b",
                sum = inout(vreg) sum,
                levels = in(vreg) levels,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        return sum;
    }
    // SAFETY: the caller promises NEON.
    unsafe {
        // Two products are at most 2 · 128 · 127 < 2¹⁵.
        let low = vmull_s8(vget_low_s8(levels), vget_low_s8(x));
        let high = vmull_high_s8(levels, x);
        vpadalq_s16(sum, vpaddq_s16(low, high))
    }
}

/// 4 values, four times.
///
/// # Safety
/// The processor has NEON; 4 values are readable.
#[inline(always)]
unsafe fn four(x: *const i8) -> int8x16_t {
    // SAFETY: the caller promises both.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned())) }
}

/// See [`Ops::dot`].
///
/// # Safety
/// The processor has NEON, and the int8 dot product if `DOTPROD` is set.
unsafe fn dot<const DOTPROD: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    x: &[i8],
    _sum: i32,
    out: &mut [f32],
) {
    tile.check_dot(&units, x, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        if DOTPROD {
            with_decode!(tile.lookup, dot_sdot(tile, units, x, out))
        } else {
            with_decode!(tile.lookup, dot_plain(tile, units, x, out))
        }
    }
}

unsafe fn dot_sdot<D: Decode, const SHARED: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    x: &[i8],
    out: &mut [f32],
) {
    // SAFETY: as promised by the caller.
    unsafe { dot_with::<D, SHARED, true>(tile, units, x, out) }
}

unsafe fn dot_plain<D: Decode, const SHARED: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    x: &[i8],
    out: &mut [f32],
) {
    // SAFETY: as promised by the caller.
    unsafe { dot_with::<D, SHARED, false>(tile, units, x, out) }
}

/// # Safety
/// As [`Ops::dot`], whose arguments are checked.
#[inline(always)]
unsafe fn dot_with<D: Decode, const SHARED: bool, const DOTPROD: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    x: &[i8],
    out: &mut [f32],
) {
    let step = tile.lookup.unit_bytes() / 4;
    // SAFETY: the caller promises NEON; `Tile::unit` says that 64 bytes are in bounds from each unit's
    // first, and 16 windows are read at most 48 bytes further on, 16 bytes each.
    unsafe {
        let (extract, table) = (Extract::<SHARED>::new(tile.lookup), D::new(tile.lookup));
        let mut sums = [vdupq_n_s32(0); 64];
        let sums = &mut sums[..4 * units.len()];
        let mut block = tile.unit(units.start);
        for x in x.as_chunks::<BLOCK_COLS>().0 {
            let x = four(x.as_ptr());
            let mut codes = block;
            for sum in sums.iter_mut() {
                let levels = table.levels(extract.windows(codes));
                *sum = add::<DOTPROD>(*sum, levels, x);
                codes = codes.wrapping_add(step);
            }
            block = block.wrapping_add(tile.block_bytes());
        }
        for (sum, out) in sums.iter().zip(out.as_chunks_mut::<4>().0) {
            vst1q_f32(out.as_mut_ptr(), vcvtq_f32_s32(*sum));
        }
    }
}

/// See [`Ops::decode`].
///
/// # Safety
/// The processor has NEON.
unsafe fn decode(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    tile.check_decode(&units, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_decode!(tile.lookup, decode_with(tile, units, out)) }
}

/// # Safety
/// As [`Ops::decode`], whose arguments are checked.
unsafe fn decode_with<D: Decode, const SHARED: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    out: &mut [u8],
) {
    let step = tile.lookup.unit_bytes() / 4;
    // SAFETY: as in `dot_with`; `out` has four times 16 bytes for each block of each unit.
    unsafe {
        let (extract, table) = (Extract::<SHARED>::new(tile.lookup), D::new(tile.lookup));
        let mut block = tile.unit(units.start);
        for b in 0..tile.blocks() {
            let mut codes = block;
            for quarter in 0..4 * units.len() {
                let levels = table.levels(extract.windows(codes));
                let to = (quarter / 4 * tile.blocks() + b) * UNIT + quarter % 4 * STEP;
                vst1q_s8(out.as_mut_ptr().add(to).cast(), levels);
                codes = codes.wrapping_add(step);
            }
            block = block.wrapping_add(tile.block_bytes());
        }
    }
}

/// See [`Ops::multiply`].
///
/// # Safety
/// The processor has NEON, and the int8 dot product if `DOTPROD` is set.
unsafe fn multiply<const DOTPROD: bool>(product: &Product<'_>, out: &mut [f32]) {
    product.check(out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match product.sums.len() {
            1 => multiply_tokens::<1, DOTPROD>(product, out),
            2 => multiply_tokens::<2, DOTPROD>(product, out),
            3 => multiply_tokens::<3, DOTPROD>(product, out),
            _ => multiply_tokens::<4, DOTPROD>(product, out),
        }
    }
}

/// # Safety
/// As [`Ops::multiply`], whose arguments are checked, with `T` vectors.
unsafe fn multiply_tokens<const T: usize, const DOTPROD: bool>(
    product: &Product<'_>,
    out: &mut [f32],
) {
    let units = product.levels.chunks_exact(product.blocks * UNIT);
    for (unit, levels) in units.enumerate() {
        // SAFETY: the caller promises the processor; there are 64 levels; `Product::check` has the
        // length of `x`; the slice of `out` is 16 values.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); 4]; T];
            for (b, levels) in levels.as_chunks::<UNIT>().0.iter().enumerate() {
                let mut rows = [vdupq_n_s8(0); 4];
                for (i, rows) in rows.iter_mut().enumerate() {
                    *rows = vld1q_s8(levels.as_ptr().add(i * STEP).cast());
                }
                for (t, sums) in sums.iter_mut().enumerate() {
                    let x = four(product.x.as_ptr().add(t * product.stride + b * BLOCK_COLS));
                    for (sum, rows) in sums.iter_mut().zip(rows) {
                        *sum = add::<DOTPROD>(*sum, rows, x);
                    }
                }
            }
            for (t, sums) in sums.iter().enumerate() {
                let out = &mut out[(t * product.units + unit) * ROW_UNIT..][..ROW_UNIT];
                for (i, &sum) in sums.iter().enumerate() {
                    vst1q_f32(out.as_mut_ptr().add(4 * i), vcvtq_f32_s32(sum));
                }
            }
        }
    }
}

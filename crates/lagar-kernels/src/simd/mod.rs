//! Vectors of 16 lanes, the same on every instruction set.
//!
//! An algorithm is a struct of its arguments that implements [`Kernel`]; [`Isa::dispatch`] runs it
//! with the token of an instruction set:
//!
//! ```
//! use lagar_kernels::{Isa, simd::{Kernel, Simd}};
//!
//! struct Sum<'a>(&'a [f32]);
//!
//! impl Kernel for Sum<'_> {
//!     type Output = f32;
//!     #[inline(always)]
//!     fn run<S: Simd>(self, s: S) -> f32 {
//!         let mut sum = s.splat(0.0);
//!         for chunk in self.0.chunks(16) {
//!             sum = s.add(sum, s.load_partial(chunk));
//!         }
//!         s.sum(sum)
//!     }
//! }
//!
//! assert_eq!(Isa::best().dispatch(Sum(&[1.0; 20])), 20.0);
//! ```
//!
//! `run` and everything that takes the token below it must be `#[inline(always)]`, so that it is
//! compiled inside the one function per instruction set that enables the processor's features.
//! (A closure is not inlined for certain: write loops.)

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod integers;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub use self::{avx2::Avx2, avx512::Avx512};
pub use integers::Integers;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;

use crate::Isa;

/// Lanes of a vector.
pub const LANES: usize = 16;

/// A token that proves that the processor has an instruction set, and the operations of that
/// instruction set on vectors of 16 `f32`; those on integers are [`Integers`].
///
/// Every operation gives the same bits on every instruction set; only the payload of a NaN may
/// differ.
pub trait Simd: Integers {
    /// 16 lanes of `f32`.
    type F32: Copy;
    /// One truth value per lane.
    type Mask: Copy;

    /// How many vectors of 16 lanes the registers hold: the room of a kernel's accumulators.
    const REGISTERS: usize;

    /// Asks for the cache line `bytes` after the start of `from`, which need not be a part of it. A hint, on x86-64 alone.
    #[inline(always)]
    fn prefetch<T>(self, from: &T, bytes: usize) {
        let address = std::ptr::from_ref(from).cast::<i8>().wrapping_add(bytes);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint that every such processor has, and which no address makes fail.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(address);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// All lanes `v`.
    fn splat(self, v: f32) -> Self::F32;
    /// Lane `i` from `from[i]`.
    fn load(self, from: &[f32; LANES]) -> Self::F32;
    /// Lane `i` to `to[i]`.
    fn store(self, v: Self::F32, to: &mut [f32; LANES]);
    /// The values with these bits.
    fn of_bits(self, bits: Self::U32) -> Self::F32;
    /// 16 little-endian `f32` at any alignment.
    fn load_f32_bytes(self, from: &[u8; 64]) -> Self::F32;
    /// 16 little-endian IEEE half floats at any alignment, exactly.
    fn load_f16(self, from: &[u8; 32]) -> Self::F32;
    /// 16 little-endian IEEE half floats, rounded to nearest, ties to even.
    fn store_f16(self, v: Self::F32, to: &mut [u8; 32]);
    /// 16 little-endian bf16 at any alignment, exactly.
    fn load_bf16(self, from: &[u8; 32]) -> Self::F32;
    /// 16 signed bytes, exactly.
    fn load_i8(self, from: &[i8; LANES]) -> Self::F32;
    /// 16 rows of 4 signed bytes that are stored with `offset` added (and wrapped): lane `r` of vector `c` is
    /// `from[4 r + c] − offset`, exactly.
    fn load_i8_columns(self, from: &[u8; 4 * LANES], offset: u8) -> [Self::F32; 4];
    /// Levels that half bytes name, exactly: lane `i` of the first vector is `levels[from[i] & 15]`, of the second
    /// `levels[from[i] >> 4]`.
    fn load_levels(self, from: &[u8; LANES], levels: &[i8; 16]) -> [Self::F32; 2];
    /// Lanes that hold integers in −128..=127, as signed bytes. (Other values give unspecified bytes.)
    fn store_i8(self, v: Self::F32, to: &mut [i8; LANES]);
    /// Lanes that hold integers in 0..=255, as bytes. (Other values give unspecified bytes.)
    fn store_u8(self, v: Self::F32, to: &mut [u8; LANES]);

    /// a + b
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a − b
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a ÷ b, rounded correctly
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b + c, rounded once
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// c − a · b, rounded once
    fn fnma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `if a < b { a } else { b }`: where either is NaN, `b`.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a > b { a } else { b }`: where either is NaN, `b`.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// |a|
    fn abs(self, a: Self::F32) -> Self::F32;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::F32) -> Self::F32;
    /// `a · 2ⁿ`, rounded once, for |a| in 0.5..=2 (or NaN) and integers `n` in −252..=252.
    fn scale_by_power_of_two(self, a: Self::F32, n: Self::F32) -> Self::F32;

    /// a < b (false where either is NaN)
    fn less(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `yes` where the mask is set, `no` elsewhere.
    fn select(self, mask: Self::Mask, yes: Self::F32, no: Self::F32) -> Self::F32;
    /// Bit `i` is lane `i`.
    fn mask_bits(self, mask: Self::Mask) -> u16;
    /// Lane `i` is bit `i`.
    fn mask_from_bits(self, bits: u16) -> Self::Mask;

    /// Lane `i` from lane `i ^ DISTANCE`, where `DISTANCE` is 1, 2, 4 or 8.
    fn swap<const DISTANCE: usize>(self, a: Self::F32) -> Self::F32;

    /// Lanes `i` and `i + 8` from lane `index[i]`, each below 16.
    fn spread(self, a: Self::F32, index: &[u32; LANES / 2]) -> Self::F32;

    /// Writes columns of 16 rows row by row: row `r` to `to[r · stride..][..columns.len()]`.
    ///
    /// # Panics
    /// If the number of columns is not a multiple of 16, or `to` too short.
    fn store_rows(self, columns: &[[f32; LANES]], to: &mut [f32], stride: usize);

    /// Up to 16 values; the lanes beyond are 0.
    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> Self::F32 {
        if let Ok(whole) = <&[f32; LANES]>::try_from(from) {
            return self.load(whole);
        }
        let mut buffer = [0.0; LANES];
        buffer[..from.len()].copy_from_slice(from);
        self.load(&buffer)
    }

    /// The first `to.len()` lanes, at most 16.
    #[inline(always)]
    fn store_partial(self, v: Self::F32, to: &mut [f32]) {
        if let Ok(whole) = <&mut [f32; LANES]>::try_from(&mut *to) {
            return self.store(v, whole);
        }
        let mut buffer = [0.0; LANES];
        self.store(v, &mut buffer);
        to.copy_from_slice(&buffer[..to.len()]);
    }

    /// The sum of all lanes by the fixed tree: lane `i` + lane `i + 8`, then `+ 4`, `+ 2`, `+ 1`.
    #[inline(always)]
    fn sum(self, v: Self::F32) -> f32 {
        let v = self.add(v, self.swap::<8>(v));
        let v = self.add(v, self.swap::<4>(v));
        let v = self.add(v, self.swap::<2>(v));
        let v = self.add(v, self.swap::<1>(v));
        self.first(v)
    }

    /// The largest lane, by the same tree. Unspecified if a lane is NaN.
    #[inline(always)]
    fn largest(self, v: Self::F32) -> f32 {
        let v = self.max(v, self.swap::<8>(v));
        let v = self.max(v, self.swap::<4>(v));
        let v = self.max(v, self.swap::<2>(v));
        let v = self.max(v, self.swap::<1>(v));
        self.first(v)
    }

    /// Lane 0.
    #[inline(always)]
    fn first(self, v: Self::F32) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes[0]
    }
}

/// Asks for the cache lines of what will be written: a thread that has read it before may still have them, and writes wait for each other
/// in turn. A hint, on x86-64 alone.
#[inline(always)]
pub(crate) fn ask_to_write<T>(to: &mut [T]) {
    for line in to.chunks_mut(64 / size_of::<T>()) {
        let line = line.as_mut_ptr();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; a processor that does not know it does nothing.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// Checks the arguments of [`Simd::store_rows`].
#[inline(always)]
fn check_rows(columns: &[[f32; LANES]], to: &[f32], stride: usize) {
    let others = (LANES - 1).checked_mul(stride);
    let fits = |others| others <= to.len() && to.len() - others >= columns.len();
    assert!(columns.len().is_multiple_of(LANES) && others.is_some_and(fits));
}

/// An algorithm over any instruction set.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Runs it. Implementations must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Isa {
    /// Runs a kernel with this instruction set.
    ///
    /// # Panics
    /// If the processor lacks the instruction set.
    #[inline]
    pub fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        assert!(self.is_available(), "this processor cannot run {self}");
        match self {
            // SAFETY: the processor has the features, as asserted above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bw | Self::Avx512BwVnni | Self::Avx512 | Self::Amx => unsafe {
                avx512::run(kernel)
            },
            // SAFETY: the processor has the features, as asserted above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => unsafe { avx2::run(kernel) },
            // SAFETY: the processor has the features, as asserted above.
            #[cfg(target_arch = "aarch64")]
            Self::Neon | Self::NeonDotprod | Self::NeonI8mm => unsafe { neon::run(kernel) },
            _ => kernel.run(Portable),
        }
    }
}

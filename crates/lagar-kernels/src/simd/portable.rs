//! The portable path: arrays and plain loops. It defines what every operation means.

use half::{bf16, f16};

use super::{LANES, Simd};

/// Token of the portable path.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

#[inline(always)]
fn map(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type F32 = [f32; LANES];
    type Mask = u16;

    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, v: f32) -> Self::F32 {
        [v; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        *from
    }
    #[inline(always)]
    fn store(self, v: Self::F32, to: &mut [f32; LANES]) {
        *to = v;
    }
    #[inline(always)]
    fn of_bits(self, bits: [u32; LANES]) -> [f32; LANES] {
        bits.map(f32::from_bits)
    }
    #[inline(always)]
    fn load_f32_bytes(self, from: &[u8; 64]) -> Self::F32 {
        let (values, _) = from.as_chunks::<4>();
        std::array::from_fn(|i| f32::from_le_bytes(values[i]))
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> Self::F32 {
        let (values, _) = from.as_chunks::<2>();
        std::array::from_fn(|i| f16::from_le_bytes(values[i]).to_f32_const())
    }
    #[inline(always)]
    fn store_f16(self, v: Self::F32, to: &mut [u8; 32]) {
        for (to, v) in to.as_chunks_mut::<2>().0.iter_mut().zip(v) {
            *to = f16::from_f32_const(v).to_le_bytes();
        }
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> Self::F32 {
        let (values, _) = from.as_chunks::<2>();
        std::array::from_fn(|i| bf16::from_le_bytes(values[i]).to_f32_const())
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> Self::F32 {
        from.map(f32::from)
    }
    #[inline(always)]
    fn load_i8_columns(self, from: &[u8; 4 * LANES], offset: u8) -> [Self::F32; 4] {
        let (rows, _) = from.as_chunks::<4>();
        let level = |byte: u8| f32::from(byte.wrapping_sub(offset) as i8);
        std::array::from_fn(|c| std::array::from_fn(|r| level(rows[r][c])))
    }
    #[inline(always)]
    fn load_levels(self, from: &[u8; LANES], levels: &[i8; 16]) -> [Self::F32; 2] {
        [
            from.map(|byte| f32::from(levels[usize::from(byte & 15)])),
            from.map(|byte| f32::from(levels[usize::from(byte >> 4)])),
        ]
    }
    #[inline(always)]
    fn store_i8(self, v: Self::F32, to: &mut [i8; LANES]) {
        *to = v.map(|v| v as i8);
    }
    #[inline(always)]
    fn store_u8(self, v: Self::F32, to: &mut [u8; LANES]) {
        *to = v.map(|v| v as u8);
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn fnma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| (-a[i]).mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn round(self, a: Self::F32) -> Self::F32 {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: Self::F32, n: Self::F32) -> Self::F32 {
        // In two steps, each with a normal factor; only the second can round.
        map(a, n, |a, n| {
            let n = n as i32;
            let half = n >> 1;
            let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
            a * power(half) * power(n - half)
        })
    }

    #[inline(always)]
    fn less(self, a: Self::F32, b: Self::F32) -> u16 {
        (0..LANES).fold(0, |mask, i| mask | u16::from(a[i] < b[i]) << i)
    }
    #[inline(always)]
    fn select(self, mask: u16, yes: Self::F32, no: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| if mask >> i & 1 == 1 { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn mask_bits(self, mask: u16) -> u16 {
        mask
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u16) -> u16 {
        bits
    }

    #[inline(always)]
    fn swap<const DISTANCE: usize>(self, a: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i ^ DISTANCE])
    }
    #[inline(always)]
    fn spread(self, a: Self::F32, index: &[u32; LANES / 2]) -> Self::F32 {
        std::array::from_fn(|i| a[index[i % 8] as usize % LANES])
    }
    #[inline(always)]
    fn store_rows(self, columns: &[[f32; LANES]], to: &mut [f32], stride: usize) {
        super::check_rows(columns, to, stride);
        for r in 0..LANES {
            for (to, column) in to[r * stride..].iter_mut().zip(columns) {
                *to = column[r];
            }
        }
    }
}

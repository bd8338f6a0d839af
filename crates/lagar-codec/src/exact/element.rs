//! Elements taken apart: a *high part* that is coded, and low bits that are stored as they are.

use super::ExactType;

/// A finite number that is not zero: `± significand · 2^(exponent − 126 − bits)`, so that `exponent` is that
/// of an f32, and `significand` has its highest bit, number `bits − 1`, set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Whether it is below zero.
    pub negative: bool,
    /// Biased exponent of the same number as f32, 1 to 254.
    pub exponent: u32,
    /// Leading digits, the first one included.
    pub significand: u32,
}

/// Where exponent and mantissa lie in the high part of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bits of the high part, sign included.
    width: u32,
    /// Bits of its mantissa, those that belong to the low bits counted (they are 0).
    mantissa: u32,
    /// Exponent of an f32 less that of this type.
    bias: u32,
    /// The first number, seen without sign, that is not finite.
    special: u32,
}

impl ExactType {
    /// Bytes of a high part.
    pub fn high_bytes(self) -> usize {
        self.bytes().min(2)
    }

    /// Bits below the high part.
    pub fn low_bits(self) -> u32 {
        match self {
            Self::F32 => 16,
            Self::F16 => 3,
            _ => 0,
        }
    }

    /// Bits of the high part's significand, the leading one included: 8, 4 or 3.
    #[inline(always)]
    pub fn significand_bits(self) -> u32 {
        match self {
            Self::F8E4M3 => 4,
            Self::F8E5M2 => 3,
            _ => 8,
        }
    }

    #[inline(always)]
    pub(super) fn layout(self) -> Layout {
        let layout = |width, mantissa, bias, special| Layout {
            width,
            mantissa,
            bias,
            special,
        };
        match self {
            Self::Bf16 | Self::F32 => layout(16, 7, 0, 0x7f80),
            Self::F16 => layout(16, 10, 112, 0x7c00),
            Self::F8E4M3 => layout(8, 3, 120, 0x7f),
            Self::F8E5M2 => layout(8, 2, 112, 0x7c),
        }
    }

    /// The high part and the low bits of element `i` of `bytes`. The high part of an F16 has its sign, its
    /// exponent and 7 bits of mantissa where they were, and zeros below.
    ///
    /// # Panics
    ///
    /// If there is no such element.
    #[inline(always)]
    pub fn parts(self, bytes: &[u8], i: usize) -> (u32, u32) {
        match self {
            Self::F8E4M3 | Self::F8E5M2 => (u32::from(bytes[i]), 0),
            Self::Bf16 => (u32::from(u16::from_le_bytes(bytes.as_chunks().0[i])), 0),
            Self::F16 => {
                let bits = u32::from(u16::from_le_bytes(bytes.as_chunks().0[i]));
                (bits & !7, bits & 7)
            }
            Self::F32 => {
                let bits = u32::from_le_bytes(bytes.as_chunks().0[i]);
                (bits >> 16, bits & 0xffff)
            }
        }
    }

    /// Writes element `i` of `bytes`: a high part, and the highest `low_bits` of the bits below it.
    ///
    /// # Panics
    ///
    /// If there is no such element.
    #[inline(always)]
    pub fn join(self, high: u32, low: u32, low_bits: u32, i: usize, bytes: &mut [u8]) {
        match self {
            Self::F8E4M3 | Self::F8E5M2 => bytes[i] = high as u8,
            Self::Bf16 => bytes.as_chunks_mut().0[i] = (high as u16).to_le_bytes(),
            Self::F16 => {
                let bits = high | low << (3 - low_bits);
                bytes.as_chunks_mut().0[i] = (bits as u16).to_le_bytes();
            }
            Self::F32 => {
                let bits = high << 16 | low << (16 - low_bits);
                bytes.as_chunks_mut().0[i] = bits.to_le_bytes();
            }
        }
    }

    /// Takes a high part apart. `None` for zeros, infinities, NaN, and subnormal numbers of bf16 and f32.
    #[inline(always)]
    pub fn fields(self, high: u32) -> Option<Fields> {
        let (fields, number) = self.any_fields(high);
        number.then_some(fields)
    }

    /// Takes a high part apart, and whether [`fields`](Self::fields) has it: if not, its fields mean nothing.
    #[inline(always)]
    pub(super) fn any_fields(self, high: u32) -> (Fields, bool) {
        let layout = self.layout();
        let magnitude = high & ((1 << (layout.width - 1)) - 1);
        let exponent = magnitude >> layout.mantissa;
        let mantissa = magnitude & ((1 << layout.mantissa) - 1);
        let normal = (exponent + layout.bias, mantissa | 1 << layout.mantissa);
        // Subnormal numbers of the small types are normal as f32.
        let (exponent, significand) = if layout.bias > 0 && exponent == 0 {
            let up = layout.mantissa + 1 - (32 - mantissa.leading_zeros());
            (1 + layout.bias - up, mantissa << up)
        } else {
            normal
        };
        let fields = Fields {
            negative: high >> (layout.width - 1) != 0,
            exponent,
            significand: significand >> (layout.mantissa + 1 - self.significand_bits()),
        };
        let least = if layout.bias > 0 {
            1
        } else {
            1 << layout.mantissa
        };
        let number = (magnitude >= least) & (magnitude < layout.special);
        (fields, number)
    }

    /// The high part whose value is the f32 with these bits. (Of an f32 that is not one's value, some bits.)
    #[inline(always)]
    pub fn high_of_pattern(self, pattern: u32) -> u32 {
        if matches!(self, Self::Bf16 | Self::F32) {
            return pattern >> 16;
        }
        let layout = self.layout();
        let sign = pattern >> 31 << (layout.width - 1);
        let mantissa = pattern >> (23 - layout.mantissa) & ((1 << layout.mantissa) - 1);
        let exponent = (pattern >> 23 & 0xff) as i32 - layout.bias as i32;
        let normal = (exponent as u32) << layout.mantissa | mantissa;
        let below = (1 - exponent).clamp(0, 31) as u32;
        let subnormal = (mantissa | 1 << layout.mantissa) >> below;
        let magnitude = if exponent >= 1 { normal } else { subnormal };
        sign | (magnitude & ((1 << (layout.width - 1)) - 1))
    }
}

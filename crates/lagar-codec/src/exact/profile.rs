//! Frequencies from a profile: how the distance to the prediction is distributed, in units of its standard
//! deviation.

use crate::CodecError;

/// Logarithm of the sum of all frequencies.
pub const PRECISION: u32 = 12;

/// The sum of all frequencies.
pub const SLOTS: u32 = 1 << PRECISION;

/// Places at which a profile is given.
pub const KNOTS: usize = 25;

/// The farthest symbol: distances are from −126 to 126.
pub const FAR: i32 = 126;

/// The symbol of distance 0.
pub const CENTER: u32 = 127;

/// The symbol of a high part that is 0.
pub const ZERO: u32 = 254;

/// The symbol of a high part that is stored as it is.
pub const ESCAPE: u32 = 255;

/// The most slots of [`ZERO`] and of [`ESCAPE`].
pub const MOST_SPECIAL: u16 = 2000;

/// `2^(24 − i/8)`.
const POWERS: [u64; 9] = [
    16777216, 15384775, 14107901, 12937002, 11863283, 10878678, 9975792, 9147842, 8388608,
];

/// `2^(14 − b/4)`: steps per 4 standard deviations, inverted.
const STEPS: [u64; 4] = [16384, 13777, 11585, 9742];

/// A density that falls on both sides alike: number `i` is its logarithm to base 2 at a distance of `i/4`
/// standard deviations, in eighths and negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile(pub [u8; KNOTS]);

impl Profile {
    /// The normal distribution.
    pub fn normal() -> Self {
        Self(std::array::from_fn(|i| ((i * i * 5909 + 8192) >> 14) as u8))
    }

    /// The density, times 2^24 at most, at a distance of `at / 2^16` knots.
    fn density(&self, at: u64) -> u64 {
        let (knot, part) = ((at >> 16) as usize, (at & 0xffff) as i64);
        if knot + 1 >= KNOTS {
            return 0;
        }
        let (a, b) = (i64::from(self.0[knot]), i64::from(self.0[knot + 1]));
        // In eighths, with 8 more bits.
        let fall = (a * 256 + (((b - a) * part) >> 8)) as u64;
        let (eighths, part) = (fall >> 8, fall & 255);
        let i = (eighths % 8) as usize;
        (POWERS[i] * (256 - part) + POWERS[i + 1] * part) >> 8 >> (eighths / 8)
    }

    /// Frequencies of the 256 symbols in context `context`, with the given ones of [`ZERO`] and [`ESCAPE`].
    ///
    /// # Errors
    ///
    /// A profile so far from falling that there is no frequency left for distance 0.
    pub(super) fn frequencies(
        &self,
        context: usize,
        zero: u16,
        escape: u16,
    ) -> Result<[u16; 256], CodecError> {
        let step = STEPS[context % 4] << (context / 4);
        let mut density = [0; 4 * (FAR as usize + 1) + 4];
        for (j, density) in density.iter_mut().enumerate() {
            *density = self.density(j as u64 * step);
        }
        // Prediction and number both lie anywhere in their steps: so distances spread as a triangle.
        let raw = |d: usize| -> u64 {
            (0..7)
                .map(|j: usize| (4 - j.abs_diff(3)) as u64 * density[(4 * d + j).abs_diff(3)])
                .sum()
        };
        let raw: [u64; FAR as usize + 1] = std::array::from_fn(raw);
        let slots = u64::from(SLOTS) - u64::from(zero) - u64::from(escape);
        let total = raw[0] + 2 * raw[1..].iter().sum::<u64>();
        let kept = (1..raw.len()).find(|&d| raw[d] * slots * 4 < total);
        let kept = kept.unwrap_or(raw.len());
        let total = (raw[0] + 2 * raw[1..kept].iter().sum::<u64>()).max(1);
        let mut frequencies = [0; 256];
        let mut left = slots as i64;
        for d in 1..kept {
            let frequency = ((raw[d] * slots + total / 2) / total).max(1);
            left -= 2 * frequency as i64;
            frequencies[CENTER as usize - d] = frequency as u16;
            frequencies[CENTER as usize + d] = frequency as u16;
        }
        if left < 1 {
            return Err(CodecError::ExactModel {
                what: "profile",
                found: context,
                expected: "falling from its middle in every context",
            });
        }
        frequencies[CENTER as usize] = left as u16;
        frequencies[ZERO as usize] = zero;
        frequencies[ESCAPE as usize] = escape;
        Ok(frequencies)
    }
}

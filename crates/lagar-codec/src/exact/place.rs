//! Where a weight is expected: the step it is measured in, the step of the prediction, and the context.

/// Scales are kept within these, so that steps are powers of two that f32 has.
const SCALES: (i32, i32) = (32, 1015);

/// The deepest context allowed: predictions finer than the type, by this many powers of two.
pub const MOST_DEPTH: u8 = 7;

/// A scale within the range that is used.
#[inline(always)]
pub fn clamp_scale(scale: i32) -> u32 {
    scale.clamp(SCALES.0, SCALES.1) as u32
}

/// What is expected of one weight, in one word:
///
/// | bits | |
/// |---|---|
/// | 0 to 7 | `c`: the step in which the prediction lies |
/// | 12 to 16 | context |
/// | 23 to 31 | biased exponent of the step, less 143, and 256 more if the prediction is negative; modulo 512 |
///
/// `scale` is 4 times the biased exponent of the step that a quarter of the standard deviation asks for
/// ([`clamp_scale`]), `predicted` are the bits of the prediction as f32; `depth` is that of the model.
#[inline(always)]
pub fn place(scale: u32, predicted: u32, significand_bits: u32, depth: u32) -> u32 {
    let (step, quarter) = (scale >> 2, scale & 3);
    // Rounded to the type's precision, ties away from zero.
    let rounded = (predicted & 0x7fff_ffff) + (1 << (23 - significand_bits));
    let exponent = rounded >> 23;
    let hidden = 1 << (significand_bits - 1);
    let significand = (rounded >> (24 - significand_bits)) & (hidden - 1) | hidden;
    // By how many powers of two the step is above, or below, the prediction's last digit.
    let step_digit = step + (significand_bits - 1);
    let above = step_digit.saturating_sub(exponent).min(31);
    let below = exponent.saturating_sub(step_digit);
    let context = quarter + 4 * below.min(depth);
    let top = ((step + below) << 23)
        .wrapping_sub(143 << 23)
        .wrapping_add(predicted & 1 << 31);
    significand >> above | context << 12 | top
}

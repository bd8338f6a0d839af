//! Rounding of activations to bytes.

use crate::{Activations, GROUP};

/// Rounds `n` transformed vectors of `padded_width` values to signed bytes, group by group.
///
/// Per (vector, group), with `amax` the largest magnitude: `scale = amax / 127` and `q = x · (127 /
/// amax)`, rounded to nearest, ties to even, within ±127. Where `amax` is 0 or so small that `127 /
/// amax` overflows, scale and `q` are 0. A group that holds NaN or infinity gets `q = 0` and the scale
/// NaN, so that the output shows it.
///
/// # Panics
///
/// If `x` does not have `n · padded_width` values or `padded_width` is no multiple of 4.
pub fn quantize_activations(x: &[f32], n: usize, padded_width: usize, out: &mut Activations) {
    assert_eq!(x.len(), n * padded_width);
    out.resize(n, padded_width);
    let groups = out.groups();
    for v in 0..n {
        for g in 0..groups {
            let columns =
                v * padded_width + g * GROUP..v * padded_width + padded_width.min((g + 1) * GROUP);
            let (x, q) = (&x[columns.clone()], &mut out.q[columns]);
            // As integers, the bits of magnitudes are in order, and NaN is above infinity.
            let bits = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max();
            let amax = f32::from_bits(bits.unwrap_or(0));
            let factor = 127.0 / amax;
            let scale = if !amax.is_finite() {
                f32::NAN
            } else if factor.is_finite() {
                amax / 127.0
            } else {
                0.0
            };
            let factor = if scale > 0.0 { factor } else { 0.0 };
            for (q, &x) in q.iter_mut().zip(x) {
                // The product with infinity is NaN, which the cast makes 0.
                *q = (x * factor).round_ties_even().clamp(-127.0, 127.0) as i8;
            }
            out.scale[g * n + v] = scale;
            out.sum[g * n + v] = q.iter().map(|&q| i32::from(q)).sum();
        }
    }
}

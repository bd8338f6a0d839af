//! The exponential function and what is made of it.

use crate::simd::Simd;

/// ln 2, and what `f32` leaves of it.
const LN_2: f32 = std::f32::consts::LN_2;
const LN_2_REST: f32 = -1.904_654_2e-9;

/// `(eʳ − 1 − r) / r²` for |r| ≤ ½ ln 2, ascending powers: interpolation at the Chebyshev nodes,
/// coefficients rounded to `f32`; it adds a relative error of 8e-10 to `eʳ`.
const POLYNOMIAL: [f32; 6] = [
    0.5,
    0.166_666_67,
    0.041_666_463,
    0.008_333_31,
    0.001_393_373_1,
    0.000_198_910_8,
];

/// eˣ, within 1 unit in the last place of the normal range; gradual underflow; ∞ above 88.73; NaN
/// stays NaN.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // In this order of operands, `min` and `max` return the second one if it is NaN.
    let x = s.min(s.splat(89.0), s.max(s.splat(-104.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fnma(n, s.splat(LN_2), x);
    let r = s.fnma(n, s.splat(LN_2_REST), r);
    let mut p = s.splat(POLYNOMIAL[5]);
    p = s.fma(p, r, s.splat(POLYNOMIAL[4]));
    p = s.fma(p, r, s.splat(POLYNOMIAL[3]));
    p = s.fma(p, r, s.splat(POLYNOMIAL[2]));
    p = s.fma(p, r, s.splat(POLYNOMIAL[1]));
    p = s.fma(p, r, s.splat(POLYNOMIAL[0]));
    let p = s.fma(s.mul(r, r), p, r);
    s.scale_by_power_of_two(s.add(p, s.splat(1.0)), n)
}

/// x / (1 + e⁻ˣ), the SiLU or swish function.
#[inline(always)]
pub(super) fn silu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    s.div(x, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), the tanh form of GELU, as x / (1 + e⁻²ᵘ).
#[inline(always)]
pub(super) fn gelu_tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // 2 √(2/π), and that times 0.044715.
    let (linear, cubic) = (s.splat(1.595_769_2), s.splat(0.071_354_814));
    let u = s.mul(x, s.fma(cubic, s.mul(x, x), linear));
    let one = s.splat(1.0);
    s.div(x, s.add(one, exp(s, s.sub(s.splat(0.0), u))))
}

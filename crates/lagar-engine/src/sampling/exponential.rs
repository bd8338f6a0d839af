//! The exponential function and the logarithm, the same bits on every machine.

/// e^x for x <= 0, with a relative error below 1e-15; 0 below -708.
///
/// The standard library's `exp` is the platform's, so its last bit, and with it now and then a
/// sampled token, depends on the machine. This one uses only IEEE additions and multiplications in
/// a fixed order: x = k ln 2 + r with |r| <= ln 2 / 2, and Taylor's series for e^r.
pub(super) fn exp(x: f64) -> f64 {
    debug_assert!(x <= 0.0);
    if x < -708.0 {
        return 0.0;
    }
    // ln 2 in two parts; the first has 21 trailing zero bits, so that k times it is exact.
    const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let k = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    let mut sum = 1.0;
    for n in (1..=13).rev() {
        sum = 1.0 + sum * (r / f64::from(n));
    }
    sum * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

/// ln x for 0 < x < 1, with a relative error below 1e-14; not for subnormals.
///
/// As [`exp`]: x = 2^k m with √½ <= m < √2, and ln m = 2 artanh((m − 1) / (m + 1)) by its series.
/// Towards 1, where the logarithm vanishes, k is 0 and nothing cancels.
pub(super) fn ln(x: f64) -> f64 {
    debug_assert!((f64::MIN_POSITIVE..1.0).contains(&x));
    // The bits of √½, so that the exponent's field counts from there.
    const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    let k = (x.to_bits().wrapping_sub(SQRT_HALF) as i64) >> 52;
    let m = f64::from_bits(x.to_bits().wrapping_sub((k as u64) << 52));
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for n in (0..=11).rev() {
        sum = sum * square + 1.0 / f64::from(2 * n + 1);
    }
    k as f64 * std::f64::consts::LN_2 + 2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for step in 0..=700_000 {
            let x = f64::from(step) * -0.001;
            let relative = (exp(x) - x.exp()).abs() / x.exp();
            assert!(relative < 1e-15, "x = {x}: off by {relative:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-709.0), 0.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
    }

    #[test]
    fn the_logarithm_agrees_with_the_standard_library() {
        let steps = (1..1_000_000).map(|step| f64::from(step) * 1e-6);
        let ends = (1..=52).flat_map(|n| {
            let end = 0.5_f64.powi(n);
            [end, 1.0 - end, std::f64::consts::FRAC_1_SQRT_2 - end / 2.0]
        });
        for x in steps.chain(ends) {
            let relative = ((ln(x) - x.ln()) / x.ln()).abs();
            assert!(relative < 1e-14, "x = {x}: off by {relative:e}");
        }
    }
}

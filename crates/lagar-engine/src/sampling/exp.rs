//! The exponential function, the same bits on every machine.

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
}

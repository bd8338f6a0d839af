//! Random numbers that are the same on every machine: no library's logarithm is involved.

/// A seeded generator (xorshift64*, seeded through SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
    spare: Option<f64>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self {
            state: (z ^ z >> 31) | 1,
            spare: None,
        }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in (−1, 1).
    fn signed_unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) as f64 + 0.5) * (2.0 / (1u64 << 53) as f64) - 1.0
    }

    /// Uniform between two limits.
    pub(crate) fn between(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * 0.5 * (1.0 + self.signed_unit())
    }

    /// From the standard normal distribution (Marsaglia's polar method).
    pub(crate) fn gaussian(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        loop {
            let (x, y) = (self.signed_unit(), self.signed_unit());
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }

    pub(crate) fn gaussians(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.gaussian() as f32).collect()
    }
}

/// The natural logarithm of a positive normal number, by basic arithmetic alone.
pub(crate) fn ln(x: f64) -> f64 {
    // x = m · 2^e with m in 0.7..1.5, ln m = 2 atanh((m − 1) / (m + 1)).
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = (0..12)
        .rev()
        .fold(0.0, |sum, i| sum * square + 1.0 / f64::from(2 * i + 1));
    2.0 * s * series + exponent as f64 * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        let mut x = 1e-300;
        while x < 1e3 {
            assert!(
                (ln(x) - x.ln()).abs() <= 1e-15 * x.ln().abs().max(0.1),
                "{x}"
            );
            x *= 1.37;
        }
    }

    #[test]
    fn gaussians_have_the_moments_of_a_gaussian() {
        let sample = Random::new(1).gaussians(200_000);
        let moment = |p| sample.iter().map(|&x| f64::from(x).powi(p)).sum::<f64>() / 2e5;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.015);
        assert!(moment(3).abs() < 0.04 && (moment(4) - 3.0).abs() < 0.12);
    }
}

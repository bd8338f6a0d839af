//! Random numbers that are the same on every machine.

/// Random numbers addressed by position and token: each depends on the seed and these alone.
///
/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014), whose state is a counter: number `n` of a seed's stream is the seed of a position's. The
/// seed is mixed first, so that neighbouring seeds do not give shifted copies of one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    start: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            start: mix(seed ^ GOLDEN),
        }
    }

    /// The draws of one position.
    pub(crate) fn at(self, position: u64) -> Self {
        Self::new(self.number(position))
    }

    /// Uniform in (0, 1), an odd multiple of 2^-53.
    pub(crate) fn uniform(self, token: u32) -> f64 {
        let bits = self.number(token.into()) >> 12;
        (bits as f64 + 0.5) * (1.0 / (1_u64 << 52) as f64)
    }

    fn number(self, n: u64) -> u64 {
        let step = n.wrapping_add(1).wrapping_mul(GOLDEN);
        mix(self.start.wrapping_add(step))
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // The reference implementation's first outputs for the state 0.
        assert_eq!(mix(GOLDEN), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(GOLDEN.wrapping_mul(2)), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn draws_are_uniform_and_neighbouring_ones_unrelated() {
        const CELLS: usize = 64;
        let seed = |seed| Draws::new(seed).at(7);
        let at = |position| Draws::new(1).at(position);
        for (what, a, b) in [
            ("seeds", seed(1), seed(2)),
            ("positions", at(7), at(8)),
            ("position and token", at(0), Draws::new(1)),
        ] {
            let mut cells = [0_u32; CELLS];
            let mut pairs = [0_u32; CELLS];
            for token in 0..64_000 {
                let (a, b) = (a.uniform(token), b.uniform(token));
                assert!(a > 0.0 && a < 1.0);
                cells[(a * CELLS as f64) as usize] += 1;
                pairs[(a * 8.0) as usize * 8 + (b * 8.0) as usize] += 1;
            }
            // Chi-square with 63 degrees of freedom: 99.9 % of draws lie below 103.4.
            for counts in [cells, pairs] {
                let chi_square: f64 = counts
                    .iter()
                    .map(|&count| (f64::from(count) - 1000.0).powi(2) / 1000.0)
                    .sum();
                assert!(chi_square < 103.4, "{what}: chi-square {chi_square}");
            }
        }
    }
}

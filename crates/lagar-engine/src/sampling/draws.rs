//! Random numbers that are the same on every machine.

/// A stream of random numbers addressed by position: number `n` depends on the seed and `n` alone.
///
/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014), whose state is a counter. The seed is mixed first, so that neighbouring seeds do not
/// give shifted copies of one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    start: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            start: mix(seed ^ GOLDEN),
        }
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub(super) fn uniform(self, position: u64) -> f64 {
        let step = position.wrapping_add(1).wrapping_mul(GOLDEN);
        let bits = mix(self.start.wrapping_add(step)) >> 11;
        bits as f64 * (1.0 / (1_u64 << 53) as f64)
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
    fn draws_are_uniform_and_neighbouring_seeds_are_unrelated() {
        const CELLS: usize = 64;
        let mut cells = [0_u32; CELLS];
        let mut pairs = [0_u32; CELLS];
        for position in 0..64_000 {
            let (a, b) = (
                Draws::new(1).uniform(position),
                Draws::new(2).uniform(position),
            );
            assert!((0.0..1.0).contains(&a));
            cells[(a * CELLS as f64) as usize] += 1;
            pairs[(a * 8.0) as usize * 8 + (b * 8.0) as usize] += 1;
        }
        // Chi-square with 63 degrees of freedom: 99.9 % of draws lie below 103.4.
        for counts in [cells, pairs] {
            let chi_square: f64 = counts
                .iter()
                .map(|&count| (f64::from(count) - 1000.0).powi(2) / 1000.0)
                .sum();
            assert!(chi_square < 103.4, "chi-square {chi_square}");
        }
    }
}

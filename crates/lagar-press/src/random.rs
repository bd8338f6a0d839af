//! Deterministic random bits: the encoder's free choices, the same on every machine.

/// SplitMix64 (Steele, Lea, Flood 2014), keyed by a seed and a stream number.
#[derive(Debug)]
pub(crate) struct Random {
    state: u64,
    bits: u64,
    left: u32,
}

impl Random {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self {
            state: seed,
            bits: 0,
            left: 0,
        };
        random.state = random.word() ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
        random
    }

    fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is far below 2^32: uniform but for a share of n / 2^64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.word()) * n as u128) >> 64) as usize
    }

    pub(crate) fn bit(&mut self) -> bool {
        if self.left == 0 {
            self.bits = self.word();
            self.left = 64;
        }
        let bit = self.bits & 1 == 1;
        self.bits >>= 1;
        self.left -= 1;
        bit
    }
}

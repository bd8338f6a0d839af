//! Tables of symbols by slot.

use super::profile::{PRECISION, SLOTS};

/// One slot's entry: symbol (bits 0 to 7), slot less the symbol's first slot (8 to 19), frequency (20 to 31).
pub type Entry = u32;

/// Appends the entries of one context. Frequencies add up to [`SLOTS`], and none is that large.
pub(super) fn push_slots(frequencies: &[u16; 256], table: &mut Vec<Entry>) {
    let before = table.len();
    for (symbol, &frequency) in (0u32..).zip(frequencies) {
        let entry = symbol | u32::from(frequency) << 20;
        table.extend((0..u32::from(frequency)).map(|offset| entry | offset << 8));
    }
    debug_assert_eq!(table.len() - before, SLOTS as usize);
}

/// What the encoder needs of a symbol.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range {
    /// `2^44 / frequency`, rounded up.
    reciprocal: u64,
    /// Slots of the symbol; 0 for one that does not occur.
    pub(super) frequency: u16,
    /// Its first slot.
    first: u16,
}

impl Range {
    /// Puts the symbol on top of a state below `frequency · 2^20`.
    #[inline(always)]
    pub(super) fn push(&self, x: u32) -> u32 {
        // With `reciprocal = (2^44 + e) / frequency`, `e < frequency`, the product is `x / frequency` and
        // `x e / 2^44 / frequency` more, less than one part in `frequency` because `frequency² < 2^24`;
        // for the same reason it fits 64 bits.
        let quotient = ((u64::from(x) * self.reciprocal) >> 44) as u32;
        let rest = x - quotient * u32::from(self.frequency);
        (quotient << PRECISION) + rest + u32::from(self.first)
    }
}

/// The ranges of all symbols of one context.
pub(super) fn ranges(frequencies: &[u16; 256]) -> [Range; 256] {
    let mut first = 0;
    frequencies.map(|frequency| {
        let range = Range {
            reciprocal: (1u64 << 44).div_ceil(u64::from(frequency.max(1))),
            frequency,
            first,
        };
        first += frequency;
        range
    })
}

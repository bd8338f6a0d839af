//! Operations on 16 lanes of `u32`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

use super::LANES;

/// The integer operations of an instruction set. All arithmetic wraps.
pub trait Integers: Copy {
    /// 16 lanes of `u32`.
    type U32: Copy;
    /// One truth value per lane.
    type Truth: Copy;

    /// All lanes `v`.
    fn splat_u32(self, v: u32) -> Self::U32;
    /// Lane `i` from `from[i]`.
    fn load_u32(self, from: &[u32; LANES]) -> Self::U32;
    /// Lane `i` from the bits of `from[i]`.
    #[inline(always)]
    fn load_f32_bits(self, from: &[f32; LANES]) -> Self::U32 {
        self.load_u32(&from.map(f32::to_bits))
    }
    /// Lane `i` to `to[i]`.
    fn store_u32(self, v: Self::U32, to: &mut [u32; LANES]);

    /// a + b
    fn plus(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// a − b
    fn minus(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// a · b
    fn times(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// a − b where that is not negative, else 0; for numbers below 2^16.
    fn minus_saturating(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// a & b
    fn and(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// a | b
    fn or(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// a ^ b
    fn xor(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// a << n, n < 32
    fn left(self, a: Self::U32, n: u32) -> Self::U32;
    /// a >> n, n < 32
    fn right(self, a: Self::U32, n: u32) -> Self::U32;
    /// Lane by lane a << n, n < 32.
    fn left_each(self, a: Self::U32, n: Self::U32) -> Self::U32;
    /// Lane by lane a >> n, n < 32.
    fn right_each(self, a: Self::U32, n: Self::U32) -> Self::U32;
    /// All bits as the highest one.
    fn spread_sign(self, a: Self::U32) -> Self::U32;
    /// The smaller one.
    fn smaller(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// The bits of the same number as f32, of numbers below 2^31 with at most 24 digits between their first
    /// and their last one.
    fn as_f32_bits(self, a: Self::U32) -> Self::U32;

    /// a >= b, for numbers below 2^31.
    fn at_least(self, a: Self::U32, b: Self::U32) -> Self::Truth;
    /// `yes` where it is true, `no` elsewhere.
    fn choose(self, truth: Self::Truth, yes: Self::U32, no: Self::U32) -> Self::U32;

    /// `table[index]`; of an index that is too large, the last entry.
    ///
    /// # Panics
    /// If the table is empty, or longer than 2^28 entries.
    fn look_up(self, table: &[u32], index: Self::U32) -> Self::U32;

    /// Shifts lanes below 2^16 up by 16 and fills them with the next words, the lowest lane first. Returns
    /// how many words that took.
    fn refill(self, a: Self::U32, words: &[[u8; 2]; LANES]) -> (Self::U32, usize);
}

/// What [`Integers::look_up`] asks of a table; its last index.
#[inline(always)]
fn last_index(table: &[u32]) -> u32 {
    assert!(!table.is_empty() && table.len() <= 1 << 28);
    (table.len() - 1) as u32
}

/// For each set of 4 or 8 lanes, which of the next words each of its lanes takes: `table[set]` has one byte
/// a lane, the lowest one first.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const fn ranks<const SETS: usize>() -> [u64; SETS] {
    let mut table = [0; SETS];
    let mut set = 0;
    while set < SETS {
        let (mut lane, mut rank) = (0, 0);
        while lane < 8 {
            if set >> lane & 1 == 1 {
                table[set] |= rank << (8 * lane);
                rank += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    table
}

//! The tables of a stage: what its windows decode to.

use std::sync::LazyLock;

use lagar_codec::{MAX_DEPTH, Split, Table};

/// Window width of the trellis code.
const TRELLIS_WINDOW: u8 = 8;

/// Where the table of each depth comes from.
#[derive(Debug)]
pub(crate) enum Tables {
    /// Trained, for normal numbers, with a trellis.
    Trellis,
    /// A trellis over the levels −1, 0 and 1, at one bit.
    Ternary,
    /// Those that were fitted to a tensor, of the depths that it has.
    Fitted(Vec<Table>),
}

impl Tables {
    /// The table of windows of some depth.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn of(&self, depth: u8) -> &Table {
        match self {
            Self::Trellis => Table::trained(depth, TRELLIS_WINDOW),
            Self::Ternary if depth == 1 => &TERNARY,
            Self::Ternary => panic!("ternary codes have one bit, not {depth}"),
            Self::Fitted(tables) => tables
                .iter()
                .find(|table| table.depth() == depth)
                .expect("a table is fitted for every depth that occurs"),
        }
    }

    /// Any of them.
    pub(crate) fn any(&self) -> &Table {
        match self {
            Self::Trellis => self.of(MAX_DEPTH),
            Self::Ternary => self.of(1),
            Self::Fitted(tables) => tables.first().expect("at least one table is fitted"),
        }
    }
}

/// The signs of the two halves of the ternary table, a bit for each entry, and the bits that negate them: the best of
/// 30,000 that were drawn, by the error that the code leaves of normal numbers (.29 at one stage, .087 at two).
const TERNARY_SIGNS: (u16, u16, u8, u8) = (0x6996, 0xccc4, 7, 2);

/// The standard deviation, in units of the level 2, with which it leaves least.
const TERNARY_SIGMA: f32 = 1.6;

/// Levels −2, 0 and 2, as sums of two halves of ±1: two short look-ups on machines without long ones. Half of them are 0.
static TERNARY: LazyLock<Table> = LazyLock::new(|| {
    let (a, b, a_sign_bit, b_sign_bit) = TERNARY_SIGNS;
    let half = |signs: u16| std::array::from_fn(|i| 1 - 2 * (signs >> i & 1) as i8);
    let split = Split {
        a: half(a),
        b: half(b),
        a_sign_bit,
        b_sign_bit,
    };
    let table = Table::from_split(1, split).and_then(|table| table.with_sigma(TERNARY_SIGMA));
    table.expect("a test loads it")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ternary_windows_decode_to_three_levels() {
        let table = Tables::Ternary;
        let count = |level| table.of(1).levels().iter().filter(|l| **l == level).count();
        assert_eq!(count(-2) + count(0) + count(2), 256);
        assert!(count(-2) > 48 && count(2) > 48 && count(0) > 96);
    }
}

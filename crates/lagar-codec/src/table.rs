//! Tables of levels: what a window decodes to.

use std::sync::LazyLock;

use crate::tables::{self, Levels};
use crate::{Bent, CodecError, MAX_DEPTH};

/// Largest magnitude of a split table's levels, so that two of them never overflow a byte's pairwise
/// sums on any machine.
const SPLIT_LIMIT: i16 = 63;

/// A table of signed 8-bit levels, one per window.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    depth: u8,
    window: u8,
    levels: Vec<i8>,
    split: Option<Split>,
    bent: Option<Bent>,
    sigma: f32,
}

/// A 256-entry table made of two 16-entry halves: `level(w) = ±a[w & 15] ± b[w >> 4]`.
///
/// `a` counts negative where bit `a_sign_bit` of the window is set, `b` where bit `b_sign_bit` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Levels by the window's low 4 bits.
    pub a: [i8; 16],
    /// Levels by the window's high 4 bits.
    pub b: [i8; 16],
    /// The bit that negates `a`: 4 to 7.
    pub a_sign_bit: u8,
    /// The bit that negates `b`: 0 to 3.
    pub b_sign_bit: u8,
}

impl Split {
    /// The level of a window; it fits a byte in a checked table.
    pub fn level(&self, window: u8) -> i16 {
        let a = i16::from(self.a[usize::from(window & 15)]);
        let b = i16::from(self.b[usize::from(window >> 4)]);
        let negated = |value: i16, bit: u8| {
            if window >> (bit & 7) & 1 == 1 {
                -value
            } else {
                value
            }
        };
        negated(a, self.a_sign_bit) + negated(b, self.b_sign_bit)
    }
}

impl Table {
    /// The table trained for Gaussian weights: a scalar (Lloyd–Max) codebook for `window == depth`,
    /// plain int8 at depth 8, and a trellis table for `window == 8 > depth`, which is split up to
    /// depth 4 and bent above.
    ///
    /// `cargo xtask train-tables` makes them.
    ///
    /// # Panics
    ///
    /// If `depth` is not 1 to 8 or `window` neither `depth` nor 8.
    pub fn trained(depth: u8, window: u8) -> &'static Self {
        static SCALAR: LazyLock<Vec<Table>> = LazyLock::new(|| load(&tables::SCALAR));
        static TRELLIS: LazyLock<Vec<Table>> = LazyLock::new(|| load(&tables::TRELLIS));
        assert!(
            (1..=MAX_DEPTH).contains(&depth) && (window == depth || window == 8),
            "no table of depth {depth} with windows of {window} bits"
        );
        let family = if window == depth { &SCALAR } else { &TRELLIS };
        &family[usize::from(depth - 1)]
    }

    /// A table of `2^window` free levels. Where they are bent sums of two halves, [`Table::bent`] says how.
    ///
    /// # Errors
    ///
    /// If `depth` is not 1 to 8, `window` neither `depth` nor 8, or the number of levels not
    /// `2^window`.
    pub fn from_levels(depth: u8, window: u8, levels: Vec<i8>) -> Result<Self, CodecError> {
        let table = Self::unstructured(depth, window, levels)?;
        let bent = Bent::of(&table.levels);
        Ok(Self { bent, ..table })
    }

    /// A table of whose levels nothing is known.
    fn unstructured(depth: u8, window: u8, levels: Vec<i8>) -> Result<Self, CodecError> {
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(CodecError::TableDepth { depth });
        }
        if window != depth && window != 8 {
            return Err(CodecError::TableWindow { depth, window });
        }
        if levels.len() != 1 << window {
            let found = levels.len();
            return Err(CodecError::TableLength { window, found });
        }
        let sigma = root_mean_square(&levels);
        Ok(Self {
            depth,
            window,
            levels,
            split: None,
            bent: None,
            sigma,
        })
    }

    /// A split table with windows of 8 bits.
    ///
    /// # Errors
    ///
    /// If `depth` is not 1 to 8, a sign bit is outside its half, or a level is beyond ±63.
    pub fn from_split(depth: u8, split: Split) -> Result<Self, CodecError> {
        for (half, bit, first) in [("A", split.a_sign_bit, 4), ("B", split.b_sign_bit, 0)] {
            if !(first..first + 4).contains(&bit) {
                return Err(CodecError::SignBit { half, bit, first });
            }
        }
        let mut levels = Vec::with_capacity(256);
        for window in 0..=255 {
            let level = split.level(window);
            if level.abs() > SPLIT_LIMIT {
                return Err(CodecError::SplitLevel { window, level });
            }
            levels.push(level as i8);
        }
        let table = Self::unstructured(depth, 8, levels)?;
        Ok(Self {
            split: Some(split),
            ..table
        })
    }

    /// The same table, with the standard deviation of the source it was made for.
    ///
    /// # Errors
    ///
    /// If `sigma` is not a positive number.
    pub fn with_sigma(self, sigma: f32) -> Result<Self, CodecError> {
        if !(sigma.is_finite() && sigma > 0.0) {
            let sigma = sigma.to_string();
            return Err(CodecError::Sigma { sigma });
        }
        Ok(Self { sigma, ..self })
    }

    /// Bits per weight, `K`.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Bits of a window, `L`.
    pub fn window(&self) -> u8 {
        self.window
    }

    /// The level of every window; `2^window` entries.
    pub fn levels(&self) -> &[i8] {
        &self.levels
    }

    /// The two halves of a split table.
    pub fn split(&self) -> Option<&Split> {
        self.split.as_ref()
    }

    /// How the levels of a table that is not split are bent sums of two halves, if they are.
    pub fn bent(&self) -> Option<&Bent> {
        self.bent.as_ref()
    }

    /// The standard deviation, in level units, of the source that the table is made for: encode
    /// unit-variance weights as `sigma` times their value. Decoding does not use it.
    ///
    /// Trained tables carry the value found in training; for other tables it is the root mean square
    /// of the levels unless [`Table::with_sigma`] says otherwise.
    pub fn sigma(&self) -> f32 {
        self.sigma
    }
}

fn load(family: &[tables::Trained]) -> Vec<Table> {
    (1..)
        .zip(family)
        .map(|(depth, trained)| {
            let table = match trained.levels {
                Levels::Free(levels) => {
                    let window = levels.len().ilog2() as u8;
                    Table::from_levels(depth, window, levels.to_vec())
                }
                Levels::Split(split) => Table::from_split(depth, split),
            };
            table
                .and_then(|table| table.with_sigma(trained.sigma))
                .expect("a test loads every trained table")
        })
        .collect()
}

fn root_mean_square(levels: &[i8]) -> f32 {
    let sum: i32 = levels.iter().map(|&l| i32::from(l) * i32::from(l)).sum();
    (sum as f32 / levels.len() as f32).sqrt().max(1.0)
}

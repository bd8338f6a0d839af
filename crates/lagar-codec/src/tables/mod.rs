//! The trained tables, as `cargo xtask train-tables` writes them.

mod trained;

pub(crate) use trained::{SCALAR, TRELLIS};

use crate::Split;

/// One trained table.
pub(crate) struct Trained {
    /// Its levels.
    pub(crate) levels: Levels,
    /// Standard deviation, in level units, of the source it was trained for.
    pub(crate) sigma: f32,
}

/// The levels of a trained table.
pub(crate) enum Levels {
    /// One per window.
    Free(&'static [i8]),
    /// Two halves.
    Split(Split),
}

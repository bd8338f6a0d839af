//! Activations rounded to signed bytes.

use crate::{BLOCK_COLS, GROUP};

/// `n` transformed input vectors, rounded to signed bytes group by group.
///
/// In column group `g` of vector `v`, value `x'` is about `q · scale[g · n + v]`: products take the scales of a group's vectors
/// together.
/// [`crate::reference::quantize_activations`] defines the rounding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// Number of vectors.
    pub n: usize,
    /// Columns of each vector, a multiple of 4.
    pub padded_width: usize,
    /// `n × padded_width` values within ±127.
    pub q: Vec<i8>,
    /// `groups × n` scales.
    pub scale: Vec<f32>,
    /// `groups × n` sums of `q` over a group.
    pub sum: Vec<i32>,
}

impl Activations {
    /// Room for `n` vectors of `padded_width` columns, all zero.
    ///
    /// # Panics
    ///
    /// If `padded_width` is not a multiple of 4.
    pub fn new(n: usize, padded_width: usize) -> Self {
        let mut activations = Self::default();
        activations.resize(n, padded_width);
        activations
    }

    /// Sets the shape, keeping the allocations; what the values then are is not specified.
    ///
    /// # Panics
    ///
    /// If `padded_width` is not a multiple of 4.
    pub fn resize(&mut self, n: usize, padded_width: usize) {
        assert_eq!(padded_width % BLOCK_COLS, 0, "columns come in blocks of 4");
        self.n = n;
        self.padded_width = padded_width;
        self.q.resize(n * padded_width, 0);
        self.scale.resize(n * self.groups(), 0.0);
        self.sum.resize(n * self.groups(), 0);
    }

    /// Column groups of a vector.
    pub fn groups(&self) -> usize {
        self.padded_width.div_ceil(GROUP)
    }
}

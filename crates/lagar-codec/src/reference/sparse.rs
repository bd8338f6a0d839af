//! Sparse stages and low-rank products.

use crate::{ROW_UNIT, SparseLayout, half_value};

/// One sparse stage of a linear.
#[derive(Clone, Copy, Debug)]
pub struct Sparse<'a> {
    /// Shape and places.
    pub layout: &'a SparseLayout,
    /// `layout.gaps_len()` bytes.
    pub gaps: &'a [u8],
    /// `layout.values_len()` bytes.
    pub values: &'a [u8],
}

impl Sparse<'_> {
    /// Calls `entry(row, column, value)` for every entry; those of a row come in ascending columns.
    fn for_each(&self, mut entry: impl FnMut(usize, usize, f32)) {
        for band in 0..self.layout.bands() {
            let each = |row, column, value| {
                entry(band * ROW_UNIT + row, column, half_value(value));
                true
            };
            self.layout.for_each(band, self.gaps, self.values, each);
        }
    }
}

/// `y[v, r] += Σ_c s[r, c] x[v, c]`; `x` is `n × cols`, not transformed, `y` is `n × rows`.
///
/// Each sum runs over the entries of the row in ascending columns, from 0: `acc = fma(value, x, acc)`.
/// Then it is added, also where it is of no entries.
///
/// # Panics
///
/// If a length does not match the layout, or a column is out of range.
pub fn sparse_matmul(stage: &Sparse<'_>, x: &[f32], n: usize, y: &mut [f32]) {
    let (rows, cols) = (stage.layout.rows(), stage.layout.cols());
    assert_eq!(x.len(), n * cols);
    assert_eq!(y.len(), n * rows);
    let mut sums = vec![0.0f32; n * rows];
    stage.for_each(|r, c, value| {
        for v in 0..n {
            let sum = &mut sums[v * rows + r];
            *sum = value.mul_add(x[v * cols + c], *sum);
        }
    });
    for (y, sum) in y.iter_mut().zip(sums) {
        *y += sum;
    }
}

/// Adds a stage's entries to `w`, a matrix of `rows × cols`.
///
/// # Panics
///
/// If the length does not match the layout, or a column is out of range.
pub fn add_sparse(stage: &Sparse<'_>, w: &mut [f32]) {
    let (rows, cols) = (stage.layout.rows(), stage.layout.cols());
    assert_eq!(w.len(), rows * cols);
    stage.for_each(|r, c, value| w[r * cols + c] += value);
}

/// Adds a low-rank product to `w`, a matrix of `rows × cols` in transformed space: `u` is `rows × rank`,
/// `v` is `rank × cols`.
///
/// Each sum runs over the rank in ascending order, from 0: `p = p + u · v`, with every product and sum
/// rounded. Then it is added.
///
/// # Panics
///
/// If a length does not match.
pub fn add_product(u: &[f32], v: &[f32], rank: usize, cols: usize, w: &mut [f32]) {
    assert_eq!(v.len(), rank * cols);
    assert_eq!(u.len() * cols, w.len() * rank);
    for (u, w) in u.chunks_exact(rank).zip(w.chunks_exact_mut(cols)) {
        for (c, w) in w.iter_mut().enumerate() {
            let products = u.iter().zip(v[c..].iter().step_by(cols));
            *w += products.fold(0.0, |p, (u, v)| p + u * v);
        }
    }
}

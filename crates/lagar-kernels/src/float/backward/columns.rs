//! Sums over the rows of a matrix, and its transpose.

use crate::Cpu;
use crate::simd::{Kernel, LANES, Simd};

/// Columns of a task of a sum over rows: a few cache lines of every row.
const COLUMNS: usize = 4 * LANES;
/// Rows that are summed before they are added to the total, so that long sums stay accurate.
const CHUNK: usize = 128;

impl Cpu {
    /// `out[c] += Σ_r a[r, c]` over the `n` rows of `a`, n × `out.len()`: the gradient of a bias.
    ///
    /// Rows are summed in order, in chunks of 128.
    ///
    /// # Panics
    /// If `a` has another length.
    pub fn add_column_sums(&self, a: &[f32], n: usize, out: &mut [f32]) {
        self.columns(a, None, n, out);
    }

    /// `out[c] += Σ_r a[r, c] · b[r, c]` over the `n` rows of `a` and `b`, both n × `out.len()`: the
    /// gradient of factors of columns.
    ///
    /// Rows are summed in order, in chunks of 128.
    ///
    /// # Panics
    /// If a length is another.
    pub fn add_column_dots(&self, a: &[f32], b: &[f32], n: usize, out: &mut [f32]) {
        self.columns(a, Some(b), n, out);
    }

    fn columns(&self, a: &[f32], b: Option<&[f32]>, n: usize, out: &mut [f32]) {
        let width = out.len();
        assert_eq!(a.len(), n * width, "a is n x width");
        assert!(b.is_none_or(|b| b.len() == a.len()), "b is n x width");
        self.pool().chunks(out, COLUMNS, |task, out| {
            self.isa().dispatch(Columns {
                a,
                b,
                width,
                first: task * COLUMNS,
                out,
            });
        });
    }

    /// Some columns of a matrix as rows: `out[c · n + r] = x[r · stride + first + c]` for `n` rows and
    /// `columns` columns from `first` on; `out` is columns × n.
    ///
    /// # Panics
    /// If `x` is too short, `stride` too small, or `out` has another length.
    pub fn transpose(
        &self,
        x: &[f32],
        stride: usize,
        n: usize,
        first: usize,
        columns: usize,
        out: &mut [f32],
    ) {
        assert_eq!(out.len(), columns * n, "out is columns x n");
        if out.is_empty() {
            return;
        }
        assert!(first + columns <= stride, "columns are inside a row");
        assert!(x.len() >= (n - 1) * stride + first + columns, "n rows");
        self.pool().chunks(out, LANES * n, |task, out| {
            self.isa().dispatch(Transpose {
                x,
                stride,
                n,
                first: first + task * LANES,
                out,
            });
        });
    }
}

struct Columns<'a> {
    a: &'a [f32],
    b: Option<&'a [f32]>,
    width: usize,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let size = CHUNK * self.width;
        for (chunk, a) in self.a.chunks(size).enumerate() {
            let b = self.b.map(|b| &b[chunk * size..][..a.len()]);
            for (i, out) in self.out.chunks_mut(LANES).enumerate() {
                let first = self.first + i * LANES;
                let mut sum = s.splat(0.0);
                for row in (0..a.len()).step_by(self.width) {
                    let range = row + first..row + first + out.len();
                    let value = s.load_partial(&a[range.clone()]);
                    sum = match b {
                        Some(b) => s.fma(value, s.load_partial(&b[range]), sum),
                        None => s.add(value, sum),
                    };
                }
                s.store_partial(s.add(s.load_partial(out), sum), out);
            }
        }
    }
}

/// Up to 16 columns as rows of `n`.
struct Transpose<'a> {
    x: &'a [f32],
    stride: usize,
    n: usize,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for Transpose<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let columns = self.out.len() / self.n;
        for first in (0..self.n).step_by(LANES) {
            let rows = LANES.min(self.n - first);
            let row = |r: usize| &self.x[(first + r) * self.stride + self.first..][..columns];
            if rows == LANES && columns == LANES {
                let mut tile = [[0.0; LANES]; LANES];
                for (r, tile) in tile.iter_mut().enumerate() {
                    tile.copy_from_slice(row(r));
                }
                s.store_rows(&tile, &mut self.out[first..], self.n);
                continue;
            }
            for r in 0..rows {
                for (c, &value) in row(r).iter().enumerate() {
                    self.out[c * self.n + first + r] = value;
                }
            }
        }
    }
}

//! Products Aᵀ B of tall matrices, for Hessians and error feedback.

use std::cell::RefCell;

use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

/// Rows of A and B whose products are summed in registers before they are added to C. It is part
/// of what the result is.
const DEPTH: usize = 256;
/// The largest square of C that one task computes.
const TILE: usize = 384;

impl Cpu {
    /// `C += alpha · Aᵀ B`, where A is k × m, B is k × n, C is m × n, with row strides `lda`, `ldb`
    /// and `ldc`.
    ///
    /// For each chunk of 256 rows, in order, each element's products are summed by fused
    /// multiply-add in the order of the rows, from 0, and alpha times the sum is added to C (fused).
    ///
    /// # Panics
    /// If a slice is too short, or a stride shorter than a row.
    pub fn gemm_tn(
        &self,
        a: &[f32],
        lda: usize,
        b: &[f32],
        ldb: usize,
        c: &mut [f32],
        ldc: usize,
        m: usize,
        n: usize,
        k: usize,
        alpha: f32,
    ) {
        let a = Matrix::new(a, lda, k, m);
        let b = Matrix::new(b, ldb, k, n);
        self.product(a, b, c, ldc, alpha, false);
    }

    /// `C += Aᵀ A` for a symmetric C of m × m with row stride `ldc`, where A is k × m with row
    /// stride `lda`. The lower triangle is computed as [`Cpu::gemm_tn`] would, and mirrored.
    ///
    /// # Panics
    /// If a slice is too short, or a stride shorter than a row.
    pub fn syrk_tn(&self, a: &[f32], lda: usize, c: &mut [f32], ldc: usize, m: usize, k: usize) {
        let a = Matrix::new(a, lda, k, m);
        self.product(a, a, c, ldc, 1.0, true);
    }

    fn product(
        &self,
        a: Matrix<'_>,
        b: Matrix<'_>,
        c: &mut [f32],
        ldc: usize,
        alpha: f32,
        symmetric: bool,
    ) {
        let (m, n, k) = (a.cols, b.cols, a.rows);
        if m == 0 || n == 0 || k == 0 {
            return;
        }
        assert!(ldc >= n, "the stride of C is at least its width");
        assert!(c.len() >= (m - 1) * ldc + n, "C is m x n");
        let c = Disjoint::new(c);
        // Tiles small enough that every thread gets some. They do not change the result.
        let mut tile = TILE;
        while tile > 48 && m.div_ceil(tile) * n.div_ceil(tile) < 4 * self.threads() {
            tile /= 2;
        }
        let across = n.div_ceil(tile);
        let tiles: Vec<(usize, usize)> = (0..m.div_ceil(tile) * across)
            .map(|i| (i / across, i % across))
            .filter(|(row, column)| !symmetric || row >= column)
            .collect();
        self.pool().run(tiles.len(), &|task| {
            let (row, column) = (tiles[task].0 * tile, tiles[task].1 * tile);
            self.isa().dispatch(Tile {
                a: a.columns(row, tile),
                b: b.columns(column, tile),
                c,
                ldc,
                row,
                column,
                alpha,
            });
            if symmetric {
                mirror(c, ldc, row..m.min(row + tile), column..n.min(column + tile));
            }
        });
    }
}

/// Copies a tile of the lower triangle to its place in the upper one.
fn mirror(
    c: Disjoint<'_, f32>,
    ldc: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    for i in rows {
        for j in columns.start..columns.end.min(i) {
            let (from, to) = (i * ldc + j, j * ldc + i);
            // SAFETY: this task alone has the tile and its mirror image.
            unsafe { c.slice(to..to + 1)[0] = c.slice(from..from + 1)[0] };
        }
    }
}

/// Some columns of a row-major matrix.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    stride: usize,
    rows: usize,
    cols: usize,
}

impl<'a> Matrix<'a> {
    fn new(data: &'a [f32], stride: usize, rows: usize, cols: usize) -> Self {
        assert!(stride >= cols, "a stride is at least a row's length");
        assert!(
            rows == 0 || data.len() >= (rows - 1) * stride + cols,
            "{} numbers are too few for {rows} rows of {cols} with stride {stride}",
            data.len()
        );
        Self {
            data,
            stride,
            rows,
            cols,
        }
    }

    /// At most `count` columns from `first` on.
    fn columns(self, first: usize, count: usize) -> Self {
        Self {
            data: &self.data[first..],
            cols: count.min(self.cols - first),
            ..self
        }
    }

    /// Copies rows into panels of `width` columns, each row by row, padded with zeros.
    #[inline(always)]
    fn pack<S: Simd>(&self, s: S, rows: std::ops::Range<usize>, width: usize, to: &mut Vec<f32>) {
        let depth = rows.len();
        to.resize(self.cols.div_ceil(width) * depth * width, 0.0);
        for (first, panel) in (0..self.cols)
            .step_by(width)
            .zip(to.chunks_exact_mut(depth * width))
        {
            let cols = width.min(self.cols - first);
            for (row, to) in rows.clone().zip(panel.chunks_exact_mut(width)) {
                let from = &self.data[row * self.stride + first..][..cols];
                let (to, padding) = to.split_at_mut(cols);
                for (from, to) in from.chunks(LANES).zip(to.chunks_mut(LANES)) {
                    s.store_partial(s.load_partial(from), to);
                }
                padding.fill(0.0);
            }
        }
    }
}

thread_local! {
    /// Packed panels of A and B, kept for the thread's next tile.
    static PANELS: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// One tile of C.
struct Tile<'a> {
    a: Matrix<'a>,
    b: Matrix<'a>,
    c: Disjoint<'a, f32>,
    ldc: usize,
    row: usize,
    column: usize,
    alpha: f32,
}

impl Kernel for Tile<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut packed_a, mut packed_b) = PANELS.take();
        // 24 sums of 32 registers, or 6 of 8.
        if S::REGISTERS >= 32 {
            self.compute::<S, 12, 2>(s, &mut packed_a, &mut packed_b);
        } else {
            self.compute::<S, 6, 1>(s, &mut packed_a, &mut packed_b);
        }
        PANELS.set((packed_a, packed_b));
    }
}

impl Tile<'_> {
    #[inline(always)]
    fn compute<S: Simd, const R: usize, const V: usize>(
        &self,
        s: S,
        packed_a: &mut Vec<f32>,
        packed_b: &mut Vec<f32>,
    ) {
        for start in (0..self.a.rows).step_by(DEPTH) {
            let rows = start..self.a.rows.min(start + DEPTH);
            let depth = rows.len();
            self.a.pack(s, rows.clone(), R, packed_a);
            self.b.pack(s, rows, V * LANES, packed_b);
            for (j, b) in packed_b.chunks_exact(depth * V * LANES).enumerate() {
                let b = b.as_chunks::<LANES>().0;
                let column = j * V * LANES;
                let columns = (V * LANES).min(self.b.cols - column);
                for (i, a) in packed_a.chunks_exact(depth * R).enumerate() {
                    let a = a.as_chunks::<R>().0;
                    let sums = multiply::<S, R, V>(s, a, b);
                    let count = R.min(self.a.cols - i * R);
                    for (r, sums) in sums.iter().enumerate().take(count) {
                        let first = (self.row + i * R + r) * self.ldc + self.column + column;
                        // SAFETY: every element of C is in one tile.
                        let c = unsafe { self.c.slice(first..first + columns) };
                        for (c, &sum) in c.chunks_mut(LANES).zip(sums) {
                            let old = s.load_partial(c);
                            s.store_partial(s.fma(s.splat(self.alpha), sum, old), c);
                        }
                    }
                }
            }
        }
    }
}

/// Σₖ a[k][r] · b[k], from 0 in the order of k.
#[inline(always)]
fn multiply<S: Simd, const R: usize, const V: usize>(
    s: S,
    a: &[[f32; R]],
    b: &[[f32; LANES]],
) -> [[S::F32; V]; R] {
    let mut sums = [[s.splat(0.0); V]; R];
    for (a, b) in a.iter().zip(b.chunks_exact(V)) {
        let mut columns = [s.splat(0.0); V];
        for v in 0..V {
            columns[v] = s.load(&b[v]);
        }
        for r in 0..R {
            let factor = s.splat(a[r]);
            for v in 0..V {
                sums[r][v] = s.fma(factor, columns[v], sums[r][v]);
            }
        }
    }
    sums
}

//! `C += ±AᵀB` in f32: second moments and error feedback.
//!
//! Every element of `C` is summed over `k` in order, in chunks of [`CHUNK`] that are each summed
//! from zero by fused multiply-adds and then added to `C`. So the bits depend neither on the
//! instruction set, nor on the number of threads, nor on how `C` is cut into blocks.

mod block;

use crate::pool::Disjoint;
use crate::{Cpu, Isa};

/// Terms that are summed before they are added to `C`.
const CHUNK: usize = 128;
/// Rows of a block of `C` that one task computes.
const BLOCK_ROWS: usize = 192;
/// Columns of such a block.
const BLOCK_COLS: usize = 512;

/// A row-major matrix with a distance between its rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
}

impl Cpu {
    /// `C += alpha · AᵀB` for `alpha` 1 or −1: `c[i][j] += alpha · Σ_k a[k][i] · b[k][j]`.
    ///
    /// `a` is `k × m` with rows `lda` apart, `b` is `k × n` with rows `ldb` apart, `c` is `m × n`
    /// with rows `ldc` apart.
    ///
    /// # Panics
    /// If a slice is too short for its shape.
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
        let (a, b) = (Rows::new(a, lda, k, m), Rows::new(b, ldb, k, n));
        self.product(a, b, c, ldc, m, n, k, alpha, |_, _| true);
    }

    /// The upper triangle of `C += alpha · AᵀA`, where `a` is `k × n` with rows `lda` apart and `c`
    /// is `n × n` with rows `ldc` apart. What is below the diagonal may change to anything.
    ///
    /// # Panics
    /// If a slice is too short for its shape.
    pub fn syrk_tn(
        &self,
        a: &[f32],
        lda: usize,
        c: &mut [f32],
        ldc: usize,
        n: usize,
        k: usize,
        alpha: f32,
    ) {
        let a = Rows::new(a, lda, k, n);
        self.product(a, a, c, ldc, n, n, k, alpha, |first_row, end_column| {
            end_column > first_row
        });
    }

    /// Computes the blocks of `C` for which `wanted(first row, end column)`.
    fn product(
        &self,
        a: Rows<'_>,
        b: Rows<'_>,
        c: &mut [f32],
        ldc: usize,
        m: usize,
        n: usize,
        k: usize,
        alpha: f32,
        wanted: impl Fn(usize, usize) -> bool,
    ) {
        assert!(alpha.abs() == 1.0, "alpha is {alpha}; it must be 1 or -1");
        check(c.len(), ldc, m, n);
        if m == 0 || n == 0 || k == 0 {
            return;
        }
        let blocks: Vec<(usize, usize)> = (0..m)
            .step_by(BLOCK_ROWS)
            .flat_map(|i| (0..n).step_by(BLOCK_COLS).map(move |j| (i, j)))
            .filter(|&(i, j)| wanted(i, n.min(j + BLOCK_COLS)))
            .collect();
        let c = Disjoint::new(c);
        self.pool().run(blocks.len(), &|block| {
            let (i, j) = blocks[block];
            let (rows, cols) = (BLOCK_ROWS.min(m - i), BLOCK_COLS.min(n - j));
            let mut c: Vec<&mut [f32]> = (i..i + rows)
                // SAFETY: blocks do not overlap, nor do the rows of one block, since a row's
                // columns end before the next row starts (`n <= ldc`).
                .map(|row| unsafe { c.slice(row * ldc + j..row * ldc + j + cols) })
                .collect();
            let (a, b) = (a.columns(i, rows), b.columns(j, cols));
            match self.isa() {
                // 24 sums, 4 vectors of B and one of A fill 32 registers.
                Isa::Avx512Bw | Isa::Avx512BwVnni | Isa::Avx512 | Isa::Amx => self
                    .isa()
                    .dispatch(block::Block::<6, 4>::new(a, b, &mut c, k, alpha)),
                // A vector is 2 or 4 registers.
                _ => self
                    .isa()
                    .dispatch(block::Block::<6, 1>::new(a, b, &mut c, k, alpha)),
            }
        });
    }
}

impl<'a> Rows<'a> {
    fn new(data: &'a [f32], stride: usize, rows: usize, cols: usize) -> Self {
        check(data.len(), stride, rows, cols);
        Self { data, stride }
    }

    /// Some of the columns of every row.
    fn columns(self, first: usize, count: usize) -> Columns<'a> {
        Columns {
            rows: self,
            first,
            count,
        }
    }
}

/// Columns of a matrix.
#[derive(Clone, Copy)]
struct Columns<'a> {
    rows: Rows<'a>,
    first: usize,
    count: usize,
}

impl Columns<'_> {
    /// These columns of a row.
    #[inline(always)]
    fn row(&self, row: usize) -> &[f32] {
        &self.rows.data[row * self.rows.stride + self.first..][..self.count]
    }
}

fn check(len: usize, stride: usize, rows: usize, cols: usize) {
    let needed = if rows == 0 || cols == 0 {
        0
    } else {
        (rows - 1) * stride + cols
    };
    assert!(
        cols <= stride && len >= needed,
        "{rows} × {cols} with rows {stride} apart does not fit {len} elements"
    );
}

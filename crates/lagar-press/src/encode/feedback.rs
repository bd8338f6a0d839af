//! The error-feedback matrix of LDLQ.
//!
//! A Hessian factors as `H = M D Mᵀ` with `M` unit upper triangular in blocks of four columns
//! and `D` block diagonal. Coding the columns in order, each block of four aims at
//! `W_b + (W − Ŵ)_{<b} · M_{<b,b}`; what is then lost is `Σ_b e_b D_b e_bᵀ` with `e_b` the block's
//! own rounding error (LDLQ of QuIP, arXiv 2307.13304, with blocks as in QuIP#, arXiv 2402.04396).

use lagar_codec::{BLOCK_COLS, GROUP};
use lagar_kernels::Cpu;

use crate::PressError;

/// Columns that are factored together; the trailing update is a matrix product of this depth.
const PANEL: usize = 64;

/// `M` of `H + damping · mean(diag H) · I = M D Mᵀ`.
#[derive(Debug)]
pub(crate) struct Feedback {
    width: usize,
    /// `width × width`, row-major; only `m[k][c]` with `k` in a block before `c`'s is meaningful.
    m: Vec<f32>,
    /// For each block of four columns, the mean diagonal of `D`: what a squared error of 1 in one of its
    /// columns costs, once those after it make up for what they can.
    pivots: Vec<f32>,
    /// For each block of four columns, its square of `D`.
    squares: Vec<Square>,
    /// What was added to the diagonal of `H`.
    damping: f32,
}

/// A block of `D`, row by row.
type Square = [f32; BLOCK_COLS * BLOCK_COLS];

#[rustfmt::skip]
const IDENTITY: Square = [
    1.0, 0.0, 0.0, 0.0,
    0.0, 1.0, 0.0, 0.0,
    0.0, 0.0, 1.0, 0.0,
    0.0, 0.0, 0.0, 1.0,
];

impl Feedback {
    /// Factors the symmetric `width × width` matrix `hessian`; `width` is a multiple of four.
    /// `what` names it in errors.
    pub(crate) fn new(
        cpu: &Cpu,
        hessian: Vec<f32>,
        width: usize,
        damping: f32,
        what: &str,
    ) -> Result<Self, PressError> {
        assert_eq!(hessian.len(), width * width);
        assert!(width.is_multiple_of(BLOCK_COLS));
        let mean = mean_diagonal(&hessian, width);
        if !mean.is_finite() {
            return Err(PressError::Hessian {
                what: what.to_owned(),
                mean,
            });
        }
        // Inputs that never fire leave nothing to weight by: all columns count the same.
        let mean = if mean > 0.0 { mean } else { 1.0 };
        let mut m = hessian;
        for i in 0..width {
            m[i * width + i] += damping * mean;
        }
        match factor(cpu, &mut m, width) {
            Some(squares) => Ok(Self {
                width,
                m,
                pivots: squares.iter().map(mean_of_diagonal).collect(),
                squares,
                damping: damping * mean,
            }),
            None => Err(PressError::Hessian {
                what: what.to_owned(),
                mean,
            }),
        }
    }

    /// None at all: every column is coded as it is.
    pub(crate) fn none(width: usize) -> Self {
        Self {
            width,
            m: vec![0.0; width * width],
            pivots: vec![1.0; width / BLOCK_COLS],
            squares: vec![IDENTITY; width / BLOCK_COLS],
            damping: 0.0,
        }
    }

    /// What an error in each column costs once those after it make up for what they can.
    pub(crate) fn pivots(&self) -> Vec<f32> {
        let columns = 0..self.width;
        columns.map(|c| self.pivots[c / BLOCK_COLS]).collect()
    }

    /// What is expected to be lost in each column where everything is coded with a mean squared error of
    /// `distortion` relative to what the code aims at: the weights, whose mean squares in each column are
    /// given, and what feedback adds to them, which grows with the error.
    pub(crate) fn expected_losses(&self, squares: &[f64], distortion: f64) -> Vec<f64> {
        let mut aims = squares.to_vec();
        for column in 0..self.width {
            let error = aims[column] * distortion;
            let after = (column / BLOCK_COLS + 1) * BLOCK_COLS;
            for (aim, &m) in aims[after..].iter_mut().zip(self.from(column, after)) {
                *aim += error * f64::from(m * m);
            }
        }
        let columns = aims.into_iter().enumerate();
        columns
            .map(|(column, aim)| aim * distortion * f64::from(self.pivots[column / BLOCK_COLS]))
            .collect()
    }

    /// What was added to the diagonal of `H`.
    pub(super) fn damping(&self) -> f32 {
        self.damping
    }

    /// `tr(X H Xᵀ)` of a strip of rows, whose columns are given: `x[column · rows + row]`. The damping is taken
    /// off again.
    pub(super) fn quadratic(&self, cpu: &Cpu, x: &[f32], rows: usize) -> f64 {
        let mut damped = 0.0;
        for first in (0..self.width).step_by(GROUP) {
            let cols = GROUP.min(self.width - first);
            // X M, of which only blocks before a column's own count, and the unit diagonal.
            let mut unit = vec![0f32; cols * cols];
            for (k, row) in unit.chunks_exact_mut(cols).enumerate() {
                let after = (k / BLOCK_COLS + 1) * BLOCK_COLS;
                row[k] = 1.0;
                row[after..].copy_from_slice(&self.from(first + k, first)[after..cols]);
            }
            let mut product = vec![0f32; cols * rows];
            let own = &x[first * rows..];
            cpu.gemm_tn(
                &unit,
                cols,
                own,
                rows,
                &mut product,
                rows,
                cols,
                rows,
                cols,
                1.0,
            );
            if first > 0 {
                let m = self.from(0, first);
                cpu.gemm_tn(
                    m,
                    self.width,
                    x,
                    rows,
                    &mut product,
                    rows,
                    cols,
                    rows,
                    first,
                    1.0,
                );
            }
            let blocks = product.chunks_exact(BLOCK_COLS * rows);
            for (block, square) in blocks.zip(&self.squares[first / BLOCK_COLS..]) {
                for (at, &d) in square.iter().enumerate() {
                    let [i, j] = [at / BLOCK_COLS, at % BLOCK_COLS].map(|c| &block[c * rows..]);
                    damped += f64::from(d) * dot(&i[..rows], &j[..rows]);
                }
            }
        }
        let x = &x[..self.width * rows];
        (damped - f64::from(self.damping) * dot(x, x)).max(0.0)
    }

    /// `M[row][first_column..]` to the end of the matrix: rows are `width` apart.
    pub(crate) fn from(&self, row: usize, first_column: usize) -> &[f32] {
        &self.m[row * self.width + first_column..]
    }
}

/// A sum of products, in f64 and in order.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
    products.sum()
}

fn mean_of_diagonal(square: &Square) -> f32 {
    let diagonal = square.iter().step_by(BLOCK_COLS + 1);
    diagonal.sum::<f32>() / BLOCK_COLS as f32
}

fn mean_diagonal(hessian: &[f32], width: usize) -> f32 {
    let sum: f64 = (0..width).map(|i| f64::from(hessian[i * width + i])).sum();
    (sum / width as f64) as f32
}

/// Replaces the upper triangle of `a` by `M`; what is below the diagonal has no meaning.
/// Returns the blocks of `D`; nothing if a pivot is not positive.
fn factor(cpu: &Cpu, a: &mut [f32], n: usize) -> Option<Vec<Square>> {
    let mut squares = vec![Square::default(); n / BLOCK_COLS];
    let mut panel = vec![0f32; PANEL * n];
    let mut end = n;
    while end > 0 {
        let start = (end - 1) / PANEL * PANEL;
        let size = end - start;
        let corner = factor_corner(a, n, start, size)?;
        for block in (0..size).step_by(BLOCK_COLS) {
            // D = U Uᵀ of the block's own square.
            let row = |i: usize| &corner[(block + i) * size + block..][..BLOCK_COLS];
            squares[(start + block) / BLOCK_COLS] = std::array::from_fn(|at| {
                let pairs = row(at / BLOCK_COLS).iter().zip(row(at % BLOCK_COLS));
                pairs.map(|(a, b)| a * b).sum::<f64>() as f32
            });
        }
        solve_panel(a, n, start, &corner, size, &mut panel);
        // Trailing update of the upper triangle: A[..start, ..start] -= P Pᵀ.
        cpu.syrk_tn(&panel, start, a, n, start, size, -1.0);
        normalise_blocks(a, n, start, &corner, size, &panel);
        end = start;
    }
    Some(squares)
}

/// The upper triangular `U` with `U Uᵀ` = the corner `a[start.., start..]`, in f64.
fn factor_corner(a: &[f32], n: usize, start: usize, size: usize) -> Option<Vec<f64>> {
    let mut u = vec![0f64; size * size];
    for j in (0..size).rev() {
        for i in (0..=j).rev() {
            let mut sum = f64::from(a[(start + i) * n + start + j]);
            for k in j + 1..size {
                sum -= u[i * size + k] * u[j * size + k];
            }
            if i == j {
                if !(sum > 0.0 && sum.is_finite()) {
                    return None;
                }
                u[j * size + j] = sum.sqrt();
            } else {
                u[i * size + j] = sum / u[j * size + j];
            }
        }
    }
    Some(u)
}

/// Solves `X Uᵀ = A[..start, start..]`; `panel` receives `Xᵀ`, `size` rows of `start` values.
fn solve_panel(a: &[f32], n: usize, start: usize, u: &[f64], size: usize, panel: &mut [f32]) {
    for j in (0..size).rev() {
        let (head, solved) = panel[..size * start].split_at_mut((j + 1) * start);
        let row = &mut head[j * start..];
        for (i, value) in row.iter_mut().enumerate() {
            *value = a[i * n + start + j];
        }
        for (k, other) in (j + 1..size).zip(solved.chunks_exact(start.max(1))) {
            let factor = u[j * size + k] as f32;
            for (value, x) in row.iter_mut().zip(other) {
                *value -= factor * x;
            }
        }
        let inverse = (1.0 / u[j * size + j]) as f32;
        for value in row.iter_mut() {
            *value *= inverse;
        }
    }
}

/// Writes `M = U · blockdiag(U_bb)⁻¹` for the columns of this panel.
fn normalise_blocks(a: &mut [f32], n: usize, start: usize, u: &[f64], size: usize, panel: &[f32]) {
    for block in (0..size).step_by(BLOCK_COLS) {
        // Row i of the block's columns: X · U_bb = U[i, block].
        let solve = |row: [f64; BLOCK_COLS]| {
            let mut x = [0f64; BLOCK_COLS];
            for c in 0..BLOCK_COLS {
                let known: f64 = (0..c)
                    .map(|k| x[k] * u[(block + k) * size + block + c])
                    .sum();
                x[c] = (row[c] - known) / u[(block + c) * size + block + c];
            }
            x
        };
        for i in 0..start {
            let x = solve(std::array::from_fn(|c| {
                f64::from(panel[(block + c) * start + i])
            }));
            for c in 0..BLOCK_COLS {
                a[i * n + start + block + c] = x[c] as f32;
            }
        }
        for i in 0..block {
            let x = solve(std::array::from_fn(|c| u[i * size + block + c]));
            for c in 0..BLOCK_COLS {
                a[(start + i) * n + start + block + c] = x[c] as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lagar_kernels::Isa;

    use super::*;
    use crate::random::Random;

    /// A random positive definite matrix with a few strong directions, as activations have.
    fn hessian(n: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, 0);
        let mut uniform =
            || (0..16).fold(0.0, |x, _| (x + f32::from(u8::from(random.bit()))) / 2.0) - 0.5;
        let samples: Vec<f32> = (0..2 * n * n)
            .map(|i| uniform() * (1 + 40 / (i % n + 1)) as f32)
            .collect();
        let mut h = vec![0f32; n * n];
        for x in samples.chunks_exact(n) {
            for i in 0..n {
                for j in 0..n {
                    h[i * n + j] += x[i] * x[j] / (2 * n) as f32;
                }
            }
        }
        h
    }

    /// `M D Mᵀ` with `D` solved for block by block must give the matrix back: for every block,
    /// `M⁻¹ H M⁻ᵀ` is block diagonal.
    #[test]
    fn whitening_by_the_feedback_leaves_a_block_diagonal_matrix() {
        let cpu = Cpu::new(Isa::best(), 2);
        for n in [4, 12, 64, 68, 172, 256] {
            let h = hessian(n, n as u64);
            let damping = 0.01;
            let feedback = Feedback::new(&cpu, h.clone(), n, damping, "test").unwrap();
            let mean: f64 = (0..n).map(|i| f64::from(h[i * n + i])).sum::<f64>() / n as f64;
            let mut a: Vec<f64> = h.iter().map(|&x| f64::from(x)).collect();
            for i in 0..n {
                a[i * n + i] += f64::from(damping) * mean;
            }
            let unit = |k: usize, c: usize| {
                if k == c {
                    1.0
                } else if k / BLOCK_COLS < c / BLOCK_COLS {
                    f64::from(feedback.from(k, c)[0])
                } else {
                    0.0
                }
            };
            // Rows from the last: (M⁻¹ A)_k = A_k − Σ_{c>k} M_kc (M⁻¹ A)_c.
            for k in (0..n).rev() {
                for c in k + 1..n {
                    for j in 0..n {
                        a[k * n + j] -= unit(k, c) * a[c * n + j];
                    }
                }
            }
            for j in (0..n).rev() {
                for c in j + 1..n {
                    for k in 0..n {
                        a[k * n + j] -= unit(j, c) * a[k * n + c];
                    }
                }
            }
            for k in 0..n {
                for j in 0..n {
                    if k == j && k.is_multiple_of(BLOCK_COLS) {
                        let block = (k..k + BLOCK_COLS).map(|i| a[i * n + i]);
                        let pivot = block.sum::<f64>() / BLOCK_COLS as f64;
                        let found = f64::from(feedback.pivots[k / BLOCK_COLS]);
                        assert!((found / pivot - 1.0).abs() < 1e-2, "n {n}: {found} {pivot}");
                    }
                    if k / BLOCK_COLS != j / BLOCK_COLS {
                        assert!(
                            a[k * n + j].abs() < 2e-4 * mean,
                            "n {n}: [{k}][{j}] = {}",
                            a[k * n + j]
                        );
                    }
                }
            }
        }
    }

    /// As `Σ x H xᵀ` says, for any damping; nothing is lost where the inputs are zero.
    #[test]
    fn the_quadratic_form_is_that_of_the_hessian_before_damping() {
        let cpu = Cpu::new(Isa::best(), 2);
        for (n, rows) in [(4, 1), (68, 16), (172, 5), (300, 20)] {
            let h = hessian(n, n as u64);
            let x: Vec<f32> = hessian(n, 9)
                .iter()
                .cycle()
                .take(n * rows)
                .copied()
                .collect();
            let mut expected = 0.0;
            for r in 0..rows {
                for i in 0..n {
                    for j in 0..n {
                        let product = x[i * rows + r] * x[j * rows + r];
                        expected += f64::from(h[i * n + j]) * f64::from(product);
                    }
                }
            }
            for damping in [0.01, 0.1, 1.0] {
                let feedback = Feedback::new(&cpu, h.clone(), n, damping, "test").unwrap();
                let found = feedback.quadratic(&cpu, &x, rows);
                assert!(
                    (found / expected - 1.0).abs() < 1e-3,
                    "{n} × {rows}, damping {damping}: {found} instead of {expected}"
                );
            }
            let feedback = Feedback::new(&cpu, vec![0.0; n * n], n, 0.1, "test").unwrap();
            assert!(feedback.quadratic(&cpu, &x, rows) < 1e-5 * dot(&x, &x));
        }
    }

    #[test]
    fn a_hessian_of_zeros_counts_all_columns_the_same_and_one_with_nan_is_refused() {
        let cpu = Cpu::new(Isa::best(), 1);
        let feedback = Feedback::new(&cpu, vec![0.0; 64], 8, 0.1, "test").unwrap();
        assert!(feedback.from(0, 4)[..4].iter().all(|&m| m == 0.0));
        let broken = Feedback::new(&cpu, vec![f32::NAN; 64], 8, 0.1, "attention").unwrap_err();
        assert!(broken.to_string().contains("attention"), "{broken}");
    }
}

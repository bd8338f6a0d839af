//! The error-feedback matrix of LDLQ.
//!
//! A Hessian factors as `H = M D Mᵀ` with `M` unit upper triangular in blocks of four columns
//! and `D` block diagonal. Coding the columns in order, each block of four aims at
//! `W_b + (W − Ŵ)_{<b} · M_{<b,b}`; what is then lost is `Σ_b e_b D_b e_bᵀ` with `e_b` the block's
//! own rounding error (LDLQ of QuIP, arXiv 2307.13304, with blocks as in QuIP#, arXiv 2402.04396).

use lagar_codec::BLOCK_COLS;
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
}

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
            Some(pivots) => Ok(Self { width, m, pivots }),
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

    /// `M[row][first_column..]` to the end of the matrix: rows are `width` apart.
    pub(crate) fn from(&self, row: usize, first_column: usize) -> &[f32] {
        &self.m[row * self.width + first_column..]
    }
}

fn mean_diagonal(hessian: &[f32], width: usize) -> f32 {
    let sum: f64 = (0..width).map(|i| f64::from(hessian[i * width + i])).sum();
    (sum / width as f64) as f32
}

/// Replaces the upper triangle of `a` by `M`; what is below the diagonal has no meaning.
/// Returns the mean diagonals of the blocks of `D`; nothing if a pivot is not positive.
fn factor(cpu: &Cpu, a: &mut [f32], n: usize) -> Option<Vec<f32>> {
    let mut pivots = vec![0f32; n / BLOCK_COLS];
    let mut panel = vec![0f32; PANEL * n];
    let mut end = n;
    while end > 0 {
        let start = (end - 1) / PANEL * PANEL;
        let size = end - start;
        let corner = factor_corner(a, n, start, size)?;
        for block in (0..size).step_by(BLOCK_COLS) {
            // D = U Uᵀ of the block's own square.
            let rows =
                (block..block + BLOCK_COLS).flat_map(|i| &corner[i * size + block..][..BLOCK_COLS]);
            let trace: f64 = rows.map(|u| u * u).sum();
            pivots[(start + block) / BLOCK_COLS] = (trace / BLOCK_COLS as f64) as f32;
        }
        solve_panel(a, n, start, &corner, size, &mut panel);
        // Trailing update of the upper triangle: A[..start, ..start] -= P Pᵀ.
        cpu.syrk_tn(&panel, start, a, n, start, size, -1.0);
        normalise_blocks(a, n, start, &corner, size, &panel);
        end = start;
    }
    Some(pivots)
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

    #[test]
    fn a_hessian_of_zeros_counts_all_columns_the_same_and_one_with_nan_is_refused() {
        let cpu = Cpu::new(Isa::best(), 1);
        let feedback = Feedback::new(&cpu, vec![0.0; 64], 8, 0.1, "test").unwrap();
        assert!(feedback.from(0, 4)[..4].iter().all(|&m| m == 0.0));
        let broken = Feedback::new(&cpu, vec![f32::NAN; 64], 8, 0.1, "attention").unwrap_err();
        assert!(broken.to_string().contains("attention"), "{broken}");
    }
}

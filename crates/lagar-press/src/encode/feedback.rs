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
        if factor(cpu, &mut m, width) {
            Ok(Self { width, m })
        } else {
            Err(PressError::Hessian {
                what: what.to_owned(),
                mean,
            })
        }
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
/// False if a pivot is not positive.
fn factor(cpu: &Cpu, a: &mut [f32], n: usize) -> bool {
    let mut panel = vec![0f32; PANEL * n];
    let mut end = n;
    while end > 0 {
        let start = (end - 1) / PANEL * PANEL;
        let size = end - start;
        let Some(corner) = factor_corner(a, n, start, size) else {
            return false;
        };
        solve_panel(a, n, start, &corner, size, &mut panel);
        // Trailing update of the upper triangle: A[..start, ..start] -= P Pᵀ.
        cpu.syrk_tn(&panel, start, a, n, start, size, -1.0);
        normalise_blocks(a, n, start, &corner, size, &panel);
        end = start;
    }
    true
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

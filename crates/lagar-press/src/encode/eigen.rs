//! The largest eigenvalues of a symmetric matrix and their vectors.
//!
//! Subspace iteration with orthonormalisation by Cholesky's factorisation (done twice, which makes up for the squared
//! condition), then the eigenvectors of the small matrix that the subspace sees, by Jacobi's rotations. All in a fixed
//! order: the bits do not depend on threads. A few products with the matrix are all that the press needs: a crate of
//! decompositions would be a large dependency for that.

use lagar_kernels::Cpu;

use crate::random::Random;

/// Vectors beyond those that are wanted: the last of a subspace converge slowly.
const MORE: usize = 16;
/// Products with the matrix.
const ROUNDS: usize = 12;
/// Sweeps of rotations over the small matrix.
const SWEEPS: usize = 12;
/// Stream of the random start.
const STREAM: u64 = u64::MAX - 2;
/// A pivot below this share of its diagonal is that of a vector that depends on those before it.
const DEPENDENT: f64 = 1e-10;

/// About the `most` largest eigenvalues of the symmetric, positive `n × n` matrix, largest first, and their vectors, a
/// column each of `n ×` as many. Vectors of zeros where the matrix has no more.
pub(super) fn largest(cpu: &Cpu, matrix: &[f32], n: usize, most: usize) -> (Vec<f64>, Vec<f32>) {
    let wide = (most + MORE).min(n);
    let mut random = Random::new(0, STREAM);
    let mut vectors: Vec<f32> = (0..n * wide)
        .map(|_| random.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0)
        .collect();
    let multiply = |vectors: &[f32]| {
        let mut product = vec![0f32; n * wide];
        cpu.gemm_tn(
            matrix,
            n,
            vectors,
            wide,
            &mut product,
            wide,
            n,
            wide,
            n,
            1.0,
        );
        product
    };
    orthonormalise(cpu, &mut vectors, n, wide);
    for _ in 0..ROUNDS {
        vectors = multiply(&vectors);
        orthonormalise(cpu, &mut vectors, n, wide);
    }
    let product = multiply(&vectors);
    let mut small = vec![0f32; wide * wide];
    cpu.gemm_tn(
        &vectors, wide, &product, wide, &mut small, wide, wide, wide, n, 1.0,
    );
    let (values, rotation) = jacobi(&small, wide);
    let mut order: Vec<usize> = (0..wide).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(most);
    let mut out = vec![0f32; n * most];
    for (row, out) in vectors.chunks_exact(wide).zip(out.chunks_exact_mut(most)) {
        for (out, &k) in out.iter_mut().zip(&order) {
            let sum = row.iter().enumerate();
            *out = sum
                .map(|(i, &x)| f64::from(x) * rotation[i * wide + k])
                .sum::<f64>() as f32;
        }
    }
    (order.iter().map(|&k| values[k].max(0.0)).collect(), out)
}

/// Makes the columns of `vectors`, `n × wide`, orthonormal; those that depend on others become zero.
fn orthonormalise(cpu: &Cpu, vectors: &mut [f32], n: usize, wide: usize) {
    for _ in 0..2 {
        // Columns of very different sizes would spoil the product in f32.
        for k in 0..wide {
            let column = vectors.iter().skip(k).step_by(wide);
            let largest = column.fold(0f32, |most, x| most.max(x.abs()));
            let factor = Some(1.0 / largest).filter(|f| f.is_finite()).unwrap_or(0.0);
            vectors
                .iter_mut()
                .skip(k)
                .step_by(wide)
                .for_each(|x| *x *= factor);
        }
        let mut gram = vec![0f32; wide * wide];
        cpu.gemm_tn(
            vectors, wide, vectors, wide, &mut gram, wide, wide, wide, n, 1.0,
        );
        let inverse = inverse_factor(&gram, wide);
        for row in vectors.chunks_exact_mut(wide) {
            let old: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            for (k, x) in row.iter_mut().enumerate() {
                let sum = old[..=k].iter().enumerate();
                *x = sum.map(|(i, old)| old * inverse[i * wide + k]).sum::<f64>() as f32;
            }
        }
    }
}

/// `R⁻¹` of `G = Rᵀ R`, both upper triangular; columns of zeros where a pivot vanishes.
fn inverse_factor(gram: &[f32], n: usize) -> Vec<f64> {
    let mut r = vec![0f64; n * n];
    for j in 0..n {
        for i in 0..=j {
            let known: f64 = (0..i).map(|k| r[k * n + i] * r[k * n + j]).sum();
            let left = f64::from(gram[i * n + j]) - known;
            if i < j {
                let pivot = r[i * n + i];
                r[i * n + j] = if pivot > 0.0 { left / pivot } else { 0.0 };
            } else if left > DEPENDENT * f64::from(gram[j * n + j]) {
                r[j * n + j] = left.sqrt();
            }
        }
    }
    let mut inverse = vec![0f64; n * n];
    for j in (0..n).filter(|j| r[j * n + j] > 0.0) {
        inverse[j * n + j] = 1.0 / r[j * n + j];
        for i in (0..j).rev().filter(|i| r[i * n + i] > 0.0) {
            let sum: f64 = (i + 1..=j).map(|k| r[i * n + k] * inverse[k * n + j]).sum();
            inverse[i * n + j] = -sum / r[i * n + i];
        }
    }
    inverse
}

/// Eigenvalues of a small symmetric matrix, and its eigenvectors as columns (cyclic Jacobi).
fn jacobi(matrix: &[f32], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a: Vec<f64> = (0..n * n)
        .map(|at| {
            let (i, j) = (at / n, at % n);
            (f64::from(matrix[i * n + j]) + f64::from(matrix[j * n + i])) / 2.0
        })
        .collect();
    let mut vectors = vec![0f64; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    for _ in 0..SWEEPS {
        for p in 0..n {
            for q in p + 1..n {
                let (app, aqq, apq) = (a[p * n + p], a[q * n + q], a[p * n + q]);
                if apq.abs() <= 1e-14 * (app * aqq).abs().sqrt() {
                    continue;
                }
                let theta = (aqq - app) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (vectors[k * n + p], vectors[k * n + q]);
                    (vectors[k * n + p], vectors[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use lagar_kernels::Isa;

    use super::*;

    /// `Q diag(values) Qᵀ` with orthonormal columns, a reflection after the other.
    fn matrix(values: &[f32]) -> Vec<f32> {
        let n = values.len();
        let mut a = vec![0f64; n * n];
        (0..n).for_each(|i| a[i * n + i] = f64::from(values[i]));
        let mut random = Random::new(3, 3);
        for _ in 0..3 {
            let v: Vec<f64> = (0..n).map(|_| random.below(1000) as f64 - 500.0).collect();
            let square: f64 = v.iter().map(|x| x * x).sum();
            // A ← (I − 2vvᵀ/v²) A (I − 2vvᵀ/v²).
            for _ in 0..2 {
                for j in 0..n {
                    let dot: f64 = (0..n).map(|i| v[i] * a[i * n + j]).sum();
                    (0..n).for_each(|i| a[i * n + j] -= 2.0 * dot / square * v[i]);
                }
                let old = a.clone();
                (0..n * n).for_each(|at| a[at] = old[at % n * n + at / n]);
            }
        }
        a.iter().map(|&x| x as f32).collect()
    }

    #[test]
    fn the_largest_come_first_and_their_vectors_with_them() {
        let n = 200;
        let values: Vec<f32> = (0..n).map(|i| 100.0 * 0.9f32.powi(i)).collect();
        let a = matrix(&values);
        let cpu = Cpu::new(Isa::best(), 2);
        let (found, vectors) = largest(&cpu, &a, n as usize, 16);
        let n = n as usize;
        for (k, (found, known)) in found.iter().zip(&values).enumerate() {
            assert!(
                (found / f64::from(*known) - 1.0).abs() < 1e-3,
                "{k}: {found} {known}"
            );
            let v: Vec<f64> = (0..n).map(|i| f64::from(vectors[i * 16 + k])).collect();
            let length: f64 = v.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-4, "{k}: {length}");
            let error: f64 = (0..n)
                .map(|i| {
                    let product: f64 = (0..n).map(|j| f64::from(a[i * n + j]) * v[j]).sum();
                    (product - found * v[i]).powi(2)
                })
                .sum();
            assert!(error.sqrt() < 0.03 * found, "{k}: {error}");
        }
        assert_eq!(largest(&Cpu::new(Isa::best(), 1), &a, n, 16).1, vectors);
    }

    #[test]
    fn a_matrix_of_few_components_has_no_more() {
        let mut values = vec![0f32; 40];
        values[..3].copy_from_slice(&[5.0, 3.0, 1.0]);
        let cpu = Cpu::new(Isa::best(), 1);
        let (found, vectors) = largest(&cpu, &matrix(&values), 40, 16);
        assert!((found[0] - 5.0).abs() < 1e-3 && (found[2] - 1.0).abs() < 1e-3);
        assert!(found[3..].iter().all(|v| v.abs() < 1e-4), "{found:?}");
        assert!(vectors.iter().all(|v| v.is_finite()));
        let (zeros, vectors) = largest(&cpu, &[0.0; 1600], 40, 16);
        assert!(zeros.iter().all(|v| *v == 0.0) && vectors.iter().all(|v| v.is_finite()));
    }
}

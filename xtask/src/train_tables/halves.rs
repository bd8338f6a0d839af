//! Least squares for tables whose levels are sums of an entry of A and one of B.

/// Fits the entries, A's 16 and then B's, to the targets of 256 windows. `terms` has the signed entries that make up
/// a window's sum, `targets` its weight, and the weight times its target.
pub(crate) fn fit(
    values: &mut [f64; 32],
    terms: impl Fn(usize) -> [(usize, f64); 2],
    targets: impl Fn(usize) -> (f64, f64),
) {
    let mut matrix = [[0.0; 33]; 32];
    let mut all = 0.0;
    for w in 0..256 {
        let (terms, (weight, weighted)) = (terms(w), targets(w));
        for (i, i_sign) in terms {
            for (j, j_sign) in terms {
                matrix[i][j] += i_sign * j_sign * weight;
            }
            matrix[i][32] += i_sign * weighted;
        }
        all += weight;
    }
    for (i, &value) in values.iter().enumerate() {
        // Holds entries that are hardly used, or that only count as a sum, where they are.
        matrix[i][i] += 1e-6 * all;
        matrix[i][32] += 1e-6 * all * value;
    }
    *values = solve(matrix);
}

/// Gaussian elimination with pivoting; the last column is the right-hand side.
fn solve(mut matrix: [[f64; 33]; 32]) -> [f64; 32] {
    for i in 0..32 {
        let pivot = (i..32)
            .max_by(|&p, &q| matrix[p][i].abs().total_cmp(&matrix[q][i].abs()))
            .unwrap_or(i);
        matrix.swap(i, pivot);
        let row = matrix[i];
        for other in &mut matrix[i + 1..] {
            let factor = other[i] / row[i];
            for (x, y) in other.iter_mut().zip(row) {
                *x -= factor * y;
            }
        }
    }
    let mut solution = [0.0; 32];
    for i in (0..32).rev() {
        let known: f64 = (i + 1..32).map(|j| matrix[i][j] * solution[j]).sum();
        solution[i] = (matrix[i][32] - known) / matrix[i][i];
    }
    solution
}

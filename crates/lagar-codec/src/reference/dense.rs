//! Products with dense weights.

/// Virtual lanes of a float reduction.
const LANES: usize = 16;

/// `y[v, r] = Σ_c w[r, c] x[v, c]`; `w` is `rows × cols`, `x` is `n × cols`, `y` is `n × rows`.
///
/// Each sum runs in 16 lanes, column `c` in lane `c % 16`: `lane = fma(x, w, lane)` in order from 0.
/// The lanes are then folded in halves: 16, 8, 4, 2, 1.
///
/// # Panics
///
/// If a length does not match the shape.
pub fn dense_matmul(w: &[f32], rows: usize, cols: usize, x: &[f32], n: usize, y: &mut [f32]) {
    assert_eq!(w.len(), rows * cols);
    assert_eq!(x.len(), n * cols);
    assert_eq!(y.len(), n * rows);
    for v in 0..n {
        for r in 0..rows {
            let mut lanes = [0.0f32; LANES];
            for c in 0..cols {
                let lane = &mut lanes[c % LANES];
                *lane = x[v * cols + c].mul_add(w[r * cols + c], *lane);
            }
            let mut half = LANES / 2;
            while half > 0 {
                for i in 0..half {
                    lanes[i] += lanes[i + half];
                }
                half /= 2;
            }
            y[v * rows + r] = lanes[0];
        }
    }
}

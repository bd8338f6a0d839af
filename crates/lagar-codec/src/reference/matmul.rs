//! Products of a stage with transformed vectors.

use super::Stage;
use crate::Activations;

/// `y[v, r] (+)= Σ_c w'[r, c] x'[v, c]` with activations rounded to bytes; `y` is `n × rows`.
///
/// Per group, in order, from 0: `acc = fma(dot, group_scale · x_scale, acc)` with the exact integer
/// dot product; then `acc · row_scale` is stored, or added to `y` if `add` is set.
///
/// # Panics
///
/// If a length or depth does not match the layout.
pub fn matmul_int8(stage: &Stage<'_>, x: &Activations, y: &mut [f32], add: bool) {
    let layout = stage.layout;
    assert_eq!(x.padded_width, layout.padded_cols());
    product(stage, x.n, y, add, |v, g, levels, scale, acc| {
        let x_scale = x.scale[g * x.n + v];
        let q = &x.q[v * x.padded_width..][layout.group(g).range()];
        let pairs = levels.iter().zip(q);
        let dot: i32 = pairs.map(|(&l, &q)| i32::from(l) * i32::from(q)).sum();
        (dot as f32).mul_add(scale * x_scale, acc)
    });
}

/// `y[v, r] (+)= Σ_c w'[r, c] x'[v, c]` in f32; `x` is `n × padded_cols`, transformed, `y` is
/// `n × rows`.
///
/// Per group, in order, from 0: `p = fma(level, x', p)` over the columns in order from 0, then
/// `acc = fma(p, group_scale, acc)`; then `acc · row_scale` is stored, or added to `y` if `add` is
/// set.
///
/// # Panics
///
/// If a length or depth does not match the layout.
pub fn matmul_f32(stage: &Stage<'_>, x: &[f32], n: usize, y: &mut [f32], add: bool) {
    let layout = stage.layout;
    let width = layout.padded_cols();
    assert_eq!(x.len(), n * width);
    product(stage, n, y, add, |v, g, levels, scale, acc| {
        let x = &x[v * width..][layout.group(g).range()];
        let pairs = levels.iter().zip(x);
        let p = pairs.fold(0.0, |p, (&level, &x)| f32::from(level).mul_add(x, p));
        p.mul_add(scale, acc)
    });
}

/// Accumulates `step(vector, group, levels of a row, group scale, acc)` over the groups in order.
fn product(
    stage: &Stage<'_>,
    n: usize,
    y: &mut [f32],
    add: bool,
    step: impl Fn(usize, usize, &[i8], f32, f32) -> f32,
) {
    let (rows, padded) = (stage.layout.rows(), stage.layout.padded_rows());
    assert_eq!(y.len(), n * rows);
    let mut acc = vec![0.0; n * padded];
    stage.for_each_tile(|first_row, g, levels, scales| {
        let rows = levels.chunks(stage.layout.group(g).cols).zip(scales);
        for (r, (levels, &scale)) in rows.enumerate() {
            for v in 0..n {
                let acc = &mut acc[v * padded + first_row + r];
                *acc = step(v, g, levels, scale, *acc);
            }
        }
    });
    for v in 0..n {
        for r in 0..rows {
            let value = acc[v * padded + r] * stage.row_scale(r);
            let y = &mut y[v * rows + r];
            *y = if add { *y + value } else { value };
        }
    }
}

//! Codebooks fitted to a tensor: weighted k-means in one dimension (Lloyd 1982).
//!
//! Weights are taken in units of their row's and group's root mean square, as scales will take them, and count by what an
//! error of theirs costs: the Hessian's diagonal, the row's importance and the square of that unit. They are counted
//! in a histogram, so that the fit takes one pass over the tensor however many times its levels move.

use lagar_codec::{GROUP, StageLayout, TILE_ROWS, Table, Transform};
use lagar_kernels::Cpu;

use super::tables::Tables;
use crate::PressError;

/// Bins of a histogram, and the largest size that they tell apart, in root mean squares.
const BINS: usize = 4096;
const RANGE: f32 = 6.0;
/// Times that levels move to the mean of what is nearest to them.
const ROUNDS: usize = 60;
/// Strips that are counted at the same time: each has a histogram of its own for every depth.
const STRIPS: usize = 64;
/// Size of the largest level.
const LARGEST: f64 = 127.0;

/// What a fit needs to know of a linear.
pub(crate) struct Fit<'a> {
    pub(crate) transform: &'a Transform,
    pub(crate) layout: &'a StageLayout,
    /// The Hessian's diagonal, of transformed columns.
    pub(crate) diagonal: &'a [f32],
    /// As in a job; all alike if empty.
    pub(crate) row_importance: &'a [f32],
    /// Reads rows of the matrix.
    pub(crate) rows: &'a (dyn Fn(usize, &mut [f32]) + Sync),
}

/// A table for each depth of the layout, made for this matrix.
pub(crate) fn fit(cpu: &Cpu, fit: &Fit<'_>) -> Result<Tables, PressError> {
    let mut depths: Vec<u8> = fit.layout.depths().to_vec();
    depths.sort_unstable();
    depths.dedup();
    depths.retain(|depth| *depth > 0);
    let mut sums = vec![vec![0f64; BINS]; depths.len()];
    let strips: Vec<usize> = (0..fit.layout.tile_rows()).collect();
    for strips in strips.chunks(STRIPS) {
        let mut counted = vec![Vec::new(); strips.len()];
        cpu.pool().chunks(&mut counted, 1, |i, counted| {
            counted[0] = count(cpu, fit, &depths, strips[i]);
        });
        for counts in &counted {
            for (sums, counts) in sums.iter_mut().zip(counts) {
                sums.iter_mut().zip(counts).for_each(|(s, c)| *s += c);
            }
        }
    }
    if depths.is_empty() {
        return Ok(Tables::Fitted(vec![Table::trained(1, 1).clone()]));
    }
    let tables = depths.iter().zip(&sums);
    let tables = tables.map(|(&depth, histogram)| table(depth, histogram));
    Ok(Tables::Fitted(tables.collect::<Result<_, PressError>>()?))
}

/// Histograms of a strip, one for each depth.
fn count(cpu: &Cpu, fit: &Fit<'_>, depths: &[u8], strip: usize) -> Vec<Vec<f64>> {
    let width = fit.layout.padded_cols();
    let first = strip * TILE_ROWS;
    let height = (fit.layout.rows() - first).min(TILE_ROWS);
    let mut original = vec![0f32; height * fit.layout.cols()];
    (fit.rows)(first, &mut original);
    let mut weights = vec![0f32; height * width];
    cpu.transform(fit.transform, &original, height, &mut weights);
    let mut histograms = vec![vec![0f64; BINS]; depths.len()];
    for (r, row) in weights.chunks_exact(width).enumerate() {
        let importance = fit.row_importance.get(first + r).copied().unwrap_or(1.0);
        let groups = row.chunks(GROUP).zip(fit.diagonal.chunks(GROUP));
        for ((group, diagonal), depth) in groups.zip(fit.layout.depths()) {
            let Some(at) = depths.iter().position(|known| known == depth) else {
                continue;
            };
            let squares: f64 = group.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
            let square = squares / group.len() as f64;
            let unit = square.sqrt() as f32;
            if unit.is_normal() {
                for (&w, &d) in group.iter().zip(diagonal) {
                    histograms[at][bin(w / unit)] += f64::from(importance * d) * square;
                }
            }
        }
    }
    histograms
}

fn bin(value: f32) -> usize {
    let at = (value / RANGE + 1.0) * (BINS / 2) as f32;
    (at as usize).min(BINS - 1)
}

fn middle(bin: usize) -> f64 {
    ((bin as f64 + 0.5) / (BINS / 2) as f64 - 1.0) * f64::from(RANGE)
}

/// The table whose levels leave least of what was counted.
fn table(depth: u8, histogram: &[f64]) -> Result<Table, PressError> {
    let start = Table::trained(depth, depth);
    let mut levels: Vec<f64> = start
        .levels()
        .iter()
        .map(|&level| f64::from(level) / f64::from(start.sigma()))
        .collect();
    // Plain int8, at depth 8, is listed by its bits.
    levels.sort_unstable_by(f64::total_cmp);
    for _ in 0..ROUNDS {
        let mut sums = vec![(0f64, 0f64); levels.len()];
        let mut nearest = 0;
        for (bin, &count) in histogram.iter().enumerate() {
            let value = middle(bin);
            // Levels ascend, and so do the bins.
            while nearest + 1 < levels.len()
                && value > (levels[nearest] + levels[nearest + 1]) / 2.0
            {
                nearest += 1;
            }
            sums[nearest].0 += count;
            sums[nearest].1 += count * value;
        }
        for (level, (count, sum)) in levels.iter_mut().zip(sums) {
            if count > 0.0 {
                *level = sum / count;
            }
        }
    }
    let largest = levels
        .iter()
        .fold(0f64, |most, level| most.max(level.abs()));
    let sigma = LARGEST / largest;
    let levels = levels.iter().map(|level| (level * sigma).round() as i8);
    Ok(Table::from_levels(depth, depth, levels.collect())?.with_sigma(sigma as f32)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of normal numbers, the codebook of Lloyd and Max; of others, one that leaves less.
    #[test]
    fn levels_follow_what_is_counted() {
        let normal: Vec<f64> = (0..BINS)
            .map(|b| (-middle(b) * middle(b) / 2.0).exp())
            .collect();
        let uniform: Vec<f64> = (0..BINS)
            .map(|b| f64::from(u8::from(middle(b).abs() < 1.732)))
            .collect();
        let levels = |table: &Table| -> Vec<f64> {
            let levels = table.levels().iter();
            levels
                .map(|&l| f64::from(l) / f64::from(table.sigma()))
                .collect()
        };
        let of_normal = levels(&table(2, &normal).unwrap());
        for (found, known) in of_normal.iter().zip([-1.510, -0.4528, 0.4528, 1.510]) {
            assert!((found - known).abs() < 0.02, "{of_normal:?}");
        }
        let of_uniform = levels(&table(2, &uniform).unwrap());
        for (found, known) in of_uniform.iter().zip([-1.299, -0.433, 0.433, 1.299]) {
            assert!((found - known).abs() < 0.02, "{of_uniform:?}");
        }
    }

    #[test]
    fn tables_of_every_depth_ascend() {
        let normal: Vec<f64> = (0..BINS)
            .map(|b| (-middle(b) * middle(b) / 2.0).exp())
            .collect();
        for depth in 1..=8 {
            for histogram in [&normal, &vec![0.0; BINS]] {
                let table = table(depth, histogram).unwrap();
                assert!(table.levels().is_sorted(), "{depth}");
                assert_eq!(table.window(), depth);
            }
        }
    }
}

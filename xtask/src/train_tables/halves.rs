//! Training of tables whose levels follow from sums of an entry of A and one of B.

use super::sample::{Cells, Sample};
use crate::random::Random;

/// A table before its entries are rounded.
pub(crate) trait Fit {
    /// The entries, A's 16 and then B's.
    fn values(&mut self) -> &mut [f64; 32];

    fn levels(&self) -> [f32; 256];

    /// Fits the entries to the values that fell to each window.
    fn refit(&mut self, cells: &Cells);
}

/// Alternates encoding and refitting, with noise on the entries that falls to nothing over `noisy`
/// rounds, then for `quiet` rounds without.
pub(crate) fn anneal(
    table: &mut impl Fit,
    depth: u8,
    sample: &mut Sample,
    random: &mut Random,
    noise: f64,
    (noisy, quiet): (usize, usize),
) {
    for round in 0..noisy + quiet {
        if round < noisy {
            let noise = noise * (1.0 - round as f64 / noisy as f64);
            for value in table.values() {
                *value += noise * random.gaussian();
            }
        }
        sample.encode(depth, &table.levels(), 1.0);
        table.refit(&sample.cells());
    }
}

/// A rounded table.
pub(crate) trait Rounded: Copy {
    /// The largest magnitude that levels may have.
    const LIMIT: i16;

    fn level(&self, window: u8) -> i16;

    /// A and B.
    fn halves(&mut self) -> [&mut [i8; 16]; 2];

    /// What the table is made of besides: numbers to 127, in order.
    fn bends(&mut self) -> &mut [u8] {
        &mut []
    }

    /// The levels, unless the format does not allow them.
    fn levels(&self) -> Option<[f32; 256]> {
        let within = (0..=255).all(|w| self.level(w).abs() <= Self::LIMIT);
        within.then(|| std::array::from_fn(|w| f32::from(self.level(w as u8))))
    }

    /// The table with entries so much smaller that the format allows its levels.
    fn within_limit(mut self) -> Self {
        while let Some(w) = (0..=255).find(|&w| self.level(w).abs() > Self::LIMIT) {
            let [a, b] = self.halves();
            let (a, b) = (&mut a[usize::from(w & 15)], &mut b[usize::from(w >> 4)]);
            let larger = if a.abs() >= b.abs() { a } else { b };
            *larger -= larger.signum();
        }
        self
    }

    /// The table with one more or less in one of its numbers, if bends stay what they may be.
    fn changed(mut self, entry: usize, by: i8) -> Option<Self> {
        let [a, b] = self.halves();
        let half = match entry {
            0..16 => a.get_mut(entry),
            _ => b.get_mut(entry - 16),
        };
        match half {
            Some(value) => *value = value.wrapping_add(by),
            None => {
                let bends = self.bends();
                bends[entry - 32] = bends[entry - 32].checked_add_signed(by)?;
                if !bends.is_sorted() || bends.iter().any(|&bend| bend > 127) {
                    return None;
                }
            }
        }
        Some(self)
    }
}

/// Moves single entries by one as long as that lowers the error.
pub(crate) fn polish<T: Rounded>(table: &mut T, depth: u8, sigma: f32, sample: &mut Sample) {
    let mut measure = |table: &T| Some(sample.measure(depth, &table.levels()?, sigma).mse);
    let mut best = measure(table).expect("rounding keeps to what the format allows");
    for _ in 0..3 {
        let before = best;
        for entry in 0..32 + table.bends().len() {
            for by in [-1, 1] {
                let Some(trial) = table.changed(entry, by) else {
                    continue;
                };
                if let Some(mse) = measure(&trial).filter(|&mse| mse < best) {
                    (best, *table) = (mse, trial);
                }
            }
        }
        if best > before * (1.0 - 1e-4) {
            break;
        }
    }
}

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

//! Split tables: `level(w) = ±A[w & 15] ± B[w >> 4]`, for depths 1 to 4.

use lagar_codec::Split;

use super::halves::fit;
use super::sample::{Cells, Sample};
use crate::random::Random;

/// A split table before its levels are rounded.
#[derive(Clone, Debug)]
pub(crate) struct Halves {
    /// A, then B.
    pub(crate) values: [f64; 32],
    pub(crate) a_sign_bit: u8,
    pub(crate) b_sign_bit: u8,
}

impl Halves {
    pub(crate) fn random(random: &mut Random, start: usize) -> Self {
        let mut values = [0.0; 32];
        for value in &mut values {
            *value = random.gaussian() * std::f64::consts::FRAC_1_SQRT_2;
        }
        Self {
            values,
            a_sign_bit: 4 + (start % 4) as u8,
            b_sign_bit: (start / 4 % 4) as u8,
        }
    }

    /// The signed entries that make up the level of `window`: (entry, sign) of A and of B.
    fn terms(&self, window: usize) -> [(usize, f64); 2] {
        let sign = |bit: u8| if window >> bit & 1 == 1 { -1.0 } else { 1.0 };
        [
            (window & 15, sign(self.a_sign_bit)),
            (16 + (window >> 4), sign(self.b_sign_bit)),
        ]
    }

    pub(crate) fn levels(&self) -> [f32; 256] {
        std::array::from_fn(|w| {
            let [(a, a_sign), (b, b_sign)] = self.terms(w);
            (a_sign * self.values[a] + b_sign * self.values[b]) as f32
        })
    }

    /// Least squares for the values in each window.
    pub(crate) fn refit(&mut self, cells: &Cells) {
        let mut values = self.values;
        let targets = |w: usize| (cells.count[w], cells.sum[w]);
        fit(&mut values, |w| self.terms(w), targets);
        self.values = values;
    }

    /// The levels at `sigma` units per standard deviation, rounded, none beyond ±63.
    pub(crate) fn round(&self, sigma: f64) -> Split {
        let entry = |i: usize| (self.values[i] * sigma).round().clamp(-63.0, 63.0) as i8;
        let mut split = Split {
            a: std::array::from_fn(entry),
            b: std::array::from_fn(|i| entry(16 + i)),
            a_sign_bit: self.a_sign_bit,
            b_sign_bit: self.b_sign_bit,
        };
        while let Some(w) = (0..=255u8).find(|&w| split.level(w).abs() > 63) {
            let (a, b) = (
                &mut split.a[usize::from(w & 15)],
                &mut split.b[usize::from(w >> 4)],
            );
            let larger = if a.abs() >= b.abs() { a } else { b };
            *larger -= larger.signum();
        }
        split
    }
}

/// The levels of a rounded table.
pub(crate) fn levels(split: &Split) -> [f32; 256] {
    std::array::from_fn(|w| f32::from(split.level(w as u8)))
}

/// Alternates encoding and refitting, with noise on the levels that falls to nothing over `noisy`
/// rounds, then for `quiet` rounds without.
pub(crate) fn anneal(
    halves: &mut Halves,
    depth: u8,
    sample: &mut Sample,
    random: &mut Random,
    noise: f64,
    (noisy, quiet): (usize, usize),
) {
    for round in 0..noisy + quiet {
        if round < noisy {
            let noise = noise * (1.0 - round as f64 / noisy as f64);
            for value in &mut halves.values {
                *value += noise * random.gaussian();
            }
        }
        sample.encode(depth, &halves.levels(), 1.0);
        halves.refit(&sample.cells());
    }
}

/// Moves single rounded entries by one as long as that lowers the error.
pub(crate) fn polish(split: &mut Split, depth: u8, sigma: f32, sample: &mut Sample) -> f64 {
    let mut best = sample.measure(depth, &levels(split), sigma).mse;
    for _ in 0..3 {
        let before = best;
        for entry in 0..32 {
            for change in [-1, 1] {
                let mut trial = *split;
                let value = if entry < 16 {
                    &mut trial.a[entry]
                } else {
                    &mut trial.b[entry - 16]
                };
                *value += change;
                if (0..=255).any(|w| trial.level(w).abs() > 63) {
                    continue;
                }
                let mse = sample.measure(depth, &levels(&trial), sigma).mse;
                if mse < best {
                    (best, *split) = (mse, trial);
                }
            }
        }
        if best > before * (1.0 - 1e-4) {
            break;
        }
    }
    best
}

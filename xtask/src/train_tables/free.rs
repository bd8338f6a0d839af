//! Trellis tables of 256 free levels, for depths 5 to 7.

use super::sample::Sample;
use crate::random::Random;

/// Alternates encoding and moving each level to the mean of its values, from an ordered start: the
/// window as a number, newest bits first, is the rank of its level. Noise on the levels falls to
/// nothing over `noisy` rounds; `quiet` rounds without it follow.
pub(crate) fn train(
    levels: &mut [f64],
    depth: u8,
    sample: &mut Sample,
    random: &mut Random,
    noise: f64,
    (noisy, quiet): (usize, usize),
) {
    for round in 0..noisy + quiet {
        if round < noisy {
            let noise = noise * (1.0 - round as f64 / noisy as f64);
            levels
                .iter_mut()
                .for_each(|level| *level += noise * random.gaussian());
        }
        sample.encode(depth, &as_f32(levels), 1.0);
        let cells = sample.cells();
        for (w, level) in levels.iter_mut().enumerate() {
            if cells.count[w] > 0.0 {
                *level = cells.sum[w] / cells.count[w];
            }
        }
    }
}

pub(crate) fn as_f32(levels: &[f64]) -> [f32; 256] {
    std::array::from_fn(|w| levels[w] as f32)
}

/// Moves single rounded levels by one, each once up and once down, where that lowers the error.
pub(crate) fn polish(levels: &mut [i8], depth: u8, sigma: f32, sample: &mut Sample) {
    let mut trial: [f32; 256] = std::array::from_fn(|w| f32::from(levels[w]));
    let mut best = sample.measure(depth, &trial, sigma).mse;
    for (w, level) in levels.iter_mut().enumerate() {
        for change in [-1, 1] {
            let Some(changed) = level.checked_add(change).filter(|&l| l > i8::MIN) else {
                continue;
            };
            trial[w] = f32::from(changed);
            let mse = sample.measure(depth, &trial, sigma).mse;
            if mse < best {
                (best, *level) = (mse, changed);
            }
            trial[w] = f32::from(*level);
        }
    }
}

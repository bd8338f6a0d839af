//! Trellis tables of bent sums, for depths 5 to 7: [`lagar_codec::Bent`].

use lagar_codec::Bent;

use super::halves::{Fit, Rounded, fit};
use super::sample::Cells;
use crate::random::Random;

/// The first bend in standard deviations, and how far the second is from it.
const FIRST_BEND: [f64; 2] = [1.1, 1.9];
const SECOND_BEND: [f64; 2] = [0.6, 1.2];

/// The largest level that a start has, in standard deviations.
const LARGEST: f64 = 3.3;

/// Noise on the entries at the start of annealing, in units of `2^−depth`.
pub(crate) const NOISE: f64 = 0.35;

/// A bent table before its entries are rounded.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    /// A, then B.
    values: [f64; 32],
    bends: [f64; 2],
}

impl Sums {
    /// A start in order, with random bends. The bits of a window that come before the weight's own shift its levels by
    /// fractions of a step, in any order, and the bits that the next weight's window keeps count single steps, in any
    /// order: so neighbouring levels of one window lead to different levels of the next. Bits between are the coarse
    /// position.
    pub(crate) fn ordered(depth: u8, random: &mut Random) -> Self {
        let kept = 8 - u32::from(depth);
        let values = 1 << kept;
        let (fraction, step) = (shuffled(values, random), shuffled(values, random));
        let first = random.between(FIRST_BEND);
        let bends = [first, first + random.between(SECOND_BEND)];
        let span = straight(LARGEST, bends).0;
        let rank = |w: usize| {
            let coarse = (w & (255 >> kept)) >> kept;
            (coarse * values + step[w >> depth]) * values + fraction[w % values]
        };
        let at = |w: usize| (rank(w) as f64 + 0.5 - 128.0) / 128.0 * span;
        Self {
            values: std::array::from_fn(|i| match i {
                0..16 => at(i),
                _ => at((i - 16) << 4) - at(0),
            }),
            bends,
        }
    }

    /// Rounded at `sigma` units per standard deviation, and within ±127.
    pub(crate) fn round(&self, sigma: f64) -> Bent {
        let entry = |i: usize| (sigma * self.values[i]).round() as i8;
        Bent {
            a: std::array::from_fn(entry),
            b: std::array::from_fn(|i| entry(16 + i)),
            bends: self
                .bends
                .map(|bend| (sigma * bend).round().min(127.0) as u8),
        }
        .within_limit()
    }
}

impl Fit for Sums {
    fn values(&mut self) -> &mut [f64; 32] {
        &mut self.values
    }

    fn levels(&self) -> [f32; 256] {
        std::array::from_fn(|w| {
            let sum = self.values[w & 15] + self.values[16 + (w >> 4)];
            let bent = self
                .bends
                .iter()
                .fold(sum.abs(), |m, bend| m + (m - bend).max(0.0));
            (bent * sum.signum()) as f32
        })
    }

    /// Least squares for the values in each window, to first order: where a sum's step counts `s` times, its error counts
    /// `s²` times.
    fn refit(&mut self, cells: &Cells) {
        let bends = self.bends;
        fit(
            &mut self.values,
            |w| [(w & 15, 1.0), (16 + (w >> 4), 1.0)],
            |w| match cells.count[w] {
                0.0 => (0.0, 0.0),
                count => {
                    let (sum, slope) = straight(cells.sum[w] / count, bends);
                    let weight = count * slope * slope;
                    (weight, weight * sum)
                }
            },
        );
    }
}

/// The sum that becomes `level`, and how many times its step counts there.
fn straight(level: f64, bends: [f64; 2]) -> (f64, f64) {
    let mut slope = 1.0;
    let magnitude = bends
        .iter()
        .rev()
        .fold(level.abs(), |m, &bend| match m > bend {
            true => {
                slope *= 2.0;
                (m + bend) / 2.0
            }
            false => m,
        });
    (magnitude * level.signum(), slope)
}

/// The numbers below `n` in a random order.
fn shuffled(n: usize, random: &mut Random) -> Vec<usize> {
    let mut keyed: Vec<(f64, usize)> = (0..n).map(|i| (random.gaussian(), i)).collect();
    keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    keyed.into_iter().map(|(_, i)| i).collect()
}

impl Rounded for Bent {
    const LIMIT: i16 = 127;

    fn level(&self, window: u8) -> i16 {
        Self::level(self, window)
    }

    fn halves(&mut self) -> [&mut [i8; 16]; 2] {
        [&mut self.a, &mut self.b]
    }

    fn bends(&mut self) -> &mut [u8] {
        &mut self.bends
    }
}

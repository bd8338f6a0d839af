//! Split tables: `level(w) = ±A[w & 15] ± B[w >> 4]`, for depths 1 to 4.

use lagar_codec::Split;

use super::halves::{Fit, Rounded, fit};
use super::sample::Cells;
use crate::random::Random;

/// A split table before its levels are rounded.
#[derive(Clone, Debug)]
pub(crate) struct Halves {
    /// A, then B.
    values: [f64; 32],
    a_sign_bit: u8,
    b_sign_bit: u8,
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

    /// The levels at `sigma` units per standard deviation, rounded, none beyond ±63.
    pub(crate) fn round(&self, sigma: f64) -> Split {
        let entry = |i: usize| (self.values[i] * sigma).round().clamp(-63.0, 63.0) as i8;
        Split {
            a: std::array::from_fn(entry),
            b: std::array::from_fn(|i| entry(16 + i)),
            a_sign_bit: self.a_sign_bit,
            b_sign_bit: self.b_sign_bit,
        }
        .within_limit()
    }
}

impl Fit for Halves {
    fn values(&mut self) -> &mut [f64; 32] {
        &mut self.values
    }

    fn levels(&self) -> [f32; 256] {
        std::array::from_fn(|w| {
            let [(a, a_sign), (b, b_sign)] = self.terms(w);
            (a_sign * self.values[a] + b_sign * self.values[b]) as f32
        })
    }

    /// Least squares for the values in each window.
    fn refit(&mut self, cells: &Cells) {
        let mut values = self.values;
        let targets = |w: usize| (cells.count[w], cells.sum[w]);
        fit(&mut values, |w| self.terms(w), targets);
        self.values = values;
    }
}

impl Rounded for Split {
    const LIMIT: i16 = 63;

    fn level(&self, window: u8) -> i16 {
        Self::level(self, window)
    }

    fn halves(&mut self) -> [&mut [i8; 16]; 2] {
        [&mut self.a, &mut self.b]
    }
}

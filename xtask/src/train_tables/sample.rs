//! A sample of the source that tables are trained for, and its encoding.

use lagar_codec::Table;
use lagar_kernels::{Encoder, Isa};

use crate::random::{Random, ln};

/// Weights per call of the encoder.
const BLOCK: usize = 4096;

/// Gaussian values of variance 1 as one long stream.
pub(crate) struct Sample {
    values: Vec<f32>,
    scaled: Vec<f32>,
    windows: Vec<u8>,
    row_weights: Vec<f32>,
    encoder: Encoder,
}

/// What an encoding of a sample left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Error {
    /// Mean squared error, the source having variance 1.
    pub(crate) mse: f64,
    /// Kurtosis of the error; 3 for a Gaussian.
    pub(crate) kurtosis: f64,
}

impl Error {
    /// Bits per weight lost to the rate–distortion bound.
    pub(crate) fn bits_lost(&self, depth: u8) -> f64 {
        0.5 * ln(self.mse) / std::f64::consts::LN_2 + f64::from(depth)
    }
}

/// Values that fell to each window: how many, and their sum.
pub(crate) struct Cells {
    pub(crate) count: [f64; 256],
    pub(crate) sum: [f64; 256],
}

impl Sample {
    /// At least `n` values; any instruction set gives the same encoding.
    pub(crate) fn new(seed: u64, n: usize) -> Self {
        Self::from_values(Random::new(seed).gaussians(n.next_multiple_of(BLOCK)))
    }

    fn from_values(values: Vec<f32>) -> Self {
        Self {
            scaled: values.clone(),
            windows: vec![0; values.len()],
            values,
            row_weights: vec![1.0; BLOCK / 4],
            encoder: Encoder::new(Isa::best()),
        }
    }

    /// Encodes `sigma` times the values with `levels`.
    pub(crate) fn encode(&mut self, depth: u8, levels: &[f32; 256], sigma: f32) {
        self.scale(sigma);
        let mut window = 0;
        for (targets, windows) in self
            .scaled
            .chunks(BLOCK)
            .zip(self.windows.chunks_mut(BLOCK))
        {
            let weights = &self.row_weights;
            window = self
                .encoder
                .encode_levels(depth, levels, window, targets, weights, windows);
        }
    }

    fn scale(&mut self, sigma: f32) {
        for (scaled, value) in self.scaled.iter_mut().zip(&self.values) {
            *scaled = sigma * value;
        }
    }

    /// The scaled values by the window they were given.
    pub(crate) fn cells(&self) -> Cells {
        let (mut count, mut sum) = ([0.0; 256], [0.0; 256]);
        for (&window, &value) in self.windows.iter().zip(&self.scaled) {
            count[usize::from(window)] += 1.0;
            sum[usize::from(window)] += f64::from(value);
        }
        Cells { count, sum }
    }

    /// The error of the last encoding.
    pub(crate) fn error(&self, levels: &[f32; 256], sigma: f32) -> Error {
        let (mut second, mut fourth) = (0.0, 0.0);
        for (&window, &value) in self.windows.iter().zip(&self.scaled) {
            let error = f64::from(value - levels[usize::from(window)]);
            let square = error * error;
            second += square;
            fourth += square * square;
        }
        let n = self.values.len() as f64;
        Error {
            mse: second / n / (f64::from(sigma) * f64::from(sigma)),
            kurtosis: n * fourth / (second * second),
        }
    }

    /// Encodes and measures.
    pub(crate) fn measure(&mut self, depth: u8, levels: &[f32; 256], sigma: f32) -> Error {
        self.encode(depth, levels, sigma);
        self.error(levels, sigma)
    }

    /// Encodes with a finished table, trellis or not, and measures.
    pub(crate) fn measure_table(&mut self, table: &Table) -> Error {
        let mut levels = [0.0; 256];
        for (level, &from) in levels.iter_mut().zip(table.levels()) {
            *level = f32::from(from);
        }
        if table.depth() < table.window() {
            return self.measure(table.depth(), &levels, table.sigma());
        }
        self.scale(table.sigma());
        for (targets, windows) in self
            .scaled
            .chunks(BLOCK)
            .zip(self.windows.chunks_mut(BLOCK))
        {
            self.encoder
                .encode_block(table, 0, targets, &self.row_weights, windows);
        }
        self.error(&levels, table.sigma())
    }

    /// What the last encoding left, scaled to variance 1, as a source of its own.
    pub(crate) fn residual(&self, table: &Table) -> Self {
        let pairs = self.windows.iter().zip(&self.scaled);
        let residual = pairs.map(|(&w, &value)| value - f32::from(table.levels()[usize::from(w)]));
        let mut residual: Vec<f32> = residual.collect();
        let square: f64 = residual.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let scale = (residual.len() as f64 / square).sqrt() as f32;
        residual.iter_mut().for_each(|x| *x *= scale);
        Self::from_values(residual)
    }
}

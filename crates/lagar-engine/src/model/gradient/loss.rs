//! Losses of logits.

use lagar_kernels::Cpu;

use crate::sampling::Draws;

/// Turns logits into the gradient of a loss.
pub trait Loss {
    /// Replaces the logits that follow the tokens `first..first + n` of a window, n × vocabulary, by
    /// the gradient of the summed loss of these positions. Returns that sum, in nats.
    ///
    /// The positions of a window come in order, in pieces of any length.
    fn gradient(&mut self, cpu: &Cpu, first: usize, logits: &mut [f32], vocabulary: usize) -> f64;
}

/// Minus the log-probability of the text's next token. The last position has none, and no loss.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    tokens: &'a [u32],
}

impl<'a> CrossEntropy<'a> {
    /// The loss of a window of these tokens.
    pub fn new(tokens: &'a [u32]) -> Self {
        Self { tokens }
    }
}

impl Loss for CrossEntropy<'_> {
    fn gradient(&mut self, cpu: &Cpu, first: usize, logits: &mut [f32], vocabulary: usize) -> f64 {
        let n = logits.len() / vocabulary;
        let next = &self.tokens[(first + 1).min(self.tokens.len())..];
        let scored = n.min(next.len());
        let (logits, unscored) = logits.split_at_mut(scored * vocabulary);
        unscored.fill(0.0);
        let rows = logits.chunks_exact(vocabulary).zip(next);
        let chosen: Vec<f32> = rows.map(|(row, next)| row[*next as usize]).collect();
        let mut logs = vec![0.0; scored];
        cpu.softmax_with_logs(logits, vocabulary, &mut logs);
        for (row, next) in logits.chunks_exact_mut(vocabulary).zip(next) {
            row[*next as usize] -= 1.0;
        }
        let losses = logs.into_iter().zip(chosen);
        losses.map(|(log, logit)| log - f64::from(logit)).sum()
    }
}

/// Cross-entropy to labels drawn from the model's own distribution: the expected square of its
/// gradient is the Fisher information. (Kunstner et al. 2019 tell why the text's own labels do
/// not give that.)
///
/// Draws are numbered on from window to window, so that one seed gives each window its own.
#[derive(Clone, Copy, Debug)]
pub struct SampledCrossEntropy {
    draws: Draws,
    drawn: u64,
}

impl SampledCrossEntropy {
    /// The loss with the labels of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            draws: Draws::new(seed),
            drawn: 0,
        }
    }
}

impl Loss for SampledCrossEntropy {
    fn gradient(&mut self, cpu: &Cpu, _first: usize, logits: &mut [f32], vocabulary: usize) -> f64 {
        cpu.softmax_with_logs(
            logits,
            vocabulary,
            &mut vec![0.0; logits.len() / vocabulary],
        );
        let mut sum = 0.0;
        for row in logits.chunks_exact_mut(vocabulary) {
            let draw = self.draws.at(self.drawn).uniform(0);
            self.drawn += 1;
            let label = drawn(row, draw);
            sum -= f64::from(row[label]).ln();
            row[label] -= 1.0;
        }
        sum
    }
}

/// The token at a share of the probability mass.
fn drawn(probabilities: &[f32], share: f64) -> usize {
    let total: f64 = probabilities.iter().map(|p| f64::from(*p)).sum();
    let mut left = share * total;
    for (token, p) in probabilities.iter().enumerate() {
        left -= f64::from(*p);
        if left < 0.0 {
            return token;
        }
    }
    // The mass is spent but for rounding: the last token that has any.
    probabilities.iter().rposition(|p| *p > 0.0).unwrap_or(0)
}

/// The Kullback–Leibler divergence Σ p log(p/q) from reference logits (p) to the model's (q), at every
/// position.
#[derive(Clone, Copy, Debug)]
pub struct Kl<'a> {
    reference: &'a [f32],
}

impl<'a> Kl<'a> {
    /// The loss of a window whose reference logits these are, tokens × vocabulary.
    pub fn new(reference: &'a [f32]) -> Self {
        Self { reference }
    }
}

impl Loss for Kl<'_> {
    fn gradient(&mut self, cpu: &Cpu, first: usize, logits: &mut [f32], vocabulary: usize) -> f64 {
        let reference = &self.reference[first * vocabulary..][..logits.len()];
        cpu.kl_backward(reference, logits, vocabulary)
    }
}

//! How sharply the model's predictions react to each output of each linear.
//!
//! To second order, errors `E` of a weight matrix change the predictions by the divergence
//! `½ Σ E[(dy · E x)²]`, where `dy` is the gradient of the loss at the linear's outputs and labels are drawn
//! from the model itself (the Fisher information). Outputs and positions are taken as independent of each other, so that one
//! number for each row is enough: the mean of its `dy²` (as in GuidedQuant, arXiv 2505.07004, and others before it).

use std::collections::HashMap;

use lagar_engine::Model;
use lagar_engine::gradient::{GradientObserver, LinearGradient, SampledCrossEntropy};
use lagar_kernels::Cpu;

use crate::refine::{Window, Within};
use crate::{PressError, Progress};

/// Share of the look-ups that are spread over all tokens: a text says little about rare ones.
const UNSEEN: f64 = 0.1;

/// Mean squares of gradients, over the tokens of a text.
#[derive(Debug, Default)]
pub(crate) struct Fisher {
    /// Positions whose predictions count.
    scored: usize,
    /// For each weight, `Σ dy²` of each row.
    rows: HashMap<String, Vec<f64>>,
    /// For each token, `Σ dx²` over the places where it was looked up, a mean over the columns.
    look_ups: Vec<f64>,
}

impl Fisher {
    /// Of windows of text, in which the predictions of some positions count.
    pub(crate) fn new(
        cpu: &Cpu,
        model: &Model,
        windows: &[Window],
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Self, PressError> {
        let mut fisher = Self {
            look_ups: vec![0.0; model.spec().vocabulary],
            ..Self::default()
        };
        let mut loss = Within {
            loss: SampledCrossEntropy::new(seed),
            positions: 0..0,
        };
        for window in windows {
            if progress.cancelled() {
                return Err(PressError::Interrupted);
            }
            loss.positions = window.scored.clone();
            model.backward(cpu, &window.tokens, &mut loss, &mut fisher)?;
            fisher.scored += window.scored.len();
            progress.advance(window.tokens.len() as u64);
        }
        let all: f64 = fisher.look_ups.iter().sum();
        let share = all * UNSEEN / fisher.look_ups.len() as f64;
        let spread = |sum: &mut f64| *sum = *sum * (1.0 - UNSEEN) + share;
        fisher.look_ups.iter_mut().for_each(spread);
        Ok(fisher)
    }

    /// What an error of 1 in every output of a weight's row costs, in nats for each prediction.
    pub(crate) fn row(&self, weight: &str, row: usize) -> f64 {
        let rows = self.rows.get(weight);
        0.5 * rows.map_or(0.0, |rows| rows[row]) / self.scored as f64
    }

    /// What an error of 1 in each element of a token's embedding costs where it is looked up, in nats for each
    /// prediction.
    pub(crate) fn look_up(&self, token: usize) -> f64 {
        0.5 * self.look_ups[token] / self.scored as f64
    }
}

impl GradientObserver for Fisher {
    fn linear(&mut self, linear: &LinearGradient<'_>) {
        let outputs = linear.dy.len() / linear.n;
        let rows = match self.rows.get_mut(linear.weight) {
            Some(rows) => rows,
            None => self
                .rows
                .entry(linear.weight.to_owned())
                .or_insert(vec![0.0; outputs]),
        };
        for dy in linear.dy.chunks_exact(outputs) {
            for (sum, &dy) in rows.iter_mut().zip(dy) {
                *sum += f64::from(dy) * f64::from(dy);
            }
        }
    }

    fn embedding(&mut self, tokens: &[u32], rows: &[f32], drows: &[f32]) {
        let hidden = rows.len() / tokens.len();
        for (&token, dx) in tokens.iter().zip(drows.chunks_exact(hidden)) {
            let sum: f64 = dx.iter().map(|&d| f64::from(d) * f64::from(d)).sum();
            self.look_ups[token as usize] += sum / hidden as f64;
        }
    }
}

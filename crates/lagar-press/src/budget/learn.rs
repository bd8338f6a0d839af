//! Learning a budget: measuring what a pressed model of some depths loses, and where.
//!
//! A gradient of the real loss, through the pressed model, says what each group causes of it. The costs of the group at
//! all depths are scaled so that they agree, and the bytes divided anew: a step that minimises the loss, as it looks from
//! here, under the constraint of size.

use std::collections::BTreeMap;
use std::path::Path;

use lagar_engine::{Model, ModelOptions};
use lagar_kernels::Cpu;

use super::attribution::Attribution;
use crate::refine::{References, Sample};
use crate::{PressError, Progress};

/// Tokens that shares are measured on, at most.
const TOKENS: usize = 16_384;
/// A group's ratio is at most so many times as large or small as that of its weight.
const MOST: f64 = 4.0;
/// The least ratio of a weight: noise may make its share vanish.
const LEAST: f64 = 1e-3;

/// Divergence by column group.
#[derive(Debug)]
pub(crate) struct Shares {
    /// For each weight, nats a position of each group; noise may make some negative.
    groups: BTreeMap<String, Vec<f64>>,
}

impl Shares {
    /// Measured over what was predicted, for each group of a weight. A group's own figure is noisy: it counts as
    /// much as that of the whole weight.
    pub(super) fn ratios(&self, weight: &str, predicted: &[f64]) -> Vec<f64> {
        let Some(measured) = self.groups.get(weight) else {
            return vec![1.0; predicted.len()];
        };
        let all: f64 = predicted.iter().sum();
        if all <= 0.0 {
            return vec![1.0; predicted.len()];
        }
        let of_all = (measured.iter().sum::<f64>() / all).max(LEAST);
        let ratio = |(measured, predicted): (&f64, &f64)| {
            if *predicted <= 0.0 {
                return of_all;
            }
            let ratio = (measured / predicted + of_all) / 2.0;
            ratio.clamp(of_all / MOST, of_all * MOST)
        };
        measured.iter().zip(predicted).map(ratio).collect()
    }

    fn is_finite(&self) -> bool {
        self.groups
            .values()
            .flatten()
            .all(|share| share.is_finite())
    }
}

/// Measures pressed models against the original.
pub(crate) struct Learning<'a> {
    cpu: &'a Cpu,
    original: &'a Model,
    sample: &'a Sample,
    references: References<'a>,
    progress: &'a dyn Progress,
}

impl<'a> Learning<'a> {
    pub(crate) fn new(
        cpu: &'a Cpu,
        original: &'a Model,
        sample: &'a Sample,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            cpu,
            original,
            sample,
            references: References::new(cpu, original, sample),
            progress,
        }
    }

    /// The divergence of a tier of a file on what is held out, nats; infinite where it is no number.
    pub(crate) fn divergence(&mut self, file: &Path, tier: &str) -> Result<f64, PressError> {
        let model = Model::open(file, Some(tier), &ModelOptions::default())?;
        let divergence = self.references.held_out(&model)?;
        Ok(if divergence.is_finite() {
            divergence
        } else {
            f64::INFINITY
        })
    }

    /// The shares of all groups in the divergence of a tier of a file; none where they are no numbers.
    pub(crate) fn shares(&mut self, file: &Path, tier: &str) -> Result<Option<Shares>, PressError> {
        let open = || Model::open(file, Some(tier), &ModelOptions::default());
        // A pass back must not be watched by who computes with the same model.
        let (model, same) = (open()?, open()?);
        let mut attribution = Attribution::new(self.cpu, self.original, &same);
        let (mut tokens, mut scored) = (0, 0);
        self.progress.phase("Measuring shares", self.steps());
        for window in self.sample.learned() {
            if self.progress.cancelled() {
                return Err(PressError::Interrupted);
            }
            match self.references.back(&model, window, &mut attribution) {
                Err(PressError::Engine(error @ lagar_engine::EngineError::Gradient { .. })) => {
                    self.progress
                        .note(&format!("depths are not learned further: {error}"));
                    return Ok(None);
                }
                other => other?,
            }
            let window = self.sample.window(window);
            tokens += window.tokens.len();
            scored += window.scored.len();
            self.progress.advance(window.tokens.len() as u64);
            if tokens >= TOKENS {
                break;
            }
        }
        let mut groups = attribution.finish();
        let shares = groups.values_mut().flatten();
        shares.for_each(|share| *share /= scored as f64);
        let shares = Shares { groups };
        Ok(shares.is_finite().then_some(shares))
    }

    fn steps(&self) -> u64 {
        let windows = self.sample.learned();
        let tokens: usize = windows.map(|w| self.sample.window(w).tokens.len()).sum();
        tokens.min(TOKENS) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(measured: &[f64]) -> Shares {
        let groups = BTreeMap::from([("up".to_owned(), measured.to_vec())]);
        Shares { groups }
    }

    #[test]
    fn what_was_predicted_right_stays() {
        let predicted = [0.5, 0.25, 0.125];
        assert_eq!(shares(&predicted).ratios("up", &predicted), [1.0; 3]);
        assert_eq!(shares(&predicted).ratios("down", &predicted), [1.0; 3]);
    }

    #[test]
    fn noise_moves_a_group_only_so_far() {
        let ratios = shares(&[-4.0, 0.4, 9.0]).ratios("up", &[1.0, 1.0, 1.0]);
        let of_all = 5.4 / 3.0;
        assert_eq!(ratios[0], of_all / MOST);
        assert_eq!(ratios[1], (0.4 + of_all) / 2.0);
        assert_eq!(ratios[2], (9.0 + of_all) / 2.0);
        let ratios = shares(&[-1.0, -1.0]).ratios("up", &[1.0, 0.0]);
        assert_eq!(ratios, [LEAST / MOST, LEAST]);
        assert_eq!(shares(&[0.0; 2]).ratios("up", &[0.0; 2]), [1.0; 2]);
    }
}

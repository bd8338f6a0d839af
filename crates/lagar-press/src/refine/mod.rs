//! Refinement after rounding: row scales, norms and biases of each tier, fitted to the original's
//! outputs by gradient.
//!
//! Codes stay as they are. A tier's model has, for every row of its matrices, a factor on the row's
//! scale (one for the sum of the row's window stages; what sparse and low-rank stages hold stays), and its vectors. Steps of Adam lower the divergence
//! from the original on windows of calibration text; other windows, held out, tell whether that helped,
//! and the best values seen there are kept. Each tier's section has values of its own, as the format
//! allows, so that refining one tier does not touch another.

mod descent;
mod effort;
mod parameters;
mod reference;
mod sample;
mod store;

use std::path::Path;

use lagar_engine::{EngineError, Model, ModelOptions};
use lagar_format::{Container, Limits, os};
use lagar_kernels::Cpu;

pub use effort::MOST_EFFORT;
pub(crate) use reference::References;
pub(crate) use sample::{Sample, Window, Within, window_of};

use crate::evaluate::Windows;
use crate::partial::Partial;
use crate::{PressError, Progress};
use descent::Descent;
use effort::Plan;
use parameters::Parameters;
use store::Refined;

/// What refinement made of a tier.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Refinement {
    /// The tier's name.
    pub tier: String,
    /// Mean divergence from the original on held-out calibration text before, Σ p log(p/q), nats.
    pub kl_before: f64,
    /// And afterwards.
    pub kl_after: f64,
    /// Steps of gradient descent.
    pub steps: usize,
}

/// Tokens that refining a tier learns from, and those that are passed over to see whether that helped; nothing
/// where there is nothing to do.
pub(crate) fn tokens(effort: u8, seed: u64, windows: &Windows) -> Option<(usize, usize)> {
    let plan = Plan::new(effort, seed, windows)?;
    let sample = plan.sample();
    let held_out: usize = sample
        .held_out()
        .map(|window| sample.window(window).tokens.len())
        .sum();
    let checks = 1
        + (0..plan.steps())
            .filter(|&step| plan.is_checked(step))
            .count();
    Some((plan.tokens(), checks * held_out))
}

/// The refinement of a file's tiers.
pub(crate) struct Refine<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) original: &'a Model,
    pub(crate) effort: u8,
    pub(crate) seed: u64,
    /// Calibration text.
    pub(crate) windows: &'a Windows,
    pub(crate) partial: &'a Partial,
    pub(crate) progress: &'a dyn Progress,
}

impl Refine<'_> {
    /// Refines the tiers of `base`, which holds none but those that are to be refined, and writes the
    /// file anew in its place. Returns what came of each tier, and how many were taken over from an earlier
    /// press.
    pub(crate) fn run(&self, base: &Path) -> Result<(Vec<Refinement>, usize), PressError> {
        let Some(plan) = Plan::new(self.effort, self.seed, self.windows) else {
            return Ok((Vec::new(), 0));
        };
        let container = Container::open(base, &Limits::default())?;
        let tiers = &container.index().tiers;
        let steps = tiers.len() * plan.tokens();
        self.progress.phase("Refining", steps as u64);
        let mut references = References::new(self.cpu, self.original, plan.sample());
        let (mut all, mut reports, mut resumed) = (Vec::new(), Vec::new(), 0);
        for tier in tiers {
            let unit = format!("refined-{}", tier.name);
            let refined: Refined = match self.partial.read(&unit)? {
                Some(refined) => {
                    resumed += 1;
                    self.progress.advance(plan.tokens() as u64);
                    refined
                }
                None => {
                    let refined =
                        self.tier(base, &container, &tier.name, &plan, &mut references)?;
                    self.partial.write(&unit, &refined)?;
                    refined
                }
            };
            if let Some((kl_before, kl_after)) = refined.divergences {
                self.progress.note(&format!(
                    "tier {}, refined by {} steps: KL {kl_before:.4} before, {kl_after:.4} afterwards, on \
                     calibration text that was held out",
                    tier.name, refined.steps
                ));
                reports.push(Refinement {
                    tier: tier.name.clone(),
                    kl_before,
                    kl_after,
                    steps: refined.steps,
                });
            } else {
                self.progress.note(&format!(
                    "tier {} is not refined: what it loses is not finite",
                    tier.name
                ));
            }
            all.push(refined);
        }
        let fresh = self.partial.unit("refined").with_extension("tmp");
        store::rewrite(&container, &all)?.write(&fresh)?;
        drop(container);
        os::replace_atomically(&fresh, base)?;
        Ok((reports, resumed))
    }

    /// Refines one tier.
    fn tier(
        &self,
        base: &Path,
        container: &Container,
        name: &str,
        plan: &Plan,
        references: &mut References<'_>,
    ) -> Result<Refined, PressError> {
        let mut model = Model::open(base, Some(name), &ModelOptions::default())?;
        let mut parameters = Parameters::of(&model, container.index());
        let mut descent = Descent::new(&parameters, plan.steps());
        let before = references.held_out(&model)?;
        let (mut best, mut kept) = (before, parameters.clone());
        if !before.is_finite() {
            return Ok(Refined::new(&kept, None, 0));
        }
        for (step, batch) in plan.batches().enumerate() {
            if self.progress.cancelled() {
                return Err(PressError::Interrupted);
            }
            let mut gradient = parameters.gradient(self.cpu, &model);
            for &window in &batch {
                match references.back(&model, window, &mut gradient) {
                    // What was found so far is no worse than what there was.
                    Err(PressError::Engine(error @ EngineError::Gradient { .. })) => {
                        self.progress
                            .note(&format!("tier {name} is not refined further: {error}"));
                        return Ok(Refined::new(&kept, Some((before, best)), step));
                    }
                    other => other?,
                }
                let tokens = plan.sample().window(window).tokens.len();
                self.progress.advance(tokens as u64);
            }
            let gradient = gradient.finish();
            descent.step(&mut parameters, &gradient);
            parameters.apply(&mut model);
            if plan.is_checked(step) {
                let now = references.held_out(&model)?;
                if now < best {
                    best = now;
                    kept = parameters.clone();
                }
            }
        }
        Ok(Refined::new(&kept, Some((before, best)), plan.steps()))
    }
}

//! Pressing until the depths are as good as they get.
//!
//! Where every stage has a depth there is one round. Where depths are chosen, later rounds choose them anew by what was
//! measured of the file before: to lose less at the same size, or to come as close to a divergence as it
//! may be. Every round's units have names of their own, so that the best round can be taken up again, and so
//! that a press that is resumed knows them all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use crate::budget::{self, Budget, Learning};
use crate::encode::of_tokens;
use crate::measure::{self, Measurement};
use crate::partial::Partial;
use crate::press::read_back;
use crate::pressing::Pressing;
use crate::refine::{Refine, Refinement, Sample};
use crate::tensors::{self, PressedTensor};
use crate::{PressError, Request, assemble};

/// Files that are pressed at most to find one that has some divergence.
const TRIES: usize = 5;
/// A divergence of this share of what is wanted, and not more than all of it, is good enough.
const ENOUGH: f64 = 0.9;
/// The share that is aimed at.
const AIM: f64 = 0.95;
/// Factors by which a bit lowers the divergence: at first, and between which what was found is believed.
const FACTOR: f64 = 3.7;
const FACTORS: (f64, f64) = (2.0, 12.0);

/// What rounds compute with.
pub(crate) struct Rounds<'a> {
    pub(crate) request: &'a Request<'a>,
    /// Model, text, work in progress and all else.
    pub(crate) budgeting: &'a budget::Request<'a>,
    /// Rounds whose units are known to be there.
    pub(crate) made: RefCell<BTreeSet<usize>>,
    /// Units and tiers that an earlier press had finished.
    pub(crate) resumed: Cell<usize>,
}

/// The tiers below `full`, finished, in [`Partial::base`].
pub(crate) struct Made {
    pub(crate) file_bytes: u64,
    pub(crate) refinements: Vec<Refinement>,
    pub(crate) measurement: Option<Measurement>,
    pub(crate) tensors: Vec<PressedTensor>,
}

impl Rounds<'_> {
    /// Presses, as often as the settings say.
    pub(crate) fn run(&self) -> Result<Made, PressError> {
        let budget = Budget::new(self.budgeting)?;
        if let Some((stage, nats)) = self.request.options.divergence() {
            return self.to_divergence(budget, stage, nats);
        }
        let (budget, round) = self.learned(budget)?;
        self.finish(&budget, round)
    }

    /// The best budget of all rounds, and its round.
    fn learned(&self, first: Budget) -> Result<(Budget, usize), PressError> {
        let rounds = self.request.options.rounds();
        let sample = match self.budgeting.examples {
            None => Sample::of_text(self.budgeting.windows),
            Some(examples) => Sample::of_examples(examples, self.budgeting.model.spec().context),
        };
        let Some(sample) = sample.filter(|_| rounds > 0 && !first.is_fixed()) else {
            return Ok((first, 0));
        };
        let mut learning = Learning::new(
            self.budgeting.cpu,
            self.budgeting.model,
            &sample,
            self.budgeting.progress,
        );
        let tier = self.request.options.primary_tier();
        let mut best: Option<(f64, Budget, usize)> = None;
        let mut budget = first;
        for round in 0..=rounds {
            let (partial, following) = (
                self.budgeting.partial.in_round(round),
                self.budgeting.partial.in_round(round + 1),
            );
            let known: Option<f64> = partial.read(DIVERGENCE)?;
            let next = Budget::known(&following)?;
            let is_last = round == rounds;
            if known.is_none() || (next.is_none() && !is_last) {
                self.base(&budget, &partial)?;
            }
            let divergence = match known {
                Some(known) => known,
                None => learning.divergence(&self.budgeting.partial.base(), tier)?,
            };
            partial.write(DIVERGENCE, &divergence)?;
            self.budgeting.progress.note(&format!(
                "depths of round {round}: KL {divergence:.4} on text that was held out, before refinement"
            ));
            if best.as_ref().is_none_or(|(least, ..)| divergence < *least) {
                best = Some((divergence, budget.clone(), round));
            }
            if is_last {
                break;
            }
            budget = match next {
                Some(next) => next,
                None => {
                    let Some(shares) = learning.shares(&self.budgeting.partial.base(), tier)?
                    else {
                        break;
                    };
                    let next = budget.learned(self.budgeting, &shares)?;
                    next.keep(&following)?;
                    next
                }
            };
        }
        let (_, budget, round) = best.expect("a first round");
        Ok((budget, round))
    }

    /// Looks for the smallest file with some divergence.
    fn to_divergence(&self, first: Budget, stage: usize, nats: f64) -> Result<Made, PressError> {
        let mut found: Vec<(f64, f64)> = Vec::new();
        let mut best: Option<(f64, Budget, usize)> = None;
        let mut budget = first;
        for round in 0..TRIES {
            let made = self.finish(&budget, round)?;
            let bits = budget.bits.expect("a budget for a divergence has bits");
            let measured = made.measurement.as_ref().map(|m| m.kl_mean[stage].1);
            let Some(measured) = measured.filter(|kl| kl.is_finite()) else {
                return Err(PressError::Unmeasured { wanted: nats });
            };
            self.budgeting.progress.note(&format!(
                "{bits:.3} bits for each parameter: KL {measured:.5}, wanted {nats}"
            ));
            found.push((bits, measured));
            if measured <= nats {
                if measured >= ENOUGH * nats || round + 1 == TRIES {
                    return Ok(made);
                }
                if best.as_ref().is_none_or(|(least, ..)| bits < *least) {
                    best = Some((bits, budget.clone(), round));
                }
            }
            let next = self.budgeting.partial.in_round(round + 1);
            budget = match Budget::known(&next)? {
                Some(known) => known,
                None => match budget.with_bits(self.budgeting, nearer(&found, nats)) {
                    // As small or as large as can be.
                    Err(PressError::BelowFloor { .. }) => break,
                    other => other?,
                },
            };
            budget.keep(&next)?;
        }
        match best {
            Some((_, budget, round)) => self.finish(&budget, round),
            None => Err(PressError::Unreached {
                wanted: nats,
                reached: found.iter().map(|f| f.1).fold(f64::INFINITY, f64::min),
            }),
        }
    }

    /// Presses, refines and measures, or takes over what there is of this round.
    fn finish(&self, budget: &Budget, round: usize) -> Result<Made, PressError> {
        let partial = self.budgeting.partial.in_round(round);
        let again = self.made.borrow().contains(&round);
        let (mut file_bytes, tensors) = self.base(budget, &partial)?;
        let base = self.budgeting.partial.base();
        let refine = Refine {
            cpu: self.budgeting.cpu,
            original: self.budgeting.model,
            effort: self.request.options.effort,
            seed: self.request.options.seed,
            windows: self.budgeting.windows,
            partial: &partial,
            progress: self.budgeting.progress,
        };
        let (refinements, taken_over) = refine.run(&base)?;
        if !again {
            self.resumed.update(|resumed| resumed + taken_over);
        }
        if !refinements.is_empty() {
            file_bytes = read_back(&base, self.budgeting.model)?;
        }
        let measured = measure::tiers(
            self.budgeting.cpu,
            self.request,
            self.budgeting.model,
            &base,
            self.budgeting.progress,
        );
        let measurement = match measured {
            // The file is what was asked for all the same.
            Err(error @ PressError::Logits { .. }) => {
                self.budgeting
                    .progress
                    .note(&format!("the tiers cannot be measured: {error}"));
                None
            }
            measured => Some(measured?),
        };
        Ok(Made {
            file_bytes,
            refinements,
            measurement,
            tensors,
        })
    }

    /// Codes everything, assembles the tiers below `full` and reads them back. Gives their length and what
    /// became of the tensors.
    fn base(
        &self,
        budget: &Budget,
        partial: &Partial,
    ) -> Result<(u64, Vec<PressedTensor>), PressError> {
        let spec = self.budgeting.model.spec();
        let tokens = self.budgeting.windows.iter().flatten();
        let mut pressing = Pressing {
            cpu: self.budgeting.cpu,
            model: self.budgeting.model,
            checkpoint: self.budgeting.checkpoint,
            options: &self.request.options,
            depths: &budget.depths,
            partial,
            progress: self.budgeting.progress,
            token_importance: of_tokens(spec.vocabulary, tokens),
            resumed: 0,
        };
        let units = pressing.units(self.budgeting.windows)?;
        self.budgeting.progress.phase("Writing and reading back", 2);
        let base = self.budgeting.partial.base();
        let (options, sources) = (&self.request.options, self.budgeting.sources.to_vec());
        assemble::base(
            self.budgeting.checkpoint,
            spec,
            options,
            self.budgeting.key,
            sources,
            &units,
        )?
        .write(&base)?;
        self.budgeting.progress.advance(1);
        let file_bytes = read_back(&base, self.budgeting.model)?;
        self.budgeting.progress.advance(1);
        if self.made.borrow_mut().insert(partial.round()) {
            self.resumed.update(|resumed| resumed + pressing.resumed);
        }
        let tensors = tensors::pressed(spec, &units, &budget.depths);
        Ok((file_bytes, tensors))
    }
}

/// The record of a round's divergence.
const DIVERGENCE: &str = "divergence";

/// Bits that should lead to [`AIM`] times `nats`. The logarithm of the divergence falls about linearly with the bits: with the
/// slope between the two nearest of those that were found.
fn nearer(found: &[(f64, f64)], nats: f64) -> f64 {
    let aim = AIM * nats;
    let distance = |f: &&(f64, f64)| (f.1 / aim).ln().abs();
    let mut nearest: Vec<&(f64, f64)> = found.iter().collect();
    nearest.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    let &&(bits, divergence) = nearest.first().expect("a first try");
    let slope = match nearest.get(1) {
        Some(other) if (other.0 - bits).abs() > 1e-6 => {
            let slope = (divergence / other.1).ln() / (other.0 - bits);
            slope.clamp(FACTORS.0.ln(), FACTORS.1.ln())
        }
        _ => FACTOR.ln(),
    };
    bits + (divergence / aim).ln() / slope
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the divergence falls by some factor a bit, the second guess is right.
    #[test]
    fn the_slope_is_learned() {
        for factor in [2.5f64, 4.0, 6.0] {
            let divergence = |bits: f64| 2.0 * factor.powf(-bits);
            for nats in [0.5, 0.01, 0.0003] {
                let mut found = vec![(3.0, divergence(3.0))];
                let second = nearer(&found, nats);
                found.push((second, divergence(second)));
                let third = nearer(&found, nats);
                let ratio = divergence(third) / nats;
                assert!((ratio - AIM).abs() < 1e-6, "{factor} {nats}: {ratio}");
            }
        }
    }
}

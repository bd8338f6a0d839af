//! What the tiers of a pressed file lose, measured at the end of a press.

use std::path::Path;

use lagar_engine::{Model, ModelOptions};
use lagar_kernels::Cpu;

use crate::evaluate::{Windows, evaluate_windows};
use crate::{EvaluationOptions, PressError, Progress, Request};

/// Tokens that the tiers are measured on, at most: enough for two digits, and little next to pressing.
pub(crate) const TOKENS: usize = 4096;
/// Tokens of other text that must be there for it to be preferred over the calibration text.
const ENOUGH: usize = 256;
/// Positions of a window: short, so that many passages are seen.
const CONTEXT: usize = 512;

/// Losses of the tiers below `full`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Measurement {
    /// Name of each tier and its mean divergence from the original, Σ p log(p/q), nats.
    pub kl_mean: Vec<(String, f64)>,
    /// Name of each tier and its perplexity.
    pub perplexity: Vec<(String, f64)>,
    /// The original's perplexity.
    pub original_perplexity: f64,
    /// Scored positions.
    pub tokens: usize,
    /// The text.
    pub text: MeasuredText,
}

/// Which text a press measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeasuredText {
    /// What follows the calibration tokens in their text.
    Rest,
    /// [`Request::held_out`].
    HeldOut,
    /// The calibration text itself: losses on other text are larger.
    Calibration,
}

/// Measures every tier of `file` against `original`.
pub(crate) fn tiers(
    cpu: &Cpu,
    request: &Request<'_>,
    original: &Model,
    file: &Path,
    progress: &dyn Progress,
) -> Result<Measurement, PressError> {
    let (tokens, text) = choose(request, original)?;
    let context = CONTEXT
        .min(EvaluationOptions::DEFAULT_CONTEXT)
        .min(original.spec().context);
    let windows = Windows::new(tokens, original.tokenizer().added_bos(), context);
    let names = request.options.stage_tiers();
    let models = names
        .iter()
        .map(|name| Model::open(file, Some(name), &ModelOptions::default()))
        .collect::<Result<Vec<_>, _>>()?;
    let models: Vec<&Model> = models.iter().collect();
    let measured = evaluate_windows(cpu, &models, Some(original), &windows, progress)?;
    let evaluations = measured.models;
    let tiers = || {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(&evaluations)
    };
    let kl_mean = |e: &crate::Evaluation| e.reference.as_ref().map_or(0.0, |r| r.kl_mean);
    Ok(Measurement {
        tokens: evaluations.first().map_or(0, |e| e.tokens),
        kl_mean: tiers().map(|(name, e)| (name, kl_mean(e))).collect(),
        perplexity: tiers().map(|(name, e)| (name, e.perplexity())).collect(),
        original_perplexity: measured.reference.map_or(f64::NAN, |e| e.perplexity()),
        text,
    })
}

/// Tokens to measure on, and where they come from: best such as the press has not read.
fn choose(request: &Request<'_>, model: &Model) -> Result<(Vec<u32>, MeasuredText), PressError> {
    let mut tokens = model.tokenizer().encode_plain(request.text)?;
    let read = request.options.tokens.min(tokens.len());
    let mut choice = MeasuredText::Calibration;
    if tokens.len() - read >= ENOUGH {
        tokens.drain(..read);
        choice = MeasuredText::Rest;
    } else if let Some(text) = request.held_out {
        let other = model.tokenizer().encode_plain(text)?;
        if other.len() >= ENOUGH {
            tokens = other;
            choice = MeasuredText::HeldOut;
        }
    }
    tokens.truncate(TOKENS);
    Ok((tokens, choice))
}

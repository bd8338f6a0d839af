//! How good a model is: loss on a text, divergence from the original, answers to the questions of a task.

mod losses;
mod runner;
mod task;
mod windows;

use lagar_engine::Model;
use lagar_kernels::Cpu;

pub use task::{Answer, Example, Question, Task, TaskResult, score};
pub use windows::Windows;

use crate::{PressError, Progress, calibration};
use losses::{Loss, divergence, loss};
use runner::{CHUNK, Runner, in_parallel};

/// What to measure on.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EvaluationOptions {
    /// Positions of a window; by default the model's context, at most 2048.
    pub context: Option<usize>,
    /// Tokens of the text that are used; by default all.
    pub tokens: Option<usize>,
}

impl EvaluationOptions {
    /// The longest window where none is asked for.
    pub const DEFAULT_CONTEXT: usize = 2048;

    /// The options with a context and a number of tokens.
    pub fn new(context: Option<usize>, tokens: Option<usize>) -> Self {
        Self { context, tokens }
    }
}

/// Losses in nats, means over the scored positions.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Scored positions.
    pub tokens: usize,
    /// Mean of −log q(token).
    pub nll_per_token: f64,
    /// Share of positions whose most likely token is the text's.
    pub token_accuracy: f64,
    /// The same for positions in ranges of powers of two.
    pub by_position: Vec<PositionRange>,
    /// What a reference model adds.
    pub reference: Option<Comparison>,
}

impl Evaluation {
    /// exp of the mean loss.
    pub fn perplexity(&self) -> f64 {
        self.nll_per_token.exp()
    }
}

/// A model against its original, p.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// Mean of Σ p log(p/q).
    pub kl_mean: f64,
    /// The 99.9th percentile of Σ p log(p/q) over positions.
    pub kl_p999: f64,
    /// Share of positions at which both find the same token most likely.
    pub top1_agreement: f64,
    /// The original's mean loss.
    pub nll_per_token: f64,
    /// The original's share of positions whose most likely token is the text's.
    pub token_accuracy: f64,
}

/// Scored positions `from..to` of their windows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PositionRange {
    /// First position; the first token of a window has position 0 and is not scored.
    pub from: usize,
    /// Past the last position.
    pub to: usize,
    /// Scored positions.
    pub tokens: usize,
    /// Mean of −log q(token).
    pub nll_per_token: f64,
    /// Mean divergence, with a reference.
    pub kl_mean: Option<f64>,
}

/// One scored position.
#[derive(Debug, Clone, Copy)]
struct Position {
    place: usize,
    nll: f64,
    hit: bool,
    kl: f64,
    agrees: bool,
}

/// What several models lose on one text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluations {
    /// In the order in which the models were given.
    pub models: Vec<Evaluation>,
    /// The reference beside itself: its divergence is 0.
    pub reference: Option<Evaluation>,
}

/// Measures a model on a text; with `reference`, also against that model.
///
/// The text is tokenized once and cut into windows as [`Windows`] says; every token but the first
/// of a window is scored.
///
/// # Errors
///
/// If the text has fewer than two tokens, or the two models differ in vocabulary.
pub fn evaluate(
    cpu: &Cpu,
    model: &Model,
    reference: Option<&Model>,
    text: &str,
    options: &EvaluationOptions,
    progress: &dyn Progress,
) -> Result<Evaluation, PressError> {
    let mut measured = evaluate_all(cpu, &[model], reference, text, options, progress)?;
    Ok(measured.models.remove(0))
}

/// Measures several models of one vocabulary on the same windows of a text, as [`evaluate()`] does;
/// the reference runs once for all of them.
///
/// The text is tokenized by the first model's tokenizer, and windows are no longer than the shortest
/// context among all models.
///
/// # Errors
///
/// As [`evaluate()`].
///
/// # Panics
///
/// If there are no models.
pub fn evaluate_all(
    cpu: &Cpu,
    models: &[&Model],
    reference: Option<&Model>,
    text: &str,
    options: &EvaluationOptions,
    progress: &dyn Progress,
) -> Result<Evaluations, PressError> {
    let contexts = models.iter().copied().chain(reference);
    let longest = contexts.map(|model| model.spec().context).min();
    let context = options
        .context
        .unwrap_or(EvaluationOptions::DEFAULT_CONTEXT)
        .min(longest.unwrap_or(usize::MAX));
    let tokenizer = models[0].tokenizer();
    let windows = calibration::tokenize(tokenizer, text, options.tokens, context, "measuring")?;
    evaluate_windows(cpu, models, reference, &windows, progress)
}

/// [`evaluate_all()`] for a text that is cut already.
pub(crate) fn evaluate_windows(
    cpu: &Cpu,
    models: &[&Model],
    reference: Option<&Model>,
    windows: &Windows,
    progress: &dyn Progress,
) -> Result<Evaluations, PressError> {
    let vocabulary = |model: &Model| model.spec().vocabulary;
    let first = reference.unwrap_or(models[0]);
    for model in models {
        if vocabulary(model) != vocabulary(first) {
            return Err(PressError::Vocabulary {
                reference: vocabulary(first),
                model: vocabulary(model),
            });
        }
    }
    let side = |model, name| -> Result<Side<'_>, PressError> {
        Ok(Side {
            name,
            runner: Runner::new(model, windows.longest())?,
            positions: Vec::new(),
        })
    };
    let mut run = Run {
        cpu,
        models: models
            .iter()
            .map(|model| side(model, "the model"))
            .collect::<Result<_, _>>()?,
        reference: reference.map(|r| side(r, "the reference")).transpose()?,
    };
    progress.phase("Measuring", windows.text_tokens() as u64);
    for window in windows.iter() {
        if progress.cancelled() {
            return Err(PressError::Interrupted);
        }
        run.window(&window)?;
        progress.advance(window.len() as u64);
    }
    let reference = run.reference.as_ref().map(|r| &r.positions[..]);
    let models = run.models.iter();
    Ok(Evaluations {
        models: models.map(|m| summarise(&m.positions, reference)).collect(),
        reference: reference.map(|own| summarise(own, reference)),
    })
}

/// A model and what was measured of it.
struct Side<'a> {
    name: &'static str,
    runner: Runner<'a>,
    positions: Vec<Position>,
}

impl Side<'_> {
    /// Computes the logits of `n` positions from `first`; refuses such as nothing can be measured with.
    fn logits(&mut self, cpu: &Cpu, first: usize, n: usize) -> Result<(), PressError> {
        self.runner.logits(cpu, first, n)?;
        match self.runner.unusable() {
            None => Ok(()),
            Some((value, row)) => Err(PressError::Logits {
                model: self.name,
                value,
                position: first + row + 1,
            }),
        }
    }
}

struct Run<'a> {
    cpu: &'a Cpu,
    models: Vec<Side<'a>>,
    reference: Option<Side<'a>>,
}

impl Run<'_> {
    fn window(&mut self, tokens: &[u32]) -> Result<(), PressError> {
        for side in self.models.iter_mut().chain(&mut self.reference) {
            side.runner.forward(self.cpu, 0, tokens)?;
        }
        let scored = tokens.len() - 1;
        for first in (0..scored).step_by(CHUNK) {
            let n = CHUNK.min(scored - first);
            for side in self.models.iter_mut().chain(&mut self.reference) {
                side.logits(self.cpu, first, n)?;
            }
            self.score(first, &tokens[first + 1..][..n]);
        }
        Ok(())
    }

    /// Scores `targets`, which all models predicted from positions `first..`.
    fn score(&mut self, first: usize, targets: &[u32]) {
        let position = |i: usize, own: Loss| Position {
            place: first + i + 1,
            nll: own.nll,
            hit: own.best == targets[i],
            kl: 0.0,
            agrees: true,
        };
        let mut original = None;
        if let Some(reference) = &mut self.reference {
            let losses = reference.runner.losses(self.cpu, targets);
            let positions = losses.iter().enumerate().map(|(i, own)| position(i, *own));
            reference.positions.extend(positions);
            original = Some((&reference.runner, losses));
        }
        for model in &mut self.models {
            let positions = in_parallel(self.cpu, targets.len(), |i| {
                let q = model.runner.row(i);
                let own = loss(q, targets[i]);
                let mut position = position(i, own);
                if let Some((reference, losses)) = &original {
                    position.kl = divergence(reference.row(i), q);
                    position.agrees = losses[i].best == own.best;
                }
                position
            });
            model.positions.extend(positions);
        }
    }
}

fn mean(positions: &[Position], value: impl Fn(&Position) -> f64) -> f64 {
    positions.iter().map(value).sum::<f64>() / positions.len().max(1) as f64
}

fn share(positions: &[Position], holds: impl Fn(&Position) -> bool) -> f64 {
    mean(positions, |p| f64::from(u8::from(holds(p))))
}

fn summarise(positions: &[Position], reference: Option<&[Position]>) -> Evaluation {
    let compared = reference.is_some();
    let reference = reference.map(|original| {
        let mut divergences: Vec<f64> = positions.iter().map(|p| p.kl).collect();
        divergences.sort_by(f64::total_cmp);
        let at = (divergences.len() as f64 * 0.999) as usize;
        Comparison {
            kl_mean: mean(positions, |p| p.kl),
            kl_p999: divergences[at.min(divergences.len() - 1)],
            top1_agreement: share(positions, |p| p.agrees),
            nll_per_token: mean(original, |p| p.nll),
            token_accuracy: share(original, |p| p.hit),
        }
    });
    let last = positions.iter().map(|p| p.place).max().unwrap_or(0);
    let by_position = (0..)
        .map(|power| (1usize << power, 2usize << power))
        .take_while(|(from, _)| *from <= last)
        .map(|(from, to)| {
            let inside: Vec<Position> = positions
                .iter()
                .filter(|p| (from..to).contains(&p.place))
                .copied()
                .collect();
            PositionRange {
                from,
                to,
                tokens: inside.len(),
                nll_per_token: mean(&inside, |p| p.nll),
                kl_mean: compared.then(|| mean(&inside, |p| p.kl)),
            }
        })
        .collect();
    Evaluation {
        tokens: positions.len(),
        nll_per_token: mean(positions, |p| p.nll),
        token_accuracy: share(positions, |p| p.hit),
        by_position,
        reference,
    }
}

//! How good a model is: loss on a text, and divergence from the original.

mod losses;
mod windows;

use std::sync::Mutex;

use lagar_engine::{Model, NoObserver, Session};
use lagar_kernels::Cpu;

pub use windows::Windows;

use crate::{PressError, Progress, calibration};
use losses::{divergence, loss};

/// Positions whose logits are held at once.
const CHUNK: usize = 64;

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
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    place: usize,
    nll: f64,
    hit: bool,
    kl: f64,
    agrees: bool,
    reference_nll: f64,
    reference_hit: bool,
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
    let longest = reference
        .map_or(usize::MAX, |r| r.spec().context)
        .min(model.spec().context);
    let context = options
        .context
        .unwrap_or(EvaluationOptions::DEFAULT_CONTEXT)
        .min(longest);
    let tokens = options.tokens;
    let windows = calibration::tokenize(model.tokenizer(), text, tokens, context, "measuring")?;
    let mut measured = evaluate_windows(cpu, &[model], reference, &windows, progress)?;
    Ok(measured.remove(0))
}

/// [`evaluate()`] for several models and a text that is cut already; the reference runs once.
pub(crate) fn evaluate_windows(
    cpu: &Cpu,
    models: &[&Model],
    reference: Option<&Model>,
    windows: &Windows,
    progress: &dyn Progress,
) -> Result<Vec<Evaluation>, PressError> {
    for model in models {
        let vocabulary = model.spec().vocabulary;
        if let Some(r) = reference.filter(|r| r.spec().vocabulary != vocabulary) {
            return Err(PressError::Vocabulary {
                reference: r.spec().vocabulary,
                model: vocabulary,
            });
        }
    }
    let mut run = Run {
        cpu,
        models: models
            .iter()
            .map(|model| Side::new(model, windows))
            .collect::<Result<_, _>>()?,
        reference: reference.map(|r| Side::new(r, windows)).transpose()?,
        positions: vec![Vec::new(); models.len()],
    };
    progress.phase("Measuring", windows.text_tokens() as u64);
    for window in windows.iter() {
        if progress.cancelled() {
            return Err(PressError::Interrupted);
        }
        run.window(&window)?;
        progress.advance(window.len() as u64);
    }
    let evaluations = run.positions.iter();
    Ok(evaluations
        .map(|positions| summarise(positions, reference.is_some()))
        .collect())
}

/// A model with its session and logits.
struct Side<'a> {
    model: &'a Model,
    session: Session,
    hidden: Vec<f32>,
    logits: Vec<f32>,
}

impl<'a> Side<'a> {
    fn new(model: &'a Model, windows: &Windows) -> Result<Self, PressError> {
        Ok(Self {
            model,
            session: model.session(windows.longest())?,
            hidden: Vec::new(),
            logits: Vec::new(),
        })
    }

    fn forward(&mut self, cpu: &Cpu, tokens: &[u32]) -> Result<(), PressError> {
        self.session.truncate(0);
        let hidden = self
            .model
            .forward(cpu, &mut self.session, tokens, &mut NoObserver)?;
        self.hidden.clear();
        self.hidden.extend_from_slice(hidden);
        Ok(())
    }

    fn logits(&mut self, cpu: &Cpu, first: usize, n: usize) -> Result<(), PressError> {
        let spec = self.model.spec();
        self.logits.resize(n * spec.vocabulary, 0.0);
        let hidden = &self.hidden[first * spec.hidden..][..n * spec.hidden];
        self.model.logits(cpu, hidden, n, &mut self.logits)?;
        Ok(())
    }

    /// Refuses logits that nothing can be measured with.
    fn check_logits(&self, model: &'static str, first: usize) -> Result<(), PressError> {
        match self.logits.iter().position(|logit| !logit.is_finite()) {
            None => Ok(()),
            Some(at) => Err(PressError::Logits {
                model,
                value: self.logits[at],
                position: first + at / self.model.spec().vocabulary + 1,
            }),
        }
    }
}

struct Run<'a> {
    cpu: &'a Cpu,
    models: Vec<Side<'a>>,
    reference: Option<Side<'a>>,
    /// Those of each model.
    positions: Vec<Vec<Position>>,
}

impl Run<'_> {
    fn window(&mut self, tokens: &[u32]) -> Result<(), PressError> {
        for model in &mut self.models {
            model.forward(self.cpu, tokens)?;
        }
        if let Some(reference) = &mut self.reference {
            reference.forward(self.cpu, tokens)?;
        }
        let scored = tokens.len() - 1;
        for first in (0..scored).step_by(CHUNK) {
            let n = CHUNK.min(scored - first);
            for model in &mut self.models {
                model.logits(self.cpu, first, n)?;
                model.check_logits("the model", first)?;
            }
            if let Some(reference) = &mut self.reference {
                reference.logits(self.cpu, first, n)?;
                reference.check_logits("the reference", first)?;
            }
            for model in 0..self.models.len() {
                self.score(model, first, &tokens[first + 1..][..n]);
            }
        }
        Ok(())
    }

    /// Scores `targets`, which a model predicted from positions `first..`.
    fn score(&mut self, model: usize, first: usize, targets: &[u32]) {
        let positions = &mut self.positions[model];
        let model = &self.models[model];
        let vocabulary = model.model.spec().vocabulary;
        let slots: Vec<Mutex<Position>> = targets
            .iter()
            .map(|_| Mutex::new(Position::default()))
            .collect();
        let reference = self.reference.as_ref();
        self.cpu.pool().run(targets.len(), &|i| {
            let target = targets[i];
            let q = &model.logits[i * vocabulary..][..vocabulary];
            let own = loss(q, target);
            let mut position = Position {
                place: first + i + 1,
                nll: own.nll,
                hit: own.best == target,
                ..Position::default()
            };
            if let Some(reference) = reference {
                let p = &reference.logits[i * vocabulary..][..vocabulary];
                let original = loss(p, target);
                position.kl = divergence(p, q);
                position.agrees = original.best == own.best;
                position.reference_nll = original.nll;
                position.reference_hit = original.best == target;
            }
            *slots[i].lock().expect("no holder panics") = position;
        });
        positions.extend(
            slots
                .into_iter()
                .map(|slot| slot.into_inner().expect("no holder panics")),
        );
    }
}

fn mean(positions: &[Position], value: impl Fn(&Position) -> f64) -> f64 {
    positions.iter().map(value).sum::<f64>() / positions.len().max(1) as f64
}

fn share(positions: &[Position], holds: impl Fn(&Position) -> bool) -> f64 {
    mean(positions, |p| f64::from(u8::from(holds(p))))
}

fn summarise(positions: &[Position], compared: bool) -> Evaluation {
    let reference = compared.then(|| {
        let mut divergences: Vec<f64> = positions.iter().map(|p| p.kl).collect();
        divergences.sort_by(f64::total_cmp);
        let at = (divergences.len() as f64 * 0.999) as usize;
        Comparison {
            kl_mean: mean(positions, |p| p.kl),
            kl_p999: divergences[at.min(divergences.len() - 1)],
            top1_agreement: share(positions, |p| p.agrees),
            nll_per_token: mean(positions, |p| p.reference_nll),
            token_accuracy: share(positions, |p| p.reference_hit),
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

//! Log-likelihoods of continuations.

use lagar_engine::Model;
use lagar_kernels::Cpu;

use super::Example;
use crate::PressError;
use crate::evaluate::runner::{CHUNK, Runner};

/// What a model makes of a continuation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Likelihood {
    /// log q(continuation | context), nats.
    pub(super) log: f64,
    /// Whether each of its tokens is the most likely one.
    pub(super) greedy: bool,
}

/// A logit that is no number: its value.
pub(super) struct Unusable(pub(super) f32);

/// A model that scores one continuation after another. What a context shares with the one before
/// it, as the choices of a question do, stays computed.
pub(super) struct Scorer<'a> {
    cpu: &'a Cpu,
    runner: Runner<'a>,
    /// The most tokens that the model takes.
    window: usize,
    /// The tokens of the sequence under way.
    known: Vec<u32>,
}

impl<'a> Scorer<'a> {
    pub(super) fn new(cpu: &'a Cpu, model: &'a Model) -> Result<Self, PressError> {
        let window = model.spec().context;
        Ok(Self {
            cpu,
            runner: Runner::new(model, window)?,
            window,
            known: Vec::new(),
        })
    }

    /// Scores a continuation. Of a context that is longer than what the model takes, the end counts. A
    /// continuation that is longer is scored in pieces, each after what fits of all that comes before it.
    pub(super) fn score(
        &mut self,
        example: &Example,
    ) -> Result<Result<Likelihood, Unusable>, PressError> {
        let Example {
            context,
            continuation,
        } = example;
        let mut all = Likelihood {
            log: 0.0,
            greedy: true,
        };
        let piece = match continuation.len() <= self.window {
            true => continuation.len(),
            false => self.window.div_ceil(2),
        };
        for (i, targets) in continuation.chunks(piece).enumerate() {
            // The last token predicts nothing.
            let before = &continuation[..i * piece + targets.len() - 1];
            let mut input = [&context[..], before].concat();
            input.drain(..input.len().saturating_sub(self.window));
            match self.piece(input, targets)? {
                Err(unusable) => return Ok(Err(unusable)),
                Ok(piece) => {
                    all.log += piece.log;
                    all.greedy &= piece.greedy;
                }
            }
        }
        Ok(Ok(all))
    }

    /// Scores `targets`, the last of which follows `input` and the others end it.
    fn piece(
        &mut self,
        input: Vec<u32>,
        targets: &[u32],
    ) -> Result<Result<Likelihood, Unusable>, PressError> {
        let mut all = Likelihood {
            log: 0.0,
            greedy: true,
        };
        let first = input.len() - targets.len();
        let same = input.iter().zip(&self.known).take_while(|(a, b)| a == b);
        let kept = same.count().min(first);
        self.known.clear();
        self.runner.forward(self.cpu, kept, &input[kept..])?;
        self.known = input;
        for (i, targets) in targets.chunks(CHUNK).enumerate() {
            let at = first - kept + i * CHUNK;
            self.runner.logits(self.cpu, at, targets.len())?;
            if let Some((value, _)) = self.runner.unusable() {
                return Ok(Err(Unusable(value)));
            }
            for (loss, target) in self.runner.losses(self.cpu, targets).iter().zip(targets) {
                all.log -= loss.nll;
                all.greedy &= loss.best == *target;
            }
        }
        Ok(Ok(all))
    }
}

//! A model under measurement: its sequence, and the logits of a few positions at a time.

use std::sync::Mutex;

use lagar_engine::{EngineError, Model, NoObserver, Session};
use lagar_kernels::Cpu;

use super::losses::{Loss, loss};

/// Positions whose logits are held at once.
pub(super) const CHUNK: usize = 64;

/// A model with a sequence and the logits of some of its positions.
pub(super) struct Runner<'a> {
    model: &'a Model,
    session: Session,
    /// Hidden states of the tokens of the last call of [`Runner::forward`].
    hidden: Vec<f32>,
    logits: Vec<f32>,
}

impl<'a> Runner<'a> {
    /// With room for `context` tokens.
    pub(super) fn new(model: &'a Model, context: usize) -> Result<Self, EngineError> {
        Ok(Self {
            model,
            session: model.session(context)?,
            hidden: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// Goes on with `tokens` after the first `keep` tokens of the sequence.
    pub(super) fn forward(
        &mut self,
        cpu: &Cpu,
        keep: usize,
        tokens: &[u32],
    ) -> Result<(), EngineError> {
        self.session.truncate(keep);
        let hidden = self
            .model
            .forward(cpu, &mut self.session, tokens, &mut NoObserver)?;
        self.hidden.clear();
        self.hidden.extend_from_slice(hidden);
        Ok(())
    }

    /// Computes the logits that follow `n` of the last tokens, from the one at `first`.
    pub(super) fn logits(&mut self, cpu: &Cpu, first: usize, n: usize) -> Result<(), EngineError> {
        let spec = self.model.spec();
        self.logits.resize(n * spec.vocabulary, 0.0);
        let hidden = &self.hidden[first * spec.hidden..][..n * spec.hidden];
        self.model.logits(cpu, hidden, n, &mut self.logits)
    }

    /// The first logit that nothing can be measured with, and the row that it is in.
    pub(super) fn unusable(&self) -> Option<(f32, usize)> {
        let at = self.logits.iter().position(|logit| !logit.is_finite())?;
        Some((self.logits[at], at / self.model.spec().vocabulary))
    }

    /// A row of the logits.
    pub(super) fn row(&self, i: usize) -> &[f32] {
        let vocabulary = self.model.spec().vocabulary;
        &self.logits[i * vocabulary..][..vocabulary]
    }

    /// What each row of the logits loses on its target.
    pub(super) fn losses(&self, cpu: &Cpu, targets: &[u32]) -> Vec<Loss> {
        in_parallel(cpu, targets.len(), |i| loss(self.row(i), targets[i]))
    }
}

/// `compute` of 0 to `n` − 1, on all threads.
pub(super) fn in_parallel<T: Send>(
    cpu: &Cpu,
    n: usize,
    compute: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let slots: Vec<Mutex<Option<T>>> = (0..n).map(|_| Mutex::new(None)).collect();
    cpu.pool().run(n, &|i| {
        *slots[i].lock().expect("no holder panics") = Some(compute(i));
    });
    let values = slots.into_iter().map(|slot| {
        let value = slot.into_inner().expect("no holder panics");
        value.expect("every task ran")
    });
    values.collect()
}

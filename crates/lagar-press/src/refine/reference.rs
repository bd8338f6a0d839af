//! What the original says, and how far a model is from it.

use std::collections::HashMap;

use lagar_engine::gradient::{GradientObserver, Loss};
use lagar_engine::{Model, NoObserver};
use lagar_kernels::Cpu;

use super::sample::{Sample, Within};
use crate::PressError;

/// Bytes of hidden states that are kept, at most; more are computed whenever they are needed.
const KEPT: usize = 1 << 30;
/// Positions whose logits are held at once.
const POSITIONS: usize = 128;

/// The original beside the windows of a sample.
pub(crate) struct References<'a> {
    cpu: &'a Cpu,
    original: &'a Model,
    sample: &'a Sample,
    /// The original's hidden states before the head: its logits would take more room.
    hidden: HashMap<usize, Vec<f32>>,
    kept: usize,
}

impl<'a> References<'a> {
    pub(crate) fn new(cpu: &'a Cpu, original: &'a Model, sample: &'a Sample) -> Self {
        Self {
            cpu,
            original,
            sample,
            hidden: HashMap::new(),
            kept: 0,
        }
    }

    /// The original's hidden states of a window, tokens × hidden.
    fn hidden(&mut self, window: usize) -> Result<Vec<f32>, PressError> {
        if let Some(hidden) = self.hidden.get(&window) {
            return Ok(hidden.clone());
        }
        let hidden = hidden_states(self.cpu, self.original, &self.sample.window(window).tokens)?;
        let bytes = size_of_val(&hidden[..]);
        if self.kept + bytes <= KEPT {
            self.kept += bytes;
            self.hidden.insert(window, hidden.clone());
        }
        Ok(hidden)
    }

    /// Takes the divergence on a window back through a model.
    pub(crate) fn back(
        &mut self,
        model: &Model,
        window: usize,
        observer: &mut dyn GradientObserver,
    ) -> Result<(), PressError> {
        let hidden = self.hidden(window)?;
        let sample = self.sample.window(window);
        let mut loss = self.against(window, &hidden);
        model.backward(self.cpu, &sample.tokens, &mut loss, observer)?;
        Ok(())
    }

    /// The divergence on a window, given the original's hidden states.
    fn against<'h>(&self, window: usize, hidden: &'h [f32]) -> Within<Against<'h>>
    where
        'a: 'h,
    {
        Within {
            positions: self.sample.window(window).scored.clone(),
            loss: Against {
                original: self.original,
                hidden,
                logits: Vec::new(),
            },
        }
    }

    /// The mean divergence of a model, in its own arithmetic, on the windows that are held out.
    pub(crate) fn held_out(&mut self, model: &Model) -> Result<f64, PressError> {
        let vocabulary = model.spec().vocabulary;
        let (mut sum, mut count) = (0.0, 0);
        for window in self.sample.held_out() {
            let reference = self.hidden(window)?;
            let hidden = hidden_states(self.cpu, model, &self.sample.window(window).tokens)?;
            let mut loss = self.against(window, &reference);
            count += self.sample.window(window).scored.len();
            let width = model.spec().hidden;
            let mut logits = Vec::new();
            for (piece, hidden) in hidden.chunks(POSITIONS * width).enumerate() {
                let n = hidden.len() / width;
                logits.resize(n * vocabulary, 0.0);
                model.logits(self.cpu, hidden, n, &mut logits)?;
                sum += loss.gradient(self.cpu, piece * POSITIONS, &mut logits, vocabulary);
            }
        }
        Ok(sum / count.max(1) as f64)
    }
}

fn hidden_states(cpu: &Cpu, model: &Model, tokens: &[u32]) -> Result<Vec<f32>, PressError> {
    let mut session = model.session(tokens.len())?;
    let hidden = model.forward(cpu, &mut session, tokens, &mut NoObserver)?;
    Ok(hidden.to_vec())
}

/// The divergence from a model whose hidden states are known.
struct Against<'a> {
    original: &'a Model,
    hidden: &'a [f32],
    logits: Vec<f32>,
}

impl Loss for Against<'_> {
    fn gradient(&mut self, cpu: &Cpu, first: usize, logits: &mut [f32], vocabulary: usize) -> f64 {
        let (n, width) = (logits.len() / vocabulary, self.original.spec().hidden);
        self.logits.resize(logits.len(), 0.0);
        let hidden = &self.hidden[first * width..(first + n) * width];
        let computed = self.original.logits(cpu, hidden, n, &mut self.logits);
        computed.expect("a checkpoint's head is not read while it runs");
        cpu.kl_backward(&self.logits, logits, vocabulary)
    }
}

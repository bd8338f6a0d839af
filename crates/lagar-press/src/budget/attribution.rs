//! How much of a pressed model's divergence each column group causes.
//!
//! Near the original the divergence is a quadratic form of all errors `E = Ŵ − W` together, so that
//! `½ ⟨dKL/dŴ, E⟩`, summed over all weights, is the divergence itself (Euler), and the terms of one group are its
//! share: what it causes alone and half of what it causes together with each of the others. Unlike a sum of sensitivities this
//! holds what errors of one layer do to those of the next, and how a look-up and a head share their errors.

use std::collections::BTreeMap;

use lagar_codec::{GROUP, Transform};
use lagar_engine::Model;
use lagar_engine::gradient::{GradientObserver, LinearGradient};
use lagar_kernels::Cpu;

/// Rows whose errors are held at once.
const ROWS: usize = 256;

/// Adds up the shares of all groups, over windows of text.
pub(super) struct Attribution<'a> {
    cpu: &'a Cpu,
    original: &'a Model,
    /// Not the one whose gradients are observed, but one of the same weights.
    pressed: &'a Model,
    /// For each weight, nats of each group.
    shares: BTreeMap<String, Vec<f64>>,
}

impl<'a> Attribution<'a> {
    pub(super) fn new(cpu: &'a Cpu, original: &'a Model, pressed: &'a Model) -> Self {
        Self {
            cpu,
            original,
            pressed,
            shares: BTreeMap::new(),
        }
    }

    /// Nats of each group of each weight, summed over the text.
    pub(super) fn finish(self) -> BTreeMap<String, Vec<f64>> {
        self.shares
    }

    /// Rows of `Ŵ − W`.
    fn errors(&self, weight: &str, rows: std::ops::Range<usize>) -> Vec<f32> {
        let read = |model: &Model| {
            let rows = model.weight_rows(self.cpu, weight, rows.clone());
            rows.expect("both models have what is on its way back, in memory")
        };
        let mut errors = read(self.pressed);
        let original = read(self.original);
        errors.iter_mut().zip(original).for_each(|(e, w)| *e -= w);
        errors
    }

    /// Adds the products of two lists of `n` vectors in the transformed space, group by group.
    fn add(&mut self, weight: &str, transform: &Transform, a: &[f32], b: &[f32], n: usize) {
        let padded = transform.padded_width();
        let transformed = |x: &[f32]| {
            let mut out = vec![0f32; n * padded];
            self.cpu.transform(transform, x, n, &mut out);
            out
        };
        let (a, b) = (transformed(a), transformed(b));
        let shares = match self.shares.get_mut(weight) {
            Some(shares) => shares,
            None => (self.shares)
                .entry(weight.to_owned())
                .or_insert(vec![0.0; padded.div_ceil(GROUP)]),
        };
        for (a, b) in a.chunks_exact(padded).zip(b.chunks_exact(padded)) {
            let groups = a.chunks(GROUP).zip(b.chunks(GROUP));
            for (share, (a, b)) in shares.iter_mut().zip(groups) {
                let products = a.iter().zip(b).map(|(a, b)| f64::from(a * b));
                *share += 0.5 * products.sum::<f64>();
            }
        }
    }
}

impl GradientObserver for Attribution<'_> {
    fn linear(&mut self, linear: &LinearGradient<'_>) {
        let Some(transform) = self.pressed.transform(linear.weight) else {
            return;
        };
        let n = linear.n;
        let (inputs, outputs) = (linear.x.len() / n, linear.dy.len() / n);
        // Eᵀ dy, n × inputs.
        let mut back = vec![0f32; n * inputs];
        let mut columns = vec![0f32; ROWS * n];
        for first in (0..outputs).step_by(ROWS) {
            let rows = ROWS.min(outputs - first);
            let errors = self.errors(linear.weight, first..first + rows);
            let columns = &mut columns[..rows * n];
            self.cpu
                .transpose(linear.dy, outputs, n, first, rows, columns);
            self.cpu.gemm_tn(
                columns, n, &errors, inputs, &mut back, inputs, n, inputs, rows, 1.0,
            );
        }
        self.add(linear.weight, transform, &back, linear.x, n);
    }

    fn embedding(&mut self, tokens: &[u32], rows: &[f32], drows: &[f32]) {
        let weight = self.original.spec().embedding();
        let Some(transform) = self.pressed.transform(weight) else {
            return;
        };
        let mut errors = Vec::with_capacity(rows.len());
        for &token in tokens {
            let row = token as usize;
            errors.extend(self.errors(weight, row..row + 1));
        }
        self.add(weight, transform, &errors, drows, tokens.len());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lagar_engine::gradient::Kl;
    use lagar_engine::{ModelOptions, NoObserver};
    use lagar_kernels::Isa;

    use super::*;
    use crate::{PressOptions, Request, Silent, press};

    /// Euler: where errors are small, the shares of all groups add up to the divergence. A factor or a missing term, such as
    /// that of the look-up, would show.
    #[test]
    fn shares_add_up_to_the_divergence() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let checkpoint = repository.join("assets/novels4m");
        let text = std::fs::read_to_string(repository.join("assets/text/calibration.txt")).unwrap();
        let cpu = Cpu::new(Isa::best(), 2);
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("a.lagar");
        let mut options = PressOptions::default().with_tiers(&[5], false);
        options.tokens = 2048;
        options.effort = 0;
        let request = Request {
            checkpoint: &checkpoint,
            text: &text,
            held_out: None,
            cost: None,
            output: &output,
            options,
            resume: false,
        };
        press(&cpu, &request, &Silent).unwrap();
        let open = |path: &Path| Model::open(path, None, &ModelOptions::default()).unwrap();
        let (original, pressed, same) = (open(&checkpoint), open(&output), open(&output));
        let tokens = original.tokenizer().encode_plain(&text).unwrap();
        let mut attribution = Attribution::new(&cpu, &original, &same);
        let mut divergence = 0.0;
        for tokens in tokens[..1024].chunks(256) {
            let mut session = original.session(tokens.len()).unwrap();
            let hidden = original
                .forward(&cpu, &mut session, tokens, &mut NoObserver)
                .unwrap();
            let n = tokens.len();
            let mut logits = vec![0f32; n * original.spec().vocabulary];
            original.logits(&cpu, hidden, n, &mut logits).unwrap();
            let mut loss = Kl::new(&logits);
            divergence += pressed
                .backward(&cpu, tokens, &mut loss, &mut attribution)
                .unwrap();
        }
        let shares = attribution.finish();
        let linears = 7 * original.spec().blocks.len() + 1;
        assert_eq!(shares.len(), linears);
        let total: f64 = shares.values().flatten().sum();
        let ratio = total / divergence;
        assert!((0.95..1.05).contains(&ratio), "{total} of {divergence}");
    }
}

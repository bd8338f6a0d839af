//! There and back through a whole model.

use lagar_kernels::{Cpu, KvCache, KvFormat};

use super::block::Backward;
use super::linear::{Outputs, Strips};
use super::loss::Loss;
use super::observer::{GradientObserver, LinearGradient};
use super::recorded::Recorded;
use crate::EngineError;
use crate::model::block::Part;
use crate::model::scratch::room;
use crate::model::{Activations, Model, NoObserver};

/// Logits that are held at once: 64 MiB, twice, for the loss takes their place.
const LOGITS: usize = 1 << 24;
/// Positions whose logits are computed at once, at least: each time the head's weights are read.
const POSITIONS: usize = 64;

impl Model {
    /// Takes one window of text through the model, from position 0, and the gradient of a loss back to
    /// the embedding. Returns the loss, summed over the window, in nats.
    ///
    /// Pressed linears compute with f32 activations, whatever the model's own arithmetic is, and keys
    /// and values are not rounded. Results have the same bits for any number of threads.
    ///
    /// # Errors
    /// A token outside the vocabulary, a window longer than the context, weights on the disk that cannot
    /// be read, and [`EngineError::Gradient`] where a loss or a gradient is not finite; what the observer
    /// saw is then of no use.
    pub fn backward(
        &self,
        cpu: &Cpu,
        tokens: &[u32],
        loss: &mut dyn Loss,
        observer: &mut dyn GradientObserver,
    ) -> Result<f64, EngineError> {
        let (n, width) = (tokens.len(), self.spec.hidden);
        if n > self.spec.context {
            return Err(EngineError::ContextExceeded {
                asked: n,
                context: self.spec.context,
            });
        }
        if n == 0 {
            return Ok(0.0);
        }
        let mut x = vec![0.0; n * width];
        self.embed(cpu, tokens, &mut x)?;
        let mut streams = Vec::with_capacity(self.spec.blocks.len() + 1);
        for (layer, block) in self.spec.blocks.iter().enumerate() {
            streams.push(x.clone());
            let attention = &block.attention;
            let mut cache = KvCache::new(KvFormat::F32, attention.kv_heads, attention.head_dim);
            let activations = Activations::F32;
            self.layer_in(
                cpu,
                layer,
                &mut x,
                &mut [Part {
                    cache: &mut cache,
                    n,
                }],
                activations,
                &mut NoObserver,
            )?;
            self.check_finite(&x, || format!("result of layer {layer}"))?;
        }
        let mut way = Backward {
            cpu,
            n,
            observer,
            strips: Strips::default(),
            recorded: Recorded::default(),
        };
        let mut dx = vec![0.0; n * width];
        let sum = self.head_backward(&mut way, &x, loss, &mut dx)?;
        drop(x);
        self.check_finite(&dx, || "gradient of the head".into())?;
        let mut rows = Vec::new();
        for layer in (0..self.spec.blocks.len()).rev() {
            let x = streams.pop().expect("one for each block");
            if layer == 0 {
                rows.clone_from(&x);
            }
            self.layer_backward(&mut way, layer, x, &mut dx)?;
            self.check_finite(&dx, || format!("gradient of layer {layer}"))?;
        }
        way.observer.embedding(tokens, &rows, &dx);
        Ok(sum)
    }

    /// From the residual stream `x` behind the blocks to the loss and back; `dx` receives the gradient.
    fn head_backward(
        &self,
        way: &mut Backward<'_>,
        x: &[f32],
        loss: &mut dyn Loss,
        dx: &mut [f32],
    ) -> Result<f64, EngineError> {
        let (cpu, width) = (way.cpu, self.spec.hidden);
        let vocabulary = self.spec.vocabulary;
        let head = &self.spec.head;
        let mut hidden = x.to_vec();
        self.final_norm(cpu, &mut hidden, way.n);
        let mut dhidden = vec![0.0; x.len()];
        let (mut logits, mut products) = (Vec::new(), Vec::new());
        let positions = (LOGITS / vocabulary).max(POSITIONS);
        let mut sum = 0.0;
        let pieces = hidden.chunks(positions * width);
        for (piece, (hidden, dhidden)) in pieces
            .zip(dhidden.chunks_mut(positions * width))
            .enumerate()
        {
            let (first, n) = (piece * positions, hidden.len() / width);
            let logits = room(&mut logits, n * vocabulary);
            self.head(cpu, hidden, n, Activations::F32, logits)?;
            products.clear();
            products.extend_from_slice(logits);
            let piece_loss = loss.gradient(cpu, first, logits, vocabulary);
            if !piece_loss.is_finite() {
                let row = |row: &[f32]| row.iter().all(|x| x.is_finite());
                let fault = logits.chunks_exact(vocabulary).position(|r| !row(r));
                return Err(EngineError::Gradient {
                    what: "loss".into(),
                    position: first + fault.unwrap_or(0),
                });
            }
            sum += piece_loss;
            let mut from = Outputs {
                dy: logits,
                stride: vocabulary,
                first: 0,
                n,
            };
            for piece in 0..self.weights.head_pieces() {
                let piece = self.weights.head(cpu, piece)?;
                if let Some(bias) = &piece.bias {
                    for row in products.chunks_exact_mut(vocabulary) {
                        let row = &mut row[from.first..from.first + piece.outputs];
                        row.iter_mut().zip(bias).for_each(|(y, b)| *y -= b);
                    }
                }
                piece.add_backward(cpu, from, &mut way.strips, dhidden);
                from.first += piece.outputs;
            }
            let shown = LinearGradient {
                weight: &head.weight,
                site: self.spec.head_site(),
                n,
                x: hidden,
                y: &products,
                dy: from.dy,
            };
            way.show(head.bias.as_deref(), &shown);
        }
        way.norm(&self.spec.final_norm, &self.final_norm, x, &dhidden, dx);
        Ok(sum)
    }

    /// Refuses a residual stream, or a gradient of it, that is not finite.
    fn check_finite(&self, x: &[f32], what: impl Fn() -> String) -> Result<(), EngineError> {
        match x.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => Err(EngineError::Gradient {
                what: what(),
                position: at / self.spec.hidden,
            }),
        }
    }
}

//! What a pass has to do at least, for comparing its speed with what a machine can do.

use lagar_kernels::Cpu;

use super::{Activations, Model};
use crate::EngineError;

/// The work of a pass through all blocks and the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Bytes of weights that are read: once, for any number of tokens.
    pub weight_bytes: u64,
    /// Products with weights of blocks, for each token.
    pub products: u64,
    /// Products with weights of the head, for each token whose logits are wanted.
    pub head_products: u64,
}

impl Model {
    /// Whether the products with most weights are those of bytes.
    pub fn multiplies_bytes(&self) -> bool {
        self.is_pressed && self.activations == Activations::Int8
    }

    /// What a pass has to do.
    ///
    /// # Errors
    /// Weights that are read from the disk while the model runs, and cannot be read or are damaged.
    pub fn work(&self, cpu: &Cpu) -> Result<Work, EngineError> {
        let mut work = Work::default();
        for layer in 0..self.spec.blocks.len() {
            for linear in self.weights.block(cpu, layer)?.linears() {
                work.weight_bytes += linear.bytes();
                work.products += (linear.outputs * linear.inputs) as u64;
            }
        }
        for piece in 0..self.weights.head_pieces() {
            let head = self.weights.head(cpu, piece)?;
            work.weight_bytes += head.bytes();
            work.head_products += (head.outputs * head.inputs) as u64;
        }
        Ok(work)
    }
}

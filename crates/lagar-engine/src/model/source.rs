//! Putting a model together from a description and wherever its weights come from.

use std::sync::Arc;

use lagar_format::Region;

use super::block::BlockWeights;
use super::embedding::Embedding;
use super::from_container::Opened;
use super::linear::Linear;
use super::weights::Weights;
use crate::EngineError;
use crate::spec::{Block, LinearSpec, Mlp, ModelSpec, Norm};
use crate::tokenizer::Tokenizer;

/// Where weights come from.
pub(super) trait Source {
    /// A matrix of `spec`'s shape, without its bias.
    fn matrix(&self, spec: &LinearSpec) -> Result<Linear, EngineError>;

    /// A vector of this length.
    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>, EngineError>;

    fn norm(&self, spec: &Norm) -> Result<Vec<f32>, EngineError> {
        self.vector(&spec.weight, spec.width)
    }

    fn linear(&self, spec: &LinearSpec) -> Result<Linear, EngineError> {
        let bias = spec.bias.as_deref();
        Ok(Linear {
            bias: bias
                .map(|name| self.vector(name, spec.outputs))
                .transpose()?,
            ..self.matrix(spec)?
        })
    }

    fn block(&self, spec: &Block) -> Result<BlockWeights, EngineError> {
        let attention = &spec.attention;
        let Mlp::SwiGlu { gate, up, down } = &spec.mlp;
        let optional = |norm: &Option<Norm>| norm.as_ref().map(|norm| self.norm(norm)).transpose();
        Ok(BlockWeights {
            attention_norm: self.norm(&spec.attention_norm)?,
            query: self.linear(&attention.query)?,
            key: self.linear(&attention.key)?,
            value: self.linear(&attention.value)?,
            output: self.linear(&attention.output)?,
            query_norm: optional(&attention.query_norm)?,
            key_norm: optional(&attention.key_norm)?,
            mlp_norm: self.norm(&spec.mlp_norm)?,
            gate: self.linear(gate)?,
            up: self.linear(up)?,
            down: self.linear(down)?,
        })
    }
}

/// A model's weights and what comes with them.
pub(super) struct Parts {
    pub(super) spec: ModelSpec,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) embedding: Embedding,
    pub(super) weights: Weights,
    pub(super) final_norm: Vec<f32>,
    /// The small files.
    pub(super) files: Vec<(String, Region)>,
    /// What comes before their names in messages: the folder or the file.
    pub(super) origin: String,
    /// Bytes of all that was opened.
    pub(super) file_bytes: u64,
    /// The file that the model is a tier of, and which one.
    pub(super) opened: Option<Arc<Opened>>,
    pub(super) tier: usize,
}

//! What a model is made of: a description of blocks, read from a configuration.
//!
//! The forward pass in [`crate::model`] follows a [`ModelSpec`] and knows no architecture by
//! name. Adding one is a function in `architectures.rs` that returns a description.

mod architectures;
mod config;
mod decoder;
mod rope;
mod sites;
mod tensors;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use config::Config;
pub use rope::Rope;
pub(crate) use sites::{ATTENTION_INPUT, ATTENTION_OUTPUT, MLP_INPUT, MLP_OUTPUT};
pub use sites::{Site, SiteId};
pub use tensors::{Role, TensorSpec};

use crate::EngineError;

/// A model: an embedding, a stack of blocks, a final norm and an output head.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// The architecture's name, as in `config.json`.
    pub architecture: String,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// The tensor of token embeddings, vocabulary × hidden.
    pub embedding: String,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// The norm before the head.
    pub final_norm: Norm,
    /// The output head, vocabulary × hidden. Where the embedding is tied it names that tensor.
    pub head: LinearSpec,
}

/// A pre-norm transformer block: `x += attention(norm(x)); x += mlp(norm(x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The norm before attention.
    pub attention_norm: Norm,
    /// Self-attention.
    pub attention: Attention,
    /// The norm before the MLP.
    pub mlp_norm: Norm,
    /// The MLP.
    pub mlp: Mlp,
}

/// A normalisation of vectors: `x / sqrt(mean(x²) + epsilon) * weight` (RMSNorm, arXiv 1910.07467).
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// The tensor of factors.
    pub weight: String,
    /// Length of the vectors.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// A linear map `y = W x + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearSpec {
    /// The tensor `W`, outputs × inputs.
    pub weight: String,
    /// The tensor `b`.
    pub bias: Option<String>,
    /// Length of `y`.
    pub outputs: usize,
    /// Length of `x`.
    pub inputs: usize,
}

/// Multi-head self-attention with grouped keys and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Queries: `heads * head_dim` outputs.
    pub query: LinearSpec,
    /// Keys: `kv_heads * head_dim` outputs.
    pub key: LinearSpec,
    /// Values: `kv_heads * head_dim` outputs.
    pub value: LinearSpec,
    /// From the heads back to the residual stream.
    pub output: LinearSpec,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Length of a head.
    pub head_dim: usize,
    /// Norm of each query head, before rotation.
    pub query_norm: Option<Norm>,
    /// Norm of each key head, before rotation.
    pub key_norm: Option<Norm>,
    /// Rotary position embedding; one object is shared by the blocks that use the same.
    pub rope: Option<Arc<Rope>>,
    /// Factor on the scores.
    pub scale: f32,
    /// Which positions a position attends to.
    pub mask: Mask,
}

/// Which positions a position attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mask {
    /// Itself and every position before it.
    Causal,
    /// Itself and the `n - 1` positions before it.
    SlidingWindow(usize),
}

/// A multilayer perceptron.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mlp {
    /// `down(silu(gate(x)) * up(x))` (SwiGLU, arXiv 2002.05202).
    SwiGlu {
        /// Input of the activation.
        gate: LinearSpec,
        /// What the activation multiplies.
        up: LinearSpec,
        /// Back to the residual stream.
        down: LinearSpec,
    },
}

impl ModelSpec {
    /// Reads a Hugging Face `config.json`, as written by `transformers` 4 or 5.
    ///
    /// `file` is the name to use in errors.
    ///
    /// # Errors
    /// Malformed JSON, missing or impossible values, an unknown architecture, or a feature that
    /// the engine does not compute.
    pub fn from_config(file: &str, json: &[u8]) -> Result<Self, EngineError> {
        let value = serde_json::from_slice(json).map_err(|source| EngineError::Json {
            file: file.into(),
            source,
        })?;
        architectures::describe(&Config::new(file, &value)?)
    }

    /// The tensor of token embeddings.
    pub fn embedding(&self) -> &str {
        &self.embedding
    }

    /// Whether the output head is the embedding.
    pub fn is_tied(&self) -> bool {
        self.head.weight == self.embedding
    }
}

impl Block {
    /// The block's linears, in the order in which the forward pass uses them.
    pub fn linears(&self) -> impl Iterator<Item = &LinearSpec> {
        let attention = &self.attention;
        let Mlp::SwiGlu { gate, up, down } = &self.mlp;
        [
            &attention.query,
            &attention.key,
            &attention.value,
            &attention.output,
            gate,
            up,
            down,
        ]
        .into_iter()
    }

    /// The block's norms.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        [&self.attention_norm]
            .into_iter()
            .chain(&self.attention.query_norm)
            .chain(&self.attention.key_norm)
            .chain([&self.mlp_norm])
    }
}

//! Which tier of a file fits the memory at hand.

use lagar_format::{Body, Container};
use lagar_kernels::KvFormat;

use super::Model;
use super::options::{Activations, ModelOptions};
use super::session::CHUNK;
use crate::EngineError;
use crate::spec::{Mlp, ModelSpec, TensorSpec};

/// Tokens of context that a model is meant to have room for, where its own is longer.
const CONTEXT: usize = 4096;

/// Memory for a tier of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierMemory {
    /// The tier's name.
    pub tier: String,
    /// Bytes of weights: the mapped sections, or the decoded weights of tier `full`.
    pub weights: u64,
    /// Bytes of cached keys and values, and of intermediate values, for a context of `context`
    /// tokens.
    pub working: u64,
    /// Tokens of context that are counted: the model's own, at most 4096.
    pub context: usize,
}

impl TierMemory {
    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.working)
    }
}

/// The tiers of a file, and the best one that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierFit {
    /// The tiers that the file holds to their end, in order.
    pub tiers: Vec<TierMemory>,
    /// Position of the best one that fits; of the first one where none does, or of the last where
    /// nothing is known of the memory.
    pub best: usize,
    /// Whether it fits, as far as is known.
    pub fits: bool,
}

impl TierFit {
    /// The tier to run.
    pub fn choice(&self) -> &TierMemory {
        &self.tiers[self.best]
    }
}

/// Finds the best tier of a file that fits `available` bytes of memory (see
/// [`lagar_format::os::available_memory`]; `None` where it is not known: then the last tier).
///
/// Mapped weights can be evicted and read again, so a tier above this runs too, only slower.
///
/// # Errors
/// A configuration that cannot be run.
pub fn fit_tier(
    container: &Container,
    available: Option<u64>,
    options: &ModelOptions,
) -> Result<TierFit, EngineError> {
    let config = container.file("config.json")?;
    let spec = ModelSpec::from_config("config.json", &config)?;
    let tiers: Result<Vec<_>, EngineError> = (0..container.tiers_complete())
        .map(|tier| memory(container, &spec, tier, options))
        .collect();
    let tiers = tiers?;
    let fitting = |memory: &TierMemory| available.is_none_or(|bytes| memory.total() <= bytes);
    let best = tiers.iter().rposition(fitting);
    Ok(TierFit {
        fits: best.is_some(),
        best: best.unwrap_or(0),
        tiers,
    })
}

fn memory(
    container: &Container,
    spec: &ModelSpec,
    tier: usize,
    options: &ModelOptions,
) -> Result<TierMemory, EngineError> {
    let index = container.index();
    let full = index.full_tier() == Some(tier);
    let weights = match full {
        true => spec.tensors().iter().map(|t| dense(container, t)).sum(),
        false => container.tier_bytes(tier)?,
    };
    let pressed = !full
        && index
            .tensors
            .iter()
            .any(|tensor| matches!(tensor.body, Body::Linear { .. }));
    let name = &index.tiers[tier].name;
    Ok(match pressed {
        true => memory_of_pressed(spec, name, weights, options),
        false => memory_of_dense(spec, name, weights, options),
    })
}

/// Memory for a tier below `full`, of a file that may still be to be written: `bytes` up to its end.
pub fn memory_of_pressed(
    spec: &ModelSpec,
    tier: &str,
    bytes: u64,
    options: &ModelOptions,
) -> TierMemory {
    let default = match options.activations {
        Activations::Int8 => KvFormat::F16,
        Activations::F32 => KvFormat::F32,
    };
    TierMemory {
        tier: tier.to_owned(),
        weights: bytes,
        working: working(spec, options.kv.unwrap_or(default)),
        context: context(spec),
    }
}

/// Memory for a tier of decoded weights, of `bytes` in their own types.
pub fn memory_of_dense(
    spec: &ModelSpec,
    tier: &str,
    bytes: u64,
    options: &ModelOptions,
) -> TierMemory {
    TierMemory {
        tier: tier.to_owned(),
        weights: bytes,
        working: working(spec, options.kv.unwrap_or(KvFormat::F32)),
        context: context(spec),
    }
}

impl Model {
    /// Bytes of memory that the model runs in: its weights, and the keys, values and intermediate values of a
    /// context of its own length, at most 4096 tokens. What [`fit_tier`] counts for the tier of a file.
    pub fn memory_bytes(&self) -> u64 {
        let container = self.full_tier_of();
        let weights = match container {
            Some(container) => {
                let tensors = self.spec.tensors();
                tensors.iter().map(|t| dense(container, t)).sum()
            }
            None => self.file_bytes,
        };
        weights + working(&self.spec, self.kv)
    }

    /// Bytes of the keys and values of a sequence of so many tokens.
    pub fn cache_bytes(&self, context: usize) -> u64 {
        cache_bytes(&self.spec, self.kv, context)
    }

    /// The file, where the model is its tier `full`: that is decoded into memory.
    fn full_tier_of(&self) -> Option<&Container> {
        let container = self.opened.as_ref()?.stored.container();
        (container.index().full_tier() == Some(self.tier)).then_some(container)
    }
}

/// Tokens of context that are counted.
fn context(spec: &ModelSpec) -> usize {
    spec.context.min(CONTEXT)
}

/// Bytes of all that is not weights.
fn working(spec: &ModelSpec, kv: KvFormat) -> u64 {
    cache_bytes(spec, kv, context(spec)) + scratch_bytes(spec)
}

/// Bytes of a tensor in its own type. (A norm is widened, which is nothing.)
fn dense(container: &Container, tensor: &TensorSpec) -> u64 {
    container.tensor(&tensor.name).map_or(0, |t| t.bytes())
}

/// Bytes of the keys and values of `context` positions.
fn cache_bytes(spec: &ModelSpec, format: KvFormat, context: usize) -> u64 {
    let position = spec.blocks.iter().map(|block| {
        let attention = &block.attention;
        attention.kv_heads * format.bytes_of(attention.head_dim)
    });
    position.sum::<usize>() as u64 * context as u64
}

/// Bytes of the intermediate values of a long prompt, and of logits.
fn scratch_bytes(spec: &ModelSpec) -> u64 {
    CHUNK as u64 * vector_bytes(spec) + 4 * spec.vocabulary as u64
}

/// Bytes of the intermediate values of a token.
pub(super) fn vector_bytes(spec: &ModelSpec) -> u64 {
    let widest = spec.blocks.iter().map(|block| {
        let attention = &block.attention;
        let heads = attention.heads * attention.head_dim;
        let kv = attention.kv_heads * attention.head_dim;
        let Mlp::SwiGlu { gate, .. } = &block.mlp;
        // Queries, what they attend to, keys and values; gate, up and their product; an input as it
        // is transformed and rounded.
        2 * heads + 2 * kv + 3 * gate.outputs + 2 * gate.outputs.max(spec.hidden)
    });
    4 * (2 * spec.hidden + widest.max().unwrap_or(0)) as u64
}

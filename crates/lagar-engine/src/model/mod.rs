//! A model that can be run: one forward pass, whatever the weights are made of.

mod block;
mod forward;
mod from_checkpoint;
mod from_container;
mod linear;
mod observer;
mod options;
mod scratch;
mod session;
mod source;

use std::ops::Range;
use std::path::Path;

use lagar_format::{Container, Limits, Region};
use lagar_kernels::{Cpu, KvCache, KvFormat};

pub use observer::{NoObserver, Observer};
pub use options::{Activations, ModelOptions};
pub use session::Session;

use crate::spec::ModelSpec;
use crate::tokenizer::{Tokenizer, TokenizerConfig};
use crate::{Checkpoint, EngineError};
use block::BlockWeights;
use linear::{Linear, Weight};
use scratch::ScratchPool;
use source::Parts;

/// A model: its description, its weights and its tokenizer.
///
/// Vectors are rows: `n × hidden` means `n` vectors of `spec().hidden` values. Results have the
/// same bits for every instruction set, number of threads and division into calls.
#[derive(Debug)]
pub struct Model {
    spec: ModelSpec,
    tokenizer: Tokenizer,
    embedding: Linear,
    blocks: Vec<BlockWeights>,
    final_norm: Vec<f32>,
    /// `None` where the embedding is the head.
    head: Option<Linear>,
    activations: Activations,
    kv: KvFormat,
    files: Vec<(String, Region)>,
    file_bytes: u64,
    parameters: u64,
    scratch: ScratchPool,
}

impl Model {
    /// Opens a checkpoint folder or a `.lagar` file; of a file, the checksums of all that will be
    /// used are checked.
    ///
    /// `tier` names the tier of a file; by default the best one that the file holds.
    ///
    /// # Errors
    /// Anything wrong with the files; the error names file and place. A folder has no tiers.
    pub fn open(
        path: impl AsRef<Path>,
        tier: Option<&str>,
        options: &ModelOptions,
    ) -> Result<Self, EngineError> {
        let path = path.as_ref();
        let kind = std::fs::metadata(path).map_err(|source| EngineError::Read {
            path: path.into(),
            source,
        })?;
        if kind.is_dir() {
            if let Some(tier) = tier {
                return Err(EngineError::MissingTier {
                    file: path.display().to_string(),
                    tier: tier.into(),
                    available: "the original weights only, as a checkpoint folder".into(),
                });
            }
            return Self::from_checkpoint(Checkpoint::open(path)?, options);
        }
        let container = Container::open(path, &Limits::default())?;
        let tier = from_container::find_tier(&container, tier)?;
        container.check(tier, |_, _| {})?;
        Self::from_container(container, Some(tier), options)
    }

    fn from_parts(parts: Parts, options: &ModelOptions) -> Result<Self, EngineError> {
        let pressed = matches!(parts.embedding.weight, Weight::Pressed { .. })
            || parts.blocks.iter().any(BlockWeights::is_pressed);
        let fast = pressed && options.activations == Activations::Int8;
        let tokenizer = tokenizer(&parts)?;
        Ok(Self {
            parameters: parts.spec.parameters(),
            tokenizer,
            embedding: parts.embedding,
            blocks: parts.blocks,
            final_norm: parts.final_norm,
            head: parts.head,
            activations: options.activations,
            kv: options
                .kv
                .unwrap_or(if fast { KvFormat::F16 } else { KvFormat::F32 }),
            files: parts.files,
            file_bytes: parts.file_bytes,
            spec: parts.spec,
            scratch: ScratchPool::default(),
        })
    }

    /// What the model is made of.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The tokenizer that comes with the weights.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Number of parameters of the original, tied tensors once.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Bytes of the file up to the end of the tier; of a checkpoint, of all its files.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The small files that come with the weights: configuration, tokenizer, chat template.
    pub fn files(&self) -> &[(String, Region)] {
        &self.files
    }

    /// A small file's bytes.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        let (_, bytes) = self.files.iter().find(|(known, _)| known == name)?;
        Some(bytes)
    }

    /// The arithmetic of pressed linears.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// The element type of cached keys and values.
    pub fn kv(&self) -> KvFormat {
        self.kv
    }

    /// An empty sequence with room for `context` tokens, at most the model's own context.
    ///
    /// # Errors
    /// [`EngineError::ContextExceeded`] where the model has a shorter context.
    pub fn session(&self, context: usize) -> Result<Session, EngineError> {
        if context > self.spec.context {
            return Err(EngineError::ContextExceeded {
                asked: context,
                context: self.spec.context,
            });
        }
        let caches = (0..self.spec.blocks.len()).map(|layer| self.layer_cache(layer));
        Ok(Session::new(caches.collect(), context))
    }

    /// An empty cache of one block's keys and values. Memory is taken as it fills.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn layer_cache(&self, layer: usize) -> KvCache {
        let attention = &self.spec.blocks[layer].attention;
        KvCache::new(self.kv, attention.kv_heads, attention.head_dim)
    }

    /// Rows of a weight as f32: of a dense one as it is, of a pressed one what its products
    /// amount to. A vector is one row.
    ///
    /// # Errors
    /// [`EngineError::MissingTensor`] where the model has no tensor of that name.
    ///
    /// # Panics
    /// If the tensor has fewer rows.
    pub fn weight_rows(
        &self,
        cpu: &Cpu,
        name: &str,
        rows: Range<usize>,
    ) -> Result<Vec<f32>, EngineError> {
        let weight = self.linears().find(|(known, _)| *known == name);
        if let Some((_, linear)) = weight {
            assert!(rows.end <= linear.outputs, "{name} has {}", linear.outputs);
            return Ok(linear.row_range(cpu, rows));
        }
        let vector = self.vectors().find(|(known, _)| *known == name);
        let (_, vector) = vector.ok_or_else(|| EngineError::MissingTensor {
            file: self.spec.architecture.clone(),
            tensor: name.into(),
            expected: Vec::new(),
        })?;
        assert!(rows.end <= 1, "{name} has one row");
        Ok(vector.repeat(rows.len()))
    }

    /// Every matrix, with its name.
    fn linears(&self) -> impl Iterator<Item = (&str, &Linear)> {
        let blocks = self.spec.blocks.iter().zip(&self.blocks);
        let inner = blocks.flat_map(|(spec, weights)| {
            let names = spec.linears().map(|linear| linear.weight.as_str());
            names.zip(weights.linears())
        });
        let head = self.head.iter().map(|head| (&*self.spec.head.weight, head));
        [(self.spec.embedding(), &self.embedding)]
            .into_iter()
            .chain(inner)
            .chain(head)
    }

    /// Every vector, with its name.
    fn vectors(&self) -> impl Iterator<Item = (&str, &[f32])> {
        let blocks = self.spec.blocks.iter().zip(&self.blocks);
        let inner = blocks.flat_map(|(spec, weights)| {
            let norms = spec.norms().map(|norm| norm.weight.as_str());
            let biases = spec.linears().zip(weights.linears());
            let biases = biases.filter_map(|(spec, linear)| {
                Some((spec.bias.as_deref()?, linear.bias.as_deref()?))
            });
            norms.zip(weights.norms()).chain(biases)
        });
        let last = [(&*self.spec.final_norm.weight, &*self.final_norm)];
        let head = self.head.as_ref().and_then(|head| head.bias.as_deref());
        inner
            .chain(last)
            .chain(self.spec.head.bias.as_deref().zip(head))
    }
}

fn tokenizer(parts: &Parts) -> Result<Tokenizer, EngineError> {
    let find = |name: &str| {
        let (_, bytes) = parts.files.iter().find(|(known, _)| known == name)?;
        Some(&bytes[..])
    };
    let config = match find("tokenizer_config.json") {
        Some(bytes) => TokenizerConfig::from_json("tokenizer_config.json", bytes)?,
        None => TokenizerConfig::default(),
    };
    let bytes = find("tokenizer.json").ok_or_else(|| EngineError::Tokenizer {
        file: "tokenizer.json".into(),
        problem: "is missing; a model needs its tokenizer in this form".into(),
    })?;
    let tokenizer = Tokenizer::from_bytes("tokenizer.json", bytes, &config)?;
    tokenizer.check_vocabulary(parts.spec.vocabulary)?;
    Ok(tokenizer)
}

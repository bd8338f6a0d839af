//! A model that can be run: one forward pass, whatever the weights are made of.

mod block;
mod embedding;
mod fit;
mod forward;
mod from_checkpoint;
mod from_container;
pub mod gradient;
mod linear;
mod observer;
mod options;
mod parameters;
mod scratch;
mod session;
mod source;
mod stream;
mod tier_source;
mod weights;
mod work;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lagar_format::{Container, Limits, Region};
use lagar_kernels::{Cpu, KvCache, KvFormat};

pub use fit::{TierFit, TierMemory, fit_tier, memory_of_dense, memory_of_pressed};
pub use observer::{NoObserver, Observer};
pub use options::{Activations, ModelOptions};
pub use session::Session;
pub use stream::StreamReport;
pub use work::Work;

use crate::spec::ModelSpec;
use crate::tokenizer::{Tokenizer, TokenizerConfig};
use crate::{Checkpoint, EngineError};
use embedding::Embedding;
use from_container::Opened;
use linear::Linear;
use scratch::ScratchPool;
use session::{CHUNK, STREAMED_CHUNK};
use source::Parts;
use weights::Weights;

/// A model: its description, its weights and its tokenizer.
///
/// Vectors are rows: `n × hidden` means `n` vectors of `spec().hidden` values. Results have the
/// same bits for every instruction set, number of threads and division into calls.
#[derive(Debug)]
pub struct Model {
    spec: ModelSpec,
    tokenizer: Arc<Tokenizer>,
    embedding: Embedding,
    weights: Weights,
    final_norm: Vec<f32>,
    /// Whether any weight is.
    is_pressed: bool,
    activations: Activations,
    kv: KvFormat,
    files: Vec<(String, Region)>,
    /// What comes before the names of these files in messages.
    origin: String,
    file_bytes: u64,
    parameters: u64,
    scratch: ScratchPool,
    /// The file that this is a tier of; `None` for a checkpoint.
    opened: Option<Arc<Opened>>,
    tier: usize,
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
        Self::open_container(container, tier, options)
    }

    fn from_parts(parts: Parts, options: &ModelOptions) -> Self {
        let pressed = parts.embedding.is_pressed() || parts.weights.is_pressed();
        let fast = pressed && options.activations == Activations::Int8;
        Self {
            parameters: parts.spec.parameters(),
            tokenizer: parts.tokenizer,
            embedding: parts.embedding,
            weights: parts.weights,
            final_norm: parts.final_norm,
            is_pressed: pressed,
            activations: options.activations,
            kv: options
                .kv
                .unwrap_or(if fast { KvFormat::F16 } else { KvFormat::F32 }),
            files: parts.files,
            origin: parts.origin,
            file_bytes: parts.file_bytes,
            spec: parts.spec,
            scratch: ScratchPool::default(),
            opened: parts.opened,
            tier: parts.tier,
        }
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

    /// The name of a small file as messages show it, with the folder or file that it is in.
    pub fn shown(&self, name: &str) -> String {
        format!("{}{name}", self.origin)
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

    /// How many tokens are taken through all blocks at once: 256, or more where weights are read from
    /// the disk.
    pub fn chunk(&self) -> usize {
        match self.weights.stream() {
            None => CHUNK,
            Some(stream) => {
                let fitting = stream.window_bytes() / fit::vector_bytes(&self.spec);
                (fitting as usize).clamp(CHUNK, STREAMED_CHUNK)
            }
        }
    }

    /// An empty cache of one block's keys and values. Memory is taken as it fills.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn layer_cache(&self, layer: usize) -> KvCache {
        let attention = &self.spec.blocks[layer].attention;
        KvCache::new(self.kv, attention.kv_heads, attention.head_dim)
    }

    /// What was read from the disk since the model was opened, or since
    /// [`Model::reset_streaming`]; `None` where all weights are in memory.
    pub fn streaming(&self) -> Option<StreamReport> {
        let stream = self.weights.stream()?;
        Some(StreamReport {
            window_bytes: stream.window_bytes(),
            decoded_bytes: stream.decoded_bytes(),
            ..stream.counters().report()
        })
    }

    /// Starts the counts of [`Model::streaming`] from zero.
    pub fn reset_streaming(&self) {
        if let Some(stream) = self.weights.stream() {
            stream.counters().reset();
        }
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
        let missing = || EngineError::MissingTensor {
            file: self.spec.architecture.clone(),
            tensor: name.into(),
            expected: Vec::new(),
        };
        let vector = |vector: &[f32]| {
            assert!(rows.end <= 1, "{name} has one row");
            vector.repeat(rows.len())
        };
        let matrix = |linear: &Linear| {
            assert!(rows.end <= linear.outputs, "{name} has {}", linear.outputs);
            linear.row_range(cpu, rows.clone())
        };
        if name == self.spec.embedding {
            assert!(rows.end <= self.spec.vocabulary, "{name}");
            let mut out = vec![0.0; rows.len() * self.spec.hidden];
            let tokens: Vec<u32> = rows.map(|row| row as u32).collect();
            self.scratch.with(|scratch| {
                let rows = &mut scratch.rows;
                self.embedding.rows(cpu, &tokens, rows, &mut out)
            })?;
            return Ok(out);
        }
        if name == self.spec.final_norm.weight {
            return Ok(vector(&self.final_norm));
        }
        let head = &self.spec.head;
        if name == head.weight {
            assert!(rows.end <= head.outputs, "{name} has {}", head.outputs);
            let (mut out, mut first) = (Vec::new(), 0);
            for piece in 0..self.weights.head_pieces() {
                let piece = self.weights.head(cpu, piece)?;
                let all = first..first + piece.outputs;
                let from = rows.start.clamp(all.start, all.end) - first;
                let to = rows.end.clamp(all.start, all.end) - first;
                out.extend(piece.row_range(cpu, from..to));
                first = all.end;
            }
            return Ok(out);
        }
        if Some(name) == head.bias.as_deref() {
            let mut bias = Vec::new();
            for piece in 0..self.weights.head_pieces() {
                let piece = self.weights.head(cpu, piece)?;
                bias.extend_from_slice(piece.bias.as_deref().ok_or_else(missing)?);
            }
            return Ok(vector(&bias));
        }
        for (layer, block) in self.spec.blocks.iter().enumerate() {
            let norms = block.norms();
            if let Some(at) = { norms }.position(|norm| norm.weight == name) {
                let weights = self.weights.block(cpu, layer)?;
                return Ok(vector(weights.norms().nth(at).ok_or_else(missing)?));
            }
            for (at, linear) in block.linears().enumerate() {
                let bias = linear.bias.as_deref() == Some(name);
                if bias || linear.weight == name {
                    let weights = self.weights.block(cpu, layer)?;
                    let linear = weights.linears().nth(at).ok_or_else(missing)?;
                    return match bias {
                        true => Ok(vector(linear.bias.as_deref().ok_or_else(missing)?)),
                        false => Ok(matrix(linear)),
                    };
                }
            }
        }
        Err(missing())
    }
}

/// The tokenizer among the small files; `origin` comes before their names in messages.
fn tokenizer(
    origin: &str,
    files: &[(String, Region)],
    spec: &ModelSpec,
) -> Result<Tokenizer, EngineError> {
    let shown = |name: &str| format!("{origin}{name}");
    let find = |name: &str| {
        let (_, bytes) = files.iter().find(|(known, _)| known == name)?;
        Some(&bytes[..])
    };
    let config = match find("tokenizer_config.json") {
        Some(bytes) => TokenizerConfig::from_json(&shown("tokenizer_config.json"), bytes)?,
        None => TokenizerConfig::default(),
    };
    let bytes = find("tokenizer.json").ok_or_else(|| EngineError::Tokenizer {
        file: shown("tokenizer.json"),
        problem: "is missing; a model needs its tokenizer in this form".into(),
    })?;
    let tokenizer = Tokenizer::from_bytes(&shown("tokenizer.json"), bytes, &config)?;
    tokenizer.check_vocabulary(spec.vocabulary)?;
    Ok(tokenizer)
}

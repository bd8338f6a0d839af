//! Runs language models from checkpoints and from pressed files.

mod error;

pub mod chat;
pub mod checkpoint;
pub mod exact;
pub mod generate;
pub mod model;
pub mod sampling;
pub mod spec;
mod stored;
pub mod tokenizer;

pub use chat::{ChatTemplate, Message};
pub use checkpoint::{Checkpoint, TensorView};
pub use error::EngineError;
pub use generate::{GenerateOptions, GenerationConfig, Generator, ModelSequence, StopReason};
pub use lagar_kernels::{KvCache, KvFormat};
pub use model::gradient;
pub use model::{
    Activations, Model, ModelOptions, NoObserver, Observer, Session, StreamReport, TierFit,
    TierMemory, Work, fit_tier, memory_of_dense, memory_of_pressed,
};
pub use sampling::{Sampler, SamplingOptions};
pub use spec::{ModelSpec, Role, Site, SiteId, TensorSpec};
pub use tokenizer::{Tokenizer, TokenizerConfig};

//! Runs language models from checkpoints and from pressed files.

pub mod chat;
mod error;

pub mod generate;
pub mod sampling;
pub mod tokenizer;

pub use chat::{ChatTemplate, Message};
pub use error::EngineError;
pub use generate::{GenerateOptions, GenerationConfig, Generator, StopReason};
pub use sampling::{Sampler, SamplingOptions};
pub use tokenizer::{Tokenizer, TokenizerConfig};

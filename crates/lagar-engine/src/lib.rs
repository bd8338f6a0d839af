//! Runs language models from checkpoints and from pressed files.

mod error;

pub mod chat;
pub mod generate;
pub mod sampling;
pub mod tokenizer;

pub use error::EngineError;

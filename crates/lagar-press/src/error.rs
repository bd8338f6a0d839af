//! What can go wrong while pressing, measuring or exporting.

use std::path::PathBuf;

use thiserror::Error;

/// Errors of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PressError {
    /// The checkpoint or the model could not be read or run.
    #[error(transparent)]
    Engine(#[from] lagar_engine::EngineError),
    /// A `.lagar` file could not be written or read.
    #[error(transparent)]
    Format(#[from] lagar_format::FormatError),
    /// The code of weights refused its input.
    #[error(transparent)]
    Codec(#[from] lagar_codec::CodecError),
    /// A file of the press itself could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A weight is NaN or infinite.
    #[error("{file}: tensor {tensor}: {found}; a checkpoint with such weights cannot be pressed")]
    NotFinite {
        /// The file of the checkpoint.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The first such weight.
        found: lagar_engine::checkpoint::NonFinite,
    },
    /// A Hessian could not be factored.
    #[error(
        "the inputs of {what} give no usable second moments (mean {mean}); the model's activations overflow on this text"
    )]
    Hessian {
        /// The site.
        what: String,
        /// Mean of the diagonal.
        mean: f32,
    },
    /// The text has too few tokens.
    #[error("the {purpose} text has {tokens} tokens; at least {needed} are needed")]
    TextTooShort {
        /// What the text is for.
        purpose: &'static str,
        /// Tokens that it has.
        tokens: usize,
        /// Tokens that are needed.
        needed: usize,
    },
    /// A depth outside 1 to 8.
    #[error("{bits} bits per weight were asked for; 1 to 8 are possible")]
    Bits {
        /// The depth.
        bits: u8,
    },
    /// Work in progress belongs to another press.
    #[error("{}: the unfinished press there has {what}; finish it with the same checkpoint, text and settings, or delete the folder", path.display())]
    Mismatch {
        /// The folder of work in progress.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Two models that are compared do not share a vocabulary.
    #[error(
        "the reference has {reference} output tokens and the model {model}; they must share a vocabulary"
    )]
    Vocabulary {
        /// Vocabulary of the reference.
        reference: usize,
        /// Vocabulary of the model.
        model: usize,
    },
    /// The finished file does not read back as what was pressed.
    #[error("{}: the finished file does not read back: {what}", path.display())]
    ReadBack {
        /// The file under its temporary name.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

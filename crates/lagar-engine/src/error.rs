//! What can go wrong between a folder or file on disk and a token.

use std::io;
use std::path::PathBuf;

/// Every way in which the engine refuses.
///
/// `file` fields hold the name to show to a user: a path, or the name of a file stored inside a
/// container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The operating system refused to read a file or folder.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },

    /// A folder lacks a file that every checkpoint has.
    #[error("{}: no {file} in this folder; a checkpoint is a Hugging Face folder with config.json, tokenizer.json and model.safetensors or model.safetensors.index.json", path.display())]
    MissingFile {
        /// The folder.
        path: PathBuf,
        /// The name that was looked for.
        file: String,
    },

    /// A file that must be JSON is not.
    #[error("{file}: not valid JSON: {source}")]
    Json {
        /// The file.
        file: String,
        /// Where and why.
        source: serde_json::Error,
    },

    /// A value in a configuration is absent, of the wrong type, or out of range.
    #[error("{file}: \"{key}\" {problem}")]
    Config {
        /// The configuration.
        file: String,
        /// The key, with dots for nesting.
        key: String,
        /// What is wrong with its value, and what was expected.
        problem: String,
    },

    /// The configuration names no architecture that the engine can run.
    #[error("{file}: unknown architecture {found}; known ones are {known}")]
    UnknownArchitecture {
        /// The configuration.
        file: String,
        /// What the configuration says.
        found: String,
        /// The known names.
        known: String,
    },

    /// The configuration asks for something that a known architecture may have and the engine
    /// does not compute.
    #[error("{file}: {feature} is not supported; {supported}")]
    Unsupported {
        /// The configuration.
        file: String,
        /// The unsupported feature, with its value.
        feature: String,
        /// What would be accepted.
        supported: String,
    },

    /// A file is malformed as a whole.
    #[error("{file}: {problem}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong, with the figures.
        problem: String,
    },

    /// A tensor is malformed, duplicated, or of a type or shape that cannot be used.
    #[error("{file}: tensor {tensor}: {problem}")]
    Tensor {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What is wrong, and what was expected.
        problem: String,
    },

    /// The architecture needs a tensor that is not there.
    #[error("{file}: tensor {tensor} is missing (expected shape {expected:?})")]
    MissingTensor {
        /// The folder or file that was searched.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
    },

    /// There is a tensor that the architecture does not have.
    #[error(
        "{file}: tensor {tensor} does not belong to {architecture} as config.json describes it; \
         remove it, or correct config.json"
    )]
    ExtraTensor {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The architecture.
        architecture: String,
    },

    /// A file could not be mapped, or a container could not be read.
    #[error(transparent)]
    Container(#[from] lagar_format::FormatError),

    /// What a container stores does not fit together.
    #[error("{file}: tensor {tensor}: {source}")]
    Code {
        /// The container.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong with its code.
        source: lagar_codec::CodecError,
    },

    /// A container does not hold the tier that was asked for.
    #[error("{file}: no tier {tier} here; it holds {available}")]
    MissingTier {
        /// The container.
        file: String,
        /// The tier that was asked for.
        tier: String,
        /// The tiers that can be run.
        available: String,
    },

    /// The system started no thread to read weights with.
    #[error("cannot start a thread to read weights with: {source}; keep all tiers in memory")]
    Thread {
        /// The system's reason.
        source: io::Error,
    },

    /// The thread that reads weights has ended, which is a defect.
    #[error("the thread that reads weights from the disk has ended; please report this")]
    ReaderEnded,

    /// A token id that the model's vocabulary does not hold.
    #[error("token {token} at position {position} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Its place in the sequence.
        position: usize,
        /// The size of the vocabulary.
        vocabulary: usize,
    },

    /// A sequence would become longer than its context.
    #[error("{asked} tokens do not fit the context of {context} tokens")]
    ContextExceeded {
        /// The length that the sequence would have.
        asked: usize,
        /// The longest that is possible.
        context: usize,
    },

    /// A tokenizer could not be loaded, or does not fit the model.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The tokenizer's file.
        file: String,
        /// What is wrong.
        problem: String,
    },

    /// Text could not be turned into tokens, or tokens into text.
    #[error("the tokenizer cannot {action}: {problem}")]
    Tokenize {
        /// `encode ...` or `decode ...`, with what.
        action: String,
        /// The tokenizer's reason.
        problem: String,
    },

    /// A chat template does not parse, or refuses the conversation.
    #[error("chat template: {problem}")]
    ChatTemplate {
        /// What is wrong, with the line where there is one.
        problem: String,
    },

    /// A sampling option is out of range.
    #[error("{option} = {value} is out of range; it must be {allowed}")]
    SamplingOption {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },

    /// A model's logits are not numbers to choose a token by.
    #[error("no token can be chosen: {problem}; the weights or the file may be damaged")]
    Logits {
        /// Which logit is what.
        problem: String,
    },

    /// What a backward pass computes overflows.
    #[error(
        "the {what} is not finite at token {position}: numbers overflow there; the weights may be damaged, or this text is unlike any that the model can read"
    )]
    Gradient {
        /// `loss`, `result of ...` or `gradient of ...`, with the layer.
        what: String,
        /// The token's place in the window.
        position: usize,
    },

    /// Nothing to continue.
    #[error("the prompt is empty and the tokenizer adds no beginning token; give some text")]
    EmptyPrompt,
}

impl EngineError {
    pub(crate) fn config(file: &str, key: &str, problem: impl Into<String>) -> Self {
        Self::Config {
            file: file.into(),
            key: key.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn tensor(file: &str, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor {
            file: file.into(),
            tensor: tensor.into(),
            problem: problem.into(),
        }
    }
}

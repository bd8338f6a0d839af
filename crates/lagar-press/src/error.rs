//! What can go wrong while pressing, measuring or exporting.

use std::path::PathBuf;

use thiserror::Error;

use crate::StageBits;

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
    /// Too many stages, or nothing at all to write.
    #[error("{stages} stages were asked for; 1 to 3 are possible, or none with the exact section")]
    Stages {
        /// The number of stages.
        stages: usize,
    },
    /// A primary tier that the file will not have.
    #[error("tier {tier} (counted from 0) is to matter most, but there are {stages} stages")]
    Primary {
        /// Position of the tier.
        tier: usize,
        /// The number of stages.
        stages: usize,
    },
    /// An effort that is more than there is.
    #[error("effort {effort}; it is 0 to 3")]
    Effort {
        /// What was asked for.
        effort: u8,
    },
    /// Dampings that do not fit the stages.
    #[error("dampings {damping:?} for {stages} stages; each stage takes one, not negative")]
    Damping {
        /// What was asked for.
        damping: Vec<f32>,
        /// The number of stages.
        stages: usize,
    },
    /// A depth outside 1 to 8.
    #[error("{bits} bits per weight were asked for; 1 to 8 are possible")]
    Bits {
        /// What was asked for.
        bits: StageBits,
    },
    /// No file is that small.
    #[error(
        "tier {tier} cannot have {target} bytes: without any bits for its weights the file already has {floor} ({:.3} bits per parameter)", *.floor as f64 * 8.0 / *.parameters as f64
    )]
    BelowFloor {
        /// The tier.
        tier: &'static str,
        /// What was asked for, in bytes.
        target: u64,
        /// The least possible.
        floor: u64,
        /// Parameters of the checkpoint.
        parameters: u64,
    },
    /// No file is that large.
    #[error(
        "tier {tier} cannot have {target} bytes: with 8 bits for every weight, the most there are, it has {ceiling} ({:.3} bits per parameter); `--bits 8` asks for that", *.ceiling as f64 * 8.0 / *.parameters as f64
    )]
    AboveCeiling {
        /// The tier.
        tier: &'static str,
        /// What was asked for, in bytes.
        target: u64,
        /// The most possible.
        ceiling: u64,
        /// Parameters of the checkpoint.
        parameters: u64,
    },
    /// A pressed file would be larger than what it is made from.
    #[error(
        "{target} bytes were asked for, but the checkpoint's weights have {original}: `--tiers exact` stores them in less, without any loss"
    )]
    AboveOriginal {
        /// What was asked for, in bytes.
        target: u64,
        /// Bytes of the original weights.
        original: u64,
    },
    /// Work in progress belongs to another press.
    #[error("{}: the unfinished press there has {what}; finish it with the same checkpoint, text and settings, or delete the folder", path.display())]
    Mismatch {
        /// The folder of work in progress.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The name for work in progress is taken by something that is not ours.
    #[error("{}: {what}; move it away, or choose another output", path.display())]
    Occupied {
        /// The folder of work in progress.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// Another press works on the same output.
    #[error("{}: another press is working there; wait for it, or choose another output", path.display())]
    Busy {
        /// The folder of work in progress.
        path: PathBuf,
    },
    /// The output would take the place of something that the press reads.
    #[error("cannot write {}: the press reads {what} from there; choose another output", path.display())]
    OutputIsInput {
        /// The output.
        path: PathBuf,
        /// What it would replace.
        what: String,
    },
    /// A weight matrix has a row of values too large to be coded.
    #[error("{tensor}: row {row} is too large to be pressed: its scale would not be finite")]
    TooLarge {
        /// The tensor's name.
        tensor: String,
        /// The row of the matrix.
        row: usize,
    },
    /// A model's predictions are not numbers.
    #[error(
        "{model} gives {value} as a logit on this text (position {position} of a window); its weights overflow or the file is damaged"
    )]
    Logits {
        /// `the model` or `the reference`.
        model: &'static str,
        /// The logit: NaN or an infinity.
        value: f32,
        /// Position in the window of the token that was to be predicted.
        position: usize,
    },
    /// A line of a task's file cannot be used.
    #[error("{}, line {line}: {problem}", path.display())]
    TaskLine {
        /// The task's file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A task's file has no examples.
    #[error("{}: no examples in it; a task has one JSON object on each line", path.display())]
    EmptyTask {
        /// The task's file.
        path: PathBuf,
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
    /// The checkpoint changed while it was being pressed.
    #[error("{what} changed while it was being pressed; press again")]
    Changed {
        /// The file or tensor.
        what: String,
    },
    /// The file has no exact section, or not to its end.
    #[error("{} has no complete tier \"full\", from which a checkpoint is restored: it has {tiers}{}", path.display(), if *cut_off { " (it was cut off before the end of \"full\"; fetch or join the rest)" } else { "; press with +exact" })]
    NoExact {
        /// The file.
        path: PathBuf,
        /// The tiers that it has.
        tiers: String,
        /// Whether the index has the tier, but the file does not reach its end.
        cut_off: bool,
    },
    /// Bytes do not come back as they were.
    #[error("{}: {what} does not come back as it was: its BLAKE3 hash differs", path.display())]
    Damaged {
        /// The `.lagar` file.
        path: PathBuf,
        /// The file or tensor of the checkpoint.
        what: String,
    },
    /// There is no tensor of a name.
    #[error("{}: none of its {tensors} tensors is called {name:?}; `lagar inspect --tensors` lists them", path.display())]
    NoSuchTensor {
        /// The `.lagar` file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// Number of tensors.
        tensors: usize,
    },
    /// A tensor is kept in a way that this version does not know.
    #[error("tensor {tensor:?} is kept in a way that this version does not know")]
    UnknownExact {
        /// The tensor.
        tensor: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

//! `lagar eval`.

use super::KvKind;
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Measure how well a model predicts a text, and how close it is to the original
///
/// The text is cut into windows of --context tokens that do not overlap; every token but the first of
/// a window is scored. With --reference the original runs beside the model, and their predictions are
/// compared at every position.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar eval qwen.lagar --text wiki.txt
  lagar eval qwen.lagar --text wiki.txt --reference Qwen3-0.6B --tokens 20000 --json

Losses are in nats (natural logarithm). perplexity = exp(loss per token); lower is better.
KL says how far the model's predictions are from the original's; 0 means the same.")]
pub(crate) struct EvalArgs {
    /// A .lagar file or a checkpoint folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// The text to measure on, UTF-8
    #[arg(long, value_name = "FILE")]
    pub(crate) text: PathBuf,

    /// The original checkpoint to compare with
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) reference: Option<PathBuf>,

    /// Tokens in a window [default: the model's context, at most 2048]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) context: Option<u32>,

    /// Take only the first N tokens of the text
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<NonZeroUsize>,

    /// Also give loss and KL for each power-of-two range of positions in a window
    #[arg(long)]
    pub(crate) by_position: bool,

    /// Quality level of the file to measure [default: the best one that fits in the memory that is
    /// free]
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,

    /// How keys and values of past tokens are kept [default: f16 with pressed weights and int8
    /// activations, else f32]
    #[arg(long, value_name = "KIND")]
    pub(crate) kv: Option<KvKind>,
}

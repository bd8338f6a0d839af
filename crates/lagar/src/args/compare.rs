//! `lagar compare`.

use super::{KvKind, TaskArgs};
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Put models side by side: size, losses, answers, speed
///
/// One row for each model, the original first. All of them, and the original once, run through the same
/// windows of the text, as in `lagar eval`. Speed is that of text made token by token, the best of three
/// short runs taken in turns.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar compare a.lagar b.lagar --reference Qwen3-0.6B --text wiki.txt
  lagar compare qwen.lagar@R qwen.lagar@RG --reference Qwen3-0.6B --text wiki.txt
  lagar compare *.lagar --reference Qwen3-0.6B --text wiki.txt --task lambada --task arc-easy --json

`lagar help eval` says what the figures mean, and where the questions of tasks come from.")]
pub(crate) struct CompareArgs {
    /// .lagar files or checkpoint folders; FILE@TIER takes that quality level of a file
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<PathBuf>,

    /// The original checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) reference: PathBuf,

    /// The text to measure on, UTF-8
    #[arg(long, value_name = "FILE")]
    pub(crate) text: PathBuf,

    /// Also let the models answer the questions of a task; may be given several times
    #[arg(long, value_name = "NAME|FILE.jsonl")]
    pub(crate) task: Vec<String>,

    #[command(flatten)]
    pub(crate) source: TaskArgs,

    /// Tokens in a window [default: the shortest of the models' contexts, at most 2048]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) context: Option<u32>,

    /// Take only the first N tokens of the text
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<NonZeroUsize>,

    /// Quality level of files that name none themselves [default: the best one that fits in the
    /// memory that is free]
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,

    /// How each MODEL keeps the keys and values of past tokens in memory [default: f16 with pressed
    /// weights and int8 activations, else f32]. The original keeps them as f32
    #[arg(long, value_name = "KIND")]
    pub(crate) kv: Option<KvKind>,
}

//! `lagar eval`.

use super::{KvKind, TaskArgs};
use clap::{ArgGroup, Args};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Measure how well a model predicts a text or answers questions, and how close it is to the original
///
/// The text is cut into windows of --context tokens that do not overlap; every token but the first of
/// a window is scored. With --reference the original runs beside the model, and their predictions are
/// compared at every position. With --task each answer is scored by its likelihood after the question,
/// as EleutherAI's lm-eval does it.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("measured").args(["text", "task"]).multiple(true).required(true)))]
#[command(after_help = "\
Examples:
  lagar eval qwen.lagar --text wiki.txt
  lagar eval qwen.lagar --text wiki.txt --reference Qwen3-0.6B --tokens 20000 --json
  lagar eval qwen.lagar --task arc-easy --tasks ~/tasks
  lagar eval qwen.lagar --task questions.jsonl --limit 500

Losses are in nats (natural logarithm). perplexity = exp(loss per token); lower is better.
KL says how far the model's predictions are from the original's; 0 means the same.

Questions are read from your own files: one JSON object on each line. A named task's file (lambada.jsonl, \
arc_easy.jsonl, piqa.jsonl, winogrande.jsonl) has the fields of the data set on huggingface.co \
(EleutherAI/lambada_openai, allenai/ai2_arc, ybisk/piqa, allenai/winogrande) or those of \
scripts/eval/local_data in github.com/mosaicml/llm-foundry. A line of any other file is one of
  {\"prompt\": TEXT, \"answer\": TEXT}
  {\"prompt\": TEXT, \"choices\": [TEXT, ...], \"answer\": POSITION FROM 0}
or has the fields of one of those. A text to complete is right if greedy decoding gives it; of choices, \
the likeliest is the answer, as it is and, for accuracy_norm, for each of its characters.")]
pub(crate) struct EvalArgs {
    /// A .lagar file or a checkpoint folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// The text to measure on, UTF-8
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,

    /// The original checkpoint to compare with
    #[arg(long, value_name = "CHECKPOINT", requires = "text")]
    pub(crate) reference: Option<PathBuf>,

    /// The questions to answer: lambada, arc-easy, piqa, winogrande, or a file
    #[arg(long, value_name = "NAME|FILE.jsonl")]
    pub(crate) task: Option<String>,

    #[command(flatten)]
    pub(crate) source: TaskArgs,

    /// Tokens in a window [default: the model's context, at most 2048]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) context: Option<u32>,

    /// Take only the first N tokens of the text
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<NonZeroUsize>,

    /// Also give loss and KL for each power-of-two range of positions in a window
    #[arg(long, requires = "text")]
    pub(crate) by_position: bool,

    /// Quality level of the file to measure [default: the best one that fits in the memory that is
    /// free]
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,

    /// How MODEL keeps the keys and values of past tokens in memory [default: f16 with pressed weights
    /// and int8 activations, else f32]. The original keeps them as f32
    #[arg(long, value_name = "KIND")]
    pub(crate) kv: Option<KvKind>,
}

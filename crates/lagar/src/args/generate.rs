//! `lagar run` and `lagar chat`, and the sampling options that they share.

use super::KvKind;
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Complete a prompt, or answer it
///
/// A model that brings a chat template answers the prompt; any other, and any with --raw, continues
/// the text. The text appears as it is made. Sampling follows the options; where they are silent, what
/// the checkpoint recommends; and where that is silent too, a temperature of 0.8 and a top-p of 0.95.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar run qwen.lagar \"Why is the sky blue?\"
  lagar run novels.lagar \"It was a fine morning, and\" -n 100 --greedy
  cat question.txt | lagar run qwen.lagar --json
  lagar run qwen.lagar \"Why?\" --tier full --resident R --draft R
                         the original's own words, on a machine that it does not fit in")]
pub(crate) struct RunArgs {
    /// A .lagar file or a checkpoint folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// What to complete or answer [default: all of stdin]
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Option<String>,

    /// Continue the text as it stands, without the model's chat template
    #[arg(long)]
    pub(crate) raw: bool,

    #[command(flatten)]
    pub(crate) tiers: TierArgs,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

/// Talk with a model
///
/// The conversation so far is kept computed, so each answer costs only its own tokens. Ctrl-C stops an
/// answer, Ctrl-D leaves, /help lists what else can be done.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar chat qwen.lagar
  lagar chat qwen.lagar --system \"Answer in one sentence.\" --temperature 0.3")]
pub(crate) struct ChatArgs {
    /// A .lagar file or a checkpoint folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// What the model is told before the conversation starts
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    #[command(flatten)]
    pub(crate) tiers: TierArgs,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

/// How the next token is chosen. What is not given comes from the checkpoint's `generation_config.json`;
/// where that is silent too, the temperature is 0.8 and top-p 0.95.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Make at most this many tokens [default: 256 for run, what the context holds for chat]
    #[arg(short = 'n', long = "tokens", value_name = "N")]
    pub(crate) tokens: Option<NonZeroUsize>,

    /// Always take the most likely token
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "seed"])]
    pub(crate) greedy: bool,

    /// Below 1 more predictable, above 1 more surprising; 0 is greedy
    #[arg(long, value_name = "T", value_parser = temperature, allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,

    /// Choose among the K most likely tokens (0: all)
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,

    /// Choose among the most likely tokens that together reach this probability
    #[arg(long, value_name = "P", value_parser = top_p, allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,

    /// Drop tokens less likely than this share of the most likely one
    #[arg(long, value_name = "P", value_parser = probability, allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,

    /// Above 1: make tokens that already occurred less likely
    #[arg(long, value_name = "X", value_parser = penalty, allow_negative_numbers = true)]
    pub(crate) repeat_penalty: Option<f32>,

    /// Seed of the random choices; the same seed gives the same text [default: a new one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Stop before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
}

/// Which quality levels of a file are used, and how.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TierArgs {
    /// Quality level of the file to run [default: the best one that fits in the memory that is free]
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,

    /// Let this lower quality level guess some tokens ahead, which --tier then checks all at once
    ///
    /// The text is the same as without, token for token; it only takes less time where --tier is slow,
    /// above all with --resident.
    #[arg(long, value_name = "TIER")]
    pub(crate) draft: Option<String>,

    /// Keep the file in memory up to this quality level only, and read what --tier adds from the disk
    /// for every pass
    #[arg(long, value_name = "TIER")]
    pub(crate) resident: Option<String>,

    /// How the keys and values of past tokens, which grow with the text, are kept in memory [default: f16
    /// with pressed weights and int8 activations, else f32]
    #[arg(long, value_name = "KIND")]
    pub(crate) kv: Option<KvKind>,

    /// Copy the weights to memory of large pages, where the system has them, instead of mapping the file (Linux; takes longer
    /// to start, twice the memory meanwhile, and then as much that no other process shares)
    #[arg(long)]
    pub(crate) huge_pages: bool,
}

fn number(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("not a number".to_owned()),
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    let value = number(text)?;
    if value >= 0.0 {
        Ok(value)
    } else {
        Err("must not be negative".to_owned())
    }
}

fn probability(text: &str) -> Result<f32, String> {
    let value = number(text)?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err("must lie between 0 and 1".to_owned())
    }
}

fn top_p(text: &str) -> Result<f32, String> {
    match probability(text)? {
        0.0 => Err("must be above 0".to_owned()),
        value => Ok(value),
    }
}

fn penalty(text: &str) -> Result<f32, String> {
    let value = number(text)?;
    // Far beyond what is of use, and no logit overflows.
    if (0.01..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err("must lie between 0.01 and 100".to_owned())
    }
}

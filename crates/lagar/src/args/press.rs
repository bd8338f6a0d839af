//! `lagar press`.

use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Press a checkpoint into a .lagar file
///
/// Reads the checkpoint one layer at a time, runs calibration text through it to learn which inputs
/// matter, and writes weights of a few bits each. The file appears under its name only once it is
/// complete and has been read back; until then the work lies in FILE.partial/.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar press Qwen3-0.6B -o qwen.lagar
  lagar press Qwen3-0.6B -o qwen.lagar --bits 3 --text books.txt --text code.txt
  lagar press Qwen3-0.6B -o qwen.lagar --resume    go on after an interruption")]
pub(crate) struct PressArgs {
    /// The original model: a Hugging Face checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,

    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Bits for each weight, 1 to 8: fewer bits, smaller file, larger loss
    ///
    /// 4 is hard to tell from the original, 3 costs a little quality, 2 costs quality that shows,
    /// most of all on small models. Scales, norms and the tokenizer come on top.
    #[arg(short, long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) bits: u8,

    /// Calibration text, UTF-8; may be given several times [default: a text that is built in]
    ///
    /// Take text like that which the model will see. 100,000 tokens are plenty.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) text: Vec<PathBuf>,

    /// Use at most this many tokens of the calibration text
    #[arg(long, value_name = "N", default_value = "131072")]
    pub(crate) tokens: NonZeroUsize,

    /// Seed of the random signs of the input transforms
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Go on from FILE.partial/ where an earlier press of the same things stopped
    #[arg(long)]
    pub(crate) resume: bool,

    /// Check everything and say what would be written, but write nothing
    #[arg(long, conflicts_with = "resume")]
    pub(crate) dry_run: bool,
}

//! `lagar press`.

use super::tiers::{StageTier, Tiers};
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
  lagar press Qwen3-0.6B -o qwen.lagar --tiers 2,1,1+exact
  lagar press Qwen3-0.6B -o qwen.lagar --resume    go on after an interruption")]
pub(crate) struct PressArgs {
    /// The original model: a Hugging Face checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,

    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// The qualities that the file holds: bits per weight of each stage, then +exact for the original
    ///
    /// One to three stages of 1 to 8 bits each make the tiers R, RG and RGB: the first alone, then each
    /// sharpened by the next. `+exact` adds tier full, which gives the checkpoint back bit for bit.
    /// `exact` alone holds nothing else. [default: 2,2+exact]
    #[arg(long, value_name = "BITS,…[+exact]")]
    pub(crate) tiers: Option<Tiers>,

    /// The tier that matters most: earlier stages are made so that it comes out well
    ///
    /// By default the last one before the exact section.
    #[arg(long, value_name = "TIER", value_enum)]
    pub(crate) primary: Option<StageTier>,

    /// One tier of so many bits for each weight, 1 to 8, and no exact section
    ///
    /// Fewer bits, smaller file, larger loss: 4 is hard to tell from the original, 3 costs a little quality, 2 costs quality that shows,
    /// most of all on small models. Scales, norms and the tokenizer come on top.
    #[arg(short, long, value_name = "K", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) bits: Option<u8>,

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

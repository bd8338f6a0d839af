//! `lagar press`.

use super::tiers::{Size, StageTier, Tiers};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use lagar_press::Recipe;
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
  lagar press Qwen3-0.6B -o qwen.lagar --bpw 2.56
  lagar press Qwen3-0.6B -o qwen.lagar --size 250MB
  lagar press Qwen3-0.6B -o qwen.lagar --quality 0.02
  lagar press Qwen3-0.6B -o qwen.lagar --tiers 2,1,1+exact
  lagar press Qwen3-0.6B -o qwen.lagar --recipe ternary --bpw 2.8
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
    /// sharpened by the next. A number with a point, such as 1.8, is an average: more bits go to weights that
    /// matter more. `+exact` adds tier full, which gives the checkpoint back bit for bit.
    /// `exact` alone holds nothing else. [default: 2,2+exact]
    #[arg(long, value_name = "BITS,…[+exact]")]
    pub(crate) tiers: Option<Tiers>,

    /// Which kinds of stage the first tier has
    ///
    /// xbit: trellis codes. tiers: the same, by the name of its usual shape, 2,2+exact. codebook: levels fitted to each tensor,
    /// without a trellis; 4 bits unless --bits says otherwise. ternary: two codes of levels -1, 0 and 1, and single weights of
    /// large effect as they are, in 3 bits for each parameter of the whole file unless --bpw or --size says otherwise.
    /// eigen: a low-rank product where it pays, and trellis codes of 3 bits for what it leaves. Tiers after the first have
    /// trellis codes with every recipe. [default: xbit]
    #[arg(long, value_name = "NAME", value_parser = recipe())]
    pub(crate) recipe: Option<Recipe>,

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

    /// So many bits for each parameter, the whole file counted: weights that matter more get more
    ///
    /// Any number, such as 2.56. The file comes out at most that large, and less than half a percent smaller. A backward pass over calibration
    /// text finds out what matters. With --tiers, the length of the file up to the primary tier.
    #[arg(long, value_name = "X", conflicts_with = "bits")]
    pub(crate) bpw: Option<f64>,

    /// The same, as a size: 3GB, 700MB, 2.5GiB, or 40% of the checkpoint's
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["bits", "bpw"])]
    pub(crate) size: Option<Size>,

    /// As small as loses so little: the mean KL to the original, in nats, at most this and not much less
    ///
    /// 0.01 is hard to tell from the original, 0.1 shows. Measured on text that was not learned from, as the press reports it in the end. Several
    /// files are pressed on the way, so it takes as long as 2 to 5 presses. With --tiers, of the primary tier.
    #[arg(long, value_name = "KL", conflicts_with_all = ["bits", "bpw", "size"])]
    pub(crate) quality: Option<f64>,

    /// What the model shall keep where --bpw, --size, --quality or an average in --tiers lets depths be chosen: kl, all its
    /// predictions, or only the right answers of a task
    ///
    /// A task is lambada, arc-easy, piqa or winogrande, or a file of questions; `lagar help eval` lists the forms that its lines may have.
    #[arg(long, value_name = "kl|NAME|FILE.jsonl", default_value = "kl")]
    pub(crate) cost: String,

    /// The folder with the questions of named tasks [default: LAGAR_TASKS in the environment, else the current folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) tasks: Option<PathBuf>,

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

    /// Work on scales, norms and biases after rounding, 0 to 3
    ///
    /// They are fitted to the original's outputs by gradient: with 1 on a quarter as much text as is read for calibration,
    /// with 2 on as much, with 3 on four times as much. 0 leaves them as they are. The loss before and after is reported.
    /// Where depths are chosen, 2 chooses them once more and 3 three times more by what the pressed model loses; each time is a press.
    #[arg(long, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(u8).range(..=i64::from(lagar_press::MOST_EFFORT)))]
    pub(crate) effort: u8,

    /// Go on from FILE.partial/ where an earlier press of the same things stopped
    #[arg(long)]
    pub(crate) resume: bool,

    /// Write no report about the press
    ///
    /// It is a page beside the file, FILE.html for FILE.lagar: where the bits went, and what is lost of each tensor.
    #[arg(long)]
    pub(crate) no_report: bool,

    /// Say what would be written, but write nothing
    ///
    /// The length of each tier and the memory to run it in, what is possible for a size that was asked for, and about how long
    /// the press would take: a few seconds of its work are timed.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) dry_run: bool,
}

/// A recipe by its name.
fn recipe() -> impl TypedValueParser<Value = Recipe> {
    PossibleValuesParser::new(Recipe::ALL.map(Recipe::name)).try_map(|name| name.parse::<Recipe>())
}

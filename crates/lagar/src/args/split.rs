//! `lagar split` and `lagar join`.

use clap::Args;
use std::path::PathBuf;

/// Cut a file after a tier
///
/// What comes first in a .lagar file is a smaller model: the file up to the end of any tier is a file of that
/// tier. The codes are not touched, so this is a copy of some of the bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar split qwen.lagar --tier RG -o small.lagar
  lagar split qwen.lagar --tier RG -o small.lagar --rest qwen.tail    to be joined again later")]
pub(crate) struct SplitArgs {
    /// A .lagar file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The last tier to keep
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: String,

    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Also write what follows the tier, for `lagar join`
    #[arg(long, value_name = "TAIL")]
    pub(crate) rest: Option<PathBuf>,
}

/// Put a file and its rest together again
///
/// The rest must have been cut from the same file, and right behind the tier where the first part ends;
/// anything else is refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lagar join small.lagar qwen.tail -o qwen.lagar")]
pub(crate) struct JoinArgs {
    /// The .lagar file that `lagar split` wrote
    #[arg(value_name = "OUT")]
    pub(crate) first: PathBuf,

    /// What it wrote as the rest
    #[arg(value_name = "TAIL")]
    pub(crate) tail: PathBuf,

    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

//! `lagar export`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Write the pressed weights as an ordinary checkpoint, for other tools
///
/// The folder holds dequantized weights, so it is as large as the original (or larger, in f32) and as
/// good as the pressed file. It does not give the original weights back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar export qwen.lagar -o qwen-dequantized
  lagar export qwen.lagar -o qwen-f32 --dtype f32")]
pub(crate) struct ExportArgs {
    /// A .lagar file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The folder to write; it must not exist yet or be empty
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,

    /// Quality level of the file to export [default: the best one it holds]
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,

    /// Number format of the weights; only f32 holds the pressed values without rounding
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub(crate) dtype: ExportDtype,
}

/// Number format of an exported checkpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ExportDtype {
    F32,
    Bf16,
    F16,
}

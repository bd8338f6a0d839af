//! `lagar restore` and `lagar verify`.

use clap::Args;
use std::path::PathBuf;

/// Give the original checkpoint back, byte for byte
///
/// Takes a file with tier full (pressed with +exact) and writes every file of the checkpoint folder as it
/// was: weights, configuration, tokenizer, all others. Each file is checked against its BLAKE3 hash, and
/// the folder appears only when all of them fit; otherwise nothing is left.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar restore qwen.lagar -o Qwen3-0.6B
  lagar restore qwen.lagar -o norms --tensor model.norm.weight")]
pub(crate) struct RestoreArgs {
    /// A .lagar file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The folder to write; it must not exist yet or be empty
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,

    /// Restore this tensor alone, into DIR/NAME.safetensors
    ///
    /// DIR may then hold other files. Characters of NAME other than letters, digits, dots, hyphens and
    /// underscores become underscores in the file's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) tensor: Option<String>,
}

/// Check everything in a file and write nothing
///
/// Checks every checksum; where the file has tier full, decodes the checkpoint and compares the hash of every
/// file and tensor. Says what is damaged and which tiers can be used all the same. The exit code is 3 if
/// something is damaged or differs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar verify qwen.lagar
  lagar verify qwen.lagar --against Qwen3-0.6B    has the checkpoint changed since?")]
pub(crate) struct VerifyArgs {
    /// A .lagar file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Also compare with this checkpoint folder, and name the files and tensors that differ
    #[arg(long, value_name = "DIR")]
    pub(crate) against: Option<PathBuf>,
}

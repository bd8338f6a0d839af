//! `lagar inspect`.

use clap::Args;
use std::path::PathBuf;

/// Show what is inside a file
///
/// Architecture, size, quality levels; with --tensors each tensor with its shape and bits. Only the
/// file's index is read, so this is quick for files of any size.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar inspect qwen.lagar
  lagar inspect qwen.lagar --tensors --json")]
pub(crate) struct InspectArgs {
    /// A .lagar file or a checkpoint folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// List every tensor
    #[arg(long)]
    pub(crate) tensors: bool,
}

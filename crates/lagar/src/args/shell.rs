//! `lagar completions` and `lagar man`.

use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar completions bash > ~/.local/share/bash-completion/completions/lagar
  lagar completions zsh > ~/.zfunc/_lagar
  lagar completions fish > ~/.config/fish/completions/lagar.fish")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Write the manual pages
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar man -o ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder to write them to; it is made where it does not exist
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}

//! `lagar completions` and `lagar man`: both follow from the definition of the command line.

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::terminal;
use anyhow::Context;
use clap::CommandFactory;

pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lagar", &mut script);
    terminal::print(&String::from_utf8(script).context("a completion script is text")?)
}

pub(crate) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let place = || format!("cannot write manual pages to {}", args.output.display());
    std::fs::create_dir_all(&args.output).with_context(place)?;
    clap_mangen::generate_to(Cli::command(), &args.output).with_context(place)
}

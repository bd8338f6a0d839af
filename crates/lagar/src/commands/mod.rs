//! What each command does: read its arguments, call the libraries, show the result.

mod demo;
mod shell;

use crate::args::{Cli, Command};

pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
        _ => Ok(()),
    }
}

//! What each command does: read its arguments, call the libraries, show the result.

mod chat;
mod completion;
mod demo;
mod eval;
mod export;
mod inspect;
mod model;
mod press;
mod run;
mod shell;

use crate::args::{Cli, Command};
use crate::context::Context;

pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    let context = || Context::new(&cli.global);
    match &cli.command {
        Command::Press(args) => press::press(&context()?, args),
        Command::Run(args) => run::run(&context()?, args),
        Command::Chat(args) => chat::chat(&context()?, args),
        Command::Eval(args) => eval::eval(&context()?, args),
        Command::Inspect(args) => inspect::inspect(&context()?, args),
        Command::Export(args) => export::export(&context()?, args),
        Command::Demo(args) => demo::demo(&context()?, args),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
    }
}

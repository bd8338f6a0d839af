//! What each command does: read its arguments, call the libraries, show the result.

mod bench;
mod chat;
mod compare;
mod completion;
mod demo;
mod eval;
mod export;
mod inspect;
mod measured;
mod model;
mod press;
mod restore;
mod run;
mod shell;
mod speaker;
mod split;
mod task;
mod verify;

use crate::args::{Cli, Command};
use crate::context::Context;

pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    let context = || Context::new(&cli.global);
    match &cli.command {
        Command::Press(args) => press::press(&context()?, args),
        Command::Run(args) => run::run(&context()?, args),
        Command::Chat(args) => chat::chat(&context()?, args),
        Command::Eval(args) => eval::eval(&context()?, args),
        Command::Compare(args) => compare::compare(&context()?, args),
        Command::Inspect(args) => inspect::inspect(&context()?, args),
        Command::Export(args) => export::export(&context()?, args),
        Command::Restore(args) => restore::restore(&context()?, args),
        Command::Verify(args) => verify::verify(&context()?, args),
        Command::Split(args) => split::split(&context()?, args),
        Command::Join(args) => split::join(&context()?, args),
        Command::Bench(args) => bench::bench(&context()?, args),
        Command::Demo(args) => demo::demo(&context()?, args),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
    }
}

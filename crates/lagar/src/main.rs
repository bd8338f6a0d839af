//! The command line of lagar: the only crate that prints, reads the environment or ends the process.
//!
//! `args` parses, `commands` does the work through the library crates, `terminal` is everything a
//! person sees there, `page` what pages are made of, and `exit` alone decides the exit code.

mod args;
mod commands;
mod context;
mod defect;
mod exit;
mod interrupt;
mod machine;
mod page;
mod terminal;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match args::Cli::try_parse() {
        Ok(cli) => exit::report(defect::caught(|| commands::run(cli))),
        Err(error) => exit::report_parse(&error),
    }
}

//! `lagar demo`.

use clap::Args;
use std::path::PathBuf;

/// Press a small built-in model at 2, 3 and 4 bits and compare
///
/// Needs nothing but this program: a Llama of 4.5 million parameters, trained on English novels, is
/// built in. Prints a table, writes a page with a chart of quality against size, and lets each size
/// write a paragraph. Takes less than a minute on two cores.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar demo
  lagar demo -o demo     keep the pressed files, the checkpoint and the page in demo/")]
pub(crate) struct DemoArgs {
    /// Keep everything in this folder [default: only lagar-demo.html, in the current folder]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

//! Chores of the repository; `cargo xtask help` lists them.
#![allow(clippy::print_stdout)]

mod bench_encode;
mod layering;
mod random;
mod synth;
mod train_tables;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  train-tables        train the tables of lagar-codec and write them (--check: compare); minutes
  bench-encode        weights encoded per second and core, by depth and instruction set
  layering            checks the dependencies between crates
  synth-checkpoint    writes a checkpoint with random weights in any shape
  synth-pressed       writes a pressed file of random codes, for measuring speed
";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, options)) = arguments.split_first() else {
        bail!("no command given\n\n{HELP}");
    };
    match command.as_str() {
        "bench-encode" => bench_encode::run(options),
        "train-tables" => train_tables::run(options),
        "layering" => layering::check(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .as_path(),
        ),
        "synth-checkpoint" => synth::checkpoint(options),
        "synth-pressed" => synth::pressed(options),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("unknown command {command:?}\n\n{HELP}"),
    }
}

//! What the command line accepts. Nothing here does any work.

mod bench;
mod compare;
mod demo;
mod eval;
mod export;
mod generate;
mod inspect;
mod press;
mod restore;
mod shell;
mod split;
mod task;
mod tiers;

pub(crate) use bench::{BenchArgs, BenchFormat};
pub(crate) use compare::CompareArgs;
pub(crate) use demo::DemoArgs;
pub(crate) use eval::EvalArgs;
pub(crate) use export::{ExportArgs, ExportDtype};
pub(crate) use generate::{ChatArgs, RunArgs, SamplingArgs, TierArgs};
pub(crate) use inspect::InspectArgs;
pub(crate) use press::PressArgs;
pub(crate) use restore::{RestoreArgs, VerifyArgs};
pub(crate) use shell::{CompletionsArgs, ManArgs};
pub(crate) use split::{JoinArgs, SplitArgs};
pub(crate) use task::TaskArgs;
pub(crate) use tiers::{Size, StageTier};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Presses a language model into one small file and runs it from there.
///
/// A model's weights usually take 16 bits each. lagar presses them to 1–8 bits, into one `.lagar` file
/// that holds everything needed to run the model: weights, tokenizer, chat template, settings. The
/// weights stay compressed while the model runs.
///
/// MODEL is always either a `.lagar` file or a Hugging Face checkpoint folder (`config.json`,
/// `*.safetensors`, `tokenizer.json`): wherever a pressed file works, the original works too.
#[derive(Debug, Parser)]
#[command(name = "lagar", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = AFTER_LONG)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

macro_rules! examples {
    () => {
        "\
Examples:
  lagar demo                                     press and run a small model that is built in
  lagar press Qwen3-0.6B -o qwen.lagar --bits 4  press a checkpoint folder at 4 bits a weight
  lagar run qwen.lagar \"Why is the sky blue?\"    ask it something
  lagar eval qwen.lagar --text some.txt --reference Qwen3-0.6B
                                                 how much was lost?"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG: &str = concat!(
    examples!(),
    "

Environment:
  LAGAR_ISA    instruction set to use instead of the best one, for comparing and testing
  LAGAR_TASKS  folder with the questions of named tasks, where --tasks names none
  NO_COLOR     when set, no colours

Exit codes:
  0 done · 1 the work failed · 2 wrong usage · 3 bad input (file or data) · 130 interrupted"
);

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Threads to compute with [default: one for each processor core]
    ///
    /// The results are the same for every number of threads.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) threads: Option<u16>,

    /// What the inputs of pressed weights are rounded to: int8 is fast, f32 is for reference
    #[arg(long, global = true, value_name = "KIND", default_value = "int8")]
    pub(crate) activations: ActivationKind,

    /// Print the result as one JSON object on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// No progress and no messages, only results and errors
    #[arg(long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more on stderr: machine, speed, what was decided
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// What the inputs of pressed weights are rounded to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ActivationKind {
    Int8,
    F32,
}

/// How the keys and values of past tokens are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum KvKind {
    /// 32 bits a number: exact
    F32,
    /// 16 bits: hard to tell from f32
    F16,
    /// 8.1 to 8.5 bits: half the memory of f16, and next to nothing lost
    Q8,
    /// 4.5 bits: less than a third of the memory of f16, at a loss that small models show
    Q4,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Press(PressArgs),
    Run(RunArgs),
    Chat(ChatArgs),
    Eval(EvalArgs),
    Compare(CompareArgs),
    Inspect(InspectArgs),
    Export(ExportArgs),
    Restore(RestoreArgs),
    Verify(VerifyArgs),
    Split(SplitArgs),
    Join(JoinArgs),
    Bench(BenchArgs),
    Demo(DemoArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}

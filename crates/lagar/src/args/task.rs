//! Where the questions of `--task` come from.

use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// What goes with `--task`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TaskArgs {
    /// The folder with the questions of named tasks [default: LAGAR_TASKS in the environment, else
    /// the current folder]
    #[arg(long, value_name = "DIR", requires = "task")]
    pub(crate) tasks: Option<PathBuf>,

    /// Ask only the first N questions
    #[arg(long, value_name = "N", requires = "task")]
    pub(crate) limit: Option<NonZeroUsize>,
}

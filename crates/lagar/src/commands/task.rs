//! Finding the questions that `--task` names, and letting models answer them.

use super::measured::TaskScore;
use crate::args::TaskArgs;
use crate::context::Context;
use crate::exit::{self, Blame, Fault};
use crate::interrupt::Interrupt;
use crate::terminal::Reporter;
use lagar_engine::Model;
use lagar_kernels::Cpu;
use lagar_press::{Task, score};
use std::path::{Path, PathBuf};

/// Names the folder with the tasks' files where `--tasks` does not.
const FOLDER_VARIABLE: &str = "LAGAR_TASKS";

/// The tasks that go by a name, and what their files may be called.
const NAMED: [(&str, &[&str]); 4] = [
    ("lambada", &["lambada.jsonl", "lambada_openai.jsonl"]),
    ("arc-easy", &["arc_easy.jsonl", "arc-easy.jsonl"]),
    ("piqa", &["piqa.jsonl"]),
    ("winogrande", &["winogrande.jsonl"]),
];

/// A task under the name that it was asked for by.
#[derive(Debug)]
pub(super) struct Named {
    name: String,
    task: Task,
}

impl Named {
    /// Reads a task: a known name's file, or a file.
    pub(super) fn read(name: &str, args: &TaskArgs) -> anyhow::Result<Self> {
        let limit = args.limit.map(Into::into);
        Ok(Self {
            name: name.to_owned(),
            task: read("--task", name, args.tasks.as_deref(), limit)?,
        })
    }

    /// Lets a model answer.
    pub(super) fn score(
        &self,
        context: &Context,
        cpu: &Cpu,
        model: &Model,
        interrupt: &Interrupt,
    ) -> anyhow::Result<TaskScore> {
        let reporter = Reporter::new(context.messages, interrupt);
        let result = score(cpu, model, &self.task, &reporter)?;
        Ok(TaskScore::new(&self.name, &result))
    }
}

/// Reads the questions that an option names, at most `limit`.
pub(super) fn read(
    option: &str,
    name: &str,
    folder: Option<&Path>,
    limit: Option<usize>,
) -> anyhow::Result<Task> {
    let path = find(option, name, folder)?;
    Task::read(&path, limit).blame(Fault::Input)
}

fn find(option: &str, name: &str, folder: Option<&Path>) -> anyhow::Result<PathBuf> {
    let Some((_, files)) = NAMED.iter().find(|(known, _)| *known == name) else {
        let path = Path::new(name);
        if path.exists() {
            return Ok(path.to_owned());
        }
        let known: Vec<_> = NAMED.iter().map(|(known, _)| *known).collect();
        let message = format!(
            "{option} {name}: no such file, and no task of that name; there are {}",
            known.join(", ")
        );
        return Err(exit::fault(Fault::Usage, message));
    };
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => std::env::var_os(FOLDER_VARIABLE).map_or(".".into(), PathBuf::from),
    };
    let mut paths = files.iter().map(|file| folder.join(file));
    paths.find(|path| path.is_file()).ok_or_else(|| {
        let message = format!(
            "{option} {name}: no {} in {}; lagar brings no questions: name the folder that has that file with \
             --tasks DIR or {FOLDER_VARIABLE} (`lagar help eval` says where to get it), or the file itself with {option} FILE.jsonl",
            files.join(" or "),
            folder.display()
        );
        exit::fault(Fault::Input, message)
    })
}

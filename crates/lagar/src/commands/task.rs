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
        let path = find(name, args)?;
        let task = Task::read(&path, args.limit.map(Into::into)).blame(Fault::Input)?;
        Ok(Self {
            name: name.to_owned(),
            task,
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

fn find(name: &str, args: &TaskArgs) -> anyhow::Result<PathBuf> {
    let Some((_, files)) = NAMED.iter().find(|(known, _)| *known == name) else {
        let path = Path::new(name);
        if path.exists() {
            return Ok(path.to_owned());
        }
        let known: Vec<_> = NAMED.iter().map(|(known, _)| *known).collect();
        let message = format!(
            "--task {name}: no such file, and no task of that name; there are {}",
            known.join(", ")
        );
        return Err(exit::fault(Fault::Usage, message));
    };
    let folder = match &args.tasks {
        Some(folder) => folder.clone(),
        None => std::env::var_os(FOLDER_VARIABLE).map_or(".".into(), PathBuf::from),
    };
    let mut paths = files.iter().map(|file| folder.join(file));
    paths.find(|path| path.is_file()).ok_or_else(|| {
        let message = format!(
            "--task {name}: no {} in {}; lagar brings no questions: name the folder that has that file with \
             --tasks DIR or {FOLDER_VARIABLE} (`lagar help eval` says where to get it), or the file itself with --task FILE.jsonl",
            files.join(" or "),
            folder.display()
        );
        exit::fault(Fault::Input, message)
    })
}

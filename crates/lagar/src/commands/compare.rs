//! `lagar compare`.

use super::measured::{Losses, Size, TaskScore};
use super::model;
use super::press::read_text;
use super::task::Named;
use crate::args::CompareArgs;
use crate::context::Context;
use crate::interrupt::{Interrupt, Second};
use crate::terminal::{self, Align, Reporter, Table, bytes, escape};
use lagar_engine::generate::{GenerateOptions, Generator, ModelSequence};
use lagar_engine::{Model, SamplingOptions};
use lagar_kernels::Cpu;
use lagar_press::{EvaluationOptions, evaluate_all};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often each model's speed is measured; the fastest counts, since nothing makes it faster than
/// it is.
const TURNS: usize = 3;
/// Tokens before and in a text whose speed is measured.
const PROMPT: usize = 16;
const GENERATED: usize = 64;

/// The object of `compare --json`.
#[derive(Debug, Serialize)]
struct Comparison {
    /// The original first.
    models: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// The file or folder, as it was given.
    name: String,
    /// Null for checkpoint folders.
    tier: Option<String>,
    /// Whether this is what the others are compared with.
    original: bool,
    #[serde(flatten)]
    size: Size,
    #[serde(flatten)]
    losses: Losses,
    tasks: Vec<TaskScore>,
    /// Tokens generated in a second, one after another; null where the context has no room for it.
    tokens_per_second: Option<f64>,
    /// Weights, and what a context of at most 4096 tokens takes.
    memory_bytes: u64,
}

/// A model and the name that it was given by.
struct Contestant {
    name: String,
    model: Arc<Model>,
}

pub(crate) fn compare(context: &Context, args: &CompareArgs) -> anyhow::Result<()> {
    let text = read_text(&args.text)?;
    let tasks = args
        .task
        .iter()
        .map(|name| Named::read(name, &args.source))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let cpu = context.cpu();
    let mut all = vec![Contestant {
        name: args.reference.display().to_string(),
        model: model::open_reference(context, &args.reference)?,
    }];
    for given in &args.models {
        all.push(open(context, args, given)?);
    }
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(context.messages, &interrupt);
    let options = EvaluationOptions::new(
        args.context.map(|n| n as usize),
        args.tokens.map(NonZeroUsize::get),
    );
    let pressed: Vec<&Model> = all[1..].iter().map(|c| &*c.model).collect();
    let reference = Some(&*all[0].model);
    let measured = evaluate_all(&cpu, &pressed, reference, &text, &options, &reporter)?;
    drop(reporter);
    let speeds = speeds(&cpu, &all, &text, &interrupt)?;
    let evaluations = measured.reference.iter().chain(&measured.models);
    let mut models = Vec::new();
    for ((contestant, evaluation), speed) in all.iter().zip(evaluations).zip(speeds) {
        let model = &contestant.model;
        let tasks = tasks.iter();
        let scores = tasks.map(|task| task.score(context, &cpu, model, &interrupt));
        models.push(Row {
            name: contestant.name.clone(),
            tier: model.tier().map(str::to_owned),
            original: models.is_empty(),
            size: Size::of(model),
            losses: Losses::new(evaluation, false),
            tasks: scores.collect::<anyhow::Result<_>>()?,
            tokens_per_second: speed,
            memory_bytes: model.memory_bytes(),
        });
    }
    let comparison = Comparison { models };
    if context.json {
        terminal::print_json(&comparison)
    } else {
        terminal::print_styled(&comparison.render())
    }
}

/// Opens a folder, a file, or a tier of a file.
fn open(context: &Context, args: &CompareArgs, given: &Path) -> anyhow::Result<Contestant> {
    let (path, own) = split_tier(given);
    let tier = match path.is_dir() {
        true => own,
        false => own.or(args.tier.clone()),
    };
    Ok(Contestant {
        name: path.display().to_string(),
        model: model::open_fitting(context, &path, tier.as_deref(), args.kv, false)?,
    })
}

/// `FILE@TIER` in two, unless there is something under the whole name.
fn split_tier(given: &Path) -> (PathBuf, Option<String>) {
    let parts = given.to_str().and_then(|text| text.rsplit_once('@'));
    match parts {
        Some((file, tier)) if !given.exists() && !file.is_empty() => {
            (file.into(), Some(tier.to_owned()))
        }
        _ => (given.to_owned(), None),
    }
}

/// The best of each model's speeds, measured in turns so that what else the machine does meets all.
fn speeds(
    cpu: &Cpu,
    all: &[Contestant],
    text: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Option<f64>>> {
    let start: String = text.chars().take(8 * PROMPT).collect();
    let mut speeds = vec![None; all.len()];
    for _ in 0..TURNS {
        for (best, contestant) in speeds.iter_mut().zip(all) {
            let mut prompt = contestant.model.tokenizer().encode(&start)?;
            prompt.truncate(PROMPT);
            let speed = decode_rate(cpu, &contestant.model, &prompt, interrupt)?;
            interrupt.check()?;
            if speed > *best {
                *best = speed;
            }
        }
    }
    Ok(speeds)
}

/// Tokens generated in a second after `prompt`, one after another.
fn decode_rate(
    cpu: &Cpu,
    model: &Arc<Model>,
    prompt: &[u32],
    interrupt: &Interrupt,
) -> anyhow::Result<Option<f64>> {
    let room = model.spec().context.min(prompt.len() + GENERATED);
    let sequence = ModelSequence::new(Arc::clone(model), cpu, room)?;
    let mut generator = Generator::new(sequence);
    let options = GenerateOptions {
        sampling: SamplingOptions::GREEDY,
        max_tokens: Some(GENERATED),
        stop: &[],
        // A text that ends early would be too short to time.
        eos: &[],
        cancel: Some(interrupt.flag()),
    };
    let mut generation = generator.generate(model.tokenizer(), prompt, &options)?;
    while generation.next_piece()?.is_some() {}
    Ok(generation.finish().decode_rate())
}

impl Comparison {
    fn render(&self) -> String {
        let mut columns = vec![("", Align::Left)];
        let figures = [
            "whole file",
            "bits/parameter",
            "perplexity",
            "KL",
            "KL, 99.9 %",
            "same top token",
        ];
        columns.extend(figures.map(|name| (name, Align::Right)));
        let tasks = self.models.first().map_or(&[][..], |row| &row.tasks);
        let names: Vec<String> = tasks.iter().map(|task| escape(&task.task)).collect();
        columns.extend(names.iter().map(|name| (name.as_str(), Align::Right)));
        columns.extend(["tok/s", "memory"].map(|name| (name, Align::Right)));
        let mut table = Table::new(&columns);
        for row in &self.models {
            table.row(row.cells());
        }
        table.render()
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let name = match (&self.tier, self.original) {
            (_, true) => format!("{} (original)", self.name),
            (Some(tier), _) => format!("{}@{tier}", self.name),
            (None, _) => self.name.clone(),
        };
        let compared = self.losses.compared.as_ref();
        let figure = |value: &dyn Fn(&super::measured::Compared) -> String| {
            compared.map_or(String::new(), value)
        };
        let mut cells = vec![
            escape(&name),
            bytes(self.size.file_bytes),
            format!("{:.3}", self.size.bits_per_parameter),
            format!("{:.3}", self.losses.perplexity),
            figure(&|c| format!("{:.5}", c.kl_mean)),
            figure(&|c| format!("{:.3}", c.kl_p999)),
            figure(&|c| format!("{:.2} %", 100.0 * c.top1_agreement)),
        ];
        cells.extend(self.tasks.iter().map(TaskScore::words));
        cells.push(
            self.tokens_per_second
                .map_or(String::new(), |speed| format!("{speed:.1}")),
        );
        cells.push(bytes(self.memory_bytes));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::split_tier;
    use std::path::Path;

    #[test]
    fn a_tier_is_what_follows_the_last_at_of_a_name_that_is_not_there() {
        for (given, file, tier) in [
            ("a.lagar@RG", "a.lagar", Some("RG")),
            ("me@home/a.lagar@R", "me@home/a.lagar", Some("R")),
            ("a.lagar", "a.lagar", None),
            ("@R", "@R", None),
        ] {
            let (path, found) = split_tier(Path::new(given));
            assert_eq!((path.as_path(), found.as_deref()), (Path::new(file), tier));
        }
        let folder = tempfile::TempDir::with_prefix("lagar@").unwrap();
        assert_eq!(split_tier(folder.path()).1, None);
    }
}

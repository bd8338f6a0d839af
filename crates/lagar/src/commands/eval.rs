//! `lagar eval`.

use super::measured::{ByPosition, Losses, Size, TaskScore, share};
use super::model;
use super::press::read_text;
use super::task::Named;
use crate::args::EvalArgs;
use crate::context::Context;
use crate::interrupt::{Interrupt, Second};
use crate::terminal::{self, Align, Reporter, Table, bytes, escape};
use lagar_press::{EvaluationOptions, evaluate};
use serde::Serialize;
use std::num::NonZeroUsize;

/// The object of `eval --json`.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    losses: Option<Losses>,
    #[serde(flatten)]
    size: Size,
    #[serde(flatten)]
    task: Option<TaskScore>,
}

impl Measured {
    fn render(&self) -> String {
        let mut parts = Vec::new();
        let mut last = Table::new(&[("", Align::Left), ("model", Align::Right)]);
        if let Some(losses) = &self.losses {
            parts.extend(losses.tables());
        }
        if let Some(task) = &self.task {
            parts.push(task.table().render());
        }
        last.row(["file".to_owned(), bytes(self.size.file_bytes)]);
        last.row([
            "bits per parameter".to_owned(),
            format!("{:.3}", self.size.bits_per_parameter),
        ]);
        parts.push(last.render());
        parts.join("\n")
    }
}

/// A share in percent.
fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

impl Losses {
    /// The losses, and where they lie in the window.
    fn tables(&self) -> Vec<String> {
        let mut columns = vec![("", Align::Left), ("model", Align::Right)];
        if self.compared.is_some() {
            columns.push(("original", Align::Right));
        }
        let mut table = Table::new(&columns);
        let mut row = |name: &str, own: String, original: Option<String>| {
            let mut cells = vec![name.to_owned(), own];
            if self.compared.is_some() {
                cells.push(original.unwrap_or_default());
            }
            table.row(cells);
        };
        let c = self.compared.as_ref();
        row(
            "perplexity",
            format!("{:.4}", self.perplexity),
            c.map(|c| format!("{:.4}", c.reference_perplexity)),
        );
        row(
            "loss, nats per token",
            format!("{:.4}", self.nll_per_token),
            c.map(|c| format!("{:.4}", c.reference_perplexity.ln())),
        );
        row(
            "most likely token is right",
            percent(self.token_accuracy),
            c.map(|c| percent(c.reference_token_accuracy)),
        );
        if let Some(c) = c {
            let kl = format!("{:.5}", c.kl_mean);
            row("KL from the original, mean", kl, None);
            row("KL, 99.9th percentile", format!("{:.4}", c.kl_p999), None);
            row("same most likely token", percent(c.top1_agreement), None);
        }
        row("tokens scored", self.tokens.to_string(), None);
        let ranges = self.by_position.as_deref();
        let positions = ranges.map(|ranges| by_position(ranges).render());
        [table.render()].into_iter().chain(positions).collect()
    }
}

fn by_position(ranges: &[ByPosition]) -> Table {
    let mut table = Table::new(&[
        ("position", Align::Left),
        ("tokens", Align::Right),
        ("loss", Align::Right),
        ("KL", Align::Right),
    ]);
    for range in ranges {
        table.row([
            format!("{} to {}", range.from, range.to - 1),
            range.tokens.to_string(),
            format!("{:.4}", range.nll_per_token),
            range.kl_mean.map_or(String::new(), |kl| format!("{kl:.5}")),
        ]);
    }
    table
}

impl TaskScore {
    fn table(&self) -> Table {
        let name = escape(&self.task);
        let mut table = Table::new(&[(&name, Align::Left), ("model", Align::Right)]);
        table.row(["right answers".to_owned(), self.words()]);
        if let Some(norm) = &self.norm {
            table.row([
                "right answers, by likelihood for each character".to_owned(),
                share(norm.accuracy_norm, norm.accuracy_norm_stderr),
            ]);
        }
        if let Some(perplexity) = self.task_perplexity {
            let perplexity = format!("{perplexity:.4}");
            table.row(["perplexity of whole answers".to_owned(), perplexity]);
        }
        table.row(["questions".to_owned(), self.examples.to_string()]);
        table
    }
}

pub(crate) fn eval(context: &Context, args: &EvalArgs) -> anyhow::Result<()> {
    let text = args.text.as_deref().map(read_text).transpose()?;
    let task = args.task.as_deref();
    let task = task
        .map(|name| Named::read(name, &args.source))
        .transpose()?;
    let cpu = context.cpu();
    let model = model::open_fitting(context, &args.model, args.tier.as_deref(), args.kv, false)?;
    let reference = match &args.reference {
        None => None,
        Some(path) => Some(model::open_reference(context, path)?),
    };
    let interrupt = Interrupt::catch(Second::Exits)?;
    let options = EvaluationOptions::new(
        args.context.map(|n| n as usize),
        args.tokens.map(NonZeroUsize::get),
    );
    let losses = text.map(|text| -> anyhow::Result<Losses> {
        let reporter = Reporter::new(context.messages, &interrupt);
        let reference = reference.as_deref();
        let evaluation = evaluate(&cpu, &model, reference, &text, &options, &reporter)?;
        Ok(Losses::new(&evaluation, args.by_position))
    });
    let losses = losses.transpose()?;
    let score = task.map(|task| task.score(context, &cpu, &model, &interrupt));
    let measured = Measured {
        losses,
        size: Size::of(&model),
        task: score.transpose()?,
    };
    if context.json {
        terminal::print_json(&measured)
    } else {
        terminal::print_styled(&measured.render())
    }
}

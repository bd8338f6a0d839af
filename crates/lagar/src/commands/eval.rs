//! `lagar eval`.

use super::model;
use super::press::read_text;
use crate::args::EvalArgs;
use crate::context::Context;
use crate::interrupt::{Interrupt, Second};
use crate::terminal::{self, Align, Reporter, Table, bytes};
use lagar_engine::Model;
use lagar_press::{Evaluation, EvaluationOptions, PositionRange, evaluate};
use serde::Serialize;
use std::num::NonZeroUsize;

/// The object of `eval --json`.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) tokens: usize,
    nll_per_token: f64,
    pub(super) perplexity: f64,
    token_accuracy: f64,
    pub(super) file_bytes: u64,
    pub(super) parameters: u64,
    pub(super) bits_per_parameter: f64,
    #[serde(flatten)]
    pub(super) comparison: Option<Compared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_position: Option<Vec<ByPosition>>,
}

/// What `--reference` adds.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    pub(super) kl_mean: f64,
    kl_p999: f64,
    pub(super) top1_agreement: f64,
    pub(super) reference_perplexity: f64,
    reference_token_accuracy: f64,
}

#[derive(Debug, Serialize)]
struct ByPosition {
    from: usize,
    to: usize,
    tokens: usize,
    nll_per_token: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kl_mean: Option<f64>,
}

impl Measured {
    pub(super) fn new(model: &Model, evaluation: &Evaluation, by_position: bool) -> Self {
        let (file_bytes, parameters) = (model.file_bytes(), model.parameters());
        let ranges = || {
            evaluation
                .by_position
                .iter()
                .map(ByPosition::from)
                .collect()
        };
        Self {
            tokens: evaluation.tokens,
            nll_per_token: evaluation.nll_per_token,
            perplexity: evaluation.perplexity(),
            token_accuracy: evaluation.token_accuracy,
            file_bytes,
            parameters,
            bits_per_parameter: 8.0 * file_bytes as f64 / parameters as f64,
            comparison: evaluation.reference.as_ref().map(|c| Compared {
                kl_mean: c.kl_mean,
                kl_p999: c.kl_p999,
                top1_agreement: c.top1_agreement,
                reference_perplexity: c.nll_per_token.exp(),
                reference_token_accuracy: c.token_accuracy,
            }),
            by_position: by_position.then(ranges),
        }
    }

    fn render(&self) -> String {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let mut columns = vec![("", Align::Left), ("model", Align::Right)];
        if self.comparison.is_some() {
            columns.push(("original", Align::Right));
        }
        let mut table = Table::new(&columns);
        let mut row = |name: &str, own: String, original: Option<String>| {
            let mut cells = vec![name.to_owned(), own];
            if self.comparison.is_some() {
                cells.push(original.unwrap_or_default());
            }
            table.row(cells);
        };
        let c = self.comparison.as_ref();
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
            row(
                "KL from the original, mean",
                format!("{:.5}", c.kl_mean),
                None,
            );
            row("KL, 99.9th percentile", format!("{:.4}", c.kl_p999), None);
            row("same most likely token", percent(c.top1_agreement), None);
        }
        row("file", bytes(self.file_bytes), None);
        row(
            "bits per parameter",
            format!("{:.3}", self.bits_per_parameter),
            None,
        );
        row("tokens scored", self.tokens.to_string(), None);
        let mut out = table.render();
        if let Some(ranges) = &self.by_position {
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
            out.push('\n');
            out.push_str(&table.render());
        }
        out
    }
}

impl From<&PositionRange> for ByPosition {
    fn from(range: &PositionRange) -> Self {
        Self {
            from: range.from,
            to: range.to,
            tokens: range.tokens,
            nll_per_token: range.nll_per_token,
            kl_mean: range.kl_mean,
        }
    }
}

pub(crate) fn eval(context: &Context, args: &EvalArgs) -> anyhow::Result<()> {
    let text = read_text(&args.text)?;
    let cpu = context.cpu();
    let model = model::open_fitting(context, &args.model, args.tier.as_deref(), args.kv)?;
    let reference = match &args.reference {
        None => None,
        Some(path) => Some(model::open(context, path, None, args.kv)?),
    };
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(context.messages, &interrupt);
    let options = EvaluationOptions::new(
        args.context.map(|n| n as usize),
        args.tokens.map(NonZeroUsize::get),
    );
    let evaluation = evaluate(
        &cpu,
        &model,
        reference.as_deref(),
        &text,
        &options,
        &reporter,
    )?;
    drop(reporter);
    let measured = Measured::new(&model, &evaluation, args.by_position);
    if context.json {
        terminal::print_json(&measured)
    } else {
        terminal::print_styled(&measured.render())
    }
}

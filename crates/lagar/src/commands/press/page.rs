//! The page of a press: what was made of which model, and what was lost where.

use super::heat;
use super::layers;
use super::report::{GENERATOR, TensorLine};
use crate::page::{self, Table, html};
use crate::terminal::{bytes, count, duration};
use std::time::Duration;

/// Everything that the page shows.
pub(super) struct Page<'a> {
    pub(super) checkpoint: &'a str,
    pub(super) file: &'a str,
    pub(super) architecture: &'a str,
    pub(super) parameters: u64,
    pub(super) checkpoint_bytes: u64,
    pub(super) tiers: Vec<Tier>,
    /// Of the original, where the tiers were measured.
    pub(super) original_perplexity: Option<f64>,
    /// What the tiers were measured on, in words; empty where they were not.
    pub(super) measured_on: String,
    /// Tier, KL before refinement and after it, steps.
    pub(super) refined: Vec<(String, f64, f64, usize)>,
    pub(super) tensors: &'a [TensorLine],
    /// Names and values.
    pub(super) settings: Vec<(String, String)>,
    /// Names, lengths and hashes of the checkpoint's files.
    pub(super) sources: Vec<(String, u64, String)>,
    pub(super) id: &'a str,
    pub(super) producer: &'a str,
    pub(super) format_version: u32,
    pub(super) seconds: f64,
    pub(super) calibration_tokens: usize,
}

/// A line of the table of tiers.
pub(super) struct Tier {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) bits_per_parameter: f64,
    pub(super) kl_mean: Option<f64>,
    pub(super) perplexity: Option<f64>,
}

impl Page<'_> {
    /// The page as HTML.
    pub(super) fn render(&self) -> String {
        let mut body = self.introduction();
        body.push_str(&self.sizes());
        if !self.tensors.is_empty() {
            body.push_str(&self.depths());
            if self.tensors.iter().any(|t| t.sensitivity.is_some()) {
                body.push_str(&self.sensitivities());
            }
            body.push_str(&self.errors());
        }
        body.push_str(&self.origins());
        let title = format!("{} – pressed by lagar", self.file);
        page::document(GENERATOR, &title, &body)
    }

    fn introduction(&self) -> String {
        let text = match self.calibration_tokens {
            0 => String::new(),
            tokens => format!(", with {tokens} tokens of calibration text"),
        };
        format!(
            "<header><h1>{}</h1>\n<p>{} ({}, {} parameters, {}), pressed in {}{text}.</p></header>\n",
            html(self.file),
            html(self.checkpoint),
            html(self.architecture),
            count(self.parameters),
            bytes(self.checkpoint_bytes),
            html(&duration(Duration::from_secs_f64(self.seconds))),
        )
    }

    fn sizes(&self) -> String {
        let mut table = Table::new(&[
            "",
            "file up to its end",
            "bits/parameter",
            "share of the original",
            "KL",
            "perplexity",
        ]);
        let figure = |value: Option<f64>, digits: usize| {
            value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
        };
        table.row(
            "original",
            [
                "original".to_owned(),
                bytes(self.checkpoint_bytes),
                format!("{:.2}", bits_per(self.checkpoint_bytes, self.parameters)),
                "100 %".to_owned(),
                figure(self.original_perplexity.map(|_| 0.0), 0),
                figure(self.original_perplexity, 3),
            ],
        );
        for tier in &self.tiers {
            let share = tier.bytes as f64 / self.checkpoint_bytes.max(1) as f64;
            let cells = [
                format!("tier {}", tier.name),
                bytes(tier.bytes),
                format!("{:.3}", tier.bits_per_parameter),
                format!("{:.1} %", 100.0 * share),
                figure(tier.kl_mean, 4),
                figure(tier.perplexity, 3),
            ];
            table.row("", cells);
        }
        let mut out = format!("<section><h2>Tiers</h2>\n{}", table.render());
        if !self.measured_on.is_empty() {
            out.push_str(&format!(
                "<p class=\"note\">{}. KL is the mean divergence of a tier's predictions from the original's; \
                 0 means the same.</p>\n",
                html(&self.measured_on)
            ));
        }
        if !self.refined.is_empty() {
            let mut table = Table::new(&["refinement", "KL before", "KL after", "steps"]);
            for (tier, before, after, steps) in &self.refined {
                let [before, after] = [before, after].map(|kl| format!("{kl:.4}"));
                table.row(
                    "",
                    [format!("tier {tier}"), before, after, steps.to_string()],
                );
            }
            out.push_str(&table.render());
            out.push_str(
                "<p class=\"note\">Row scales, norms and biases, fitted to the original's outputs after rounding; \
                 measured on calibration text that was held out.</p>\n",
            );
        }
        out.push_str("</section>\n");
        out
    }

    fn depths(&self) -> String {
        let others: Vec<String> = (self.tensors.iter())
            .filter(|tensor| tensor.layer.is_none())
            .map(|tensor| {
                format!(
                    "{} {:.3}",
                    html(short(&tensor.name)),
                    tensor.bits_per_weight
                )
            })
            .collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(" Outside the layers: {}.", others.join(", ")),
        };
        let stages = self.tensors.iter().map(|t| t.tiers.len()).max();
        let shades = match stages {
            Some(2..) => {
                " The lowest part of a bar is the first tier's, each further one adds to it."
            }
            _ => "",
        };
        let rows: Vec<heat::Row> = (self.tensors.iter())
            .map(|tensor| {
                let depths = tensor.total_depths();
                heat::Row {
                    name: short(&tensor.name).to_owned(),
                    tip: format!("{}: {}", tensor.name, runs(&depths)),
                    cells: depths,
                }
            })
            .collect();
        let deepest = rows.iter().flat_map(|row| &row.cells).max();
        let deepest = deepest.copied().unwrap_or(0);
        let last = heat::SHADES - 1;
        let labels: Vec<(u8, String)> = (0..=deepest.min(last))
            .map(|depth| match depth == last && deepest > last {
                true => (depth, format!("{depth} or more")),
                false if depth == 1 => (depth, "1 bit".to_owned()),
                false => (depth, format!("{depth} bits")),
            })
            .collect();
        format!(
            "<section><h2>Where the bits are</h2>\n<figure class=\"chart\">{}<figcaption>Codes and scales of each layer.{shades}{others}\
             </figcaption></figure>\n<h3>Bits of each column group</h3>\n<figure><div class=\"scroll\">{}{}</div>\
             <figcaption>A row is a tensor, a cell 128 of its input columns, from those that matter most on the left \
             to those that matter least.</figcaption></figure></section>\n",
            layers::bits(self.tensors),
            heat::legend(&labels),
            heat::map("Bits per weight of each column group", &rows),
        )
    }

    fn sensitivities(&self) -> String {
        let of = |tensor: &TensorLine| {
            let known = tensor.sensitivity.as_ref();
            known.map_or(Vec::new(), |s| s.left_out_by_group.clone())
        };
        let all = self.tensors.iter().flat_map(of);
        let most = all.fold(f64::MIN_POSITIVE, f64::max);
        let darkest = heat::SHADES - 1;
        // Each shade is half of the next.
        let shade = |loss: f64| (f64::from(darkest) + (loss / most).log2()).round().max(0.0) as u8;
        let rows: Vec<heat::Row> = (self.tensors.iter())
            .map(|tensor| {
                let left_out = of(tensor);
                heat::Row {
                    name: short(&tensor.name).to_owned(),
                    tip: format!("{}: {:.4} nats", tensor.name, left_out.iter().sum::<f64>()),
                    cells: left_out.into_iter().map(shade).collect(),
                }
            })
            .collect();
        let labels: Vec<(u8, String)> = (0..=darkest)
            .step_by(3)
            .map(|shade| {
                let loss = most * 2f64.powi(i32::from(shade) - i32::from(darkest));
                (shade, format!("{} nats", significant(loss)))
            })
            .collect();
        format!(
            "<section><h2>What matters</h2>\n<figure><div class=\"scroll\">{}{}</div><figcaption>What each column group \
             would cost a token of text if it were left out, as one backward pass expects: this decides where bits \
             go.</figcaption></figure></section>\n",
            heat::legend(&labels),
            heat::map("Loss without each column group", &rows),
        )
    }

    fn errors(&self) -> String {
        let sensitive = self.tensors.iter().any(|t| t.sensitivity.is_some());
        let mut columns = vec![
            "tensor",
            "shape",
            "bits/weight",
            "depths",
            "weight cosine",
            "output error",
            "in bits",
        ];
        if sensitive {
            columns.extend(["expected loss", "left out"]);
        }
        let mut table = Table::new(&columns);
        for tensor in self.tensors {
            let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
            let depths = tensor.total_depths();
            let range = [depths.iter().min(), depths.iter().max()].map(|d| d.copied().unwrap_or(0));
            let mut cells = vec![
                short(&tensor.name).to_owned(),
                shape.join(" × "),
                format!("{:.3}", tensor.bits_per_weight),
                match range {
                    [least, most] if least == most => least.to_string(),
                    [least, most] => format!("{least}–{most}"),
                },
                format!("{:.5}", tensor.error.weight_cosine),
                format!("{:.3} %", 100.0 * tensor.error.relative_error),
                format!("{:.2}", tensor.error.error_bits),
            ];
            if sensitive {
                let losses = tensor.sensitivity.as_ref().map(|s| [s.lost, s.left_out]);
                let losses = losses.map(|losses| losses.map(|loss| format!("{loss:.5}")));
                cells.extend(losses.unwrap_or_default());
            }
            table.row("", cells);
        }
        let expected = match sensitive {
            true => {
                " Expected loss: nats a token at these depths, and were the tensor left out, as one backward pass expects."
            }
            false => "",
        };
        format!(
            "<section><h2>What is lost of each tensor</h2>\n<div class=\"dense\">{}</div>\n<p class=\"note\">All stages \
             together, before refinement. Output error: that of the outputs on calibration text relative to the outputs; \
             in bits, ½ log₂ of its inverse square: each bit halves it.{expected}</p></section>\n",
            table.render()
        )
    }

    fn origins(&self) -> String {
        let mut settings = Table::new(&["setting", "value"]);
        for (name, value) in &self.settings {
            settings.row("", [name.clone(), value.clone()]);
        }
        let mut sources = Table::new(&["file of the checkpoint", "size", "BLAKE3"]);
        for (name, length, hash) in &self.sources {
            sources.row("", [name.clone(), bytes(*length), hash.clone()]);
        }
        format!(
            "<section><h2>Pressed with</h2>\n<div class=\"dense\">{}</div></section>\n<section><h2>Made from</h2>\n\
             <div class=\"dense\">{}</div></section>\n\
             <footer><p>{} · format version {} · id {}</p></footer>\n",
            settings.render(),
            sources.render(),
            html(self.producer),
            self.format_version,
            html(self.id)
        )
    }
}

/// A tensor's name without what all of them end with.
fn short(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// `3 × 4 bits, 2 × 3 bits`.
fn runs(depths: &[u8]) -> String {
    let runs = depths.chunk_by(|a, b| a == b);
    let words: Vec<String> = runs
        .map(|run| format!("{} × {} bits", run.len(), run[0]))
        .collect();
    words.join(", ")
}

/// Two digits that say something.
fn significant(value: f64) -> String {
    let digits = (1.0 - value.abs().log10().floor()).clamp(0.0, 9.0);
    format!("{value:.*}", digits as usize)
}

fn bits_per(bytes: u64, parameters: u64) -> f64 {
    8.0 * bytes as f64 / parameters.max(1) as f64
}

//! Results of `lagar bench`, as JSON, tables and lines of a spreadsheet.

use super::peers::{Peer, PeerRow};
use super::timing::{Case, Kind, Measured};
use super::{Contestant, Processor};
use crate::args::BenchFormat;
use crate::machine::Machine;
use crate::terminal::{Align, Table, bytes, counted, escape};
use serde::Serialize;
use std::fmt::{self, Display};

/// The object of `bench --json`.
#[derive(Debug, Serialize)]
pub(super) struct Bench {
    machine: Machine,
    /// With the largest number of threads that was measured.
    memory_bandwidth_bytes_per_second: f64,
    int8_operations_per_second: f64,
    /// What the shares of the runs are shares of.
    limits: Vec<ThreadLimits>,
    runs: Vec<Run>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerRow>,
}

/// What the machine can do with some number of threads.
#[derive(Clone, Copy, Debug, Serialize)]
struct ThreadLimits {
    threads: usize,
    memory_bandwidth_bytes_per_second: f64,
    int8_operations_per_second: f64,
}

/// One thing that was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) kind: &'static str,
    model: String,
    /// Null for checkpoint folders.
    tier: Option<String>,
    bits_per_parameter: f64,
    /// Tokens of the prompt; of decoding, those before the first that is made.
    pub(super) prompt: usize,
    /// Tokens that each sequence makes; 0 for a prompt.
    pub(super) generated: usize,
    pub(super) batch: usize,
    pub(super) threads: usize,
    pub(super) kv: String,
    /// The median of all rounds, of all sequences together.
    pub(super) tokens_per_second: f64,
    tokens_per_second_least: f64,
    tokens_per_second_most: f64,
    /// Weights, and the keys and values of the context, that are read for a token.
    bytes_per_token: f64,
    bytes_per_second: f64,
    share_of_bandwidth: f64,
    /// Of the products with weights; null where these are not products of bytes.
    share_of_int8_peak: Option<f64>,
    /// From opening the file to the logits after one token, which the first number of threads computes; null for others.
    first_token_seconds: Option<f64>,
    /// Null where it was not measured.
    joules_per_token: Option<f64>,
}

/// The middle one, or the mean of both in the middle; 0 of nothing.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match values.get(low..=high) {
        Some(middle) => middle.iter().sum::<f64>() / middle.len() as f64,
        None => 0.0,
    }
}

impl Run {
    pub(super) fn new(
        contestant: &Contestant,
        processor: &Processor,
        case: &Case,
        measured: &Measured,
    ) -> Self {
        let (model, work) = (&contestant.model, &contestant.work);
        let rate = median(&measured.rates);
        // Keys and values grow while they are read.
        let share = 1.0 - case.tokens as f64 / (2 * case.room()) as f64;
        let cache = measured.cache_bytes as f64 * share;
        let per_pass = match case.kind {
            Kind::Prefill => work.weight_bytes as f64 * case.tokens.div_ceil(model.chunk()) as f64,
            Kind::Decode => work.weight_bytes as f64 + cache,
        };
        let (tokens, logits) = match case.kind {
            Kind::Prefill => (case.tokens, 1),
            Kind::Decode => (case.batch, case.batch),
        };
        let bytes_per_token = per_pass / tokens as f64;
        let products =
            work.products as f64 + work.head_products as f64 * logits as f64 / tokens as f64;
        Self {
            kind: match case.kind {
                Kind::Prefill => "prefill",
                Kind::Decode => "decode",
            },
            model: contestant.name.clone(),
            tier: model.tier().map(str::to_owned),
            bits_per_parameter: 8.0 * model.file_bytes() as f64 / model.parameters() as f64,
            prompt: match case.kind {
                Kind::Prefill => case.tokens,
                Kind::Decode => case.before,
            },
            generated: match case.kind {
                Kind::Prefill => 0,
                Kind::Decode => case.tokens,
            },
            batch: case.batch,
            threads: processor.cpu.threads(),
            kv: format!("{:?}", model.kv()).to_lowercase(),
            tokens_per_second: rate,
            tokens_per_second_least: measured.rates.iter().copied().fold(f64::INFINITY, f64::min),
            tokens_per_second_most: measured.rates.iter().copied().fold(0.0, f64::max),
            bytes_per_token,
            bytes_per_second: bytes_per_token * rate,
            share_of_bandwidth: bytes_per_token * rate / processor.limits.bandwidth,
            share_of_int8_peak: model
                .multiplies_bytes()
                .then_some(2.0 * products * rate / processor.limits.int8),
            first_token_seconds: (processor.cpu.threads() == contestant.first_token_threads)
                .then_some(contestant.first_token_seconds),
            joules_per_token: (!measured.joules.is_empty()).then(|| median(&measured.joules)),
        }
    }

    pub(super) fn test(&self) -> Test {
        Test::of_run(self.prompt, self.generated)
    }

    pub(super) fn name(&self) -> String {
        shown(&self.model, self.tier.as_deref())
    }
}

/// A model as it is shown.
pub(super) fn shown(model: &str, tier: Option<&str>) -> String {
    match tier {
        Some(tier) => format!("{model}@{tier}"),
        None => model.to_owned(),
    }
}

/// What was done: tokens that were there before, and those that were read and made meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Test {
    pub(super) before: usize,
    pub(super) prompt: usize,
    pub(super) generated: usize,
}

impl Test {
    /// Of one of our runs, whose `prompt` is that of a prefill, or what is there before others are made.
    pub(super) fn of_run(prompt: usize, generated: usize) -> Self {
        let (before, prompt) = if generated > 0 {
            (prompt, 0)
        } else {
            (0, prompt)
        };
        Self {
            before,
            prompt,
            generated,
        }
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            before,
            prompt,
            generated,
        } = *self;
        match (prompt, generated) {
            (prompt, 0) => write!(f, "prefill {prompt}")?,
            (0, generated) => write!(f, "decode {generated}")?,
            (prompt, generated) => write!(f, "prefill {prompt} + decode {generated}")?,
        }
        if before > 0 {
            write!(f, " after {before}")?;
        }
        Ok(())
    }
}

impl Bench {
    pub(super) fn new(
        machine: Machine,
        processors: &[Processor],
        runs: Vec<Run>,
        peers: &[Peer],
    ) -> Self {
        let most = processors.iter().max_by_key(|p| p.cpu.threads());
        let limits = most.map(|processor| processor.limits);
        Self {
            machine,
            memory_bandwidth_bytes_per_second: limits.map_or(0.0, |l| l.bandwidth),
            int8_operations_per_second: limits.map_or(0.0, |l| l.int8),
            limits: (processors.iter())
                .map(|Processor { cpu, limits }| ThreadLimits {
                    threads: cpu.threads(),
                    memory_bandwidth_bytes_per_second: limits.bandwidth,
                    int8_operations_per_second: limits.int8,
                })
                .collect(),
            peers: peers.iter().flat_map(|peer| peer.beside(&runs)).collect(),
            runs,
        }
    }

    pub(super) fn render(&self, format: BenchFormat) -> anyhow::Result<String> {
        let shown = match format {
            BenchFormat::Csv => return self.csv(),
            BenchFormat::Markdown => Grid::markdown,
            BenchFormat::Text => Grid::text,
        };
        let mut parts = vec![self.heading(), shown(&self.runs())];
        if !self.peers.is_empty() {
            parts.push(shown(&self.peers()));
        }
        Ok(parts.join("\n"))
    }

    /// The numbers as they are.
    fn csv(&self) -> anyhow::Result<String> {
        let mut parts = vec![csv(&self.runs)?];
        if !self.peers.is_empty() {
            parts.push(csv(&self.peers)?);
        }
        Ok(parts.join("\n"))
    }

    /// The machine, what it can do with each number of threads, and how soon each model was there.
    fn heading(&self) -> String {
        let mut lines = vec![self.machine.words()];
        for limits in &self.limits {
            lines.push(format!(
                "{}: memory {:.1} GB/s, products of bytes {:.2} TOP/s",
                counted(limits.threads, "thread"),
                limits.memory_bandwidth_bytes_per_second / 1e9,
                limits.int8_operations_per_second / 1e12,
            ));
        }
        for run in &self.runs {
            if let Some(seconds) = run.first_token_seconds {
                let line = format!("first token {seconds:.2} s after opening {}", run.name());
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        let lines: Vec<_> = lines.iter().map(|line| escape(line)).collect();
        lines.join("\n") + "\n"
    }

    fn runs(&self) -> Grid {
        let energy = self.runs.iter().any(|run| run.joules_per_token.is_some());
        let mut columns = vec![
            ("model", Align::Left),
            ("bits", Align::Right),
            ("test", Align::Left),
            ("kv", Align::Left),
            ("batch", Align::Right),
            ("threads", Align::Right),
            ("tok/s", Align::Right),
            ("least", Align::Right),
            ("most", Align::Right),
            ("read/token", Align::Right),
            ("GB/s", Align::Right),
            ("of memory", Align::Right),
            ("of int8", Align::Right),
        ];
        if energy {
            columns.push(("J/token", Align::Right));
        }
        let row = |run: &Run| {
            let mut cells = vec![
                run.name(),
                format!("{:.2}", run.bits_per_parameter),
                run.test().to_string(),
                run.kv.clone(),
                run.batch.to_string(),
                run.threads.to_string(),
                format!("{:.1}", run.tokens_per_second),
                format!("{:.1}", run.tokens_per_second_least),
                format!("{:.1}", run.tokens_per_second_most),
                bytes(run.bytes_per_token as u64),
                format!("{:.1}", run.bytes_per_second / 1e9),
                format!("{:.0} %", 100.0 * run.share_of_bandwidth),
                cell(run.share_of_int8_peak, |share| {
                    format!("{:.0} %", 100.0 * share)
                }),
            ];
            if energy {
                cells.push(cell(run.joules_per_token, three_digits));
            }
            cells
        };
        Grid {
            columns,
            rows: self.runs.iter().map(row).collect(),
        }
    }

    fn peers(&self) -> Grid {
        let row = |peer: &PeerRow| {
            vec![
                peer.name.clone(),
                peer.test.clone(),
                cell(peer.kv.clone(), |kv| kv),
                peer.batch.to_string(),
                peer.threads.to_string(),
                format!("{:.1}", peer.tokens_per_second),
                cell(peer.beside.clone(), |name| name),
                cell(peer.kv_here.clone(), |kv| kv),
                cell(peer.ours, |rate| format!("{rate:.1}")),
                cell(peer.ratio, |ratio| format!("{ratio:.2}")),
            ]
        };
        Grid {
            columns: vec![
                ("other", Align::Left),
                ("test", Align::Left),
                ("kv", Align::Left),
                ("batch", Align::Right),
                ("threads", Align::Right),
                ("tok/s", Align::Right),
                ("model here", Align::Left),
                ("kv here", Align::Left),
                ("tok/s here", Align::Right),
                ("here / other", Align::Right),
            ],
            rows: self.peers.iter().map(row).collect(),
        }
    }
}

/// What a cell shows, a dash for nothing.
fn cell<T>(value: Option<T>, shown: impl FnOnce(T) -> String) -> String {
    value.map_or("–".to_owned(), shown)
}

/// `1.23`, `0.0123`: at least three digits that say something.
fn three_digits(value: f64) -> String {
    let before_the_point = if value == 0.0 {
        0.0
    } else {
        value.abs().log10()
    };
    let digits = 2 + (-before_the_point.floor()).clamp(0.0, 12.0) as usize;
    format!("{value:.digits$}")
}

/// The numbers as JSON has them, with its names; what is null there is empty here.
fn csv<T: Serialize>(rows: &[T]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// A table before it has a form.
struct Grid {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    fn text(&self) -> String {
        let mut table = Table::new(&self.columns);
        for row in &self.rows {
            table.row(row.iter().map(|cell| escape(cell)));
        }
        table.render()
    }

    fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = String>| {
            let cells: Vec<_> = cells
                .map(|cell| escape(&cell).replace('|', "\\|"))
                .collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = self.columns.iter().map(|(_, align)| match align {
            Align::Left => "---",
            Align::Right => "---:",
        });
        let mut out = line(&mut self.columns.iter().map(|&(name, _)| name.to_owned()));
        out += &line(&mut rule.map(str::to_owned));
        for row in &self.rows {
            out += &line(&mut row.iter().cloned());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Grid, csv, median, three_digits};
    use serde::Serialize;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (&[] as &[f64], 0.0),
            (&[3.0], 3.0),
            (&[9.0, 1.0], 5.0),
            (&[9.0, 1.0, 2.0], 2.0),
            (&[4.0, 9.0, 1.0, 2.0], 3.0),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        for (value, expected) in [
            (143.25, "143.25"),
            (0.0, "0.00"),
            (0.5, "0.500"),
            (0.01234, "0.0123"),
        ] {
            assert_eq!(three_digits(value), expected);
        }
    }

    #[test]
    fn odd_names_stay_one_cell() {
        let name = "a|b,\"c\"\n";
        let grid = Grid {
            columns: vec![("model", Align::Left), ("tok/s", Align::Right)],
            rows: vec![vec![name.to_owned(), "1.0".to_owned()]],
        };
        assert_eq!(grid.markdown().lines().count(), 3);
        assert!(grid.markdown().contains("a\\|b"));

        #[derive(Serialize)]
        struct Row {
            model: &'static str,
            rate: f64,
            energy: Option<f64>,
        }
        let row = Row {
            model: name,
            rate: 1.5,
            energy: None,
        };
        assert_eq!(
            csv(&[row]).unwrap(),
            "model,rate,energy\n\"a|b,\"\"c\"\"\n\",1.5,\n"
        );
    }
}

//! Results of `lagar bench`, as JSON, tables and lines of a spreadsheet.

use super::peers::{Peer, PeerRow};
use super::timing::{Case, Kind, Measured};
use super::{Contestant, Processor};
use crate::args::BenchFormat;
use crate::machine::Machine;
use crate::terminal::{Align, Table, bytes, escape};
use serde::Serialize;

/// The object of `bench --json`.
#[derive(Debug, Serialize)]
pub(super) struct Bench {
    machine: Machine,
    /// With the largest number of threads that was measured.
    memory_bandwidth_bytes_per_second: f64,
    int8_operations_per_second: f64,
    runs: Vec<Run>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerRow>,
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
    kv: String,
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
    /// From opening the file to the logits after one token.
    first_token_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
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
            first_token_seconds: contestant.first_token_seconds,
            joules_per_token: (!measured.joules.is_empty()).then(|| median(&measured.joules)),
        }
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

/// What was done, given the tokens of the prompt or before, and of those that were made.
pub(super) fn test(prompt: usize, generated: usize) -> String {
    match (generated, prompt) {
        (0, prompt) => format!("prefill {prompt}"),
        (_, 0) => "decode".to_owned(),
        (_, before) => format!("decode after {before}"),
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
            peers: peers.iter().flat_map(|peer| peer.beside(&runs)).collect(),
            runs,
        }
    }

    pub(super) fn render(&self, format: BenchFormat) -> String {
        let grids = [
            Some(self.runs()),
            (!self.peers.is_empty()).then(|| self.peers()),
        ];
        let grids = grids.into_iter().flatten();
        match format {
            BenchFormat::Csv => grids.map(|grid| grid.csv()).collect::<Vec<_>>().join("\n"),
            BenchFormat::Markdown => {
                let parts = [self.heading()]
                    .into_iter()
                    .chain(grids.map(|grid| grid.markdown()));
                parts.collect::<Vec<_>>().join("\n")
            }
            BenchFormat::Text => {
                let parts = [self.heading()]
                    .into_iter()
                    .chain(grids.map(|grid| grid.text()));
                parts.collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// The machine in a line or two.
    fn heading(&self) -> String {
        format!(
            "{}\nmemory: {:.1} GB/s; products of bytes: {:.2} TOP/s\n",
            escape(&self.machine.words()),
            self.memory_bandwidth_bytes_per_second / 1e9,
            self.int8_operations_per_second / 1e12,
        )
    }

    fn runs(&self) -> Grid {
        let energy = self.runs.iter().any(|run| run.joules_per_token.is_some());
        let mut columns = vec![
            "model",
            "bits",
            "test",
            "batch",
            "threads",
            "tok/s",
            "least",
            "most",
            "read/token",
            "GB/s",
            "of memory",
            "of int8",
        ];
        if energy {
            columns.push("J/token");
        }
        let row = |run: &Run| {
            let mut cells = vec![
                run.name(),
                format!("{:.2}", run.bits_per_parameter),
                test(run.prompt, run.generated),
                run.batch.to_string(),
                run.threads.to_string(),
                format!("{:.1}", run.tokens_per_second),
                format!("{:.1}", run.tokens_per_second_least),
                format!("{:.1}", run.tokens_per_second_most),
                bytes(run.bytes_per_token as u64),
                format!("{:.1}", run.bytes_per_second / 1e9),
                format!("{:.0} %", 100.0 * run.share_of_bandwidth),
                run.share_of_int8_peak
                    .map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
            ];
            if energy {
                let joules = run.joules_per_token;
                cells.push(joules.map_or(String::new(), |joules| format!("{joules:.2}")));
            }
            cells
        };
        Grid {
            left: 1,
            columns,
            rows: self.runs.iter().map(row).collect(),
        }
    }

    fn peers(&self) -> Grid {
        let row = |peer: &PeerRow| {
            let figure = |value: Option<f64>, digits: usize| {
                value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
            };
            vec![
                peer.name.clone(),
                peer.test.clone(),
                peer.threads.to_string(),
                format!("{:.1}", peer.tokens_per_second),
                peer.beside.clone().unwrap_or_default(),
                figure(peer.ours, 1),
                figure(peer.ratio, 2),
            ]
        };
        Grid {
            left: 1,
            columns: vec![
                "other",
                "test",
                "threads",
                "tok/s",
                "model here",
                "tok/s here",
                "here / other",
            ],
            rows: self.peers.iter().map(row).collect(),
        }
    }
}

/// A table before it has a form.
struct Grid {
    /// Columns of words, at the left.
    left: usize,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    fn text(&self) -> String {
        let align = |i: usize| {
            if i < self.left {
                Align::Left
            } else {
                Align::Right
            }
        };
        let columns = self.columns.iter().enumerate();
        let columns: Vec<_> = columns.map(|(i, name)| (*name, align(i))).collect();
        let mut table = Table::new(&columns);
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
        let rule = (0..self.columns.len()).map(|i| if i < self.left { "---" } else { "---:" });
        let mut out = line(&mut self.columns.iter().map(|&name| name.to_owned()));
        out += &line(&mut rule.map(str::to_owned));
        for row in &self.rows {
            out += &line(&mut row.iter().cloned());
        }
        out
    }

    fn csv(&self) -> String {
        let quoted = |cell: &str| match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.to_owned(),
        };
        let mut out = self.columns.join(",") + "\n";
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(|cell| quoted(cell)).collect();
            out += &(cells.join(",") + "\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Grid, median};

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
    fn odd_names_stay_one_cell() {
        let grid = Grid {
            left: 1,
            columns: vec!["model", "tok/s"],
            rows: vec![vec!["a|b,\"c\"\n".to_owned(), "1.0".to_owned()]],
        };
        assert_eq!(grid.csv(), "model,tok/s\n\"a|b,\"\"c\"\"\n\",1.0\n");
        assert_eq!(grid.markdown().lines().count(), 3);
        assert!(grid.markdown().contains("a\\|b"));
    }
}

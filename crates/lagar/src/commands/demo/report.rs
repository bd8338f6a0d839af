//! What the demo measured, and the table that is printed.

use crate::terminal::{Align, Table, bytes};
use serde::Serialize;
use std::path::PathBuf;

/// One row: the original, or a pressed file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// `original`, `2 bits`, `tier RG`, …
    pub(super) name: String,
    /// Depth of the press; none for the original and for tiers.
    pub(super) bits: Option<u8>,
    pub(super) file_bytes: u64,
    /// Of the whole file, tokenizer and all.
    pub(super) bits_per_parameter: f64,
    pub(super) perplexity: f64,
    /// Nats per token from the original's predictions; 0 for the original itself.
    pub(super) kl_mean: f64,
    /// Share of positions at which the most likely token is the original's.
    pub(super) top1_agreement: f64,
    /// Tokens generated in a second, one after another.
    pub(super) tokens_per_second: f64,
    /// Time that pressing took; none for the original and for tiers.
    pub(super) press_seconds: Option<f64>,
    /// What this size wrote after the prompt.
    pub(super) paragraph: String,
}

/// Everything that the page and the table show.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) parameters: u64,
    /// Tokens of text that were scored.
    pub(super) tokens: usize,
    pub(super) threads: usize,
    pub(super) instruction_set: String,
    pub(super) seconds: f64,
    pub(super) prompt: String,
    /// Where the page is.
    pub(super) page: PathBuf,
    /// The original first, then from small to large.
    pub(super) rows: Vec<Row>,
    /// One file that holds several qualities.
    pub(super) tiered: Tiered,
}

/// A file of several tiers, the last of which is the original.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tiered {
    /// All tiers below the original.
    pub(super) rows: Vec<Row>,
    /// Of the whole file.
    pub(super) file_bytes: u64,
    pub(super) bits_per_parameter: f64,
    /// Files of the original that were restored from it and compared, byte for byte.
    pub(super) restored_files: usize,
    /// Time that pressing took.
    pub(super) press_seconds: f64,
}

impl Tiered {
    /// What the file is, in a sentence.
    pub(super) fn words(&self) -> String {
        format!(
            "One file of {} ({:.2} bits/parameter) holds the tiers above and the original: restored from it, \
             {} files are what they were, byte for byte.",
            bytes(self.file_bytes),
            self.bits_per_parameter,
            self.restored_files
        )
    }
}

impl Row {
    /// The cells of this row, in the order of the table's columns.
    pub(super) fn cells(&self) -> [String; 7] {
        [
            self.name.clone(),
            bytes(self.file_bytes),
            format!("{:.2}", self.bits_per_parameter),
            format!("{:.2}", self.perplexity),
            format!("{:.4}", self.kl_mean),
            format!("{:.1} %", 100.0 * self.top1_agreement),
            format!("{:.0}", self.tokens_per_second),
        ]
    }
}

/// Name of the original's row.
pub(super) const ORIGINAL: &str = "original";

/// Headings of the columns that `Row::cells` fills.
pub(super) const COLUMNS: [&str; 7] = [
    "",
    "whole file",
    "bits/parameter",
    "perplexity",
    "KL",
    "same top token",
    "tok/s",
];

impl Report {
    /// Everything that was measured.
    pub(super) fn all_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().chain(&self.tiered.rows)
    }

    /// The table for the terminal.
    pub(super) fn table(&self) -> String {
        let columns: Vec<_> = COLUMNS
            .iter()
            .enumerate()
            .map(|(i, name)| (*name, if i == 0 { Align::Left } else { Align::Right }))
            .collect();
        let mut table = Table::new(&columns);
        for row in self.all_rows() {
            table.row(row.cells());
        }
        table.render()
    }
}

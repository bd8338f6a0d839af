//! A text that was made: its way to stdout, and what it took.

use crate::terminal::{self, Streamed, bytes};
use lagar_engine::StreamReport;
use lagar_engine::generate::Outcome;
use std::io::IsTerminal;

/// A text that was made.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) text: String,
    pub(super) outcome: Outcome,
    /// Whether a draft was there to guess.
    pub(super) drafting: bool,
    /// What was read from the disk for it, where weights are.
    pub(super) streamed: Option<StreamReport>,
}

impl Completion {
    /// What it took, in words, line by line.
    pub(super) fn details(&self) -> Vec<String> {
        let mut lines = vec![self.speed()];
        lines.extend(self.drafting.then(|| self.guesses()));
        lines.extend(self.streamed.as_ref().map(|report| self.reading(report)));
        lines
    }

    /// Tokens, time and speed.
    fn speed(&self) -> String {
        let outcome = &self.outcome;
        let computed = outcome.prompt_tokens - outcome.reused_tokens;
        let mut words = format!(
            "prompt: {computed} tokens in {:.2} s",
            outcome.prefill.as_secs_f64()
        );
        if outcome.reused_tokens > 0 {
            words.push_str(&format!(" ({} were known)", outcome.reused_tokens));
        }
        words.push_str(&format!("; text: {} tokens", outcome.tokens.len()));
        if let Some(rate) = outcome.decode_rate() {
            words.push_str(&format!(", {rate:.1} tokens/s"));
        }
        words
    }

    /// How well the draft guessed.
    fn guesses(&self) -> String {
        let outcome = &self.outcome;
        let per_pass = outcome.tokens_per_pass().unwrap_or(0.0);
        format!(
            "draft: {per_pass:.2} tokens per full pass; {} of {} guesses were right",
            outcome.accepted, outcome.drafted
        )
    }

    fn reading(&self, report: &StreamReport) -> String {
        format!(
            "from the disk: {} per token of text, {} in {} passes; {:.0} % of their time was waiting",
            bytes(self.bytes_read_per_token().unwrap_or(0.0) as u64),
            bytes(report.bytes_read),
            report.passes,
            100.0 * report.share_waiting()
        )
    }

    /// Bytes that were read from the disk for each token after the first, for which the prompt's
    /// passes read as well: every pass reads about the same.
    pub(super) fn bytes_read_per_token(&self) -> Option<f64> {
        let report = self.streamed.as_ref()?;
        let per_pass = report.bytes_read as f64 / report.passes.max(1) as f64;
        Some(per_pass / self.outcome.tokens_per_pass()?)
    }
}

/// Where generated text goes while it is made.
#[derive(Debug)]
pub(super) struct Writer {
    to: Option<Streamed>,
    /// Whether the last character ended a line.
    at_line_start: bool,
}

impl Writer {
    pub(super) fn silent() -> Self {
        Self {
            to: None,
            at_line_start: true,
        }
    }

    pub(super) fn stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            to: Some(Streamed::new(terminal)),
            at_line_start: false,
        }
    }

    pub(super) fn write(&mut self, piece: &str) -> anyhow::Result<()> {
        let Some(to) = self.to else { return Ok(()) };
        if !piece.is_empty() {
            self.at_line_start = piece.ends_with('\n');
            terminal::print(&to.show(piece))?;
        }
        Ok(())
    }

    /// Ends the line, unless the text did.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        if self.to.is_some() && !std::mem::replace(&mut self.at_line_start, true) {
            terminal::print("\n")?;
        }
        Ok(())
    }
}

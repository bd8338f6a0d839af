//! Results of another program or another day, beside ours.

use super::results::{Run, shown, test};
use crate::exit::{Blame, Fault};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A result that was measured elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    name: String,
    /// Tokens of the prompt, or before the first token that is made.
    prompt: usize,
    /// Tokens that are made; 0 for a prompt.
    generated: usize,
    batch: usize,
    threads: usize,
    tokens_per_second: f64,
}

/// A peer beside the run that did the same, where there is one.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PeerRow {
    pub(super) name: String,
    pub(super) test: String,
    pub(super) threads: usize,
    pub(super) tokens_per_second: f64,
    /// The model that ran here.
    pub(super) beside: Option<String>,
    pub(super) ours: Option<f64>,
    /// Ours over theirs.
    pub(super) ratio: Option<f64>,
}

/// What a file may be.
#[derive(Deserialize)]
#[serde(untagged)]
enum Results {
    /// Of llama.cpp's llama-bench.
    LlamaBench(Vec<LlamaBench>),
    /// Of `lagar bench --json`.
    Ours { runs: Vec<OurRun> },
}

#[derive(Deserialize)]
struct LlamaBench {
    model_filename: String,
    #[serde(default)]
    model_type: Option<String>,
    n_threads: usize,
    n_prompt: usize,
    n_gen: usize,
    #[serde(default)]
    n_depth: usize,
    avg_ts: f64,
}

#[derive(Deserialize)]
struct OurRun {
    model: String,
    #[serde(default)]
    tier: Option<String>,
    prompt: usize,
    generated: usize,
    batch: usize,
    threads: usize,
    tokens_per_second: f64,
}

impl Peer {
    /// Reads a file of results.
    ///
    /// # Errors
    /// A file that cannot be read, or holds neither kind of results.
    pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Self>> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))
            .blame(Fault::Input)?;
        let results: Results = serde_json::from_str(&text)
            .map_err(|_| {
                anyhow::anyhow!(
                    "{} holds neither the JSON of llama-bench (-o json) nor that of lagar bench --json",
                    path.display()
                )
            })
            .blame(Fault::Input)?;
        Ok(match results {
            Results::LlamaBench(all) => all.into_iter().map(Self::from).collect(),
            Results::Ours { runs } => runs.into_iter().map(Self::from).collect(),
        })
    }

    fn is_of(&self, run: &Run) -> bool {
        (self.generated > 0) == (run.generated > 0)
            && (self.prompt, self.batch, self.threads) == (run.prompt, run.batch, run.threads)
    }

    /// This result beside each run that did the same; by itself where none did.
    pub(super) fn beside(&self, runs: &[Run]) -> Vec<PeerRow> {
        let row = |run: Option<&Run>| PeerRow {
            name: self.name.clone(),
            test: test(self.prompt, self.generated),
            threads: self.threads,
            tokens_per_second: self.tokens_per_second,
            beside: run.map(Run::name),
            ours: run.map(|run| run.tokens_per_second),
            ratio: run.map(|run| run.tokens_per_second / self.tokens_per_second),
        };
        let same: Vec<_> = runs.iter().filter(|run| self.is_of(run)).collect();
        match &same[..] {
            [] => vec![row(None)],
            same => same.iter().map(|run| row(Some(run))).collect(),
        }
    }
}

impl From<LlamaBench> for Peer {
    fn from(result: LlamaBench) -> Self {
        let file = Path::new(&result.model_filename).file_name();
        let file = file.map_or(String::new(), |name| name.to_string_lossy().into_owned());
        Self {
            name: match result.model_type {
                Some(kind) => format!("{file} ({kind})"),
                None => file,
            },
            // llama-bench reads the prompt, makes tokens, or does both one after the other.
            prompt: if result.n_gen > 0 {
                result.n_depth + result.n_prompt
            } else {
                result.n_prompt
            },
            generated: result.n_gen,
            batch: 1,
            threads: result.n_threads,
            tokens_per_second: result.avg_ts,
        }
    }
}

impl From<OurRun> for Peer {
    fn from(run: OurRun) -> Self {
        Self {
            name: shown(&run.model, run.tier.as_deref()),
            prompt: run.prompt,
            generated: run.generated,
            batch: run.batch,
            threads: run.threads,
            tokens_per_second: run.tokens_per_second,
        }
    }
}

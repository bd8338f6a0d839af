//! Results of another program or another day, beside ours.

use super::results::{Run, Test, shown};
use crate::exit::{Blame, Fault};
use anyhow::{Context as _, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// A result that was measured elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    name: String,
    test: Test,
    batch: usize,
    threads: usize,
    kv: Option<String>,
    tokens_per_second: f64,
}

/// A peer beside the run that did the same, where there is one.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PeerRow {
    pub(super) name: String,
    pub(super) test: String,
    pub(super) batch: usize,
    pub(super) threads: usize,
    /// How keys and values were kept; null where the other program does not say.
    pub(super) kv: Option<String>,
    pub(super) tokens_per_second: f64,
    /// The model that ran here.
    pub(super) beside: Option<String>,
    pub(super) kv_here: Option<String>,
    pub(super) ours: Option<f64>,
    /// Ours over theirs.
    pub(super) ratio: Option<f64>,
}

/// A row of llama.cpp's llama-bench.
#[derive(Deserialize)]
struct LlamaBench {
    model_filename: String,
    #[serde(default)]
    model_type: Option<String>,
    n_threads: usize,
    /// Tokens that are read, and then made; together they are what `avg_ts` counts.
    n_prompt: usize,
    n_gen: usize,
    /// Tokens that are there before.
    #[serde(default)]
    n_depth: usize,
    #[serde(default)]
    type_k: Option<String>,
    avg_ts: f64,
}

/// `lagar bench --json`.
#[derive(Deserialize)]
struct Ours {
    runs: Vec<OurRun>,
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
    #[serde(default)]
    kv: Option<String>,
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
        let text = text.trim_start_matches('\u{feff}');
        Self::parse(text)
            .with_context(|| {
                format!(
                    "{} holds neither the JSON of llama-bench (-o json, -o jsonl) nor that of lagar bench --json",
                    path.display()
                )
            })
            .blame(Fault::Input)
    }

    /// llama-bench writes an array, or an object after the other; `lagar bench` one object with all runs.
    fn parse(text: &str) -> anyhow::Result<Vec<Self>> {
        let mut all = Vec::new();
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            match value? {
                Value::Array(rows) => {
                    for row in rows {
                        all.push(Self::of_llama_bench(row)?);
                    }
                }
                value if value.get("runs").is_some() => {
                    let Ours { runs } = serde_json::from_value(value)?;
                    all.extend(runs.into_iter().map(Self::from));
                }
                row => all.push(Self::of_llama_bench(row)?),
            }
        }
        ensure!(!all.is_empty(), "there are no results in it");
        if let Some(peer) = all.iter().find(|peer| peer.tokens_per_second <= 0.0) {
            bail!(
                "{}: {} tokens per second",
                peer.name,
                peer.tokens_per_second
            );
        }
        Ok(all)
    }

    fn of_llama_bench(row: Value) -> anyhow::Result<Self> {
        let row = LlamaBench::deserialize(&row).map_err(|e| {
            let start: String = row.to_string().chars().take(60).collect();
            anyhow!("{e} in {start}\u{2026}")
        })?;
        let file = Path::new(&row.model_filename).file_name();
        let file = file.map_or(String::new(), |name| name.to_string_lossy().into_owned());
        Ok(Self {
            name: match row.model_type {
                Some(kind) => format!("{file} ({kind})"),
                None => file,
            },
            test: Test {
                before: row.n_depth,
                prompt: row.n_prompt,
                generated: row.n_gen,
            },
            batch: 1,
            threads: row.n_threads,
            kv: row.type_k,
            tokens_per_second: row.avg_ts,
        })
    }

    /// Whether a run did the same; how many tokens were made may differ.
    fn is_of(&self, run: &Run) -> bool {
        let (theirs, ours) = (self.test, run.test());
        (theirs.generated > 0) == (ours.generated > 0)
            && (theirs.before, theirs.prompt) == (ours.before, ours.prompt)
            && (self.batch, self.threads) == (run.batch, run.threads)
    }

    /// This result beside each run that did the same; by itself where none did.
    pub(super) fn beside(&self, runs: &[Run]) -> Vec<PeerRow> {
        let row = |run: Option<&Run>| PeerRow {
            name: self.name.clone(),
            test: self.test.to_string(),
            batch: self.batch,
            threads: self.threads,
            kv: self.kv.clone(),
            tokens_per_second: self.tokens_per_second,
            beside: run.map(Run::name),
            kv_here: run.map(|run| run.kv.clone()),
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

impl From<OurRun> for Peer {
    fn from(run: OurRun) -> Self {
        Self {
            name: shown(&run.model, run.tier.as_deref()),
            test: Test::of_run(run.prompt, run.generated),
            batch: run.batch,
            threads: run.threads,
            kv: run.kv,
            tokens_per_second: run.tokens_per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Peer;

    fn row(depth: usize, prompt: usize, generated: usize) -> String {
        format!(
            r#"{{"model_filename": "m/a.gguf", "model_type": null, "n_threads": 2, "type_k": "f16", "n_depth": {depth},
            "n_prompt": {prompt}, "n_gen": {generated}, "avg_ts": 2.5}}"#
        )
    }

    #[test]
    fn every_test_of_llama_bench_has_a_name_of_its_own() {
        let rows = [
            row(0, 16, 0),
            row(128, 16, 0),
            row(0, 0, 8),
            row(128, 0, 8),
            row(0, 64, 8),
            row(9, 64, 8),
        ];
        let expected = [
            "prefill 16",
            "prefill 16 after 128",
            "decode 8",
            "decode 8 after 128",
            "prefill 64 + decode 8",
            "prefill 64 + decode 8 after 9",
        ];
        // As `-o json` and as `-o jsonl` writes them, and with the mark that some editors put in front.
        for text in [format!("[{}]", rows.join(",")), rows.join("\n")] {
            let peers = Peer::parse(&text).unwrap();
            let tests: Vec<_> = peers.iter().map(|peer| peer.test.to_string()).collect();
            assert_eq!(tests, expected);
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (text, reason) in [
            ("[]".to_owned(), "no results"),
            (String::new(), "no results"),
            (
                row(0, 1, 0).replace("avg_ts", "ts"),
                "missing field `avg_ts`",
            ),
            (row(0, 1, 0).replace("2.5", "\"2\""), "invalid type"),
            (row(0, 1, 0).replace("2.5", "0.0"), "0 tokens per second"),
            (row(0, 1, 0).replace("2.5", "-1"), "-1 tokens per second"),
            (row(0, 1, 0).replace("}", ""), "EOF"),
            (r#"{"runs": [{}]}"#.to_owned(), "missing field `model`"),
        ] {
            let error = Peer::parse(&text).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
    }
}

//! `lagar bench`.

use super::KvKind;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Measure how fast models run here, and how near that is to what the machine can do
///
/// Prefill is reading a prompt, all of its tokens together; it is bound by arithmetic. Decode is making
/// text token by token; each token reads all weights once, so it is bound by memory. Both are measured in
/// turns, --rounds times, and the median counts. Before that the machine's own limits are measured: bytes a
/// second from memory, and products of bytes a second.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lagar bench qwen.lagar
  lagar bench qwen.lagar --tier R,RG --thread-counts 1,2,4 --json
  lagar bench qwen.lagar --batch 1,8 --context 0,4096 --kv f16
  llama-bench -m qwen.gguf -o json > theirs.json; lagar bench qwen.lagar --compare theirs.json
  lagar bench qwen.lagar --format csv > speed.csv

Other programs slow both the model and the limits. With several sequences (--batch), tokens per second are \
those of all of them together.")]
pub(crate) struct BenchArgs {
    /// .lagar files or checkpoint folders
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<PathBuf>,

    /// Quality levels of the file to measure [default: the best one that fits in the memory that is free]
    #[arg(long, value_name = "TIER,…", value_delimiter = ',')]
    pub(crate) tier: Vec<String>,

    /// Tokens of the prompts that are read; 0 for none [default: 128,512, or as many as the model's context holds]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) prompt: Vec<usize>,

    /// Tokens that are made, one after another; 0 for none [default: 64, or as many as the model's context holds]
    #[arg(long, value_name = "N")]
    pub(crate) generate: Option<usize>,

    /// Tokens of context that are there before the first one is made; prompts are read without any
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    pub(crate) context: Vec<usize>,

    /// Sequences that are made at the same time
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batch: Vec<u16>,

    /// Numbers of threads to measure with [default: what --threads says]
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with = "threads",
        value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) thread_counts: Vec<u16>,

    /// How often everything is measured
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,

    /// How the keys and values of past tokens, which grow with the text, are kept in memory [default: f16
    /// with pressed weights and int8 activations, else f32]
    #[arg(long, value_name = "KIND")]
    pub(crate) kv: Option<KvKind>,

    /// Copy the weights to memory of large pages, where the system has them, instead of mapping the files (Linux; takes longer
    /// to start, twice the memory meanwhile, and then as much that no other process shares)
    #[arg(long)]
    pub(crate) huge_pages: bool,

    /// Put these results beside: JSON of llama.cpp's llama-bench (-o json or -o jsonl), or of `lagar bench --json`
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Vec<PathBuf>,

    /// Also give joules per token, where the processor counts them and lets you read it; else say that it does not
    #[arg(long)]
    pub(crate) energy: bool,

    /// Form of the result: a table to read, one for a document, or the numbers as they are for a spreadsheet (with --compare a
    /// second table, after an empty line); --json gives all of it
    #[arg(
        long,
        value_name = "FORM",
        default_value = "text",
        conflicts_with = "json"
    )]
    pub(crate) format: BenchFormat,
}

/// Form of the result.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum BenchFormat {
    Text,
    Markdown,
    Csv,
}

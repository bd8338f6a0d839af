//! Every log-likelihood of a task, for comparison with other programs:
//! `cargo run --release -p lagar-press --example task_scores -- MODEL TASK.jsonl [LIMIT]`.
//!
//! Prints a JSON object: `accuracy`, `accuracy_stderr`, the same with `_norm`, `perplexity`, and `answers`, a list of
//! `line` and `log_likelihoods` (of all choices, nats). Activations are f32, so that pressed weights compare
//! with dequantized ones.
#![allow(clippy::print_stdout)]

use std::path::Path;

use lagar_engine::{Activations, Model, ModelOptions};
use lagar_kernels::{Cpu, Isa, KvFormat};
use lagar_press::{Silent, Task, score};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (model, task, limit) = match &args[..] {
        [model, task] => (model, task, None),
        [model, task, limit] => (model, task, Some(limit.parse()?)),
        _ => return Err("usage: task_scores MODEL TASK.jsonl [LIMIT]".into()),
    };
    let cpu = Cpu::new(Isa::best(), std::thread::available_parallelism()?.get());
    let options = ModelOptions::default()
        .with_activations(Activations::F32)
        .with_kv(KvFormat::F32);
    let model = Model::open(model, None, &options)?;
    let result = score(&cpu, &model, &Task::read(Path::new(task), limit)?, &Silent)?;
    let answers = result.answers.iter();
    let answers = answers.map(|a| json!({"line": a.line, "log_likelihoods": a.log_likelihoods}));
    let object = json!({
        "accuracy": result.accuracy,
        "accuracy_stderr": result.accuracy_stderr,
        "accuracy_norm": result.accuracy_norm,
        "accuracy_norm_stderr": result.accuracy_norm_stderr,
        "perplexity": result.perplexity,
        "answers": answers.collect::<Vec<_>>(),
    });
    println!("{object}");
    Ok(())
}

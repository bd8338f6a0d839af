//! Measures the backward pass against the forward pass:
//! `cargo run --release -p lagar-engine --example gradient_speed -- MODEL THREADS TOKENS`.
//!
//! Windows of the model's context, at most TOKENS; loss: cross-entropy. Prints the best of three runs.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lagar_engine::gradient::{CrossEntropy, NoGradientObserver};
use lagar_engine::{Activations, Model, ModelOptions, NoObserver};
use lagar_kernels::{Cpu, Isa};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("a model")?;
    let threads: usize = arguments.next().ok_or("a number of threads")?.parse()?;
    let count: usize = arguments.next().ok_or("a number of tokens")?.parse()?;
    let options = ModelOptions::default().with_activations(Activations::F32);
    let model = Model::open(&path, None, &options)?;
    let cpu = Cpu::new(Isa::best(), threads);
    let vocabulary = model.spec().vocabulary;
    let tokens: Vec<u32> = (0..count).map(|i| (i * 7919 % vocabulary) as u32).collect();
    let context = model.spec().context.min(count);

    let forward = best(|| {
        let mut session = model.session(context)?;
        let mut logits = vec![0.0; context * vocabulary];
        for window in tokens.chunks(context) {
            session.truncate(0);
            let hidden = model.forward(&cpu, &mut session, window, &mut NoObserver)?;
            let logits = &mut logits[..window.len() * vocabulary];
            model.logits(&cpu, hidden, window.len(), logits)?;
        }
        Ok(())
    })?;
    let backward = best(|| {
        for window in tokens.chunks(context) {
            let loss = &mut CrossEntropy::new(window);
            model.backward(&cpu, window, loss, &mut NoGradientObserver)?;
        }
        Ok(())
    })?;
    println!(
        "{count} tokens in windows of {context}, {threads} threads: forward {forward:.3} s, forward and \
         backward {backward:.3} s, {:.2} times as long",
        backward / forward
    );
    Ok(())
}

/// The best time of three runs, in seconds.
fn best(
    mut work: impl FnMut() -> Result<(), lagar_engine::EngineError>,
) -> Result<f64, lagar_engine::EngineError> {
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

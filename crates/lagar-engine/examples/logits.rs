//! Logits and greedy tokens, for comparison with another implementation:
//! `cargo run --release -p lagar-engine --example logits -- MODEL TOKEN,TOKEN,… COUNT OUT`.
//!
//! Takes the prompt through the model with f32 activations, continues it greedily by `COUNT` tokens,
//! prints these as a JSON list and writes the logits of every position of prompt and continuation
//! to `OUT`, as little-endian f32, positions × vocabulary.
#![allow(clippy::print_stdout)]

use lagar_engine::{Activations, Model, ModelOptions, NoObserver};
use lagar_kernels::{Cpu, Isa};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, prompt, count, out] = &args[..] else {
        return Err("usage: logits MODEL TOKEN,TOKEN,… COUNT OUT".into());
    };
    let prompt: Vec<u32> = prompt
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let count: usize = count.parse()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = Cpu::new(Isa::best(), threads);
    let options = ModelOptions::default().with_activations(Activations::F32);
    let model = Model::open(path, None, &options)?;

    let vocabulary = model.spec().vocabulary;
    let mut session = model.session(prompt.len() + count)?;
    let (mut tokens, mut bytes) = (prompt.clone(), Vec::new());
    let mut fed = 0;
    while tokens.len() < prompt.len() + count {
        let input = &tokens[fed..];
        let n = input.len();
        let hidden = model
            .forward(&cpu, &mut session, input, &mut NoObserver)?
            .to_vec();
        fed += n;
        let mut logits = vec![0.0; n * vocabulary];
        model.logits(&cpu, &hidden, n, &mut logits)?;
        bytes.extend(logits.iter().flat_map(|l| l.to_le_bytes()));
        let last = &logits[(n - 1) * vocabulary..];
        let best = (1..vocabulary).fold(0, |best, i| if last[i] > last[best] { i } else { best });
        tokens.push(best as u32);
    }
    std::fs::write(out, bytes)?;
    println!("{:?}", &tokens[prompt.len()..]);
    Ok(())
}

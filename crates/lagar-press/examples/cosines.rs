//! How much pressed matrices look like the original's: `cargo run --release -p lagar-press --example cosines --
//! CHECKPOINT TEXT FILE…`.
//!
//! Prints two means over the linears and the embedding, weighted by size: the cosine between all weights and what a file decodes
//! to, and that between the outputs of both for the inputs that the original model sees in the first 4,096 tokens of the text.
#![allow(clippy::print_stdout)]

use std::collections::HashMap;

use lagar_engine::gradient::{GradientObserver, LinearGradient, SampledCrossEntropy};
use lagar_engine::{Model, ModelOptions, Role};
use lagar_kernels::{Cpu, Isa};

const TOKENS: usize = 4096;

/// Keeps what each linear reads.
#[derive(Default)]
struct Inputs(HashMap<String, Vec<f32>>);

impl GradientObserver for Inputs {
    fn linear(&mut self, linear: &LinearGradient<'_>) {
        let all = self.0.entry(linear.weight.to_owned()).or_default();
        all.extend_from_slice(linear.x);
    }
}

#[derive(Default)]
struct Sums {
    product: f64,
    squares: [f64; 2],
}

impl Sums {
    fn add(&mut self, a: &[f32], b: &[f32]) {
        for (&a, &b) in a.iter().zip(b) {
            let (a, b) = (f64::from(a), f64::from(b));
            self.product += a * b;
            self.squares[0] += a * a;
            self.squares[1] += b * b;
        }
    }

    fn cosine(&self) -> f64 {
        self.product / (self.squares[0] * self.squares[1]).sqrt()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, text, files @ ..] = &args[..] else {
        return Err("usage: cosines CHECKPOINT TEXT FILE…".into());
    };
    let cpu = Cpu::new(Isa::best(), std::thread::available_parallelism()?.get());
    let original = Model::open(checkpoint, None, &ModelOptions::default())?;
    let text = std::fs::read_to_string(text)?;
    let context = original.spec().context;
    let mut tokens = original.tokenizer().encode_plain(&text)?;
    tokens.truncate(TOKENS);
    let mut inputs = Inputs::default();
    let mut loss = SampledCrossEntropy::new(0);
    for window in tokens.chunks(context) {
        original.backward(&cpu, window, &mut loss, &mut inputs)?;
    }
    for file in files {
        let pressed = Model::open(file, None, &ModelOptions::default())?;
        let (mut weights, mut outputs, mut size) = (0.0, 0.0, 0.0);
        for tensor in original.spec().tensors() {
            if !matches!(tensor.role, Role::Linear | Role::Embedding) {
                continue;
            }
            let (rows, cols) = (tensor.shape[0], tensor.shape[1]);
            let of = |model: &Model| model.weight_rows(&cpu, &tensor.name, 0..rows);
            let (a, b) = (of(&original)?, of(&pressed)?);
            let (mut of_weights, mut of_outputs) = (Sums::default(), Sums::default());
            of_weights.add(&a, &b);
            if let Some(x) = inputs.0.get(&tensor.name) {
                let n = x.len() / cols;
                let multiply = |w: &[f32]| {
                    let (mut wt, mut xt) = (vec![0.0; w.len()], vec![0.0; x.len()]);
                    cpu.transpose(w, cols, rows, 0, cols, &mut wt);
                    cpu.transpose(x, cols, n, 0, cols, &mut xt);
                    let mut y = vec![0.0; n * rows];
                    cpu.gemm_tn(&xt, n, &wt, rows, &mut y, rows, n, rows, cols, 1.0);
                    y
                };
                of_outputs.add(&multiply(&a), &multiply(&b));
            }
            let share = (rows * cols) as f64;
            size += share;
            weights += share * of_weights.cosine();
            outputs += share * of_outputs.cosine();
        }
        let bits = 8.0 * pressed.file_bytes() as f64 / pressed.parameters() as f64;
        println!(
            "{file}: {bits:.3} bits, weight cosine {:.4}, output cosine {:.4}",
            weights / size,
            outputs / size
        );
    }
    Ok(())
}

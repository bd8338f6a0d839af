//! Quality over several draws of the random signs, since one draw says little:
//! `cargo run --release -p lagar-press --example draws -- CHECKPOINT CALIBRATION TEXT BITS,… SEEDS DAMPING,…`.
//!
//! Presses at each depth and damping with seeds `0..SEEDS` and prints KL to the original and top-1 agreement
//! on the first 12,288 tokens of `TEXT`, each with mean and range.
#![allow(clippy::print_stdout)]

use std::path::Path;

use lagar_engine::{Model, ModelOptions};
use lagar_kernels::{Cpu, Isa};
use lagar_press::{EvaluationOptions, PressOptions, Request, Silent, evaluate, press};

const TOKENS: usize = 12_288;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, calibration, text, bits, seeds, dampings] = &args[..] else {
        return Err("usage: draws CHECKPOINT CALIBRATION TEXT BITS,… SEEDS DAMPING,…".into());
    };
    let calibration = std::fs::read_to_string(calibration)?;
    let text = std::fs::read_to_string(text)?;
    let seeds: u64 = seeds.parse()?;
    let cpu = Cpu::new(Isa::best(), std::thread::available_parallelism()?.get());
    let original = Model::open(checkpoint, None, &ModelOptions::default())?;
    let output = std::env::temp_dir().join(format!("lagar-draws-{}.lagar", std::process::id()));
    for damping in dampings.split(',') {
        for depth in bits.split(',') {
            let (mut kl, mut agreement) = (Vec::new(), Vec::new());
            for seed in 0..seeds {
                let mut options = PressOptions::default();
                options.bits = depth.parse()?;
                options.seed = seed;
                options.damping = damping.parse()?;
                let request = Request {
                    checkpoint: Path::new(checkpoint),
                    text: &calibration,
                    output: &output,
                    options,
                    resume: false,
                };
                press(&cpu, &request, &Silent)?;
                let pressed = Model::open(&output, None, &ModelOptions::default())?;
                let options = EvaluationOptions::new(None, Some(TOKENS));
                let measured = evaluate(&cpu, &pressed, Some(&original), &text, &options, &Silent)?;
                let compared = measured.reference.ok_or("no comparison")?;
                kl.push(compared.kl_mean);
                agreement.push(compared.top1_agreement);
            }
            println!(
                "{depth} bits, damping {damping}: KL {}, top-1 agreement {}",
                summary(&kl),
                summary(&agreement)
            );
        }
    }
    std::fs::remove_file(output)?;
    Ok(())
}

/// Mean and range.
fn summary(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{mean:.4} ({least:.4}–{most:.4})")
}

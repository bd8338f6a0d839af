//! Times a model:
//! `cargo run --release -p lagar-engine --example speed -- MODEL [THREADS] [ISA] [TIER] [RESIDENT] [WINDOW]`.
//!
//! Prints tokens per second of a prompt of 128 tokens and of 64 tokens one by one after it, with
//! the bytes of weights read for each. With RESIDENT, the tiers above it are read from the disk, in a
//! window of WINDOW bytes, and what that took is printed as well.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lagar_engine::{Model, ModelOptions, NoObserver};
use lagar_kernels::{Cpu, Isa};

const PROMPT: usize = 128;
const GENERATED: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: speed MODEL [THREADS] [ISA] [TIER] [RESIDENT] [WINDOW]";
    let path = args.next().ok_or(usage)?;
    let threads = args.next().map_or(Ok(2), |n| n.parse())?;
    let isa = args
        .next()
        .map_or_else(|| Ok(Isa::best()), |isa| Isa::parse(&isa))?;
    let tier = args.next();
    let mut options = ModelOptions::default().with_decoding(isa, threads);
    options.resident = args.next();
    options.window = args.next().map(|bytes| bytes.parse()).transpose()?;
    let cpu = Cpu::new(isa, threads);
    let start = Instant::now();
    let model = Model::open(&path, tier.as_deref(), &options)?;
    println!("opened in {:.2} s", start.elapsed().as_secs_f64());
    let mut session = model.session(PROMPT + GENERATED)?;
    let vocabulary = model.spec().vocabulary as u32;
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| i * 97 % vocabulary).collect();
    for _ in 0..3 {
        session.truncate(0);
        let start = Instant::now();
        model.next_logits(&cpu, &mut session, &prompt, &mut NoObserver)?;
        let prefill = PROMPT as f64 / start.elapsed().as_secs_f64();
        model.reset_streaming();
        let start = Instant::now();
        for i in 0..GENERATED as u32 {
            model.next_logits(&cpu, &mut session, &[i * 89 % vocabulary], &mut NoObserver)?;
        }
        let decode = GENERATED as f64 / start.elapsed().as_secs_f64();
        println!(
            "{isa}, {threads} threads: prefill {prefill:.1} tok/s, decode {decode:.1} tok/s, \
             {:.1} GB/s of the file",
            decode * model.file_bytes() as f64 / 1e9
        );
        if let Some(report) = model.streaming() {
            println!(
                "    {:.1} MB read per token, {:.2} GB/s, {:.0} % of the time waiting; \
                 a window of {:.1} MB",
                report.bytes_per_token() / 1e6,
                report.bytes_per_token() * decode / 1e9,
                100.0 * report.share_waiting(),
                (report.window_bytes + report.decoded_bytes) as f64 / 1e6,
            );
        }
    }
    Ok(())
}

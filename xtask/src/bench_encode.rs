//! How fast weights are encoded.

use std::time::Instant;

use anyhow::{Result, ensure};
use lagar_codec::Table;
use lagar_kernels::{Encoder, Isa};

use crate::random::Random;

/// Weights of a block: 256 rows × 4 columns.
const BLOCK: usize = 1024;

/// Prints million weights per second on one core: each block with its own row weights, going on from
/// the window in which the block before it ended; the best of 30 runs of at least 0.02 s.
pub(crate) fn run(options: &[String]) -> Result<()> {
    ensure!(options.is_empty(), "bench-encode takes no options");
    let isas = Isa::available();
    print!("million weights/s, one core\n\n| code |");
    isas.iter().for_each(|isa| print!(" {isa} |"));
    print!("\n|---|");
    isas.iter().for_each(|_| print!("---|"));
    println!();
    for (name, trellis) in [("trellis", true), ("scalar", false)] {
        for depth in 1..=if trellis { 7 } else { 8 } {
            let table = Table::trained(depth, if trellis { 8 } else { depth });
            print!("| {name} K = {depth} |");
            for &isa in &isas {
                print!(" {:.1} |", rate(table, isa) / 1e6);
            }
            println!();
        }
    }
    Ok(())
}

/// Weights per second.
fn rate(table: &Table, isa: Isa) -> f64 {
    let mut random = Random::new(1);
    let targets: Vec<f32> = random
        .gaussians(16 * BLOCK)
        .iter()
        .map(|x| x * table.sigma())
        .collect();
    let row_weights: Vec<f32> = (0..BLOCK / 4).map(|r| 0.5 + (r % 5) as f32).collect();
    let mut encoder = Encoder::new(isa);
    let mut windows = vec![0; BLOCK];
    let mut window = 0;
    let mut best = 0.0f64;
    for _ in 0..30 {
        let (start, mut blocks) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < 0.02 {
            for targets in targets.chunks(BLOCK) {
                window = encoder.encode_block(table, window, targets, &row_weights, &mut windows);
                blocks += 1;
            }
        }
        best = best.max((blocks * BLOCK) as f64 / start.elapsed().as_secs_f64());
    }
    best
}

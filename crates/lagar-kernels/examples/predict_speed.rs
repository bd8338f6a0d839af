//! Measures the prediction of rows: `cargo run --release -p lagar-kernels --example predict_speed`.
//!
//! Arguments are names of instruction sets; without any, all that the processor has are measured.
//! Printed are millions of weights per second on one thread, by width and stages (bits of each), in
//! chunks of about 65,536 weights:
//!
//! - *in cache*: 256 rows again and again;
//! - *streamed*: 268 million weights from beginning to end, more than the second-level cache holds;
//! - *row by row*: 256 rows again and again with [`Cpu::window_rows`] and [`Cpu::transform_transpose`].
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lagar_codec::{StageLayout, Table, Transform};
use lagar_kernels::{Cpu, Isa, KernelError, PredictScratch, WindowStage};

/// Depths of the stages.
const STAGES: [&[u8]; 5] = [&[2], &[2, 2], &[2, 1, 1], &[4], &[4, 4]];

/// Weights of the streaming measurement.
const STREAM: usize = 1 << 28;

fn main() -> Result<(), KernelError> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let isas = if names.is_empty() {
        Isa::available()
    } else {
        names
            .iter()
            .map(|name| Isa::parse(name))
            .collect::<Result<_, _>>()?
    };
    println!("isa       width  stages | in cache  streamed  row by row, M weights/s");
    for isa in isas {
        for width in [2048, 5632] {
            for depths in STAGES {
                let stream = match isa {
                    Isa::Portable => STREAM / 64,
                    _ => STREAM,
                };
                let in_cache = speed(isa, width, 256, depths, predict)?;
                let streamed = speed(isa, width, stream / width / 16 * 16, depths, predict)?;
                let plain = speed(isa, width, 256, depths, row_by_row)?;
                let depths: Vec<String> = depths.iter().map(u8::to_string).collect();
                println!(
                    "{:9} {width:5}  {:6} | {in_cache:8.0}  {streamed:8.0}  {plain:10.0}",
                    isa.name(),
                    depths.join(","),
                );
            }
        }
    }
    Ok(())
}

/// One chunk of rows.
struct Chunk<'a> {
    cpu: &'a Cpu,
    stages: &'a [WindowStage<'a>],
    transform: &'a Transform,
    rows: std::ops::Range<usize>,
    scratch: &'a mut PredictScratch,
    out: &'a mut [f32],
}

fn predict(chunk: Chunk<'_>) {
    let (stages, transform) = (chunk.stages, chunk.transform);
    chunk
        .cpu
        .predict_rows(stages, &[], transform, chunk.rows, chunk.scratch, chunk.out);
}

fn row_by_row(chunk: Chunk<'_>) {
    let rows: Vec<u32> = chunk.rows.map(|row| row as u32).collect();
    let mut sum = vec![0.0; rows.len() * chunk.transform.padded_width()];
    let mut term = sum.clone();
    chunk.cpu.window_rows(&chunk.stages[0], &rows, &mut sum);
    for stage in &chunk.stages[1..] {
        chunk.cpu.window_rows(stage, &rows, &mut term);
        for (sum, term) in sum.iter_mut().zip(&term) {
            *sum += *term;
        }
    }
    chunk
        .cpu
        .transform_transpose(chunk.transform, &sum, rows.len(), chunk.out);
}

/// Millions of weights per second: the lower quartile of the times, so that other work on the machine
/// counts little.
fn speed(
    isa: Isa,
    width: usize,
    rows: usize,
    depths: &[u8],
    work: fn(Chunk<'_>),
) -> Result<f64, KernelError> {
    let cpu = Cpu::new(isa, 1);
    // Never 0: pages that were never written would all be the same one.
    let byte = |i: usize| ((i as u32).wrapping_mul(2654435761) >> 24) as u8 | 1;
    let parts: Vec<_> = depths
        .iter()
        .map(|&depth| {
            let layout = StageLayout::new(rows, width, &vec![depth; width / 128])
                .expect("a shape that fits");
            let codes: Vec<u8> = (0..layout.codes_len()).map(byte).collect();
            let scales = vec![20; layout.scales_len()];
            let row_scales = vec![0x3f; layout.row_scales_len()];
            (layout, Table::trained(depth, 8), codes, scales, row_scales)
        })
        .collect();
    let stages = parts
        .iter()
        .map(|(layout, table, codes, scales, row_scales)| {
            WindowStage::new(layout, table, codes, scales, row_scales)
        })
        .collect::<Result<Vec<_>, _>>()?;
    // A permutation without order: 997 is prime to the widths.
    let perm = (0..width).map(|i| (i * 997 % width) as u32).collect();
    let signs = (0..width).map(|i| i * 31 % 7 < 3).collect();
    let transform = Transform::new(width, perm, signs).expect("a permutation");
    let step = (65_536 / 16 / width).max(1) * 16;
    let mut out = vec![0.0; step * width];
    let mut scratch = PredictScratch::default();
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.is_empty() || begin.elapsed().as_secs_f64() < 0.3 {
        for first in (0..rows).step_by(step) {
            let rows = first..rows.min(first + step);
            let weights = rows.len() * width;
            let start = Instant::now();
            work(Chunk {
                cpu: &cpu,
                stages: &stages,
                transform: &transform,
                rows,
                scratch: &mut scratch,
                out: &mut out[..weights],
            });
            times.push(start.elapsed().as_secs_f64() / weights as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(1e-6 / times[times.len() / 4])
}

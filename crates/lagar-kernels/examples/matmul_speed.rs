//! Measures products of window stages: `cargo run --release -p lagar-kernels --example matmul_speed`.
//!
//! Arguments are names of instruction sets; without any, all that the processor has are measured.
//!
//! - *in cache*: one vector times 1024 × 1024 weights, again and again, one thread;
//! - *stream*: one vector times 1 GiB of codes, so from memory, with one and with two threads, in GB/s
//!   of codes and scales;
//! - *batch*: products with 4, 8 and 128 vectors, 2048 × 2048 weights, in int8 TOP/s (two operations per
//!   weight and vector), for one and two threads.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lagar_codec::{Activations, CODES_PADDING, StageLayout, Table};
use lagar_kernels::{Cpu, Isa, KernelError, WindowStage};

/// Bytes of codes of the streaming measurement.
const STREAM: usize = 1 << 30;

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
    // Never 0: pages that were never written would all be the same one.
    let bytes: Vec<u8> = (0..STREAM + CODES_PADDING)
        .map(|i| ((i as u32).wrapping_mul(2654435761) >> 24) as u8 | 1)
        .collect();
    println!(
        "isa        K  L  table | in cache, 1 thread |   stream, GB/s    | n=4, TOP/s  | n=8, TOP/s  | n=128, TOP/s"
    );
    println!(
        "                       |  G weights/s       | 1 thread 2 threads|   1     2    |   1     2    |   1     2"
    );
    for isa in isas {
        for depth in 1..=8 {
            for window in [depth, 8] {
                if window != depth || depth == 8 || depth == 4 {
                    line(isa, Table::trained(depth, window), &bytes)?;
                    if depth == 8 {
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

fn line(isa: Isa, table: &Table, bytes: &[u8]) -> Result<(), KernelError> {
    let (one, two) = (Cpu::new(isa, 1), Cpu::new(isa, 2));
    let slow = isa == Isa::Portable;
    let batch = |cpu: &Cpu, n: usize| -> Result<f64, KernelError> {
        let seconds = seconds_per_product(cpu, table, bytes, 2048, n, 1)?;
        Ok(2.0 * 2048.0 * 2048.0 * n as f64 / seconds / 1e12)
    };
    let in_cache = 1024.0 * 1024.0 / seconds_per_product(&one, table, bytes, 1024, 1, 1)? / 1e9;
    let stream = |cpu: &Cpu| -> Result<f64, KernelError> {
        let size = 4096 * 4096 * usize::from(table.depth()) / 8;
        let stages = if slow { 4 } else { STREAM / (size + size / 8) };
        let seconds = seconds_per_product(cpu, table, bytes, 4096, 1, stages)?;
        Ok((size + 4096 * 4096 / 128) as f64 / seconds / 1e9)
    };
    println!(
        "{:9} {:2} {:2}  {:5} | {in_cache:11.2}        | {:7.2} {:7.2}   | {:5.3} {:5.3}  | {:5.3} {:5.3}  | {:5.3} {:5.3}",
        isa.name(),
        table.depth(),
        table.window(),
        match (table.split(), table.bent()) {
            (Some(_), _) => "split",
            (None, Some(_)) => "bent",
            (None, None) => "free",
        },
        stream(&one)?,
        stream(&two)?,
        batch(&one, 4)?,
        batch(&two, 4)?,
        batch(&one, 8)?,
        batch(&two, 8)?,
        batch(&one, 128)?,
        batch(&two, 128)?,
    );
    Ok(())
}

/// The time of one product of a `size × size` stage with `n` vectors, over `stages` stages whose codes
/// lie one after the other: the lower quartile, so that other work on the machine counts little.
fn seconds_per_product(
    cpu: &Cpu,
    table: &Table,
    bytes: &[u8],
    size: usize,
    n: usize,
    stages: usize,
) -> Result<f64, KernelError> {
    let layout =
        StageLayout::new(size, size, &vec![table.depth(); size / 128]).expect("a shape that fits");
    let scales = vec![20; layout.scales_len()];
    let row_scales = vec![0; layout.row_scales_len()];
    let len = layout.codes_len();
    let stages = (0..stages)
        .map(|i| {
            let codes = &bytes[i * len..(i + 1) * len];
            WindowStage::new(&layout, table, codes, &scales, &row_scales)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut x = Activations::new(0, 0);
    let values: Vec<f32> = (0..n * size)
        .map(|i| (i * 37 % 101) as f32 - 50.0)
        .collect();
    cpu.quantize(&values, n, size, &mut x);
    let mut y = vec![0.0; n * size];
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() <= 4 * stages.len() || begin.elapsed().as_secs_f64() < 0.3 {
        for stage in &stages {
            let start = Instant::now();
            cpu.window_matmul_int8(stage, &x, &mut y, false);
            times.push(start.elapsed().as_secs_f64());
        }
    }
    // The first pass touches everything for the first time.
    times.drain(..stages.len());
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 4])
}

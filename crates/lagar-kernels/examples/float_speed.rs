//! Measures the float kernels: `cargo run --release -p lagar-kernels --example float_speed`.
//!
//! Arguments: threads (default 1), then names of instruction sets (default: the best one).
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lagar_kernels::{AttentionArgs, Cpu, DenseWeight, Isa, KvCache, KvFormat};

/// The best time of several calls, in seconds.
fn best(mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed().as_secs_f64() < 0.5 {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments
        .next()
        .map_or(1, |n| n.parse().expect("a number of threads"));
    let mut isas: Vec<Isa> = arguments
        .map(|name| Isa::parse(&name).expect("an instruction set"))
        .collect();
    if isas.is_empty() {
        isas.push(Isa::best());
    }
    for isa in isas {
        let cpu = Cpu::new(isa, threads);
        println!("{isa}, {threads} threads");
        pool(&cpu);
        dense(&cpu);
        gemm(&cpu);
        attention(&cpu);
        rows(&cpu);
    }
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5)
        .collect()
}

fn pool(cpu: &Cpu) {
    let seconds = best(|| (0..1000).for_each(|_| cpu.pool().run(cpu.threads(), &|_| {}))) / 1000.0;
    println!("  empty job: {:.2} us", seconds * 1e6);
}

fn dense(cpu: &Cpu) {
    let (rows, cols) = (5632, 2048);
    let bytes = vec![0x3cu8; rows * cols * 4];
    for n in [1, 2, 4, 16, 64, 256] {
        let (x, mut y) = (numbers(n * cols), vec![0.0; n * rows]);
        for (name, weight, size) in [
            ("f32", DenseWeight::F32(&bytes), 4),
            ("bf16", DenseWeight::Bf16(&bytes[..rows * cols * 2]), 2),
            ("f16", DenseWeight::F16(&bytes[..rows * cols * 2]), 2),
        ] {
            let seconds = best(|| cpu.dense_matmul(weight, rows, cols, &x, n, &mut y));
            println!(
                "  dense {rows} x {cols} {name}, n = {n}: {:.1} GFLOP/s, {:.1} GB/s of weights",
                2e-9 * (rows * cols * n) as f64 / seconds,
                1e-9 * (rows * cols * size) as f64 / seconds
            );
        }
    }
}

fn gemm(cpu: &Cpu) {
    for (m, k) in [(256, 1024), (2048, 1024), (5632, 512)] {
        let (a, mut c) = (numbers(m * k), vec![0.0; m * m]);
        let seconds = best(|| cpu.gemm_tn(&a, m, &a, m, &mut c, m, m, m, k, 1.0));
        let flop = 2e-9 * (m * m * k) as f64;
        println!("  gemm_tn {m} x {m} x {k}: {:.1} GFLOP/s", flop / seconds);
        let seconds = best(|| cpu.syrk_tn(&a, m, &mut c, m, m, k, 1.0));
        println!(
            "  syrk_tn {m} x {m} x {k}: {:.1} GFLOP/s (of the full product)",
            flop / seconds
        );
    }
}

fn attention(cpu: &Cpu) {
    for (heads, kv_heads) in [(32, 4), (9, 3), (16, 16)] {
        for n in [1, 128] {
            for format in [KvFormat::F32, KvFormat::F16, KvFormat::Q8, KvFormat::Q4] {
                attention_of(cpu, (heads, kv_heads, 64), 4096, n, format, 1);
            }
        }
    }
    // What comes from memory, as in a model: more than the caches of most processors hold.
    for (heads, positions, layers) in [((32, 4, 64), 4096, 22), ((32, 32, 128), 2048, 4)] {
        for format in [KvFormat::F16, KvFormat::Q8, KvFormat::Q4] {
            attention_of(cpu, heads, positions, 1, format, layers);
        }
    }
}

fn attention_of(
    cpu: &Cpu,
    (heads, kv_heads, head_dim): (usize, usize, usize),
    positions: usize,
    n: usize,
    format: KvFormat,
    layers: usize,
) {
    let keys = numbers(positions * kv_heads * head_dim);
    let cache = || {
        let mut cache = KvCache::new(format, kv_heads, head_dim);
        cache.push(cpu, &keys, &keys, positions);
        cache
    };
    let caches: Vec<KvCache> = (0..layers).map(|_| cache()).collect();
    let query = numbers(n * heads * head_dim);
    let mut out = vec![0.0; query.len()];
    let seconds = best(|| {
        for cache in &caches {
            let args = AttentionArgs {
                query: &query,
                n,
                heads,
                cache,
                scale: 0.125,
                causal: true,
                window: None,
            };
            cpu.attention(&[args], &mut out);
        }
    }) / layers as f64;
    println!(
        "  attention {heads}/{kv_heads} x {head_dim}, {positions} positions {format:?}, n = {n}, {layers} layers: {:.1} us a token, {:.1} GFLOP/s, {:.1} GB/s",
        seconds * 1e6 / n as f64,
        4e-9 * (n * heads * head_dim * positions) as f64 / seconds,
        1e-9 * caches[0].bytes() as f64 / seconds
    );
}

fn rows(cpu: &Cpu) {
    let (n, width) = (64, 2048);
    let (x, weight) = (numbers(n * width), numbers(width));
    let mut out = vec![0.0; n * width];
    let count = (n * width) as f64 * 1e-9;
    let seconds = best(|| cpu.rms_norm(&x, &weight, 1e-5, &mut out, n));
    println!("  rms_norm: {:.2} G elements/s", count / seconds);
    let seconds = best(|| cpu.swiglu(&x, &x, &mut out));
    println!("  swiglu: {:.2} G elements/s", count / seconds);
    let seconds = best(|| cpu.softmax(&mut out, width));
    println!("  softmax: {:.2} G elements/s", count / seconds);
}

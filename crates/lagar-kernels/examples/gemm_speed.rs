//! Speed of `C += AᵀB` and of the triangle of `C += AᵀA`: `cargo run --release -p lagar-kernels
//! --example gemm_speed`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lagar_kernels::{Cpu, Isa};

fn main() {
    let (n, k) = (2048, 1024);
    let a: Vec<f32> = (0..k * n)
        .map(|i| (i % 1013) as f32 / 1013.0 - 0.5)
        .collect();
    let mut c = vec![0f32; n * n];
    for isa in Isa::available() {
        for threads in [1, 2] {
            let cpu = Cpu::new(isa, threads);
            for (name, terms) in [("gemm_tn", n * n), ("syrk_tn", n * (n + 1) / 2)] {
                let best = (0..3)
                    .map(|_| {
                        let started = Instant::now();
                        match name {
                            "gemm_tn" => cpu.gemm_tn(&a, n, &a, n, &mut c, n, n, n, k, 1.0),
                            _ => cpu.syrk_tn(&a, n, &mut c, n, n, k, 1.0),
                        }
                        started.elapsed().as_secs_f64()
                    })
                    .fold(f64::INFINITY, f64::min);
                let gflops = 2.0 * (terms * k) as f64 / best / 1e9;
                println!("{isa} {name} {n}² × {k}, {threads} threads: {gflops:.0} GFLOP/s");
            }
        }
    }
}

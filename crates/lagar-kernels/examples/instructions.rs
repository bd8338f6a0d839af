//! Runs one hot kernel so and so often, for counting its instructions:
//! `instructions KERNEL ISA TIMES`, on one thread. `.ci/instructions` counts those of two runs of different length; the difference is
//! that of the kernel alone. Without arguments the kernels are listed.
#![allow(clippy::print_stdout)]

use std::hint::black_box;

use lagar_codec::{Activations, CODES_PADDING, StageLayout, Table, Transform};
use lagar_kernels::{
    AttentionArgs, Cpu, DenseWeight, Encoder, Isa, KvCache, KvFormat, WindowStage,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Calls a kernel so and so often.
type Run = fn(&Cpu, usize) -> Result<()>;

/// Rows and columns of matrices.
const SIZE: usize = 512;

/// Each kernel's name, and what makes it ready for some number of calls.
const KERNELS: [(&str, Run); 13] = [
    ("window-2-bits", |cpu, times| window(cpu, 2, 8, 1, times)),
    ("window-3-bits", |cpu, times| window(cpu, 3, 8, 1, times)),
    ("window-4-bits", |cpu, times| window(cpu, 4, 8, 1, times)),
    ("window-5-bits", |cpu, times| window(cpu, 5, 8, 1, times)),
    ("window-6-bits", |cpu, times| window(cpu, 6, 8, 1, times)),
    ("window-7-bits", |cpu, times| window(cpu, 7, 8, 1, times)),
    ("codebook-4-bits", |cpu, times| window(cpu, 4, 4, 1, times)),
    ("window-2-bits-8-vectors", |cpu, times| {
        window(cpu, 2, 8, 8, times)
    }),
    ("window-2-bits-64-vectors", |cpu, times| {
        window(cpu, 2, 8, 64, times)
    }),
    ("dense-bf16", dense),
    ("attention-f16", attention),
    ("transform-and-round", transform),
    ("encode-2-bits", encode),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, isa, times] = &arguments[..] else {
        KERNELS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let kernel = KERNELS.iter().find(|(name, _)| name == kernel);
    let (_, run) = kernel.ok_or("no such kernel")?;
    run(&Cpu::new(Isa::parse(isa)?, 1), times.parse()?)
}

fn numbers(len: usize) -> Vec<f32> {
    let number = |i: usize| (i * 7919 % 1009) as f32 / 1009.0 - 0.5;
    (0..len).map(number).collect()
}

/// Products of a stage with `n` vectors.
fn window(cpu: &Cpu, depth: u8, window: u8, n: usize, times: usize) -> Result<()> {
    let table = Table::trained(depth, window);
    let layout = StageLayout::new(SIZE, SIZE, &[depth; SIZE / 128])?;
    let codes: Vec<u8> = (0..layout.codes_len() + CODES_PADDING)
        .map(|i| ((i as u32).wrapping_mul(2654435761) >> 24) as u8)
        .collect();
    let scales = vec![20; layout.scales_len()];
    let row_scales = vec![0; layout.row_scales_len()];
    let codes = &codes[..layout.codes_len()];
    let stage = WindowStage::new(&layout, table, codes, &scales, &row_scales)?;
    let mut x = Activations::new(0, 0);
    cpu.quantize(&numbers(n * SIZE), n, SIZE, &mut x);
    let mut y = vec![0.0; n * SIZE];
    for _ in 0..times {
        cpu.window_matmul_int8(&stage, black_box(&x), &mut y, false);
    }
    Ok(())
}

fn dense(cpu: &Cpu, times: usize) -> Result<()> {
    let weights = vec![0x3c; 2 * SIZE * SIZE];
    let (x, mut y) = (numbers(SIZE), vec![0.0; SIZE]);
    for _ in 0..times {
        let weights = DenseWeight::Bf16(black_box(&weights));
        cpu.dense_matmul(weights, SIZE, SIZE, &x, 1, &mut y);
    }
    Ok(())
}

/// One token's attention to 256 positions, 8 heads over 2 of 64 numbers.
fn attention(cpu: &Cpu, times: usize) -> Result<()> {
    let (heads, kv_heads, head_dim, positions) = (8, 2, 64, 256);
    let mut cache = KvCache::new(KvFormat::F16, kv_heads, head_dim);
    let all = numbers(positions * kv_heads * head_dim);
    cache.push(cpu, &all, &all, positions);
    let query = numbers(heads * head_dim);
    let mut out = vec![0.0; query.len()];
    for _ in 0..times {
        let args = AttentionArgs {
            query: black_box(&query),
            n: 1,
            heads,
            cache: &cache,
            scale: 0.125,
            causal: true,
            window: None,
        };
        cpu.attention(&[args], &mut out);
    }
    Ok(())
}

fn transform(cpu: &Cpu, times: usize) -> Result<()> {
    let columns: Vec<u32> = (0..SIZE as u32).rev().collect();
    let signs: Vec<bool> = (0..SIZE).map(|i| i % 3 == 0).collect();
    let transform = Transform::new(SIZE, columns, signs)?;
    let x = numbers(SIZE);
    let mut rounded = Activations::new(0, 0);
    for _ in 0..times {
        cpu.transform_to_bytes(&transform, black_box(&x), 1, &mut rounded);
    }
    Ok(())
}

/// The search for the best windows of 256 rows × 4 columns.
fn encode(cpu: &Cpu, times: usize) -> Result<()> {
    let table = Table::trained(2, 8);
    let (targets, row_weights) = (numbers(1024), vec![1.0; 256]);
    let mut encoder = Encoder::new(cpu.isa());
    let mut windows = vec![0; 1024];
    for _ in 0..times {
        encoder.encode_block(table, 0, black_box(&targets), &row_weights, &mut windows);
    }
    Ok(())
}

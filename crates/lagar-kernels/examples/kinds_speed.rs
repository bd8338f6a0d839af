//! Measures what sparse and low-rank stages cost beside a window stage:
//! `cargo run --release -p lagar-kernels --example kinds_speed`.
//!
//! Arguments are names of instruction sets; without any, the best is measured. For each shape, number of
//! vectors and number of threads: the time of the product with a window stage of 2 bits, and how much
//! longer it takes together with 0.5 % sparse weights, and with a low-rank stage of rank 32 at 8 bits.
//! All are timed in turn in one loop over enough copies that none stays in the second-level cache.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lagar_codec::{
    Activations, PackedSparse, SparseLayout, StageLayout, Table, Transform, pack_sparse,
};
use lagar_kernels::{Cpu, Isa, KernelError, SparseStage, WindowStage};

const RANK: usize = 32;
/// One weight in this many is sparse.
const RARITY: u32 = 200;
/// Rounds of one measurement.
const ROUNDS: usize = 60;

fn main() -> Result<(), KernelError> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let isas = match names.is_empty() {
        true => vec![Isa::best()],
        false => { names.iter() }
            .map(|name| Isa::parse(name))
            .collect::<Result<_, _>>()?,
    };
    println!("isa       threads   n   out ×   in  window, µs  G weights/s  +sparse  +rank {RANK}");
    for isa in isas {
        for threads in [1, 2] {
            let cpu = Cpu::new(isa, threads);
            for n in [1, 4, 128] {
                for (rows, cols) in [(2048, 2048), (5632, 2048), (2048, 5632)] {
                    line(&cpu, rows, cols, n)?;
                }
            }
        }
    }
    Ok(())
}

/// A window stage of random codes.
struct Window {
    layout: StageLayout,
    table: Table,
    codes: Vec<u8>,
    scales: Vec<u8>,
    row_scales: Vec<u8>,
}

/// A generator of numbers that look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (self.0 >> 32) as u32
    }
}

impl Window {
    fn new(random: &mut Random, rows: usize, cols: usize, depth: u8) -> Self {
        let layout = StageLayout::new(rows, cols, &vec![depth; cols.div_ceil(128)]);
        let layout = layout.expect("a shape that fits");
        Self {
            codes: (0..layout.codes_len())
                .map(|_| random.next() as u8)
                .collect(),
            scales: vec![20; layout.scales_len()],
            row_scales: vec![0; layout.row_scales_len()],
            table: Table::trained(depth, 8).clone(),
            layout,
        }
    }

    fn stage(&self) -> Result<WindowStage<'_>, KernelError> {
        let Self {
            layout,
            table,
            codes,
            scales,
            row_scales,
        } = self;
        WindowStage::new(layout, table, codes, scales, row_scales)
    }
}

fn sparse(random: &mut Random, rows: usize, cols: usize) -> (SparseLayout, PackedSparse) {
    let entries: Vec<Vec<(u32, u16)>> = (0..rows)
        .map(|_| {
            let columns = (0..cols as u32).filter(|_| random.next().is_multiple_of(RARITY));
            columns.map(|column| (column, 0x3000)).collect()
        })
        .collect();
    let packed = pack_sparse(&entries).expect("few entries");
    let layout = SparseLayout::new(rows, cols, packed.gap_bytes, &packed.counts);
    (layout.expect("what was packed"), packed)
}

fn line(cpu: &Cpu, rows: usize, cols: usize, n: usize) -> Result<(), KernelError> {
    let mut random = Random(1);
    // 2 bits a weight: more than 32 MB of codes in all.
    let copies = (1 << 27) / (rows * cols) + 1;
    let windows: Vec<_> = (0..copies)
        .map(|_| Window::new(&mut random, rows, cols, 2))
        .collect();
    let factors: Vec<_> = (0..copies)
        .map(|_| [(RANK, cols), (rows, RANK)].map(|(r, c)| Window::new(&mut random, r, c, 8)))
        .collect();
    let sparse: Vec<_> = (0..copies)
        .map(|_| sparse(&mut random, rows, cols))
        .collect();
    let x: Vec<f32> = (0..n * cols)
        .map(|_| random.next() as f32 / 4e9 - 0.5)
        .collect();
    let transform = Transform::identity(cols).expect("a width that fits");
    let (mut transformed, mut rounded) = (vec![0.0; n * cols], Activations::default());
    cpu.transform(&transform, &x, n, &mut transformed);
    cpu.quantize(&transformed, n, cols, &mut rounded);
    let (mut between, mut between_rounded) = (vec![0.0; n * RANK], Activations::default());
    let mut y = vec![0.0; n * rows];
    let mut times = [(); 3].map(|()| Vec::new());
    for round in 0..ROUNDS {
        let at = round % copies;
        let window = windows[at].stage()?;
        let (layout, packed) = &sparse[at];
        let sparse = SparseStage::new(layout, &packed.gaps, &packed.values)?;
        let [v, u] = [factors[at][0].stage()?, factors[at][1].stage()?];
        for (kind, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            match kind {
                0 => cpu.window_matmul_int8(&window, &rounded, &mut y, false),
                1 => cpu.sparse_matmul(&sparse, &x, n, &mut y),
                _ => {
                    cpu.window_matmul_int8(&v, &rounded, &mut between, false);
                    cpu.quantize(&between, n, RANK, &mut between_rounded);
                    cpu.window_matmul_int8(&u, &between_rounded, &mut y, true);
                }
            }
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let [window, sparse, low_rank] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 4]
    });
    println!(
        "{:9} {:7} {n:3} {rows:5} × {cols:4} {:11.1} {:12.1} {:+7.1} % {:+7.1} %",
        cpu.isa().name(),
        cpu.threads(),
        1e6 * window,
        1e-9 * (rows * cols * n) as f64 / window,
        100.0 * sparse / window,
        100.0 * low_rank / window,
    );
    Ok(())
}

//! Lays out, checks and multiplies sparse stages of any shape and bytes: every instruction set of the
//! machine gives the bits of the reference, and what nobody checked is never read out of bounds.
//!
//! Input: rows u16, columns u16, bytes of a gap, number of vectors, modulus of the counts (u8 each), whether
//! the entries are made to fit (lowest bit), then bytes that serve as counts, gaps, values and vectors.
#![no_main]

use std::sync::LazyLock;

use lagar_codec::{ROW_UNIT, SparseLayout, reference};
use lagar_kernels::{Cpu, Isa, SparseStage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<8>() else {
        return;
    };
    let [r0, r1, c0, c1, gap_bytes, n, modulus, fit] = *head;
    if rest.is_empty() {
        return;
    }
    // Counts of any bytes.
    let any = usize::from_le_bytes(std::array::from_fn(|i| input[i]));
    let _ = SparseLayout::new(any, usize::from(c0), gap_bytes, rest);

    let rows = usize::from(u16::from_le_bytes([r0, r1])) % 100 + 1;
    let cols = usize::from(u16::from_le_bytes([c0, c1])) % 600 + 1;
    let n = usize::from(n) % 40;
    let most = cols.min(usize::from(modulus)) + 1;
    let counts: Vec<u8> = (0..rows.next_multiple_of(ROW_UNIT))
        .map(|row| match row < rows {
            true => usize::from(rest[row % rest.len()]) % most,
            false => 0,
        })
        .flat_map(|count| (count as u16).to_le_bytes())
        .collect();
    let Ok(layout) = SparseLayout::new(rows, cols, gap_bytes % 2 + 1, &counts) else {
        panic!("such counts are right");
    };
    let mut gaps = cycle(rest, layout.gaps_len());
    let mut values = cycle(rest, layout.values_len());
    if fit & 1 == 1 {
        // A row has no more entries than columns, so that these fit.
        gaps.fill(0);
        values.iter_mut().for_each(|byte| *byte &= 0xbb);
    }
    let x: Vec<f32> = cycle(rest, n * cols)
        .iter()
        .map(|&byte| f32::from(byte) - 128.0)
        .collect();
    let fast = SparseStage::new(&layout, &gaps, &values).unwrap();
    let checked = layout.check(0..layout.bands(), &gaps, &values).is_ok();
    assert!(checked || fit & 1 == 0);
    let slow = reference::Sparse {
        layout: &layout,
        gaps: &gaps,
        values: &values,
    };
    let [mut product, mut dense] = [vec![0.0; n * rows], vec![0.0; rows * cols]];
    if checked {
        reference::sparse_matmul(&slow, &x, n, &mut product);
        reference::add_sparse(&slow, &mut dense);
    }
    for cpu in CPUS.iter() {
        let mut found = vec![0.0; n * rows];
        cpu.sparse_matmul(&fast, &x, n, &mut found);
        let mut whole = vec![0.0; rows * cols];
        cpu.add_sparse(&fast, 0..rows, &mut whole);
        let mut row = vec![0.0; cols];
        cpu.add_sparse_rows(&fast, &[rows as u32 - 1], &mut row);
        if checked {
            same(cpu, &found, &product);
            same(cpu, &whole, &dense);
            same(cpu, &row, &dense[(rows - 1) * cols..]);
        }
    }
});

/// One single-threaded executor for each instruction set of this machine.
static CPUS: LazyLock<Vec<Cpu>> = LazyLock::new(|| {
    Isa::available()
        .into_iter()
        .map(|isa| Cpu::new(isa, 1))
        .collect()
});

fn cycle(bytes: &[u8], len: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(len).collect()
}

/// The same bits.
fn same(cpu: &Cpu, found: &[f32], expected: &[f32]) {
    let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    if let Some(at) = found.iter().zip(expected).position(differ) {
        panic!("{:?} [{at}]: {} instead of {}", cpu.isa(), found[at], expected[at]);
    }
}

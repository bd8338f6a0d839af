//! Lays out, decodes and multiplies window codes of any shape, table and bytes: every instruction set
//! of the machine gives the bits of the reference.
//!
//! Input: rows u16, columns u16, depth, window, kind of table, depth mask (u8 each), then bytes that
//! serve as sizes of a hostile layout, as table entries, codes, scales and activations.
#![no_main]

use std::sync::LazyLock;

use lagar_codec::{Activations, Split, StageLayout, Table, Transform, reference};
use lagar_kernels::{Cpu, Isa, WindowStage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<8>() else {
        return;
    };
    let [r0, r1, c0, c1, depth, window, kind, mask] = *head;
    hostile_sizes(rest);
    let Some(table) = table(depth, window, kind, rest) else {
        return;
    };

    // At most 3 x 3 tiles, so that an iteration stays short.
    let rows = usize::from(u16::from_le_bytes([r0, r1])) % 520 + 1;
    let cols = usize::from(u16::from_le_bytes([c0, c1])) % 260 + 1;
    let depths: Vec<u8> = (0..cols.div_ceil(128))
        .map(|g| table.depth() * (mask >> (g % 8) & 1))
        .collect();
    let layout = StageLayout::new(rows, cols, &depths).unwrap();
    let Some(codes) = codes(&layout, rest) else {
        return;
    };
    let (scales, row_scales) = (
        cycle(rest, layout.scales_len()),
        cycle(rest, layout.row_scales_len()),
    );
    let stage = reference::Stage {
        layout: &layout,
        table: &table,
        codes: &codes,
        scales: &scales,
        row_scales: &row_scales,
    };
    let width = layout.padded_cols();
    let x: Vec<f32> = cycle(rest, width)
        .iter()
        .map(|&b| f32::from(b) - 128.0)
        .collect();
    let mut q = Activations::new(1, width);
    reference::quantize_activations(&x, 1, width, &mut q);
    let weights = reference::dequantize(&stage);
    let [mut int8, mut float] = [vec![0.0; rows], vec![0.0; rows]];
    reference::matmul_int8(&stage, &q, &mut int8, false);
    reference::matmul_f32(&stage, &x, 1, &mut float, false);

    let fast = WindowStage::new(&layout, &table, &codes, &scales, &row_scales).unwrap();
    let all: Vec<u32> = (0..rows as u32).collect();
    for cpu in CPUS.iter() {
        let mut found = vec![0.0; rows * width];
        cpu.window_rows(&fast, &all, &mut found);
        same(cpu, "rows", &found, &weights);
        let mut found = vec![0.0; rows];
        cpu.window_matmul_int8(&fast, &q, &mut found, false);
        same(cpu, "int8", &found, &int8);
        cpu.window_matmul_f32(&fast, &x, 1, &mut found, false);
        same(cpu, "f32", &found, &float);
    }
});

/// One single-threaded executor for each instruction set of this machine.
static CPUS: LazyLock<Vec<Cpu>> = LazyLock::new(|| {
    Isa::available()
        .into_iter()
        .map(|isa| Cpu::new(isa, 1))
        .collect()
});

/// The same bits, except that any NaN is as good as another.
fn same(cpu: &Cpu, what: &str, found: &[f32], expected: &[f32]) {
    let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
    if let Some(at) = found.iter().zip(expected).position(differ) {
        panic!(
            "{:?} {what} [{at}]: {} instead of {}",
            cpu.isa(),
            found[at],
            expected[at]
        );
    }
}

fn cycle(bytes: &[u8], len: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(len).collect()
}

/// Codes of any bytes, with the zeros that the layout asks for. `None` if there is nothing to take.
fn codes(layout: &StageLayout, bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.is_empty() {
        return None;
    }
    let mut codes = cycle(bytes, layout.codes_len());
    for tr in 0..layout.tile_rows() {
        for g in (0..layout.groups()).filter(|&g| layout.group(g).depth > 0) {
            codes[layout.tile_range(tr, g).start] = 0;
        }
    }
    let tail = codes.len() - 64;
    codes[tail..].fill(0);
    Some(codes)
}

/// Shapes, permutations and depths of any size are refused or laid out without overflow.
fn hostile_sizes(bytes: &[u8]) {
    let Some((sizes, rest)) = bytes.split_first_chunk::<16>() else {
        return;
    };
    let size = |at: usize| usize::from_le_bytes(std::array::from_fn(|i| sizes[at + i]));
    let (rows, cols) = (size(0), size(8));
    if let Ok(layout) = StageLayout::new(rows, cols, rest) {
        assert!(layout.codes_len() >= 64 && layout.padded_rows() >= rows);
        let (last, groups) = (layout.tile_rows() - 1, layout.groups());
        assert_eq!(layout.codes_offset(last, groups) + 64, layout.codes_len());
        assert_eq!(layout.scales_offset(last, groups), layout.scales_len());
        for g in 0..groups {
            assert!(layout.tile_range(last, g).end <= layout.codes_len());
        }
    }
    let perm: Vec<u32> = rest.iter().map(|&byte| u32::from(byte)).collect();
    let signs: Vec<bool> = rest.iter().map(|&byte| byte & 1 == 1).collect();
    if let Ok(transform) = Transform::new(rest.len(), perm, signs) {
        let x = vec![1.0; rest.len()];
        let mut out = vec![0.0; transform.padded_width()];
        transform.apply(&x, &mut out);
        let mut back = vec![0.0; rest.len()];
        transform.apply_transpose(&out, &mut back);
        assert!(back.iter().all(|value| (value - 1.0).abs() < 1e-3));
    }
}

fn table(depth: u8, window: u8, kind: u8, bytes: &[u8]) -> Option<Table> {
    match kind % 3 {
        0 => {
            let depth = depth % 8 + 1;
            Some(Table::trained(depth, if window % 2 == 0 { depth } else { 8 }).clone())
        }
        1 => Table::from_levels(depth, window, bytes.iter().map(|&b| b as i8).collect()).ok(),
        _ => {
            let (tables, rest) = bytes.split_first_chunk::<32>()?;
            let entry = |at: usize| std::array::from_fn(|i| tables[at + i] as i8);
            let [a_sign_bit, b_sign_bit, ..] = *rest else {
                return None;
            };
            Table::from_split(
                depth,
                Split {
                    a: entry(0),
                    b: entry(16),
                    a_sign_bit,
                    b_sign_bit,
                },
            )
            .ok()
        }
    }
}

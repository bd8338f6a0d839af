//! Lays out, decodes and multiplies window codes of any shape, table and bytes.
//!
//! Input: rows u16, columns u16, depth, window, kind of table, depth mask (u8 each), 64 bytes of
//! sizes for hostile layouts, then table entries and codes.
#![no_main]

use lagar_codec::{Activations, Split, StageLayout, Table, Transform, reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<8>() else { return };
    let [r0, r1, c0, c1, depth, window, kind, mask] = *head;
    hostile_sizes(rest);
    let Some(table) = table(depth, window, kind, rest) else { return };

    // At most 4 tiles of 256 x 128, so that an iteration stays short.
    let rows = usize::from(u16::from_le_bytes([r0, r1])) % 520 + 1;
    let cols = usize::from(u16::from_le_bytes([c0, c1])) % 260 + 1;
    let depths: Vec<u8> =
        (0..cols.div_ceil(128)).map(|g| table.depth() * (mask >> (g % 8) & 1)).collect();
    let layout = StageLayout::new(rows, cols, &depths).unwrap();
    let bytes = |len: usize| -> Vec<u8> { rest.iter().copied().cycle().take(len).collect() };
    let (mut codes, scales, row_scales) =
        (bytes(layout.codes_len()), bytes(layout.scales_len()), bytes(layout.row_scales_len()));
    codes.resize(layout.codes_len(), 0);
    let lengths = [codes.len(), scales.len(), row_scales.len()];
    if lengths != [layout.codes_len(), layout.scales_len(), layout.row_scales_len()] {
        return; // Nothing to fill them with.
    }
    let stage = reference::Stage {
        layout: &layout,
        table: &table,
        codes: &codes,
        scales: &scales,
        row_scales: &row_scales,
    };
    let weights = reference::dequantize(&stage);
    assert_eq!(weights.len(), rows * layout.padded_cols());

    let x: Vec<f32> = bytes(layout.padded_cols()).iter().map(|&b| f32::from(b) - 128.0).collect();
    let mut q = Activations::new(1, layout.padded_cols());
    reference::quantize_activations(&x, 1, layout.padded_cols(), &mut q);
    let mut y = vec![0.0; rows];
    reference::matmul_int8(&stage, &q, &mut y, false);
    reference::matmul_f32(&stage, &x, 1, &mut y, false);
});

/// Shapes, permutations and depths of any size are refused or laid out without overflow.
fn hostile_sizes(bytes: &[u8]) {
    let Some((sizes, rest)) = bytes.split_first_chunk::<16>() else { return };
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
            let [a_sign_bit, b_sign_bit, ..] = *rest else { return None };
            Table::from_split(depth, Split { a: entry(0), b: entry(16), a_sign_bit, b_sign_bit }).ok()
        }
    }
}

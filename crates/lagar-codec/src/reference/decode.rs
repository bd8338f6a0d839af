//! Tile streams to levels, stages to weights.

use super::Stage;
use crate::{BLOCK_COLS, Table, next_window};

/// Decodes a tile stream to its levels, `rows × cols`, row-major.
///
/// `stream` begins with the tile's leading zero byte. The window before the first weight is 0.
///
/// # Panics
///
/// If `rows · cols` is no multiple of 8, `cols` no multiple of 4, or `stream` or `levels` too short.
pub fn decode_tile(table: &Table, stream: &[u8], rows: usize, cols: usize, levels: &mut [i8]) {
    assert!((rows * cols).is_multiple_of(8) && cols.is_multiple_of(BLOCK_COLS));
    let depth = usize::from(table.depth());
    let codes = &stream[1..1 + rows * cols * depth / 8];
    let mut window = 0;
    for t in 0..rows * cols {
        let symbol = read_bits(codes, t * depth, depth);
        window = next_window(table.depth(), table.window(), window, symbol);
        let (in_block, j) = (t / BLOCK_COLS, t % BLOCK_COLS);
        let (block, r) = (in_block / rows, in_block % rows);
        levels[r * cols + block * BLOCK_COLS + j] = table.levels()[usize::from(window)];
    }
}

/// The `count <= 8` bits from bit `start` on, the first in the lowest bit.
fn read_bits(bytes: &[u8], start: usize, count: usize) -> u8 {
    let low = u16::from(bytes[start / 8]);
    let high = u16::from(bytes.get(start / 8 + 1).copied().unwrap_or(0));
    let word = (low | high << 8) >> (start % 8);
    (word & ((1 << count) - 1)) as u8
}

/// A stage's weights in transformed space, `rows × padded_cols`, row-major:
/// `(level · group_scale) · row_scale`, and 0 in groups of depth 0.
///
/// # Panics
///
/// If a length or depth does not match the layout.
pub fn dequantize(stage: &Stage<'_>) -> Vec<f32> {
    let (rows, width) = (stage.layout.rows(), stage.layout.padded_cols());
    let mut weights = vec![0.0; rows * width];
    stage.for_each_tile(|first_row, g, levels, scales| {
        let group = stage.layout.group(g);
        for (r, levels) in levels.chunks(group.cols).enumerate() {
            let row = first_row + r;
            if row == rows {
                break;
            }
            let row_scale = stage.row_scale(row);
            let weights = &mut weights[row * width..][group.range()];
            for (weight, &level) in weights.iter_mut().zip(levels) {
                *weight = f32::from(level) * scales[r] * row_scale;
            }
        }
    });
    weights
}

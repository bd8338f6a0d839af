//! Single rows of a stage, as an embedding is looked up.

use lagar_codec::{BLOCK_COLS, TILE_ROWS};

use super::portable::SCALES;
use super::stage::WindowStage;
use crate::Cpu;

impl Cpu {
    /// The weights of some rows in transformed space: `(level · group_scale) · row_scale`, and 0 in
    /// groups of depth 0. `out` is `rows.len() × padded_cols`.
    ///
    /// A row is `depth / 2` bytes in each block of 4 columns, so single rows are read without decoding
    /// anything else.
    ///
    /// # Panics
    ///
    /// If the stage has no such row, or `out` not the length above.
    pub fn window_rows(&self, w: &WindowStage<'_>, rows: &[u32], out: &mut [f32]) {
        let width = w.layout().padded_cols();
        assert_eq!(out.len(), rows.len() * width, "rows × padded columns");
        self.pool()
            .chunks(out, width, |i, out| row(w, rows[i] as usize, out));
    }
}

fn row(w: &WindowStage<'_>, row: usize, out: &mut [f32]) {
    let layout = w.layout();
    assert!(row < layout.rows(), "row {row} of {}", layout.rows());
    let (tr, r) = (row / TILE_ROWS, row % TILE_ROWS);
    let (height, row_scale) = (layout.tile_height(tr), w.row_scale(row));
    let lookup = w.lookup();
    let place = lookup.place();
    for (g, out) in out.chunks_mut(lagar_codec::GROUP).enumerate() {
        let Some(tile) = w.tile(tr, g) else {
            out.fill(0.0);
            continue;
        };
        let scale = SCALES[usize::from(w.scales(tr, g)[r])];
        let codes = &tile.codes()[place.lead..];
        for (b, out) in out.as_chunks_mut::<BLOCK_COLS>().0.iter_mut().enumerate() {
            let bit = place.bit((b * height + r) * BLOCK_COLS);
            // 4 windows end at most 7 + 3 · 8 + 8 bits from the byte in which they begin.
            let bytes = codes[bit / 8..]
                .first_chunk()
                .expect("64 bytes follow a tile");
            let word = u64::from_le_bytes(*bytes) >> (bit % 8);
            for (j, out) in out.iter_mut().enumerate() {
                let window = (word >> (j * place.depth)) as u8;
                let level = f32::from(lookup.levels[usize::from(window)]);
                *out = level * scale * row_scale;
            }
        }
    }
}

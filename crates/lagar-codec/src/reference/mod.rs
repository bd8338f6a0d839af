//! The plain definition of every computation on codes: clear before fast.
//!
//! Fast paths must return the same bits, on every instruction set and at any number of threads. All
//! arithmetic is f32 in the order of operations written here; `mul_add` is one fused operation.

mod decode;
mod dense;
mod matmul;
mod quantize;
mod sparse;
mod viterbi;

pub use decode::{decode_tile, dequantize};
pub use dense::dense_matmul;
pub use matmul::{matmul_f32, matmul_int8};
pub use quantize::quantize_activations;
pub use sparse::{Sparse, add_product, add_sparse, sparse_matmul};
pub use viterbi::{RENORMALIZE, encode_block};

use crate::{StageLayout, Table, scale_value};

/// One window stage of a linear.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// Shape and places; every depth is 0 or the table's.
    pub layout: &'a StageLayout,
    /// What windows decode to.
    pub table: &'a Table,
    /// `layout.codes_len()` bytes.
    pub codes: &'a [u8],
    /// `layout.scales_len()` bytes: [`scale_value`] of each is the scale of a row in a group.
    pub scales: &'a [u8],
    /// `layout.row_scales_len()` bytes: one little-endian bf16 per padded row.
    pub row_scales: &'a [u8],
}

impl Stage<'_> {
    /// The scale of a row, as f32.
    ///
    /// # Panics
    ///
    /// If `row_scales` is too short.
    pub fn row_scale(&self, row: usize) -> f32 {
        let bytes = [self.row_scales[2 * row], self.row_scales[2 * row + 1]];
        f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
    }

    /// Calls `tile(first row, group, levels, scales)` for each tile with codes, in stored order;
    /// `levels` are `height × group.cols`, row-major, and `scales` the rows' group scales.
    fn for_each_tile(&self, mut tile: impl FnMut(usize, usize, &[i8], &[f32])) {
        let layout = self.layout;
        for tr in 0..layout.tile_rows() {
            let height = layout.tile_height(tr);
            for g in 0..layout.groups() {
                let group = layout.group(g);
                if group.depth == 0 {
                    continue;
                }
                assert_eq!(
                    group.depth,
                    self.table.depth(),
                    "group {g} has another depth"
                );
                let mut levels = vec![0; height * group.cols];
                let stream = &self.codes[layout.tile_range(tr, g)];
                decode_tile(self.table, stream, height, group.cols, &mut levels);
                let scales = &self.scales[layout.scales_range(tr, g)];
                let scales: Vec<f32> = scales.iter().map(|&code| scale_value(code)).collect();
                tile(tr * crate::TILE_ROWS, g, &levels, &scales);
            }
        }
    }
}

//! A window stage as the kernels see it.

use lagar_codec::{BLOCK_COLS, CODES_PADDING, ROW_UNIT, StageLayout, Table};

use super::lookup::Lookup;
use super::tile::Tile;
use crate::KernelError;

/// One window stage of a linear: a matrix of `rows × padded_cols` weights of K bits, ready to be
/// multiplied with.
///
/// Weight `(r, c)` is `(level · group_scale) · row_scale`, where the level is what `table` gives for
/// the weight's window in `codes`, and groups of depth 0 count as zeros.
#[derive(Clone, Debug)]
pub struct WindowStage<'a> {
    layout: &'a StageLayout,
    codes: &'a [u8],
    scales: &'a [u8],
    row_scales: &'a [u8],
    lookup: Lookup,
}

impl<'a> WindowStage<'a> {
    /// A stage of `codes` (one stream per tile and 64 bytes of padding), `scales` (one logarithmic
    /// code per padded row and stored group) and `row_scales` (one little-endian bf16 per padded row),
    /// all as [`StageLayout`] describes them. Each stream begins with a zero byte; this is not checked.
    ///
    /// # Errors
    ///
    /// If a length is not the one that the layout has, or a group's depth is neither 0 nor the table's.
    /// So whatever the bytes are, no kernel reads outside of them.
    pub fn new(
        layout: &'a StageLayout,
        table: &Table,
        codes: &'a [u8],
        scales: &'a [u8],
        row_scales: &'a [u8],
    ) -> Result<Self, KernelError> {
        let shape = (layout.rows(), layout.cols());
        check_length(shape, "codes", layout.codes_len(), codes)?;
        check_length(shape, "scales", layout.scales_len(), scales)?;
        check_length(shape, "row scales", layout.row_scales_len(), row_scales)?;
        let table_depth = table.depth();
        for (group, &depth) in layout.depths().iter().enumerate() {
            if depth != 0 && depth != table_depth {
                return Err(KernelError::StageDepth {
                    group,
                    depth,
                    table_depth,
                });
            }
        }
        let lookup = Lookup::new(table);
        Ok(Self {
            layout,
            codes,
            scales,
            row_scales,
            lookup,
        })
    }

    /// The stage's shape and layout.
    pub fn layout(&self) -> &'a StageLayout {
        self.layout
    }

    /// What its windows decode to.
    pub(super) fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// The tiles of tile row `tr`, group by group.
    pub(super) fn tiles(&self, tr: usize) -> Tiles<'_> {
        Tiles {
            stage: self,
            tile_row: tr,
            group: 0,
            codes: &self.codes[self.layout.codes_offset(tr, 0)..],
            scales: &self.scales[self.layout.scales_offset(tr, 0)..],
        }
    }

    /// The tile of tile row `tr` and group `g`; nothing if the group's depth is 0.
    #[inline]
    pub(super) fn tile(&self, tr: usize, g: usize) -> Option<Tile<'_>> {
        let group = self.layout.group(g);
        let codes = self.layout.tile_range(tr, g);
        let units = self.layout.tile_height(tr) / ROW_UNIT;
        (group.depth > 0).then(|| {
            let codes = &self.codes[codes.start..codes.end + CODES_PADDING];
            Tile::new(&self.lookup, codes, units, group.cols / BLOCK_COLS)
        })
    }

    /// The scale codes of the rows of a tile.
    #[inline]
    pub(super) fn scales(&self, tr: usize, g: usize) -> &'a [u8] {
        &self.scales[self.layout.scales_range(tr, g)]
    }

    /// The scale of a row, as f32.
    pub(super) fn row_scale(&self, row: usize) -> f32 {
        let (scales, _) = self.row_scales.as_chunks();
        f32::from_bits(u32::from(u16::from_le_bytes(scales[row])) << 16)
    }

    /// The scales of the 16 rows from `row` on, as stored.
    pub(super) fn row_scales(&self, row: usize) -> &'a [u8; 2 * ROW_UNIT] {
        let scales = self.row_scales[2 * row..].first_chunk();
        scales.expect("rows are padded to 16")
    }
}

/// The tiles of a tile row, whose streams and scales follow each other; groups of depth 0 have none.
#[derive(Clone, Debug)]
pub(super) struct Tiles<'a> {
    stage: &'a WindowStage<'a>,
    tile_row: usize,
    group: usize,
    /// From the next tile's on.
    codes: &'a [u8],
    scales: &'a [u8],
}

/// One of [`Tiles`].
#[derive(Clone, Copy)]
pub(super) struct GroupTile<'a> {
    pub(super) group: usize,
    pub(super) tile: Tile<'a>,
    /// The scale codes of its rows.
    pub(super) scales: &'a [u8],
}

impl<'a> Iterator for Tiles<'a> {
    type Item = GroupTile<'a>;

    #[inline]
    fn next(&mut self) -> Option<GroupTile<'a>> {
        let (stage, layout, tr) = (self.stage, self.stage.layout, self.tile_row);
        let rest = &layout.depths()[self.group..];
        let group = self.group + rest.iter().position(|&depth| depth > 0)?;
        self.group = group + 1;
        let (height, len) = (layout.tile_height(tr), layout.tile_len(tr, group));
        let codes = &self.codes[..len + CODES_PADDING];
        self.codes = &self.codes[len..];
        let (scales, others) = self.scales.split_at(height);
        self.scales = others;
        let (units, blocks) = (height / ROW_UNIT, layout.group(group).cols / BLOCK_COLS);
        Some(GroupTile {
            group,
            tile: Tile::new(&stage.lookup, codes, units, blocks),
            scales,
        })
    }
}

/// Refuses a part of a stage, of a shape of rows and columns, that has not the length of its layout.
pub(super) fn check_length(
    (rows, cols): (usize, usize),
    what: &'static str,
    expected: usize,
    part: &[u8],
) -> Result<(), KernelError> {
    let found = part.len();
    if found == expected {
        return Ok(());
    }
    Err(KernelError::StageLength {
        what,
        rows,
        cols,
        expected,
        found,
    })
}

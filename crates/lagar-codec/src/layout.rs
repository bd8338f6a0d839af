//! Where a stage's tiles and scales lie.

use std::ops::Range;

use crate::{BLOCK_COLS, CODES_PADDING, CodecError, GROUP, MAX_DEPTH, ROW_UNIT, TILE_ROWS};

/// The layout of one window stage: a matrix of `rows × cols` weights, one depth per column group.
///
/// Rows are padded to 16 and columns to 4. The matrix is cut into tiles of 256 rows (the last tile
/// row is shorter, a multiple of 16) by one column group. `codes` holds, for each tile row, for each
/// group of depth > 0, one tile stream: a zero byte, then `height × cols × depth / 8` bytes. 64 zero
/// bytes follow the last tile. `scales` holds, in the same order, one byte per row of each tile.
/// Nothing is aligned or padded in between.
///
/// Weight order in a stream: blocks of 4 columns, in a block row by row, in a row column by column;
/// `t = (block · height + row) · 4 + column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageLayout {
    rows: usize,
    cols: usize,
    padded_rows: usize,
    padded_cols: usize,
    depths: Vec<u8>,
    /// Bits that one row has in the groups before each group, and in all (one entry more).
    bits_before: Vec<usize>,
    /// Groups of depth > 0 before each group, and in all (one entry more).
    active_before: Vec<usize>,
}

/// One column group of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// First column.
    pub first: usize,
    /// Columns, padding included: 128, or a smaller multiple of 4 in the last group.
    pub cols: usize,
    /// Bits per weight; 0 means that the group is not stored and counts as zeros.
    pub depth: u8,
}

impl Group {
    /// The group's columns.
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.cols
    }
}

impl StageLayout {
    /// Lays out `rows × cols` weights with one depth (0 to 8) per group of 128 columns.
    ///
    /// Everything that the other methods compute is checked here to fit a `usize`, so sizes may come
    /// from a file.
    ///
    /// # Errors
    ///
    /// If the shape is empty or too large, or the depths are not one per group or above 8.
    pub fn new(rows: usize, cols: usize, depths: &[u8]) -> Result<Self, CodecError> {
        if rows == 0 || cols == 0 {
            return Err(CodecError::EmptyShape { rows, cols });
        }
        let too_large = || CodecError::TooLarge { rows, cols };
        let padded_rows = rows
            .checked_next_multiple_of(ROW_UNIT)
            .ok_or_else(too_large)?;
        let padded_cols = cols
            .checked_next_multiple_of(BLOCK_COLS)
            .ok_or_else(too_large)?;
        let groups = padded_cols.div_ceil(GROUP);
        if depths.len() != groups {
            return Err(CodecError::DepthCount {
                cols,
                expected: groups,
                found: depths.len(),
            });
        }
        if let Some(group) = depths.iter().position(|&depth| depth > MAX_DEPTH) {
            let depth = depths[group];
            return Err(CodecError::GroupDepth { group, depth });
        }
        // Bounds every length and offset below: 8 bits per weight, a lead byte per tile, the padding,
        // and f32 copies of the matrix (4 bytes a weight).
        padded_cols
            .checked_add(groups)
            .and_then(|width| width.checked_mul(8))
            .and_then(|width| width.checked_mul(padded_rows))
            .and_then(|bits| bits.checked_add(CODES_PADDING))
            .filter(|&bound| isize::try_from(bound).is_ok())
            .ok_or_else(too_large)?;

        let mut bits_before = Vec::with_capacity(groups + 1);
        let mut active_before = Vec::with_capacity(groups + 1);
        let (mut bits, mut active) = (0, 0);
        for (g, &depth) in depths.iter().enumerate() {
            bits_before.push(bits);
            active_before.push(active);
            bits += (padded_cols - g * GROUP).min(GROUP) * usize::from(depth);
            active += usize::from(depth > 0);
        }
        bits_before.push(bits);
        active_before.push(active);
        Ok(Self {
            rows,
            cols,
            padded_rows,
            padded_cols,
            depths: depths.to_vec(),
            bits_before,
            active_before,
        })
    }

    /// Rows of the matrix.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows stored: `rows` padded to a multiple of 16.
    #[inline]
    pub fn padded_rows(&self) -> usize {
        self.padded_rows
    }

    /// Columns of the matrix.
    #[inline]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Columns stored: `cols` padded to a multiple of 4.
    #[inline]
    pub fn padded_cols(&self) -> usize {
        self.padded_cols
    }

    /// Number of column groups of a matrix of so many columns.
    pub fn groups_of(cols: usize) -> usize {
        cols.next_multiple_of(BLOCK_COLS).div_ceil(GROUP)
    }

    /// Number of column groups, those of depth 0 included.
    #[inline]
    pub fn groups(&self) -> usize {
        self.depths.len()
    }

    /// The depth of every column group.
    #[inline]
    pub fn depths(&self) -> &[u8] {
        &self.depths
    }

    /// Column group `g < groups()`.
    #[inline]
    pub fn group(&self, g: usize) -> Group {
        let first = g * GROUP;
        Group {
            first,
            cols: (self.padded_cols - first).min(GROUP),
            depth: self.depths[g],
        }
    }

    /// Number of tile rows.
    #[inline]
    pub fn tile_rows(&self) -> usize {
        self.padded_rows.div_ceil(TILE_ROWS)
    }

    /// Rows of the tiles in tile row `tr < tile_rows()`: 256, or a smaller multiple of 16 in the last.
    #[inline]
    pub fn tile_height(&self, tr: usize) -> usize {
        (self.padded_rows - tr * TILE_ROWS).min(TILE_ROWS)
    }

    /// Bytes of `codes`, the padding at the end included.
    pub fn codes_len(&self) -> usize {
        let last = self.tile_rows() - 1;
        self.codes_offset(last, self.groups()) + CODES_PADDING
    }

    /// Bytes of `scales`: one per padded row and group of depth > 0.
    pub fn scales_len(&self) -> usize {
        self.padded_rows * self.active_before[self.groups()]
    }

    /// Bytes of `row_scales`: one bf16 per padded row.
    pub fn row_scales_len(&self) -> usize {
        self.padded_rows * 2
    }

    /// Bytes of the tile of tile row `tr` and group `g`, its leading zero byte included; 0 if the
    /// group's depth is 0.
    #[inline]
    pub fn tile_len(&self, tr: usize, g: usize) -> usize {
        let Group { cols, depth, .. } = self.group(g);
        if depth == 0 {
            return 0;
        }
        1 + self.tile_height(tr) * cols * usize::from(depth) / 8
    }

    /// Where in `codes` the tile of tile row `tr` and group `g` begins (`g = groups()`: where the tile
    /// row ends).
    #[inline]
    pub fn codes_offset(&self, tr: usize, g: usize) -> usize {
        let all = self.groups();
        let strip =
            |height: usize, g: usize| height / 8 * self.bits_before[g] + self.active_before[g];
        tr * strip(TILE_ROWS, all) + strip(self.tile_height(tr), g)
    }

    /// The bytes of `codes` that hold the tile of tile row `tr` and group `g`; empty if its depth is 0.
    #[inline]
    pub fn tile_range(&self, tr: usize, g: usize) -> Range<usize> {
        let start = self.codes_offset(tr, g);
        start..start + self.tile_len(tr, g)
    }

    /// The bytes of `codes` that hold block `block` (4 columns) of a tile whose depth is not 0: what
    /// [`crate::pack_windows`] makes of the block's windows.
    pub fn block_range(&self, tr: usize, g: usize, block: usize) -> Range<usize> {
        let bits = self.tile_height(tr) * BLOCK_COLS * usize::from(self.depths[g]);
        let start = self.codes_offset(tr, g) + 1 + block * bits / 8;
        start..start + bits / 8
    }

    /// Checks that a tile's lead byte and the padding at the end are zero: fast paths read them as
    /// if they were.
    ///
    /// # Errors
    ///
    /// The first byte that is not zero.
    ///
    /// # Panics
    ///
    /// If `codes` is shorter than [`StageLayout::codes_len`].
    pub fn check_codes(&self, codes: &[u8]) -> Result<(), CodecError> {
        (0..self.tile_rows()).try_for_each(|tr| self.check_tile_row(tr, codes))?;
        let padding = self.codes_len() - CODES_PADDING..self.codes_len();
        check_zero(codes, padding)
    }

    /// Checks that the lead bytes of the tiles in tile row `tr` are zero.
    ///
    /// # Errors
    ///
    /// The first byte that is not zero.
    ///
    /// # Panics
    ///
    /// If there is no such tile row, or `codes` is shorter than [`StageLayout::codes_len`].
    pub fn check_tile_row(&self, tr: usize, codes: &[u8]) -> Result<(), CodecError> {
        let stored = (0..self.groups()).filter(|&g| self.depths[g] > 0);
        check_zero(codes, stored.map(|g| self.codes_offset(tr, g)))
    }

    /// The layout of some rows alone, and which bytes of the whole stage's codes, scales and row
    /// scales they have. (In a strip before the last, other codes stand in the place of the 64 zeros
    /// that end a stage.)
    ///
    /// # Panics
    ///
    /// If the rows are none, do not begin with a tile row, or end neither with one nor with the stage.
    pub fn strip(&self, rows: Range<usize>) -> (Self, [Range<usize>; 3]) {
        assert!(!rows.is_empty() && rows.end <= self.rows, "rows {rows:?}");
        assert!(rows.start.is_multiple_of(TILE_ROWS), "rows {rows:?}");
        assert!(rows.end.is_multiple_of(TILE_ROWS) || rows.end == self.rows);
        let strip = Self::new(rows.len(), self.cols, &self.depths);
        let strip = strip.expect("a part of what was checked");
        let tile_row = rows.start / TILE_ROWS;
        let from = |start: usize, len: usize| start..start + len;
        let ranges = [
            from(self.codes_offset(tile_row, 0), strip.codes_len()),
            from(self.scales_offset(tile_row, 0), strip.scales_len()),
            from(2 * rows.start, strip.row_scales_len()),
        ];
        (strip, ranges)
    }

    /// Where in `scales` the scales of tile row `tr` and group `g` begin; there are `tile_height(tr)`
    /// of them if the group's depth is not 0.
    #[inline]
    pub fn scales_offset(&self, tr: usize, g: usize) -> usize {
        let all = self.active_before[self.groups()];
        tr * TILE_ROWS * all + self.tile_height(tr) * self.active_before[g]
    }

    /// The bytes of `scales` that belong to tile row `tr` and group `g`; empty if its depth is 0.
    #[inline]
    pub fn scales_range(&self, tr: usize, g: usize) -> Range<usize> {
        let start = self.scales_offset(tr, g);
        let stored = usize::from(self.depths[g] > 0);
        start..start + stored * self.tile_height(tr)
    }
}

/// Finds a byte at one of these offsets that is not zero.
fn check_zero(codes: &[u8], mut offsets: impl Iterator<Item = usize>) -> Result<(), CodecError> {
    match offsets.find(|&at| codes[at] != 0) {
        Some(offset) => Err(CodecError::NotZero {
            offset,
            found: codes[offset],
        }),
        None => Ok(()),
    }
}

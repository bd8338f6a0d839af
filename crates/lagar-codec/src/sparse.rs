//! Where a sparse stage's entries lie.

use std::ops::Range;

use crate::{CodecError, ROW_UNIT, TILE_ROWS};

/// Most columns of a sparse stage, so that kernels can look up by signed 32-bit offsets.
const MAX_COLS: usize = 1 << 28;

/// The layout of one sparse stage: a matrix of `rows × cols` of which each row has a few entries.
///
/// Rows are padded to 16. Entries are listed by bands of 16 rows: first the first entry of every row
/// of the band that has one, row by row, then the second of every row that has two, and so on. Each
/// has a *gap* (one or two bytes), the number of columns between it and the entry before it in its
/// row, or before it at all; and a value, a finite half-precision float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseLayout {
    rows: usize,
    cols: usize,
    gap_bytes: usize,
    /// One for each padded row.
    counts: Vec<u16>,
    /// Entries before each band, and in all (one entry more).
    before: Vec<usize>,
}

impl SparseLayout {
    /// Lays out the entries of `rows × cols` weights; `counts` has one little-endian u16 for each
    /// padded row, the number of its entries.
    ///
    /// # Errors
    ///
    /// If the shape is empty or too large, `gap_bytes` is neither 1 nor 2, there is not one count per
    /// padded row, a padded row has entries, or a row has more of them than columns.
    pub fn new(rows: usize, cols: usize, gap_bytes: u8, counts: &[u8]) -> Result<Self, CodecError> {
        if rows == 0 || cols == 0 {
            return Err(CodecError::EmptyShape { rows, cols });
        }
        let fits = rows.checked_next_multiple_of(ROW_UNIT).and_then(|padded| {
            let bytes = padded.checked_mul(cols)?.checked_mul(4)?;
            (isize::try_from(bytes).is_ok() && cols <= MAX_COLS).then_some(padded)
        });
        let padded = fits.ok_or(CodecError::TooLarge { rows, cols })?;
        if !(1..=2).contains(&gap_bytes) {
            return Err(CodecError::GapBytes { gap_bytes });
        }
        if counts.len() != 2 * padded {
            return Err(CodecError::CountsLength {
                rows,
                expected: 2 * padded,
                found: counts.len(),
            });
        }
        let counts = counts.as_chunks().0.iter();
        let counts: Vec<u16> = counts.map(|count| u16::from_le_bytes(*count)).collect();
        for (row, &count) in counts.iter().enumerate() {
            let most = if row < rows { cols } else { 0 };
            if usize::from(count) > most {
                return Err(CodecError::RowEntries { row, count, most });
            }
        }
        // Fits: a row has no more entries than columns.
        let mut before = vec![0];
        let mut sum = 0;
        for band in counts.chunks(ROW_UNIT) {
            sum += band.iter().map(|&count| usize::from(count)).sum::<usize>();
            before.push(sum);
        }
        Ok(Self {
            rows,
            cols,
            gap_bytes: gap_bytes.into(),
            counts,
            before,
        })
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of a gap: 1 or 2.
    pub fn gap_bytes(&self) -> usize {
        self.gap_bytes
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.before[self.bands()]
    }

    /// Number of bands of 16 rows.
    pub fn bands(&self) -> usize {
        self.before.len() - 1
    }

    /// The numbers of entries of the 16 rows of band `band < bands()`.
    pub fn counts(&self, band: usize) -> &[u16; ROW_UNIT] {
        let counts = self.counts[band * ROW_UNIT..].first_chunk();
        counts.expect("rows are padded to 16")
    }

    /// The entries of some bands.
    pub fn entries_of(&self, bands: Range<usize>) -> Range<usize> {
        self.before[bands.start]..self.before[bands.end]
    }

    /// Bytes of `gaps`.
    pub fn gaps_len(&self) -> usize {
        self.entries() * self.gap_bytes
    }

    /// Bytes of `values`.
    pub fn values_len(&self) -> usize {
        self.entries() * 2
    }

    /// The layout of some rows alone, and which bytes of the whole stage's gaps and values they have.
    ///
    /// # Panics
    ///
    /// If the rows are none, do not begin with a tile row, or end neither with one nor with the stage.
    pub fn strip(&self, rows: Range<usize>) -> (Self, [Range<usize>; 2]) {
        assert!(!rows.is_empty() && rows.end <= self.rows, "rows {rows:?}");
        assert!(rows.start.is_multiple_of(TILE_ROWS), "rows {rows:?}");
        assert!(rows.end.is_multiple_of(TILE_ROWS) || rows.end == self.rows);
        let bands = rows.start / ROW_UNIT..rows.end.div_ceil(ROW_UNIT);
        let entries = self.entries_of(bands.clone());
        let before = &self.before[bands.start..=bands.end];
        let strip = Self {
            rows: rows.len(),
            cols: self.cols,
            gap_bytes: self.gap_bytes,
            counts: self.counts[bands.start * ROW_UNIT..bands.end * ROW_UNIT].to_vec(),
            before: before.iter().map(|at| at - entries.start).collect(),
        };
        let bytes = |size: usize| entries.start * size..entries.end * size;
        (strip, [bytes(self.gap_bytes), bytes(2)])
    }

    /// Checks the entries of some bands: columns in range, values finite. `gaps` and `values` are those
    /// of the whole stage.
    ///
    /// # Errors
    ///
    /// The first entry that has another column or value.
    ///
    /// # Panics
    ///
    /// If there are no such bands, or the lengths are not those of the layout.
    pub fn check(&self, bands: Range<usize>, gaps: &[u8], values: &[u8]) -> Result<(), CodecError> {
        for band in bands {
            let mut found = Ok(());
            self.for_each(band, gaps, values, |row, column, value| {
                let row = band * ROW_UNIT + row;
                if column >= self.cols {
                    let cols = self.cols;
                    found = Err(CodecError::EntryColumn { row, column, cols });
                } else if !half_is_finite(value) {
                    found = Err(CodecError::EntryValue { row, column, value });
                }
                found.is_ok()
            });
            found?;
        }
        Ok(())
    }

    /// Calls `entry(row in the band, column, bits of the value)` for the entries of a band in stored
    /// order, until it returns false. Columns may be out of range.
    ///
    /// # Panics
    ///
    /// If there is no such band, or the lengths of `gaps` and `values` are not those of the layout.
    pub fn for_each(
        &self,
        band: usize,
        gaps: &[u8],
        values: &[u8],
        mut entry: impl FnMut(usize, usize, u16) -> bool,
    ) {
        assert_eq!(gaps.len(), self.gaps_len(), "gaps of the stage");
        assert_eq!(values.len(), self.values_len(), "values of the stage");
        let counts = self.counts(band);
        let mut at = self.before[band];
        // The column behind the entry before, in each row.
        let mut next = [0usize; ROW_UNIT];
        for step in 0..counts.iter().copied().max().unwrap_or(0) {
            for row in (0..ROW_UNIT).filter(|&row| counts[row] > step) {
                let gap = match self.gap_bytes {
                    1 => gaps[at].into(),
                    _ => usize::from(u16::from_le_bytes([gaps[2 * at], gaps[2 * at + 1]])),
                };
                let column = next[row] + gap;
                let value = u16::from_le_bytes([values[2 * at], values[2 * at + 1]]);
                if !entry(row, column, value) {
                    return;
                }
                next[row] = column + 1;
                at += 1;
            }
        }
    }
}

/// The bytes of a sparse stage, as [`SparseLayout`] describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedSparse {
    /// Bytes of a gap: 1 or 2, whichever takes less in all.
    pub gap_bytes: u8,
    /// One u16 for each padded row.
    pub counts: Vec<u8>,
    /// A gap for each entry.
    pub gaps: Vec<u8>,
    /// A half-precision float for each entry.
    pub values: Vec<u8>,
}

/// Packs the entries of a matrix: for each row columns, strictly ascending, and the bits of
/// half-precision values. Entries of value 0 are added where a gap is wider than a byte or two can say.
/// `None` if a row would then have more than 65535 entries.
///
/// # Panics
///
/// If columns do not ascend.
pub fn pack_sparse(rows: &[Vec<(u32, u16)>]) -> Option<PackedSparse> {
    let packed = [1, 2].map(|gap_bytes| pack_gaps(rows, gap_bytes));
    let bytes = |packed: &PackedSparse| packed.gaps.len() + packed.values.len();
    packed.into_iter().flatten().min_by_key(bytes)
}

fn pack_gaps(rows: &[Vec<(u32, u16)>], gap_bytes: u8) -> Option<PackedSparse> {
    let widest = (1u32 << (8 * gap_bytes)) - 1;
    let mut packed = PackedSparse {
        gap_bytes,
        counts: Vec::new(),
        gaps: Vec::new(),
        values: Vec::new(),
    };
    for band in rows.chunks(ROW_UNIT) {
        let mut lists = vec![Vec::new(); ROW_UNIT];
        for (row, list) in band.iter().zip(&mut lists) {
            let mut next = 0u32;
            for &(column, value) in row {
                let mut gap = column.checked_sub(next).expect("columns ascend");
                while gap > widest {
                    list.push((widest, 0));
                    gap -= widest + 1;
                }
                list.push((gap, value));
                next = column + 1;
            }
        }
        for list in &lists {
            let count = u16::try_from(list.len()).ok()?;
            packed.counts.extend(count.to_le_bytes());
        }
        for step in 0..lists.iter().map(Vec::len).max().unwrap_or(0) {
            for (gap, value) in lists.iter().filter_map(|list| list.get(step)) {
                let gap = gap.to_le_bytes();
                packed.gaps.extend(&gap[..gap_bytes.into()]);
                packed.values.extend(value.to_le_bytes());
            }
        }
    }
    Some(packed)
}

/// Whether the half-precision float with these bits is a number.
fn half_is_finite(bits: u16) -> bool {
    bits & 0x7c00 != 0x7c00
}

/// The value of the finite half-precision float with these bits, exactly.
///
/// (Of an infinity or a NaN it is a number beyond all halves; no checked stage has one.)
pub const fn half_value(bits: u16) -> f32 {
    let magnitude = f32::from_bits((bits as u32 & 0x7fff) << 13) * f32::from_bits(HALF_SCALE);
    f32::from_bits(magnitude.to_bits() | (bits as u32 & 0x8000) << 16)
}

/// The bits of 2^112: by how much the exponent of a half, moved to that of an f32, is too small.
pub const HALF_SCALE: u32 = (127 + 112) << 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_have_their_values() {
        for bits in 0..=u16::MAX {
            let (exponent, digits) = (i32::from(bits >> 10 & 31), i32::from(bits & 1023));
            let size = match exponent {
                0 => f64::from(digits) * (-24f64).exp2(),
                31 => continue,
                _ => f64::from(1024 + digits) * f64::from(exponent - 25).exp2(),
            };
            let value = if bits >> 15 == 1 { -size } else { size };
            assert_eq!(
                half_value(bits).to_bits(),
                (value as f32).to_bits(),
                "{bits:04x}"
            );
            assert!(half_is_finite(bits));
        }
        for bits in [0x7c00, 0xfc00, 0x7e01] {
            assert!(!half_is_finite(bits));
        }
    }
}

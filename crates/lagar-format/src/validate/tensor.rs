//! Tables, transforms and tensors: shapes, references and the lengths of their parts.

use super::{Check, Checker, expect, reference};
use crate::index::elements;
use crate::{
    Body, Levels, PartId, Problem, Stage, TableRecord, TensorRecord, TransformRecord, WindowStage,
};

/// Columns that share a depth, and rows of a tile.
const GROUP: u64 = 128;
const TILE_ROWS: u64 = 256;
/// Rows are padded to 16, columns to 4.
const ROW_UNIT: u64 = 16;
const BLOCK_COLS: u64 = 4;
/// Zero bytes at the end of the codes, so that vector loads may overrun.
const CODES_TAIL: u128 = 64;

impl Checker<'_> {
    pub(super) fn transform(&self, record: &TransformRecord) -> Check {
        let width = record.width;
        if width == 0 || width > self.limits.width.min(u32::MAX.into()) {
            let allowed = "at least 1 and within the reader's limit";
            return Err(Problem::Range {
                what: "width",
                value: width,
                allowed,
            });
        }
        let entry = if width <= 1 << 16 { 2 } else { 4 };
        let permutation = u128::from(width) * entry;
        self.part_bytes("bytes of the permutation", record.permutation, permutation)?;
        self.part_bytes("bytes of the signs", record.signs, width.div_ceil(8).into())
    }

    pub(super) fn tensor(&self, tensor: &TensorRecord) -> Check {
        self.text(&tensor.name)?;
        if tensor.shape.len() > self.limits.dimensions {
            let (what, value) = ("number of dimensions", tensor.shape.len() as u64);
            return Err(Problem::Range {
                what,
                value,
                allowed: "within the reader's limit",
            });
        }
        let elements = elements(&tensor.shape).ok_or(Problem::Overflow {
            what: "the number of elements",
        })?;
        if elements > self.limits.elements {
            let (what, allowed) = ("number of elements", "within the reader's limit");
            return Err(Problem::Range {
                what,
                value: elements,
                allowed,
            });
        }
        tensor.checked_bytes().ok_or(Problem::Overflow {
            what: "the length of the tensor",
        })?;
        self.body(tensor, elements)?;
        self.tensor_exact(tensor)
    }

    fn body(&self, tensor: &TensorRecord, elements: u64) -> Check {
        match &tensor.body {
            Body::Exact => Ok(()),
            Body::Raw { dtype, parts } => {
                let bytes = u128::from(elements) * u128::from(dtype.bytes());
                self.by_tier("bytes of the elements", parts, bytes)
            }
            Body::Linear { transform, stages } => {
                let &[rows, cols] = &tensor.shape[..] else {
                    let value = tensor.shape.len() as u64;
                    let what = "number of dimensions of a linear";
                    return Err(Problem::Mismatch {
                        what,
                        value,
                        expected: 2,
                    });
                };
                self.linear(rows, cols, *transform, stages)
            }
        }
    }

    fn linear(&self, rows: u64, cols: u64, transform: usize, stages: &[Stage]) -> Check {
        if rows == 0 || cols == 0 {
            let what = "a dimension of a linear";
            return Err(Problem::Range {
                what,
                value: 0,
                allowed: "at least 1",
            });
        }
        let transforms = &self.index.transforms;
        let Some(record) = transforms.get(transform) else {
            return Err(reference("transform", transform, transforms.len()));
        };
        expect("the width of its transform", record.width, cols)?;
        if stages.is_empty() || stages.len() > self.limits.stages {
            let (what, value) = ("number of stages", stages.len() as u64);
            let allowed = "at least 1 and within the reader's limit";
            return Err(Problem::Range {
                what,
                value,
                allowed,
            });
        }
        let mut lowest = self
            .part(record.permutation)?
            .tier
            .max(self.part(record.signs)?.tier);
        for Stage::Window(stage) in stages {
            if stage.tier < lowest {
                return Err(Problem::WrongTier {
                    part: stage.codes,
                    found: stage.tier,
                    allowed: format!("{lowest} or more, after its transform and earlier stages"),
                });
            }
            // The exact section refines nothing: it replaces.
            if self.index.full_tier() == Some(stage.tier) {
                return Err(Problem::WrongTier {
                    part: stage.codes,
                    found: stage.tier,
                    allowed: "below the exact section's tier".to_owned(),
                });
            }
            lowest = stage.tier;
            self.window(rows, cols, stage)?;
        }
        Ok(())
    }

    fn window(&self, rows: u64, cols: u64, stage: &WindowStage) -> Check {
        let tables = &self.index.tables;
        let Some(table) = tables.get(stage.table) else {
            return Err(reference("table", stage.table, tables.len()));
        };
        let row_scales = stage.row_scales.first().ok_or(Problem::Missing)?;
        for id in [stage.codes, stage.scales, *row_scales] {
            let found = self.part(id)?.tier;
            if found != stage.tier {
                let allowed = format!("{}, that of its stage", stage.tier);
                return Err(Problem::WrongTier {
                    part: id,
                    found,
                    allowed,
                });
            }
        }
        // Fits: rows × cols is within 64 bits.
        let padded_rows = u128::from(rows.div_ceil(ROW_UNIT)) * u128::from(ROW_UNIT);
        let padded_cols = u128::from(cols.div_ceil(BLOCK_COLS)) * u128::from(BLOCK_COLS);
        let groups = padded_cols.div_ceil(GROUP.into());
        if stage.depths.len() as u128 != groups {
            let (what, value) = ("number of depths", stage.depths.len() as u64);
            return Err(Problem::Mismatch {
                what,
                value,
                expected: groups as u64,
            });
        }
        let (mut used, mut coded_cols) = (0u128, 0u128);
        for (group, &depth) in stage.depths.iter().enumerate() {
            if depth == 0 {
                continue;
            }
            if depth != table.depth {
                let allowed = "0 or the depth of the stage's table";
                return Err(Problem::Range {
                    what: "a depth",
                    value: depth.into(),
                    allowed,
                });
            }
            used += 1;
            coded_cols += (padded_cols - group as u128 * u128::from(GROUP)).min(GROUP.into());
        }
        let tiles = padded_rows.div_ceil(TILE_ROWS.into()) * used;
        let streams = padded_rows * coded_cols / 8 * u128::from(table.depth);
        self.part_bytes(
            "bytes of the codes",
            stage.codes,
            tiles + streams + CODES_TAIL,
        )?;
        self.part_bytes("bytes of the scales", stage.scales, padded_rows * used)?;
        self.by_tier(
            "bytes of the row scales",
            &stage.row_scales,
            padded_rows * 2,
        )
    }

    pub(super) fn part_bytes(&self, what: &'static str, id: PartId, expected: u128) -> Check {
        let expected = u64::try_from(expected).map_err(|_| Problem::Overflow { what })?;
        expect(what, self.part(id)?.bytes, expected)
    }

    /// Parts of strictly ascending tiers, each of the same length.
    fn by_tier(&self, what: &'static str, ids: &[PartId], bytes: u128) -> Check {
        if ids.is_empty() {
            return Err(Problem::Missing);
        }
        for (at, &id) in ids.iter().enumerate() {
            self.part_bytes(what, id, bytes)?;
            let found = self.part(id)?.tier;
            if at > 0 && found <= self.part(ids[at - 1])?.tier {
                let allowed = "above the tier of the part listed before it".to_owned();
                return Err(Problem::WrongTier {
                    part: id,
                    found,
                    allowed,
                });
            }
        }
        Ok(())
    }
}

/// Checks a table and, where it is split, every level that it stands for.
pub(super) fn table(table: &TableRecord) -> Check {
    let &TableRecord { depth, window, .. } = table;
    if !(1..=8).contains(&depth) {
        return Err(Problem::Range {
            what: "depth",
            value: depth.into(),
            allowed: "1 to 8",
        });
    }
    if window != depth && window != 8 {
        let allowed = "the depth or 8";
        return Err(Problem::Range {
            what: "window",
            value: window.into(),
            allowed,
        });
    }
    match &table.levels {
        Levels::Free(levels) => expect("the number of levels", levels.len() as u64, 1 << window),
        Levels::Split {
            a,
            b,
            a_sign_bit,
            b_sign_bit,
        } => {
            expect("the window of a split table", window.into(), 8)?;
            if !(4..=7).contains(a_sign_bit) {
                let value = (*a_sign_bit).into();
                return Err(Problem::Range {
                    what: "a_sign_bit",
                    value,
                    allowed: "4 to 7",
                });
            }
            if *b_sign_bit > 3 {
                let value = (*b_sign_bit).into();
                return Err(Problem::Range {
                    what: "b_sign_bit",
                    value,
                    allowed: "0 to 3",
                });
            }
            for w in 0..=255u8 {
                let negate = |value: i8, bit| match w >> bit & 1 {
                    0 => i32::from(value),
                    _ => -i32::from(value),
                };
                let low = negate(a[usize::from(w & 15)], *a_sign_bit);
                let level = low + negate(b[usize::from(w >> 4)], *b_sign_bit);
                if level.abs() > 63 {
                    let value = level.unsigned_abs().into();
                    let what = "the size of a level of a split table";
                    return Err(Problem::Range {
                        what,
                        value,
                        allowed: "at most 63",
                    });
                }
            }
            Ok(())
        }
    }
}

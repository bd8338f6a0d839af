//! Stages: references, shapes and the lengths of their parts.

use super::{Check, Checker, expect, reference};
use crate::{LowRankStage, PartId, Problem, SparseStage, Stage, WindowStage};

/// Columns that share a depth, and rows of a tile.
const GROUP: u64 = 128;
const TILE_ROWS: u64 = 256;
/// Rows are padded to 16, columns to 4; ranks are multiples of 16.
const ROW_UNIT: u64 = 16;
const BLOCK_COLS: u64 = 4;
/// Zero bytes at the end of the codes, so that vector loads may overrun.
const CODES_TAIL: u128 = 64;

impl Checker<'_> {
    /// A stage of a matrix of `rows × cols`, whose product fits 64 bits.
    pub(super) fn stage(&self, rows: u64, cols: u64, stage: &Stage) -> Check {
        match stage {
            Stage::Window(stage) => self.window(rows, cols, stage),
            Stage::Sparse(stage) => self.sparse(rows, cols, stage),
            Stage::LowRank(stage) => self.low_rank(rows, cols, stage),
        }
    }

    /// Parts that lie in the section of their stage.
    fn in_tier(&self, tier: usize, parts: [PartId; 3]) -> Check {
        for id in parts {
            let found = self.part(id)?.tier;
            if found != tier {
                let allowed = format!("{tier}, that of its stage");
                return Err(Problem::WrongTier {
                    part: id,
                    found,
                    allowed,
                });
            }
        }
        Ok(())
    }

    fn sparse(&self, rows: u64, cols: u64, stage: &SparseStage) -> Check {
        if !(1..=2).contains(&stage.gap_bytes) {
            return Err(Problem::Range {
                what: "gap_bytes",
                value: stage.gap_bytes.into(),
                allowed: "1 or 2",
            });
        }
        self.in_tier(stage.tier, [stage.counts, stage.gaps, stage.values])?;
        let padded_rows = padded(rows, ROW_UNIT);
        self.part_bytes("bytes of the counts", stage.counts, 2 * padded_rows)?;
        let entries = self.part(stage.values)?.bytes / 2;
        if u128::from(entries) > u128::from(rows) * u128::from(cols) {
            return Err(Problem::Range {
                what: "the number of entries",
                value: entries,
                allowed: "at most that of the matrix",
            });
        }
        let entries = u128::from(entries);
        self.part_bytes("bytes of the values", stage.values, 2 * entries)?;
        let gaps = entries * u128::from(stage.gap_bytes);
        self.part_bytes("bytes of the gaps", stage.gaps, gaps)
    }

    fn low_rank(&self, rows: u64, cols: u64, stage: &LowRankStage) -> Check {
        let LowRankStage { rank, v, u } = stage;
        let most = padded(rows.min(cols), ROW_UNIT);
        if *rank == 0 || !rank.is_multiple_of(ROW_UNIT) || u128::from(*rank) > most {
            return Err(Problem::Range {
                what: "rank",
                value: *rank,
                allowed: "a multiple of 16, at least 16 and at most each dimension, padded to 16",
            });
        }
        expect("the tier of the factor u", u.tier as u64, v.tier as u64)?;
        for factor in [v, u] {
            // So that nothing much larger than its parts is ever made of a factor.
            if factor.depths.contains(&0) {
                return Err(Problem::Range {
                    what: "a depth of a factor",
                    value: 0,
                    allowed: "the depth of its table",
                });
            }
        }
        self.window(*rank, cols, v)?;
        self.window(rows, *rank, u)
    }

    fn window(&self, rows: u64, cols: u64, stage: &WindowStage) -> Check {
        let tables = &self.index.tables;
        let Some(table) = tables.get(stage.table) else {
            return Err(reference("table", stage.table, tables.len()));
        };
        let row_scales = stage.row_scales.first().ok_or(Problem::Missing)?;
        self.in_tier(stage.tier, [stage.codes, stage.scales, *row_scales])?;
        // Fits: rows × cols is within 64 bits.
        let padded_rows = padded(rows, ROW_UNIT);
        let padded_cols = padded(cols, BLOCK_COLS);
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
}

/// The least multiple of `unit` that is not below `size`.
fn padded(size: u64, unit: u64) -> u128 {
    u128::from(size.div_ceil(unit)) * u128::from(unit)
}

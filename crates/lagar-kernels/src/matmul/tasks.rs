//! How a product is cut into tasks, and how a task's result is written.

use std::ops::Range;

use lagar_codec::{ROW_UNIT, StageLayout, TILE_ROWS};

use super::stage::WindowStage;
use crate::simd::{Kernel, Simd, ask_to_write};
use crate::{Disjoint, Pool};

/// The most vectors of one task: their sums (256 rows each) stay in the second-level cache.
const VECTORS: usize = 128;

/// Tasks per thread that even out threads of different speed, for more than [`FEW`] vectors.
const TASKS_PER_THREAD: usize = 4;

/// Up to so many vectors codes are used as fast as they come, and threads that read parts of the same tile hold each other up: tile rows
/// are cut only for threads that would have none.
const FEW: usize = 16;

/// The fewest units of 16 rows that a tile row is cut into for the sake of more tasks.
const FEWEST_UNITS: usize = 4;

/// Rows of one tile row, and the vectors that they are multiplied with.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) tile_row: usize,
    /// Units of 16 rows inside the tile row.
    pub(super) units: Range<usize>,
    pub(super) vectors: Range<usize>,
}

impl Task {
    /// The task's rows inside its tile row.
    pub(super) fn rows(&self) -> Range<usize> {
        self.units.start * ROW_UNIT..self.units.end * ROW_UNIT
    }

    /// Its rows in the matrix, without those that are padding: fewer than 16, so that the first one is there.
    #[inline]
    pub(super) fn matrix_rows(&self, layout: &StageLayout) -> Range<usize> {
        let (own, first) = (self.rows(), self.tile_row * TILE_ROWS);
        first + own.start..(first + own.end).min(layout.rows())
    }
}

/// The tasks of products with the same vectors. Every row is computed in the same way in whichever task it is.
pub(super) struct Tasks<'a> {
    /// Of each product.
    layouts: Vec<&'a StageLayout>,
    n: usize,
    /// Tasks that a tile row is cut into.
    pieces: usize,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(
        layouts: impl Iterator<Item = &'a StageLayout>,
        n: usize,
        pool: &Pool,
    ) -> Self {
        let layouts: Vec<_> = layouts.collect();
        let tile_rows: usize = layouts.iter().map(|layout| layout.tile_rows()).sum();
        let whole = tile_rows * n.div_ceil(VECTORS);
        let units = layouts
            .iter()
            .map(|layout| layout.tile_height(0) / ROW_UNIT);
        let units = units.max().unwrap_or(0);
        let pieces = match pool.threads() {
            1 => 1,
            threads if n <= FEW => threads.div_ceil(whole),
            threads => (threads * TASKS_PER_THREAD).div_ceil(whole),
        };
        let pieces = pieces.min(units.div_ceil(FEWEST_UNITS)).max(1);
        Self { layouts, n, pieces }
    }

    /// The number of tasks.
    pub(super) fn len(&self) -> usize {
        self.layouts.iter().map(|layout| self.of(layout)).sum()
    }

    /// The number of tasks of a product.
    fn of(&self, layout: &StageLayout) -> usize {
        layout.tile_rows() * self.pieces * self.n.div_ceil(VECTORS)
    }

    /// Task `index < len()`, and the number of its product; nothing if it has no rows.
    pub(super) fn get(&self, mut index: usize) -> Option<(usize, Task)> {
        let mut product = 0;
        while index >= self.of(self.layouts[product]) {
            index -= self.of(self.layouts[product]);
            product += 1;
        }
        let layout = self.layouts[product];
        let (chunk, index) = (
            index / (layout.tile_rows() * self.pieces),
            index % (layout.tile_rows() * self.pieces),
        );
        let (tile_row, piece) = (index / self.pieces, index % self.pieces);
        let all = layout.tile_height(tile_row) / ROW_UNIT;
        // Pieces of whole multiples of 4 units, as the kernels like them.
        let size = all.div_ceil(self.pieces).next_multiple_of(FEWEST_UNITS);
        let units = (piece * size).min(all)..((piece + 1) * size).min(all);
        let vectors = chunk * VECTORS..((chunk + 1) * VECTORS).min(self.n);
        let task = Task {
            tile_row,
            units,
            vectors,
        };
        (!task.units.is_empty()).then_some((product, task))
    }
}

/// Where results go: `y` is `n × rows`.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    pub(super) y: Disjoint<'a, f32>,
    /// Whether they are added to what is there.
    pub(super) add: bool,
}

impl<'a> Output<'a> {
    /// Where the results of a task with vector `v` go.
    ///
    /// # Safety
    /// Nobody else has them: no two tasks have a row and a vector in common.
    #[inline(always)]
    pub(super) unsafe fn of(&self, layout: &StageLayout, task: &Task, v: usize) -> &'a mut [f32] {
        let (all, rows) = (layout.rows(), task.matrix_rows(layout));
        // SAFETY: the caller promises it.
        unsafe { self.y.slice(v * all + rows.start..v * all + rows.end) }
    }

    /// Asks for where the results of a task of up to [`FEW`] vectors go.
    pub(super) fn ask(&self, layout: &StageLayout, task: &Task) {
        if task.vectors.len() > FEW {
            return;
        }
        for v in task.vectors.clone() {
            // SAFETY: the task's own, one by one.
            ask_to_write(unsafe { self.of(layout, task, v) });
        }
    }
}

/// Multiplies a task's sums (`vectors × rows of the task`) by the row scales and stores or adds them.
pub(super) struct Finish<'a> {
    pub(super) stage: &'a WindowStage<'a>,
    pub(super) task: &'a Task,
    pub(super) sums: &'a [f32],
    pub(super) output: Output<'a>,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            stage,
            task,
            sums,
            output,
        } = self;
        let first = task.matrix_rows(stage.layout()).start;
        let own = task.units.len() * ROW_UNIT;
        let mut scales = [s.splat(0.0); TILE_ROWS / ROW_UNIT];
        for (unit, scales) in scales[..task.units.len()].iter_mut().enumerate() {
            *scales = s.load_bf16(stage.row_scales(first + unit * ROW_UNIT));
        }
        for (v, sums) in task.vectors.clone().zip(sums.chunks_exact(own)) {
            // SAFETY: the task's own, one by one.
            let y = unsafe { output.of(stage.layout(), task, v) };
            let units = y.chunks_mut(ROW_UNIT).zip(sums.as_chunks().0);
            for ((y, sums), &scales) in units.zip(&scales) {
                write(s, s.load(sums), scales, y, output.add);
            }
        }
    }
}

/// Multiplies the sums of a unit by its row scales and stores or adds as many of them as `y` has.
#[inline(always)]
pub(super) fn write<S: Simd>(s: S, sums: S::F32, scales: S::F32, y: &mut [f32], add: bool) {
    let mut value = s.mul(sums, scales);
    if add {
        value = s.add(s.load_partial(y), value);
    }
    s.store_partial(value, y);
}

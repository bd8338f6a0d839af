//! Products of a stage with activations rounded to bytes.
//!
//! A task is a range of rows inside one tile row: for each column group it takes the exact integer dot
//! products of its rows and adds them, scaled, to one f32 sum per row and vector ([`super::tile::Ops`]),
//! group after group. For one vector, and for a few where the instruction set has registers enough, the codes are multiplied
//! as they are read ([`Ops::dot`], [`Several`](super::tile::Several)); for more, a tile is decoded once into a buffer that stays in the
//! cache and multiplied with a few vectors at a time.

use std::slice;

use lagar_codec::{Activations, GROUP, ROW_UNIT, TILE_ROWS};

use super::stage::{GroupTile, WindowStage};
use super::tasks::{Finish, Output, Task};
use super::tile::{Factors, Ops, Product, UNIT};
use crate::Isa;

/// The product of one task's rows with its vectors.
pub(super) struct Int8Task<'a> {
    pub(super) ops: Ops,
    pub(super) stage: &'a WindowStage<'a>,
    pub(super) x: &'a Activations,
    pub(super) task: &'a Task,
    pub(super) output: Output<'a>,
    /// Room for sums and decoded levels.
    pub(super) scratch: &'a mut Scratch,
}

/// Buffers that a thread keeps from task to task, as whole cache lines so that vector loads never
/// cross one.
#[derive(Default)]
pub(super) struct Scratch {
    sums: Vec<Line<[f32; ROW_UNIT]>>,
    levels: Vec<Line<[u8; UNIT]>>,
}

/// Something that begins with a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line<T>(pub(super) T);

impl Scratch {
    /// Room for `sums` sums, all 0, and for `levels` levels of any value; multiples of 16 and 64.
    pub(super) fn take(&mut self, sums: usize, levels: usize) -> (&mut [f32], &mut [u8]) {
        let (sums, levels) = self.room(sums, levels);
        sums.fill(0.0);
        (sums, levels)
    }

    /// Room for `sums` sums and `levels` levels of any value; multiples of 16 and 64.
    fn room(&mut self, sums: usize, levels: usize) -> (&mut [f32], &mut [u8]) {
        assert!(sums.is_multiple_of(ROW_UNIT) && levels.is_multiple_of(UNIT));
        if self.sums.len() < sums / ROW_UNIT {
            self.sums.resize(sums / ROW_UNIT, Line([0.0; ROW_UNIT]));
        }
        if self.levels.len() < levels / UNIT {
            self.levels.resize(levels / UNIT, Line([0; UNIT]));
        }
        // SAFETY: a `Line` is 64 bytes, all of them values: `Line<[T; N]>` has no padding, so the
        // lines are that many values in a row.
        unsafe {
            (
                slice::from_raw_parts_mut(self.sums.as_mut_ptr().cast(), sums),
                slice::from_raw_parts_mut(self.levels.as_mut_ptr().cast(), levels),
            )
        }
    }
}

impl Int8Task<'_> {
    /// Runs the task; `ops` are those of `isa`.
    pub(super) fn run(self, isa: Isa) {
        let Self {
            ops,
            stage,
            x,
            task,
            ..
        } = self;
        let vectors = task.vectors.clone();
        let several = ops.several.filter(|several| {
            let lookup = stage.lookup();
            ((several.least)(lookup)..=(several.most)(lookup)).contains(&vectors.len())
        });
        // Parts of one size, as far as may be.
        let size = several.map_or(vectors.len(), |several| {
            let parts = vectors.len().div_ceil(several.at_once);
            vectors.len().div_ceil(parts)
        });
        for first in vectors.clone().step_by(size) {
            let task = &Task {
                vectors: first..vectors.end.min(first + size),
                ..task.clone()
            };
            self.output.ask(stage.layout(), task);
            match several {
                Some(several) if task.vectors.len() >= (several.least)(stage.lookup()) => {
                    let rows = task.rows().len().next_multiple_of(several.rows);
                    let (sums, _) = self.scratch.room(task.vectors.len() * rows, 0);
                    // SAFETY: this is the operation of an instruction set that this processor has.
                    unsafe { (several.products)(stage, x, task, sums, self.output) };
                }
                _ => isa.dispatch(Finish {
                    stage,
                    task,
                    sums: by_groups(ops, stage, x, task, self.scratch),
                    output: self.output,
                }),
            }
        }
    }
}

/// The sums of a task, scaled: from codes, or from levels that are decoded for all vectors.
fn by_groups<'a>(
    ops: Ops,
    stage: &WindowStage<'_>,
    x: &Activations,
    task: &Task,
    scratch: &'a mut Scratch,
) -> &'a [f32] {
    let (rows, vectors) = (task.rows().len(), task.vectors.clone());
    let few = (ops.few)(stage.lookup());
    let direct = vectors.len() <= few;
    let together = if direct { few } else { ops.together };
    let room = if direct { 0 } else { rows * GROUP };
    let (sums, levels) = scratch.take(vectors.len() * rows, room);
    let mut scales = Line([0.0; TILE_ROWS]);
    let scales = &mut scales.0[..rows];
    for GroupTile {
        group,
        tile,
        scales: codes,
    } in stage.tiles(task.tile_row)
    {
        // SAFETY: these are the operations of an instruction set that this processor has.
        unsafe { (ops.scales)(&codes[task.rows()], scales) };
        let levels: &[u8] = if direct {
            &[]
        } else {
            let levels = &mut levels[..task.units.len() * tile.blocks() * UNIT];
            // SAFETY: as above.
            unsafe { (ops.decode)(&tile, task.units.clone(), levels) };
            levels
        };
        let chunks = vectors.clone().step_by(together);
        for (first, sums) in chunks.zip(sums.chunks_mut(together * rows)) {
            let by = Factors::new(x, group, first..first + sums.len() / rows, scales);
            if direct {
                // SAFETY: as above.
                unsafe { (ops.dot)(&tile, task.units.clone(), &by, sums) };
                continue;
            }
            let product = Product {
                lookup: stage.lookup(),
                levels,
                units: task.units.len(),
                blocks: tile.blocks(),
                by,
            };
            // SAFETY: as above.
            unsafe { (ops.multiply)(&product, sums) };
        }
    }
    if !direct {
        // SAFETY: as above.
        unsafe { (ops.release)() };
    }
    sums
}

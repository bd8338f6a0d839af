//! Products of a stage with f32 vectors: the path without rounding of activations.

use lagar_codec::{BLOCK_COLS, GROUP, ROW_UNIT, TILE_ROWS};

use super::int8::Scratch;
use super::stage::{GroupTile, WindowStage};
use super::tasks::{Finish, Output, Task};
use super::tile::{Ops, UNIT};
use crate::simd::{Kernel, Simd};

/// Vectors whose products are summed at a time.
const TOKENS: usize = 8;

/// The product of one task's rows with its vectors.
pub(super) struct Float32Task<'a> {
    pub(super) ops: Ops,
    pub(super) stage: &'a WindowStage<'a>,
    /// `n × padded_cols`.
    pub(super) x: &'a [f32],
    pub(super) task: &'a Task,
    pub(super) output: Output<'a>,
    pub(super) scratch: &'a mut Scratch,
}

impl Kernel for Float32Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            ops,
            stage,
            x,
            task,
            ..
        } = self;
        let (rows, vectors) = (task.units.len() * ROW_UNIT, task.vectors.clone());
        let width = stage.layout().padded_cols();
        let (sums, levels) = self.scratch.take(vectors.len() * rows, rows * GROUP);
        let mut scales = [0.0; TILE_ROWS];
        let scales = &mut scales[..rows];
        let offset = (ops.offset)(stage.lookup());
        let mut columns = [[0; ROW_UNIT]; GROUP];
        for GroupTile {
            group,
            tile,
            scales: codes,
        } in stage.tiles(task.tile_row)
        {
            let group = stage.layout().group(group);
            let levels = &mut levels[..task.units.len() * tile.blocks() * UNIT];
            // SAFETY: these are the operations of the instruction set of `S`, which this processor
            // has.
            unsafe {
                (ops.scales)(&codes[task.rows()], scales);
                (ops.decode)(&tile, task.units.clone(), levels);
            }
            let columns = &mut columns[..group.cols];
            let units = levels.chunks_exact(tile.blocks() * UNIT);
            for (u, (levels, scales)) in units.zip(scales.as_chunks().0).enumerate() {
                by_column(levels, offset, columns);
                let scales = s.load(scales);
                let mut v = vectors.start;
                while v < vectors.end {
                    let x = &x[v * width + group.first..];
                    let sums = &mut sums[(v - vectors.start) * rows + u * ROW_UNIT..];
                    v += if vectors.end - v >= TOKENS {
                        accumulate::<S, TOKENS>(s, columns, scales, x, width, sums, rows)
                    } else {
                        accumulate::<S, 1>(s, columns, scales, x, width, sums, rows)
                    };
                }
            }
        }
        let finish = Finish {
            stage,
            task,
            sums,
            output: self.output,
        };
        finish.run(s);
    }
}

/// Turns the decoded levels of a unit (blocks of 16 rows × 4 columns) into columns of 16 rows.
#[inline(always)]
fn by_column(levels: &[u8], offset: u8, columns: &mut [[i8; ROW_UNIT]]) {
    let blocks = levels.as_chunks::<UNIT>().0.iter();
    for (levels, columns) in blocks.zip(columns.as_chunks_mut::<BLOCK_COLS>().0) {
        for (j, column) in columns.iter_mut().enumerate() {
            for (r, level) in column.iter_mut().enumerate() {
                *level = levels[r * BLOCK_COLS + j].wrapping_sub(offset) as i8;
            }
        }
    }
}

/// For `T` vectors, `p = fma(level, x, p)` over the columns from 0, then `sums = fma(p, scales, sums)`.
/// Vector `t` begins at `x[t · width]`, its sums at `sums[t · rows]`. Returns `T`.
#[inline(always)]
fn accumulate<S: Simd, const T: usize>(
    s: S,
    columns: &[[i8; ROW_UNIT]],
    scales: S::F32,
    x: &[f32],
    width: usize,
    sums: &mut [f32],
    rows: usize,
) -> usize {
    let mut vectors = [&x[..0]; T];
    for (t, vector) in vectors.iter_mut().enumerate() {
        *vector = &x[t * width..][..columns.len()];
    }
    let mut products = [s.splat(0.0); T];
    for (c, levels) in columns.iter().enumerate() {
        let levels = s.load_i8(levels);
        for (product, x) in products.iter_mut().zip(vectors) {
            *product = s.fma(levels, s.splat(x[c]), *product);
        }
    }
    for (t, product) in products.into_iter().enumerate() {
        let sums = sums[t * rows..].first_chunk_mut().expect("16 rows");
        s.store(s.fma(product, scales, s.load(sums)), sums);
    }
    T
}

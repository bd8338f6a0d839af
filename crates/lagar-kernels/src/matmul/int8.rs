//! Products of a stage with activations rounded to bytes.
//!
//! A task is a range of rows inside one tile row: for each column group it takes the exact integer dot
//! products of its rows ([`super::tile::Ops`]) and adds them, scaled, to one f32 sum per row and vector,
//! group after group. For one vector, and for a few where the instruction set has registers enough, the codes are multiplied
//! as they are read; for more, a tile is decoded once into a buffer that stays in the cache and multiplied with a few vectors at a time.

use std::ops::Range;
use std::slice;

use lagar_codec::{Activations, GROUP, ROW_UNIT, TILE_ROWS};

use super::stage::WindowStage;
use super::tasks::{Output, Task, finish};
use super::tile::{Ops, Product, TOKENS, UNIT, Vectors};
use crate::simd::{Kernel, Simd};

/// The product of one task's rows with vectors `vectors`.
pub(super) struct Int8Task<'a> {
    pub(super) ops: Ops,
    pub(super) stage: &'a WindowStage<'a>,
    pub(super) x: &'a Activations,
    pub(super) task: Task,
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
        assert!(sums.is_multiple_of(ROW_UNIT) && levels.is_multiple_of(UNIT));
        self.sums.clear();
        self.sums.resize(sums / ROW_UNIT, Line([0.0; ROW_UNIT]));
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

impl Kernel for Int8Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            ops,
            stage,
            x,
            ref task,
            ..
        } = self;
        let (rows, vectors) = (task.units.len() * ROW_UNIT, task.vectors.clone());
        let few = ops.few.filter(|_| vectors.len() <= TOKENS);
        let decoded = vectors.len() > 1 && few.is_none();
        let room = if decoded { rows * GROUP } else { 0 };
        let (sums, levels) = self.scratch.take(vectors.len() * rows, room);
        let mut scales = Line([0.0; TILE_ROWS]);
        let scales = &mut scales.0[..rows];
        let mut dots = Line([0.0; TOKENS * TILE_ROWS]);
        let dots = &mut dots.0;
        let groups = x.groups();
        for g in 0..groups {
            let Some(tile) = stage.tile(task.tile_row, g) else {
                continue;
            };
            let group = stage.layout().group(g);
            let codes = &stage.scales(task.tile_row, g)[task.rows()];
            // SAFETY: these are the operations of the instruction set of `S`, which this processor
            // has.
            unsafe { (ops.scales)(codes, scales) };
            let scale = |v: usize| x.scale[v * groups + g];
            let sum = |v: usize| x.sum[v * groups + g];
            if vectors.len() == 1 {
                let v = vectors.start;
                let x = &x.q[v * x.padded_width..][group.range()];
                // SAFETY: as above.
                unsafe { (ops.dot)(&tile, task.units.clone(), x, sum(v), &mut dots[..rows]) };
                accumulate(s, &dots[..rows], scales, scale(v), sums);
                continue;
            }
            let mut x_sums = [0; TOKENS];
            if let Some(few) = few {
                let dots = &mut dots[..vectors.len() * rows];
                let part = part(x, g, vectors.clone(), &mut x_sums);
                // SAFETY: as above.
                unsafe { few(&tile, task.units.clone(), &part, dots) };
                accumulate_all(s, dots, scales, |t| scale(vectors.start + t), sums);
                continue;
            }
            let levels = &mut levels[..task.units.len() * tile.blocks() * UNIT];
            // SAFETY: as above.
            unsafe { (ops.decode)(&tile, task.units.clone(), levels) };
            let chunks = vectors.clone().step_by(TOKENS);
            for (first, sums) in chunks.zip(sums.chunks_mut(TOKENS * rows)) {
                let tokens = sums.len() / rows;
                let product = Product {
                    lookup: stage.lookup(),
                    levels,
                    units: task.units.len(),
                    blocks: tile.blocks(),
                    vectors: part(x, g, first..first + tokens, &mut x_sums),
                };
                let dots = &mut dots[..tokens * rows];
                // SAFETY: as above.
                unsafe { (ops.multiply)(&product, dots) };
                accumulate_all(s, dots, scales, |t| scale(first + t), sums);
            }
        }
        finish(stage, task, sums, &self.output);
    }
}

/// The part of some vectors in group `g`; `sums` is room for their sums.
fn part<'a>(
    x: &'a Activations,
    g: usize,
    vectors: Range<usize>,
    sums: &'a mut [i32; TOKENS],
) -> Vectors<'a> {
    for (sum, v) in sums.iter_mut().zip(vectors.clone()) {
        *sum = x.sum[v * x.groups() + g];
    }
    Vectors {
        x: &x.q[vectors.start * x.padded_width + g * GROUP..],
        stride: x.padded_width,
        sums: &sums[..vectors.len()],
    }
}

/// [`accumulate`] for several vectors, one after the other in `dots` and `sums`; `x_scale(t)` is that of the `t`th.
#[inline(always)]
fn accumulate_all<S: Simd>(
    s: S,
    dots: &[f32],
    scales: &[f32],
    x_scale: impl Fn(usize) -> f32,
    sums: &mut [f32],
) {
    let rows = scales.len();
    let vectors = dots.chunks_exact(rows).zip(sums.chunks_exact_mut(rows));
    for (t, (dots, sums)) in vectors.enumerate() {
        accumulate(s, dots, scales, x_scale(t), sums);
    }
}

/// `sums = fma(dots, scales · x_scale, sums)`.
#[inline(always)]
fn accumulate<S: Simd>(s: S, dots: &[f32], scales: &[f32], x_scale: f32, sums: &mut [f32]) {
    let x_scale = s.splat(x_scale);
    let dots = dots.as_chunks().0.iter().zip(scales.as_chunks().0);
    for ((dots, scales), sums) in dots.zip(sums.as_chunks_mut().0) {
        let scale = s.mul(s.load(scales), x_scale);
        s.store(s.fma(s.load(dots), scale, s.load(sums)), sums);
    }
}

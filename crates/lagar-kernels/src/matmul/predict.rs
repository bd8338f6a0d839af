//! Rows of a pressed linear as it would be without its transform: the sum of its stages, taken back.
//!
//! A band of 16 rows is a unit of every tile, and its rows share the permutation. So it is computed with
//! one row per lane and one column per vector: levels come that way out of a tile, the butterflies of the
//! Hadamard transform need no shuffles, and a column goes to its place in one store. At the end the
//! band is written row by row.

use std::ops::Range;

use lagar_codec::{
    BLOCK_COLS, GROUP, ROW_UNIT, TILE_ROWS, Transform, hadamard_blocks, hadamard_norm,
};

use super::int8::Line;
use super::stage::WindowStage;
use super::tile::{Ops, UNIT};
use super::transform::signed;
use crate::Cpu;
use crate::simd::{Kernel, Simd};

/// One column of a band.
type Column = [f32; ROW_UNIT];

/// Buffers of [`Cpu::predict_rows`], kept from call to call. One thread uses one.
#[derive(Clone, Debug, Default)]
pub struct PredictScratch {
    band: Vec<f32>,
    norms: Vec<f32>,
    /// A band of the factors `u`.
    factors: Vec<Column>,
}

/// A low-rank stage, to be added to the stages of a linear.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// The factor of the linear's rows; its columns are the rank.
    pub u: &'a WindowStage<'a>,
    /// The other factor as [`Cpu::window_rows`] gives it: rank × padded columns of the linear.
    pub v: &'a [f32],
}

impl PredictScratch {
    /// The columns of a band, each in one cache line; and the factor of each transformed column: the norm
    /// of its Hadamard block with its sign.
    fn prepare(
        &mut self,
        t: &Transform,
        factors: &[LowRank<'_>],
    ) -> (&mut [Column], &[f32], &mut [Column]) {
        let ranks = factors.iter().map(|f| f.u.layout().padded_cols());
        self.factors.resize(ranks.sum(), [0.0; ROW_UNIT]);
        self.norms.clear();
        for block in hadamard_blocks(t.padded_width()) {
            let norm = hadamard_norm(block.len());
            let sources = &t.sources()[block.start.min(t.width())..block.end.min(t.width())];
            let norms = sources.iter().map(|&source| signed(norm, source));
            self.norms.extend(norms);
        }
        let room = t.width() * ROW_UNIT;
        let line = align_of::<Line<Column>>();
        if self.band.len() < room + line {
            self.band.resize(room + line, 0.0);
        }
        let skip = self.band.as_ptr().align_offset(line).min(line);
        let (columns, _) = self.band[skip..skip + room].as_chunks_mut();
        (columns, &self.norms, &mut self.factors)
    }
}

impl Cpu {
    /// Consecutive rows of `(Σ stages + Σ factors) · T` in the space of the input, as f32; `out` is
    /// `rows.len() × width`. Works on the calling thread: callers share out chunks of rows.
    ///
    /// The bits are those of [`Cpu::window_rows`] of each stage, added in order, then for each low-rank
    /// stage [`lagar_codec::reference::add_product`], then [`Cpu::transform_transpose`]: the same on every instruction set and however rows are cut into
    /// calls. (Where a value is NaN, which takes row scales that are not finite or overflow, it is NaN
    /// everywhere, with unspecified bits.)
    ///
    /// # Panics
    ///
    /// If there is no stage, the stages or the transform differ in shape, the rows are not the
    /// stages' or do not begin at a multiple of 16, or `out` has not the length above.
    pub fn predict_rows(
        &self,
        stages: &[WindowStage<'_>],
        factors: &[LowRank<'_>],
        t: &Transform,
        rows: Range<usize>,
        scratch: &mut PredictScratch,
        out: &mut [f32],
    ) {
        let layout = stages.first().expect("a stage").layout();
        for stage in stages {
            let columns = stage.layout().padded_cols();
            assert_eq!(columns, t.padded_width(), "columns of a stage");
            assert_eq!(stage.layout().rows(), layout.rows(), "rows of the stages");
        }
        for LowRank { u, v } in factors {
            assert_eq!(u.layout().rows(), layout.rows(), "rows of a factor");
            let rank = u.layout().padded_cols();
            assert_eq!(v.len(), rank * t.padded_width(), "rank × padded columns");
        }
        assert!(rows.start <= rows.end && rows.end <= layout.rows());
        assert!(rows.start.is_multiple_of(ROW_UNIT), "whole bands of rows");
        assert_eq!(out.len(), rows.len() * t.width(), "rows × width");
        let (band, norms, u) = scratch.prepare(t, factors);
        self.isa().dispatch(Predict {
            ops: Ops::of(self.isa()),
            stages,
            factors,
            u,
            sources: t.sources(),
            norms,
            first: rows.start,
            band,
            out,
        });
    }
}

/// The work of [`Cpu::predict_rows`].
struct Predict<'a> {
    ops: Ops,
    stages: &'a [WindowStage<'a>],
    factors: &'a [LowRank<'a>],
    /// Room for the columns of all factors.
    u: &'a mut [Column],
    /// The place of each transformed column: see [`Transform::sources`].
    sources: &'a [u32],
    /// The factor of each transformed column.
    norms: &'a [f32],
    /// The first row.
    first: usize,
    band: &'a mut [Column],
    /// Rows of `perm.len()` values.
    out: &'a mut [f32],
}

impl Kernel for Predict<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            ops,
            stages,
            factors,
            u,
            sources,
            norms,
            band,
            ..
        } = self;
        let (width, padded) = (sources.len(), stages[0].layout().padded_cols());
        let mut levels = Line([0; GROUP * ROW_UNIT]);
        let mut columns = Line([[0.0; ROW_UNIT]; GROUP]);
        let bands = self.out.chunks_mut(ROW_UNIT * width);
        for (row, out) in (self.first..).step_by(ROW_UNIT).zip(bands) {
            let mut rest = &mut *u;
            for factor in factors {
                let (u, after) = rest.split_at_mut(factor.u.layout().padded_cols());
                for (g, u) in u.chunks_mut(GROUP).enumerate() {
                    dequantize(s, ops, factor.u, row, g, false, &mut levels.0, u);
                }
                rest = after;
            }
            for (g, first) in (0..padded).step_by(GROUP).enumerate() {
                let columns = &mut columns.0[..(padded - first).min(GROUP)];
                for (i, stage) in stages.iter().enumerate() {
                    dequantize(s, ops, stage, row, g, i > 0, &mut levels.0, columns);
                }
                let mut rest = &*u;
                for factor in factors {
                    let (u, after) = rest.split_at(factor.u.layout().padded_cols());
                    add_product(s, u, &factor.v[first..], padded, columns);
                    rest = after;
                }
                for Range { start, end } in hadamard_blocks(columns.len()) {
                    let kept = (first + start).min(width)..(first + end).min(width);
                    let mut places = Places {
                        sources: &sources[kept.clone()],
                        norms: &norms[kept],
                        band,
                    };
                    transpose(s, &mut columns[start..end], &mut places);
                }
            }
            write(s, band, width, out);
        }
    }
}

/// Writes a stage's weights of the band from row `row` on in group `g`, or adds them if `add` is set.
#[inline(always)]
fn dequantize<S: Simd>(
    s: S,
    ops: Ops,
    stage: &WindowStage<'_>,
    row: usize,
    g: usize,
    add: bool,
    levels: &mut [u8; GROUP * ROW_UNIT],
    columns: &mut [Column],
) {
    let (tr, r) = (row / TILE_ROWS, row % TILE_ROWS);
    let Some(tile) = stage.tile(tr, g) else {
        let zero = s.splat(0.0);
        for column in columns {
            // Not the same as leaving it out where the sum is −0.
            let sum = if add {
                s.add(s.load(column), zero)
            } else {
                zero
            };
            s.store(sum, column);
        }
        return;
    };
    let levels = &mut levels[..columns.len() * ROW_UNIT];
    let mut scales = [0.0; ROW_UNIT];
    let unit = r / ROW_UNIT;
    // SAFETY: these are the operations of the instruction set of `S`, which this processor has.
    unsafe {
        (ops.scales)(&stage.scales(tr, g)[r..r + ROW_UNIT], &mut scales);
        (ops.decode)(&tile, unit..unit + 1, levels);
    }
    let (scales, row_scales) = (s.load(&scales), s.load_bf16(stage.row_scales(row)));
    let offset = (ops.offset)(stage.lookup());
    let blocks = levels.as_chunks::<UNIT>().0.iter();
    for (levels, columns) in blocks.zip(columns.as_chunks_mut::<BLOCK_COLS>().0) {
        let levels = s.load_i8_columns(levels, offset);
        for (level, column) in levels.into_iter().zip(columns) {
            let weight = s.mul(s.mul(level, scales), row_scales);
            let sum = if add {
                s.add(s.load(column), weight)
            } else {
                weight
            };
            s.store(sum, column);
        }
    }
}

/// Adds the product of a band of a factor, `u`, with columns of the other one: column `c` of row `k` is
/// `v[k · stride + c]`. Products are rounded before they are added.
#[inline(always)]
fn add_product<S: Simd>(s: S, u: &[Column], v: &[f32], stride: usize, columns: &mut [Column]) {
    let blocks = columns.as_chunks_mut::<BLOCK_COLS>().0;
    for (columns, c) in blocks.iter_mut().zip((0..).step_by(BLOCK_COLS)) {
        let mut sums = [s.splat(0.0); BLOCK_COLS];
        for (u, v) in u.iter().zip(v[c..].chunks(stride)) {
            let u = s.load(u);
            let v: &[f32; BLOCK_COLS] = v.first_chunk().expect("columns in blocks");
            for (sum, &v) in sums.iter_mut().zip(v) {
                *sum = s.add(*sum, s.mul(u, s.splat(v)));
            }
        }
        for (sum, column) in sums.into_iter().zip(columns) {
            s.store(s.add(s.load(column), sum), column);
        }
    }
}

/// Where the columns of a Hadamard block go.
struct Places<'a> {
    /// The place of each column in the band; columns beyond are padding.
    sources: &'a [u32],
    /// What each column is multiplied by.
    norms: &'a [f32],
    band: &'a mut [Column],
}

/// Transforms a Hadamard block of columns back and puts them in their places.
#[inline(always)]
fn transpose<S: Simd>(s: S, block: &mut [Column], places: &mut Places<'_>) {
    let mut distance = 1;
    while distance < block.len() {
        // The butterflies of a few distances are done in registers.
        distance *= match (block.len() / distance, S::REGISTERS) {
            (2, _) => butterflies::<S, 2, true>(s, block, distance, places),
            (4, _) => butterflies::<S, 4, true>(s, block, distance, places),
            (8, _) => butterflies::<S, 8, true>(s, block, distance, places),
            (16, 32..) => butterflies::<S, 16, true>(s, block, distance, places),
            (16, _) => butterflies::<S, 4, false>(s, block, distance, places),
            (_, 32..) => butterflies::<S, 16, false>(s, block, distance, places),
            _ => butterflies::<S, 8, false>(s, block, distance, places),
        };
    }
}

/// Butterflies at distances `distance`, `2 · distance`, …, `R / 2 · distance`; in place, or to where the
/// columns go if these are the last. Returns `R`.
#[inline(always)]
fn butterflies<S: Simd, const R: usize, const LAST: bool>(
    s: S,
    block: &mut [Column],
    distance: usize,
    places: &mut Places<'_>,
) -> usize {
    for first in (0..block.len()).step_by(R * distance) {
        for i in first..first + distance {
            let mut v = [s.splat(0.0); R];
            for (k, v) in v.iter_mut().enumerate() {
                *v = s.load(&block[i + k * distance]);
            }
            let mut step = 1;
            while step < R {
                for k in 0..R {
                    if k & step == 0 {
                        let (low, high) = (v[k], v[k + step]);
                        v[k] = s.add(low, high);
                        v[k + step] = s.sub(low, high);
                    }
                }
                step *= 2;
            }
            for (k, v) in v.into_iter().enumerate() {
                let column = i + k * distance;
                if !LAST {
                    s.store(v, &mut block[column]);
                } else if let Some(&source) = places.sources.get(column) {
                    let norm = s.splat(places.norms[column]);
                    let place = (source & Transform::COLUMN) as usize;
                    s.store(s.mul(v, norm), &mut places.band[place]);
                }
            }
        }
    }
    R
}

/// Writes the band's first rows, as many as `out` has, row by row.
#[inline(always)]
fn write<S: Simd>(s: S, band: &[Column], width: usize, out: &mut [f32]) {
    // So that the cache has what it needs of the band and of a few rows, however far they are apart.
    const COLUMNS: usize = 64;
    if out.len() < ROW_UNIT * width {
        return write_part(s, band, 0..width, width, out);
    }
    // Stores of whole cache lines, if rows are that long.
    let head = out.as_ptr().align_offset(align_of::<Line<()>>()).min(width);
    let tail = width - (width - head) % ROW_UNIT;
    write_part(s, band, 0..head, width, out);
    let columns = band[head..tail].chunks(COLUMNS);
    for (columns, first) in columns.zip((head..).step_by(COLUMNS)) {
        s.store_rows(columns, &mut out[first..], width);
    }
    write_part(s, band, tail..width, width, out);
}

/// Writes some columns of as many rows as `out` has, through a buffer.
#[inline(always)]
fn write_part<S: Simd>(s: S, band: &[Column], part: Range<usize>, width: usize, out: &mut [f32]) {
    for first in part.clone().step_by(ROW_UNIT) {
        let count = (part.end - first).min(ROW_UNIT);
        let mut columns = [[0.0; ROW_UNIT]; ROW_UNIT];
        columns[..count].copy_from_slice(&band[first..first + count]);
        let mut rows = [0.0; ROW_UNIT * ROW_UNIT];
        s.store_rows(&columns, &mut rows, ROW_UNIT);
        for (row, out) in rows.chunks(ROW_UNIT).zip(out.chunks_exact_mut(width)) {
            out[first..first + count].copy_from_slice(&row[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use lagar_codec::reference::add_product as add_product_defined;

    use super::super::tests::{KINDS, Owned, Random, cpus, same};
    use super::*;

    /// Stages of one shape with any tables and depths, and a transform of their columns.
    fn linear(
        random: &mut Random,
        rows: usize,
        width: usize,
        depths: &[u8],
    ) -> (Vec<Owned>, Transform) {
        let stages = depths
            .iter()
            .map(|&depth| {
                let kind = random.below(KINDS);
                let table = random.table(depth, kind);
                Owned::new(random, rows, width, table)
            })
            .collect();
        let transform = random.transform(width);
        (stages, transform)
    }

    /// The definition: rows of each stage, added in order, then products, then transformed back.
    fn expected(
        cpu: &Cpu,
        stages: &[WindowStage<'_>],
        factors: &[LowRank<'_>],
        t: &Transform,
    ) -> Vec<f32> {
        let rows = stages[0].layout().rows();
        let all: Vec<u32> = (0..rows as u32).collect();
        let mut sum = vec![0.0; rows * t.padded_width()];
        cpu.window_rows(&stages[0], &all, &mut sum);
        for stage in &stages[1..] {
            let mut term = vec![0.0; sum.len()];
            cpu.window_rows(stage, &all, &mut term);
            sum.iter_mut()
                .zip(term)
                .for_each(|(sum, term)| *sum += term);
        }
        for LowRank { u, v } in factors {
            let rank = u.layout().padded_cols();
            let mut dense = vec![0.0; rows * rank];
            cpu.window_rows(u, &all, &mut dense);
            let width = t.padded_width();
            let mut again = sum.clone();
            cpu.add_product(&dense, v, rank, width, &mut again);
            add_product_defined(&dense, v, rank, width, &mut sum);
            same(&again, &sum, "rows of a product");
        }
        let mut out = vec![0.0; rows * t.width()];
        for (sum, out) in sum.chunks(t.padded_width()).zip(out.chunks_mut(t.width())) {
            t.apply_transpose(sum, out);
        }
        out
    }

    /// Predicts all rows, `bands` times 16 at a time, on every instruction set.
    fn check(random: &mut Random, rows: usize, width: usize, depths: &[u8], bands: usize) {
        check_factors(random, rows, width, depths, &[], bands);
    }

    /// The same with low-rank stages of these ranks.
    fn check_factors(
        random: &mut Random,
        rows: usize,
        width: usize,
        depths: &[u8],
        ranks: &[usize],
        bands: usize,
    ) {
        let (owned, t) = linear(random, rows, width, depths);
        let stages: Vec<_> = owned.iter().map(Owned::stage).collect();
        let u: Vec<_> = ranks
            .iter()
            .map(|&rank| {
                let table = random.table(8, 0);
                Owned::new(random, rows, rank, table)
            })
            .collect();
        let u: Vec<_> = u.iter().map(Owned::stage).collect();
        let v: Vec<_> = ranks
            .iter()
            .map(|rank| random.floats(rank * t.padded_width()))
            .collect();
        let factors: Vec<_> = u.iter().zip(&v).map(|(u, v)| LowRank { u, v }).collect();
        for cpu in cpus(1) {
            let expected = expected(&cpu, &stages, &factors, &t);
            let what = format!("{rows} × {width}, depths {depths:?} on {}", cpu.isa());
            let mut scratch = PredictScratch::default();
            let mut found = vec![f32::NAN; rows * width];
            let step = bands * ROW_UNIT;
            for first in (0..rows).step_by(step) {
                let range = first..rows.min(first + step);
                let out = &mut found[range.start * width..range.end * width];
                cpu.predict_rows(&stages, &factors, &t, range, &mut scratch, out);
            }
            same(&found, &expected, &what);
        }
    }

    #[test]
    fn every_depth_is_predicted_as_its_rows_are() {
        let mut random = Random(1);
        for depth in 1..=8 {
            for (rows, width) in [(300, 172), (270, 300), (16, 128), (5, 3)] {
                check(&mut random, rows, width, &[depth], 2);
                check(&mut random, rows, width, &[depth, depth % 8 + 1], 40);
            }
        }
    }

    #[test]
    fn no_rows_give_nothing() {
        let mut random = Random(2);
        let (owned, t) = linear(&mut random, 20, 20, &[2]);
        let stages = [owned[0].stage()];
        for cpu in cpus(1) {
            let mut scratch = PredictScratch::default();
            cpu.predict_rows(&stages, &[], &t, 16..16, &mut scratch, &mut []);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_shape_is_predicted_as_its_rows_are(
            seed: u64,
            rows in 1usize..600,
            width in prop_oneof![1usize..200, Just(4), Just(64), Just(172), 200usize..700],
            depths in prop::collection::vec(1u8..=8, 1..4),
            bands in 1usize..20,
        ) {
            check(&mut Random(seed), rows, width, &depths, bands);
        }

        #[test]
        fn low_rank_stages_are_added_before_the_transform(
            seed: u64,
            rows in 1usize..300,
            width in 1usize..300,
            ranks in prop::collection::vec((1usize..14).prop_map(|r| 16 * r), 1..3),
            bands in 1usize..20,
        ) {
            check_factors(&mut Random(seed), rows, width, &[2, 1], &ranks, bands);
        }
    }
}

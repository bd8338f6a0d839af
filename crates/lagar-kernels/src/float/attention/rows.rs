//! Attention of a few rows over the keys and values of one head.
//!
//! Positions are taken [`CHUNK`] blocks at a time, by all rows: what one row gets from memory is in the first cache
//! for the others.

use std::ops::Range;

use super::Lanes;
use crate::float::kv::{Head, Stored, bytes, groups, value_units};
use crate::float::rows::Softmax;
use crate::matmul::Hadamard;
use crate::simd::{Kernel, LANES, Simd};

/// Blocks of 16 positions that are taken at a time.
const CHUNK: usize = 4;
/// Groups with a scale of their own among the numbers that are summed at once: 64 at most, of 32 at least.
const GROUPS: usize = 2;
/// Weights of a row in a chunk. Its length makes those of several rows at one position lie in different banks of the
/// first cache.
type Taken = [f32; CHUNK * LANES + 2];
/// Bytes of a cache line.
const LINE: usize = 64;
/// How many bytes ahead keys and values are asked for.
const AHEAD: usize = 4096;

/// Rows (pairs of a token and a head) over a cache whose units are `V` vectors.
pub(super) struct Rows<'a, 'b, U, const V: usize> {
    pub(super) head: &'b Head<U>,
    /// Of each row, head_dim numbers.
    pub(super) queries: &'b [&'a [f32]],
    /// Visible positions, one at least.
    pub(super) ranges: &'b [Range<usize>],
    /// Of each row, head_dim numbers.
    pub(super) results: &'b mut [&'a mut [f32]],
    pub(super) scale: f32,
    /// Memory to work in, of any length and content.
    pub(super) scratch: &'b mut Vec<Lanes>,
}

/// How many of `rows` rows are computed together, with a few sums each: as many as there are registers for.
#[inline(always)]
fn set<S: Simd, const SUMS: usize>(rows: usize) -> usize {
    let most = if S::REGISTERS >= 32 { 8 } else { 4 / SUMS };
    match rows {
        8.. if most == 8 => 8,
        4.. if most >= 4 => 4,
        _ => rows.min(most),
    }
}

/// Calls a method for each set of rows, with their number as a constant and the first of them.
macro_rules! by_sets {
    ($s:ident, $rows:expr, $sums:expr, $pass:ident.$method:ident($($argument:expr),*)) => {
        let mut first = 0;
        while first < $rows {
            let count = set::<S, $sums>($rows - first);
            match count {
                8 if S::REGISTERS >= 32 => $pass.$method::<S, 8>($s, first, $($argument),*),
                4 => $pass.$method::<S, 4>($s, first, $($argument),*),
                3 => $pass.$method::<S, 3>($s, first, $($argument),*),
                2 => $pass.$method::<S, 2>($s, first, $($argument),*),
                _ => $pass.$method::<S, 1>($s, first, $($argument),*),
            }
            first += count;
        }
    };
}

impl<U: Stored<V>, const V: usize> Kernel for Rows<'_, '_, U, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            head,
            queries,
            ranges,
            results,
            scale,
            scratch,
        } = self;
        let (rows, head_dim) = (queries.len(), queries[0].len());
        let start = ranges.iter().map(|r| r.start).min().unwrap_or(0) / LANES;
        let end = ranges
            .iter()
            .map(|r| r.end)
            .max()
            .unwrap_or(0)
            .div_ceil(LANES);
        let pass = Pass::<U, V> {
            head,
            ranges,
            scale,
            head_dim,
            start,
            end,
        };
        let (width, groups) = (end - start, groups::<U, V>(head_dim));
        let lengths = [
            rows * width,
            (rows * pass.numbers()).div_ceil(LANES),
            (rows * groups.max(1) * size_of::<Taken>()).div_ceil(size_of::<Lanes>()),
            rows * pass.units() * V,
        ];
        scratch.resize(scratch.len().max(lengths.iter().sum()), [0.0; LANES]);
        let (weights, rest) = scratch.split_at_mut(lengths[0]);
        let (turned, rest) = rest.split_at_mut(lengths[1]);
        let (taken, rest) = rest.split_at_mut(lengths[2]);
        let taken = taken.as_flattened_mut().as_chunks_mut().0;
        let sums = &mut rest[..lengths[3]];

        let turned = turned.as_flattened_mut();
        pass.turn(s, queries, sums.as_flattened_mut(), turned);
        for first in (start..end).step_by(CHUNK) {
            let blocks = first..end.min(first + CHUNK);
            by_sets!(s, rows, 1, pass.scores(&blocks, turned, weights));
        }
        for (row, range) in weights.chunks_exact_mut(width).zip(ranges) {
            // Lanes count from a multiple of 16 that only the visible positions decide.
            let (row, origin) = (row.as_flattened_mut(), start * LANES);
            let aligned = range.start / LANES * LANES;
            row[aligned - origin..range.start - origin].fill(f32::NEG_INFINITY);
            let row = &mut row[aligned - origin..range.end - origin];
            Softmax { row }.run(s);
        }
        sums.fill([0.0; LANES]);
        for first in (start..end).step_by(CHUNK) {
            let blocks = first..end.min(first + CHUNK);
            pass.take_weights(s, &blocks, weights, taken);
            by_sets!(s, rows, V, pass.values(&blocks, taken, sums));
        }
        for (sums, result) in sums.chunks_exact(pass.units() * V).zip(results) {
            result.copy_from_slice(&sums.as_flattened()[..head_dim]);
            if U::GROUP.is_some() {
                Hadamard(result).run(s);
            }
        }
    }
}

/// What the passes over keys and over values share.
struct Pass<'b, U, const V: usize> {
    head: &'b Head<U>,
    /// Visible positions of each row.
    ranges: &'b [Range<usize>],
    scale: f32,
    head_dim: usize,
    /// Blocks of 16 positions that some row sees.
    start: usize,
    end: usize,
}

impl<U: Stored<V>, const V: usize> Pass<'_, U, V> {
    /// Numbers of a query, padded to whole units of a key.
    fn numbers(&self) -> usize {
        self.head_dim.next_multiple_of(V)
    }

    /// Units of a value.
    fn units(&self) -> usize {
        value_units::<V>(self.head_dim)
    }

    /// Vectors of a row's weights.
    fn width(&self) -> usize {
        self.end - self.start
    }

    /// Queries as [`Self::scores`] reads them: of each set of rows number by number, each of all rows. They are rotated if
    /// keys are.
    #[inline(always)]
    fn turn<S: Simd>(&self, s: S, queries: &[&[f32]], rotated: &mut [f32], turned: &mut [f32]) {
        let (numbers, rotated) = (self.numbers(), &mut rotated[..self.head_dim]);
        turned.fill(0.0);
        let mut first = 0;
        while first < queries.len() {
            let count = set::<S, 1>(queries.len() - first);
            let turned = &mut turned[first * numbers..];
            for (row, query) in queries[first..first + count].iter().enumerate() {
                rotated.copy_from_slice(query);
                if U::GROUP.is_some() {
                    Hadamard(rotated).run(s);
                }
                for (to, x) in turned.chunks_exact_mut(count).zip(&*rotated) {
                    to[row] = *x;
                }
            }
            first += count;
        }
    }

    /// Scaled products of `R` rows with the keys of some blocks, to the weights.
    #[inline(always)]
    fn scores<S: Simd, const R: usize>(
        &self,
        s: S,
        first: usize,
        blocks: &Range<usize>,
        turned: &[f32],
        weights: &mut [Lanes],
    ) {
        let numbers = self.numbers();
        let queries = &turned[first * numbers..][..R * numbers];
        let queries = queries.as_chunks::<R>().0.as_chunks::<V>().0;
        let weights = &mut weights[first * self.width()..];
        // The first set asks for what comes next.
        let ahead = if first == 0 { AHEAD } else { 0 };
        let mut block = blocks.start;
        while block < blocks.end {
            // Sums of several blocks, because each waits for the one before it.
            block += match (S::REGISTERS >= 32, R, blocks.end - block) {
                (true, ..=4, 4..) => self.products::<S, R, 4>(s, block, queries, ahead, weights),
                (true, _, 2..) | (false, 1 | 2, 2..) => {
                    self.products::<S, R, 2>(s, block, queries, ahead, weights)
                }
                _ => self.products::<S, R, 1>(s, block, queries, ahead, weights),
            };
        }
    }

    /// The products with `B` blocks of 16 keys; returns `B`.
    #[inline(always)]
    fn products<S: Simd, const R: usize, const B: usize>(
        &self,
        s: S,
        block: usize,
        queries: &[[[f32; R]; V]],
        ahead: usize,
        weights: &mut [Lanes],
    ) -> usize {
        let units = queries.len();
        let keys: [&[U]; B] =
            std::array::from_fn(|b| &self.head.keys[(block + b) * units..][..units]);
        let (groups, group) = match U::GROUP {
            Some(group) => (units.div_ceil(group / V), group / V),
            None => (1, units),
        };
        let mut totals = [[s.splat(0.0); B]; R];
        for index in 0..groups {
            let mut sums = [[s.splat(0.0); B]; R];
            let (mut unit, end) = (index * group, units.min((index + 1) * group));
            while unit < end {
                for keys in keys {
                    s.prefetch(&keys[unit], ahead);
                }
                let line = end.min(unit + (LINE / size_of::<U>()).max(1));
                for unit in unit..line {
                    for b in 0..B {
                        let vectors = U::load(s, &keys[b][unit]);
                        for (&key, query) in vectors.iter().zip(&queries[unit]) {
                            for (sums, &x) in sums.iter_mut().zip(query) {
                                sums[b] = s.fma(key, s.splat(x), sums[b]);
                            }
                        }
                    }
                }
                unit = line;
            }
            if U::GROUP.is_none() {
                totals = sums;
                break;
            }
            for b in 0..B {
                let scales = &self.head.key_scales[(block + b) * groups + index];
                let scales = s.load_bf16(bytes(scales));
                for (total, sum) in totals.iter_mut().zip(&sums) {
                    total[b] = s.fma(sum[b], scales, total[b]);
                }
            }
        }
        let scale = s.splat(self.scale);
        for (row, totals) in totals.iter().enumerate() {
            let to = &mut weights[row * self.width() + block - self.start..][..B];
            for (to, &total) in to.iter_mut().zip(totals) {
                s.store(s.mul(total, scale), to);
            }
        }
        B
    }

    /// The weights of some blocks, times the scales of each group of the values if they have some: groups × rows × [`CHUNK`].
    #[inline(always)]
    fn take_weights<S: Simd>(
        &self,
        s: S,
        blocks: &Range<usize>,
        weights: &[Lanes],
        taken: &mut [Taken],
    ) {
        let groups = groups::<U, V>(self.head_dim);
        let rows = self.ranges.len();
        for (place, taken) in taken.iter_mut().take(rows * groups.max(1)).enumerate() {
            let (group, row) = (place / rows, place % rows);
            let weights = &weights[row * self.width() + blocks.start - self.start..];
            for ((block, weights), taken) in
                blocks.clone().zip(weights).zip(taken.as_chunks_mut().0)
            {
                let mut weights = s.load(weights);
                if U::GROUP.is_some() {
                    let scales = &self.head.value_scales[block * groups + group];
                    weights = s.mul(weights, s.load_bf16(bytes(scales)));
                }
                s.store(weights, taken);
            }
        }
    }

    /// Adds the values of some blocks times the weights of `R` rows to their sums.
    #[inline(always)]
    fn values<S: Simd, const R: usize>(
        &self,
        s: S,
        first: usize,
        blocks: &Range<usize>,
        taken: &[Taken],
        sums: &mut [Lanes],
    ) {
        let chunk = blocks.start * LANES..blocks.end * LANES;
        let ranges: [Range<usize>; R] = std::array::from_fn(|row| {
            let range = &self.ranges[first + row];
            let start = range.start.clamp(chunk.start, chunk.end);
            start..range.end.clamp(start, chunk.end)
        });
        let start = ranges.iter().map(|r| r.start).max().unwrap_or(0);
        let end = ranges.iter().map(|r| r.end).min().unwrap_or(0);
        // Each row in ascending order: what it sees before all of them see something, that, and the rest.
        for (row, range) in (first..).zip(&ranges) {
            let alone = range.start..range.end.min(start);
            self.add::<S, 1>(s, row, &chunk, alone, taken, sums);
        }
        self.add::<S, R>(s, first, &chunk, start..end, taken, sums);
        for (row, range) in (first..).zip(&ranges) {
            let alone = end.max(start)..range.end;
            self.add::<S, 1>(s, row, &chunk, alone, taken, sums);
        }
    }

    /// Adds the values of some positions of a chunk times the weights of `R` rows to their sums.
    #[inline(always)]
    fn add<S: Simd, const R: usize>(
        &self,
        s: S,
        first: usize,
        chunk: &Range<usize>,
        positions: Range<usize>,
        taken: &[Taken],
        sums: &mut [Lanes],
    ) {
        if positions.is_empty() {
            return;
        }
        let (units, groups) = (self.units(), groups::<U, V>(self.head_dim).max(1));
        let sums = &mut sums.as_chunks_mut().0[first * units..];
        let mut unit = 0;
        while unit < units {
            let weights = std::array::from_fn(|group| {
                let group = U::GROUP.map_or(0, |size| unit * V * LANES / size + group);
                let rows = group.min(groups - 1) * self.ranges.len() + first..;
                taken[rows].first_chunk().expect("a set of rows")
            });
            let part = Part {
                chunk: chunk.start,
                positions: positions.clone(),
                unit,
                // The first set asks for what comes next.
                ahead: if first == 0 { AHEAD } else { 0 },
            };
            // As many sums at once as there are registers for them beside what is loaded.
            unit += match (S::REGISTERS >= 32, R, V, units - unit) {
                (true, ..=4, 1, 4..) | (false, 1, 1, 4..) => {
                    self.mix::<S, R, 4>(s, &part, weights, sums)
                }
                (true, ..=4, _, 2..)
                | (true, _, 1, 2..)
                | (false, 1, _, 2..)
                | (false, 2, 1, 2..) => self.mix::<S, R, 2>(s, &part, weights, sums),
                _ => self.mix::<S, R, 1>(s, &part, weights, sums),
            };
        }
    }

    /// The same for `P` units of the values; returns `P`. Sums are rows × units.
    #[inline(always)]
    fn mix<S: Simd, const R: usize, const P: usize>(
        &self,
        s: S,
        part: &Part,
        weights: [&[Taken; R]; GROUPS],
        sums: &mut [[Lanes; V]],
    ) -> usize {
        let units = self.units();
        let mut mixed = [[[s.splat(0.0); V]; P]; R];
        for (row, mixed) in mixed.iter_mut().enumerate() {
            let sums: &[_; P] = sums[row * units + part.unit..]
                .first_chunk()
                .expect("whole units");
            for (mixed, sums) in mixed.iter_mut().zip(sums) {
                for (mixed, sum) in mixed.iter_mut().zip(sums) {
                    *mixed = s.load(sum);
                }
            }
        }
        let seen = part.positions.start - part.chunk..part.positions.end - part.chunk;
        assert!(seen.end <= CHUNK * LANES);
        let values = &self.head.values[part.positions.start * units + part.unit..];
        for (place, position) in seen.enumerate() {
            let values: &[U; P] = values[place * units..].first_chunk().expect("whole units");
            for line in 0..(P * size_of::<U>()).div_ceil(LINE) {
                s.prefetch(values, part.ahead + line * LINE);
            }
            for (p, value) in values.iter().enumerate() {
                let vectors = U::load(s, value);
                let group = U::GROUP.map_or(0, |group| p * V * LANES / group % GROUPS);
                for (row, mixed) in weights[group].iter().zip(&mut mixed) {
                    let weight = s.splat(row[position]);
                    for (mixed, &vector) in mixed[p].iter_mut().zip(&vectors) {
                        *mixed = s.fma(weight, vector, *mixed);
                    }
                }
            }
        }
        for (row, mixed) in mixed.iter().enumerate() {
            let sums: &mut [_; P] = sums[row * units + part.unit..]
                .first_chunk_mut()
                .expect("whole units");
            for (mixed, sums) in mixed.iter().zip(sums) {
                for (&mixed, sum) in mixed.iter().zip(sums) {
                    s.store(mixed, sum);
                }
            }
        }
        P
    }
}

/// What of a chunk's values is added.
struct Part {
    /// The chunk's first position.
    chunk: usize,
    positions: Range<usize>,
    /// The first unit of a value.
    unit: usize,
    /// How many bytes ahead values are asked for.
    ahead: usize,
}

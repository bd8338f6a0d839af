//! Attention of a few rows over the keys and values of one head.

use std::ops::Range;

use crate::float::kv::{Head, Stored, bytes, groups, value_units};
use crate::float::rows::Softmax;
use crate::matmul::Hadamard;
use crate::simd::{Kernel, LANES, Simd};

/// `R` rows (pairs of a token and a head) over a cache whose units are `V` vectors.
pub(super) struct Rows<'a, 'b, U, const V: usize, const R: usize> {
    pub(super) head: &'b Head<U>,
    pub(super) queries: [&'a [f32]; R],
    /// Visible positions.
    pub(super) ranges: [Range<usize>; R],
    /// One for each row.
    pub(super) results: &'b mut [&'a mut [f32]],
    pub(super) scale: f32,
}

impl<U: Stored<V>, const V: usize, const R: usize> Kernel for Rows<'_, '_, U, V, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let results = std::mem::take(&mut self.results);
        let start = self.ranges.iter().map(|r| r.start).min().unwrap_or(0) / LANES;
        let end = self.ranges.iter().map(|r| r.end).max().unwrap_or(0);
        let blocks = start..end.div_ceil(LANES);
        let width = blocks.len() * LANES;
        let mut weights = vec![0f32; R * width];
        self.scores(s, blocks, &mut weights);
        let origin = start * LANES;
        for (row, range) in self.ranges.iter().enumerate() {
            // Lanes count from a multiple of 16 that only the visible positions decide.
            let row = &mut weights[row * width..][..width];
            let aligned = range.start / LANES * LANES;
            row[aligned - origin..range.start - origin].fill(f32::NEG_INFINITY);
            let row = &mut row[aligned - origin..range.end - origin];
            Softmax { row }.run(s);
        }
        // As many sums at once as there are registers for them beside what is loaded.
        match (S::REGISTERS >= 32, R, V) {
            (true, _, 1) => self.values::<S, R, 4>(s, origin, &weights, results),
            (true, _, _) => self.values::<S, R, 2>(s, origin, &weights, results),
            (false, 1, 1) => self.values::<S, 1, 4>(s, origin, &weights, results),
            (false, 1, _) => self.values::<S, 1, 2>(s, origin, &weights, results),
            (false, 3, _) => self.values::<S, 3, 1>(s, origin, &weights, results),
            (false, _, 1) => self.values::<S, 2, 2>(s, origin, &weights, results),
            (false, _, _) => self.values::<S, 2, 1>(s, origin, &weights, results),
        }
    }
}

impl<U: Stored<V>, const V: usize, const R: usize> Rows<'_, '_, U, V, R> {
    /// Scaled products of the queries and the keys of some blocks of 16 positions: rows × positions.
    #[inline(always)]
    fn scores<S: Simd>(&self, s: S, mut blocks: Range<usize>, scores: &mut [f32]) {
        let head_dim = self.queries[0].len();
        let width = blocks.len() * LANES;
        let mut queries = vec![[0.0; R]; head_dim.next_multiple_of(V)];
        let mut rotated = vec![0.0; head_dim];
        for (row, query) in self.queries.iter().enumerate() {
            rotated.copy_from_slice(query);
            if U::GROUP.is_some() {
                Hadamard(&mut rotated).run(s);
            }
            for (to, x) in queries.iter_mut().zip(&rotated) {
                to[row] = *x;
            }
        }
        let queries = queries.as_chunks::<V>().0;
        // Sums of several blocks, because each waits for the one before it.
        let first = blocks.start;
        while !blocks.is_empty() {
            let place = blocks.start - first;
            let scores = &mut scores[place * LANES..];
            blocks.start += match (S::REGISTERS >= 32, R, blocks.len()) {
                (true, 1 | 2, 4..) => {
                    self.products::<S, 4>(s, blocks.start, queries, width, scores)
                }
                (true, _, 2..) | (false, 1 | 2, 2..) => {
                    self.products::<S, 2>(s, blocks.start, queries, width, scores)
                }
                _ => self.products::<S, 1>(s, blocks.start, queries, width, scores),
            };
        }
    }

    /// The products with `B` blocks of 16 keys; returns `B`.
    #[inline(always)]
    fn products<S: Simd, const B: usize>(
        &self,
        s: S,
        block: usize,
        queries: &[[[f32; R]; V]],
        width: usize,
        scores: &mut [f32],
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
            for unit in index * group..units.min((index + 1) * group) {
                for b in 0..B {
                    let vectors = U::load(s, &keys[b][unit]);
                    for (&key, query) in vectors.iter().zip(&queries[unit]) {
                        for (sums, &x) in sums.iter_mut().zip(query) {
                            sums[b] = s.fma(key, s.splat(x), sums[b]);
                        }
                    }
                }
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
            let to = scores[row * width..].as_chunks_mut::<LANES>().0;
            for (to, &total) in to.iter_mut().zip(totals) {
                s.store(s.mul(total, scale), to);
            }
        }
        B
    }

    /// The sums of the values times the weights, `Q` rows (a divisor of `R`) and `P` units of a value at once. Weights are rows ×
    /// positions from `origin` on, the first of a block.
    #[inline(always)]
    fn values<S: Simd, const Q: usize, const P: usize>(
        &self,
        s: S,
        origin: usize,
        weights: &[f32],
        results: &mut [&mut [f32]],
    ) {
        let units = value_units::<V>(self.queries[0].len());
        let mut scaled = vec![
            0.0;
            if U::GROUP.is_some() {
                GROUPS * weights.len()
            } else {
                0
            }
        ];
        let mut unit = 0;
        while unit < units {
            let whole = units - unit >= P;
            let count = if whole { P } else { 1 };
            if let Some(group) = U::GROUP {
                let first = unit * V * LANES / group;
                let groups = (count * V * LANES).div_ceil(group);
                for (i, scaled) in scaled
                    .chunks_exact_mut(weights.len())
                    .take(groups)
                    .enumerate()
                {
                    self.scale_weights(s, origin, weights, first + i, scaled);
                }
            }
            for first in (0..R).step_by(Q) {
                // Positions from `origin` on, of each row, times the scales of each group.
                let width = weights.len() / R;
                let weights: [[&[f32]; Q]; GROUPS] = std::array::from_fn(|group| {
                    let weights = match U::GROUP {
                        Some(_) => &scaled[group * weights.len()..][..weights.len()],
                        None => weights,
                    };
                    std::array::from_fn(|q| &weights[(first + q) * width..][..width])
                });
                let results = &mut results[first..];
                if whole {
                    let sums = self.mix::<S, Q, P>(s, origin, weights, first, unit);
                    write(s, sums, results, unit);
                } else {
                    let sums = self.mix::<S, Q, 1>(s, origin, weights, first, unit);
                    write(s, sums, results, unit);
                }
            }
            unit += count;
        }
        if U::GROUP.is_some() {
            for result in results {
                Hadamard(result).run(s);
            }
        }
    }

    /// The weights of all rows times the scales of one group of the values.
    #[inline(always)]
    fn scale_weights<S: Simd>(
        &self,
        s: S,
        origin: usize,
        weights: &[f32],
        group: usize,
        scaled: &mut [f32],
    ) {
        let groups = groups::<U, V>(self.queries[0].len());
        let scales = &self.head.value_scales[origin / LANES * groups + group..];
        let width = weights.len() / R;
        for (weights, scaled) in weights
            .chunks_exact(width)
            .zip(scaled.chunks_exact_mut(width))
        {
            let blocks = weights.as_chunks().0.iter().zip(scaled.as_chunks_mut().0);
            for ((weights, scaled), scales) in blocks.zip(scales.iter().step_by(groups)) {
                let scales = s.load_bf16(bytes(scales));
                s.store(s.mul(s.load(weights), scales), scaled);
            }
        }
    }

    /// The sums of the rows from `first` on and the units from `unit` on.
    #[inline(always)]
    fn mix<S: Simd, const Q: usize, const P: usize>(
        &self,
        s: S,
        origin: usize,
        weights: [[&[f32]; Q]; GROUPS],
        first: usize,
        unit: usize,
    ) -> [[[S::F32; V]; P]; Q] {
        let ranges = &self.ranges[first..][..Q];
        let start = ranges.iter().map(|r| r.start).max().unwrap_or(0);
        let end = ranges.iter().map(|r| r.end).min().unwrap_or(0);
        let mut sums = [[[s.splat(0.0); V]; P]; Q];
        // Each row in ascending order: what it sees before all of them see something, that, and the rest.
        for (q, range) in ranges.iter().enumerate() {
            let alone = range.start..range.end.min(start);
            let weights = weights.map(|rows| [rows[q]]);
            [sums[q]] = self.add(s, origin, weights, alone, unit, [sums[q]]);
        }
        sums = self.add(s, origin, weights, start..end, unit, sums);
        for (q, range) in ranges.iter().enumerate() {
            let alone = end.max(start)..range.end;
            let weights = weights.map(|rows| [rows[q]]);
            [sums[q]] = self.add(s, origin, weights, alone, unit, [sums[q]]);
        }
        sums
    }

    /// Adds the values of some positions times the weights of `Q` rows to their sums.
    #[inline(always)]
    fn add<S: Simd, const Q: usize, const P: usize>(
        &self,
        s: S,
        origin: usize,
        weights: [[&[f32]; Q]; GROUPS],
        positions: Range<usize>,
        unit: usize,
        mut sums: [[[S::F32; V]; P]; Q],
    ) -> [[[S::F32; V]; P]; Q] {
        if positions.is_empty() {
            return sums;
        }
        let units = value_units::<V>(self.queries[0].len());
        let seen = positions.start - origin..positions.end - origin;
        let weights = weights.map(|rows| rows.map(|row| &row[seen.clone()]));
        let values = &self.head.values[positions.start * units..positions.end * units];
        for (position, values) in values.chunks_exact(units).enumerate() {
            for (p, value) in values[unit..][..P].iter().enumerate() {
                let vectors = U::load(s, value);
                let group = U::GROUP.map_or(0, |group| p * V * LANES / group % GROUPS);
                for (row, sums) in weights[group].iter().zip(&mut sums) {
                    let weight = s.splat(row[position]);
                    for (sum, &vector) in sums[p].iter_mut().zip(&vectors) {
                        *sum = s.fma(weight, vector, *sum);
                    }
                }
            }
        }
        sums
    }
}

/// Groups with a scale of their own among the numbers that are summed at once: 64 at most, of 32 at least.
const GROUPS: usize = 2;

/// Writes sums of units from `unit` on to as many results as there are.
#[inline(always)]
fn write<S: Simd, const V: usize, const P: usize>(
    s: S,
    sums: impl IntoIterator<Item = [[S::F32; V]; P]>,
    results: &mut [&mut [f32]],
    unit: usize,
) {
    for (sums, result) in sums.into_iter().zip(results) {
        let result = result[unit * V * LANES..].chunks_mut(LANES);
        for (&sum, result) in sums.as_flattened().iter().zip(result) {
            s.store_partial(sum, result);
        }
    }
}

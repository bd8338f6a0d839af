//! The sums of values times weights.

use std::ops::Range;

use super::Lanes;
use super::rows::{CHUNK, LINE, Pass, Taken, ahead};
use crate::float::kv::{Stored, bytes};
use crate::simd::{LANES, Simd};

/// Groups with a scale of their own among the numbers that are summed at once: 64 at most, of 32 at least.
const GROUPS: usize = 2;

impl<U: Stored<V>, const V: usize> Pass<'_, U, V> {
    /// The weights of some blocks, times the scales of each group of the values if they have some: groups × rows × [`CHUNK`].
    #[inline(always)]
    pub(super) fn take_weights<S: Simd>(
        &self,
        s: S,
        blocks: &Range<usize>,
        weights: &[Lanes],
        taken: &mut [Taken],
    ) {
        let (groups, rows) = (self.groups(), self.ranges.len());
        for (place, taken) in taken.iter_mut().enumerate() {
            let (group, row) = (place / rows, place % rows);
            let weights = &weights[row * self.width() + blocks.start - self.start..];
            for ((block, weights), taken) in blocks.clone().zip(weights).zip(taken) {
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
    pub(super) fn values<S: Simd, const R: usize>(
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
        let (units, groups) = (self.units(), self.groups());
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
                ahead: ahead(first),
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
                    let weight = s.splat(row.as_flattened()[position]);
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

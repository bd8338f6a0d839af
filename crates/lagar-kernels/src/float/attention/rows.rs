//! Attention of a few rows over the keys and values of one head.
//!
//! Positions are taken [`CHUNK`] blocks at a time, by all rows: what one row gets from memory is in the first cache
//! for the others.

use std::ops::Range;

use super::Lanes;
use crate::float::kv::{Head, Stored, groups, value_units};
use crate::float::rows::Softmax;
use crate::matmul::Hadamard;
use crate::simd::{Kernel, LANES, Simd};

/// Blocks of 16 positions that are taken at a time.
pub(super) const CHUNK: usize = 4;
/// Weights of a row in a chunk.
pub(super) type Taken = [Lanes; CHUNK];
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
/// How many bytes ahead keys and values are asked for.
const AHEAD: usize = 8192;

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
pub(super) fn set<S: Simd, const SUMS: usize>(rows: usize) -> usize {
    let most = if S::REGISTERS >= 32 { 8 } else { 4 / SUMS };
    match rows {
        8.. if most == 8 => 8,
        4.. if most >= 4 => 4,
        _ => rows.min(most),
    }
}

/// How many bytes ahead the set that begins with this row asks: the first one asks for all.
pub(super) fn ahead(first: usize) -> usize {
    if first == 0 { AHEAD } else { 0 }
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
        let last = ranges.iter().map(|r| r.end).max().unwrap_or(0);
        let end = last.div_ceil(LANES);
        let pass = Pass::<U, V> {
            head,
            ranges,
            scale,
            head_dim,
            start,
            end,
        };
        let width = pass.width();
        let lengths = [
            rows * width,
            (rows * pass.numbers()).div_ceil(LANES),
            rows * pass.groups() * CHUNK,
            rows * pass.units() * V,
        ];
        scratch.resize(scratch.len().max(lengths.iter().sum()), [0.0; LANES]);
        let (weights, rest) = scratch.split_at_mut(lengths[0]);
        let (turned, rest) = rest.split_at_mut(lengths[1]);
        let (taken, rest) = rest.split_at_mut(lengths[2]);
        let taken = taken.as_chunks_mut().0;
        let sums = &mut rest[..lengths[3]];

        let turned = turned.as_flattened_mut();
        pass.turn(s, queries, sums.as_flattened_mut(), turned);
        for blocks in pass.chunks() {
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
        for blocks in pass.chunks() {
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
pub(super) struct Pass<'b, U, const V: usize> {
    pub(super) head: &'b Head<U>,
    /// Visible positions of each row.
    pub(super) ranges: &'b [Range<usize>],
    pub(super) scale: f32,
    pub(super) head_dim: usize,
    /// Blocks of 16 positions that some row sees.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl<U: Stored<V>, const V: usize> Pass<'_, U, V> {
    /// Numbers of a query, padded to whole units of a key.
    pub(super) fn numbers(&self) -> usize {
        self.head_dim.next_multiple_of(V)
    }

    /// Units of a value.
    pub(super) fn units(&self) -> usize {
        value_units::<V>(self.head_dim)
    }

    /// Groups of a value that have weights of their own, scaled; one where values have no scales.
    pub(super) fn groups(&self) -> usize {
        groups::<U, V>(self.head_dim).max(1)
    }

    /// The blocks, [`CHUNK`] at a time.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let end = self.end;
        (self.start..end)
            .step_by(CHUNK)
            .map(move |first| first..end.min(first + CHUNK))
    }

    /// Vectors of a row's weights.
    pub(super) fn width(&self) -> usize {
        self.end - self.start
    }
}

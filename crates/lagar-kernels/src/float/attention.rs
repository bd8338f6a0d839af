//! Attention over a key-value cache.

use super::kv::{Head, KvCache, Number, Store};
use super::rows::Softmax;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

/// Rows (pairs of a token and a head) that share the loads of keys and values.
const ROWS: usize = 4;
/// Vectors of 16 numbers of the output that are summed at once.
const PARTS: usize = 4;

/// The arguments of [`Cpu::attention`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionArgs<'a> {
    /// The queries of the last `n` positions of the cache, n × heads × head_dim.
    pub query: &'a [f32],
    /// The number of tokens.
    pub n: usize,
    /// Heads of the query: a multiple of the cache's heads, which serve equal runs of them.
    pub heads: usize,
    /// Keys and values of all positions, those of the `n` tokens included.
    pub cache: &'a KvCache,
    /// Factor of the products of queries and keys, before the softmax.
    pub scale: f32,
    /// Whether a token sees only itself and the positions before it; else it sees all.
    pub causal: bool,
    /// With `causal`: how many positions a token sees at most, itself included.
    pub window: Option<usize>,
}

impl AttentionArgs<'_> {
    /// The positions that token `t` sees.
    fn visible(&self, t: usize) -> std::ops::Range<usize> {
        if !self.causal {
            return 0..self.cache.len();
        }
        let end = self.cache.len() - self.n + t + 1;
        end.saturating_sub(self.window.unwrap_or(end))..end
    }
}

impl Cpu {
    /// Softmax attention: for each token and head, the mean of the values weighted by
    /// softmax(scale · query · key) over the positions that the token sees; with grouped heads
    /// (Ainslie et al. 2023) where the query has more heads than the cache. `out` is
    /// n × heads × head_dim.
    ///
    /// Every sum runs over the dimensions or positions in ascending order, so a token's result
    /// does not depend on the tokens computed with it.
    ///
    /// # Panics
    /// If a length is wrong, the cache holds fewer than `n` positions, or `heads` is not a multiple of the
    /// cache's heads.
    pub fn attention(&self, args: &AttentionArgs<'_>, out: &mut [f32]) {
        let (n, heads, cache) = (args.n, args.heads, args.cache);
        let len = n * heads * cache.head_dim;
        assert_eq!(args.query.len(), len, "query is n x heads x head_dim");
        assert_eq!(out.len(), len, "out is n x heads x head_dim");
        assert!(cache.len() >= n, "the cache holds the tokens' positions");
        assert!(args.window != Some(0), "a token sees at least itself");
        if len == 0 {
            return;
        }
        assert_eq!(heads % cache.kv_heads, 0, "heads come in equal groups");
        let group = heads / cache.kv_heads;
        let out = Disjoint::new(out);
        // A task is a few rows of one cache head: tokens times the heads of its group.
        let tasks = (n * group).div_ceil(ROWS);
        self.pool().run(cache.kv_heads * tasks, &|task| {
            let (kv_head, first) = (task / tasks, task % tasks * ROWS);
            let rows = ROWS.min(n * group - first);
            let place = |row: usize| {
                let (token, head) = ((first + row) / group, (first + row) % group);
                (
                    token,
                    (token * heads + kv_head * group + head) * cache.head_dim,
                )
            };
            let mut queries = [&[] as &[f32]; ROWS];
            let mut ranges = [const { 0..0 }; ROWS];
            let mut results: [&mut [f32]; ROWS] = Default::default();
            for row in 0..rows {
                let (token, offset) = place(row);
                queries[row] = &args.query[offset..][..cache.head_dim];
                ranges[row] = args.visible(token);
                // SAFETY: every token and head is in one task.
                results[row] = unsafe { out.slice(offset..offset + cache.head_dim) };
            }
            // Rows that are absent repeat the first one and are not written.
            for row in rows..ROWS {
                (queries[row], ranges[row]) = (queries[0], ranges[0].clone());
            }
            let (scale, results) = (args.scale, &mut results[..rows]);
            match &cache.store {
                Store::F32(heads) => self.isa().dispatch(Rows {
                    head: &heads[kv_head],
                    queries,
                    ranges,
                    results,
                    scale,
                }),
                Store::F16(heads) => self.isa().dispatch(Rows {
                    head: &heads[kv_head],
                    queries,
                    ranges,
                    results,
                    scale,
                }),
            }
        });
    }
}

struct Rows<'a, 'b, T> {
    head: &'a Head<T>,
    queries: [&'a [f32]; ROWS],
    /// Visible positions.
    ranges: [std::ops::Range<usize>; ROWS],
    results: &'b mut [&'a mut [f32]],
    scale: f32,
}

impl<T: Number> Kernel for Rows<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let head_dim = self.queries[0].len();
        let start = self.ranges.iter().map(|r| r.start).min().unwrap_or(0) / LANES;
        let end = self.ranges.iter().map(|r| r.end).max().unwrap_or(0);
        let blocks = start..end.div_ceil(LANES);
        let width = blocks.len() * LANES;
        let mut scores = vec![0f32; ROWS * width];
        self.scores(s, blocks, &mut scores);
        let origin = start * LANES;
        for (row, range) in self.ranges.iter().take(self.results.len()).enumerate() {
            // Lanes count from a multiple of 16 that only the visible positions decide.
            let scores = &mut scores[row * width..][..width];
            let aligned = range.start / LANES * LANES;
            scores[aligned - origin..range.start - origin].fill(f32::NEG_INFINITY);
            let row = &mut scores[aligned - origin..range.end - origin];
            Softmax { row }.run(s);
        }
        let stride = head_dim.next_multiple_of(LANES);
        for first in (0..stride).step_by(PARTS * LANES) {
            for row in 0..self.results.len() {
                let range = self.ranges[row].clone();
                let weights = &scores[row * width..][range.start - origin..range.end - origin];
                let values = &self.head.values[range.start * stride..range.end * stride];
                let result = &mut self.results[row][first..head_dim.min(first + PARTS * LANES)];
                match (stride - first).div_ceil(LANES) {
                    1 => mix::<S, T, 1>(s, weights, values, stride, first, result),
                    2 => mix::<S, T, 2>(s, weights, values, stride, first, result),
                    3 => mix::<S, T, 3>(s, weights, values, stride, first, result),
                    _ => mix::<S, T, PARTS>(s, weights, values, stride, first, result),
                }
            }
        }
    }
}

impl<T: Number> Rows<'_, '_, T> {
    /// Scaled products of the queries and the keys of some blocks of 16 positions.
    #[inline(always)]
    fn scores<S: Simd>(&self, s: S, blocks: std::ops::Range<usize>, scores: &mut [f32]) {
        let head_dim = self.queries[0].len();
        let width = blocks.len() * LANES;
        let keys = self.head.keys.as_chunks::<LANES>().0;
        let scale = s.splat(self.scale);
        let [q0, q1, q2, q3] = self.queries;
        for (i, block) in blocks.enumerate() {
            let keys = &keys[block * head_dim..][..head_dim];
            let mut sums = [s.splat(0.0); ROWS];
            for ((((key, &q0), &q1), &q2), &q3) in keys.iter().zip(q0).zip(q1).zip(q2).zip(q3) {
                let key = T::load(s, key);
                sums[0] = s.fma(key, s.splat(q0), sums[0]);
                sums[1] = s.fma(key, s.splat(q1), sums[1]);
                sums[2] = s.fma(key, s.splat(q2), sums[2]);
                sums[3] = s.fma(key, s.splat(q3), sums[3]);
            }
            for (row, &sum) in sums.iter().enumerate() {
                let to = &mut scores[row * width + i * LANES..][..LANES];
                s.store_partial(s.mul(sum, scale), to);
            }
        }
    }
}

/// The sum of the values, `PARTS` vectors of them from `first` on, times the weights.
#[inline(always)]
fn mix<S: Simd, T: Number, const PARTS: usize>(
    s: S,
    weights: &[f32],
    values: &[T],
    stride: usize,
    first: usize,
    result: &mut [f32],
) {
    let mut sums = [s.splat(0.0); PARTS];
    for (&weight, value) in weights.iter().zip(values.chunks_exact(stride)) {
        let weight = s.splat(weight);
        let (parts, _) = value[first..][..PARTS * LANES].as_chunks::<LANES>();
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum = s.fma(weight, T::load(s, part), *sum);
        }
    }
    for (&sum, result) in sums.iter().zip(result.chunks_mut(LANES)) {
        s.store_partial(sum, result);
    }
}

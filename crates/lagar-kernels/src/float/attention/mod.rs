//! Attention over a key-value cache.

mod keys;
mod rows;
mod values;

use std::cell::RefCell;
use std::ops::Range;

use super::kv::{KvCache, in_format};
use crate::simd::LANES;
use crate::{Cpu, Disjoint};
use rows::Rows;

/// Rows (pairs of a token and a head) of a task at most: they share what is read of keys and values.
const ROWS: usize = 8;

type Lanes = [f32; LANES];

thread_local! {
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

/// One sequence in [`Cpu::attention`].
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
    /// The number of results, n × heads × head_dim.
    ///
    /// # Panics
    /// If a length is wrong.
    fn results(&self) -> usize {
        let len = self.n * self.heads * self.cache.head_dim;
        assert_eq!(self.query.len(), len, "query is n x heads x head_dim");
        assert!(
            self.cache.len() >= self.n,
            "the cache holds the tokens' positions"
        );
        assert!(self.window != Some(0), "a token sees at least itself");
        assert_eq!(
            self.heads % self.cache.kv_heads,
            0,
            "heads come in equal groups"
        );
        len
    }

    /// Rows of a cache head: tokens times the heads of its group.
    fn rows(&self) -> usize {
        self.n * (self.heads / self.cache.kv_heads)
    }

    /// The number of tasks, each up to `rows` rows of one cache head.
    fn tasks(&self, rows: usize) -> usize {
        self.cache.kv_heads * self.rows().div_ceil(rows)
    }

    /// The positions that token `t` sees.
    fn visible(&self, t: usize) -> Range<usize> {
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
    /// (Ainslie et al. 2023) where the query has more heads than the cache. `out` has the results of
    /// one sequence after the other, each n × heads × head_dim.
    ///
    /// Every sum runs over the dimensions or positions in ascending order, so a token's result
    /// does not depend on the tokens computed with it.
    ///
    /// # Panics
    /// If a length is wrong, a cache holds fewer than `n` positions, or `heads` is not a multiple of the
    /// cache's heads.
    pub fn attention(&self, sequences: &[AttentionArgs<'_>], out: &mut [f32]) {
        let len: usize = sequences.iter().map(AttentionArgs::results).sum();
        assert_eq!(out.len(), len, "out is n x heads x head_dim");
        let out = Disjoint::new(out);
        let tasks = |rows| sequences.iter().map(|args| args.tasks(rows)).sum();
        // Smaller tasks where threads would go without one, or wait for others' last.
        let rows = match tasks(ROWS) {
            tasks if tasks < 2 * self.threads() => ROWS / 2,
            _ => ROWS,
        };
        self.pool().run(tasks(rows), &|mut task| {
            let mut first = 0;
            for args in sequences {
                if task < args.tasks(rows) {
                    return self.attention_task(args, task, rows, first, out);
                }
                task -= args.tasks(rows);
                first += args.query.len();
            }
        });
    }

    /// A task of up to `rows` rows of one sequence, whose results begin at `start`.
    fn attention_task(
        &self,
        args: &AttentionArgs<'_>,
        task: usize,
        rows: usize,
        start: usize,
        out: Disjoint<'_, f32>,
    ) {
        let (heads, cache) = (args.heads, args.cache);
        let group = heads / cache.kv_heads;
        let tasks = args.rows().div_ceil(rows);
        let (kv_head, first) = (task / tasks, task % tasks * rows);
        let rows = rows.min(args.rows() - first);
        let mut queries: [&[f32]; ROWS] = Default::default();
        let mut ranges: [Range<usize>; ROWS] = Default::default();
        let mut results: [&mut [f32]; ROWS] = Default::default();
        for row in 0..rows {
            let (token, head) = ((first + row) / group, (first + row) % group);
            let offset = (token * heads + kv_head * group + head) * cache.head_dim;
            queries[row] = &args.query[offset..][..cache.head_dim];
            ranges[row] = args.visible(token);
            // SAFETY: every token and head is in one task.
            results[row] = unsafe { out.slice(start + offset..start + offset + cache.head_dim) };
        }
        SCRATCH.with_borrow_mut(|scratch| {
            in_format!(&cache.store, heads => self.isa().dispatch(Rows {
                head: &heads[kv_head],
                queries: &queries[..rows],
                ranges: &ranges[..rows],
                results: &mut results[..rows],
                scale: args.scale,
                scratch,
            }));
        });
    }
}

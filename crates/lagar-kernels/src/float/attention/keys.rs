//! The products of queries and keys.

use std::ops::Range;

use super::Lanes;
use super::rows::{LINE, Pass, ahead, set};
use crate::float::kv::{Stored, bytes};
use crate::matmul::Hadamard;
use crate::simd::{Kernel, Simd};

impl<U: Stored<V>, const V: usize> Pass<'_, U, V> {
    /// Queries as [`Self::scores`] reads them: of each set of rows number by number, each of all rows. They are rotated if
    /// keys are.
    #[inline(always)]
    pub(super) fn turn<S: Simd>(
        &self,
        s: S,
        queries: &[&[f32]],
        rotated: &mut [f32],
        turned: &mut [f32],
    ) {
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
    pub(super) fn scores<S: Simd, const R: usize>(
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
        let ahead = ahead(first);
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
}

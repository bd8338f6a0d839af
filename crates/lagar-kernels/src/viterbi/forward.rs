//! The forward pass: costs of all states, weight by weight.

use lagar_codec::BLOCK_COLS;
use lagar_codec::reference::RENORMALIZE;

use crate::simd::{Kernel, LANES, Simd};

/// States of the trellis.
pub(super) const STATES: usize = 256;

/// Vectors that hold the costs of all states.
const VECTORS: usize = STATES / LANES;

/// Masks that a tournament of the 16 vectors writes, at most: 8 + 4 + 2 + 1.
const VECTOR_MASKS: usize = VECTORS - 1;

/// Masks stored per weight at depth `k`: those of the vectors, and for `k > 4` one per halving of the
/// lanes, rounded up to whole 64-bit words.
pub(super) const fn masks_per_weight(k: usize) -> usize {
    if k <= 4 { 16 } else { 20 }
}

/// Where the masks of tournament round `round` begin. Rounds 0 to 3 are between vectors, with half as
/// many masks each; later ones between lanes, with one.
pub(super) const fn round_masks(round: usize) -> usize {
    if round <= 4 {
        16 - (16 >> round)
    } else {
        VECTOR_MASKS + (round - 4)
    }
}

/// Which lane of the tournament's result each lane of new costs starts from. The first index is the
/// vector's number `r >> (4 − K)`, for `K <= 4`.
const fn spread_indices<const K: usize>() -> [[u32; 8]; VECTORS] {
    let mut indices = [[0; 8]; VECTORS];
    let mut r = 0;
    while r < VECTORS {
        let mut lane = 0;
        while lane < 8 {
            indices[r][lane] = if K <= 4 {
                // State `16 lane + r`; its low 8 − K bits, without the lowest 4 − K.
                (((lane << K) | (r >> (4 - K))) & 15) as u32
            } else {
                (r & ((STATES >> K) - 1)) as u32
            };
            lane += 1;
        }
        r += 1;
    }
    indices
}

/// The forward pass over one block; returns the cheapest final state.
pub(super) struct Forward<'a, const K: usize> {
    pub(super) levels: &'a [f32; STATES],
    pub(super) start: u8,
    pub(super) targets: &'a [f32],
    pub(super) row_weights: &'a [f32],
    /// `masks_per_weight(K)` per target. A set bit says that the odd one of two won.
    pub(super) masks: &'a mut [u16],
}

impl<const K: usize> Forward<'_, K> {
    const SPREAD: [[u32; 8]; VECTORS] = spread_indices::<K>();
}

impl<const K: usize> Kernel for Forward<'_, K> {
    type Output = u8;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u8 {
        // State `w` at `[w & 15][w >> 4]`.
        let mut levels = [[0.0; LANES]; VECTORS];
        for w in 0..STATES {
            levels[w % VECTORS][w / VECTORS] = self.levels[w];
        }
        let mut initial = [[f32::INFINITY; LANES]; VECTORS];
        let start = usize::from(self.start);
        initial[start % VECTORS][start / VECTORS] = 0.0;
        let mut costs = [simd.splat(0.0); VECTORS];
        for r in 0..VECTORS {
            costs[r] = simd.load(&initial[r]);
        }

        let mut scaled = levels;
        let rows = self.targets.as_chunks::<BLOCK_COLS>().0;
        let rows = rows.iter().zip(self.row_weights);
        let row_masks = BLOCK_COLS * masks_per_weight(K);
        for (row, ((targets, &weight), masks)) in
            rows.zip(self.masks.chunks_exact_mut(row_masks)).enumerate()
        {
            let s = weight.sqrt();
            for r in 0..VECTORS {
                let level = simd.mul(simd.splat(s), simd.load(&levels[r]));
                simd.store(level, &mut scaled[r]);
            }
            for (&target, masks) in targets
                .iter()
                .zip(masks.chunks_exact_mut(masks_per_weight(K)))
            {
                step::<S, K>(simd, &mut costs, s * target, &scaled, masks);
            }
            if (row + 1) % (RENORMALIZE / BLOCK_COLS) == 0 {
                renormalize(simd, &mut costs);
            }
        }

        let mut last = [[0.0; LANES]; VECTORS];
        for r in 0..VECTORS {
            simd.store(costs[r], &mut last[r]);
        }
        let cost = |w: usize| last[w % VECTORS][w / VECTORS];
        let mut best = 0;
        for w in 1..STATES {
            if cost(w) < cost(best) {
                best = w;
            }
        }
        best as u8
    }
}

/// One weight: the cheapest predecessor of every state, and the cost of its level.
#[inline(always)]
fn step<S: Simd, const K: usize>(
    simd: S,
    costs: &mut [S::F32; VECTORS],
    target: f32,
    levels: &[[f32; LANES]; VECTORS],
    masks: &mut [u16],
) {
    let masks = &mut masks[..masks_per_weight(K)];
    let mut best = *costs;
    let mut round = 0;
    while round < K && round < 4 {
        let pairs = VECTORS >> (round + 1);
        for i in 0..pairs {
            let (even, odd) = (best[2 * i], best[2 * i + 1]);
            masks[round_masks(round) + i] = simd.mask_bits(simd.less(odd, even));
            best[i] = simd.min(odd, even);
        }
        round += 1;
    }
    while round < K {
        let even = simd.spread(best[0], &[0, 2, 4, 6, 8, 10, 12, 14]);
        let odd = simd.spread(best[0], &[1, 3, 5, 7, 9, 11, 13, 15]);
        masks[round_masks(round)] = simd.mask_bits(simd.less(odd, even));
        best[0] = simd.min(odd, even);
        round += 1;
    }
    let target = simd.splat(target);
    for r in 0..VECTORS {
        let from = if K <= 4 {
            best[r & ((1 << (4 - K)) - 1)]
        } else {
            best[0]
        };
        let from = simd.spread(from, &Forward::<K>::SPREAD[r]);
        let d = simd.sub(target, simd.load(&levels[r]));
        costs[r] = simd.add(from, simd.mul(d, d));
    }
}

/// Subtracts the least cost from all, if it is finite.
#[inline(always)]
fn renormalize<S: Simd>(simd: S, costs: &mut [S::F32; VECTORS]) {
    let mut least = costs[0];
    for &cost in &costs[1..] {
        least = simd.min(least, cost);
    }
    least = simd.min(least, simd.swap::<8>(least));
    least = simd.min(least, simd.swap::<4>(least));
    least = simd.min(least, simd.swap::<2>(least));
    least = simd.min(least, simd.swap::<1>(least));
    if simd.first(least).is_finite() {
        for cost in costs {
            *cost = simd.sub(*cost, least);
        }
    }
}

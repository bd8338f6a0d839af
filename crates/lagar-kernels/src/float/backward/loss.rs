//! Losses of logits, and their gradients.

use crate::float::rows::Softmax;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

impl Cpu {
    /// Softmax of each row of `x` (rows of `width` logits), in place; `logs` receives the logarithm of
    /// each row's sum of exponentials, so that a logit's log-probability is the logit less that.
    ///
    /// # Panics
    /// If `x` is not `logs.len()` × width.
    pub fn softmax_with_logs(&self, x: &mut [f32], width: usize, logs: &mut [f64]) {
        assert_eq!(x.len(), logs.len() * width, "x is n x width");
        let x = Disjoint::new(x);
        self.pool().chunks(logs, 1, |row, log| {
            // SAFETY: every row is in one task.
            let row = unsafe { x.slice(row * width..(row + 1) * width) };
            log[0] = self.isa().dispatch(Softmax { row }).log_sum();
        });
    }

    /// The Kullback–Leibler divergence Σ p log(p/q), in nats, of each row of logits (q) from the
    /// reference's (p), summed over the rows; `logits` is replaced by the gradient, q − p. Both are
    /// n × width.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of `width`.
    pub fn kl_backward(&self, reference: &[f32], logits: &mut [f32], width: usize) -> f64 {
        assert_eq!(
            reference.len(),
            logits.len(),
            "as many logits as references"
        );
        assert_eq!(logits.len() % width.max(1), 0, "whole rows of {width}");
        let mut losses = vec![0.0; logits.len() / width.max(1)];
        let logits = Disjoint::new(logits);
        self.pool().chunks(&mut losses, 1, |row, loss| {
            let range = row * width..(row + 1) * width;
            let mut p = reference[range.clone()].to_vec();
            // SAFETY: every row is in one task.
            let q = unsafe { logits.slice(range.clone()) };
            let reference = &reference[range];
            loss[0] = self.isa().dispatch(Kl {
                reference,
                p: &mut p,
                q,
            });
        });
        losses.into_iter().sum()
    }
}

struct Kl<'a> {
    reference: &'a [f32],
    /// The reference's logits, room for its probabilities.
    p: &'a mut [f32],
    q: &'a mut [f32],
}

impl Kernel for Kl<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let Self { reference, p, q } = self;
        let before = Softmax { row: &mut *p }.run(s).log_sum();
        // Σ p · (reference − logit), while the logits are there.
        let mut gap = s.splat(0.0);
        let rows = p.chunks(LANES).zip(reference.chunks(LANES));
        for ((p, reference), q) in rows.zip(q.chunks(LANES)) {
            let difference = s.sub(s.load_partial(reference), s.load_partial(q));
            gap = s.fma(s.load_partial(p), difference, gap);
        }
        let after = Softmax { row: &mut *q }.run(s).log_sum();
        for (q, p) in q.chunks_mut(LANES).zip(p.chunks(LANES)) {
            s.store_partial(s.sub(s.load_partial(q), s.load_partial(p)), q);
        }
        f64::from(s.sum(gap)) + after - before
    }
}

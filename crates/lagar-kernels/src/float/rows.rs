//! Operations on one vector at a time: norms, softmax, activations, sums.

use super::exp::{exp, gelu_tanh, silu};
use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

/// Elements of a task of an elementwise operation.
const TASK: usize = 1 << 12;

impl Cpu {
    /// Root-mean-square norm of `n` vectors: `out = x / √(mean(x²) + epsilon) · weight`.
    ///
    /// `x` and `out` are n × width, where width is `weight.len()`. (Zhang and Sennrich 2019.)
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32], n: usize) {
        let width = weight.len();
        assert_eq!(x.len(), n * width, "x is n x width");
        assert_eq!(out.len(), n * width, "out is n x width");
        self.rows(out, width, |row, out| {
            let x = &x[row * width..][..width];
            self.isa().dispatch(RmsNorm {
                x,
                weight,
                epsilon,
                out,
            });
        });
    }

    /// `x += y`, then `y` is the norm of `x`: [`Cpu::add`] and [`Cpu::rms_norm`] as one piece of work.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn add_rms_norm(
        &self,
        x: &mut [f32],
        y: &mut [f32],
        weight: &[f32],
        epsilon: f32,
        n: usize,
    ) {
        let width = weight.len();
        assert_eq!(x.len(), n * width, "x is n x width");
        let x = Disjoint::new(x);
        assert_eq!(y.len(), n * width, "y is n x width");
        self.rows(y, width, |row, y| {
            // SAFETY: every row is in one task.
            let x = unsafe { x.slice(row * width..(row + 1) * width) };
            self.isa().dispatch(Add { x, y });
            self.isa().dispatch(RmsNorm {
                x,
                weight,
                epsilon,
                out: y,
            });
        });
    }

    /// Softmax of each row of `x` (rows of `width` elements), in place.
    ///
    /// # Panics
    /// If the length is not a multiple of `width`.
    pub fn softmax(&self, x: &mut [f32], width: usize) {
        assert_eq!(x.len() % width.max(1), 0, "whole rows of {width}");
        self.rows(x, width, |_, row| {
            self.isa().dispatch(Softmax { row });
        });
    }

    /// `out = silu(gate) · up`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn swiglu(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert_eq!(gate.len(), out.len(), "gate is as long as out");
        assert_eq!(up.len(), out.len(), "up is as long as out");
        self.pool().chunks(out, TASK, |task, out| {
            let range = task * TASK..task * TASK + out.len();
            self.isa().dispatch(SwiGlu {
                gate: &gate[range.clone()],
                up: &up[range],
                out,
            });
        });
    }

    /// The tanh form of GELU, in place.
    pub fn gelu_tanh(&self, x: &mut [f32]) {
        self.pool()
            .chunks(x, TASK, |_, x| self.isa().dispatch(Gelu { x }));
    }

    /// `x += y`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "x is as long as y");
        self.pool().chunks(x, TASK, |task, x| {
            let y = &y[task * TASK..][..x.len()];
            self.isa().dispatch(Add { x, y });
        });
    }

    /// Adds `bias` to each of the `n` rows of `x`.
    ///
    /// # Panics
    /// If `x` is not n × `bias.len()`.
    pub fn add_bias(&self, x: &mut [f32], bias: &[f32], n: usize) {
        assert_eq!(x.len(), n * bias.len(), "x is n x width");
        self.rows(x, bias.len(), |_, x| {
            self.isa().dispatch(Add { x, y: bias });
        });
    }

    /// Calls `function` with the index and content of each row of `width` elements.
    fn rows(&self, data: &mut [f32], width: usize, function: impl Fn(usize, &mut [f32]) + Sync) {
        if width == 0 {
            return;
        }
        let rows = data.len() / width;
        let data = Disjoint::new(data);
        self.each_row(rows, width, &|row| {
            // SAFETY: every row is in one task.
            function(row, unsafe { data.slice(row * width..(row + 1) * width) });
        });
    }

    /// Calls `function` with the index of each of `n` rows of `width > 0` elements, several rows a task where they are short.
    pub(super) fn each_row(&self, n: usize, width: usize, function: &(dyn Fn(usize) + Sync)) {
        let tasks = (n * width).div_ceil(TASK).min(n);
        self.pool().run(tasks, &|task| {
            (task * n / tasks..(task + 1) * n / tasks).for_each(function);
        });
    }
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut squares = s.splat(0.0);
        for x in self.x.chunks(LANES) {
            let x = s.load_partial(x);
            squares = s.fma(x, x, squares);
        }
        let mean = s.sum(squares) / self.x.len() as f32;
        let scale = s.splat(1.0 / (mean + self.epsilon).sqrt());
        let weights = self.weight.chunks(LANES);
        for ((x, weight), out) in
            (self.x.chunks(LANES).zip(weights)).zip(self.out.chunks_mut(LANES))
        {
            let normed = s.mul(s.load_partial(x), scale);
            s.store_partial(s.mul(normed, s.load_partial(weight)), out);
        }
    }
}

/// Softmax in place.
pub(super) struct Softmax<'a> {
    pub(super) row: &'a mut [f32],
}

/// What a softmax divided by: e^`largest` · `sum`.
#[derive(Clone, Copy)]
pub(super) struct Normalizer {
    largest: f32,
    sum: f32,
}

impl Normalizer {
    /// Its logarithm.
    pub(super) fn log_sum(self) -> f64 {
        f64::from(self.largest) + f64::from(self.sum).ln()
    }
}

impl Kernel for Softmax<'_> {
    type Output = Normalizer;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Normalizer {
        let (whole, rest) = self.row.as_chunks_mut::<LANES>();
        // The last lanes repeat what the row has, or nothing: they cannot change the largest.
        let mut largest = s.splat(f32::NEG_INFINITY);
        for x in whole.iter() {
            largest = s.max(s.load(x), largest);
        }
        let last = s.mask_from_bits(((1u32 << rest.len()) - 1) as u16);
        let rest_values = s.select(last, s.load_partial(rest), s.splat(f32::NEG_INFINITY));
        let normalizer = s.largest(s.max(rest_values, largest));
        let largest = s.splat(normalizer);
        let mut sum = s.splat(0.0);
        for x in whole.iter_mut() {
            let e = exp(s, s.sub(s.load(x), largest));
            sum = s.add(sum, e);
            s.store(e, x);
        }
        let e = exp(s, s.sub(rest_values, largest));
        let e = s.select(last, e, s.splat(0.0));
        let sum = s.sum(s.add(sum, e));
        let factor = s.splat(1.0 / sum);
        for x in whole {
            s.store(s.mul(s.load(x), factor), x);
        }
        s.store_partial(s.mul(e, factor), rest);
        Normalizer {
            largest: normalizer,
            sum,
        }
    }
}

struct SwiGlu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for SwiGlu<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let inputs = self.gate.chunks(LANES).zip(self.up.chunks(LANES));
        for ((gate, up), out) in inputs.zip(self.out.chunks_mut(LANES)) {
            let activated = silu(s, s.load_partial(gate));
            s.store_partial(s.mul(activated, s.load_partial(up)), out);
        }
    }
}

struct Gelu<'a> {
    x: &'a mut [f32],
}

impl Kernel for Gelu<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.x.chunks_mut(LANES) {
            s.store_partial(gelu_tanh(s, s.load_partial(x)), x);
        }
    }
}

struct Add<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks_mut(LANES).zip(self.y.chunks(LANES)) {
            s.store_partial(s.add(s.load_partial(x), s.load_partial(y)), x);
        }
    }
}

//! The way back through norms and activations.

use crate::float::exp::exp;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

/// Elements of a task.
const TASK: usize = 1 << 14;

impl Cpu {
    /// The way back through [`Cpu::rms_norm`]: adds the gradient of `x` to `dx`.
    ///
    /// `x`, `dy` and `dx` are n × width, where width is `weight.len()`. `normed` receives
    /// `x / √(mean(x²) + epsilon)`, n × width, so that the gradient of the weight is
    /// [`Cpu::add_column_dots`] of `dy` and `normed`.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn rms_norm_backward(
        &self,
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        dy: &[f32],
        n: usize,
        normed: &mut [f32],
        dx: &mut [f32],
    ) {
        let width = weight.len();
        assert_eq!(x.len(), n * width, "x is n x width");
        assert_eq!(dy.len(), n * width, "dy is n x width");
        assert_eq!(normed.len(), n * width, "normed is n x width");
        assert_eq!(dx.len(), n * width, "dx is n x width");
        if width == 0 {
            return;
        }
        let step = (TASK / width).max(1);
        let (normed, dx) = (Disjoint::new(normed), Disjoint::new(dx));
        self.pool().run(n.div_ceil(step), &|task| {
            for row in task * step..n.min((task + 1) * step) {
                let range = row * width..(row + 1) * width;
                // SAFETY: every row is in one task.
                let (normed, dx) =
                    unsafe { (normed.slice(range.clone()), dx.slice(range.clone())) };
                self.isa().dispatch(RmsNormBackward {
                    x: &x[range.clone()],
                    weight,
                    epsilon,
                    dy: &dy[range],
                    normed,
                    dx,
                });
            }
        });
    }

    /// The way back through [`Cpu::swiglu`]: from `dout` to the gradients of `gate` and `up`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn swiglu_backward(
        &self,
        gate: &[f32],
        up: &[f32],
        dout: &[f32],
        dgate: &mut [f32],
        dup: &mut [f32],
    ) {
        let len = gate.len();
        let all = [up.len(), dout.len(), dgate.len(), dup.len()];
        assert_eq!(all, [len; 4], "all are as long as gate");
        let dup = Disjoint::new(dup);
        self.pool().chunks(dgate, TASK, |task, dgate| {
            let range = task * TASK..task * TASK + dgate.len();
            // SAFETY: every chunk is in one task.
            let dup = unsafe { dup.slice(range.clone()) };
            self.isa().dispatch(SwiGluBackward {
                gate: &gate[range.clone()],
                up: &up[range.clone()],
                dout: &dout[range],
                dgate,
                dup,
            });
        });
    }
}

struct RmsNormBackward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    dy: &'a [f32],
    normed: &'a mut [f32],
    dx: &'a mut [f32],
}

impl Kernel for RmsNormBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.x.len() as f32;
        let mut squares = s.splat(0.0);
        for x in self.x.chunks(LANES) {
            let x = s.load_partial(x);
            squares = s.fma(x, x, squares);
        }
        let factor = 1.0 / (s.sum(squares) / width + self.epsilon).sqrt();
        let factor = s.splat(factor);
        // With n = x · factor: dx = factor · (dy · weight − n · mean(dy · weight · n)).
        let mut dots = s.splat(0.0);
        let rows = self.x.chunks(LANES).zip(self.normed.chunks_mut(LANES));
        let gradients = self.dy.chunks(LANES).zip(self.weight.chunks(LANES));
        for ((x, normed), (dy, weight)) in rows.zip(gradients) {
            let n = s.mul(s.load_partial(x), factor);
            s.store_partial(n, normed);
            let dn = s.mul(s.load_partial(dy), s.load_partial(weight));
            dots = s.fma(dn, n, dots);
        }
        let mean = s.splat(s.sum(dots) / width);
        let rows = self.normed.chunks(LANES).zip(self.dx.chunks_mut(LANES));
        let gradients = self.dy.chunks(LANES).zip(self.weight.chunks(LANES));
        for ((normed, dx), (dy, weight)) in rows.zip(gradients) {
            let dn = s.mul(s.load_partial(dy), s.load_partial(weight));
            let across = s.fnma(s.load_partial(normed), mean, dn);
            s.store_partial(s.fma(across, factor, s.load_partial(dx)), dx);
        }
    }
}

struct SwiGluBackward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    dout: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
}

impl Kernel for SwiGluBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let one = s.splat(1.0);
        let inputs = self.gate.chunks(LANES).zip(self.up.chunks(LANES));
        let outputs = self.dgate.chunks_mut(LANES).zip(self.dup.chunks_mut(LANES));
        for (((gate, up), dout), (dgate, dup)) in inputs.zip(self.dout.chunks(LANES)).zip(outputs) {
            let (gate, up) = (s.load_partial(gate), s.load_partial(up));
            let dout = s.load_partial(dout);
            // silu(g) = g · σ, and its derivative σ · (1 + g · (1 − σ)).
            let sigma = s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), gate))));
            let silu = s.mul(gate, sigma);
            let slope = s.mul(sigma, s.fma(gate, s.sub(one, sigma), one));
            s.store_partial(s.mul(dout, silu), dup);
            s.store_partial(s.mul(s.mul(dout, up), slope), dgate);
        }
    }
}

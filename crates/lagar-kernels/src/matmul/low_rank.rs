//! Rows of the product of two thin matrices.

use crate::Cpu;
use crate::simd::{Kernel, LANES, Simd};

impl Cpu {
    /// Adds `u v` to `w`: `u` is `rows × rank`, `v` `rank × cols` and `w` `rows × cols`.
    /// [`lagar_codec::reference::add_product`] defines the bits.
    ///
    /// # Panics
    ///
    /// If a length does not match.
    pub fn add_product(&self, u: &[f32], v: &[f32], rank: usize, cols: usize, w: &mut [f32]) {
        assert_eq!(v.len(), rank * cols, "rank × columns");
        assert_eq!(u.len() * cols, w.len() * rank, "rows × rank");
        self.pool().chunks(w, cols, |row, w| {
            let u = &u[row * rank..(row + 1) * rank];
            self.isa().dispatch(AddRow { u, v, w });
        });
    }
}

/// Adds the product of one row.
struct AddRow<'a> {
    u: &'a [f32],
    v: &'a [f32],
    w: &'a mut [f32],
}

impl Kernel for AddRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { u, v, w } = self;
        let cols = w.len();
        for (first, w) in (0..cols).step_by(LANES).zip(w.chunks_mut(LANES)) {
            let mut sum = s.splat(0.0);
            for (&u, v) in u.iter().zip(v.chunks_exact(cols)) {
                let v = s.load_partial(&v[first..first + w.len()]);
                sum = s.add(sum, s.mul(s.splat(u), v));
            }
            s.store_partial(s.add(s.load_partial(w), sum), w);
        }
    }
}

//! Rotary position embedding.

use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

impl Cpu {
    /// Rotates the pairs (`i`, `i + rotary/2`) of each head by the angles of its token, in place:
    /// the half-rotation layout of Hugging Face checkpoints. (Su et al. 2021.)
    ///
    /// Each of `of`, queries or keys, is n × heads × head_dim, given with its number of heads; `cos` and `sin` are n × rotary/2,
    /// where rotary ≤ head_dim is what their length says; elements of a head beyond rotary stay as they are.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn rope(
        &self,
        of: &mut [(&mut [f32], usize)],
        n: usize,
        head_dim: usize,
        cos: &[f32],
        sin: &[f32],
    ) {
        let mut width = 0;
        for (x, heads) in &*of {
            assert_eq!(x.len(), n * heads * head_dim, "x is n x heads x head_dim");
            width += heads * head_dim;
        }
        if n * width == 0 {
            return;
        }
        let half = cos.len() / n;
        assert_eq!(cos.len(), n * half, "cos is n x rotary/2");
        assert_eq!(sin.len(), n * half, "sin is n x rotary/2");
        assert!(2 * half <= head_dim, "rotary is at most head_dim");
        let of: Vec<_> = of
            .iter_mut()
            .map(|(x, heads)| (Disjoint::new(x), *heads * head_dim))
            .collect();
        self.each_row(n, width, &|token| {
            for &(x, width) in &of {
                self.isa().dispatch(Rope {
                    // SAFETY: every token is one task's.
                    heads: unsafe { x.slice(token * width..(token + 1) * width) },
                    head_dim,
                    cos: &cos[token * half..][..half],
                    sin: &sin[token * half..][..half],
                });
            }
        });
    }
}

struct Rope<'a> {
    heads: &'a mut [f32],
    head_dim: usize,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Rope<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let half = self.cos.len();
        for head in self.heads.chunks_exact_mut(self.head_dim) {
            let (first, second) = head[..2 * half].split_at_mut(half);
            let angles = self.cos.chunks(LANES).zip(self.sin.chunks(LANES));
            let pairs = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
            for ((a, b), (cos, sin)) in pairs.zip(angles) {
                let (x, y) = (s.load_partial(a), s.load_partial(b));
                let (cos, sin) = (s.load_partial(cos), s.load_partial(sin));
                s.store_partial(s.fnma(y, sin, s.mul(x, cos)), a);
                s.store_partial(s.fma(x, sin, s.mul(y, cos)), b);
            }
        }
    }
}

//! One block of `C`, in tiles of `MR` rows × `NV` vectors that stay in registers.

use super::{CHUNK, Columns};
use crate::simd::{Kernel, LANES, Simd};

pub(super) struct Block<'a, 'c, const MR: usize, const NV: usize> {
    a: Columns<'a>,
    b: Columns<'a>,
    c: &'a mut [&'c mut [f32]],
    k: usize,
    alpha: f32,
}

impl<'a, 'c, const MR: usize, const NV: usize> Block<'a, 'c, MR, NV> {
    pub(super) fn new(
        a: Columns<'a>,
        b: Columns<'a>,
        c: &'a mut [&'c mut [f32]],
        k: usize,
        alpha: f32,
    ) -> Self {
        Self { a, b, c, k, alpha }
    }
}

/// Copies `depth` rows from `first` on into panels of as many columns as a `T` has, zeros beyond the
/// last: panel by panel, in a panel row by row.
fn pack<T: Copy>(
    from: &Columns<'_>,
    first: usize,
    depth: usize,
    zero: T,
    flat: impl Fn(&mut T) -> &mut [f32],
    to: &mut Vec<T>,
) {
    let width = size_of::<T>() / size_of::<f32>();
    to.clear();
    to.resize(from.count.div_ceil(width) * depth, zero);
    for k in 0..depth {
        for (panel, values) in from.row(first + k).chunks(width).enumerate() {
            flat(&mut to[panel * depth + k])[..values.len()].copy_from_slice(values);
        }
    }
}

impl<const MR: usize, const NV: usize> Kernel for Block<'_, '_, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { a, b, c, k, alpha } = self;
        let width = NV * LANES;
        let (mut a_panels, mut b_panels) =
            (Vec::<[f32; MR]>::new(), Vec::<[[f32; LANES]; NV]>::new());
        let alpha = simd.splat(alpha);
        for first in (0..k).step_by(CHUNK) {
            let depth = CHUNK.min(k - first);
            pack(&a, first, depth, [0.0; MR], |row| row, &mut a_panels);
            pack(
                &b,
                first,
                depth,
                [[0.0; LANES]; NV],
                |row| row.as_flattened_mut(),
                &mut b_panels,
            );
            for (j, b_panel) in b_panels.chunks_exact(depth).enumerate() {
                for (i, a_panel) in a_panels.chunks_exact(depth).enumerate() {
                    let sums = tile::<S, MR, NV>(simd, a_panel, b_panel);
                    let rows = c.iter_mut().skip(i * MR).take(MR);
                    for (row, sums) in rows.zip(sums) {
                        let end = row.len().min((j + 1) * width);
                        let row = &mut row[j * width..end];
                        for (values, sum) in row.chunks_mut(LANES).zip(sums) {
                            let old = simd.load_partial(values);
                            simd.store_partial(simd.fma(alpha, sum, old), values);
                        }
                    }
                }
            }
        }
    }
}

/// `Σ_k a[k][i] · b[k][j]` of one tile.
#[inline(always)]
fn tile<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    a: &[[f32; MR]],
    b: &[[[f32; LANES]; NV]],
) -> [[S::F32; NV]; MR] {
    let mut sums = [[simd.splat(0.0); NV]; MR];
    for (a, b) in a.iter().zip(b) {
        let mut vectors = [simd.splat(0.0); NV];
        for v in 0..NV {
            vectors[v] = simd.load(&b[v]);
        }
        for i in 0..MR {
            let a = simd.splat(a[i]);
            for v in 0..NV {
                sums[i][v] = simd.fma(a, vectors[v], sums[i][v]);
            }
        }
    }
    sums
}

//! Codebooks without a trellis: the nearest level, 16 targets at a time.

use crate::simd::{Kernel, LANES, Simd};

/// Writes the window of the nearest level of each target; of equally near ones the smallest.
pub(super) struct Nearest<'a> {
    pub(super) levels: &'a [i8],
    pub(super) targets: &'a [f32],
    pub(super) windows: &'a mut [u8],
}

impl Kernel for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let chunks = self
            .windows
            .chunks_mut(LANES)
            .zip(self.targets.chunks(LANES));
        for (windows, targets) in chunks {
            let targets = simd.load_partial(targets);
            let mut least = simd.splat(f32::INFINITY);
            let mut window = simd.splat(0.0);
            for (w, &level) in self.levels.iter().enumerate() {
                let distance = simd.abs(simd.sub(targets, simd.splat(f32::from(level))));
                let nearer = simd.less(distance, least);
                least = simd.select(nearer, distance, least);
                window = simd.select(nearer, simd.splat(w as f32), window);
            }
            let mut bytes = [0; LANES];
            simd.store_u8(window, &mut bytes);
            windows.copy_from_slice(&bytes[..windows.len()]);
        }
    }
}

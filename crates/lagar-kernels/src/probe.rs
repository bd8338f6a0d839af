//! What this machine can do at best: the limits that speed is compared with.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Cpu;
use crate::matmul::int8_peak;
use crate::simd::{Kernel, LANES, Simd};

/// Bytes that a task reads before it claims another.
const PIECE: usize = 1 << 22;

/// How many numbers ahead of their use memory is asked for, as the kernels ask for codes.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 1024;

/// How often each limit is measured; the best counts.
const TURNS: usize = 8;

/// How long a turn takes that measures arithmetic, at least.
const TURN: Duration = Duration::from_millis(5);

/// Products of bytes that such a turn begins with.
const FEWEST_PRODUCTS: u64 = 1 << 24;

impl Cpu {
    /// Bytes per second that all threads together read from memory, one after the other, the best of several passes
    /// over a buffer of `bytes`. It should be several times as large as the last cache.
    ///
    /// # Panics
    /// If there is no memory for the buffer.
    pub fn read_bandwidth(&self, bytes: usize) -> f64 {
        // Pages that were never written may all be the same one.
        let mut buffer = vec![0u32; (bytes / size_of::<u32>()).max(LANES)];
        self.pool().chunks(&mut buffer, PIECE / 4, |task, piece| {
            piece.fill(task as u32);
        });
        // So that no vector lies in two cache lines.
        let aligned = &buffer[buffer.as_ptr().align_offset(64).min(buffer.len())..];
        let read = || {
            let start = Instant::now();
            self.pool().run(aligned.len().div_ceil(PIECE / 4), &|task| {
                let piece = &aligned[task * (PIECE / 4)..];
                let piece = &piece[..piece.len().min(PIECE / 4)];
                black_box(self.isa().dispatch(Sum(piece)));
            });
            start.elapsed().as_secs_f64()
        };
        let seconds = (0..TURNS).map(|_| read()).fold(f64::INFINITY, f64::min);
        size_of_val(aligned) as f64 / seconds
    }

    /// Operations per second of all threads together, a product and its addition being two, with
    /// the instructions of this instruction set that multiply bytes, operands in registers; the best of several turns.
    pub fn int8_peak(&self) -> f64 {
        let measure = |products| {
            let (start, isa) = (Instant::now(), self.isa());
            self.pool()
                .run(self.threads(), &|_| int8_peak(isa, products));
            start.elapsed()
        };
        let mut products = FEWEST_PRODUCTS;
        while measure(products) < TURN {
            products *= 2;
        }
        let turns = (0..TURNS).map(|_| measure(products).as_secs_f64());
        let seconds = turns.fold(f64::INFINITY, f64::min);
        2.0 * products as f64 * self.threads() as f64 / seconds
    }
}

/// Reads numbers as fast as possible.
struct Sum<'a>(&'a [u32]);

impl Kernel for Sum<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u32 {
        let mut sums = [simd.splat_u32(0); 8];
        let (vectors, _) = self.0.as_chunks::<LANES>();
        for vectors in vectors.chunks(sums.len()) {
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                #[cfg(target_arch = "x86_64")]
                {
                    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                    // A processor that only asks for what it sees coming reads a tenth less.
                    // SAFETY: it accesses nothing.
                    unsafe {
                        _mm_prefetch::<_MM_HINT_T1>(vector.as_ptr().wrapping_add(AHEAD).cast())
                    };
                }
                *sum = simd.plus(*sum, simd.load_u32(vector));
            }
        }
        let mut lanes = [0; LANES];
        let zero = simd.splat_u32(0);
        let sum = sums.iter().fold(zero, |all, &sum| simd.plus(all, sum));
        simd.store_u32(sum, &mut lanes);
        lanes.iter().fold(0, |sum, &lane| sum.wrapping_add(lane))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cpu, Isa};

    #[test]
    fn every_isa_has_limits() {
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 2);
            // Not a whole number of pieces or vectors.
            assert!(cpu.read_bandwidth((5 << 20) + 4) > 0.0, "{isa}");
            assert!(cpu.int8_peak() > 0.0, "{isa}");
        }
    }
}

//! `C += ±AᵀB` has the same bits whatever computes it.

use lagar_kernels::{Cpu, Isa};
use proptest::prelude::*;

const CHUNK: usize = 128;

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The definition: chunks of 128 terms, each summed from zero, added in order.
fn plain(
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
) {
    for i in 0..m {
        for j in 0..n {
            for first in (0..k).step_by(CHUNK) {
                let terms = first..k.min(first + CHUNK);
                let sum = terms.fold(0f32, |sum, k| a[k * lda + i].mul_add(b[k * ldb + j], sum));
                c[i * ldc + j] = alpha.mul_add(sum, c[i * ldc + j]);
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #[test]
    fn products_equal_the_definition_on_every_machine(
        m in 1..300usize, n in 1..600usize, k in 1..300usize,
        gap in 0..3usize, threads in 1..4usize, minus in any::<bool>(), seed in any::<u32>(),
    ) {
        // Keep the plain definition quick.
        let (m, n) = if m * n > 20_000 { (m.min(20), n) } else { (m, n) };
        let (lda, ldb, ldc) = (m + gap, n + gap, n + gap);
        let alpha = if minus { -1.0 } else { 1.0 };
        let (a, b) = (values(k * lda, seed), values(k * ldb, seed ^ 1));
        let start = values(m * ldc, seed ^ 2);
        let mut expected = start.clone();
        plain(&a, lda, &b, ldb, &mut expected, ldc, m, n, k, alpha);
        for isa in Isa::available() {
            let mut c = start.clone();
            Cpu::new(isa, threads).gemm_tn(&a, lda, &b, ldb, &mut c, ldc, m, n, k, alpha);
            prop_assert_eq!(bits(&c), bits(&expected), "{}", isa);
        }
    }

    #[test]
    fn the_upper_triangle_of_a_square_equals_the_product(
        n in 1..700usize, k in 1..40usize, gap in 0..3usize, seed in any::<u32>(),
    ) {
        let (lda, ldc) = (n + gap, n + gap);
        let a = values(k * lda, seed);
        let start = values(n * ldc, seed ^ 2);
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 2);
            let (mut whole, mut half) = (start.clone(), start.clone());
            cpu.gemm_tn(&a, lda, &a, lda, &mut whole, ldc, n, n, k, 1.0);
            cpu.syrk_tn(&a, lda, &mut half, ldc, n, k, 1.0);
            for i in 0..n {
                let row = i * ldc + i..i * ldc + n;
                prop_assert_eq!(bits(&whole[row.clone()]), bits(&half[row]), "{}", isa);
            }
        }
    }
}

#[test]
fn empty_products_change_nothing() {
    let cpu = Cpu::new(Isa::best(), 2);
    let mut c = [1.0, 2.0];
    cpu.gemm_tn(&[], 1, &[], 2, &mut c, 2, 1, 2, 0, 1.0);
    cpu.gemm_tn(&[], 0, &[1.0], 1, &mut [], 1, 0, 1, 1, 1.0);
    assert_eq!(c, [1.0, 2.0]);
}

//! Each operation gives the same bits on every instruction set and number of threads, agrees with
//! a plain definition in `f64`, and treats each vector by itself.

mod attention;
mod backward;
mod products;
mod rows;

use proptest::prelude::*;

use crate::{Cpu, Isa};

/// Lengths around the borders of vectors, and some odd widths of real models.
const AWKWARD: [usize; 14] = [1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 96, 100, 172, 257];

/// Numbers of moderate size without a pattern.
fn numbers(seed: usize, len: usize) -> Vec<f32> {
    let mut state = seed as u64 + 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 2.0
        })
        .collect()
}

/// Runs an operation on every instruction set with one and three threads; all must give the bits
/// of the portable path. Returns its result.
fn same_everywhere(operation: impl Fn(&Cpu) -> Vec<f32>) -> Vec<f32> {
    let expected = operation(&Cpu::new(Isa::Portable, 1));
    for isa in Isa::available() {
        for threads in [1, 3] {
            let result = operation(&Cpu::new(isa, threads));
            assert_eq!(expected.len(), result.len());
            for (i, (a, b)) in expected.iter().zip(&result).enumerate() {
                let equal = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                assert!(
                    equal,
                    "element {i}: {a:e} portable, {b:e} with {isa}, {threads} threads"
                );
            }
        }
    }
    expected
}

/// The largest difference, relative to the largest expected value.
fn worst(result: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(result.len(), expected.len());
    let scale = expected.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
    let differences = result
        .iter()
        .zip(expected)
        .map(|(&r, &e)| (f64::from(r) - e).abs());
    differences.fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m }) / scale
}

/// Any size up to `max`, with a taste for the borders of vectors.
fn size(max: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        1..=max,
        (0..AWKWARD.len()).prop_map(move |i| AWKWARD[i].min(max))
    ]
}

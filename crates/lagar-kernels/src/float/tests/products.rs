use half::{bf16, f16};
use proptest::prelude::*;

use super::{numbers, same_everywhere, size, worst};
use crate::{Cpu, DenseWeight, Isa};

/// The weights as stored numbers and what they are exactly.
fn stored(format: usize, weights: &[f32]) -> (Vec<u8>, Vec<f32>) {
    match format {
        0 => (
            weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
            weights.to_vec(),
        ),
        1 => weights
            .iter()
            .map(|&w| bf16::from_f32(w))
            .map(|w| (w.to_le_bytes(), w.to_f32()))
            .fold((vec![], vec![]), |(mut bytes, mut exact), (b, e)| {
                bytes.extend(b);
                exact.push(e);
                (bytes, exact)
            }),
        _ => weights
            .iter()
            .map(|&w| f16::from_f32(w))
            .map(|w| (w.to_le_bytes(), w.to_f32()))
            .fold((vec![], vec![]), |(mut bytes, mut exact), (b, e)| {
                bytes.extend(b);
                exact.push(e);
                (bytes, exact)
            }),
    }
}

fn dense(bytes: &[u8], format: usize) -> DenseWeight<'_> {
    [DenseWeight::F32, DenseWeight::Bf16, DenseWeight::F16][format](bytes)
}

/// Aᵀ B in f64.
fn plain_product(a: &[f32], b: &[f32], m: usize, n: usize, k: usize) -> Vec<f64> {
    let mut c = vec![0.0; m * n];
    for l in 0..k {
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] += f64::from(a[l * m + i]) * f64::from(b[l * n + j]);
            }
        }
    }
    c
}

proptest! {
    #[test]
    fn dense_products_are_their_definition_and_do_not_depend_on_the_batch(
        rows in size(110), cols in size(2100), n in 1usize..12, format in 0usize..3, seed: u16,
    ) {
        let (bytes, exact) = stored(format, &numbers(seed.into(), rows * cols));
        // An odd address.
        let odd: Vec<u8> = std::iter::once(0).chain(bytes).collect();
        let weight = dense(&odd[1..], format);
        let x = numbers(5, n * cols);
        let result = same_everywhere(|cpu| {
            let mut y = vec![f32::NAN; n * rows];
            cpu.dense_matmul(weight, rows, cols, &x, n, &mut y);
            y
        });
        let mut expected = vec![0.0; n * rows];
        for t in 0..n {
            for o in 0..rows {
                let products = exact[o * cols..][..cols].iter().zip(&x[t * cols..]);
                expected[t * rows + o] = products.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            }
        }
        let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
        let error = worst(&result, &expected) * largest;
        prop_assert!(error < 1e-6 * (cols as f64).sqrt() + 1e-6 * largest, "{error:e}");

        let cpu = Cpu::new(Isa::best(), 2);
        for t in 0..n {
            let mut y = vec![0.0; rows];
            cpu.dense_matmul(weight, rows, cols, &x[t * cols..][..cols], 1, &mut y);
            prop_assert_eq!(&y[..], &result[t * rows..][..rows], "token {} alone", t);
        }
    }

    #[test]
    fn gemm_is_its_definition(
        m in size(120), n in size(120), k in size(600), extra in 0usize..3, minus: bool, seed: u16,
    ) {
        let alpha = if minus { -1.0 } else { 1.0 };
        let (a, b) = (numbers(seed.into(), k * (m + extra)), numbers(4, k * (n + extra)));
        let c = numbers(9, m * (n + extra));
        let result = same_everywhere(|cpu| {
            let mut c = c.clone();
            cpu.gemm_tn(&a, m + extra, &b, n + extra, &mut c, n + extra, m, n, k, alpha);
            c
        });
        for i in 0..m {
            for j in 0..n + extra {
                let place = i * (n + extra) + j;
                // The stated order, by plain code.
                let mut expected = c[place];
                for chunk in (0..if j < n { k } else { 0 }).step_by(256) {
                    let rows = chunk..k.min(chunk + 256);
                    let sum = rows.fold(0f32, |sum, l| {
                        a[l * (m + extra) + i].mul_add(b[l * (n + extra) + j], sum)
                    });
                    expected = sum.mul_add(alpha, expected);
                }
                prop_assert_eq!(expected.to_bits(), result[place].to_bits());
            }
        }
    }

    #[test]
    fn the_symmetric_product_has_the_bits_of_the_full_one(m in size(200), k in size(300)) {
        let a = numbers(3, k * m);
        let symmetric = same_everywhere(|cpu| {
            let mut c = vec![0.5; m * m];
            cpu.syrk_tn(&a, m, &mut c, m, m, k);
            c
        });
        let mut full = vec![0.5; m * m];
        Cpu::new(Isa::best(), 2).gemm_tn(&a, m, &a, m, &mut full, m, m, m, k, 1.0);
        prop_assert_eq!(symmetric, full);
    }
}

#[test]
fn products_larger_than_a_tile() {
    let (m, n, k) = (430, 801, 40);
    let (a, b) = (numbers(1, k * m), numbers(2, k * n));
    let result = same_everywhere(|cpu| {
        let mut c = vec![0.0; m * n];
        cpu.gemm_tn(&a, m, &b, n, &mut c, n, m, n, k, 1.0);
        c
    });
    assert!(worst(&result, &plain_product(&a, &b, m, n, k)) < 1e-6);
}

#[test]
fn many_tokens_are_more_than_one_block() {
    let (rows, cols, n) = (53, 70, 150);
    let (bytes, _) = stored(1, &numbers(1, rows * cols));
    let x = numbers(2, n * cols);
    let result = same_everywhere(|cpu| {
        let mut y = vec![0.0; n * rows];
        cpu.dense_matmul(dense(&bytes, 1), rows, cols, &x, n, &mut y);
        y
    });
    let cpu = Cpu::new(Isa::best(), 1);
    let mut last = vec![0.0; rows];
    cpu.dense_matmul(
        dense(&bytes, 1),
        rows,
        cols,
        &x[(n - 1) * cols..],
        1,
        &mut last,
    );
    assert_eq!(last, result[(n - 1) * rows..]);
}

#[test]
#[should_panic(expected = "x is n x cols")]
fn a_wrong_length_panics() {
    Cpu::new(Isa::best(), 1).dense_matmul(
        DenseWeight::F32(&[0; 64]),
        4,
        4,
        &[0.0; 3],
        1,
        &mut [0.0; 4],
    );
}

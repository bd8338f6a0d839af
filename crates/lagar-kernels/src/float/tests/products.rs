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

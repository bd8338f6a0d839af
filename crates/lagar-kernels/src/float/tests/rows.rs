use proptest::prelude::*;

use super::super::exp::{exp, gelu_tanh, silu};
use super::{numbers, same_everywhere, size, worst};
use crate::simd::{Kernel, Simd};
use crate::{Cpu, Isa};

/// One of the elementwise functions.
#[derive(Clone, Copy)]
enum Function {
    Exp,
    Silu,
    Gelu,
}

struct Apply<'a>(Function, &'a mut [f32]);

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.1.chunks_mut(16) {
            let v = s.load_partial(x);
            let v = match self.0 {
                Function::Exp => exp(s, v),
                Function::Silu => silu(s, v),
                Function::Gelu => gelu_tanh(s, v),
            };
            s.store_partial(v, x);
        }
    }
}

fn apply(function: Function, x: &[f32]) -> Vec<f32> {
    same_everywhere(|cpu| {
        let mut x = x.to_vec();
        cpu.isa().dispatch(Apply(function, &mut x));
        x
    })
}

/// Differences in units in the last place of the exact value.
fn worst_ulp(x: &[f32], result: &[f32], exact: impl Fn(f64) -> f64) -> f64 {
    let mut worst = 0f64;
    for (&x, &result) in x.iter().zip(result) {
        let exact = exact(f64::from(x));
        let ulp = (exact as f32).abs().max(f32::MIN_POSITIVE);
        let ulp = f64::from(ulp.next_up()) - f64::from(ulp);
        worst = worst.max((f64::from(result) - exact).abs() / ulp);
    }
    worst
}

#[test]
fn exp_is_accurate_to_one_unit_in_the_last_place() {
    let x: Vec<f32> = (0..40_000)
        .map(|i| -103.9 + i as f32 * (192.6 / 40_000.0))
        .collect();
    let error = worst_ulp(&x, &apply(Function::Exp, &x), f64::exp);
    assert!(error <= 1.0, "{error} ulp");
}

#[test]
fn exp_at_its_ends() {
    let x = [
        f32::NEG_INFINITY,
        -1e30,
        -104.0,
        0.0,
        -0.0,
        89.0,
        f32::INFINITY,
        f32::NAN,
    ];
    let y = apply(Function::Exp, &x);
    assert_eq!(
        y[..7],
        [0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY]
    );
    assert!(y[7].is_nan());
}

#[test]
fn activations_are_accurate_to_a_few_units_in_the_last_place() {
    let x: Vec<f32> = (0..20_000).map(|i| -20.0 + i as f32 * 0.002).collect();
    let error = worst_ulp(&x, &apply(Function::Silu, &x), |x| x / (1.0 + (-x).exp()));
    assert!(error <= 3.0, "silu: {error} ulp");
    // GELU's tail is the exponential of a rounded argument; what matters is the absolute error.
    let gelu =
        |x: f64| 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x)).tanh());
    let exact: Vec<f64> = x.iter().map(|&x| gelu(f64::from(x))).collect();
    let error = worst(&apply(Function::Gelu, &x), &exact);
    assert!(error < 1e-7, "gelu: {error:e}");
}

proptest! {
    #[test]
    fn rms_norm_is_its_definition(n in 1usize..5, width in size(700), seed: u16) {
        let (x, weight) = (numbers(seed.into(), n * width), numbers(7, width));
        let result = same_everywhere(|cpu| {
            let mut out = vec![0.0; n * width];
            cpu.rms_norm(&x, &weight, 1e-5, &mut out, n);
            out
        });
        let expected: Vec<f64> = x.chunks(width).flat_map(|x| {
            let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / width as f64;
            let scale = 1.0 / (mean + 1e-5).sqrt();
            x.iter().zip(&weight).map(move |(&x, &w)| f64::from(x) * scale * f64::from(w)).collect::<Vec<_>>()
        }).collect();
        prop_assert!(worst(&result, &expected) < 1e-6);
    }

    #[test]
    fn a_sum_and_its_norm_are_what_they_are_one_by_one(n in 1usize..9, width in size(700), seed: u16) {
        let x = numbers(seed.into(), n * width);
        let (y, weight) = (numbers(5, n * width), numbers(7, width));
        let together = same_everywhere(|cpu| {
            let (mut x, mut y) = (x.clone(), y.clone());
            cpu.add_rms_norm(&mut x, &mut y, &weight, 1e-5, n);
            [x, y].concat()
        });
        let (mut sum, mut norm) = (x.clone(), vec![0.0; n * width]);
        let cpu = Cpu::new(Isa::best(), 1);
        cpu.add(&mut sum, &y);
        cpu.rms_norm(&sum, &weight, 1e-5, &mut norm, n);
        prop_assert_eq!(together, [sum, norm].concat());
    }

    #[test]
    fn softmax_is_its_definition(n in 1usize..4, width in size(700), seed: u16) {
        let x: Vec<f32> = numbers(seed.into(), n * width).iter().map(|x| x * 9.0).collect();
        let result = same_everywhere(|cpu| {
            let mut x = x.clone();
            cpu.softmax(&mut x, width);
            x
        });
        let expected: Vec<f64> = x.chunks(width).flat_map(|x| {
            let largest = x.iter().fold(f32::MIN, |m, &x| m.max(x));
            let e: Vec<f64> = x.iter().map(|&x| (f64::from(x) - f64::from(largest)).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.into_iter().map(move |e| e / sum).collect::<Vec<_>>()
        }).collect();
        prop_assert!(worst(&result, &expected) < 1e-6);
    }

    #[test]
    fn swiglu_gelu_and_sums_are_their_definitions(len in size(40_000), seed: u16) {
        let (x, y) = (numbers(seed.into(), len), numbers(3, len));
        let swiglu = same_everywhere(|cpu| {
            let mut out = vec![0.0; len];
            cpu.swiglu(&x, &y, &mut out);
            out
        });
        let expected: Vec<f64> = x.iter().zip(&y)
            .map(|(&x, &y)| f64::from(x) / (1.0 + (-f64::from(x)).exp()) * f64::from(y)).collect();
        prop_assert!(worst(&swiglu, &expected) < 1e-6);
        let gelu = same_everywhere(|cpu| {
            let mut x = x.clone();
            cpu.gelu_tanh(&mut x);
            x
        });
        prop_assert_eq!(gelu, apply(Function::Gelu, &x));
        let sum = same_everywhere(|cpu| {
            let mut x = x.clone();
            cpu.add(&mut x, &y);
            cpu.add_bias(&mut x, &y, 1);
            x
        });
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y + y).collect();
        prop_assert_eq!(sum, expected);
    }

    #[test]
    fn rope_rotates_pairs(n in 1usize..4, heads in 1usize..4, half in size(40), rest in 0usize..9) {
        let head_dim = 2 * half + rest;
        let (x, angles) = (numbers(1, n * heads * head_dim), numbers(2, n * half));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let result = same_everywhere(|cpu| {
            let mut x = x.clone();
            let mut keys = x[..n * head_dim].to_vec();
            let of = &mut [(&mut x[..], heads), (&mut keys[..], 1)];
            cpu.rope(of, n, head_dim, &cos, &sin);
            [x, keys].concat()
        });
        let rotated = |x: &[f32], heads| {
            let mut expected: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            for (h, head) in expected.chunks_mut(head_dim).enumerate() {
                for i in 0..half {
                    let angle = h / heads * half + i;
                    let (c, s) = (f64::from(cos[angle]), f64::from(sin[angle]));
                    let (a, b): (f64, f64) = (head[i], head[i + half]);
                    (head[i], head[i + half]) = (a * c - b * s, b * c + a * s);
                }
            }
            expected
        };
        let expected = [rotated(&x, heads), rotated(&x[..n * head_dim], 1)].concat();
        prop_assert!(worst(&result, &expected) < 1e-6);
    }
}

#[test]
fn bias_is_added_to_every_row() {
    let cpu = Cpu::new(Isa::best(), 2);
    let mut x = vec![1.0; 3 * 5];
    cpu.add_bias(&mut x, &[0.0, 1.0, 2.0, 3.0, 4.0], 3);
    assert!(x.chunks(5).all(|row| row == [1.0, 2.0, 3.0, 4.0, 5.0]));
}

//! Gradients are the slopes of what they lead back through, as differences in f64 give them.

use proptest::prelude::*;

use super::{numbers, same_everywhere, size, worst};
use crate::{AttentionBackward, Cpu};

/// The slopes of `Σ weights · function(x)` at `x`.
fn slopes(x: &[f32], weights: &[f32], function: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let mut x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let sum = |x: &[f64]| -> f64 {
        let terms = function(x).into_iter().zip(weights);
        terms.map(|(y, w)| y * f64::from(*w)).sum()
    };
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let middle = x[i];
            x[i] = middle + step;
            let above = sum(&x);
            x[i] = middle - step;
            let below = sum(&x);
            x[i] = middle;
            (above - below) / (2.0 * step)
        })
        .collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn rms_norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let rows = x.chunks(weight.len()).flat_map(|x| {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean + 1e-5).sqrt();
        x.iter().zip(weight).map(move |(x, w)| x * factor * w)
    });
    rows.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rms_norm_has_its_slopes(n in 1usize..4, width in size(100), seed: u16) {
        let (x, weight) = (numbers(seed.into(), n * width), numbers(7, width));
        let (dy, before) = (numbers(8, n * width), numbers(9, n * width));
        let result = same_everywhere(|cpu| {
            let (mut normed, mut dx) = (vec![0.0; n * width], before.clone());
            cpu.rms_norm_backward(&x, &weight, 1e-5, &dy, n, &mut normed, &mut dx);
            let mut dweight = vec![1.0; width];
            cpu.add_column_dots(&dy, &normed, n, &mut dweight);
            dx.extend(dweight);
            dx
        });
        let (dx, dweight) = result.split_at(n * width);
        let of_weight = wide(&weight);
        let mut expected = slopes(&x, &dy, |x| rms_norm(x, &of_weight));
        expected.iter_mut().zip(&before).for_each(|(e, b)| *e += f64::from(*b));
        prop_assert!(worst(dx, &expected) < 1e-5);
        let of_x = wide(&x);
        let mut expected = slopes(&weight, &dy, |weight| rms_norm(&of_x, weight));
        expected.iter_mut().for_each(|e| *e += 1.0);
        prop_assert!(worst(dweight, &expected) < 1e-5);
    }

    #[test]
    fn swiglu_has_its_slopes(len in size(300), seed: u16) {
        let (gate, up) = (numbers(seed.into(), len), numbers(3, len));
        let dout = numbers(4, len);
        let result = same_everywhere(|cpu| {
            let (mut dgate, mut dup) = (vec![0.0; len], vec![0.0; len]);
            cpu.swiglu_backward(&gate, &up, &dout, &mut dgate, &mut dup);
            dgate.extend(dup);
            dgate
        });
        let both = [&gate[..], &up].concat();
        let expected = slopes(&both, &dout, |both| {
            let (gate, up) = both.split_at(len);
            gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
        });
        prop_assert!(worst(&result, &expected) < 1e-5);
    }

    #[test]
    fn columns_are_summed_and_become_rows(n in size(300), stride in size(100), first in 0usize..9, seed: u16) {
        let columns = stride.saturating_sub(first);
        let (a, b) = (numbers(seed.into(), n * stride), numbers(5, n * stride));
        let sums = same_everywhere(|cpu| {
            let (mut sums, mut dots) = (vec![1.0; stride], vec![2.0; stride]);
            cpu.add_column_sums(&a, n, &mut sums);
            cpu.add_column_dots(&a, &b, n, &mut dots);
            sums.extend(dots);
            sums
        });
        let mut expected = vec![1.0; stride];
        expected.resize(2 * stride, 2.0);
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            let (a, b) = (f64::from(*a), f64::from(*b));
            expected[i % stride] += a;
            expected[stride + i % stride] += a * b;
        }
        prop_assert!(worst(&sums, &expected) < 1e-5);
        let rows = same_everywhere(|cpu| {
            let mut out = vec![0.0; columns * n];
            cpu.transpose(&a, stride, n, first, columns, &mut out);
            out
        });
        for (i, value) in rows.into_iter().enumerate() {
            prop_assert_eq!(value, a[i % n * stride + first + i / n]);
        }
    }

    #[test]
    fn divergence_has_its_slopes_and_logs_are_those_of_sums(n in 1usize..4, width in size(100), seed: u16) {
        divergence_agrees(n, width, seed.into());
    }
}

/// The two rows nearly agree: their slopes are far smaller than the probabilities whose
/// difference they are.
#[test]
fn divergence_of_rows_that_nearly_agree_has_its_slopes() {
    divergence_agrees(1, 2, 42345);
}

fn divergence_agrees(n: usize, width: usize, seed: usize) {
    let logits: Vec<f32> = numbers(seed, n * width).iter().map(|x| x * 4.0).collect();
    let reference: Vec<f32> = numbers(6, n * width).iter().map(|x| x * 4.0).collect();
    let softmax = |x: &[f64]| -> Vec<f64> {
        let sum: f64 = x.iter().map(|x| x.exp()).sum();
        x.iter().map(|x| x.exp() / sum).collect()
    };
    let softmaxes = |x: &[f32]| -> Vec<f64> { wide(x).chunks(width).flat_map(softmax).collect() };
    let divergence = |q: &[f64]| -> Vec<f64> {
        let rows = q.chunks(width).zip(reference.chunks(width));
        let rows = rows.map(|(q, p)| {
            let (q, p) = (softmax(q), softmax(&wide(p)));
            q.iter().zip(&p).map(|(q, p)| p * (p / q).ln()).sum()
        });
        rows.collect()
    };
    let result = same_everywhere(|cpu| {
        let mut logits = logits.clone();
        let loss = cpu.kl_backward(&reference, &mut logits, width);
        logits.push(loss as f32);
        logits
    });
    let (gradient, loss) = result.split_at(n * width);
    let expected: f64 = divergence(&wide(&logits)).iter().sum();
    assert!((f64::from(loss[0]) - expected).abs() < 1e-5);
    // A slope is the difference of two probabilities, each as exact as f32 has it.
    let expected = slopes(&logits, &vec![1.0; n], divergence);
    let probabilities = [softmaxes(&logits), softmaxes(&reference)].concat();
    let largest = probabilities.into_iter().fold(0.0, f64::max);
    for (gradient, expected) in gradient.iter().zip(&expected) {
        assert!((f64::from(*gradient) - expected).abs() < 2e-6 * largest);
    }
    let result = same_everywhere(|cpu| {
        let (mut logits, mut logs) = (logits.clone(), vec![0.0; n]);
        cpu.softmax_with_logs(&mut logits, width, &mut logs);
        logits.extend(logs.iter().map(|log| *log as f32));
        logits
    });
    let mut expected = softmaxes(&logits);
    let logs = logits.chunks(width);
    expected.extend(logs.map(|row| wide(row).iter().map(|x| x.exp()).sum::<f64>().ln()));
    assert!(worst(&result, &expected) < 1e-6);
}

/// Attention of all positions from the first on, in f64, by its definition.
fn attention(args: &AttentionBackward<'_>, query: &[f64], key: &[f64], value: &[f64]) -> Vec<f64> {
    let &AttentionBackward {
        n,
        heads,
        kv_heads,
        head_dim,
        ..
    } = args;
    let mut out = vec![0.0; query.len()];
    for t in 0..n {
        for head in 0..heads {
            let place = (t * heads + head) * head_dim;
            let query = &query[place..][..head_dim];
            let kv_head = head / (heads / kv_heads);
            let at = |position: usize| (position * kv_heads + kv_head) * head_dim;
            let first = (t + 1).saturating_sub(args.window.unwrap_or(t + 1));
            let score = |p: usize| {
                let products = query.iter().zip(&key[at(p)..][..head_dim]);
                (products.map(|(q, k)| q * k).sum::<f64>() * f64::from(args.scale)).exp()
            };
            let scores: Vec<f64> = (first..=t).map(score).collect();
            let sum: f64 = scores.iter().sum();
            for (p, score) in (first..=t).zip(scores) {
                let value = &value[at(p)..][..head_dim];
                let out = &mut out[place..][..head_dim];
                out.iter_mut()
                    .zip(value)
                    .for_each(|(o, v)| *o += score / sum * v);
            }
        }
    }
    out
}

fn gradients(cpu: &Cpu, args: &AttentionBackward<'_>) -> Vec<f32> {
    let mut dquery = vec![0.0; args.query.len()];
    let (mut dkey, mut dvalue) = (vec![0.0; args.key.len()], vec![0.0; args.key.len()]);
    cpu.attention_backward(args, &mut dquery, &mut dkey, &mut dvalue);
    dquery.extend(dkey);
    dquery.extend(dvalue);
    dquery
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn attention_has_its_slopes(
        n in 1usize..14, kv_heads in 1usize..3, group in 1usize..3, head_dim in 1usize..20,
        window in prop_oneof![Just(None), (1usize..9).prop_map(Some)],
    ) {
        let heads = kv_heads * group;
        let (len, kv_len) = (n * heads * head_dim, n * kv_heads * head_dim);
        let (query, key) = (numbers(1, len), numbers(2, kv_len));
        let (value, dout) = (numbers(3, kv_len), numbers(4, len));
        let args = AttentionBackward {
            query: &query, key: &key, value: &value, dout: &dout,
            n, heads, kv_heads, head_dim, scale: 0.3, window,
        };
        let result = same_everywhere(|cpu| gradients(cpu, &args));
        let all = [&query[..], &key, &value].concat();
        let expected = slopes(&all, &dout, |all| {
            let (query, rest) = all.split_at(len);
            let (key, value) = rest.split_at(kv_len);
            attention(&args, query, key, value)
        });
        prop_assert!(worst(&result, &expected) < 1e-5);
    }
}

/// Blocks of tokens change nothing but the order of sums: a window that sees one block at most gives the
/// gradients of sequences of their own.
#[test]
fn attention_over_several_blocks_has_its_slopes() {
    let (n, head_dim) = (300, 4);
    let (query, key) = (numbers(1, n * head_dim), numbers(2, n * head_dim));
    let (value, dout) = (numbers(3, n * head_dim), numbers(4, n * head_dim));
    for window in [None, Some(1), Some(40), Some(200)] {
        let args = AttentionBackward {
            query: &query,
            key: &key,
            value: &value,
            dout: &dout,
            n,
            heads: 1,
            kv_heads: 1,
            head_dim,
            scale: 0.5,
            window,
        };
        let result = same_everywhere(|cpu| gradients(cpu, &args));
        // Along one direction instead of each coordinate.
        let along = numbers(5, 3 * n * head_dim);
        let sum = |step: f64| -> f64 {
            let all = [&query[..], &key, &value].concat();
            let moved: Vec<f64> = (all.iter().zip(&along))
                .map(|(x, a)| f64::from(*x) + step * f64::from(*a))
                .collect();
            let (query, rest) = moved.split_at(n * head_dim);
            let (key, value) = rest.split_at(n * head_dim);
            let out = attention(&args, query, key, value);
            out.iter().zip(&dout).map(|(o, d)| o * f64::from(*d)).sum()
        };
        let expected = (sum(1e-6) - sum(-1e-6)) / 2e-6;
        let terms = result.iter().zip(&along);
        let found: f64 = terms.map(|(g, a)| f64::from(*g) * f64::from(*a)).sum();
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
    }
}

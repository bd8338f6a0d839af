use std::ops::{Add, Mul, Sub};

use half::{bf16, f16};
use lagar_codec::{hadamard_blocks, hadamard_norm};
use proptest::prelude::*;

use super::{numbers, same_everywhere, worst};
use crate::{AttentionArgs, Cpu, Isa, KvCache, KvFormat, KvPush};

const FORMATS: [KvFormat; 4] = [KvFormat::F32, KvFormat::F16, KvFormat::Q8, KvFormat::Q4];

/// What a cache stores of a head's numbers, plainly.
fn stored(format: KvFormat, x: &[f32]) -> Vec<f64> {
    let group = match format {
        KvFormat::F16 => return x.iter().map(|&x| f16::from_f32(x).to_f64()).collect(),
        KvFormat::Q8 => 128,
        KvFormat::Q4 => 32,
        _ => return x.iter().copied().map(f64::from).collect(),
    };
    let mut rotated = x.to_vec();
    hadamard(&mut rotated);
    let mut out: Vec<f64> = rotated
        .chunks(group)
        .flat_map(|x| {
            let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            let below = bf16::from_bits(((largest / 127.0).to_bits() >> 16) as u16);
            let scale = match below.to_f32() < largest / 127.0 {
                true => bf16::from_bits(below.to_bits() + 1).to_f32(),
                false => below.to_f32(),
            };
            let round = move |x: &f32| match format {
                _ if scale == 0.0 => 0.0,
                KvFormat::Q8 => (x / scale).round_ties_even(),
                _ => {
                    let distance = |level: &f32| (level - (x / scale).abs()).abs();
                    let nearest = |a: &&f32, b: &&f32| distance(a).total_cmp(&distance(b));
                    let levels = [7.0, 20.0, 33.0, 47.0, 62.0, 79.0, 99.0, 124.0];
                    levels.iter().min_by(nearest).unwrap().copysign(*x)
                }
            };
            x.iter()
                .map(move |x| f64::from(round(x)) * f64::from(scale))
        })
        .collect();
    hadamard(&mut out);
    out
}

/// The transform of a head's numbers.
fn hadamard<T>(x: &mut [T])
where
    T: Copy + From<f32> + Add<Output = T> + Sub<Output = T> + Mul<Output = T>,
{
    for block in hadamard_blocks(x.len()) {
        let block = &mut x[block];
        let mut distance = 1;
        while distance < block.len() {
            for i in (0..block.len()).filter(|i| i & distance == 0) {
                let (low, high) = (block[i], block[i + distance]);
                (block[i], block[i + distance]) = (low + high, low - high);
            }
            distance *= 2;
        }
        let norm = T::from(hadamard_norm(block.len()));
        block.iter_mut().for_each(|x| *x = *x * norm);
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    positions: usize,
    n: usize,
    causal: bool,
    window: Option<usize>,
    format: KvFormat,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (
        1usize..4,
        1usize..6,
        prop_oneof![Just(8), Just(64), Just(80), 1usize..140],
    );
    let tokens = (
        1usize..120,
        1usize..20,
        any::<bool>(),
        prop::option::of(1usize..40),
        prop::sample::select(&FORMATS[..]),
    );
    (shape, tokens).prop_map(
        |((kv_heads, group, head_dim), (before, n, causal, window, format))| Case {
            kv_heads,
            group,
            head_dim,
            positions: before - 1 + n,
            n,
            causal,
            window: window.filter(|_| causal),
            format,
        },
    )
}

struct Inputs {
    query: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Case {
    fn inputs(&self) -> Inputs {
        let width = self.kv_heads * self.head_dim;
        Inputs {
            query: numbers(1, self.n * self.group * width),
            keys: numbers(2, self.positions * width),
            values: numbers(3, self.positions * width),
        }
    }

    /// Pushes `n` positions and attends, `chunk` tokens at a time.
    fn run(&self, cpu: &Cpu, inputs: &Inputs, chunk: usize) -> Vec<f32> {
        let width = self.kv_heads * self.head_dim;
        let mut cache = KvCache::new(self.format, self.kv_heads, self.head_dim);
        let before = self.positions - self.n;
        let (keys, values) = (&inputs.keys, &inputs.values);
        cache.push(
            cpu,
            &keys[..before * width],
            &values[..before * width],
            before,
        );
        let mut out = vec![f32::NAN; inputs.query.len()];
        let row = self.group * width;
        for first in (0..self.n).step_by(chunk) {
            let n = chunk.min(self.n - first);
            let range = (before + first) * width..(before + first + n) * width;
            cache.push(cpu, &keys[range.clone()], &values[range], n);
            let args = AttentionArgs {
                query: &inputs.query[first * row..][..n * row],
                n,
                heads: self.kv_heads * self.group,
                cache: &cache,
                scale: 0.3,
                causal: self.causal,
                window: self.window,
            };
            cpu.attention(&[args], &mut out[first * row..][..n * row]);
        }
        out
    }

    fn expected(&self, inputs: &Inputs) -> Vec<f64> {
        let width = self.kv_heads * self.head_dim;
        let mut out = Vec::new();
        for (row, query) in inputs.query.chunks(self.head_dim).enumerate() {
            let heads = self.kv_heads * self.group;
            let (token, head) = (row / heads, row % heads / self.group);
            let place = self.positions - self.n + token;
            let end = if self.causal {
                place + 1
            } else {
                self.positions
            };
            let start = end.saturating_sub(self.window.unwrap_or(end));
            let part = |from: &[f32], p: usize| -> Vec<f64> {
                let first = p * width + head * self.head_dim;
                stored(self.format, &from[first..][..self.head_dim])
            };
            let weights: Vec<f64> = (start..end)
                .map(|p| {
                    let key = part(&inputs.keys, p);
                    let dot: f64 = key.iter().zip(query).map(|(k, &q)| k * f64::from(q)).sum();
                    (dot * 0.3).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            let mut mean = vec![0.0; self.head_dim];
            for (p, weight) in (start..end).zip(&weights) {
                for (mean, value) in mean.iter_mut().zip(part(&inputs.values, p)) {
                    *mean += weight / total * value;
                }
            }
            out.extend(mean);
        }
        out
    }
}

proptest! {
    #[test]
    fn attention_is_its_definition_on_every_instruction_set(case in cases()) {
        let inputs = case.inputs();
        let result = same_everywhere(|cpu| case.run(cpu, &inputs, case.n));
        let error = worst(&result, &case.expected(&inputs));
        // A score is a chain of products whose sizes add up to about head_dim times the scale here;
        // what rounding leaves in it is the relative error of a weight.
        let sizes = case.head_dim as f64 * 0.3;
        let bound = 1e-6 + 4.0 * sizes * f64::from(f32::EPSILON) / 2.0;
        prop_assert!(error < bound, "{error:e} of {bound:e}");
    }

    #[test]
    fn what_is_stored_is_near_to_what_was(
        x in prop::collection::vec(prop_oneof![-1f32..1.0, -30f32..30.0], 1..300),
        exponent in -44i32..34,
        format in prop::sample::select(&FORMATS[..]),
    ) {
        let x: Vec<f32> = x.iter().map(|x| x * 10f32.powi(exponent)).collect();
        // A token that sees one position alone gets its value, whatever it asks for.
        let query = vec![0.0; x.len()];
        let value = same_everywhere(|cpu| {
            let mut cache = KvCache::new(format, 1, x.len());
            cache.push(cpu, &x, &x, 1);
            let mut out = vec![0.0; x.len()];
            cpu.attention(&[alone(&query, &cache)], &mut out);
            out
        });
        let mut rotated: Vec<f64> = x.iter().copied().map(f64::from).collect();
        hadamard(&mut rotated);
        // Half of the largest gap between two levels, with a scale that is rounded up; and what is too small for
        // its scale or for f16.
        let up = 1.0 + 1.0 / 128.0;
        let (group, share, tiny) = match format {
            KvFormat::Q8 => (128, 0.5 / 127.0 * up, 1e-38),
            KvFormat::Q4 => (32, 12.5 / 127.0 * up, 1e-38),
            KvFormat::F16 if exponent > 3 => return Ok(()),
            KvFormat::F16 => (1, 1.0 / 2048.0, 6e-8),
            _ => (1, 0.0, 0.0),
        };
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let largest = rotated.chunks(group).map(|x| {
            let largest = x.iter().fold(0f64, |m, x| m.max(x.abs()));
            largest * (x.len() as f64).sqrt()
        });
        let bound = match group {
            1 => share * norm(&mut x.iter().map(|&x| f64::from(x))),
            _ => share * norm(&mut { largest }),
        };
        let mut differences = x.iter().zip(&value).map(|(&x, &v)| f64::from(x) - f64::from(v));
        let error = norm(&mut differences);
        let size = norm(&mut x.iter().map(|&x| f64::from(x)));
        let bound = bound + size * 1e-6 + tiny * (x.len() as f64).sqrt();
        prop_assert!(error <= bound, "{error:e} of {bound:e}");
    }

    #[test]
    fn a_token_does_not_depend_on_those_computed_with_it(case in cases(), chunk in 1usize..7) {
        let case = Case { causal: true, ..case };
        let inputs = case.inputs();
        let cpu = Cpu::new(Isa::best(), 2);
        prop_assert_eq!(case.run(&cpu, &inputs, case.n), case.run(&cpu, &inputs, chunk));
    }
}

/// One token over all positions.
fn alone<'a>(query: &'a [f32], cache: &'a KvCache) -> AttentionArgs<'a> {
    AttentionArgs {
        query,
        n: 1,
        heads: 1,
        cache,
        scale: 1.0,
        causal: true,
        window: None,
    }
}

#[test]
fn a_truncated_cache_forgets_what_came_after() {
    let cpu = Cpu::new(Isa::best(), 1);
    for format in FORMATS {
        let (mut used, mut fresh) = (KvCache::new(format, 1, 33), KvCache::new(format, 1, 33));
        let numbers = numbers(1, 20 * 33);
        let poison = vec![f32::NAN; 5 * 33];
        used.push(&cpu, &numbers, &numbers, 20);
        used.push(&cpu, &poison, &poison, 5);
        used.truncate(19);
        fresh.push(&cpu, &numbers[..19 * 33], &numbers[..19 * 33], 19);
        assert_eq!((used.len(), used.format()), (19, format));
        let results = [&used, &fresh].map(|cache| {
            let mut out = vec![0.0; 33];
            cpu.attention(&[alone(&numbers[..33], cache)], &mut out);
            out
        });
        assert_eq!(results[0], results[1]);
        assert!(results[0].iter().all(|x| x.is_finite()));
    }
}

#[test]
fn sequences_together_are_what_they_are_alone() {
    let (width, numbers) = (33, numbers(3, 40 * 33));
    let query = |n: usize| &numbers[..n * 2 * width];
    for threads in [1, 3] {
        let cpu = Cpu::new(Isa::best(), threads);
        // Of each sequence, its length and how many of its last positions ask.
        let caches = [(40, 1), (3, 3), (17, 9)].map(|(len, n)| {
            let mut cache = KvCache::new(KvFormat::F16, 1, width);
            let numbers = &numbers[..len * width];
            cache.push(&cpu, numbers, numbers, len);
            (cache, n)
        });
        let args = caches.each_ref().map(|(cache, n)| AttentionArgs {
            query: query(*n),
            n: *n,
            heads: 2,
            ..alone(&[], cache)
        });
        let mut together = vec![0.0; (1 + 3 + 9) * 2 * width];
        cpu.attention(&args, &mut together);
        let mut rest = &together[..];
        for args in args {
            let mut expected = vec![0.0; args.query.len()];
            cpu.attention(&[args], &mut expected);
            let found;
            (found, rest) = rest.split_at(expected.len());
            assert_eq!(found, expected, "{} of {}", args.n, args.cache.len());
        }
    }
}

#[test]
fn positions_after_a_truncation_replace_those_before_it() {
    let cpu = Cpu::new(Isa::best(), 1);
    let (width, numbers, others) = (45, numbers(1, 40 * 45), numbers(7, 40 * 45));
    for format in FORMATS {
        for keep in [0, 1, 15, 16, 17, 31, 39] {
            let (mut used, mut fresh) = (
                KvCache::new(format, 1, width),
                KvCache::new(format, 1, width),
            );
            used.push(
                &cpu,
                &numbers[..keep * width],
                &numbers[..keep * width],
                keep,
            );
            let rest = 40 - keep;
            used.push(&cpu, &others[..rest * width], &others[..rest * width], rest);
            used.truncate(keep);
            used.push(
                &cpu,
                &numbers[keep * width..],
                &numbers[keep * width..],
                rest,
            );
            fresh.push(&cpu, &numbers, &numbers, 40);
            let results = [&used, &fresh].map(|cache| {
                let mut out = vec![0.0; width];
                cpu.attention(&[alone(&others[..width], cache)], &mut out);
                out
            });
            assert_eq!(results[0], results[1], "{format:?}, {keep} kept");
        }
    }
}

#[test]
fn caches_that_grow_together_grow_as_alone() {
    let (heads, width) = (3, 45);
    let x = numbers(1, 40 * heads * width);
    let cases = FORMATS.map(|format| [(format, 1), (format, 17)]).concat();
    let part = |n: usize| &x[..n * heads * width];
    let grown = |cpu: &Cpu, together: bool| {
        let mut caches: Vec<_> = (cases.iter())
            .map(|&(format, _)| KvCache::new(format, heads, width))
            .collect();
        for n in [3, 20] {
            let mut pushes: Vec<_> = (caches.iter_mut().zip(&cases))
                .map(|(cache, &(_, more))| KvPush {
                    cache,
                    keys: part(n + more),
                    values: part(n + more),
                    n: n + more,
                })
                .collect();
            match together {
                true => cpu.push_kv(&mut pushes),
                false => pushes.chunks_mut(1).for_each(|push| cpu.push_kv(push)),
            }
        }
        caches
            .iter()
            .map(|cache| {
                let mut out = vec![0.0; width * heads];
                let args = AttentionArgs {
                    heads,
                    ..alone(part(1), cache)
                };
                cpu.attention(&[args], &mut out);
                (cache.len(), cache.bytes(), out)
            })
            .collect::<Vec<_>>()
    };
    let cpu = Cpu::new(Isa::best(), 3);
    assert_eq!(grown(&cpu, true), grown(&cpu, false));
    assert_eq!(grown(&cpu, true), grown(&Cpu::new(Isa::best(), 1), true));
}

#[test]
fn a_cache_takes_the_bytes_that_its_format_says() {
    let cpu = Cpu::new(Isa::best(), 1);
    for format in FORMATS {
        for head_dim in [1, 2, 33, 64, 80, 128, 257] {
            let mut cache = KvCache::new(format, 3, head_dim);
            let numbers = vec![0.0; 3 * 64 * head_dim];
            cache.push(&cpu, &numbers, &numbers, 64);
            let expected = 3 * 64 * format.bytes_of(head_dim);
            assert_eq!(cache.bytes(), expected, "{format:?}, {head_dim}");
        }
    }
    // 4.5 and 8.25 bits a number.
    assert_eq!(KvFormat::Q4.bytes_of(64), 2 * 36);
    assert_eq!(KvFormat::Q8.bytes_of(64), 2 * 66);
}

#[test]
fn what_is_not_finite_spoils_its_own_position_alone() {
    for format in FORMATS {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut keys = numbers(1, 20 * 40);
            keys[19 * 40 + 5] = bad;
            let values = keys.clone();
            for (window, fine) in [(1, false), (2, false)].into_iter().chain([(0, true)]) {
                let result = same_everywhere(|cpu| {
                    let mut cache = KvCache::new(format, 1, 40);
                    cache.push(cpu, &keys, &values, 20);
                    if fine {
                        cache.truncate(19);
                    }
                    let mut out = vec![0.0; 40];
                    let args = AttentionArgs {
                        window: (window > 0).then_some(window),
                        ..alone(&values[..40], &cache)
                    };
                    cpu.attention(&[args], &mut out);
                    out
                });
                let finite = result.iter().all(|x| x.is_finite());
                assert_eq!(finite, fine, "{format:?}, {bad}, {window}");
            }
        }
    }
}

use half::f16;
use proptest::prelude::*;

use super::{numbers, same_everywhere, worst};
use crate::{AttentionArgs, Cpu, Isa, KvCache, KvFormat};

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
        any::<bool>(),
    );
    (shape, tokens).prop_map(
        |((kv_heads, group, head_dim), (before, n, causal, window, half))| Case {
            kv_heads,
            group,
            head_dim,
            positions: before - 1 + n,
            n,
            causal,
            window: window.filter(|_| causal),
            format: if half { KvFormat::F16 } else { KvFormat::F32 },
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
            cpu.attention(&args, &mut out[first * row..][..n * row]);
        }
        out
    }

    fn expected(&self, inputs: &Inputs) -> Vec<f64> {
        let round = |x: f32| match self.format {
            KvFormat::F32 => f64::from(x),
            KvFormat::F16 => f16::from_f32(x).to_f64(),
        };
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
                from[first..][..self.head_dim]
                    .iter()
                    .map(|&x| round(x))
                    .collect()
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
    fn a_token_does_not_depend_on_those_computed_with_it(case in cases(), chunk in 1usize..7) {
        let case = Case { causal: true, ..case };
        let inputs = case.inputs();
        let cpu = Cpu::new(Isa::best(), 2);
        prop_assert_eq!(case.run(&cpu, &inputs, case.n), case.run(&cpu, &inputs, chunk));
    }
}

#[test]
fn a_truncated_cache_forgets_what_came_after() {
    let cpu = Cpu::new(Isa::best(), 1);
    for format in [KvFormat::F32, KvFormat::F16] {
        let (mut used, mut fresh) = (KvCache::new(format, 1, 8), KvCache::new(format, 1, 8));
        let numbers = numbers(1, 20 * 8);
        let poison = vec![f32::NAN; 5 * 8];
        used.push(&cpu, &numbers, &numbers, 20);
        used.push(&cpu, &poison, &poison, 5);
        used.truncate(19);
        fresh.push(&cpu, &numbers[..19 * 8], &numbers[..19 * 8], 19);
        assert_eq!((used.len(), used.format()), (19, format));
        let results = [&used, &fresh].map(|cache| {
            let mut out = vec![0.0; 8];
            let args = AttentionArgs {
                query: &numbers[..8],
                n: 1,
                heads: 1,
                cache,
                scale: 1.0,
                causal: true,
                window: None,
            };
            cpu.attention(&args, &mut out);
            out
        });
        assert_eq!(results[0], results[1]);
        assert!(results[0].iter().all(|x| x.is_finite()));
    }
}

//! Properties of the choice of tokens.

use lagar_engine::EngineError;
use lagar_engine::sampling::{Sampler, SamplingOptions, most_likely};
use proptest::prelude::*;

fn options() -> SamplingOptions {
    SamplingOptions::default()
}

/// How often each token is chosen at `count` successive positions.
fn histogram(options: SamplingOptions, logits: &[f32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(options).unwrap();
    let mut counts = vec![0; logits.len()];
    for _ in 0..count {
        counts[sampler.sample(logits).unwrap() as usize] += 1;
        sampler.accept(&[0]);
    }
    counts
}

/// Asserts that the draws follow the probabilities `expected`, by a chi-square test whose bound
/// 999 of 1000 seeds would meet.
#[track_caller]
fn check_distribution(options: SamplingOptions, logits: &[f32], expected: &[f64]) {
    const DRAWS: usize = 20_000;
    let counts = histogram(options, logits, DRAWS);
    let mut chi_square = 0.0;
    for (&count, &probability) in counts.iter().zip(expected) {
        let mean = probability * DRAWS as f64;
        if probability == 0.0 {
            assert_eq!(count, 0, "{counts:?}");
        } else {
            chi_square += (f64::from(count) - mean).powi(2) / mean;
        }
    }
    // 99.9 % points of chi-square with 1 to 5 degrees of freedom.
    let bounds = [0.0, 10.83, 13.82, 16.27, 18.47, 20.52];
    let freedom = expected.iter().filter(|&&p| p > 0.0).count() - 1;
    assert!(
        chi_square <= bounds[freedom],
        "chi-square {chi_square}: {counts:?}"
    );
}

fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln() + 3.0).collect()
}

const PROBABILITIES: [f32; 5] = [0.1, 0.4, 0.05, 0.15, 0.3];

#[test]
fn temperature_one_draws_from_the_models_distribution() {
    check_distribution(
        options(),
        &logits_of(&PROBABILITIES),
        &[0.1, 0.4, 0.05, 0.15, 0.3],
    );
}

#[test]
fn temperature_divides_the_logits() {
    let half = SamplingOptions {
        temperature: 0.5,
        ..options()
    };
    let squares: Vec<f64> = PROBABILITIES
        .iter()
        .map(|&p| f64::from(p).powi(2))
        .collect();
    let sum: f64 = squares.iter().sum();
    let expected: Vec<f64> = squares.iter().map(|p| p / sum).collect();
    check_distribution(half, &logits_of(&PROBABILITIES), &expected);
}

#[test]
fn top_k_keeps_k_and_of_equals_the_lowest_ids() {
    let two = SamplingOptions {
        top_k: 2,
        ..options()
    };
    let kept = 0.7;
    check_distribution(
        two,
        &logits_of(&PROBABILITIES),
        &[0.0, 0.4 / kept, 0.0, 0.0, 0.3 / kept],
    );
    check_distribution(two, &[1.0; 5], &[0.5, 0.5, 0.0, 0.0, 0.0]);
}

#[test]
fn top_p_keeps_the_fewest_that_reach_it() {
    let logits = logits_of(&PROBABILITIES);
    let top_p = |top_p| SamplingOptions { top_p, ..options() };
    check_distribution(top_p(0.39), &logits, &[0.0, 1.0, 0.0, 0.0, 0.0]);
    check_distribution(top_p(0.65), &logits, &[0.0, 0.4 / 0.7, 0.0, 0.0, 0.3 / 0.7]);
    let kept = 0.85;
    check_distribution(
        top_p(0.75),
        &logits,
        &[0.0, 0.4 / kept, 0.0, 0.15 / kept, 0.3 / kept],
    );
}

#[test]
fn top_p_applies_to_what_top_k_left() {
    // After top-k 3 the shares are .47, .35 and .18: .8 is reached by two.
    let both = SamplingOptions {
        top_k: 3,
        top_p: 0.8,
        ..options()
    };
    check_distribution(
        both,
        &logits_of(&PROBABILITIES),
        &[0.0, 0.4 / 0.7, 0.0, 0.0, 0.3 / 0.7],
    );
}

#[test]
fn min_p_is_relative_to_the_most_likely() {
    let min_p = SamplingOptions {
        min_p: 0.3,
        ..options()
    };
    let kept = 0.85;
    check_distribution(
        min_p,
        &logits_of(&PROBABILITIES),
        &[0.0, 0.4 / kept, 0.0, 0.15 / kept, 0.3 / kept],
    );
}

#[test]
fn repeat_penalty_pushes_seen_tokens_down_whatever_their_sign() {
    let greedy = SamplingOptions {
        repeat_penalty: 1.5,
        ..SamplingOptions::GREEDY
    };
    let mut sampler = Sampler::new(greedy).unwrap();
    assert_eq!(sampler.sample(&[2.0, 1.9, -1.0]).unwrap(), 0);
    sampler.accept(&[0]);
    assert_eq!(sampler.sample(&[2.0, 1.9, -1.0]).unwrap(), 1);
    assert_eq!(sampler.sample(&[-1.0, -1.4, -9.0]).unwrap(), 1);
    // Ids that the logits do not cover are no error.
    sampler.accept(&[1000]);
    assert_eq!(sampler.sample(&[2.0, 1.9, -1.0]).unwrap(), 1);
}

#[test]
fn a_seed_fixes_the_tokens_for_good() {
    let logits: Vec<f32> = (0..800_i16)
        .map(|i| f32::from(i * 37 % 101) / 20.0)
        .collect();
    let mut sampler = Sampler::new(SamplingOptions {
        seed: 42,
        top_p: 0.9,
        ..options()
    })
    .unwrap();
    let tokens: Vec<u32> = (0..8)
        .map(|_| {
            let token = sampler.sample(&logits).unwrap();
            sampler.accept(&[token]);
            token
        })
        .collect();
    assert_eq!(tokens, GOLDEN_TOKENS);
}

/// From an independent implementation of the documented steps, in Python.
const GOLDEN_TOKENS: [u32; 8] = [643, 502, 371, 237, 526, 300, 726, 540];

#[test]
fn logits_that_are_no_numbers_are_refused() {
    for (logits, expected) in [
        (vec![0.0, f32::NAN], "token 1 is NaN"),
        (vec![f32::INFINITY], "token 0 is inf"),
        (vec![f32::NEG_INFINITY; 3], "none of 3 logits"),
        (vec![], "none of 0 logits"),
    ] {
        for options in [SamplingOptions::GREEDY, options()] {
            let error = Sampler::new(options).unwrap().sample(&logits).unwrap_err();
            assert!(matches!(error, EngineError::Logits { .. }));
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

#[test]
fn options_out_of_range_are_refused() {
    for wrong in [
        SamplingOptions {
            temperature: -1.0,
            ..options()
        },
        SamplingOptions {
            temperature: f32::NAN,
            ..options()
        },
        SamplingOptions {
            top_p: -0.1,
            ..options()
        },
        SamplingOptions {
            top_p: 1.01,
            ..options()
        },
        SamplingOptions {
            min_p: -0.1,
            ..options()
        },
        SamplingOptions {
            repeat_penalty: 0.0,
            ..options()
        },
    ] {
        let error = Sampler::new(wrong).unwrap_err();
        assert!(
            matches!(error, EngineError::SamplingOption { .. }),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn greedy_is_the_first_of_the_largest(logits in proptest::collection::vec(-3_i8..3, 1..40)) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let token = most_likely(&logits).unwrap() as usize;
        prop_assert!(logits.iter().all(|&logit| logit <= logits[token]));
        prop_assert!(logits[..token].iter().all(|&logit| logit < logits[token]));
        // A vanishing temperature comes to the same where there is one largest.
        if logits.iter().filter(|&&logit| logit == logits[token]).count() == 1 {
            let cold = SamplingOptions { temperature: 1e-30, ..options() };
            let sampled = Sampler::new(cold).unwrap().sample(&logits).unwrap();
            prop_assert_eq!(sampled as usize, token);
        }
    }

    /// Whatever the filters, the token chosen is one that the plain definition of each filter
    /// keeps, and forbidden tokens are never chosen.
    #[test]
    fn filters_keep_what_their_definitions_keep(
        logits in proptest::collection::vec(-8.0_f32..8.0, 1..400),
        top_k in 0_usize..300,
        top_p in 0.05_f32..=1.0,
        min_p in 0.0_f32..=1.0,
        temperature in 0.1_f32..3.0,
        seed: u64,
    ) {
        let mut logits = logits;
        if logits.len() > 3 {
            logits[2] = f32::NEG_INFINITY;
        }
        let options = SamplingOptions { temperature, top_k, top_p, min_p, seed, repeat_penalty: 1.0 };
        let token = Sampler::new(options).unwrap().sample(&logits).unwrap() as usize;
        prop_assert!(logits[token].is_finite());

        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if top_k > 0 {
            order.truncate(top_k);
        }
        let rank = order.iter().position(|&candidate| candidate == token);
        prop_assert!(rank.is_some());
        let weight = |t: usize| (f64::from(logits[t] - logits[order[0]]) / f64::from(temperature)).exp();
        let total: f64 = order.iter().map(|&t| weight(t)).sum();
        let before: f64 = order[..rank.unwrap()].iter().map(|&t| weight(t)).sum();
        prop_assert!(before <= f64::from(top_p) * total * (1.0 + 1e-9));
        prop_assert!(weight(token) >= f64::from(min_p) * (1.0 - 1e-6));
    }
}

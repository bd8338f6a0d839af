//! Every parameter's gradient against `torch`'s autograd: `scripts/make_gradients.py` has written
//! down what that computes, in f64, from the tiny checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lagar_engine::gradient::{CrossEntropy, Kl, Loss};
use lagar_engine::{Model, ModelOptions};
use lagar_kernels::{Cpu, Isa};
use serde::Deserialize;

use crate::weights::Gradients;
use crate::whole_model::fixture;

/// Largest accepted error of a norm or an entry, relative to the tensor's norm.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Expected {
    cross_entropy: OfLoss,
    kl: OfLoss,
}

#[derive(Deserialize)]
struct OfLoss {
    loss: f64,
    tensors: BTreeMap<String, Summary>,
}

#[derive(Deserialize)]
struct Summary {
    norm: f64,
    sum: f64,
    entries: Vec<(usize, f64)>,
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The reference logits that the script makes of the stored ones.
fn reference(folder: &Path, vocabulary: usize) -> Vec<f32> {
    let bytes = fs::read(folder.join("logits.f32")).unwrap();
    let stored = bytes.as_chunks().0;
    let mut logits: Vec<f32> = stored.iter().map(|b| f32::from_le_bytes(*b)).collect();
    for row in logits.chunks_exact_mut(vocabulary) {
        row.rotate_right(1);
        row.iter_mut().for_each(|logit| *logit *= 0.8);
    }
    logits
}

fn check(name: &str, loss: &mut dyn Loss, expected: &OfLoss) -> f64 {
    let folder = fixture(name);
    let cpu = Cpu::new(Isa::best(), 2);
    let model = Model::open(&folder, None, &ModelOptions::default()).unwrap();
    let Tokens { tokens } = read(&folder.join("expected.json"));
    let mut gradients = Gradients::new(&cpu, model.spec());
    let found = model.backward(&cpu, &tokens, loss, &mut gradients).unwrap();
    assert!(
        (found / expected.loss - 1.0).abs() < 1e-5,
        "{name}: {found}"
    );

    let mut worst: f64 = 0.0;
    for (tensor, expected) in &expected.tensors {
        let found = gradients.by_name.remove(tensor);
        let found = found.unwrap_or_else(|| panic!("{name}: no gradient of {tensor}"));
        let squares = found.iter().map(|g| f64::from(*g).powi(2));
        let sum: f64 = found.iter().map(|g| f64::from(*g)).sum();
        let elements = (found.len() as f64).sqrt();
        let mut check = |what: &str, found: f64, wanted: f64, scale: f64| {
            let error = (found - wanted).abs() / scale;
            let of = format!("{name}: {tensor}: {what} {found} instead of {wanted}");
            assert!(error < TOLERANCE, "{of}: off by {error:e}");
            worst = worst.max(error);
        };
        check(
            "norm",
            squares.sum::<f64>().sqrt(),
            expected.norm,
            expected.norm,
        );
        check("sum", sum, expected.sum, expected.norm * elements);
        for &(i, wanted) in &expected.entries {
            check("entry", found[i].into(), wanted, expected.norm);
        }
    }
    assert!(
        gradients.by_name.is_empty(),
        "{:?}",
        gradients.by_name.keys()
    );
    worst
}

fn check_fixture(name: &str) {
    let folder = fixture(name);
    let expected: Expected = read(&folder.join("gradients.json"));
    let Tokens { tokens } = read(&folder.join("expected.json"));
    let mut cross_entropy = CrossEntropy::new(&tokens);
    check(name, &mut cross_entropy, &expected.cross_entropy);
    let model = Model::open(&folder, None, &ModelOptions::default()).unwrap();
    let reference = reference(&folder, model.spec().vocabulary);
    check(name, &mut Kl::new(&reference), &expected.kl);
}

#[test]
fn untied_heads_and_half_floats() {
    check_fixture("llama2");
}

#[test]
fn grouped_heads_and_scaled_rotation() {
    check_fixture("llama3");
}

#[test]
fn biases_everywhere() {
    check_fixture("llama-linear-rope");
}

#[test]
fn sliding_window() {
    check_fixture("mistral");
}

#[test]
fn biases_of_queries_keys_and_values() {
    check_fixture("qwen2");
}

#[test]
fn norms_of_heads() {
    check_fixture("qwen3");
}

#[test]
fn shards_and_full_floats() {
    check_fixture("llama-sharded");
}

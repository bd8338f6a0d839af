use std::path::Path;

use lagar_engine::gradient::{CrossEntropy, Kl, Loss, NoGradientObserver, SampledCrossEntropy};
use lagar_engine::{EngineError, Model, ModelOptions};
use lagar_kernels::{Cpu, Isa};

use crate::pressed::{self, Recipe};
use crate::weights::{Gradients, write_checkpoint};
use crate::whole_model::{self, fixture, tokens};

fn open(folder: &Path) -> Model {
    Model::open(folder, None, &ModelOptions::default()).unwrap()
}

/// All gradients of a cross-entropy, name by name.
fn gradients(cpu: &Cpu, model: &Model, text: &[u32]) -> Vec<(String, Vec<f32>)> {
    let mut seen = Gradients::new(cpu, model.spec());
    let loss = &mut CrossEntropy::new(text);
    model.backward(cpu, text, loss, &mut seen).unwrap();
    seen.by_name.into_iter().collect()
}

/// The logits of every position.
fn logits(cpu: &Cpu, model: &Model, text: &[u32]) -> Vec<f32> {
    let bits = whole_model::logits(cpu, model, text, text.len());
    bits.into_iter().map(f32::from_bits).collect()
}

/// The cross-entropy of the forward pass alone, in f64.
fn loss(cpu: &Cpu, model: &Model, text: &[u32]) -> f64 {
    let vocabulary = model.spec().vocabulary;
    let logits = logits(cpu, model, text);
    let rows = logits.chunks(vocabulary).zip(&text[1..]);
    rows.map(|(row, next)| {
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        sum.ln() - f64::from(row[*next as usize])
    })
    .sum()
}

/// A step of each tensor along its own gradient changes the loss of the forward pass by the
/// gradient's length.
#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    for name in ["llama-linear-rope", "mistral", "qwen3"] {
        let text = tokens(24, 290);
        let model = open(&fixture(name));
        for (tensor, gradient) in gradients(&cpu, &model, &text) {
            let squares = gradient.iter().map(|g| f64::from(*g).powi(2));
            let length = squares.sum::<f64>().sqrt();
            // Changes the loss by about a hundredth, of more than ten: curvature and rounding are small.
            let size = 0.01 / length;
            let at = |step: f64| {
                let to = folder.path().join(format!("{name} {tensor} {step:e}"));
                write_checkpoint(&fixture(name), &to, |found, mut values| {
                    if found == tensor {
                        for (value, g) in values.iter_mut().zip(&gradient) {
                            *value += (step / length * f64::from(*g)) as f32;
                        }
                    }
                    values
                });
                loss(&cpu, &open(&to), &text)
            };
            let slope = (at(size) - at(-size)) / (2.0 * size);
            let error = (slope / length - 1.0).abs();
            assert!(error < 4e-3, "{name}: {tensor}: {slope} for {length}");
        }
    }
}

fn bits(gradients: &[(String, Vec<f32>)]) -> Vec<(&str, Vec<u32>)> {
    let bits = |g: &Vec<f32>| g.iter().map(|g| g.to_bits()).collect();
    gradients
        .iter()
        .map(|(n, g)| (n.as_str(), bits(g)))
        .collect()
}

#[test]
fn any_number_of_threads_and_any_instruction_set_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::default();
    let pressed = pressed::write(&fixture("qwen3"), &recipe, folder.path(), "pressed");
    for path in [fixture("llama3"), fixture("mistral"), pressed] {
        let model = open(&path);
        let text = tokens(40, 290);
        let expected = gradients(&Cpu::new(Isa::Portable, 1), &model, &text);
        for (isa, threads) in [(Isa::best(), 1), (Isa::best(), 2), (Isa::best(), 3)] {
            let found = gradients(&Cpu::new(isa, threads), &model, &text);
            assert_eq!(bits(&found), bits(&expected), "{}", path.display());
        }
    }
}

/// A pressed model's gradients are those of a dense model of the matrices that its codes amount to.
#[test]
fn pressed_models_have_the_gradients_of_their_matrices() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    for name in ["llama2", "llama-linear-rope", "qwen3"] {
        let recipe = Recipe {
            depths: vec![2, 1],
            with_empty_groups: true,
            ..Recipe::default()
        };
        let file = pressed::write(&fixture(name), &recipe, folder.path(), name);
        let model = open(&file);
        let dense = folder.path().join(format!("{name} dense"));
        write_checkpoint(&fixture(name), &dense, |tensor, values| {
            let spec = model.spec().tensors();
            let shape = &spec.iter().find(|t| t.name == tensor).unwrap().shape;
            let rows = if shape.len() == 1 { 1 } else { shape[0] };
            let found = model.weight_rows(&cpu, tensor, 0..rows).unwrap();
            assert_eq!(found.len(), values.len());
            found
        });
        let text = tokens(32, 290);
        let expected = gradients(&cpu, &open(&dense), &text);
        let found = gradients(&cpu, &model, &text);
        assert_eq!(expected.len(), found.len());
        for ((tensor, expected), (other, found)) in expected.iter().zip(&found) {
            assert_eq!(tensor, other);
            let norm = expected.iter().map(|g| g * g).sum::<f32>().sqrt();
            let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0, f32::max) / norm;
            assert!(worst < 1e-5, "{name}: {tensor}: {worst:e}");
        }
    }
}

#[test]
fn weights_on_the_disk_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    let recipe = Recipe {
        depths: vec![2, 1],
        ..Recipe::default()
    };
    for name in ["llama2", "qwen2"] {
        let file = pressed::write(&fixture(name), &recipe, folder.path(), name);
        let text = tokens(32, 290);
        let options = ModelOptions::default().with_resident("R").with_window(1);
        let streamed = Model::open(&file, None, &options).unwrap();
        let (found, expected) = (
            gradients(&cpu, &streamed, &text),
            gradients(&cpu, &open(&file), &text),
        );
        assert_eq!(bits(&found), bits(&expected));
    }
}

#[test]
fn losses_are_those_of_the_forward_pass() {
    let cpu = Cpu::new(Isa::best(), 2);
    let model = open(&fixture("qwen2"));
    let text = tokens(32, 290);
    let mut cross_entropy = CrossEntropy::new(&text);
    let found = model.backward(&cpu, &text, &mut cross_entropy, &mut NoGradientObserver);
    let expected = loss(&cpu, &model, &text);
    assert!((found.unwrap() / expected - 1.0).abs() < 1e-6);
    assert_eq!(
        model
            .backward(&cpu, &[], &mut cross_entropy, &mut NoGradientObserver)
            .unwrap(),
        0.0
    );
    // The last token alone has nothing to foretell.
    let one = &text[..1];
    let nothing = model.backward(
        &cpu,
        one,
        &mut CrossEntropy::new(one),
        &mut NoGradientObserver,
    );
    assert_eq!(nothing.unwrap(), 0.0);
}

/// A distribution's divergence from itself is nothing, and so is its gradient.
#[test]
fn a_model_loses_nothing_against_itself() {
    let cpu = Cpu::new(Isa::best(), 2);
    let model = open(&fixture("llama3"));
    let text = tokens(32, 290);
    let reference = logits(&cpu, &model, &text);
    let mut seen = Gradients::new(&cpu, model.spec());
    let loss = model.backward(&cpu, &text, &mut Kl::new(&reference), &mut seen);
    assert!(loss.unwrap().abs() < 1e-4);
    let largest = seen
        .by_name
        .values()
        .flatten()
        .fold(0.0, |m: f32, g| m.max(g.abs()));
    assert!(largest < 1e-4, "{largest:e}");
}

/// Labels are drawn by their probabilities: the mean of `p − label` tends to nothing.
#[test]
fn sampled_labels_follow_the_distribution() {
    let cpu = Cpu::new(Isa::best(), 2);
    let row = [0.5f32, -1.0, 2.0, 0.0, 1.0];
    let n = 20_000;
    let draw = |seed| {
        let mut logits = row.repeat(n);
        let loss = SampledCrossEntropy::new(seed).gradient(&cpu, 0, &mut logits, row.len());
        (logits, loss / n as f64)
    };
    let (gradient, loss) = draw(1);
    for column in 0..row.len() {
        let values = gradient.iter().skip(column).step_by(row.len());
        let mean = values.map(|g| f64::from(*g)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.015, "{mean}: 4 deviations are 0.014");
    }
    let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
    let p = row.map(|x| f64::from(x).exp() / sum);
    let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
    assert!((loss - entropy).abs() < 0.03, "{loss} {entropy}");
    assert_eq!(draw(1).0, gradient);
    assert_ne!(draw(2).0, gradient);
    // Pieces go on with the draws.
    let mut pieces = row.repeat(n);
    let mut loss = SampledCrossEntropy::new(1);
    for piece in pieces.chunks_mut(7 * row.len()) {
        loss.gradient(&cpu, 0, piece, row.len());
    }
    assert_eq!(pieces, gradient);
}

/// A gradient of this size everywhere.
struct Steep(f32);

impl Loss for Steep {
    fn gradient(&mut self, _: &Cpu, _: usize, logits: &mut [f32], _: usize) -> f64 {
        logits.fill(self.0);
        1.0
    }
}

#[test]
fn overflow_names_the_layer() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    let text = tokens(16, 290);
    let scaled = |folder_name: &str, pairs: &[(&str, f32)]| {
        let to = folder.path().join(folder_name);
        write_checkpoint(&fixture("llama2"), &to, |tensor, mut values| {
            for (name, factor) in pairs {
                if tensor.ends_with(name) {
                    values.iter_mut().for_each(|value| *value *= factor);
                }
            }
            values
        });
        open(&to)
    };
    let refused = |model: &Model, loss: &mut dyn Loss| {
        let result = model.backward(&cpu, &text, loss, &mut NoGradientObserver);
        let error = result.unwrap_err();
        assert!(matches!(error, EngineError::Gradient { .. }));
        error.to_string()
    };
    let mut cross_entropy = CrossEntropy::new(&text);
    let large = scaled("large", &[("layers.1.mlp.up_proj.weight", 1e38)]);
    let message = refused(&large, &mut cross_entropy);
    assert!(message.contains("the result of layer 1 "), "{message}");

    // The same model, but that one linear's gradients are large.
    let steep = scaled(
        "steep",
        &[
            ("layers.0.self_attn.o_proj.weight", 1e12),
            ("layers.0.self_attn.v_proj.weight", 1e-12),
        ],
    );
    let message = refused(&steep, &mut Steep(1e28));
    assert!(message.contains("the gradient of layer 0 "), "{message}");
    let message = refused(&steep, &mut Steep(1e38));
    assert!(message.contains("the gradient of the head "), "{message}");
    let damaged = scaled("damaged", &[("lm_head.weight", f32::NAN)]);
    let message = refused(&damaged, &mut cross_entropy);
    assert!(message.contains("the loss "), "{message}");
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let cpu = Cpu::new(Isa::best(), 1);
    let model = open(&fixture("llama2"));
    let refused = |text: &[u32]| {
        let loss = &mut CrossEntropy::new(text);
        let result = model.backward(&cpu, text, loss, &mut NoGradientObserver);
        result.unwrap_err().to_string()
    };
    assert!(refused(&tokens(257, 290)).contains("257 tokens"));
    assert!(refused(&[1, 290]).contains("token 290 at position 1"));
}

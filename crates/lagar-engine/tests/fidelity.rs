//! The forward pass against `transformers`: `scripts/make_fixtures.py` has made tiny checkpoints
//! with each architecture's features, and written down what `transformers` computes from them.

use std::fs;
use std::path::{Path, PathBuf};

use lagar_engine::{Model, ModelOptions, NoObserver};
use lagar_kernels::{Cpu, Isa};
use serde::Deserialize;

/// Largest accepted difference of a logit.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    tokens: Vec<u32>,
    logits_file: String,
    greedy: Vec<u32>,
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut folders: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("expected.json").exists())
        .collect();
    folders.sort();
    assert!(folders.len() >= 7, "one for each architecture and more");
    folders
}

fn expected(folder: &Path) -> (Expected, Vec<f32>) {
    let json = fs::read(folder.join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&json).unwrap();
    let bytes = fs::read(folder.join(&expected.logits_file)).unwrap();
    let logits = bytes.as_chunks().0;
    let logits = logits.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (expected, logits)
}

fn most_likely(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0 as u32
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    let cpu = Cpu::new(Isa::best(), 2);
    for folder in fixtures() {
        let (expected, logits) = expected(&folder);
        let model = Model::open(&folder, None, &ModelOptions::default()).unwrap();
        let mut session = model.session(model.spec().context).unwrap();
        let tokens = &expected.tokens;
        let hidden = model
            .forward(&cpu, &mut session, tokens, &mut NoObserver)
            .unwrap();
        let mut found = vec![0.0; logits.len()];
        model
            .logits(&cpu, hidden, tokens.len(), &mut found)
            .unwrap();
        let worst = found
            .iter()
            .zip(&logits)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst <= TOLERANCE, "{}: {worst}", folder.display());

        let mut next = most_likely(&found[found.len() - model.spec().vocabulary..]);
        for (i, greedy) in expected.greedy.iter().enumerate() {
            assert_eq!(next, *greedy, "{}, token {i}", folder.display());
            let logits = model
                .next_logits(&cpu, &mut session, &[next], &mut NoObserver)
                .unwrap();
            next = most_likely(logits);
        }
        assert!(expected.greedy.len() >= 64);
    }
}

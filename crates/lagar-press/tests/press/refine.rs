//! Refinement after rounding: what it changes, what it leaves alone, and that it helps.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use lagar_engine::{Model, ModelOptions};
use lagar_format::{Body, Container, Index, Limits, Stage};
use lagar_press::{EvaluationOptions, PressOptions, Progress, Silent, evaluate};

use crate::support::{cpu, evaluation_text, fixture, novels, press_quietly, press_with, quick};

fn with_effort(mut options: PressOptions, effort: u8) -> PressOptions {
    options.effort = effort;
    options
}

fn open(path: &Path) -> Container {
    Container::open(path, &Limits::default()).unwrap()
}

/// Divergence from the original on text that no press has read.
fn divergence(original: &Model, file: &Path, tier: &str) -> f64 {
    let model = Model::open(file, Some(tier), &ModelOptions::default()).unwrap();
    let (text, options) = (evaluation_text(), EvaluationOptions::new(None, Some(4096)));
    let measured = evaluate(&cpu(2), &model, Some(original), &text, &options, &Silent);
    measured.unwrap().reference.unwrap().kl_mean
}

#[test]
fn a_tier_is_nearer_to_the_original_also_on_other_text() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, refined] = ["plain", "refined"].map(|name| folder.path().join(name));
    let original = Model::open(novels(), None, &ModelOptions::default()).unwrap();
    let options = |effort| {
        let mut options = with_effort(PressOptions::default().with_tiers(&[2], false), effort);
        options.tokens = 8192;
        options
    };
    assert_eq!(press_quietly(&novels(), &plain, options(0)).refinements, []);
    let report = press_quietly(&novels(), &refined, options(2));
    let [tier] = &report.refinements[..] else {
        panic!("{report:?}");
    };
    assert!(tier.kl_after < tier.kl_before, "{tier:?}");
    let before = divergence(&original, &plain, "R");
    let after = divergence(&original, &refined, "R");
    assert!(after < before, "{before} {after}");
}

/// The parts that refinement may change: row scales and vectors.
fn refinable(index: &Index) -> BTreeSet<usize> {
    let mut parts = BTreeSet::new();
    for tensor in &index.tensors {
        match &tensor.body {
            Body::Raw { parts: raw, .. } => parts.extend(raw),
            Body::Linear { stages, .. } => {
                for stage in stages {
                    let Stage::Window(stage) = stage else {
                        panic!("{stage:?}");
                    };
                    parts.extend(&stage.row_scales);
                }
            }
            Body::Exact => {}
        }
    }
    parts
}

#[test]
fn codes_scales_tables_and_transforms_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, refined] = ["plain", "refined"].map(|name| folder.path().join(name));
    for name in ["llama-linear-rope", "qwen3"] {
        let options = |effort| with_effort(quick(2).with_tiers(&[2, 1], false), effort);
        press_quietly(&fixture(name), &plain, options(0));
        let report = press_quietly(&fixture(name), &refined, options(2));
        assert!(
            report
                .refinements
                .iter()
                .all(|tier| tier.kl_after < tier.kl_before)
        );
        let (plain, refined) = (open(&plain), open(&refined));
        let other = |container: &Container, tier: usize| -> Vec<Vec<u8>> {
            let index = container.index();
            let may = refinable(index);
            let parts = (0..index.parts.len()).filter(|id| !may.contains(id));
            let parts = parts.filter(|id| index.parts[*id].tier == tier);
            parts
                .map(|id| container.part(id).unwrap().to_vec())
                .collect()
        };
        for tier in 0..2 {
            assert!(other(&plain, tier) == other(&refined, tier), "{name}");
        }
        let bytes = |container: &Container, tier| container.tier_bytes(tier).unwrap();
        let same_index = plain.index().tables == refined.index().tables;
        assert!(same_index, "{name}");
        // Only the second tier has more parts: values of its own for what the first one uses.
        let count = |container: &Container, tier| {
            container
                .index()
                .parts
                .iter()
                .filter(|part| part.tier == tier)
                .count()
        };
        assert_eq!(count(&plain, 0), count(&refined, 0), "{name}");
        assert!(count(&plain, 1) < count(&refined, 1), "{name}");
        assert!(bytes(&plain, 1) < bytes(&refined, 1));
    }
}

#[test]
fn too_little_text_to_hold_some_out_leaves_everything_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, refined] = ["plain", "refined"].map(|name| folder.path().join(name));
    let options = |effort| {
        let mut options = with_effort(quick(2), effort);
        options.tokens = 200;
        options
    };
    press_quietly(&fixture("llama2"), &plain, options(0));
    let report = press_quietly(&fixture("llama2"), &refined, options(3));
    assert_eq!(report.refinements, []);
    let parts = |path: &Path| {
        let container = open(path);
        let ids = 0..container.index().parts.len();
        ids.map(|id| container.part(id).unwrap().to_vec())
            .collect::<Vec<_>>()
    };
    assert!(parts(&plain) == parts(&refined));
}

/// Keeps what a press tells its user.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn phase(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn note(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn the_user_learns_what_it_was_worth() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.lagar");
    let notes = Notes::default();
    let report = press_with(&fixture("llama2"), &output, quick(2), 2, false, &notes).unwrap();
    let [refined] = &report.refinements[..] else {
        panic!("{report:?}");
    };
    let expected = format!(
        "KL {:.4} before, {:.4} afterwards",
        refined.kl_before, refined.kl_after
    );
    let notes = notes.0.into_inner().unwrap();
    assert!(
        notes.iter().any(|note| note.contains(&expected)),
        "{notes:?}"
    );
    // Every parameter was kept in the type that it had: the file is as long as without.
    let plain = folder.path().join("plain.lagar");
    press_quietly(&fixture("llama2"), &plain, with_effort(quick(2), 0));
    let bytes = |path: &Path| open(path).tier_bytes(0).unwrap();
    assert_eq!(bytes(&plain).div_ceil(4096), bytes(&output).div_ceil(4096));
}

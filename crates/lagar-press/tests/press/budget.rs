//! Files of a given length, with depths that differ from group to group.

use lagar_engine::{Model, ModelOptions};
use lagar_format::{Body, Container, Limits, Stage};
use lagar_press::{
    EvaluationOptions, PressError, PressOptions, Silent, StageBits, evaluate, restore,
};

use crate::support::{cpu, evaluation_text, fixture, novels, press_quietly, press_with, quick};

fn budget(tiers: &[StageBits]) -> PressOptions {
    quick(2).with_stages(tiers.to_vec(), false)
}

/// The bits per parameter of a tier's prefix.
fn bits(file: &std::path::Path, tier: &str) -> f64 {
    let model = Model::open(file, Some(tier), &ModelOptions::default()).unwrap();
    8.0 * model.file_bytes() as f64 / model.parameters() as f64
}

/// At most what was asked for, and not half a percent less, whatever that is.
#[test]
fn files_are_as_long_as_they_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.lagar");
    for target in [1.0, 2.56, 4.4] {
        press_quietly(&novels(), &file, budget(&[StageBits::FileBits(target)]));
        let found = bits(&file, "R");
        assert!(
            found <= target && found > 0.995 * target,
            "{found} of {target}"
        );
    }
    let bytes = 1_300_000;
    let options = budget(&[StageBits::FileBytes(bytes)]);
    let report = press_quietly(&novels(), &file, options);
    assert!((bytes - bytes / 200..=bytes).contains(&report.file_bytes));
}

/// More bits where they save more: less is lost than with as many everywhere.
#[test]
fn a_budget_loses_less_than_one_depth_in_as_many_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = cpu(2);
    let original = Model::open(novels(), None, &ModelOptions::default()).unwrap();
    let divergence = |bits: StageBits| {
        let file = folder.path().join("a.lagar");
        let mut options = budget(&[bits]);
        options.tokens = 16_384;
        options.effort = 0;
        let bytes = press_quietly(&novels(), &file, options).file_bytes;
        let pressed = Model::open(&file, None, &ModelOptions::default()).unwrap();
        let options = EvaluationOptions::new(None, Some(4096));
        let text = evaluation_text();
        let found = evaluate(&cpu, &pressed, Some(&original), &text, &options, &Silent).unwrap();
        (found.reference.unwrap().kl_mean, bytes)
    };
    let (uniform, bytes) = divergence(StageBits::Depth(2));
    let (budgeted, used) = divergence(StageBits::FileBytes(bytes));
    assert!(
        used <= bytes && budgeted < 0.92 * uniform,
        "{budgeted} {uniform}"
    );
}

/// Each stage of a tiered file can have an average of its own; the original comes back all the same, and
/// the bytes do not depend on the threads.
#[test]
fn stages_with_averages_are_tiers_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let stages = vec![StageBits::Average(1.8), StageBits::Average(1.6)];
    for name in ["llama2", "qwen3"] {
        let options = quick(2).with_stages(stages.clone(), true);
        let files = [1, 3].map(|threads| {
            let file = folder.path().join(format!("{name}-{threads}.lagar"));
            let options = options.clone();
            press_with(&fixture(name), &file, options, threads, false, &Silent).unwrap();
            file
        });
        assert!(std::fs::read(&files[0]).unwrap() == std::fs::read(&files[1]).unwrap());
        let restored = folder.path().join(name);
        restore(&cpu(2), &files[0], &restored, &Silent).unwrap();
        let container = Container::open(&files[0], &Limits::default()).unwrap();
        for (stage, average) in [(0, 1.8), (1, 1.6)] {
            let (mut bits, mut weights) = (0.0, 0.0);
            for tensor in &container.index().tensors {
                let Body::Linear { stages, .. } = &tensor.body else {
                    continue;
                };
                let rows = tensor.shape[0].next_multiple_of(16) as f64;
                let cols = tensor.shape[1].next_multiple_of(4) as usize;
                weights += rows * cols as f64;
                for window in stages.iter().flat_map(Stage::windows) {
                    for (group, &depth) in window.depths.iter().enumerate() {
                        if window.tier == stage {
                            let cols = (cols - group * 128).min(128) as f64;
                            bits += f64::from(depth) * rows * cols;
                        }
                    }
                }
            }
            let found = bits / weights;
            assert!(found <= average && found > average - 0.2, "{name}: {found}");
        }
    }
}

#[test]
fn impossible_lengths_are_refused_with_the_possible_ones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.lagar");
    let refused = |bits| {
        let options = budget(&[bits]);
        press_with(&fixture("llama2"), &file, options, 2, false, &Silent).unwrap_err()
    };
    let small = refused(StageBits::FileBytes(5000));
    assert!(
        matches!(small, PressError::BelowFloor { floor, .. } if floor > 5000),
        "{small}"
    );
    let large = refused(StageBits::FileBits(33.0));
    assert!(matches!(large, PressError::AboveOriginal { .. }), "{large}");
    for bits in [
        StageBits::Average(0.0),
        StageBits::Average(8.5),
        StageBits::FileBits(f64::NAN),
    ] {
        assert!(matches!(refused(bits), PressError::Bits { .. }));
    }
    assert!(!file.exists());
}

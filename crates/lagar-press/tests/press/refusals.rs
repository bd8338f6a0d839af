//! What a press or a measurement does not accept.

use std::fs;
use std::path::Path;

use lagar_engine::{Model, ModelOptions};
use lagar_press::{
    EvaluationOptions, PressError, PressOptions, Request, Silent, StageBits, evaluate, press,
};

use crate::support::{StopAfter, calibration_text, cpu, fixture, press_with, quick};

/// A copy of a fixture that may be spoilt.
fn copy(name: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn unfinished_work_of_another_kind_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.lagar");
    press_with(
        &fixture("llama2"),
        &output,
        quick(2),
        1,
        false,
        &StopAfter::new(12),
    )
    .unwrap_err();
    let refused = |options, checkpoint: &str| {
        let error =
            press_with(&fixture(checkpoint), &output, options, 1, true, &Silent).unwrap_err();
        assert!(matches!(error, PressError::Mismatch { .. }), "{error}");
        error.to_string()
    };
    assert!(refused(quick(3), "llama2").contains("settings"));
    assert!(refused(quick(2).with_tiers(&[2, 2], false), "llama2").contains("settings"));
    assert!(refused(quick(2), "llama3").contains("checkpoint"));
    press_with(&fixture("llama2"), &output, quick(2), 1, true, &Silent).unwrap();
}

#[test]
fn resuming_where_nothing_was_begun_starts_afresh() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.lagar");
    let report = press_with(&fixture("llama2"), &output, quick(2), 1, true, &Silent).unwrap();
    assert_eq!(report.resumed_units, 0);
    assert!(output.exists());
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    copy("llama2", &checkpoint);
    let weights = checkpoint.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    let output = folder.path().join("out.lagar");
    let error = press_with(&checkpoint, &output, quick(2), 1, false, &Silent).unwrap_err();
    assert!(matches!(error, PressError::NotFinite { .. }), "{error}");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert!(!output.exists());
}

#[test]
fn a_text_without_tokens_and_impossible_depths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.lagar");
    let try_press = |text: &str, bits| {
        let checkpoint = fixture("llama2");
        let request = Request {
            checkpoint: &checkpoint,
            text,
            held_out: None,
            cost: None,
            output: &output,
            options: quick(bits),
            resume: false,
        };
        press(&cpu(1), &request, &Silent).unwrap_err()
    };
    assert!(matches!(
        try_press("", 2),
        PressError::TextTooShort { tokens: 0, .. }
    ));
    for bits in [0, 9] {
        assert!(matches!(
            try_press(&calibration_text(), bits),
            PressError::Bits { .. }
        ));
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn stages_that_make_no_file_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.lagar");
    let refused = |change: &dyn Fn(&mut PressOptions)| {
        let mut options = quick(2);
        change(&mut options);
        press_with(&fixture("llama2"), &output, options, 1, false, &Silent).unwrap_err()
    };
    let stages = |tiers: &[u8]| refused(&|o| *o = o.clone().with_tiers(tiers, o.exact));
    assert!(matches!(stages(&[]), PressError::Stages { stages: 0 }));
    assert!(matches!(
        stages(&[1, 1, 1, 1]),
        PressError::Stages { stages: 4 }
    ));
    assert!(matches!(
        stages(&[2, 0]),
        PressError::Bits {
            bits: StageBits::Depth(0)
        }
    ));
    assert!(matches!(
        stages(&[2, 9]),
        PressError::Bits {
            bits: StageBits::Depth(9)
        }
    ));
    let primary = refused(&|o| o.primary = Some(1));
    assert!(matches!(
        primary,
        PressError::Primary { tier: 1, stages: 1 }
    ));
    let effort = refused(&|o| o.effort = 4);
    assert!(matches!(effort, PressError::Effort { effort: 4 }));
    for damping in [vec![], vec![0.1, 0.1], vec![-0.1], vec![f32::NAN]] {
        let error = refused(&|o| o.damping = Some(damping.clone()));
        assert!(matches!(error, PressError::Damping { .. }), "{error}");
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn models_of_different_vocabularies_are_not_compared() {
    let open = |name: &str| Model::open(fixture(name), None, &ModelOptions::default()).unwrap();
    let novels = Model::open(crate::support::novels(), None, &ModelOptions::default()).unwrap();
    let options = EvaluationOptions::default();
    let error = evaluate(
        &cpu(1),
        &novels,
        Some(&open("llama2")),
        "text",
        &options,
        &Silent,
    );
    assert!(matches!(error, Err(PressError::Vocabulary { .. })));
}

/// A copy of a fixture whose last tensor ends with this value.
fn ending_with(value: f32, to: &Path) {
    copy("llama2", to);
    let weights = to.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
}

#[test]
fn an_output_does_not_take_the_place_of_what_the_press_reads() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    copy("llama2", &checkpoint);
    for name in [
        "model.safetensors",
        "config.json",
        "../checkpoint/tokenizer.json",
    ] {
        let output = checkpoint.join(name);
        let before = fs::read(&output).unwrap();
        let error = press_with(&checkpoint, &output, quick(2), 1, false, &Silent).unwrap_err();
        assert!(matches!(error, PressError::OutputIsInput { .. }), "{error}");
        assert_eq!(fs::read(&output).unwrap(), before);
    }
    let copied = fs::read_dir(fixture("llama2")).unwrap().count();
    assert_eq!(fs::read_dir(&checkpoint).unwrap().count(), copied);
}

#[cfg(unix)]
#[test]
fn an_output_does_not_take_the_place_of_anything_but_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&output).unwrap();
    let error = press_with(&fixture("llama2"), &output, quick(2), 1, false, &Silent).unwrap_err();
    assert!(error.to_string().contains("not a plain file"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn predictions_that_are_no_numbers_are_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    ending_with(f32::INFINITY, folder.path());
    let options = ModelOptions::default();
    let broken = Model::open(folder.path(), None, &options).unwrap();
    let whole = Model::open(fixture("llama2"), None, &options).unwrap();
    let measure = |model, reference| {
        let options = EvaluationOptions::new(Some(16), Some(64));
        evaluate(
            &cpu(1),
            model,
            reference,
            &calibration_text(),
            &options,
            &Silent,
        )
    };
    assert!(measure(&whole, Some(&whole)).is_ok());
    for (model, reference, at_fault) in [
        (&broken, None, "the model"),
        (&broken, Some(&whole), "the model"),
        (&whole, Some(&broken), "the reference"),
    ] {
        let message = measure(model, reference).unwrap_err().to_string();
        assert!(message.starts_with(at_fault), "{message}");
    }
}

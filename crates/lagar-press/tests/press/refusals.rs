//! What a press or a measurement does not accept.

use std::fs;
use std::path::Path;

use lagar_engine::{Model, ModelOptions};
use lagar_press::{EvaluationOptions, PressError, Request, Silent, evaluate, press};

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

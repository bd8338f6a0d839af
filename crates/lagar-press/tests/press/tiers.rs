//! Several stages in one file: what its tiers are, and how good.

use std::fs;

use lagar_engine::{Model, ModelOptions};
use lagar_press::{
    EvaluationOptions, MeasuredText, PressOptions, Request, Silent, evaluate, press,
};

use crate::support::{
    calibration_text, cpu, evaluation_text, fixture, novels, press_quietly, quick,
};

fn options(tiers: &[u8]) -> PressOptions {
    quick(2).with_tiers(tiers, false)
}

/// The reported divergences are those that `evaluate` finds, and fall from tier to tier.
#[test]
fn every_tier_is_better_than_the_one_before_and_reported_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.lagar");
    let text = evaluation_text();
    let mut options = options(&[2, 1, 1]);
    options.tokens = 16_384;
    let calibration: String = calibration_text().chars().take(20_000).collect();
    let checkpoint = novels();
    let request = Request {
        checkpoint: &checkpoint,
        text: &calibration,
        held_out: Some(&text),
        cost: None,
        output: &output,
        options,
        resume: false,
    };
    let report = press(&cpu(2), &request, &Silent).unwrap();
    let measurement = report.measurement.unwrap();
    assert_eq!(measurement.text, MeasuredText::HeldOut);
    let [(r, kl_r), (rg, kl_rg), (rgb, kl_rgb)] = &measurement.kl_mean[..] else {
        panic!("{measurement:?}");
    };
    assert_eq!([r, rg, rgb], ["R", "RG", "RGB"]);
    assert!(
        kl_rg < &(kl_r / 2.0) && kl_rgb < &(kl_rg / 2.0),
        "{measurement:?}"
    );
    let original = Model::open(&checkpoint, None, &ModelOptions::default()).unwrap();
    for (tier, kl) in &measurement.kl_mean {
        let model = Model::open(&output, Some(tier), &ModelOptions::default()).unwrap();
        let evaluated = evaluate(
            &cpu(1),
            &model,
            Some(&original),
            &text,
            &EvaluationOptions::new(None, Some(4096)),
            &Silent,
        )
        .unwrap();
        assert_eq!(evaluated.tokens, measurement.tokens);
        assert_eq!(evaluated.reference.unwrap().kl_mean, *kl, "{tier}");
    }
}

#[test]
fn text_that_calibration_did_not_read_is_measured_on_where_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.lagar");
    let text = calibration_text();
    let measured = |tokens, held_out| {
        let mut options = options(&[2]);
        options.tokens = tokens;
        let checkpoint = fixture("llama2");
        let text = &text[..6000];
        let request = Request {
            checkpoint: &checkpoint,
            text,
            held_out,
            cost: None,
            output: &output,
            options,
            resume: false,
        };
        let report = press(&cpu(1), &request, &Silent).unwrap();
        report.measurement.unwrap().text
    };
    assert_eq!(measured(512, Some("a b c")), MeasuredText::Rest);
    assert_eq!(
        measured(1 << 20, Some("too short")),
        MeasuredText::Calibration
    );
    assert_eq!(measured(1 << 20, None), MeasuredText::Calibration);
    assert_eq!(measured(1 << 20, Some(&text)), MeasuredText::HeldOut);
}

#[test]
fn a_prefix_that_ends_at_a_tier_boundary_is_the_file_of_that_tier() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.lagar");
    for (name, tiers) in [("llama2", &[2, 2][..]), ("qwen2", &[1, 1, 1])] {
        press_quietly(&fixture(name), &output, options(tiers));
        let bytes = fs::read(&output).unwrap();
        for tier in &["R", "RG", "RGB"][..tiers.len()] {
            let model = Model::open(&output, Some(tier), &ModelOptions::default()).unwrap();
            let cut = folder.path().join("cut.lagar");
            fs::write(&cut, &bytes[..model.file_bytes() as usize]).unwrap();
            let alone = Model::open(&cut, None, &ModelOptions::default()).unwrap();
            assert_eq!(alone.file_bytes(), model.file_bytes());
            let logits = |model: &Model| {
                let cpu = cpu(1);
                let mut session = model.session(8).unwrap();
                let hidden = model
                    .forward(
                        &cpu,
                        &mut session,
                        &[1, 2, 3],
                        &mut lagar_engine::NoObserver,
                    )
                    .unwrap()
                    .to_vec();
                let mut logits = vec![0.0; 3 * model.spec().vocabulary];
                model.logits(&cpu, &hidden, 3, &mut logits).unwrap();
                logits
            };
            assert_eq!(logits(&alone), logits(&model), "{name} {tier}");
        }
    }
}

#[test]
fn the_last_tier_of_a_file_is_called_after_its_number_of_stages() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.lagar");
    press_quietly(&fixture("llama2"), &output, options(&[2, 2]));
    for (tier, there) in [("R", true), ("RG", true), ("RGB", false), ("full", false)] {
        let model = Model::open(&output, Some(tier), &ModelOptions::default());
        assert_eq!(model.is_ok(), there, "{tier}");
    }
}

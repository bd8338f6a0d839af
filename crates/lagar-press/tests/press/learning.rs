//! Depths that are chosen by what a pressed model loses.

use std::fs;
use std::path::Path;

use lagar_format::{Body, Container, Limits, Stage, TensorRecord};
use lagar_press::{PressOptions, Progress, Request, Silent, StageBits, Task, press};

use crate::support::{StopAfter, calibration_text, cpu, fixture, novels, press_with, quick};

fn budget(bits: StageBits, rounds: u8) -> PressOptions {
    let mut options = quick(2).with_stages(vec![bits], false);
    options.effort = 0;
    options.rounds = Some(rounds);
    options
}

/// Between nine tenths of what may be lost and all of it, on the text that the press reports.
#[test]
fn a_file_loses_as_much_as_it_may_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.lagar");
    let nats = 0.2;
    let options = budget(StageBits::Divergence(nats), 0);
    let report = press_with(&novels(), &file, options, 2, false, &Silent).unwrap();
    let lost = report.measurement.unwrap().kl_mean[0].1;
    assert!(lost <= nats && lost >= 0.9 * nats, "{lost} of {nats}");
}

/// A press that is stopped in any round, or while it measures, ends in the same bytes.
#[test]
fn rounds_are_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.lagar");
    let options = || budget(StageBits::Average(2.5), 2);
    let checkpoint = fixture("llama3");
    press_with(&checkpoint, &whole, options(), 2, false, &Silent).unwrap();
    let mut stops = 0;
    // While sensitivities are measured, in each of the rounds, between them.
    for reports in [0, 30, 80, 140, 220, 320, 450, 600, 1000, 100_000] {
        let output = folder.path().join("stopped.lagar");
        let stop = StopAfter::new(reports);
        if press_with(&checkpoint, &output, options(), 2, false, &stop).is_ok() {
            break;
        }
        stops += 1;
        assert!(!output.exists());
        press_with(&checkpoint, &output, options(), 1, true, &Silent).unwrap();
        assert!(
            fs::read(&output).unwrap() == fs::read(&whole).unwrap(),
            "after {reports}"
        );
        fs::remove_file(&output).unwrap();
    }
    assert!(stops > 3, "rounds report their progress");
}

/// What is kept is the best of the rounds on text that was held out: never worse than the first.
#[test]
fn learning_keeps_the_best_round() {
    struct Notes(std::sync::Mutex<Vec<f64>>);
    impl Progress for Notes {
        fn phase(&self, _: &str, _: u64) {}
        fn advance(&self, _: u64) {}
        fn note(&self, message: &str) {
            if let Some(rest) = message.strip_prefix("depths of round ") {
                let divergence = rest.split(" KL ").nth(1).unwrap();
                let number = divergence.split(' ').next().unwrap().parse().unwrap();
                self.0.lock().unwrap().push(number);
            }
        }
        fn cancelled(&self) -> bool {
            false
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let notes = Notes(Default::default());
    let press = |name: &str, rounds, progress: &dyn Progress| {
        let options = budget(StageBits::Average(2.2), rounds);
        press_with(&fixture("qwen3"), &file(name), options, 2, false, progress).unwrap();
        let container = Container::open(&file(name), &Limits::default()).unwrap();
        let tensors = container.index().tensors.iter();
        tensors.flat_map(stage_depths).collect::<Vec<_>>()
    };
    let learned = press("learned", 2, &notes);
    let found = notes.0.into_inner().unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    // With fewer rounds the same one is the best. (Divergences that are printed alike may differ.)
    let least = found.iter().copied().fold(f64::INFINITY, f64::min);
    let mut best = (0..3).filter(|&round| found[usize::from(round)] <= least);
    assert!(best.any(|round| press("best", round, &Silent) == learned));
}

/// Depths that are chosen for some answers are others than those for all text, and the file knows.
#[test]
fn a_task_is_a_cost_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let questions = folder.path().join("questions.jsonl");
    let lines = (0..40).map(|i| {
        format!("{{\"prompt\": \"It was {i} o'clock, and the\", \"answer\": \"captain\"}}\n")
    });
    fs::write(&questions, lines.collect::<String>()).unwrap();
    let task = Task::read(&questions, None).unwrap();
    let text = calibration_text();
    let text = &text[..8000];
    let depths = |name: &str, cost: Option<&Task>| {
        let output = folder.path().join(name);
        let request = Request {
            checkpoint: &fixture("llama2"),
            text,
            held_out: None,
            cost,
            output: &output,
            options: budget(StageBits::Average(2.5), 1),
            resume: false,
        };
        press(&cpu(2), &request, &Silent).unwrap();
        let container = Container::open(&output, &Limits::default()).unwrap();
        let tensors = container.index().tensors.iter();
        tensors.flat_map(stage_depths).collect::<Vec<_>>()
    };
    assert!(depths("all", None) != depths("some", Some(&task)));
    assert_eq!(setting(&folder.path().join("all"), "cost"), "kl");
    assert_eq!(setting(&folder.path().join("some"), "cost").len(), 64);
}

/// The depths of all groups of a tensor.
fn stage_depths(tensor: &TensorRecord) -> Vec<Vec<u8>> {
    match &tensor.body {
        Body::Linear { stages, .. } => {
            let windows = stages.iter().flat_map(Stage::windows);
            windows.map(|window| window.depths.clone()).collect()
        }
        _ => Vec::new(),
    }
}

fn setting(file: &Path, name: &str) -> String {
    let container = Container::open(file, &Limits::default()).unwrap();
    container.index().settings[name].clone()
}

//! Depths that are chosen by what a pressed model loses.

use std::fs;
use std::path::Path;

use lagar_press::{PressOptions, PressReport, Progress, Request, Silent, StageBits, Task, press};

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
    let mut bytes = Vec::new();
    for nats in [0.3, 0.05] {
        let options = budget(StageBits::Divergence(nats), 0);
        let report = press_with(&novels(), &file, options, 2, false, &Silent).unwrap();
        let lost = report.measurement.unwrap().kl_mean[0].1;
        assert!(lost <= nats && lost >= 0.9 * nats, "{lost} of {nats}");
        bytes.push(report.file_bytes);
    }
    assert!(bytes[0] < bytes[1]);
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
    for reports in (0..).step_by(23) {
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
    let mut options = budget(StageBits::FileBits(2.2), 2);
    options.tokens = 8192;
    press_with(
        &novels(),
        &file("learned"),
        options.clone(),
        2,
        false,
        &notes,
    )
    .unwrap();
    let found = notes.0.into_inner().unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    let best = (0..3)
        .min_by(|&a, &b| found[a].total_cmp(&found[b]))
        .unwrap();
    options.rounds = Some(best as u8);
    // With fewer rounds the same one is the best, and its bytes are the same but for the settings.
    press_with(&novels(), &file("best"), options, 2, false, &Silent).unwrap();
    let length = |name| fs::metadata(file(name)).unwrap().len();
    assert_eq!(length("learned"), length("best"));
    let codes = |name| fs::read(file(name)).unwrap().split_off(64 * 1024);
    assert!(codes("learned") == codes("best"));
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
    let made = |name: &str, cost: Option<&Task>| -> (PressReport, Vec<u8>) {
        let output = folder.path().join(name);
        let request = Request {
            checkpoint: &novels(),
            text: &text,
            held_out: None,
            cost,
            output: &output,
            options: budget(StageBits::FileBits(2.2), 1),
            resume: false,
        };
        let report = press(&cpu(2), &request, &Silent).unwrap();
        (report, fs::read(&output).unwrap())
    };
    let (all, all_bytes) = made("all", None);
    let (some, some_bytes) = made("some", Some(&task));
    assert!(all_bytes != some_bytes);
    assert_eq!(setting(&folder.path().join("all"), "cost"), "kl");
    assert_eq!(setting(&folder.path().join("some"), "cost").len(), 64);
    let lost = |report: &PressReport| report.measurement.as_ref().unwrap().kl_mean[0].1;
    assert!(lost(&all) < lost(&some), "on all text");
}

fn setting(file: &Path, name: &str) -> String {
    let container = lagar_format::Container::open(file, &lagar_format::Limits::default()).unwrap();
    container.index().settings[name].clone()
}

//! Tasks: scores are those of `lm-eval`, and nothing but the question decides them.

use std::path::{Path, PathBuf};

use lagar_engine::{Model, ModelOptions, NoObserver};
use lagar_press::{PressError, Silent, Task, TaskResult, score};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{StopAfter, cpu, fixture, novels};

fn tasks(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tasks");
    folder.join(name)
}

fn open(name: &str) -> Model {
    let folder = match name {
        "novels4m" => novels(),
        name => fixture(name),
    };
    Model::open(folder, None, &ModelOptions::default()).unwrap()
}

fn answer(model: &Model, path: &Path) -> TaskResult {
    score(&cpu(2), model, &Task::read(path, None).unwrap(), &Silent).unwrap()
}

/// A file with these lines.
fn file(folder: &TempDir, lines: &[impl AsRef<[u8]>]) -> PathBuf {
    let path = folder.path().join("task.jsonl");
    let lines: Vec<&[u8]> = lines.iter().map(AsRef::as_ref).collect();
    std::fs::write(&path, lines.join(&b'\n')).unwrap();
    path
}

#[test]
fn scores_are_those_of_lm_eval() {
    let expected = std::fs::read(tasks("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    for (name, by_task) in expected.as_object().unwrap() {
        let model = open(name);
        for (task, questions) in by_task.as_object().unwrap() {
            let result = answer(&model, &tasks(&format!("{task}.jsonl")));
            let questions = questions.as_array().unwrap();
            assert_eq!(result.answers.len(), questions.len());
            for (answer, question) in result.answers.iter().zip(questions) {
                let question = question.as_array().unwrap();
                assert_eq!(answer.log_likelihoods.len(), question.len());
                for (own, expected) in answer.log_likelihoods.iter().zip(question) {
                    let difference = (own - expected[0].as_f64().unwrap()).abs();
                    assert!(difference < 1e-3, "{name} {task} {answer:?}: {expected}");
                }
                if task == "completions" {
                    let greedy = question[0][1].as_bool().unwrap();
                    assert_eq!(answer.right, greedy, "{name} {answer:?}");
                }
            }
            assert_eq!(result.perplexity.is_some(), task == "completions");
            assert_eq!(result.accuracy_norm.is_some(), task == "choices");
        }
    }
}

#[test]
fn the_likeliest_choice_is_the_answer() {
    let folder = TempDir::new().unwrap();
    let model = open("novels4m");
    // The same choices, with another one called right.
    let line = |right: usize| {
        let choices = r#"["the captain was a little boy", "x"]"#;
        format!(
            r#"{{"prompt": "It was a fine morning, and", "choices": {choices}, "answer": {right}}}"#
        )
    };
    let result = answer(
        &model,
        &file(&folder, &[line(0), line(1), line(0), line(1)]),
    );
    for answer in &result.answers {
        let [whole, letter] = answer.log_likelihoods[..] else {
            panic!("{answer:?}")
        };
        let asked = answer.line % 2;
        assert_eq!(answer.right, (whole > letter) == (asked == 1), "{answer:?}");
        let norm = whole / 28.0 > letter;
        assert_eq!(answer.right_norm, Some(norm == (asked == 1)), "{answer:?}");
    }
    assert_eq!(result.accuracy, 0.5);
    let error = (4.0f64 * 0.25 / 3.0).sqrt() / 2.0;
    assert!((result.accuracy_stderr.unwrap() - error).abs() < 1e-12);
    // A single question says nothing about the deviation.
    let one = answer(&model, &file(&folder, &[line(0)]));
    assert_eq!(one.accuracy_stderr, None);
}

#[test]
fn what_stays_computed_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let model = open("llama2");
    let text = std::fs::read_to_string(tasks("choices.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let whole = answer(&model, &tasks("choices.jsonl"));
    for (line, together) in lines.iter().zip(&whole.answers) {
        let alone = answer(&model, &file(&folder, &[line]));
        assert_eq!(alone.answers[0].log_likelihoods, together.log_likelihoods);
    }
}

#[test]
fn an_answer_longer_than_the_context_counts_to_its_last_token() {
    let folder = TempDir::new().unwrap();
    let model = open("llama2");
    let context = model.spec().context;
    let answer_text = "the owl hunts at dusk, ".repeat(context / 8);
    let line = serde_json::json!({"prompt": "Every night", "answer": answer_text}).to_string();
    let path = file(&folder, &[line]);
    let task = Task::read(&path, None).unwrap();
    let question = task.questions(&model).unwrap().remove(0);
    let example = &question.examples[0];
    assert!(example.continuation.len() > context);

    // Pieces of half a context, each token after as much as fits.
    let all = [&example.context[..], &example.continuation].concat();
    let mut expected = 0.0;
    let (mut from, half) = (example.context.len(), context.div_ceil(2));
    while from < all.len() {
        let to = (from + half).min(all.len());
        let input = &all[(to - 1).saturating_sub(context)..to - 1];
        let mut session = model.session(context).unwrap();
        let n = to - from;
        let logits = model
            .last_logits(&cpu(1), &mut session, input, n, &mut NoObserver)
            .unwrap();
        for (row, token) in logits.chunks(model.spec().vocabulary).zip(&all[from..to]) {
            let sum: f64 = row.iter().map(|l| f64::from(*l).exp()).sum();
            expected += f64::from(row[*token as usize]) - sum.ln();
        }
        from = to;
    }
    let found = answer(&model, &path).answers[0].log_likelihoods[0];
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}

#[test]
fn lines_that_cannot_be_used_are_named() {
    let good = r#"{"prompt": "a", "answer": "b"}"#;
    let folder = TempDir::new().unwrap();
    for (bad, words) in [
        (&b"{\"prompt\": \"a\""[..], "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "no fields"),
        (br#"{"body": "x"}"#, "\"body\""),
        (b"{\"prompt\": \"\xff\"}", "not UTF-8"),
        (br#"{"prompt": "a"}"#, "\"answer\" is missing"),
        (br#"{"prompt": "a", "answer": ""}"#, "\"answer\" is empty"),
        (
            br#"{"prompt": 3, "answer": "b"}"#,
            "\"prompt\" must be text",
        ),
        (
            br#"{"query": "a", "choices": ["b", "c"], "gold": 2}"#,
            "\"gold\" is 2; it must be the right one's position, 0 to 1",
        ),
        (
            br#"{"query": "a", "choices": ["b", "c"], "gold": -1}"#,
            "\"gold\" is -1",
        ),
        (
            br#"{"query": "a", "choices": ["b"], "gold": 0}"#,
            "\"choices\" must be a list of two or more",
        ),
        (
            br#"{"prompt": "a", "choices": ["b", ""], "answer": 0}"#,
            "none of them empty",
        ),
        (
            br#"{"choices": ["b", "c"], "answer": 0}"#,
            "\"prompt\" (or \"query\") is missing",
        ),
        (
            br#"{"prompt": "a", "choices": ["b", "c"], "answer": 0}"#,
            "a choice, but line 1 has a text to complete",
        ),
        (
            br#"{"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"}"#,
            "no gap",
        ),
        (
            br#"{"question": "a", "choices": {"text": ["b", "c"], "label": ["A", "B"]}, "answerKey": "C"}"#,
            "\"answerKey\" is \"C\"",
        ),
        (br#"{"text": "word"}"#, "no last word"),
    ] {
        let path = file(&folder, &[good.as_bytes(), b"", bad]);
        match Task::read(&path, None) {
            Err(error @ PressError::TaskLine { line: 3, .. }) => {
                let message = error.to_string();
                assert!(message.contains("task.jsonl, line 3: "), "{message}");
                assert!(message.contains(words), "no {words:?} in {message}");
            }
            other => panic!("{words}: {other:?}"),
        }
        // What is not asked for is not read.
        assert_eq!(Task::read(&path, Some(1)).unwrap().len(), 1);
    }
    let empty = file(&folder, &["", "  "]);
    assert!(matches!(
        Task::read(&empty, None),
        Err(PressError::EmptyTask { .. })
    ));
    let absent = folder.path().join("absent.jsonl");
    assert!(matches!(
        Task::read(&absent, None),
        Err(PressError::Io { .. })
    ));
}

#[test]
fn a_file_may_have_a_byte_order_mark_and_any_line_ends() {
    let folder = TempDir::new().unwrap();
    let line = "{\"prompt\": \"a\", \"answer\": \"b\"}\r";
    let path = file(&folder, &[format!("\u{feff}{line}").as_str(), line, ""]);
    assert_eq!(Task::read(&path, None).unwrap().len(), 2);
}

#[test]
fn answering_stops_when_asked() {
    let task = Task::read(&tasks("choices.jsonl"), None).unwrap();
    let stopped = score(&cpu(1), &open("llama2"), &task, &StopAfter::new(2));
    assert!(matches!(stopped, Err(PressError::Interrupted)));
}

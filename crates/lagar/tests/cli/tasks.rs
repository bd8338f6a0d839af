//! Questions of tasks, and models side by side.

use crate::support::{Tiny, command, lagar};

const CHOICES: &str = r#"{"query": "Question: Who hunts at dusk?", "choices": ["the owl", "a hat"], "gold": 0}
{"query": "Question: What is blue?", "choices": ["grass", "the sky"], "gold": 1}
"#;
const COMPLETIONS: &str = r#"{"prompt": "The owl hunts at", "answer": "dusk"}
{"prompt": "The owl hunts at", "answer": "dawn"}
{"prompt": "The owl hunts at", "answer": "sea"}
"#;

fn with_tasks() -> Tiny {
    let tiny = Tiny::new();
    std::fs::create_dir(tiny.path("tasks")).unwrap();
    std::fs::write(tiny.path("tasks/arc_easy.jsonl"), CHOICES).unwrap();
    std::fs::write(tiny.path("own.jsonl"), COMPLETIONS).unwrap();
    tiny
}

#[test]
fn a_task_is_asked_by_name_or_file() {
    let tiny = with_tasks();
    let (model, folder) = (tiny.model(), tiny.arg("tasks"));
    let named = ["eval", &model, "--task", "arc-easy", "--json"];
    let by_option = lagar(named.into_iter().chain(["--tasks", &folder])).json();
    assert_eq!(by_option["task"], "arc-easy");
    assert_eq!(by_option["examples"], 2);
    for key in ["accuracy", "accuracy_norm"] {
        let accuracy = by_option[key].as_f64().unwrap();
        let error = by_option[format!("{key}_stderr")].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&accuracy), "{by_option}");
        assert!((error - (accuracy * (1.0 - accuracy)).sqrt()).abs() < 1e-12);
    }
    assert!(by_option.get("task_perplexity").is_none());
    assert!(by_option.get("perplexity").is_none());
    assert!(by_option["bits_per_parameter"].as_f64().unwrap() > 0.0);

    let by_variable = command(named).env("LAGAR_TASKS", &folder).output().unwrap();
    let here = command(named).current_dir(&folder).output().unwrap();
    for output in [by_variable, here] {
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found, by_option);
    }

    let (own, text) = (tiny.arg("own.jsonl"), tiny.arg("text.txt"));
    let file = lagar([
        "eval", &model, "--task", &own, "--limit", "2", "--text", &text, "--tokens", "300",
        "--json",
    ])
    .json();
    assert_eq!(file["examples"], 2);
    assert!(file["task_perplexity"].as_f64().unwrap() > 1.0);
    assert!(file["perplexity"].as_f64().unwrap() > 1.0);
    assert!(file.get("accuracy_norm").is_none());
    let table = lagar(["eval", &model, "--task", &own]).ok();
    assert!(table.contains("right answers"), "{table}");
}

#[test]
fn a_task_that_cannot_be_asked_is_explained() {
    let tiny = with_tasks();
    let (model, folder) = (tiny.model(), tiny.arg("tasks"));
    let eval = |task: &str| lagar(["eval", &model, "--task", task, "--tasks", &folder]);
    eval("piqa").fails(3, &["piqa.jsonl", "--tasks", "LAGAR_TASKS"]);
    eval("riddles").fails(2, &["riddles", "no such file", "arc-easy"]);
    std::fs::write(
        tiny.path("own.jsonl"),
        format!("{COMPLETIONS}{{\"prompt\": \n"),
    )
    .unwrap();
    eval(&tiny.arg("own.jsonl")).fails(3, &["own.jsonl, line 4", "not valid JSON"]);
    std::fs::write(tiny.path("own.jsonl"), "\n").unwrap();
    eval(&tiny.arg("own.jsonl")).fails(3, &["own.jsonl", "no examples"]);
    eval(&folder).fails(3, &[&folder]);
}

#[test]
fn models_stand_side_by_side_with_the_original_first() {
    let tiny = with_tasks();
    tiny.press_tiers("a.lagar", "2,2").ok();
    let file = tiny.arg("a.lagar");
    let (model, text, folder) = (tiny.model(), tiny.arg("text.txt"), tiny.arg("tasks"));
    let low = format!("{file}@R");
    let args = [
        "compare",
        &low,
        &file,
        "--tier",
        "RG",
        "--reference",
        &model,
        "--text",
        &text,
        "--tokens",
        "300",
        "--task",
        "arc-easy",
        "--task",
        &tiny.arg("own.jsonl"),
        "--tasks",
        &folder,
    ];
    let compared = lagar(args.into_iter().chain(["--json"])).json();
    let models = compared["models"].as_array().unwrap();
    let tiers: Vec<_> = models.iter().map(|m| m["tier"].as_str()).collect();
    assert_eq!(tiers, [None, Some("R"), Some("RG")]);
    for (i, row) in models.iter().enumerate() {
        assert_eq!(row["original"], i == 0);
        assert_eq!(row["tasks"][0]["task"], "arc-easy");
        assert_eq!(row["tasks"][1]["examples"], 3);
        for key in ["perplexity", "tokens_per_second", "memory_bytes"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key}: {row}");
        }
    }
    let kl = |i: usize| models[i]["kl_mean"].as_f64().unwrap();
    assert_eq!(kl(0), 0.0);
    assert!(kl(1) > kl(2) && kl(2) > 0.0, "{compared}");

    // A row is what `eval` says of the model.
    let alone = lagar([
        "eval",
        &file,
        "--tier",
        "R",
        "--reference",
        &model,
        "--text",
        &text,
        "--tokens",
        "300",
        "--json",
    ])
    .json();
    for (key, value) in alone.as_object().unwrap() {
        assert_eq!(&models[1][key], value, "{key}");
    }
    let table = lagar(args).ok();
    for words in ["(original)", "a.lagar@R ", "a.lagar@RG", "arc-easy"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let absent = format!("{file}@RGB");
    lagar(["compare", &absent, "--reference", &model, "--text", &text])
        .fails(2, &["RGB", "it holds R, RG"]);
}

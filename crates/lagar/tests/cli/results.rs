//! Results: the keys of JSON objects, tables for people, generated text.

use crate::support::{Tiny, command, evaluation_text, lagar, novels};
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

#[track_caller]
fn has_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().expect("an object");
    for key in keys {
        assert!(
            object.get(*key).is_some_and(|v| !v.is_null()),
            "no {key} in {value}"
        );
    }
}

const INSPECT: [&str; 6] = [
    "format_version",
    "architecture",
    "parameters",
    "file_bytes",
    "bits_per_parameter",
    "tiers",
];
const EVAL: [&str; 7] = [
    "tokens",
    "nll_per_token",
    "perplexity",
    "token_accuracy",
    "file_bytes",
    "parameters",
    "bits_per_parameter",
];

#[test]
fn press_and_inspect_agree() {
    let tiny = Tiny::new();
    let pressed = lagar([
        "press",
        &tiny.model(),
        "-o",
        &tiny.arg("a.lagar"),
        "--text",
        &tiny.arg("text.txt"),
        "--bits",
        "3",
        "--json",
    ])
    .json();
    has_keys(&pressed, &INSPECT);
    has_keys(&pressed, &["seconds"]);
    if cfg!(unix) {
        has_keys(&pressed, &["peak_memory_bytes"]);
    }
    let inspected = lagar(["inspect", &tiny.arg("a.lagar"), "--json", "--tensors"]).json();
    let mut told = pressed.clone();
    for tier in told["tiers"].as_array_mut().unwrap() {
        for key in ["kl_mean", "perplexity"] {
            assert!(tier.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        }
    }
    for key in INSPECT {
        assert_eq!(told[key], inspected[key], "{key}");
    }
    let size = std::fs::metadata(tiny.path("a.lagar")).unwrap().len();
    assert_eq!(inspected["file_bytes"], size);
    assert_eq!(inspected["settings"]["recipe"], "xbit");
    assert!(inspected["settings"]["tiers"].is_string());
    let bits = inspected["bits_per_parameter"].as_f64().unwrap();
    assert!((bits - 8.0 * size as f64 / inspected["parameters"].as_f64().unwrap()).abs() < 1e-9);
    let tiers = inspected["tiers"].as_array().unwrap();
    assert_eq!(tiers.len(), 1);
    has_keys(
        &tiers[0],
        &["name", "bytes", "bits_per_parameter", "complete"],
    );
    assert_eq!(tiers[0]["name"], "R");
    assert_eq!(tiers[0]["bytes"], size);
    for tensor in inspected["tensors"].as_array().unwrap() {
        has_keys(tensor, &["name", "shape", "stages", "bits_per_weight"]);
    }
    let table = lagar(["inspect", &tiny.arg("a.lagar"), "--tensors"]).ok();
    assert!(
        table.contains("model.layers.1.mlp.up_proj.weight") && table.contains("3 bits (R)"),
        "{table}"
    );
}

#[test]
fn a_checkpoint_can_be_inspected_too() {
    let tiny = Tiny::new();
    let inspected = lagar(["inspect", &tiny.model(), "--json", "--tensors"]).json();
    has_keys(
        &inspected,
        &[
            "architecture",
            "parameters",
            "file_bytes",
            "bits_per_parameter",
            "tiers",
            "tensors",
        ],
    );
    assert_eq!(inspected["architecture"], "LlamaForCausalLM");
    assert!(
        lagar(["inspect", &tiny.model()])
            .ok()
            .contains("checkpoint")
    );
}

#[test]
fn a_press_reports_what_each_tier_loses() {
    let tiny = Tiny::new();
    let output = tiny.arg("a.lagar");
    let (model, text) = (tiny.model(), tiny.arg("text.txt"));
    let args = [
        "press", &model, "-o", &output, "--text", &text, "--tiers", "2,1,1",
    ];
    let pressed = lagar(args.into_iter().chain(["--json"])).json();
    let tiers = pressed["tiers"].as_array().unwrap();
    let names: Vec<_> = tiers
        .iter()
        .map(|tier| tier["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["R", "RG", "RGB"]);
    for pair in tiers.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|tier| tier["kl_mean"].as_f64().unwrap());
        assert!(after < before, "{pressed}");
    }
    assert!(pressed["measured"]["tokens"].as_u64().unwrap() > 0);
    assert_eq!(pressed["settings"]["tiers"], "2,1,1");
    let told = lagar(args).ok();
    assert!(told.contains("KL to the original in nats"), "{told}");
    let inspected = lagar(["inspect", &output, "--json"]).json();
    assert!(inspected["tiers"][0].get("kl_mean").is_none());
}

#[test]
fn the_same_press_gives_the_same_bytes() {
    let tiny = Tiny::new();
    tiny.press("a.lagar").ok();
    tiny.press("b.lagar").ok();
    lagar([
        "press",
        &tiny.model(),
        "-o",
        &tiny.arg("c.lagar"),
        "--bits",
        "4",
        "--text",
        &tiny.arg("text.txt"),
        "--threads",
        "3",
    ])
    .ok();
    let read = |name: &str| std::fs::read(tiny.path(name)).unwrap();
    assert!(read("a.lagar") == read("b.lagar"));
    assert!(
        read("a.lagar") == read("c.lagar"),
        "the number of threads shows"
    );
}

#[test]
fn a_dry_run_writes_nothing() {
    let tiny = Tiny::new();
    let args = [
        "press",
        &tiny.model(),
        "-o",
        &tiny.arg("a.lagar"),
        "--bits",
        "4",
        "--text",
        &tiny.arg("text.txt"),
        "--dry-run",
    ];
    let out = lagar(args).ok();
    assert!(out.contains("LlamaForCausalLM"), "{out}");
    tiny.absent("a.lagar");
    tiny.absent("a.lagar.partial");
}

#[test]
fn eval_measures_a_model_and_what_was_lost() {
    let tiny = Tiny::new();
    tiny.press("a.lagar").ok();
    let text = tiny.arg("text.txt");
    let file = tiny.arg("a.lagar");
    let alone = lagar(["eval", &file, "--text", &text, "--tokens", "300", "--json"]).json();
    has_keys(&alone, &EVAL);
    let loss = alone["nll_per_token"].as_f64().unwrap();
    assert!((alone["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-6 * loss.exp());
    let compared = lagar([
        "eval",
        &file,
        "--text",
        &text,
        "--tokens",
        "300",
        "--reference",
        &tiny.model(),
        "--json",
    ])
    .json();
    has_keys(&compared, &EVAL);
    has_keys(
        &compared,
        &[
            "kl_mean",
            "kl_p999",
            "top1_agreement",
            "reference_perplexity",
            "reference_token_accuracy",
        ],
    );
    for key in EVAL {
        assert_eq!(alone[key], compared[key], "{key}");
    }
    assert!(compared["kl_mean"].as_f64().unwrap() > 0.0);
    let itself = lagar([
        "eval",
        &tiny.model(),
        "--text",
        &text,
        "--tokens",
        "300",
        "--reference",
        &tiny.model(),
        "--json",
    ])
    .json();
    assert!(itself["kl_mean"].as_f64().unwrap() < 1e-9, "{itself}");
    assert_eq!(itself["top1_agreement"], 1.0);
    let table = lagar(["eval", &file, "--text", &text, "--tokens", "300"]).ok();
    assert!(table.contains("perplexity"), "{table}");
}

#[test]
fn the_demo_model_loses_what_it_should() {
    // Stated by its training: 3.2244 nats on the first 12,288 tokens of the evaluation text, context 256.
    let measured = lagar([
        "eval",
        &novels(),
        "--text",
        &evaluation_text(),
        "--tokens",
        "12288",
        "--context",
        "256",
        "--json",
    ])
    .json();
    let loss = measured["nll_per_token"].as_f64().unwrap();
    assert!((loss - 3.2244).abs() < 5e-4, "{loss}");
}

#[test]
fn a_rounded_cache_is_the_models_and_not_the_originals() {
    let eval = |kv: &str| {
        lagar([
            "eval",
            &novels(),
            "--reference",
            &novels(),
            "--text",
            &evaluation_text(),
            "--tokens",
            "1024",
            "--kv",
            kv,
            "--json",
        ])
        .json()
    };
    let [f32, q8, q4] = ["f32", "q8", "q4"].map(eval);
    let kl = |measured: &Value| measured["kl_mean"].as_f64().unwrap();
    assert_eq!(kl(&f32), 0.0);
    assert!((1e-6..1e-4).contains(&kl(&q8)), "{q8}");
    assert!((1e-3..1e-2).contains(&kl(&q4)), "{q4}");
    for measured in [q8, q4] {
        let perplexity = "reference_perplexity";
        assert_eq!(measured[perplexity], f32[perplexity]);
    }
}

#[test]
fn run_continues_a_prompt_from_argument_or_stdin() {
    let prompt = "It was a fine morning, and";
    let expected =
        " the captain was a little boy, and the boy was a little boy, and he was a little boy";
    let plain = lagar([
        "run",
        &novels(),
        prompt,
        "--greedy",
        "-n",
        "24",
        "--kv",
        "f32",
    ])
    .ok();
    assert!(plain.contains(expected), "{plain}");
    let json = lagar([
        "run",
        &novels(),
        prompt,
        "--greedy",
        "-n",
        "24",
        "--kv",
        "f32",
        "--json",
    ])
    .json();
    has_keys(&json, &["text", "tokens", "seconds"]);
    assert_eq!(json["tokens"], 24);
    assert!(
        json["text"].as_str().unwrap().starts_with(expected),
        "{json}"
    );

    let mut child = command([
        "run",
        &novels(),
        "--greedy",
        "-n",
        "24",
        "--kv",
        "f32",
        "--json",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(prompt.as_bytes())
        .unwrap();
    let stdout = child.wait_with_output().unwrap().stdout;
    let from_stdin: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(from_stdin["text"], json["text"]);
}

#[test]
fn a_seed_fixes_the_text_and_a_stop_string_ends_it() {
    let run = |seed: &str| {
        lagar([
            "run",
            &novels(),
            "She looked",
            "--temperature",
            "1",
            "--seed",
            seed,
            "-n",
            "30",
            "--json",
        ])
        .json()["text"]
            .clone()
    };
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
    let stopped = lagar([
        "run",
        &novels(),
        "It was a fine morning, and",
        "--greedy",
        "-n",
        "60",
        "--stop",
        "little",
        "--json",
    ])
    .json();
    let text = stopped["text"].as_str().unwrap();
    assert!(!text.contains("little") && text.ends_with("a "), "{text}");
}

#[test]
fn quiet_means_no_word_on_stderr() {
    let tiny = Tiny::new();
    let run = lagar([
        "press",
        &tiny.model(),
        "-o",
        &tiny.arg("a.lagar"),
        "--bits",
        "4",
        "--text",
        &tiny.arg("text.txt"),
        "--quiet",
    ]);
    assert_eq!(run.stderr, "");
    run.ok();
}

#[test]
fn nothing_is_coloured_away_from_a_terminal() {
    let tiny = Tiny::new();
    let run = lagar(["inspect", &tiny.model(), "--tensors", "-v"]);
    assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'));
}

#[test]
fn an_exported_checkpoint_is_a_model_like_the_file() {
    let tiny = Tiny::new();
    tiny.press("a.lagar").ok();
    lagar(["export", &tiny.arg("a.lagar"), "-o", &tiny.arg("exported")]).ok();
    let text = tiny.arg("text.txt");
    let compared = lagar([
        "eval",
        &tiny.arg("a.lagar"),
        "--activations",
        "f32",
        "--text",
        &text,
        "--tokens",
        "300",
        "--reference",
        &tiny.arg("exported"),
        "--json",
    ])
    .json();
    assert!(compared["kl_mean"].as_f64().unwrap() < 1e-6, "{compared}");
    assert_eq!(compared["top1_agreement"], 1.0);
}
